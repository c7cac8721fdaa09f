#pragma once
/* What the tests of the load share: a target, a result, and a small relay that does to the bytes what it is told. */
#include "bench/load.h"
#include "bench/load_wire.h"
#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define WISH_BYTES (sizeof(struct load_wish))
#define READY_S 20.0
#define HERE (&PLACE_HERE)

static struct target target;
static struct load_result result;

static inline void target_up(void) {
    cr_assert(target_start(&target, (struct in_addr){htonl(INADDR_LOOPBACK)}, 0, HERE));
}

static inline void target_down(void) {
    target_stop(&target);
}

/* A job against the target itself. */
static inline struct load_job job_of(enum load_kind kind, uint32_t flows) {
    return (struct load_job){.kind = kind, .address = target.address, .flows = flows, .key = 42, .patience_ms = 30000};
}

static inline const struct load_result *run(const struct load_job *job) {
    load_run(job, HERE, &result);
    return &result;
}

static inline void must_run(const struct load_job *job) {
    run(job);
    cr_assert(result.ok, "%s", result.why);
    cr_assert_str_empty(result.why);
}

static inline void must_fail(const struct load_job *job, const char *why) {
    run(job);
    cr_assert(!result.ok, "it must say '%s'", why);
    cr_assert_not_null(strstr(result.why, why), "'%s' does not say '%s'", result.why, why);
}

static inline uint64_t samples_sum(void) {
    uint64_t sum = 0;
    for (uint32_t i = 0; i < result.sample_count; i++)
        sum += result.samples[i];
    return sum;
}

enum fault_kind { FAULT_NONE, FAULT_CORRUPT, FAULT_END, FAULT_RESET, FAULT_STALL, FAULT_LOSE, FAULT_SWAP };

/* What happens to a connection, once, before byte `at` of a direction is passed on. FAULT_SWAP: what comes down on the
 * first two connections goes to the other. */
struct fault {
    enum fault_kind kind;
    bool up;
    bool every;        /* on every connection, not only the first */
    uint64_t at;       /* from the first byte of the connection on */
    uint32_t stall_ms; /* 0: for ever */
};

struct relay {
    pid_t pid;
    struct sockaddr_in address;
};

struct relay_pair {
    int fds[2]; /* client's, target's */
    struct fault fault;
    atomic_int users;
    atomic_bool answered; /* something went down */
};

struct relay_way {
    struct relay_pair *pair;
    int from, to;
    bool up;
};

/* A flow is one that breaks only after it has been one. */
static inline void await_answer(const struct relay_way *way) {
    while (way->up && !way->pair->answered)
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
}

/* False: the connection is over. */
static inline bool way_fault(const struct relay_way *way, char *byte) {
    struct relay_pair *pair = way->pair;
    struct sockaddr none = {.sa_family = AF_UNSPEC};
    switch (pair->fault.kind) {
    case FAULT_CORRUPT:
        *byte ^= 0x10;
        return true;
    case FAULT_STALL:
        if (pair->fault.stall_ms == 0)
            for (;;)
                pause();
        nanosleep(&(struct timespec){.tv_sec = pair->fault.stall_ms / 1000,
                                     .tv_nsec = pair->fault.stall_ms % 1000 * 1000000L},
                  NULL);
        return true;
    case FAULT_RESET:
        await_answer(way);
        connect(pair->fds[0], &none, sizeof(none)); /* to nowhere: a reset */
        connect(pair->fds[1], &none, sizeof(none));
        return false;
    default:
        await_answer(way);
        shutdown(pair->fds[0], SHUT_RDWR);
        shutdown(pair->fds[1], SHUT_RDWR);
        return false;
    }
}

static inline bool way_send(const struct relay_way *way, const char *data, size_t len) {
    while (len > 0) {
        ssize_t n = send(way->to, data, len, MSG_NOSIGNAL);
        if (n <= 0)
            return false;
        data += n;
        if (!way->up)
            way->pair->answered = true;
        len -= (size_t)n;
    }
    return true;
}

static inline void *way_run(void *arg) {
    struct relay_way *way = arg;
    struct relay_pair *pair = way->pair;
    const struct fault *fault = &pair->fault;
    static _Thread_local char data[65536];
    uint64_t done = 0;
    bool goes_on = true;
    while (goes_on) {
        ssize_t n = recv(way->from, data, sizeof(data), 0);
        if (n <= 0)
            break;
        size_t len = (size_t)n, before = len;
        bool here = fault->kind != FAULT_NONE && fault->kind != FAULT_SWAP && fault->up == way->up &&
                    fault->at >= done && fault->at - done < len;
        if (here)
            before = (size_t)(fault->at - done);
        goes_on = way_send(way, data, before);
        if (here && fault->kind == FAULT_LOSE)
            goes_on = goes_on && way_send(way, data + before + 1, len - before - 1);
        else if (here)
            goes_on = goes_on && way_fault(way, data + before) && way_send(way, data + before, len - before);
        done += len;
    }
    shutdown(way->to, SHUT_WR);
    if (atomic_fetch_sub(&pair->users, 1) == 1) {
        close(pair->fds[0]);
        close(pair->fds[1]);
        free(pair);
    }
    free(way);
    return NULL;
}

static inline void way_start(struct relay_pair *pair, int from, int to, bool up) {
    struct relay_way *way = calloc(1, sizeof(*way));
    pthread_t thread;
    *way = (struct relay_way){.pair = pair, .from = from, .to = to, .up = up};
    if (pthread_create(&thread, NULL, way_run, way) != 0)
        _exit(1);
    pthread_detach(thread);
}

static inline struct relay_pair *relay_accept(int listener, const struct fault *fault) {
    struct relay_pair *pair = calloc(1, sizeof(*pair));
    pair->fds[0] = accept(listener, NULL, NULL);
    pair->fds[1] = socket(AF_INET, SOCK_STREAM, 0);
    pair->fault = *fault;
    pair->users = 2;
    if (pair->fds[0] < 0 || connect(pair->fds[1], (struct sockaddr *)&target.address, sizeof(target.address)) != 0)
        _exit(1);
    way_start(pair, pair->fds[0], pair->fds[1], true);
    return pair;
}

_Noreturn static inline void relay_main(int listener, struct fault fault) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    for (;;) {
        struct relay_pair *pair = relay_accept(listener, &fault), *other = pair;
        if (fault.kind == FAULT_SWAP)
            other = relay_accept(listener, &fault);
        way_start(pair, other->fds[1], pair->fds[0], false);
        if (other != pair)
            way_start(other, pair->fds[1], other->fds[0], false);
        if (!fault.every)
            fault.kind = FAULT_NONE;
    }
}

static inline int listen_somewhere(struct sockaddr_in *address) {
    socklen_t len = sizeof(*address);
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    *address = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    cr_assert_eq(bind(listener, (struct sockaddr *)address, len), 0);
    cr_assert_eq(listen(listener, 128), 0);
    cr_assert_eq(getsockname(listener, (struct sockaddr *)address, &len), 0);
    return listener;
}

static inline struct relay relay_start(const struct fault *fault) {
    struct relay relay;
    int listener = listen_somewhere(&relay.address);
    relay.pid = fork();
    cr_assert_geq(relay.pid, 0);
    if (relay.pid == 0)
        relay_main(listener, *fault);
    close(listener);
    return relay;
}

static inline void relay_stop(struct relay *relay) {
    int status;
    kill(relay->pid, SIGKILL);
    cr_assert_eq(waitpid(relay->pid, &status, 0), relay->pid);
    cr_assert(WIFSIGNALED(status), "the relay died by itself");
}
