/* A job inside its own process: the flows, the clock, and a driver for each kind. One thread.
 *
 * Phases:  OPENING → WARMUP → MEASURING → DRAINING → ENDED.  Opening ends when every flow has had its first byte. A job
 * of so many bytes per flow measures from the beginning on, opening included, and until its last flow is done. What was
 * under way in the measured time is waited for in DRAINING: the last reports of uploads, messages not yet back.
 *
 * Flows:  WAITING → CONNECTING → GREETED (wish sent) → RUNNING (first byte came) → DONE; from each of them BROKEN,
 * which fails the job, or with `reconnect` goes to CONNECTING again. */
#ifndef BENCH_LOAD_JOB_H
#define BENCH_LOAD_JOB_H

#include "bench/load.h"
#include "bench/load_net.h"
#include "bench/load_wire.h"

enum phase { PHASE_OPENING, PHASE_WARMUP, PHASE_MEASURING, PHASE_DRAINING, PHASE_ENDED };
enum flow_state { FLOW_WAITING, FLOW_CONNECTING, FLOW_GREETED, FLOW_RUNNING, FLOW_BROKEN, FLOW_DONE };

/* In memory shared with the harness. */
struct load_shared {
    bool is_complete;
    struct load_result result;
};

/* Of a download or an upload. `arrived` counts over all connections of the flow; the streams begin anew with each. */
struct bulk {
    uint64_t arrived, arrived_before; /* known here; of that, on earlier connections */
    uint64_t last_ns;                 /* when bytes came last, at the receiver */
    uint64_t all_then;                /* download: what all had got when this last got some */
    uint64_t unsent;                  /* upload */
    uint64_t reported_ns;             /* upload: time of the last report on this connection; 0: none */
    struct load_report report;
    size_t report_have;
};

/* Of messages. Number n of the flow, from 0 on; all before `back` are back, all before `planned` are due. */
struct echo {
    uint64_t planned, back, back_before; /* back_before: on earlier connections */
    uint64_t unsent;                     /* bytes of those due */
    uint64_t sent_ns;                    /* closed loop: the one under way */
};

struct flow {
    int fd;
    uint32_t index, attempt, events;
    enum flow_state state;
    bool is_up, has_run, was_broken;
    uint64_t begun_ns, moved_ns;
    uint64_t latency_ns; /* LOAD_OPEN: connect to byte back */
    struct stream in;
    struct stream out;
    union {
        struct bulk bulk;
        struct echo echo;
    };
};

struct job;

/* What the kinds do differently. Those that may be NULL say so. */
struct load_driver {
    void (*on_greeted)(struct job *job, struct flow *flow);
    void (*on_event)(struct job *job, struct flow *flow, uint32_t events);
    void (*on_broken)(struct job *job, struct flow *flow);          /* NULL */
    void (*on_all_running)(struct job *job, uint64_t now);          /* NULL: the first time */
    void (*on_turn)(struct job *job);                               /* NULL */
    void (*on_tick)(struct job *job);                               /* NULL */
    bool (*on_stop)(struct job *job);                               /* NULL; true: it goes on to an end of its own */
    uint64_t (*next_ns)(const struct job *job);                     /* NULL: when on_turn is needed, without an event */
    bool (*is_waiting)(const struct job *job, const struct flow *); /* does a RUNNING one wait for something? */
    uint64_t (*position)(const struct flow *flow);                  /* for messages */
    bool (*is_drained)(const struct job *job);
    void (*finish)(struct job *job); /* NULL */
};

extern const struct load_driver load_bulk_driver, load_echo_driver, load_open_driver, load_hold_driver;

struct job {
    const struct load_job *wanted;
    const struct load_driver *driver;
    struct load_result *result;
    int epoll, channel; /* to the harness: a byte of ours: ready; a byte of its: stop */
    enum phase phase;
    struct flow *flows;
    bool is_resumed; /* those that were paused read the rest */
    uint32_t flow_count, started, pending, pending_max, running_once, done;
    uint64_t begun_ns, tick_ns, patience_ns, patience_look_ns;
    uint64_t warm_ns, end_ns;                /* planned; end UINT64_MAX: by load_stop */
    uint64_t window_begin_ns, window_end_ns; /* measured; 0 and UINT64_MAX while not yet known */
    uint64_t user_ns, system_ns;             /* at the window's begin */
    struct load_pace pace;                   /* bulk */
    uint64_t all_arrived;                    /* downloads */
    /* open-loop messages */
    uint64_t plan_ns, plan_next, outstanding;
    uint8_t buffer[LOAD_BUFFER_BYTES];
};

/* Does it all; the shared result is complete afterwards. In the child of load_fork. */
void load_job_main(const struct load_job *wanted, const struct place *place, struct load_shared *shared, int channel);

/* For drivers. The first failure is kept and ends the job. */
void job_fail(struct job *job, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* "flow N: TEXT at byte POSITION". */
void job_fail_flow(struct job *job, const struct flow *flow, const char *text);
void job_end(struct job *job);
/* In the measured time? */
bool job_in_window(const struct job *job, uint64_t at_ns);
/* Bytes that came evenly between two times (or at once) at a receiver. */
void job_count(struct job *job, const struct flow *flow, uint64_t bytes, uint64_t from_ns, uint64_t to_ns);
/* A time in which a flow got nothing. */
void job_stall(struct job *job, uint64_t from_ns, uint64_t to_ns);

/* Connects; CONNECTING. */
void flow_open(struct job *job, struct flow *flow);
/* From epoll. */
void flow_on_event(struct job *job, struct flow *flow, uint32_t events);
void flow_want(struct job *job, struct flow *flow, uint32_t events);
/* The first byte has come: RUNNING. */
void flow_run(struct job *job, struct flow *flow, uint64_t now);
/* The connection ended too early (error 0: by FIN). */
void flow_break(struct job *job, struct flow *flow, int error);
/* Closed, and nothing more to come. */
void flow_finish(struct job *job, struct flow *flow);
/* Closed, to be opened again. */
void flow_close(struct job *job, struct flow *flow);

#endif
