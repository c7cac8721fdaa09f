/* Relays of a session: what the two sides tell each other, in which order, and what is told of them. */
#include "ssh/relay.h"
#include "tests/unit/session_rig.h"
#include <sys/un.h>

#define PACKET_BYTES 30000u
#define PACKETS 40u
#define FAR_CHANNEL 9u

static int app_fds[2] = {-1, -1};
static bool relay_opened, relay_over, asks;
static struct relay_state last_state;
static char relay_what[200], relay_origin[80], relay_resolved[80];
static char open_type[64], open_host[128], open_origin[64];
static uint32_t near_channel, open_port, refusal;
static char refusal_text[200];
static uint64_t far_received;
static bool far_in_order;
static struct relay_target asked_target;

/* ---- the far end ---- */

static void note_open(struct reader *reader) {
    snprintf(open_type, sizeof open_type, "%s", reader_name(reader));
    near_channel = reader_u32(reader);
    reader_u32(reader);
    reader_u32(reader);
    snprintf(open_host, sizeof open_host, "%s", reader_name(reader));
    if (strstr(open_type, "streamlocal"))
        return;
    open_port = reader_u32(reader);
    snprintf(open_origin, sizeof open_origin, "%s", reader_name(reader));
}

static void on_far_packet(uint8_t type, struct reader reader) {
    if (type == MSG_CHANNEL_OPEN)
        return note_open(&reader);
    reader_u32(&reader);
    if (type == MSG_CHANNEL_OPEN_CONFIRMATION)
        near_channel = reader_u32(&reader);
    if (type == MSG_CHANNEL_OPEN_FAILURE) {
        refusal = reader_u32(&reader);
        snprintf(refusal_text, sizeof refusal_text, "%s", reader_name(&reader));
    }
    if (type != MSG_CHANNEL_DATA)
        return;
    struct bytes data = reader_string(&reader);
    far_in_order = far_in_order && rig_matches(data.at, data.len, far_received);
    far_received += data.len;
}

/* ---- the owner ---- */

static void keep_state(const struct relay_state *state) {
    last_state = *state;
    snprintf(relay_what, sizeof relay_what, "%s", state->what ? state->what : "");
    snprintf(relay_origin, sizeof relay_origin, "%s", state->origin);
    snprintf(relay_resolved, sizeof relay_resolved, "%s", state->resolved);
}

static void on_relay_opened(void *owner, const struct relay_state *state) {
    cr_assert(owner == &rig && !relay_opened && !relay_over);
    relay_opened = true;
    keep_state(state);
}

static void on_relay_end(void *owner, const struct relay_state *state) {
    cr_assert(owner == &rig && !relay_over);
    relay_over = true;
    keep_state(state);
}

static const struct relay_watcher watcher = {.on_opened = on_relay_opened, .on_end = on_relay_end};

static struct flow *on_open(struct mux *mux, const struct mux_open *open, uint32_t *reason, const char **text) {
    (void)open;
    *reason = OPEN_ADMINISTRATIVELY_PROHIBITED;
    *text = "";
    return asks ? relay_asked(mux->owner, &asked_target, &watcher, &rig) : NULL;
}
static bool on_global(struct mux *mux, struct bytes name, struct bytes data, uint8_t *reply, uint32_t *reply_len) {
    (void)mux, (void)name, (void)data, (void)reply, (void)reply_len;
    return false;
}
static const struct mux_ops mux_ops = {.on_open = on_open, .on_global = on_global};

static void begin(enum io_backend backend, const char *far_version) {
    struct session_options options = {.mux_ops = &mux_ops};
    rig.on_packet = on_far_packet;
    far_in_order = true;
    session_rig_begin(backend, &options, far_version);
}

static void end_all(void) {
    session_rig_end();
    cr_expect(relay_over);
    for (unsigned i = 0; i < 2; i++)
        if (app_fds[i] >= 0)
            close(app_fds[i]);
}

/* ---- a connection that was accepted here ---- */

static void open_target(const struct relay_target *target, uint32_t window) {
    relay_open(rig.session, app_fds[0], target, &watcher, &rig);
    app_fds[0] = -1;
    RIG_GO_UNTIL(rig.counts[MSG_CHANNEL_OPEN] > 0);
    far_says(MSG_CHANNEL_OPEN_CONFIRMATION, "uuuu", near_channel, FAR_CHANNEL, window, 32768u);
    RIG_GO_UNTIL(relay_opened);
}

