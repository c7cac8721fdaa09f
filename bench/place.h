/* Where a process of the harness runs: on which processors and in which network namespace. */
#ifndef BENCH_PLACE_H
#define BENCH_PLACE_H

#include <sched.h>
#include <stdbool.h>

struct place {
    int netns_fd;  /* −1: the harness' own; borrowed */
    int userns_fd; /* with a netns_fd: the user namespace that owns it, where the harness may not enter it without; −1:
                      none; borrowed */
    bool pinned;
    cpu_set_t cpus; /* when pinned */
};

#define PLACE_HERE ((struct place){.netns_fd = -1, .userns_fd = -1})

/* Moves the calling process (single-threaded as yet, after a fork) there. False with errno set. */
bool place_enter(const struct place *place);
/* "0,2-3" as taskset has it. False when it is none or names a processor that is not there. */
bool place_parse_cpus(const char *text, cpu_set_t *cpus);

#endif
