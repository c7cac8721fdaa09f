#include "stripe_rig.h"

#define CHUNK STRIPE_CHUNK_BYTES

Test(stripe, greets_each_lane_with_its_window) {
    struct stripe *stripe = rig_create(100000);
    cr_assert_eq(stripe_room(stripe), 0, "the peer has not said how much");
    for (unsigned lane = 0; lane < STRIPE_LANES_MAX; lane++) {
        rig_add(stripe, lane, lane);
        rig_expect(stripe, lane, RECORD_TAKEN, 0, 100000);
        rig_expect_silence(stripe, lane);
    }
    cr_assert_eq(stripe_lanes(stripe), STRIPE_LANES_MAX);
    rig_destroy(stripe);
    stripe_destroy(NULL);
}

Test(stripe, budget_without_room) {
    struct stripe *stripe;
    window_budget_init(&rig_budget, 2 * LIMIT_CHANNEL_PACKET_BYTES - 1);
    cr_assert_eq(stripe_create(&rig_budget, MIB, &stripe), ERR_LIMIT);
    cr_assert_eq(atomic_load(&rig_budget.used), 0);
    window_budget_init(&rig_budget, LIMIT_CHANNEL_PACKET_BYTES - 1);
    cr_assert_eq(stripe_create(&rig_budget, MIB, &stripe), ERR_LIMIT);
    window_budget_init(&rig_budget, 2 * LIMIT_CHANNEL_PACKET_BYTES);
    cr_assert_eq(stripe_create(&rig_budget, MIB, &stripe), 0);
    rig_destroy(stripe);
}

/* A byte at a time, and header and data together. */
Test(stripe, records_cut_anywhere) {
    for (size_t cut = 1; cut < 60; cut++) {
        struct stripe *stripe = rig_open(1, MIB, 10);
        uint8_t bytes[200];
        size_t len = rig_record(bytes, RECORD_DATA, 0, 40);
        len += rig_record(bytes + len, RECORD_TAKEN, 0, 5000);
        len += rig_record(bytes + len, RECORD_DATA, 40, 1);
        len += rig_record(bytes + len, RECORD_END, 41, 0);
        for (size_t at = 0; at < len; at += cut) {
            cr_assert_eq(stripe_input(stripe, 0, bytes + at, cut < len - at ? cut : len - at, 1), 0);
            stripe_validate(stripe);
        }
        cr_assert_eq(rig_take(stripe), 41);
        cr_assert(stripe_ended(stripe));
        cr_assert_eq(stripe_room(stripe), 5000);
        rig_destroy(stripe);
    }
}

/* Taken as it comes, without the rest of its record, which then comes again on another lane. */
Test(stripe, part_of_a_record_counts) {
    struct stripe *stripe = rig_open(2, MIB, 10);
    static uint8_t bytes[STRIPE_HEADER_BYTES + CHUNK];
    cr_assert_eq(rig_record(bytes, RECORD_DATA, 0, CHUNK), sizeof bytes);
    cr_assert_eq(stripe_input(stripe, 0, bytes, STRIPE_HEADER_BYTES + 1000, 1), 0);
    cr_assert_eq(rig_take(stripe), 1000);
    stripe_lane_gone(stripe, 0, false);
    cr_assert_eq(stripe_state(stripe), STRIPE_OPEN);
    cr_assert_eq(rig_say(stripe, 1, RECORD_DATA, 0, CHUNK), 0);
    cr_assert_eq(rig_take(stripe), CHUNK - 1000);
    rig_destroy(stripe);
}

Test(stripe, order_is_restored) {
    struct stripe *stripe = rig_open(3, 4 * MIB, 10);
    for (uint64_t i = 20; i-- > 1;) {
        cr_assert_eq(rig_say(stripe, (unsigned)i % 3, RECORD_DATA, i * 5000, 5000), 0);
        cr_assert_eq(rig_take(stripe), 0);
    }
    cr_assert_eq(rig_say(stripe, 0, RECORD_DATA, 1, 4999), 0);
    cr_assert_eq(rig_take(stripe), 0);
    cr_assert_eq(rig_say(stripe, 0, RECORD_DATA, 0, 1), 0);
    cr_assert_eq(rig_take(stripe), 100000);
    cr_assert_eq(stripe_bytes_in(stripe), 100000);
    rig_destroy(stripe);
}

