/* Each allocation of a striped connection fails once (--wrap=malloc, calloc): it then goes on, refuses without having
 * taken anything, or breaks; and everything is given back. */
#include "stripe_rig.h"
#include <stdlib.h>

#define CHUNK STRIPE_CHUNK_BYTES

static int allocations_left = -1; /* until one fails; negative: none does */
static bool failed;

void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);

static bool fails(void) {
    bool now = allocations_left == 0;
    if (allocations_left >= 0)
        allocations_left--;
    failed |= now;
    return now;
}
void *__wrap_malloc(size_t size) {
    return fails() ? NULL : __real_malloc(size);
}
void *__wrap_calloc(size_t count, size_t size) {
    return fails() ? NULL : __real_calloc(count, size);
}

/* Again when it failed, as a caller does. */
static void give(struct stripe *stripe, size_t len) {
    static uint8_t bytes[20 * CHUNK];
    uint64_t before = stripe_bytes_out(stripe), held = stripe->out.pages.count;
    for (size_t i = 0; i < len; i++)
        bytes[i] = rig_byte(before + i);
    int result = stripe_give(stripe, bytes, len);
    stripe_validate(stripe);
    if (result == 0)
        return;
    cr_assert_eq(result, ERR_NOMEM);
    cr_assert(failed && stripe_bytes_out(stripe) == before && stripe->out.pages.count == held);
    cr_assert_eq(stripe_give(stripe, bytes, len), 0);
}

static void send_much(struct stripe *stripe) {
    struct record record;
    uint64_t heard = 0;
    give(stripe, 10);
    give(stripe, stripe_room(stripe));
    give(stripe, stripe_room(stripe));
    give(stripe, 3 * CHUNK / 2);
    for (unsigned i = 0; i < 40; i++) {
        give(stripe, 1);
        while (rig_hear(stripe, 0, &record) && record.kind == RECORD_DATA)
            heard += record.number;
    }
    cr_assert(failed || heard == stripe_bytes_out(stripe), "without memory for more records the rest waits");
    cr_assert_eq(rig_say(stripe, 0, RECORD_TAKEN, heard, MIB), 0);
    while (rig_hear(stripe, 0, &record) && record.kind == RECORD_DATA)
        heard += record.number;
    cr_assert_eq(heard, stripe_bytes_out(stripe));
}

/* False: no memory. */
static bool receive_much(struct stripe *stripe) {
    for (uint64_t i = 20; i-- > 0;) {
        int result = rig_say(stripe, 0, RECORD_DATA, i * CHUNK + 5 * (i > 0), CHUNK);
        if (result == 0 && i == 0)
            result = rig_say(stripe, 0, RECORD_DATA, CHUNK, 5);
        if (result == 0)
            continue;
        cr_assert_eq(result, ERR_NOMEM);
        cr_assert_eq(stripe_state(stripe), STRIPE_BROKEN);
        return false;
    }
    cr_assert_eq(rig_take(stripe), 20 * CHUNK + 5);
    return true;
}

static void live(void) {
    struct stripe *stripe;
    window_budget_init(&rig_budget, LIMIT_WINDOW_BUDGET_BYTES);
    int result = stripe_create(&rig_budget, MIB, &stripe);
    if (result < 0) {
        cr_assert(failed && result == ERR_NOMEM);
        cr_assert_eq(atomic_load(&rig_budget.used), 0);
        return;
    }
    rig_add(stripe, 0, 0);
    cr_assert_eq(rig_say(stripe, 0, RECORD_TAKEN, 0, MIB), 0);
    rig_expect(stripe, 0, RECORD_TAKEN, 0, MIB);
    send_much(stripe);
    cr_assert(receive_much(stripe) || failed);
    rig_destroy(stripe);
}

Test(stripe_memory, each_allocation_fails_once) {
    unsigned ways = 0;
    do {
        allocations_left = (int)ways++;
        failed = false;
        live();
    } while (failed);
    allocations_left = -1;
    cr_assert_gt(ways, 40);
}
