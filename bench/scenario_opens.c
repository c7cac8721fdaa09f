/* Connections through the tunnel: how many a second, and what those that only stand there cost the others. */
#include "bench/round.h"
#include "bench/scenario_runs.h"
#include <math.h>

#define ENDED_MAX_S 5.0
#define ENDED_STEP_S 0.1
#define ENDED_DESCRIPTORS 200u /* of both ends, few flows included */

static void opens_values(struct round *round, const struct load_result *result) {
    round_value(round, "opens", "1/s", RESULTS_HIGHER, true, (double)result->operations / result->measured_s);
    round_latencies(round, &result->latency);
}

bool opens_run(const struct scenario *scenario, struct round *round) {
    struct load_job job = round_job(scenario, round, LOAD_OPEN);
    struct load_result result;
    job.flows = scenario->at_once;
    if (!round_load(round, &job, &result))
        return false;
    opens_values(round, &result);
    return true;
}

/* What a second brings of both, and what one of them costs in processor time: on a machine that has other things to do
 * the cost is what can be compared. */
struct speeds {
    double opens, bytes, open_cpu_s, byte_cpu_s;
};

static bool spent_s(struct round *round, double *seconds) {
    struct usage client, server;
    if (!usage_of(round->tunnel->client.pid, false, &client) || !usage_of(round->tunnel->server.pid, false, &server))
        return round_fail(round, "an end of the tunnel is gone");
    *seconds = client.user_s + client.system_s + server.user_s + server.system_s;
    return true;
}

/* Warm-up and all: it goes at the same speed. */
static bool run_at_cost(struct round *round, const struct load_job *job, bool with_account, struct load_result *result,
                        double *cpu_share) {
    double before, after, began_s = round_now_s();
    if (!spent_s(round, &before) || !(with_account ? round_load(round, job, result) : round_run(round, job, result)) ||
        !spent_s(round, &after))
        return false;
    *cpu_share = (after - before) / (round_now_s() - began_s);
    return true;
}

/* A sixth of the round's time each. */
static bool opens_and_bulk(const struct scenario *scenario, struct round *round, bool is_held, struct speeds *speeds) {
    struct load_job opens = round_job(scenario, round, LOAD_OPEN), bulk = round_job(scenario, round, LOAD_DOWN);
    struct load_result result;
    double cpu_share = 0;
    opens.flows = scenario->at_once;
    opens.measure_s = bulk.measure_s = round->seconds / 6;
    if (!run_at_cost(round, &opens, false, &result, &cpu_share))
        return false;
    speeds->opens = (double)result.operations / result.measured_s;
    speeds->open_cpu_s = cpu_share / speeds->opens;
    if (is_held)
        opens_values(round, &result);
    if (!run_at_cost(round, &bulk, is_held, &result, &cpu_share))
        return false;
    speeds->bytes = (double)result.down_bytes / result.measured_s;
    speeds->byte_cpu_s = cpu_share / speeds->bytes;
    return true;
}

/* Holds them, measures, lets them go. */
static bool beside_idle(const struct scenario *scenario, struct round *round, struct speeds *speeds) {
    struct load_job hold = round_job(scenario, round, LOAD_HOLD);
    struct load_result held;
    hold.flows = scenario_idle_flows(scenario, round->size);
    hold.measure_s = 0;
    hold.patience_ms = ROUND_IDLE_PATIENCE_MS;
    hold.key++;
    double began_s = round_now_s();
    struct load *load = round_begin(round, &hold);
    if (load == NULL)
        return false;
    double took_s = round_now_s() - began_s;
    bool measured = opens_and_bulk(scenario, round, true, speeds);
    if (!round_finish(round, load, !measured, &held) || !measured)
        return false;
    if (held.operations < hold.flows)
        return round_fail(round, "only %lu of %u idle flows were held", (unsigned long)held.operations, hold.flows);
    round_value(round, "opens-of-idle", "1/s", RESULTS_INFORMATION, false, hold.flows / took_s);
    return true;
}

static void compare(struct round *round, const char *metric, enum results_better better, double before, double beside,
                    double after) {
    double ratio = beside / ((before + after) / 2);
    if (isfinite(ratio)) /* a smoke may be too short for anything */
        round_value(round, metric, "of alone", better, true, ratio);
}

/* Ending thousands of flows is work that is none of those that follow. */
static void wait_ended(const struct round *round) {
    double end_s = round_now_s() + ENDED_MAX_S;
    struct usage client = {0}, server = {0};
    do {
        round_sleep(ENDED_STEP_S);
        if (!usage_of(round->tunnel->client.pid, false, &client) ||
            !usage_of(round->tunnel->server.pid, false, &server))
            return; /* whoever measures next says so */
    } while (client.descriptors + server.descriptors > ENDED_DESCRIPTORS && round_now_s() < end_s &&
             !world_interrupted());
}

/* Without them before and after: what changes with time is not counted as theirs. */
bool idle_run(const struct scenario *scenario, struct round *round) {
    struct speeds before, beside, after;
    if (scenario_idle_flows(scenario, round->size) < scenario->idle_flows)
        round_warn(round, "a smoke: only %u idle flows", scenario_idle_flows(scenario, round->size));
    if (!opens_and_bulk(scenario, round, false, &before) || !beside_idle(scenario, round, &beside))
        return false;
    wait_ended(round);
    if (!opens_and_bulk(scenario, round, false, &after))
        return false;
    round_value(round, "throughput", "MB/s", RESULTS_HIGHER, true, beside.bytes / 1e6);
    compare(round, "opens-kept", RESULTS_HIGHER, before.opens, beside.opens, after.opens);
    compare(round, "throughput-kept", RESULTS_HIGHER, before.bytes, beside.bytes, after.bytes);
    compare(round, "open-cost", RESULTS_LOWER, before.open_cpu_s, beside.open_cpu_s, after.open_cpu_s);
    compare(round, "byte-cost", RESULTS_LOWER, before.byte_cpu_s, beside.byte_cpu_s, after.byte_cpu_s);
    return true;
}
