/* Threads that log while the log's own thread comes and goes, for the thread sanitizer's eyes: no line is torn, and
 * each arrives or is counted as lost. */
#include "engine/check.h"
#include "engine/log.h"
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define THREADS 4u
#define LINES 5000u
#define ROUNDS 20u

static void *write_lines(void *arg) {
    const unsigned *thread = arg;
    for (unsigned i = 0; i < LINES; i++)
        log_line(i % 1000 == 999 ? LOG_LEVEL_FATAL : LOG_LEVEL_INFO, "%u %u %0*u", *thread, i, (int)(i % 900) + 1, 0u);
    return NULL;
}

/* Lines that are written at once by one thread may overtake another's queued ones, so order is not looked at here. */
static void *read_lines(void *arg) {
    static unsigned seen[THREADS];
    unsigned long lost = 0;
    char line[LOG_LINE_BYTES], zeros[LOG_LINE_BYTES];
    FILE *in = arg;
    while (fgets(line, sizeof line, in) != NULL) {
        unsigned thread, number;
        unsigned long count;
        if (strstr(line, "lost") != NULL) {
            CHECK(sscanf(line, "stress: %lu log lines lost", &count) == 1);
            lost += count;
            continue;
        }
        CHECK(sscanf(line, "stress: %u %u %4095[0]", &thread, &number, zeros) == 3);
        CHECK(thread < THREADS && number < LINES && strlen(zeros) == number % 900 + 1);
        seen[thread]++;
    }
    unsigned long sum = lost;
    for (unsigned i = 0; i < THREADS; i++)
        sum += seen[i];
    CHECK(sum == THREADS * LINES);
    printf("%lu lines, %lu of them lost\n", sum, lost);
    return NULL;
}

int main(void) {
    pthread_t writers[THREADS], reader;
    unsigned numbers[THREADS];
    int fds[2];
    CHECK(pipe(fds) == 0);
    log_init("stress", LOG_LEVEL_INFO, fds[1]);
    CHECK(pthread_create(&reader, NULL, read_lines, fdopen(fds[0], "r")) == 0);
    for (unsigned i = 0; i < THREADS; i++) {
        numbers[i] = i;
        CHECK(pthread_create(&writers[i], NULL, write_lines, &numbers[i]) == 0);
    }
    for (unsigned i = 0; i < ROUNDS; i++) {
        CHECK(log_start_thread() == 0);
        log_flush();
        log_set_level(LOG_LEVEL_INFO);
        log_stop_thread();
    }
    CHECK(log_start_thread() == 0);
    for (unsigned i = 0; i < THREADS; i++)
        pthread_join(writers[i], NULL);
    log_stop_thread();
    close(fds[1]);
    pthread_join(reader, NULL);
    return 0;
}
