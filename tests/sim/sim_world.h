#pragma once
/* The inside of the simulator: the clock, the seed, the ends and the streams between them (sim_world.c), listening and
 * connecting (sim_net.c). io_sim.c puts the operations of engine/io.h on top; tests see io_sim.h alone. */
#include "tests/sim/io_sim.h"

#define SIM_ARRIVALS 16u
#define SIM_BACKLOG 128u
#define SIM_NEVER UINT64_MAX

/* One direction: bytes [tail, visible) can be received, [visible, head) are on their way. */
struct sim_stream {
    uint8_t *bytes;
    uint64_t tail, visible, head;
    struct {
        uint64_t position, at_ns;
    } arrivals[SIM_ARRIVALS]; /* ascending; the last is stretched when there are too many */
    unsigned arrivals_count;
    uint64_t fin_ns;
};

struct sim_end {
    bool open, listening, write_shut, dead /* reset has arrived */, receiving, sending;
    bool eof_taken; /* a receive has brought the end of file */
    int error;      /* reported once */
    unsigned ops;
    struct sim_end *peer; /* stays, closed or not */
    struct sim_stream in;
    uint64_t reset_ns, stall_ns, connect_ns;
    uint32_t receive_low;
    uint16_t port;
    int accept_error, connect_error;
    struct {
        int fd;
        uint64_t at_ns;
    } backlog[SIM_BACKLOG]; /* ascending */
    unsigned backlog_count;
};

struct sim_world {
    struct sim_options options;
    uint64_t random, now_ns, activity;
    struct sim_end **ends;
    unsigned ends_count, ends_size, ios;
    struct {
        bool set;
        uint64_t at_ns;
        int error;
    } script;      /* of the next connect */
    bool held;     /* the clock stays, for one step */
    bool deferred; /* some op was passed over: before the clock moves all get their chance, in a hurried pass */
    bool hurry;
};

/* At most `most`, at least 1 of it. */
uint64_t world_some(struct sim_world *world, uint8_t percent, uint64_t most);
bool world_chance(struct sim_world *world, uint8_t percent);
uint64_t world_arrival(struct sim_world *world); /* when what is sent now gets there */

/* Nothing happened in a pass: is there really nothing to do now? No: the next pass is a hurried one. */
bool world_quiet(struct sim_world *world);

/* CHECKs that it is open. */
struct sim_end *end_of(struct sim_world *world, int fd);
int end_create(struct sim_world *world, struct sim_end **end);
void ends_join(struct sim_world *world, struct sim_end *a, struct sim_end *b);
/* Begins to connect: end->connect_ns is when the answer is there, and without a peer it is -end->connect_error. */
void end_connect(struct sim_world *world, struct sim_end *end, uint16_t port);
void end_drop_backlog(struct sim_world *world, struct sim_end *end);
/* Who has arrived; -1: nobody. */
int end_accept(struct sim_world *world, struct sim_end *end);
/* Sends at most `most` bytes from the front of iov. Bytes, -EAGAIN, or an error. */
int32_t end_send(struct sim_world *world, struct sim_end *end, const struct iovec *iov, uint64_t most);
/* What a receive would bring now: -EAGAIN, 0 at the end, an error, or the number of bytes there. */
int32_t end_receivable(struct sim_world *world, struct sim_end *end);
void end_take(struct sim_world *world, struct sim_end *end, uint8_t *data, uint64_t len);
uint32_t end_revents(struct sim_world *world, struct sim_end *end);
void end_finish(struct sim_world *world, struct sim_end *end);
void end_close(struct sim_world *world, struct sim_end *end, enum io_close_mode mode);
