#include "ssh/auto_connections.h"
#include "tests/unit/seed.h"
#include <criterion/criterion.h>
#include <string.h>

#define MAX 4u
#define MANY 8u
#define TICK LIMIT_SATURATION_WINDOW_NS
#define BULK (4u * LIMIT_AUTO_BULK_BYTES)

static struct auto_connections connections;
static struct auto_view views[MANY];
static uint64_t now_ns;
static unsigned which;

static void begin(unsigned max) {
    memset(views, 0, sizeof(views));
    views[0].presence = AUTO_SERVING;
    now_ns = UINT64_C(123456789012);
    auto_connections_init(&connections, 1, max);
}
static void setup(void) {
    begin(MAX);
}
TestSuite(auto_connections, .init = setup, .fini = seed_report);

static enum auto_step step_after(uint64_t ns) {
    now_ns += ns;
    return auto_connections_step(&connections, now_ns, views, &which);
}

/* `flows` alike ones that are all the shard can carry. */
static void saturate(unsigned i, uint32_t flows) {
    views[i] = (struct auto_view){.presence = AUTO_SERVING,
                                  .saturated = true,
                                  .flows = flows,
                                  .bytes = BULK,
                                  .heaviest = BULK / flows,
                                  .movable = BULK};
}

static void open_one(void) {
    saturate(0, 8);
    cr_assert_eq(step_after(TICK), AUTO_OPEN);
    views[which].presence = AUTO_SERVING;
    auto_connections_opened(&connections, now_ns);
}

static void expect_stay_for(uint64_t ns) {
    for (uint64_t end_ns = now_ns + ns; now_ns + TICK < end_ns;)
        cr_assert_eq(step_after(TICK), AUTO_STAY);
}

Test(auto_connections, starts_with_one_and_stays_there) {
    expect_stay_for(10 * LIMIT_AUTO_IDLE_NS);
    views[0].flows = 1000;
    views[0].bytes = views[0].movable = 1000 * (uint64_t)BULK;
    views[0].heaviest = BULK;
    expect_stay_for(LIMIT_AUTO_IDLE_NS);
}

Test(auto_connections, several_flows_on_a_saturated_shard) {
    saturate(0, 2);
    cr_expect_eq(step_after(TICK), AUTO_OPEN);
    cr_expect_eq(which, 1);
    cr_expect(connections.opening);
}

Test(auto_connections, one_flow_cannot_be_spread) {
    saturate(0, 1);
    expect_stay_for(10 * LIMIT_AUTO_IDLE_NS);
}

Test(auto_connections, trickles_beside_a_bulk_flow_are_no_reason) {
    saturate(0, 100);
    views[0].heaviest = BULK / 4 * 3 + 1;
    expect_stay_for(LIMIT_AUTO_IDLE_NS);
    views[0].heaviest = BULK / 4 * 3;
    cr_expect_eq(step_after(TICK), AUTO_OPEN);
}

Test(auto_connections, a_starved_shard_with_little_to_carry_is_no_reason) {
    saturate(0, 8);
    views[0].bytes = views[0].movable = LIMIT_AUTO_BULK_BYTES - 1;
    expect_stay_for(LIMIT_AUTO_IDLE_NS);
    views[0].bytes = views[0].movable = LIMIT_AUTO_BULK_BYTES;
    views[0].heaviest = LIMIT_AUTO_BULK_BYTES / 8;
    cr_expect_eq(step_after(TICK), AUTO_OPEN);
}

/* Remote forwards stay on the first connection: more of them help nobody. */
Test(auto_connections, what_could_not_have_been_elsewhere_is_no_reason) {
    saturate(0, 8);
    views[0].movable = 0;
    expect_stay_for(LIMIT_AUTO_IDLE_NS);
}

Test(auto_connections, what_was_not_measured_is_no_reason) {
    saturate(0, 8);
    views[0].bytes = views[0].heaviest = views[0].movable = 0;
    cr_expect(auto_connections_wants_measures(&connections, now_ns, views));
    expect_stay_for(LIMIT_AUTO_IDLE_NS);
    views[0].saturated = false;
    cr_expect_not(auto_connections_wants_measures(&connections, now_ns, views));
}

