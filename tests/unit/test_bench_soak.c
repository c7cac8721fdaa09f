/* The soak's parts: what it draws, that it passes over a relay that does nothing and finds one that does something, and
 * that a process which keeps what it was lent is named. */
#include "bench/soak.h"
#include "bench/soak_watch.h"
#include "bench_load_rig.h"
#include <fcntl.h>

#define SEED 7u
#define DRAWS 50000u
#define SOAK_S 30.0

/* ---- scripts ---- */

struct drawn {
    unsigned bulk, stalls, readers, resets[SOAK_SIDES], answers, holds, empty;
};

static void check_script(const struct soak_script *script, struct drawn *drawn) {
    for (unsigned side = 0; side < SOAK_SIDES; side++) {
        const struct soak_stall *stall = &script->stalls[side];
        cr_assert_leq(script->bytes[side], SOAK_BYTES_MAX);
        cr_assert(stall->ms == 0 || (stall->at > 0 && stall->at < script->bytes[side]));
        cr_assert_leq(stall->ms, SOAK_STALL_MS_MAX);
        drawn->stalls += stall->ms > 0;
        drawn->readers += stall->ms > 0 && stall->is_readers;
        drawn->bulk += script->bytes[side] > (64u << 10);
        drawn->empty += script->bytes[side] == 0;
    }
    cr_assert_leq(script->hold_ms, SOAK_HOLD_MS_MAX);
    cr_assert(!(script->answers && script->hold_ms > 0), "both ends would wait for each other");
    if (script->resets) {
        cr_assert_lt(script->reset_at, script->bytes[SOAK_SIDES - 1 - script->reset_by]);
        cr_assert(script->reset_by == SOAK_FAR || script->reset_at > 0);
        drawn->resets[script->reset_by]++;
    }
    drawn->answers += script->answers;
    drawn->holds += script->hold_ms > 0;
}

Test(soak, scripts_are_of_every_kind_and_can_be_done) {
    struct drawn drawn = {0};
    struct soak_script script, again;
    for (uint32_t i = 0; i < DRAWS; i++) {
        soak_script_draw(&script, SEED, i);
        check_script(&script, &drawn);
    }
    for (uint32_t i = 0; i < 100; i++) {
        soak_script_draw(&script, SEED, i);
        soak_script_draw(&again, SEED, i);
        cr_assert_arr_eq(&script.bytes, &again.bytes, sizeof(script.bytes));
        cr_assert(script.reset_at == again.reset_at && script.hold_ms == again.hold_ms);
    }
    cr_expect(drawn.bulk > DRAWS / 10 && drawn.bulk < DRAWS / 2, "%u of bulk", drawn.bulk);
    cr_expect(drawn.stalls > DRAWS / 100 && drawn.readers > drawn.stalls / 4 && drawn.readers < drawn.stalls);
    cr_expect(drawn.resets[SOAK_NEAR] > DRAWS / 100 && drawn.resets[SOAK_FAR] > DRAWS / 100);
    cr_expect(drawn.answers > DRAWS / 100 && drawn.holds > DRAWS / 100 && drawn.empty > DRAWS / 100);
}

Test(soak, flows_come_at_their_rate_and_in_bursts) {
    double sum_s = 0;
    unsigned at_once = 0;
    for (uint32_t i = 0; i < DRAWS; i++) {
        uint64_t gap_ns = soak_script_gap_ns(SEED, i, 50);
        sum_s += (double)gap_ns / 1e9;
        at_once += gap_ns == 0;
    }
    cr_expect(sum_s > DRAWS / 50.0 * 0.6 && sum_s <= DRAWS / 50.0 * 1.1, "%g s", sum_s);
    cr_expect(at_once > DRAWS / 10 && at_once < DRAWS / 3, "%u", at_once);
}

/* ---- the load ---- */

TestSuite(soak_load, .init = target_up, .fini = target_down, .timeout = 120);

static struct soak *soak_at(struct sockaddr_in address, uint32_t patience_ms) {
    struct soak_job job = {
        .address = address, .seed = SEED, .rate = 300, .bytes_max = 64u << 20, .patience_ms = patience_ms};
    struct soak *soak = soak_start(&job, HERE);
    cr_assert_not_null(soak);
    cr_assert(soak_order(soak, SOAK_RUN, SOAK_S));
    return soak;
}

static void await_flows(struct soak *soak, uint64_t flows) {
    struct soak_counts counts;
    do {
        nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
        soak_look(soak, &counts);
    } while (counts.flows < flows && soak_runs(soak));
}

static void must_end_well(struct soak *soak) {
    soak_finish(soak, &result);
    cr_expect(result.ok, "%s", result.why);
}

Test(soak_load, all_ends_well_over_a_relay_that_does_nothing) {
    struct fault none = {.kind = FAULT_NONE};
    struct relay relay = relay_start(&none);
    struct soak *soak = soak_at(relay.address, 60000);
    struct soak_counts counts;
    await_flows(soak, 300);
    cr_expect(soak_order(soak, SOAK_QUIET, SOAK_S) && soak_wait_empty(soak, 2 * SOAK_S));
    soak_look(soak, &counts);
    cr_expect(counts.flows >= 300 && counts.open == 0 && counts.open_peak > 1);
    cr_expect(counts.resets > 0 && counts.stalls > 0 && counts.bytes > 1000000);
    cr_expect_eq(counts.lost, 0);
    must_end_well(soak);
    relay_stop(&relay);
}

