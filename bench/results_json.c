/* results_read: believes nothing that a file says. What it makes is what the writer's functions make, so that both are
 * held to the same rules. */
#include "bench/json_read.h"
#include "bench/results.h"
#include "bench/text.h"
#include <stdlib.h>
#include <string.h>

#define SCENARIOS_MAX 10000u
#define METRICS_MAX 1000u
#define PEERS_MAX 1000u
#define MESSAGES_MAX 10000u
/* Rounds. A ratio's interval sorts them some thousand times. */
#define VALUES_MAX 10000u
/* In the whole file: a histogram takes 70 KiB whatever is in it. */
#define LATENCIES_MAX 4000u

static bool read_values(const struct json_where *at, const json_t *values, struct results_scenario *scenario,
                        const struct results_metric *like, const char *peer) {
    for (size_t i = 0; i < json_array_size(values); i++) {
        struct json_where where = json_element(at, i);
        const json_t *value = json_array_get(values, i);
        if (!json_is_number(value))
            return json_refuse(&where, "not a number");
        results_value(scenario, like->name, like->unit, like->better, like->is_headline, peer,
                      json_number_value(value));
    }
    return true;
}

static size_t series_count(const struct results_scenario *scenario, const char *metric_name) {
    const struct results_metric *metric = results_find_metric(scenario, metric_name);
    return metric ? metric->count : 0;
}

static bool read_series(const struct json_where *at, const json_t *json, struct results_scenario *scenario,
                        const struct results_metric *like) {
    const char *peer = json_want_object(at, json) ? json_get_name(at, json, "peer") : NULL;
    const json_t *values = peer ? json_get_array(at, json, "values", VALUES_MAX) : NULL;
    struct json_where where = json_below(at, "values");
    if (!values)
        return false;
    if (json_array_size(values) == 0)
        return json_refuse(&where, "empty");
    size_t before = series_count(scenario, like->name);
    if (!read_values(&where, values, scenario, like, peer))
        return false;
    return series_count(scenario, like->name) > before || json_refuse(at, "a second one of this peer");
}

static bool read_better(const struct json_where *at, const json_t *json, enum results_better *better) {
    const char *text = json_get_string(at, json, "better");
    if (!text)
        return false;
    if (strcmp(text, "higher") == 0)
        *better = RESULTS_HIGHER;
    else if (strcmp(text, "lower") == 0)
        *better = RESULTS_LOWER;
    else if (strcmp(text, "information") == 0)
        *better = RESULTS_INFORMATION;
    else
        return json_refuse_below(at, "better", "neither higher, lower nor information");
    return true;
}

static bool read_all_series(const struct json_where *at, const json_t *all, struct results_scenario *scenario,
                            const struct results_metric *like) {
    struct json_where where = json_below(at, "series");
    if (results_find_metric(scenario, like->name))
        return json_refuse(at, "a second one of this name");
    if (json_array_size(all) == 0)
        return json_refuse(&where, "empty");
    for (size_t i = 0; i < json_array_size(all); i++) {
        struct json_where place = json_element(&where, i);
        if (!read_series(&place, json_array_get(all, i), scenario, like))
            return false;
    }
    return true;
}

static char *clean_copy(const char *text) {
    char *copy = strdup(text);
    if (!copy)
        abort();
    text_clean(copy, false);
    return copy;
}

static bool read_metric(const struct json_where *at, const json_t *json, struct results_scenario *scenario) {
    struct results_metric like = {0};
    const char *name = json_want_object(at, json) ? json_get_name(at, json, "name") : NULL;
    const char *unit = name ? json_get_string(at, json, "unit") : NULL;
    if (!unit || !read_better(at, json, &like.better) || !json_get_bool(at, json, "headline", &like.is_headline))
        return false;
    const json_t *all = json_get_array(at, json, "series", PEERS_MAX);
    if (!all)
        return false;
    like.name = clean_copy(name); /* as the model has it, to find it there */
    like.unit = (char *)unit;
    bool good = read_all_series(at, all, scenario, &like);
    free(like.name);
    return good;
}

