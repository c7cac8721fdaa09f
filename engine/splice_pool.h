#pragma once
/* The pipes of one shard's plain relays, for splice.c and splice_pool.c. A pipe is lent only while bytes are in it, so
 * a shard whose readers keep up needs a single one, which stays warm; each stalled reader holds another. At most
 * pipes_max are open, and a few stay open unused.
 *
 * An ordinary user has fs.pipe-user-pages-soft pages for all pipes of all processes; beyond it the kernel hands out
 * pipes of two pages and enlarges none. Such a one is slower than a copy and is not taken. */
#include "engine/shard.h"

struct splice_pipe {
    struct splice_pipe *next; /* free list */
    int read_fd, write_fd;
    uint32_t bytes; /* what it takes */
};

struct splice_pool {
    struct shard *shard;
    struct splice_pipe *free; /* the larger ones first */
    uint32_t pipes_count, free_count, large_count, pipes_max;
    uint64_t create_after_ns; /* the kernel refused a pipe: not asked again before */
    uint8_t *copy;            /* LIMIT_SPLICE_COPY_BYTES, touched only when there is no pipe */
    uint32_t relays_count;
    struct list stalled; /* ways whose socket is full, until their source is watched */
    struct timer sweep;
};

/* An empty pipe, or NULL: none is to be had now. */
struct splice_pipe *splice_pipe_take(struct splice_pool *pool);
/* Gives it back; one with bytes left in it is of no use to anybody else and is closed. */
void splice_pipe_put(struct splice_pool *pool, struct splice_pipe *pipe, bool empty);
/* splice.c: looks after the stalled ways. */
void splice_on_sweep(struct timer *timer);
