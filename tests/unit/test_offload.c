#include "engine/limits.h"
#include "engine/offload.h"
#include "tests/unit/engine_rig.h"
#include "tests/unit/seed.h"
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>

/* Work that ends when the test lets it. */
struct work {
    struct offload_job job;
    bool held;
    sem_t begun, go;
    pthread_t thread;
    unsigned worked, done;
    _Atomic unsigned released;
};

static struct shard shard;

static void on_work(struct offload_job *job) {
    struct work *work = list_entry(job, struct work, job);
    work->worked++;
    work->thread = pthread_self();
    sem_post(&work->begun);
    if (!work->held)
        return;
    while (sem_wait(&work->go) < 0)
        continue;
}

static void on_done(struct offload_job *job) {
    struct work *work = list_entry(job, struct work, job);
    cr_assert(shard_current() == &shard, "not on the shard's thread, or from within a call");
    cr_assert_eq(work->worked, 1);
    work->done++;
}

static void on_release(struct offload_job *job) {
    list_entry(job, struct work, job)->released++;
}

static void work_init(struct work *work, bool remote, bool held) {
    memset(work, 0, sizeof *work);
    work->job = (struct offload_job){.work = on_work, .done = on_done, .release = on_release, .remote = remote};
    work->held = held;
    sem_init(&work->begun, 0, 0);
    sem_init(&work->go, 0, 0);
}

static void submit(struct work *work, bool remote, bool held) {
    work_init(work, remote, held);
    cr_assert_eq(offload_submit(&work->job, &shard), 0);
    cr_assert_eq(work->done, 0);
}

static void let_go(struct work *work) {
    sem_post(&work->go);
}

static void wait_begun(struct work *work) {
    while (sem_wait(&work->begun) < 0)
        continue;
}

static bool has_begun(struct work *work) {
    int count;
    cr_assert_eq(sem_getvalue(&work->begun, &count), 0);
    return count > 0;
}

static void setup(void) {
    rig_init(&shard, IO_BACKEND_EPOLL, 4);
    cr_assert_eq(offload_start(), 0);
}

static void teardown(void) {
    offload_stop();
    shard_deinit(&shard);
}

TestSuite(offload, .init = setup, .fini = teardown);

Test(offload, work_is_done_on_another_thread_and_answered_on_the_shard) {
    struct work work;
    submit(&work, false, false);
    RIG_UNTIL(&shard, work.done == 1);
    cr_assert(!pthread_equal(work.thread, pthread_self()));
    rig_turn(&shard, 0);
    cr_assert_eq(work.done, 1);
    cr_assert_eq(work.released, 0);
}

Test(offload, a_job_may_be_submitted_again_once_it_is_done) {
    struct work work;
    for (unsigned i = 0; i < 3; i++) {
        submit(&work, i == 1, false);
        RIG_UNTIL(&shard, work.done == 1);
    }
}

Test(offload, local_work_does_not_wait_for_remote_work) {
    static struct work remote[LIMIT_OFFLOAD_REMOTE + 1], local[LIMIT_OFFLOAD_THREADS];
    for (unsigned i = 0; i < LIMIT_OFFLOAD_REMOTE + 1; i++)
        submit(&remote[i], true, true);
    for (unsigned i = 0; i < LIMIT_OFFLOAD_REMOTE; i++)
        wait_begun(&remote[i]);
    for (unsigned i = 0; i < LIMIT_OFFLOAD_THREADS; i++)
        submit(&local[i], false, false);
    for (unsigned i = 0; i < LIMIT_OFFLOAD_THREADS; i++)
        RIG_UNTIL(&shard, local[i].done == 1);
    cr_assert(!has_begun(&remote[LIMIT_OFFLOAD_REMOTE]), "threads that are for local work were taken");
    let_go(&remote[0]);
    wait_begun(&remote[LIMIT_OFFLOAD_REMOTE]);
    for (unsigned i = 1; i < LIMIT_OFFLOAD_REMOTE + 1; i++)
        let_go(&remote[i]);
    for (unsigned i = 0; i < LIMIT_OFFLOAD_REMOTE + 1; i++)
        RIG_UNTIL(&shard, remote[i].done == 1);
}

Test(offload, local_work_may_have_all_threads) {
    static struct work local[LIMIT_OFFLOAD_THREADS + 1];
    for (unsigned i = 0; i < LIMIT_OFFLOAD_THREADS + 1; i++)
        submit(&local[i], false, true);
    for (unsigned i = 0; i < LIMIT_OFFLOAD_THREADS; i++)
        wait_begun(&local[i]);
    cr_assert(!has_begun(&local[LIMIT_OFFLOAD_THREADS]));
    for (unsigned i = 0; i < LIMIT_OFFLOAD_THREADS + 1; i++)
        let_go(&local[i]);
    for (unsigned i = 0; i < LIMIT_OFFLOAD_THREADS + 1; i++)
        RIG_UNTIL(&shard, local[i].done == 1);
}

