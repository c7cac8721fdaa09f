/* Memory once it has come to rest. */
#ifndef BENCH_SETTLE_H
#define BENCH_SETTLE_H

#include "bench/round.h"

/* Looks at the memory of a process and all below it until what is given back when all is quiet has been given back, at
 * most a few seconds (in a smoke at once). False: the process is gone. */
bool settle_usage(const struct round *round, pid_t pid, struct usage *usage);

#endif
