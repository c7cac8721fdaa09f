#include "engine/limits.h"
#include "engine/rxbuf.h"
#include <criterion/criterion.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#define RING_BYTES 65536u

static struct ring_pool pool;
static struct rxbuf rx;
static uint64_t received; /* bytes of the pattern that went in */
static uint64_t parsed;   /* and that were passed */

static uint32_t random_next(uint32_t *state) {
    *state ^= *state << 13;
    *state ^= *state >> 17;
    *state ^= *state << 5;
    return *state;
}

static uint8_t pattern(uint64_t position) {
    return (uint8_t)((position * 2654435761u) >> 13);
}

static bool has_pattern(const uint8_t *data, size_t len, uint64_t position) {
    for (size_t i = 0; i < len; i++)
        if (data[i] != pattern(position + i))
            return false;
    return true;
}

static void setup(void) {
    ring_pool_init(&pool, RING_BYTES, 2);
    rxbuf_init(&rx, &pool);
    received = parsed = 0;
}

static void teardown(void) {
    rxbuf_deinit(&rx);
    ring_pool_deinit(&pool);
}

static size_t receive(size_t bytes) {
    uint8_t *data = NULL;
    size_t len = 0;
    int err = rxbuf_space(&rx, 1, &data, &len);
    if (err == ERR_FULL)
        return 0;
    cr_assert_eq(err, ERR_OK);
    bytes = bytes < len ? bytes : len;
    for (size_t i = 0; i < bytes; i++)
        data[i] = pattern(received + i);
    rxbuf_filled(&rx, bytes);
    received += bytes;
    return bytes;
}

static struct slice *hold_first(uint32_t len) {
    size_t unparsed;
    return rxbuf_hold(&rx, rxbuf_unparsed(&rx, &unparsed), len);
}

static void pass(size_t bytes) {
    rxbuf_parsed(&rx, bytes);
    parsed += bytes;
}

static void check_unparsed(void) {
    size_t len = 1;
    const uint8_t *data = rxbuf_unparsed(&rx, &len);
    cr_assert_eq(len, received - parsed);
    cr_assert(has_pattern(data, len, parsed));
}

TestSuite(rxbuf, .init = setup, .fini = teardown);

Test(rxbuf, a_new_one_is_idle) {
    size_t len = 1;
    rxbuf_unparsed(&rx, &len);
    cr_assert_eq(len, 0);
    cr_assert_null(rxbuf_oldest(&rx));
    cr_assert_eq(pool.lent, 0);
    rxbuf_idle(&rx);
    cr_assert_eq(pool.lent, 0);
}

Test(rxbuf, space_is_all_that_is_free_and_never_less_than_asked_for) {
    uint8_t *data;
    size_t len;
    cr_assert_eq(rxbuf_space(&rx, RING_BYTES, &data, &len), ERR_OK);
    cr_assert_eq(len, RING_BYTES);
    memset(data, 1, len);
    rxbuf_filled(&rx, 100);
    cr_assert_eq(rxbuf_space(&rx, RING_BYTES - 99, &data, &len), ERR_FULL);
    cr_assert_eq(rxbuf_space(&rx, RING_BYTES - 100, &data, &len), ERR_OK);
    cr_assert_eq(len, RING_BYTES - 100);
    rxbuf_filled(&rx, len);
    cr_assert_eq(rxbuf_space(&rx, 1, &data, &len), ERR_FULL);
    cr_assert_eq(rxbuf_space(&rx, 0, &data, &len), ERR_FULL);
    rxbuf_parsed(&rx, 1);
    cr_assert_eq(rxbuf_space(&rx, 1, &data, &len), ERR_OK);
    cr_assert_eq(len, 1);
    rxbuf_filled(&rx, 0);
    rxbuf_parsed(&rx, RING_BYTES - 1);
    cr_assert_eq(rxbuf_space(&rx, RING_BYTES, &data, &len), ERR_OK);
    cr_assert_eq(len, RING_BYTES);
    rxbuf_filled(&rx, 0);
}

