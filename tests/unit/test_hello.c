/* What leat and leatd tell each other: hostile data, features that nobody knows, and what a session makes of it. */
#include "engine/tcp.h"
#include "ssh/hello.h"
#include "ssh/stripe.h"
#include "tests/unit/log_pipe.h"
#include "tests/unit/seed.h"
#include "tests/unit/session_rig.h"
#include <linux/socket.h>

/* ---- the data ---- */

static uint8_t data[4096];
static struct writer writer;

static void data_begin(uint32_t layout, uint32_t count) {
    writer_init(&writer, data, sizeof data);
    writer_u32(&writer, layout);
    writer_u32(&writer, count);
}

static void data_feature(const char *name, const void *value, size_t len) {
    writer_text(&writer, name);
    writer_string(&writer, value, len);
}

static struct bytes data_bytes(void) {
    cr_assert(writer_ok(&writer));
    return (struct bytes){.at = data, .len = writer_len(&writer)};
}

static void expect_nothing(struct bytes bytes, const char *what) {
    struct hello hello = {.resets_by_close = true, .window_max = 7};
    cr_expect_eq(hello_read(bytes, &hello), ERR_PROTOCOL, "%s", what);
    cr_expect(!hello.resets_by_close && hello.window_max == 0, "%s: something was taken", what);
}

Test(hello, what_we_say_is_understood) {
    uint8_t out[HELLO_BYTES];
    struct hello hello;
    struct bytes bytes = {.at = out, .len = hello_write(out)};
    cr_assert_eq(hello_read(bytes, &hello), 0);
    cr_expect(hello.resets_by_close);
    cr_expect_eq(hello.window_max, LIMIT_WINDOW_LEATD_BYTES);
    cr_expect_eq(hello.stripes, STRIPE_LANES_MAX);
}

/* The layout is a promise to versions to come. */
Test(hello, layout) {
    static const uint8_t expected[] = "\0\0\0\1\0\0\0\3"
                                      "\0\0\0\16reset-by-close\0\0\0\0"
                                      "\0\0\0\12window-max\0\0\0\4\4\0\0\0"
                                      "\0\0\0\7stripes\0\0\0\4\0\0\0\20";
    uint8_t out[HELLO_BYTES];
    cr_assert_eq(hello_write(out), sizeof expected - 1);
    cr_expect_arr_eq(out, expected, sizeof expected - 1);
}

Test(hello, features_nobody_knows) {
    struct hello hello;
    data_begin(1, 5);
    data_feature("striping", "\0\1\2", 3);
    data_feature("", "", 0);
    data_feature("reset-by-close", "and more of it", 14);
    data_feature("window-max\0", "\1\0\0\0", 4); /* the C string: the name itself */
    data_feature("Reset-By-Close", "", 0);
    cr_assert_eq(hello_read(data_bytes(), &hello), 0);
    cr_expect(hello.resets_by_close);
    cr_expect_eq(hello.window_max, 1u << 24);
    data_begin(1, 2);
    data_feature("Reset-By-Close", "", 0);
    data_feature("reset-by-close2", "", 0);
    cr_assert_eq(hello_read(data_bytes(), &hello), 0);
    cr_expect_not(hello.resets_by_close);
    data_begin(1, 0);
    cr_expect_eq(hello_read(data_bytes(), &hello), 0, "nothing at all may be said");
}

Test(hello, a_value_of_another_form_is_no_value) {
    struct hello hello;
    data_begin(1, 4);
    data_feature("window-max", "\1\0\0", 3);
    data_feature("window-max", "\1\0\0\0\0", 5);
    data_feature("stripes", "\0\0\4", 3);
    data_feature("stripes", "", 0);
    cr_assert_eq(hello_read(data_bytes(), &hello), 0);
    cr_expect_eq(hello.window_max, 0);
    cr_expect_eq(hello.stripes, 0);
}

Test(hello, more_lanes_than_there_can_be) {
    struct hello hello;
    data_begin(1, 1);
    data_feature("stripes", "\0\0\0\2", 4);
    cr_assert_eq(hello_read(data_bytes(), &hello), 0);
    cr_expect_eq(hello.stripes, 2);
    data_begin(1, 1);
    data_feature("stripes", "\377\0\0\1", 4);
    cr_assert_eq(hello_read(data_bytes(), &hello), 0);
    cr_expect_eq(hello.stripes, STRIPE_LANES_MAX);
}

