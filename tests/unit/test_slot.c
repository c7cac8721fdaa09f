#include "engine/slot.h"
#include <criterion/criterion.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define PAYLOAD 32768u

static uint32_t random_next(uint32_t *state) {
    *state ^= *state << 13;
    *state ^= *state >> 17;
    *state ^= *state << 5;
    return *state;
}

Test(slot, every_slot_is_aligned_apart_and_writable_with_its_rooms) {
    struct slot_pool pool;
    enum { COUNT = 5 };
    cr_assert_eq(slot_pool_init(&pool, PAYLOAD, COUNT), ERR_OK);
    struct slot *slots[COUNT];
    for (unsigned i = 0; i < COUNT; i++) {
        slots[i] = slot_take(&pool);
        cr_assert_not_null(slots[i]);
        cr_assert_eq((uintptr_t)slots[i]->data % 64, 0);
        cr_assert_eq(slots[i]->len, 0);
        cr_assert_null(slots[i]->next);
        memset(slots[i]->data - SLOT_HEADROOM, (int)i + 1, SLOT_HEADROOM + PAYLOAD + SLOT_TAILROOM);
    }
    cr_assert_null(slot_take(&pool));
    for (unsigned i = 0; i < COUNT; i++) {
        const uint8_t *bytes = slots[i]->data - SLOT_HEADROOM;
        for (size_t at = 0; at < SLOT_HEADROOM + PAYLOAD + SLOT_TAILROOM; at++)
            cr_assert_eq(bytes[at], i + 1);
        slot_put(&pool, slots[i]);
    }
    cr_assert_eq(pool.free_count, COUNT);
    slot_pool_deinit(&pool);
}

Test(slot, odd_payload_lengths_keep_the_alignment) {
    for (uint32_t payload = 1; payload < 200; payload += 13) {
        struct slot_pool pool;
        cr_assert_eq(slot_pool_init(&pool, payload, 3), ERR_OK);
        struct slot *slots[3];
        for (unsigned i = 0; i < 3; i++) {
            slots[i] = slot_take(&pool);
            cr_assert_eq((uintptr_t)slots[i]->data % 64, 0);
            memset(slots[i]->data - SLOT_HEADROOM, 1, SLOT_HEADROOM + payload + SLOT_TAILROOM);
        }
        for (unsigned i = 0; i < 3; i++)
            slot_put(&pool, slots[i]);
        slot_pool_deinit(&pool);
    }
}

Test(slot, last_in_is_first_out) {
    struct slot_pool pool;
    cr_assert_eq(slot_pool_init(&pool, PAYLOAD, 4), ERR_OK);
    struct slot *a = slot_take(&pool), *b = slot_take(&pool);
    slot_put(&pool, a);
    slot_put(&pool, b);
    cr_assert_eq(slot_take(&pool), b);
    cr_assert_eq(slot_take(&pool), a);
    slot_put(&pool, a);
    slot_put(&pool, b);
    slot_pool_deinit(&pool);
}

Test(slot, random_takes_and_puts_never_lend_a_slot_twice) {
    enum { COUNT = 37 };
    uint32_t state = 20240611;
    struct slot_pool pool;
    cr_assert_eq(slot_pool_init(&pool, 64, COUNT), ERR_OK);
    struct slot *held[COUNT] = {0};
    uint32_t held_count = 0;
    for (unsigned step = 0; step < 200000; step++) {
        uint32_t index = random_next(&state) % COUNT;
        if (random_next(&state) & 1) {
            struct slot *slot = slot_take(&pool);
            cr_assert_eq(slot == NULL, held_count == COUNT);
            if (!slot)
                continue;
            cr_assert_null(held[slot->index], "slot %u lent twice", slot->index);
            slot->len = random_next(&state) % 65;
            held[slot->index] = slot;
            held_count++;
        } else if (held[index]) {
            slot_put(&pool, held[index]);
            held[index] = NULL;
            held_count--;
        }
        cr_assert_eq(pool.free_count, COUNT - held_count);
    }
    for (unsigned i = 0; i < COUNT; i++)
        if (held[i])
            slot_put(&pool, held[i]);
    slot_pool_deinit(&pool);
}

struct waiting {
    struct slot_waiter waiter;
    struct slot_pool *pool;
    struct slot *got;
    unsigned woken, order;
    bool take, again;
};
static unsigned wake_order;

