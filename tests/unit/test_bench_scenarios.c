/* The table of scenarios: sane, complete, and within its time. */
#include "bench/scenario.h"
#include <criterion/criterion.h>
#include <string.h>
#include <sys/resource.h>

#define ROUNDS 5u
#define STANDARD_PEERS 7u
#define QUICK_PEERS 4u
#define SMOKE_PEERS 3u

static const struct scenario *find(const char *name) {
    for (size_t i = 0; i < scenario_table_count; i++)
        if (strcmp(scenario_table[i].name, name) == 0)
            return &scenario_table[i];
    cr_assert(false, "no scenario %s", name);
    return NULL;
}

static unsigned list_length(const char *const *names) {
    unsigned n = 0;
    while (names[n] != NULL)
        n++;
    return n;
}

static bool has(const char *const *names, const char *name) {
    for (; *names != NULL; names++)
        if (strcmp(*names, name) == 0)
            return true;
    return false;
}

Test(scenarios, names_are_unique_and_begin_with_their_group) {
    for (size_t i = 0; i < scenario_table_count; i++) {
        const struct scenario *scenario = &scenario_table[i];
        size_t group = strlen(scenario->group);
        bool is_group = scenario->alone_s > 0 && scenario->name[group] == '\0';
        cr_assert(strncmp(scenario->name, scenario->group, group) == 0 && (is_group || scenario->name[group] == '/'),
                  "%s", scenario->name);
        cr_assert_eq(strspn(scenario->name, "abcdefghijklmnopqrstuvwxyz0123456789/.-"), strlen(scenario->name), "%s",
                     scenario->name);
        for (size_t j = 0; j < i; j++) {
            cr_assert_str_neq(scenario->name, scenario_table[j].name);
            cr_assert_str_neq(scenario->title, scenario_table[j].title);
        }
    }
}

Test(scenarios, each_group_stands_together) {
    for (size_t i = 1; i < scenario_table_count; i++)
        for (size_t j = i + 1; j < scenario_table_count; j++)
            if (strcmp(scenario_table[i - 1].group, scenario_table[j].group) == 0)
                cr_assert_str_eq(scenario_table[i].group, scenario_table[j].group, "%s is apart from its group",
                                 scenario_table[j].name);
}

Test(scenarios, every_line_can_be_run) {
    for (size_t i = 0; i < scenario_table_count; i++) {
        const struct scenario *scenario = &scenario_table[i];
        cr_assert_not_null(scenario->run, "%s", scenario->name);
        if (scenario->alone_s > 0)
            continue;
        cr_assert_gt(scenario->seconds[SIZE_SMOKE], 0, "%s is not in the smoke", scenario->name);
        cr_assert_gt(scenario->seconds[SIZE_STANDARD], 0, "%s is not in the standard set", scenario->name);
        cr_assert_leq(scenario->seconds[SIZE_QUICK], scenario->seconds[SIZE_STANDARD], "%s", scenario->name);
        cr_assert_leq(scenario->seconds[SIZE_SMOKE], scenario->seconds[SIZE_STANDARD], "%s", scenario->name);
        cr_assert_eq(scenario->rounds[SIZE_STANDARD], 0, "%s has fewer rounds than others", scenario->name);
        cr_assert_geq(scenario->flows + scenario->idle_flows + scenario->at_once, 1, "%s", scenario->name);
        cr_assert_leq(scenario->flows + scenario->idle_flows, LOAD_FLOWS_MAX, "%s", scenario->name);
        cr_assert(scenario->rate == 0 || scenario->message_bytes > 0, "%s: messages of no bytes", scenario->name);
        cr_assert(scenario->direction == 0 || strchr("dub", scenario->direction) != NULL, "%s", scenario->name);
    }
}

/* One of no time would not end. */
Test(scenarios, each_warm_up_round_has_its_time) {
    for (size_t i = 0; i < scenario_table_count; i++)
        for (int size = 0; size < SIZE_COUNT; size++)
            if (scenario_has_warmup_round(&scenario_table[i], (enum scenario_size)size))
                cr_expect_gt(scenario_table[i].seconds[SIZE_SMOKE], 0, "%s", scenario_table[i].name);
}

