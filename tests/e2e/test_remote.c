/* -R towards a stock sshd: spellings, ports of the server's choice, many flows, both orders of half-close, refusals. */
#include "expect.h"
#include "pair.h"
#include "suite.h"
#include "traffic.h"
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

TUNNEL_SUITE(remote)

static void expect_traffic(uint16_t port) {
    struct traffic_result result = traffic_through("127.0.0.1", port, port, 1 << 20, 1 << 20);
    cr_expect(result.ok, "%s", result.why);
}

/* leat with one -R to the target, up. */
static struct process *forward_back(uint16_t port) {
    struct process *leat =
        world_leat(&world, "-v", "-R", world_format("%u:127.0.0.1:%u", port, target_port(target)), NULL);
    expect_up(leat);
    return leat;
}

/* The port of the n-th line that names one the server has chosen. */
static uint16_t allocated_port(struct process *leat, unsigned nth) {
    static const char words[] = "Allocated port ";
    cr_assert(process_says(leat, words, 20));
    const char *at = strstr(process_log(leat), words);
    while (at != NULL && nth-- > 0)
        at = strstr(at + 1, words);
    cr_assert_not_null(at, "%s", process_log(leat));
    return (uint16_t)atoi(at + strlen(words));
}

Test(remote, carries_both_ways) {
    uint16_t port = free_port();
    struct process *leat = forward_back(port);
    struct traffic_result result = traffic_through("127.0.0.1", port, 1, 50 << 20, 50 << 20);
    cr_expect(result.ok, "%s", result.why);
    result = traffic_through("::1", port, 2, 12345, 1);
    cr_expect(result.ok, "over IPv6: %s", result.why);
    expect_soon(process_lines(leat, "12345 bytes from it") == 1 || process_lines(leat, "connection closed") == 2, 10);
    expect_clean_end(leat);
    cr_expect_eq(target_failures(target, NULL, 0), 0);
}

Test(remote, every_spelling) {
    static const char *const binds[] = {"localhost:", "127.0.0.1:", "[127.0.0.1]:", ":", "*:"};
    for (unsigned i = 0; i < sizeof(binds) / sizeof(binds[0]); i++) {
        uint16_t port = free_port();
        const char *spec = world_format("%s%u:localhost:%u", binds[i], port, target_port(target));
        struct process *leat = world_leat(&world, "-v", "-R", spec, NULL);
        expect_up(leat);
        expect_traffic(port);
        expect_clean_end(leat);
    }
}

Test(remote, ipv6_target) {
    struct target *six = target_start("::1", TARGET_TRAFFIC);
    uint16_t port = free_port();
    struct process *leat = world_leat(&world, "-v", "-R", world_format("%u:[::1]:%u", port, target_port(six)), NULL);
    expect_up(leat);
    expect_traffic(port);
    cr_expect_eq(target_accepted(six), 1);
    expect_clean_end(leat);
    target_stop(six);
}

Test(remote, two_hundred_flows) {
    uint16_t port = free_port();
    char why[128] = "";
    struct process *leat = forward_back(port);
    cr_expect_eq(traffic_many("127.0.0.1", port, 200, 100, 300000, 300000, why, sizeof(why)), 0, "%s", why);
    cr_expect_eq(target_failures(target, why, sizeof(why)), 0, "%s", why);
    expect_clean_end(leat);
}

Test(remote, half_close_in_both_orders) {
    uint16_t port = free_port();
    struct process *leat = forward_back(port);
    struct traffic_result result = traffic_through("127.0.0.1", port, 5, 0, 20 << 20);
    cr_expect(result.ok, "far application first: %s", result.why);
    result = traffic_through("127.0.0.1", port, 6, 20 << 20, 0);
    cr_expect(result.ok, "our target first: %s", result.why);
    expect_clean_end(leat);
    cr_expect_eq(target_failures(target, NULL, 0), 0);
}

/* Nobody listens on our side: reported, that connection is closed, the next forward works. */
Test(remote, refused_target) {
    uint16_t good = free_port(), bad = free_port(), nobody = free_port();
    struct process *leat = world_leat(&world, "-v", "-R", world_format("%u:127.0.0.1:%u", bad, nobody), "-R",
                                      world_format("%u:127.0.0.1:%u", good, target_port(target)), NULL);
    expect_up(leat);
    int fd = connect_to("127.0.0.1", bad);
    cr_assert_geq(fd, 0);
    cr_expect_geq(pair_end(fd, 10), 0);
    close(fd);
    expect_soon(process_lines(leat, "onnection refused") == 1, 10);
    cr_expect_eq(process_lines(leat, world_format("-R %u:127.0.0.1:%u: ", bad, nobody)), 2, "%s", process_log(leat));
    expect_traffic(good);
    expect_clean_end(leat);
}

/* Both ends of the same port on different addresses are different forwards. */
Test(remote, one_port_on_two_addresses) {
    struct world other = {.count = 0};
    struct target *second = target_start("127.0.0.1", TARGET_TRAFFIC);
    uint16_t port = free_port();
    world_begin(&other);
    world_server(&other, "GatewayPorts clientspecified");
    struct process *leat = world_leat(&other, "-v", "-R", world_format("%u:127.0.0.1:%u", port, target_port(target)),
                                      "-R", world_format("127.0.0.2:%u:127.0.0.1:%u", port, target_port(second)), NULL);
    expect_up(leat);
    cr_expect(traffic_through("127.0.0.2", port, 1, 1000, 1000).ok);
    cr_expect_eq(target_accepted(second), 1, "the connection went to the other forward's target");
    cr_expect(traffic_through("127.0.0.1", port, 2, 1000, 1000).ok);
    cr_expect_eq(target_accepted(target), 1);
    expect_clean_end(leat);
    world_end(&other);
    target_stop(second);
}