static void queue_fills(bool remote) {
    static struct work blocking[LIMIT_OFFLOAD_THREADS], queued[LIMIT_OFFLOAD_QUEUE + 1];
    unsigned threads = remote ? LIMIT_OFFLOAD_REMOTE : LIMIT_OFFLOAD_THREADS;
    for (unsigned i = 0; i < threads; i++)
        submit(&blocking[i], remote, true);
    for (unsigned i = 0; i < threads; i++)
        wait_begun(&blocking[i]);
    for (unsigned i = 0; i < LIMIT_OFFLOAD_QUEUE; i++)
        submit(&queued[i], remote, false);
    struct work *last = &queued[LIMIT_OFFLOAD_QUEUE];
    work_init(last, remote, false);
    cr_assert_eq(offload_submit(&last->job, &shard), ERR_LIMIT);

    offload_abandon(&queued[7].job);
    cr_assert_eq(queued[7].released, 1);
    cr_assert_eq(offload_submit(&last->job, &shard), 0, "a place is free again");

    for (unsigned i = 0; i < threads; i++)
        let_go(&blocking[i]);
    for (unsigned i = 0; i < LIMIT_OFFLOAD_QUEUE + 1; i++)
        RIG_UNTIL(&shard, queued[i].done + queued[i].released == 1);
    cr_assert(queued[7].done == 0 && queued[7].worked == 0);
    for (unsigned i = 0; i < threads; i++)
        RIG_UNTIL(&shard, blocking[i].done == 1);
}

Test(offload, a_full_queue_refuses_local_work) {
    queue_fills(false);
}

Test(offload, a_full_queue_refuses_remote_work) {
    queue_fills(true);
}

Test(offload, one_queue_that_is_full_leaves_the_other_open) {
    static struct work remote[LIMIT_OFFLOAD_QUEUE + LIMIT_OFFLOAD_REMOTE];
    struct work local;
    for (unsigned i = 0; i < LIMIT_OFFLOAD_REMOTE; i++) {
        submit(&remote[i], true, true);
        wait_begun(&remote[i]);
    }
    for (unsigned i = LIMIT_OFFLOAD_REMOTE; i < LIMIT_OFFLOAD_QUEUE + LIMIT_OFFLOAD_REMOTE; i++)
        submit(&remote[i], true, false);
    submit(&local, false, false);
    RIG_UNTIL(&shard, local.done == 1);
    for (unsigned i = 0; i < LIMIT_OFFLOAD_REMOTE; i++)
        let_go(&remote[i]);
    for (unsigned i = 0; i < LIMIT_OFFLOAD_QUEUE + LIMIT_OFFLOAD_REMOTE; i++)
        RIG_UNTIL(&shard, remote[i].done == 1);
}

Test(offload, what_is_abandoned_in_a_threads_hands_is_released_there) {
    struct work work;
    submit(&work, false, true);
    wait_begun(&work);
    cr_assert(offload_busy());
    offload_abandon(&work.job);
    cr_assert_eq(work.released, 0, "released under the thread's hands");
    let_go(&work);
    RIG_UNTIL(&shard, work.released == 1);
    cr_assert_eq(work.done, 0);
    RIG_UNTIL(&shard, !offload_busy());
}

Test(offload, what_is_abandoned_with_its_answer_on_the_way_is_released) {
    struct work work;
    submit(&work, false, false);
    while (!mailbox_pending(shard.mailbox) || offload_busy())
        usleep(100);
    offload_abandon(&work.job);
    RIG_UNTIL(&shard, work.released == 1);
    rig_turn(&shard, 0);
    cr_assert(work.done == 0 && work.released == 1);
}

static void nothing(void *arg, int64_t value) {
    (void)arg;
    (void)value;
}

static void mailbox_fill(void) {
    while (shard_post(&shard, nothing, NULL, 0) == 0)
        continue;
}

Test(offload, a_full_mailbox_loses_no_answer) {
    struct work answered, abandoned;
    mailbox_fill();
    submit(&answered, false, false);
    submit(&abandoned, false, false);
    wait_begun(&answered);
    wait_begun(&abandoned);
    offload_abandon(&abandoned.job);
    RIG_UNTIL(&shard, answered.done == 1 && abandoned.released == 1);
    cr_assert_eq(abandoned.done, 0);
}

Test(offload_late, stopping_waits_for_what_is_abandoned_and_leaves_the_shard_alone) {
    static struct work work;
    setup();
    submit(&work, false, true);
    wait_begun(&work);
    offload_abandon(&work.job);
    shard_deinit(&shard);
    memset(&shard, 0xff, sizeof shard);
    let_go(&work);
    offload_stop();
    cr_assert(work.released == 1 && work.done == 0);
    cr_assert_eq(offload_start(), 0, "it can be started again");
    offload_stop();
}

/* Random submits, turns and abandonments: each job ends once, by what the model says. */
static void random_run(uint64_t *state) {
    enum { WORKS = 60 };
    static struct work works[WORKS];
    bool submitted[WORKS] = {false}, abandoned[WORKS] = {false};
    setup();
    for (unsigned step = 0; step < 200; step++) {
        unsigned i = random_below(state, WORKS);
        if (!submitted[i]) {
            submit(&works[i], random_chance(state, 2), false);
            submitted[i] = true;
        } else if (!abandoned[i] && works[i].done == 0) {
            abandoned[i] = true;
            offload_abandon(&works[i].job);
        } else if (random_chance(state, 2)) {
            rig_turn(&shard, 0);
        }
    }
    for (unsigned i = 0; i < WORKS; i++) {
        if (!submitted[i])
            continue;
        RIG_UNTIL(&shard, works[i].done + works[i].released == 1);
        cr_assert_eq(works[i].released, abandoned[i]);
    }
    teardown();
}

Test(offload_random, every_job_ends_once, .fini = seed_report) {
    seed_each(100, random_run);
}
