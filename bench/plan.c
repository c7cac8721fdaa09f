#include "bench/plan.h"
#include <fnmatch.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DEFAULT_ROUNDS 5u

static const char default_base[] = "ssh→sshd";

__attribute__((format(printf, 3, 4))) static bool refuse(char *why, size_t why_bytes, const char *format, ...) {
    va_list args;
    va_start(args, format);
    vsnprintf(why, why_bytes, format, args);
    va_end(args);
    return false;
}

/* The length of what stands for an arrow at the beginning of the word; 0: nothing does. */
static size_t arrow_length(const char *word) {
    static const char *const arrows[] = {"→", "->", "-"};
    for (size_t i = 0; i < sizeof(arrows) / sizeof(arrows[0]); i++)
        if (strncmp(word, arrows[i], strlen(arrows[i])) == 0)
            return strlen(arrows[i]);
    return 0;
}

bool plan_names_peer(const char *word, const char *peer_name) {
    static const char arrow[] = "→";
    while (*word != '\0' && *peer_name != '\0') {
        size_t typed = arrow_length(word);
        if (typed > 0 && strncmp(peer_name, arrow, strlen(arrow)) == 0) {
            word += typed;
            peer_name += strlen(arrow);
        } else if (*word++ != *peer_name++) {
            return false;
        }
    }
    return *word == *peer_name;
}

bool plan_names_scenario(const char *word, const struct scenario *scenario) {
    if (scenario->alone_s > 0)
        return strcmp(word, scenario->name) == 0;
    return fnmatch(word, scenario->name, 0) == 0 || strcmp(word, scenario->group) == 0;
}

static void add_tunnels(struct plan *plan, const struct bench_options *options) {
    plan->tunnel_count = options->tunnel_count;
    for (unsigned i = 0; i < options->tunnel_count; i++) {
        plan->tunnels[i] = (struct peer){.name = options->tunnels[i].name, .about = "a tunnel that listens already"};
        plan->peers[plan->peer_count++] = &plan->tunnels[i];
    }
}

const struct bench_tunnel *plan_tunnel(const struct plan *plan, const struct bench_options *options,
                                       const struct peer *peer) {
    for (unsigned i = 0; i < plan->tunnel_count; i++)
        if (peer == &plan->tunnels[i])
            return &options->tunnels[i];
    return NULL;
}

static const struct peer *find_peer(const struct peers *peers, const char *word) {
    const struct peer *exact = peers_find(peers, word);
    for (size_t i = 0; exact == NULL && i < peers_count(peers); i++)
        if (plan_names_peer(word, peers_at(peers, i)->name))
            exact = peers_at(peers, i);
    return exact;
}

static bool has_peer(const struct peer *const *peers, unsigned count, const struct peer *peer) {
    for (unsigned i = 0; i < count; i++)
        if (peers[i] == peer)
            return true;
    return false;
}

/* The peer of the next words; names may have a comma themselves ("leat→leatd,epoll"), so two words may be one. Moves
 * *at. */
static const struct peer *next_named(const struct bench_options *options, const struct peers *peers, unsigned *at) {
    const char *word = options->peers[(*at)++];
    if (*at < options->peer_count) {
        char both[256];
        snprintf(both, sizeof(both), "%s,%s", word, options->peers[*at]);
        const struct peer *peer = find_peer(peers, both);
        *at += peer != NULL;
        if (peer != NULL)
            return peer;
    }
    return find_peer(peers, word);
}

static bool add_named_peers(struct plan *plan, const struct bench_options *options, const struct peers *peers,
                            char *why, size_t why_bytes) {
    for (unsigned at = 0, next = 0; at < options->peer_count; at = next) {
        const struct peer *peer = next_named(options, peers, &next);
        if (peer == NULL)
            return refuse(why, why_bytes, "--peers: there is no peer '%s' (leat-bench list)", options->peers[at]);
        if (peer->missing != NULL)
            return refuse(why, why_bytes, "--peers: '%s' needs %s, which is not installed (--program %s=PATH)",
                          peer->name, peer->missing, peer->missing);
        if (!has_peer(plan->peers, plan->peer_count, peer))
            plan->peers[plan->peer_count++] = peer;
    }
    return true;
}