static void open_relay(uint32_t window, uint64_t idle_ns) {
    const struct relay_target target = {.kind = RELAY_DIRECT_TCPIP, .host = "far", .port = 80, .idle_ns = idle_ns};
    rig_tcp_pair(app_fds);
    open_target(&target, window);
}

/* DATA and CLOSE without EOF, all before the application reads a byte. */
static void send_and_close(void) {
    static uint8_t data[PACKET_BYTES];
    for (unsigned i = 0; i < PACKETS; i++) {
        memset(data, (int)i, sizeof data);
        far_sends_data(near_channel, data, sizeof data);
    }
    far_says(MSG_CHANNEL_CLOSE, "u", near_channel);
    for (unsigned i = 0; i < 20; i++)
        rig_turn(&rig.shard, RIG_MS);
}

static ssize_t app_reads(uint8_t *data, size_t cap) {
    ssize_t n;
    while ((n = recv(app_fds[1], data, cap, MSG_DONTWAIT)) < 0 && errno == EAGAIN)
        rig_turn(&rig.shard, RIG_MS);
    return n;
}

RIG_TEST(relay, what_came_before_a_bare_close_is_delivered) {
    static uint8_t data[PACKET_BYTES];
    begin(backend, "SSH-2.0-other\r\n");
    open_relay(1 << 20, 0);
    send_and_close();
    uint64_t received = 0;
    ssize_t n;
    while ((n = app_reads(data, sizeof data)) > 0) {
        cr_assert_eq(data[0], (uint8_t)(received / PACKET_BYTES));
        received += (uint64_t)n;
    }
    cr_expect_eq(n, 0, "an end, not a reset");
    cr_expect_eq(received, PACKETS * PACKET_BYTES);
    RIG_GO_UNTIL(relay_over);
    cr_expect_str_empty(relay_what);
    end_all();
}

/* It has said so: without EOF before it the stream is cut, and the application must see that. */
RIG_TEST(relay, a_bare_close_of_who_resets_by_it) {
    static uint8_t data[PACKET_BYTES];
    begin(backend, "SSH-2.0-other\r\n");
    rig.session->peer.resets_by_close = true;
    open_relay(1 << 20, 0);
    send_and_close();
    ssize_t n;
    while ((n = app_reads(data, sizeof data)) > 0)
        ;
    cr_expect(n == -1 && errno == ECONNRESET);
    RIG_GO_UNTIL(relay_over);
    cr_expect_str_not_empty(relay_what);
    end_all();
}

/* ---- what an application takes its time for ---- */

/* DATA, EOF and CLOSE for an application that does not read; the channel is gone, most of the bytes wait. */
static void leave_all_to_a_slow_app(enum io_backend backend) {
    static uint8_t data[PACKET_BYTES];
    const int small = 65536; /* less would take long to read */
    begin(backend, "SSH-2.0-other\r\n");
    rig_tcp_pair(app_fds);
    cr_assert_eq(setsockopt(app_fds[0], SOL_SOCKET, SO_SNDBUF, &small, sizeof small), 0);
    cr_assert_eq(setsockopt(app_fds[1], SOL_SOCKET, SO_RCVBUF, &small, sizeof small), 0);
    open_target(&(struct relay_target){.kind = RELAY_DIRECT_TCPIP, .host = "far", .port = 80}, 1 << 20);
    for (unsigned i = 0; i < PACKETS; i++)
        far_sends_data(near_channel, data, sizeof data);
    far_says(MSG_CHANNEL_EOF, "u", near_channel);
    far_says(MSG_CHANNEL_CLOSE, "u", near_channel);
    RIG_GO_UNTIL(rig.session->mux.flows_count == 0);
    for (unsigned i = 0; i < 20; i++)
        rig_turn(&rig.shard, RIG_MS);
    cr_expect_not(relay_over);
}

static uint64_t counted(void) {
    return atomic_load(&rig.budget.used);
}

