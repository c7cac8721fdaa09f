/* The server's identity: known, unknown, changed; asked about, added, refused. */
#include "expect.h"
#include "terminal.h"
#include "traffic.h"
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static struct world world;
static uint16_t local;

static void setup(void) {
    world_begin(&world);
    world_server(&world, "");
    local = free_port();
}
static void teardown(void) {
    world_end(&world);
}
TestSuite(hostkey, .init = setup, .fini = teardown, .timeout = 300);

static struct process *leat_with(const char *check, const char *option) {
    return world_leat_bare(&world, "-F", "none", "-N", "-v", "-p", world_format("%u", world.server_port), "-i",
                           world.user_key, "-o", "IdentitiesOnly=yes", "-o",
                           world_format("UserKnownHostsFile=%s", world.known_hosts), "-o", "GlobalKnownHostsFile=none",
                           "-o", world_format("StrictHostKeyChecking=%s", check), "-o", option, "-L",
                           world_format("%u:127.0.0.1:%u", local, world.server_port), "127.0.0.1", NULL);
}

static void forget_host(void) {
    world_write(world.known_hosts, "# nobody yet\n");
}

/* Another key is on record for the server. */
static void change_host(void) {
    const char *key = world_path(&world, "other_host_key");
    cr_assert_eq(world_run(&world, "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key, NULL), 0);
    char type[64], text[256];
    FILE *file = fopen(world_format("%s.pub", key), "re");
    cr_assert_not_null(file);
    cr_assert_eq(fscanf(file, "%63s %255s", type, text), 2);
    fclose(file);
    world_write(world.known_hosts, world_format("[127.0.0.1]:%u %s %s\n", world.server_port, type, text));
}

/* The next run takes the key for known. */
static void expect_known(void) {
    struct process *leat = leat_with("yes", "BatchMode=yes");
    expect_up(leat);
    expect_clean_end(leat);
}

static void expect_refused(struct process *leat, const char *why) {
    expect_failure(leat, why);
    cr_expect_not_null(strstr(process_log(leat), "Host key verification failed"), "%s", process_log(leat));
    cr_expect_null(strstr(process_log(leat), "Offering public key"), "%s", process_log(leat));
    expect_logins(&world, 0);
}

Test(hostkey, unknown_under_batch_mode) {
    forget_host();
    expect_refused(leat_with("ask", "BatchMode=yes"), "BatchMode");
    expect_refused(leat_with("yes", "BatchMode=no"), "StrictHostKeyChecking is yes");
}

Test(hostkey, accept_new_adds_it) {
    forget_host();
    struct process *leat = leat_with("accept-new", "BatchMode=yes");
    expect_up(leat);
    cr_expect_eq(process_lines(leat, "permanently added"), 1, "%s", process_log(leat));
    expect_clean_end(leat);
    expect_known();
}

Test(hostkey, hashed_names) {
    forget_host();
    struct process *leat = leat_with("accept-new", "HashKnownHosts=yes");
    expect_up(leat);
    expect_clean_end(leat);
    expect_known();
    char line[1024] = "";
    FILE *file = fopen(world.known_hosts, "re");
    cr_assert_not_null(file);
    while (fgets(line, sizeof(line), file) != NULL)
        ;
    fclose(file);
    cr_expect_eq(strncmp(line, "|1|", 3), 0, "%s", line);
    /* ssh's own tool finds it. */
    cr_expect_eq(world_run(&world, "ssh-keygen", "-F", world_format("[127.0.0.1]:%u", world.server_port), "-f",
                           world.known_hosts, NULL),
                 0);
}

Test(hostkey, changed_is_refused_loudly) {
    static const char *const checks[] = {"yes", "ask", "accept-new", "no"};
    change_host();
    for (unsigned i = 0; i < 4; i++)
        expect_refused(leat_with(checks[i], "BatchMode=yes"), "HAS CHANGED");
}

Test(hostkey, revoked_is_refused) {
    change_host();
    char type[64], text[256];
    FILE *file = fopen(world_path(&world, "host_key.pub"), "re");
    cr_assert_not_null(file);
    cr_assert_eq(fscanf(file, "%63s %255s", type, text), 2);
    fclose(file);
    world_write(world.known_hosts, world_format("@revoked * %s %s\n", type, text));
    expect_refused(leat_with("no", "BatchMode=yes"), "REVOKED");
}

Test(hostkey, two_connections_ask_once) {
    forget_host();
    struct terminal terminal;
    world.next_on_terminal = true;
    terminal_open(&terminal, &world, leat_with("ask", "Connections=2"));
    cr_assert(terminal_shows(&terminal, "(yes/no/[fingerprint])? ", 20));
    terminal_type(&terminal, "yes");
    cr_assert(terminal_shows(&terminal, "tunnel is up", 20));
    const char *question = strstr(terminal.text, "(yes/no/");
    cr_expect_null(strstr(question + 1, "(yes/no/"), "%s", terminal.text);
    process_kill(terminal.process, SIGTERM);
    cr_expect_eq(terminal_wait(&terminal, 20), 0);
    terminal_close(&terminal);
    expect_known();
}

/* What is typed decides, and the fingerprint that is shown is that of the key. */
static void answer(const char *first, const char *typed, bool accepted) {
    struct terminal terminal;
    forget_host();
    world.next_on_terminal = true;
    terminal_open(&terminal, &world, leat_with("ask", "TCPKeepAlive=yes"));
    cr_assert(terminal_shows(&terminal, "(yes/no/[fingerprint])? ", 20));
    cr_expect_not_null(strstr(terminal.text, "ED25519 key has the fingerprint SHA256:"), "%s", terminal.text);
    if (first != NULL) {
        terminal_type(&terminal, first);
        cr_assert(terminal_shows(&terminal, "Please type 'yes', 'no' or the fingerprint: ", 20));
    }
    terminal_type(&terminal, typed);
    if (accepted) {
        cr_expect(terminal_shows(&terminal, "tunnel is up", 20));
        process_kill(terminal.process, SIGTERM);
    }
    cr_expect_eq(terminal_wait(&terminal, 20), accepted ? 0 : 255, "%s", terminal.text);
    terminal_close(&terminal);
}

Test(hostkey, answered_yes) {
    answer(NULL, "yes", true);
    expect_known();
}
Test(hostkey, answered_no) {
    answer(NULL, "no", false);
    expect_logins(&world, 0);
}
Test(hostkey, answered_maybe_then_no) {
    answer("maybe", "no", false);
}