static void on_slots(struct slot_waiter *waiter) {
    struct waiting *waiting = list_entry(waiter, struct waiting, waiter);
    cr_assert_not(list_linked(&waiter->node), "unlinked before the call");
    waiting->woken++;
    waiting->order = ++wake_order;
    if (waiting->take)
        waiting->got = slot_take(waiting->pool);
    if (waiting->again)
        slot_wait(waiting->pool, waiter);
}

static void waiting_init(struct waiting *waiting, struct slot_pool *pool, bool take) {
    *waiting = (struct waiting){.waiter.on_slots = on_slots, .pool = pool, .take = take};
    list_init(&waiting->waiter.node);
}

Test(slot, waiters_are_woken_one_per_slot_in_order) {
    struct slot_pool pool;
    struct waiting waiting[3];
    cr_assert_eq(slot_pool_init(&pool, PAYLOAD, 3), ERR_OK);
    struct slot *slots[3] = {slot_take(&pool), slot_take(&pool), slot_take(&pool)};
    for (unsigned i = 0; i < 3; i++) {
        waiting_init(&waiting[i], &pool, true);
        slot_wait(&pool, &waiting[i].waiter);
    }
    slot_wait(&pool, &waiting[0].waiter); /* already waiting: keeps its place */
    slot_put(&pool, slots[0]);
    cr_assert(waiting[0].woken == 1 && waiting[1].woken == 0 && waiting[2].woken == 0);
    cr_assert_eq(waiting[0].got, slots[0]);
    slot_unwait(&waiting[1].waiter);
    slot_unwait(&waiting[1].waiter);
    slot_put(&pool, slots[1]);
    cr_assert(waiting[0].woken == 1 && waiting[1].woken == 0 && waiting[2].woken == 1);
    cr_assert_eq(waiting[2].got, slots[1]);
    slot_put(&pool, slots[2]);
    cr_assert(waiting[0].woken == 1 && waiting[1].woken == 0 && waiting[2].woken == 1);
    slot_put(&pool, waiting[0].got);
    slot_put(&pool, waiting[2].got);
    slot_pool_deinit(&pool);
}

Test(slot, a_waiter_that_waits_again_goes_to_the_end) {
    struct slot_pool pool;
    struct waiting first, second;
    cr_assert_eq(slot_pool_init(&pool, PAYLOAD, 2), ERR_OK);
    struct slot *a = slot_take(&pool), *b = slot_take(&pool);
    waiting_init(&first, &pool, false);
    waiting_init(&second, &pool, false);
    first.again = true;
    slot_wait(&pool, &first.waiter);
    slot_wait(&pool, &second.waiter);
    slot_put(&pool, a);
    cr_assert(first.woken == 1 && second.woken == 0);
    slot_put(&pool, b);
    cr_assert(first.woken == 1 && second.woken == 1);
    cr_assert(list_linked(&first.waiter.node));
    slot_unwait(&first.waiter);
    slot_pool_deinit(&pool);
}

Test(slot, a_slot_given_back_twice_aborts, .signal = SIGABRT) {
    struct slot_pool pool;
    cr_assert_eq(slot_pool_init(&pool, PAYLOAD, 2), ERR_OK);
    struct slot *slot = slot_take(&pool);
    slot_put(&pool, slot);
    slot_put(&pool, slot);
}

Test(slot, a_slot_of_another_pool_aborts, .signal = SIGABRT) {
    struct slot_pool pool, other;
    cr_assert_eq(slot_pool_init(&pool, PAYLOAD, 2), ERR_OK);
    cr_assert_eq(slot_pool_init(&other, PAYLOAD, 2), ERR_OK);
    slot_put(&other, slot_take(&pool));
}

Test(slot, deinit_with_a_slot_out_aborts, .signal = SIGABRT) {
    struct slot_pool pool;
    cr_assert_eq(slot_pool_init(&pool, PAYLOAD, 2), ERR_OK);
    cr_assert_not_null(slot_take(&pool));
    slot_pool_deinit(&pool);
}

Test(slot, no_address_space_is_an_error) {
    struct slot_pool pool;
    cr_assert_eq(slot_pool_init(&pool, UINT32_MAX - 4096, 1u << 20), ERR_NOMEM);
}

