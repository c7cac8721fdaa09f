#include "engine/offload.h"
#include "engine/check.h"
#include "engine/limits.h"
#include <pthread.h>
#include <signal.h>
#include <time.h>

/* Who may touch a job:  IDLE: its owner. QUEUED, WORKING: whoever holds the lock. POSTED (answer in the mailbox): its
 * shard. A job abandoned while QUEUED is released at once, while WORKING by the thread, while POSTED when the message
 * runs. */
enum job_state { JOB_IDLE, JOB_QUEUED, JOB_WORKING, JOB_POSTED };

/* How long a thread waits for room in a mailbox that is full. */
#define POST_RETRY_NS 1000000

struct lane {
    struct list jobs;
    uint32_t queued, working, working_max;
};
enum { LANE_LOCAL, LANE_REMOTE, LANES };

static struct {
    pthread_mutex_t lock;
    pthread_cond_t work;
    struct lane lanes[LANES];
    uint32_t idle, threads_count;
    pthread_t threads[LIMIT_OFFLOAD_THREADS];
    bool started, stopping;
} pool = {.lock = PTHREAD_MUTEX_INITIALIZER, .work = PTHREAD_COND_INITIALIZER};

/* ---- lanes; all with the lock held ---- */

static struct lane *lane_of(const struct offload_job *job) {
    return &pool.lanes[job->remote ? LANE_REMOTE : LANE_LOCAL];
}

/* Jobs of it that a thread could begin now. */
static uint32_t lane_runnable(const struct lane *lane) {
    uint32_t room = lane->working_max - lane->working;
    return lane->queued < room ? lane->queued : room;
}

static void lane_push(struct lane *lane, struct offload_job *job) {
    job->state = JOB_QUEUED;
    list_push_back(&lane->jobs, &job->node);
    lane->queued++;
}

static void lane_remove(struct lane *lane, struct offload_job *job) {
    list_remove(&job->node);
    lane->queued--;
}

static struct offload_job *job_next(void) {
    for (unsigned i = 0; i < LANES; i++) {
        struct lane *lane = &pool.lanes[i];
        if (lane_runnable(lane) == 0)
            continue;
        struct offload_job *job = list_entry(list_first(&lane->jobs), struct offload_job, node);
        lane_remove(lane, job);
        return job;
    }
    return NULL;
}

/* ---- threads ---- */

static void on_posted(void *arg, int64_t value) {
    (void)value;
    struct offload_job *job = arg;
    job->state = JOB_IDLE;
    if (job->shard)
        job->done(job);
    else
        job->release(job);
}

/* Lock held; dropped while the shard's mailbox is full. The lock is held over the post, so that a shard whose jobs were
 * all abandoned is never touched again. False: the job was abandoned, or its shard takes no messages any more. */
static bool job_post(struct offload_job *job) {
    const struct timespec pause = {.tv_nsec = POST_RETRY_NS};
    while (job->shard) {
        job->state = JOB_POSTED;
        int err = shard_post(job->shard, on_posted, job, 0);
        if (err == 0)
            return true;
        job->state = JOB_WORKING;
        if (err != ERR_FULL)
            return false;
        pthread_mutex_unlock(&pool.lock);
        nanosleep(&pause, NULL);
        pthread_mutex_lock(&pool.lock);
    }
    return false;
}

/* Lock held, but for the work itself. */
static void job_serve(struct offload_job *job) {
    struct lane *lane = lane_of(job);
    job->state = JOB_WORKING;
    lane->working++;
    pthread_mutex_unlock(&pool.lock);
    job->work(job);
    pthread_mutex_lock(&pool.lock);
    if (!job_post(job)) {
        pthread_mutex_unlock(&pool.lock);
        job->state = JOB_IDLE;
        job->release(job);
        pthread_mutex_lock(&pool.lock);
    }
    lane->working--;
}

static void *thread_main(void *arg) {
    (void)arg;
    pthread_mutex_lock(&pool.lock);
    while (!pool.stopping) {
        struct offload_job *job = job_next();
        if (job) {
            job_serve(job);
            continue;
        }
        pool.idle++;
        pthread_cond_wait(&pool.work, &pool.lock);
        pool.idle--;
    }
    pthread_mutex_unlock(&pool.lock);
    return NULL;
}

/* Lock held. Signals are for the main thread alone. */
static void thread_add(void) {
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    if (pthread_create(&pool.threads[pool.threads_count], NULL, thread_main, NULL) == 0)
        pool.threads_count++;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

int offload_start(void) {
    static const uint32_t working_max[LANES] = {LIMIT_OFFLOAD_THREADS, LIMIT_OFFLOAD_REMOTE};
    pthread_mutex_lock(&pool.lock);
    CHECK(!pool.started);
    for (unsigned i = 0; i < LANES; i++) {
        pool.lanes[i] = (struct lane){.working_max = working_max[i]};
        list_init(&pool.lanes[i].jobs);
    }
    pool.idle = pool.threads_count = 0;
    pool.started = true;
    pool.stopping = false;
    pthread_mutex_unlock(&pool.lock);
    return 0;
}

bool offload_busy(void) {
    pthread_mutex_lock(&pool.lock);
    bool busy = pool.lanes[LANE_LOCAL].working + pool.lanes[LANE_REMOTE].working > 0;
    pthread_mutex_unlock(&pool.lock);
    return busy;
}

void offload_stop(void) {
    pthread_mutex_lock(&pool.lock);
    CHECK(pool.started);
    for (unsigned i = 0; i < LANES; i++)
        CHECK(list_empty(&pool.lanes[i].jobs));
    pool.stopping = true;
    pthread_cond_broadcast(&pool.work);
    pthread_mutex_unlock(&pool.lock);
    for (uint32_t i = 0; i < pool.threads_count; i++)
        pthread_join(pool.threads[i], NULL);
    pool.started = false;
}

/* ---- jobs ---- */

/* Lock held. */
static int job_enqueue(struct offload_job *job) {
    struct lane *lane = lane_of(job);
    if (lane->queued == LIMIT_OFFLOAD_QUEUE)
        return ERR_LIMIT;
    lane_push(lane, job);
    uint32_t runnable = lane_runnable(&pool.lanes[LANE_LOCAL]) + lane_runnable(&pool.lanes[LANE_REMOTE]);
    if (pool.idle < runnable && pool.threads_count < LIMIT_OFFLOAD_THREADS)
        thread_add();
    if (pool.threads_count > 0) {
        pthread_cond_signal(&pool.work);
        return 0;
    }
    lane_remove(lane, job);
    job->state = JOB_IDLE;
    return ERR_NOMEM;
}

int offload_submit(struct offload_job *job, struct shard *shard) {
    job->shard = shard;
    list_init(&job->node);
    pthread_mutex_lock(&pool.lock);
    CHECK(pool.started && !pool.stopping);
    int err = job_enqueue(job);
    pthread_mutex_unlock(&pool.lock);
    return err;
}

void offload_abandon(struct offload_job *job) {
    pthread_mutex_lock(&pool.lock);
    bool queued = job->state == JOB_QUEUED;
    CHECK(job->state != JOB_IDLE && job->shard);
    job->shard = NULL;
    if (queued)
        lane_remove(lane_of(job), job);
    pthread_mutex_unlock(&pool.lock);
    if (!queued)
        return;
    job->state = JOB_IDLE;
    job->release(job);
}
