/* The turn over a fake backend in virtual time, then threads over the real ones. */
#include "engine/limits.h"
#include "engine/shard.h"
#include <criterion/criterion.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

/* Knows polls only; time passes only by waiting. */
struct fake {
    struct io io;
    struct io_op *poll_op;
    bool canceled, fail;
    uint64_t deadline_ns; /* of the last turn */
};
static struct fake fake;
static struct shard shard;
static char order[64]; /* what ran, one letter each */

static void happened(char what) {
    size_t len = strlen(order);
    cr_assert_lt(len, sizeof order - 1);
    order[len] = what;
    order[len + 1] = '\0';
}

static void fake_destroy(struct io *io) {
    cr_assert_null(((struct fake *)(void *)io)->poll_op);
}

static void fake_poll(struct io *io, struct io_op *op, int fd, uint32_t events) {
    (void)io;
    cr_assert_null(fake.poll_op);
    cr_assert_eq(events, (uint32_t)POLLIN);
    fake.poll_op = op;
    op->fd = fd;
}

static void fake_cancel(struct io *io, struct io_op *op) {
    (void)io;
    cr_assert_eq(op, fake.poll_op);
    fake.canceled = true;
}

static int fake_turn(struct io *io, uint64_t deadline_ns) {
    fake.deadline_ns = deadline_ns;
    struct pollfd poll_fd = {.fd = fake.poll_op ? fake.poll_op->fd : -1, .events = POLLIN};
    bool readable = poll(&poll_fd, 1, 0) == 1;
    if (!readable && !fake.canceled) {
        cr_assert_neq(deadline_ns, UINT64_MAX, "nothing will ever happen");
        if (deadline_ns > io->now_ns)
            io->now_ns = deadline_ns;
        return fake.fail ? ERR_SYSTEM : ERR_OK;
    }
    struct io_op *op = fake.poll_op;
    int32_t res = fake.canceled ? -ECANCELED : POLLIN;
    fake.poll_op = NULL;
    fake.canceled = false;
    op->in_flight = false;
    happened('i');
    op->done(op, res);
    return ERR_OK;
}

static const struct io_ops fake_ops = {
    .name = "fake", .destroy = fake_destroy, .poll = fake_poll, .cancel = fake_cancel, .turn = fake_turn};

static int make_fake(struct slot_pool *slots, void *arg, struct io **io) {
    cr_assert_eq(arg, &fake);
    cr_assert_eq(slots, &shard.slots);
    cr_assert_gt(slots->free_count, 0);
    fake = (struct fake){.io = {.ops = &fake_ops, .slots = slots, .now_ns = 1000}};
    *io = &fake.io;
    return ERR_OK;
}

static const struct shard_options fake_options = {.index = 3, .cpu = -1, .slots_max = 4, .rings_max = 2};

static void setup(void) {
    order[0] = '\0';
    cr_assert_eq(shard_init(&shard, &fake_options, make_fake, &fake), ERR_OK);
}

static void teardown(void) {
    shard_deinit(&shard);
}

static void turn(uint64_t deadline_ns) {
    cr_assert_eq(shard_turn(&shard, deadline_ns), ERR_OK);
}

static void on_message(void *arg, int64_t value) {
    (void)arg;
    happened((char)value);
}

static void on_timer(struct timer *timer) {
    (void)timer;
    happened('t');
}

struct named_task {
    struct task task;
    char name;
    struct named_task *defers;
};

static void on_task(struct task *task) {
    struct named_task *named = list_entry(task, struct named_task, task);
    happened(named->name);
    if (named->defers)
        shard_defer(&shard, &named->defers->task);
}

static void named_init(struct named_task *named, char name) {
    task_init(&named->task, on_task);
    named->name = name;
    named->defers = NULL;
}

TestSuite(turn, .init = setup, .fini = teardown);

Test(turn, init_uses_the_options) {
    cr_assert_eq(shard.index, 3);
    cr_assert_eq(shard.slots.count, 4);
    cr_assert_eq(shard.slots.payload_max, LIMIT_CHANNEL_PACKET_BYTES);
    cr_assert_eq(shard.rings.max, 2);
    cr_assert_eq(shard.rings.ring_bytes, LIMIT_RING_BYTES);
    cr_assert_null(shard.thread);
    cr_assert_eq(shard.flows, 0);
}

