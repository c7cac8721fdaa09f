/* What a run says while it runs, on standard error: one line on a terminal, redrawn; elsewhere a line per scenario.
 * The time left is what the plan expects of the rest, corrected by how long the past took. */
#ifndef BENCH_PROGRESS_H
#define BENCH_PROGRESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

struct progress {
    FILE *out; /* NULL: silent */
    bool is_terminal;
    double begun, expected_s, done_s; /* expected of all; of what is done */
    size_t scenario, scenario_count;
    const char *title;
};

void progress_begin(struct progress *progress, FILE *out, bool is_terminal, double expected_s, size_t scenario_count);
void progress_scenario(struct progress *progress, const char *title);
/* Now: `what` ("round 2 of 5") of `peer`. */
void progress_show(const struct progress *progress, const char *what, const char *peer);
/* `expected_s` of the plan is done. */
void progress_advance(struct progress *progress, double expected_s);
/* A message of its own line, between two drawings. */
void progress_say(const struct progress *progress, const char *format, ...) __attribute__((format(printf, 2, 3)));
void progress_end(const struct progress *progress);
/* Seconds left, at `elapsed_s` after the beginning. */
double progress_left(const struct progress *progress, double elapsed_s);
/* Seconds of the monotonic clock. */
double progress_now(void);

#endif
