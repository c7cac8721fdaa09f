/* What the peer says: every message of RFC 4254, checked before anything changes. Strict where a byte could be lost or
 * a window exceeded; lenient where OpenSSH is, because its own messages cross with a CLOSE: WINDOW_ADJUST,
 * CHANNEL_REQUEST and the answers to requests for a channel that is gone are passed over. */
#include "engine/check.h"
#include "engine/limits.h"
#include "engine/log.h"
#include "ssh/mux_internal.h"
#include <stdlib.h>
#include <string.h>

static int fault(const char **why, const char *text) {
    *why = text;
    return ERR_PROTOCOL;
}

/* The flow of a channel number that the peer can know, or NULL. */
static struct flow *find_flow(struct mux *mux, uint32_t id) {
    struct flow *flow = id < mux->flows_size ? mux->flows[id] : NULL;
    return flow && flow->announced ? flow : NULL;
}

/* Counts payload of DATA and EXTENDED_DATA against what we have allowed. */
static int account(struct mux *mux, struct flow *flow, uint32_t len, uint64_t now_ns, const char **why) {
    if (flow->phase == FLOW_OPENING || flow->eof_received || flow->life == LIFE_CLOSE_ANSWER)
        return fault(why, "data on a channel that is not open");
    if (len > mux->packet_max)
        return fault(why, "data longer than our maximum packet size");
    if (window_receive(&flow->window, len, now_ns) < 0)
        return fault(why, "data exceeds the channel's window");
    return 0;
}

static int input_data(struct mux *mux, uint8_t *payload, uint32_t len, uint64_t now_ns, const char **why) {
    if (len < MUX_DATA_HEADER_BYTES || codec_get_u32(payload + 5) != len - MUX_DATA_HEADER_BYTES)
        return fault(why, "malformed CHANNEL_DATA");
    struct flow *flow = find_flow(mux, codec_get_u32(payload + 1));
    if (!flow)
        return fault(why, "CHANNEL_DATA for an unknown channel");
    uint32_t bytes = len - MUX_DATA_HEADER_BYTES;
    int result = account(mux, flow, bytes, now_ns, why);
    if (result < 0 || bytes == 0)
        return result;
    if (flow->phase != FLOW_OPEN) { /* nobody takes it */
        window_consume(&flow->window, bytes);
        return 0;
    }
    flow->bytes_from_peer += bytes;
    mux->sparse_packets += pace_move(&flow->pace, bytes, now_ns);
    flow->ops->on_data(flow, payload + MUX_DATA_HEADER_BYTES, bytes);
    return 0;
}

/* stderr of a session, which a forward has none of: counted and dropped. */
static int input_extended_data(struct mux *mux, struct reader *reader, uint64_t now_ns, const char **why) {
    struct flow *flow = find_flow(mux, reader_u32(reader));
    reader_u32(reader);
    struct bytes data = reader_string(reader);
    if (!reader_done(reader))
        return fault(why, "malformed CHANNEL_EXTENDED_DATA");
    if (!flow)
        return fault(why, "CHANNEL_EXTENDED_DATA for an unknown channel");
    int result = account(mux, flow, data.len, now_ns, why);
    if (result == 0)
        flow_consumed(flow, data.len);
    return result;
}

static int input_adjust(struct mux *mux, struct reader *reader, const char **why) {
    struct flow *flow = find_flow(mux, reader_u32(reader));
    uint32_t bytes = reader_u32(reader);
    if (!reader_done(reader))
        return fault(why, "malformed CHANNEL_WINDOW_ADJUST");
    if (!flow || flow->phase >= FLOW_CLOSING)
        return 0;
    if (flow->phase == FLOW_OPENING)
        return fault(why, "CHANNEL_WINDOW_ADJUST before the channel is open");
    if (flow->peer_window + flow->queue.bytes + bytes > UINT32_MAX)
        return fault(why, "CHANNEL_WINDOW_ADJUST beyond 2^32 - 1");
    flow->peer_window += bytes;
    flow_check_room(flow);
    return 0;
}

static int input_eof(struct mux *mux, struct reader *reader, const char **why) {
    struct flow *flow = find_flow(mux, reader_u32(reader));
    if (!reader_done(reader))
        return fault(why, "malformed CHANNEL_EOF");
    if (!flow)
        return fault(why, "CHANNEL_EOF for an unknown channel");
    if (flow->phase == FLOW_OPENING || flow->eof_received || flow->life == LIFE_CLOSE_ANSWER)
        return fault(why, "CHANNEL_EOF on a channel that is not open");
    flow->eof_received = true;
    if (flow->phase != FLOW_OPEN)
        return 0;
    flow->out = flow_half_step(flow->out, HALF_BEGIN);
    flow->adjust_due = false; /* nothing will come that needs a window */
    flow_touch(flow);
    flow->ops->on_eof(flow);
    return 0;
}

