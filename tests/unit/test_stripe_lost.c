/* Lanes that only one side has lost: LOST, what it says, when, and to whom. */
#include "stripe_rig.h"

/* What had gone on it comes again on the others, as if it had been lost here. */
Test(stripe_lost, what_the_peer_has_lost_goes_again) {
    struct stripe *stripe = rig_open(3, 1000, 1000);
    rig_give(stripe, 10);
    rig_expect(stripe, 1, RECORD_DATA, 0, 10);
    stripe_end(stripe);
    rig_expect(stripe, 1, RECORD_END, 10, 0);
    rig_expect_silence(stripe, 0);
    cr_assert_eq(rig_say(stripe, 2, RECORD_LOST, 0, 1), 0);
    cr_assert(stripe_lane_lost_there(stripe, 1));
    cr_assert(!stripe_lane_lost_there(stripe, 0) && !stripe_lane_lost_there(stripe, 2));
    stripe_lane_gone(stripe, 1, false);
    cr_assert_not(stripe_lane_lost_there(stripe, 1));
    rig_expect(stripe, 0, RECORD_DATA, 0, 10);
    rig_expect(stripe, 2, RECORD_END, 10, 0);
    rig_expect_silence(stripe, 0);
    rig_expect_silence(stripe, 2); /* who has said so need not be told */
    rig_destroy(stripe);
}

/* Before whoever drives it looks, too. */
Test(stripe_lost, nothing_goes_on_it_any_more) {
    struct stripe *stripe = rig_open(2, 1000, 1000);
    cr_assert_eq(rig_say(stripe, 0, RECORD_LOST, 0, 1), 0);
    rig_give(stripe, 10);
    rig_expect_silence(stripe, 1);
    rig_expect(stripe, 0, RECORD_DATA, 0, 10);
    rig_destroy(stripe);
}

Test(stripe_lost, the_last_one_but_for_that) {
    struct stripe *stripe = rig_open(2, 1000, 1000);
    cr_assert_eq(rig_say(stripe, 0, RECORD_LOST, 0, 1), 0);
    stripe_lane_gone(stripe, 0, false);
    cr_assert_eq(stripe_state(stripe), STRIPE_OPEN);
    stripe_lane_gone(stripe, 1, false);
    cr_assert_eq(stripe_state(stripe), STRIPE_BROKEN);
    rig_destroy(stripe);
}

/* It may be heard from each lane, and long after another has taken its place. */
Test(stripe_lost, said_again_it_means_nobody_else) {
    struct stripe *stripe = rig_open(3, 1000, 1000);
    for (unsigned i = 0; i < 2; i++)
        cr_assert_eq(rig_say(stripe, 0, RECORD_LOST, 0, 1), 0);
    stripe_lane_gone(stripe, 1, false);
    rig_add(stripe, 1, 7);
    for (unsigned i = 0; i < 3; i++) {
        cr_assert_eq(rig_say(stripe, i, RECORD_LOST, 0, 1), 0);
        cr_assert_eq(rig_say(stripe, i, RECORD_LOST, 0, UINT32_MAX - i), 0);
    }
    for (unsigned i = 0; i < STRIPE_LANES_MAX; i++)
        cr_assert_not(stripe_lane_lost_there(stripe, i));
    cr_assert_eq(stripe_lanes(stripe), 3);
    rig_destroy(stripe);
}

/* On its way to us when the peer lost it: nothing would ever come of it. */
Test(stripe_lost, before_it_came) {
    struct stripe *stripe = rig_open(1, 1000, 1000);
    cr_assert_eq(rig_say(stripe, 0, RECORD_LOST, 0, 5), 0);
    cr_assert_eq(stripe_lane_add(stripe, 1, 5, false), ERR_REFUSED);
    cr_assert_eq(stripe_lanes(stripe), 1);
    rig_add(stripe, 1, 4);
    rig_add(stripe, 2, 6);
    rig_destroy(stripe);
}

/* On all that are there and on each that comes later: any of them may be lost with what was said. */
Test(stripe_lost, said_on_every_lane) {
    struct stripe *stripe = rig_open(4, 1000, 1000);
    stripe_lane_gone(stripe, 2, false);
    stripe_lane_gone(stripe, 1, true); /* in order, and yet before the end: the peer may know, or not */
    for (unsigned lane = 0; lane < 4; lane += 3) {
        rig_expect(stripe, lane, RECORD_LOST, 0, 2);
        rig_expect(stripe, lane, RECORD_LOST, 0, 1);
        rig_expect_silence(stripe, lane);
    }
    rig_add(stripe, 1, 4);
    rig_expect(stripe, 1, RECORD_TAKEN, 0, 1000);
    rig_expect(stripe, 1, RECORD_LOST, 0, 2);
    rig_expect(stripe, 1, RECORD_LOST, 0, 1);
    rig_expect_silence(stripe, 1);
    rig_destroy(stripe);
}

/* A lane on which there was no room all that time says the newest. */
Test(stripe_lost, more_than_are_kept) {
    struct stripe *stripe = rig_open(2, 1000, 1000);
    for (uint32_t i = 2; i < LIMIT_STRIPE_LOST + 12; i++) {
        rig_add(stripe, 2, i);
        stripe_lane_gone(stripe, 2, false);
        rig_expect(stripe, 1, RECORD_LOST, 0, i);
    }
    rig_expect_silence(stripe, 1);
    for (uint32_t i = 12; i < LIMIT_STRIPE_LOST + 12; i++)
        rig_expect(stripe, 0, RECORD_LOST, 0, i);
    rig_expect_silence(stripe, 0);
    rig_destroy(stripe);
}

/* Nothing that is over waits for it. */
Test(stripe_lost, not_said_after_the_end) {
    struct stripe *stripe = rig_open(3, 1000, 1000);
    stripe_lane_gone(stripe, 2, false);
    stripe_reset(stripe);
    rig_expect(stripe, 0, RECORD_RESET, 0, 0);
    cr_assert(stripe_lane_finished(stripe, 0));
    rig_expect_silence(stripe, 0);
    rig_destroy(stripe);
}

/* ---- identities ---- */

Test(stripe_lost, identities_count_up_a_little_out_of_order) {
    struct stripe_identities identities = {0};
    const uint32_t apart = STRIPE_IDENTITIES_APART;
    const struct {
        uint32_t identity;
        bool good;
    } all[] = {{0, true},
               {0, false},
               {3, true},
               {1, true},
               {3, false},
               {1, false},
               {2, true},
               {apart, true},
               {0, false},
               {4, true},
               {apart + 4, true},
               {4, false},
               {5, true},
               {1000, true},
               {1000 - apart, false},
               {999, true},
               {999, false},
               {1001 - apart, true},
               {UINT32_MAX, true},
               {UINT32_MAX, false},
               {0, false},
               {UINT32_MAX - apart, false},
               {UINT32_MAX - 1, true}};
    for (unsigned i = 0; i < sizeof all / sizeof *all; i++)
        cr_assert_eq(stripe_identity_use(&identities, all[i].identity), all[i].good, "%u", i);
}