Test(rxbuf, no_ring_to_lend_is_told) {
    struct ring *others[2] = {ring_pool_take(&pool), ring_pool_take(&pool)};
    uint8_t *data;
    size_t len;
    cr_assert_eq(rxbuf_space(&rx, 1, &data, &len), ERR_NOMEM);
    ring_pool_put(&pool, others[0]);
    cr_assert_eq(rxbuf_space(&rx, 1, &data, &len), ERR_OK);
    rxbuf_filled(&rx, 0);
    ring_pool_put(&pool, others[1]);
}

Test(rxbuf, the_oldest_slice_keeps_the_memory) {
    uint8_t *data;
    size_t len;
    receive(1000);
    struct slice *first = hold_first(100);
    pass(100);
    struct slice *second = hold_first(200);
    pass(900);
    cr_assert(has_pattern(first->data, 100, 0) && first->len == 100);
    cr_assert(has_pattern(second->data, 200, 100) && second->len == 200);
    cr_assert_eq(rxbuf_oldest(&rx), first);
    rxbuf_release(&rx, second);
    cr_assert_eq(rxbuf_oldest(&rx), first);
    cr_assert_eq(rxbuf_space(&rx, 1, &data, &len), ERR_OK);
    cr_assert_eq(len, RING_BYTES - 1000, "all from the first slice on is still taken");
    rxbuf_filled(&rx, 0);
    rxbuf_idle(&rx);
    cr_assert_eq(pool.lent, 1, "held: not idle");
    rxbuf_release(&rx, first);
    cr_assert_null(rxbuf_oldest(&rx));
    rxbuf_idle(&rx);
    cr_assert_eq(pool.lent, 0);
}

Test(rxbuf, what_is_unparsed_is_kept_while_a_slice_behind_it_is_released) {
    receive(1000);
    size_t len;
    struct slice *ahead = rxbuf_hold(&rx, rxbuf_unparsed(&rx, &len) + 500, 100);
    rxbuf_release(&rx, ahead);
    check_unparsed();
    cr_assert_eq(receive(RING_BYTES), RING_BYTES - 1000);
    check_unparsed();
    pass(RING_BYTES);
}

Test(rxbuf, two_slices_of_one_packet_and_a_pointer_from_before_the_wrap) {
    receive(RING_BYTES - 10);
    pass(RING_BYTES - 10);
    receive(1);
    pass(0);
    /* Not empty, so no new start: the next bytes cross the end of the ring. */
    cr_assert_eq(receive(40), 40);
    size_t len;
    uint8_t *data = rxbuf_unparsed(&rx, &len);
    struct slice *a = rxbuf_hold(&rx, data, 20), *b = rxbuf_hold(&rx, data + 20, 5);
    pass(30);
    struct slice *c = rxbuf_hold(&rx, data + 30, 11);
    pass(11);
    uint64_t start = RING_BYTES - 10;
    cr_assert(has_pattern(a->data, 20, start) && has_pattern(b->data, 5, start + 20) &&
              has_pattern(c->data, 11, start + 30));
    rxbuf_release(&rx, b);
    rxbuf_release(&rx, a);
    cr_assert_eq(rxbuf_oldest(&rx), c);
    rxbuf_release(&rx, c);
}

Test(rxbuf, a_drained_ring_starts_over_at_its_beginning) {
    uint8_t *first, *again;
    size_t len;
    cr_assert_eq(rxbuf_space(&rx, 1, &first, &len), ERR_OK);
    rxbuf_filled(&rx, 777);
    rxbuf_parsed(&rx, 777);
    cr_assert_eq(rxbuf_space(&rx, 1, &again, &len), ERR_OK);
    cr_assert_eq(first, again);
    rxbuf_filled(&rx, 0);
}