static int input_close(struct mux *mux, struct reader *reader, const char **why) {
    struct flow *flow = find_flow(mux, reader_u32(reader));
    if (!reader_done(reader))
        return fault(why, "malformed CHANNEL_CLOSE");
    if (!flow)
        return fault(why, "CHANNEL_CLOSE for an unknown channel");
    if (flow_event(flow, EVENT_CLOSE, NULL) < 0)
        return fault(why, "CHANNEL_CLOSE on a channel that is not open");
    return 0;
}

/* The answer is owed before the owner is asked, so that nobody acts on a request that goes unanswered. The owner may
 * end the flow, and even the session, from within. */
static int answer_request(struct mux *mux, struct flow *flow, struct bytes name, bool want_reply, struct bytes data,
                          const char **why) {
    uint32_t id = flow->id;
    int result = want_reply ? flow_owe_answer(flow) : 0;
    if (result < 0) {
        *why = result == ERR_LIMIT ? "too many channel requests without reading the answers" : "out of memory";
        return result;
    }
    bool yes = flow->ops->on_request && flow->ops->on_request(flow, name, data);
    flow = find_flow(mux, id);
    if (yes && want_reply && flow && flow->phase == FLOW_OPEN)
        flow_answer_success(flow);
    return 0;
}

static int input_request(struct mux *mux, struct reader *reader, const char **why) {
    struct flow *flow = find_flow(mux, reader_u32(reader));
    struct bytes name = reader_string(reader);
    bool want_reply = reader_bool(reader);
    struct bytes data = reader_rest(reader);
    if (!reader_ok(reader))
        return fault(why, "malformed CHANNEL_REQUEST");
    if (flow && flow->phase == FLOW_OPENING)
        return fault(why, "CHANNEL_REQUEST before the channel is open");
    if (!flow || flow->phase != FLOW_OPEN)
        return 0;
    return answer_request(mux, flow, name, want_reply, data, why);
}

static int input_request_answer(struct reader *reader, const char **why) {
    reader_u32(reader);
    return reader_done(reader) ? 0 : fault(why, "malformed answer to a channel request");
}

static void set_peer_limits(struct flow *flow, uint32_t window, uint32_t packet_max) {
    uint32_t ours = flow->slots->payload_max;
    if (ours > LIMIT_CHANNEL_PACKET_BYTES)
        ours = LIMIT_CHANNEL_PACKET_BYTES;
    flow->peer_window = window;
    flow->peer_packet_max = packet_max < ours ? packet_max : ours;
}

static int input_confirmation(struct mux *mux, struct reader *reader, const char **why) {
    struct flow *flow = find_flow(mux, reader_u32(reader));
    uint32_t peer_id = reader_u32(reader), window = reader_u32(reader), packet_max = reader_u32(reader);
    if (!reader_ok(reader) || packet_max == 0)
        return fault(why, "malformed CHANNEL_OPEN_CONFIRMATION");
    if (!flow || flow->phase != FLOW_OPENING)
        return fault(why, "CHANNEL_OPEN_CONFIRMATION without a CHANNEL_OPEN");
    flow->peer_id = peer_id;
    set_peer_limits(flow, window, packet_max);
    flow->eof_due = flow->in == FLOW_HALF_DRAINING; /* the app ended before it could say anything */
    return flow_event(flow, EVENT_CONFIRMED, NULL);
}

static int input_failure(struct mux *mux, struct reader *reader, const char **why) {
    struct flow *flow = find_flow(mux, reader_u32(reader));
    uint32_t reason = reader_u32(reader);
    struct bytes text = reader_string(reader);
    if (reader_left(reader) > 0) /* old implementations leave the language tag out */
        reader_string(reader);
    if (!reader_done(reader))
        return fault(why, "malformed CHANNEL_OPEN_FAILURE");
    if (!flow || flow->phase != FLOW_OPENING)
        return fault(why, "CHANNEL_OPEN_FAILURE without a CHANNEL_OPEN");
    char escaped[REFUSAL_TEXT_BYTES];
    flow->refusal_reason = reason;
    return flow_event(flow, EVENT_REFUSED, log_safe(escaped, sizeof escaped, text.at, text.len));
}

