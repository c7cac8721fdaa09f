/* What stands while a scenario runs: its link, its target, and the tunnels of its peers. */
#ifndef BENCH_STAGE_H
#define BENCH_STAGE_H

#include "bench/bench_options.h"
#include "bench/plan.h"

struct contestant {
    const struct peer *peer;
    struct tunnel tunnel;
    bool is_up, is_out; /* out: has failed and does not take part any more */
};

struct stage {
    /* Borrowed, set by who opens it: */
    struct world *world;
    const struct peers *peers;
    const struct plan *plan;
    const struct bench_options *options;
    const struct plan_step *step;
    struct results_scenario *results;
    /* Its own: */
    struct link link;
    struct target target;
    bool has_link, has_target;
    struct place load_place;
    struct tunnel_options tunnel_options;
    struct contestant contestants[PLAN_PEERS_MAX];
};

/* Makes link and target, and starts every tunnel unless each round has its own. Who cannot start is out, and the
 * results say so. False: nobody can; to be closed all the same. */
bool stage_open(struct stage *stage);
/* Starts the contestant's tunnel. False: out, and the results say so. */
bool stage_start(struct stage *stage, struct contestant *contestant);
void stage_stop(struct stage *stage, struct contestant *contestant);
void stage_close(struct stage *stage);
/* On which processors, in the harness' own network. */
struct place stage_place(const struct bench_pin *pin);

#endif
