/* The load of a soak: flows of all kinds at once through one tunnel, each by its script (soak_script.h), for as long as
 * wanted. One process of one thread has both ends of every flow (the target hands the far ones over), so it knows of
 * each what must come, byte by byte, and which end was reset. What is not as it must be is a failure that ends the load
 * and names seed, flow and byte. */
#ifndef BENCH_SOAK_H
#define BENCH_SOAK_H

#include "bench/load.h"
#include "bench/soak_script.h"

#define SOAK_FLOWS_MAX 512u /* at once; one more waits for its time */

struct soak_job {
    struct sockaddr_in address; /* where the tunnel listens */
    uint64_t seed;
    double rate;          /* flows a second */
    uint64_t bytes_max;   /* still to be moved by all flows that are there: beyond it the next one waits */
    uint32_t patience_ms; /* in which something must move on a flow that does not stall by its script */
};

enum soak_order {
    SOAK_QUIET = 1, /* no new flows; those that are there go on without further stalls to their ends */
    SOAK_RUN,       /* as from the beginning on */
    SOAK_LOSE /* quiet, and the flows that are there may end anyhow, as their link is about to go: but end they must,
                 and what comes until then must be right */
};

/* What has been until now. */
struct soak_counts {
    uint64_t flows, bytes;               /* opened; received and right, both ways */
    uint64_t stalls, resets, held, lost; /* that were done, not only drawn; lost: with their link */
    uint64_t longest_stall_ns; /* in which an end got nothing of a flow that neither stalls nor waits by its script */
    uint32_t open, open_peak;
};

struct soak;

/* Starts it; SOAK_QUIET at first. NULL with errno. */
struct soak *soak_start(const struct soak_job *job, const struct place *place);
/* Waits until the order is known, at most so long. False: it is not, or the load has ended, or the harness is to end.
 */
bool soak_order(struct soak *soak, enum soak_order order, double timeout_s);
/* Waits until no flow is there, at most so long. False as above. */
bool soak_wait_empty(struct soak *soak, double timeout_s);
/* False: it has ended by itself, which is a failure. */
bool soak_runs(const struct soak *soak);
void soak_look(const struct soak *soak, struct soak_counts *counts);
/* Ends it and frees it. The result has no numbers; not ok: how it failed. */
void soak_finish(struct soak *soak, struct load_result *result);

#endif
