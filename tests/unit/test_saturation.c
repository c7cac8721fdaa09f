#include "engine/limits.h"
#include "ssh/saturation.h"
#include <criterion/criterion.h>

#define WINDOW LIMIT_SATURATION_WINDOW_NS

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

Test(saturation, the_first_sample_says_nothing) {
    cr_expect_not(saturation.saturated);
    cr_expect_eq(saturation.percent, 0);
}

Test(saturation, one_busy_window_is_not_enough) {
    for (unsigned i = 1; i < LIMIT_SATURATED_WINDOWS; i++)
        cr_expect_not(after_window(100));
    cr_expect(after_window(100));
    cr_expect_eq(saturation.percent, 100);
}

Test(saturation, busy_windows_count_in_a_row_only) {
    for (unsigned i = 0; i < 20; i++) {
        for (unsigned busy = 1; busy < LIMIT_SATURATED_WINDOWS; busy++)
            cr_expect_not(after_window(100));
        cr_expect_not(after_window(LIMIT_SATURATED_PERCENT - 1));
    }
}

Test(saturation, the_threshold_itself_counts) {
    for (unsigned i = 1; i < LIMIT_SATURATED_WINDOWS; i++)
        after_window(LIMIT_SATURATED_PERCENT);
    cr_expect(after_window(LIMIT_SATURATED_PERCENT));
}

/* What is a little less busy stays saturated, so that flows don't go to and fro. */
Test(saturation, it_ends_well_below_where_it_began) {
    for (unsigned i = 0; i < LIMIT_SATURATED_WINDOWS; i++)
        after_window(100);
    for (unsigned i = 0; i < 20; i++)
        cr_expect(after_window(LIMIT_UNSATURATED_PERCENT));
    cr_expect_not(after_window(LIMIT_UNSATURATED_PERCENT - 1));
    cr_expect_not(after_window(LIMIT_UNSATURATED_PERCENT));
}

Test(saturation, samples_too_close_to_each_other_are_passed_over) {
    uint64_t before_ns = now_ns;
    for (unsigned i = 0; i < 10 * LIMIT_SATURATED_WINDOWS; i++)
        saturation_sample(&saturation, before_ns + WINDOW / 2 - 1, busy_ns + WINDOW);
    cr_expect_not(saturation.saturated);
    cr_expect_eq(saturation.percent, 0);
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
    after_window(50);
    cr_expect_eq(saturation.percent, 50);
}
