/* A scenario: what is done to a peer in one round, and what comes out. Each is one line in a table (scenario_table)
 * whose `run` does one round for one peer. The runner starts the tunnels, interleaves the peers, counts the time left
 * and writes the results. */
#ifndef BENCH_SCENARIO_H
#define BENCH_SCENARIO_H

#include "bench/link.h"
#include "bench/load.h"
#include "bench/peers.h"
#include "bench/results.h"

/* How big a run is. */
enum scenario_size { SIZE_SMOKE /* CI: every scenario, a blink each */, SIZE_QUICK, SIZE_STANDARD, SIZE_COUNT };

/* The parameters of one line. Those that a scenario does not use are zero. */
struct round;

struct scenario {
    const char *name, *title, *group; /* "bulk/down/8", "bulk down, 8 flows", "bulk" */
    bool (*run)(const struct scenario *scenario, struct round *round);
    uint32_t flows, message_bytes, idle_flows, at_once;
    double rate;                /* messages per second */
    int direction;              /* 'd', 'u', 'b' */
    struct link_shape shape;    /* rtt_ms > 0 or rate > 0: over a link of its own */
    const char *rekey;          /* RekeyLimit for the tunnel */
    const char *limit;          /* MemoryLimit for both ends */
    double seconds[SIZE_COUNT]; /* measured time of a round; 0: not in a run of this size */
    double alone_s; /* of one that is in no run but when it is asked for by its very name; 0: not such a one */
    unsigned rounds[SIZE_COUNT];                      /* 0: the run's own number */
    bool needs_ssh, needs_client, needs_fresh_tunnel; /* fresh: stopped and started for every round */
    bool when_named;                /* larger runs than a smoke have no time for it unless the user names it */
    bool relays_only;               /* peers without a client: plain relays and none at all */
    bool rekeys_if_able;            /* peers that cannot rekey take part all the same */
    bool needs_proxy;               /* its link ends connections, which packets' cannot */
    const char *const *peers;       /* those that take part unless the user names some, NULL-terminated */
    const char *const *smoke_peers; /* the same for a smoke; NULL: as `peers` */
    double overhead_s;              /* what a round takes beside warm-up and measurement: idle flows, settling */
};

/* One round of one peer. */
struct round {
    struct world *world;
    const struct peers *peers;
    struct tunnel *tunnel;
    const struct tunnel_options *tunnel_options;
    struct target *target;
    struct link *link; /* NULL: none */
    struct place load_place;
    const char *cipher;
    enum scenario_size size;
    double seconds, warmup_s; /* a warm-up round (number 0) takes a smoke's seconds */
    unsigned number;          /* 0: a warm-up whose values are thrown away */
    struct results_scenario *results;
    uint64_t key; /* fresh for each round */
};

extern const struct scenario scenario_table[];
extern const size_t scenario_table_count;

/* What a load runs for before it measures. Connections begin slowly: over a link that is several round trips. */
double scenario_warmup_s(const struct scenario *scenario, enum scenario_size size);
/* Whether a round as short as in a smoke, which does not count, precedes the others. What is in no set has no such time
 * of its own and takes long enough to be warm. */
bool scenario_has_warmup_round(const struct scenario *scenario, enum scenario_size size);
/* The idle flows it holds: in a smoke not all of them. */
uint32_t scenario_idle_flows(const struct scenario *scenario, enum scenario_size size);
/* Whether a peer takes part: what the scenario needs of it is there, and it stands in the scenario's list or was named
 * by the user. Whether it is installed is not looked at. */
bool scenario_suits(const struct scenario *scenario, enum scenario_size size, const struct peer *peer, bool is_named);
/* False when this process may not hold the descriptors that it takes: `why`. Such a scenario is left out with a
 * warning; it is no failure. */
bool scenario_possible(const struct scenario *scenario, enum scenario_size size, char *why, size_t why_bytes);
/* Roughly how long a scenario takes with so many peers, warm-up round and starts included; 0: not in this size.
 * `rounds` is the run's own number. */
double scenario_estimate_s(const struct scenario *scenario, enum scenario_size size, unsigned peers, unsigned rounds);

/* For `run`: a value of this round (nothing is kept of a warm-up round). */
void round_value(struct round *round, const char *metric, const char *unit, enum results_better better,
                 bool is_headline, double value);
void round_latency(struct round *round, const struct histogram *histogram);
/* Something that does not make the values wrong but is to be known when they are read; once for all rounds. */
void round_warn(struct round *round, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* A failure: named with peer and round; the run goes on with the next peer, and the whole ends with status 1. Returns
 * false. */
bool round_fail(struct round *round, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Runs the job with the tunnel's processes and the load under watch: records CPU seconds (user, system) of client,
 * server and load and peak RSS of each ("client-cpu", "s/GB" or "s/1000 operations"), warns when the load was the
 * bottleneck. False: failed and said so. */
bool round_load(struct round *round, const struct load_job *job, struct load_result *result);

#endif