static bool read_buckets(const struct json_where *at, const json_t *buckets, struct histogram *histogram) {
    if (json_array_size(buckets) % 2)
        return json_refuse(at, "not values and counts in turn");
    for (size_t i = 0; i < json_array_size(buckets); i += 2) {
        struct json_where where = json_element(at, i);
        const json_t *lowest = json_array_get(buckets, i), *count = json_array_get(buckets, i + 1);
        if (!json_is_integer(lowest) || !json_is_integer(count))
            return json_refuse(&where, "not whole numbers");
        if (json_integer_value(lowest) < 0 || json_integer_value(count) < 1 ||
            json_integer_value(count) > JSON_COUNT_MAX - (json_int_t)histogram->count)
            return json_refuse(&where, "out of range");
        histogram_record_many(histogram, (uint64_t)json_integer_value(lowest), (uint64_t)json_integer_value(count));
    }
    return true;
}

/* What was measured lies less than a bucket's width above the lowest value of its bucket, which is all that a bucket
 * says. */
static bool is_in_bucket(uint64_t ns, uint64_t lowest_ns) {
    return ns >= lowest_ns && ns - lowest_ns <= lowest_ns >> HISTOGRAM_SUB_BITS;
}

static bool read_extremes(const struct json_where *at, const json_t *json, struct histogram *histogram) {
    uint64_t min_ns = 0, max_ns = 0;
    double sum_ns = 0;
    if (!json_get_count(at, json, "min_ns", &min_ns) || !json_get_count(at, json, "max_ns", &max_ns) ||
        !json_get_number(at, json, "sum_ns", &sum_ns))
        return false;
    if (histogram->count == 0)
        return true;
    if (min_ns > max_ns || !is_in_bucket(min_ns, histogram->min_ns) || !is_in_bucket(max_ns, histogram->max_ns))
        return json_refuse(at, "min_ns or max_ns do not belong to the buckets");
    double slack = 2.0 / (1 << HISTOGRAM_SUB_BITS);
    if (sum_ns < histogram->sum_ns * (1 - slack) || sum_ns > histogram->sum_ns * (1 + slack))
        return json_refuse(at, "sum_ns does not belong to the buckets");
    histogram->min_ns = min_ns;
    histogram->max_ns = max_ns;
    histogram->sum_ns = sum_ns;
    return true;
}

static bool read_histogram(const struct json_where *at, const json_t *json, struct histogram *histogram) {
    struct json_where where = json_below(at, "buckets");
    const json_t *buckets = json_get_array(at, json, "buckets", (size_t)2 * HISTOGRAM_BUCKETS);
    histogram_clear(histogram);
    return buckets && read_buckets(&where, buckets, histogram) && read_extremes(at, json, histogram);
}

static bool read_latency(const struct json_where *at, const json_t *json, struct results_scenario *scenario) {
    const char *peer = json_want_object(at, json) ? json_get_name(at, json, "peer") : NULL;
    if (!peer)
        return false;
    struct histogram *histogram = malloc(sizeof *histogram);
    if (!histogram)
        abort();
    size_t before = scenario->latency_count;
    bool good = read_histogram(at, json, histogram);
    if (good)
        results_add_latency(scenario, peer, histogram);
    free(histogram);
    return good && (scenario->latency_count > before || json_refuse(at, "a second one of this peer"));
}

static bool read_strings(const struct json_where *at, const json_t *json, const char *key,
                         void add(void *to, const char *text), void *to) {
    struct json_where where = json_below(at, key);
    const json_t *strings = json_get_array(at, json, key, MESSAGES_MAX);
    if (!strings)
        return false;
    for (size_t i = 0; i < json_array_size(strings); i++) {
        struct json_where place = json_element(&where, i);
        const char *text = json_string_value(json_array_get(strings, i));
        if (!text)
            return json_refuse(&place, "not a string");
        add(to, text);
    }
    return true;
}

static void add_warning(void *results, const char *text) {
    results_warn(results, "%s", text);
}

static void add_scenario_warning(void *scenario, const char *text) {
    results_scenario_warn(scenario, "%s", text);
}

static void add_failure(void *scenario, const char *text) {
    results_fail(scenario, "%s", text);
}

