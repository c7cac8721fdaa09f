/* Small messages there and back: how many when each waits for the last, and how late when they come at their own time.
 */
#include "bench/round.h"
#include "bench/scenario_runs.h"

#define LATE_MAX 0.01 /* of the planned messages, sent late by the load itself */

bool messages_run(const struct scenario *scenario, struct round *round) {
    struct load_job job = round_job(scenario, round, LOAD_ECHO);
    struct load_result result;
    if (!round_load(round, &job, &result))
        return false;
    round_value(round, "rate", "messages/s", RESULTS_HIGHER, true, (double)result.operations / result.measured_s);
    round_latencies(round, &result.latency);
    return true;
}

/* A message that the load sent late is late in the figures too, and nobody else's fault. */
static void warn_of_late(struct round *round, const struct load_result *result) {
    if ((double)result->late > LATE_MAX * (double)result->operations)
        round_warn(round, "the load sent more than a hundredth of its messages late");
}

bool latency_rate_run(const struct scenario *scenario, struct round *round) {
    struct load_job job = round_job(scenario, round, LOAD_ECHO);
    struct load_result result;
    if (!round_load(round, &job, &result))
        return false;
    warn_of_late(round, &result);
    round_latencies(round, &result.latency);
    return true;
}

bool latency_loaded_run(const struct scenario *scenario, struct round *round) {
    struct load_job bulk = round_job(scenario, round, scenario->direction == 'u' ? LOAD_UP : LOAD_DOWN);
    struct load_job echo = round_job(scenario, round, LOAD_ECHO);
    struct load_result bulk_result, result;
    bulk.rate = 0;
    bulk.measure_s = 0;
    echo.flows = 1;
    echo.key++; /* another stream than the bulk's */
    struct load *load = round_begin(round, &bulk);
    if (load == NULL)
        return false;
    bool echoed = round_run(round, &echo, &result);
    if (!round_finish(round, load, !echoed, &bulk_result) || !echoed)
        return false;
    warn_of_late(round, &result);
    round_latencies(round, &result.latency);
    if (bulk_result.measured_s > 0)
        round_value(round, "bulk-throughput", "MB/s", RESULTS_INFORMATION, false,
                    (double)(bulk_result.down_bytes + bulk_result.up_bytes) / bulk_result.measured_s / 1e6);
    return true;
}
