/* What /proc says about processes of ours that do known things. */
#include "bench/usage.h"
#include <criterion/criterion.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define MIB ((size_t)1 << 20)

/* A child that does something, says so, and waits to be released. */
struct child {
    pid_t pid;
    int done, release;
};

static struct child start_child(void (*act)(void)) {
    int done[2], release[2];
    cr_assert(pipe(done) == 0 && pipe(release) == 0);
    pid_t pid = fork();
    if (pid == 0) {
        char byte;
        close(release[1]);
        close(done[0]);
        if (act != NULL)
            act();
        if (write(done[1], "", 1) != 1 || read(release[0], &byte, 1) != 0)
            _exit(1);
        _exit(0);
    }
    close(done[1]);
    close(release[0]);
    return (struct child){pid, done[0], release[1]};
}

static void await_child(const struct child *child) {
    char byte;
    cr_assert_eq(read(child->done, &byte, 1), 1);
}

/* The last one started first: it holds the others' pipes. */
static void end_child(const struct child *child) {
    int status;
    close(child->release);
    cr_assert_eq(waitpid(child->pid, &status, 0), child->pid);
    cr_assert_eq(status, 0);
    close(child->done);
}

static void burn(double seconds) {
    clock_t end = clock() + (clock_t)(seconds * CLOCKS_PER_SEC);
    while (clock() < end)
        ;
}

static void burn_some(void) {
    burn(0.15);
}

static void burn_below(void) {
    pid_t pid = fork();
    if (pid == 0) {
        burn(0.15);
        _exit(0);
    }
    waitpid(pid, NULL, 0);
}

static volatile char *memory;

static void touch_memory(size_t bytes) {
    memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    for (size_t i = 0; i < bytes; i += 4096)
        memory[i] = 1;
}

static void touch_and_return(void) {
    touch_memory(32 * MIB);
    munmap((void *)(uintptr_t)memory, 32 * MIB);
}

/* A child that ends with its parent, even when that is gone before it can ask for it: one that stayed would keep the
 * test's output open, and ctest waiting. */
static void fork_waiting(void) {
    pid_t parent = getpid();
    if (fork() != 0)
        return;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() == parent)
        pause();
    _exit(0);
}

static void touch_and_share(void) {
    touch_memory(32 * MIB);
    fork_waiting();
}

static void *wait_for_ever(void *unused) {
    (void)unused;
    pause();
    return NULL;
}

static void *fork_and_wait(void *unused) {
    fork_waiting();
    return wait_for_ever(unused);
}

static void start_threads(void) {
    pthread_t thread;
    pthread_create(&thread, NULL, wait_for_ever, NULL);
    pthread_create(&thread, NULL, fork_and_wait, NULL);
}

static void take_odd_name(void) {
    prctl(PR_SET_NAME, ") Z 1 (2) 3");
    burn(0.15);
}

Test(usage, none_is_zeros) {
    struct usage usage;
    memset(&usage, 1, sizeof usage);
    cr_assert(usage_of(0, true, &usage));
    cr_assert(usage.user_s == 0 && usage.system_s == 0);
    cr_assert(usage.rss_bytes == 0 && usage.peak_rss_bytes == 0);
    cr_assert(usage.processes == 0 && usage.threads == 0 && usage.descriptors == 0);
}

Test(usage, of_one_process) {
    struct usage usage, again;
    struct child child = start_child(NULL);
    await_child(&child);
    cr_assert(usage_of(child.pid, true, &usage));
    cr_assert_eq(usage.processes, 1);
    cr_assert_eq(usage.threads, 1);
    cr_assert_geq(usage.descriptors, 2);
    cr_assert_gt(usage.rss_bytes, 0);
    cr_assert_gt(usage.peak_rss_bytes, 0);
    cr_assert(usage_of(child.pid, false, &again));
    cr_assert_eq(again.rss_bytes, 0);
    end_child(&child);
}

Test(usage, counts_descriptors) {
    struct usage before, after;
    int pipes[10][2];
    cr_assert(usage_of(getpid(), false, &before));
    for (unsigned i = 0; i < 10; i++)
        cr_assert_eq(pipe(pipes[i]), 0);
    cr_assert(usage_of(getpid(), false, &after));
    cr_assert_eq(after.descriptors, before.descriptors + 20);
}

Test(usage, processor_time_of_a_process) {
    struct usage usage;
    struct child child = start_child(burn_some);
    await_child(&child);
    cr_assert(usage_of(child.pid, false, &usage));
    cr_assert_geq(usage.user_s + usage.system_s, 0.1);
    end_child(&child);
}

