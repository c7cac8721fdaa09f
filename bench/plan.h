/* What a run will do: which scenarios, with which peers, for how long. Made once from the options; the runner walks it.
 */
#ifndef BENCH_PLAN_H
#define BENCH_PLAN_H

#include "bench/bench_options.h"
#include "bench/peers.h"
#include "bench/scenario.h"
#include <stdbool.h>
#include <stddef.h>

#define PLAN_PEERS_MAX 64

/* A scenario of this run. */
struct plan_step {
    struct scenario scenario; /* the table's, but over the run's own link where there is one */
    char name[128], title[192];
    double seconds, warmup_s;
    unsigned rounds;
    bool has_warmup_round;
    const struct peer *peers[PLAN_PEERS_MAX];
    unsigned peer_count;
    double expected_s; /* how long it should take, all in all */
};

struct plan {
    const struct peer *peers[PLAN_PEERS_MAX]; /* all that take part */
    unsigned peer_count;
    const struct peer *base;
    struct peer tunnels[BENCH_LIST_MAX]; /* the user's own as peers, in the order of the options */
    unsigned tunnel_count;
    struct plan_step *steps;
    size_t step_count;
    double expected_s;
};

/* False: `why` names the word that is wrong. To be deinitialised after both. Peers that are asked for by name and not
 * installed are an error; of the usual ones they are left out. */
bool plan_make(struct plan *plan, const struct bench_options *options, const struct peers *peers, char *why,
               size_t why_bytes);
void plan_deinit(struct plan *plan);
/* The user's own tunnel behind this peer, or NULL. */
const struct bench_tunnel *plan_tunnel(const struct plan *plan, const struct bench_options *options,
                                       const struct peer *peer);
/* Is the peer what this word on the command line means? "→" may be typed "->" or "-". */
bool plan_names_peer(const char *word, const char *peer_name);
/* A name, a group, or a pattern of fnmatch(3); of scenarios that run alone only the name. */
bool plan_names_scenario(const char *word, const struct scenario *scenario);

#endif