static int refuse_open(struct mux *mux, uint32_t peer_id, uint32_t reason, const char *text, const char **why) {
    uint8_t packet[REFUSAL_TEXT_BYTES + 32];
    struct writer writer;
    writer_init(&writer, packet, sizeof packet);
    writer_u8(&writer, MSG_CHANNEL_OPEN_FAILURE);
    writer_u32(&writer, peer_id);
    writer_u32(&writer, reason);
    writer_string(&writer, text, strnlen(text, REFUSAL_TEXT_BYTES));
    writer_text(&writer, "");
    int result = mux_answer(mux, &writer);
    if (result < 0)
        *why = "too many channel opens without reading the answers";
    return result;
}

struct open_fields {
    struct mux_open open;
    uint32_t peer_id, window, packet_max;
};

static enum mux_open_kind open_kind(struct bytes type) {
    static const char *const types[] = {
        [MUX_OPEN_SESSION] = "session",
        [MUX_OPEN_DIRECT_TCPIP] = "direct-tcpip",
        [MUX_OPEN_FORWARDED_TCPIP] = "forwarded-tcpip",
        [MUX_OPEN_DIRECT_STREAMLOCAL] = "direct-streamlocal@openssh.com",
        [MUX_OPEN_FORWARDED_STREAMLOCAL] = "forwarded-streamlocal@openssh.com",
        [MUX_OPEN_STRIPE] = "stripe@leat",
        [MUX_OPEN_STRIPE_JOIN] = "stripe-join@leat",
    };
    for (unsigned kind = MUX_OPEN_SESSION; kind < sizeof types / sizeof *types; kind++)
        if (bytes_equal(type, types[kind]))
            return (enum mux_open_kind)kind;
    return MUX_OPEN_OTHER;
}

/* Names become C strings further on: one with a NUL would be checked as one thing and used as another. */
static struct bytes read_name(struct reader *reader) {
    struct bytes name = reader_string(reader);
    if (name.len > 0 && memchr(name.at, 0, name.len))
        reader->bad = true;
    return name;
}

static const uint8_t *read_stripe_key(struct reader *reader) {
    struct bytes key = reader_string(reader);
    if (key.len == MUX_STRIPE_KEY_BYTES)
        return key.at;
    reader->bad = true;
    return NULL;
}

static void parse_tcpip(struct reader *reader, struct mux_open *open) {
    open->host = read_name(reader);
    open->port = reader_u32(reader);
    open->origin = read_name(reader);
    open->origin_port = reader_u32(reader);
}

static void parse_open_data(struct reader *reader, struct mux_open *open) {
    switch (open->kind) {
    case MUX_OPEN_SESSION:
        break;
    case MUX_OPEN_DIRECT_TCPIP:
    case MUX_OPEN_FORWARDED_TCPIP:
        parse_tcpip(reader, open);
        break;
    case MUX_OPEN_STRIPE:
        parse_tcpip(reader, open);
        open->stripe_key = read_stripe_key(reader);
        break;
    case MUX_OPEN_STRIPE_JOIN:
        open->stripe_key = read_stripe_key(reader);
        open->stripe_lane = reader_u32(reader);
        break;
    case MUX_OPEN_DIRECT_STREAMLOCAL:
        open->host = read_name(reader);
        reader_string(reader); /* reserved, as the next two */
        reader_u32(reader);
        break;
    case MUX_OPEN_FORWARDED_STREAMLOCAL:
        open->host = read_name(reader);
        reader_string(reader);
        break;
    default:
        reader_rest(reader);
    }
}

static bool parse_open(struct reader *reader, struct open_fields *fields) {
    struct mux_open *open = &fields->open;
    *open = (struct mux_open){.type = reader_string(reader)};
    fields->peer_id = reader_u32(reader);
    fields->window = reader_u32(reader);
    fields->packet_max = reader_u32(reader);
    open->kind = open_kind(open->type);
    parse_open_data(reader, open);
    return reader_done(reader);
}

/* Number and window are there before the owner is asked, so that its yes holds. */
static int ask_owner(struct mux *mux, const struct open_fields *fields, uint32_t id, struct window *window,
                     const char **why) {
    uint32_t reason = OPEN_ADMINISTRATIVELY_PROHIBITED;
    const char *text = "";
    struct flow *flow = mux->ops->on_open(mux, &fields->open, &reason, &text);
    if (!flow) {
        window_close(window);
        mux_put_number(mux, id);
        return refuse_open(mux, fields->peer_id, reason, text, why);
    }
    flow->window = *window;
    mux_attach(mux, flow, id);
    flow->peer_id = fields->peer_id;
    set_peer_limits(flow, fields->window, fields->packet_max);
    flow_touch(flow);
    flow_check_room(flow);
    return 0;
}

