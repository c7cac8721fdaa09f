/* What a client of leatd opens: done, refused with the true reason, and told to the audit. */
#include "tests/unit/forward_rig.h"

/* ---- channels the client opens ---- */

static void ask_tcpip(const char *host, uint32_t port) {
    far_says(MSG_CHANNEL_OPEN, "suuususu", "direct-tcpip", CLIENT_CHANNEL, 100000u, 32768u, host, port, "10.1.2.3", 4u);
}

static void ask_path(const char *path) {
    far_says(MSG_CHANNEL_OPEN, "suuussu", "direct-streamlocal@openssh.com", CLIENT_CHANNEL, 100000u, 32768u, path, "",
             0u);
}

static void expect_refusal(uint32_t reason, const char *text, const char *forward, const char *requested) {
    RIG_GO_UNTIL(refusal != 0);
    cr_expect_eq(refusal, reason, "%s: %u", requested, refusal);
    cr_expect_str_eq(refusal_text, text);
    cr_expect_str_eq(last_note()->event, "forward refused");
    cr_expect_str_eq(last_note()->forward, forward);
    cr_expect_str_eq(last_note()->requested, requested);
    cr_expect_str_eq(last_note()->reason, text);
    cr_expect_not(last_note()->counted);
    cr_expect_eq(channels, 0);
    refusal = 0;
}

SERVER_TEST(server_forward, direct_tcpip) {
    struct sockaddr_in addr;
    char place[80];
    begin(backend);
    int listener = rig_listen(&addr);
    snprintf(place, sizeof place, "127.0.0.1 port %u", ntohs(addr.sin_port));
    ask_tcpip("127.0.0.1", ntohs(addr.sin_port));
    RIG_GO_UNTIL(rig.counts[MSG_CHANNEL_OPEN_CONFIRMATION] == 1);
    cr_expect(channels == 1 && connection.forwards_open == 1 && notes_count == 1);
    cr_expect_str_eq(notes[0].event, "forward opened");
    cr_expect_str_eq(notes[0].forward, "direct-tcpip");
    cr_expect_str_eq(notes[0].requested, place);
    cr_expect_str_eq(notes[0].resolved, place);
    cr_expect_str_eq(notes[0].origin, "10.1.2.3 port 4");
    talk_and_close(accept(listener, NULL, NULL));
    cr_expect_str_eq(last_note()->resolved, place);
    cr_expect(last_note()->bytes_to_target == 10 && last_note()->bytes_from_target == 30);
    cr_expect_eq(connection.forwards_open, 0);
    server_rig_end();
    close(listener);
}

/* The client learns what it lacks; whoever can raise the limit, its name. */
SERVER_TEST(server_forward, what_has_no_window_left_is_told_to_the_audit) {
    begin(backend);
    rig.budget.max = 1000;
    ask_tcpip("host", 80);
    RIG_GO_UNTIL(refusal != 0);
    cr_expect_eq(refusal, OPEN_RESOURCE_SHORTAGE);
    cr_expect_str_eq(last_note()->event, "forward refused");
    cr_expect_str_eq(last_note()->forward, "direct-tcpip");
    cr_expect_str_eq(last_note()->requested, "host port 80");
    cr_expect_str_eq(last_note()->reason, "no room for another connection's window within MemoryLimit 1000");
    refusal = 0;
    server_rig_end();
}

SERVER_TEST(server_forward, what_is_no_target_is_refused) {
    char longest[257];
    memset(longest, 'h', sizeof longest - 1);
    longest[256] = '\0';
    begin(backend);
    ask_tcpip("host", 0);
    expect_refusal(OPEN_CONNECT_FAILED, "not a port", "direct-tcpip", "host port 0");
    ask_tcpip("host", 65536);
    expect_refusal(OPEN_CONNECT_FAILED, "not a port", "direct-tcpip", "host port 65536");
    ask_tcpip("", 80);
    expect_refusal(OPEN_CONNECT_FAILED, "not a host name", "direct-tcpip", " port 80");
    ask_tcpip("ho\nst", 80);
    expect_refusal(OPEN_CONNECT_FAILED, "not a host name", "direct-tcpip", "ho\nst port 80");
    ask_tcpip(longest, 80);
    cr_assert_eq(refusal, 0);
    RIG_GO_UNTIL(refusal != 0);
    cr_expect_str_eq(refusal_text, "not a host name");
    refusal = 0;
    ask_path("");
    expect_refusal(OPEN_CONNECT_FAILED, "the path is not absolute", "direct-streamlocal", "");
    ask_path("run/app.sock");
    expect_refusal(OPEN_CONNECT_FAILED, "the path is not absolute", "direct-streamlocal", "run/app.sock");
    ask_path("/run/\033app");
    expect_refusal(OPEN_CONNECT_FAILED, "not a path", "direct-streamlocal", "/run/\033app");
    longest[0] = '/';
    longest[108] = '\0';
    ask_path(longest);
    RIG_GO_UNTIL(refusal != 0);
    cr_expect_str_eq(refusal_text, "not a path");
    server_rig_end();
}