Test(hello, another_layout) {
    for (uint32_t layout = 0; layout < 3; layout += 2) {
        data_begin(layout, 1);
        data_feature("reset-by-close", "", 0);
        expect_nothing(data_bytes(), "another layout");
    }
}

Test(hello, too_many) {
    struct hello hello;
    for (uint32_t count = LIMIT_HELLO_FEATURES; count <= LIMIT_HELLO_FEATURES + 1; count++) {
        data_begin(1, count);
        for (uint32_t i = 0; i < count; i++)
            data_feature("x", "", 0);
        cr_expect_eq(hello_read(data_bytes(), &hello), count <= LIMIT_HELLO_FEATURES ? 0 : ERR_PROTOCOL);
    }
    data_begin(1, UINT32_MAX);
    expect_nothing(data_bytes(), "a count that is a lie");
}

Test(hello, cut_short_or_too_long) {
    uint8_t out[HELLO_BYTES + 1];
    uint32_t len = hello_write(out);
    for (uint32_t cut = 0; cut < len; cut++) {
        uint8_t *exact = malloc(cut > 0 ? cut : 1); /* the sanitizer sees a byte too far */
        memcpy(exact, out, cut);
        expect_nothing((struct bytes){.at = exact, .len = cut}, "cut short");
        free(exact);
    }
    out[len] = 0;
    expect_nothing((struct bytes){.at = out, .len = len + 1}, "something behind it");
}

static void spoiled(uint64_t *state) {
    uint32_t len = random_below(state, HELLO_BYTES + 1);
    uint8_t ours[HELLO_BYTES] = {0}, *exact = malloc(len > 0 ? len : 1);
    struct hello hello;
    (void)hello_write(ours);
    for (uint32_t i = random_below(state, 4); i > 0; i--)
        ours[random_below(state, HELLO_BYTES)] = (uint8_t)random_u32(state);
    memcpy(exact, ours, len);
    int err = hello_read((struct bytes){.at = exact, .len = len}, &hello);
    cr_assert(err == 0 || (err == ERR_PROTOCOL && !hello.resets_by_close && hello.window_max == 0));
    free(exact);
}

Test(hello, any_bytes, .fini = seed_report) {
    seed_each(100000, spoiled);
}

/* ---- a client's session ---- */

static struct flow flow;
static bool flow_over;
static unsigned asked;
static char far_heard[64];
static struct hello far_hello;
static bool global_taken;

static struct flow *on_open(struct mux *mux, const struct mux_open *open, uint32_t *reason, const char **text) {
    (void)mux, (void)open;
    *reason = OPEN_ADMINISTRATIVELY_PROHIBITED;
    *text = "";
    return NULL;
}
static bool on_global(struct mux *mux, struct bytes name, struct bytes bytes, uint8_t *reply, uint32_t *reply_len) {
    cr_assert(bytes_equal(name, HELLO_REQUEST));
    return global_taken = hello_answer(mux->owner, bytes, reply, reply_len);
}
static const struct mux_ops mux_ops = {.on_open = on_open, .on_global = on_global};

static void on_flow_refused(struct flow *of, uint32_t reason, const char *text) {
    (void)of, (void)reason, (void)text;
    flow_over = true;
}
static const struct flow_ops flow_ops = {.on_refused = on_flow_refused};

static void on_far_packet(uint8_t type, struct reader reader) {
    if (type == MSG_GLOBAL_REQUEST) {
        cr_expect_eq(rig.counts[MSG_CHANNEL_OPEN], 0, "it comes before anything else");
        snprintf(far_heard, sizeof far_heard, "%s", reader_name(&reader));
        cr_expect(reader_bool(&reader));
        cr_expect_eq(hello_read(reader_rest(&reader), &far_hello), 0);
        asked++;
    }
    if (type == MSG_REQUEST_SUCCESS)
        cr_expect_eq(hello_read(reader_rest(&reader), &far_hello), 0);
}

static void begin(enum io_backend backend, const char *far_version, bool is_server, uint32_t window_max) {
    struct session_options options = {.mux_ops = &mux_ops, .is_server = is_server, .window_max = window_max};
    rig.on_packet = on_far_packet;
    session_rig_begin(backend, &options, far_version);
}

/* A client that asks and, as a real one, does not wait with its channels for the answer. */
static void begin_client(enum io_backend backend, const char *far_version, uint32_t window_max) {
    begin(backend, far_version, false, window_max);
    hello_ask(rig.session);
    int err = mux_open_direct(&rig.session->mux, &flow, &flow_ops, NULL, "h", 1, "h", 1);
    cr_assert_eq(err, 0);
    session_wake(rig.session);
    RIG_GO_UNTIL(rig.counts[MSG_CHANNEL_OPEN] == 1);
}