/* ---- another server: what it chooses and refuses ---- */

static void with_server(const char *config, void (*body)(struct world *)) {
    struct world other = {.count = 0};
    world_begin(&other);
    world_server(&other, config);
    body(&other);
    world_end(&other);
}

static void port_in_use(struct world *there) {
    uint16_t taken, good = free_port();
    int holder = pair_listen(&taken);
    const char *bad_spec = world_format("%u:127.0.0.1:%u", taken, target_port(target)),
               *good_spec = world_format("%u:127.0.0.1:%u", good, target_port(target));
    struct process *leat = world_leat(there, "-o", "ExitOnForwardFailure=yes", "-R", bad_spec, "-R", good_spec, NULL);
    expect_failure_line(leat, world_format("remote port forwarding failed for listen port %u", taken));

    leat = world_leat(there, "-v", "-R", bad_spec, "-R", good_spec, NULL);
    expect_up(leat);
    cr_expect_eq(process_lines(leat, "remote port forwarding failed"), 1);
    expect_traffic(good);
    expect_clean_end(leat);
    close(holder);
}

/* With one address family: with two the server would be content with the other one's port. */
Test(remote, port_in_use_at_the_server) {
    with_server("AddressFamily inet", port_in_use);
}

static void port_chosen(struct world *there) {
    struct target *other = target_start("127.0.0.1", TARGET_TRAFFIC);
    const char *first = world_format("0:127.0.0.1:%u", target_port(target)),
               *second = world_format("localhost:0:127.0.0.1:%u", target_port(other));
    struct process *leat = world_leat(there, "-v", "-R", first, "-R", second, NULL);
    expect_up(leat);
    cr_expect_eq(process_lines(leat, world_format(" for remote forward to 127.0.0.1:%u", target_port(target))), 1);
    uint16_t ports[2] = {allocated_port(leat, 0), allocated_port(leat, 1)};
    cr_expect_neq(ports[0], ports[1]);
    expect_traffic(ports[0]);
    cr_expect_eq(target_accepted(target), 1);
    expect_traffic(ports[1]);
    cr_expect_eq(target_accepted(other), 1);
    expect_clean_end(leat);
    target_stop(other);
}

/* With one address family: with two the port that the server finds for one may be somebody's in the other. */
Test(remote, port_chosen_by_the_server) {
    with_server("AddressFamily inet", port_chosen);
}

static void forbidden(struct world *there) {
    uint16_t port = free_port();
    const char *spec = world_format("%u:127.0.0.1:%u", port, target_port(target));
    struct process *leat = world_leat(there, "-o", "ExitOnForwardFailure=yes", "-R", spec, NULL);
    expect_failure_line(leat, "remote port forwarding failed");
    /* ssh stays, too, when none of its forwards could be had. */
    leat = world_leat(there, "-v", "-R", spec, NULL);
    expect_up(leat);
    cr_expect_eq(process_lines(leat, "remote port forwarding failed"), 1);
    cr_expect_lt(connect_to("127.0.0.1", port), 0);
    expect_clean_end(leat);
}

Test(remote, forbidden_by_the_server) {
    with_server("PermitListen none", forbidden);
}

/* ---- GatewayPorts of the server ---- */

static bool reachable(const char *host, uint16_t port) {
    int fd = connect_to(host, port);
    if (fd >= 0)
        close(fd);
    return fd >= 0;
}

/* What the server listens on when asked for 127.0.0.2. */
static void ask_for_second_loopback(struct world *there, bool first, bool second) {
    uint16_t port = free_port();
    struct process *leat =
        world_leat(there, "-v", "-R", world_format("127.0.0.2:%u:127.0.0.1:%u", port, target_port(target)), NULL);
    expect_up(leat);
    cr_expect_eq(reachable("127.0.0.1", port), first);
    cr_expect_eq(reachable("127.0.0.2", port), second);
    struct traffic_result result = traffic_through(first ? "127.0.0.1" : "127.0.0.2", port, 3, 1000, 1000);
    cr_expect(result.ok, "%s", result.why);
    expect_clean_end(leat);
}

static void gateway_no(struct world *there) {
    ask_for_second_loopback(there, true, false);
}
static void gateway_yes(struct world *there) {
    ask_for_second_loopback(there, true, true);
}
/* The client decides: an address, nothing (loopback), everything. */
static void gateway_clientspecified(struct world *there) {
    static const char *const binds[] = {"", ":", "*:", "localhost:"};
    ask_for_second_loopback(there, false, true);
    for (unsigned i = 0; i < 4; i++) {
        uint16_t port = free_port();
        const char *spec = world_format("%s%u:127.0.0.1:%u", binds[i], port, target_port(target));
        struct process *leat = world_leat(there, "-v", "-R", spec, NULL);
        expect_up(leat);
        cr_expect(reachable("127.0.0.1", port), "%s", spec);
        cr_expect_eq(reachable("127.0.0.2", port), i == 1 || i == 2, "%s", spec);
        expect_traffic(port);
        expect_clean_end(leat);
    }
}

Test(remote, gateway_ports_no) {
    with_server("GatewayPorts no", gateway_no);
}
Test(remote, gateway_ports_yes) {
    with_server("GatewayPorts yes", gateway_yes);
}
Test(remote, gateway_ports_clientspecified) {
    with_server("GatewayPorts clientspecified", gateway_clientspecified);
}
