#include "bench/progress.h"
#include "bench/text.h"
#include <stdarg.h>
#include <stdint.h>
#include <sys/ioctl.h>
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

static unsigned seconds_left(const struct progress *progress) {
    return (unsigned)(progress_left(progress, progress_now() - progress->begun) + 0.5);
}

void progress_scenario(struct progress *progress, const char *title) {
    progress->scenario++;
    progress->title = title;
    if (progress->out == NULL || progress->is_terminal)
        return;
    unsigned left = seconds_left(progress);
    fprintf(progress->out, "%zu/%zu, %u:%02u left: %s\n", progress->scenario, progress->scenario_count, left / 60,
            left % 60, title);
}

/* A line that the terminal breaks cannot be drawn again. */
static size_t columns_of(FILE *out) {
    struct winsize size;
    return ioctl(fileno(out), TIOCGWINSZ, &size) == 0 && size.ws_col > 1 ? size.ws_col - 1u : SIZE_MAX;
}

void progress_show(const struct progress *progress, const char *what, const char *peer) {
    char line[512];
    if (progress->out == NULL || !progress->is_terminal)
        return;
    unsigned left = seconds_left(progress);
    snprintf(line, sizeof(line), "%zu/%zu, %u:%02u left: %s: %s, %s", progress->scenario, progress->scenario_count,
             left / 60, left % 60, progress->title, what, peer);
    size_t width = text_width(line), columns = columns_of(progress->out);
    fputs("\r\033[K", progress->out);
    text_pad(progress->out, line, width < columns ? width : columns, false);
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
