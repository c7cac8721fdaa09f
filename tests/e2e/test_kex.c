/* Which key exchange stock ssh and leat agree on with the server, and that it carries. */
#include "expect.h"
#include "traffic.h"
#include <stdio.h>
#include <unistd.h>

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
TestSuite(kex, .init = setup, .fini = teardown, .timeout = 300);

static const char mlkem[] = "mlkem768x25519-sha256";

/* What ran last, to its end or not. */
static const struct process *last(void) {
    return &world.processes[world.count - 1];
}

static bool openssh_has(const char *name) {
    cr_assert_eq(world_run(&world, "ssh", "-Q", "kex", NULL), 0, "%s", process_log(last()));
    return process_lines(last(), name) > 0;
}

/* libssh has the post-quantum key exchanges since 0.12; leat -V says which it runs with. */
static bool libssh_is_post_quantum(void) {
    unsigned major = 0, minor = 0;
    struct process *leat = world_leat_bare(&world, "-V", NULL);
    cr_assert_eq(process_wait(leat, 10), 0, "%s", process_log(leat));
    const char *version = strstr(process_log(leat), "libssh ");
    cr_assert(version && sscanf(version, "libssh %u.%u", &major, &minor) == 2, "%s", process_log(leat));
    return major > 0 || minor >= 12;
}

static void skip_without(const char *name) {
    if (!openssh_has(name))
        world_skip(&world, "this OpenSSH has no %s", name);
    if (!libssh_is_post_quantum())
        world_skip(&world, "this libssh has no %s", name);
}

/* Traffic of -L and -R with the key exchange that -v names, which is repeated at least so often. */
static void carry_with(const char *option, const char *name, unsigned rekeys_min) {
    uint16_t local = free_port(), remote = free_port();
    char why[128] = "";
    struct process *leat =
        world_leat(&world, "-v", "-o", option, "-L", world_format("%u:127.0.0.1:%u", local, target_port(target)), "-R",
                   world_format("%u:127.0.0.1:%u", remote, target_port(target)), NULL);
    expect_up(leat);
    cr_expect_eq(process_lines(leat, world_format("key exchange %s", name)), 1, "%s", process_log(leat));
    cr_expect_eq(traffic_many("127.0.0.1", local, 4, 100, 4 << 20, 4 << 20, why, sizeof(why)), 0, "-L: %s", why);
    cr_expect_eq(traffic_many("127.0.0.1", remote, 4, 200, 4 << 20, 4 << 20, why, sizeof(why)), 0, "-R: %s", why);
    cr_expect_eq(target_failures(target, why, sizeof(why)), 0, "%s", why);
    cr_expect_geq(rekeys_of(leat), rekeys_min);
    expect_clean_end(leat);
}

/* Stock ssh to its end; leatd runs no command and says so. */
static const char *ssh_says(void) {
    struct process *ssh = world_ssh(&world, "-v", "127.0.0.1", "true", NULL);
    cr_assert_eq(process_wait(ssh, 60), world.server_is_leatd ? 1 : 0, "%s", process_log(ssh));
    return process_log(ssh);
}

static bool ssh_agreed_on(const char *name, const char *log) {
    return strstr(log, world_format("kex: algorithm: %s\r\n", name)) != NULL ||
           strstr(log, world_format("kex: algorithm: %s\n", name)) != NULL;
}

/* Of a connection that can be stored now and read when there are quantum computers; since OpenSSH 10.1. */
static const char warning[] = "not using a post-quantum key exchange";

static bool ssh_warns(void) {
    cr_assert_eq(world_run(&world, "ssh", "-F", "none", "-G", "host", NULL), 0, "%s", process_log(last()));
    return process_lines(last(), "warnweakcrypto yes") > 0;
}

/* Nobody asks for it: it is what stock ssh agrees on with the server, and what leat does. */
Test(kex, post_quantum_by_default) {
    skip_without(mlkem);
    world_server(&world, "");
    const char *log = ssh_says();
    cr_expect(ssh_agreed_on(mlkem, log), "%s", log);
    cr_expect_null(strstr(log, warning), "%s", log);
    carry_with("TCPKeepAlive=yes", mlkem, 0);
}

/* That ssh would have warned, else the test before this one says nothing of it. (It does not of what it was told to
 * use.) */
Test(kex, ssh_warns_of_the_others) {
    const char *name = "curve25519-sha256";
    world_server(&world, world_format("KexAlgorithms %s", name));
    bool warns = ssh_warns();
    const char *log = ssh_says();
    cr_expect(ssh_agreed_on(name, log), "%s", log);
    cr_expect_eq(strstr(log, warning) != NULL, warns, "%s", log);
}

/* Stock ssh asks for new keys while its flows are open. */
Test(kex, post_quantum_again_and_again_with_ssh) {
    skip_without(mlkem);
    world_server(&world, "");
    uint16_t port = free_port();
    char why[128] = "";
    struct process *ssh = world_ssh(&world, "-v", "-N", "-o", "RekeyLimit=4M", "-L",
                                    world_format("%u:127.0.0.1:%u", port, target_port(target)), "127.0.0.1", NULL);
    int fd = connect_soon("127.0.0.1", port, 20);
    cr_assert_geq(fd, 0, "%s", process_log(ssh));
    close(fd);
    cr_expect_eq(traffic_many("127.0.0.1", port, 4, 100, 8 << 20, 8 << 20, why, sizeof(why)), 0, "%s", why);
    cr_expect_geq(process_lines(ssh, world_format("kex: algorithm: %s", mlkem)), 5, "%s", process_log(ssh));
    process_kill(ssh, SIGTERM);
    process_wait(ssh, 20);
}

/* Keys change while flows are open, in both directions. */
Test(kex, post_quantum_again_and_again) {
    skip_without(mlkem);
    world_server(&world, "RekeyLimit 4M");
    carry_with("KexAlgorithms=mlkem768x25519-sha256", mlkem, 6);
}

Test(kex, post_quantum_other) {
    const char *name = "sntrup761x25519-sha512@openssh.com";
    skip_without(name);
    world_server(&world, "");
    carry_with(world_format("KexAlgorithms=%s", name), name, 0);
}

/* What every supported libssh and OpenSSH have. The group exchange has no whole name in libssh before 0.12. */
Test(kex, classical) {
    static const char *const names[] = {"curve25519-sha256", "ecdh-sha2-nistp256", "ecdh-sha2-nistp521",
                                        "diffie-hellman-group16-sha512"};
    const char *exchange = "diffie-hellman-group-exchange";
    world_server(&world, world_format("KexAlgorithms +diffie-hellman-group16-sha512,%s-sha256", exchange));
    for (unsigned i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        carry_with(world_format("KexAlgorithms=%s", names[i]), names[i], 0);
    carry_with(world_format("KexAlgorithms=%s-sha256", exchange), exchange, 0);
}

/* Our first wish is what we get where a server has it, whatever that one would like better. */
Test(kex, the_clients_order) {
    world_server(&world, "KexAlgorithms diffie-hellman-group16-sha512,ecdh-sha2-nistp256");
    carry_with("TCPKeepAlive=yes", "ecdh-sha2-nistp256", 0);
}
