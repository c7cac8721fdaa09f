/* What scenarios share beside scenario.h: a job's usual fields, load in the background, and the account of who used
 * which processor time. One thread. */
#ifndef BENCH_ROUND_H
#define BENCH_ROUND_H

#include "bench/scenario.h"
#include "bench/usage.h"

#define ROUND_IDLE_PATIENCE_MS 600000u /* of flows that are meant to stand still */

/* A job through the tunnel, with the round's key and times. */
struct load_job round_job(const struct scenario *scenario, const struct round *round, enum load_kind kind);
/* Monotonic; sleeps end early when the harness is interrupted. */
double round_now_s(void);
void round_sleep(double seconds);

/* Runs a job to its end, without an account. False: failed and said so. */
bool round_run(struct round *round, const struct load_job *job, struct load_result *result);
/* Starts a job without an end of its own (measure_s 0) and waits until its flows are there. NULL: failed and said so.
 */
struct load *round_begin(struct round *round, const struct load_job *job);
/* Ends it. False: it failed, which is said when nothing else has failed (`is_quiet` false). */
bool round_finish(struct round *round, struct load *load, bool is_quiet, struct load_result *result);
/* What a finished job says, checked: false when it failed or measured nothing, and said so. */
bool round_check(struct round *round, const struct load_result *result);

/* p50, p99 (the headline), p99.9 and max in milliseconds, and the histogram. */
void round_latencies(struct round *round, const struct histogram *histogram);

/* The account: who used what between open and close. */
struct round_account {
    struct usage client, server, target, everything; /* everything: the harness with all it has started */
    struct machine_time machine;
    double began_s;
};

/* Work done: `whole` while the account was open, `measured` in the load's own measured time. */
struct round_work {
    const char *unit; /* "s/GB" */
    double whole, measured;
};

/* False: a process of the tunnel is gone; said so. */
bool round_account_open(struct round *round, struct round_account *account);
bool round_account_close(struct round *round, const struct round_account *account, const struct load_result *result,
                         const struct round_work *work);

#endif
