#include "engine/limits.h"
#include "engine/offload.h"
#include "engine/resolve.h"
#include "tests/unit/engine_rig.h"

/* Names that need no name server: an address, /etc/hosts, and a label that is too long to be asked for. */
#define NAME_LOCAL "localhost"
#define NAME_IMPOSSIBLE "a123456789a123456789a123456789a123456789a123456789a123456789abcdef.invalid"

static struct shard shard;

static void setup(void) {
    rig_init(&shard, IO_BACKEND_EPOLL, 4);
    cr_assert_eq(offload_start(), 0);
}

static void teardown(void) {
    offload_stop();
    shard_deinit(&shard);
}

TestSuite(resolve, .init = setup, .fini = teardown);

struct question {
    struct resolve *resolve;
    unsigned answers, count;
    int err, family;
    uint16_t port;
    char host[64], reason[64];
    bool canceled;
};

static void on_answer(void *arg, const struct resolve_result *result) {
    struct question *question = arg;
    cr_assert(!question->canceled, "an answer after the cancel");
    cr_assert(shard_current() == &shard, "not on the shard's thread, or from within resolve_start");
    question->answers++;
    question->resolve = NULL;
    question->err = result->err;
    question->count = result->count;
    if (result->err < 0) {
        snprintf(question->reason, sizeof question->reason, "%s", result->reason);
        return;
    }
    const struct sockaddr *addr = (const struct sockaddr *)&result->addresses[0].addr;
    question->family = addr->sa_family;
    question->port = address_port(addr);
    address_host(addr, question->host, sizeof question->host);
}

static void ask(struct question *question, const char *host, int family) {
    *question = (struct question){0};
    question->resolve = resolve_start(&shard, host, 8022, family, on_answer, question);
    cr_assert_not_null(question->resolve);
}

Test(resolve, addresses_need_no_thread) {
    struct question v4, v6, mismatch;
    ask(&v4, "127.0.0.7", AF_UNSPEC);
    ask(&v6, "::1", AF_UNSPEC);
    ask(&mismatch, "::1", AF_INET);
    cr_assert_eq(v4.answers, 0);
    rig_turn(&shard, 0);
    cr_assert_eq(v4.answers + v6.answers + mismatch.answers, 3);
    cr_assert(v4.err == 0 && v4.count == 1 && v4.family == AF_INET && v4.port == 8022);
    cr_assert_str_eq(v4.host, "127.0.0.7");
    cr_assert(v6.err == 0 && v6.family == AF_INET6 && v6.port == 8022);
    cr_assert_str_eq(v6.host, "::1");
    cr_assert_eq(mismatch.err, ERR_RESOLVE);
    cr_assert_str_not_empty(mismatch.reason);
}

Test(resolve, names_are_answered_from_threads) {
    struct question questions[50], wrong;
    for (unsigned i = 0; i < 50; i++)
        ask(&questions[i], NAME_LOCAL, AF_INET);
    ask(&wrong, NAME_IMPOSSIBLE, AF_UNSPEC);
    for (unsigned i = 0; i < 50; i++) {
        RIG_UNTIL(&shard, questions[i].answers == 1);
        cr_assert_eq(questions[i].err, 0);
        cr_assert_str_eq(questions[i].host, "127.0.0.1");
    }
    RIG_UNTIL(&shard, wrong.answers == 1);
    cr_assert_eq(wrong.err, ERR_RESOLVE);
    cr_assert_str_not_empty(wrong.reason);
}

static void cancel(struct question *question) {
    question->canceled = true;
    resolve_cancel(question->resolve);
    question->resolve = NULL;
}