Test(scenarios, a_smoke_has_some_of_the_usual_peers) {
    for (size_t i = 0; i < scenario_table_count; i++) {
        const struct scenario *scenario = &scenario_table[i];
        if (scenario->alone_s > 0)
            continue;
        cr_assert_not_null(scenario->peers, "%s", scenario->name);
        cr_assert_not_null(scenario->smoke_peers, "%s", scenario->name);
        cr_assert_leq(list_length(scenario->smoke_peers), SMOKE_PEERS, "%s", scenario->name);
        cr_assert_leq(list_length(scenario->peers), STANDARD_PEERS, "%s", scenario->name);
        cr_assert_geq(list_length(scenario->smoke_peers), 1, "%s", scenario->name);
        cr_assert_geq(list_length(scenario->peers), 2, "%s compares nobody", scenario->name);
        for (const char *const *peer = scenario->smoke_peers; *peer != NULL; peer++)
            cr_assert(has(scenario->peers, *peer) || strcmp(*peer, "direct") == 0, "%s: %s", scenario->name, *peer);
    }
}

Test(scenarios, every_peer_is_built_in) {
    char why[300];
    struct peers *peers = peers_load(&(struct peers_options){0}, why, sizeof why);
    cr_assert_not_null(peers, "%s", why);
    for (size_t i = 0; i < scenario_table_count; i++)
        for (const char *const *name = scenario_table[i].peers; *name != NULL; name++) {
            const struct peer *peer = peers_find(peers, *name);
            cr_assert_not_null(peer, "%s: there is no peer %s", scenario_table[i].name, *name);
            cr_assert(scenario_suits(&scenario_table[i], SIZE_STANDARD, peer, false), "%s does not suit %s", *name,
                      scenario_table[i].name);
        }
    peers_free(peers);
}