RIG_TEST(relay, memory_counts_until_it_is_written) {
    static uint8_t data[PACKET_BYTES];
    uint64_t left = PACKETS * PACKET_BYTES, most = left;
    leave_all_to_a_slow_app(backend);
    cr_expect_geq(counted(), left / 2, "%lu of %lu", (unsigned long)counted(), (unsigned long)left);
    for (ssize_t n; (n = app_reads(data, sizeof data)) > 0; most = counted()) {
        left -= (uint64_t)n;
        rig_turn(&rig.shard, 0);
        cr_expect_leq(counted(), left, "what is written is not counted any more");
        cr_expect_leq(counted(), most);
    }
    cr_expect_eq(left, 0, "and all of it arrives");
    RIG_GO_UNTIL(relay_over);
    cr_expect_eq(counted(), 0);
    end_all();
}

RIG_TEST(relay, memory_of_an_app_that_breaks_off) {
    leave_all_to_a_slow_app(backend);
    cr_expect_gt(counted(), 0);
    rig_close_with_reset(app_fds[1]);
    app_fds[1] = -1;
    RIG_GO_UNTIL(relay_over);
    cr_expect_eq(counted(), 0);
    end_all();
}

RIG_TEST(relay, memory_when_nobody_waits_any_longer) {
    leave_all_to_a_slow_app(backend);
    cr_expect_gt(counted(), 0);
    session_end(rig.session, 0, "over");
    relay_abort_all(rig.session);
    RIG_GO_UNTIL(rig.over);
    cr_expect_eq(counted(), 0);
    end_all();
}

#define SENT_BYTES (600u << 10)

/* The application's whole stream is in the session: more than the wire takes while the far end does not read. */
static void app_sends_all(void) {
    static uint8_t data[SENT_BYTES];
    const struct flow *flow = rig.session->mux.flows[near_channel];
    rig_fill(data, sizeof data, 0);
    for (size_t done = 0; done < sizeof data;) {
        ssize_t n = send(app_fds[1], data + done, sizeof data - done, MSG_DONTWAIT);
        if (n > 0)
            done += (size_t)n;
        rig_turn(&rig.shard, 0);
    }
    cr_assert_eq(shutdown(app_fds[1], SHUT_WR), 0);
    RIG_UNTIL(&rig.shard, flow->in == FLOW_HALF_DRAINING);
    cr_assert_gt(flow->queue.bytes, 0, "this must have something to lose");
}

/* It ended its stream, then broke off without reading what came for it. */
RIG_TEST(relay, what_an_app_sent_before_it_broke_off_is_delivered) {
    static uint8_t data[PACKET_BYTES];
    begin(backend, "SSH-2.0-other\r\n");
    open_relay(4 << 20, 0);
    app_sends_all();
    rig_close_with_reset(app_fds[1]);
    app_fds[1] = -1;
    const struct flow *flow = rig.session->mux.flows[near_channel];
    for (unsigned i = 0; i < 10; i++) {
        far_sends_data(near_channel, data, sizeof data);
        rig_turn(&rig.shard, RIG_MS);
    }
    /* Nobody reads that, and the far end gets its window back all the same: it may write before it reads. */
    RIG_UNTIL(&rig.shard, flow->bytes_from_peer == 10 * sizeof data && flow->window.unconsumed == 0);
    cr_expect_eq(flow->phase, FLOW_OPEN);
    RIG_GO_UNTIL(rig.counts[MSG_CHANNEL_CLOSE] > 0);
    cr_expect(far_in_order);
    cr_expect_eq(far_received, SENT_BYTES);
    cr_expect_eq(rig.counts[MSG_CHANNEL_EOF], 1, "the end was orderly as far as the far end is concerned");
    cr_expect_not(relay_over, "the far end's own CLOSE is still to come");
    /* It had not heard of that yet. */
    far_sends_data(near_channel, data, sizeof data);
    far_says(MSG_CHANNEL_CLOSE, "u", near_channel);
    RIG_GO_UNTIL(relay_over);
    cr_expect_str_not_empty(relay_what, "the app's end was not");
    cr_expect_eq(last_state.bytes_to_peer, SENT_BYTES);
    end_all();
}

RIG_TEST(relay, a_reset_without_an_end_is_none_for_the_far_end) {
    begin(backend, "SSH-2.0-other\r\n");
    open_relay(1 << 20, 0);
    rig_close_with_reset(app_fds[1]);
    app_fds[1] = -1;
    RIG_GO_UNTIL(rig.counts[MSG_CHANNEL_CLOSE] > 0);
    cr_expect_eq(rig.counts[MSG_CHANNEL_EOF], 0);
    far_says(MSG_CHANNEL_CLOSE, "u", near_channel);
    RIG_GO_UNTIL(relay_over);
    end_all();
}

