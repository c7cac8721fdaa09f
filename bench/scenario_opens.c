/* Connections through the tunnel: how many a second, and what those that only stand there cost the others. */
#include "bench/round.h"
#include "bench/scenario_runs.h"

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

/* Half of the time each, so that the many idle flows have to be made only once. */
static bool opens_and_bulk(const struct scenario *scenario, struct round *round) {
    struct load_job opens = round_job(scenario, round, LOAD_OPEN), bulk = round_job(scenario, round, LOAD_DOWN);
    struct load_result result;
    opens.flows = scenario->at_once;
    opens.measure_s = bulk.measure_s = round->seconds / 2;
    if (!round_run(round, &opens, &result))
        return false;
    opens_values(round, &result);
    if (!round_load(round, &bulk, &result))
        return false;
    round_value(round, "throughput", "MB/s", RESULTS_HIGHER, true, (double)result.down_bytes / result.measured_s / 1e6);
    return true;
}

bool idle_run(const struct scenario *scenario, struct round *round) {
    struct load_job hold = round_job(scenario, round, LOAD_HOLD);
    struct load_result held;
    hold.flows = scenario_idle_flows(scenario, round->size);
    hold.measure_s = 0;
    hold.patience_ms = ROUND_IDLE_PATIENCE_MS;
    hold.key++;
    if (hold.flows < scenario->idle_flows)
        round_warn(round, "a smoke: only %u idle flows", hold.flows);
    double began_s = round_now_s();
    struct load *load = round_begin(round, &hold);
    if (load == NULL)
        return false;
    double took_s = round_now_s() - began_s;
    bool measured = opens_and_bulk(scenario, round);
    if (!round_finish(round, load, !measured, &held) || !measured)
        return false;
    if (held.operations < hold.flows)
        return round_fail(round, "only %lu of %u idle flows were held", (unsigned long)held.operations, hold.flows);
    round_value(round, "opens-of-idle", "1/s", RESULTS_INFORMATION, false, hold.flows / took_s);
    return true;
}
