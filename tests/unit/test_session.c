/* How a session ends, and what it says then, as a client and as a server; keepalives. */
#include "tests/unit/session_rig.h"

#define INTERVAL_NS (30 * RIG_MS)

static bool far_answers;
static unsigned far_said; /* keepalives of the session, as the far end has seen them */
static uint32_t disconnect_code;
static char disconnect_text[128];

static struct flow *on_open(struct mux *mux, const struct mux_open *open, uint32_t *reason, const char **text) {
    (void)mux, (void)open;
    *reason = OPEN_ADMINISTRATIVELY_PROHIBITED;
    *text = "";
    return NULL;
}
static bool on_global(struct mux *mux, struct bytes name, struct bytes data, uint8_t *reply, uint32_t *reply_len) {
    (void)mux, (void)name, (void)data, (void)reply, (void)reply_len;
    return false;
}
static const struct mux_ops mux_ops = {.on_open = on_open, .on_global = on_global};

static bool on_far_speech(void *arg, const struct packet *packet) {
    (void)arg;
    struct reader reader;
    if (packet->type != MSG_DISCONNECT)
        return false;
    reader_init(&reader, packet->payload + 1, packet->payload_len - 1);
    disconnect_code = reader_u32(&reader);
    snprintf(disconnect_text, sizeof disconnect_text, "%s", reader_name(&reader));
    return false;
}

static void on_far_packet(uint8_t type, struct reader reader) {
    if (type != MSG_GLOBAL_REQUEST)
        return;
    cr_expect_str_eq(reader_name(&reader), "keepalive@openssh.com");
    cr_expect(reader_bool(&reader), "an answer is what it is for");
    far_said++;
    if (far_answers)
        far_says(MSG_REQUEST_FAILURE, "");
}

static void begin(enum io_backend backend, bool is_server, uint64_t alive_interval_ns, uint32_t alive_count_max) {
    struct session_options options = {.mux_ops = &mux_ops,
                                      .is_server = is_server,
                                      .alive_interval_ns = alive_interval_ns,
                                      .alive_count_max = alive_count_max};
    rig.on_packet = on_far_packet;
    session_rig_begin(backend, &options, "SSH-2.0-other\r\n");
    rig.far->transport.on_speech = on_far_speech;
}

/* ---- keepalives ---- */

static void silence_ends(enum io_backend backend, bool is_server, const char *reason) {
    uint64_t begun_ns = io_clock_ns();
    begin(backend, is_server, INTERVAL_NS, 2);
    RIG_GO_UNTIL(rig.over);
    cr_expect_geq(io_clock_ns() - begun_ns, 3 * INTERVAL_NS);
    cr_expect_eq(far_said, 2);
    cr_expect_eq(rig.end_err, ERR_TIMEOUT);
    cr_expect_str_eq(rig.end_reason, reason);
    cr_expect_eq(disconnect_code, 0, "nobody hears it");
    session_rig_end();
}

RIG_TEST(session, a_silent_server) {
    silence_ends(backend, false, "timeout, server not responding");
}

RIG_TEST(session, a_silent_client) {
    silence_ends(backend, true, "Timeout, client not responding");
}

RIG_TEST(session, answers_keep_it_alive) {
    far_answers = true;
    begin(backend, true, INTERVAL_NS, 3);
    RIG_GO_UNTIL(far_said == 8 || rig.over);
    cr_expect_not(rig.over);
    session_rig_end();
}

/* sshd_config(5), ClientAliveCountMax; ssh(1) gives up at once then. */
RIG_TEST(session, a_server_with_a_count_of_zero_never_gives_up) {
    begin(backend, true, RIG_MS / 4, 0);
    RIG_GO_UNTIL(rig.session->mux.replies_pending_count == LIMIT_GLOBAL_REQUESTS_PENDING || rig.over);
    uint64_t until_ns = io_clock_ns() + 20 * RIG_MS; /* many more are due, and cannot be said any more */
    RIG_GO_UNTIL(io_clock_ns() >= until_ns);
    cr_expect_not(rig.over);
    cr_expect_eq(far_said, LIMIT_GLOBAL_REQUESTS_PENDING);
    session_rig_end();
}

