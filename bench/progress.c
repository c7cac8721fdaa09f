#include "bench/progress.h"
#include <stdarg.h>
#include <time.h>

/* From when on what has passed says more about the rest than the plan alone does. */
#define TRUST_AFTER_S 10.0

double progress_now(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

void progress_begin(struct progress *progress, FILE *out, bool is_terminal, double expected_s, size_t scenario_count) {
    *progress = (struct progress){.out = out,
                                  .is_terminal = is_terminal,
                                  .begun = progress_now(),
                                  .expected_s = expected_s,
                                  .scenario_count = scenario_count};
}

double progress_left(const struct progress *progress, double elapsed_s) {
    double left = progress->expected_s - progress->done_s;
    if (left <= 0)
        return 0;
    if (progress->done_s <= 0 || elapsed_s < TRUST_AFTER_S)
        return left;
    return left * elapsed_s / progress->done_s;
}

static void print_left(const struct progress *progress) {
    unsigned left = (unsigned)(progress_left(progress, progress_now() - progress->begun) + 0.5);
    fprintf(progress->out, "%u:%02u left", left / 60, left % 60);
}

void progress_scenario(struct progress *progress, const char *title) {
    progress->scenario++;
    progress->title = title;
    if (progress->out == NULL || progress->is_terminal)
        return;
    fprintf(progress->out, "%zu/%zu %s, ", progress->scenario, progress->scenario_count, title);
    print_left(progress);
    fputc('\n', progress->out);
}

void progress_show(const struct progress *progress, const char *what, const char *peer) {
    if (progress->out == NULL || !progress->is_terminal)
        return;
    fprintf(progress->out, "\r\033[K%zu/%zu %s: %s, %s, ", progress->scenario, progress->scenario_count,
            progress->title, what, peer);
    print_left(progress);
    fflush(progress->out);
}

void progress_advance(struct progress *progress, double expected_s) {
    progress->done_s += expected_s;
}

void progress_say(const struct progress *progress, const char *format, ...) {
    va_list args;
    if (progress->out == NULL)
        return;
    if (progress->is_terminal)
        fputs("\r\033[K", progress->out);
    va_start(args, format);
    vfprintf(progress->out, format, args);
    va_end(args);
    fputc('\n', progress->out);
}

void progress_end(const struct progress *progress) {
    if (progress->out == NULL || !progress->is_terminal)
        return;
    fputs("\r\033[K", progress->out);
    fflush(progress->out);
}