/* ---- kinds of channels ---- */

RIG_TEST(relay, a_server_names_where_it_was_accepted) {
    struct sockaddr_in addr;
    socklen_t len = sizeof addr;
    char origin[80];
    const struct relay_target target = {.kind = RELAY_FORWARDED_TCPIP, .host = "as asked", .port = 4711};
    begin(backend, "SSH-2.0-other\r\n");
    rig_tcp_pair(app_fds);
    cr_assert_eq(getsockname(app_fds[1], (struct sockaddr *)&addr, &len), 0);
    snprintf(origin, sizeof origin, "127.0.0.1 port %u", ntohs(addr.sin_port));
    open_target(&target, 1 << 20);
    cr_expect_str_eq(open_type, "forwarded-tcpip");
    cr_expect_str_eq(open_host, "as asked");
    cr_expect_eq(open_port, 4711);
    cr_expect_str_eq(open_origin, "127.0.0.1");
    cr_expect_str_eq(relay_origin, origin);
    cr_expect(last_state.opened);
    end_all();
    cr_expect_str_eq(relay_origin, origin, "it is known to the end");
}

RIG_TEST(relay, a_unix_socket_is_named_by_its_path) {
    const struct relay_target target = {.kind = RELAY_FORWARDED_STREAMLOCAL, .host = "/run/some.sock"};
    begin(backend, "SSH-2.0-other\r\n");
    cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, app_fds), 0);
    open_target(&target, 1 << 20);
    cr_expect_str_eq(open_type, "forwarded-streamlocal@openssh.com");
    cr_expect_str_eq(open_host, "/run/some.sock");
    cr_expect_str_empty(relay_origin);
    end_all();
}

/* ---- asked by the far end ---- */

static void far_asks(const struct relay_target *target) {
    asks = true;
    asked_target = *target;
    asked_target.connect_timeout_ns = RIG_TIMEOUT_NS;
    far_says(MSG_CHANNEL_OPEN, "suuu", "x", FAR_CHANNEL, 100000u, 32768u);
}

/* A byte each way, then an orderly end of both. */
static void talk(int listener) {
    char byte = 0;
    RIG_GO_UNTIL(relay_opened && rig.counts[MSG_CHANNEL_OPEN_CONFIRMATION] == 1);
    app_fds[1] = accept(listener, NULL, NULL);
    cr_assert_geq(app_fds[1], 0);
    far_sends_data(near_channel, "x", 1);
    while (recv(app_fds[1], &byte, 1, MSG_DONTWAIT) != 1)
        rig_step();
    cr_expect_eq(byte, 'x');
    byte = (char)rig_pattern(0);
    cr_assert_eq(write(app_fds[1], &byte, 1), 1);
    RIG_GO_UNTIL(far_received == 1);
    close(app_fds[1]);
    app_fds[1] = -1;
    RIG_GO_UNTIL(rig.counts[MSG_CHANNEL_EOF] == 1);
    far_says(MSG_CHANNEL_EOF, "u", near_channel);
    far_says(MSG_CHANNEL_CLOSE, "u", near_channel);
    RIG_GO_UNTIL(relay_over);
    cr_expect_str_empty(relay_what);
    cr_expect(last_state.opened && last_state.bytes_to_peer == 1 && last_state.bytes_from_peer == 1);
}

RIG_TEST(relay, asked_for_an_address) {
    struct sockaddr_in addr;
    char resolved[64];
    begin(backend, "SSH-2.0-other\r\n");
    int listener = rig_listen(&addr);
    snprintf(resolved, sizeof resolved, "127.0.0.1 port %u", ntohs(addr.sin_port));
    far_asks(&(struct relay_target){
        .kind = RELAY_CONNECT_TCP, .host = "127.0.0.1", .port = ntohs(addr.sin_port), .family = AF_UNSPEC});
    talk(listener);
    cr_expect_str_eq(relay_resolved, resolved);
    end_all();
    close(listener);
}