static bool choose_base(struct plan *plan, const struct bench_options *options, char *why, size_t why_bytes) {
    const char *word = options->base != NULL ? options->base : default_base;
    for (unsigned i = 0; i < plan->peer_count; i++)
        if (plan_names_peer(word, plan->peers[i]->name))
            plan->base = plan->peers[i];
    if (plan->base == NULL && options->base != NULL)
        return refuse(why, why_bytes, "--base: '%s' is not among the peers of this run", options->base);
    if (plan->base == NULL)
        plan->base = plan->peers[0];
    return true;
}

static bool choose_peers(struct plan *plan, const struct bench_options *options, const struct peers *peers, char *why,
                         size_t why_bytes) {
    if (!add_named_peers(plan, options, peers, why, why_bytes))
        return false;
    for (size_t i = 0; options->peer_count == 0 && i < peers_count(peers); i++) {
        const struct peer *peer = peers_at(peers, i);
        if (peer->missing == NULL && plan->peer_count < PLAN_PEERS_MAX - BENCH_LIST_MAX)
            plan->peers[plan->peer_count++] = peer;
    }
    add_tunnels(plan, options);
    if (plan->peer_count == 0)
        return refuse(why, why_bytes, "no peer is installed (leat-bench list)");
    return choose_base(plan, options, why, why_bytes);
}

static bool takes_part(const struct plan *plan, const struct bench_options *options, const struct scenario *scenario,
                       const struct peer *peer) {
    bool is_own = plan_tunnel(plan, options, peer) != NULL, is_named = is_own || options->peer_count > 0;
    bool over_link = scenario->shape.rtt_ms > 0 || scenario->shape.rate_mbit > 0;
    if (is_own && (over_link || scenario->needs_fresh_tunnel))
        return false;
    return scenario_suits(scenario, options->size, peer, is_named);
}

/* Of a size in which it does not run it still has the time of the next larger one, when asked for by name. */
static double seconds_of(const struct scenario *scenario, enum scenario_size size, bool by_name) {
    double seconds = scenario->alone_s > 0 ? scenario->alone_s : scenario->seconds[size];
    for (unsigned larger = size; by_name && seconds <= 0 && larger < SIZE_COUNT; larger++)
        seconds = scenario->seconds[larger];
    return seconds;
}

static unsigned rounds_of(const struct scenario *scenario, const struct bench_options *options) {
    if (options->rounds > 0)
        return options->rounds;
    if (options->size == SIZE_SMOKE)
        return 1;
    return scenario->rounds[options->size] > 0 ? scenario->rounds[options->size] : DEFAULT_ROUNDS;
}

/* The run's limits, in whatever link the step has now. */
static void limit_tcp(struct plan_step *step, const struct link_shape *run) {
    struct link_shape *shape = &step->scenario.shape;
    size_t len = strlen(step->name);
    if (shape->rtt_ms <= 0 && shape->rate_mbit <= 0)
        return;
    if (run->tcp_receive_max > 0) {
        shape->tcp_receive_max = run->tcp_receive_max;
        shape->tcp_send_max = run->tcp_send_max;
        snprintf(step->name + len, sizeof(step->name) - len, "@tcp%u,%u", run->tcp_receive_max, run->tcp_send_max);
        len = strlen(step->name);
    }
    if (run->congestion != NULL) {
        shape->congestion = run->congestion;
        snprintf(step->name + len, sizeof(step->name) - len, "@%s", run->congestion);
    }
}