RIG_TEST(session, a_client_with_a_count_of_zero_gives_up_at_once) {
    begin(backend, false, INTERVAL_NS, 0);
    RIG_GO_UNTIL(rig.over);
    cr_expect_eq(far_said, 0);
    cr_expect_eq(rig.end_err, ERR_TIMEOUT);
    session_rig_end();
}

/* ---- a start that fails ---- */

static bool no_memory;
void *__real_malloc(size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_malloc(size_t size) {
    return no_memory ? NULL : __real_malloc(size);
}

/* Whoever has something for it already looks whether it is ending. */
RIG_TEST(session, without_memory_it_is_as_one_that_ends) {
    static struct session failing;
    static struct transport transport;
    const struct session_options options = {.early = (const uint8_t *)"early",
                                            .early_len = 5,
                                            .transport = &transport,
                                            .mux_ops = &mux_ops,
                                            .budget = &rig.budget};
    rig_init(&rig.shard, backend, 64);
    window_budget_init(&rig.budget, LIMIT_WINDOW_BUDGET_BYTES);
    no_memory = true;
    int err = session_start(&failing, &rig.shard, &options);
    no_memory = false;
    cr_expect_eq(err, ERR_NOMEM);
    cr_expect(failing.ending && failing.shard == &rig.shard);
    shard_deinit(&rig.shard);
}

/* ---- words of the end ---- */

static void far_disconnects(enum io_backend backend, bool is_server, const char *reason) {
    begin(backend, is_server, 0, 0);
    far_says(MSG_DISCONNECT, "uss", 11u, "had enough", "");
    RIG_GO_UNTIL(rig.over);
    cr_expect_eq(rig.end_err, ERR_CLOSED);
    cr_expect_str_eq(rig.end_reason, reason);
    session_rig_end();
}

RIG_TEST(session, disconnected_by_the_server) {
    far_disconnects(backend, false, "disconnected by the server: had enough");
}

RIG_TEST(session, disconnected_by_the_client) {
    far_disconnects(backend, true, "disconnected by the client: had enough");
}

/* RFC 4253 §11.1. */
RIG_TEST(session, its_own_end_is_said) {
    begin(backend, true, 0, 0);
    session_end(rig.session, 0, "closing time");
    cr_expect(rig.ending && !rig.over, "told at once");
    session_end(rig.session, ERR_PROTOCOL, "not again");
    RIG_GO_UNTIL(rig.over);
    RIG_GO_UNTIL(disconnect_code != 0);
    cr_expect_eq(disconnect_code, 11, "by application");
    cr_expect_str_eq(disconnect_text, "closing time");
    cr_expect_eq(rig.end_err, 0);
    session_rig_end();
}

RIG_TEST(session, a_broken_protocol_is_said) {
    begin(backend, true, 0, 0);
    far_says(MSG_CHANNEL_DATA, "us", 4711u, "x");
    RIG_GO_UNTIL(rig.over);
    RIG_GO_UNTIL(disconnect_code != 0);
    cr_expect_eq(disconnect_code, 2, "protocol error");
    cr_expect_eq(rig.end_err, ERR_PROTOCOL);
    session_rig_end();
}

/* RFC 4252 §5.3: nothing happens. */
RIG_TEST(session, a_client_that_still_authenticates) {
    far_answers = true;
    begin(backend, true, INTERVAL_NS, 3);
    for (unsigned type = MSG_USERAUTH_FIRST; type <= MSG_USERAUTH_LAST; type++)
        far_says((uint8_t)type, "sss", "user", "ssh-connection", "none");
    RIG_GO_UNTIL(far_said == 3 || rig.over);
    cr_expect_not(rig.over);
    session_rig_end();
}
