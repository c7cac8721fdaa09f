#include "bench/histogram.h"
#include "seed.h"
#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define TOP_NS ((UINT64_C(1) << 42) - 1)
#define VALUES_MAX 2000u

static struct histogram histogram, other, sum;

static char *printed(const struct histogram *of, double unit_ns, unsigned ticks) {
    char *text = NULL;
    size_t len;
    FILE *out = open_memstream(&text, &len);
    histogram_print(of, out, unit_ns, ticks);
    fclose(out);
    return text;
}

Test(bench_histogram, empty) {
    histogram_clear(&histogram);
    uint32_t cursor = 0;
    uint64_t lowest, count;
    cr_assert(histogram.count == 0 && histogram.max_ns == 0 && histogram.min_ns == UINT64_MAX);
    cr_assert_eq(histogram_percentile(&histogram, 50), 0);
    cr_assert_eq(histogram_percentile(&histogram, 100), 0);
    cr_assert_eq(histogram_mean(&histogram), 0);
    cr_assert_not(histogram_next(&histogram, &cursor, &lowest, &count));
    histogram_record_many(&histogram, 5, 0);
    cr_assert(histogram.count == 0 && histogram.min_ns == UINT64_MAX, "no value is no value");
    char *text = printed(&histogram, 1, 5);
    cr_assert(strstr(text, "Total count    =            0]"));
    cr_assert_null(strstr(text, "nan"));
    free(text);
}

/* Around every power of two: what comes back is the value itself, and its bucket begins within 1/256 below. */
Test(bench_histogram, boundaries_of_buckets) {
    for (unsigned power = 0; power < 42; power++) {
        for (int off = -1; off <= 1; off++) {
            uint64_t value = (UINT64_C(1) << power) + (uint64_t)(int64_t)off, lowest, count;
            uint32_t cursor = 0;
            histogram_clear(&histogram);
            histogram_record(&histogram, value);
            cr_assert(histogram_next(&histogram, &cursor, &lowest, &count) && count == 1);
            cr_assert(lowest <= value && value - lowest <= value / 256, "%lu in the bucket of %lu", value, lowest);
            cr_assert_not(histogram_next(&histogram, &cursor, &lowest, &count));
            cr_assert_eq(histogram_percentile(&histogram, 0), value);
            cr_assert_eq(histogram_percentile(&histogram, 50), value);
            cr_assert_eq(histogram_percentile(&histogram, 100), value);
        }
    }
}

Test(bench_histogram, past_the_top_counts_as_the_top) {
    const uint64_t values[] = {TOP_NS, TOP_NS + 1, UINT64_MAX};
    histogram_clear(&histogram);
    for (size_t i = 0; i < 3; i++)
        histogram_record(&histogram, values[i]);
    cr_assert_eq(histogram.counts[HISTOGRAM_BUCKETS - 1], 3);
    cr_assert(histogram.min_ns == TOP_NS && histogram.max_ns == TOP_NS);
    cr_assert_eq(histogram_percentile(&histogram, 50), TOP_NS);
    cr_assert_eq(histogram_mean(&histogram), (double)TOP_NS);
}

/* Shared memory is all zeros before anybody clears it. */
Test(bench_histogram, all_zeros_is_empty_too) {
    memset(&histogram, 0, sizeof histogram);
    histogram_record(&histogram, 700);
    cr_assert_eq(histogram.min_ns, 700);
    memset(&sum, 0, sizeof sum);
    histogram_add(&sum, &histogram);
    cr_assert_eq(sum.min_ns, 700);
    memset(&other, 0, sizeof other);
    histogram_add(&sum, &other);
    cr_assert(sum.min_ns == 700 && sum.count == 1);
}

/* Ranks at which rounding is easily wrong: of a thousand values 99.9 % are 999. */
Test(bench_histogram, ranks) {
    histogram_clear(&histogram);
    for (uint64_t value = 1; value <= 100; value++)
        histogram_record_many(&histogram, value, 10);
    cr_assert_eq(histogram_percentile(&histogram, 1), 1);
    cr_assert_eq(histogram_percentile(&histogram, 1.01), 2);
    cr_assert_eq(histogram_percentile(&histogram, 50), 50);
    cr_assert_eq(histogram_percentile(&histogram, 99), 99);
    cr_assert_eq(histogram_percentile(&histogram, 99.1), 100);
    histogram_clear(&histogram);
    histogram_record_many(&histogram, 1, 999);
    histogram_record(&histogram, 200);
    cr_assert_eq(histogram_percentile(&histogram, 99.9), 1);
    cr_assert_eq(histogram_percentile(&histogram, 99.91), 200);
}

static int by_value(const void *left, const void *right) {
    uint64_t a = *(const uint64_t *)left, b = *(const uint64_t *)right;
    return (a > b) - (a < b);
}

static uint64_t random_value(uint64_t *state) {
    uint64_t wide = (uint64_t)random_u32(state) << 32 | random_u32(state);
    return wide >> (22 + random_below(state, 42));
}

