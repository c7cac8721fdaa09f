#pragma once
/* The third implementation of engine/io.h: a seeded simulator in virtual time, for tests. A world holds a clock, fake
 * stream sockets (descriptors from SIM_FD_BASE up, never reused) and any number of struct io, one per shard, all on one
 * thread. The same seed and the same calls give the same run.
 *
 *   end A ── send ──► bounded stream, arrives after a latency ── recv ──► end B        (and the same from B to A)
 *
 * Completions come only from io_turn, in an order that the seed shuffles, and now and then a turn late. Misuse ends the
 * program: an op submitted twice, two receives on one descriptor, a close with an op in flight, use after close.
 * Descriptors below SIM_FD_BASE are real ones: they can be polled (a shard's mailbox) and closed.
 *
 * Time: with a single io in the world io_turn moves the clock itself, up to its deadline. With several, and in any test
 * that wants it so, sim_world_step (or the test, with next_event and set_now) does. */
#include "engine/io.h"

#define SIM_FD_BASE 0x60000000 /* beyond what any kernel hands out */

struct shard;
struct sim_world;

struct sim_options {
    uint64_t seed;
    uint32_t capacity; /* bytes that one direction of a pair holds; 0: 64 KiB */
    uint64_t latency_min_ns, latency_max_ns;
    uint8_t partial_percent; /* sends that take less than they could */
    uint8_t short_percent;   /* receives that bring less than they could */
    uint8_t defer_percent;   /* completions that come a turn late; < 100 */
};

struct sim_world *sim_world_create(const struct sim_options *options);
void sim_world_destroy(struct sim_world *world); /* CHECKs that every io was destroyed; closes what is open */
uint64_t sim_world_now(const struct sim_world *world);
void sim_world_set_now(struct sim_world *world, uint64_t now_ns); /* never backwards */
/* When something next arrives or a stall ends, after now; UINT64_MAX: never. */
uint64_t sim_world_next_event(struct sim_world *world);
/* One turn of every shard, in random order; when none had anything to do the clock moves to the next event or timer.
 * False: nothing will ever happen again. */
bool sim_world_step(struct sim_world *world, struct shard *const *shards, unsigned count);
/* The test has done something, and will do more: the next step leaves the clock where it is. */
void sim_world_hold(struct sim_world *world);
/* Uniform in [0, below), from the world's seed. */
uint64_t sim_random(struct sim_world *world, uint64_t below);

/* For shard_init: arg is the world. */
MUST_USE int io_sim_create(struct slot_pool *slots, void *world, struct io **io);

/* Two connected stream sockets. */
void io_sim_pair(struct sim_world *world, int fds[2]);
int io_sim_socket(struct sim_world *world); /* not connected, for io_connect */
int io_sim_listen(struct sim_world *world, uint16_t port);
uint16_t io_sim_port(struct sim_world *world, int fd);             /* of a listener */
int io_sim_listener(const struct sim_world *world, uint16_t port); /* who listens there; -1: nobody */
/* The next accept on this listener ends with -error_number, once. */
void io_sim_fail_accept(struct sim_world *world, int fd, int error_number);
/* The answer to the next io_connect comes at at_ns (UINT64_MAX: never), and with error_number it is that. */
void io_sim_script_connect(struct sim_world *world, uint64_t at_ns, int error_number);
/* Breaks the connection for both ends, now: what has not arrived is lost, then ECONNRESET. */
void io_sim_reset(struct sim_world *world, int fd);
/* Nothing is received or sent on this end before until_ns. */
void io_sim_stall(struct sim_world *world, int fd, uint64_t until_ns);
/* SO_RCVLOWAT: a receive waits for so many bytes, or for the end. */
void io_sim_receive_low(struct sim_world *world, int fd, uint32_t bytes);
/* Flips one bit of what is on its way to this end, or waits there to be received. False: nothing is. */
bool io_sim_corrupt(struct sim_world *world, int fd);
unsigned io_sim_open_count(const struct sim_world *world);

/* An end that the test plays itself, without ops: bytes, 0 (read: end of file), -EAGAIN or -errno. Moves all that it
 * can. */
int io_sim_accept(struct sim_world *world, int fd);         /* of a listener; -1: nobody is there */
int io_sim_connect(struct sim_world *world, uint16_t port); /* at once; -1: nobody listens there */
int io_sim_peer(struct sim_world *world, int fd);           /* the other end; -1: it has been closed */
uint64_t io_sim_unread(struct sim_world *world, int fd);    /* bytes sent here that the other end has not received */
bool io_sim_eof_taken(struct sim_world *world, int fd); /* the other end has received the end of what was sent here */
int32_t io_sim_write(struct sim_world *world, int fd, const void *data, uint32_t len);
int32_t io_sim_read(struct sim_world *world, int fd, void *data, uint32_t cap);
void io_sim_finish(struct sim_world *world, int fd); /* shutdown(SHUT_WR) */
void io_sim_close(struct sim_world *world, int fd, enum io_close_mode mode);
