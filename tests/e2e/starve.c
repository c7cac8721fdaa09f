#include "starve.h"
#include <criterion/criterion.h>
#include <dirent.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

static pid_t hog;

pid_t thread_named(const struct process *process, const char *name) {
    const char *folder = world_format("/proc/%d/task", (int)process->pid);
    DIR *tasks = opendir(folder);
    pid_t found = 0;
    for (struct dirent *task; tasks != NULL && found == 0 && (task = readdir(tasks)) != NULL;) {
        char *comm = world_read(world_format("%s/%s/comm", folder, task->d_name));
        if (strncmp(comm, name, strlen(name)) == 0 && comm[strlen(name)] == '\n')
            found = (pid_t)atoi(task->d_name);
        free(comm);
    }
    if (tasks != NULL)
        closedir(tasks);
    return found;
}

static cpu_set_t one_processor(void) {
    cpu_set_t all, one;
    CPU_ZERO(&one);
    cr_assert_eq(sched_getaffinity(0, sizeof(all), &all), 0);
    for (int i = 0; i < CPU_SETSIZE && CPU_COUNT(&one) == 0; i++)
        if (CPU_ISSET(i, &all))
            CPU_SET(i, &one);
    return one;
}

void starve(const struct process *process, const char *thread) {
    cpu_set_t one = one_processor();
    pid_t number = thread_named(process, thread);
    cr_assert_gt(number, 0, "%s has no thread %s", process->name, thread);
    hog = fork();
    if (hog == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        close_range(3, ~0U, 0); /* what the test closes is to be closed */
        sched_setaffinity(0, sizeof(one), &one);
        for (;;)
            continue;
    }
    cr_assert_eq(sched_setaffinity(number, sizeof(one), &one), 0);
    cr_assert_eq(setpriority(PRIO_PROCESS, (id_t)number, 10), 0);
}

void starve_end(void) {
    if (hog <= 0)
        return;
    kill(hog, SIGKILL);
    waitpid(hog, NULL, 0);
    hog = 0;
}

/* How often it has gone to sleep. */
static long sleeps_of(pid_t thread) {
    char *status = world_read(world_format("/proc/%d/status", (int)thread));
    const char *mark = "voluntary_ctxt_switches:", *at = strstr(status, mark);
    cr_assert_not_null(at);
    long count = atol(at + strlen(mark));
    free(status);
    return count;
}

bool thread_rests(pid_t thread) {
    const int seconds = 5;
    long before = sleeps_of(thread);
    pause_seconds(seconds);
    return sleeps_of(thread) - before < 3 * seconds;
}
