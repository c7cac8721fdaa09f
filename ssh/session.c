#include "ssh/session.h"
#include "engine/check.h"
#include "engine/conn.h"
#include "engine/limits.h"
#include "engine/log.h"
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SECOND_NS UINT64_C(1000000000)

enum { DISCONNECT_PROTOCOL_ERROR = 2, DISCONNECT_MAC_ERROR = 5, DISCONNECT_BY_APPLICATION = 11 };

static void receive(struct session *session);
static void try_finish(struct session *session);

/* ---- receiving ---- */

static int on_packet(void *arg, const struct packet *packet) {
    struct session *session = arg;
    const char *why = "malformed message";
    int err = mux_input(&session->mux, packet->payload, packet->payload_len, shard_now(session->shard), &why);
    if (err == 0)
        return 0;
    snprintf(session->end_reason, sizeof(session->end_reason), "protocol error in message %u: %s", packet->type, why);
    return err;
}

static void fail(struct session *session, int err) {
    char reason[sizeof(session->end_reason)];
    const char *peer = session->transport->disconnect_reason;
    if (session->end_reason[0] != '\0')
        memcpy(reason, session->end_reason, sizeof(reason));
    else if (peer[0] != '\0')
        snprintf(reason, sizeof(reason), "disconnected by the server: %s", peer);
    else
        snprintf(reason, sizeof(reason), "%s", err_text(err));
    session_end(session, err, reason);
}

/* Opens and dispatches what is unparsed. The transport stops early where it waits for its speaker's keys; those may be
 * there once the speaker's own packets were taken, so it is asked again as long as anything moves. */
static int work_input(struct session *session) {
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
        if (used == 0)
            return 0;
        session->rx_need = 1;
    }
}

static void set_receive_low(struct session *session, int bytes) {
    session->bulk = bytes > 1;
    (void)setsockopt(session->fd, SOL_SOCKET, SO_RCVLOWAT, &bytes, sizeof(bytes)); /* without it: more wake-ups */
}

/* While the peer sends in bulk, waking up for each segment costs more than the segment: the kernel is told to wait for
 * a good batch, and a timer ends that as soon as the peer pauses, so that the tail waits LIMIT_LULL_NS at most. */
static void moderate(struct session *session, size_t received) {
    uint64_t now = shard_now(session->shard);
    bool busy = received >= LIMIT_BULK_RECV_BYTES && now - session->last_input_ns < 4 * LIMIT_LULL_NS;
    session->bulk_streak = busy ? session->bulk_streak + 1 : 0;
    if (!session->bulk && session->bulk_streak >= LIMIT_BULK_STREAK)
        set_receive_low(session, LIMIT_RECV_LOW_BYTES);
    if (session->bulk)
        timer_arm(&session->shard->timers, &session->lull, now + LIMIT_LULL_NS);
}

static void on_lull(struct timer *timer) {
    struct session *session = list_entry(timer, struct session, lull);
    session->bulk_streak = 0;
    set_receive_low(session, 1);
}

static void on_recv(struct io_op *op, int32_t res) {
    struct session *session = list_entry(op, struct session, recv);
    if (res > 0)
        rxbuf_filled(&session->rx, (size_t)res);
    if (session->ending)
        return try_finish(session);
    if (res == -ECANCELED && session->quieting)
        return receive(session);
    if (res == 0)
        return fail(session, ERR_CLOSED);
    if (res < 0 && res != -EAGAIN && res != -EINTR)
        return fail(session, err_from_errno(-res));
    if (res > 0) {
        session->bytes_in += (uint64_t)res;
        moderate(session, (size_t)res);
        session->last_input_ns = shard_now(session->shard);
        session->alive_unanswered = 0;
    }
    int err = work_input(session);
    if (err != 0)
        return fail(session, err);
    receive(session);
    session_wake(session);
}

/* Moves the oldest slices out of the ring until there is room for `bytes`. ERR_AGAIN: their send is in flight. */
static int make_room(struct session *session, size_t bytes, uint8_t **data, size_t *len) {
    for (;;) {
        int err = rxbuf_space(&session->rx, bytes, data, len);
        if (err != ERR_FULL)
            return err;
        struct slice *oldest = rxbuf_oldest(&session->rx);
        CHECK(oldest != NULL); /* the ring holds two packets of the largest size */
        err = conn_spill(oldest->holder);
        if (err != 0)
            return err;
    }
}