Test(auto_connections, one_attempt_at_a_time) {
    saturate(0, 8);
    cr_assert_eq(step_after(TICK), AUTO_OPEN);
    expect_stay_for(10 * LIMIT_AUTO_IDLE_NS);
    cr_expect_not(auto_connections_wants_measures(&connections, now_ns, views));
}

/* The next flows have somewhere to go. */
Test(auto_connections, a_free_one_is_enough) {
    open_one();
    expect_stay_for(10 * LIMIT_AUTO_IDLE_NS);
    saturate(1, 1);
    cr_expect_eq(step_after(TICK), AUTO_OPEN, "all are full, and the first has several flows");
    cr_expect_eq(which, 2);
}

Test(auto_connections, one_flow_each_is_as_good_as_it_gets) {
    open_one();
    saturate(0, 1);
    saturate(1, 1);
    expect_stay_for(10 * LIMIT_AUTO_IDLE_NS);
}

Test(auto_connections, a_pause_between_one_and_the_next) {
    open_one();
    saturate(1, 8);
    uint64_t opened_ns = now_ns;
    while (step_after(TICK / 4) != AUTO_OPEN)
        cr_assert_lt(now_ns - opened_ns, LIMIT_AUTO_PAUSE_NS);
    cr_expect_geq(now_ns - opened_ns, LIMIT_AUTO_PAUSE_NS);
}

Test(auto_connections, never_more_than_the_maximum) {
    for (unsigned i = 1; i < MAX; i++) {
        saturate(i - 1, 8);
        cr_assert_eq(step_after(LIMIT_AUTO_PAUSE_NS), AUTO_OPEN);
        cr_assert_eq(which, i);
        saturate(i, 8);
        auto_connections_opened(&connections, now_ns);
    }
    expect_stay_for(10 * LIMIT_AUTO_IDLE_NS);
    begin(1);
    saturate(0, 8);
    expect_stay_for(LIMIT_AUTO_IDLE_NS);
}

Test(auto_connections, failures_wait_twice_as_long_each_time) {
    uint64_t wait_ns = LIMIT_AUTO_BACKOFF_NS;
    saturate(0, 8);
    cr_assert_eq(step_after(TICK), AUTO_OPEN);
    for (unsigned i = 0; i < 12; i++) {
        auto_connections_failed(&connections, now_ns, false);
        cr_expect_eq(step_after(wait_ns - 1), AUTO_STAY);
        cr_expect_eq(step_after(1), AUTO_OPEN);
        wait_ns = wait_ns * 2 < LIMIT_AUTO_BACKOFF_MAX_NS ? wait_ns * 2 : LIMIT_AUTO_BACKOFF_MAX_NS;
    }
    auto_connections_opened(&connections, now_ns);
    cr_assert_eq(step_after(LIMIT_AUTO_PAUSE_NS), AUTO_OPEN);
    auto_connections_failed(&connections, now_ns, false);
    cr_expect_eq(step_after(LIMIT_AUTO_BACKOFF_NS), AUTO_OPEN, "a success wipes the slate");
}

Test(auto_connections, a_failure_for_good) {
    saturate(0, 8);
    cr_assert_eq(step_after(TICK), AUTO_OPEN);
    auto_connections_failed(&connections, now_ns, true);
    expect_stay_for(3 * LIMIT_AUTO_BACKOFF_MAX_NS);
}

Test(auto_connections, a_loss_waits_as_a_failure_does) {
    open_one();
    views[1] = (struct auto_view){.presence = AUTO_LEAVING};
    auto_connections_lost(&connections, now_ns);
    cr_expect_eq(step_after(LIMIT_AUTO_BACKOFF_NS), AUTO_STAY);
    views[1].presence = AUTO_ABSENT;
    cr_expect_eq(step_after(TICK), AUTO_OPEN, "and what is lost is opened again");
    cr_expect_eq(which, 1);
}

/* ---- those that there must be ---- */

