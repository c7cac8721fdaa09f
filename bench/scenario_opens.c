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

/* What a second brings of both. */
struct speeds {
    double opens, bytes;
};

/* A sixth of the round's time each. */
static bool opens_and_bulk(const struct scenario *scenario, struct round *round, bool is_held, struct speeds *speeds) {
    struct load_job opens = round_job(scenario, round, LOAD_OPEN), bulk = round_job(scenario, round, LOAD_DOWN);
    struct load_result result;
    opens.flows = scenario->at_once;
    opens.measure_s = bulk.measure_s = round->seconds / 6;
    if (!round_run(round, &opens, &result))
        return false;
    speeds->opens = (double)result.operations / result.measured_s;
    if (is_held)
        opens_values(round, &result);
    if (!(is_held ? round_load(round, &bulk, &result) : round_run(round, &bulk, &result)))
        return false;
    speeds->bytes = (double)result.down_bytes / result.measured_s;
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

static void kept_value(struct round *round, const char *metric, double before, double beside, double after) {
    if (before + after > 0) /* a smoke may be too short for anything */
        round_value(round, metric, "of alone", RESULTS_HIGHER, true, beside / ((before + after) / 2));
}

/* Without them before and after: what changes with time is not counted as theirs. */
bool idle_run(const struct scenario *scenario, struct round *round) {
    struct speeds before, beside, after;
    if (scenario_idle_flows(scenario, round->size) < scenario->idle_flows)
        round_warn(round, "a smoke: only %u idle flows", scenario_idle_flows(scenario, round->size));
    if (!opens_and_bulk(scenario, round, false, &before) || !beside_idle(scenario, round, &beside) ||
        !opens_and_bulk(scenario, round, false, &after))
        return false;
    round_value(round, "throughput", "MB/s", RESULTS_HIGHER, true, beside.bytes / 1e6);
    kept_value(round, "opens-kept", before.opens, beside.opens, after.opens);
    kept_value(round, "throughput-kept", before.bytes, beside.bytes, after.bytes);
    return true;
}
