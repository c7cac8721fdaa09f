/* Session channels at leatd: a text instead of a shell. */
#include "tests/unit/server_rig.h"

#define TEXT_MAX 65536u

static uint32_t near_channel, refusal, exit_status;
static char text[TEXT_MAX];
static size_t text_len;
static uint32_t longest; /* packet */
static char order[16];   /* of what ends it: S exit-status, E EOF, C CLOSE */
static unsigned answers; /* to channel requests */
static bool last_answer;

static void then(char what) {
    size_t len = strlen(order);
    cr_assert_lt(len, sizeof order - 1);
    order[len] = what;
}

static void on_data(struct bytes data) {
    cr_assert_lt(text_len + data.len, TEXT_MAX);
    memcpy(text + text_len, data.at, data.len);
    text_len += data.len;
    text[text_len] = '\0';
    longest = data.len > longest ? data.len : longest;
    cr_expect_str_empty(order, "text after the end");
}

static void on_far_packet(uint8_t type, struct reader reader) {
    reader_u32(&reader);
    if (type == MSG_CHANNEL_OPEN_CONFIRMATION)
        near_channel = reader_u32(&reader);
    if (type == MSG_CHANNEL_OPEN_FAILURE)
        refusal = reader_u32(&reader);
    if (type == MSG_CHANNEL_DATA)
        on_data(reader_string(&reader));
    if (type == MSG_CHANNEL_SUCCESS || type == MSG_CHANNEL_FAILURE) {
        answers++;
        last_answer = type == MSG_CHANNEL_SUCCESS;
    }
    if (type == MSG_CHANNEL_REQUEST) {
        cr_expect_str_eq(reader_name(&reader), "exit-status");
        cr_expect_not(reader_bool(&reader));
        exit_status = reader_u32(&reader);
        cr_expect(reader_done(&reader));
        then('S');
    }
    if (type == MSG_CHANNEL_EOF)
        then('E');
    if (type == MSG_CHANNEL_CLOSE)
        then('C');
}

static void begin(enum io_backend backend, uint32_t window, uint32_t packet_max) {
    rig.on_packet = on_far_packet;
    server_rig_begin(backend);
    far_says(MSG_CHANNEL_OPEN, "suuu", "session", CLIENT_CHANNEL, window, packet_max);
    RIG_GO_UNTIL(rig.counts[MSG_CHANNEL_OPEN_CONFIRMATION] == 1);
    cr_expect(connection.session_channels == 1 && channels == 1);
    exit_status = 99;
}

static bool answered(void) {
    unsigned before = answers;
    RIG_GO_UNTIL(answers == before + 1);
    return last_answer;
}

static bool request(const char *name) {
    far_says(MSG_CHANNEL_REQUEST, "usb", near_channel, name, 1);
    return answered();
}

static bool request_pty(void) {
    far_says(MSG_CHANNEL_REQUEST, "usbsuuuus", near_channel, "pty-req", 1, "xterm", 80u, 24u, 0u, 0u, "");
    return answered();
}

static bool request_exec(void) {
    far_says(MSG_CHANNEL_REQUEST, "usbs", near_channel, "exec", 1, "rm -rf /");
    return answered();
}

static void expect_end(uint32_t status) {
    RIG_GO_UNTIL(rig.counts[MSG_CHANNEL_CLOSE] == 1);
    cr_expect_str_eq(order, "SEC");
    cr_expect_eq(exit_status, status);
    cr_expect_eq(channels, 1, "the client has not closed it yet");
    far_says(MSG_CHANNEL_CLOSE, "u", near_channel);
    RIG_GO_UNTIL(channels == 0 && connection.session_channels == 0);
}

static void text_is_whole(void) {
    RIG_GO_UNTIL(strstr(text, "Forwarded connections:") && strstr(text, "none"));
}