static void check_percentiles(const uint64_t *sorted, uint32_t count, uint64_t *state) {
    for (int i = 0; i < 50; i++) {
        uint32_t rank = 1 + random_below(state, count);
        uint64_t exact = sorted[rank - 1];
        uint64_t told = histogram_percentile(&histogram, 100.0 * rank / count);
        cr_assert(told >= exact && told - exact <= exact / 256, "rank %u of %u: %lu told for %lu", rank, count, told,
                  exact);
    }
    cr_assert_eq(histogram_percentile(&histogram, 0), sorted[0]);
    cr_assert_eq(histogram_percentile(&histogram, 100), sorted[count - 1]);
}

/* Against all the values themselves; in two halves that are added up, and stored and restored. */
static void run_against_model(uint64_t *state) {
    static uint64_t values[VALUES_MAX];
    uint32_t count = 1 + random_below(state, VALUES_MAX);
    double total = 0;
    histogram_clear(&histogram);
    histogram_clear(&other);
    histogram_clear(&sum);
    for (uint32_t i = 0; i < count; i++) {
        values[i] = random_value(state);
        total += (double)values[i];
        histogram_record(&histogram, values[i]);
        histogram_record(random_chance(state, 2) ? &other : &sum, values[i]);
    }
    histogram_add(&sum, &other);
    cr_assert_eq(memcmp(sum.counts, histogram.counts, sizeof sum.counts), 0);
    cr_assert(sum.count == count && sum.min_ns == histogram.min_ns && sum.max_ns == histogram.max_ns);
    cr_assert(fabs(sum.sum_ns - total) <= total * 1e-9 && fabs(histogram_mean(&histogram) - total / count) < 1e-3);
    qsort(values, count, sizeof *values, by_value);
    cr_assert(histogram.min_ns == values[0] && histogram.max_ns == values[count - 1]);
    check_percentiles(values, count, state);

    uint64_t lowest, in_bucket, last = 0, seen = 0;
    histogram_clear(&other);
    for (uint32_t cursor = 0; histogram_next(&histogram, &cursor, &lowest, &in_bucket); last = lowest) {
        cr_assert(seen == 0 || lowest > last);
        seen += in_bucket;
        histogram_record_many(&other, lowest, in_bucket);
    }
    cr_assert_eq(seen, count);
    cr_assert_eq(memcmp(other.counts, histogram.counts, sizeof other.counts), 0);
}

Test(bench_histogram, random_values_against_a_model, .fini = seed_report) {
    seed_each(60, run_against_model);
}

Test(bench_histogram, prints_what_plotters_read) {
    histogram_clear(&histogram);
    for (uint64_t value = 1; value <= 4; value++)
        histogram_record(&histogram, value * 1000);
    char *text = printed(&histogram, 1e3, 1);
    /* 1000 lies in the bucket of 1000–1001, and so on; the highest is what was seen. */
    cr_assert_str_eq(text, "       Value     Percentile TotalCount 1/(1-Percentile)\n\n"
                           "       1.001 0.000000000000          1           1.00\n"
                           "       2.003 0.500000000000          2           2.00\n"
                           "       3.007 0.750000000000          3           4.00\n"
                           "       4.000 0.875000000000          4           8.00\n"
                           "       4.000 1.000000000000          4\n"
                           "#[Mean    =        2.500, StdDeviation   =        1.118]\n"
                           "#[Max     =        4.000, Total count    =            4]\n"
                           "#[Buckets =           35, SubBuckets     =          256]\n");
    free(text);
}

/* Values, percentiles and counts only grow, and each row says what histogram_percentile says. */
static void run_print(uint64_t *state) {
    uint32_t count = 1 + random_below(state, 100000), rows = 0;
    histogram_clear(&histogram);
    for (uint32_t i = 0; i < count; i += 100)
        histogram_record_many(&histogram, random_value(state), count - i < 100 ? count - i : 100);
    char *text = printed(&histogram, 1, 1 + random_below(state, 10)), *rest;
    double last_value = -1, last_level = -1, value = 0, level = 0;
    unsigned long total = 0;
    strtok_r(text, "\n", &rest);
    for (char *line; (line = strtok_r(NULL, "\n", &rest)) && *line != '#'; rows++) {
        cr_assert_geq(sscanf(line, "%lf %lf %lu", &value, &level, &total), 3);
        cr_assert(value >= last_value && level > last_level, "%s", line);
        cr_assert(total >= level * count * (1 - 1e-9) && total <= count, "%s", line);
        if (level > 0) /* less what printing may have rounded up */
            cr_assert_eq((uint64_t)value, histogram_percentile(&histogram, (level - 1e-12) * 100), "%s", line);
        last_value = value;
        last_level = level;
    }
    cr_assert(level == 1 && total == count && value == (double)histogram.max_ns && rows >= 2);
    free(text);
}

Test(bench_histogram, rows_agree_with_percentiles, .fini = seed_report) {
    seed_each(30, run_print);
}
