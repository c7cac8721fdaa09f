/* The way in: receives into the ring, opens in place, dispatches; makes room, waits for batches, gives the ring back.
 */
#include "engine/check.h"
#include "engine/conn.h"
#include "engine/limits.h"
#include "ssh/messages.h"
#include "ssh/session_internal.h"
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>

static int on_packet(void *arg, const struct packet *packet) {
    struct session *session = arg;
    const char *why = "malformed message";
    session_tempo_packet(session, packet);
    int err = mux_input(&session->mux, packet->payload, packet->payload_len, shard_now(session->shard), &why);
    if (err == 0 || err == ERR_UNSUPPORTED)
        return err;
    snprintf(session->end_reason, sizeof(session->end_reason), "protocol error in message %u: %s", packet->type, why);
    return err;
}

/* Opens and dispatches what is unparsed. The transport stops early where it waits for its speaker's keys; those may be
 * there once the speaker's own packets were taken, so it is asked again as long as anything moves. */
int session_work_input(struct session *session) {
    for (;;) {
        size_t len, used = 0;
        uint8_t *data = rxbuf_unparsed(&session->rx, &len);
        if (len == 0)
            return 0;
        int err = transport_input(session->transport, data, len, &used, &session->rx_need);
        if (used > 0)
            rxbuf_parsed(&session->rx, used);
        if (err != 0)
            return err;
        if (used == 0) {
            session->work_again = session->rx_need <= len;
            return 0;
        }
        session->rx_need = 1;
    }
}

void session_receive_low(struct session *session, int bytes) {
    if (session->receive_low == bytes)
        return;
    session->receive_low = bytes;
    (void)setsockopt(session->fd, SOL_SOCKET, SO_RCVLOWAT, &bytes, sizeof(bytes)); /* without it: more wake-ups */
}

bool session_receives_bulk(const struct session *session) {
    return session->busy_bytes >= LIMIT_BULK_BYTES || session->receive_low > 1;
}

/* While the peer sends in bulk, waking up for each segment costs more than the segment: the kernel is told to wait for
 * a good batch, and a timer ends that as soon as the peer pauses, so that the tail waits for so long at most. */
static void moderate(struct session *session, size_t received) {
    const struct tempo *sizes = session_sizes(session);
    uint64_t now = shard_now(session->shard);
    if (now - session->last_input_ns > 4 * sizes->lull_ns)
        session->busy_bytes = 0;
    session->busy_bytes += received;
    if (!session_receives_bulk(session))
        return;
    session_receive_low(session, sizes->receive_low);
    timer_arm(&session->shard->timers, &session->lull, now + sizes->lull_ns);
}

/* sshd leaves Nagle's algorithm on: its next small packet waits for the acknowledgement of the last, which the kernel
 * would hold back for up to 40 ms. In bulk there is always more under way. */
static void acknowledge(struct session *session) {
    const int now = 1;
    if (!session_receives_bulk(session))
        (void)setsockopt(session->fd, IPPROTO_TCP, TCP_QUICKACK, &now, sizeof(now));
}

static void on_lull(struct timer *timer) {
    struct session *session = list_entry(timer, struct session, lull);
    session->busy_bytes = 0;
    session_receive_low(session, 1);
}

/* Waits for the next bytes without a place for them: the flush of this turn, or the one after what was received has
 * been sent on, gives the ring back. */
static void watch(struct session *session) {
    if (!session->recv.in_flight && !session->readable.in_flight)
        io_poll(session->shard->io, &session->readable, session->fd, POLLIN);
}

static void on_recv(struct io_op *op, int32_t res) {
    struct session *session = list_entry(op, struct session, recv);
    if (res > 0)
        rxbuf_filled(&session->rx, (size_t)res);
    if (session->ending)
        return session_try_finish(session);
    if (res == -ECANCELED && session->quieting)
        return session_receive(session);
    if (res == 0)
        return session_fail(session, ERR_CLOSED);
    if (res < 0 && res != -EAGAIN && res != -EINTR)
        return session_fail(session, err_from_errno(-res));
    if (res > 0) {
        session->bytes_in += (uint64_t)res;
        moderate(session, (size_t)res);
        acknowledge(session);
        session->last_input_ns = shard_now(session->shard);
        session->alive_unanswered = 0;
    }
    int err = session_work_input(session);
    if (err != 0)
        return session_fail(session, err);
    if (ring_pool_is_short(&session->shard->rings))
        watch(session);
    else
        session_receive(session);
    session_wake(session);
}

/* Moves the oldest slices out of the ring until there is room for `bytes`. ERR_AGAIN: their send is in flight.
 * ERR_FULL: all is whole packets that the transport does not take yet; the flush goes on with them. */
