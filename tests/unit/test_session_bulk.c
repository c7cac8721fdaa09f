/* How long a session lets the kernel gather what comes: a peer that sends in bulk is read in batches, larger ones while
 * one flow has the connection to itself, and whoever pauses is read at once again. */
#include "tests/unit/session_rig.h"

static struct flow flows[2];
static unsigned opened;

static void on_data(struct flow *flow, uint8_t *data, uint32_t len) {
    (void)data;
    flow_consumed(flow, len);
}
static void on_aborted(struct flow *flow) {
    (void)flow;
}
static const struct flow_ops flow_ops = {.on_data = on_data, .on_aborted = on_aborted, .on_closed = on_aborted};

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
}

/* Bulk on one channel, for as long as it takes. */
static void send_until_low(uint32_t channel, int low) {
    static const uint8_t block[32768];
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
    far_sends_data(1, "x", 1); /* somebody else */
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
