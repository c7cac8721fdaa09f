#include "bench/compare_json.h"
#include "bench/results.h"
#include "bench/text.h"
#include <math.h>
#include <string.h>

/* With fewer rounds on either side the interval says nothing: a single pair always differs. */
#define ROUNDS_MIN 3u

struct comparison {
    FILE *out;
    double tolerance;
    unsigned regressions, improvements, unchanged, too_few;
};

/* What two series of one peer and metric have in common. */
struct pair {
    const struct results_scenario *scenario;
    const struct results_metric *metric;
    const struct results_series *old, *new;
};

enum verdict { SAME, WORSE, BETTER };

static enum verdict judge(enum results_better better, const struct stats_interval *ratio, double tolerance) {
    bool is_higher = ratio->low > 1 + tolerance, is_lower = ratio->high < 1 - tolerance;
    if (!is_higher && !is_lower)
        return SAME;
    return is_higher == (better == RESULTS_HIGHER) ? BETTER : WORSE;
}

static void print_pair(FILE *out, const char *verdict, const struct pair *pair) {
    double old = stats_median(pair->old->values, pair->old->count);
    double new = stats_median(pair->new->values, pair->new->count);
    double scale = fmax(fabs(old), fabs(new));
    char old_text[32], new_text[32];
    text_number(old_text, sizeof old_text, old, scale);
    text_number(new_text, sizeof new_text, new, scale);
    fprintf(out, "%-10s  %s, %s, %s: %s → %s %s", verdict, pair->scenario->name, pair->old->peer, pair->metric->name,
            old_text, new_text, pair->metric->unit);
}

static void print_change(struct comparison *comparison, enum verdict verdict, const struct pair *pair,
                         const struct stats_interval *ratio) {
    char middle[24], low[24], high[24];
    text_ratio(middle, sizeof middle, ratio->middle);
    text_ratio(low, sizeof low, ratio->low);
    text_ratio(high, sizeof high, ratio->high);
    print_pair(comparison->out, verdict == WORSE ? "REGRESSION" : "better", pair);
    fprintf(comparison->out, ", %s× (%s–%s)\n", middle, low, high);
}

static bool is_all_zero(const struct results_series *series) {
    for (size_t i = 0; i < series->count; i++) {
        if (series->values[i] != 0)
            return false;
    }
    return true;
}

static void compare_pair(struct comparison *comparison, const struct pair *pair) {
    struct stats_interval ratio;
    if (pair->old->count < ROUNDS_MIN || pair->new->count < ROUNDS_MIN) {
        comparison->too_few++;
        return;
    }
    if (is_all_zero(pair->old) && is_all_zero(pair->new)) {
        comparison->unchanged++;
        return;
    }
    if (!stats_ratio(pair->new->values, pair->new->count, pair->old->values, pair->old->count, false, &ratio)) {
        print_pair(comparison->out, "unclear", pair);
        fputs(", no ratio to zero\n", comparison->out);
        return;
    }
    enum verdict verdict = judge(pair->metric->better, &ratio, comparison->tolerance);
    comparison->regressions += verdict == WORSE;
    comparison->improvements += verdict == BETTER;
    comparison->unchanged += verdict == SAME;
    if (verdict != SAME)
        print_change(comparison, verdict, pair, &ratio);
}

static void compare_metrics(struct comparison *comparison, const struct results_scenario *scenario,
                            const struct results_metric *old, const struct results_metric *new) {
    if (old->better == RESULTS_INFORMATION && new->better == RESULTS_INFORMATION)
        return;
    if (strcmp(old->unit, new->unit) != 0 || old->better != new->better) {
        fprintf(comparison->out, "not compared: %s, %s: it is not the same metric in both files (%s, %s)\n",
                scenario->name, old->name, old->unit, new->unit);
        return;
    }
    for (size_t i = 0; i < old->count; i++) {
        struct pair pair = {.scenario = scenario, .metric = new, .old = &old->series[i]};
        pair.new = results_find_series(new, pair.old->peer);
        if (pair.new)
            compare_pair(comparison, &pair);
    }
}

static const struct results_scenario *find_scenario(const struct results *results, const char *name) {
    for (size_t i = 0; i < results->scenario_count; i++) {
        if (strcmp(results->scenarios[i]->name, name) == 0)
            return results->scenarios[i];
    }
    return NULL;
}

