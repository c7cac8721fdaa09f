/* What a stripe sends, on which lane, and how it ends. */
#include "stripe_rig.h"

#define CHUNK STRIPE_CHUNK_BYTES

Test(stripe_send, no_more_than_was_granted) {
    struct stripe *stripe = rig_open(1, MIB, 1000);
    cr_assert_eq(stripe_room(stripe), 1000);
    rig_give(stripe, 1000);
    cr_assert_eq(stripe_room(stripe), 0);
    rig_expect(stripe, 0, RECORD_DATA, 0, 1000);
    cr_assert_eq(rig_say(stripe, 0, RECORD_TAKEN, 400, 1000), 0);
    cr_assert_eq(stripe_room(stripe), 400);
    cr_assert_eq(rig_say(stripe, 0, RECORD_TAKEN, 300, 900), 0, "an older one, from a slower lane");
    cr_assert_eq(rig_say(stripe, 0, RECORD_TAKEN, 500, 0), 0);
    cr_assert_eq(stripe_room(stripe), 400, "a limit never goes back");
    cr_assert_eq(rig_say(stripe, 0, RECORD_TAKEN, 1000, UINT32_MAX), 0);
    cr_assert_eq(stripe_room(stripe), CHUNK, "what may always be kept");
    rig_destroy(stripe);
}

/* Small gives become large records when no lane has asked between. */
Test(stripe_send, cut_at_pages) {
    struct stripe *stripe = rig_open(2, MIB, MIB);
    for (unsigned i = 0; i < 70; i++)
        rig_give(stripe, 1001);
    rig_expect(stripe, 0, RECORD_DATA, 0, CHUNK);
    rig_expect(stripe, 1, RECORD_DATA, CHUNK, CHUNK);
    rig_expect(stripe, 0, RECORD_DATA, 2 * CHUNK, 70 * 1001 - 2 * CHUNK);
    rig_expect_silence(stripe, 1);
    rig_give(stripe, 1);
    rig_expect(stripe, 1, RECORD_DATA, 70 * 1001, 1);
    rig_destroy(stripe);
}

/* Lowest first, before anything new, and only what had gone there and was not taken. */
Test(stripe_send, lost_lane) {
    struct stripe *stripe = rig_open(3, MIB, MIB);
    for (unsigned i = 0; i < 6; i++) {
        rig_give(stripe, 100);
        rig_expect(stripe, i % 3, RECORD_DATA, 100 * i, 100);
    }
    rig_give(stripe, 100);
    cr_assert_eq(rig_say(stripe, 2, RECORD_TAKEN, 100, MIB), 0);
    stripe_lane_gone(stripe, 2, false);
    stripe_validate(stripe);
    rig_expect(stripe, 1, RECORD_LOST, 0, 2);
    rig_expect(stripe, 1, RECORD_DATA, 200, 100);
    stripe_lane_gone(stripe, 1, true);
    stripe_validate(stripe);
    cr_assert_eq(stripe_lanes(stripe), 1);
    rig_expect(stripe, 0, RECORD_LOST, 0, 2);
    rig_expect(stripe, 0, RECORD_LOST, 0, 1);
    rig_expect(stripe, 0, RECORD_DATA, 100, 100);
    rig_expect(stripe, 0, RECORD_DATA, 200, 100);
    cr_assert_eq(rig_say(stripe, 0, RECORD_TAKEN, 450, MIB), 0, "arrived after all");
    rig_expect(stripe, 0, RECORD_DATA, 400, 100);
    rig_expect(stripe, 0, RECORD_DATA, 500, 100);
    rig_expect(stripe, 0, RECORD_DATA, 600, 100);
    rig_expect_silence(stripe, 0);
    rig_destroy(stripe);
}

/* The newest TAKEN is said again when it may not have arrived; and a lane's place serves again. */
Test(stripe_send, taken_on_a_lost_lane) {
    struct stripe *stripe = rig_open(2, 1000, 1000);
    cr_assert_eq(rig_say(stripe, 0, RECORD_DATA, 0, 600), 0);
    cr_assert_eq(rig_take(stripe), 600);
    rig_expect(stripe, 1, RECORD_TAKEN, 600, 1000);
    stripe_lane_gone(stripe, 1, false);
    rig_expect(stripe, 0, RECORD_LOST, 0, 1);
    rig_expect(stripe, 0, RECORD_TAKEN, 600, 1000);
    rig_expect_silence(stripe, 0);
    rig_add(stripe, 1, 2);
    rig_expect(stripe, 1, RECORD_TAKEN, 600, 1000);
    rig_expect(stripe, 1, RECORD_LOST, 0, 1);
    stripe_lane_gone(stripe, 0, false);
    rig_expect(stripe, 1, RECORD_LOST, 0, 0);
    rig_expect_silence(stripe, 1);
    rig_destroy(stripe);
}

