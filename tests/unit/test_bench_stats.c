#include "bench/stats.h"
#include "seed.h"
#include <criterion/criterion.h>
#include <float.h>
#include <math.h>
#include <string.h>

static bool is_near(double a, double b) {
    return fabs(a - b) <= 1e-9 * fmax(fabs(a), fabs(b));
}

Test(bench_stats, summary_of_few) {
    struct stats_summary summary;
    const double one[] = {7}, two[] = {4, 2}, five[] = {5, 1, 4, 2, 3};
    double kept[5];
    memcpy(kept, five, sizeof kept);
    stats_summarise(one, 1, &summary);
    cr_assert(summary.count == 1 && summary.median == 7 && summary.min == 7 && summary.max == 7 &&
              summary.low_quartile == 7 && summary.high_quartile == 7);
    stats_summarise(two, 2, &summary);
    cr_assert(summary.median == 3 && summary.min == 2 && summary.max == 4 && summary.low_quartile == 2.5 &&
              summary.high_quartile == 3.5);
    stats_summarise(five, 5, &summary);
    cr_assert(summary.median == 3 && summary.min == 1 && summary.max == 5 && summary.low_quartile == 2 &&
              summary.high_quartile == 4);
    cr_assert_eq(memcmp(kept, five, sizeof kept), 0);
    cr_assert_eq(stats_median(two, 2), 3);
}

/* Half of the values lie on either side, whatever the order. */
static void run_summary(uint64_t *state) {
    double values[64];
    size_t count = 1 + random_below(state, 64), below = 0, above = 0, low = 0, high = 0;
    for (size_t i = 0; i < count; i++)
        values[i] = (double)random_below(state, 100) - 50;
    struct stats_summary summary;
    stats_summarise(values, count, &summary);
    for (size_t i = 0; i < count; i++) {
        below += values[i] < summary.median;
        above += values[i] > summary.median;
        low += values[i] < summary.low_quartile;
        high += values[i] > summary.high_quartile;
        cr_assert(values[i] >= summary.min && values[i] <= summary.max);
    }
    cr_assert(below * 2 <= count && above * 2 <= count);
    cr_assert(low * 4 <= count + 3 && high * 4 <= count + 3);
    cr_assert(summary.low_quartile <= summary.median && summary.median <= summary.high_quartile);
}

Test(bench_stats, random_summaries, .fini = seed_report) {
    seed_each(500, run_summary);
}

Test(bench_stats, ratio_of_what_does_not_vary) {
    const double a[] = {6, 6, 6}, b[] = {3, 3, 3, 3};
    struct stats_interval ratio;
    cr_assert(stats_ratio(a, 3, b, 4, true, &ratio));
    cr_assert(ratio.middle == 2 && ratio.low == 2 && ratio.high == 2);
    cr_assert(stats_ratio(a, 1, b, 1, false, &ratio));
    cr_assert(ratio.middle == 2 && ratio.low == 2 && ratio.high == 2);
}

Test(bench_stats, ratio_that_there_is_not) {
    const double a[] = {1, 2, 3}, zeros[] = {0, 0, 0}, some_zeros[] = {0, 0, 1, 1, 1}, negative[] = {-1, -1, -1},
                 tiny[] = {DBL_MIN, DBL_MIN, DBL_MIN}, huge[] = {DBL_MAX, DBL_MAX, DBL_MAX};
    struct stats_interval ratio;
    cr_assert_not(stats_ratio(a, 0, a, 3, true, &ratio));
    cr_assert_not(stats_ratio(a, 3, a, 0, true, &ratio));
    cr_assert_not(stats_ratio(a, 3, zeros, 3, true, &ratio));
    cr_assert_not(stats_ratio(a, 3, some_zeros, 5, false, &ratio), "some draws have a median of zero");
    cr_assert_not(stats_ratio(a, 3, negative, 3, true, &ratio));
    cr_assert_not(stats_ratio(huge, 3, tiny, 3, true, &ratio), "no finite ratio");
    cr_assert(stats_ratio(zeros, 3, a, 3, true, &ratio));
    cr_assert(ratio.middle == 0 && ratio.low == 0 && ratio.high == 0);
}

