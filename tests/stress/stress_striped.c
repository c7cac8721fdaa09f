/* Striped connections across threads: two shards, an application's bytes between them over several lanes, while other
 * threads join with the same key, find nothing with others, and go away at once; every other connection is ended in the
 * middle of all that. */
#include "engine/check.h"
#include "engine/limits.h"
#include "ssh/striped.h"
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define ROUNDS 24u
#define BYTES (3u << 20)
#define HECKLERS 2u
#define WIRES 8u

struct pump {
    pthread_t thread;
    int from, to;
};
struct wire {
    int fd[2];
    struct pump pumps[2];
};
struct side {
    struct shard *shard;
    struct striped *striped; /* its shard's */
    int app[2];              /* the striped's, ours */
    int lane;
    sem_t started, ended;
};
static struct side sides[2];
static struct wire wires[WIRES];
static _Atomic unsigned wires_count, joined, heckles;
static _Atomic bool heckling;
static uint8_t key[STRIPED_KEY_BYTES];
static struct window_budget budget;
static uint64_t received;

static bool anybody(void *arg, const char *host, uint16_t port) {
    (void)arg;
    CHECK(strcmp(host, "host") == 0 && port == 80);
    return true;
}

/* ---- lanes ---- */

static void *pump_run(void *arg) {
    struct pump *pump = arg;
    char bytes[65536];
    for (;;) {
        ssize_t got = recv(pump->from, bytes, sizeof bytes, 0), sent = 0;
        for (ssize_t n; got > 0 && sent < got; sent += n)
            if ((n = send(pump->to, bytes + sent, (size_t)(got - sent), MSG_NOSIGNAL)) <= 0)
                got = -1;
        if (got <= 0)
            break;
    }
    shutdown(pump->to, SHUT_WR);
    shutdown(pump->from, SHUT_RD);
    return NULL;
}

static void carry(int first, int second) {
    unsigned number = atomic_load(&wires_count);
    CHECK(number < WIRES);
    struct wire *wire = &wires[number];
    *wire = (struct wire){.fd = {first, second}};
    for (unsigned i = 0; i < 2; i++) {
        CHECK(fcntl(wire->fd[i], F_SETFL, 0) == 0);
        wire->pumps[i] = (struct pump){.from = wire->fd[i], .to = wire->fd[!i]};
        CHECK(pthread_create(&wire->pumps[i].thread, NULL, pump_run, &wire->pumps[i]) == 0);
    }
    atomic_store(&wires_count, number + 1);
}

static void carried(void) {
    for (unsigned i = 0; i < wires_count; i++) {
        for (unsigned j = 0; j < 2; j++)
            pthread_join(wires[i].pumps[j].thread, NULL);
        close(wires[i].fd[0]);
        close(wires[i].fd[1]);
    }
    atomic_store(&wires_count, 0);
}

/* ---- on the shards ---- */

static void on_want(void *owner, struct striped *striped) {
    int near, far;
    uint32_t identity;
    CHECK(owner == &sides[0]);
    if (atomic_load(&wires_count) == WIRES || striped_join(striped, &near, &identity) != 0)
        return;
    if (striped_find_join("user", key, identity, anybody, NULL, &far) == 0)
        return carry(near, far);
    close(near);
}

static void on_end(void *owner, const struct striped_state *state, const char *what) {
    struct side *side = owner;
    (void)state;
    (void)what;
    side->striped = NULL;
    sem_post(&side->ended);
}

static const struct striped_watcher watchers[] = {{.on_want = on_want, .on_end = on_end}, {.on_end = on_end}};

static void start(void *arg, int64_t value) {
    struct side *side = arg;
    unsigned which = (unsigned)value;
    const struct striped_name name = {.user = "user", .host = "host", .port = 80};
    int err = striped_start(side->shard, side->app[0], &budget, LIMIT_STRIPE_WINDOW_BYTES, which == 0 ? 3 : 8,
                            which == 0 ? NULL : &name, key, &watchers[which], side, &side->striped, &side->lane);
    CHECK(err == 0);
    sem_post(&side->started);
}

static void end(void *arg, int64_t value) {
    struct side *side = arg;
    (void)value;
    if (side->striped != NULL)
        striped_abort(side->striped);
}

static void post(struct side *side, void (*run)(void *, int64_t), int64_t value) {
    int err = shard_post(side->shard, run, side, value);
    CHECK(err == 0);
}

/* ---- other threads ---- */

