/* leat-bench: puts tunnels side by side. Reads what the person asked for, and hands it to who does it. */
#include "bench/bench_options.h"
#include "bench/by_hand.h"
#include "bench/list.h"
#include "bench/runner.h"
#include <signal.h>
#include <string.h>
#include <unistd.h>

#define WHY_BYTES 4096

static bool written(bool good, const char *why) {
    if (!good)
        fprintf(stderr, "leat-bench: %s\n", why);
    return good;
}

/* Every output that was asked for, also after one has failed. */
static bool write_outputs(const struct bench_options *options, const struct results *results) {
    char why[WHY_BYTES] = "";
    bool good = true;
    if (options->json != NULL)
        good &= written(results_write(results, options->json, why, sizeof(why)), why);
    if (options->csv != NULL)
        good &= written(report_csv(results, options->csv, why, sizeof(why)), why);
    if (options->html != NULL)
        good &= written(report_html(results, options->html, why, sizeof(why)), why);
    if (options->percentiles != NULL)
        good &= written(report_percentiles(results, options->percentiles, why, sizeof(why)), why);
    return good;
}

static void print_table(const struct bench_options *options, const struct results *results) {
    report_table(results, stdout, isatty(STDOUT_FILENO) == 1, options->markdown);
}

static int command_run(const struct bench_options *options, int argc, char **argv) {
    struct results *results;
    int status = runner_run(options, argc, argv, &results);
    if (results == NULL)
        return status;
    if (!options->quiet)
        print_table(options, results);
    if (!write_outputs(options, results) && status == BENCH_FINE)
        status = BENCH_FAILED;
    results_free(results);
    return status;
}

static struct results *read_results(const char *path) {
    char why[WHY_BYTES] = "";
    struct results *results = results_read(path, why, sizeof(why));
    if (results == NULL)
        fprintf(stderr, "leat-bench: %s\n", why);
    return results;
}

static int command_report(const struct bench_options *options) {
    struct results *results = read_results(options->words[0]);
    if (results == NULL)
        return BENCH_USAGE;
    bool to_files = options->csv != NULL || options->html != NULL || options->percentiles != NULL;
    if (!to_files || options->markdown)
        print_table(options, results);
    bool good = write_outputs(options, results);
    results_free(results);
    return good ? BENCH_FINE : BENCH_FAILED;
}

static int command_compare(const struct bench_options *options) {
    struct results *old = read_results(options->words[0]);
    struct results *new = old != NULL ? read_results(options->words[1]) : NULL;
    int status = BENCH_USAGE;
    if (new != NULL)
        status = compare_results(old, new, options->tolerance, stdout) > 0 ? BENCH_FAILED : BENCH_FINE;
    results_free(old);
    results_free(new);
    return status;
}

static int dispatch(const struct bench_options *options, int argc, char **argv) {
    switch (options->command) {
    case BENCH_RUN:
        return command_run(options, argc, argv);
    case BENCH_COMPARE:
        return command_compare(options);
    case BENCH_REPORT:
        return command_report(options);
    case BENCH_LIST:
        return list_all(options, stdout);
    case BENCH_TARGET:
        return by_hand_target(options);
    case BENCH_LOAD:
        return by_hand_load(options);
    case BENCH_HELP:
        bench_options_help(stdout);
        return BENCH_FINE;
    case BENCH_VERSION:
        puts("leat-bench " LEAT_VERSION);
        return BENCH_FINE;
    }
    return BENCH_USAGE;
}

int main(int argc, char **argv) {
    struct bench_options options;
    signal(SIGPIPE, SIG_IGN);
    int status = bench_options_read(&options, argc, argv, stderr);
    if (status == 0)
        status = dispatch(&options, argc, argv);
    bench_options_deinit(&options);
    if (fflush(stdout) != 0 && status == BENCH_FINE)
        status = BENCH_FAILED;
    return status;
}
