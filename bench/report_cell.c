#include "bench/report_cell.h"
#include "bench/text.h"
#include <stdlib.h>
#include <string.h>

/* Two numbers, or nothing where they look the same. */
static void put_range(char *out, size_t out_bytes, const char *low, const char *high) {
    out[0] = 0;
    if (strcmp(low, high) != 0)
        snprintf(out, out_bytes, "%s–%s", low, high);
}

static void put_ratio(const struct results_series *series, const struct results_series *base,
                      struct report_cell *cell) {
    struct stats_interval ratio;
    if (!stats_ratio(series->values, series->count, base->values, base->count, true, &ratio))
        return;
    char middle[24], low[24], high[24];
    text_ratio(middle, sizeof middle, ratio.middle);
    text_ratio(low, sizeof low, ratio.low);
    text_ratio(high, sizeof high, ratio.high);
    snprintf(cell->ratio, sizeof cell->ratio, "%s×", middle);
    if (series->count > 1 && base->count > 1)
        snprintf(cell->interval, sizeof cell->interval, "%s–%s", low, high);
}

bool report_cell_make(const struct results *results, const struct results_metric *metric, const char *peer,
                      struct report_cell *cell) {
    *cell = (struct report_cell){0};
    const struct results_series *series = results_find_series(metric, peer);
    if (!series)
        return false;
    struct stats_summary summary;
    stats_summarise(series->values, series->count, &summary);
    char low[32], high[32];
    text_number(cell->median, sizeof cell->median, summary.median, summary.median);
    text_number(low, sizeof low, summary.min, summary.median);
    text_number(high, sizeof high, summary.max, summary.median);
    put_range(cell->spread, sizeof cell->spread, low, high);
    const struct results_series *base = results->base_peer ? results_find_series(metric, results->base_peer) : NULL;
    if (base && base != series)
        put_ratio(series, base, cell);
    return true;
}

const struct results_scenario *report_next(const struct results *results, const char *group, size_t *cursor) {
    while (*cursor < results->scenario_count) {
        const struct results_scenario *scenario = results->scenarios[(*cursor)++];
        if (strcmp(scenario->group, group) == 0)
            return scenario;
    }
    return NULL;
}

bool report_begins_group(const struct results *results, size_t index) {
    size_t cursor = 0;
    return report_next(results, results->scenarios[index]->group, &cursor) == results->scenarios[index];
}

static void add_peer(const char ***peers, size_t *count, const char *peer) {
    for (size_t i = 0; i < *count; i++) {
        if (strcmp((*peers)[i], peer) == 0)
            return;
    }
    *peers = reallocarray(*peers, *count + 1, sizeof **peers);
    if (!*peers)
        abort();
    (*peers)[(*count)++] = peer;
}

static size_t rank_of(const struct results *results, const char *peer) {
    for (size_t i = 0; i < json_array_size(results->peers); i++) {
        const char *name = json_string_value(json_object_get(json_array_get(results->peers, i), "name"));
        if (name && strcmp(name, peer) == 0)
            return i;
    }
    return SIZE_MAX;
}

/* By insertion: there are few, and those without a rank keep their order. */
static void order(const struct results *results, const char **peers, size_t count) {
    for (size_t i = 1; i < count; i++) {
        const char *peer = peers[i];
        size_t rank = rank_of(results, peer), to = i;
        for (; to > 0 && rank_of(results, peers[to - 1]) > rank; to--)
            peers[to] = peers[to - 1];
        peers[to] = peer;
    }
}

const char **report_peers(const struct results *results, const char *group, size_t *count) {
    const char **peers = NULL;
    const struct results_scenario *scenario;
    *count = 0;
    for (size_t cursor = 0; (scenario = report_next(results, group, &cursor));) {
        for (size_t m = 0; m < scenario->metric_count; m++) {
            const struct results_metric *metric = &scenario->metrics[m];
            for (size_t s = 0; s < metric->count && metric->is_headline; s++)
                add_peer(&peers, count, metric->series[s].peer);
        }
    }
    order(results, peers, *count);
    return peers;
}
