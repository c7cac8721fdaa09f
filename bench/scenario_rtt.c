/* Bulk over a long link. */
#include "bench/round.h"
#include "bench/scenario_runs.h"
#include <math.h>

#define LATE_MAX 0.01 /* of the packets, carried late by the link itself */

/* What a flow reaches from its start, how much of the link that is, and how soon. */
#define UP_TRIPS 20 /* round trips that a tunnel is up for before the flow: all its connections are there */
#define START_S 3.0 /* a flow that does not fill the link by then is slow to start: what it has after that counts */
#define HELD_S 0.5  /* a lull or a burst is not the link filled */
#define FILLED_SHARE 0.9 /* of the line's rate, headers of TCP and IP included, which take 0.035 of it */
#define HELD_SAMPLES ((uint32_t)(HELD_S * 1e3 / LOAD_SAMPLE_MS))

static void warn_of_link(struct round *round, uint64_t packets_before, uint64_t late_before) {
    const struct link_counters *counters = round->link->counters;
    if (counters == NULL)
        return;
    double packets = (double)(counters->packets - packets_before), late = (double)(counters->late - late_before);
    if (late > LATE_MAX * packets)
        round_warn(round, "the link's carrier was late with more than a hundredth of the packets");
}

bool rtt_run(const struct scenario *scenario, struct round *round) {
    struct link *link = round->link;
    if (link == NULL)
        return round_fail(round, "there is no link");
    if (link->is_proxy && scenario->shape.loss > 0) {
        round_warn(round, "left out: a proxy cannot lose packets");
        return true;
    }
    uint64_t packets = link->counters != NULL ? link->counters->packets : 0;
    uint64_t late = link->counters != NULL ? link->counters->late : 0;
    if (!bulk_run(scenario, round))
        return false;
    warn_of_link(round, packets, late);
    return true;
}

/* Seconds from the connection's start to the end of the first HELD_S in which it had the rate. False: it never had;
 * how long it was watched then. */
static bool ramp_of(const struct load_result *result, double bytes_per_s, double *ramp_s) {
    double window = 0;
    for (uint32_t i = 0; i < result->sample_count; i++) {
        window += (double)result->samples[i];
        if (i >= HELD_SAMPLES)
            window -= (double)result->samples[i - HELD_SAMPLES];
        *ramp_s = (i + 1) * LOAD_SAMPLE_MS / 1e3;
        if (i + 1 >= HELD_SAMPLES && window >= bytes_per_s * HELD_S)
            return true;
    }
    return false;
}

bool distance_run(const struct scenario *scenario, struct round *round) {
    struct load_job job = round_job(scenario, round, scenario->direction == 'u' ? LOAD_UP : LOAD_DOWN);
    struct load_result result;
    double line = scenario->shape.rate_mbit * 1e6 / 8, ramp_s = 0;
    if (round->link == NULL)
        return round_fail(round, "there is no link");
    if (round->size != SIZE_SMOKE) {
        job.warmup_s = fmax(job.warmup_s, START_S);
        round_sleep(UP_TRIPS * scenario->shape.rtt_ms / 1000);
    }
    uint64_t packets = round->link->counters->packets, late = round->link->counters->late;
    if (!round_load(round, &job, &result))
        return false;
    double rate = (double)(result.down_bytes + result.up_bytes) / result.measured_s;
    bool is_filled = ramp_of(&result, FILLED_SHARE * line, &ramp_s);
    round_value(round, "throughput", "MB/s", RESULTS_HIGHER, true, rate / 1e6);
    round_value(round, "share", "% of the link", RESULTS_HIGHER, true, 100 * rate / line);
    round_value(round, "ramp", "s", RESULTS_LOWER, true, ramp_s);
    round_value(round, "longest-stall", "ms", RESULTS_INFORMATION, false, result.longest_stall_s * 1e3);
    if (!is_filled && round->size != SIZE_SMOKE)
        round_warn(round, "never held 90 %% of the link: its ramp is longer than what is shown");
    warn_of_link(round, packets, late);
    return true;
}