static int listen_path(struct sockaddr_un *addr) {
    *addr = (struct sockaddr_un){.sun_family = AF_UNIX};
    snprintf(addr->sun_path, sizeof addr->sun_path, "/tmp/leat-relay-%d", (int)getpid());
    unlink(addr->sun_path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    cr_assert(fd >= 0 && bind(fd, (struct sockaddr *)addr, sizeof *addr) == 0 && listen(fd, 4) == 0);
    return fd;
}

RIG_TEST(relay, asked_for_a_path) {
    struct sockaddr_un addr;
    begin(backend, "SSH-2.0-other\r\n");
    int listener = listen_path(&addr);
    far_asks(&(struct relay_target){.kind = RELAY_CONNECT_PATH, .host = addr.sun_path});
    talk(listener);
    end_all();
    close(listener);
    unlink(addr.sun_path);
}

RIG_TEST(relay, the_true_reason_of_a_refusal) {
    struct sockaddr_un addr;
    begin(backend, "SSH-2.0-other\r\n");
    close(listen_path(&addr)); /* there, and nobody listens */
    far_asks(&(struct relay_target){.kind = RELAY_CONNECT_PATH, .host = addr.sun_path});
    RIG_GO_UNTIL(relay_over && refusal != 0);
    cr_expect_eq(refusal, OPEN_CONNECT_FAILED);
    cr_expect(strstr(refusal_text, "refused"), "%s", refusal_text);
    cr_expect(strcasestr(relay_what, "refused"), "%s", relay_what);
    cr_expect_not(last_state.opened);
    end_all();
    unlink(addr.sun_path);
}

/* ---- ChannelTimeout ---- */

#define IDLE_NS (400 * RIG_MS)

/* Ends no earlier than a whole period after the last byte, which may be of either direction. */
RIG_TEST(relay, idle_for_too_long) {
    begin(backend, "SSH-2.0-other\r\n");
    open_relay(1 << 20, IDLE_NS);
    uint64_t begun_ns = io_clock_ns(), last_ns = begun_ns;
    for (unsigned i = 0; io_clock_ns() - begun_ns < 2 * IDLE_NS; i++) {
        uint8_t byte = rig_pattern(far_received);
        cr_assert(!relay_over || io_clock_ns() - last_ns >= IDLE_NS / 2, "it was not idle");
        if (relay_over) /* the machine stood still for so long */
            break;
        last_ns = io_clock_ns();
        if (i % 2)
            far_sends_data(near_channel, "x", 1);
        else
            cr_assert_eq(write(app_fds[1], &byte, 1), 1);
        for (unsigned turn = 0; turn < 20; turn++)
            rig_step();
    }
    RIG_GO_UNTIL(rig.counts[MSG_CHANNEL_CLOSE] > 0);
    cr_expect_geq(io_clock_ns() - last_ns, IDLE_NS);
    cr_expect_eq(rig.counts[MSG_CHANNEL_EOF], 0, "it did not end, it was cut");
    far_says(MSG_CHANNEL_CLOSE, "u", near_channel);
    RIG_GO_UNTIL(relay_over);
    cr_expect(strstr(relay_what, "idle"), "%s", relay_what);
    end_all();
}

RIG_TEST(relay, what_never_opened_is_told_too) {
    begin(backend, "SSH-2.0-other\r\n");
    rig_tcp_pair(app_fds);
    session_end(rig.session, 0, "over");
    relay_open(rig.session, app_fds[0], &(struct relay_target){.kind = RELAY_DIRECT_TCPIP, .host = "h", .port = 1},
               &watcher, &rig);
    app_fds[0] = -1;
    cr_expect(relay_over && !relay_opened);
    cr_expect_str_eq(relay_what, "session ended");
    cr_expect(strstr(relay_origin, "127.0.0.1 port "));
    end_all();
}

static unsigned visits;
static void visit(void *arg, void *owner, const struct relay_state *state) {
    cr_assert(arg == &visits && owner == &rig);
    cr_expect(state->opened == relay_opened);
    visits++;
}

RIG_TEST(relay, each_is_seen) {
    begin(backend, "SSH-2.0-other\r\n");
    relay_for_each(rig.session, visit, &visits);
    cr_expect_eq(visits, 0);
    open_relay(1 << 20, 0);
    relay_for_each(rig.session, visit, &visits);
    cr_expect_eq(visits, 1);
    end_all();
}