SERVER_TEST(server_shell, a_shell_shows_the_text_and_stays) {
    begin(backend, 100000, 32768);
    cr_expect(request("shell"));
    RIG_GO_UNTIL(strstr(text, "Ctrl-C"));
    cr_expect(strstr(text, "alice, from 192.0.2.7 port 40000"), "%s", text);
    cr_expect_null(strchr(text, '\r'));
    cr_expect_eq(text[text_len - 1], '\n');
    for (unsigned i = 0; i < 20; i++)
        rig_step();
    cr_expect_str_empty(order, "it stays");
    cr_expect_not(request("shell"), "once is enough");
    far_sends_data(near_channel, "abc\003", 4);
    expect_end(0);
    server_rig_end();
}

SERVER_TEST(server_shell, a_terminal_wants_carriage_returns) {
    begin(backend, 100000, 32768);
    cr_expect(request_pty());
    cr_expect(request("shell"));
    RIG_GO_UNTIL(strstr(text, "Ctrl-C"));
    for (const char *at = text; (at = strchr(at, '\n')); at++)
        cr_expect(at > text && at[-1] == '\r');
    far_sends_data(near_channel, "\004", 1);
    expect_end(0);
    server_rig_end();
}

/* No EOF of the client is waited for. */
SERVER_TEST(server_shell, a_command_is_not_run) {
    begin(backend, 100000, 32768);
    cr_expect(request_exec());
    expect_end(1);
    cr_expect(strstr(text, "leatd"));
    cr_expect_null(strstr(text, "Ctrl-C"));
    cr_expect_str_eq(notes[0].event, "command refused");
    server_rig_end();
}

SERVER_TEST(server_shell, the_end_of_input_ends_a_shell) {
    begin(backend, 100000, 32768);
    cr_expect(request("shell"));
    far_says(MSG_CHANNEL_EOF, "u", near_channel);
    expect_end(0);
    cr_expect_gt(text_len, 0);
    server_rig_end();
}

/* "ssh relay < /dev/null": the request and EOF may come in any order. */
SERVER_TEST(server_shell, the_end_of_input_before_the_shell) {
    begin(backend, 100000, 32768);
    far_says(MSG_CHANNEL_EOF, "u", near_channel);
    cr_expect(request("shell"));
    expect_end(0);
    cr_expect_gt(text_len, 0);
    server_rig_end();
}

SERVER_TEST(server_shell, other_requests) {
    static const char *const refused[] = {
        "subsystem", "x11-req", "auth-agent-req@openssh.com", "signal", "xon-xoff", "eow@openssh.com", ""};
    begin(backend, 100000, 32768);
    for (unsigned i = 0; i < sizeof refused / sizeof *refused; i++)
        cr_expect_not(request(refused[i]), "%s", refused[i]);
    cr_expect(request("env") && request("window-change"));
    cr_expect_eq(text_len, 0);
    server_rig_end();
}

/* Windows of odd sizes, given byte by byte and in pieces, and packets that are tiny. */
SERVER_TEST(server_shell, a_small_window) {
    static const uint32_t grants[] = {1, 2, 7, 13, 50};
    begin(backend, 3, 11);
    cr_expect(request("shell"));
    for (unsigned i = 0; !strstr(text, "Ctrl-C.\n"); i++) {
        uint64_t granted = 3 + 73 * (uint64_t)(i / 5) + (uint64_t[]){0, 1, 3, 10, 23}[i % 5];
        RIG_GO_UNTIL(text_len == granted || strstr(text, "Ctrl-C.\n"));
        rig_step();
        cr_assert_leq(text_len, granted);
        far_says(MSG_CHANNEL_WINDOW_ADJUST, "uu", near_channel, grants[i % 5]);
    }
    cr_expect_leq(longest, 11);
    far_says(MSG_CHANNEL_EOF, "u", near_channel);
    expect_end(0);
    server_rig_end();
}

/* Who breaks off does not have to take the rest first. */
SERVER_TEST(server_shell, breaking_off_in_the_middle_of_the_text) {
    begin(backend, 3, 11);
    cr_expect(request("shell"));
    RIG_GO_UNTIL(text_len == 3);
    far_sends_data(near_channel, "\003", 1);
    expect_end(0);
    cr_expect_eq(text_len, 3);
    server_rig_end();
}