Test(rxbuf, idle_keeps_a_partial_packet) {
    receive(5000);
    pass(4000);
    rxbuf_idle(&rx);
    cr_assert_eq(pool.lent, 0);
    check_unparsed();
    struct ring *other = ring_pool_take(&pool); /* the memory it had is somebody else's now */
    memset(other->base, 0xee, RING_BYTES);
    receive(3000);
    check_unparsed();
    struct slice *slice = hold_first(4000);
    pass(4000);
    cr_assert(has_pattern(slice->data, 4000, 4000));
    rxbuf_release(&rx, slice);
    ring_pool_put(&pool, other);
}

Test(rxbuf, what_is_kept_can_be_parsed_but_not_held) {
    receive(100);
    rxbuf_idle(&rx);
    cr_assert_null(hold_first(10));
    pass(60);
    check_unparsed();
    receive(50);
    check_unparsed();
    pass(90);
    rxbuf_idle(&rx);
    receive(7);
    rxbuf_idle(&rx);
    pass(7);
    receive(9);
    check_unparsed();
    pass(9);
}

Test(rxbuf, a_receive_that_brought_nothing_does_not_keep_the_ring) {
    uint8_t *data, *again;
    size_t len;
    cr_assert_eq(rxbuf_space(&rx, 1, &data, &len), ERR_OK);
    cr_assert_eq(rxbuf_space(&rx, 1, &again, &len), ERR_OK);
    cr_assert(again == data && len == RING_BYTES);
    rxbuf_idle(&rx);
    cr_assert_eq(pool.lent, 0);
}

Test(rxbuf, filling_while_idle_aborts, .signal = SIGABRT) {
    uint8_t *data;
    size_t len;
    cr_assert_eq(rxbuf_space(&rx, 1, &data, &len), ERR_OK);
    rxbuf_idle(&rx);
    rxbuf_filled(&rx, 1);
}

Test(rxbuf, many_packets_that_are_not_parsed_yet_stay_in_the_ring) {
    struct ring_pool large;
    struct rxbuf big;
    uint8_t *data;
    size_t len;
    ring_pool_init(&large, LIMIT_RING_BYTES, 1);
    rxbuf_init(&big, &large);
    cr_assert_eq(rxbuf_space(&big, LIMIT_PACKET_BYTES * 2, &data, &len), ERR_OK);
    rxbuf_filled(&big, LIMIT_PACKET_BYTES * 2);
    rxbuf_idle(&big);
    cr_assert_eq(large.lent, 1);
    rxbuf_parsed(&big, LIMIT_PACKET_BYTES);
    rxbuf_idle(&big);
    cr_assert_eq(large.lent, 0);
    rxbuf_deinit(&big);
    ring_pool_deinit(&large);
}

Test(rxbuf, slices_end_at_their_limit_and_begin_again) {
    static struct slice *slices[LIMIT_SLICES_PER_RING];
    receive(LIMIT_SLICES_PER_RING + 1);
    for (uint32_t i = 0; i < LIMIT_SLICES_PER_RING; i++) {
        slices[i] = hold_first(1);
        cr_assert_not_null(slices[i]);
        slices[i]->holder = &slices[i];
        pass(1);
    }
    cr_assert_null(hold_first(1));
    for (uint32_t i = 1; i < LIMIT_SLICES_PER_RING; i += 2)
        rxbuf_release(&rx, slices[i]);
    cr_assert_null(hold_first(1), "the oldest still stands before the released ones");
    for (uint32_t i = 0; i < LIMIT_SLICES_PER_RING; i += 2) {
        cr_assert_eq(rxbuf_oldest(&rx), slices[i]);
        cr_assert(slices[i]->holder == &slices[i] && slices[i]->data[0] == pattern(i));
        rxbuf_release(&rx, slices[i]);
    }
    struct slice *again = hold_first(1);
    cr_assert_not_null(again);
    rxbuf_release(&rx, again);
    pass(1);
}

/* The model: every held slice with its place in the stream. */
struct held {
    struct slice *slice;
    uint64_t position;
    uint32_t len;
};
#define HELD_MAX 512u
static struct held held[HELD_MAX];
static unsigned held_count;

