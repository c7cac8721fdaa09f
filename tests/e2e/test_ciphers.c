/* Every cipher with a stock sshd; dropbear, which has chacha20 alone, as a second server. */
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
TestSuite(ciphers, .init = setup, .fini = teardown, .timeout = 300);

/* Traffic of -L and -R at once, several flows each, with the cipher that -v names. */
static void carry_with(const char *wanted, const char *cipher) {
    uint16_t local = free_port(), remote = free_port();
    char why[128] = "";
    struct process *leat =
        world_leat(&world, "-v", "-o", wanted, "-L", world_format("%u:127.0.0.1:%u", local, target_port(target)), "-R",
                   world_format("%u:127.0.0.1:%u", remote, target_port(target)), NULL);
    expect_up(leat);
    cr_expect_eq(process_lines(leat, world_format("cipher %s", cipher)), 1, "%s", process_log(leat));
    cr_expect_eq(process_lines(leat, ", strict"), 1, "no strict key exchange: %s", process_log(leat));
    cr_expect_eq(traffic_many("127.0.0.1", local, 8, 100, 4 << 20, 4 << 20, why, sizeof(why)), 0, "-L: %s", why);
    cr_expect_eq(traffic_many("127.0.0.1", remote, 8, 200, 4 << 20, 4 << 20, why, sizeof(why)), 0, "-R: %s", why);
    cr_expect_eq(target_failures(target, why, sizeof(why)), 0, "%s", why);
    expect_clean_end(leat);
}

Test(ciphers, sshd_aes128_gcm) {
    world_server(&world, "");
    carry_with("Ciphers=aes128-gcm@openssh.com", "aes128-gcm@openssh.com");
}
Test(ciphers, sshd_aes256_gcm) {
    world_server(&world, "");
    carry_with("Ciphers=aes256-gcm@openssh.com", "aes256-gcm@openssh.com");
}
Test(ciphers, sshd_chacha20_poly1305) {
    world_server(&world, "");
    carry_with("Ciphers=chacha20-poly1305@openssh.com", "chacha20-poly1305@openssh.com");
}
/* The server's wish limits ours. */
Test(ciphers, sshd_with_one_cipher) {
    world_server(&world, "Ciphers aes256-gcm@openssh.com,aes256-ctr");
    carry_with("Ciphers=chacha20-poly1305@openssh.com,aes256-gcm@openssh.com", "aes256-gcm@openssh.com");
}
Test(ciphers, dropbear) {
    world_dropbear(&world);
    carry_with("TCPKeepAlive=yes", "chacha20-poly1305@openssh.com");
}

/* Nothing in common: one line that says so. */
Test(ciphers, none_in_common) {
    world_sshd(&world, "Ciphers aes256-ctr"); /* leatd would not start with it */
    struct process *leat =
        world_leat(&world, "-L", world_format("%u:127.0.0.1:%u", free_port(), target_port(target)), NULL);
    expect_failure_line(leat, "no matching cipher found. Their offer: aes256-ctr");
}
