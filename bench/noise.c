#include "bench/noise.h"
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#define LOOK_NS 500000000L
#define BUSY_SHARE_MAX 0.1
#define LOAD_PER_CORE_MAX 0.5
#define SPREAD_MAX 0.25
/* Quartiles of fewer rounds say nothing. */
#define SPREAD_ROUNDS_MIN 3u

/* The busy share of all processors' time; less than 0: not known. */
static double busy_share(const struct machine_time *since, const struct machine_time *now) {
    double busy = now->busy_s - since->busy_s + now->stolen_s - since->stolen_s;
    double all = busy + now->idle_s - since->idle_s;
    return all > 0 ? busy / all : -1;
}

void noise_look_before(struct results *results) {
    const struct timespec look = {.tv_nsec = LOOK_NS};
    double cores = (double)sysconf(_SC_NPROCESSORS_ONLN), average;
    struct machine_time since, now;
    if (machine_time_now(&since) && nanosleep(&look, NULL) == 0 && machine_time_now(&now)) {
        double busy = busy_share(&since, &now);
        if (busy > BUSY_SHARE_MAX)
            results_warn(results, "the machine was %.0f %% busy before the run began", 100 * busy);
    }
    if (getloadavg(&average, 1) == 1 && average > LOAD_PER_CORE_MAX * cores)
        results_warn(results, "the load average was %.1f on %.0f cores before the run began", average, cores);
}

void noise_judge_spread(struct results_scenario *scenario, const char *base_peer) {
    for (size_t i = 0; i < scenario->metric_count; i++) {
        const struct results_metric *metric = &scenario->metrics[i];
        const struct results_series *series = results_find_series(metric, base_peer);
        struct stats_summary summary;
        if (!metric->is_headline || series == NULL || series->count < SPREAD_ROUNDS_MIN)
            continue;
        stats_summarise(series->values, series->count, &summary);
        double spread = summary.median > 0 ? (summary.high_quartile - summary.low_quartile) / summary.median : 0;
        if (spread > SPREAD_MAX)
            results_scenario_warn(scenario, "noisy: half of %s's rounds lie %.0f %% apart in %s", base_peer,
                                  100 * spread, metric->name);
    }
}