/* However a peer cuts what it says again, each byte comes once. */
Test(stripe, overlaps_and_duplicates) {
    struct stripe *stripe = rig_open(1, MIB, 10);
    const uint64_t parts[][2] = {{100, 50},    {100, 50},           {120, 80}, {90, 20},
                                 {32700, 200}, {10, 60000 % CHUNK}, {0, 5},    {3, 30}};
    for (unsigned i = 0; i < sizeof parts / sizeof *parts; i++)
        cr_assert_eq(rig_say(stripe, 0, RECORD_DATA, parts[i][0], (uint32_t)parts[i][1]), 0);
    cr_assert_eq(rig_take(stripe), 10 + 60000 % CHUNK);
    cr_assert_eq(rig_say(stripe, 0, RECORD_DATA, 0, CHUNK), 0);
    cr_assert_eq(rig_take(stripe), 32900 - 10 - 60000 % CHUNK, "up to what came early");
    cr_assert_eq(rig_say(stripe, 0, RECORD_DATA, 200, 32), 0);
    cr_assert_eq(rig_take(stripe), 0);
    rig_destroy(stripe);
}

/* The window is exact, wherever it is filled from. */
Test(stripe, window_to_the_byte) {
    struct stripe *stripe = rig_open(1, 1000, 10);
    cr_assert_eq(rig_say(stripe, 0, RECORD_DATA, 999, 1), 0);
    cr_assert_eq(rig_say(stripe, 0, RECORD_DATA, 0, 999), 0);
    cr_assert_eq(rig_take(stripe), 1000);
    rig_expect(stripe, 0, RECORD_TAKEN, 1000, 1000);
    cr_assert_eq(rig_say(stripe, 0, RECORD_DATA, 1001, 1000), ERR_PROTOCOL);
    cr_assert_eq(stripe_state(stripe), STRIPE_BROKEN);
    rig_destroy(stripe);
}

/* An application that does not take is not granted more, whatever came. */
Test(stripe, unread_is_not_granted_again) {
    struct stripe *stripe = rig_open(1, 1000, 10);
    cr_assert_eq(rig_say(stripe, 0, RECORD_DATA, 0, 1000), 0);
    rig_expect_silence(stripe, 0);
    const uint8_t *data;
    cr_assert_eq(stripe_peek(stripe, &data), 1000);
    stripe_took(stripe, 499);
    rig_expect_silence(stripe, 0);
    stripe_took(stripe, 1);
    rig_expect(stripe, 0, RECORD_TAKEN, 500, 1000);
    rig_expect_silence(stripe, 0);
    rig_destroy(stripe);
}

/* Else the sender would keep what has long been taken, or wait for room that it has. */
Test(stripe, taken_is_said_when_nothing_more_is_known_to_come) {
    struct stripe *stripe = rig_open(1, MIB, 10);
    cr_assert_eq(rig_say(stripe, 0, RECORD_DATA, 0, 7), 0);
    rig_expect_silence(stripe, 0);
    cr_assert_eq(rig_take(stripe), 7);
    struct record record;
    cr_assert(rig_hear(stripe, 0, &record));
    cr_assert(record.kind == RECORD_TAKEN && record.offset == 7 && record.number == MIB - 7,
              "nothing granted for so little");
    rig_expect_silence(stripe, 0);
    cr_assert_eq(rig_say(stripe, 0, RECORD_DATA, 7, 7), 0);
    cr_assert_eq(rig_say(stripe, 0, RECORD_DATA, 15, 7), 0);
    cr_assert_eq(rig_take(stripe), 7);
    rig_expect_silence(stripe, 0);
    rig_destroy(stripe);
}

