/* New keys all the time: what the exchange stops. The tunnel is started with the scenario's RekeyLimit. */
#include "bench/round.h"
#include "bench/scenario_runs.h"

bool rekey_bulk_run(const struct scenario *scenario, struct round *round) {
    struct load_job job = round_job(scenario, round, LOAD_DOWN);
    struct load_result result;
    if (!round_load(round, &job, &result))
        return false;
    round_value(round, "longest-stall", "ms", RESULTS_LOWER, true, result.longest_stall_s * 1e3);
    round_value(round, "throughput", "MB/s", RESULTS_HIGHER, true, (double)result.down_bytes / result.measured_s / 1e6);
    return true;
}

/* The messages themselves use the limit up, so that nothing but the exchange holds them up. */
bool rekey_latency_run(const struct scenario *scenario, struct round *round) {
    return latency_rate_run(scenario, round);
}
