/* The figures of a page: small, so that on a phone they stand one below the other and can be read, and on a desk beside
 * one another. */
#include "bench/html_page.h"
#include "bench/plot.h"
#include "bench/report_cell.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* A peer has one color in the whole report. */
static unsigned color_of(const struct page *page, const char *peer) {
    size_t i;
    json_t *object;
    json_array_foreach(page->results->peers, i, object) {
        if (strcmp(page_string(object, "name"), peer) == 0)
            return (unsigned)i;
    }
    return 0;
}

/* Takes the SVG; without one there is no figure. */
static void figure(const struct page *page, const char *title, const char *what, void (*key)(const struct page *page),
                   char *svg) {
    if (svg == NULL)
        return;
    fputs("<figure><figcaption>", page->out);
    page_text(page, title);
    fputs(" <span>", page->out);
    page_text(page, what);
    fputs("</span>", page->out);
    if (key != NULL)
        key(page);
    fprintf(page->out, "</figcaption>%s</figure>\n", svg);
    free(svg);
}

static void *must_have(void *memory) {
    if (memory == NULL)
        abort();
    return memory;
}

/* The peers of a group in one order for all its figures, those without a value left out. */
struct rows {
    const char **peers;
    size_t count;
    struct report_cell *cells;
};

static struct rows rows_of(const struct page *page, const struct results_scenario *scenario,
                           const struct results_metric *metric) {
    size_t all;
    struct rows rows = {.peers = report_peers(page->results, scenario->group, &all)};
    rows.cells = must_have(calloc(all + 1, sizeof *rows.cells));
    for (size_t i = 0; i < all; i++) {
        if (report_cell_make(page->results, metric, rows.peers[i], &rows.cells[rows.count]))
            rows.peers[rows.count++] = rows.peers[i];
    }
    return rows;
}

static void rows_free(struct rows *rows) {
    free(rows->peers);
    free(rows->cells);
}

static void plot_metric(const struct page *page, const struct results_scenario *scenario,
                        const struct results_metric *metric) {
    static const char *const better[] = {
        [RESULTS_HIGHER] = " (more is better)", [RESULTS_LOWER] = " (less is better)", [RESULTS_INFORMATION] = ""};
    struct rows rows = rows_of(page, scenario, metric);
    struct plot_bar *bars = must_have(calloc(rows.count + 1, sizeof *bars));
    char *what;
    for (size_t i = 0; i < rows.count; i++) {
        const struct results_series *series = results_find_series(metric, rows.peers[i]);
        struct stats_summary summary;
        stats_summarise(series->values, series->count, &summary);
        bars[i] = (struct plot_bar){.label = series->peer,
                                    .text = rows.cells[i].median,
                                    .value = fmax(0, summary.median),
                                    .low = fmax(0, summary.min),
                                    .high = fmax(0, summary.max),
                                    .color = color_of(page, series->peer)};
    }
    char *svg = plot_bars(bars, rows.count);
    free(bars);
    rows_free(&rows);
    if (asprintf(&what, "%s, %s%s", metric->name, metric->unit, better[metric->better]) < 0)
        abort();
    figure(page, scenario->title, what, NULL, svg);
    free(what);
}

static const char *const cpu_parts[PLOT_PARTS_MAX] = {"client-cpu-user", "client-cpu-system", "server-cpu-user",
                                                      "server-cpu-system"};
static const char *const cpu_words[PLOT_PARTS_MAX] = {"client, user", "client, system", "server, user",
                                                      "server, system"};

static double median_of(const struct results_scenario *scenario, const char *metric_name, const char *peer) {
    const struct results_metric *metric = results_find_metric(scenario, metric_name);
    const struct results_series *series = metric != NULL ? results_find_series(metric, peer) : NULL;
    return series != NULL ? fmax(0, stats_median(series->values, series->count)) : 0;
}

static void put_key(const struct page *page) {
    for (size_t part = 0; part < PLOT_PARTS_MAX; part++)
        fprintf(page->out, "%s<span class=key><i style=\"background:%s\"></i>%s</span>", part == 0 ? "<br>" : " ",
                plot_part_color(part), cpu_words[part]);
}

/* Where the processor time goes: client and server, in the program and in the kernel. */
static void plot_cpu(const struct page *page, const struct results_scenario *scenario,
                     const struct results_metric *metric) {
    struct rows rows = rows_of(page, scenario, metric);
    struct plot_stack *stacks = must_have(calloc(rows.count + 1, sizeof *stacks));
    char *what;
    for (size_t i = 0; i < rows.count; i++) {
        stacks[i] = (struct plot_stack){.label = rows.peers[i], .text = rows.cells[i].median};
        for (size_t part = 0; part < PLOT_PARTS_MAX; part++)
            stacks[i].parts[part] = median_of(scenario, cpu_parts[part], rows.peers[i]);
    }
    char *svg = plot_stacks(stacks, rows.count);
    free(stacks);
    rows_free(&rows);
    if (asprintf(&what, "processor time, %s", metric->unit) < 0)
        abort();
    figure(page, scenario->title, what, put_key, svg);
    free(what);
}

/* The curve of a histogram, from the median to the last value that more than one in 10^6 exceeds. */
static size_t percentiles_of(const struct histogram *histogram, double *x, double *y, size_t max) {
    size_t count = 0;
    for (double rest = 0.5; count < max && rest > 1e-6 && rest * (double)histogram->count >= 1; rest /= 1.333) {
        x[count] = 1 / rest;
        y[count++] = (double)histogram_percentile(histogram, 100 * (1 - rest)) / 1e6;
    }
    return count;
}