/* The peer is told what there is too little of, and people here which limit of ours that is. */
static int refuse_short(struct mux *mux, const struct open_fields *fields, const char *text, const char *limit,
                        const char **why) {
    if (mux->ops->on_shortage)
        mux->ops->on_shortage(mux, &fields->open, limit);
    return refuse_open(mux, fields->peer_id, OPEN_RESOURCE_SHORTAGE, text, why);
}

static int input_open(struct mux *mux, struct reader *reader, const char **why) {
    struct open_fields fields;
    if (!parse_open(reader, &fields) || fields.packet_max == 0)
        return fault(why, "malformed CHANNEL_OPEN");
    uint32_t id;
    if (mux_take_number(mux, &id) < 0)
        return refuse_short(mux, &fields, "too many channels", "too many channels", why);
    struct window window;
    if (mux_take_window(mux, &window) < 0) {
        const char *text = "out of window memory";
        char limit[MUX_SHORTAGE_BYTES];
        mux_put_number(mux, id);
        return refuse_short(mux, &fields, text, mux_lacks_window(mux, limit) ? limit : text, why);
    }
    return ask_owner(mux, &fields, id, &window, why);
}

static int input_global(struct mux *mux, struct reader *reader, const char **why) {
    struct bytes name = reader_string(reader);
    bool want_reply = reader_bool(reader);
    struct bytes data = reader_rest(reader);
    if (!reader_ok(reader))
        return fault(why, "malformed GLOBAL_REQUEST");
    uint8_t reply[MUX_REPLY_BYTES];
    uint32_t reply_len = 0;
    bool yes = mux->ops->on_global(mux, name, data, reply, &reply_len);
    if (!want_reply)
        return 0;
    CHECK(reply_len <= sizeof reply);
    uint8_t packet[MUX_REPLY_BYTES + 1];
    struct writer writer;
    writer_init(&writer, packet, sizeof packet);
    writer_u8(&writer, yes ? MSG_REQUEST_SUCCESS : MSG_REQUEST_FAILURE);
    if (yes)
        writer_raw(&writer, reply, reply_len);
    int result = mux_answer(mux, &writer);
    if (result < 0)
        *why = "too many global requests without reading the answers";
    return result;
}

static int input_reply(struct mux *mux, bool success, struct reader *reader, const char **why) {
    struct list *node = list_first(&mux->replies_pending);
    if (!node)
        return fault(why, "answer to a global request that was not made");
    struct mux_reply reply = *list_entry(node, struct mux_reply, node);
    list_remove(node);
    free(list_entry(node, struct mux_reply, node));
    mux->replies_pending_count--;
    reply.fn(reply.arg, success, reader_rest(reader));
    return 0;
}

int mux_input(struct mux *mux, uint8_t *payload, uint32_t len, uint64_t now_ns, const char **why) {
    *why = "";
    if (len == 0)
        return fault(why, "empty packet");
    if (payload[0] == MSG_CHANNEL_DATA)
        return input_data(mux, payload, len, now_ns, why);
    struct reader reader;
    reader_init(&reader, payload + 1, len - 1);
    switch (payload[0]) {
    case MSG_CHANNEL_WINDOW_ADJUST:
        return input_adjust(mux, &reader, why);
    case MSG_CHANNEL_EOF:
        return input_eof(mux, &reader, why);
    case MSG_CHANNEL_CLOSE:
        return input_close(mux, &reader, why);
    case MSG_CHANNEL_OPEN:
        return input_open(mux, &reader, why);
    case MSG_CHANNEL_OPEN_CONFIRMATION:
        return input_confirmation(mux, &reader, why);
    case MSG_CHANNEL_OPEN_FAILURE:
        return input_failure(mux, &reader, why);
    case MSG_CHANNEL_EXTENDED_DATA:
        return input_extended_data(mux, &reader, now_ns, why);
    case MSG_CHANNEL_REQUEST:
        return input_request(mux, &reader, why);
    case MSG_CHANNEL_SUCCESS:
    case MSG_CHANNEL_FAILURE:
        return input_request_answer(&reader, why);
    case MSG_GLOBAL_REQUEST:
        return input_global(mux, &reader, why);
    case MSG_REQUEST_SUCCESS:
    case MSG_REQUEST_FAILURE:
        return input_reply(mux, payload[0] == MSG_REQUEST_SUCCESS, &reader, why);
    default:
        log_debug("message %u of the peer is unknown", payload[0]);
        return ERR_UNSUPPORTED;
    }
}
