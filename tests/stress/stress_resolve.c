/* Resolver threads against a shard on its own thread: answers and cancels race, for the thread sanitizer's eyes. */
#include "engine/check.h"
#include "engine/offload.h"
#include "engine/resolve.h"
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>

#define ROUNDS 200u
#define PER_ROUND 40u

struct round {
    struct task task;
    struct shard *shard;
    struct resolve *resolves[PER_ROUND];
    unsigned number, left;
};
struct question {
    struct round *round;
    unsigned index;
};

static struct question questions[PER_ROUND];
static unsigned answers, cancels;
static sem_t over;

static void round_start(struct round *round);

static void question_over(struct round *round) {
    if (--round->left > 0)
        return;
    if (++round->number < ROUNDS)
        shard_defer(round->shard, &round->task);
    else
        sem_post(&over);
}

static void cancel_some(struct round *round) {
    for (unsigned i = 0; i < PER_ROUND; i++) {
        if (!round->resolves[i] || rand() % 4 != 0)
            continue;
        resolve_cancel(round->resolves[i]);
        round->resolves[i] = NULL;
        cancels++;
        question_over(round);
    }
}

static void on_answer(void *arg, const struct resolve_result *result) {
    struct question *question = arg;
    struct round *round = question->round;
    CHECK(result->err == 0 && result->count > 0);
    CHECK(round->resolves[question->index] != NULL);
    round->resolves[question->index] = NULL;
    answers++;
    unsigned number = round->number;
    question_over(round);
    if (round->number == number && rand() % 8 == 0)
        cancel_some(round);
}

static void round_start(struct round *round) {
    round->left = PER_ROUND;
    for (unsigned i = 0; i < PER_ROUND; i++) {
        questions[i] = (struct question){round, i};
        round->resolves[i] = resolve_start(round->shard, "localhost", 80, AF_UNSPEC, on_answer, &questions[i]);
        CHECK(round->resolves[i]);
    }
}

static void on_round(struct task *task) {
    round_start(list_entry(task, struct round, task));
}

static void on_begin(void *arg, int64_t value) {
    (void)value;
    round_start(arg);
}

int main(void) {
    const struct shard_options options = {.slots_max = 4, .rings_max = 1, .cpu = -1};
    struct round round = {0};
    sem_init(&over, 0, 0);
    task_init(&round.task, on_round);
    CHECK(offload_start() == 0);
    CHECK(shard_start(&options, &round.shard) == 0);
    CHECK(shard_post(round.shard, on_begin, &round, 0) == 0);
    sem_wait(&over);
    shard_stop(round.shard);
    shard_join(round.shard);
    offload_stop();
    CHECK(answers + cancels == ROUNDS * PER_ROUND);
    printf("%u answers, %u cancels\n", answers, cancels);
    return 0;
}
