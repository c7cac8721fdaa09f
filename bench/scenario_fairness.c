/* Whether one flow gets what another gets, and whether one that nobody reads takes from the others. */
#include "bench/round.h"
#include "bench/scenario_runs.h"
#include "bench/stats.h"
#include <math.h>

#define STALLED_FLOWS 4u
#define STALLED_AFTER_BYTES (256u << 10)
#define STALLED_SETTLE_S 0.3 /* until the tunnel's windows and the sockets' buffers are full */

struct shares {
    double jain, slowest_over_fastest;
};

static struct shares shares_of(const struct load_result *result) {
    static double bytes[LOAD_FLOWS_MAX];
    double slowest = INFINITY, fastest = 0;
    for (uint32_t i = 0; i < result->flow_count; i++) {
        bytes[i] = (double)result->flow_bytes[i];
        slowest = fmin(slowest, bytes[i]);
        fastest = fmax(fastest, bytes[i]);
    }
    return (struct shares){stats_jain(bytes, result->flow_count), fastest > 0 ? slowest / fastest : 0};
}

bool fairness_run(const struct scenario *scenario, struct round *round) {
    struct load_job job = round_job(scenario, round, LOAD_DOWN);
    struct load_result result;
    if (!round_load(round, &job, &result))
        return false;
    struct shares shares = shares_of(&result);
    round_value(round, "jain", "index", RESULTS_HIGHER, true, shares.jain);
    round_value(round, "slowest/fastest", "ratio", RESULTS_HIGHER, true, shares.slowest_over_fastest);
    if (result.down_bytes > 0)
        round_value(round, "longest-wait", "ms of the others", RESULTS_LOWER, true,
                    (double)result.longest_wait_bytes / (double)result.down_bytes * result.measured_s * 1e3);
    round_value(round, "longest-stall", "ms", RESULTS_LOWER, false, result.longest_stall_s * 1e3);
    return true;
}

static bool throughput(struct round *round, const struct load_job *job, double *bytes_per_second) {
    struct load_result result;
    if (!round_run(round, job, &result))
        return false;
    *bytes_per_second = (double)result.down_bytes / result.measured_s;
    /* A warm-up may be too short for a byte. */
    return *bytes_per_second > 0 || round->number == 0 ||
           round_fail(round, "nothing came through beside stalled readers");
}

/* A third of the time alone, a third beside flows whose readers have stopped, and a third alone again: what changes
 * with time is not counted as theirs. */
bool stalled_run(const struct scenario *scenario, struct round *round) {
    struct load_job bulk = round_job(scenario, round, LOAD_DOWN), stalled = bulk;
    struct load_result result;
    double before, beside = 0, after;
    bulk.measure_s = round->seconds / 3;
    stalled.flows = STALLED_FLOWS;
    stalled.measure_s = 0;
    stalled.pause_bytes = STALLED_AFTER_BYTES;
    stalled.patience_ms = ROUND_IDLE_PATIENCE_MS;
    stalled.key++;
    if (!throughput(round, &bulk, &before))
        return false;
    struct load *load = round_begin(round, &stalled);
    if (load == NULL)
        return false;
    round_sleep(STALLED_SETTLE_S);
    bool measured = throughput(round, &bulk, &beside);
    if (!round_finish(round, load, !measured, &result) || !measured || !throughput(round, &bulk, &after))
        return false;
    round_value(round, "throughput", "MB/s", RESULTS_HIGHER, true, beside / 1e6);
    round_value(round, "kept", "of alone", RESULTS_HIGHER, true, beside / ((before + after) / 2));
    return true;
}