Test(slot, queue_keeps_order_count_and_bytes) {
    enum { COUNT = 8 };
    struct slot_pool pool;
    struct slot_queue queue;
    cr_assert_eq(slot_pool_init(&pool, PAYLOAD, COUNT), ERR_OK);
    slot_queue_init(&queue);
    cr_assert_null(slot_queue_pop(&queue));
    uint32_t state = 7;
    struct slot *model[COUNT];
    unsigned first = 0, count = 0;
    uint64_t bytes = 0;
    for (unsigned step = 0; step < 20000; step++) {
        if (random_next(&state) & 1 && count < COUNT) {
            struct slot *slot = slot_take(&pool);
            slot->len = random_next(&state) % PAYLOAD;
            bytes += slot->len;
            model[(first + count++) % COUNT] = slot;
            slot_queue_push(&queue, slot);
        } else {
            struct slot *slot = slot_queue_pop(&queue);
            cr_assert_eq(slot, count ? model[first] : NULL);
            if (!slot)
                continue;
            cr_assert_null(slot->next);
            bytes -= slot->len;
            first = (first + 1) % COUNT;
            count--;
            slot_put(&pool, slot);
        }
        cr_assert_eq(queue.count, count);
        cr_assert_eq(queue.bytes, bytes);
    }
    for (struct slot *slot; (slot = slot_queue_pop(&queue));)
        slot_put(&pool, slot);
    slot_pool_deinit(&pool);
}

/* Pages of the pool that are in memory. */
static size_t resident(const struct slot_pool *pool) {
    static unsigned char pages[8192];
    size_t page = (size_t)sysconf(_SC_PAGESIZE), count = (pool->memory_bytes + page - 1) / page, in = 0;
    cr_assert(count <= sizeof pages && mincore(pool->memory, pool->memory_bytes, pages) == 0);
    for (size_t i = 0; i < count; i++)
        in += pages[i] & 1;
    return in;
}

static void take_and_fill(struct slot_pool *pool, struct slot **slots, unsigned n) {
    for (unsigned i = 0; i < n; i++) {
        cr_assert_not_null(slots[i] = slot_take(pool));
        memset(slots[i]->data, 0x5A, pool->payload_max);
    }
}

static void put_all(struct slot_pool *pool, struct slot **slots, unsigned n) {
    while (n-- > 0)
        slot_put(pool, slots[n]);
}

Test(slot, trim_gives_back_what_was_not_in_use) {
    enum { COUNT = 64, FEW = 4 };
    struct slot_pool pool;
    struct slot *slots[COUNT];
    cr_assert_eq(slot_pool_init(&pool, 32768, COUNT), ERR_OK);
    cr_assert_not(slot_pool_trim(&pool, false), "nothing was ever taken");
    take_and_fill(&pool, slots, COUNT);
    size_t full = resident(&pool);
    put_all(&pool, slots, COUNT);
    cr_assert(slot_pool_trim(&pool, false), "all were in use since the last call");
    cr_assert_eq(resident(&pool), full);
    for (unsigned i = 0; i < 10; i++) { /* a few stay in use */
        take_and_fill(&pool, slots, FEW);
        put_all(&pool, slots, FEW);
    }
    cr_assert(slot_pool_trim(&pool, false));
    cr_assert_leq(resident(&pool), full * (FEW + 1) / COUNT);
    cr_assert_not(slot_pool_trim(&pool, false));
    cr_assert_eq(resident(&pool), 0);
    cr_assert_not(slot_pool_trim(&pool, false));
    slot_pool_deinit(&pool);
}

Test(slot, trim_of_all_leaves_nothing_for_later) {
    enum { COUNT = 64 };
    struct slot_pool pool;
    struct slot *slots[COUNT];
    cr_assert_eq(slot_pool_init(&pool, 32768, COUNT), ERR_OK);
    take_and_fill(&pool, slots, COUNT);
    put_all(&pool, slots, COUNT);
    cr_assert_not(slot_pool_trim(&pool, true));
    cr_assert_eq(resident(&pool), 0);
    slot_pool_deinit(&pool);
}

/* What is taken keeps its bytes, wherever it lies among those that are given back. */
Test(slot, trim_leaves_taken_ones_alone) {
    enum { COUNT = 40 };
    struct slot_pool pool;
    struct slot *slots[COUNT];
    cr_assert_eq(slot_pool_init(&pool, 5000, COUNT), ERR_OK);
    take_and_fill(&pool, slots, COUNT);
    for (unsigned i = 0; i < COUNT; i++)
        if (i % 3 != 0)
            slot_put(&pool, slots[i]);
    (void)slot_pool_trim(&pool, false);
    (void)slot_pool_trim(&pool, true);
    for (unsigned i = 0; i < COUNT; i += 3)
        for (unsigned at = 0; at < pool.payload_max; at++)
            cr_assert_eq(slots[i]->data[at], 0x5A, "slot %u, byte %u", i, at);
    for (unsigned i = 0; i < COUNT; i += 3)
        slot_put(&pool, slots[i]);
    slot_pool_deinit(&pool);
}
