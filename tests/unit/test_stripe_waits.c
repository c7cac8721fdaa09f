/* Lanes that are relied on only once the peer has said something on them. */
#include "stripe_rig.h"

#define CHUNK STRIPE_CHUNK_BYTES

Test(stripe_waits, for_a_first_word) {
    struct stripe *stripe = rig_open(1, MIB, 10 * MIB);
    rig_add_waiting(stripe, 1, 1);
    rig_expect(stripe, 1, RECORD_TAKEN, 0, MIB);
    rig_expect_silence(stripe, 1);
    rig_give(stripe, 1000);
    rig_expect_silence(stripe, 1);
    rig_expect(stripe, 0, RECORD_DATA, 0, 1000);
    rig_give(stripe, 1000);
    rig_expect_silence(stripe, 1);
    cr_assert_eq(rig_say(stripe, 1, RECORD_TAKEN, 0, MIB), 0);
    rig_expect(stripe, 1, RECORD_DATA, 1000, 1000);
    rig_destroy(stripe);
}

/* Part of a word is one. */
Test(stripe_waits, for_its_first_byte) {
    struct stripe *stripe = rig_open(1, MIB, MIB);
    const uint8_t byte = RECORD_TAKEN;
    rig_add_waiting(stripe, 1, 1);
    rig_expect(stripe, 1, RECORD_TAKEN, 0, MIB);
    rig_give(stripe, 1);
    rig_expect_silence(stripe, 1);
    cr_assert_eq(stripe_input(stripe, 1, &byte, 1, rig_now), 0);
    rig_expect(stripe, 1, RECORD_DATA, 0, 1);
    rig_destroy(stripe);
}

Test(stripe_waits, the_end_goes_elsewhere) {
    struct stripe *stripe = rig_open(1, MIB, MIB);
    rig_add_waiting(stripe, 1, 1);
    stripe_end(stripe);
    rig_expect(stripe, 1, RECORD_TAKEN, 0, MIB);
    rig_expect_silence(stripe, 1);
    rig_expect(stripe, 0, RECORD_END, 0, 0);
    rig_destroy(stripe);
}

/* What the greeting says is said elsewhere all the same, and it grants nothing. */
Test(stripe_waits, its_greeting_does_not_count) {
    struct stripe *stripe = rig_open(1, MIB, MIB);
    for (uint32_t at = 0; at < MIB / 2; at += CHUNK)
        cr_assert_eq(rig_say(stripe, 0, RECORD_DATA, at, CHUNK), 0);
    cr_assert_eq(rig_take(stripe), MIB / 2);
    rig_add_waiting(stripe, 1, 1);
    rig_expect(stripe, 1, RECORD_TAKEN, MIB / 2, MIB / 2);
    rig_expect(stripe, 0, RECORD_TAKEN, MIB / 2, MIB);
    rig_expect_silence(stripe, 0);
    rig_add_waiting(stripe, 2, 2);
    stripe_lane_gone(stripe, 0, false);
    rig_expect(stripe, 2, RECORD_TAKEN, MIB / 2, MIB);
    rig_expect(stripe, 2, RECORD_LOST, 0, 0);
    rig_expect_silence(stripe, 2);
    cr_assert_eq(rig_say(stripe, 2, RECORD_TAKEN, 0, MIB), 0);
    rig_expect(stripe, 2, RECORD_TAKEN, MIB / 2, MIB);
    rig_expect_silence(stripe, 2);
    rig_destroy(stripe);
}

/* Nor does it end anything; once that is over it hears the last word as the others do. */
Test(stripe_waits, its_greeting_is_no_last_word) {
    struct stripe *stripe = rig_open(1, MIB, MIB);
    stripe_end(stripe);
    rig_expect(stripe, 0, RECORD_END, 0, 0);
    cr_assert_eq(rig_say(stripe, 0, RECORD_TAKEN, 1, MIB), 0);
    cr_assert_eq(rig_say(stripe, 0, RECORD_END, 0, 0), 0);
    stripe_end_taken(stripe);
    rig_add_waiting(stripe, 1, 1);
    rig_expect(stripe, 1, RECORD_TAKEN, 1, MIB - 1);
    cr_assert_eq(stripe_state(stripe), STRIPE_OPEN);
    rig_expect(stripe, 0, RECORD_TAKEN, 1, MIB - 1);
    cr_assert_eq(stripe_state(stripe), STRIPE_DONE);
    rig_expect(stripe, 1, RECORD_TAKEN, 1, MIB - 1);
    cr_assert(stripe_lane_finished(stripe, 0) && stripe_lane_finished(stripe, 1));
    rig_destroy(stripe);
}

Test(stripe_waits, reset_is_said) {
    struct stripe *stripe = rig_open(1, MIB, MIB);
    rig_add_waiting(stripe, 1, 1);
    stripe_reset(stripe);
    rig_expect(stripe, 1, RECORD_RESET, 0, 0);
    cr_assert(stripe_lane_finished(stripe, 1));
    rig_destroy(stripe);
}