static void receive(struct session *session) {
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
        io_poll(io, &session->readable, session->fd, POLLIN);
        return;
    }
    size_t have, len;
    uint8_t *data;
    (void)rxbuf_unparsed(&session->rx, &have);
    size_t min = session->rx_need > have ? session->rx_need - have : 1;
    if (min < LIMIT_RECV_MIN_BYTES)
        min = LIMIT_RECV_MIN_BYTES;
    int err = make_room(session, min, &data, &len);
    if (err != 0) { /* a send must complete first, or memory is short: nothing is lost, the peer waits */
        uint64_t pause_ns = err == ERR_AGAIN ? 0 : SECOND_NS / 100;
        timer_arm(&session->shard->timers, &session->rx_retry, shard_now(session->shard) + pause_ns);
        return;
    }
    if (len > LIMIT_RECV_BATCH_BYTES)
        len = LIMIT_RECV_BATCH_BYTES;
    session->recv_iov = (struct iovec){.iov_base = data, .iov_len = len};
    io_recv(io, &session->recv, session->fd, &session->recv_iov, 1);
    if (!timer_armed(&session->quiet))
        timer_arm(&session->shard->timers, &session->quiet, shard_now(session->shard) + LIMIT_QUIET_NS);
}

static void on_rx_retry(struct timer *timer) {
    receive(list_entry(timer, struct session, rx_retry));
}

static void on_readable(struct io_op *op, int32_t res) {
    struct session *session = list_entry(op, struct session, readable);
    (void)res; /* the receive tells what is wrong, if anything */
    if (session->ending)
        return try_finish(session);
    receive(session);
}

/* Nothing came for a while: the ring goes back to the shard and the socket is only watched. */
static void on_quiet(struct timer *timer) {
    struct session *session = list_entry(timer, struct session, quiet);
    uint64_t now = shard_now(session->shard), due = session->last_input_ns + LIMIT_QUIET_NS;
    if (now < due || rxbuf_oldest(&session->rx) != NULL) {
        timer_arm(&session->shard->timers, timer, due > now ? due : now + LIMIT_QUIET_NS);
        return;
    }
    if (!session->recv.in_flight)
        return;
    session->quieting = true;
    io_cancel(session->shard->io, &session->recv);
}

/* ---- sending ---- */

static bool batch_full(const struct send_batch *batch) {
    return batch->bytes >= LIMIT_SEND_BATCH_BYTES || batch->iov_count == LIMIT_SEND_BATCH_PACKETS ||
           LIMIT_CONTROL_BYTES - batch->control_len < LIMIT_CONTROL_PACKET_BYTES + WIRE_HEADER_BYTES + WIRE_TRAILER_MAX;
}

/* Appends sealed bytes; those right behind the last ones share their iovec. */
static void batch_add(struct send_batch *batch, uint8_t *bytes, size_t len) {
    struct iovec *last = batch->iov_count > 0 ? &batch->iov[batch->iov_count - 1] : NULL;
    if (last != NULL && (uint8_t *)last->iov_base + last->iov_len == bytes)
        last->iov_len += len;
    else
        batch->iov[batch->iov_count++] = (struct iovec){.iov_base = bytes, .iov_len = len};
    batch->bytes += len;
}

static int batch_speaker(struct session *session) {
    struct send_batch *batch = &session->batch;
    while (!batch_full(batch)) {
        uint8_t *at = batch->control + batch->control_len;
        int n = transport_output(session->transport, at, LIMIT_CONTROL_BYTES - batch->control_len);
        if (n <= 0)
            return n;
        batch->control_len += (uint32_t)n;
        batch_add(batch, at, (size_t)n);
    }
    return 0;
}

static int batch_control(struct session *session, const uint8_t *payload, uint32_t len) {
    struct send_batch *batch = &session->batch;
    uint8_t *at = batch->control + batch->control_len;
    if (payload != NULL)
        memcpy(at + WIRE_HEADER_BYTES, payload, len);
    int n = wire_seal(&session->transport->wire, at, len);
    if (n < 0)
        return n;
    batch->control_len += (uint32_t)n;
    batch_add(batch, at, (size_t)n);
    return 0;
}

