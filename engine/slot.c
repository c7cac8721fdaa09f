#include "engine/slot.h"
#include "engine/check.h"
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#define CACHE_LINE 64u
#define LEN_WHILE_FREE UINT32_MAX /* no payload is that long: a slot given back twice is found at once */

#ifndef __has_feature
#define __has_feature(feature) 0
#endif
#if defined(__SANITIZE_ADDRESS__) || __has_feature(address_sanitizer)
#include <sanitizer/asan_interface.h>
#define BYTES_FORBID(start, bytes) __asan_poison_memory_region(start, bytes)
#define BYTES_ALLOW(start, bytes) __asan_unpoison_memory_region(start, bytes)
#else
#define BYTES_FORBID(start, bytes) ((void)(start), (void)(bytes))
#define BYTES_ALLOW(start, bytes) ((void)(start), (void)(bytes))
#endif

static uint8_t *slot_bytes(const struct slot_pool *pool, const struct slot *slot) {
    return pool->memory + slot->index * pool->stride;
}

static void slots_init(struct slot_pool *pool) {
    for (uint32_t i = pool->count; i-- > 0;) {
        struct slot *slot = &pool->slots[i];
        slot->index = i;
        slot->data = slot_bytes(pool, slot) + SLOT_HEADROOM;
        slot->len = LEN_WHILE_FREE;
        slot->next = pool->free;
        pool->free = slot;
    }
}

int slot_pool_init(struct slot_pool *pool, uint32_t payload_max, uint32_t count) {
    CHECK(count > 0 && payload_max > 0);
    size_t stride = SLOT_HEADROOM + (size_t)payload_max + SLOT_TAILROOM;
    stride = (stride + CACHE_LINE - 1) & ~(size_t)(CACHE_LINE - 1);
    *pool = (struct slot_pool){
        .stride = stride, .count = count, .free_count = count, .free_low = count, .payload_max = payload_max};
    list_init(&pool->waiters);
    pool->slots = calloc(count, sizeof *pool->slots);
    if (!pool->slots)
        return ERR_NOMEM;
    pool->memory_bytes = stride * count;
    void *memory =
        mmap(NULL, pool->memory_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) {
        free(pool->slots);
        return ERR_NOMEM;
    }
    /* Plaintext stays out of core files; not vital, so a refusal is ignored. */
    (void)madvise(memory, pool->memory_bytes, MADV_DONTDUMP);
    pool->memory = memory;
    slots_init(pool);
    BYTES_FORBID(pool->memory, pool->memory_bytes);
    return ERR_OK;
}

void slot_pool_deinit(struct slot_pool *pool) {
    CHECK(pool->free_count == pool->count);
    CHECK(list_empty(&pool->waiters));
    BYTES_ALLOW(pool->memory, pool->memory_bytes);
    munmap(pool->memory, pool->memory_bytes);
    free(pool->slots);
    *pool = (struct slot_pool){0};
}

struct slot *slot_take(struct slot_pool *pool) {
    struct slot *slot = pool->free;
    if (!slot)
        return NULL;
    pool->free = slot->next;
    if (--pool->free_count < pool->free_low)
        pool->free_low = pool->free_count;
    slot->touched = true;
    slot->len = 0;
    slot->next = NULL;
    BYTES_ALLOW(slot_bytes(pool, slot), pool->stride);
    return slot;
}

void slot_put(struct slot_pool *pool, struct slot *slot) {
    CHECK(slot->index < pool->count && slot == &pool->slots[slot->index]);
    CHECK(slot->len != LEN_WHILE_FREE);
    BYTES_FORBID(slot_bytes(pool, slot), pool->stride);
    slot->len = LEN_WHILE_FREE;
    slot->next = pool->free;
    pool->free = slot;
    pool->free_count++;
    struct list *node = list_first(&pool->waiters);
    if (!node)
        return;
    list_remove(node);
    struct slot_waiter *waiter = list_entry(node, struct slot_waiter, node);
    waiter->on_slots(waiter);
}

/* The whole pages of slots [first, end). */
static void give_back(const struct slot_pool *pool, uint32_t first, uint32_t end) {
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    size_t from = (first * pool->stride + page - 1) / page * page, to = end * pool->stride / page * page;
    if (from < to)
        (void)madvise(pool->memory + from, to - from, MADV_DONTNEED);
}

/* By index and not one by one: neighbours share pages. */
static void give_back_cold(struct slot_pool *pool) {
    uint32_t first = 0;
    bool touched = false;
    for (uint32_t i = 0; i <= pool->count; i++) {
        struct slot *slot = i < pool->count ? &pool->slots[i] : NULL;
        if (slot && slot->cold) {
            touched |= slot->touched;
            slot->cold = slot->touched = false;
            continue;
        }
        if (touched)
            give_back(pool, first, i);
        touched = false;
        first = i + 1;
    }
}

/* The free list is a stack: those at its end, as many as were free when fewest were, have not been taken. */
bool slot_pool_trim(struct slot_pool *pool, bool all) {
    if (all)
        pool->free_low = pool->free_count;
    uint32_t warm = pool->free_count - pool->free_low;
    bool any = false;
    for (struct slot *slot = pool->free; slot; slot = slot->next) {
        if (warm > 0) {
            warm--;
            continue;
        }
        slot->cold = true;
        any |= slot->touched;
    }
    bool more = pool->free_low < pool->free_count;
    pool->free_low = pool->free_count;
    if (any)
        give_back_cold(pool);
    else
        for (struct slot *slot = pool->free; slot; slot = slot->next)
            slot->cold = false;
    return more;
}

void slot_wait(struct slot_pool *pool, struct slot_waiter *waiter) {
    if (!list_linked(&waiter->node))
        list_push_back(&pool->waiters, &waiter->node);
}

void slot_unwait(struct slot_waiter *waiter) {
    list_remove(&waiter->node);
}

void slot_queue_init(struct slot_queue *queue) {
    *queue = (struct slot_queue){.last = &queue->first};
}

void slot_queue_push(struct slot_queue *queue, struct slot *slot) {
    slot->next = NULL;
    *queue->last = slot;
    queue->last = &slot->next;
    queue->count++;
    queue->bytes += slot->len;
}

struct slot *slot_queue_pop(struct slot_queue *queue) {
    struct slot *slot = queue->first;
    if (!slot)
        return NULL;
    queue->first = slot->next;
    if (!queue->first)
        queue->last = &queue->first;
    slot->next = NULL;
    queue->count--;
    queue->bytes -= slot->len;
    return slot;
}