static void far_answers(uint8_t type, struct bytes bytes) {
    uint8_t payload[1024] = {type};
    memcpy(payload + 1, bytes.at, bytes.len);
    far_says_payload(payload, 1 + bytes.len);
    RIG_GO_UNTIL(rig.session->mux.replies_pending_count == 0 || rig.over);
    cr_expect_not(rig.over, "%s", rig.end_reason);
}

static void expect_windows(uint32_t max) {
    cr_expect_eq(rig.session->mux.window_max, max);
    cr_expect_eq(flow.window.max, max);
}

static void end_client(void) {
    session_rig_end();
    cr_expect(flow_over);
}

RIG_TEST(hello, both_know) {
    begin_client(backend, "SSH-2.0-leatd_99 whatever\r\n", 0);
    cr_expect_eq(asked, 1);
    cr_expect_str_eq(far_heard, "hello@leat");
    cr_expect(far_hello.resets_by_close && far_hello.window_max == LIMIT_WINDOW_LEATD_BYTES);
    expect_windows(LIMIT_WINDOW_OPENSSH_BYTES);
    uint8_t out[HELLO_BYTES];
    far_answers(MSG_REQUEST_SUCCESS, (struct bytes){.at = out, .len = hello_write(out)});
    cr_expect(rig.session->peer.resets_by_close);
    expect_windows(LIMIT_WINDOW_LEATD_BYTES);
    end_client();
}

static bool keeps_receive_buffer(void) {
    int lock = -1;
    socklen_t len = sizeof lock;
    cr_assert_eq(getsockopt(rig.session->fd, SOL_SOCKET, SO_BUF_LOCK, &lock, &len), 0);
    return (lock & SOCK_RCVBUF_LOCK) != 0;
}

/* OpenSSH's is autotuning's. */
RIG_TEST(hello, receive_buffer_is_kept_when_both_know) {
    rig.over_tcp = true;
    begin_client(backend, "SSH-2.0-leatd_99\r\n", 0);
    cr_expect_not(keeps_receive_buffer());
    uint8_t out[HELLO_BYTES];
    far_answers(MSG_REQUEST_SUCCESS, (struct bytes){.at = out, .len = hello_write(out)});
    cr_expect_eq(keeps_receive_buffer(), tcp_path_is_short(rig.session->fd));
    end_client();
}

/* A leatd that does not know it. */
RIG_TEST(hello, failure_changes_nothing) {
    begin_client(backend, "SSH-2.0-leatd_0\r\n", 0);
    cr_expect_eq(asked, 1);
    far_answers(MSG_REQUEST_FAILURE, (struct bytes){.at = data});
    cr_expect_not(rig.session->peer.resets_by_close);
    expect_windows(LIMIT_WINDOW_OPENSSH_BYTES);
    end_client();
}

RIG_TEST(hello, garbage_changes_nothing) {
    begin_client(backend, "SSH-2.0-leatd_0\r\n", 0);
    data_begin(1, 2);
    data_feature("reset-by-close", "", 0);
    far_answers(MSG_REQUEST_SUCCESS, data_bytes());
    cr_expect_not(rig.session->peer.resets_by_close);
    expect_windows(LIMIT_WINDOW_OPENSSH_BYTES);
    end_client();
}

/* Whose server may know it. */
RIG_TEST(hello, a_connection_lost_before_the_answer) {
    char out[4096];
    setup();
    log_set_level(LOG_LEVEL_DEBUG1);
    begin_client(backend, "SSH-2.0-leatd_99\r\n", 0);
    cr_expect_eq(asked, 1);
    session_end(rig.session, ERR_RESET, "lost");
    RIG_GO_UNTIL(rig.over);
    logged(out, sizeof out);
    cr_expect_null(strstr(out, "does not know"), "%s", out);
    cr_expect_not_null(strstr(out, "the connection ended before " HELLO_REQUEST " was answered"), "%s", out);
    teardown();
    session_rig_end();
}

static void stock(enum io_backend backend, const char *version) {
    begin_client(backend, version, 0);
    cr_expect_eq(asked, 0);
    cr_expect_eq(rig.counts[MSG_GLOBAL_REQUEST], 0);
    end_client();
}
RIG_TEST(hello, openssh_is_not_asked) {
    stock(backend, "SSH-2.0-OpenSSH_9.2p1 leatd_1\r\n");
}
RIG_TEST(hello, nobody_else_is_asked) {
    stock(backend, "SSH-2.0-dropbear_2022.83\r\n");
}

