/* Starting a program again exactly as it was started: what autossh does for a client that does not reconnect. */
#ifndef BENCH_RESTART_H
#define BENCH_RESTART_H

#include "bench/world.h"
#include <stdbool.h>
#include <sys/types.h>

struct restart {
    char **argv, **environment; /* NULL-terminated, owned */
};

/* Learns from /proc how a process was started. False with errno; to be forgotten only after success. */
bool restart_learn(struct restart *restart, pid_t pid);
/* Starts it, in place of *process, which has ended. Its output goes to a file of its own. False with errno. */
bool restart_run(const struct restart *restart, struct world *world, struct process *process,
                 const struct place *place);
void restart_forget(struct restart *restart);

#endif