Test(scenarios, what_was_asked_for_is_there) {
    static const char *const names[] = {
        "bulk/down/1",       "bulk/up/1",        "bulk/both/1",       "bulk/down/8",        "bulk/up/8",
        "bulk/both/8",       "bulk/down/64",     "bulk/up/64",        "bulk/both/64",       "messages/64",
        "messages/65536",    "latency/rate",     "latency/loaded",    "opens/32",           "opens/idle-1000",
        "opens/idle-4000",   "opens/idle-10000", "opens/idle-15000",  "ssh/jumps",          "memory/flow",
        "memory/connection", "fairness/64",      "fairness/stalled",  "rekey/bulk",         "rekey/latency",
        "latency/busy",      "rekey/busy",       "memory/limit-1000", "memory/limit-10000", "recovery/killed",
        "recovery/cut"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        find(names[i]);
    cr_assert_eq(find("ssh/jumps")->at_once, 16);
    cr_assert_eq(find("opens/32")->at_once, 32);
    cr_assert_eq(find("latency/loaded")->flows, 2);
    cr_assert_eq(find("latency/loaded")->message_bytes, 64);
}

Test(scenarios, round_trips_with_and_without_loss_both_ways) {
    static const unsigned trips_ms[] = {0, 20, 100, 200};
    for (size_t i = 0; i < 4; i++)
        for (int loss = 0; loss < 2; loss++)
            for (int up = 0; up < 2; up++) {
                char name[64];
                snprintf(name, sizeof name, "rtt/%ums/%s%s", trips_ms[i], loss ? "loss0.1/" : "", up ? "up" : "down");
                const struct scenario *scenario = find(name);
                cr_assert_eq(scenario->direction, up ? 'u' : 'd');
                cr_assert_float_eq(scenario->shape.rtt_ms, trips_ms[i], 0);
                cr_assert_float_eq(scenario->shape.loss, loss ? 0.001 : 0, 1e-9);
                cr_assert_float_eq(scenario->shape.rate_mbit, 1000, 0);
            }
}

Test(scenarios, distance_with_and_without_limits_and_loss) {
    static const char *const kinds[] = {"", "loss/", "untuned/"};
    for (size_t i = 0; i < 3; i++)
        for (int up = 0; up < 2; up++) {
            char name[64];
            snprintf(name, sizeof name, "distance/%s%s", kinds[i], up ? "up" : "down");
            const struct scenario *scenario = find(name);
            cr_assert_eq(scenario->direction, up ? 'u' : 'd');
            cr_assert(scenario->needs_fresh_tunnel);
            cr_assert_float_eq(scenario->shape.rtt_ms, 100, 0);
            cr_assert_float_eq(scenario->shape.rate_mbit, 1000, 0);
            cr_assert_float_eq(scenario->shape.loss, i == 1 ? 0.001 : 0, 1e-9);
            cr_assert_eq(scenario->shape.tcp_receive_max, i == 2 ? 6u << 20 : 64u << 20);
            cr_assert_eq(scenario->shape.tcp_send_max, i == 2 ? 4u << 20 : 64u << 20);
        }
}

static unsigned least(unsigned a, unsigned b) {
    return a < b ? a : b;
}

static double sum_of(enum scenario_size size, unsigned peers_max) {
    double sum_s = 0;
    for (size_t i = 0; i < scenario_table_count; i++) {
        const struct scenario *scenario = &scenario_table[i];
        if (scenario->alone_s > 0) {
            cr_assert_eq(scenario_estimate_s(scenario, size, 1, ROUNDS), 0, "%s", scenario->name);
            continue;
        }
        if (scenario->when_named && size != SIZE_SMOKE)
            continue;
        unsigned peers = list_length(size == SIZE_SMOKE ? scenario->smoke_peers : scenario->peers);
        sum_s += scenario_estimate_s(scenario, size, least(peers, peers_max), ROUNDS);
    }
    return sum_s;
}

Test(scenarios, each_size_keeps_its_time) {
    double standard_s = sum_of(SIZE_STANDARD, STANDARD_PEERS), quick_s = sum_of(SIZE_QUICK, QUICK_PEERS);
    double smoke_s = sum_of(SIZE_SMOKE, SMOKE_PEERS);
    cr_expect_lt(standard_s, 20 * 60, "standard: %.0f s", standard_s);
    cr_expect_lt(quick_s, 3 * 60, "quick: %.0f s", quick_s);
    cr_expect_lt(smoke_s, 80, "smoke: %.0f s", smoke_s);
}

Test(scenarios, an_estimate_has_at_least_what_is_measured) {
    for (size_t i = 0; i < scenario_table_count; i++)
        for (int size = 0; size < SIZE_COUNT; size++) {
            const struct scenario *scenario = &scenario_table[i];
            unsigned rounds = scenario->rounds[size] > 0 ? scenario->rounds[size] : ROUNDS;
            double two_s = scenario_estimate_s(scenario, (enum scenario_size)size, 2, ROUNDS);
            double three_s = scenario_estimate_s(scenario, (enum scenario_size)size, 3, ROUNDS);
            double trip_s = scenario->shape.rtt_ms / 1000;
            cr_assert_eq(scenario_estimate_s(scenario, (enum scenario_size)size, 0, ROUNDS), 0);
            if (scenario->seconds[size] == 0)
                cr_assert_eq(two_s, 0, "%s", scenario->name);
            else
                cr_assert_geq(three_s - two_s, rounds * (scenario->seconds[size] + trip_s), "%s", scenario->name);
        }
}

Test(scenarios, rounds_are_counted_unless_the_scenario_has_its_own) {
    struct scenario scenario = {.name = "x", .seconds = {1, 1, 1}, .rounds = {[SIZE_QUICK] = 3}};
    double five_s = scenario_estimate_s(&scenario, SIZE_STANDARD, 1, 5);
    cr_assert_geq(scenario_estimate_s(&scenario, SIZE_STANDARD, 1, 10) - five_s, 5);
    cr_assert_eq(scenario_estimate_s(&scenario, SIZE_QUICK, 1, 5), scenario_estimate_s(&scenario, SIZE_QUICK, 1, 10));
}

Test(scenarios, warm_up_grows_with_the_distance) {
    struct scenario near = {.name = "x"}, far = {.name = "x", .shape = {.rtt_ms = 200}};
    for (int size = 0; size < SIZE_COUNT; size++) {
        cr_assert_gt(scenario_warmup_s(&near, (enum scenario_size)size), 0);
        cr_assert_geq(scenario_warmup_s(&far, (enum scenario_size)size),
                      scenario_warmup_s(&near, (enum scenario_size)size) + 0.2);
    }
}

static const char *const only_a[] = {"a", NULL}, *const only_b[] = {"b", NULL};

Test(scenarios, suits_who_is_listed_or_named) {
    struct peer a = {.name = "a"}, b = {.name = "b"};
    struct scenario scenario = {.name = "x", .peers = only_a};
    cr_assert(scenario_suits(&scenario, SIZE_STANDARD, &a, false));
    cr_assert(scenario_suits(&scenario, SIZE_SMOKE, &a, false));
    cr_assert_not(scenario_suits(&scenario, SIZE_STANDARD, &b, false));
    cr_assert(scenario_suits(&scenario, SIZE_STANDARD, &b, true));
    scenario.smoke_peers = only_b;
    cr_assert(scenario_suits(&scenario, SIZE_SMOKE, &b, false));
    cr_assert_not(scenario_suits(&scenario, SIZE_SMOKE, &a, false));
    cr_assert(scenario_suits(&scenario, SIZE_SMOKE, &a, true));
    cr_assert(scenario_suits(&scenario, SIZE_QUICK, &a, false));
    scenario.peers = NULL;
    cr_assert_not(scenario_suits(&scenario, SIZE_STANDARD, &a, false));
}

Test(scenarios, suits_nobody_who_lacks_what_is_needed) {
    struct peer relay = {.name = "a", .has_server = true}, ssh = {.name = "a", .is_ssh = true, .has_client = true};
    struct scenario any = {.name = "x", .peers = only_a}, needs_ssh = any, needs_client = any, rekeys = any,
                    relays = any, limits = any;
    needs_ssh.needs_ssh = true;
    needs_client.needs_client = true;
    rekeys.rekey = "1M";
    limits.limit = "64M";
    relays.relays_only = true;
    for (int named = 0; named < 2; named++) {
        cr_assert(scenario_suits(&any, SIZE_STANDARD, &relay, named));
        cr_assert_not(scenario_suits(&needs_ssh, SIZE_STANDARD, &relay, named));
        cr_assert(scenario_suits(&needs_ssh, SIZE_STANDARD, &ssh, named));
        cr_assert_not(scenario_suits(&needs_client, SIZE_STANDARD, &relay, named));
        cr_assert(scenario_suits(&needs_client, SIZE_STANDARD, &ssh, named));
        cr_assert(scenario_suits(&relays, SIZE_STANDARD, &relay, named));
        cr_assert_not(scenario_suits(&relays, SIZE_STANDARD, &ssh, named));
        cr_assert_not(scenario_suits(&limits, SIZE_STANDARD, &ssh, named));
        ssh.can_limit = true;
        cr_assert(scenario_suits(&limits, SIZE_STANDARD, &ssh, named));
        ssh.can_limit = false;
        ssh.can_rekey = false;
        cr_assert_not(scenario_suits(&rekeys, SIZE_STANDARD, &ssh, named));
        ssh.can_rekey = true;
        cr_assert(scenario_suits(&rekeys, SIZE_STANDARD, &ssh, named));
    }
}

Test(scenarios, descriptors_are_asked_for_before) {
    char why[200] = "";
    struct rlimit limit = {1400, 1400};
    cr_assert_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
    cr_assert_not(scenario_possible(find("opens/idle-1000"), SIZE_STANDARD, why, sizeof why));
    cr_assert_not_null(strstr(why, "1400"), "%s", why);
    cr_assert(scenario_possible(find("opens/idle-10000"), SIZE_SMOKE, why, sizeof why));
    cr_assert(scenario_possible(find("bulk/down/64"), SIZE_STANDARD, why, sizeof why));
    cr_assert_eq(scenario_idle_flows(find("opens/idle-10000"), SIZE_STANDARD), 10000);
    cr_assert_lt(scenario_idle_flows(find("opens/idle-10000"), SIZE_SMOKE), 1000);
    cr_assert_eq(scenario_idle_flows(find("bulk/down/1"), SIZE_SMOKE), 0);
}
