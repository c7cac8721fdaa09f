#include "engine/dial.h"
#include "engine/check.h"
#include "engine/limits.h"
#include "engine/log.h"
#include "engine/tcp.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>

struct dial_attempt {
    struct io_op connect;
    struct dial *dial;
    int fd;
};

/* ---- the end ---- */

static void end_run(struct task *task) {
    struct dial *dial = list_entry(task, struct dial, end);
    free(dial->attempts);
    free(dial->addresses);
    free(dial->host);
    dial->attempts = NULL;
    dial->addresses = NULL;
    dial->host = NULL;
    dial->done(dial, dial->err, dial->fd);
}

static void dial_say(struct dial *dial, const char *verb, const char *why) {
    char host[96];
    log_safe(host, sizeof host, dial->host ? dial->host : "", dial->host ? strlen(dial->host) : 0);
    if (dial->addresses && !dial->local)
        snprintf(dial->reason, sizeof dial->reason, "%s %s port %u: %s", verb, host, dial->port, why);
    else
        snprintf(dial->reason, sizeof dial->reason, "%s %s: %s", verb, host, why);
}

/* It may be connected already: a plain close would look to the target like an application that had nothing to say. */
static void drop_socket(struct dial *dial, int *fd) {
    io_close(dial->shard->io, *fd, IO_CLOSE_RESET);
    *fd = -1;
}

/* The answer follows at the end of a turn, once nothing is in flight any more. */
static void dial_end_when_joined(struct dial *dial) {
    if (dial->flying == 0)
        shard_defer(dial->shard, &dial->end);
}

/* The answer is known. */
static void dial_end(struct dial *dial, int err) {
    CHECK(!dial->ended && !dial->resolve);
    dial->ended = true;
    dial->err = err;
    timer_cancel(&dial->shard->timers, &dial->deadline);
    timer_cancel(&dial->shard->timers, &dial->stagger);
    for (unsigned i = 0; i < dial->next; i++)
        io_cancel(dial->shard->io, &dial->attempts[i].connect);
    dial_end_when_joined(dial);
}

static void dial_fail(struct dial *dial, const char *verb, int error_number) {
    dial_say(dial, verb, strerror(error_number));
    dial_end(dial, err_from_errno(error_number));
}

/* ---- attempts ---- */

/* Out of descriptors: another address would fail the same way. */
static bool socket_error_is_final(int error_number) {
    return error_number == EMFILE || error_number == ENFILE || error_number == ENOBUFS || error_number == ENOMEM;
}

/* This machine has no way to such an address, which says nothing about the target. */
static bool error_is_ours(int error_number) {
    return error_number == ENETUNREACH || error_number == EADDRNOTAVAIL || error_number == EAFNOSUPPORT;
}

/* The last error is told, but that one address was refused is not covered up by the next one's lack of a route. */
static void note_error(struct dial *dial, int error_number) {
    if (dial->last_errno == 0 || !error_is_ours(error_number))
        dial->last_errno = error_number;
}

/* False: no socket was to be had; the error is noted. */
static bool attempt_start(struct dial *dial, struct dial_attempt *attempt, const struct address *address) {
    int fd = socket(address->addr.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        note_error(dial, errno);
        if (socket_error_is_final(errno))
            dial->next = dial->count;
        return false;
    }
    if (dial->shard->flows >= LIMIT_ANY_PORT_FLOWS)
        tcp_take_any_port(fd);
    attempt->fd = fd;
    dial->flying++;
    io_connect(dial->shard->io, &attempt->connect, fd, (const struct sockaddr *)&address->addr, address->len);
    return true;
}

/* Begins with the next address for which a socket can be had, beside those that are tried already. */
static void dial_next(struct dial *dial) {
    bool started = false;
    while (!started && dial->next < dial->count) {
        unsigned i = dial->next++;
        started = attempt_start(dial, &dial->attempts[i], &dial->addresses[i]);
    }
    if (dial->next < dial->count)
        timer_arm(&dial->shard->timers, &dial->stagger, shard_now(dial->shard) + LIMIT_DIAL_STAGGER_NS);
    else
        timer_cancel(&dial->shard->timers, &dial->stagger);
    if (dial->flying == 0)
        dial_fail(dial, "connect to", dial->last_errno);
}

static void stagger_on_timer(struct timer *timer) {
    dial_next(list_entry(timer, struct dial, stagger));
}

/* A full backlog: nothing will say when there is room. */
static void retry_later(struct dial *dial) {
    dial->next = 0;
    timer_arm(&dial->shard->timers, &dial->stagger, shard_now(dial->shard) + dial->retry_ns);
    if (dial->retry_ns < LIMIT_DIAL_STAGGER_NS)
        dial->retry_ns *= 2;
}

static void attempt_won(struct dial *dial, struct dial_attempt *attempt) {
    const struct sockaddr *addr = (const struct sockaddr *)&dial->addresses[attempt - dial->attempts].addr;
    char host[sizeof dial->address - sizeof " port 65535" + 1];
    if (!dial->local)
        snprintf(dial->address, sizeof dial->address, "%s port %u", address_host(addr, host, sizeof host),
                 address_port(addr));
    dial->fd = attempt->fd;
    attempt->fd = -1;
    dial_end(dial, 0);
}

static void connect_done(struct io_op *op, int32_t res) {
    struct dial_attempt *attempt = list_entry(op, struct dial_attempt, connect);
    struct dial *dial = attempt->dial;
    dial->flying--;
    if (!dial->ended && res == 0) {
        attempt_won(dial, attempt);
        return;
    }
    drop_socket(dial, &attempt->fd);
    if (dial->ended) {
        dial_end_when_joined(dial);
    } else if (dial->local && res == -EAGAIN) {
        retry_later(dial);
    } else {
        note_error(dial, -res);
        dial_next(dial);
    }
}