/* Half of a record had come when its lane was lost: its successor in that place begins anew. */
Test(stripe_send, place_serves_again) {
    struct stripe *stripe = rig_open(2, MIB, 1000);
    uint8_t bytes[100];
    size_t len = rig_record(bytes, RECORD_DATA, 0, 50);
    cr_assert_eq(stripe_input(stripe, 1, bytes, len - 10, 1), 0);
    stripe_lane_gone(stripe, 1, false);
    rig_add(stripe, 1, 2);
    cr_assert_eq(rig_say(stripe, 1, RECORD_DATA, 0, 50), 0);
    cr_assert_eq(rig_take(stripe), 50);
    rig_destroy(stripe);
}

/* As many records as there may be, of one byte each; the rest waits and goes as one. */
Test(stripe_send, tiny_records) {
    struct stripe *stripe = rig_open(2, MIB, MIB);
    for (uint32_t i = 0; i < LIMIT_STRIPE_CHUNKS; i++) {
        rig_give(stripe, 1);
        rig_expect(stripe, i % 2, RECORD_DATA, i, 1);
    }
    rig_give(stripe, 1000);
    stripe_end(stripe);
    rig_expect_silence(stripe, 0);
    stripe_lane_gone(stripe, 1, false);
    rig_expect(stripe, 0, RECORD_LOST, 0, 1);
    rig_expect(stripe, 0, RECORD_DATA, 1, 1);
    cr_assert_eq(rig_say(stripe, 0, RECORD_TAKEN, LIMIT_STRIPE_CHUNKS, MIB), 0);
    rig_expect(stripe, 0, RECORD_DATA, LIMIT_STRIPE_CHUNKS, 1000);
    rig_expect(stripe, 0, RECORD_END, LIMIT_STRIPE_CHUNKS + 1000, 0);
    rig_destroy(stripe);
}

/* What is kept counts against the budget, doubles as it is used, and goes back when the peer has all. */
Test(stripe_send, kept_bytes_are_counted) {
    struct stripe *stripe = rig_open(1, 1000, UINT32_MAX);
    uint64_t start = atomic_load(&rig_budget.used), room;
    cr_assert_eq(start, 1000 + CHUNK);
    while ((room = stripe_room(stripe)) > 0) {
        rig_give(stripe, room < MIB ? room : MIB);
        cr_assert_geq(atomic_load(&rig_budget.used), 1000 + stripe_bytes_out(stripe));
    }
    cr_assert_eq(stripe_bytes_out(stripe), LIMIT_STRIPE_WINDOW_BYTES);
    struct record record = {0};
    while (rig_hear(stripe, 0, &record))
        cr_assert_eq(record.number, CHUNK);
    cr_assert_eq(rig_say(stripe, 0, RECORD_TAKEN, LIMIT_STRIPE_WINDOW_BYTES, 0), 0);
    cr_assert_eq(atomic_load(&rig_budget.used), start);
    cr_assert_leq(stripe_bytes_held(stripe), 1000);
    rig_destroy(stripe);
}

/* Others' windows have left little: it goes on with little, and gives back what it does not use. */
Test(stripe_send, low_budget) {
    struct stripe *stripe = rig_open(1, 1000, UINT32_MAX);
    while (stripe->out.reserved < 4 * MIB)
        rig_give(stripe, stripe_room(stripe));
    struct record record;
    while (rig_hear(stripe, 0, &record))
        ;
    uint32_t others = (uint32_t)window_budget_left(&rig_budget) - 100 * MIB;
    atomic_fetch_add(&rig_budget.used, others);
    uint64_t given = stripe_bytes_out(stripe);
    cr_assert_eq(rig_say(stripe, 0, RECORD_TAKEN, given - 10, UINT32_MAX), 0);
    cr_assert_lt(stripe->out.reserved, 3 * MIB);
    rig_give(stripe, stripe_room(stripe));
    cr_assert_eq(stripe_room(stripe), 0, "does not grow");
    while (rig_hear(stripe, 0, &record))
        ;
    cr_assert_eq(rig_say(stripe, 0, RECORD_TAKEN, stripe_bytes_out(stripe), UINT32_MAX), 0);
    cr_assert_eq(stripe_room(stripe), CHUNK);
    atomic_fetch_sub(&rig_budget.used, others);
    rig_destroy(stripe);
}

