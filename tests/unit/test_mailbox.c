#include "engine/mailbox.h"
#include <criterion/criterion.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/resource.h>
#include <unistd.h>

#define SIZE 8u

static struct mailbox *mailbox;
static int64_t seen[SIZE * 4];
static unsigned seen_count;

static void note(void *arg, int64_t value) {
    cr_assert_eq(arg, &seen_count);
    seen[seen_count++] = value;
}

static int post(int64_t value) {
    return mailbox_post(mailbox, (struct message){.run = note, .arg = &seen_count, .value = value});
}

static bool readable(void) {
    struct pollfd poll_fd = {.fd = mailbox_fd(mailbox), .events = POLLIN};
    return poll(&poll_fd, 1, 0) == 1;
}

static void setup(void) {
    seen_count = 0;
    cr_assert_eq(mailbox_create(SIZE, &mailbox), ERR_OK);
}

static void teardown(void) {
    mailbox_close(mailbox);
    mailbox_run(mailbox);
    mailbox_destroy(mailbox);
}

TestSuite(mailbox, .init = setup, .fini = teardown);

Test(mailbox, an_empty_one_runs_nothing_and_is_not_readable) {
    cr_assert_not(readable());
    cr_assert_not(mailbox_pending(mailbox));
    cr_assert_eq(mailbox_run(mailbox), 0);
}

Test(mailbox, messages_run_in_order_and_wake_once) {
    cr_assert_eq(post(1), ERR_OK);
    cr_assert(readable() && mailbox_pending(mailbox));
    cr_assert_eq(post(2), ERR_OK);
    uint64_t wakes = 0;
    cr_assert_eq(read(mailbox_fd(mailbox), &wakes, sizeof wakes), (ssize_t)sizeof wakes);
    cr_assert_eq(wakes, 1, "the second post found the receiver already woken");
    cr_assert_eq(mailbox_run(mailbox), 2);
    cr_assert(seen_count == 2 && seen[0] == 1 && seen[1] == 2);
    cr_assert_not(readable());
    cr_assert_not(mailbox_pending(mailbox));
    cr_assert_eq(post(3), ERR_OK);
    cr_assert(readable());
}

Test(mailbox, a_full_one_takes_nothing_over_until_it_was_run) {
    for (unsigned round = 0; round < 5; round++) {
        seen_count = 0;
        for (int64_t i = 0; i < SIZE; i++)
            cr_assert_eq(post(i), ERR_OK);
        cr_assert_eq(post(99), ERR_FULL);
        cr_assert_eq(post(99), ERR_FULL);
        cr_assert_eq(mailbox_run(mailbox), SIZE);
        for (int64_t i = 0; i < SIZE; i++)
            cr_assert_eq(seen[i], i);
        cr_assert_eq(mailbox_run(mailbox), 0);
        cr_assert_eq(seen_count, SIZE);
    }
}

Test(mailbox, the_smallest_one_works) {
    struct mailbox *large = mailbox;
    cr_assert_eq(mailbox_create(2, &mailbox), ERR_OK);
    for (int64_t i = 0; i < 7; i++) {
        seen_count = 0;
        cr_assert_eq(post(i), ERR_OK);
        cr_assert_eq(post(i + 1), ERR_OK);
        cr_assert_eq(post(i + 2), ERR_FULL);
        cr_assert_eq(mailbox_run(mailbox), 2);
        cr_assert(seen[0] == i && seen[1] == i + 1);
    }
    mailbox_destroy(mailbox);
    mailbox = large;
}

#define AGAIN_MAX (SIZE + 3)

static void post_again(void *arg, int64_t value) {
    (void)arg;
    seen_count++;
    if (value < AGAIN_MAX)
        cr_assert_eq(mailbox_post(mailbox, (struct message){.run = post_again, .value = value + 1}), ERR_OK);
}