static void model_hold(uint32_t *state) {
    size_t len;
    uint8_t *data = rxbuf_unparsed(&rx, &len);
    size_t packet = 1 + random_next(state) % 900;
    if (packet > len)
        return;
    size_t offset = random_next(state) % packet;
    uint32_t wanted = 1 + random_next(state) % (uint32_t)(packet - offset);
    if (random_next(state) % 4 && held_count < HELD_MAX) {
        struct slice *slice = rxbuf_hold(&rx, data + offset, wanted);
        cr_assert_eq(slice == NULL, rx.ring == NULL);
        if (slice)
            held[held_count++] = (struct held){slice, parsed + offset, wanted};
    }
    pass(packet);
}

static void model_release(uint32_t *state) {
    if (held_count == 0)
        return;
    /* Mostly among the oldest, so that the ring moves on. */
    unsigned i = random_next(state) % (random_next(state) % 8 ? (held_count + 3) / 4 : held_count);
    cr_assert(has_pattern(held[i].slice->data, held[i].len, held[i].position));
    cr_assert_eq(held[i].slice->len, held[i].len);
    rxbuf_release(&rx, held[i].slice);
    held_count--;
    memmove(&held[i], &held[i + 1], (held_count - i) * sizeof *held);
}

static void model_check(void) {
    size_t len = 0;
    rxbuf_unparsed(&rx, &len);
    cr_assert_eq(len, received - parsed);
    cr_assert_eq(rxbuf_oldest(&rx), held_count ? held[0].slice : NULL);
    uint64_t oldest = held_count && held[0].position < parsed ? held[0].position : parsed;
    if (rx.ring)
        cr_assert_eq(ring_used(rx.ring), received - oldest);
    else
        cr_assert_eq(held_count, 0);
}

Test(rxbuf, random_operations_against_a_model) {
    uint32_t state = 31337;
    unsigned idles = 0;
    for (unsigned step = 0; step < 200000; step++) {
        switch (random_next(&state) % 8) {
        case 0:
            receive(random_next(&state) % 4000);
            break;
        case 1:
        case 2:
        case 3:
            model_hold(&state);
            break;
        case 4:
            rxbuf_idle(&rx);
            idles += rx.ring == NULL;
            cr_assert_eq(pool.lent, held_count > 0 ? 1 : 0);
            break;
        default:
            model_release(&state);
        }
        model_check();
    }
    check_unparsed();
    cr_assert_gt(received, RING_BYTES * 100u);
    cr_assert_gt(idles, 100);
    while (held_count > 0)
        model_release(&state);
    pass(received - parsed);
}

Test(rxbuf, a_slice_released_twice_aborts, .signal = SIGABRT) {
    receive(10);
    struct slice *first = hold_first(1);
    pass(1);
    struct slice *second = hold_first(1);
    rxbuf_release(&rx, second);
    cr_assert_eq(rxbuf_oldest(&rx), first);
    rxbuf_release(&rx, second);
}

Test(rxbuf, filling_more_than_was_lent_aborts, .signal = SIGABRT) {
    uint8_t *data;
    size_t len;
    cr_assert_eq(rxbuf_space(&rx, 1, &data, &len), ERR_OK);
    rxbuf_filled(&rx, len + 1);
}

Test(rxbuf, holding_what_was_not_received_aborts, .signal = SIGABRT) {
    receive(10);
    (void)hold_first(11);
}

Test(rxbuf, holding_backwards_aborts, .signal = SIGABRT) {
    receive(10);
    size_t len;
    uint8_t *data = rxbuf_unparsed(&rx, &len);
    cr_assert_not_null(rxbuf_hold(&rx, data + 5, 2));
    (void)rxbuf_hold(&rx, data + 6, 2);
}

Test(rxbuf, deinit_with_a_slice_held_aborts, .signal = SIGABRT) {
    receive(10);
    cr_assert_not_null(hold_first(1));
    rxbuf_deinit(&rx);
}
