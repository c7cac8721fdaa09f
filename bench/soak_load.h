/* Inside the process of a soak's load: soak.c (orders, from outside), soak_load.c (the loop) and soak_end.c (what an
 * end of a flow does). */
#ifndef BENCH_SOAK_LOAD_H
#define BENCH_SOAK_LOAD_H

#include "bench/load_net.h"
#include "bench/soak.h"
#include <stdatomic.h>

/* Written by the load, but for the order. */
struct soak_shared {
    _Atomic uint32_t order, obeyed; /* count << 8 | enum soak_order */
    _Atomic uint64_t flows, bytes, stalls, resets, held, lost, longest_stall_ns;
    _Atomic uint32_t open, open_peak;
    _Atomic bool has_ended;
    char why[LOAD_WHY_BYTES];
};

struct soak_flow;

/* NONE → OPEN → OVER, the near one through CONNECTING. An end is over when all that its script says is through, or when
 * the connection broke and that may be. */
enum soak_end_state { SOAK_END_NONE, SOAK_END_CONNECTING, SOAK_END_OPEN, SOAK_END_OVER };

struct soak_end {
    enum soak_end_state state;
    enum soak_side side;
    int fd;
    uint32_t events;
    bool has_end, has_sent_end; /* the other's end of stream; its own */
    bool has_stalled_in, has_stalled_out, has_held;
    uint64_t read_at_ns, write_at_ns; /* not before: stalled or held by the script */
    uint64_t came_ns;                 /* when bytes came last; 0: none have */
    struct stream in, out;
    struct soak_flow *flow;
};

struct soak_flow {
    bool is_used, was_reset, is_lost;
    uint32_t number;
    struct soak_script script;
    uint64_t moved_ns; /* or, of those that stall: will move */
    struct soak_end ends[SOAK_SIDES];
};

struct soak_load {
    const struct soak_job *job;
    struct soak_shared *shared;
    int epoll, channel, taker;
    uint64_t taker_key;
    enum soak_order order;
    bool is_over; /* failed, or told to end */
    uint32_t next_number;
    uint64_t next_ns; /* when that one is due */
    uint64_t look_ns;
    struct soak_flow flows[SOAK_FLOWS_MAX];
    uint8_t buffer[LOAD_BUFFER_BYTES];
};

void soak_load_main(const struct soak_job *job, const struct place *place, struct soak_shared *shared, int channel);
/* The first failure is kept and ends the load. "seed S, flow N, up, byte B of C: TEXT". */
void soak_fail_flow(struct soak_load *load, const struct soak_flow *flow, enum soak_side way, const char *text);

/* Connects the near end. */
void soak_end_connect(struct soak_load *load, struct soak_end *end);
/* The far end has been handed over. Takes the descriptor. */
void soak_end_begin(struct soak_load *load, struct soak_end *end, int fd);
void soak_end_on_event(struct soak_load *load, struct soak_end *end, uint32_t events);
/* The time since bytes came last counts as a gap, if there are more to come. */
void soak_end_note_gap(struct soak_load *load, struct soak_end *end, uint64_t now);
/* Does what can be done now: stalls and holds are over, by the clock or by a new order. */
void soak_end_hurry(struct soak_load *load, struct soak_end *end);
/* Its key for the target's wish and for streams. */
uint64_t soak_flow_id(const struct soak_load *load, const struct soak_flow *flow);

#endif
