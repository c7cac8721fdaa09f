#include "bench/round.h"
#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define READY_S 15.0       /* flows that are not there by then never will be … */
#define READY_FLOWS_S 1e-2 /* … and so much more for each of many */
#define SMOKE_LONGER 10.0  /* a smoke that measured nothing is done again, so many times longer, … */
#define SMOKE_AGAIN_MAX 2u /* … at most so often */
#define SLEEP_STEP_S 0.05  /* between looks at the signals */

double round_now_s(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

void round_sleep(double seconds) {
    double end = round_now_s() + seconds;
    for (double left = seconds; left > 0 && !world_interrupted(); left = end - round_now_s()) {
        double step = fmin(left, SLEEP_STEP_S);
        nanosleep(&(struct timespec){.tv_nsec = (long)(step * 1e9)}, NULL);
    }
}

static const char *round_peer(const struct round *round) {
    return round->tunnel->peer->name;
}

void round_value(struct round *round, const char *metric, const char *unit, enum results_better better,
                 bool is_headline, double value) {
    if (round->number == 0)
        return;
    if (!isfinite(value)) {
        round_fail(round, "%s is no number", metric);
        return;
    }
    results_value(round->results, metric, unit, better, is_headline, round_peer(round), value);
}

void round_latency(struct round *round, const struct histogram *histogram) {
    if (round->number > 0)
        results_add_latency(round->results, round_peer(round), histogram);
}

void round_latencies(struct round *round, const struct histogram *histogram) {
    static const struct {
        const char *name;
        double percentile;
        bool is_headline;
    } rows[] = {{"p50", 50, false}, {"p99", 99, true}, {"p99.9", 99.9, false}, {"max", 100, false}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        round_value(round, rows[i].name, "ms", RESULTS_LOWER, rows[i].is_headline,
                    (double)histogram_percentile(histogram, rows[i].percentile) / 1e6);
    round_latency(round, histogram);
}

void round_warn(struct round *round, const char *format, ...) {
    char text[300], line[400];
    va_list list;
    if (round->number == 0)
        return;
    va_start(list, format);
    vsnprintf(text, sizeof text, format, list);
    va_end(list);
    snprintf(line, sizeof line, "%s: %s", round_peer(round), text);
    for (size_t i = 0; i < round->results->warning_count; i++)
        if (strcmp(round->results->warnings[i], line) == 0)
            return;
    results_scenario_warn(round->results, "%s", line);
}

bool round_fail(struct round *round, const char *format, ...) {
    char text[600], when[32] = "warm-up";
    va_list list;
    if (world_interrupted())
        return false; /* what an interrupted round lacks is nobody's failure */
    va_start(list, format);
    vsnprintf(text, sizeof text, format, list);
    va_end(list);
    if (round->number > 0)
        snprintf(when, sizeof when, "round %u", round->number);
    results_fail(round->results, "%s, %s: %s", round_peer(round), when, text);
    return false;
}

/* The last words of a process of the tunnel that has ended say more than the load, which only lost its connections. */
static bool fail_with_tail(struct round *round, const struct process *process, const char *who, const char *why) {
    char *tail = process_tail(process, 3);
    round_fail(round, "%s; the %s has ended: %s", why, who, tail != NULL ? tail : "");
    free(tail);
    return false;
}

static bool fail_load(struct round *round, const char *why) {
    const struct tunnel *tunnel = round->tunnel;
    if (tunnel->server.pid != 0 && !process_alive(&tunnel->server))
        return fail_with_tail(round, &tunnel->server, "server", why);
    if (tunnel->client.pid != 0 && !process_alive(&tunnel->client))
        return fail_with_tail(round, &tunnel->client, "client", why);
    return round_fail(round, "%s", why);
}

struct load_job round_job(const struct scenario *scenario, const struct round *round, enum load_kind kind) {
    return (struct load_job){.kind = kind,
                             .address = round->tunnel->address,
                             .flows = scenario->flows > 0 ? scenario->flows : 1,
                             .message_bytes = scenario->message_bytes,
                             .rate = scenario->rate,
                             .warmup_s = round->warmup_s,
                             .measure_s = round->seconds,
                             .any_port = scenario->idle_flows > 0,
                             .key = round->key};
}

bool round_check(struct round *round, const struct load_result *result) {
    if (!result->ok)
        return fail_load(round, result->why);
    return result->measured_s > 0 || round_fail(round, "the load measured nothing");
}

/* The blink of a smoke may pass without a byte on a busy machine, which is no failure of the tunnel's. */
static bool is_too_short(const struct round *round, const struct load_result *result) {
    return round->size == SIZE_SMOKE && result->ok && !world_interrupted() &&
           result->down_bytes + result->up_bytes + result->operations == 0;
}

bool round_run(struct round *round, const struct load_job *job, struct load_result *result) {
    struct load_job longer = *job;
    load_run(job, &round->load_place, result);
    for (unsigned again = 0; is_too_short(round, result) && again < SMOKE_AGAIN_MAX; again++) {
        longer.measure_s *= SMOKE_LONGER;
        load_run(&longer, &round->load_place, result);
    }
    return round_check(round, result);
}

struct load *round_begin(struct round *round, const struct load_job *job) {
    struct load *load = load_start(job, &round->load_place);
    if (load == NULL) {
        round_fail(round, "load: %s", strerror(errno));
        return NULL;
    }
    if (load_ready(load, READY_S + job->flows * READY_FLOWS_S))
        return load;
    struct load_result result;
    load_stop(load);
    load_wait(load, &result);
    fail_load(round, result.ok ? "the flows were not there in time" : result.why);
    return NULL;
}

bool round_finish(struct round *round, struct load *load, bool is_quiet, struct load_result *result) {
    load_stop(load);
    load_wait(load, result);
    if (result->ok)
        return true;
    return is_quiet ? false : fail_load(round, result->why);
}

static bool is_bulk(enum load_kind kind) {
    return kind == LOAD_DOWN || kind == LOAD_UP;
}

/* Processor time is only known for the job as a whole, so it is divided by the work of the whole job, warm-up and all:
 * bytes are in the samples; operations are as many per second as in the measured time. */
static struct round_work work_of(const struct load_job *job, const struct load_result *result, double elapsed_s) {
    if (!is_bulk(job->kind)) {
        double measured = (double)result->operations / 1e3;
        return (struct round_work){"s/1000 operations", measured * fmax(1, elapsed_s / result->measured_s), measured};
    }
    double bytes = 0, measured = (double)(result->down_bytes + result->up_bytes);
    for (uint32_t i = 0; i < result->sample_count; i++)
        bytes += (double)result->samples[i];
    return (struct round_work){"s/GB", fmax(bytes, measured) / 1e9, measured / 1e9};
}

bool round_load(struct round *round, const struct load_job *job, struct load_result *result) {
    struct round_account account;
    if (!round_account_open(round, &account) || !round_run(round, job, result))
        return false;
    struct round_work work = work_of(job, result, round_now_s() - account.began_s);
    return round_account_close(round, &account, result, &work);
}
