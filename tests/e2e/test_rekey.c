/* A gigabyte with a rekey every 16 MB, asked for by the server or by us, verified to the last byte. */
#include "expect.h"
#include "traffic.h"

static struct world world;
static struct target *target;

static void setup(void) {
    world_begin(&world);
    target = target_start("127.0.0.1", TARGET_TRAFFIC);
}
static void teardown(void) {
    target_stop(target);
    world_end(&world);
}
TestSuite(rekey, .init = setup, .fini = teardown, .timeout = 600);

/* A gigabyte; a quarter of it where sanitizers make it slow. */
static uint64_t gigabyte(void) {
    return world_deadline(1) > 1 ? UINT64_C(256) << 20 : UINT64_C(1) << 30;
}

#define BOTH_WAYS_BYTES (UINT64_C(128) << 20)

struct plan {
    const char *server, *cipher, *limit;
    uint64_t up, down;
};

static void carry(const struct plan *plan) {
    uint16_t port = free_port();
    char why[128] = "";
    world_server(&world, plan->server);
    struct process *leat = world_leat(&world, "-v", "-o", plan->cipher, "-o", plan->limit, "-L",
                                      world_format("%u:127.0.0.1:%u", port, target_port(target)), NULL);
    expect_up(leat);
    struct traffic_result result = traffic_through("127.0.0.1", port, 1, plan->up, plan->down);
    cr_expect(result.ok, "%s; %s", result.why, process_log(leat));
    cr_expect_eq(target_failures(target, why, sizeof(why)), 0, "%s", why);
    /* One is due every 16 MB of the busier direction; who asks for it finishes some packets before. */
    uint64_t most = plan->up > plan->down ? plan->up : plan->down, due = most / (16 << 20);
    unsigned made = rekeys_of(leat);
    cr_expect_geq(made, due * 3 / 4, "%u rekeys, %u due", made, (unsigned)due);
    expect_clean_end(leat);
}

#define AES "Ciphers=aes128-gcm@openssh.com"
#define CHACHA "Ciphers=chacha20-poly1305@openssh.com"

Test(rekey, server_asks_down_aes128_gcm) {
    carry(&(struct plan){"RekeyLimit 16M", AES, "TCPKeepAlive=yes", 1000, gigabyte()});
}
Test(rekey, server_asks_both_ways_aes128_gcm) {
    carry(&(struct plan){"RekeyLimit 16M", AES, "TCPKeepAlive=yes", BOTH_WAYS_BYTES, BOTH_WAYS_BYTES});
}
Test(rekey, server_asks_both_ways_chacha20) {
    carry(&(struct plan){"RekeyLimit 16M", CHACHA, "TCPKeepAlive=yes", BOTH_WAYS_BYTES, BOTH_WAYS_BYTES});
}
Test(rekey, we_ask_up_aes128_gcm) {
    carry(&(struct plan){"", AES, "RekeyLimit=16M", gigabyte(), 1000});
}
Test(rekey, we_ask_both_ways_chacha20) {
    carry(&(struct plan){"", CHACHA, "RekeyLimit=16M", BOTH_WAYS_BYTES, BOTH_WAYS_BYTES});
}
Test(rekey, both_ask) {
    carry(&(struct plan){"RekeyLimit 16M", AES, "RekeyLimit=16M", BOTH_WAYS_BYTES, BOTH_WAYS_BYTES});
}

/* Flows that come and go all the time, in both directions, with keys that change all the time. */
Test(rekey, many_flows_meanwhile) {
    uint16_t local = free_port(), remote = free_port();
    char why[128] = "";
    world_server(&world, "RekeyLimit 1M");
    struct process *leat = world_leat(&world, "-v", "-o", "RekeyLimit=1M", "-L",
                                      world_format("%u:127.0.0.1:%u", local, target_port(target)), "-R",
                                      world_format("%u:127.0.0.1:%u", remote, target_port(target)), NULL);
    expect_up(leat);
    for (unsigned round = 0; round < 3; round++) {
        cr_expect_eq(traffic_many("127.0.0.1", local, 50, 100, 100000, 100000, why, sizeof(why)), 0, "-L: %s", why);
        cr_expect_eq(traffic_many("127.0.0.1", remote, 50, 200, 100000, 100000, why, sizeof(why)), 0, "-R: %s", why);
    }
    cr_expect_eq(target_failures(target, why, sizeof(why)), 0, "%s", why);
    cr_expect_gt(rekeys_of(leat), 5);
    expect_clean_end(leat);
}

/* By time, without any traffic: the second value of RekeyLimit. */
Test(rekey, by_time) {
    uint16_t port = free_port();
    world_server(&world, "");
    struct process *leat = world_leat(&world, "-v", "-o", "RekeyLimit=default 1s", "-L",
                                      world_format("%u:127.0.0.1:%u", port, target_port(target)), NULL);
    expect_up(leat);
    expect_soon(rekeys_of(leat) >= 2, 20);
    struct traffic_result result = traffic_through("127.0.0.1", port, 1, 1 << 20, 1 << 20);
    cr_expect(result.ok, "%s", result.why);
    expect_clean_end(leat);
}