/* Takes one that is of the family, or is not. NULL: there is none left. */
static const struct address *take(const struct resolve_result *from, unsigned *at, sa_family_t family, bool same) {
    while (*at < from->count) {
        const struct address *address = &from->addresses[(*at)++];
        if ((address->addr.ss_family == family) == same)
            return address;
    }
    return NULL;
}

/* RFC 8305 §4, with a First Address Family Count of 1. */
static void interleave(struct address *to, const struct resolve_result *from) {
    sa_family_t family = from->addresses[0].addr.ss_family;
    unsigned at[2] = {0, 0};
    bool same = true;
    for (unsigned i = 0; i < from->count; i++) {
        const struct address *address = take(from, &at[same], family, same);
        if (!address)
            address = take(from, &at[!same], family, !same);
        to[i] = *address;
        same = !same;
    }
}

/* addresses[count]: to be filled in. */
static bool attempts_make(struct dial *dial, unsigned count) {
    dial->addresses = calloc(count, sizeof *dial->addresses);
    dial->attempts = calloc(count, sizeof *dial->attempts);
    if (!dial->addresses || !dial->attempts)
        return false;
    for (unsigned i = 0; i < count; i++) {
        io_op_init(&dial->attempts[i].connect, connect_done);
        dial->attempts[i].dial = dial;
        dial->attempts[i].fd = -1;
    }
    dial->count = count;
    return true;
}

/* ---- names ---- */

static void resolve_done(void *arg, const struct resolve_result *result) {
    struct dial *dial = arg;
    dial->resolve = NULL;
    if (result->err < 0) {
        dial_say(dial, "resolve", result->reason ? result->reason : err_text(result->err));
        dial_end(dial, result->err);
        return;
    }
    CHECK(result->count > 0 && result->count <= LIMIT_ADDRESSES_PER_NAME);
    if (!attempts_make(dial, result->count)) {
        dial_fail(dial, "connect to", ENOMEM);
        return;
    }
    interleave(dial->addresses, result);
    dial_next(dial);
}

static void deadline_on_timer(struct timer *timer) {
    struct dial *dial = list_entry(timer, struct dial, deadline);
    const char *verb = dial->resolve ? "resolve" : "connect to";
    if (dial->resolve)
        resolve_cancel(dial->resolve);
    dial->resolve = NULL;
    dial_fail(dial, verb, ETIMEDOUT);
}

/* ---- in and out ---- */

static void dial_begin(struct dial *dial, struct shard *shard, const char *host, uint64_t timeout_ns,
                       void (*done)(struct dial *, int, int), void *owner) {
    *dial = (struct dial){.shard = shard, .done = done, .owner = owner, .fd = -1, .retry_ns = LIMIT_DIAL_RETRY_NS};
    uint64_t now = shard_now(shard);
    dial->deadline_ns = timeout_ns > UINT64_MAX - now ? UINT64_MAX : now + timeout_ns;
    dial->deadline.on_timer = deadline_on_timer;
    dial->stagger.on_timer = stagger_on_timer;
    task_init(&dial->end, end_run);
    dial->host = strdup(host);
    if (dial->deadline_ns != UINT64_MAX)
        timer_arm(&shard->timers, &dial->deadline, dial->deadline_ns);
}

void dial_start(struct dial *dial, struct shard *shard, const char *host, uint16_t port, int family,
                uint64_t timeout_ns, void (*done)(struct dial *, int, int), void *owner) {
    dial_begin(dial, shard, host, timeout_ns, done, owner);
    dial->port = port;
    if (dial->host)
        dial->resolve = resolve_start(shard, host, port, family, resolve_done, dial);
    if (!dial->resolve)
        dial_fail(dial, "connect to", ENOMEM);
}

/* An errno, or 0. An empty path would be an abstract socket's. */
static int path_error(const char *path) {
    if (!*path)
        return ENOENT;
    return strlen(path) < sizeof((struct sockaddr_un *)0)->sun_path ? 0 : ENAMETOOLONG;
}

void dial_start_path(struct dial *dial, struct shard *shard, const char *path, uint64_t timeout_ns,
                     void (*done)(struct dial *, int, int), void *owner) {
    dial_begin(dial, shard, path, timeout_ns, done, owner);
    dial->local = true;
    int error_number = path_error(path);
    if (error_number == 0 && (!dial->host || !attempts_make(dial, 1)))
        error_number = ENOMEM;
    if (error_number != 0) {
        dial_fail(dial, "connect to", error_number);
        return;
    }
    struct sockaddr_un *addr = (struct sockaddr_un *)(void *)&dial->addresses[0].addr;
    addr->sun_family = AF_UNIX;
    strcpy(addr->sun_path, path);
    dial->addresses[0].len = sizeof *addr;
    dial_next(dial);
}

void dial_start_connected(struct dial *dial, struct shard *shard, int fd, void (*done)(struct dial *, int, int),
                          void *owner) {
    dial_begin(dial, shard, "", UINT64_MAX, done, owner);
    dial->fd = fd;
    dial_end(dial, 0);
}

void dial_cancel(struct dial *dial) {
    if (dial->resolve)
        resolve_cancel(dial->resolve);
    dial->resolve = NULL;
    snprintf(dial->reason, sizeof dial->reason, "%s", err_text(ERR_CANCELED));
    if (!dial->ended) {
        dial_end(dial, ERR_CANCELED);
        return;
    }
    dial->err = ERR_CANCELED;
    dial->address[0] = 0;
    if (dial->fd >= 0)
        drop_socket(dial, &dial->fd);
}
