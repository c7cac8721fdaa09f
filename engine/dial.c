#include "engine/dial.h"
#include "engine/check.h"
#include "engine/log.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void end_run(struct task *task) {
    struct dial *dial = list_entry(task, struct dial, end);
    free(dial->addresses);
    free(dial->host);
    dial->addresses = NULL;
    dial->host = NULL;
    dial->done(dial, dial->err, dial->fd);
}

static void dial_say(struct dial *dial, const char *verb, const char *why) {
    char host[96];
    log_safe(host, sizeof host, dial->host ? dial->host : "", dial->host ? strlen(dial->host) : 0);
    if (dial->addresses)
        snprintf(dial->reason, sizeof dial->reason, "%s %s port %u: %s", verb, host, dial->port, why);
    else
        snprintf(dial->reason, sizeof dial->reason, "%s %s: %s", verb, host, why);
}

/* Nothing is in flight any more: the answer follows at the end of the turn. */
static void dial_end(struct dial *dial, int err) {
    CHECK(!dial->connect.in_flight && !dial->resolve);
    dial->ended = true;
    dial->err = err;
    timer_cancel(&dial->shard->timers, &dial->deadline);
    shard_defer(dial->shard, &dial->end);
}

static void dial_fail(struct dial *dial) {
    dial_say(dial, "connect to", strerror(dial->last_errno));
    dial_end(dial, err_from_errno(dial->last_errno));
}

static void dial_arm_attempt(struct dial *dial) {
    uint64_t now = shard_now(dial->shard);
    if (dial->deadline_ns == UINT64_MAX)
        return;
    uint64_t left = dial->deadline_ns > now ? dial->deadline_ns - now : 0;
    timer_arm(&dial->shard->timers, &dial->deadline, now + left / (dial->count - dial->next + 1));
}

/* Out of descriptors: another address would fail the same way. */
static bool socket_error_is_final(int error_number) {
    return error_number == EMFILE || error_number == ENFILE || error_number == ENOBUFS || error_number == ENOMEM;
}

/* Starts a connect to the next address for which a socket can be had; ends the dial when there is none. */
static void dial_attempt(struct dial *dial) {
    while (dial->next < dial->count) {
        const struct address *address = &dial->addresses[dial->next++];
        dial->fd = socket(address->addr.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        if (dial->fd >= 0) {
            dial_arm_attempt(dial);
            io_connect(dial->shard->io, &dial->connect, dial->fd, (const struct sockaddr *)&address->addr,
                       address->len);
            return;
        }
        dial->last_errno = errno;
        if (socket_error_is_final(errno))
            break;
    }
    dial_fail(dial);
}

/* It may be connected already: a plain close would look to the target like an application that had nothing to say. */
static void dial_drop_socket(struct dial *dial) {
    io_close(dial->shard->io, dial->fd, IO_CLOSE_RESET);
    dial->fd = -1;
}

static void connect_done(struct io_op *op, int32_t res) {
    struct dial *dial = list_entry(op, struct dial, connect);
    timer_cancel(&dial->shard->timers, &dial->deadline);
    if (dial->err == ERR_CANCELED) {
        dial_drop_socket(dial);
        dial_end(dial, ERR_CANCELED);
        return;
    }
    if (res == 0) {
        dial_end(dial, 0);
        return;
    }
    dial_drop_socket(dial);
    dial->last_errno = res == -ECANCELED ? ETIMEDOUT : -res;
    dial_attempt(dial);
}

static void resolve_done(void *arg, const struct resolve_result *result) {
    struct dial *dial = arg;
    dial->resolve = NULL;
    timer_cancel(&dial->shard->timers, &dial->deadline);
    if (result->err < 0) {
        dial_say(dial, "resolve", result->reason ? result->reason : err_text(result->err));
        dial_end(dial, result->err);
        return;
    }
    dial->addresses = malloc(result->count * sizeof *dial->addresses);
    if (!dial->addresses) {
        dial_say(dial, "connect to", strerror(ENOMEM));
        dial_end(dial, ERR_NOMEM);
        return;
    }
    memcpy(dial->addresses, result->addresses, result->count * sizeof *dial->addresses);
    dial->count = result->count;
    dial_attempt(dial);
}

static void deadline_on_timer(struct timer *timer) {
    struct dial *dial = list_entry(timer, struct dial, deadline);
    if (!dial->resolve) {
        io_cancel(dial->shard->io, &dial->connect);
        return;
    }
    resolve_cancel(dial->resolve);
    dial->resolve = NULL;
    dial_say(dial, "resolve", strerror(ETIMEDOUT));
    dial_end(dial, ERR_TIMEOUT);
}

void dial_start(struct dial *dial, struct shard *shard, const char *host, uint16_t port, int family,
                uint64_t timeout_ns, void (*done)(struct dial *, int, int), void *owner) {
    *dial = (struct dial){.shard = shard, .done = done, .owner = owner, .fd = -1, .port = port};
    uint64_t now = shard_now(shard);
    dial->deadline_ns = timeout_ns > UINT64_MAX - now ? UINT64_MAX : now + timeout_ns;
    dial->deadline.on_timer = deadline_on_timer;
    io_op_init(&dial->connect, connect_done);
    task_init(&dial->end, end_run);
    dial->host = strdup(host);
    if (dial->host)
        dial->resolve = resolve_start(shard, host, port, family, resolve_done, dial);
    if (!dial->resolve) {
        dial_say(dial, "connect to", strerror(ENOMEM));
        dial_end(dial, ERR_NOMEM);
        return;
    }
    if (dial->deadline_ns != UINT64_MAX)
        timer_arm(&shard->timers, &dial->deadline, dial->deadline_ns);
}

void dial_cancel(struct dial *dial) {
    bool connecting = dial->connect.in_flight;
    dial->err = ERR_CANCELED;
    snprintf(dial->reason, sizeof dial->reason, "%s", err_text(ERR_CANCELED));
    if (dial->resolve)
        resolve_cancel(dial->resolve);
    dial->resolve = NULL;
    if (connecting) {
        io_cancel(dial->shard->io, &dial->connect);
        return;
    }
    if (dial->fd >= 0)
        dial_drop_socket(dial);
    if (!dial->ended)
        dial_end(dial, ERR_CANCELED);
}