static void must_find(enum fault_kind kind, bool up, uint32_t stall_ms, const char *what) {
    /* Behind the wish; some flows are shorter. */
    struct fault fault = {.kind = kind, .up = up, .every = true, .at = WISH_BYTES + 1500, .stall_ms = stall_ms};
    struct relay relay = relay_start(&fault);
    struct soak *soak = soak_at(relay.address, 1000);
    for (unsigned i = 0; i < 3000 && soak_runs(soak); i++)
        nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
    soak_finish(soak, &result);
    cr_expect_not(result.ok, "'%s' was not found", what);
    cr_expect(strstr(result.why, what) != NULL && strstr(result.why, "seed 7, flow ") != NULL, "'%s' does not say '%s'",
              result.why, what);
    relay_stop(&relay);
}

Test(soak_load, a_wrong_byte_is_found) {
    must_find(FAULT_CORRUPT, false, 0, "not what was sent");
}
Test(soak_load, a_wrong_byte_on_the_way_up_is_found) {
    must_find(FAULT_CORRUPT, true, 0, "up, byte 1500 of ");
}
Test(soak_load, a_lost_byte_is_found) {
    must_find(FAULT_LOSE, true, 0, "seed");
}
Test(soak_load, an_end_too_early_is_found) {
    must_find(FAULT_END, false, 0, "seed");
}
Test(soak_load, a_flow_that_hangs_is_found) {
    must_find(FAULT_STALL, false, 0, "nothing has moved for 1 s");
}

/* The relay dies with its connections: what was there may end, and does; what is new goes over the next one. */
Test(soak_load, a_link_that_is_lost) {
    struct fault none = {.kind = FAULT_NONE};
    struct relay relay = relay_start(&none);
    struct soak *soak = soak_at(relay.address, 60000);
    struct soak_counts counts;
    await_flows(soak, 100);
    cr_expect(soak_order(soak, SOAK_LOSE, SOAK_S));
    relay_stop(&relay);
    cr_expect(soak_wait_empty(soak, 2 * SOAK_S));
    soak_look(soak, &counts);
    cr_expect_eq(counts.open, 0);
    must_end_well(soak);
}

/* Without the order it is a failure. */
Test(soak_load, a_link_that_is_lost_without_a_word) {
    struct fault none = {.kind = FAULT_NONE};
    struct relay relay = relay_start(&none);
    struct soak *soak = soak_at(relay.address, 60000);
    await_flows(soak, 100);
    relay_stop(&relay);
    for (unsigned i = 0; i < 3000 && soak_runs(soak); i++)
        nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
    soak_finish(soak, &result);
    cr_expect_not(result.ok);
}

/* ---- what processes keep ---- */

/* A process that opens a descriptor when it is asked to, and closes it when it is asked again. */
static pid_t keeper_start(int *channel) {
    int pair[2], kept = -1;
    char byte;
    cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    pid_t pid = fork();
    if (pid > 0) {
        close(pair[1]);
        *channel = pair[0];
        return pid;
    }
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    close(pair[0]);
    while (read(pair[1], &byte, 1) == 1) {
        if (kept >= 0)
            close(kept);
        kept = kept < 0 ? open("/dev/null", O_RDONLY) : -1;
        if (write(pair[1], &byte, 1) != 1)
            break;
    }
    _exit(0);
}

static void keeper_turn(int channel) {
    char byte = 'x';
    cr_assert_eq(write(channel, &byte, 1), 1);
    cr_assert_eq(read(channel, &byte, 1), 1);
}

Test(soak_watch, a_descriptor_that_is_kept_is_told, .timeout = 60) {
    static const struct peer peer = {.name = "keeper"};
    struct results *results = results_new();
    struct results_scenario *scenario = results_scenario(results, "s", "s", "s", NULL);
    struct soak_watch watch;
    int channel;
    struct tunnel tunnel = {.peer = &peer, .server.pid = keeper_start(&channel)};
    struct round round = {.tunnel = &tunnel, .results = scenario, .number = 1};
    cr_assert(soak_watch_begin(&watch, &round));
    watch.back_max_s = 0.5;
    cr_expect(soak_watch_settle(&watch, "at once"));
    keeper_turn(channel);
    cr_expect_not(soak_watch_settle(&watch, "after it was asked"));
    cr_assert_eq(scenario->failure_count, 1);
    cr_expect_not_null(strstr(scenario->failures[0], "after it was asked the server is not as it was"), "%s",
                       scenario->failures[0]);
    keeper_turn(channel);
    cr_expect(soak_watch_settle(&watch, "again"));
    kill(tunnel.server.pid, SIGKILL);
    waitpid(tunnel.server.pid, NULL, 0);
    cr_expect_not(soak_watch_settle(&watch, "when it is dead"));
    close(channel);
    results_free(results);
}