/* A machine that is slow in some rounds is slow for both: pairs show that the ratio does not vary at all. */
Test(bench_stats, pairs_take_out_what_both_suffer) {
    const double b[] = {100, 50, 80, 120, 60, 90, 110}, a[] = {200, 100, 160, 240, 120, 180, 220};
    struct stats_interval paired, unpaired;
    cr_assert(stats_ratio(a, 7, b, 7, true, &paired));
    cr_assert(paired.low == 2 && paired.high == 2);
    cr_assert(stats_ratio(a, 7, b, 7, false, &unpaired));
    cr_assert(unpaired.middle == 2 && unpaired.low < 1.7 && unpaired.high > 2.3);
    cr_assert(stats_ratio(a, 7, b, 6, true, &paired), "other counts: no pairs");
    cr_assert(paired.low < paired.high);
}

Test(bench_stats, same_values_same_interval) {
    const double a[] = {3, 1, 4, 1, 5, 9, 2, 6}, b[] = {2, 7, 1, 8, 2, 8}, sorted_a[] = {1, 1, 2, 3, 4, 5, 6, 9},
                 sorted_b[] = {1, 2, 2, 7, 8, 8};
    struct stats_interval first, again, sorted;
    cr_assert(stats_ratio(a, 8, b, 6, false, &first) && stats_ratio(a, 8, b, 6, false, &again));
    cr_assert(stats_ratio(sorted_a, 8, sorted_b, 6, false, &sorted));
    cr_assert_eq(memcmp(&first, &again, sizeof first), 0);
    cr_assert_eq(memcmp(&first, &sorted, sizeof first), 0);
    cr_assert(first.low < first.middle && first.middle < first.high);
}

/* Nearly the noise of a normal distribution, around 1. */
static double noisy(uint64_t *state) {
    double noise = 0;
    for (int i = 0; i < 12; i++)
        noise += (double)random_u32(state) / UINT32_MAX - 0.5;
    return 1 + noise * 0.05;
}

/* Of many experiments with a known ratio, the interval holds it about as often as it says. */
Test(bench_stats, interval_covers_the_truth) {
    uint64_t state = 20240607;
    unsigned covered = 0, experiments = 150;
    double width = 0;
    for (unsigned i = 0; i < experiments; i++) {
        double a[9], b[9];
        struct stats_interval ratio;
        for (size_t k = 0; k < 9; k++) {
            a[k] = 3 * noisy(&state);
            b[k] = noisy(&state);
        }
        cr_assert(stats_ratio(a, 9, b, 9, i % 2, &ratio));
        cr_assert(ratio.low <= ratio.middle && ratio.middle <= ratio.high);
        covered += ratio.low <= 3 && ratio.high >= 3;
        width += (ratio.high - ratio.low) / experiments;
    }
    cr_assert(covered >= experiments * 88 / 100, "%u of %u", covered, experiments);
    cr_assert(width > 0.1 && width < 0.5, "as wide as the noise makes it: %g", width);
}

Test(bench_stats, jain) {
    const double equal[] = {5, 5, 5, 5}, one[] = {0, 8, 0, 0}, zeros[] = {0, 0}, halves[] = {1, 1, 0, 0},
                 huge[] = {DBL_MAX, DBL_MAX}, single[] = {3};
    cr_assert(is_near(stats_jain(equal, 4), 1));
    cr_assert(is_near(stats_jain(one, 4), 0.25));
    cr_assert(is_near(stats_jain(halves, 4), 0.5));
    cr_assert(is_near(stats_jain(huge, 2), 1));
    cr_assert(is_near(stats_jain(single, 1), 1));
    cr_assert_eq(stats_jain(zeros, 2), 0);
    cr_assert_eq(stats_jain(NULL, 0), 0);
}
