#pragma once
/* What nearly every end-to-end test expects of leat. */
#include "tests/skip.h"
#include "world.h"
#include <criterion/criterion.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#define world_skip(world, ...) skip_after(world_end(world), __VA_ARGS__)

/* It runs with -v and every forward stands. */
static inline void expect_up(struct process *leat) {
    cr_assert(process_says(leat, "tunnel is up", 20));
}

/* TERM, and a clean end. */
static inline void expect_clean_end(struct process *leat) {
    process_kill(leat, SIGTERM);
    cr_expect_eq(process_wait(leat, 20), 0, "%s", process_log(leat));
}

/* It ends by itself with 255; `why` is in its output. */
static inline void expect_failure(struct process *leat, const char *why) {
    cr_expect_eq(process_wait(leat, 30), 255, "%s", process_log(leat));
    cr_expect_not_null(strstr(process_log(leat), why), "not \"%s\" but: %s", why, process_log(leat));
}

/* The same, with that one line and no other. */
static inline void expect_failure_line(struct process *leat, const char *why) {
    expect_failure(leat, why);
    cr_expect_eq(process_lines(leat, ""), 1, "not one line: %s", process_log(leat));
    cr_expect_eq(process_lines(leat, "leat: "), 1, "%s", process_log(leat));
}

#define expect_soon_or_say(condition, seconds, ...)                                                                    \
    do {                                                                                                               \
        double deadline_ = now_seconds() + world_deadline(seconds);                                                    \
        bool soon_;                                                                                                    \
        while (!(soon_ = (condition)) && now_seconds() < deadline_)                                                    \
            pause_seconds(0.01);                                                                                       \
        cr_expect(soon_, __VA_ARGS__);                                                                                 \
    } while (0)

/* Waits until condition holds; the deadline fails the test. */
#define expect_soon(condition, seconds) expect_soon_or_say(condition, seconds, "not in time: %s", #condition)
/* … and shows what the process has said by then. */
#define expect_soon_of(process, condition, seconds)                                                                    \
    expect_soon_or_say(condition, seconds, "not in time: %s; %s: %s", #condition, (process)->name, process_log(process))

/* A server writes its log in its own time: the client may be told of a login before the log is. */
#define expect_logins(world, count) expect_soon(world_logins(world) == (count), 10)

/* After leat -f, in a test that is a subreaper. The one that stays in the background becomes our child when its parent
 * is gone. */
static inline struct process *adopt_background(struct world *world) {
    pid_t pid = 0;
    expect_soon((pid = process_child(world, getpid(), "leat")) != 0, 10);
    cr_assert_neq(pid, 0, "nobody is in the background");
    return world_adopt(world, "leat -f", pid);
}

/* How often keys have changed, as USR1 prints it. */
static inline unsigned rekeys_of(struct process *leat) {
    unsigned before = process_lines(leat, " rekeys");
    process_kill(leat, SIGUSR1);
    expect_soon(process_lines(leat, " rekeys") == before + 1, 10);
    const char *line = process_log(leat), *last = NULL;
    for (const char *at = strstr(line, " rekeys"); at != NULL; at = strstr(at + 1, " rekeys"))
        last = at;
    cr_assert_not_null(last);
    while (last[-1] >= '0' && last[-1] <= '9')
        last--;
    return (unsigned)atoi(last);
}