static void plot_latency(const struct page *page, const struct results_scenario *scenario) {
    enum { POINTS = 64 };
    size_t count = scenario->latency_count;
    double *points = must_have(calloc(2 * POINTS * count + 1, sizeof *points));
    struct plot_line *lines = must_have(calloc(count + 1, sizeof *lines));
    for (size_t i = 0; i < count; i++) {
        double *x = points + 2 * POINTS * i;
        const struct results_latency *latency = &scenario->latencies[i];
        lines[i] =
            (struct plot_line){.label = latency->peer, .x = x, .y = x + POINTS, .color = color_of(page, latency->peer)};
        lines[i].count = percentiles_of(&latency->histogram, x, x + POINTS, POINTS);
    }
    char *svg = plot_lines(lines, count, PLOT_PERCENTILES);
    free(points);
    free(lines);
    figure(page, scenario->title, "milliseconds by percentile (less is better)", NULL, svg);
}

/* ---- throughput over distance ---- */

struct sweep {
    const char *direction;
    double loss;
};

static bool sweep_of(const struct results_scenario *scenario, struct sweep *sweep, double *rtt_ms) {
    const json_t *rtt = json_object_get(scenario->parameters, "rtt_ms");
    sweep->direction = page_string(scenario->parameters, "direction");
    sweep->loss = json_number_value(json_object_get(scenario->parameters, "loss"));
    *rtt_ms = json_number_value(rtt);
    return json_is_number(rtt) && results_find_metric(scenario, "throughput") != NULL;
}

static bool same_sweep(const struct sweep *a, const struct sweep *b) {
    return strcmp(a->direction, b->direction) == 0 && fabs(a->loss - b->loss) < 1e-12;
}

/* One peer's points of a sweep, by distance as the scenarios come. */
static size_t sweep_points(const struct page *page, const char *group, const struct sweep *sweep, const char *peer,
                           double *x, double *y) {
    const struct results_scenario *scenario;
    size_t count = 0;
    for (size_t cursor = 0; (scenario = report_next(page->results, group, &cursor)) != NULL;) {
        struct sweep other;
        double rtt_ms;
        if (!sweep_of(scenario, &other, &rtt_ms) || !same_sweep(sweep, &other))
            continue;
        const struct results_series *series = results_find_series(results_find_metric(scenario, "throughput"), peer);
        if (series == NULL)
            continue;
        x[count] = rtt_ms;
        y[count++] = stats_median(series->values, series->count);
    }
    return count;
}

static void plot_sweep(const struct page *page, const char *group, const struct sweep *sweep) {
    size_t count, most = page->results->scenario_count;
    bool is_far = false;
    const char **peers = report_peers(page->results, group, &count);
    double *values = must_have(calloc(2 * most * count + 1, sizeof *values));
    struct plot_line *lines = must_have(calloc(count + 1, sizeof *lines));
    for (size_t i = 0; i < count; i++) {
        double *x = values + 2 * most * i;
        lines[i] = (struct plot_line){.label = peers[i], .x = x, .y = x + most, .color = color_of(page, peers[i])};
        lines[i].count = sweep_points(page, group, sweep, peers[i], x, x + most);
        for (size_t at = 1; at < lines[i].count; at++)
            is_far = is_far || x[at] != x[0];
    }
    char title[64], loss[32] = "";
    if (sweep->loss > 0)
        snprintf(loss, sizeof loss, ", %g %% loss", 100 * sweep->loss);
    snprintf(title, sizeof title, "bulk %s over distance%s", sweep->direction[0] == 'u' ? "up" : "down", loss);
    char *svg = is_far ? plot_lines(lines, count, PLOT_LINEAR) : NULL;
    free(peers);
    free(values);
    free(lines);
    figure(page, title, "MB/s by round-trip time in ms (more is better)", NULL, svg);
}

/* Each direction and loss once: where its first scenario stands. */
static void plot_sweeps(const struct page *page, const char *group) {
    const struct results_scenario *scenario, *before;
    for (size_t cursor = 0; (scenario = report_next(page->results, group, &cursor)) != NULL;) {
        struct sweep sweep, other;
        double rtt_ms;
        bool is_first = sweep_of(scenario, &sweep, &rtt_ms);
        for (size_t at = 0; is_first && (before = report_next(page->results, group, &at)) != scenario;)
            is_first = !sweep_of(before, &other, &rtt_ms) || !same_sweep(&sweep, &other);
        if (is_first)
            plot_sweep(page, group, &sweep);
    }
}

void page_figures(const struct page *page, const char *group) {
    const struct results_scenario *scenario;
    fputs("<div class=plots>\n", page->out);
    plot_sweeps(page, group);
    for (size_t cursor = 0; (scenario = report_next(page->results, group, &cursor)) != NULL;) {
        const struct results_metric *cpu = results_find_metric(scenario, "cpu");
        for (size_t i = 0; i < scenario->metric_count; i++) {
            if (scenario->metrics[i].is_headline && &scenario->metrics[i] != cpu)
                plot_metric(page, scenario, &scenario->metrics[i]);
        }
        if (cpu != NULL)
            plot_cpu(page, scenario, cpu);
        if (scenario->latency_count > 0)
            plot_latency(page, scenario);
    }
    fputs("</div>\n", page->out);
}

bool page_can_plot(void) {
    const struct plot_bar bar = {.label = "", .text = "", .value = 1};
    char *svg = plot_bars(&bar, 1);
    free(svg);
    return svg != NULL;
}
