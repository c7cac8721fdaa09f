/* Starting and ending processes, beneath world.h. Each leads a group of its own, dies with this process (SIGKILL to the
 * thread that made it counts too) and has its standard input from /dev/null. */
#ifndef BENCH_PROCESS_H
#define BENCH_PROCESS_H

#include "bench/place.h"
#include <stddef.h>
#include <sys/types.h>

struct process_spawn {
    char *const *argv;        /* looked up in PATH */
    char *const *environment; /* NAME=value, NULL-terminated, added to ours; or NULL */
    const struct place *place;
    int output; /* standard output and error; borrowed */
};

/* Returns once the program runs; −1 with errno. */
pid_t process_spawn(const struct process_spawn *spawn);
/* Ends each process with its group and all below it: TERM to all, after two seconds KILL; waits until they are gone and
 * reaps them. Numbers of 0 are passed over. What was below a process and had left its group is found as long as the
 * caller is a subreaper. */
void process_stop_all(const pid_t *pids, size_t count);
/* Ends (KILL) and reaps what came to this process, a subreaper, from parents that ended: what is below it in another
 * session. */
void process_stop_orphans(void);

#endif