static void begin_with(unsigned min, unsigned max) {
    begin(max);
    auto_connections_init(&connections, min, max);
    for (unsigned i = 0; i < min; i++)
        views[i].presence = AUTO_SERVING;
}

static void lose(unsigned i) {
    views[i] = (struct auto_view){.presence = AUTO_ABSENT};
    auto_connections_lost(&connections, now_ns);
}

static void made_again(unsigned i) {
    views[i].presence = AUTO_SERVING;
    auto_connections_opened(&connections, now_ns);
}

Test(auto_connections, a_fixed_number_stays) {
    begin_with(3, 3);
    expect_stay_for(2 * LIMIT_AUTO_IDLE_NS);
    for (unsigned i = 0; i < 3; i++)
        saturate(i, 8);
    cr_expect_not(auto_connections_wants_measures(&connections, now_ns, views));
    expect_stay_for(2 * LIMIT_AUTO_IDLE_NS);
}

Test(auto_connections, what_is_lost_of_a_fixed_number_is_opened_again) {
    begin_with(3, 3);
    lose(0);
    cr_expect_eq(step_after(LIMIT_AUTO_BACKOFF_NS - 1), AUTO_STAY);
    cr_expect_eq(step_after(1), AUTO_OPEN, "idle or not");
    cr_expect_eq(which, 0);
    views[2].presence = AUTO_LEAVING;
    expect_stay_for(2 * LIMIT_AUTO_BACKOFF_NS); /* one attempt at a time */
    views[0].presence = AUTO_SERVING;
    auto_connections_opened(&connections, now_ns);
    expect_stay_for(2 * LIMIT_AUTO_BACKOFF_NS); /* not before it is gone */
    lose(2);
    lose(1);
    cr_expect_eq(step_after(LIMIT_AUTO_BACKOFF_NS - 1), AUTO_STAY);
    cr_expect_eq(step_after(1), AUTO_OPEN);
    cr_expect_eq(which, 1);
    auto_connections_failed(&connections, now_ns, true);
    expect_stay_for(3 * LIMIT_AUTO_BACKOFF_MAX_NS);
}

/* What a firewall that forgets its connections does: not one failure after the other. */
Test(auto_connections, those_lost_at_once_wait_once) {
    begin_with(MANY, MANY);
    for (unsigned i = 1; i < MANY; i++)
        lose(i);
    cr_expect_eq(step_after(LIMIT_AUTO_BACKOFF_NS - 1), AUTO_STAY);
    step_after(1);
    for (unsigned i = 1; i < MANY; i++) {
        cr_expect(connections.opening);
        cr_assert_eq(which, i);
        cr_expect_eq(step_after(0), AUTO_STAY, "one at a time");
        made_again(i);
        cr_expect_eq(step_after(0), i < MANY - 1 ? AUTO_OPEN : AUTO_STAY, "nothing to wait for");
    }
}

Test(auto_connections, a_loss_while_another_waits_prolongs_nothing) {
    for (unsigned looks = 0; looks < 2; looks++) {
        begin_with(MANY, MANY);
        lose(1);
        for (unsigned i = 2; i < MANY; i++) {
            now_ns += LIMIT_AUTO_BACKOFF_NS / MANY;
            cr_expect(looks == 0 || step_after(0) == AUTO_STAY);
            lose(i);
        }
        cr_expect_eq(step_after(LIMIT_AUTO_BACKOFF_NS / MANY * 2 - 1), AUTO_STAY);
        cr_expect_eq(step_after(1), AUTO_OPEN);
    }
}

