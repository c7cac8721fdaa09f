/* Relays of a striped connection's lanes, when that connection is done with one: over a session that answers nothing
 * any more no descriptor and no window stays, and over one that does what was said arrives. */
#include "ssh/relay.h"
#include "tests/unit/session_rig.h"

#define FAR_CHANNEL 9u
#define WINDOW (1u << 20)
#define SAID_BYTES 5000u

static const uint8_t key[MUX_STRIPE_KEY_BYTES] = "0123456789abcde";
static int lane = -1, relay_fd;
static bool opened, over;
static struct relay_state last;
static char what[200];
static uint32_t near_channel;
static uint64_t far_received;
static struct relay_target asked_target;
static bool puts_lane; /* in the place of what was dialled */

static void on_far_packet(uint8_t type, struct reader reader) {
    if (type == MSG_CHANNEL_OPEN) {
        (void)reader_name(&reader);
        near_channel = reader_u32(&reader);
    }
    if (type != MSG_CHANNEL_DATA && type != MSG_CHANNEL_OPEN_CONFIRMATION)
        return;
    (void)reader_u32(&reader);
    if (type == MSG_CHANNEL_OPEN_CONFIRMATION) {
        near_channel = reader_u32(&reader);
        return;
    }
    struct bytes data = reader_string(&reader);
    cr_assert(rig_matches(data.at, data.len, far_received));
    far_received += data.len;
}

static void on_opened(void *owner, const struct relay_state *state) {
    (void)owner, (void)state;
    opened = true;
}

static void on_end(void *owner, const struct relay_state *state) {
    (void)owner;
    cr_assert_not(over);
    over = true;
    last = *state;
    snprintf(what, sizeof what, "%s", state->what ? state->what : "");
}

/* A server's first: what was dialled is the application's. */
static int on_dialed(void *owner, const struct relay_state *state, int *fd) {
    (void)owner, (void)state;
    if (!puts_lane)
        return 0;
    close(*fd);
    *fd = relay_fd;
    return 0;
}

static const struct relay_watcher watcher = {.on_opened = on_opened, .on_end = on_end, .on_dialed = on_dialed};

static struct flow *on_open(struct mux *mux, const struct mux_open *open, uint32_t *reason, const char **text) {
    (void)open, (void)reason, (void)text;
    return relay_asked(mux->owner, &asked_target, &watcher, &rig);
}
static bool on_global(struct mux *mux, struct bytes name, struct bytes data, uint8_t *reply, uint32_t *reply_len) {
    (void)mux, (void)name, (void)data, (void)reply, (void)reply_len;
    return false;
}
static const struct mux_ops mux_ops = {.on_open = on_open, .on_global = on_global};

static void begin(enum io_backend backend) {
    struct session_options options = {.mux_ops = &mux_ops};
    int fds[2];
    rig.on_packet = on_far_packet;
    far_received = 0;
    opened = over = false;
    memset(rig.counts, 0, sizeof rig.counts);
    session_rig_begin(backend, &options, "SSH-2.0-other\r\n");
    cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds), 0);
    lane = fds[0];
    relay_fd = fds[1];
}

static void end(void) {
    session_rig_end();
    cr_expect(over);
    if (lane >= 0)
        close(lane);
    rig.session = NULL;
    rig.ending = rig.over = false;
}

static void ask(enum relay_kind kind) {
    const struct relay_target target = {.kind = kind, .host = "far", .port = 80, .stripe_key = key, .stripe_lane = 1};
    relay_open(rig.session, relay_fd, &target, &watcher, &rig);
    RIG_GO_UNTIL(rig.counts[MSG_CHANNEL_OPEN] > 0);
}

static void confirm(uint32_t window) {
    far_says(MSG_CHANNEL_OPEN_CONFIRMATION, "uuuu", near_channel, FAR_CHANNEL, window, 32768u);
}

static void open_lane(enum relay_kind kind, uint32_t window) {
    ask(kind);
    confirm(window);
    RIG_GO_UNTIL(opened);
}

/* A server's: it was joined. */
static void open_joined(uint32_t window) {
    asked_target = (struct relay_target){.kind = RELAY_CONNECTED, .fd = relay_fd};
    far_says(MSG_CHANNEL_OPEN, "suuu", "x", FAR_CHANNEL, window, 32768u);
    RIG_GO_UNTIL(opened && rig.counts[MSG_CHANNEL_OPEN_CONFIRMATION] > 0);
}

static void lane_says(size_t len) {
    static uint8_t data[SAID_BYTES];
    rig_fill(data, len, 0);
    cr_assert_eq(send(lane, data, len, MSG_NOSIGNAL), (ssize_t)len);
}

static void lane_closes(void) {
    close(lane);
    lane = -1;
}

static bool relay_has_closed(void) {
    return fcntl(relay_fd, F_GETFD) < 0;
}

/* The far end takes nothing from the wire, and says nothing. */
static void expect_all_given_back(void) {
    RIG_UNTIL(&rig.shard, relay_has_closed());
    cr_expect_eq(atomic_load(&rig.budget.used), LIMIT_CHANNEL_PACKET_BYTES, "a channel, and not its window");
    cr_expect_eq(atomic_load(&rig.budget.windows), 0);
    cr_expect_not(over, "its channel is still there");
}

/* It was only slow. */
static void expect_an_orderly_end(uint64_t said) {
    RIG_GO_UNTIL(rig.counts[MSG_CHANNEL_CLOSE] > 0);
    cr_expect_eq(far_received, said);
    cr_expect_eq(rig.counts[MSG_CHANNEL_EOF], 1);
    far_sends_data(near_channel, "abc", 3); /* and had not heard of it yet */
    far_says(MSG_CHANNEL_EOF, "u", near_channel);
    far_says(MSG_CHANNEL_CLOSE, "u", near_channel);
    RIG_GO_UNTIL(over);
    cr_expect_str_empty(what);
    cr_expect_eq(last.bytes_to_peer, said);
}

