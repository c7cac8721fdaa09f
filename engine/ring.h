#pragma once
/* A mirrored byte ring: `size` bytes of memory mapped twice in a row, so that every run of up to `size` bytes is
 * contiguous at any offset. Positions are 64-bit byte counts that never wrap: [tail, head) is filled.
 *
 *      tail            head
 *   ....|#### filled ####|.... free ....        head - tail <= size
 *
 * One owner, one thread. A ring_pool lends rings of one size within a shard and keeps a few mapped for reuse. */
#include "engine/error.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct ring {
    uint8_t *base;
    size_t size; /* power of two, multiple of the page size */
    uint64_t head, tail;
    struct ring *next_free;
};

MUST_USE int ring_init(struct ring *ring, size_t size); /* takes no descriptor; ERR_NOMEM: mmap refused */
void ring_deinit(struct ring *ring);
static inline size_t ring_used(const struct ring *ring) {
    return (size_t)(ring->head - ring->tail);
}
static inline size_t ring_free(const struct ring *ring) {
    return ring->size - ring_used(ring);
}
/* Address of byte position `pos`; valid for ring->size bytes in a row. */
static inline uint8_t *ring_at(const struct ring *ring, uint64_t pos) {
    return ring->base + (pos & (ring->size - 1));
}
void ring_produce(struct ring *ring, size_t bytes); /* CHECKs bytes <= free */
void ring_consume(struct ring *ring, size_t bytes); /* CHECKs bytes <= used */

struct ring_pool {
    struct ring *free;
    size_t ring_bytes;
    uint32_t lent, idle, max;
    uint32_t idle_low; /* fewest that were idle at once since the last ring_pool_trim */
};
void ring_pool_init(struct ring_pool *pool, size_t ring_bytes, uint32_t max);
void ring_pool_deinit(struct ring_pool *pool);       /* CHECKs that none is lent */
struct ring *ring_pool_take(struct ring_pool *pool); /* an empty ring, or NULL: max reached or no memory */
void ring_pool_put(struct ring_pool *pool, struct ring *ring);
/* Unmaps those that were idle all the time since the last call. True: there are others that a later call may unmap. */
bool ring_pool_trim(struct ring_pool *pool);
/* All that may be lent are: whoever has nothing in his ring gives it back for the next one. */
static inline bool ring_pool_is_short(const struct ring_pool *pool) {
    return pool->lent >= pool->max;
}