static int make_room(struct session *session, size_t bytes, uint8_t **data, size_t *len) {
    for (;;) {
        int err = rxbuf_space(&session->rx, bytes, data, len);
        if (err != ERR_FULL)
            return err;
        struct slice *oldest = rxbuf_oldest(&session->rx);
        CHECK(oldest != NULL || session->work_again); /* the ring holds two packets of the largest size */
        if (oldest == NULL)
            return ERR_FULL;
        err = conn_spill(oldest->holder);
        if (err != 0)
            return err;
    }
}

void session_receive(struct session *session) {
    if (session->recv.in_flight || session->readable.in_flight || session->ending)
        return;
    struct io *io = session->shard->io;
    if (session->quieting) {
        session->quieting = false;
        rxbuf_idle(&session->rx);
        if (!session->send.in_flight) {
            free(session->batch.control);
            session->batch.control = NULL;
        }
        return watch(session);
    }
    size_t have, len;
    uint8_t *data;
    (void)rxbuf_unparsed(&session->rx, &have);
    size_t min = session->rx_need > have ? session->rx_need - have : 1;
    if (min < LIMIT_RECV_MIN_BYTES)
        min = LIMIT_RECV_MIN_BYTES;
    int err = make_room(session, min, &data, &len);
    if (err != 0) { /* a send must complete first, or memory is short: nothing is lost, the peer waits */
        uint64_t pause_ns = err == ERR_AGAIN ? 0 : SECOND_NS / 1000;
        timer_arm(&session->shard->timers, &session->rx_retry, shard_now(session->shard) + pause_ns);
        return;
    }
    if (len > session_sizes(session)->receive_bytes)
        len = session_sizes(session)->receive_bytes;
    session->recv_iov = (struct iovec){.iov_base = data, .iov_len = len};
    io_recv(io, &session->recv, session->fd, &session->recv_iov, 1);
    if (!timer_armed(&session->quiet))
        timer_arm(&session->shard->timers, &session->quiet, shard_now(session->shard) + LIMIT_QUIET_NS);
}

static void on_rx_retry(struct timer *timer) {
    session_receive(list_entry(timer, struct session, rx_retry));
}

static void on_readable(struct io_op *op, int32_t res) {
    struct session *session = list_entry(op, struct session, readable);
    (void)res; /* the receive tells what is wrong, if anything */
    if (session->ending)
        return session_try_finish(session);
    session_receive(session);
}

/* What slow readers still hold is copied out of the ring. False: not all of it, now. */
static bool free_ring(struct session *session) {
    struct slice *oldest;
    while ((oldest = rxbuf_oldest(&session->rx)) != NULL)
        if (conn_spill(oldest->holder) != 0)
            return false;
    return true;
}

void session_lend_ring(struct session *session) {
    bool short_of_rings = ring_pool_is_short(&session->shard->rings);
    if (session->readable.in_flight && short_of_rings && free_ring(session))
        rxbuf_idle(&session->rx);
}

/* Nothing came for a while: the ring goes back to the shard and the socket is only watched. */
static void on_quiet(struct timer *timer) {
    struct session *session = list_entry(timer, struct session, quiet);
    uint64_t now = shard_now(session->shard), due = session->last_input_ns + LIMIT_QUIET_NS;
    bool held = rxbuf_oldest(&session->rx) != NULL;
    if (now >= due && held && ring_pool_is_short(&session->shard->rings))
        held = !free_ring(session);
    if (now < due || held) {
        timer_arm(&session->shard->timers, timer, due > now ? due : now + LIMIT_QUIET_NS);
        return;
    }
    if (session->readable.in_flight)
        return rxbuf_idle(&session->rx);
    if (!session->recv.in_flight)
        return;
    session->quieting = true;
    io_cancel(session->shard->io, &session->recv);
}

void session_receive_init(struct session *session) {
    session->transport->on_packet = on_packet;
    session->transport->arg = session;
    io_op_init(&session->recv, on_recv);
    io_op_init(&session->readable, on_readable);
    session->rx_retry.on_timer = on_rx_retry;
    session->quiet.on_timer = on_quiet;
    session->lull.on_timer = on_lull;
    session->rx_need = 1;
    session->last_input_ns = shard_now(session->shard);
    rxbuf_init(&session->rx, &session->shard->rings);
}

void session_receive_stop(struct session *session) {
    struct timers *timers = &session->shard->timers;
    timer_cancel(timers, &session->rx_retry);
    timer_cancel(timers, &session->quiet);
    timer_cancel(timers, &session->lull);
    io_cancel(session->shard->io, &session->recv);
    io_cancel(session->shard->io, &session->readable);
}
