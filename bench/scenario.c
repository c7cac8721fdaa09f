/* Who takes part in a scenario, whether it can run here, and how long it takes. */
#include "bench/scenario.h"
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>

/* Descriptors that a process needs beside its flows'. */
#define DESCRIPTORS_SPARE 500u
#define SMOKE_IDLE_FLOWS 200u

/* How long things take that are not measured, roughly. */
#define START_S 0.25    /* a tunnel: key exchange and login */
#define START_TRIPS 9.0 /* … of so many round trips */
#define ROUND_S 0.1     /* the load's process, and its connections … */
#define ROUND_TRIPS 3.0 /* … made and ended in so many */
#define LINK_S 0.2      /* namespaces and devices */
#define SCENARIO_S 0.2  /* a target, and what there is to write */

static bool is_listed(const char *const *names, const char *name) {
    for (; names != NULL && *names != NULL; names++)
        if (strcmp(*names, name) == 0)
            return true;
    return false;
}

bool scenario_suits(const struct scenario *scenario, enum scenario_size size, const struct peer *peer, bool is_named) {
    if ((scenario->needs_ssh && !peer->is_ssh) || (scenario->needs_client && !peer->has_client))
        return false;
    if (scenario->rekey != NULL && !scenario->rekeys_if_able && !peer->can_rekey)
        return false;
    if (scenario->limit != NULL && !peer->can_limit)
        return false;
    if (scenario->relays_only && peer->has_client)
        return false;
    bool is_smoke = size == SIZE_SMOKE && scenario->smoke_peers != NULL;
    return is_named || is_listed(is_smoke ? scenario->smoke_peers : scenario->peers, peer->name);
}

uint32_t scenario_idle_flows(const struct scenario *scenario, enum scenario_size size) {
    bool is_less = size == SIZE_SMOKE && scenario->idle_flows > SMOKE_IDLE_FLOWS;
    return is_less ? SMOKE_IDLE_FLOWS : scenario->idle_flows;
}

/* The harness raises its own limit, so what may be had counts. A client has one descriptor for each flow, and so have
 * server, load and target. */
bool scenario_possible(const struct scenario *scenario, enum scenario_size size, char *why, size_t why_bytes) {
    struct rlimit limit;
    unsigned long needed = scenario_idle_flows(scenario, size) + scenario->flows + DESCRIPTORS_SPARE;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_max >= needed)
        return true;
    snprintf(why, why_bytes, "it takes %lu descriptors, and the limit is %lu (ulimit -Hn)", needed,
             (unsigned long)limit.rlim_max);
    return false;
}

double scenario_warmup_s(const struct scenario *scenario, enum scenario_size size) {
    static const double plain[SIZE_COUNT] = {[SIZE_SMOKE] = 0.02, [SIZE_QUICK] = 0.15, [SIZE_STANDARD] = 0.3};
    double trips = size == SIZE_SMOKE ? 1 : 10;
    return plain[size] + trips * scenario->shape.rtt_ms / 1000;
}

bool scenario_has_warmup_round(const struct scenario *scenario, enum scenario_size size) {
    return size != SIZE_SMOKE && !scenario->needs_fresh_tunnel && scenario->alone_s <= 0;
}

double scenario_estimate_s(const struct scenario *scenario, enum scenario_size size, unsigned peers, unsigned rounds) {
    if (scenario->seconds[size] <= 0 || peers == 0)
        return 0;
    if (scenario->rounds[size] > 0)
        rounds = scenario->rounds[size];
    bool has_link = scenario->shape.rtt_ms > 0 || scenario->shape.rate_mbit > 0;
    double rtt_s = scenario->shape.rtt_ms / 1000;
    double start = START_S + START_TRIPS * rtt_s;
    double round = ROUND_S + ROUND_TRIPS * rtt_s + scenario_warmup_s(scenario, size) +
                   (size == SIZE_SMOKE ? 0 : scenario->overhead_s);
    double peer = rounds * (round + scenario->seconds[size]);
    peer += scenario->needs_fresh_tunnel ? rounds * start : start;
    peer += scenario_has_warmup_round(scenario, size) ? round + scenario->seconds[SIZE_SMOKE] : 0;
    return SCENARIO_S + (has_link ? LINK_S : 0) + peers * peer;
}
