/* What a round says, keeps and counts, with a target of our own and no tunnel, and with processes whose use of the
 * processor is known. */
#include "bench/restart.h"
#include "bench/round.h"
#include "bench/stream.h"
#include <criterion/criterion.h>
#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static const struct peer direct = {.name = "direct"};
static const struct peer named = {.name = "some→peer"};

struct rig {
    struct results *results;
    struct target target;
    struct tunnel tunnel;
    struct tunnel_options options;
    struct round round;
};

static void rig_begin(struct rig *rig, bool has_target) {
    *rig = (struct rig){.results = results_new()};
    cr_assert(stream_setup());
    rig->tunnel = (struct tunnel){.peer = &direct, .is_reached_directly = true};
    rig->round = (struct round){.tunnel = &rig->tunnel,
                                .tunnel_options = &rig->options,
                                .load_place = PLACE_HERE,
                                .size = SIZE_SMOKE,
                                .seconds = 0.1,
                                .warmup_s = 0.02,
                                .number = 1,
                                .results = results_scenario(rig->results, "x/y", "title", "x", NULL),
                                .key = 7};
    if (!has_target)
        return;
    cr_assert(target_start(&rig->target, (struct in_addr){htonl(INADDR_LOOPBACK)}, 0, &PLACE_HERE));
    rig->round.target = &rig->target;
    rig->tunnel.address = rig->target.address;
}

static void rig_end(struct rig *rig) {
    if (rig->round.target != NULL)
        target_stop(&rig->target);
    results_free(rig->results);
}

static double value_of(const struct rig *rig, const char *metric) {
    const struct results_metric *found = results_find_metric(rig->round.results, metric);
    cr_assert_not_null(found, "no %s", metric);
    const struct results_series *series = results_find_series(found, rig->tunnel.peer->name);
    cr_assert_not_null(series, "%s of nobody", metric);
    cr_assert_eq(series->count, 1, "%s: %zu values", metric, series->count);
    return series->values[0];
}

Test(round, a_value_is_kept_for_its_peer_and_not_of_a_warm_up) {
    struct rig rig;
    rig_begin(&rig, false);
    rig.round.number = 0;
    round_value(&rig.round, "throughput", "MB/s", RESULTS_HIGHER, true, 5);
    round_warn(&rig.round, "a warning");
    cr_assert_eq(rig.round.results->metric_count, 0);
    cr_assert_eq(rig.round.results->warning_count, 0);
    rig.round.number = 1;
    round_value(&rig.round, "throughput", "MB/s", RESULTS_HIGHER, true, 6);
    cr_assert_float_eq(value_of(&rig, "throughput"), 6, 0);
    rig_end(&rig);
}

Test(round, what_is_no_number_is_a_failure) {
    struct rig rig;
    rig_begin(&rig, false);
    round_value(&rig.round, "throughput", "MB/s", RESULTS_HIGHER, true, NAN);
    round_value(&rig.round, "throughput", "MB/s", RESULTS_HIGHER, true, INFINITY);
    cr_assert_eq(rig.round.results->failure_count, 2);
    cr_assert_eq(rig.round.results->metric_count, 0);
    rig_end(&rig);
}

Test(round, a_warning_is_said_once_for_each_peer) {
    struct rig rig;
    rig_begin(&rig, false);
    for (unsigned i = 1; i < 4; i++) {
        rig.round.number = i;
        round_warn(&rig.round, "slow by %d", 3);
    }
    cr_assert_eq(rig.round.results->warning_count, 1);
    cr_assert_str_eq(rig.round.results->warnings[0], "direct: slow by 3");
    round_warn(&rig.round, "slow by %d", 4);
    rig.tunnel.peer = &named;
    round_warn(&rig.round, "slow by %d", 3);
    cr_assert_eq(rig.round.results->warning_count, 3);
    rig_end(&rig);
}

Test(round, a_failure_names_peer_and_round) {
    struct rig rig;
    rig_begin(&rig, false);
    rig.round.number = 3;
    cr_assert_not(round_fail(&rig.round, "wrong content at byte %d", 123));
    rig.round.number = 0;
    cr_assert_not(round_fail(&rig.round, "gone"));
    cr_assert_eq(rig.round.results->failure_count, 2);
    cr_assert_str_eq(rig.round.results->failures[0], "direct, round 3: wrong content at byte 123");
    cr_assert_str_eq(rig.round.results->failures[1], "direct, warm-up: gone");
    rig_end(&rig);
}

Test(round, latencies_are_told_in_milliseconds) {
    struct rig rig;
    struct histogram histogram;
    rig_begin(&rig, false);
    histogram_clear(&histogram);
    for (uint64_t i = 1; i <= 1000; i++)
        histogram_record(&histogram, i * 1000000);
    round_latencies(&rig.round, &histogram);
    cr_assert_float_eq(value_of(&rig, "p50"), 500, 5);
    cr_assert_float_eq(value_of(&rig, "p99"), 990, 5);
    cr_assert_float_eq(value_of(&rig, "p99.9"), 999, 5);
    cr_assert_float_eq(value_of(&rig, "max"), 1000, 5);
    cr_assert(results_find_metric(rig.round.results, "p99")->is_headline);
    cr_assert_eq(rig.round.results->latency_count, 1);
    cr_assert_eq(rig.round.results->latencies[0].histogram.count, 1000);
    rig_end(&rig);
}

