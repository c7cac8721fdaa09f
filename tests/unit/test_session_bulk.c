/* How long a session lets the kernel gather what comes: a peer that sends in bulk is read in batches, larger ones while
 * one flow has the connection to itself, and whoever pauses is read at once again. And all sizes are small while
 * somebody waits for small messages beside bulk. */
#include "engine/tcp.h"
#include "tests/unit/session_rig.h"

static const uint8_t block[LIMIT_CHANNEL_PACKET_BYTES];
static struct flow flows[2];
static unsigned opened;

static void on_data(struct flow *flow, uint8_t *data, uint32_t len) {
    (void)data;
    flow_consumed(flow, len);
}
static void ignore(struct flow *flow) {
    (void)flow;
}
static const struct flow_ops flow_ops = {
    .on_data = on_data, .on_room = ignore, .on_aborted = ignore, .on_closed = ignore};

static struct flow *on_open(struct mux *mux, const struct mux_open *open, uint32_t *reason, const char **text) {
    (void)mux, (void)open, (void)reason, (void)text;
    flow_init_asked(&flows[opened], &flow_ops, NULL);
    return &flows[opened++];
}
static bool on_global(struct mux *mux, struct bytes name, struct bytes data, uint8_t *reply, uint32_t *reply_len) {
    (void)mux, (void)name, (void)data, (void)reply, (void)reply_len;
    return false;
}
static const struct mux_ops mux_ops = {.on_open = on_open, .on_global = on_global};

static void begin(enum io_backend backend) {
    struct session_options options = {.mux_ops = &mux_ops, .is_server = true};
    opened = 0;
    session_rig_begin(backend, &options, "SSH-2.0-other\r\n");
    for (uint32_t i = 0; i < 2; i++) {
        far_says(MSG_CHANNEL_OPEN, "suuususu", "direct-tcpip", i, 1u << 20, 32768u, "host", 80u, "here", 1u);
        RIG_GO_UNTIL(opened == i + 1);
        flow_confirm(&flows[i]);
        session_wake(rig.session);
    }
    RIG_GO_UNTIL(rig.counts[MSG_CHANNEL_OPEN_CONFIRMATION] == 2);
}

/* Bulk on one channel, for as long as it takes. */
static void send_until_low(uint32_t channel, int low) {
    uint64_t end_ns = io_clock_ns() + RIG_TIMEOUT_NS;
    while (rig.session->receive_low != low) {
        cr_assert(io_clock_ns() < end_ns, "still %d, not %d", rig.session->receive_low, low);
        for (unsigned i = 0; i < 4; i++)
            far_sends_data(channel, block, sizeof block);
        rig_step();
    }
}

static void batches(enum io_backend backend) {
    begin(backend);
    cr_expect_leq(rig.session->receive_low, 1);
    send_until_low(0, LIMIT_RECV_LOW_BYTES); /* the channels have just been opened: not alone yet */
    send_until_low(0, LIMIT_RECV_LOW_ALONE_BYTES);
    far_sends_data(1, block, LIMIT_SPARSE_PACKET_BYTES + 1); /* somebody else */
    send_until_low(0, LIMIT_RECV_LOW_BYTES);
    RIG_GO_UNTIL(rig.session->receive_low == 1); /* a pause */
    session_rig_end();
}

Test(session_bulk, io_uring) {
    batches(IO_BACKEND_URING);
}
Test(session_bulk, epoll) {
    batches(IO_BACKEND_EPOLL);
}

/* Bulk on the first channel until the session has that tempo. */
static void send_until(enum tempo_name tempo) {
    uint64_t end_ns = io_clock_ns() + RIG_TIMEOUT_NS;
    while (rig.session->tempo != tempo) {
        cr_assert(io_clock_ns() < end_ns, "still %d, not %d", (int)rig.session->tempo, (int)tempo);
        for (unsigned i = 0; i < 4; i++)
            far_sends_data(0, block, sizeof block);
        if (tempo == TEMPO_AWAITED)
            far_sends_data(1, "x", 1);
        rig_step();
    }
}

/* A socketpair is no short path: it has grants of a window's size, as long ones do. */
static void bulk_in(enum io_backend backend, bool over_tcp) {
    rig.over_tcp = over_tcp;
    begin(backend);
    send_until_low(0, LIMIT_RECV_LOW_ALONE_BYTES);
    cr_expect_eq(rig.session->mux.grant_most, UINT32_MAX);
    bool is_short = tcp_path_is_short(rig.session->fd); /* over TCP, but for a machine that is very busy */
    send_until(TEMPO_AWAITED);
    cr_expect_leq(rig.session->receive_low, 1, "the kernel does not gather while somebody waits");
    cr_expect(!is_short || rig.session->mux.grant_most == LIMIT_AWAITED_GRANT_BYTES);
    cr_expect(over_tcp || rig.session->mux.grant_most == UINT32_MAX);
    send_until(TEMPO_ALONE); /* the other has fallen silent */
    cr_expect_eq(rig.session->mux.grant_most, UINT32_MAX);
    send_until_low(0, LIMIT_RECV_LOW_ALONE_BYTES);
    session_rig_end();
}

Test(session_awaited, bulk_in_io_uring) {
    bulk_in(IO_BACKEND_URING, false);
}
Test(session_awaited, bulk_in_epoll) {
    bulk_in(IO_BACKEND_EPOLL, false);
}
Test(session_awaited, bulk_in_over_tcp_io_uring) {
    bulk_in(IO_BACKEND_URING, true);
}
Test(session_awaited, bulk_in_over_tcp_epoll) {
    bulk_in(IO_BACKEND_EPOLL, true);
}

/* More than the socket takes, and the far end does not read. */
static void fill_queue(void) {
    while (flow_room(&flows[0]) >= sizeof block) {
        struct slot *slot = slot_take(&rig.shard.slots);
        cr_assert(slot != NULL);
        memcpy(slot->data, block, sizeof block);
        slot->len = sizeof block;
        flow_send(&flows[0], slot);
    }
    session_wake(rig.session);
}

static void bulk_out(enum io_backend backend) {
    begin(backend);
    fill_queue();
    far_sends_data(1, "x", 1);
    uint64_t end_ns = io_clock_ns() + RIG_TIMEOUT_NS;
    while (rig.session->tempo != TEMPO_AWAITED) {
        cr_assert(io_clock_ns() < end_ns);
        rig_turn(&rig.shard, RIG_MS);
    }
    RIG_GO_UNTIL(rig.session->mux.queued_bytes == 0);
    while (rig.session->tempo == TEMPO_AWAITED) { /* silence, but for what makes it look */
        cr_assert(io_clock_ns() < end_ns);
        far_sends_data(1, block, LIMIT_SPARSE_PACKET_BYTES + 1);
        rig_step();
    }
    session_rig_end();
}

Test(session_awaited, bulk_out_io_uring) {
    bulk_out(IO_BACKEND_URING);
}
Test(session_awaited, bulk_out_epoll) {
    bulk_out(IO_BACKEND_EPOLL);
}

Test(session_awaited, nobody_waits_for_bulk_where_there_is_none) {
    begin(IO_BACKEND_EPOLL);
    for (unsigned n = 1; n <= 50; n++) {
        far_sends_data(n % 2, "x", 1);
        RIG_GO_UNTIL(flows[0].bytes_from_peer + flows[1].bytes_from_peer == n);
        cr_assert_neq((int)rig.session->tempo, TEMPO_AWAITED);
    }
    cr_expect_geq(rig.session->mux.sparse_packets, 50);
    session_rig_end();
}
