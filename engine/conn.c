#include "engine/conn.h"
#include "engine/check.h"
#include "engine/listener.h"
#include "engine/tcp.h"
#include <errno.h>
#include <poll.h>
#include <stdlib.h>

/* A vectored receive takes at most this part of the free slots, so that connections which sit on slots without getting
 * data can never starve the others. */
#define HOT_SHARE 4u

static bool conn_over(const struct conn *conn) {
    return conn->closing || conn->failed;
}

static void conn_fail(struct conn *conn, int err) {
    if (conn_over(conn))
        return;
    conn->failed = true;
    slot_unwait(&conn->slot_waiter);
    conn->ops->on_reset(conn, err);
}

/* ---- read side ---- */

/* Nobody takes anything any more, and either all that was sent is read or there is no credit for it. Behind conn_finish
 * a hang-up says nothing: it may be our own end and the peer's together. */
static bool conn_peer_gone(const struct conn *conn) {
    bool reads_on = !conn->read_ended && (conn->credit > 0 || conn->recv.in_flight);
    return conn->watches_peer && conn->hung_up && !conn->finishing && !reads_on;
}

static bool conn_looks_for_end(const struct conn *conn) {
    return !conn->hung_up && (conn->read_ended ? conn->watches_peer && !conn->finishing : conn->credit == 0);
}

/* One poll per descriptor serves two ends. A full socket waits for room. And without credit nothing is armed for
 * reading, but an application that breaks off is noticed all the same; once armed for that the watch stays, so that
 * running out of credit again and again costs nothing. */
static void conn_watch(struct conn *conn) {
    if (conn_peer_gone(conn))
        shard_defer(conn->shard, &conn->flush);
    if (conn->watch.in_flight) {
        if (conn->waiting_room && !conn->watch_room)
            io_cancel(conn->shard->io, &conn->watch);
        return;
    }
    if (!conn->waiting_room && !conn_looks_for_end(conn))
        return;
    conn->watch_room = conn->waiting_room;
    io_poll(conn->shard->io, &conn->watch, conn->fd, conn->watch_room ? POLLOUT : 0);
}

static int conn_socket_error(const struct conn *conn) {
    int error_number = 0;
    socklen_t len = sizeof error_number;
    if (getsockopt(conn->fd, SOL_SOCKET, SO_ERROR, &error_number, &len) < 0 || error_number == 0)
        return ERR_RESET;
    return err_from_errno(error_number);
}

/* Receives into slots that are taken now; fewer than n when the pool has fewer, and waits for slots when it has none.
 */
static void conn_receive_into(struct conn *conn, unsigned n) {
    struct slot **last = &conn->recv_slots;
    uint64_t left = conn->credit;
    unsigned taken = 0;
    conn->recv_asked = 0;
    if (n > 1 && !conn->recv_many)
        conn->recv_many = malloc(LIMIT_SLOTS_PER_RECV * sizeof *conn->recv_many);
    struct iovec *iov = n > 1 && conn->recv_many ? conn->recv_many : &conn->recv_one;
    if (iov == &conn->recv_one)
        n = 1;
    while (taken < n && left > 0) {
        struct slot *slot = slot_take(&conn->shard->slots);
        if (!slot)
            break;
        slot->len = left < conn->slot_max ? (uint32_t)left : conn->slot_max;
        left -= slot->len;
        conn->recv_asked += slot->len;
        iov[taken++] = (struct iovec){.iov_base = slot->data, .iov_len = slot->len};
        *last = slot;
        last = &slot->next;
    }
    *last = NULL;
    if (taken == 0)
        slot_wait(&conn->shard->slots, &conn->slot_waiter);
    else
        io_recv(conn->shard->io, &conn->recv, conn->fd, iov, taken);
}

/* The woken connection takes its slot at once: a wake-up that took none would be lost for those who wait behind it. */
static void conn_on_slots(struct slot_waiter *waiter) {
    conn_receive_into(list_entry(waiter, struct conn, slot_waiter), 1);
}

static unsigned conn_slots_wanted(const struct conn *conn) {
    if (!conn->recv_filled)
        return 1;
    uint64_t n = (conn->credit + conn->slot_max - 1) / conn->slot_max;
    uint32_t share = conn->shard->slots.free_count / HOT_SHARE;
    if (n > conn->hot)
        n = conn->hot;
    return (unsigned)(n < share ? n : share);
}

static void conn_read(struct conn *conn) {
    if (conn_over(conn) || conn->read_ended || conn->delivering || conn->recv.in_flight)
        return;
    if (conn->credit == 0) {
        slot_unwait(&conn->slot_waiter);
        conn_watch(conn);
        return;
    }
    if (list_linked(&conn->slot_waiter.node))
        return;
    unsigned n = conn_slots_wanted(conn);
    if (n >= 2) {
        conn_receive_into(conn, n);
        return;
    }
    conn->recv_asked = conn->credit < conn->slot_max ? (uint32_t)conn->credit : conn->slot_max;
    io_recv_slot(conn->shard->io, &conn->recv, conn->fd, conn->recv_asked);
}

