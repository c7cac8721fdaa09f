/* Everything at once, for long, through one tunnel: flows of all kinds (soak.h), new keys all the time (the scenario's
 * RekeyLimit), and a link that is killed now and then. The link is a proxy of connections whatever is possible here:
 * it can end them. Whatever happens, all that arrives must be right, and after each life of the link the tunnel's
 * processes must hold what they held after their start. */
#include "bench/restart.h"
#include "bench/scenario_runs.h"
#include "bench/soak.h"
#include "bench/soak_watch.h"
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <string.h>

#define LIFE_S 30.0
#define LIVES_MIN 4.0     /* a short soak has shorter ones */
#define LIVES_PER_QUIET 3 /* one of so many ends by itself, with every flow through; the first one does */
#define LIFE_SPREAD 0.3
#define SAMPLE_S 0.5
#define ORDER_S 20.0
#define ENDS_S 60.0
#define RESTART_S 60.0
#define PATIENCE_MS 30000u
#define BYTES_MAX 100e6
#define BYTES_S 2.0 /* what is under way is through in so long */
#define GAP_S 0.3   /* for which the cut link stays cut */

struct soaking {
    struct round *round;
    struct restart restart;
    struct soak *soak;
    struct soak_watch watch;
    uint64_t seed;
    double left_s /* to be lived; what settling takes is not counted */, longest_silence_s;
    unsigned lives, kills;
};

static bool fail_unless_load_failed(struct soaking *soaking, const char *what) {
    if (!soak_runs(soaking->soak))
        return false; /* it says itself why, at the end */
    return round_fail(soaking->round, "%s", what);
}

static bool order(struct soaking *soaking, enum soak_order order) {
    return soak_order(soaking->soak, order, ORDER_S) || fail_unless_load_failed(soaking, "the load does not hear");
}

static bool wait_empty(struct soaking *soaking) {
    return soak_wait_empty(soaking->soak, ENDS_S) || fail_unless_load_failed(soaking, "flows do not end");
}

static bool live(struct soaking *soaking, double seconds) {
    double end_s = round_now_s() + seconds, moved_s = round_now_s();
    uint64_t moved = 0;
    while (round_now_s() < end_s && !world_interrupted()) {
        struct soak_counts counts;
        round_sleep(fmin(SAMPLE_S, fmax(0, end_s - round_now_s())));
        if (!soak_runs(soaking->soak))
            return false;
        soak_watch_sample(&soaking->watch);
        soak_look(soaking->soak, &counts);
        soaking->longest_silence_s = fmax(soaking->longest_silence_s, round_now_s() - moved_s - SAMPLE_S);
        if (counts.bytes != moved)
            moved_s = round_now_s();
        moved = counts.bytes;
    }
    return !world_interrupted();
}

/* A client of SSH has nothing left when its connection is gone, and ends; others begin a connection for each flow. */
static bool start_again(struct soaking *soaking) {
    struct round *round = soaking->round;
    struct process *client = &round->tunnel->client;
    if (client->pid == 0 || !round->tunnel->peer->is_ssh)
        return true;
    for (double end_s = round_now_s() + RESTART_S; process_alive(client); round_sleep(0.01))
        if (world_interrupted())
            return false;
        else if (round_now_s() > end_s)
            return round_fail(round, "the client lives on though its connection has gone");
    soak_watch_restarted(&soaking->watch);
    if (!restart_run(&soaking->restart, round->world, client, &round->tunnel_options->client_place))
        return round_fail(round, "the client cannot be started again: %s", strerror(errno));
    return world_wait_listening(client, ntohs(round->tunnel->address.sin_port), RESTART_S) ||
           round_fail(round, "the client that was started again does not listen");
}

static bool end_killed(struct soaking *soaking) {
    struct round *round = soaking->round;
    if (!soak_watch_ask(&soaking->watch, false) || !order(soaking, SOAK_LOSE))
        return false;
    link_cut(round->link, true);
    soaking->kills++;
    round_sleep(GAP_S);
    link_cut(round->link, false);
    return wait_empty(soaking) && start_again(soaking) &&
           soak_watch_settle(&soaking->watch, "after a kill of the link");
}

static bool end_quietly(struct soaking *soaking) {
    return order(soaking, SOAK_QUIET) && wait_empty(soaking) && soak_watch_settle(&soaking->watch, "after quiet") &&
           soak_watch_ask(&soaking->watch, true);
}

