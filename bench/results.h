/* What was measured, as data: the one model behind terminal table, JSON, CSV, percentile files, HTML and compare. */
#ifndef BENCH_RESULTS_H
#define BENCH_RESULTS_H

#include "bench/histogram.h"
#include "bench/stats.h"
#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#define RESULTS_FORMAT "leat-bench/1"

enum results_better { RESULTS_HIGHER, RESULTS_LOWER, RESULTS_INFORMATION /* neither: recorded, never compared */ };

/* One peer's values of one metric: a value per round, in order. */
struct results_series {
    char *peer;
    double *values;
    size_t count;
};

struct results_metric {
    char *name, *unit; /* "throughput", "MB/s" */
    enum results_better better;
    bool is_headline; /* shown in the terminal's table; the others in JSON, CSV and HTML */
    struct results_series *series;
    size_t count;
};

struct results_latency {
    char *peer;
    struct histogram histogram; /* all rounds together */
};

/* A scenario with its parameters: "bulk down, 8 flows". */
struct results_scenario {
    char *name; /* stable, for compare: "bulk/down/8" */
    char *title;
    char *group;        /* "bulk", "latency", "rtt", … for the report's sections */
    json_t *parameters; /* every one, as an object */
    struct results_metric *metrics;
    size_t metric_count;
    struct results_latency *latencies;
    size_t latency_count;
    char **warnings;
    size_t warning_count;
    char **failures; /* "PEER, round 2: wrong content at byte 123 of flow 4" */
    size_t failure_count;
};

struct results {
    json_t *machine;  /* object: cpu, cores, kernel, sysctls, congestion control, memory, … (machine.h) */
    json_t *settings; /* object: rounds, seconds, cipher, pins, command line, start and end time … */
    json_t *peers;    /* array of objects: name, about, versions, negotiated */
    char *base_peer;  /* ratios are to this one, where it has the metric */
    struct results_scenario **scenarios;
    size_t scenario_count;
    char **warnings; /* of the whole run */
    size_t warning_count;
};

/* Out of memory ends the program, as a bench has nothing to save. Texts are cleaned when they are added (text.h), so
 * that reports can print them as they are; a warning that is there already is not added again. */
struct results *results_new(void);
void results_free(struct results *results);
/* Finds or adds. `parameters` is copied when added. */
struct results_scenario *results_scenario(struct results *results, const char *name, const char *title,
                                          const char *group, json_t *parameters);
/* A value that is not finite is left out, with a warning. */
void results_value(struct results_scenario *scenario, const char *metric, const char *unit, enum results_better better,
                   bool is_headline, const char *peer, double value);
void results_add_latency(struct results_scenario *scenario, const char *peer, const struct histogram *histogram);
void results_warn(struct results *results, const char *format, ...) __attribute__((format(printf, 2, 3)));
void results_scenario_warn(struct results_scenario *scenario, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
void results_fail(struct results_scenario *scenario, const char *format, ...) __attribute__((format(printf, 2, 3)));
const struct results_metric *results_find_metric(const struct results_scenario *scenario, const char *name);
const struct results_series *results_find_series(const struct results_metric *metric, const char *peer);
bool results_failed(const struct results *results);

/* JSON, versioned (RESULTS_FORMAT). results_read refuses other formats and says file and place in `why`; a hostile file
 * can neither crash nor exhaust memory. */
bool results_write(const struct results *results, const char *path, char *why, size_t why_bytes);
struct results *results_read(const char *path, char *why, size_t why_bytes);

/* The reports. Each writes all of it or says why not. */
void report_table(const struct results *results, FILE *out, bool is_terminal, bool is_markdown);
bool report_csv(const struct results *results, const char *path, char *why, size_t why_bytes);
/* DIR/SCENARIO.PEER.hgrm for every latency, names made safe for a file system. */
bool report_percentiles(const struct results *results, const char *dir, char *why, size_t why_bytes);
/* One self-contained file: SVG plots by gnuplot (left out with a note in the page where it is not installed), no script
 * needed. */
bool report_html(const struct results *results, const char *path, char *why, size_t why_bytes);

/* Compares by scenario, peer and metric what both files have. Prints a row for each that changed beyond noise: the 95 %
 * interval of the ratio new/old lies wholly beyond `tolerance` (0.05: 5 %) to the worse side (a regression) or to the
 * better. Fewer than three rounds on a side are no evidence. A scenario or a peer that worked in the old file and has
 * failed, or is missing, in the new one is a regression too. Returns the number of regressions. Says what only one of
 * them has, failures, and where machine, settings or a scenario's parameters differ. */
unsigned compare_results(const struct results *old, const struct results *new, double tolerance, FILE *out);

#endif