/* Cuts the received slots to `bytes` and returns the unused ones. */
static void conn_trim(struct conn *conn, uint64_t bytes) {
    struct slot **at = &conn->recv_slots;
    while (*at && bytes > 0) {
        if ((*at)->len > bytes)
            (*at)->len = (uint32_t)bytes;
        bytes -= (*at)->len;
        at = &(*at)->next;
    }
    struct slot *unused = *at;
    *at = NULL;
    while (unused) {
        struct slot *next = unused->next;
        slot_put(&conn->shard->slots, unused);
        unused = next;
    }
}

static void conn_deliver(struct conn *conn) {
    conn->delivering = true;
    while (conn->recv_slots) {
        struct slot *slot = conn->recv_slots;
        conn->recv_slots = slot->next;
        slot->next = NULL;
        if (conn_over(conn)) {
            slot_put(&conn->shard->slots, slot);
            continue;
        }
        conn->credit -= slot->len < conn->credit ? slot->len : conn->credit;
        conn->ops->on_slot(conn, slot);
    }
    conn->delivering = false;
}

static void conn_free(struct iovec **iov) {
    free(*iov);
    *iov = NULL;
}

/* A receive that was not filled has drained the socket: the next one waits, and a cold one waits without slots. The
 * size is remembered for when a receive is filled again. */
static void conn_adapt(struct conn *conn, uint32_t bytes) {
    conn->recv_filled = bytes == conn->recv_asked;
    if (conn->recv_filled)
        conn->hot = conn->hot == 0 ? 2 : conn->hot;
    if (conn->recv_filled && conn->recv_asked > conn->slot_max && conn->hot < LIMIT_SLOTS_PER_RECV)
        conn->hot *= 2;
    if (bytes < conn->recv_asked / 2)
        conn->hot = conn->hot > 2 ? conn->hot / 2 : 0;
    if (!conn->recv_filled)
        conn_free(&conn->recv_many);
}

static void conn_receive_failed(struct conn *conn, int error_number) {
    if (error_number == ENOBUFS && conn->credit > 0)
        conn_receive_into(conn, 1);
    else if (error_number == ENOBUFS)
        conn_read(conn);
    else
        conn_fail(conn, err_from_errno(error_number));
}

static void conn_read_ended(struct conn *conn) {
    conn->read_ended = true;
    conn->ops->on_eof(conn);
    if (conn->watches_peer && !conn_over(conn))
        conn_watch(conn);
}

static void recv_done(struct io_op *op, int32_t res) {
    struct conn *conn = list_entry(op, struct conn, recv);
    if (!conn->recv_slots && res > 0) {
        conn->recv_slots = op->slot;
        conn->recv_slots->next = NULL;
    }
    conn_trim(conn, res > 0 && !conn_over(conn) ? (uint64_t)res : 0);
    if (conn->closing) {
        shard_defer(conn->shard, &conn->flush);
        return;
    }
    if (conn->failed)
        return;
    if (res < 0) {
        conn_receive_failed(conn, -res);
        return;
    }
    if (res == 0) {
        conn_read_ended(conn);
        return;
    }
    conn_adapt(conn, (uint32_t)res);
    conn_deliver(conn);
    conn_read(conn);
}

/* ---- write side ---- */

static void conn_send(struct conn *conn) {
    if (!conn->send_many && conn->out.count > 1)
        conn->send_many = malloc(LIMIT_SEND_IOV * sizeof *conn->send_many);
    struct iovec *iov = conn->send_many ? conn->send_many : &conn->send_one;
    unsigned iov_max = conn->send_many ? LIMIT_SEND_IOV : 1;
    unsigned n = sendq_begin(&conn->out, iov, iov_max, &conn->send_bytes);
    io_send(conn->shard->io, &conn->send, conn->fd, iov, n, IO_SEND_NOW);
}

/* The send took `bytes`: tells the owner, then waits for room or goes on. */
static void conn_sent(struct conn *conn, uint64_t bytes) {
    bool all = bytes == conn->send_bytes;
    if (bytes > 0)
        conn->ops->on_written(conn, bytes);
    if (conn_over(conn))
        return;
    conn->waiting_room = !all;
    conn_watch(conn);
    if (all && (!sendq_empty(&conn->out) || conn->finishing))
        shard_defer(conn->shard, &conn->flush);
}

static void send_done(struct io_op *op, int32_t res) {
    struct conn *conn = list_entry(op, struct conn, send);
    uint64_t bytes = res < 0 ? 0 : (uint64_t)res;
    sendq_end(&conn->out, bytes);
    if (sendq_empty(&conn->out))
        conn_free(&conn->send_many);
    if (conn->closing)
        shard_defer(conn->shard, &conn->flush);
    else if (res < 0 && res != -EAGAIN)
        conn_fail(conn, err_from_errno(-res));
    else if (!conn->failed)
        conn_sent(conn, bytes);
}

/* ---- the watch ---- */

/* Reading has nothing armed, so the error is ours to report; else a receive brings what came before it, then the error.
 */
