#include "bench_results_fixture.h"

static char *output;

/* Compares and keeps what was printed. */
static unsigned compare(const struct results *old, const struct results *new) {
    size_t len;
    free(output);
    output = NULL;
    FILE *out = open_memstream(&output, &len);
    unsigned regressions = compare_results(old, new, 0.05, out);
    fclose(out);
    return regressions;
}

static void drop_output(void) {
    free(output);
    output = NULL;
    seed_report();
}

TestSuite(bench_compare, .fini = drop_output);

static void add(struct results *results, const char *scenario, const char *metric, enum results_better better,
                const char *peer, const double *values, size_t count) {
    struct results_scenario *to = results_scenario(results, scenario, scenario, "g", NULL);
    for (size_t i = 0; i < count; i++)
        results_value(to, metric, "u", better, true, peer, values[i]);
}

struct both {
    struct results *old, *new;
};

static struct both both_new(void) {
    return (struct both){results_new(), results_new()};
}

static void both_free(struct both *both) {
    results_free(both->old);
    results_free(both->new);
}

/* One metric with these values in both files. */
static unsigned compare_values(enum results_better better, const double *old, size_t old_count, const double *new,
                               size_t new_count) {
    struct both both = both_new();
    add(both.old, "s", "m", better, "x", old, old_count);
    add(both.new, "s", "m", better, "x", new, new_count);
    unsigned regressions = compare(both.old, both.new);
    both_free(&both);
    return regressions;
}

Test(bench_compare, only_beyond_noise_and_tolerance) {
    const double before[] = {100, 101, 99, 100, 100}, slower[] = {90, 91, 89, 90, 90},
                 within[] = {96, 97, 95.5, 96, 96}, wild[] = {60, 130, 80, 100, 70},
                 faster[] = {120, 121, 119, 120, 120};
    cr_assert_eq(compare_values(RESULTS_HIGHER, before, 5, slower, 5), 1);
    cr_assert(strstr(output, "REGRESSION  s, x, m: 100 → 90 u, 0.90× (0.8"), "%s", output);
    cr_assert(strstr(output, "1 regression, 0 better, 0 unchanged within noise and 5 %"), "%s", output);
    cr_assert_eq(compare_values(RESULTS_LOWER, before, 5, slower, 5), 0);
    cr_assert(strstr(output, "better      s, x, m: 100 → 90 u"), "%s", output);
    cr_assert_eq(compare_values(RESULTS_LOWER, before, 5, faster, 5), 1);
    cr_assert_eq(compare_values(RESULTS_HIGHER, before, 5, faster, 5), 0);
    cr_assert(strstr(output, "0 regressions, 1 better"), "%s", output);
    cr_assert_eq(compare_values(RESULTS_HIGHER, before, 5, within, 5), 0, "beyond noise, but within the tolerance");
    cr_assert_str_eq(output, "0 regressions, 0 better, 1 unchanged within noise and 5 %\n");
    cr_assert_eq(compare_values(RESULTS_HIGHER, before, 5, wild, 5), 0, "beyond the tolerance, but within noise");
    cr_assert_str_eq(output, "0 regressions, 0 better, 1 unchanged within noise and 5 %\n");
    cr_assert_eq(compare_values(RESULTS_INFORMATION, before, 5, slower, 5), 0);
    cr_assert_str_eq(output, "0 regressions, 0 better, 0 unchanged within noise and 5 %\n");
}

/* The whole interval has to lie beyond, not its middle, and exactly at the tolerance is within. */
Test(bench_compare, bounds) {
    const double before[] = {100, 100, 100}, at[] = {95, 95, 95}, beyond[] = {94.9, 94.9, 94.9},
                 partly[] = {90, 90, 90, 90, 96};
    cr_assert_eq(compare_values(RESULTS_HIGHER, before, 3, at, 3), 0);
    cr_assert_eq(compare_values(RESULTS_HIGHER, before, 3, beyond, 3), 1);
    cr_assert_eq(compare_values(RESULTS_HIGHER, before, 3, partly, 5), 0);
}

/* Rounds of different runs have nothing to do with one another: as pairs these would be exactly 0.9. */
Test(bench_compare, rounds_are_not_paired) {
    const double before[] = {100, 50, 80, 120, 60}, after[] = {90, 45, 72, 108, 54};
    cr_assert_eq(compare_values(RESULTS_HIGHER, before, 5, after, 5), 0);
}

Test(bench_compare, too_few_rounds_are_no_evidence) {
    const double before[] = {100, 100, 100}, after[] = {10, 10, 10};
    for (size_t few = 1; few < 3; few++) {
        cr_assert_eq(compare_values(RESULTS_HIGHER, before, 3, after, few), 0);
        cr_assert_eq(compare_values(RESULTS_HIGHER, before, few, after, 3), 0);
        cr_assert_str_eq(output, "0 regressions, 0 better, 0 unchanged within noise and 5 %; 1 not compared, as they "
                                 "have fewer than 3 rounds\n");
    }
    cr_assert_eq(compare_values(RESULTS_HIGHER, before, 3, after, 3), 1);
}

