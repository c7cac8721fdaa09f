/* Bulk: as much as goes through. Bytes are counted, and compared with what was sent, where they arrive. */
#include "bench/round.h"
#include "bench/scenario_runs.h"

#define MEGABYTE 1e6

static void bulk_both_values(struct round *round, const struct load_result *result) {
    round_value(round, "down-throughput", "MB/s", RESULTS_HIGHER, false,
                (double)result->down_bytes / result->measured_s / MEGABYTE);
    round_value(round, "up-throughput", "MB/s", RESULTS_HIGHER, false,
                (double)result->up_bytes / result->measured_s / MEGABYTE);
}

bool bulk_run(const struct scenario *scenario, struct round *round) {
    struct load_job job = round_job(scenario, round, scenario->direction == 'u' ? LOAD_UP : LOAD_DOWN);
    struct load_result result;
    if (scenario->direction == 'b')
        job.both_flows = job.flows;
    if (!round_load(round, &job, &result))
        return false;
    round_value(round, "throughput", "MB/s", RESULTS_HIGHER, true,
                (double)(result.down_bytes + result.up_bytes) / result.measured_s / MEGABYTE);
    round_value(round, "longest-stall", "ms", RESULTS_INFORMATION, false, result.longest_stall_s * 1e3);
    if (scenario->direction == 'b')
        bulk_both_values(round, &result);
    return true;
}
