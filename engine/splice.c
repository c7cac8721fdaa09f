/* One relay is two ways, each from one socket to the other:
 *
 *              poll POLLIN                          poll POLLOUT
 *   WAITING ───────────────► MOVING ──socket full──► STALLED
 *      ▲                      │   ▲                     │
 *      └── nothing to read ───┘   └─────────────────────┘
 *                             └── EOF ──► FINISHED (FIN sent)
 *
 * A way that is STALLED reads nothing, so nobody would hear that its source has been reset; nor after EOF. The source
 * is then watched with a poll that asks for nothing but errors: at once after EOF, but only after a while when stalled,
 * because a bulk transfer stalls and goes on all the time.
 *
 * All moving is done by the relay's task, once per turn of the shard and within a budget. */
#include "engine/splice.h"
#include "engine/check.h"
#include "engine/limits.h"
#include "engine/listener.h"
#include "engine/splice_pool.h"
#include "engine/tcp.h"
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>

struct way {
    struct splice_relay *relay;
    struct side *from, *to;
    struct splice_pipe *pipe; /* while bytes are in it */
    uint32_t held;            /* how many */
    bool can_read, can_write; /* as far as is known: false after a try that found nothing or no room */
    bool finished;            /* EOF was read, and the FIN is out */
    bool aged;                /* stalled since the last sweep or longer */
    struct list stalled;
    uint64_t bytes; /* delivered */
};

struct side {
    struct way *in; /* the way it is the source of */
    int fd;
    struct io_op in_poll, out_poll;
    bool watching; /* in_poll asks for errors only */
    bool hung_up;  /* the watch saw a hang-up that is no error: it would only spin */
};

struct splice_relay {
    struct splice_pool *pool;
    struct shard *shard;
    struct side sides[2];
    struct way ways[2]; /* [0]: a to b */
    struct task task;
    struct timer idle;
    uint64_t idle_ns, started_ns, moved_ns;
    splice_end_fn *on_end;
    void *owner;
    const char *what;
    bool ending;
    enum io_close_mode close_mode;
};

static void relay_end(struct splice_relay *relay, const char *what, enum io_close_mode mode) {
    if (relay->ending)
        return;
    relay->ending = true;
    relay->what = what;
    relay->close_mode = mode;
    timer_cancel(&relay->shard->timers, &relay->idle);
    for (unsigned i = 0; i < 2; i++) {
        struct way *way = &relay->ways[i];
        list_remove(&way->stalled);
        if (way->pipe)
            splice_pipe_put(relay->pool, way->pipe, false);
        way->pipe = NULL;
        io_cancel(relay->shard->io, &relay->sides[i].in_poll);
        io_cancel(relay->shard->io, &relay->sides[i].out_poll);
    }
    shard_defer(relay->shard, &relay->task);
}

static void relay_fail(struct splice_relay *relay, int error_number) {
    relay_end(relay, err_text(err_from_errno(error_number)), IO_CLOSE_RESET);
}

/* Once no op is in flight: terminate → join → close. */
static void relay_free(struct splice_relay *relay) {
    for (unsigned i = 0; i < 2; i++) {
        if (relay->sides[i].in_poll.in_flight || relay->sides[i].out_poll.in_flight)
            return;
    }
    struct shard *shard = relay->shard;
    shard_undefer(&relay->task);
    for (unsigned i = 0; i < 2; i++)
        io_close(shard->io, relay->sides[i].fd, relay->close_mode);
    relay->pool->relays_count--;
    listener_resume(shard);
    const struct splice_end end = {.what = relay->what,
                                   .bytes_a_to_b = relay->ways[0].bytes,
                                   .bytes_b_to_a = relay->ways[1].bytes,
                                   .duration_ns = shard_now(shard) - relay->started_ns};
    relay->on_end(relay->owner, &end);
    free(relay);
}

/* ---- moving ---- */

