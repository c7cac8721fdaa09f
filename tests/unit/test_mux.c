/* Message by message: what is sent is what RFC 4254 says, what comes in does what it should, and every limit holds. */
#include "mux_rig.h"

static struct rig rig;
static struct probe probe, other;

Test(mux, open_direct_on_the_wire) {
    rig_init(&rig);
    cr_assert_eq(mux_open_direct(&rig.mux, &probe.flow, &probe_ops, &probe, "web.lan", 80, "::1", 50123), 0);
    rig_expect(&rig, MSG_CHANNEL_OPEN);
    struct reader reader;
    reader_init(&reader, rig.out + 1, rig.out_len - 1);
    rig_text(&reader, "direct-tcpip");
    cr_assert_eq(reader_u32(&reader), probe.flow.id);
    cr_assert_eq(reader_u32(&reader), LIMIT_WINDOW_START_BYTES);
    cr_assert_eq(reader_u32(&reader), LIMIT_CHANNEL_PACKET_BYTES);
    rig_text(&reader, "web.lan");
    cr_assert_eq(reader_u32(&reader), 80);
    rig_text(&reader, "::1");
    cr_assert_eq(reader_u32(&reader), 50123);
    cr_assert(reader_done(&reader));
    rig_deinit(&rig);
    cr_assert_eq(probe.refused, 1, "the session ended while opening");
    cr_assert_eq(probe.closed, 0);
    cr_assert_str_eq(probe.text, "session closed");
}

Test(mux, data_on_the_wire) {
    rig_init(&rig);
    rig_connect(&rig, &probe);
    struct slot *slot = slot_take(&rig.slots);
    memcpy(slot->data, "hello", 5);
    slot->len = 5;
    flow_send(&probe.flow, slot);
    rig_expect(&rig, MSG_CHANNEL_DATA);
    const uint8_t expected[] = {94, 0, 0, 0, PEER_ID, 0, 0, 0, 5, 'h', 'e', 'l', 'l', 'o'};
    cr_assert_eq(rig.out_len, sizeof expected);
    cr_assert_arr_eq(rig.out, expected, sizeof expected);
    cr_assert_eq(probe.flow.bytes_to_peer, 5);
    rig_deinit(&rig);
}

Test(mux, asked_and_confirmed) {
    rig_init(&rig);
    cr_assert_eq(rig_ask(&rig, &probe), 0);
    cr_assert_eq(rig.last_open.kind, MUX_OPEN_FORWARDED_TCPIP);
    cr_assert_eq(rig.last_open.port, 8080);
    cr_assert_eq(rig.last_open.origin_port, 1234);
    rig_expect_nothing(&rig);
    flow_confirm(&probe.flow);
    cr_assert_eq(flow_room(&probe.flow), PEER_WINDOW);
    rig_expect(&rig, MSG_CHANNEL_OPEN_CONFIRMATION);
    cr_assert_eq(rig_u32(&rig, 0), PEER_ID);
    cr_assert_eq(rig_u32(&rig, 1), probe.flow.id);
    cr_assert_eq(rig_u32(&rig, 2), LIMIT_WINDOW_START_BYTES);
    cr_assert_eq(rig_u32(&rig, 3), LIMIT_CHANNEL_PACKET_BYTES);
    cr_assert_eq(rig.out_len, 17);
    cr_assert_eq(probe.opened, 0, "who confirms knows");
    rig_deinit(&rig);
    cr_assert_eq(probe.aborted + probe.closed, 2);
}

static void expect_refusal(uint32_t reason, const char *text) {
    rig_expect(&rig, MSG_CHANNEL_OPEN_FAILURE);
    struct reader reader;
    reader_init(&reader, rig.out + 1, rig.out_len - 1);
    cr_assert_eq(reader_u32(&reader), PEER_ID);
    cr_assert_eq(reader_u32(&reader), reason);
    rig_text(&reader, text);
    rig_text(&reader, "");
    cr_assert(reader_done(&reader));
}

