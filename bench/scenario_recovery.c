/* How long nothing comes when something breaks. No client measured here makes its own connection again (ssh ends when
 * it is lost, and so does leat), so the harness does what autossh does: it starts a client that has ended again at
 * once, with the same arguments. The time is thus from the break to the first byte of a load that opens its connections
 * again, starting included. Where a tunnel outlives a cut of the link it is what its TCP takes to notice the end of it.
 */
#include "bench/restart.h"
#include "bench/round.h"
#include "bench/scenario_runs.h"
#include <errno.h>
#include <math.h>
#include <signal.h>
#include <string.h>

#define CUT_S 0.5
#define CUT_SMOKE_S 0.2
#define RECOVERED_MAX_S 60.0
#define PROBE_S 0.05        /* between attempts to get through */
#define SETTLE_S 0.8        /* for the load to open its connection again once one gets through, … */
#define SETTLE_CUT_FACTOR 2 /* … and TCP without a tunnel waits as long again as the link was cut */

struct recovery {
    struct round *round;
    struct restart restart;
    unsigned restarts;
    double cut_s;
};

static bool start_again(struct recovery *recovery) {
    struct round *round = recovery->round;
    struct tunnel *tunnel = round->tunnel;
    const struct place *place = &round->tunnel_options->client_place;
    if (!restart_run(&recovery->restart, round->world, &tunnel->client, place))
        return round_fail(round, "the client cannot be started again: %s", strerror(errno));
    recovery->restarts++;
    /* One that ends at once, because the way is still cut, is started again. */
    world_wait_listening(&tunnel->client, ntohs(tunnel->address.sin_port), RECOVERED_MAX_S);
    return true;
}

static bool gets_through(struct round *round) {
    struct load_job probe = {.kind = LOAD_HOLD,
                             .address = round->tunnel->address,
                             .flows = 1,
                             .key = round->key + 1,
                             .patience_ms = (uint32_t)(RECOVERED_MAX_S * 1e3)};
    struct load_result result;
    struct load *load = load_start(&probe, &round->load_place);
    if (load == NULL)
        return false;
    bool ready = load_ready(load, RECOVERED_MAX_S);
    load_stop(load);
    load_wait(load, &result);
    return ready && result.ok;
}

static bool recover(struct recovery *recovery) {
    struct round *round = recovery->round;
    double deadline_s = round_now_s() + RECOVERED_MAX_S;
    while (!world_interrupted() && round_now_s() < deadline_s) {
        if (round->tunnel->client.pid != 0 && !process_alive(&round->tunnel->client) && !start_again(recovery))
            return false;
        if (gets_through(round)) {
            round_sleep(SETTLE_S + SETTLE_CUT_FACTOR * recovery->cut_s);
            return true;
        }
        round_sleep(PROBE_S);
    }
    return round_fail(round, "nothing got through any more");
}

/* The load must have had bytes again, or its longest stall is not over. */
static bool flows_again(const struct load_result *result, double since_s) {
    uint64_t bytes = 0;
    for (uint32_t i = (uint32_t)fmax(0, since_s * 1e3 / LOAD_SAMPLE_MS); i < result->sample_count; i++)
        bytes += result->samples[i];
    return bytes > 0;
}

static bool disturb_killed(struct recovery *recovery) {
    struct process *client = &recovery->round->tunnel->client;
    if (client->pid <= 0)
        return round_fail(recovery->round, "there is no client to kill");
    kill(client->pid, SIGKILL);
    while (process_alive(client))
        round_sleep(1e-3);
    return true;
}

static bool disturb_cut(struct recovery *recovery) {
    struct link *link = recovery->round->link;
    if (link == NULL)
        return round_fail(recovery->round, "there is no link to cut");
    link_cut(link, true);
    round_sleep(recovery->cut_s);
    link_cut(link, false);
    return true;
}

static bool measure(struct recovery *recovery, const struct scenario *scenario, bool (*disturb)(struct recovery *)) {
    struct round *round = recovery->round;
    struct load_job job = round_job(scenario, round, LOAD_DOWN);
    struct load_result result;
    double began_s = round_now_s();
    job.flows = 1;
    job.measure_s = 0;
    job.reconnect = true;
    job.patience_ms = (uint32_t)(2 * RECOVERED_MAX_S * 1e3);
    struct load *load = round_begin(round, &job);
    if (load == NULL)
        return false;
    round_sleep(job.warmup_s + LOAD_SAMPLE_MS / 1e3);
    double disturbed_s = round_now_s();
    bool recovered = disturb(recovery) && recover(recovery);
    if (!round_finish(round, load, !recovered, &result) || !recovered)
        return false;
    /* Until the load has found its way again at least the cut itself has passed. */
    if (!flows_again(&result, disturbed_s - began_s + fmax(recovery->cut_s, result.longest_stall_s)))
        return round_fail(round, "the load did not flow again");
    round_value(round, "recovery", "s", RESULTS_LOWER, true, fmax(0, result.longest_stall_s - recovery->cut_s));
    round_value(round, "restarts", "times", RESULTS_INFORMATION, false, recovery->restarts);
    round_value(round, "reconnects", "times", RESULTS_INFORMATION, false, (double)result.reconnects);
    return true;
}

static bool recovery_run(const struct scenario *scenario, struct round *round, double cut_s,
                         bool (*disturb)(struct recovery *)) {
    struct recovery recovery = {.round = round, .cut_s = cut_s};
    bool has_client = round->tunnel->client.pid != 0;
    if (has_client && !restart_learn(&recovery.restart, round->tunnel->client.pid))
        return round_fail(round, "how was the client started? %s", strerror(errno));
    bool measured = measure(&recovery, scenario, disturb);
    restart_forget(&recovery.restart);
    return measured;
}

bool recovery_killed_run(const struct scenario *scenario, struct round *round) {
    return recovery_run(scenario, round, 0, disturb_killed);
}

bool recovery_cut_run(const struct scenario *scenario, struct round *round) {
    return recovery_run(scenario, round, round->size == SIZE_SMOKE ? CUT_SMOKE_S : CUT_S, disturb_cut);
}
