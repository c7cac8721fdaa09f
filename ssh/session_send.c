/* The way out: what the speaker and the mux have to say, sealed only when the socket can take it, one send at a time.
 */
#include "engine/check.h"
#include "engine/limits.h"
#include "ssh/codec.h"
#include "ssh/messages.h"
#include "ssh/relay.h"
#include "ssh/session_internal.h"
#include <stdlib.h>
#include <string.h>

enum { DISCONNECT_PROTOCOL_ERROR = 2, DISCONNECT_MAC_ERROR = 5, DISCONNECT_BY_APPLICATION = 11 }; /* RFC 4253 §11.1 */

static bool batch_full(const struct session *session) {
    const struct send_batch *batch = &session->batch;
    return batch->bytes >= session_sizes(session)->send_bytes || batch->iov_count == LIMIT_SEND_BATCH_PACKETS ||
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
    while (!batch_full(session)) {
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
    while (!batch_full(session) && transport_gate_open(session->transport)) {
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
    struct writer writer;
    writer_init(&writer, payload, sizeof(payload));
    writer_u8(&writer, MSG_DISCONNECT);
    writer_u32(&writer, reason);
    writer_string(&writer, session->end_reason, text);
    writer_text(&writer, ""); /* language */
    CHECK(writer_ok(&writer));
    return batch_control(session, payload, (uint32_t)(writer.at - writer.start));
}

static int batch_build(struct session *session) {
    struct send_batch *batch = &session->batch;
    if (batch->iov == NULL && (batch->iov = calloc(LIMIT_SEND_BATCH_PACKETS, sizeof(*batch->iov))) == NULL)
        return ERR_NOMEM;
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

/* A rekey is due by volume (the wire counts) or by time (RekeyLimit's second value). */
static bool rekey_due(struct session *session, uint64_t now) {
    const struct wire *wire = &session->transport->wire;
    uint64_t interval = session->options.rekey_interval_ns;
    if (session->rekey_epoch != wire->out.epochs) {
        session->rekey_epoch = wire->out.epochs;
        session->rekeyed_ns = now;
    }
    return wire_rekey_due(wire) || (interval != 0 && now >= session->rekeyed_ns + interval && !wire->kexing_out);
}

static void check_rekey(struct session *session) {
    struct speaker *speaker = session->transport->speaker;
    uint64_t now = shard_now(session->shard), interval = session->options.rekey_interval_ns;
    bool due = rekey_due(session, now);
    if (due && now >= session->rekey_not_before_ns) {
        int err = speaker->ops->rekey(speaker);
        if (err != 0 && err != ERR_AGAIN)
            return session_fail(session, err);
        session->rekey_not_before_ns = now + LIMIT_REKEY_RETRY_NS;
    }
    if (timer_armed(&session->rekey) || (!due && interval == 0))
        return;
    uint64_t next = due ? session->rekey_not_before_ns : session->rekeyed_ns + interval;
    timer_arm(&session->shard->timers, &session->rekey, next > now ? next : now + LIMIT_REKEY_RETRY_NS);
}

static void on_rekey(struct timer *timer) {
    session_wake(list_entry(timer, struct session, rekey));
}

static void flush_now(struct session *session) {
    if (session->send.in_flight)
        return;
    int err = batch_build(session);
    if (err != 0)
        return session->ending ? session_try_finish(session) : session_fail(session, err);
    struct send_batch *batch = &session->batch;
    if (batch->iov_count == 0)
        return session->ending ? session_try_finish(session) : (void)0;
    io_send(session->shard->io, &session->send, session->fd, batch->iov, batch->iov_count, IO_SEND_ALL);
}

/* The speaker has been heard: it may have brought the keys, or made the room, that the input was waiting for. If not,
 * the send that is in flight comes back here. */
static void work_again(struct session *session) {
    size_t before, after;
    (void)rxbuf_unparsed(&session->rx, &before);
    session->work_again = false;
    int err = session_work_input(session);
    if (err != 0)
        return session_fail(session, err);
    (void)rxbuf_unparsed(&session->rx, &after);
    session_receive(session);
    if (after != before)
        session_wake(session);
}

uint32_t session_slots_left(const struct session *session) {
    uint32_t held = session->mux.queued_slots + session->batch.slots.count;
    uint32_t unused = session->shard->slots.free_count;
    if (held == 0)
        return unused > 0 ? unused : 1;
    return held < unused ? unused - held : 0;
}

static void on_flush(struct task *task) {
    struct session *session = list_entry(task, struct session, flush);
    if (session->ending && !session->disconnect_due)
        return;
    if (!session->ending)
        check_rekey(session);
    session_tempo_update(session);
    flush_now(session);
    if (session->work_again && !session->ending)
        work_again(session);
    relay_feed(session);
    session_lend_ring(session);
}

static void batch_release(struct session *session) {
    struct slot *slot;
    while ((slot = slot_queue_pop(&session->batch.slots)) != NULL)
        slot_put(&session->shard->slots, slot);
}

static void on_send(struct io_op *op, int32_t res) {
    struct session *session = list_entry(op, struct session, send);
    batch_release(session);
    if (res > 0) {
        session->bytes_out += (uint64_t)res;
        session_path_sent(session);
    }
    if (session->ending && !session->disconnect_due)
        return session_try_finish(session);
    if (res < 0 && !session->ending)
        return session_fail(session, err_from_errno(-res));
    session_wake(session);
}

void session_wake(struct session *session) {
    if (!session->ending || session->disconnect_due)
        shard_defer(session->shard, &session->flush);
}

void session_send_init(struct session *session) {
    io_op_init(&session->send, on_send);
    task_init(&session->flush, on_flush);
    slot_queue_init(&session->batch.slots);
    session->rekey.on_timer = on_rekey;
    session->rekeyed_ns = shard_now(session->shard);
}

void session_send_stop(struct session *session) {
    timer_cancel(&session->shard->timers, &session->rekey);
    if (!session->disconnect_due)
        io_cancel(session->shard->io, &session->send);
}

void session_send_release(struct session *session) {
    shard_undefer(&session->flush);
    batch_release(session);
    free(session->batch.control);
    free(session->batch.iov);
}