Test(mux, refusals) {
    rig_init(&rig);
    cr_assert_eq(rig_ask(&rig, NULL), 0);
    expect_refusal(OPEN_UNKNOWN_CHANNEL_TYPE, "no such thing");
    cr_assert_eq(rig.mux.flows_count, 0);

    cr_assert_eq(rig_ask(&rig, &probe), 0);
    flow_refuse(&probe.flow, OPEN_CONNECT_FAILED, "connection refused");
    cr_assert_eq(probe.closed, 0);
    expect_refusal(OPEN_CONNECT_FAILED, "connection refused");
    cr_assert_eq(probe.closed, 1);

    cr_assert_eq(rig_ask(&rig, &probe), 0);
    char words[1000];
    memset(words, 'w', sizeof words - 1);
    words[sizeof words - 1] = 0;
    flow_refuse(&probe.flow, OPEN_CONNECT_FAILED, words);
    words[REFUSAL_TEXT_BYTES] = 0;
    expect_refusal(OPEN_CONNECT_FAILED, words);

    cr_assert_eq(rig_ask(&rig, &probe), 0);
    flow_abort(&probe.flow);
    expect_refusal(OPEN_CONNECT_FAILED, "");
    cr_assert_eq(probe.closed, 1);
    cr_assert_eq(probe.aborted, 0);
    rig_expect_nothing(&rig);
    rig_deinit(&rig);
}

static struct flow *answer_at_once(struct mux *mux, const struct mux_open *open, uint32_t *reason, const char **text) {
    struct flow *flow = rig_on_open(mux, open, reason, text);
    if (rig.globals == 0)
        flow_confirm(flow);
    else if (rig.globals == 1)
        flow_refuse(flow, OPEN_CONNECT_FAILED, "no");
    else
        flow_abort(flow);
    cr_assert_eq(flow_room(flow), 0);
    return flow;
}

Test(mux, answered_from_within_on_open) {
    struct mux_ops ops = rig_ops;
    ops.on_open = answer_at_once;
    rig_init(&rig);
    rig.mux.ops = &ops;
    cr_assert_eq(rig_ask(&rig, &probe), 0);
    cr_assert_eq(probe.room, 1, "room that was asked for too early is announced");
    cr_assert_eq(flow_room(&probe.flow), PEER_WINDOW);
    rig_expect(&rig, MSG_CHANNEL_OPEN_CONFIRMATION);
    for (rig.globals = 1; rig.globals <= 2; rig.globals++) {
        cr_assert_eq(rig_ask(&rig, &other), 0);
        expect_refusal(OPEN_CONNECT_FAILED, rig.globals == 1 ? "no" : "");
        cr_assert_eq(other.closed, 1);
    }
    rig_deinit(&rig);
}

Test(mux, refused_by_the_peer) {
    rig_init(&rig);
    rig_open_sent(&rig, &probe);
    cr_assert_eq(rig_put(&rig, MSG_CHANNEL_OPEN_FAILURE, "uuss", probe.flow.id, 2u, "Connection\nrefused", "en"), 0);
    cr_assert_eq(probe.refused, 1);
    cr_assert_eq(probe.reason, OPEN_CONNECT_FAILED);
    cr_assert_null(strchr(probe.text, '\n'), "escaped");
    rig_open_sent(&rig, &probe);
    cr_assert_eq(rig_put(&rig, MSG_CHANNEL_OPEN_FAILURE, "uus", probe.flow.id, 1u, "no language tag"), 0);
    cr_assert_eq(probe.refused, 1);
    cr_assert_eq(rig.mux.flows_count, 0);
    rig_deinit(&rig);
}

Test(mux, open_is_refused_locally) {
    char name[300];
    memset(name, 'a', sizeof name);
    name[256] = 0;
    rig_init(&rig);
    cr_assert_eq(mux_open_direct(&rig.mux, &probe.flow, &probe_ops, &probe, name, 1, "", 1), ERR_LENGTH);
    cr_assert_eq(mux_open_forwarded(&rig.mux, &probe.flow, &probe_ops, &probe, "", 1, name, 1), ERR_LENGTH);
    name[255] = 0;
    cr_assert_eq(mux_open_direct(&rig.mux, &probe.flow, &probe_ops, &probe, name, 1, name, 1), 0, "the longest fit");
    rig_expect(&rig, MSG_CHANNEL_OPEN);
    uint64_t max = rig.budget.max;
    rig.budget.max = LIMIT_WINDOW_START_BYTES;
    cr_assert_eq(mux_open_direct(&rig.mux, &other.flow, &probe_ops, &other, "h", 1, "", 1), ERR_LIMIT);
    cr_assert_eq(rig_ask(&rig, &other), 0);
    expect_refusal(OPEN_RESOURCE_SHORTAGE, "out of window memory");
    cr_assert_eq(rig.opens, 0, "the owner is not even asked");
    rig.budget.max = max;
    mux_validate(&rig.mux);
    mux_shutdown(&rig.mux);
    cr_assert_eq(mux_open_direct(&rig.mux, &other.flow, &probe_ops, &other, "h", 1, "", 1), ERR_CLOSED);
    cr_assert_eq(mux_global_request(&rig.mux, "x", NULL, 0, NULL, NULL), ERR_CLOSED);
    rig_deinit(&rig);
}