Test(turn, waits_until_the_earlier_of_deadline_and_timer) {
    struct timer timer = {.on_timer = on_timer};
    turn(5000);
    cr_assert(fake.deadline_ns == 5000 && shard_now(&shard) == 5000);
    timer_arm(&shard.timers, &timer, 7000);
    turn(6000);
    cr_assert_eq(fake.deadline_ns, 6000);
    cr_assert_str_eq(order, "");
    turn(UINT64_MAX);
    cr_assert_eq(fake.deadline_ns, 7000);
    cr_assert_str_eq(order, "t");
    turn(0);
    cr_assert_eq(fake.deadline_ns, 0);
}

Test(turn, order_is_completions_timers_messages_tasks) {
    struct timer timer = {.on_timer = on_timer};
    struct named_task task;
    named_init(&task, 'k');
    shard_defer(&shard, &task.task);
    cr_assert_eq(shard_post(&shard, on_message, NULL, 'm'), ERR_OK);
    timer_arm(&shard.timers, &timer, 1000);
    turn(UINT64_MAX);
    cr_assert_str_eq(order, "itmk");
}

Test(turn, a_message_wakes_a_turn_every_time) {
    for (unsigned i = 0; i < 3; i++) {
        cr_assert_eq(shard_post(&shard, on_message, NULL, 'a'), ERR_OK);
        cr_assert_eq(shard_post(&shard, on_message, NULL, 'b'), ERR_OK);
        turn(UINT64_MAX);
        cr_assert_str_eq(order, "iab");
        order[0] = '\0';
        turn(shard_now(&shard) + 10);
        cr_assert_str_eq(order, "", "and the next is not woken");
    }
}

Test(turn, a_deferred_task_means_no_waiting) {
    struct named_task task;
    named_init(&task, 'k');
    shard_defer(&shard, &task.task);
    shard_defer(&shard, &task.task);
    turn(UINT64_MAX);
    cr_assert_eq(fake.deadline_ns, 0);
    cr_assert_str_eq(order, "k");
    turn(2000);
    cr_assert_str_eq(order, "k");
}

Test(turn, undeferred_tasks_do_not_run) {
    struct named_task a, b;
    named_init(&a, 'a');
    named_init(&b, 'b');
    shard_defer(&shard, &a.task);
    shard_defer(&shard, &b.task);
    shard_undefer(&a.task);
    shard_undefer(&a.task);
    turn(0);
    cr_assert_str_eq(order, "b");
}

Test(turn, a_task_runs_once_a_turn_and_one_it_defers_in_the_same) {
    struct named_task a, b;
    named_init(&a, 'a');
    named_init(&b, 'b');
    a.defers = &b;
    b.defers = &a;
    shard_defer(&shard, &a.task);
    turn(0);
    cr_assert_str_eq(order, "ab");
    turn(UINT64_MAX);
    cr_assert_eq(fake.deadline_ns, 0);
    cr_assert_str_eq(order, "abab");
    b.defers = NULL;
    turn(0);
    cr_assert_str_eq(order, "ababab");
    turn(2000);
    cr_assert_str_eq(order, "ababab");
}

static void free_it(struct task *task) {
    happened('f');
    free(task);
}

Test(turn, a_task_may_free_itself) {
    struct task *task = malloc(sizeof *task);
    task_init(task, free_it);
    shard_defer(&shard, task);
    turn(0);
    turn(0);
    cr_assert_str_eq(order, "f");
}

static struct shard *current_seen;

static void see_current(void *arg, int64_t value) {
    (void)arg;
    (void)value;
    current_seen = shard_current();
}

Test(turn, current_is_the_shard_during_a_turn_only) {
    cr_assert_null(shard_current());
    cr_assert_eq(shard_post(&shard, see_current, NULL, 0), ERR_OK);
    turn(0);
    cr_assert_eq(current_seen, &shard);
    cr_assert_null(shard_current());
}

Test(turn, a_failing_backend_is_told) {
    fake.fail = true;
    cr_assert_eq(shard_turn(&shard, 2000), ERR_SYSTEM);
}

static void defer_at_end(void *arg, int64_t value) {
    (void)value;
    struct named_task *task = arg;
    shard_defer(&shard, &task->task);
}

