/* Bulk over a long link. */
#include "bench/round.h"
#include "bench/scenario_runs.h"

#define LATE_MAX 0.01 /* of the packets, carried late by the link itself */

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