Test(usage, processor_time_of_children_that_are_gone) {
    struct usage usage;
    struct child child = start_child(burn_below);
    await_child(&child);
    cr_assert(usage_of(child.pid, false, &usage));
    cr_assert_geq(usage.user_s + usage.system_s, 0.1);
    cr_assert_eq(usage.processes, 1);
    end_child(&child);
}

Test(usage, a_name_may_look_like_the_rest_of_the_line) {
    struct usage usage;
    struct child child = start_child(take_odd_name);
    await_child(&child);
    cr_assert(usage_of(child.pid, false, &usage));
    cr_assert_geq(usage.user_s + usage.system_s, 0.1);
    cr_assert_eq(usage.threads, 1);
    end_child(&child);
}

Test(usage, the_peak_stays) {
    struct usage usage;
    struct child plain = start_child(NULL), child = start_child(touch_and_return);
    await_child(&plain);
    await_child(&child);
    cr_assert(usage_of(child.pid, true, &usage));
    cr_assert_geq(usage.peak_rss_bytes, 32 * MIB);
    cr_assert_leq(usage.rss_bytes + 24 * MIB, usage.peak_rss_bytes);
    end_child(&child);
    end_child(&plain);
}

Test(usage, shared_memory_counts_once) {
    struct usage usage, plain_usage;
    struct child plain = start_child(NULL), child = start_child(touch_and_share);
    await_child(&plain);
    await_child(&child);
    cr_assert(usage_of(plain.pid, true, &plain_usage));
    cr_assert(usage_of(child.pid, true, &usage));
    cr_assert_eq(usage.processes, 2);
    cr_assert_geq(usage.rss_bytes, 32 * MIB);
    cr_assert_lt(usage.rss_bytes, 32 * MIB + 2 * plain_usage.peak_rss_bytes + 16 * MIB);
    cr_assert_geq(usage.peak_rss_bytes, 64 * MIB);
    end_child(&child);
    end_child(&plain);
}

static void await_count(pid_t pid, uint32_t processes, struct usage *usage) {
    for (unsigned i = 0; i < 5000; i++) {
        cr_assert(usage_of(pid, false, usage));
        if (usage->processes == processes)
            return;
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    }
    cr_assert_fail("%u processes, not %u", usage->processes, processes);
}

Test(usage, a_thread_has_children_too) {
    struct usage usage;
    struct child child = start_child(start_threads);
    await_child(&child);
    await_count(child.pid, 2, &usage);
    cr_assert_eq(usage.threads, 4);
    end_child(&child);
}

Test(usage, of_what_is_gone) {
    struct usage usage;
    struct usage_process *tree;
    pid_t pid = fork();
    if (pid == 0)
        _exit(0);
    siginfo_t info;
    cr_assert_eq(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT), 0);
    cr_assert_not(usage_of(pid, true, &usage), "a zombie");
    waitpid(pid, NULL, 0);
    cr_assert_not(usage_of(pid, true, &usage), "nothing at all");
    cr_assert_eq(usage_tree(pid, &tree), 0);
    free(tree);
}

Test(usage, a_process_is_told_from_its_successor) {
    struct usage_process *tree;
    struct child child = start_child(NULL);
    await_child(&child);
    cr_assert_eq(usage_tree(child.pid, &tree), 1);
    cr_assert_eq(tree[0].pid, child.pid);
    cr_assert(usage_runs(&tree[0]));
    struct usage_process other = {child.pid, tree[0].started - 1};
    cr_assert_not(usage_runs(&other));
    end_child(&child);
    cr_assert_not(usage_runs(&tree[0]));
    free(tree);
}

Test(usage, between_two_looks) {
    const struct usage before = {.user_s = 1, .system_s = 5, .rss_bytes = 10, .peak_rss_bytes = 50, .processes = 3};
    const struct usage after = {.user_s = 4, .system_s = 4.5, .rss_bytes = 7, .peak_rss_bytes = 60, .processes = 2};
    struct usage spent;
    usage_since(&before, &after, &spent);
    cr_assert_float_eq(spent.user_s, 3, 1e-9);
    cr_assert(spent.system_s == 0, "what ended with its time cannot make it negative");
    cr_assert(spent.rss_bytes == 7 && spent.peak_rss_bytes == 60 && spent.processes == 2);
}

Test(usage, of_the_machine) {
    struct machine_time before, after;
    cr_assert(machine_time_now(&before));
    burn(0.2);
    cr_assert(machine_time_now(&after));
    cr_assert_geq(after.busy_s - before.busy_s, 0.1);
    cr_assert_geq(after.idle_s, before.idle_s - 0.05);
    cr_assert_geq(after.stolen_s, before.stolen_s);
}
