/* Offloaded jobs of several shards at once: answers, abandonments and full queues race, for the thread sanitizer's
 * eyes. Every job is accounted for, by done or by release, and never by both. */
#include "engine/check.h"
#include "engine/offload.h"
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define SHARDS 3u
#define ROUNDS 1000u
#define PER_ROUND 60u

struct side;
struct work {
    struct offload_job job;
    struct side *side;
    unsigned index;
    uint64_t question, answer;
};
struct side {
    struct shard *shard;
    struct task task;
    struct work *works[PER_ROUND]; /* NULL: answered or abandoned */
    unsigned number, left;
    uint64_t random;
    unsigned answers, abandoned;
};

static struct side sides[SHARDS];
static _Atomic unsigned begun, done_count, released;
static sem_t over;

/* xorshift64 */
static uint64_t random_next(uint64_t *state) {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

static uint64_t answer_to(uint64_t question) {
    return question * 3 + 1;
}

static void on_work(struct offload_job *job) {
    struct work *work = list_entry(job, struct work, job);
    if (work->question % 16 == 0)
        usleep(200);
    work->answer = answer_to(work->question);
}

static void work_over(struct side *side) {
    if (--side->left > 0)
        return;
    if (++side->number < ROUNDS)
        shard_defer(side->shard, &side->task);
    else
        sem_post(&over);
}

static void abandon_some(struct side *side) {
    for (unsigned i = 0; i < PER_ROUND && side->left > 1; i++) {
        struct work *work = side->works[i];
        if (!work || random_next(&side->random) % 4 != 0)
            continue;
        side->works[i] = NULL;
        side->abandoned++;
        offload_abandon(&work->job);
        work_over(side);
    }
}

static void on_done(struct offload_job *job) {
    struct work *work = list_entry(job, struct work, job);
    struct side *side = work->side;
    CHECK(shard_current() == side->shard);
    CHECK(side->works[work->index] == work && work->answer == answer_to(work->question));
    side->works[work->index] = NULL;
    side->answers++;
    done_count++;
    free(work);
    if (random_next(&side->random) % 8 == 0)
        abandon_some(side);
    work_over(side);
}

static void on_release(struct offload_job *job) {
    released++;
    free(list_entry(job, struct work, job));
}

static void round_run(struct task *task) {
    struct side *side = list_entry(task, struct side, task);
    side->left = PER_ROUND;
    for (unsigned i = 0; i < PER_ROUND; i++) {
        struct work *work = malloc(sizeof *work);
        CHECK(work);
        *work = (struct work){.side = side, .index = i, .question = random_next(&side->random)};
        work->job.work = on_work;
        work->job.done = on_done;
        work->job.release = on_release;
        work->job.remote = i % 2 != 0;
        CHECK(offload_submit(&work->job, side->shard) == 0);
        side->works[i] = work;
        begun++;
    }
    abandon_some(side);
}

static void on_begin(void *arg, int64_t value) {
    (void)value;
    struct side *side = arg;
    task_init(&side->task, round_run);
    shard_defer(side->shard, &side->task);
}

int main(void) {
    const struct shard_options options = {.slots_max = 4, .rings_max = 1, .cpu = -1};
    unsigned answers = 0, abandoned = 0;
    sem_init(&over, 0, 0);
    CHECK(offload_start() == 0);
    for (unsigned i = 0; i < SHARDS; i++) {
        sides[i].random = i + 1;
        CHECK(shard_start(&options, &sides[i].shard) == 0);
        CHECK(shard_post(sides[i].shard, on_begin, &sides[i], 0) == 0);
    }
    for (unsigned i = 0; i < SHARDS; i++)
        sem_wait(&over);
    for (unsigned i = 0; i < SHARDS; i++) {
        shard_stop(sides[i].shard);
        shard_join(sides[i].shard);
        answers += sides[i].answers;
        abandoned += sides[i].abandoned;
    }
    offload_stop();
    CHECK(answers == done_count && abandoned == released && begun == SHARDS * ROUNDS * PER_ROUND);
    CHECK(answers + abandoned == begun && answers > begun / 10 && abandoned > begun / 10);
    printf("%u answers, %u abandoned\n", answers, abandoned);
    return 0;
}