static ssize_t splice_again(int from, int to, size_t most) {
    ssize_t moved;
    do
        moved = splice(from, NULL, to, NULL, most, SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
    while (moved < 0 && errno == EINTR);
    return moved;
}

static void way_finish(struct way *way) {
    way->finished = true;
    io_shutdown(way->relay->shard->io, way->to->fd, SHUT_WR);
}

/* What a read came to: bytes of it, 0 when there is nothing yet or no more for good, or -errno. */
static ssize_t way_read(struct way *way, ssize_t got) {
    if (got > 0)
        return got;
    way->can_read = false;
    if (got < 0)
        return errno == EAGAIN || errno == EINTR ? 0 : -errno;
    way_finish(way); /* nothing is read before the last bytes have left */
    return 0;
}

/* The same of a write; a short one has found the socket full. */
static ssize_t way_wrote(struct way *way, ssize_t sent, size_t wanted) {
    if (sent < 0 && errno != EAGAIN && errno != EINTR)
        return -errno;
    if (sent < (ssize_t)wanted)
        way->can_write = false;
    if (sent <= 0)
        return 0;
    way->bytes += (uint64_t)sent;
    way->relay->moved_ns = shard_now(way->relay->shard);
    return sent;
}

/* Without a pipe: nothing is taken that has not been sent already, so nothing has to be kept. Bytes sent or -errno. */
static ssize_t way_copy(struct way *way, size_t most) {
    uint8_t *bytes = way->relay->pool->copy;
    if (most > LIMIT_SPLICE_COPY_BYTES)
        most = LIMIT_SPLICE_COPY_BYTES;
    ssize_t got = way_read(way, recv(way->from->fd, bytes, most, MSG_PEEK | MSG_DONTWAIT));
    if (got <= 0)
        return got;
    ssize_t sent = send(way->to->fd, bytes, (size_t)got, MSG_NOSIGNAL | MSG_DONTWAIT);
    sent = way_wrote(way, sent, (size_t)got);
    if (sent <= 0)
        return sent;
    /* TCP drops them unread, other sockets copy them again. */
    ssize_t dropped = recv(way->from->fd, bytes, (size_t)sent, MSG_TRUNC | MSG_DONTWAIT);
    return dropped == sent ? sent : -EIO;
}

/* Reads at most so much. Bytes sent by that already, or -errno. */
static ssize_t way_fill(struct way *way, size_t most) {
    struct splice_pool *pool = way->relay->pool;
    struct splice_pipe *pipe = splice_pipe_take(pool);
    if (!pipe)
        return way_copy(way, most);
    ssize_t got = way_read(way, splice_again(way->from->fd, pipe->write_fd, most));
    if (got <= 0) {
        splice_pipe_put(pool, pipe, true);
        return got;
    }
    way->pipe = pipe;
    way->held = (uint32_t)got;
    /* So little is all there was, most likely: asking for readiness then costs less than another try. */
    way->can_read = got >= LIMIT_SPLICE_AGAIN_BYTES;
    return 0;
}

/* Bytes sent or -errno. */
static ssize_t way_drain(struct way *way) {
    ssize_t sent = way_wrote(way, splice_again(way->pipe->read_fd, way->to->fd, way->held), way->held);
    if (sent <= 0)
        return sent;
    way->held -= (uint32_t)sent;
    if (way->held == 0) {
        splice_pipe_put(way->relay->pool, way->pipe, true);
        way->pipe = NULL;
    }
    return sent;
}

/* 0 or errno. */
static int way_move(struct way *way) {
    ssize_t budget = LIMIT_SPLICE_TURN_BYTES; /* no pipe ever holds more */
    while (!way->finished && way->can_write) {
        ssize_t sent = 0;
        if (way->held > 0)
            sent = way_drain(way);
        else if (way->can_read && budget > 0)
            sent = way_fill(way, (size_t)budget);
        else
            return 0;
        if (sent < 0)
            return (int)-sent;
        budget -= sent;
    }
    return 0;
}

/* ---- waiting ---- */

static void watch(struct side *side) {
    if (side->hung_up || side->in_poll.in_flight)
        return;
    side->watching = true;
    io_poll(side->in->relay->shard->io, &side->in_poll, side->fd, 0);
}

static void wait_for_data(struct side *side) {
    struct io *io = side->in->relay->shard->io;
    if (side->in_poll.in_flight) {
        if (side->watching)
            io_cancel(io, &side->in_poll); /* in_polled comes back here by way of the task */
        return;
    }
    side->watching = false;
    io_poll(io, &side->in_poll, side->fd, POLLIN);
}

static void wait_for_room(struct way *way) {
    struct splice_pool *pool = way->relay->pool;
    struct io_op *op = &way->to->out_poll;
    if (op->in_flight)
        return;
    io_poll(way->relay->shard->io, op, way->to->fd, POLLOUT);
    way->aged = false;
    list_push_back(&pool->stalled, &way->stalled);
    if (!timer_armed(&pool->sweep))
        timer_arm(&way->relay->shard->timers, &pool->sweep, shard_now(way->relay->shard) + LIMIT_SPLICE_STALL_NS);
}

static void way_wait(struct way *way) {
    if (way->finished)
        watch(way->from);
    else if (!way->can_write)
        wait_for_room(way);
    else if (!way->can_read)
        wait_for_data(way->from);
    else
        shard_defer(way->relay->shard, &way->relay->task);
}

static void relay_run(struct task *task) {
    struct splice_relay *relay = list_entry(task, struct splice_relay, task);
    for (unsigned i = 0; i < 2 && !relay->ending; i++) {
        int error_number = way_move(&relay->ways[i]);
        if (error_number != 0)
            relay_fail(relay, error_number);
    }
    if (!relay->ending && relay->ways[0].finished && relay->ways[1].finished)
        relay_end(relay, NULL, IO_CLOSE);
    if (relay->ending)
        return relay_free(relay);
    for (unsigned i = 0; i < 2; i++)
        way_wait(&relay->ways[i]);
}

/* Stalled ways are looked at now and then: who was here the last time has its source watched. */
void splice_on_sweep(struct timer *timer) {
    struct splice_pool *pool = list_entry(timer, struct splice_pool, sweep);
    list_for_each_safe (node, after, &pool->stalled) {
        struct way *way = list_entry(node, struct way, stalled);
        if (way->aged) {
            list_remove(node);
            watch(way->from);
        }
        way->aged = true;
    }
    if (!list_empty(&pool->stalled))
        timer_arm(&pool->shard->timers, timer, shard_now(pool->shard) + LIMIT_SPLICE_STALL_NS);
}

static int socket_error(int fd) {
    int error_number = 0;
    socklen_t len = sizeof error_number;
    if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error_number, &len) < 0)
        return errno;
    return error_number != 0 ? error_number : ECONNRESET;
}

