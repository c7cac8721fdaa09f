/* Several SSH connections on cores that are slow: whether as many shards carry as many times as much.
 *
 * Client, server and load share a machine whose processors one connection's two shards may already keep busy. So every
 * shard's thread gets the same small share of a processor by the kernel's deadline scheduler, as if there were as many
 * processors as shards, slower ones. What shards then hold one another up with (locks, a shared thread) shows; what
 * they share in a real machine besides (memory, caches, a network card) does not. */
#include "bench/round.h"
#include "bench/scenario_runs.h"
#include <dirent.h>
#include <errno.h>
#include <linux/sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define PERIOD_NS UINT64_C(10000000) /* short, for windows not to be used up while a shard waits for its turn */
#define SHARE_PERCENT 15u            /* eight shards, two connections' at each end twice, and the load, on two cores */
#define SHARD_NAME "leat/"           /* of both programs' threads */
#define PATH_BYTES 64u

/* The first version of the kernel's struct sched_attr, which the C library does not declare everywhere. */
struct scheduling {
    uint32_t bytes, policy;
    uint64_t flags;
    int32_t nice;
    uint32_t priority;
    uint64_t runtime_ns, deadline_ns, period_ns;
};

static const struct scheduling usual = {.bytes = sizeof(usual), .policy = SCHED_NORMAL};
static const struct scheduling slow = {.bytes = sizeof(slow),
                                       .policy = SCHED_DEADLINE,
                                       .runtime_ns = PERIOD_NS * SHARE_PERCENT / 100,
                                       .deadline_ns = PERIOD_NS,
                                       .period_ns = PERIOD_NS};

static bool is_shard(pid_t pid, const char *thread) {
    char path[PATH_BYTES], name[32] = "";
    snprintf(path, sizeof(path), "/proc/%d/task/%.20s/comm", (int)pid, thread);
    FILE *file = fopen(path, "re");
    if (file == NULL)
        return false;
    bool is = fgets(name, sizeof(name), file) != NULL && strncmp(name, SHARD_NAME, strlen(SHARD_NAME)) == 0;
    fclose(file);
    return is;
}

/* Every shard of the process. False with errno: one of them cannot be. */
static bool schedule(pid_t pid, const struct scheduling *as) {
    char path[PATH_BYTES];
    bool done = true;
    snprintf(path, sizeof(path), "/proc/%d/task", (int)pid);
    DIR *tasks = opendir(path);
    for (const struct dirent *task; tasks != NULL && done && (task = readdir(tasks)) != NULL;)
        done = !is_shard(pid, task->d_name) || syscall(SYS_sched_setattr, atoi(task->d_name), as, 0) == 0;
    int error = errno;
    if (tasks != NULL)
        closedir(tasks);
    errno = error;
    return tasks != NULL && done;
}

static bool schedule_both(const struct tunnel *tunnel, const struct scheduling *as) {
    return schedule(tunnel->client.pid, as) && schedule(tunnel->server.pid, as);
}

bool connections_slow_run(const struct scenario *scenario, struct round *round) {
    if (!schedule_both(round->tunnel, &slow)) {
        round_warn(round, "left out: shards cannot be slowed down: %s", strerror(errno));
        schedule_both(round->tunnel, &usual);
        return true;
    }
    bool done = bulk_run(scenario, round);
    schedule_both(round->tunnel, &usual);
    return done;
}