static void watch_saw(struct conn *conn, int32_t res) {
    if (res == -ECANCELED)
        return;
    if (res < 0)
        conn->watches_peer = false; /* it cannot be had */
    /* Both directions shut, or a Unix peer that has gone: reading and writing will tell in order. */
    if (res < 0 || !(res & POLLERR))
        conn->hung_up = true;
    else if (!conn->recv.in_flight)
        conn_fail(conn, conn_socket_error(conn));
}

static void watch_done(struct io_op *op, int32_t res) {
    struct conn *conn = list_entry(op, struct conn, watch);
    if (conn->closing) {
        shard_defer(conn->shard, &conn->flush);
        return;
    }
    if (conn->failed)
        return;
    if (!conn->watch_room) {
        watch_saw(conn, res);
        if (!conn_over(conn) && (conn->waiting_room || conn->watches_peer))
            conn_watch(conn);
        return;
    }
    if (!conn->waiting_room)
        return;
    /* Room, or an error that the send will tell. */
    conn->waiting_room = false;
    conn_send(conn);
}

void conn_write_slice(struct conn *conn, struct rxbuf *rx, struct slice *slice) {
    if (conn_over(conn) || conn->finishing || slice->len == 0) {
        rxbuf_release(rx, slice);
        return;
    }
    sendq_push_slice(&conn->out, rx, slice, conn);
    shard_defer(conn->shard, &conn->flush);
}

int conn_write_copy(struct conn *conn, const void *data, uint32_t len) {
    if (conn_over(conn) || conn->finishing)
        return 0;
    int err = sendq_push_copy(&conn->out, data, len);
    if (err == 0)
        shard_defer(conn->shard, &conn->flush);
    return err;
}

int conn_spill(struct conn *conn) {
    return sendq_spill(&conn->out);
}

void conn_finish(struct conn *conn) {
    if (conn_over(conn) || conn->finishing)
        return;
    conn->finishing = true;
    shard_defer(conn->shard, &conn->flush);
}

/* ---- life ---- */

static void conn_join(struct conn *conn) {
    if (conn->recv.in_flight || conn->send.in_flight || conn->watch.in_flight)
        return;
    struct shard *shard = conn->shard;
    sendq_drop(&conn->out);
    conn_free(&conn->send_many);
    conn_free(&conn->recv_many);
    io_close(shard->io, conn->fd, conn->close_resets ? IO_CLOSE_RESET : IO_CLOSE);
    conn->fd = -1;
    listener_resume(shard);
    conn->ops->on_closed(conn);
}

static void flush_run(struct task *task) {
    struct conn *conn = list_entry(task, struct conn, flush);
    if (conn->closing) {
        conn_join(conn);
        return;
    }
    if (conn_peer_gone(conn))
        conn_fail(conn, ERR_CLOSED);
    if (conn->failed || conn->send.in_flight || conn->waiting_room)
        return;
    if (!sendq_empty(&conn->out)) {
        conn_send(conn);
        return;
    }
    if (!conn->finishing || conn->finished)
        return;
    conn->finished = true;
    io_shutdown(conn->shard->io, conn->fd, SHUT_WR);
    conn->ops->on_finished(conn);
}

static void conn_end(struct conn *conn, enum io_close_mode mode) {
    if (conn->closing) {
        conn->close_resets |= mode == IO_CLOSE_RESET;
        return;
    }
    conn->closing = true;
    conn->close_resets = mode == IO_CLOSE_RESET;
    slot_unwait(&conn->slot_waiter);
    io_cancel(conn->shard->io, &conn->recv);
    io_cancel(conn->shard->io, &conn->send);
    io_cancel(conn->shard->io, &conn->watch);
    if (conn->out.in_send == 0)
        sendq_drop(&conn->out);
    shard_defer(conn->shard, &conn->flush);
}

void conn_close(struct conn *conn) {
    conn_end(conn, IO_CLOSE);
}

void conn_abort(struct conn *conn) {
    conn_end(conn, IO_CLOSE_RESET);
}

void conn_set_credit(struct conn *conn, uint64_t bytes) {
    conn->credit = bytes;
    conn_read(conn);
}

void conn_watch_peer(struct conn *conn) {
    conn->watches_peer = true;
    conn_watch(conn);
}

void conn_set_slot_max(struct conn *conn, uint32_t slot_max) {
    CHECK(slot_max > 0 && slot_max <= conn->shard->slots.payload_max);
    conn->slot_max = slot_max;
}

void conn_init(struct conn *conn, struct shard *shard, const struct conn_ops *ops, void *owner, int fd,
               uint32_t slot_max) {
    *conn = (struct conn){.shard = shard, .ops = ops, .owner = owner, .fd = fd};
    conn_set_slot_max(conn, slot_max);
    io_op_init(&conn->recv, recv_done);
    io_op_init(&conn->send, send_done);
    io_op_init(&conn->watch, watch_done);
    list_init(&conn->slot_waiter.node);
    conn->slot_waiter.on_slots = conn_on_slots;
    sendq_init(&conn->out);
    task_init(&conn->flush, flush_run);
    tcp_tune(fd);
    tcp_keep_receive_buffer(fd);
}
