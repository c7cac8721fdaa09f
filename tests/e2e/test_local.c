/* -L towards a stock sshd: spellings, families, many flows, both orders of half-close. */
#include "expect.h"
#include "pair.h"
#include "traffic.h"
#include "world.h"
#include <sys/socket.h>
#include <unistd.h>

static struct world world;

static void setup(void) {
    world_begin(&world);
    world_server(&world, "");
}
static void teardown(void) {
    world_end(&world);
}
TestSuite(local, .init = setup, .fini = teardown, .timeout = 300);

/* leat with one -L to the target, up; returns the local port. */
static struct process *forward_to(const struct target *target, const char *host, uint16_t *port) {
    *port = free_port();
    const char *spec = world_format("%u:%s:%u", *port, host, target_port(target));
    struct process *leat = world_leat(&world, "-v", "-L", spec, NULL);
    expect_up(leat);
    return leat;
}

Test(local, carries_both_ways) {
    struct target *target = target_start("127.0.0.1", TARGET_TRAFFIC);
    uint16_t port;
    struct process *leat = forward_to(target, "127.0.0.1", &port);
    struct traffic_result result = traffic_through("127.0.0.1", port, 1, 50 << 20, 50 << 20);
    cr_expect(result.ok, "%s", result.why);
    result = traffic_through("::1", port, 2, 12345, 1);
    cr_expect(result.ok, "over IPv6: %s", result.why);
    cr_expect_eq(target_failures(target, NULL, 0), 0);
    expect_clean_end(leat);
    target_stop(target);
}

Test(local, ipv6_target) {
    struct target *target = target_start("::1", TARGET_TRAFFIC);
    uint16_t port;
    struct process *leat = forward_to(target, "[::1]", &port);
    struct traffic_result result = traffic_through("127.0.0.1", port, 3, 1 << 20, 1 << 20);
    cr_expect(result.ok, "%s", result.why);
    expect_clean_end(leat);
    target_stop(target);
}

Test(local, two_hundred_flows) {
    struct target *target = target_start("127.0.0.1", TARGET_TRAFFIC);
    uint16_t port;
    char why[128] = "";
    struct process *leat = forward_to(target, "127.0.0.1", &port);
    cr_expect_eq(traffic_many("127.0.0.1", port, 200, 100, 300000, 300000, why, sizeof(why)), 0, "%s", why);
    cr_expect_eq(target_failures(target, why, sizeof(why)), 0, "%s", why);
    expect_clean_end(leat);
    target_stop(target);
}

/* The client ends first and still receives everything; then the far side ends first and still receives everything. */
Test(local, half_close_in_both_orders) {
    struct target *target = target_start("127.0.0.1", TARGET_TRAFFIC);
    uint16_t port;
    struct process *leat = forward_to(target, "127.0.0.1", &port);
    struct traffic_result result = traffic_through("127.0.0.1", port, 5, 0, 20 << 20);
    cr_expect(result.ok, "client first: %s", result.why);
    result = traffic_through("127.0.0.1", port, 6, 20 << 20, 0);
    cr_expect(result.ok, "far side first: %s", result.why);
    expect_clean_end(leat);
    target_stop(target);
}

Test(local, several_forwards_in_one_process) {
    struct target *first = target_start("127.0.0.1", TARGET_TRAFFIC),
                  *second = target_start("127.0.0.1", TARGET_TRAFFIC);
    uint16_t ports[2] = {free_port(), free_port()};
    struct process *leat =
        world_leat(&world, "-v", "-L", world_format("%u:127.0.0.1:%u", ports[0], target_port(first)), "-L",
                   world_format("127.0.0.1:%u:127.0.0.1:%u", ports[1], target_port(second)), NULL);
    expect_up(leat);
    cr_expect(traffic_through("127.0.0.1", ports[0], 7, 1000, 1000).ok);
    cr_expect(traffic_through("127.0.0.1", ports[1], 8, 1000, 1000).ok);
    cr_expect_eq(target_accepted(first), 1);
    cr_expect_eq(target_accepted(second), 1);
    expect_clean_end(leat);
    target_stop(first);
    target_stop(second);
}

