/* What both ends of the load are made of: a process of its own, a receiver that checks, a sender without a copy. */
#ifndef BENCH_LOAD_NET_H
#define BENCH_LOAD_NET_H

#include "bench/load.h"
#include "bench/place.h"
#include "bench/stream.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define LOAD_BUFFER_BYTES (256u << 10)
#define LOAD_TICK_NS (LOAD_REPORT_MS * UINT64_C(1000000))

uint64_t load_now(void);

/* Forks. Parent: the child's pid (or −1 with errno) and its end of a socket pair, which ends when the child does.
 * Child: 0 and the other end; it dies with its parent, and signals do to it what they do by default (SIGPIPE: nothing).
 * It must go on with load_enter and end by _exit. */
pid_t load_fork(int *channel);
/* In the child: goes to its place (whose descriptors the harness lends), then keeps no other descriptors than the
 * standard ones, the channel and the stream's. False with errno. */
bool load_enter(const struct place *place, int channel);
/* For the calling thread, which takes times: as soon as it is woken the kernel lets it run, for short turns; before all
 * others where that is allowed. What waits for a processor is the load's own delay, and would be counted as the
 * tunnel's. */
void load_hurry(void);
/* Makes room for so many descriptors. False: *limit is what there is. */
bool load_raise_files(uint32_t count, uint32_t *limit);
/* Non-blocking, and small writes go at once. */
void load_socket_prepare(int fd);
/* So much for each of both buffers, and short segments, because the other side's send buffer grows with their length:
 * best before it connects. 0: as it is. */
void load_socket_buffers(int fd, uint64_t bytes);
/* What is sent leaves evenly, at most so many bytes per second; 0: as fast as it goes. */
void load_socket_pace(int fd, uint64_t bytes_per_s);
/* close(2) that resets the connection. */
void load_socket_reset(int fd);

/* One read of at most `most` (1 to LOAD_BUFFER_BYTES) into `buffer`, checked. What came (0: the end), or a negative
 * errno: −EAGAIN nothing there, −EBADMSG not the stream's (stream->at: its place). */
int64_t load_receive_stream(struct stream *stream, int fd, void *buffer, size_t most);

/* The pace of a thread that does nothing but receive: with fast flows it rests a little between its turns, so that it
 * wakes a few thousand times a second and not for every segment. (Not by SO_RCVLOWAT: when we read would then hang on
 * what the window lets through, and the end of what came before a stall would lie unread as long as the stall.) */
struct load_pace {
    uint64_t bytes; /* received since the last tick */
    uint64_t rest_ns;
    bool has_more; /* a read of this turn filled its buffer */
};

void load_pace_came(struct load_pace *pace, uint64_t bytes);
/* Every LOAD_TICK_NS; `flows` receive. */
void load_pace_tick(struct load_pace *pace, uint32_t flows);
/* At the end of a turn. */
void load_pace_rest(struct load_pace *pace);

/* Sends up to `most` bytes of the stream, at most a run (others, messages among them, want their turn). What the socket
 * took, or a negative errno; −EAGAIN: full. */
int64_t load_send_stream(struct stream *stream, int fd, uint64_t most);

#endif