/* A bulk transfer to an application that keeps up costs few words in return: something has always come early. */
Test(stripe_send, few_words_in_return) {
    struct stripe *stripe = rig_open(1, MIB, 0);
    struct record record;
    unsigned said = 0;
    cr_assert_eq(rig_say(stripe, 0, RECORD_DATA, 1000, 1000), 0);
    for (uint64_t next = 0; next < 2000; next += 2) {
        cr_assert_eq(rig_say(stripe, 0, RECORD_DATA, (next + 3) * 1000, 1000), 0);
        cr_assert_eq(rig_say(stripe, 0, RECORD_DATA, next * 1000, 1000), 0);
        cr_assert_eq(rig_take(stripe), 2000);
        said += rig_hear(stripe, 0, &record);
    }
    cr_assert(said > 10 && said < 20, "%u", said);
    rig_destroy(stripe);
}

/* Our END is taken, the peer's END is told to the application and that is said: on every lane. */
Test(stripe_send, done) {
    struct stripe *stripe = rig_open(3, 1000, 1000);
    rig_give(stripe, 10);
    stripe_end(stripe);
    stripe_end(stripe);
    cr_assert_eq(stripe_room(stripe), 0);
    rig_expect(stripe, 1, RECORD_DATA, 0, 10);
    rig_expect(stripe, 2, RECORD_END, 10, 0);
    rig_expect_silence(stripe, 1);
    cr_assert_eq(rig_say(stripe, 0, RECORD_END, 0, 0), 0);
    cr_assert(stripe_ended(stripe));
    stripe_end_taken(stripe);
    cr_assert_not(stripe_ended(stripe));
    rig_expect(stripe, 0, RECORD_TAKEN, 1, 999);
    cr_assert_eq(rig_say(stripe, 0, RECORD_TAKEN, 10, 1000), 0);
    cr_assert_eq(stripe_state(stripe), STRIPE_OPEN);
    cr_assert_not(stripe_lane_finished(stripe, 0));
    cr_assert_eq(rig_say(stripe, 0, RECORD_TAKEN, 11, 1000), 0);
    cr_assert_eq(stripe_state(stripe), STRIPE_DONE);
    cr_assert(stripe_lane_finished(stripe, 0));
    for (unsigned lane = 1; lane < 3; lane++) {
        cr_assert_not(stripe_lane_finished(stripe, lane));
        rig_expect(stripe, lane, RECORD_TAKEN, 1, 999);
        cr_assert(stripe_lane_finished(stripe, lane));
        rig_expect_silence(stripe, lane);
    }
    for (unsigned lane = 0; lane < 3; lane++)
        stripe_lane_gone(stripe, lane, lane % 2);
    stripe_reset(stripe);
    cr_assert_eq(stripe_state(stripe), STRIPE_DONE);
    rig_destroy(stripe);
}

/* END comes after all bytes, goes again when its lane is lost, and not when it was taken. */
Test(stripe_send, end_again) {
    struct stripe *stripe = rig_open(3, 1000, 1000);
    rig_give(stripe, 10);
    stripe_end(stripe);
    rig_expect(stripe, 0, RECORD_DATA, 0, 10);
    rig_expect(stripe, 1, RECORD_END, 10, 0);
    stripe_lane_gone(stripe, 1, false);
    rig_expect(stripe, 2, RECORD_LOST, 0, 1);
    rig_expect(stripe, 2, RECORD_END, 10, 0);
    stripe_lane_gone(stripe, 0, false);
    rig_expect(stripe, 2, RECORD_LOST, 0, 0);
    rig_expect(stripe, 2, RECORD_TAKEN, 0, 1000);
    rig_expect(stripe, 2, RECORD_DATA, 0, 10);
    rig_expect_silence(stripe, 2);
    rig_add(stripe, 1, 3);
    rig_expect(stripe, 1, RECORD_TAKEN, 0, 1000);
    cr_assert_eq(rig_say(stripe, 1, RECORD_TAKEN, 11, 0), 0);
    stripe_lane_gone(stripe, 2, false);
    for (uint32_t i = 0; i < 3; i++)
        rig_expect(stripe, 1, RECORD_LOST, 0, (uint32_t[]){1, 0, 2}[i]);
    rig_expect_silence(stripe, 1);
    rig_destroy(stripe);
}

