/* Threads against one mailbox, for the thread sanitizer too: full boxes, closing while others post, destruction right
 * after the last message. Some seconds; exit 0 when every message that was taken over ran once and in order. */
#include "engine/mailbox.h"
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define SENDERS 4u
#define SECONDS_EACH 1.5

struct sender {
    pthread_t thread;
    struct mailbox *mailbox;
    int64_t accepted; /* by the mailbox; the sender's until joined */
    int64_t ran;      /* the receiver's */
    unsigned full;
};

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

static void start(pthread_t *thread, void *(*run)(void *), void *arg) {
    if (pthread_create(thread, NULL, run, arg) != 0)
        fail("no thread");
}

static void on_message(void *arg, int64_t value) {
    struct sender *sender = arg;
    if (value != sender->ran + 1)
        fail("message %lld after %lld", (long long)value, (long long)sender->ran);
    sender->ran = value;
}

static void *send_until_closed(void *arg) {
    struct sender *sender = arg;
    for (;;) {
        struct message message = {.run = on_message, .arg = sender, .value = sender->accepted + 1};
        int err = mailbox_post(sender->mailbox, message);
        if (err == ERR_CLOSED)
            return NULL;
        if (err == ERR_OK) {
            sender->accepted++;
        } else {
            sender->full++;
            sched_yield();
        }
    }
}

static void wait_readable(const struct mailbox *mailbox) {
    struct pollfd poll_fd = {.fd = mailbox_fd(mailbox), .events = POLLIN};
    if (poll(&poll_fd, 1, 10000) != 1)
        fail("a wake-up was lost");
}

/* Receives `wanted` messages, closes while all are posting. */
static unsigned closing_round(uint32_t size, uint64_t wanted) {
    struct mailbox *mailbox;
    struct sender senders[SENDERS] = {0};
    if (mailbox_create(size, &mailbox) < 0)
        fail("no mailbox");
    for (unsigned i = 0; i < SENDERS; i++) {
        senders[i].mailbox = mailbox;
        start(&senders[i].thread, send_until_closed, &senders[i]);
    }
    uint64_t received = 0;
    while (received < wanted) {
        wait_readable(mailbox);
        received += mailbox_run(mailbox);
    }
    mailbox_close(mailbox);
    mailbox_run(mailbox);
    unsigned full = 0;
    for (unsigned i = 0; i < SENDERS; i++) {
        pthread_join(senders[i].thread, NULL);
        full += senders[i].full;
        if (senders[i].accepted != senders[i].ran)
            fail("%lld taken over, %lld ran", (long long)senders[i].accepted, (long long)senders[i].ran);
    }
    mailbox_destroy(mailbox);
    return full;
}

static void on_last(void *arg, int64_t value) {
    *(bool *)arg = value == 1;
}

struct last_post {
    struct mailbox *mailbox;
    bool *done;
};

static void *post_last(void *arg) {
    struct last_post *post = arg;
    if (mailbox_post(post->mailbox, (struct message){.run = on_last, .arg = post->done, .value = 1}) != ERR_OK)
        fail("an empty mailbox refused a message");
    return NULL;
}

/* The receiver destroys the mailbox as soon as the message has run, while its sender may still be inside the post. */
static void last_message_round(void) {
    bool done = false;
    struct last_post post = {.done = &done};
    pthread_t thread;
    if (mailbox_create(2, &post.mailbox) < 0)
        fail("no mailbox");
    start(&thread, post_last, &post);
    while (!done)
        mailbox_run(post.mailbox);
    mailbox_close(post.mailbox);
    mailbox_destroy(post.mailbox);
    pthread_join(thread, NULL);
}

int main(void) {
    unsigned rounds = 0, full = 0, last_rounds = 0;
    for (double end = seconds() + SECONDS_EACH; seconds() < end; rounds++)
        full += closing_round(2u << rounds % 6, rounds * 37 % 1000);
    for (double end = seconds() + SECONDS_EACH; seconds() < end; last_rounds++)
        last_message_round();
    printf("%u rounds of closing, %u full boxes; %u rounds of a last message\n", rounds, full, last_rounds);
    if (full == 0)
        fail("no box was ever full: nothing was stressed");
    return 0;
}