SERVER_TEST(server_forward, what_the_policy_forbids_is_refused) {
    options.permit_open.restricted = true;
    begin(backend);
    ask_tcpip("lan-host", 80);
    expect_refusal(OPEN_ADMINISTRATIVELY_PROHIBITED, "not in PermitOpen", "direct-tcpip", "lan-host port 80");
    options.permit_open.restricted = false;
    options.allow_tcp_forwarding = FORWARDING_REMOTE;
    ask_tcpip("lan-host", 80);
    expect_refusal(OPEN_ADMINISTRATIVELY_PROHIBITED, "AllowTcpForwarding", "direct-tcpip", "lan-host port 80");
    options.allow_tcp_forwarding = FORWARDING_ALL;
    options.allow_streamlocal_forwarding = 0;
    ask_path("/run/app.sock");
    expect_refusal(OPEN_ADMINISTRATIVELY_PROHIBITED, "AllowStreamLocalForwarding", "direct-streamlocal",
                   "/run/app.sock");
    server_rig_end();
}

SERVER_TEST(server_forward, nobody_listens_there) {
    struct sockaddr_in addr;
    begin(backend);
    close(rig_listen(&addr));
    ask_tcpip("127.0.0.1", ntohs(addr.sin_port));
    RIG_GO_UNTIL(refusal != 0);
    cr_expect_eq(refusal, OPEN_CONNECT_FAILED);
    cr_expect(strstr(refusal_text, "refused"), "%s", refusal_text);
    RIG_GO_UNTIL(channels == 0);
    cr_expect_str_eq(last_note()->event, "forward refused");
    cr_expect(strstr(last_note()->reason, "refused"));
    server_rig_end();
}

SERVER_TEST(server_forward, other_channels_are_unknown) {
    static const char *const types[] = {"x11", "auth-agent@openssh.com", "tun@openssh.com", ""};
    begin(backend);
    for (unsigned i = 0; i < sizeof types / sizeof *types; i++) {
        far_says(MSG_CHANNEL_OPEN, "suuu", types[i], CLIENT_CHANNEL, 1000u, 1000u);
        RIG_GO_UNTIL(refusal != 0);
        cr_expect_eq(refusal, OPEN_UNKNOWN_CHANNEL_TYPE, "%s", types[i]);
        refusal = 0;
    }
    /* Only servers open these. */
    far_says(MSG_CHANNEL_OPEN, "suuususu", "forwarded-tcpip", CLIENT_CHANNEL, 1000u, 1000u, "127.0.0.1", 1u, "x", 1u);
    RIG_GO_UNTIL(refusal != 0);
    cr_expect_eq(refusal, OPEN_UNKNOWN_CHANNEL_TYPE);
    server_rig_end();
}

SERVER_TEST(server_forward, channel_timeout) {
    static char type[] = "direct-*";
    struct channel_timeout timeout = {.type = type, .seconds = 1};
    struct sockaddr_in addr;
    options.channel_timeouts = &timeout;
    options.channel_timeouts_count = 1;
    begin(backend);
    int listener = rig_listen(&addr);
    ask_tcpip("127.0.0.1", ntohs(addr.sin_port));
    RIG_GO_UNTIL(rig.counts[MSG_CHANNEL_CLOSE] == 1);
    far_says(MSG_CHANNEL_CLOSE, "u", near_channel);
    RIG_GO_UNTIL(channels == 0);
    cr_expect_str_eq(last_note()->event, "forward closed");
    cr_expect(strstr(last_note()->reason, "idle"));
    server_rig_end();
    close(listener);
}

SERVER_TEST(server_forward, nothing_new_while_draining) {
    begin(backend);
    connection.draining = true;
    ask_tcpip("127.0.0.1", 80);
    expect_refusal(OPEN_ADMINISTRATIVELY_PROHIBITED, "this server is stopping", "direct-tcpip", "127.0.0.1 port 80");
    ask_path("/x");
    expect_refusal(OPEN_ADMINISTRATIVELY_PROHIBITED, "this server is stopping", "direct-streamlocal", "/x");
    far_says(MSG_CHANNEL_OPEN, "suuu", "session", CLIENT_CHANNEL, 1000u, 1000u);
    RIG_GO_UNTIL(refusal != 0);
    cr_expect_str_eq(last_note()->event, "session refused");
    server_rig_end();
}

/* ---- other requests ---- */

static bool request(const char *name) {
    unsigned before = replies;
    far_says(MSG_GLOBAL_REQUEST, "sb", name, 1);
    RIG_GO_UNTIL(replies == before + 1);
    return reply_success;
}

SERVER_TEST(server_forward, other_requests) {
    begin(backend);
    cr_expect_not(request("keepalive@openssh.com"), "any answer is a sign of life");
    cr_expect_not(request("hostkeys-prove-00@openssh.com"));
    cr_expect_not(request("tcpip-forward@example.org"));
    cr_expect_not(request(""));
    far_says(MSG_GLOBAL_REQUEST, "sb", "whatever", 0);
    unsigned before = replies;
    cr_expect_not(connection.no_more_sessions);
    cr_expect(request("no-more-sessions@openssh.com"));
    cr_expect_eq(replies, before + 1, "nobody answers what wants none");
    far_says(MSG_CHANNEL_OPEN, "suuu", "session", CLIENT_CHANNEL, 1000u, 1000u);
    RIG_GO_UNTIL(refusal != 0);
    cr_expect_eq(refusal, OPEN_ADMINISTRATIVELY_PROHIBITED);
    server_rig_end();
}