/* What was said of the peer's END goes again too. */
Test(stripe_send, end_taken_again) {
    struct stripe *stripe = rig_open(2, 1000, 1000);
    cr_assert_eq(rig_say(stripe, 0, RECORD_END, 0, 0), 0);
    stripe_end_taken(stripe);
    rig_expect(stripe, 0, RECORD_TAKEN, 1, 999);
    rig_expect_silence(stripe, 1);
    stripe_lane_gone(stripe, 0, false);
    rig_expect(stripe, 1, RECORD_LOST, 0, 0);
    rig_expect(stripe, 1, RECORD_TAKEN, 1, 999);
    rig_destroy(stripe);
}

static enum stripe_state last_lane(bool own_end, bool peer_end, bool in_order) {
    struct stripe *stripe = rig_open(2, 1000, 1000);
    rig_give(stripe, 10);
    rig_expect(stripe, 0, RECORD_DATA, 0, 10);
    if (own_end) {
        stripe_end(stripe);
        rig_expect(stripe, 0, RECORD_END, 10, 0);
    }
    if (peer_end) {
        cr_assert_eq(rig_say(stripe, 0, RECORD_END, 0, 0), 0);
        stripe_end_taken(stripe);
        rig_expect(stripe, 1, RECORD_TAKEN, 1, 999);
    }
    stripe_lane_gone(stripe, 0, true);
    cr_assert_eq(stripe_state(stripe), STRIPE_OPEN);
    stripe_lane_gone(stripe, 1, in_order);
    enum stripe_state state = stripe_state(stripe);
    cr_assert_eq(stripe_lanes(stripe), 0);
    rig_destroy(stripe);
    return state;
}

/* Only a peer that has all ends its lanes in order. */
Test(stripe_send, last_lane) {
    cr_assert_eq(last_lane(true, true, true), STRIPE_DONE);
    cr_assert_eq(last_lane(true, true, false), STRIPE_BROKEN);
    cr_assert_eq(last_lane(true, false, true), STRIPE_BROKEN);
    cr_assert_eq(last_lane(false, true, true), STRIPE_BROKEN);
}

Test(stripe_send, reset_by_us) {
    struct stripe *stripe = rig_open(2, 1000, 1000);
    rig_give(stripe, 10);
    rig_add(stripe, 5, 5);
    stripe_reset(stripe);
    stripe_reset(stripe);
    cr_assert_eq(stripe_state(stripe), STRIPE_BROKEN);
    rig_expect(stripe, 0, RECORD_RESET, 0, 0);
    rig_expect(stripe, 5, RECORD_RESET, 0, 0);
    cr_assert(stripe_lane_finished(stripe, 0) && !stripe_lane_finished(stripe, 1));
    stripe_lane_gone(stripe, 1, false);
    rig_destroy(stripe);
}

/* What the application was shown stays where it is until it has left. */
Test(stripe_send, reset_by_the_peer) {
    struct stripe *stripe = rig_open(1, 1000, 1000);
    const uint8_t *data, *none;
    cr_assert_eq(rig_say(stripe, 0, RECORD_DATA, 0, 10), 0);
    cr_assert_eq(stripe_peek(stripe, &data), 10);
    cr_assert_eq(rig_say(stripe, 0, RECORD_RESET, 0, 0), 0);
    cr_assert_eq(stripe_state(stripe), STRIPE_BROKEN);
    cr_assert_eq(stripe_peek(stripe, &none), 0);
    for (unsigned i = 0; i < 10; i++)
        cr_assert_eq(data[i], rig_byte(i));
    stripe_took(stripe, 10);
    cr_assert_not(stripe_ended(stripe));
    rig_expect(stripe, 0, RECORD_RESET, 0, 0);
    rig_destroy(stripe);
}
