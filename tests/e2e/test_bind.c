/* Where -L listens: bind addresses in every spelling, -g and GatewayPorts; ports that cannot be had. */
#include "expect.h"
#include "pair.h"
#include "suite.h"
#include "traffic.h"
#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <unistd.h>

TUNNEL_SUITE(bind)

static bool reachable(const char *host, uint16_t port) {
    int fd = connect_to(host, port);
    if (fd >= 0)
        close(fd);
    return fd >= 0;
}

/* All of these sockets are there, and no other on that port: /proc/net/tcp{,6} has one line for each, state 0A. */
static unsigned listeners_on(const char *table, uint16_t port) {
    char line[512];
    unsigned count = 0, found, state;
    FILE *file = fopen(table, "re");
    while (file != NULL && fgets(line, sizeof(line), file) != NULL)
        if (sscanf(line, "%*d: %*[0-9A-F]:%x %*[0-9A-F]:%*x %x", &found, &state) == 2 && found == port && state == 10)
            count++;
    if (file != NULL)
        fclose(file);
    return count;
}

enum where { ONLY_FIRST = 1, ONLY_SECOND = 2, ONLY_SIX = 4, LOOPBACK = ONLY_FIRST | ONLY_SIX, EVERYWHERE = 7 };

/* leat with `bind` before the port and one option more listens there and nowhere else. */
static void expect_bound(const char *bind, const char *option, enum where where) {
    uint16_t port = free_port();
    const char *spec = world_format("%s%u:127.0.0.1:%u", bind, port, target_port(target));
    struct process *leat = option[0] == '-' ? world_leat(&world, "-v", option, "-L", spec, NULL)
                                            : world_leat(&world, "-v", "-o", option, "-L", spec, NULL);
    expect_up(leat);
    cr_expect_eq(reachable("127.0.0.1", port), (where & ONLY_FIRST) != 0, "%s %s", bind, option);
    cr_expect_eq(reachable("127.0.0.2", port), (where & ONLY_SECOND) != 0, "%s %s", bind, option);
    cr_expect_eq(reachable("::1", port), (where & ONLY_SIX) != 0, "%s %s", bind, option);
    cr_expect_eq(listeners_on("/proc/net/tcp", port), (where & (ONLY_FIRST | ONLY_SECOND)) != 0);
    cr_expect_eq(listeners_on("/proc/net/tcp6", port), (where & ONLY_SIX) != 0);
    const char *host = where & ONLY_FIRST ? "127.0.0.1" : where & ONLY_SECOND ? "127.0.0.2" : "::1";
    struct traffic_result result = traffic_through(host, port, 1, 1000, 1000);
    cr_expect(result.ok, "%s %s: %s", bind, option, result.why);
    expect_clean_end(leat);
    cr_expect_not(reachable(host, port));
}

Test(bind, without_an_address) {
    expect_bound("", "-T", LOOPBACK);
    expect_bound("", "-g", EVERYWHERE);
    expect_bound("", "GatewayPorts=yes", EVERYWHERE);
    expect_bound("", "GatewayPorts=no", LOOPBACK);
    expect_bound("", "-4", ONLY_FIRST);
}

/* An address that is given decides, -g or not. */
Test(bind, with_an_address) {
    expect_bound("127.0.0.1:", "-T", ONLY_FIRST);
    expect_bound("127.0.0.1:", "-g", ONLY_FIRST);
    expect_bound("127.0.0.2:", "-T", ONLY_SECOND);
    expect_bound("[::1]:", "-T", ONLY_SIX);
    expect_bound("[::1]:", "GatewayPorts=yes", ONLY_SIX);
    expect_bound("localhost:", "-g", LOOPBACK);
    expect_bound(":", "-T", EVERYWHERE);
    expect_bound("*:", "-T", EVERYWHERE);
    expect_bound("*:", "GatewayPorts=no", EVERYWHERE);
}

/* ---- ports that cannot be had ---- */

static const char *spec_on(const char *bind, uint16_t port) {
    return world_format("%s%u:127.0.0.1:%u", bind, port, target_port(target));
}

/* Somebody else on both families of the loopback, or on one. */
static int holders[2] = {-1, -1};

static int hold_six(uint16_t *port) {
    struct sockaddr_in6 addr = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT, .sin6_port = htons(*port)};
    socklen_t len = sizeof(addr);
    int on = 1, fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
    cr_assert_geq(fd, 0);
    setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on));
    if (bind(fd, (struct sockaddr *)&addr, len) < 0 || listen(fd, 8) < 0) {
        close(fd);
        return -1;
    }
    cr_assert_eq(getsockname(fd, (struct sockaddr *)&addr, &len), 0);
    *port = ntohs(addr.sin6_port);
    return fd;
}

static uint16_t hold_both(void) {
    uint16_t port;
    for (;;) {
        holders[0] = pair_listen(&port);
        holders[1] = hold_six(&port);
        if (holders[1] >= 0)
            return port;
        close(holders[0]); /* somebody else has the other one */
    }
}

static void release(void) {
    for (unsigned i = 0; i < 2; i++)
        if (holders[i] >= 0)
            close(holders[i]);
}