static void compare_all(struct comparison *comparison, const struct results *old, const struct results *new) {
    for (size_t i = 0; i < old->scenario_count; i++) {
        const struct results_scenario *before = old->scenarios[i], *after = find_scenario(new, before->name);
        for (size_t m = 0; after && m < before->metric_count; m++) {
            const struct results_metric *metric = results_find_metric(after, before->metrics[m].name);
            if (metric)
                compare_metrics(comparison, before, &before->metrics[m], metric);
        }
    }
}

static bool scenario_has(const struct results_scenario *scenario, size_t metrics, const char *peer) {
    for (size_t m = 0; m < metrics; m++) {
        if (results_find_series(&scenario->metrics[m], peer))
            return true;
    }
    return false;
}

static bool results_have(const struct results *results, size_t scenarios, const char *peer) {
    for (size_t i = 0; i < scenarios; i++) {
        if (scenario_has(results->scenarios[i], results->scenarios[i]->metric_count, peer))
            return true;
    }
    return false;
}

/* The first failure of this peer, which stands at its beginning: "PEER, round 2: …", "PEER: not started: …". */
static const char *failure_of(const struct results_scenario *scenario, const char *peer) {
    size_t len = strlen(peer);
    for (size_t i = 0; i < scenario->failure_count; i++) {
        const char *failure = scenario->failures[i];
        if (strncmp(failure, peer, len) == 0 && (failure[len] == ',' || failure[len] == ':') && failure[len + 1] == ' ')
            return failure;
    }
    return NULL;
}

static bool worked(const struct results_scenario *scenario, const char *peer) {
    return scenario_has(scenario, scenario->metric_count, peer) && failure_of(scenario, peer) == NULL;
}

static bool anybody_worked(const struct results_scenario *scenario) {
    for (size_t m = 0; m < scenario->metric_count; m++) {
        for (size_t i = 0; i < scenario->metrics[m].count; i++) {
            if (worked(scenario, scenario->metrics[m].series[i].peer))
                return true;
        }
    }
    return false;
}

static bool worked_anywhere(const struct results *results, const char *peer) {
    for (size_t i = 0; i < results->scenario_count; i++) {
        if (worked(results->scenarios[i], peer))
            return true;
    }
    return false;
}

/* What one file has and the other has not. */
struct absence {
    struct comparison *comparison;
    const char *which; /* file has it */
    bool is_loss;      /* it is the old one, so what worked there is lost */
};

/* The beginning of the line. What did not work is no loss. */
static void say_absent(const struct absence *absence, bool has_worked) {
    bool is_regression = absence->is_loss && has_worked;
    absence->comparison->regressions += is_regression;
    fprintf(absence->comparison->out, "%sonly in the %s file: ", is_regression ? "REGRESSION  " : "", absence->which);
}

/* Metric `m` of this scenario and its values, as far as the other file has the peers at all. A metric alone is no loss:
 * it may have got another name. */
static void say_missing_metric(const struct absence *absence, const struct results_scenario *scenario, size_t m,
                               const struct results_scenario *other, const struct results *others) {
    const struct results_metric *metric = &scenario->metrics[m], *same = results_find_metric(other, metric->name);
    FILE *out = absence->comparison->out;
    for (size_t i = 0; i < metric->count; i++) {
        const char *peer = metric->series[i].peer;
        if ((same && results_find_series(same, peer)) || !results_have(others, others->scenario_count, peer))
            continue;
        if (scenario_has(other, other->metric_count, peer)) {
            say_absent(absence, false);
            fprintf(out, "%s, %s, %s\n", scenario->name, peer, metric->name);
        } else if (!scenario_has(scenario, m, peer)) { /* once for all metrics */
            const char *failure = failure_of(other, peer);
            say_absent(absence, worked(scenario, peer));
            fprintf(out, "%s, %s%s%s\n", scenario->name, peer, failure ? ": failed: " : "", failure ? failure : "");
        }
    }
}

