/* What processes use, from /proc: of a process and all below it. */
#ifndef BENCH_USAGE_H
#define BENCH_USAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct usage {
    double user_s, system_s; /* threads and waited-for children included */
    uint64_t rss_bytes;      /* shared pages once (Pss); where the kernel does not tell, all resident ones */
    uint64_t peak_rss_bytes; /* sum of the peaks (VmHWM) */
    uint32_t processes, threads, descriptors;
};

/* A process for good: its number may be another's later, its number and start time may not. */
struct usage_process {
    pid_t pid;
    uint64_t started; /* clock ticks since boot */
};

/* The process and all below it, parents first; *processes is the caller's to free. 0 when it is gone or memory is out.
 */
size_t usage_tree(pid_t pid, struct usage_process **processes);
/* Is it still there (and more than a zombie)? */
bool usage_runs(const struct usage_process *process);

/* Adds up the tree below `pid`; a pid of 0 gives zeros. False when the process is gone. `with_memory`: Pss costs time,
 * so it is asked for. */
bool usage_of(pid_t pid, bool with_memory, struct usage *usage);
/* What was used between two looks: times of `after` less those of `before`; the rest of `after`. */
void usage_since(const struct usage *before, const struct usage *after, struct usage *spent);

/* The whole machine: seconds busy, idle and stolen by a hypervisor, over all processors, since boot. */
struct machine_time {
    double busy_s, idle_s, stolen_s;
};
bool machine_time_now(struct machine_time *time);

#endif