/* From −1 to 1, of the seed and the life. */
static double spread(const struct soaking *soaking) {
    uint64_t x = (soaking->seed + soaking->lives) * UINT64_C(0x9e3779b97f4a7c15);
    return (double)(x >> 40) / (double)(1u << 23) - 1;
}

/* How long the next life is. The last one takes what is left: one of a blink would have nothing that can hang. */
static double next_life_s(const struct soaking *soaking) {
    double mean_s = fmin(LIFE_S, soaking->round->seconds / LIVES_MIN);
    double life_s = mean_s * (1 + LIFE_SPREAD * spread(soaking));
    return soaking->left_s - life_s < mean_s / 2 ? soaking->left_s : life_s;
}

/* The first and the last life end quietly: a flow that hangs is found where it is not killed with its link. */
static bool live_on(struct soaking *soaking) {
    for (soaking->left_s = soaking->round->seconds; soaking->left_s > 0;) {
        double life_s = next_life_s(soaking);
        soaking->lives++;
        soaking->left_s -= life_s;
        if (!order(soaking, SOAK_RUN) || !live(soaking, life_s))
            return false;
        bool is_last = soaking->left_s <= 0;
        bool ended = is_last || soaking->lives % LIVES_PER_QUIET == 1 ? end_quietly(soaking) : end_killed(soaking);
        if (!ended)
            return false;
    }
    return true;
}

/* Also of a run that was interrupted, or failed: it has what it has. */
static void values(const struct soaking *soaking, const struct soak_counts *counts, double seconds) {
    struct round *round = soaking->round;
    const struct {
        const char *name, *unit;
        double value;
    } rows[] = {{"soaked", "s", seconds},
                {"moved", "GB", (double)counts->bytes / 1e9},
                {"flows", "flows", (double)counts->flows},
                {"flows-at-once", "flows", counts->open_peak},
                {"resets", "flows", (double)counts->resets},
                {"stalls", "times", (double)counts->stalls},
                {"held", "flows", (double)counts->held},
                {"kills", "times", soaking->kills},
                {"lost-with-kills", "flows", (double)counts->lost},
                {"longest-silence", "s", soaking->longest_silence_s},
                {"longest-stall", "ms", (double)counts->longest_stall_ns / 1e6}};
    for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++)
        round_value(round, rows[i].name, rows[i].unit, RESULTS_INFORMATION, i < 4, rows[i].value);
    soak_watch_values(&soaking->watch);
}

static uint64_t bytes_max(const struct link_shape *shape) {
    double bytes = shape->rate_mbit > 0 ? shape->rate_mbit * 1e6 / 8 * BYTES_S : BYTES_MAX;
    return (uint64_t)fmin(bytes, BYTES_MAX);
}

static bool run(struct soaking *soaking, const struct scenario *scenario) {
    struct round *round = soaking->round;
    struct soak_job job = {.address = round->tunnel->address,
                           .seed = soaking->seed,
                           .rate = scenario->rate,
                           .bytes_max = bytes_max(&scenario->shape),
                           .patience_ms = PATIENCE_MS};
    struct soak_counts counts;
    struct load_result result;
    if (!soak_watch_begin(&soaking->watch, round))
        return false;
    soaking->soak = soak_start(&job, &round->load_place);
    if (soaking->soak == NULL)
        return round_fail(round, "load: %s", strerror(errno));
    double began_s = round_now_s();
    bool lived = live_on(soaking);
    double seconds = round_now_s() - began_s;
    soak_look(soaking->soak, &counts);
    values(soaking, &counts, seconds);
    soak_finish(soaking->soak, &result);
    result.measured_s = seconds;
    return round_check(round, &result) && lived;
}

bool soak_run(const struct scenario *scenario, struct round *round) {
    struct soaking soaking = {.round = round, .seed = scenario->shape.seed + round->number - 1};
    pid_t client = round->tunnel->client.pid;
    if (round->link == NULL)
        return round_fail(round, "there is no link to kill");
    if (client != 0 && !restart_learn(&soaking.restart, client))
        return round_fail(round, "how was the client started? %s", strerror(errno));
    bool passed = run(&soaking, scenario);
    restart_forget(&soaking.restart);
    return passed;
}