Test(end, deinit_runs_messages_and_tasks_that_came_before) {
    struct named_task task;
    named_init(&task, 'k');
    setup();
    cr_assert_eq(shard_post(&shard, on_message, NULL, 'm'), ERR_OK);
    cr_assert_eq(shard_post(&shard, defer_at_end, &task, 0), ERR_OK);
    shard_deinit(&shard);
    cr_assert_str_eq(order, "imk");
}

static int make_nothing(struct slot_pool *slots, void *arg, struct io **io) {
    (void)slots;
    (void)arg;
    (void)io;
    return ERR_UNSUPPORTED;
}

Test(end, init_without_backend_leaves_nothing) {
    cr_assert_eq(shard_init(&shard, &fake_options, make_nothing, NULL), ERR_UNSUPPORTED);
}

Test(end, a_timer_left_armed_aborts, .signal = SIGABRT) {
    struct timer timer = {.on_timer = on_timer};
    setup();
    timer_arm(&shard.timers, &timer, UINT64_MAX);
    shard_deinit(&shard);
}

Test(end, a_slot_left_out_aborts, .signal = SIGABRT) {
    setup();
    cr_assert_not_null(slot_take(&shard.slots));
    shard_deinit(&shard);
}

/* Threads. */
struct seen {
    sem_t done;
    struct shard *current;
    char name[16];
    bool signals_blocked;
    pthread_t thread;
    int64_t value;
};
static pthread_t started_on;
static struct shard *started_as;

static void on_start(struct shard *started) {
    started_on = pthread_self();
    started_as = started;
    cr_assert_eq(shard_current(), started);
}

static void look_around(void *arg, int64_t value) {
    struct seen *seen = arg;
    sigset_t blocked;
    seen->current = shard_current();
    seen->thread = pthread_self();
    seen->value = value;
    pthread_getname_np(pthread_self(), seen->name, sizeof seen->name);
    pthread_sigmask(SIG_SETMASK, NULL, &blocked);
    seen->signals_blocked = sigismember(&blocked, SIGINT) && sigismember(&blocked, SIGTERM);
    sem_post(&seen->done);
}

static bool backend_missing(int err, enum io_backend backend) {
    return err == ERR_UNSUPPORTED && backend == IO_BACKEND_URING;
}

static void run_a_thread(enum io_backend backend) {
    struct shard_options options = {.backend = backend, .index = 7, .cpu = 0, .on_thread_start = on_start};
    struct shard *threaded = NULL;
    sigset_t before, after;
    pthread_sigmask(SIG_SETMASK, NULL, &before);
    int err = shard_start(&options, &threaded);
    if (backend_missing(err, backend))
        cr_skip_test("no io_uring here");
    cr_assert_eq(err, ERR_OK);
    pthread_sigmask(SIG_SETMASK, NULL, &after);
    cr_assert_eq(sigismember(&before, SIGINT), sigismember(&after, SIGINT));
    cr_assert_eq(started_as, threaded);
    struct seen seen = {0};
    sem_init(&seen.done, 0, 0);
    for (int64_t i = 1; i <= 3; i++) {
        cr_assert_eq(shard_post(threaded, look_around, &seen, i), ERR_OK);
        sem_wait(&seen.done);
        cr_assert_eq(seen.value, i);
    }
    cr_assert_eq(seen.current, threaded);
    cr_assert(pthread_equal(seen.thread, started_on) && !pthread_equal(seen.thread, pthread_self()));
    cr_assert_str_eq(seen.name, "leat/7");
    cr_assert(seen.signals_blocked);
    cr_assert_null(shard_current());
    shard_stop(threaded);
    shard_join(threaded);
    sem_destroy(&seen.done);
}

Test(thread, runs_on_io_uring, .timeout = 20) {
    run_a_thread(IO_BACKEND_URING);
}

Test(thread, runs_on_epoll, .timeout = 20) {
    run_a_thread(IO_BACKEND_EPOLL);
}

static void count(void *arg, int64_t value) {
    (void)value;
    ++*(unsigned *)arg;
}

static void stop_itself(void *arg, int64_t value) {
    (void)value;
    shard_stop(arg);
}