Test(bench_compare, zero) {
    const double zeros[] = {0, 0, 0}, some[] = {3, 3, 3};
    cr_assert_eq(compare_values(RESULTS_LOWER, zeros, 3, zeros, 3), 0);
    cr_assert_str_eq(output, "0 regressions, 0 better, 1 unchanged within noise and 5 %\n");
    cr_assert_eq(compare_values(RESULTS_LOWER, zeros, 3, some, 3), 0);
    cr_assert(strstr(output, "unclear     s, x, m: 0.00 → 3.00 u, no ratio to zero\n"), "%s", output);
    cr_assert_eq(compare_values(RESULTS_HIGHER, some, 3, zeros, 3), 1);
    cr_assert(strstr(output, "s, x, m: 3.00 → 0.00 u, 0.000×"), "%s", output);
}

Test(bench_compare, says_what_only_one_has) {
    const double value[] = {1, 1, 1};
    struct both both = both_new();
    add(both.old, "s", "m", RESULTS_LOWER, "x", value, 3);
    add(both.new, "s", "m", RESULTS_LOWER, "x", value, 3);
    add(both.old, "s", "m", RESULTS_LOWER, "gone", value, 3);
    add(both.old, "s", "n", RESULTS_LOWER, "gone", value, 3);
    add(both.old, "s", "n", RESULTS_LOWER, "x", value, 3);
    add(both.new, "s", "new", RESULTS_LOWER, "x", value, 3);
    add(both.old, "old only", "m", RESULTS_LOWER, "x", value, 3);
    add(both.new, "t", "m", RESULTS_LOWER, "x", value, 3);
    add(both.new, "t", "m", RESULTS_LOWER, "y", value, 3);
    add(both.old, "t", "m", RESULTS_LOWER, "x", value, 3);
    add(both.old, "s", "m", RESULTS_LOWER, "y", value, 3);
    add(both.old, "s", "n", RESULTS_LOWER, "y", value, 3);
    results_fail(both.new->scenarios[0], "y, round 1: broken");
    cr_assert_eq(compare(both.old, both.new), 3);
    cr_assert_str_eq(output, "REGRESSION  only in the old file: peer gone\n"
                             "REGRESSION  only in the old file: s, y: failed: y, round 1: broken\n"
                             "only in the old file: s, x, n\n"
                             "REGRESSION  only in the old file: old only\n"
                             "only in the new file: s, x, new\n"
                             "only in the new file: t, y\n"
                             "failures in the new file: 1\n"
                             "3 regressions, 0 better, 2 unchanged within noise and 5 %\n");
    both_free(&both);
}

/* A round of it has gone wrong, the others are as they were. */
Test(bench_compare, who_has_begun_to_fail_is_a_regression) {
    const double value[] = {1, 1, 1};
    struct both both = both_new();
    for (int i = 0; i < 2; i++) {
        const char *metric = i == 0 ? "m" : "n";
        add(both.old, "s", metric, RESULTS_LOWER, "x", value, 3);
        add(both.old, "s", metric, RESULTS_LOWER, "x,epoll", value, 3);
        add(both.new, "s", metric, RESULTS_LOWER, "x", value, 3);
        add(both.new, "s", metric, RESULTS_LOWER, "x,epoll", value, 3);
    }
    results_fail(both.new->scenarios[0], "x,epoll, round 2: wrong content");
    results_fail(both.new->scenarios[0], "x,epoll, round 3: wrong content");
    cr_assert_eq(compare(both.old, both.new), 1, "%s", output);
    cr_assert_str_eq(output,
                     "REGRESSION  s: worked in the old file, failed in the new one: x,epoll, round 2: wrong content\n"
                     "failures in the new file: 2\n"
                     "1 regression, 0 better, 4 unchanged within noise and 5 %\n");
    cr_assert_eq(compare(both.new, both.old), 0, "who works again is none");
    results_fail(both.old->scenarios[0], "x,epoll, warm-up: wrong content");
    cr_assert_eq(compare(both.old, both.new), 0, "nor is who has never worked");
    both_free(&both);
}

/* Nobody misses what did not work. */
Test(bench_compare, what_had_failed_is_no_loss) {
    const double value[] = {1, 1, 1};
    struct both both = both_new();
    add(both.old, "s", "m", RESULTS_LOWER, "x", value, 3);
    add(both.new, "s", "m", RESULTS_LOWER, "x", value, 3);
    add(both.old, "s", "m", RESULTS_LOWER, "y", value, 3);
    add(both.new, "t", "m", RESULTS_LOWER, "y", value, 3);
    add(both.old, "s", "m", RESULTS_LOWER, "gone", value, 3);
    add(both.old, "old only", "m", RESULTS_LOWER, "x", value, 3);
    results_fail(both.old->scenarios[0], "y, round 1: broken");
    results_fail(both.old->scenarios[0], "gone: not started: broken");
    results_fail(both.old->scenarios[1], "x, round 1: broken");
    cr_assert_eq(compare(both.old, both.new), 0);
    cr_assert(
        strstr(output, "only in the old file: peer gone\nonly in the old file: s, y\nonly in the old file: old only\n"),
        "%s", output);
    both_free(&both);
}