Test(bind, port_in_use) {
    uint16_t taken = hold_both(), good = free_port();
    struct process *leat =
        world_leat(&world, "-o", "ExitOnForwardFailure=yes", "-L", spec_on("", good), "-L", spec_on("", taken), NULL);
    expect_failure_line(leat, world_format("127.0.0.1 port %u: Address already in use", taken));

    /* Otherwise the rest goes on. */
    leat = world_leat(&world, "-v", "-L", spec_on("", taken), "-L", spec_on("", good), NULL);
    expect_up(leat);
    cr_expect_eq(process_lines(leat, "Address already in use"), 1, "%s", process_log(leat));
    struct traffic_result result = traffic_through("127.0.0.1", good, 1, 1000, 1000);
    cr_expect(result.ok, "%s", result.why);
    expect_clean_end(leat);
    release();
}

/* The other family serves; one line tells what does not, without -v too. */
static void one_family_in_use(const char *taken_host, const char *free_host, uint16_t taken) {
    struct process *leat = world_leat(&world, "-o", "ExitOnForwardFailure=yes", "-L", spec_on("", taken), NULL);
    expect_soon(reachable(free_host, taken), 20);
    struct traffic_result result = traffic_through(free_host, taken, 1, 1000, 1000);
    cr_expect(result.ok, "%s", result.why);
    cr_expect_eq(process_lines(leat, ""), 1, "%s", process_log(leat));
    cr_expect_eq(process_lines(leat, world_format("%s port %u: Address already in use", taken_host, taken)), 1, "%s",
                 process_log(leat));
    expect_clean_end(leat);
    release();
}
Test(bind, first_family_in_use) {
    uint16_t taken;
    holders[0] = pair_listen(&taken);
    one_family_in_use("127.0.0.1", "::1", taken);
}
Test(bind, second_family_in_use) {
    uint16_t taken = 0;
    holders[0] = hold_six(&taken);
    one_family_in_use("::1", "127.0.0.1", taken);
}

/* ssh stays connected, too, with none of its forwards. */
Test(bind, nothing_could_be_bound) {
    struct process *leat = world_leat(&world, "-v", "-L", spec_on("", hold_both()), NULL);
    expect_up(leat);
    cr_expect_eq(process_lines(leat, "Address already in use"), 1, "%s", process_log(leat));
    expect_clean_end(leat);
    release();
}

Test(bind, address_of_another_machine) {
    struct process *leat =
        world_leat(&world, "-o", "ExitOnForwardFailure=yes", "-L", spec_on("198.51.100.1:", free_port()), NULL);
    expect_failure_line(leat, "Cannot assign requested address");
}

Test(bind, address_that_is_no_name) {
    struct process *leat =
        world_leat(&world, "-o", "ExitOnForwardFailure=yes", "-L", spec_on("no.such.host.invalid:", free_port()), NULL);
    expect_failure_line(leat, "no.such.host.invalid");
}

/* Whoever may bind it, as root may and everybody in some containers, sees no error. */
Test(bind, port_without_the_right_to_it) {
    unsigned first_free = 1024;
    FILE *file = fopen("/proc/sys/net/ipv4/ip_unprivileged_port_start", "re");
    if (file != NULL && fscanf(file, "%u", &first_free) != 1)
        first_free = 1024;
    if (file != NULL)
        fclose(file);
    if (geteuid() == 0 || first_free <= 1)
        world_skip(&world, "every port may be bound here");
    struct process *leat = world_leat(&world, "-o", "ExitOnForwardFailure=yes", "-L", spec_on("", 1), NULL);
    expect_failure_line(leat, "port 1: Permission denied");
}

/* ---- names that take their time ---- */

/* Names are asked of this socket alone from now on, by this test and whomever it starts, and nobody answers there.
 * −1: cannot be had here. */
static int silent_name_server(void) {
    unsigned pid = (unsigned)getpid();
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(53)};
    address.sin_addr.s_addr = htonl(127u << 24 | 53u << 16 | (pid & 0xffff)); /* one per test that runs just now */
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    const char *resolv = world_path(&world, "resolv.conf"), *nsswitch = world_path(&world, "nsswitch.conf");
    world_write(resolv, world_format("nameserver %s\noptions timeout:30 attempts:5\n", inet_ntoa(address.sin_addr)));
    world_write(nsswitch, "hosts: dns\n");
    if (bind(fd, (const struct sockaddr *)&address, sizeof(address)) == 0 && unshare(CLONE_NEWNS) == 0 &&
        mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 &&
        mount(resolv, "/etc/resolv.conf", NULL, MS_BIND, NULL) == 0 &&
        mount(nsswitch, "/etc/nsswitch.conf", NULL, MS_BIND, NULL) == 0)
        return fd;
    close(fd);
    return -1;
}

static void expect_end_by(int number, int name_server) {
    char question[512];
    uint16_t port = free_port();
    struct process *leat = world_leat(&world, "-L", spec_on("", port), "-L", spec_on("slow.test:", free_port()), NULL);
    struct pollfd asked = {.fd = name_server, .events = POLLIN};
    cr_assert_eq(poll(&asked, 1, (int)(world_deadline(20) * 1000)), 1, "%s", process_log(leat));
    cr_expect_not(reachable("127.0.0.1", port), "it listens before it serves");
    process_kill(leat, number);
    cr_expect_eq(process_wait(leat, 20), 128 + number, "%s", process_log(leat));
    while (recv(name_server, question, sizeof(question), MSG_DONTWAIT) >= 0)
        ;
}

/* As during the handshake before: nothing stands yet that would have to be drained. */
Test(bind, name_server_that_never_answers) {
    int name_server = silent_name_server();
    if (name_server < 0)
        world_skip(&world, "needs root, and files of its own in /etc");
    expect_end_by(SIGINT, name_server);
    expect_end_by(SIGTERM, name_server);
    close(name_server);
}