Test(auto_connections, those_lost_at_once_again_and_again_wait_twice_as_long_each_time) {
    uint64_t wait_ns = LIMIT_AUTO_BACKOFF_NS;
    begin_with(3, 3);
    for (unsigned i = 0; i < 12; i++) {
        lose(1);
        lose(2);
        cr_expect_eq(step_after(wait_ns - 1), AUTO_STAY);
        cr_assert_eq(step_after(1), AUTO_OPEN);
        made_again(1);
        cr_assert_eq(step_after(0), AUTO_OPEN);
        made_again(2);
        cr_expect_eq(step_after(LIMIT_AUTO_NEW_NS - 1), AUTO_STAY);
        wait_ns = wait_ns * 2 < LIMIT_AUTO_BACKOFF_MAX_NS ? wait_ns * 2 : LIMIT_AUTO_BACKOFF_MAX_NS;
    }
    cr_expect_eq(step_after(1), AUTO_STAY);
    lose(2);
    cr_expect_eq(step_after(LIMIT_AUTO_BACKOFF_NS), AUTO_OPEN, "one that stood starts anew");
}

/* One after the other, as each finds out for itself that nobody answers. */
Test(auto_connections, one_that_stood_does_not_wait_for_what_others_did) {
    begin_with(MANY, MANY);
    for (unsigned i = 0; i < MANY; i++) {
        lose(i);
        cr_expect_eq(step_after(LIMIT_AUTO_BACKOFF_NS - 1), AUTO_STAY);
        cr_assert_eq(step_after(1), AUTO_OPEN);
        made_again(i);
    }
    lose(0);
    cr_expect_eq(step_after(2 * LIMIT_AUTO_BACKOFF_NS - 1), AUTO_STAY, "it stood for 35 s only");
    cr_expect_eq(step_after(1), AUTO_OPEN);
}

/* Closed 15 s after it was added: that is no loss soon after, which the next loss would be taken for. */
Test(auto_connections, one_that_was_closed_is_none_that_was_lost) {
    begin_with(2, MAX);
    lose(0);
    cr_assert_eq(step_after(LIMIT_AUTO_BACKOFF_NS), AUTO_OPEN);
    made_again(0);
    cr_assert_eq(step_after(LIMIT_AUTO_NEW_NS), AUTO_STAY);
    saturate(0, 8);
    saturate(1, 8);
    cr_assert_eq(step_after(TICK), AUTO_OPEN);
    made_again(2);
    views[0] = views[1] = (struct auto_view){.presence = AUTO_SERVING};
    cr_assert_eq(step_after(LIMIT_AUTO_IDLE_NS), AUTO_CLOSE);
    cr_assert_eq(which, 2);
    views[2].presence = AUTO_LEAVING;
    lose(1);
    cr_expect_eq(step_after(LIMIT_AUTO_BACKOFF_NS), AUTO_OPEN);
    cr_expect_eq(which, 1);
}

/* The second of two is being made again when the first is lost once more: it does not come back at once. */
static void lose_again_during_an_attempt(void) {
    begin_with(3, 3);
    lose(1);
    lose(2);
    cr_assert_eq(step_after(LIMIT_AUTO_BACKOFF_NS), AUTO_OPEN);
    made_again(1);
    cr_assert_eq(step_after(0), AUTO_OPEN);
    lose(1);
}

Test(auto_connections, a_success_does_not_shorten_the_wait_of_a_loss) {
    for (unsigned looks = 0; looks < 2; looks++) {
        lose_again_during_an_attempt();
        cr_expect(looks == 0 || step_after(0) == AUTO_STAY);
        made_again(2);
        cr_expect_eq(step_after(2 * LIMIT_AUTO_BACKOFF_NS - 1), AUTO_STAY);
        cr_expect_eq(step_after(1), AUTO_OPEN);
        cr_expect_eq(which, 1);
    }
}

Test(auto_connections, a_failure_does_not_shorten_the_wait_of_a_loss) {
    for (unsigned looks = 0; looks < 2; looks++) {
        lose_again_during_an_attempt();
        cr_expect(looks == 0 || step_after(0) == AUTO_STAY);
        auto_connections_failed(&connections, now_ns, false);
        cr_expect_eq(step_after(2 * LIMIT_AUTO_BACKOFF_NS - 1), AUTO_STAY);
        cr_expect_eq(step_after(1), AUTO_OPEN);
    }
}