/* A process that uses so much of a processor whenever a byte comes, and then sends one. */
struct burner {
    pid_t pid;
    int to, from;
};

static void burn(double seconds) {
    clock_t end = clock() + (clock_t)(seconds * CLOCKS_PER_SEC);
    while (clock() < end)
        ;
}

static void burner_start(struct burner *burner, double seconds) {
    int to[2], from[2];
    char byte;
    cr_assert_eq(pipe(to), 0);
    cr_assert_eq(pipe(from), 0);
    burner->pid = fork();
    if (burner->pid == 0) {
        close(to[1]);
        while (read(to[0], &byte, 1) == 1) {
            burn(seconds);
            if (write(from[1], &byte, 1) != 1)
                break;
        }
        _exit(0);
    }
    close(to[0]);
    close(from[1]);
    burner->to = to[1];
    burner->from = from[0];
}

static void burner_burn(const struct burner *burner) {
    char byte = 'x';
    cr_assert_eq(write(burner->to, &byte, 1), 1);
    cr_assert_eq(read(burner->from, &byte, 1), 1);
}

static void burner_stop(struct burner *burner) {
    close(burner->to);
    close(burner->from);
    waitpid(burner->pid, NULL, 0);
}

#define TICKS 0.04 /* two clock ticks at each end */

Test(round, time_is_charged_to_who_used_it_for_the_work_done) {
    struct rig rig;
    struct round_account account;
    struct burner client, server;
    rig_begin(&rig, false);
    burner_start(&server, 0.2); /* first, so that it does not hold the client's pipes */
    burner_start(&client, 0.4);
    rig.tunnel.peer = &named;
    rig.tunnel.client.pid = client.pid;
    rig.tunnel.server.pid = server.pid;
    rig.tunnel.is_reached_directly = false;
    burner_burn(&client); /* before the account: nobody's */
    cr_assert(round_account_open(&rig.round, &account));
    burner_burn(&client);
    burner_burn(&server);
    struct load_result result = {.ok = true, .measured_s = 0.5, .cpu_user_s = 0.3, .cpu_system_s = 0.1, .busy = 0.8};
    result.peak_rss_bytes = 5000000;
    struct round_work work = {"s/GB", 2, 1};
    cr_assert(round_account_close(&rig.round, &account, &result, &work));
    cr_assert_float_eq(value_of(&rig, "client-cpu"), 0.2, TICKS / 2);
    cr_assert_float_eq(value_of(&rig, "server-cpu"), 0.1, TICKS / 2);
    cr_assert_float_eq(value_of(&rig, "cpu"), 0.3, TICKS);
    cr_assert_float_eq(value_of(&rig, "load-cpu"), 0.4, 1e-9);
    cr_assert_float_eq(value_of(&rig, "load-cpu-user"), 0.3, 1e-9);
    cr_assert_float_eq(value_of(&rig, "load-cpu-system"), 0.1, 1e-9);
    cr_assert_float_eq(value_of(&rig, "load-peak-rss"), 5, 1e-9);
    cr_assert_gt(value_of(&rig, "client-peak-rss"), 0);
    cr_assert_float_eq(value_of(&rig, "client-cpu-user") + value_of(&rig, "client-cpu-system"),
                       value_of(&rig, "client-cpu"), 1e-9);
    cr_assert(results_find_metric(rig.round.results, "cpu")->is_headline);
    cr_assert_str_eq(results_find_metric(rig.round.results, "cpu")->unit, "s/GB");
    burner_stop(&client);
    burner_stop(&server);
    rig_end(&rig);
}

static bool has_warning(const struct rig *rig, const char *text) {
    for (size_t i = 0; i < rig->round.results->warning_count; i++)
        if (strstr(rig->round.results->warnings[i], text) != NULL)
            return true;
    return false;
}

Test(round, a_load_that_is_the_bottleneck_is_told_where_there_is_a_tunnel) {
    struct rig rig;
    struct round_account account;
    struct load_result result = {.ok = true, .measured_s = 0.5, .busy = 0.95};
    struct round_work work = {"s/GB", 1, 1};
    rig_begin(&rig, false);
    cr_assert(round_account_open(&rig.round, &account));
    cr_assert(round_account_close(&rig.round, &account, &result, &work));
    cr_assert_not(has_warning(&rig, "bottleneck"));
    rig.tunnel.is_reached_directly = false;
    result.busy = 0.89;
    cr_assert(round_account_close(&rig.round, &account, &result, &work));
    cr_assert_not(has_warning(&rig, "bottleneck"));
    result.busy = 0.95;
    cr_assert(round_account_close(&rig.round, &account, &result, &work));
    cr_assert(has_warning(&rig, "bottleneck"));
    rig_end(&rig);
}