Test(local, several_connections) {
    struct target *target = target_start("127.0.0.1", TARGET_TRAFFIC);
    uint16_t port = free_port();
    char why[128] = "";
    struct process *leat = world_leat(&world, "-v", "-o", "Connections=3", "-L",
                                      world_format("%u:127.0.0.1:%u", port, target_port(target)), NULL);
    expect_up(leat);
    expect_logins(&world, 3);
    cr_expect_eq(traffic_many("127.0.0.1", port, 30, 900, 2 << 20, 2 << 20, why, sizeof(why)), 0, "%s", why);
    expect_clean_end(leat);
    target_stop(target);
}

/* How many connections each of two sessions carries, as USR1 tells. */
static void loads_of(struct process *leat, unsigned loads[2]) {
    unsigned before = process_lines(leat, "connection 0 to") + process_lines(leat, "connection 1 to");
    process_kill(leat, SIGUSR1);
    expect_soon(process_lines(leat, "connection 0 to") + process_lines(leat, "connection 1 to") == before + 2, 10);
    for (unsigned i = 0; i < 2; i++) {
        const char *mark = world_format("connection %u to 127.0.0.1: shard %u, ", i, i), *last = NULL;
        const char *log = process_log(leat);
        for (const char *at = strstr(log, mark); at != NULL; at = strstr(at + 1, mark))
            last = at + strlen(mark);
        cr_assert_not_null(last, "%s", log);
        loads[i] = (unsigned)atoi(last);
    }
}

/* Who carries less gets the next one, whoever had the last. */
Test(local, the_least_loaded_connection_is_chosen) {
    struct pair pairs[4];
    unsigned loads[2], on[4], last[2] = {0, 0}; /* on: which session has it */
    uint16_t port = free_port(), far;
    int listener = pair_listen(&far);
    struct process *leat =
        world_leat(&world, "-v", "-o", "Connections=2", "-L", world_format("%u:127.0.0.1:%u", port, far), NULL);
    expect_up(leat);
    for (unsigned i = 0; i < 4; i++) {
        cr_assert(pair_open(&pairs[i], "127.0.0.1", port, listener, 10));
        loads_of(leat, loads);
        on[i] = loads[1] > last[1];
        memcpy(last, loads, sizeof(last));
    }
    cr_expect(loads[0] == 2 && loads[1] == 2, "%u and %u", loads[0], loads[1]);
    for (unsigned idle = 0; idle < 2; idle++) {
        for (unsigned i = 0; i < 4; i++)
            if (on[i] == idle)
                pair_close(&pairs[i]);
        expect_soon((loads_of(leat, loads), loads[idle]) == 0, 10);
        for (unsigned i = 0; i < 4; i++)
            if (on[i] == idle)
                cr_assert(pair_open(&pairs[i], "127.0.0.1", port, listener, 10));
        loads_of(leat, loads);
        cr_expect(loads[0] == 2 && loads[1] == 2, "%u and %u", loads[0], loads[1]);
    }
    for (unsigned i = 0; i < 4; i++)
        pair_close(&pairs[i]);
    expect_clean_end(leat);
    close(listener);
}

/* A far target that refuses is reported and closes that connection alone. */
Test(local, refused_target) {
    struct target *target = target_start("127.0.0.1", TARGET_TRAFFIC);
    uint16_t good = free_port(), bad = free_port(), nobody = free_port();
    struct process *leat = world_leat(&world, "-v", "-L", world_format("%u:127.0.0.1:%u", good, target_port(target)),
                                      "-L", world_format("%u:127.0.0.1:%u", bad, nobody), NULL);
    expect_up(leat);
    char byte;
    int fd = connect_to("127.0.0.1", bad);
    cr_assert_geq(fd, 0);
    cr_expect_leq(read(fd, &byte, 1), 0);
    close(fd);
    cr_expect(process_says(leat, "connect failed", 10));
    cr_expect(traffic_through("127.0.0.1", good, 9, 1 << 20, 1 << 20).ok);
    expect_clean_end(leat);
    target_stop(target);
}