/* As the shard ends it, before the main thread hears of that. */
Test(auto_connections, one_may_be_seen_to_leave_before_it_is_lost) {
    lose_again_during_an_attempt();
    made_again(2);
    cr_assert_eq(step_after(2 * LIMIT_AUTO_BACKOFF_NS), AUTO_OPEN);
    made_again(1);
    views[1].presence = AUTO_LEAVING;
    cr_assert_eq(step_after(TICK), AUTO_STAY);
    lose(1);
    cr_expect_eq(step_after(4 * LIMIT_AUTO_BACKOFF_NS - 1), AUTO_STAY);
    cr_expect_eq(step_after(1), AUTO_OPEN);
}

/* The third stood, and is lost while the first two, which had not, are made again. */
Test(auto_connections, each_is_lost_again_but_once) {
    lose_again_during_an_attempt();
    made_again(2);
    lose(2);
    cr_assert_eq(step_after(2 * LIMIT_AUTO_BACKOFF_NS), AUTO_OPEN);
    cr_assert_eq(which, 1);
    lose(0);
    made_again(1);
    cr_expect_eq(step_after(LIMIT_AUTO_BACKOFF_NS - 1), AUTO_STAY);
    cr_expect_eq(step_after(1), AUTO_OPEN);
}

Test(auto_connections, what_is_lost_does_not_make_attempts_that_fail_more_frequent) {
    begin_with(3, 3);
    lose(1);
    cr_assert_eq(step_after(LIMIT_AUTO_BACKOFF_NS), AUTO_OPEN);
    auto_connections_failed(&connections, now_ns, false);
    cr_assert_eq(step_after(LIMIT_AUTO_BACKOFF_NS), AUTO_OPEN);
    lose(2);
    auto_connections_failed(&connections, now_ns, false);
    cr_expect_eq(step_after(2 * LIMIT_AUTO_BACKOFF_NS - 1), AUTO_STAY);
    cr_expect_eq(step_after(1), AUTO_OPEN);
}

Test(auto_connections, none_is_closed_that_stands_in_for_a_lost_one) {
    begin_with(2, 3);
    saturate(0, 8);
    saturate(1, 8);
    cr_assert_eq(step_after(LIMIT_AUTO_PAUSE_NS), AUTO_OPEN);
    cr_assert_eq(which, 2);
    views[0] = views[1] = views[2] = (struct auto_view){.presence = AUTO_SERVING};
    auto_connections_opened(&connections, now_ns);
    lose(0);
    cr_assert_eq(step_after(LIMIT_AUTO_BACKOFF_NS), AUTO_OPEN);
    expect_stay_for(2 * LIMIT_AUTO_IDLE_NS); /* idle all the while */
    views[0].presence = AUTO_SERVING;
    auto_connections_opened(&connections, now_ns);
    cr_expect_eq(step_after(LIMIT_AUTO_IDLE_NS), AUTO_CLOSE);
    cr_expect_eq(which, 2);
    views[2].presence = AUTO_ABSENT;
    expect_stay_for(4 * LIMIT_AUTO_IDLE_NS);
}

Test(auto_connections, an_idle_one_is_closed) {
    open_one();
    views[0] = (struct auto_view){.presence = AUTO_SERVING, .flows = 3};
    views[1].flows = 1;
    expect_stay_for(10 * LIMIT_AUTO_IDLE_NS);
    views[1].flows = 0;
    uint64_t idle_ns = now_ns;
    expect_stay_for(LIMIT_AUTO_IDLE_NS);
    while (step_after(1000000) == AUTO_STAY)
        cr_assert_leq(now_ns - idle_ns, LIMIT_AUTO_IDLE_NS);
    cr_expect_eq(which, 1);
    views[1].presence = AUTO_LEAVING;
    expect_stay_for(10 * LIMIT_AUTO_IDLE_NS);
    views[1].presence = AUTO_ABSENT;
    expect_stay_for(10 * LIMIT_AUTO_IDLE_NS);
}

/* It would be opened again at once: kept for the flow that comes next. */
Test(auto_connections, an_idle_one_is_kept_while_another_is_saturated) {
    open_one();
    expect_stay_for(10 * LIMIT_AUTO_IDLE_NS);
    views[0].saturated = false;
    expect_stay_for(LIMIT_AUTO_IDLE_NS);
    cr_expect_eq(step_after(TICK), AUTO_CLOSE);
}