SERVER_TEST(server_shell, no_slots_for_a_while) {
    struct slot *taken = NULL, *slot;
    begin(backend, 100000, 32768);
    while ((slot = slot_take(&rig.shard.slots))) {
        slot->next = taken;
        taken = slot;
    }
    cr_expect(request_exec());
    for (unsigned i = 0; i < 20; i++)
        rig_step();
    cr_expect_eq(text_len, 0);
    while ((slot = taken)) {
        taken = slot->next;
        slot_put(&rig.shard.slots, slot);
    }
    expect_end(1);
    cr_expect_gt(text_len, 0);
    server_rig_end();
}

/* Input goes nowhere, and its window comes back. */
SERVER_TEST(server_shell, input_is_taken) {
    static uint8_t data[30000];
    begin(backend, 100000, 32768);
    cr_expect(request("shell"));
    const struct flow *flow = rig.session->mux.flows[near_channel];
    for (uint64_t said = 0; said < 3 * (uint64_t)LIMIT_WINDOW_START_BYTES; said += sizeof data) {
        RIG_GO_UNTIL(flow->window.granted >= sizeof data);
        far_sends_data(near_channel, data, sizeof data);
    }
    RIG_GO_UNTIL(rig.counts[MSG_CHANNEL_WINDOW_ADJUST] > 0);
    server_rig_end();
}

SERVER_TEST(server_shell, max_sessions) {
    options.max_sessions = 2;
    begin(backend, 1000, 1000);
    far_says(MSG_CHANNEL_OPEN, "suuu", "session", CLIENT_CHANNEL + 1, 1000u, 1000u);
    RIG_GO_UNTIL(rig.counts[MSG_CHANNEL_OPEN_CONFIRMATION] == 2);
    far_says(MSG_CHANNEL_OPEN, "suuu", "session", CLIENT_CHANNEL + 2, 1000u, 1000u);
    RIG_GO_UNTIL(refusal != 0);
    cr_expect_eq(refusal, OPEN_ADMINISTRATIVELY_PROHIBITED);
    cr_expect_str_eq(last_note()->event, "session refused");
    cr_expect_str_eq(last_note()->reason, "MaxSessions");
    far_says(MSG_CHANNEL_CLOSE, "u", near_channel);
    RIG_GO_UNTIL(connection.session_channels == 1);
    far_says(MSG_CHANNEL_OPEN, "suuu", "session", CLIENT_CHANNEL + 3, 1000u, 1000u);
    RIG_GO_UNTIL(rig.counts[MSG_CHANNEL_OPEN_CONFIRMATION] == 3);
    server_rig_end();
}

SERVER_TEST(server_shell, forwards_are_listed) {
    begin(backend, 100000, 32768);
    far_says(MSG_GLOBAL_REQUEST, "sbsu", "tcpip-forward", 1, "localhost", 0u);
    RIG_GO_UNTIL(rig.counts[MSG_REQUEST_SUCCESS] == 1);
    cr_expect(request("shell"));
    text_is_whole();
    cr_expect(strstr(text, "  tcpip-forward on localhost port "), "%s", text);
    server_rig_end();
}

SERVER_TEST(server_shell, idle_for_too_long) {
    static char type[] = "session:shell";
    struct channel_timeout timeout = {.type = type, .seconds = 1};
    options.channel_timeouts = &timeout;
    options.channel_timeouts_count = 1;
    begin(backend, 100000, 32768);
    cr_expect(request("shell"));
    RIG_GO_UNTIL(rig.counts[MSG_CHANNEL_CLOSE] == 1);
    far_says(MSG_CHANNEL_CLOSE, "u", near_channel);
    RIG_GO_UNTIL(channels == 0);
    server_rig_end();
}

/* With text, a waiter for slots and a timer left. */
SERVER_TEST(server_shell, the_connection_ends_first) {
    begin(backend, 3, 11);
    cr_expect(request("shell"));
    server_rig_end();
}
