/* Where -L listens: bind addresses in every spelling, -g and GatewayPorts; ports that cannot be had. */
#include "expect.h"
#include "pair.h"
#include "suite.h"
#include "traffic.h"
#include <stdio.h>
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

Test(bind, port_in_use) {
    uint16_t taken, good = free_port();
    int holder = pair_listen(&taken);
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
    close(holder);
}

/* ssh stays connected, too, with none of its forwards. */
Test(bind, nothing_could_be_bound) {
    uint16_t taken;
    int holder = pair_listen(&taken);
    struct process *leat = world_leat(&world, "-v", "-L", spec_on("", taken), NULL);
    expect_up(leat);
    cr_expect_eq(process_lines(leat, "Address already in use"), 1, "%s", process_log(leat));
    expect_clean_end(leat);
    close(holder);
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
        cr_skip_test("every port may be bound here");
    struct process *leat = world_leat(&world, "-o", "ExitOnForwardFailure=yes", "-L", spec_on("", 1), NULL);
    expect_failure_line(leat, "port 1: Permission denied");
}