/* A flow that came in the last moment forestalls the close. */
Test(auto_connections, a_close_that_came_to_nothing_is_not_repeated_at_once) {
    open_one();
    views[0] = (struct auto_view){.presence = AUTO_SERVING};
    step_after(TICK);
    cr_assert_eq(step_after(LIMIT_AUTO_IDLE_NS), AUTO_CLOSE);
    views[1].flows = 1;
    expect_stay_for(LIMIT_AUTO_IDLE_NS);
    views[1].flows = 0;
    expect_stay_for(LIMIT_AUTO_IDLE_NS);
    cr_expect_eq(step_after(TICK), AUTO_CLOSE);
}

Test(auto_connections, the_last_idle_one_goes_first_and_the_first_never) {
    for (unsigned i = 0; i < MAX; i++)
        views[i].presence = AUTO_SERVING;
    step_after(TICK);
    for (unsigned i = MAX - 1; i > 0; i--) {
        cr_assert_eq(step_after(i == MAX - 1 ? LIMIT_AUTO_IDLE_NS : TICK), AUTO_CLOSE);
        cr_expect_eq(which, i);
        views[i].presence = AUTO_ABSENT;
    }
    expect_stay_for(10 * LIMIT_AUTO_IDLE_NS);
}

/* ---- any life ---- */

static void random_view(uint64_t *state, struct auto_view *view) {
    view->saturated = random_chance(state, 2);
    view->flows = random_below(state, 3);
    view->bytes = random_below(state, 3) * (uint64_t)BULK;
    view->heaviest = view->bytes / (1 + random_below(state, 3));
    view->movable = random_chance(state, 2) ? view->bytes : 0;
}

static void settle(uint64_t *state, unsigned opening) {
    if (random_chance(state, 2)) {
        views[opening].presence = AUTO_SERVING;
        return auto_connections_opened(&connections, now_ns);
    }
    auto_connections_failed(&connections, now_ns, random_chance(state, 50));
}

static void check_step(enum auto_step step, unsigned opening, bool gave_up) {
    cr_assert(step == AUTO_STAY || (which < MAX && which > 0));
    if (step == AUTO_OPEN) {
        cr_assert_eq(opening, 0, "one at a time");
        cr_assert_not(gave_up);
        cr_assert_eq(views[which].presence, AUTO_ABSENT);
        for (unsigned i = 0; i < MAX; i++)
            cr_assert(views[i].presence == AUTO_ABSENT || (views[i].presence == AUTO_SERVING && views[i].saturated));
    }
    if (step != AUTO_CLOSE)
        return;
    cr_assert_eq(views[which].presence, AUTO_SERVING);
    cr_assert_eq(views[which].flows, 0);
    for (unsigned i = 0; i < MAX; i++)
        cr_assert(views[i].presence != AUTO_SERVING || !views[i].saturated);
}

static void live(uint64_t *state) {
    unsigned opening = 0;
    bool gave_up = false;
    begin(MAX);
    for (unsigned turn = 0; turn < 500; turn++) {
        bool calm = random_chance(state, 2);
        for (unsigned i = 0; i < MAX; i++) {
            random_view(state, &views[i]);
            if (calm)
                views[i].saturated = false, views[i].flows = 0;
            if (views[i].presence == AUTO_LEAVING && random_chance(state, 2))
                views[i].presence = AUTO_ABSENT;
        }
        gave_up = connections.gave_up;
        enum auto_step step = step_after(random_below(state, 1 << 20) * UINT64_C(16384));
        check_step(step, opening, gave_up);
        if (step == AUTO_OPEN)
            opening = which;
        if (step == AUTO_CLOSE && random_chance(state, 2))
            views[which].presence = AUTO_LEAVING;
        if (opening != 0 && random_chance(state, 3)) {
            settle(state, opening);
            opening = 0;
        }
    }
}

Test(auto_connections, any_life) {
    seed_each(300, live);
}