Test(mux, channel_table_to_its_limit) {
    static struct probe many[LIMIT_FLOWS_PER_SESSION];
    rig_init(&rig);
    for (uint32_t i = 0; i < LIMIT_FLOWS_PER_SESSION; i++)
        cr_assert_eq(mux_open_direct(&rig.mux, &many[i].flow, &probe_ops, &many[i], "h", 1, "o", 1), 0);
    cr_assert_eq(mux_open_direct(&rig.mux, &probe.flow, &probe_ops, &probe, "h", 1, "o", 1), ERR_LIMIT);
    cr_assert_eq(rig_ask(&rig, &other), 0);
    expect_refusal(OPEN_RESOURCE_SHORTAGE, "too many channels");
    mux_validate(&rig.mux);
    uint32_t id = many[5000].flow.id;
    flow_abort(&many[5000].flow);
    uint8_t out[MUX_CONTROL_BYTES];
    for (uint32_t i = 0; i < LIMIT_FLOWS_PER_SESSION - 1; i++) {
        uint32_t len;
        struct slot *slot;
        cr_assert_eq(mux_next(&rig.mux, 1, out, sizeof out, &len, &slot), MUX_CONTROL);
    }
    cr_assert_eq(many[5000].closed, 1);
    cr_assert_eq(mux_open_direct(&rig.mux, &probe.flow, &probe_ops, &probe, "h", 1, "o", 1), 0);
    cr_assert_eq(probe.flow.id, id, "a free number is used again");
    rig_deinit(&rig);
}

/* WINDOW_ADJUST: the peer's window counts what waits in our queue too, and never passes 2^32 - 1. */
Test(mux, peer_window_to_the_byte) {
    rig_init(&rig);
    rig_connect(&rig, &probe);
    struct flow *flow = &probe.flow;
    rig_send(&rig, &probe, PEER_PACKET);
    uint32_t most = UINT32_MAX - PEER_WINDOW;
    cr_assert_eq(rig_put(&rig, MSG_CHANNEL_WINDOW_ADJUST, "uu", flow->id, most + 1), ERR_PROTOCOL);
    cr_assert_eq(flow->peer_window, PEER_WINDOW - PEER_PACKET);
    cr_assert_eq(rig_put(&rig, MSG_CHANNEL_WINDOW_ADJUST, "uu", flow->id, most), 0);
    cr_assert_eq(rig_put(&rig, MSG_CHANNEL_WINDOW_ADJUST, "uu", flow->id, 1u), ERR_PROTOCOL);
    rig_expect(&rig, MSG_CHANNEL_DATA);
    cr_assert_eq(rig_put(&rig, MSG_CHANNEL_WINDOW_ADJUST, "uu", flow->id, PEER_PACKET), 0);
    cr_assert_eq(rig_put(&rig, MSG_CHANNEL_WINDOW_ADJUST, "uu", flow->id, 1u), ERR_PROTOCOL);
    rig_deinit(&rig);
}

Test(mux, peer_packet_size_is_kept_within_a_slot) {
    rig_init(&rig);
    rig_open_sent(&rig, &probe);
    cr_assert_eq(rig_put(&rig, MSG_CHANNEL_OPEN_CONFIRMATION, "uuuu", probe.flow.id, 1u, 9u, 0u), ERR_PROTOCOL);
    cr_assert_eq(rig_put(&rig, MSG_CHANNEL_OPEN_CONFIRMATION, "uuuu", probe.flow.id, 1u, 9u, UINT32_MAX), 0);
    cr_assert_eq(probe.flow.peer_packet_max, LIMIT_CHANNEL_PACKET_BYTES);
    cr_assert_eq(flow_room(&probe.flow), 9);
    rig_deinit(&rig);
}