static void expect_nonsense(unsigned kind, uint64_t offset, uint32_t number) {
    struct stripe *stripe = rig_open(2, 1000, 50);
    rig_give(stripe, 20);
    rig_expect(stripe, 1, RECORD_DATA, 0, 20);
    rig_give(stripe, 10);
    cr_assert_eq(rig_say(stripe, 0, RECORD_DATA, 50, 50), 0);
    cr_assert_eq(rig_say(stripe, 0, kind, offset, number), ERR_PROTOCOL, "%u %lu %u", kind, offset, number);
    cr_assert_eq(stripe_state(stripe), STRIPE_BROKEN);
    cr_assert_eq(stripe_room(stripe), 0);
    for (unsigned lane = 0; lane < 2; lane++) {
        cr_assert_not(stripe_lane_finished(stripe, lane));
        rig_expect(stripe, lane, RECORD_RESET, 0, 0);
        cr_assert(stripe_lane_finished(stripe, lane));
        rig_expect_silence(stripe, lane);
    }
    cr_assert_eq(rig_say(stripe, 0, kind, offset, number), 0, "not listened to any more");
    rig_destroy(stripe);
}

Test(stripe, nonsense) {
    const struct record all[] = {
        {0, 0, 0, NULL},
        {6, 0, 0, NULL},
        {255, 0, 0, NULL},
        {RECORD_DATA, 0, 0, NULL},
        {RECORD_DATA, CHUNK + 1, 0, NULL},
        {RECORD_DATA, UINT32_MAX, 0, NULL},
        {RECORD_DATA, 1, 1000, NULL},
        {RECORD_DATA, 2, 999, NULL},
        {RECORD_DATA, 1, UINT64_MAX, NULL},
        {RECORD_DATA, 100, UINT64_MAX - 50, NULL},
        {RECORD_DATA, 1, UINT64_C(1) << 32, NULL},
        {RECORD_TAKEN, 100, 21, NULL},
        {RECORD_TAKEN, 100, 31, NULL},
        {RECORD_TAKEN, 0, UINT64_MAX, NULL},
        {RECORD_END, 1, 100, NULL},
        {RECORD_END, 0, 99, NULL},
        {RECORD_END, 0, 1001, NULL},
        {RECORD_RESET, 1, 0, NULL},
        {RECORD_RESET, 0, 1, NULL},
        {RECORD_LOST, 0, 0, NULL},
        {RECORD_LOST, 1, 1, NULL},
    };
    for (unsigned i = 0; i < sizeof all / sizeof *all; i++)
        expect_nonsense(all[i].kind, all[i].offset, all[i].number);
}

Test(stripe, nothing_follows_the_end) {
    for (unsigned i = 0; i < 3; i++) {
        struct stripe *stripe = rig_open(1, 1000, 10);
        cr_assert_eq(rig_say(stripe, 0, RECORD_END, 100, 0), 0);
        cr_assert_eq(rig_say(stripe, 0, RECORD_END, 100, 0), 0);
        cr_assert_eq(rig_say(stripe, 0, RECORD_DATA, 0, 100), 0);
        int result =
            i == 0 ? rig_say(stripe, 0, RECORD_DATA, 100, 1) : rig_say(stripe, 0, RECORD_END, i == 1 ? 99 : 101, 0);
        cr_assert_eq(result, ERR_PROTOCOL);
        rig_destroy(stripe);
    }
}

/* One byte in each page of a window that is full of holes, or every other byte of all of it. */
Test(stripe, memory_of_a_hostile_peer) {
    for (unsigned each = 0; each < 2; each++) {
        struct stripe *stripe = rig_open(1, 2 * MIB, 10);
        uint64_t step = each ? 2 : CHUNK, window = stripe->in.window.target;
        for (uint64_t offset = 1; offset < window; offset += step)
            cr_assert_eq(
                stripe_input(stripe, 0,
                             (const uint8_t[]){RECORD_DATA, 0, 0, 0, 1, 0, 0, 0, 0, (uint8_t)(offset >> 24),
                                               (uint8_t)(offset >> 16), (uint8_t)(offset >> 8), (uint8_t)offset, 0},
                             14, 1),
                0);
        stripe_validate(stripe);
        cr_assert_geq(stripe_bytes_held(stripe), window);
        cr_assert_leq(stripe_bytes_held(stripe), window + window / 4);
        rig_destroy(stripe);
    }
}