static void openssh_s_window(enum io_backend backend, uint32_t own, uint32_t becomes) {
    begin_client(backend, "SSH-2.0-OpenSSH_10.2\r\n", own);
    expect_windows(becomes);
    end_client();
}
RIG_TEST(hello, openssh_s_window_has_its_cap) {
    openssh_s_window(backend, 0, LIMIT_WINDOW_OPENSSH_BYTES);
}
RIG_TEST(hello, openssh_s_window_has_its_cap_whatever_the_user_says) {
    openssh_s_window(backend, LIMIT_WINDOW_LEATD_BYTES, LIMIT_WINDOW_OPENSSH_BYTES);
}
RIG_TEST(hello, openssh_s_window_may_be_smaller) {
    openssh_s_window(backend, LIMIT_WINDOW_OPENSSH_BYTES - 1, LIMIT_WINDOW_OPENSSH_BYTES - 1);
}

static void window_becomes(enum io_backend backend, uint32_t own, uint32_t said, uint32_t becomes) {
    uint8_t value[4];
    codec_put_u32(value, said);
    begin_client(backend, "SSH-2.0-leatd_0\r\n", own);
    data_begin(1, 1);
    data_feature("window-max", value, sizeof value);
    far_answers(MSG_REQUEST_SUCCESS, data_bytes());
    expect_windows(becomes);
    end_client();
}
RIG_TEST(hello, the_users_own_window_stands) {
    window_becomes(backend, 1 << 20, UINT32_MAX, 1 << 20);
}
RIG_TEST(hello, a_window_beyond_ours) {
    window_becomes(backend, 0, UINT32_MAX, LIMIT_WINDOW_LEATD_BYTES);
}
RIG_TEST(hello, a_window_between) {
    window_becomes(backend, 0, 20 << 20, 20 << 20);
}
RIG_TEST(hello, a_window_of_nothing) {
    window_becomes(backend, 0, 0, LIMIT_WINDOW_OPENSSH_BYTES);
}

/* ---- a server's session ---- */

static void far_asks(struct bytes bytes) {
    uint8_t payload[1024];
    struct writer request;
    writer_init(&request, payload, sizeof payload);
    writer_u8(&request, MSG_GLOBAL_REQUEST);
    writer_text(&request, HELLO_REQUEST);
    writer_bool(&request, true);
    writer_raw(&request, bytes.at, bytes.len);
    far_says_payload(payload, writer_len(&request));
}

RIG_TEST(hello, a_server_answers) {
    uint8_t out[HELLO_BYTES];
    begin(backend, "SSH-2.0-libssh_0.10.6\r\n", true, 0);
    far_asks((struct bytes){.at = out, .len = hello_write(out)});
    RIG_GO_UNTIL(rig.counts[MSG_REQUEST_SUCCESS] == 1);
    cr_expect(far_hello.resets_by_close && far_hello.window_max == LIMIT_WINDOW_LEATD_BYTES);
    cr_expect(rig.session->peer.resets_by_close);
    cr_expect_eq(rig.session->mux.window_max, LIMIT_WINDOW_LEATD_BYTES);
    session_rig_end();
}

/* OpenSSH says no hello. Who says one in its name has its window. */
RIG_TEST(hello, a_server_raises_no_window_of_openssh) {
    uint8_t out[HELLO_BYTES];
    begin(backend, "SSH-2.0-OpenSSH_9.2p1\r\n", true, 0);
    far_asks((struct bytes){.at = out, .len = hello_write(out)});
    RIG_GO_UNTIL(rig.counts[MSG_REQUEST_SUCCESS] == 1);
    cr_expect(rig.session->peer.resets_by_close);
    cr_expect_eq(rig.session->mux.window_max, LIMIT_WINDOW_OPENSSH_BYTES);
    session_rig_end();
}

RIG_TEST(hello, a_server_refuses_garbage) {
    begin(backend, "SSH-2.0-libssh_0.10.6\r\n", true, 0);
    data_begin(2, 0);
    far_asks(data_bytes());
    RIG_GO_UNTIL(rig.counts[MSG_REQUEST_FAILURE] == 1);
    cr_expect_not(global_taken || rig.session->peer.resets_by_close);
    cr_expect_eq(rig.session->mux.window_max, LIMIT_WINDOW_OPENSSH_BYTES);
    session_rig_end();
}
