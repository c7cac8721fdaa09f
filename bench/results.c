#include "bench/results.h"
#include "bench/text.h"
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

static void *must_have(void *memory) {
    if (!memory)
        abort();
    return memory;
}

/* A longer array with room for one more at its end; grows by doubling, at powers of two. */
static void *one_more(void *array, size_t count, size_t bytes) {
    if (count & (count - 1))
        return array;
    return must_have(reallocarray(array, count ? count * 2 : 1, bytes));
}

static char *clean_copy(const char *text) {
    char *copy = must_have(strdup(text));
    text_clean(copy, false);
    return copy;
}

struct results *results_new(void) {
    struct results *results = must_have(calloc(1, sizeof *results));
    results->machine = must_have(json_object());
    results->settings = must_have(json_object());
    results->peers = must_have(json_array());
    return results;
}

static void free_strings(char **strings, size_t count) {
    for (size_t i = 0; i < count; i++)
        free(strings[i]);
    free(strings);
}

static void free_metric(struct results_metric *metric) {
    for (size_t i = 0; i < metric->count; i++) {
        free(metric->series[i].peer);
        free(metric->series[i].values);
    }
    free(metric->series);
    free(metric->name);
    free(metric->unit);
}

static void free_scenario(struct results_scenario *scenario) {
    for (size_t i = 0; i < scenario->metric_count; i++)
        free_metric(&scenario->metrics[i]);
    for (size_t i = 0; i < scenario->latency_count; i++)
        free(scenario->latencies[i].peer);
    free(scenario->metrics);
    free(scenario->latencies);
    free_strings(scenario->warnings, scenario->warning_count);
    free_strings(scenario->failures, scenario->failure_count);
    json_decref(scenario->parameters);
    free(scenario->name);
    free(scenario->title);
    free(scenario->group);
    free(scenario);
}

void results_free(struct results *results) {
    if (!results)
        return;
    for (size_t i = 0; i < results->scenario_count; i++)
        free_scenario(results->scenarios[i]);
    free(results->scenarios);
    free_strings(results->warnings, results->warning_count);
    json_decref(results->machine);
    json_decref(results->settings);
    json_decref(results->peers);
    free(results->base_peer);
    free(results);
}

struct results_scenario *results_scenario(struct results *results, const char *name, const char *title,
                                          const char *group, json_t *parameters) {
    char *clean = clean_copy(name);
    for (size_t i = 0; i < results->scenario_count; i++) {
        if (strcmp(results->scenarios[i]->name, clean) == 0) {
            free(clean);
            return results->scenarios[i];
        }
    }
    struct results_scenario *scenario = must_have(calloc(1, sizeof *scenario));
    scenario->name = clean;
    scenario->title = clean_copy(title);
    scenario->group = clean_copy(group);
    scenario->parameters = must_have(parameters ? json_deep_copy(parameters) : json_object());
    results->scenarios = one_more(results->scenarios, results->scenario_count, sizeof *results->scenarios);
    results->scenarios[results->scenario_count++] = scenario;
    return scenario;
}

static struct results_metric *metric_of(struct results_scenario *scenario, const char *name) {
    for (size_t i = 0; i < scenario->metric_count; i++) {
        if (strcmp(scenario->metrics[i].name, name) == 0)
            return &scenario->metrics[i];
    }
    return NULL;
}

const struct results_metric *results_find_metric(const struct results_scenario *scenario, const char *name) {
    return metric_of((struct results_scenario *)scenario, name);
}

static struct results_series *series_of(const struct results_metric *metric, const char *peer) {
    for (size_t i = 0; i < metric->count; i++) {
        if (strcmp(metric->series[i].peer, peer) == 0)
            return &metric->series[i];
    }
    return NULL;
}

const struct results_series *results_find_series(const struct results_metric *metric, const char *peer) {
    return series_of(metric, peer);
}

/* Takes `name` over. */
static struct results_metric *get_metric(struct results_scenario *scenario, char *name, const char *unit,
                                         enum results_better better, bool is_headline) {
    struct results_metric *metric = metric_of(scenario, name);
    if (metric) {
        free(name);
        return metric;
    }
    scenario->metrics = one_more(scenario->metrics, scenario->metric_count, sizeof *scenario->metrics);
    metric = &scenario->metrics[scenario->metric_count++];
    *metric =
        (struct results_metric){.name = name, .unit = clean_copy(unit), .better = better, .is_headline = is_headline};
    return metric;
}

/* Takes `peer` over. */
static struct results_series *get_series(struct results_metric *metric, char *peer) {
    struct results_series *series = series_of(metric, peer);
    if (series) {
        free(peer);
        return series;
    }
    metric->series = one_more(metric->series, metric->count, sizeof *metric->series);
    series = &metric->series[metric->count++];
    *series = (struct results_series){.peer = peer};
    return series;
}

void results_value(struct results_scenario *scenario, const char *name, const char *unit, enum results_better better,
                   bool is_headline, const char *peer, double value) {
    if (!isfinite(value)) {
        results_scenario_warn(scenario, "%s: %s is not a number and was left out", peer, name);
        return;
    }
    struct results_metric *metric = get_metric(scenario, clean_copy(name), unit, better, is_headline);
    struct results_series *series = get_series(metric, clean_copy(peer));
    series->values = one_more(series->values, series->count, sizeof *series->values);
    series->values[series->count++] = value;
}

void results_add_latency(struct results_scenario *scenario, const char *peer, const struct histogram *histogram) {
    char *clean = clean_copy(peer);
    for (size_t i = 0; i < scenario->latency_count; i++) {
        if (strcmp(scenario->latencies[i].peer, clean) == 0) {
            free(clean);
            histogram_add(&scenario->latencies[i].histogram, histogram);
            return;
        }
    }
    scenario->latencies = one_more(scenario->latencies, scenario->latency_count, sizeof *scenario->latencies);
    struct results_latency *latency = &scenario->latencies[scenario->latency_count++];
    latency->peer = clean;
    histogram_clear(&latency->histogram);
    histogram_add(&latency->histogram, histogram);
}

__attribute__((format(printf, 1, 0))) static char *format_message(const char *format, va_list arguments) {
    char *text;
    if (vasprintf(&text, format, arguments) < 0)
        abort();
    text_clean(text, true);
    return text;
}

/* Takes `text` over. */
static void append(char ***strings, size_t *count, char *text) {
    *strings = one_more(*strings, *count, sizeof **strings);
    (*strings)[(*count)++] = text;
}

/* The same warning comes up in every round; once is enough. */
static void append_once(char ***strings, size_t *count, char *text) {
    for (size_t i = 0; i < *count; i++) {
        if (strcmp((*strings)[i], text) == 0) {
            free(text);
            return;
        }
    }
    append(strings, count, text);
}

void results_warn(struct results *results, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    append_once(&results->warnings, &results->warning_count, format_message(format, arguments));
    va_end(arguments);
}

void results_scenario_warn(struct results_scenario *scenario, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    append_once(&scenario->warnings, &scenario->warning_count, format_message(format, arguments));
    va_end(arguments);
}

void results_fail(struct results_scenario *scenario, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    append(&scenario->failures, &scenario->failure_count, format_message(format, arguments));
    va_end(arguments);
}

bool results_failed(const struct results *results) {
    for (size_t i = 0; i < results->scenario_count; i++) {
        if (results->scenarios[i]->failure_count > 0)
            return true;
    }
    return false;
}
