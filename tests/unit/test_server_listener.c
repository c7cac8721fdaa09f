/* Remote forwards at leatd: where it listens for a client, for how long, and what comes in. */
#include "tests/unit/forward_rig.h"
#include <sys/stat.h>
#include <sys/un.h>

/* ---- listening ---- */

static bool request_forward(const char *name, const char *host, uint32_t port) {
    unsigned before = replies;
    far_says(MSG_GLOBAL_REQUEST, "sbsu", name, 1, host, port);
    RIG_GO_UNTIL(replies == before + 1);
    return reply_success;
}

static bool listen_at(const char *host, uint32_t port) {
    return request_forward("tcpip-forward", host, port);
}

static bool cancel_at(const char *host, uint32_t port) {
    return request_forward("cancel-tcpip-forward", host, port);
}

/* A connection to it, or -1: refused. */
static int connect_to(const char *host, uint32_t port) {
    struct sockaddr_in addr = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    cr_assert_eq(inet_pton(AF_INET, host, &addr.sin_addr), 1);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (connect(fd, (struct sockaddr *)&addr, sizeof addr) == 0)
        return fd;
    cr_assert_eq(errno, ECONNREFUSED);
    close(fd);
    return -1;
}

static bool listens(const char *host, uint32_t port) {
    int fd = connect_to(host, port);
    if (fd >= 0)
        rig_close_with_reset(fd);
    return fd >= 0;
}

