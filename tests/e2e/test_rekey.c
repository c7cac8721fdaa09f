/* A gigabyte with a rekey every 16 MB, asked for by the server or by us, verified to the last byte. */
#include "expect.h"
#include "traffic.h"
#include <stdlib.h>

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

/* As USR1 prints it. */
static unsigned rekeys(struct process *leat) {
    unsigned before = process_lines(leat, " rekeys");
    process_kill(leat, SIGUSR1);
    expect_soon(process_lines(leat, " rekeys") == before + 1, 10);
    const char *line = process_log(leat), *last = NULL;
    for (const char *at = strstr(line, " rekeys"); at != NULL; at = strstr(at + 1, " rekeys"))
        last = at;
    cr_assert_not_null(last);
    while (last[-1] >= '0' && last[-1] <= '9')
        last--;
    return (unsigned)atoi(last);
}

struct plan {
    const char *server, *cipher, *limit;
    uint64_t up, down;
    double rekeys_per_second_max; /* of ours: libssh wants a second between two */
};

static void carry(const struct plan *plan) {
    uint16_t port = free_port();
    world_sshd(&world, plan->server);
    struct process *leat = world_leat(&world, "-v", "-o", plan->cipher, "-o", plan->limit, "-L",
                                      world_format("%u:127.0.0.1:%u", port, target_port(target)), NULL);
    expect_up(leat);
    double started = now_seconds();
    struct traffic_result result = traffic_through("127.0.0.1", port, 1, plan->up, plan->down);
    double seconds = now_seconds() - started;
    char why[128] = "";
    cr_expect(result.ok, "%s; %s", result.why, process_log(leat));
    cr_expect_eq(target_failures(target, why, sizeof(why)), 0, "%s", why);
    uint64_t most = plan->up > plan->down ? plan->up : plan->down;
    double expected = (double)most / (16 << 20) / 2;
    if (plan->rekeys_per_second_max > 0 && expected > seconds * plan->rekeys_per_second_max)
        expected = seconds * plan->rekeys_per_second_max;
    unsigned made = rekeys(leat);
    cr_log_info("%u rekeys in %.1f s", made, seconds);
    cr_expect_gt(made, 0);
    cr_expect_geq((double)made, expected - 1, "%u rekeys in %.1f s, %.1f expected", made, seconds, expected);
    expect_clean_end(leat);
}

#define AES "Ciphers=aes128-gcm@openssh.com"
#define CHACHA "Ciphers=chacha20-poly1305@openssh.com"

Test(rekey, server_asks_down_aes128_gcm) {
    carry(&(struct plan){"RekeyLimit 16M", AES, "TCPKeepAlive=yes", 1000, gigabyte(), 0});
}
Test(rekey, server_asks_both_ways_aes128_gcm) {
    carry(&(struct plan){"RekeyLimit 16M", AES, "TCPKeepAlive=yes", gigabyte() / 4, gigabyte() / 4, 0});
}
Test(rekey, server_asks_both_ways_chacha20) {
    carry(&(struct plan){"RekeyLimit 16M", CHACHA, "TCPKeepAlive=yes", gigabyte() / 4, gigabyte() / 4, 0});
}
Test(rekey, we_ask_up_aes128_gcm) {
    carry(&(struct plan){"", AES, "RekeyLimit=16M", gigabyte(), 1000, 1});
}
Test(rekey, we_ask_both_ways_chacha20) {
    carry(&(struct plan){"", CHACHA, "RekeyLimit=16M", gigabyte() / 4, gigabyte() / 4, 1});
}
Test(rekey, both_ask) {
    carry(&(struct plan){"RekeyLimit 16M", AES, "RekeyLimit=16M", gigabyte() / 4, gigabyte() / 4, 0});
}

/* By time, without any traffic: the second value of RekeyLimit. */
Test(rekey, by_time) {
    uint16_t port = free_port();
    world_sshd(&world, "");
    struct process *leat = world_leat(&world, "-v", "-o", "RekeyLimit=default 1s", "-L",
                                      world_format("%u:127.0.0.1:%u", port, target_port(target)), NULL);
    expect_up(leat);
    expect_soon(rekeys(leat) >= 2, 20);
    struct traffic_result result = traffic_through("127.0.0.1", port, 1, 1 << 20, 1 << 20);
    cr_expect(result.ok, "%s", result.why);
    expect_clean_end(leat);
}
