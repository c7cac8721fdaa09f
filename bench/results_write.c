/* results_write: the file that results_json.c reads. A scenario is one line, so that files can be looked at and
 * compared by line, and so that only one scenario at a time is in memory twice. */
#include "bench/output.h"
#include "bench/results.h"
#include <stdlib.h>

static json_t *must_have(json_t *json) {
    if (!json)
        abort();
    return json;
}

static void put(json_t *object, const char *key, json_t *value) {
    if (json_object_set_new(object, key, must_have(value)) != 0)
        abort();
}

static void push(json_t *array, json_t *value) {
    if (json_array_append_new(array, must_have(value)) != 0)
        abort();
}

static json_t *strings_json(char *const *strings, size_t count) {
    json_t *array = must_have(json_array());
    for (size_t i = 0; i < count; i++)
        push(array, json_string(strings[i]));
    return array;
}

static json_t *series_json(const struct results_series *series) {
    json_t *values = must_have(json_array());
    for (size_t i = 0; i < series->count; i++)
        push(values, json_real(series->values[i]));
    json_t *object = must_have(json_object());
    put(object, "peer", json_string(series->peer));
    put(object, "values", values);
    return object;
}

static json_t *metric_json(const struct results_metric *metric) {
    static const char *const better[] = {
        [RESULTS_HIGHER] = "higher", [RESULTS_LOWER] = "lower", [RESULTS_INFORMATION] = "information"};
    json_t *all = must_have(json_array());
    for (size_t i = 0; i < metric->count; i++)
        push(all, series_json(&metric->series[i]));
    json_t *object = must_have(json_object());
    put(object, "name", json_string(metric->name));
    put(object, "unit", json_string(metric->unit));
    put(object, "better", json_string(better[metric->better]));
    put(object, "headline", json_boolean(metric->is_headline));
    put(object, "series", all);
    return object;
}

/* Buckets lie flat, value and count in turn: an array for each would cost the reader ten times the memory. */
static json_t *latency_json(const struct results_latency *latency) {
    const struct histogram *histogram = &latency->histogram;
    json_t *buckets = must_have(json_array());
    uint64_t lowest_ns, count;
    for (uint32_t cursor = 0; histogram_next(histogram, &cursor, &lowest_ns, &count);) {
        push(buckets, json_integer((json_int_t)lowest_ns));
        push(buckets, json_integer((json_int_t)count));
    }
    json_t *object = must_have(json_object());
    put(object, "peer", json_string(latency->peer));
    put(object, "min_ns", json_integer(histogram->count ? (json_int_t)histogram->min_ns : 0));
    put(object, "max_ns", json_integer((json_int_t)histogram->max_ns));
    put(object, "sum_ns", json_real(histogram->sum_ns));
    put(object, "buckets", buckets);
    return object;
}

static json_t *scenario_json(const struct results_scenario *scenario) {
    json_t *object = must_have(json_object());
    put(object, "name", json_string(scenario->name));
    put(object, "title", json_string(scenario->title));
    put(object, "group", json_string(scenario->group));
    put(object, "parameters", json_incref(scenario->parameters));
    json_t *metrics = must_have(json_array());
    for (size_t i = 0; i < scenario->metric_count; i++)
        push(metrics, metric_json(&scenario->metrics[i]));
    put(object, "metrics", metrics);
    json_t *latencies = must_have(json_array());
    for (size_t i = 0; i < scenario->latency_count; i++)
        push(latencies, latency_json(&scenario->latencies[i]));
    put(object, "latencies", latencies);
    put(object, "warnings", strings_json(scenario->warnings, scenario->warning_count));
    put(object, "failures", strings_json(scenario->failures, scenario->failure_count));
    return object;
}

/* What could not be described must not cost what was measured. Takes `otherwise` over. */
static json_t *given_or(json_t *given, json_t *otherwise) {
    if (!given)
        return must_have(otherwise);
    json_decref(otherwise);
    return json_incref(given);
}

static void print_json(FILE *out, const char *before, json_t *value, const char *after) {
    fputs(before, out);
    json_dumpf(value, out, JSON_COMPACT | JSON_ENCODE_ANY); /* a failed write stays known to the stream */
    fputs(after, out);
    json_decref(value);
}

bool results_write(const struct results *results, const char *path, char *why, size_t why_bytes) {
    struct output output;
    if (!output_begin(&output, path, why, why_bytes))
        return false;
    FILE *out = output.file;
    fputs("{\"format\":\"" RESULTS_FORMAT "\",\n", out);
    print_json(out, "\"machine\":", given_or(results->machine, json_object()), ",\n");
    print_json(out, "\"settings\":", given_or(results->settings, json_object()), ",\n");
    print_json(out, "\"peers\":", given_or(results->peers, json_array()), ",\n");
    print_json(out, "\"base_peer\":", results->base_peer ? must_have(json_string(results->base_peer)) : json_null(),
               ",\n");
    print_json(out, "\"warnings\":", strings_json(results->warnings, results->warning_count), ",\n\"scenarios\":[");
    for (size_t i = 0; i < results->scenario_count; i++)
        print_json(out, i ? ",\n" : "\n", scenario_json(results->scenarios[i]), "");
    fputs("\n]}\n", out);
    return output_end(&output, why, why_bytes);
}