Test(mailbox, one_that_posts_itself_ends_a_run_and_leaves_the_rest_readable) {
    cr_assert_eq(mailbox_post(mailbox, (struct message){.run = post_again, .value = 1}), ERR_OK);
    cr_assert_eq(mailbox_run(mailbox), SIZE);
    cr_assert_eq(seen_count, SIZE);
    cr_assert(readable() && mailbox_pending(mailbox));
    /* A message leaves the box before it runs, so there is room for what it posts even when the box was full. */
    for (unsigned i = 1; i < SIZE; i++)
        cr_assert_eq(post(0), ERR_OK);
    cr_assert_eq(mailbox_run(mailbox), SIZE);
    cr_assert_eq(mailbox_run(mailbox), AGAIN_MAX - SIZE - 1);
    cr_assert_eq(mailbox_run(mailbox), 0);
    cr_assert_not(readable());
}

static void post_refused(void *arg, int64_t value) {
    (void)arg;
    seen_count++;
    cr_assert_eq(post(value), ERR_CLOSED);
}

Test(mailbox, closing_refuses_new_and_runs_old) {
    cr_assert_eq(mailbox_post(mailbox, (struct message){.run = post_refused, .value = 5}), ERR_OK);
    cr_assert_eq(post(6), ERR_OK);
    mailbox_close(mailbox);
    cr_assert_eq(post(7), ERR_CLOSED);
    cr_assert_eq(mailbox_run(mailbox), 2);
    cr_assert_eq(seen_count, 2);
    cr_assert_eq(seen[1], 6);
    cr_assert_eq(post(8), ERR_CLOSED);
    mailbox_close(mailbox);
    cr_assert_eq(mailbox_run(mailbox), 0);
}

Test(mailbox, a_full_one_that_is_closed_says_closed) {
    for (int64_t i = 0; i < SIZE; i++)
        cr_assert_eq(post(i), ERR_OK);
    mailbox_close(mailbox);
    cr_assert_eq(post(99), ERR_CLOSED);
    cr_assert_eq(mailbox_run(mailbox), SIZE);
}

Test(mailbox, a_wake_without_message_is_readable_once) {
    mailbox_wake(mailbox);
    cr_assert(readable());
    cr_assert_eq(mailbox_run(mailbox), 0);
    cr_assert_not(readable());
}

Test(mailbox, destroy_with_a_message_left_aborts, .signal = SIGABRT) {
    cr_assert_eq(post(1), ERR_OK);
    mailbox_destroy(mailbox);
}

Test(mailbox, no_descriptor_is_an_error) {
    struct mailbox *none = NULL;
    struct rlimit limit, zero;
    cr_assert_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
    zero = (struct rlimit){0, limit.rlim_max};
    cr_assert_eq(setrlimit(RLIMIT_NOFILE, &zero), 0);
    int err = mailbox_create(SIZE, &none);
    cr_assert_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
    cr_assert_eq(err, ERR_FILES);
    cr_assert_null(none);
}

enum { SENDERS = 3, MESSAGES = 20000 };
static int64_t last_value[SENDERS];
static unsigned received;

static void in_order(void *arg, int64_t value) {
    int64_t *last = arg;
    cr_assert_eq(value, *last + 1);
    *last = value;
    received++;
}

static void *send_all(void *arg) {
    for (int64_t value = 1; value <= MESSAGES; value++)
        while (mailbox_post(mailbox, (struct message){.run = in_order, .arg = arg, .value = value}) == ERR_FULL)
            sched_yield();
    return NULL;
}

Test(mailbox, senders_on_threads_lose_nothing_and_always_wake_the_sleeper) {
    pthread_t threads[SENDERS];
    for (unsigned i = 0; i < SENDERS; i++)
        cr_assert_eq(pthread_create(&threads[i], NULL, send_all, &last_value[i]), 0);
    struct pollfd poll_fd = {.fd = mailbox_fd(mailbox), .events = POLLIN};
    while (received < SENDERS * MESSAGES) {
        cr_assert_eq(poll(&poll_fd, 1, 10000), 1, "a wake-up was lost after %u messages", received);
        mailbox_run(mailbox);
    }
    for (unsigned i = 0; i < SENDERS; i++) {
        pthread_join(threads[i], NULL);
        cr_assert_eq(last_value[i], MESSAGES);
    }
}