RIG_TEST(relay_lane, let_go_over_a_silent_session) {
    const enum relay_kind kinds[] = {RELAY_STRIPE, RELAY_STRIPE_JOIN, RELAY_CONNECTED};
    for (unsigned i = 0; i < 3; i++) {
        begin(backend);
        if (kinds[i] == RELAY_CONNECTED)
            open_joined(WINDOW);
        else
            open_lane(kinds[i], WINDOW);
        lane_says(SAID_BYTES);
        shutdown(lane, SHUT_WR);
        RIG_UNTIL(&rig.shard, rig.session->mux.flows[near_channel]->in != FLOW_HALF_OPEN);
        cr_expect_not(relay_has_closed(), "only one way has ended");
        cr_expect_gt(atomic_load(&rig.budget.used), LIMIT_CHANNEL_PACKET_BYTES);
        lane_closes();
        expect_all_given_back();
        expect_an_orderly_end(SAID_BYTES);
        end();
    }
}

RIG_TEST(relay_lane, the_first_of_a_server) {
    struct sockaddr_in addr;
    begin(backend);
    int listener = rig_listen(&addr);
    puts_lane = true;
    asked_target = (struct relay_target){.kind = RELAY_CONNECT_TCP,
                                         .host = "127.0.0.1",
                                         .port = ntohs(addr.sin_port),
                                         .connect_timeout_ns = RIG_TIMEOUT_NS};
    far_says(MSG_CHANNEL_OPEN, "suuu", "x", FAR_CHANNEL, WINDOW, 32768u);
    RIG_GO_UNTIL(opened && rig.counts[MSG_CHANNEL_OPEN_CONFIRMATION] > 0);
    lane_says(SAID_BYTES);
    lane_closes();
    expect_all_given_back();
    expect_an_orderly_end(SAID_BYTES);
    end();
    close(listener);
}

/* Nothing depends on what is in it. */
RIG_TEST(relay_lane, let_go_before_it_is_answered) {
    for (unsigned refused = 0; refused < 2; refused++) {
        begin(backend);
        ask(RELAY_STRIPE_JOIN);
        lane_says(SAID_BYTES);
        cr_expect_not(relay_has_closed());
        lane_closes();
        expect_all_given_back();
        if (refused) {
            far_says(MSG_CHANNEL_OPEN_FAILURE, "uuss", near_channel, 1u, "no such striped connection", "");
            RIG_GO_UNTIL(over);
            cr_expect(strstr(what, "no such striped connection"), "%s", what);
        } else {
            confirm(WINDOW);
            expect_an_orderly_end(0);
        }
        end();
    }
}

/* The rest of what it said can never be sent: it is cut, and that is what the far end hears. */
RIG_TEST(relay_lane, let_go_with_more_than_the_window) {
    begin(backend);
    open_joined(1000);
    lane_says(SAID_BYTES);
    RIG_GO_UNTIL(far_received == 1000);
    lane_closes();
    expect_all_given_back();
    RIG_GO_UNTIL(rig.counts[MSG_CHANNEL_CLOSE] > 0);
    cr_expect_eq(rig.counts[MSG_CHANNEL_EOF], 0);
    far_says(MSG_CHANNEL_CLOSE, "u", near_channel);
    RIG_GO_UNTIL(over);
    cr_expect_str_not_empty(what);
    end();
}

/* In the usual order: both ends' ends, then the lane is closed, with the window still full for a moment. */
RIG_TEST(relay_lane, an_orderly_end) {
    begin(backend);
    open_joined(1000);
    lane_says(SAID_BYTES);
    far_sends_data(near_channel, "abc", 3);
    far_says(MSG_CHANNEL_EOF, "u", near_channel);
    uint8_t bytes[4];
    ssize_t n = -1;
    RIG_GO_UNTIL(far_received == 1000 && (n = recv(lane, bytes, sizeof bytes, MSG_DONTWAIT)) == 3);
    RIG_GO_UNTIL((n = recv(lane, bytes, sizeof bytes, MSG_DONTWAIT)) == 0);
    lane_closes();
    for (unsigned i = 0; i < 10; i++)
        rig_step();
    cr_expect_not(relay_has_closed(), "the rest is on its way");
    far_says(MSG_CHANNEL_WINDOW_ADJUST, "uu", near_channel, WINDOW);
    RIG_GO_UNTIL(rig.counts[MSG_CHANNEL_CLOSE] > 0);
    cr_expect_eq(rig.counts[MSG_CHANNEL_EOF], 1);
    cr_expect_eq(far_received, SAID_BYTES);
    far_says(MSG_CHANNEL_CLOSE, "u", near_channel);
    RIG_GO_UNTIL(over);
    cr_expect_str_empty(what);
    end();
}

/* An application's socket is another matter: it is closed with its channel. */
RIG_TEST(relay_lane, others_are_not_watched) {
    begin(backend);
    open_lane(RELAY_FORWARDED_STREAMLOCAL, WINDOW);
    lane_closes();
    RIG_GO_UNTIL(rig.counts[MSG_CHANNEL_EOF] == 1);
    for (unsigned i = 0; i < 10; i++)
        rig_step();
    cr_expect_not(relay_has_closed());
    cr_expect_eq(rig.counts[MSG_CHANNEL_CLOSE], 0);
    far_says(MSG_CHANNEL_EOF, "u", near_channel);
    far_says(MSG_CHANNEL_CLOSE, "u", near_channel);
    RIG_GO_UNTIL(over);
    cr_expect_str_empty(what);
    end();
}