/* on_room: only when asked for, when a packet fits and half of the queue is out. */
Test(mux, room_after_a_full_queue) {
    rig_init(&rig);
    rig_connect(&rig, &probe);
    struct flow *flow = &probe.flow;
    cr_assert_eq(rig_put(&rig, MSG_CHANNEL_WINDOW_ADJUST, "uu", flow->id, 10u << 20), 0);
    cr_assert_eq(probe.room, 0, "nobody asked");
    while (flow_room(flow) >= 16384)
        rig_send(&rig, &probe, 16384);
    cr_assert_eq(flow->queue.bytes, LIMIT_FLOW_QUEUE_BYTES);
    while (flow->queue.bytes > LIMIT_FLOW_QUEUE_BYTES / 2) {
        cr_assert_eq(probe.room, 0);
        rig_expect(&rig, MSG_CHANNEL_DATA);
    }
    cr_assert_eq(probe.room, 1);
    cr_assert_eq(flow_room(flow), LIMIT_FLOW_QUEUE_BYTES / 2);
    rig_expect(&rig, MSG_CHANNEL_DATA);
    cr_assert_eq(probe.room, 1, "once");
    rig_deinit(&rig);
}

Test(mux, room_after_a_spent_window) {
    rig_init(&rig);
    rig_connect(&rig, &probe);
    struct flow *flow = &probe.flow;
    while (flow_room(flow) > 0)
        rig_send(&rig, &probe, flow_room(flow) < PEER_PACKET ? (uint32_t)flow_room(flow) : PEER_PACKET);
    cr_assert_eq(rig_put(&rig, MSG_CHANNEL_WINDOW_ADJUST, "uu", flow->id, 10u), 0);
    cr_assert_eq(probe.room, 0, "data is still waiting: no need to send crumbs");
    cr_assert_eq(rig_put(&rig, MSG_CHANNEL_WINDOW_ADJUST, "uu", flow->id, PEER_PACKET - 10u), 0);
    cr_assert_eq(probe.room, 1, "a packet fits");
    while (flow_room(flow) > 0)
        rig_send(&rig, &probe, (uint32_t)flow_room(flow));
    while (flow->queue.count > 0)
        rig_expect(&rig, MSG_CHANNEL_DATA);
    cr_assert_eq(probe.room, 1);
    cr_assert_eq(rig_put(&rig, MSG_CHANNEL_WINDOW_ADJUST, "uu", flow->id, 1u), 0);
    cr_assert_eq(probe.room, 2, "nothing is waiting, and the peer may never give more");
    cr_assert_eq(rig_put(&rig, MSG_CHANNEL_WINDOW_ADJUST, "uu", flow->id, 1u), 0);
    cr_assert_eq(probe.room, 2, "once for each time it was asked for");
    rig_deinit(&rig);
}

/* Our own window, to the byte, and EXTENDED_DATA counts like data. */
Test(mux, own_window_to_the_byte) {
    rig_init(&rig);
    rig_connect(&rig, &probe);
    struct flow *flow = &probe.flow;
    cr_assert_eq(rig_put(&rig, MSG_CHANNEL_DATA, "uz", flow->id, LIMIT_CHANNEL_PACKET_BYTES + 1u), ERR_PROTOCOL);
    for (uint32_t left = LIMIT_WINDOW_START_BYTES; left > 0; left -= LIMIT_CHANNEL_PACKET_BYTES)
        cr_assert_eq(rig_put(&rig, MSG_CHANNEL_DATA, "uz", flow->id, LIMIT_CHANNEL_PACKET_BYTES), 0);
    cr_assert_eq(rig_put(&rig, MSG_CHANNEL_DATA, "uz", flow->id, 1u), ERR_PROTOCOL);
    cr_assert_eq(rig_put(&rig, MSG_CHANNEL_EXTENDED_DATA, "uuz", flow->id, 1u, 1u), ERR_PROTOCOL);
    cr_assert_eq(rig_put(&rig, MSG_CHANNEL_DATA, "uz", flow->id, 0u), 0, "an empty packet needs no window");
    cr_assert_eq(probe.chunks, LIMIT_WINDOW_START_BYTES / LIMIT_CHANNEL_PACKET_BYTES, "and is nobody's business");
    rig_expect_nothing(&rig);
    flow_consumed(flow, 100000);
    rig_expect_nothing(&rig);
    flow_consumed(flow, LIMIT_WINDOW_START_BYTES / 8 - 100000);
    flow_consumed(flow, 5); /* comes before the message is built: in the same one */
    rig_expect(&rig, MSG_CHANNEL_WINDOW_ADJUST);
    cr_assert_eq(rig_u32(&rig, 0), PEER_ID);
    cr_assert_eq(rig_u32(&rig, 1), LIMIT_WINDOW_START_BYTES / 8 + 5);
    rig_expect_nothing(&rig);
    for (uint32_t i = 0; i < 8; i++)
        cr_assert_eq(rig_put(&rig, MSG_CHANNEL_EXTENDED_DATA, "uuz", flow->id, 1u, LIMIT_CHANNEL_PACKET_BYTES), 0);
    cr_assert_eq(probe.received, LIMIT_WINDOW_START_BYTES, "stderr is not the app's");
    rig_expect(&rig, MSG_CHANNEL_WINDOW_ADJUST);
    rig_deinit(&rig);
}