Test(bench_compare, a_metric_that_means_something_else_is_not_compared) {
    const double before[] = {100, 100, 100}, after[] = {10, 10, 10};
    struct both both = both_new();
    add(both.old, "s", "m", RESULTS_HIGHER, "x", before, 3);
    add(both.new, "s", "m", RESULTS_LOWER, "x", after, 3);
    cr_assert_eq(compare(both.old, both.new), 0);
    cr_assert(strstr(output, "not compared: s, m: it is not the same metric in both files"), "%s", output);
    both_free(&both);
}

Test(bench_compare, says_what_differs_between_machines_and_settings) {
    struct both both = both_new();
    json_decref(both.old->machine);
    json_decref(both.new->machine);
    both.old->machine = json_pack("{s:s, s:s, s:{s:i, s:s}, s:n}", "kernel", "6.1", "time", "then", "sysctls", "a", 1,
                                  "b", "x", "governor");
    both.new->machine =
        json_pack("{s:s, s:s, s:{s:i, s:s}, s:s}", "kernel", "6.18", "time", "now", "sysctls", "a", 2, "b", "x",
                  "governor\x1b"
                  "[2J",
                  "performance");
    json_object_set_new(both.new->machine, "governor", json_string("performance"));
    json_object_set_new(both.old->settings, "rounds", json_integer(5));
    json_object_set_new(both.old->settings, "started", json_string("yesterday"));
    json_t *parameters = json_pack("{s:f}", "seconds", 1.0);
    results_scenario(both.old, "s", "s", "g", parameters);
    json_object_set_new(parameters, "seconds", json_real(2));
    results_scenario(both.new, "s", "s", "g", parameters);
    json_decref(parameters);
    compare(both.old, both.new);
    cr_assert(strstr(output, "machine differs: kernel: \"6.1\" → \"6.18\"\n"), "%s", output);
    cr_assert(strstr(output, "machine differs: sysctls.a: 1 → 2\n"), "%s", output);
    cr_assert(strstr(output, "machine differs: governor: null → \"performance\"\n"), "%s", output);
    cr_assert(strstr(output, "machine differs: governor?[2J: (none) → \"performance\"\n"), "%s", output);
    cr_assert(strstr(output, "setting differs: rounds: 5 → (none)\n"), "%s", output);
    cr_assert(strstr(output, "s differs: seconds: 1.0 → 2.0\n"), "%s", output);
    cr_assert_null(strstr(output, "time"));
    cr_assert_null(strstr(output, "yesterday"));
    both_free(&both);
}

Test(bench_compare, deep_and_long_values) {
    struct both both = both_new();
    json_t *deep = json_integer(1);
    for (int i = 0; i < 1000; i++)
        deep = json_pack("{s:o}", "k", deep);
    json_object_set_new(both.old->machine, "deep", deep);
    json_object_set_new(both.new->machine, "deep", json_pack("{s:{s:{s:{s:{}}}}}", "k", "k", "k", "k"));
    compare(both.old, both.new);
    char *end = strchr(output, '\n');
    cr_assert(end && end - output < 200, "%s", output);
    cr_assert(strstr(output, "deep.k.k.k: {\"k\":{\"k\""), "%s", output);
    cr_assert(strstr(output, "… → {\"k\":{}}\n"), "%s", output);
    both_free(&both);
}

/* Nothing has changed, whatever it is; and what one way round is worse is better the other. */
static void run_random(uint64_t *state) {
    struct results *results = random_results(state);
    cr_assert_eq(compare(results, results), 0);
    cr_assert(strncmp(output, "0 regressions, 0 better", 23) == 0 || strncmp(output, "unclear", 7) == 0 ||
                  strncmp(output, "failures", 8) == 0,
              "%s", output);
    results_free(results);
}

Test(bench_compare, nothing_has_changed) {
    seed_each(15, run_random);
}

static void run_both_ways(uint64_t *state) {
    double a[7], b[7];
    double factor = 0.5 + (double)random_below(state, 100) / 100;
    for (int i = 0; i < 7; i++) {
        a[i] = 100 + random_below(state, 20);
        b[i] = factor * (100 + random_below(state, 20));
    }
    unsigned higher = compare_values(RESULTS_HIGHER, a, 7, b, 7);
    bool is_better = strstr(output, ", 1 better,");
    unsigned lower = compare_values(RESULTS_LOWER, a, 7, b, 7);
    cr_assert_eq(higher, strstr(output, ", 1 better,") ? 1u : 0u);
    cr_assert_eq(lower, is_better ? 1u : 0u);
    cr_assert(factor > 0.75 || higher == 1, "%g", factor);
    cr_assert(factor < 1.3 || lower == 1, "%g", factor);
}

Test(bench_compare, higher_and_lower_are_opposites) {
    seed_each(40, run_both_ways);
}
