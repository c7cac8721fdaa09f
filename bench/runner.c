#include "bench/runner.h"
#include "bench/noise.h"
#include "bench/plan.h"
#include "bench/progress.h"
#include "bench/runner_record.h"
#include "bench/stage.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define WHY_BYTES 4096
/* Fewer say too little about their own spread. */
#define ROUNDS_TRUSTED 5u

struct run {
    const struct bench_options *options;
    struct world *world;
    struct peers *peers;
    struct plan plan;
    struct results *results;
    struct progress progress;
    uint64_t next_key;
};

/* Every round has a stream of its own (the steps of splitmix64). */
static uint64_t fresh_key(struct run *run) {
    uint64_t key = run->next_key += 0x9e3779b97f4a7c15u;
    key = (key ^ (key >> 30)) * 0xbf58476d1ce4e5b9u;
    key = (key ^ (key >> 27)) * 0x94d049bb133111ebu;
    return key ^ (key >> 31);
}

static void show_round(const struct run *run, const struct plan_step *step, unsigned number, const char *peer) {
    char what[64] = "warm-up";
    if (number > 0)
        snprintf(what, sizeof(what), "round %u of %u", number, step->rounds);
    progress_show(&run->progress, what, peer);
}

/* One round of one peer; number 0 is the warm-up, as short as in a smoke. */
static void run_round(struct run *run, struct stage *stage, struct contestant *contestant, unsigned number) {
    const struct plan_step *step = stage->step;
    size_t failures = stage->results->failure_count;
    bool fresh = step->scenario.needs_fresh_tunnel;
    show_round(run, step, number, contestant->peer->name);
    if (fresh && !stage_start(stage, contestant))
        return;
    struct round round = {.world = run->world,
                          .peers = run->peers,
                          .tunnel = &contestant->tunnel,
                          .tunnel_options = &stage->tunnel_options,
                          .target = &stage->target,
                          .link = stage->has_link ? &stage->link : NULL,
                          .load_place = stage->load_place,
                          .cipher = run->options->cipher,
                          .size = run->options->size,
                          .seconds = number == 0 ? step->scenario.seconds[SIZE_SMOKE] : step->seconds,
                          .warmup_s = step->warmup_s,
                          .number = number,
                          .results = stage->results,
                          .key = fresh_key(run)};
    contestant->is_out = !step->scenario.run(&step->scenario, &round);
    if (fresh || contestant->is_out)
        stage_stop(stage, contestant);
    if (contestant->is_out && stage->results->failure_count > failures)
        progress_say(&run->progress, "%s: %s", step->name, stage->results->failures[failures]);
}

/* The peers one after the other, who begins changing from round to round. */
static void run_rounds(struct run *run, struct stage *stage) {
    const struct plan_step *step = stage->step;
    double part = step->expected_s / (step->peer_count * (step->rounds + 1));
    for (unsigned number = step->has_warmup_round ? 0 : 1; number <= step->rounds; number++)
        for (unsigned i = 0; i < step->peer_count; i++) {
            struct contestant *contestant = &stage->contestants[(i + number) % step->peer_count];
            if (world_interrupted())
                return;
            if (!contestant->is_out)
                run_round(run, stage, contestant, number);
            progress_advance(&run->progress, part);
        }
}

/* Why the step cannot be done at all, in `why`. */
static bool is_possible(const struct run *run, const struct plan_step *step, char *why, size_t why_bytes) {
    if (step->peer_count > 0)
        return scenario_possible(&step->scenario, run->options->size, why, why_bytes);
    snprintf(why, why_bytes, "none of the peers can do it");
    return false;
}

static void run_step(struct run *run, const struct plan_step *step) {
    char why[WHY_BYTES] = "";
    if (!is_possible(run, step, why, sizeof(why))) {
        results_warn(run->results, "%s left out: %s", step->name, why);
        progress_advance(&run->progress, step->expected_s);
        run->progress.scenario++;
        return;
    }
    json_t *parameters = record_parameters(step, run->options);
    struct results_scenario *scenario =
        results_scenario(run->results, step->name, step->title, step->scenario.group, parameters);
    json_decref(parameters);
    struct stage stage = {.world = run->world,
                          .peers = run->peers,
                          .plan = &run->plan,
                          .options = run->options,
                          .step = step,
                          .results = scenario};
    double done_s = run->progress.done_s;
    progress_scenario(&run->progress, step->title);
    progress_show(&run->progress, "starting", "all");
    if (stage_open(&stage))
        run_rounds(run, &stage);
    else if (!world_interrupted() && scenario->failure_count > 0)
        progress_say(&run->progress, "%s: %s", step->name, scenario->failures[0]);
    stage_close(&stage);
    noise_judge_spread(scenario, run->results->base_peer);
    if (!world_interrupted())
        progress_advance(&run->progress, done_s + step->expected_s - run->progress.done_s);
}

static void run_all(struct run *run) {
    const struct bench_options *options = run->options;
    noise_look_before(run->results);
    if (options->rounds > 0 && options->rounds < ROUNDS_TRUSTED)
        results_warn(run->results, "fewer than %u rounds: spread and intervals say little", ROUNDS_TRUSTED);
    progress_begin(&run->progress, options->quiet ? NULL : stderr, isatty(STDERR_FILENO) == 1, run->plan.expected_s,
                   run->plan.step_count);
    record_peers(run->results, &run->plan, options, run->world, run->peers);
    for (size_t i = 0; i < run->plan.step_count && !world_interrupted(); i++)
        run_step(run, &run->plan.steps[i]);
    progress_end(&run->progress);
}

static bool begin(struct run *run, int argc, char **argv, char *why, size_t why_bytes) {
    run->world = world_begin(run->options->keep);
    if (run->world == NULL) {
        snprintf(why, why_bytes, "no folder for the run: %s", strerror(errno));
        return false;
    }
    if (!world_keys(run->world, why, why_bytes))
        return false;
    run->results = results_new();
    record_beginning(run->results, &run->plan, run->options, argc, argv);
    return true;
}

static int finish(struct run *run) {
    int signal = world_signal();
    if (run->results != NULL) {
        record_end(run->results, signal != 0);
        if (signal != 0)
            results_warn(run->results, "interrupted: these are partial results");
    }
    if (run->options->keep)
        fprintf(stderr, "leat-bench: kept: %s\n", world_dir(run->world));
    world_end(run->world);
    if (signal != 0)
        return 128 + signal;
    return run->results == NULL || results_failed(run->results) ? BENCH_FAILED : BENCH_FINE;
}

int runner_run(const struct bench_options *options, int argc, char **argv, struct results **results) {
    struct run run = {.options = options, .next_key = options->seed};
    const struct peers_options peers_options = {options->peers_file, options->programs};
    char why[WHY_BYTES] = "";
    int status = BENCH_USAGE;
    *results = NULL;
    run.peers = peers_load(&peers_options, why, sizeof(why));
    if (run.peers == NULL) {
        fprintf(stderr, "leat-bench: %s\n", why);
        return BENCH_USAGE;
    }
    if (!plan_make(&run.plan, options, run.peers, why, sizeof(why))) {
        fprintf(stderr, "leat-bench: %s\n", why);
    } else {
        if (begin(&run, argc, argv, why, sizeof(why)))
            run_all(&run);
        else
            fprintf(stderr, "leat-bench: %s\n", why);
        status = run.world != NULL ? finish(&run) : BENCH_FAILED;
    }
    *results = run.results;
    plan_deinit(&run.plan);
    peers_free(run.peers);
    return status;
}
