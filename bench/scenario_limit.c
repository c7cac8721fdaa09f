/* Memory under thousands of readers that have stopped, at windows as full as MemoryLimit lets them be: what both ends
 * take, that all content comes through once the readers return, and what is left afterwards. */
#include "bench/round.h"
#include "bench/scenario_runs.h"
#include "bench/settle.h"
#include <math.h>
#include <stdlib.h>

/* What a process may take beside MemoryLimit's windows: packets on their way out and the ring of what comes in (128 and
 * 16 MiB for each shard), and what a flow costs. */
#define BESIDE_BYTES (160u << 20)
#define BESIDE_FLOW_BYTES 2048u
/* More than windows and sockets take, so that every flow stands still in the middle of it. */
#define FLOW_BYTES (144u << 10)
#define PAUSE_BYTES 4096u
/* The kernel has a limit for all sockets of the machine. */
#define BUFFER_BYTES 8192u
#define FULL_STEP_S 0.25
#define FULL_MAX_S 20.0
#define BACK_MAX_S 8.0
#define BACK_NEAR 1.1

struct ends {
    struct usage client, server;
};

static double part(const struct usage *of, const struct usage *whole) {
    return (double)of->rss_bytes / (double)whole->rss_bytes;
}

static bool ends_look(struct round *round, bool settled, struct ends *ends) {
    pid_t client = round->tunnel->client.pid, server = round->tunnel->server.pid;
    bool there = settled ? settle_usage(round, client, &ends->client) && settle_usage(round, server, &ends->server)
                         : usage_of(client, true, &ends->client) && usage_of(server, true, &ends->server);
    return there || round_fail(round, "an end of the tunnel is gone");
}

/* Memory goes back step by step once all is quiet: waits until it is near what it was, or it won't be. */
static bool wait_back(struct round *round, const struct ends *idle, struct ends *after) {
    double end_s = round_now_s() + BACK_MAX_S;
    for (;;) {
        if (!ends_look(round, false, after))
            return false;
        bool is_back =
            part(&after->client, &idle->client) < BACK_NEAR && part(&after->server, &idle->server) < BACK_NEAR;
        if (is_back || round->size == SIZE_SMOKE || round_now_s() > end_s || world_interrupted())
            return true;
        round_sleep(FULL_STEP_S);
    }
}

/* Until neither end takes more. */
static bool wait_full(struct round *round, struct ends *full) {
    double end_s = round_now_s() + FULL_MAX_S;
    uint64_t last = 0, now;
    for (;; last = now) {
        if (!ends_look(round, false, full))
            return false;
        now = full->client.rss_bytes + full->server.rss_bytes;
        if (now <= last || round->size == SIZE_SMOKE || round_now_s() > end_s || world_interrupted())
            return true;
        round_sleep(FULL_STEP_S);
    }
}

/* As MemoryLimit takes it. */
static double limit_bytes(const char *text) {
    char *unit;
    double number = strtod(text, &unit);
    return *unit == 'G'   ? ldexp(number, 30)
           : *unit == 'M' ? ldexp(number, 20)
           : *unit == 'K' ? ldexp(number, 10)
                          : number;
}

static bool keeps_limit(const struct scenario *scenario, struct round *round, const char *who, const struct usage *idle,
                        const struct usage *peak) {
    double flows = scenario_idle_flows(scenario, round->size);
    double most = limit_bytes(scenario->limit) + BESIDE_BYTES + flows * BESIDE_FLOW_BYTES + (double)idle->rss_bytes;
    return (double)peak->peak_rss_bytes <= most ||
           round_fail(round, "the %s took %.0f MB, and MemoryLimit %s with its share beside is %.0f MB", who,
                      (double)peak->peak_rss_bytes / 1e6, scenario->limit, most / 1e6);
}

static void limit_values(struct round *round, const struct ends *idle, const struct ends *peak,
                         const struct ends *after) {
    round_value(round, "back", "of idle", RESULTS_LOWER, true,
                fmax(part(&after->client, &idle->client), part(&after->server, &idle->server)));
    round_value(round, "client-back", "of idle", RESULTS_LOWER, false, part(&after->client, &idle->client));
    round_value(round, "server-back", "of idle", RESULTS_LOWER, false, part(&after->server, &idle->server));
    round_value(round, "client-peak", "MB", RESULTS_LOWER, true, (double)peak->client.peak_rss_bytes / 1e6);
    round_value(round, "server-peak", "MB", RESULTS_LOWER, true, (double)peak->server.peak_rss_bytes / 1e6);
    round_value(round, "idle-memory", "MB", RESULTS_INFORMATION, false,
                (double)(idle->client.rss_bytes + idle->server.rss_bytes) / 1e6);
}

bool memory_limit_run(const struct scenario *scenario, struct round *round) {
    struct load_job job = round_job(scenario, round, LOAD_DOWN);
    struct load_result result;
    struct ends idle, full, peak, after;
    job.flows = scenario_idle_flows(scenario, round->size);
    job.measure_s = 0;
    job.bytes_per_flow = FLOW_BYTES;
    job.pause_bytes = PAUSE_BYTES;
    job.resumes = true;
    job.buffer_bytes = BUFFER_BYTES;
    job.patience_ms = ROUND_IDLE_PATIENCE_MS;
    if (!ends_look(round, true, &idle))
        return false;
    struct load *load = round_begin(round, &job);
    if (load == NULL)
        return false;
    bool is_full = wait_full(round, &full);
    double began_s = round_now_s();
    if (!round_finish(round, load, !is_full, &result) || !is_full)
        return false;
    if (result.down_bytes != (uint64_t)FLOW_BYTES * job.flows)
        return round_fail(round, "not all content came through");
    round_value(round, "recovery", "s", RESULTS_LOWER, false, round_now_s() - began_s);
    if (!ends_look(round, false, &peak) || !wait_back(round, &idle, &after))
        return false;
    limit_values(round, &idle, &peak, &after);
    return keeps_limit(scenario, round, "client", &idle.client, &peak.client) &&
           keeps_limit(scenario, round, "server", &idle.server, &peak.server);
}