static void in_polled(struct io_op *op, int32_t res) {
    struct side *side = list_entry(op, struct side, in_poll);
    struct splice_relay *relay = side->in->relay;
    shard_defer(relay->shard, &relay->task);
    if (relay->ending || res == -ECANCELED)
        return;
    if (res < 0)
        return relay_fail(relay, -res);
    if (!side->watching)
        side->in->can_read = true;
    else if (res & POLLERR)
        relay_fail(relay, socket_error(side->fd));
    else
        side->hung_up = true;
}

static void out_polled(struct io_op *op, int32_t res) {
    struct side *side = list_entry(op, struct side, out_poll);
    struct splice_relay *relay = side->in->relay;
    struct way *way = &relay->ways[side->in == &relay->ways[0]]; /* the one that leads here */
    shard_defer(relay->shard, &relay->task);
    list_remove(&way->stalled);
    if (relay->ending || res == -ECANCELED)
        return;
    if (res < 0)
        return relay_fail(relay, -res);
    way->can_write = true;
}

/* The deadline is moved only when it comes, not with every byte. */
static void on_idle(struct timer *timer) {
    struct splice_relay *relay = list_entry(timer, struct splice_relay, idle);
    uint64_t deadline_ns = relay->moved_ns + relay->idle_ns;
    if (shard_now(relay->shard) >= deadline_ns)
        relay_end(relay, err_text(ERR_TIMEOUT), IO_CLOSE_RESET);
    else
        timer_arm(&relay->shard->timers, timer, deadline_ns);
}

/* ---- the owner's side ---- */

static void relay_init(struct splice_relay *relay, const int fds[2]) {
    for (unsigned i = 0; i < 2; i++) {
        struct side *side = &relay->sides[i];
        side->fd = fds[i];
        side->in = &relay->ways[i];
        io_op_init(&side->in_poll, in_polled);
        io_op_init(&side->out_poll, out_polled);
        relay->ways[i] =
            (struct way){.relay = relay, .from = side, .to = &relay->sides[!i], .can_read = true, .can_write = true};
        list_init(&relay->ways[i].stalled);
        tcp_tune(fds[i]);
        tcp_keep_receive_buffer(fds[i]);
    }
    task_init(&relay->task, relay_run);
    relay->idle.on_timer = on_idle;
}

int splice_relay_start(struct splice_pool *pool, int a, int b, uint64_t idle_ns, splice_end_fn *on_end, void *owner,
                       struct splice_relay **result) {
    struct splice_relay *relay = calloc(1, sizeof *relay);
    if (!relay)
        return ERR_NOMEM;
    struct shard *shard = pool->shard;
    relay->pool = pool;
    relay->shard = shard;
    relay->idle_ns = idle_ns;
    relay->started_ns = relay->moved_ns = shard_now(shard);
    relay->on_end = on_end;
    relay->owner = owner;
    relay_init(relay, (const int[2]){a, b});
    pool->relays_count++;
    if (idle_ns > 0)
        timer_arm(&shard->timers, &relay->idle, relay->started_ns + idle_ns);
    shard_defer(shard, &relay->task);
    *result = relay;
    return 0;
}

void splice_relay_abort(struct splice_relay *relay) {
    relay_end(relay, "aborted", IO_CLOSE_RESET);
}

uint64_t splice_relay_bytes(const struct splice_relay *relay) {
    return relay->ways[0].bytes + relay->ways[1].bytes;
}