/* Each once in a round, then ones that have been; not so far from what the client itself uses that these would seem
 * old. */
static uint32_t heckled(void) {
    return 40 + atomic_fetch_add(&heckles, 1) % 24;
}

static void *heckle(void *arg) {
    uint8_t other[STRIPED_KEY_BYTES] = {0};
    (void)arg;
    while (atomic_load(&heckling)) {
        int fd;
        CHECK(striped_find_join("user", other, 1, anybody, NULL, &fd) == ERR_REFUSED);
        CHECK(striped_find_join("nobody", key, 1, anybody, NULL, &fd) == ERR_REFUSED);
        if (striped_find_join("user", key, heckled(), anybody, NULL, &fd) == 0) {
            struct pollfd wait = {.fd = fd, .events = POLLIN};
            poll(&wait, 1, 1);
            close(fd);
            atomic_fetch_add(&joined, 1);
        }
    }
    return NULL;
}

static void *write_all(void *arg) {
    int fd = *(int *)arg;
    uint8_t bytes[4096];
    for (uint32_t at = 0; at < BYTES; at += sizeof bytes) {
        for (uint32_t i = 0; i < sizeof bytes; i++)
            bytes[i] = (uint8_t)((at + i) / 251);
        for (size_t sent = 0; sent < sizeof bytes;) {
            ssize_t n = send(fd, bytes + sent, sizeof bytes - sent, MSG_NOSIGNAL);
            if (n <= 0)
                return NULL;
            sent += (size_t)n;
        }
    }
    shutdown(fd, SHUT_WR);
    return NULL;
}

static void *read_all(void *arg) {
    int fd = *(int *)arg;
    uint8_t bytes[65536];
    ssize_t n;
    while ((n = recv(fd, bytes, sizeof bytes, 0)) > 0) {
        for (ssize_t i = 0; i < n; i++)
            CHECK(bytes[i] == (uint8_t)((received + (uint64_t)i) / 251));
        received += (uint64_t)n;
    }
    shutdown(fd, SHUT_RDWR); /* nothing to say back */
    return NULL;
}

static void begin(unsigned number) {
    memset(key, (int)number + 1, sizeof key);
    received = 0;
    for (unsigned i = 0; i < 2; i++) {
        int fds[2];
        CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) == 0);
        CHECK(fcntl(fds[0], F_SETFL, O_NONBLOCK) == 0);
        memcpy(sides[i].app, fds, sizeof fds);
        post(&sides[i], start, i);
        while (sem_wait(&sides[i].started) != 0)
            ;
    }
    carry(sides[0].lane, sides[1].lane);
}

static void one(unsigned number) {
    pthread_t hecklers[HECKLERS], writer, reader;
    begin(number);
    atomic_store(&heckling, true);
    for (unsigned i = 0; i < HECKLERS; i++)
        CHECK(pthread_create(&hecklers[i], NULL, heckle, NULL) == 0);
    CHECK(pthread_create(&writer, NULL, write_all, &sides[0].app[1]) == 0);
    CHECK(pthread_create(&reader, NULL, read_all, &sides[1].app[1]) == 0);
    if (number % 2 == 1)
        post(&sides[number / 2 % 2], end, 0);
    pthread_join(writer, NULL);
    pthread_join(reader, NULL);
    for (unsigned i = 0; i < 2; i++)
        while (sem_wait(&sides[i].ended) != 0)
            ;
    atomic_store(&heckling, false);
    for (unsigned i = 0; i < HECKLERS; i++)
        pthread_join(hecklers[i], NULL);
    carried();
    close(sides[0].app[1]);
    close(sides[1].app[1]);
    CHECK(number % 2 == 1 || received == BYTES);
}

int main(void) {
    const struct shard_options options = {.backend = IO_BACKEND_EPOLL, .cpu = -1};
    window_budget_init(&budget, LIMIT_WINDOW_BUDGET_BYTES);
    for (unsigned i = 0; i < 2; i++) {
        sem_init(&sides[i].started, 0, 0);
        sem_init(&sides[i].ended, 0, 0);
        CHECK(shard_start(&options, &sides[i].shard) == 0);
    }
    for (unsigned i = 0; i < ROUNDS; i++)
        one(i);
    for (unsigned i = 0; i < 2; i++) {
        shard_stop(sides[i].shard);
        shard_join(sides[i].shard);
    }
    CHECK(atomic_load(&budget.used) == 0);
    printf("%u joined and went\n", joined);
    return joined > 0 ? 0 : 1;
}