static int connect_v6(uint32_t port) {
    struct sockaddr_in6 addr = {
        .sin6_family = AF_INET6, .sin6_port = htons((uint16_t)port), .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    int fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int result = fd < 0 ? -1 : connect(fd, (struct sockaddr *)&addr, sizeof addr);
    if (fd >= 0)
        close(fd);
    return result;
}

static bool has_v6(void) {
    struct sockaddr_in6 addr = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    int fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool has = fd >= 0 && bind(fd, (struct sockaddr *)&addr, sizeof addr) == 0;
    if (fd >= 0)
        close(fd);
    return has;
}

SERVER_TEST(server_listener, remote_forward) {
    char place[80], origin[80];
    struct sockaddr_in addr;
    socklen_t len = sizeof addr;
    begin(backend);
    cr_assert(listen_at("localhost", 0));
    cr_assert(reply_len == 4 && reply_port > 0);
    snprintf(place, sizeof place, "localhost port %u", reply_port);
    cr_expect(connection.listeners_count == 1 && channels == 1);
    cr_expect_str_eq(last_note()->event, "listener opened");
    cr_expect_str_eq(last_note()->forward, "tcpip-forward");
    cr_expect_str_eq(last_note()->requested, place);
    int app = connect_to("127.0.0.1", reply_port);
    cr_assert_geq(app, 0);
    cr_assert_eq(getsockname(app, (struct sockaddr *)&addr, &len), 0);
    snprintf(origin, sizeof origin, "127.0.0.1 port %u", ntohs(addr.sin_port));
    RIG_GO_UNTIL(rig.counts[MSG_CHANNEL_OPEN] == 1);
    cr_expect_str_eq(open_type, "forwarded-tcpip");
    cr_expect_str_eq(open_host, "localhost");
    cr_expect_eq(open_port, reply_port);
    cr_expect_str_eq(open_origin, "127.0.0.1");
    cr_expect_eq(open_origin_port, ntohs(addr.sin_port));
    far_says(MSG_CHANNEL_OPEN_CONFIRMATION, "uuuu", near_channel, CLIENT_CHANNEL, 100000u, 32768u);
    RIG_GO_UNTIL(connection.forwards_open == 1);
    cr_expect_str_eq(last_note()->event, "forward opened");
    cr_expect_str_eq(last_note()->requested, place);
    talk_and_close(app);
    cr_expect_str_eq(last_note()->forward, "forwarded-tcpip");
    cr_expect_str_eq(last_note()->origin, origin);
    cr_expect(last_note()->bytes_to_target == 30 && last_note()->bytes_from_target == 10, "the target is the client's");
    server_rig_end();
}

SERVER_TEST(server_listener, the_client_refuses_what_came_in) {
    begin(backend);
    cr_assert(listen_at("", 0));
    int app = connect_to("127.0.0.1", reply_port);
    RIG_GO_UNTIL(rig.counts[MSG_CHANNEL_OPEN] == 1);
    far_says(MSG_CHANNEL_OPEN_FAILURE, "uuss", near_channel, 2u, "no such thing", "");
    RIG_GO_UNTIL(channels == 1);
    cr_expect_str_eq(last_note()->event, "forward refused");
    cr_expect_str_eq(last_note()->forward, "forwarded-tcpip");
    cr_expect(strstr(last_note()->reason, "no such thing"));
    close(app);
    server_rig_end();
}

SERVER_TEST(server_listener, both_families_one_port) {
    begin(backend);
    if (!has_v6())
        cr_skip("no IPv6 here");
    cr_assert(listen_at("localhost", 0));
    cr_expect(listens("127.0.0.1", reply_port));
    cr_expect_eq(connect_v6(reply_port), 0);
    options.family = AF_INET;
    cr_assert(listen_at("localhost", 0));
    cr_expect(listens("127.0.0.1", reply_port));
    cr_expect_eq(connect_v6(reply_port), -1);
    server_rig_end();
}

/* What is asked for right behind a cancel must find the address free. */
SERVER_TEST(server_listener, cancel_frees_the_address_at_once) {
    begin(backend);
    cr_assert(listen_at("localhost", 0));
    uint32_t port = reply_port;
    unsigned before = replies;
    for (unsigned i = 0; i < 3; i++) {
        far_says(MSG_GLOBAL_REQUEST, "sbsu", "cancel-tcpip-forward", 1, "localhost", port);
        far_says(MSG_GLOBAL_REQUEST, "sbsu", "tcpip-forward", 1, "localhost", port);
    }
    RIG_GO_UNTIL(replies == before + 6);
    cr_expect_eq(rig.counts[MSG_REQUEST_FAILURE], 0);
    cr_expect_eq(reply_len, 0, "a port that was asked for is not told");
    RIG_GO_UNTIL(connection.listeners_count == 1);
    cr_expect(listens("127.0.0.1", port));
    cr_assert(cancel_at("localhost", port));
    cr_expect_not(listens("127.0.0.1", port));
    cr_expect_str_eq(last_note()->event, "listener closed");
    RIG_GO_UNTIL(connection.listeners_count == 0);
    cr_expect_not(cancel_at("localhost", port));
    server_rig_end();
}

SERVER_TEST(server_listener, cancel_names_it_as_it_was_asked_for) {
    begin(backend);
    cr_assert(listen_at("localhost", 0));
    uint32_t port = reply_port;
    cr_expect_not(cancel_at("127.0.0.1", port));
    cr_expect_not(cancel_at("", port));
    cr_expect_not(cancel_at("localhost", port - 1));
    cr_expect_not(cancel_at("localhost", port + 65536));
    cr_expect(listens("127.0.0.1", port));
    cr_expect(cancel_at("localhost", 0), "as asked");
    server_rig_end();
}

SERVER_TEST(server_listener, the_same_twice) {
    begin(backend);
    cr_assert(listen_at("localhost", 0));
    uint32_t port = reply_port;
    cr_expect_not(listen_at("localhost", port));
    cr_expect_str_eq(last_note()->event, "listener refused");
    cr_expect_str_eq(last_note()->reason, "this connection listens there already");
    cr_expect_not(listen_at("127.0.0.1", port), "another name for what is taken");
    cr_expect(strstr(last_note()->reason, "in use"), "%s", last_note()->reason);
    cr_expect(listen_at("localhost", 0), "any port is another one each time");
    cr_expect_neq(reply_port, port);
    server_rig_end();
}

/* Addresses of 127.0.0.0/8 tell apart what is listened on. */
SERVER_TEST(server_listener, gateway_ports) {
    begin(backend);
    cr_assert(listen_at("*", 0));
    cr_expect(listens("127.0.0.1", reply_port) && !listens("127.0.0.2", reply_port));
    options.gateway_ports = SERVER_GATEWAY_YES;
    cr_assert(listen_at("localhost", 0));
    cr_expect(listens("127.0.0.1", reply_port) && listens("127.0.0.2", reply_port));
    options.gateway_ports = SERVER_GATEWAY_CLIENT_SPECIFIED;
    cr_assert(listen_at("localhost", 0));
    cr_expect(listens("127.0.0.1", reply_port) && !listens("127.0.0.2", reply_port));
    cr_assert(listen_at("127.0.0.2", 0));
    cr_expect(!listens("127.0.0.1", reply_port) && listens("127.0.0.2", reply_port));
    cr_assert(listen_at("*", 0));
    cr_expect(listens("127.0.0.2", reply_port));
    cr_expect_not(listen_at("host.example.org", 0), "a shard waits for no name server");
    cr_expect_str_eq(last_note()->requested, "host.example.org port 0");
    cr_expect(strstr(last_note()->reason, "localhost"), "%s", last_note()->reason);
    server_rig_end();
}

SERVER_TEST(server_listener, what_may_not_listen) {
    options.permit_listen.restricted = true;
    begin(backend);
    cr_expect_not(listen_at("localhost", 0));
    cr_expect_str_eq(last_note()->event, "listener refused");
    cr_expect_str_eq(last_note()->reason, "not in PermitListen");
    options.permit_listen.restricted = false;
    cr_expect_not(listen_at("localhost", 65536));
    cr_expect_not(listen_at("local\thost", 0));
    unsigned before = replies;
    far_says(MSG_GLOBAL_REQUEST, "sbs", "tcpip-forward", 1, "localhost");
    far_says(MSG_GLOBAL_REQUEST, "sbsuu", "tcpip-forward", 1, "localhost", 0u, 0u);
    RIG_GO_UNTIL(replies == before + 2);
    cr_expect_eq(rig.counts[MSG_REQUEST_SUCCESS], 0);
    cr_expect(connection.listeners_count == 0 && channels == 0);
    server_rig_end();
}

SERVER_TEST(server_listener, no_more_listeners_than_the_limit) {
    options.family = AF_INET;
    begin(backend);
    for (unsigned i = 0; i < LIMIT_LISTENERS_PER_CONNECTION; i++)
        cr_assert(listen_at("localhost", 0));
    cr_expect_not(listen_at("localhost", 0));
    cr_expect_str_eq(last_note()->reason, "too many listeners");
    cr_assert(cancel_at("localhost", 0));
    RIG_GO_UNTIL(connection.listeners_count < LIMIT_LISTENERS_PER_CONNECTION);
    cr_expect(listen_at("localhost", 0));
    server_rig_end();
}

/* The moment the connection begins to end, whatever still has to drain. */
SERVER_TEST(server_listener, the_listener_ends_with_the_connection) {
    begin(backend);
    cr_assert(listen_at("localhost", 0));
    session_end(rig.session, 0, "over");
    cr_expect_not(listens("127.0.0.1", reply_port));
    cr_expect_str_eq(last_note()->event, "listener closed");
    server_rig_end();
}

SERVER_TEST(server_listener, nothing_new_while_draining) {
    begin(backend);
    cr_assert(listen_at("localhost", 0));
    connection.draining = true;
    server_forward_stop(&connection);
    cr_expect_not(listens("127.0.0.1", reply_port));
    cr_expect_not(listen_at("localhost", 0));
    cr_expect_str_eq(last_note()->reason, "this server is stopping");
    RIG_GO_UNTIL(channels == 0);
    server_rig_end();
}

static char printed[4][200];
static unsigned printed_count;
static void print_line(void *arg, const char *line) {
    cr_assert(arg == printed && printed_count < 4);
    snprintf(printed[printed_count++], sizeof printed[0], "%s", line);
}

SERVER_TEST(server_listener, listeners_and_forwards_are_printed) {
    char place[80];
    begin(backend);
    cr_assert(listen_at("localhost", 0));
    snprintf(place, sizeof place, "tcpip-forward on localhost port %u", reply_port);
    server_forward_print(&connection, print_line, printed);
    cr_expect_eq(printed_count, 1);
    cr_expect_str_eq(printed[0], place);
    int app = connect_to("127.0.0.1", reply_port);
    RIG_GO_UNTIL(rig.counts[MSG_CHANNEL_OPEN] == 1);
    server_forward_print_open(&connection, print_line, printed);
    cr_expect_eq(printed_count, 2);
    snprintf(place, sizeof place, "forwarded-tcpip localhost port %u of 127.0.0.1 port ", reply_port);
    cr_expect(strncmp(printed[1], place, strlen(place)) == 0, "%s", printed[1]);
    close(app);
    server_rig_end();
}

/* ---- paths ---- */

static char path[96];

static bool request_path(const char *name, const char *at) {
    unsigned before = replies;
    far_says(MSG_GLOBAL_REQUEST, "sbs", name, 1, at);
    RIG_GO_UNTIL(replies == before + 1);
    return reply_success;
}

static bool listen_at_path(void) {
    return request_path("streamlocal-forward@openssh.com", path);
}

static int connect_path(void) {
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    snprintf(addr.sun_path, sizeof addr.sun_path, "%s", path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (connect(fd, (struct sockaddr *)&addr, sizeof addr) == 0)
        return fd;
    close(fd);
    return -1;
}

static void begin_path(enum io_backend backend) {
    snprintf(path, sizeof path, "/tmp/leat-forward-%d", (int)getpid());
    unlink(path);
    begin(backend);
}

SERVER_TEST(server_listener, remote_forward_of_a_path) {
    begin_path(backend);
    cr_assert(listen_at_path());
    cr_expect_eq(reply_len, 0);
    cr_expect_str_eq(last_note()->event, "listener opened");
    cr_expect_str_eq(last_note()->forward, "streamlocal-forward");
    cr_expect_str_eq(last_note()->requested, path);
    int app = connect_path();
    cr_assert_geq(app, 0);
    RIG_GO_UNTIL(rig.counts[MSG_CHANNEL_OPEN] == 1);
    cr_expect_str_eq(open_type, "forwarded-streamlocal@openssh.com");
    cr_expect_str_eq(open_host, path);
    far_says(MSG_CHANNEL_OPEN_CONFIRMATION, "uuuu", near_channel, CLIENT_CHANNEL, 100000u, 32768u);
    talk_and_close(app);
    cr_expect_str_eq(last_note()->forward, "forwarded-streamlocal");
    cr_assert(request_path("cancel-streamlocal-forward@openssh.com", path));
    cr_expect_eq(access(path, F_OK), -1, "its file goes with it");
    cr_expect_not(request_path("cancel-streamlocal-forward@openssh.com", path));
    server_rig_end();
}

/* StreamLocalBindMask alone says who may connect. */
SERVER_TEST(server_listener, the_mode_of_a_path) {
    static const mode_t masks[] = {0177, 0111, 0, 0777};
    mode_t before = umask(027);
    begin_path(backend);
    for (unsigned i = 0; i < sizeof masks / sizeof *masks; i++) {
        struct stat made;
        options.streamlocal_bind_mask = masks[i];
        cr_assert(listen_at_path());
        cr_assert_eq(stat(path, &made), 0);
        cr_expect_eq(made.st_mode & 0777, 0777 & ~masks[i], "%o", made.st_mode);
        cr_assert(request_path("cancel-streamlocal-forward@openssh.com", path));
    }
    server_rig_end();
    umask(before);
}

SERVER_TEST(server_listener, a_file_that_is_there_already) {
    char moved[128];
    begin_path(backend);
    snprintf(moved, sizeof moved, "%s-moved", path);
    cr_assert(listen_at_path());
    cr_assert_eq(rename(path, moved), 0);
    cr_assert(request_path("cancel-streamlocal-forward@openssh.com", path));
    cr_assert_eq(rename(moved, path), 0);
    cr_expect_not(listen_at_path(), "a socket that nobody listens on");
    cr_expect(strstr(last_note()->reason, "in use"), "%s", last_note()->reason);
    options.streamlocal_bind_unlink = true;
    cr_assert(listen_at_path());
    close(connect_path());
    /* Another's is in its place: that stays. */
    unlink(path);
    close(creat(path, 0600));
    cr_assert(request_path("cancel-streamlocal-forward@openssh.com", path));
    cr_expect_eq(access(path, F_OK), 0);
    cr_expect_not(listen_at_path(), "a file is no leftover");
    server_rig_end();
    unlink(path);
}

SERVER_TEST(server_listener, paths_that_are_none) {
    char longest[109];
    memset(longest, 'p', sizeof longest - 1);
    longest[0] = '/';
    longest[108] = '\0';
    begin_path(backend);
    cr_expect_not(request_path("streamlocal-forward@openssh.com", "relative.sock"));
    cr_expect_not(request_path("streamlocal-forward@openssh.com", ""));
    cr_expect_not(request_path("streamlocal-forward@openssh.com", longest));
    cr_expect_not(request_path("streamlocal-forward@openssh.com", "/no/such/directory"));
    cr_expect(strstr(last_note()->reason, "No such file"), "%s", last_note()->reason);
    options.allow_streamlocal_forwarding = FORWARDING_LOCAL;
    cr_expect_not(listen_at_path());
    cr_expect_str_eq(last_note()->reason, "AllowStreamLocalForwarding");
    cr_expect_eq(channels, 0);
    server_rig_end();
}
