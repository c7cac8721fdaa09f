/* How long a session lets the kernel gather what comes: a peer that sends in bulk is read in batches, larger ones while
 * one flow has the connection to itself, and whoever pauses is read at once again. And all sizes are small while
 * somebody waits for small messages beside bulk, what the kernel may hold unsent among them. */
#include "engine/tcp.h"
#include "ssh/session_internal.h"
#include "tests/unit/session_rig.h"
#include <netinet/in.h>
#include <netinet/tcp.h>

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

/* ---- what the kernel may hold unsent ---- */

/* Asked of the socket itself: what the session believes to have set holds nothing back. */
static void expect_unsent(unsigned wanted, const char *when) {
    unsigned bytes = 0;
    socklen_t len = sizeof bytes;
    cr_assert_eq(getsockopt(rig.session->fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &bytes, &len), 0);
    cr_expect_eq(bytes, wanted, "%s: %u, not %u", when, bytes, wanted);
}

/* The loopback is no long path: one is made up. */
static void expect_unsent_on_path(uint64_t path_bytes, unsigned wanted, const char *when) {
    rig.session->path_bytes = path_bytes;
    session_path_apply(rig.session);
    expect_unsent(wanted, when);
}

static void unsent(enum io_backend backend) {
    rig.over_tcp = true;
    begin(backend);
    expect_unsent(LIMIT_NOTSENT_BYTES, "at the start");
    send_until(TEMPO_AWAITED);
    expect_unsent(LIMIT_AWAITED_NOTSENT_BYTES, "while somebody waits");
    expect_unsent_on_path(1u << 20, (1u << 20) / LIMIT_NOTSENT_SHARED_PART, "waiting, on a long path");
    expect_unsent_on_path(UINT64_MAX, LIMIT_NOTSENT_SHARED_BYTES, "waiting, on the longest");
    expect_unsent_on_path(0, LIMIT_AWAITED_NOTSENT_BYTES, "waiting, on a short one again");
    send_until(TEMPO_ALONE);
    expect_unsent(LIMIT_NOTSENT_BYTES, "nobody waits any more");
    expect_unsent_on_path(1u << 20, (1u << 20) / LIMIT_NOTSENT_ALONE_PART, "on a long path");
    expect_unsent_on_path(UINT64_MAX, LIMIT_NOTSENT_ALONE_BYTES, "on the longest");
    session_rig_end();
}

Test(session_unsent, io_uring) {
    unsent(IO_BACKEND_URING);
}
Test(session_unsent, epoll) {
    unsent(IO_BACKEND_EPOLL);
}

/* The session looks itself at how long its path is, when it has sent enough: this one is not. */
Test(session_unsent, the_path_is_looked_at_again) {
    uint64_t end_ns = io_clock_ns() + RIG_TIMEOUT_NS;
    rig.over_tcp = true;
    begin(IO_BACKEND_EPOLL);
    expect_unsent_on_path(1u << 20, (1u << 20) / LIMIT_NOTSENT_ALONE_PART, "on a long path");
    while (rig.session->bytes_out < 2 * LIMIT_PATH_LOOK_BYTES) {
        cr_assert(io_clock_ns() < end_ns);
        fill_queue();
        rig_step();
        far_says(MSG_CHANNEL_WINDOW_ADJUST, "uu", 0u, 1u << 20);
    }
    expect_unsent(LIMIT_NOTSENT_BYTES, "after a look at it");
    session_rig_end();
}
