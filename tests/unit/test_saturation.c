#include "ssh/saturation.h"
#include <criterion/criterion.h>
#include <inttypes.h>

#define WINDOW LIMIT_SATURATION_WINDOW_NS
#define SAMPLES LIMIT_SATURATION_SAMPLES

static struct saturation saturation;
static uint64_t now_ns, busy_ns;

static void setup(void) {
    saturation = (struct saturation){0};
    now_ns = 1234567890;
    busy_ns = 42000;
    saturation_sample(&saturation, now_ns, busy_ns);
}
TestSuite(saturation, .init = setup);

static bool after_window(uint64_t percent) {
    now_ns += WINDOW;
    busy_ns += WINDOW * percent / 100;
    saturation_sample(&saturation, now_ns, busy_ns);
    return saturation.saturated;
}

static bool after_windows(unsigned count, uint64_t percent) {
    while (count-- > 0)
        after_window(percent);
    return saturation.saturated;
}

Test(saturation, the_first_sample_says_nothing) {
    cr_expect_not(saturation.saturated);
    cr_expect_eq(saturation.percent, 0);
}

Test(saturation, it_takes_all_windows) {
    cr_expect_not(after_windows(SAMPLES - 1, 100));
    cr_expect(after_window(100));
    cr_expect_eq(saturation.percent, 100);
}

Test(saturation, the_threshold_itself_counts) {
    cr_expect_not(after_windows(2 * SAMPLES, LIMIT_SATURATED_PERCENT - 1));
    cr_expect(after_windows(SAMPLES, LIMIT_SATURATED_PERCENT));
    cr_expect_eq(saturation.percent, LIMIT_SATURATED_PERCENT);
}

/* What is a little less busy stays saturated, so that flows don't go to and fro. */
Test(saturation, it_ends_well_below_where_it_began) {
    after_windows(SAMPLES, 100);
    cr_expect(after_windows(20, LIMIT_UNSATURATED_PERCENT));
    cr_expect_not(after_windows(SAMPLES, LIMIT_UNSATURATED_PERCENT - 1));
    cr_expect_not(after_windows(20, LIMIT_SATURATED_PERCENT - 1));
}

/* Whatever was before the last windows is forgotten. */
Test(saturation, only_the_last_windows_count) {
    after_windows(100, 0);
    cr_expect(after_windows(SAMPLES, 100));
    after_windows(100, 100);
    cr_expect_not(after_windows(SAMPLES, 0));
    cr_expect_eq(saturation.percent, 0);
}

/* A thread that waits for a processor for longer than a window is accounted for in lumps. */
Test(saturation, lumps) {
    for (unsigned i = 0; i < SAMPLES; i++)
        after_window(i % 2 ? 200 : 0);
    for (unsigned i = 0; i < 100; i++)
        cr_expect(after_window(i % 2 ? 200 : 0), "%u", i);
}

Test(saturation, samples_too_close_to_each_other_are_passed_over) {
    uint64_t before_ns = now_ns;
    for (unsigned i = 0; i < 10 * SAMPLES; i++)
        saturation_sample(&saturation, before_ns + WINDOW / 2 - 1, busy_ns + WINDOW);
    cr_expect_not(saturation.saturated);
    cr_expect_eq(saturation.percent, 0);
}

Test(saturation, idle_is_who_was_so_in_each_window) {
    cr_expect_not(saturation_is_idle(&saturation));
    after_windows(LIMIT_IDLE_WINDOWS - 1, LIMIT_IDLE_PERCENT - 1);
    cr_expect_not(saturation_is_idle(&saturation));
    after_window(0);
    cr_expect(saturation_is_idle(&saturation));
    after_window(LIMIT_IDLE_PERCENT);
    cr_expect_not(saturation_is_idle(&saturation), "busy just now");
    after_windows(LIMIT_IDLE_WINDOWS - 1, 0);
    cr_expect_not(saturation_is_idle(&saturation), "busy a moment ago");
    after_window(0);
    cr_expect(saturation_is_idle(&saturation));
}

/* How long a thread has been busy, which was idle before, when that is seen by who looks rarely at one that is idle.
 * The looks do not know when it begins. */
static uint64_t saturated_after_ns(uint64_t idle_ns) {
    uint64_t begun_ns;
    setup();
    after_windows(LIMIT_IDLE_WINDOWS, 0);
    begun_ns = now_ns + idle_ns;
    while (!saturation.saturated) {
        now_ns += saturation_is_idle(&saturation) ? LIMIT_SATURATION_QUIET_NS : WINDOW;
        saturation_sample(&saturation, now_ns, busy_ns + (now_ns > begun_ns ? now_ns - begun_ns : 0));
    }
    return now_ns - begun_ns;
}

Test(saturation, who_was_idle_is_seen_soon) {
    for (uint64_t idle_ns = 0; idle_ns < 4 * LIMIT_SATURATION_QUIET_NS; idle_ns += WINDOW / 50)
        cr_expect_leq(saturated_after_ns(idle_ns), SAMPLES * WINDOW + LIMIT_SATURATION_QUIET_NS, "%" PRIu64, idle_ns);
}

/* The main thread may come late: the share is that of the time which has really passed. */
Test(saturation, long_windows) {
    now_ns += 100 * WINDOW;
    busy_ns += 50 * WINDOW;
    saturation_sample(&saturation, now_ns, busy_ns);
    cr_expect_eq(saturation.percent, 50);
}

Test(saturation, accounts_that_run_ahead_or_go_back) {
    after_window(130);
    cr_expect_eq(saturation.percent, 100);
    now_ns += WINDOW;
    saturation_sample(&saturation, now_ns, 0);
    cr_expect_eq(saturation.percent, 0);
    busy_ns = 0;
    after_windows(SAMPLES, 50);
    cr_expect_eq(saturation.percent, 50);
}
