/* Shards started, posted to from many threads and from each other, stopped in the middle of it and joined, over and
 * over, on both backends; for the thread sanitizer too. Some seconds; exit 0 when every message that was taken over ran
 * once, on its shard's thread. */
#include "engine/shard.h"
#include <pthread.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define SHARDS 3u
#define POSTERS 3u
#define TOKENS 16u /* messages that travel from shard to shard */
#define SECONDS_EACH 2.0

struct station {
    struct shard *shard;
    _Atomic uint64_t accepted;
    uint64_t ran; /* the rest: its thread's */
    uint64_t ticks, flushes;
    bool quiet; /* arms its timer no more */
    struct timer timer;
    struct task task;
};

static struct station stations[SHARDS];
static _Atomic bool tokens_stop;
static _Atomic unsigned tokens_alive;

static void __attribute__((format(printf, 1, 2))) fail(const char *format, ...) {
    va_list args;
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fputc('\n', stderr);
    exit(1);
}

static double seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static uint32_t random_next(uint32_t *state) {
    *state ^= *state << 13;
    *state ^= *state >> 17;
    *state ^= *state << 5;
    return *state;
}

static void on_tick(struct timer *timer) {
    list_entry(timer, struct station, timer)->ticks++;
}

static void on_flush(struct task *task) {
    list_entry(task, struct station, task)->flushes++;
}

static void station_ran(struct station *station) {
    if (shard_current() != station->shard)
        fail("a message ran on another thread than its shard's");
    station->ran++;
}

static void on_message(void *arg, int64_t value) {
    struct station *station = arg;
    station_ran(station);
    shard_defer(station->shard, &station->task);
    if (value % 16 == 0 && !station->quiet)
        timer_arm(&station->shard->timers, &station->timer, shard_now(station->shard) + (uint64_t)value * 100);
}

static bool station_post(struct station *station, void (*run)(void *, int64_t), int64_t value) {
    int err = shard_post(station->shard, run, station, value);
    if (err == ERR_OK)
        atomic_fetch_add(&station->accepted, 1);
    else if (err == ERR_FULL)
        sched_yield();
    else if (err != ERR_CLOSED)
        fail("post: %s", err_text(err));
    return err != ERR_CLOSED;
}

/* A token goes on to another shard until it is told to stop, or finds the next mailbox full. */
static void on_token(void *arg, int64_t value) {
    struct station *station = arg;
    station_ran(station);
    struct station *next = &stations[(station - stations + 1 + value % 2) % SHARDS];
    if (!tokens_stop && shard_post(next->shard, on_token, next, value + 1) == ERR_OK)
        atomic_fetch_add(&next->accepted, 1);
    else
        atomic_fetch_sub(&tokens_alive, 1);
}

static void *post_until_closed(void *arg) {
    uint32_t state = *(const uint32_t *)arg;
    unsigned closed = 0;
    while (closed < (1u << SHARDS) - 1) {
        unsigned i = random_next(&state) % SHARDS;
        if (!station_post(&stations[i], on_message, random_next(&state) % 1000))
            closed |= 1u << i;
    }
    return NULL;
}

/* From within, while others go on posting: the timer may not be armed when the shard ends. */
static void on_stop(void *arg, int64_t value) {
    (void)value;
    struct station *station = arg;
    station_ran(station);
    station->quiet = true;
    timer_cancel(&station->shard->timers, &station->timer);
    shard_stop(station->shard);
}

static void start_all(const enum io_backend *backends, unsigned backends_count, unsigned round) {
    for (unsigned i = 0; i < SHARDS; i++) {
        struct shard_options options = {
            .backend = backends[(round + i) % backends_count], .index = i, .cpu = -1, .slots_max = 16};
        stations[i] = (struct station){.timer.on_timer = on_tick};
        task_init(&stations[i].task, on_flush);
        int err = shard_start(&options, &stations[i].shard);
        if (err < 0)
            fail("start: %s", err_text(err));
    }
}

static void tokens_start(void) {
    tokens_stop = false;
    tokens_alive = TOKENS;
    for (unsigned i = 0; i < TOKENS; i++)
        while (shard_post(stations[i % SHARDS].shard, on_token, &stations[i % SHARDS], i) != ERR_OK)
            sched_yield();
    for (unsigned i = 0; i < TOKENS; i++)
        atomic_fetch_add(&stations[i % SHARDS].accepted, 1);
}

static void nap(long ns) {
    nanosleep(&(struct timespec){.tv_nsec = ns}, NULL);
}

static void stop_all(void) {
    tokens_stop = true;
    while (tokens_alive > 0)
        nap(100000);
    for (unsigned i = 0; i < SHARDS; i++) {
        int err;
        while ((err = shard_post(stations[i].shard, on_stop, &stations[i], 0)) == ERR_FULL)
            sched_yield();
        if (err < 0)
            fail("stop: %s", err_text(err));
        atomic_fetch_add(&stations[i].accepted, 1);
    }
}

static uint64_t posting_round(const enum io_backend *backends, unsigned backends_count, unsigned round) {
    pthread_t posters[POSTERS];
    uint32_t seeds[POSTERS];
    uint64_t ran = 0;
    start_all(backends, backends_count, round);
    tokens_start();
    for (unsigned i = 0; i < POSTERS; i++) {
        seeds[i] = round * 7919 + i + 1;
        if (pthread_create(&posters[i], NULL, post_until_closed, &seeds[i]) != 0)
            fail("no thread");
    }
    nap((long)(round % 20) * 1000000);
    stop_all();
    for (unsigned i = 0; i < POSTERS; i++)
        pthread_join(posters[i], NULL);
    for (unsigned i = 0; i < SHARDS; i++) {
        shard_join(stations[i].shard);
        if (stations[i].accepted != stations[i].ran)
            fail("%llu taken over, %llu ran", (unsigned long long)stations[i].accepted,
                 (unsigned long long)stations[i].ran);
        ran += stations[i].ran;
    }
    return ran;
}

static void start_and_stop(const enum io_backend *backends, unsigned backends_count, unsigned round) {
    struct shard_options options = {.backend = backends[round % backends_count], .cpu = -1, .slots_max = 16};
    struct shard *shard;
    int err = shard_start(&options, &shard);
    if (err < 0)
        fail("start: %s", err_text(err));
    shard_stop(shard);
    shard_join(shard);
}

static unsigned backends_here(enum io_backend backends[2]) {
    struct shard_options options = {.backend = IO_BACKEND_URING, .cpu = -1, .slots_max = 16};
    struct shard *shard;
    backends[0] = IO_BACKEND_EPOLL;
    backends[1] = IO_BACKEND_URING;
    if (shard_start(&options, &shard) < 0)
        return 1;
    shard_stop(shard);
    shard_join(shard);
    return 2;
}

int main(void) {
    enum io_backend backends[2];
    unsigned backends_count = backends_here(backends), rounds = 0, starts = 0;
    uint64_t ran = 0;
    for (double end = seconds() + SECONDS_EACH; seconds() < end; rounds++)
        ran += posting_round(backends, backends_count, rounds);
    for (double end = seconds() + SECONDS_EACH / 2; seconds() < end; starts++)
        start_and_stop(backends, backends_count, starts);
    printf("%u backends: %u rounds of posting, %llu messages; %u starts and stops\n", backends_count, rounds,
           (unsigned long long)ran, starts);
    return 0;
}