static int batch_data(struct session *session, struct slot *slot) {
    struct send_batch *batch = &session->batch;
    uint8_t *at = slot->data - MUX_DATA_HEADER_BYTES - WIRE_HEADER_BYTES;
    slot_queue_push(&batch->slots, slot);
    int n = wire_seal(&session->transport->wire, at, slot->len + MUX_DATA_HEADER_BYTES);
    if (n < 0)
        return n;
    batch_add(batch, at, (size_t)n);
    return 0;
}

/* Takes packets from the mux and seals them, until the batch is full or nothing is left to say. */
static int batch_mux(struct session *session) {
    struct send_batch *batch = &session->batch;
    uint64_t now = shard_now(session->shard);
    while (!batch_full(batch) && transport_gate_open(session->transport)) {
        uint8_t *control = batch->control + batch->control_len + WIRE_HEADER_BYTES;
        uint32_t len;
        struct slot *slot;
        enum mux_kind kind = mux_next(&session->mux, now, control, LIMIT_CONTROL_PACKET_BYTES, &len, &slot);
        if (kind == MUX_NOTHING)
            return 0;
        int err = kind == MUX_CONTROL ? batch_control(session, NULL, len) : batch_data(session, slot);
        if (err != 0)
            return err;
    }
    return 0;
}

static int batch_disconnect(struct session *session) {
    uint8_t payload[256 + 13];
    size_t text = strnlen(session->end_reason, 255);
    uint32_t reason = session->end_err == 0         ? DISCONNECT_BY_APPLICATION
                      : session->end_err == ERR_TAG ? DISCONNECT_MAC_ERROR
                                                    : DISCONNECT_PROTOCOL_ERROR;
    memset(payload, 0, sizeof(payload));
    payload[0] = 1; /* SSH_MSG_DISCONNECT: code, description, language */
    payload[4] = (uint8_t)reason;
    payload[8] = (uint8_t)text;
    memcpy(payload + 9, session->end_reason, text);
    return batch_control(session, payload, (uint32_t)(9 + text + 4));
}

static int batch_build(struct session *session) {
    struct send_batch *batch = &session->batch;
    if (batch->control == NULL && (batch->control = malloc(LIMIT_CONTROL_BYTES)) == NULL)
        return ERR_NOMEM;
    batch->bytes = 0;
    batch->iov_count = 0;
    batch->control_len = 0;
    if (session->disconnect_due) {
        session->disconnect_due = false;
        return batch_disconnect(session);
    }
    int err = batch_speaker(session);
    return err != 0 ? err : batch_mux(session);
}

/* A rekey is due by volume (the wire counts) or by time. libssh wants a second between two of them. */
static void check_rekey(struct session *session) {
    struct wire *wire = &session->transport->wire;
    uint64_t now = shard_now(session->shard), interval = session->options.rekey_interval_ns;
    if (session->rekey_epoch != wire->out.epochs) {
        session->rekey_epoch = wire->out.epochs;
        session->rekeyed_ns = now;
    }
    bool by_time = interval != 0 && now >= session->rekeyed_ns + interval && !wire->kexing_out;
    if (!by_time && !wire_rekey_due(wire))
        return;
    if (now >= session->rekey_not_before_ns) {
        struct speaker *speaker = session->transport->speaker;
        int err = speaker->ops->rekey(speaker);
        if (err != 0 && err != ERR_AGAIN)
            return fail(session, err);
        session->rekey_not_before_ns = now + (err == 0 ? SECOND_NS : SECOND_NS / 10);
    }
    if (!timer_armed(&session->rekey))
        timer_arm(&session->shard->timers, &session->rekey, session->rekey_not_before_ns);
}

static void on_rekey(struct timer *timer) {
    struct session *session = list_entry(timer, struct session, rekey);
    uint64_t interval = session->options.rekey_interval_ns;
    if (interval != 0)
        timer_arm(&session->shard->timers, timer,
                  shard_now(session->shard) + (interval < SECOND_NS ? interval : SECOND_NS));
    session_wake(session);
}