Test(thread, what_was_posted_before_the_stop_is_run, .timeout = 20) {
    struct shard_options options = {.backend = IO_BACKEND_AUTO, .cpu = -1};
    struct shard *threaded;
    unsigned ran = 0, posted = 0;
    cr_assert_eq(shard_start(&options, &threaded), ERR_OK);
    cr_assert_eq(shard_post(threaded, stop_itself, threaded, 0), ERR_OK);
    int err;
    while ((err = shard_post(threaded, count, &ran, 0)) == ERR_OK || err == ERR_FULL)
        posted += err == ERR_OK;
    cr_assert_eq(err, ERR_CLOSED);
    shard_join(threaded);
    cr_assert_eq(ran, posted);
}

struct ticking {
    struct timer timer;
    sem_t done;
    uint64_t armed_ns, fired_ns;
};

static void on_tick(struct timer *timer) {
    struct ticking *ticking = list_entry(timer, struct ticking, timer);
    ticking->fired_ns = shard_now(shard_current());
    sem_post(&ticking->done);
}

static void arm(void *arg, int64_t value) {
    struct ticking *ticking = arg;
    ticking->armed_ns = shard_now(shard_current());
    timer_arm(&shard_current()->timers, &ticking->timer, ticking->armed_ns + (uint64_t)value);
}

Test(thread, a_timer_wakes_a_sleeping_shard, .timeout = 20) {
    static const enum io_backend backends[] = {IO_BACKEND_URING, IO_BACKEND_EPOLL};
    for (size_t i = 0; i < 2; i++) {
        struct shard_options options = {.backend = backends[i], .cpu = -1};
        struct ticking ticking = {.timer.on_timer = on_tick};
        struct shard *threaded;
        int err = shard_start(&options, &threaded);
        if (backend_missing(err, backends[i]))
            continue;
        cr_assert_eq(err, ERR_OK);
        sem_init(&ticking.done, 0, 0);
        cr_assert_eq(shard_post(threaded, arm, &ticking, 20000000), ERR_OK);
        sem_wait(&ticking.done);
        cr_assert_geq(ticking.fired_ns - ticking.armed_ns, 20000000);
        shard_stop(threaded);
        shard_join(threaded);
        sem_destroy(&ticking.done);
    }
}

#define SPIN_NS UINT64_C(50000000)

static uint64_t clock_ns(clockid_t clock) {
    struct timespec now;
    clock_gettime(clock, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static void spin(void *arg, int64_t value) {
    (void)value;
    for (uint64_t end_ns = clock_ns(CLOCK_THREAD_CPUTIME_ID) + SPIN_NS; clock_ns(CLOCK_THREAD_CPUTIME_ID) < end_ns;)
        continue;
    sem_post(arg);
}

/* The kernel's accounts come late; what they say in the end is what was done. */
Test(thread, how_busy_it_was, .timeout = 60) {
    struct shard_options options = {.backend = IO_BACKEND_AUTO, .cpu = -1};
    struct timespec pause = {.tv_nsec = 20000000};
    uint64_t started_ns = clock_ns(CLOCK_MONOTONIC);
    struct shard *threaded;
    sem_t done;
    sem_init(&done, 0, 0);
    cr_assert_eq(shard_start(&options, &threaded), ERR_OK);
    cr_assert_eq(shard_post(threaded, spin, &done, 0), ERR_OK);
    sem_wait(&done);
    while (shard_busy_ns(threaded) < SPIN_NS)
        nanosleep(&pause, NULL);
    nanosleep(&pause, NULL);
    uint64_t busy_ns = shard_busy_ns(threaded);
    cr_expect_leq(busy_ns, clock_ns(CLOCK_MONOTONIC) - started_ns);
    nanosleep(&pause, NULL);
    cr_expect_lt(shard_busy_ns(threaded) - busy_ns, (uint64_t)pause.tv_nsec, "asleep is not busy");
    shard_stop(threaded);
    shard_join(threaded);
    sem_destroy(&done);
}

Test(thread, a_start_that_fails_says_why_and_leaves_nothing) {
    struct shard_options options = {.backend = IO_BACKEND_EPOLL, .cpu = -1};
    struct shard *threaded = NULL;
    struct rlimit limit, zero;
    cr_assert_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
    zero = (struct rlimit){0, limit.rlim_max};
    cr_assert_eq(setrlimit(RLIMIT_NOFILE, &zero), 0);
    int err = shard_start(&options, &threaded);
    int error_number = errno;
    cr_assert_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
    cr_assert_eq(err, ERR_FILES);
    cr_assert_eq(error_number, EMFILE);
    cr_assert_null(threaded);
}