static void say_missing_peers(const struct absence *absence, const struct results *results,
                              const struct results *others) {
    for (size_t i = 0; i < results->scenario_count; i++) {
        const struct results_scenario *scenario = results->scenarios[i];
        for (size_t m = 0; m < scenario->metric_count; m++) {
            for (size_t s = 0; s < scenario->metrics[m].count; s++) {
                const char *peer = scenario->metrics[m].series[s].peer;
                if (results_have(results, i, peer) || scenario_has(scenario, m, peer) ||
                    results_have(others, others->scenario_count, peer))
                    continue;
                say_absent(absence, worked_anywhere(results, peer));
                fprintf(absence->comparison->out, "peer %s\n", peer);
            }
        }
    }
}

/* What `results` has and `others` has not, each thing at the highest level at which it is missing. */
static void say_missing(const struct absence *absence, const struct results *results, const struct results *others) {
    say_missing_peers(absence, results, others);
    for (size_t i = 0; i < results->scenario_count; i++) {
        const struct results_scenario *scenario = results->scenarios[i];
        const struct results_scenario *other = find_scenario(others, scenario->name);
        if (!other) {
            say_absent(absence, anybody_worked(scenario));
            fprintf(absence->comparison->out, "%s\n", scenario->name);
        }
        for (size_t m = 0; other && m < scenario->metric_count; m++)
            say_missing_metric(absence, scenario, m, other, others);
    }
}

/* Who worked in the old file, and in the new one has values and a failure. */
static void say_new_failures(struct comparison *comparison, const struct results_scenario *old,
                             const struct results_scenario *new) {
    for (size_t m = 0; m < new->metric_count; m++) {
        for (size_t i = 0; i < new->metrics[m].count; i++) {
            const char *peer = new->metrics[m].series[i].peer, *failure = failure_of(new, peer);
            if (failure == NULL || scenario_has(new, m, peer) || !worked(old, peer))
                continue;
            comparison->regressions++;
            fprintf(comparison->out, "REGRESSION  %s: worked in the old file, failed in the new one: %s\n", new->name,
                    failure);
        }
    }
}

static void say_failures(FILE *out, const char *which, const struct results *results) {
    size_t failures = 0;
    for (size_t i = 0; i < results->scenario_count; i++)
        failures += results->scenarios[i]->failure_count;
    if (failures > 0)
        fprintf(out, "failures in the %s file: %zu\n", which, failures);
}

/* Differences of what was measured, and on what: the reader has to judge whether the comparison still means anything.
 */
static void say_differences(FILE *out, const struct results *old, const struct results *new) {
    static const char *const of_the_moment[] = {"time", "load_average", NULL};
    /* What was left out because of these is said one by one. */
    static const char *const of_the_run[] = {"started", "ended", "command_line", "seed", "peers", "scenarios", NULL};
    compare_json(out, "machine", old->machine, new->machine, of_the_moment);
    compare_json(out, "setting", old->settings, new->settings, of_the_run);
    for (size_t i = 0; i < old->scenario_count; i++) {
        const struct results_scenario *other = find_scenario(new, old->scenarios[i]->name);
        if (other)
            compare_json(out, other->name, old->scenarios[i]->parameters, other->parameters, NULL);
    }
}

static void say_sum(const struct comparison *comparison) {
    fprintf(comparison->out, "%u regression%s, %u better, %u unchanged within noise and %g %%", comparison->regressions,
            comparison->regressions == 1 ? "" : "s", comparison->improvements, comparison->unchanged,
            comparison->tolerance * 100);
    if (comparison->too_few > 0)
        fprintf(comparison->out, "; %u not compared, as they have fewer than %u rounds", comparison->too_few,
                ROUNDS_MIN);
    fputc('\n', comparison->out);
}

unsigned compare_results(const struct results *old, const struct results *new, double tolerance, FILE *out) {
    struct comparison comparison = {.out = out, .tolerance = tolerance};
    say_differences(out, old, new);
    say_missing(&(struct absence){&comparison, "old", true}, old, new);
    say_missing(&(struct absence){&comparison, "new", false}, new, old);
    for (size_t i = 0; i < old->scenario_count; i++) {
        const struct results_scenario *after = find_scenario(new, old->scenarios[i]->name);
        if (after)
            say_new_failures(&comparison, old->scenarios[i], after);
    }
    say_failures(out, "old", old);
    say_failures(out, "new", new);
    compare_all(&comparison, old, new);
    say_sum(&comparison);
    return comparison.regressions;
}
