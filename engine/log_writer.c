#include "engine/log_writer.h"
#include "engine/check.h"
#include "engine/limits.h"
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define BATCH_BYTES (LIMIT_LOG_QUEUE_BYTES / 2)
#define FLUSH_SECONDS 1
#define RECORD_HEADER_BYTES offsetof(struct log_record, text)

/* Two batches, each records of (header, text): callers append to the one, the thread writes the other out. Belongs to
 * the thread as soon as it is abandoned: a write that never returns must not hold up the program's end. */
struct writer {
    pthread_t thread;
    char *filling, *draining;
    size_t filled;
    uint64_t lost; /* lines that did not fit since the batches last changed places */
    bool writing, stopping, over;
    _Atomic bool abandoned;
};

static pthread_mutex_t writer_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t writer_work = PTHREAD_COND_INITIALIZER, writer_news = PTHREAD_COND_INITIALIZER;
static struct writer *writer; /* NULL: lines are written at once */
static _Atomic bool gave_up;

static struct timespec flush_deadline(void) {
    struct timespec deadline;
    clock_gettime(CLOCK_MONOTONIC, &deadline);
    deadline.tv_sec += FLUSH_SECONDS;
    return deadline;
}

static bool writer_has_room(const struct writer *w, const struct log_record *record) {
    return w->lost == 0 && BATCH_BYTES - w->filled >= RECORD_HEADER_BYTES + record->len;
}

/* Lock held. Once a line was lost, so are those after it, until all of them can be told in their place. */
static void writer_append(struct writer *w, const struct log_record *record) {
    if (!writer_has_room(w, record)) {
        w->lost++;
        return;
    }
    memcpy(w->filling + w->filled, record, RECORD_HEADER_BYTES + record->len);
    w->filled += RECORD_HEADER_BYTES + record->len;
    pthread_cond_broadcast(&writer_work);
}

static void writer_tell_lost(struct writer *w) {
    uint64_t lost = w->lost;
    struct log_record record;
    if (lost == 0)
        return;
    log_record_compose(&record, LOG_LEVEL_ERROR, "%" PRIu64 " log lines lost: the log does not take them", lost);
    w->lost = 0;
    writer_append(w, &record);
}

/* Lock held. Returns how much is to be written; 0: it is over. */
static size_t writer_take(struct writer *w) {
    while (w->filled == 0 && !w->stopping)
        pthread_cond_wait(&writer_work, &writer_lock);
    size_t bytes = w->filled;
    char *batch = w->filling;
    w->filling = w->draining;
    w->draining = batch;
    w->filled = 0;
    w->writing = bytes > 0;
    writer_tell_lost(w);
    pthread_cond_broadcast(&writer_news);
    return bytes;
}

static void writer_drain(const struct writer *w, size_t bytes) {
    struct log_record record;
    for (size_t at = 0; at < bytes && !atomic_load(&w->abandoned); at += RECORD_HEADER_BYTES + record.len) {
        memcpy(&record, w->draining + at, RECORD_HEADER_BYTES);
        memcpy(record.text, w->draining + at + RECORD_HEADER_BYTES, record.len);
        log_record_emit(&record, true);
    }
}

static void writer_free(struct writer *w) {
    free(w->filling);
    free(w->draining);
    free(w);
}

static void *writer_run(void *arg) {
    struct writer *w = arg;
    size_t bytes;
    pthread_mutex_lock(&writer_lock);
    while (!atomic_load(&w->abandoned) && (bytes = writer_take(w)) > 0) {
        pthread_mutex_unlock(&writer_lock);
        writer_drain(w, bytes);
        pthread_mutex_lock(&writer_lock);
        w->writing = false;
        pthread_cond_broadcast(&writer_news);
    }
    bool abandoned = atomic_load(&w->abandoned);
    if (!abandoned) /* in the same breath as the last look: nobody appends to what is never read again */
        writer = NULL;
    w->over = true;
    pthread_cond_broadcast(&writer_news);
    pthread_mutex_unlock(&writer_lock);
    if (abandoned)
        writer_free(w);
    return NULL;
}

/* Lock held, and dropped while it waits. false: not until the deadline. */
static bool writer_wait_news(const struct timespec *deadline) {
    return pthread_cond_clockwait(&writer_news, &writer_lock, CLOCK_MONOTONIC, deadline) == 0;
}

static void writer_wait_empty(const struct timespec *deadline) {
    while (writer != NULL && (writer->filled > 0 || writer->writing) && writer_wait_news(deadline))
        ;
}

/* Signals are for the main thread alone. */
static int writer_start(struct writer *w) {
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int failed = pthread_create(&w->thread, NULL, writer_run, w);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return failed ? ERR_NOMEM : 0;
}

int log_start_thread(void) {
    CHECK(writer == NULL);
    struct writer *w = calloc(1, sizeof *w);
    if (w == NULL)
        return ERR_NOMEM;
    w->filling = malloc(BATCH_BYTES);
    w->draining = malloc(BATCH_BYTES);
    int err = w->filling != NULL && w->draining != NULL ? writer_start(w) : ERR_NOMEM;
    if (err != 0) {
        writer_free(w);
        return err;
    }
    pthread_mutex_lock(&writer_lock);
    writer = w;
    pthread_mutex_unlock(&writer_lock);
    return 0;
}

void log_stop_thread(void) {
    struct timespec deadline = flush_deadline();
    pthread_mutex_lock(&writer_lock);
    struct writer *w = writer;
    if (w != NULL) {
        w->stopping = true;
        pthread_cond_broadcast(&writer_work);
        while (!w->over && writer_wait_news(&deadline))
            ;
        writer = NULL;
        atomic_store(&w->abandoned, !w->over);
    }
    bool over = w != NULL && w->over;
    pthread_mutex_unlock(&writer_lock);
    if (w == NULL)
        return;
    if (over) {
        pthread_join(w->thread, NULL);
        writer_free(w);
        return;
    }
    atomic_store_explicit(&gave_up, true, memory_order_relaxed);
    pthread_detach(w->thread);
}

void log_flush(void) {
    struct timespec deadline = flush_deadline();
    pthread_mutex_lock(&writer_lock);
    writer_wait_empty(&deadline);
    pthread_mutex_unlock(&writer_lock);
}

/* FATAL: its reason must be out before the program ends, and it does not give way to others. */
static void writer_append_and_wait(const struct log_record *record) {
    struct timespec deadline = flush_deadline();
    while (writer != NULL && !writer_has_room(writer, record) && writer_wait_news(&deadline))
        ;
    if (writer != NULL)
        writer_append(writer, record);
    writer_wait_empty(&deadline);
}

bool log_writer_submit(const struct log_record *record) {
    pthread_mutex_lock(&writer_lock);
    bool queued = writer != NULL;
    if (queued && record->level == LOG_LEVEL_FATAL)
        writer_append_and_wait(record);
    else if (queued)
        writer_append(writer, record);
    pthread_mutex_unlock(&writer_lock);
    return queued;
}

bool log_writer_gave_up(void) {
    return atomic_load_explicit(&gave_up, memory_order_relaxed);
}

void log_writer_forgive(void) {
    atomic_store_explicit(&gave_up, false, memory_order_relaxed);
}