Test(round, an_account_of_no_work_or_of_a_process_that_is_gone_fails) {
    struct rig rig;
    struct round_account account;
    struct load_result result = {.ok = true, .measured_s = 0.5};
    struct round_work nothing = {"s/GB", 0, 0}, some = {"s/GB", 1, 1};
    struct burner server;
    rig_begin(&rig, false);
    cr_assert(round_account_open(&rig.round, &account));
    cr_assert_not(round_account_close(&rig.round, &account, &result, &nothing));
    burner_start(&server, 0);
    rig.tunnel.server.pid = server.pid;
    cr_assert(round_account_open(&rig.round, &account));
    burner_stop(&server);
    cr_assert_not(round_account_close(&rig.round, &account, &result, &some));
    cr_assert_not(round_account_open(&rig.round, &account));
    cr_assert_eq(rig.round.results->failure_count, 3);
    cr_assert_eq(rig.round.results->metric_count, 0);
    rig_end(&rig);
}

Test(round, a_load_runs_and_is_accounted_for) {
    struct rig rig;
    static struct load_result result;
    rig_begin(&rig, true);
    struct scenario scenario = {.name = "x", .flows = 2};
    struct load_job job = round_job(&scenario, &rig.round, LOAD_DOWN);
    cr_assert_eq(job.flows, 2);
    cr_assert(round_load(&rig.round, &job, &result), "%s", result.why);
    cr_assert_gt(result.down_bytes, 0);
    cr_assert_gt(value_of(&rig, "load-cpu"), 0);
    cr_assert_null(results_find_metric(rig.round.results, "cpu"));
    cr_assert_null(results_find_metric(rig.round.results, "client-cpu"));
    cr_assert_eq(rig.round.results->failure_count, 0);
    rig_end(&rig);
}

Test(round, load_that_finds_nobody_is_a_failure_with_a_reason) {
    struct rig rig;
    static struct load_result result;
    rig_begin(&rig, true);
    struct scenario scenario = {.name = "x", .flows = 1};
    target_stop(&rig.target);
    rig.round.target = NULL;
    struct load_job job = round_job(&scenario, &rig.round, LOAD_OPEN);
    cr_assert_not(round_run(&rig.round, &job, &result));
    cr_assert_eq(rig.round.results->failure_count, 1);
    cr_assert(strlen(rig.round.results->failures[0]) > strlen("direct, round 1: "));
    job.measure_s = 0;
    cr_assert_null(round_begin(&rig.round, &job));
    cr_assert_eq(rig.round.results->failure_count, 2);
    rig_end(&rig);
}

Test(round, load_in_the_background_is_held_until_it_is_finished) {
    struct rig rig;
    static struct load_result result;
    rig_begin(&rig, true);
    struct scenario scenario = {.name = "x", .flows = 3};
    struct load_job job = round_job(&scenario, &rig.round, LOAD_HOLD);
    job.measure_s = 0;
    job.patience_ms = ROUND_IDLE_PATIENCE_MS;
    struct load *load = round_begin(&rig.round, &job);
    cr_assert_not_null(load);
    cr_assert(round_finish(&rig.round, load, false, &result), "%s", result.why);
    cr_assert_eq(result.operations, 3);
    rig_end(&rig);
}

static char *first_string(pid_t pid, const char *name) {
    char path[64], *text = NULL;
    size_t room = 0;
    snprintf(path, sizeof path, "/proc/%d/%s", (int)pid, name);
    FILE *file = fopen(path, "r");
    cr_assert_not_null(file);
    cr_assert_gt(getdelim(&text, &room, '\0', file), 0);
    fclose(file);
    return text;
}

Test(restart, a_process_is_started_again_as_it_was) {
    struct world *world = world_begin(false);
    struct process process = {0};
    struct restart restart;
    char mark[] = "BENCH_MARK=a b", *argv[] = {(char[]){"sleep"}, (char[]){"1000"}, NULL}, *env[] = {mark, NULL};
    cr_assert_not_null(world);
    cr_assert(world_start(world, &process, "sleeper", argv, env, &PLACE_HERE));
    pid_t old = process.pid;
    cr_assert(restart_learn(&restart, old));
    cr_assert_str_eq(restart.argv[0], "sleep");
    cr_assert_str_eq(restart.argv[1], "1000");
    cr_assert_null(restart.argv[2]);
    bool marked = false;
    for (char **at = restart.environment; at != NULL && *at != NULL; at++)
        marked |= strcmp(*at, mark) == 0;
    cr_assert(marked);
    kill(old, SIGKILL);
    cr_assert(restart_run(&restart, world, &process, &PLACE_HERE));
    cr_assert_neq(process.pid, old);
    cr_assert(process_alive(&process));
    char *name = first_string(process.pid, "cmdline");
    cr_assert_str_eq(name, "sleep");
    free(name);
    restart_forget(&restart);
    world_stop(world, &process);
    world_end(world);
}

Test(restart, nobody_is_not_learnt_from) {
    struct restart restart;
    pid_t pid = fork();
    if (pid == 0)
        _exit(0);
    waitpid(pid, NULL, 0);
    cr_assert_not(restart_learn(&restart, pid));
}