Test(resolve, a_cancel_at_any_moment_means_no_answer) {
    static struct question questions[400];
    unsigned answered = 0, canceled = 0;
    srand(7);
    for (unsigned i = 0; i < 400; i++) {
        ask(&questions[i], i % 5 == 0 ? "127.0.0.1" : NAME_LOCAL, AF_UNSPEC);
        if (rand() % 3 == 0 && i >= 200) /* the first ones wait, however fast the threads are */
            rig_turn(&shard, 0);
        struct question *victim = &questions[(unsigned)rand() % (i + 1)];
        if (victim->resolve)
            cancel(victim);
    }
    for (unsigned i = 0; i < 400; i++) {
        RIG_UNTIL(&shard, questions[i].canceled || questions[i].answers == 1);
        answered += questions[i].answers;
        canceled += questions[i].canceled;
    }
    cr_assert_eq(answered + canceled, 400);
    cr_assert(canceled > 50 && answered > 50);
}

static void nothing(void *arg, int64_t value) {
    (void)arg;
    (void)value;
}

static void mailbox_fill(void) {
    while (shard_post(&shard, nothing, NULL, 0) == 0)
        continue;
}

/* While the mailbox is full every thread sticks to its answer, so that the queue fills up behind them. */
Test(resolve, a_full_queue_refuses_and_a_full_mailbox_loses_nothing) {
    enum { ASKED = LIMIT_OFFLOAD_QUEUE + LIMIT_OFFLOAD_REMOTE + 20 };
    static struct question questions[ASKED];
    unsigned refused = 0;
    mailbox_fill();
    for (unsigned i = 0; i < ASKED; i++)
        ask(&questions[i], NAME_LOCAL, AF_INET);
    for (unsigned i = 0; i < ASKED; i++) {
        RIG_UNTIL(&shard, questions[i].answers == 1);
        cr_assert(questions[i].err == 0 || questions[i].err == ERR_LIMIT);
        refused += questions[i].err == ERR_LIMIT;
    }
    cr_assert(refused >= 20 && refused <= 20 + LIMIT_OFFLOAD_REMOTE, "%u refused", refused);
}

/* The threads are left with answers for a shard that is gone. */
Test(resolve_late, a_shard_may_end_after_it_canceled) {
    static struct question questions[20];
    setup();
    mailbox_fill();
    for (unsigned i = 0; i < 20; i++)
        ask(&questions[i], NAME_LOCAL, AF_INET);
    usleep(20000); /* so that some are most likely in a thread's hands; right in any case */
    for (unsigned i = 0; i < 20; i++)
        cancel(&questions[i]);
    shard_deinit(&shard);
    memset(&shard, 0xff, sizeof shard);
    offload_stop();
}

Test(resolve_now, knows_all_interfaces_and_loopback) {
    struct resolve_result result;
    char host[64];
    resolve_now("*", 80, AF_INET, true, &result);
    cr_assert_eq(result.err, 0);
    cr_assert_str_eq(address_host((struct sockaddr *)&result.addresses[0].addr, host, sizeof host), "0.0.0.0");
    free(result.addresses);
    resolve_now("", 80, AF_INET, true, &result);
    cr_assert_str_eq(address_host((struct sockaddr *)&result.addresses[0].addr, host, sizeof host), "0.0.0.0");
    free(result.addresses);
    resolve_now(NAME_LOCAL, 80, AF_INET, true, &result);
    cr_assert_eq(result.err, 0);
    cr_assert_str_eq(address_host((struct sockaddr *)&result.addresses[0].addr, host, sizeof host), "127.0.0.1");
    cr_assert_eq(address_port((struct sockaddr *)&result.addresses[0].addr), 80);
    cr_assert_eq(result.addresses[0].len, sizeof(struct sockaddr_in));
    free(result.addresses);
    resolve_now(NAME_IMPOSSIBLE, 80, AF_UNSPEC, false, &result);
    cr_assert(result.err == ERR_RESOLVE && result.addresses == NULL && result.reason != NULL);
}

Test(resolve_now, addresses_of_other_families_have_no_port) {
    struct sockaddr addr = {.sa_family = AF_UNIX};
    char host[64];
    cr_assert_eq(address_port(&addr), 0);
    cr_assert_str_eq(address_host(&addr, host, sizeof host), "?");
}
