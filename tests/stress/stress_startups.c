/* Threads that come and go through one struct startups, for the thread sanitizer's eyes: never more inside than
 * MaxStartups, never more of a source than PerSourceMaxStartups, and nobody left at the end. startups.c is compiled in,
 * since these programs have the engine alone. */
#include "ssh/startups.c" /* NOLINT(bugprone-suspicious-include) */

#include <arpa/inet.h>
#include <stdio.h>

#define THREADS 4u
#define STEPS 30000u
#define HELD 40u
#define SOURCES 100u
#define FULL 60u
#define PER_SOURCE 3u

static struct startups *startups;
static const struct server_options options = {.max_startups_begin = 20,
                                              .max_startups_rate = 30,
                                              .max_startups_full = FULL,
                                              .per_source_max_startups = PER_SOURCE,
                                              .per_source_bits4 = 24,
                                              .per_source_bits6 = 56};
static _Atomic int inside, of_source[SOURCES];
static _Atomic unsigned entered, refused;

struct held {
    struct startup startup;
    uint32_t source;
};

/* xorshift64 */
static uint64_t random_next(uint64_t *state) {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

static void come(struct held *held, uint64_t *random) {
    const char *why;
    held->source = (uint32_t)(random_next(random) % SOURCES);
    struct sockaddr_in addr = {.sin_family = AF_INET};
    addr.sin_addr.s_addr = htonl(0x0a000000u | held->source << 8 | (uint32_t)(random_next(random) % 256));
    uint32_t dice = (uint32_t)(random_next(random) % 100);
    if (startups_enter(startups, &options, (struct sockaddr *)&addr, dice, &held->startup, &why) != 0) {
        refused++;
        return;
    }
    entered++;
    CHECK(++inside <= (int)FULL);
    CHECK(++of_source[held->source] <= (int)PER_SOURCE);
}

static void leave(struct held *held) {
    of_source[held->source]--;
    inside--;
    startups_leave(&held->startup);
}

static void *thread_main(void *arg) {
    uint64_t random = (uint64_t)(uintptr_t)arg;
    struct held all[HELD] = {0};
    for (unsigned step = 0; step < STEPS; step++) {
        struct held *held = &all[random_next(&random) % HELD];
        if (held->startup.startups)
            leave(held);
        else
            come(held, &random);
        CHECK(startups_count(startups) <= FULL);
    }
    for (unsigned i = 0; i < HELD; i++)
        if (all[i].startup.startups)
            leave(&all[i]);
    return NULL;
}

int main(void) {
    pthread_t threads[THREADS];
    CHECK(startups_create(&startups) == 0);
    for (uintptr_t i = 0; i < THREADS; i++)
        CHECK(pthread_create(&threads[i], NULL, thread_main, (void *)(i + 1)) == 0);
    for (unsigned i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    CHECK(inside == 0 && startups_count(startups) == 0 && entered > 0 && refused > 0);
    startups_destroy(startups);
    printf("%u entered, %u refused\n", entered, refused);
    return 0;
}
