/* Small messages beside bulk that does not take all there is: what waiting remains is the tunnel's own, not that of a
 * queue that must be full. */
#include "bench/round.h"
#include "bench/scenario_runs.h"

#define BUSY_SHARE 0.8
#define REKEY_BULK_BYTES_S 100e6 /* with new keys every 16 MiB: six times a second */
#define BUSY_OFF 0.15            /* so far from the planned load it is another load */

static bool echo_run(const struct scenario *scenario, struct round *round, double seconds, struct load_result *result) {
    struct load_job echo = round_job(scenario, round, LOAD_ECHO);
    echo.flows = 1;
    echo.measure_s = seconds;
    echo.key++; /* another stream than the bulk's */
    return round_run(round, &echo, result);
}

/* Messages beside bulk of so many bytes a second; 0: as many as go through. */
static bool echo_beside(const struct scenario *scenario, struct round *round, double bytes_s, double seconds,
                        struct load_result *echo, double *bulk_bytes_s) {
    struct load_job bulk = round_job(scenario, round, LOAD_DOWN);
    struct load_result result;
    bulk.rate = 0;
    bulk.measure_s = 0;
    bulk.pace = bytes_s;
    struct load *load = round_begin(round, &bulk);
    if (load == NULL)
        return false;
    bool echoed = echo_run(scenario, round, seconds, echo);
    if (!round_finish(round, load, !echoed, &result) || !echoed)
        return false;
    *bulk_bytes_s = result.measured_s > 0 ? (double)result.down_bytes / result.measured_s : 0;
    return true;
}

static double p99_ms(const struct load_result *result) {
    return (double)histogram_percentile(&result->latency, 99) / 1e6;
}

/* A third of the time each: idle, beside as much as goes through, and beside four fifths of that. What goes through is
 * measured with the messages, as a tunnel may carry less while somebody waits for them. */
bool latency_busy_run(const struct scenario *scenario, struct round *round) {
    struct load_result idle, result;
    double all = 0, bulk_bytes_s = 0, third_s = round->seconds / 3;
    if (!echo_run(scenario, round, third_s, &idle) || !echo_beside(scenario, round, 0, third_s, &result, &all) ||
        !echo_beside(scenario, round, BUSY_SHARE * all, third_s, &result, &bulk_bytes_s))
        return false;
    round_latencies(round, &result.latency);
    round_value(round, "idle-p99", "ms", RESULTS_LOWER, false, p99_ms(&idle));
    round_value(round, "p99-added", "ms", RESULTS_LOWER, true, p99_ms(&result) - p99_ms(&idle));
    if (!(all > 0))
        return true; /* a smoke may be too short */
    round_value(round, "load", "of all", RESULTS_INFORMATION, false, bulk_bytes_s / all);
    if (round->size != SIZE_SMOKE &&
        (bulk_bytes_s < (BUSY_SHARE - BUSY_OFF) * all || bulk_bytes_s > (BUSY_SHARE + BUSY_OFF) * all))
        round_warn(round, "the load was not four fifths of what the tunnel carries");
    return true;
}

bool rekey_busy_run(const struct scenario *scenario, struct round *round) {
    struct load_result result;
    double bulk_bytes_s;
    if (!echo_beside(scenario, round, REKEY_BULK_BYTES_S, round->seconds, &result, &bulk_bytes_s))
        return false;
    round_latencies(round, &result.latency);
    round_value(round, "longest-stall", "ms", RESULTS_LOWER, true,
                (double)histogram_percentile(&result.latency, 100) / 1e6);
    round_value(round, "bulk-throughput", "MB/s", RESULTS_INFORMATION, false, bulk_bytes_s / 1e6);
    return true;
}