Test(mux, no_window_after_eof) {
    rig_init(&rig);
    rig_connect(&rig, &probe);
    for (uint32_t i = 0; i < 20; i++)
        cr_assert_eq(rig_put(&rig, MSG_CHANNEL_DATA, "uz", probe.flow.id, LIMIT_CHANNEL_PACKET_BYTES), 0);
    flow_consumed(&probe.flow, 10 * LIMIT_CHANNEL_PACKET_BYTES);
    cr_assert(mux_pending(&rig.mux));
    cr_assert_eq(rig_put(&rig, MSG_CHANNEL_EOF, "u", probe.flow.id), 0);
    flow_consumed(&probe.flow, 10 * LIMIT_CHANNEL_PACKET_BYTES);
    rig_expect_nothing(&rig);
    cr_assert_eq(rig_put(&rig, MSG_CHANNEL_EOF, "u", probe.flow.id), ERR_PROTOCOL, "one EOF is enough");
    cr_assert_eq(rig_put(&rig, MSG_CHANNEL_DATA, "uz", probe.flow.id, 1u), ERR_PROTOCOL);
    cr_assert_eq(rig_put(&rig, MSG_CHANNEL_DATA, "uz", probe.flow.id, 0u), ERR_PROTOCOL);
    cr_assert_eq(rig_put(&rig, MSG_CHANNEL_EXTENDED_DATA, "uuz", probe.flow.id, 1u, 0u), ERR_PROTOCOL);
    rig_deinit(&rig);
}

static unsigned replies, successes;
static void shut_down(void *arg, bool success, struct bytes data) {
    (void)data;
    replies++;
    successes += success;
    mux_shutdown(arg);
}

/* The session may be ended from a callback (ExitOnForwardFailure), with flows in every state around. */
Test(mux, shutdown_from_a_callback) {
    static struct probe asked, closing, opening;
    rig_init(&rig);
    rig_connect(&rig, &probe);
    rig_send(&rig, &probe, 100);
    rig_connect(&rig, &closing);
    flow_abort(&closing.flow);
    rig_open(&rig, &opening);
    cr_assert_eq(rig_ask(&rig, &asked), 0);
    cr_assert_eq(mux_global_request(&rig.mux, "a", NULL, 0, shut_down, &rig.mux), 0);
    rig_expect(&rig, MSG_GLOBAL_REQUEST);
    cr_assert_eq(mux_global_request(&rig.mux, "b", NULL, 0, shut_down, &rig.mux), 0);
    cr_assert_eq(rig_put(&rig, MSG_REQUEST_FAILURE, ""), 0);
    cr_assert(probe.aborted == 1 && probe.closed == 1 && probe.flow.dead);
    cr_assert(closing.aborted == 0 && closing.closed == 1);
    cr_assert(opening.refused == 1 && opening.closed == 0);
    cr_assert(asked.aborted == 1 && asked.closed == 1);
    cr_assert(replies == 2 && successes == 0, "the answered one and the one not even sent");
    rig_expect_nothing(&rig);
    rig_deinit(&rig);
}
