/* What the mux has to say: session-level messages in their order, then the flows' control messages, each built only
 * now, then data as the scheduler gives it. */
#include "engine/check.h"
#include "engine/limits.h"
#include "ssh/mux_internal.h"
#include <stdlib.h>
#include <string.h>

static uint32_t take_blob(struct mux *mux, uint8_t *out, uint32_t cap) {
    struct mux_blob *blob = mux_pop_blob(mux);
    uint32_t len = blob->len;
    CHECK(len <= cap);
    memcpy(out, blob->bytes, len);
    if (blob->reply)
        list_push_back(&mux->replies_pending, &blob->reply->node);
    free(blob);
    return len;
}

static void put_open(struct flow *flow, struct writer *writer) {
    writer_raw(writer, flow->text->bytes, flow->text->len);
    flow_clear_text(flow);
    flow->open_due = false;
    flow->announced = true;
}

static void put_confirm(struct flow *flow, struct writer *writer) {
    writer_u8(writer, MSG_CHANNEL_OPEN_CONFIRMATION);
    writer_u32(writer, flow->peer_id);
    writer_u32(writer, flow->id);
    writer_u32(writer, flow->window.granted);
    writer_u32(writer, flow->mux->packet_max);
    flow->confirm_due = false;
    flow->announced = true;
}

static void put_refusal(struct flow *flow, struct writer *writer) {
    writer_u8(writer, MSG_CHANNEL_OPEN_FAILURE);
    writer_u32(writer, flow->peer_id);
    writer_u32(writer, flow->refusal_reason);
    writer_string(writer, flow->text ? flow->text->bytes : NULL, flow->text ? flow->text->len : 0);
    writer_text(writer, "");
    flow->refusal_due = false;
}

static void put_answer(struct flow *flow, struct writer *writer) {
    writer_u8(writer, flow_take_answer(flow) ? MSG_CHANNEL_SUCCESS : MSG_CHANNEL_FAILURE);
    writer_u32(writer, flow->peer_id);
}

static void put_adjust(struct flow *flow, struct writer *writer, uint64_t now_ns) {
    uint32_t bytes = window_grant_within(&flow->window, flow->mux->grant_most, now_ns);
    flow->adjust_due = false;
    if (bytes == 0) /* no more than it has, by now */
        return;
    writer_u8(writer, MSG_CHANNEL_WINDOW_ADJUST);
    writer_u32(writer, flow->peer_id);
    writer_u32(writer, bytes);
}

static void put_request(struct flow *flow, struct writer *writer) {
    writer_raw(writer, flow->text->bytes, flow->text->len);
    flow_clear_text(flow);
    flow->request_due = false;
}

static void put_eof(struct flow *flow, struct writer *writer) {
    writer_u8(writer, MSG_CHANNEL_EOF);
    writer_u32(writer, flow->peer_id);
    flow->eof_due = false;
}

static void put_close(struct flow *flow, struct writer *writer) {
    writer_u8(writer, MSG_CHANNEL_CLOSE);
    writer_u32(writer, flow->peer_id);
    flow->close_due = false;
}

static void sent(struct flow *flow, enum flow_event event) {
    int result = flow_event(flow, event, NULL);
    CHECK(result == 0);
}

/* The flow's first message in order; the flow may be gone afterwards. */
static void put_first(struct flow *flow, struct writer *writer, uint64_t now_ns) {
    if (flow->open_due && flow->life == LIFE_OPENING_ABORTED) {
        sent(flow, EVENT_REFUSED); /* never asked: as if the peer had refused */
    } else if (flow->open_due) {
        put_open(flow, writer);
        flow_touch(flow);
    } else if (flow->confirm_due) {
        put_confirm(flow, writer);
        flow_touch(flow);
    } else if (flow->refusal_due) {
        put_refusal(flow, writer);
        sent(flow, EVENT_REFUSAL_SENT);
    } else if (flow->answers) {
        put_answer(flow, writer);
        flow_touch(flow);
    } else if (flow->adjust_due) {
        put_adjust(flow, writer, now_ns);
        flow_touch(flow);
    } else if (flow->request_due) {
        put_request(flow, writer);
        flow_touch(flow);
    } else if (flow->eof_due) {
        put_eof(flow, writer);
        flow_eof_sent(flow);
    } else {
        put_close(flow, writer);
        sent(flow, EVENT_CLOSE_SENT);
    }
}

static uint32_t take_control(struct mux *mux, uint64_t now_ns, uint8_t *out, uint32_t cap) {
    struct list *node;
    while ((node = list_first(&mux->control))) {
        struct writer writer;
        writer_init(&writer, out, cap);
        list_remove(node); /* to the end of the list when more is due: flows take turns */
        put_first(list_entry(node, struct flow, control), &writer, now_ns);
        CHECK(writer_ok(&writer));
        if (writer_len(&writer) > 0)
            return writer_len(&writer);
    }
    return 0;
}

/* Ends with a callback: the flow may have changed afterwards. */
static struct slot *take_data(struct mux *mux, uint64_t now_ns) {
    struct flow *flow;
    struct slot *slot = scheduler_next(mux, &flow);
    if (!slot)
        return NULL;
    uint8_t *header = slot->data - MUX_DATA_HEADER_BYTES;
    header[0] = MSG_CHANNEL_DATA;
    codec_put_u32(header + 1, flow->peer_id);
    codec_put_u32(header + 5, slot->len);
    mux->queued_bytes -= slot->len;
    mux->queued_slots--;
    flow->bytes_to_peer += slot->len;
    mux->sparse_packets += pace_move(&flow->pace, slot->len, now_ns);
    if (flow->queue.count == 0) {
        mux->flows_queued--;
        flow_check_tail(flow);
    }
    if (flow->room_wanted)
        flow_check_room(flow);
    return slot;
}

enum mux_kind mux_next(struct mux *mux, uint64_t now_ns, uint8_t *control, uint32_t cap, uint32_t *len,
                       struct slot **slot) {
    CHECK(cap >= MUX_CONTROL_BYTES);
    if (mux->blobs_first) {
        *len = take_blob(mux, control, cap);
        return MUX_CONTROL;
    }
    if (!list_empty(&mux->control) && (*len = take_control(mux, now_ns, control, cap)) > 0)
        return MUX_CONTROL;
    if (mux->queued_bytes == 0)
        return MUX_NOTHING;
    *slot = take_data(mux, now_ns);
    return MUX_DATA;
}

bool mux_pending(const struct mux *mux) {
    return mux->blobs_first || !list_empty(&mux->control) || mux->queued_bytes > 0;
}