static void flush_now(struct session *session) {
    if (session->send.in_flight)
        return;
    int err = batch_build(session);
    if (err != 0)
        return session->ending ? try_finish(session) : fail(session, err);
    struct send_batch *batch = &session->batch;
    if (batch->iov_count == 0)
        return session->ending ? try_finish(session) : (void)0;
    io_send(session->shard->io, &session->send, session->fd, batch->iov, batch->iov_count, IO_SEND_ALL);
}

static void on_flush(struct task *task) {
    struct session *session = list_entry(task, struct session, flush);
    if (session->ending && !session->disconnect_due)
        return;
    if (!session->ending)
        check_rekey(session);
    flush_now(session);
    /* The speaker's packets may have brought the keys that the input was waiting for. */
    if (session->work_again && !session->ending) {
        session->work_again = false;
        int err = work_input(session);
        if (err != 0)
            fail(session, err);
    }
}

static void batch_release(struct session *session) {
    struct slot *slot;
    while ((slot = slot_queue_pop(&session->batch.slots)) != NULL)
        slot_put(&session->shard->slots, slot);
}

static void on_send(struct io_op *op, int32_t res) {
    struct session *session = list_entry(op, struct session, send);
    batch_release(session);
    if (res > 0)
        session->bytes_out += (uint64_t)res;
    if (session->ending && !session->disconnect_due)
        return try_finish(session);
    if (res < 0 && !session->ending)
        return fail(session, err_from_errno(-res));
    session_wake(session);
}

void session_wake(struct session *session) {
    if (!session->ending || session->disconnect_due)
        shard_defer(session->shard, &session->flush);
}

/* ---- keepalive ---- */

static void on_alive_reply(void *arg, bool success, struct bytes data) {
    (void)arg, (void)success, (void)data; /* any answer is a sign of life; on_recv has counted it */
}

static void on_alive(struct timer *timer) {
    struct session *session = list_entry(timer, struct session, alive);
    uint64_t now = shard_now(session->shard), due = session->last_input_ns + session->options.alive_interval_ns;
    if (session->alive_unanswered == 0 && now < due) {
        timer_arm(&session->shard->timers, timer, due);
        return;
    }
    if (session->alive_unanswered >= session->options.alive_count_max)
        return session_end(session, ERR_TIMEOUT, "timeout, server not responding");
    session->alive_unanswered++;
    int err = mux_global_request(&session->mux, "keepalive@openssh.com", NULL, 0, on_alive_reply, session);
    if (err != 0)
        return fail(session, err);
    timer_arm(&session->shard->timers, timer, now + session->options.alive_interval_ns);
    session_wake(session);
}

/* ---- start and end ---- */

static void set_socket_options(int fd) {
    int one = 1, lowat = LIMIT_NOTSENT_BYTES;
    /* On a proxy's socketpair none of these exist; it works without. */
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &lowat, sizeof(lowat));
}

static uint32_t window_max(const struct session_options *options) {
    if (options->window_max != 0)
        return options->window_max;
    return transport_peer(options->transport) == PEER_LEATD ? LIMIT_WINDOW_LEATD_BYTES : LIMIT_WINDOW_OPENSSH_BYTES;
}

static void on_linger(struct timer *timer);
static void on_finish(struct task *task);

static void session_clear(struct session *session, struct shard *shard, const struct session_options *options) {
    *session = (struct session){.shard = shard,
                                .transport = options->transport,
                                .owner = options->owner,
                                .fd = options->fd,
                                .options = *options,
                                .rx_need = 1,
                                .last_input_ns = shard_now(shard)};
    list_init(&session->relays);
    io_op_init(&session->recv, on_recv);
    io_op_init(&session->send, on_send);
    io_op_init(&session->readable, on_readable);
    task_init(&session->flush, on_flush);
    task_init(&session->finish, on_finish);
    slot_queue_init(&session->batch.slots);
    rxbuf_init(&session->rx, &shard->rings);
    session->rx_retry.on_timer = on_rx_retry;
    session->quiet.on_timer = on_quiet;
    session->lull.on_timer = on_lull;
    session->alive.on_timer = on_alive;
    session->rekey.on_timer = on_rekey;
    session->linger.on_timer = on_linger;
    session->rekeyed_ns = shard_now(shard);
}