static void put_on_link(struct plan_step *step, const struct link_shape *shape) {
    struct scenario *scenario = &step->scenario;
    char rate[32] = "", loss[32] = "";
    bool has_own = (scenario->shape.rtt_ms > 0 || scenario->shape.rate_mbit > 0) && !scenario->needs_proxy;
    if ((shape->rtt_ms <= 0 && shape->rate_mbit <= 0) || has_own)
        return;
    if (shape->rate_mbit > 0)
        snprintf(rate, sizeof(rate), ",%gMbit", shape->rate_mbit);
    if (shape->loss > 0)
        snprintf(loss, sizeof(loss), ",%g%%", 100 * shape->loss);
    snprintf(step->name, sizeof(step->name), "%s@%gms%s%s", scenario->name, shape->rtt_ms, rate, loss);
    snprintf(step->title, sizeof(step->title), "%s, over %g ms%s%s", scenario->title, shape->rtt_ms, rate, loss);
    scenario->shape = *shape;
}

/* Fills the step; false when nobody takes part. */
static bool fill_step(struct plan_step *step, const struct plan *plan, const struct bench_options *options,
                      const struct scenario *scenario, double seconds) {
    *step = (struct plan_step){.scenario = *scenario, .rounds = rounds_of(scenario, options)};
    snprintf(step->name, sizeof(step->name), "%s", scenario->name);
    snprintf(step->title, sizeof(step->title), "%s", scenario->title);
    put_on_link(step, &options->shape);
    limit_tcp(step, &options->shape);
    step->scenario.shape.seed = options->seed;
    step->seconds = options->seconds > 0 ? options->seconds : seconds;
    step->scenario.seconds[options->size] = step->seconds;
    step->scenario.rounds[options->size] = step->rounds;
    step->warmup_s = scenario_warmup_s(&step->scenario, options->size);
    step->has_warmup_round = scenario_has_warmup_round(scenario, options->size);
    for (unsigned i = 0; i < plan->peer_count; i++)
        if (takes_part(plan, options, &step->scenario, plan->peers[i]))
            step->peers[step->peer_count++] = plan->peers[i];
    step->expected_s = scenario_estimate_s(&step->scenario, options->size, step->peer_count, step->rounds);
    return step->peer_count > 0;
}

static bool is_chosen(const struct bench_options *options, const struct scenario *scenario) {
    for (unsigned i = 0; i < options->word_count; i++)
        if (plan_names_scenario(options->words[i], scenario))
            return true;
    bool too_long = scenario->when_named && options->size != SIZE_SMOKE;
    return options->word_count == 0 && scenario->alone_s == 0 && !too_long;
}

static bool check_words(const struct bench_options *options, char *why, size_t why_bytes) {
    for (unsigned i = 0; i < options->word_count; i++) {
        bool found = false;
        for (size_t j = 0; j < scenario_table_count; j++)
            found |= plan_names_scenario(options->words[i], &scenario_table[j]);
        if (!found)
            return refuse(why, why_bytes, "there is no scenario '%s' (leat-bench list)", options->words[i]);
    }
    return true;
}

/* A scenario that was asked for by name and that none of the peers can do stays in the plan, to be told. */
static void add_step(struct plan *plan, const struct bench_options *options, const struct scenario *scenario) {
    double seconds = seconds_of(scenario, options->size, options->word_count > 0);
    struct plan_step *step = &plan->steps[plan->step_count];
    if (seconds <= 0 || !is_chosen(options, scenario))
        return;
    if (!fill_step(step, plan, options, scenario, seconds) && options->word_count == 0)
        return;
    step->scenario.name = step->name;
    step->scenario.title = step->title;
    plan->expected_s += step->expected_s;
    plan->step_count++;
}

bool plan_make(struct plan *plan, const struct bench_options *options, const struct peers *peers, char *why,
               size_t why_bytes) {
    *plan = (struct plan){.peer_count = 0};
    if (!check_words(options, why, why_bytes) || !choose_peers(plan, options, peers, why, why_bytes))
        return false;
    plan->steps = calloc(scenario_table_count, sizeof(*plan->steps));
    if (plan->steps == NULL)
        return refuse(why, why_bytes, "out of memory");
    for (size_t i = 0; i < scenario_table_count; i++)
        add_step(plan, options, &scenario_table[i]);
    return plan->expected_s > 0 || refuse(why, why_bytes, "none of these peers can do what is asked for");
}

void plan_deinit(struct plan *plan) {
    free(plan->steps);
}