static bool read_parts(const struct json_where *at, const json_t *json, const char *key, size_t count_max,
                       bool read(const struct json_where *at, const json_t *json, struct results_scenario *scenario),
                       struct results_scenario *scenario) {
    struct json_where where = json_below(at, key);
    const json_t *parts = json_get_array(at, json, key, count_max);
    if (!parts)
        return false;
    for (size_t i = 0; i < json_array_size(parts); i++) {
        struct json_where place = json_element(&where, i);
        if (!read(&place, json_array_get(parts, i), scenario))
            return false;
    }
    return true;
}

static bool read_scenario(const struct json_where *at, const json_t *json, struct results *results) {
    const char *name = json_want_object(at, json) ? json_get_name(at, json, "name") : NULL;
    const char *title = name ? json_get_string(at, json, "title") : NULL;
    const char *group = title ? json_get_string(at, json, "group") : NULL;
    json_t *parameters = group ? json_get_object(at, json, "parameters") : NULL;
    if (!parameters)
        return false;
    size_t before = results->scenario_count;
    struct results_scenario *scenario = results_scenario(results, name, title, group, parameters);
    if (results->scenario_count == before)
        return json_refuse(at, "a second one of this name");
    return read_parts(at, json, "metrics", METRICS_MAX, read_metric, scenario) &&
           read_parts(at, json, "latencies", PEERS_MAX, read_latency, scenario) &&
           read_strings(at, json, "warnings", add_scenario_warning, scenario) &&
           read_strings(at, json, "failures", add_failure, scenario);
}

static size_t count_latencies(const json_t *scenarios) {
    size_t count = 0;
    for (size_t i = 0; i < json_array_size(scenarios); i++)
        count += json_array_size(json_object_get(json_array_get(scenarios, i), "latencies"));
    return count;
}

static bool read_scenarios(const struct json_where *root, const json_t *json, struct results *results) {
    struct json_where where = json_below(root, "scenarios");
    const json_t *scenarios = json_get_array(root, json, "scenarios", SCENARIOS_MAX);
    if (!scenarios)
        return false;
    if (count_latencies(scenarios) > LATENCIES_MAX)
        return json_refuse(&where, "too many latencies");
    for (size_t i = 0; i < json_array_size(scenarios); i++) {
        struct json_where place = json_element(&where, i);
        if (!read_scenario(&place, json_array_get(scenarios, i), results))
            return false;
    }
    return true;
}

static bool want_peers(const struct json_where *root, const json_t *peers) {
    struct json_where where = json_below(root, "peers");
    for (size_t i = 0; i < json_array_size(peers); i++) {
        struct json_where place = json_element(&where, i);
        const json_t *peer = json_array_get(peers, i);
        if (!json_want_object(&place, peer) || !json_get_name(&place, peer, "name"))
            return false;
    }
    return true;
}

static void replace(json_t **old, json_t *new) {
    json_decref(*old);
    *old = json_incref(new);
}

static bool read_head(const struct json_where *root, const json_t *json, struct results *results) {
    const char *format = json_want_object(root, json) ? json_get_string(root, json, "format") : NULL;
    if (!format)
        return false;
    if (strcmp(format, RESULTS_FORMAT) != 0)
        return json_refuse_below(root, "format", "not " RESULTS_FORMAT ": of another version, or another program's");
    json_t *machine = json_get_object(root, json, "machine");
    json_t *settings = machine ? json_get_object(root, json, "settings") : NULL;
    json_t *peers = settings ? json_get_array(root, json, "peers", PEERS_MAX) : NULL;
    if (!peers || !want_peers(root, peers))
        return false;
    replace(&results->machine, machine);
    replace(&results->settings, settings);
    replace(&results->peers, peers);
    if (json_is_null(json_object_get(json, "base_peer")))
        return true;
    const char *base_peer = json_get_string(root, json, "base_peer");
    if (base_peer)
        results->base_peer = clean_copy(base_peer);
    return base_peer;
}

struct results *results_read(const char *path, char *why, size_t why_bytes) {
    struct json_read read = {.path = path, .why = why, .why_bytes = why_bytes};
    struct json_where root = {.read = &read};
    json_t *json = json_read_file(&read);
    if (!json)
        return NULL;
    struct results *results = results_new();
    bool good = read_head(&root, json, results) && read_scenarios(&root, json, results) &&
                read_strings(&root, json, "warnings", add_warning, results);
    json_decref(json);
    if (good)
        return results;
    results_free(results);
    return NULL;
}