static int take_early(struct session *session, const uint8_t *early, size_t len) {
    uint8_t *data;
    size_t space;
    if (len == 0)
        return 0;
    int err = rxbuf_space(&session->rx, len, &data, &space);
    if (err != 0)
        return err;
    memcpy(data, early, len);
    rxbuf_filled(&session->rx, len);
    return 0;
}

int session_start(struct session *session, struct shard *shard, const struct session_options *options) {
    session_clear(session, shard, options);
    session->batch.iov = calloc(LIMIT_SEND_BATCH_PACKETS, sizeof(struct iovec));
    if (session->batch.iov == NULL)
        return ERR_NOMEM;
    int err = take_early(session, options->early, options->early_len);
    if (err == 0)
        err = mux_init(&session->mux, options->mux_ops, session, &shard->slots, options->budget, window_max(options));
    if (err != 0) {
        rxbuf_deinit(&session->rx);
        free(session->batch.iov);
        return err;
    }
    set_socket_options(session->fd);
    options->transport->on_packet = on_packet;
    options->transport->arg = session;
    uint64_t now = shard_now(shard);
    if (options->alive_interval_ns != 0)
        timer_arm(&shard->timers, &session->alive, now + options->alive_interval_ns);
    if (options->rekey_interval_ns != 0)
        timer_arm(&shard->timers, &session->rekey, now + options->rekey_interval_ns);
    /* What came early is worked on like a receive of this turn. */
    timer_arm(&shard->timers, &session->rx_retry, now);
    session->work_again = true;
    session_wake(session);
    return 0;
}

static void cancel_timers(struct session *session) {
    struct timers *timers = &session->shard->timers;
    timer_cancel(timers, &session->rx_retry);
    timer_cancel(timers, &session->quiet);
    timer_cancel(timers, &session->lull);
    timer_cancel(timers, &session->alive);
    timer_cancel(timers, &session->rekey);
    timer_cancel(timers, &session->linger);
}

/* Nothing is in flight and nobody holds a slice: the last task of a session. */
static void on_finish(struct task *task) {
    struct session *session = list_entry(task, struct session, finish);
    cancel_timers(session);
    shard_undefer(&session->flush);
    io_close(session->shard->io, session->fd, IO_CLOSE);
    session->fd = -1;
    batch_release(session);
    free(session->batch.control);
    free(session->batch.iov);
    rxbuf_deinit(&session->rx);
    mux_deinit(&session->mux);
    session->options.on_ended(session, session->end_err, session->end_reason);
}

static void try_finish(struct session *session) {
    bool busy = session->recv.in_flight || session->send.in_flight || session->readable.in_flight;
    if (session->ending && !busy && !session->disconnect_due && session->relays_count == 0)
        shard_defer(session->shard, &session->finish);
}

void session_relay_gone(struct session *session) {
    CHECK(session->relays_count > 0);
    session->relays_count--;
    try_finish(session);
}

static void on_linger(struct timer *timer) {
    struct session *session = list_entry(timer, struct session, linger);
    session->disconnect_due = false;
    io_cancel(session->shard->io, &session->send);
    try_finish(session);
}

void session_end(struct session *session, int err, const char *reason) {
    if (session->ending)
        return;
    session->ending = true;
    session->end_err = err;
    if (reason != session->end_reason)
        snprintf(session->end_reason, sizeof(session->end_reason), "%s", reason);
    cancel_timers(session);
    bool socket_works = err != ERR_CLOSED && err != ERR_RESET && err != ERR_TIMEOUT;
    session->disconnect_due = socket_works && session->transport->wire.out.state == WIRE_SEALED;
    io_cancel(session->shard->io, &session->recv);
    io_cancel(session->shard->io, &session->readable);
    if (!session->disconnect_due)
        io_cancel(session->shard->io, &session->send);
    timer_arm(&session->shard->timers, &session->linger, shard_now(session->shard) + LIMIT_LINGER_NS);
    mux_shutdown(&session->mux);
    shard_defer(session->shard, &session->flush);
    try_finish(session);
}
