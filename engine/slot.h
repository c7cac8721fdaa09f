#pragma once
/* Packet slots: fixed buffers in which a payload is received, gets its headers and tag around it, and is sent, unmoved.
 *
 *   base                       base+SLOT_HEADROOM
 *   |<------- headroom ------->|<------- payload, ≤ pool->payload_max ------->|<- tailroom ->|
 *           [len 4|pad 1|94|channel 4|dlen 4] data …                   padding ≤ 19, tag 16
 *
 * Metadata is apart from the bytes, so that the free list touches no cold payload. LIFO, so that memory stays in cache.
 * One pool per shard; one thread. */
#include "engine/error.h"
#include "engine/list.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SLOT_HEADROOM 64u
#define SLOT_TAILROOM 64u

struct slot {
    uint8_t *data;     /* first payload byte, 64-byte aligned */
    uint32_t len;      /* payload bytes */
    uint32_t index;    /* in the pool: the provided-buffer id */
    struct slot *next; /* free list, or the owner's queue */
    bool touched;      /* private: taken since its memory was given back */
    bool cold;         /* private to slot_pool_trim */
};

/* Called once when slots are there again; the waiter was unlinked before. */
struct slot_waiter {
    struct list node;
    void (*on_slots)(struct slot_waiter *waiter);
};

struct slot_pool {
    uint8_t *memory;
    size_t memory_bytes, stride;
    struct slot *slots, *free;
    uint32_t count, free_count, payload_max;
    uint32_t free_low; /* fewest that were free at once since the last slot_pool_trim */
    struct list waiters;
};

MUST_USE int slot_pool_init(struct slot_pool *pool, uint32_t payload_max, uint32_t count); /* ERR_NOMEM */
void slot_pool_deinit(struct slot_pool *pool);  /* CHECKs that all slots are back */
struct slot *slot_take(struct slot_pool *pool); /* len = 0, next = NULL; NULL when empty */
/* Returns a slot; wakes at most one waiter, the longest waiting, from within this call (its callback may take slots).
 */
void slot_put(struct slot_pool *pool, struct slot *slot);
/* Gives the memory of slots back to the system: of those that were free all the time since the last call, or of all
 * that are free now. True: there is more that a later call may give back. */
bool slot_pool_trim(struct slot_pool *pool, bool all);
/* Waits (FIFO) for slots; a no-op when already waiting. slot_unwait is a no-op when not waiting. */
void slot_wait(struct slot_pool *pool, struct slot_waiter *waiter);
void slot_unwait(struct slot_waiter *waiter);

/* FIFO of slots through slot->next. */
struct slot_queue {
    struct slot *first, **last;
    uint32_t count, bytes;
};
void slot_queue_init(struct slot_queue *queue);
void slot_queue_push(struct slot_queue *queue, struct slot *slot);
struct slot *slot_queue_pop(struct slot_queue *queue); /* NULL when empty */
