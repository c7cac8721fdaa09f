/* What the main thread has done on the shards: a message to each, and where it must know the outcome, a wait. Shards
 * never wait for the main thread. */
#include "engine/check.h"
#include "ssh/server_internal.h"
#include "ssh/server_stripe.h"
#include <errno.h>
#include <inttypes.h>
#include <semaphore.h>
#include <time.h>

void server_post(struct server_main *main, uint32_t index, void (*run)(void *, int64_t), void *arg, int64_t value) {
    struct timespec pause = {.tv_nsec = 1000000};
    while (shard_post(main->server.shards[index].shard, run, arg, value) != 0) /* its box is full for a moment */
        nanosleep(&pause, NULL);
}

static void post_all(struct server_main *main, void (*run)(void *, int64_t)) {
    for (uint32_t i = 0; i < main->server.shards_count; i++)
        server_post(main, i, run, &main->server.shards[i], 0);
}

/* ---- with an answer ---- */

struct question {
    int (*run)(struct server_shard *on, void *arg);
    void *arg;
    struct server_main *main;
    sem_t answered;
    _Atomic int err;
};

static void run_question(void *arg, int64_t index) {
    struct question *question = arg;
    int err = question->run(&question->main->server.shards[index], question->arg), none = 0;
    if (err != 0)
        atomic_compare_exchange_strong(&question->err, &none, err);
    sem_post(&question->answered);
}

static int ask_all(struct server_main *main, int (*run)(struct server_shard *, void *), void *arg) {
    struct question question = {.run = run, .arg = arg, .main = main};
    sem_init(&question.answered, 0, 0);
    for (uint32_t i = 0; i < main->server.shards_count; i++)
        server_post(main, i, run_question, &question, i);
    for (uint32_t i = 0; i < main->server.shards_count; i++)
        while (sem_wait(&question.answered) != 0)
            CHECK(errno == EINTR);
    sem_destroy(&question.answered);
    return question.err;
}

static int renew(struct server_shard *on, void *arg) {
    struct server_generation *generation = arg;
    struct server_bind *bind = NULL;
    int err = on->pipes == NULL ? splice_pool_create(on->shard, 0, &on->pipes) : 0;
    if (err == 0)
        err = server_keys_bind(generation->keys, generation->options, &bind);
    if (err != 0)
        return err;
    server_bind_unref(on->bind);
    server_generation_unref(on->generation);
    on->bind = bind;
    on->generation = server_generation_ref(generation);
    return 0;
}

int server_shards_renew(struct server_main *main, struct server_generation *generation) {
    return ask_all(main, renew, generation);
}

static int clear(struct server_shard *on, void *arg) {
    (void)arg;
    if (on->shard->index == 0)
        server_unwatch((struct server_main *)on->server);
    CHECK(list_empty(&on->connections) && list_empty(&on->relays) && list_empty(&on->stripes));
    if (on->pipes != NULL)
        splice_pool_destroy(on->pipes);
    server_bind_unref(on->bind);
    server_generation_unref(on->generation);
    return 0;
}

void server_shards_clear(struct server_main *main) {
    CHECK(ask_all(main, clear, NULL) == 0);
}

/* ---- without ---- */

static void drain(void *arg, int64_t value) {
    struct server_shard *on = arg;
    (void)value;
    on->draining = true;
    list_for_each_safe (node, after, &on->connections)
        server_connection_drain(list_entry(node, struct server_connection, node));
    server_wake_main(on); /* who went before this message came has woken nobody */
}

void server_shards_drain(struct server_main *main) {
    post_all(main, drain);
}

static void end(void *arg, int64_t value) {
    struct server_shard *on = arg;
    (void)value;
    on->draining = on->ending = true;
    list_for_each_safe (node, after, &on->connections)
        server_connection_end(list_entry(node, struct server_connection, node), 0, "server stopped");
    plain_relay_end_all(on);
    server_stripe_end_all(on);
    server_wake_main(on);
}

void server_shards_end(struct server_main *main) {
    post_all(main, end);
}

static void print(void *arg, int64_t value) {
    struct server_shard *on = arg;
    (void)value;
    log_info("shard %u: %u connections, %u relays%s", on->shard->index, on->connections_count, on->relays_count,
             on->saturated ? ", saturated" : "");
    if (on->shard->index == 0)
        log_info("not admitted so far: %" PRIu64, ((struct server_main *)on->server)->refused);
    list_for_each (node, &on->connections)
        server_connection_print(list_entry(node, struct server_connection, node));
    plain_relay_print_all(on);
    server_stripe_print_all(on);
}

void server_shards_print(struct server_main *main) {
    post_all(main, print);
}

/* ---- asked by, and told to ---- */

uint32_t server_load(const struct server_main *main) {
    uint32_t load = 0;
    for (uint32_t i = 0; i < main->server.shards_count; i++)
        load += atomic_load(&main->server.shards[i].load);
    return load;
}

void server_connection_gone(struct server_shard *on) {
    const struct server_main *main = (struct server_main *)on->server;
    atomic_fetch_sub(&on->load, 1);
    if (on->draining || main->inetd)
        server_wake_main(on);
}
