/* Authentication against a stock sshd: which keys are used, what is asked, and one clear line when it fails. */
#include "expect.h"
#include "terminal.h"
#include "traffic.h"
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define PASSPHRASE "correct horse battery"

static struct world world;
static uint16_t local;

static void setup(void) {
    world_begin(&world);
    world_server(&world, "");
    local = free_port();
    unsetenv("SSH_AUTH_SOCK");
    unsetenv("SSH_ASKPASS");
    unsetenv("SSH_ASKPASS_REQUIRE");
    unsetenv("DISPLAY");
}
static void teardown(void) {
    world_end(&world);
}
TestSuite(auth, .init = setup, .fini = teardown, .timeout = 300);

static const char *spec(void) {
    return world_format("%u:127.0.0.1:%u", local, world.server_port);
}

/* leat with nothing given but what every test here needs, and BatchMode or not. */
static struct process *leat_with(const char *identity, const char *option, const char *second_option) {
    return world_leat_bare(&world, "-F", "none", "-N", "-p", world_format("%u", world.server_port), "-o",
                           world_format("UserKnownHostsFile=%s", world.known_hosts), "-o", "GlobalKnownHostsFile=none",
                           "-o", world_format("IdentityFile=%s", identity), "-o", option, "-o", second_option, "-L",
                           spec(), "127.0.0.1", NULL);
}

/* The forward leads to the sshd itself: its banner comes through the tunnel. */
static void expect_tunnel(void) {
    char banner[8] = "";
    int fd = connect_soon("127.0.0.1", local, world_deadline(20));
    cr_assert_geq(fd, 0, "no tunnel");
    for (size_t got = 0, n; got < 4; got += n)
        cr_assert((n = (size_t)read(fd, banner + got, 4 - got)) - 1 < 4);
    close(fd);
    cr_expect_str_eq(banner, "SSH-");
}

static const char *make_key(const char *name, const char *passphrase) {
    const char *path = world_path(&world, name);
    cr_assert_eq(world_run(&world, "ssh-keygen", "-q", "-t", "ed25519", "-N", passphrase, "-f", path, NULL), 0);
    return path;
}

/* A key with a passphrase, known to the server. */
static const char *make_locked_key(void) {
    const char *path = make_key("locked_key", PASSPHRASE);
    world_copy(world_format("%s.pub", path), world_path(&world, "authorized_keys"));
    return path;
}

Test(auth, key_that_the_server_does_not_know) {
    expect_failure_line(leat_with(make_key("other_key", ""), "BatchMode=yes", "IdentityAgent=none"),
                        "Permission denied (publickey");
}

Test(auth, no_key_at_all) {
    expect_failure_line(leat_with("none", "BatchMode=yes", "IdentityAgent=none"), "Permission denied (publickey");
}

Test(auth, key_file_that_others_can_read) {
    chmod(world.user_key, 0644);
    struct process *leat = leat_with(world.user_key, "BatchMode=yes", "IdentityAgent=none");
    expect_failure(leat, "Permission denied (publickey");
    cr_expect_eq(process_lines(leat, "too open"), 1, "%s", process_log(leat));
}

Test(auth, locked_key_under_batch_mode) {
    expect_failure_line(leat_with(make_locked_key(), "BatchMode=yes", "IdentityAgent=none"),
                        "Permission denied (publickey");
}

Test(auth, agent) {
    const char *socket = world_path(&world, "agent");
    char *argv[] = {"ssh-agent", "-D", "-a", (char *)socket, NULL};
    struct process *agent = world_start(&world, "ssh-agent", argv);
    int asked = connect_soon(socket, 0, world_deadline(10));
    cr_assert_geq(asked, 0, "%s", process_log(agent));
    close(asked);
    setenv("SSH_AUTH_SOCK", socket, 1);
    cr_assert_eq(world_run(&world, "ssh-add", "-q", world.user_key, NULL), 0);
    struct process *leat = leat_with("none", "BatchMode=yes", "LogLevel=VERBOSE");
    expect_tunnel();
    expect_clean_end(leat);
    /* An agent that is gone is no key. */
    process_kill(agent, SIGTERM);
    process_wait(agent, 10);
    expect_failure(leat_with("none", "BatchMode=yes", "IdentitiesOnly=no"), "Permission denied (publickey");
}

/* ---- SSH_ASKPASS ---- */

static void use_askpass(const char *answer) {
    const char *script = world_path(&world, "askpass");
    world_write(script, world_format("#!/bin/sh\necho \"$1\" >> %s/asked\necho '%s'\n", world.dir, answer));
    chmod(script, 0700);
    setenv("SSH_ASKPASS", script, 1);
    setenv("SSH_ASKPASS_REQUIRE", "force", 1);
}

Test(auth, askpass) {
    const char *key = make_locked_key();
    use_askpass(PASSPHRASE);
    struct process *leat = leat_with(key, "IdentityAgent=none", "LogLevel=VERBOSE");
    expect_tunnel();
    cr_expect_eq(access(world_path(&world, "asked"), F_OK), 0);
    cr_expect_null(strstr(process_log(leat), PASSPHRASE));
    expect_clean_end(leat);
}

Test(auth, askpass_with_a_wrong_answer) {
    const char *key = make_locked_key();
    use_askpass("wrong");
    expect_failure(leat_with(key, "IdentityAgent=none", "PasswordAuthentication=no"), "Permission denied (publickey");
}

/* ---- a person at a terminal ---- */

Test(auth, passphrase_at_the_terminal) {
    struct terminal terminal;
    const char *key = make_locked_key();
    world.next_on_terminal = true;
    terminal_open(&terminal, &world, leat_with(key, "IdentityAgent=none", "LogLevel=VERBOSE"));
    cr_assert(terminal_shows(&terminal, "Enter passphrase for key", 20));
    terminal_type(&terminal, PASSPHRASE);
    cr_assert(terminal_shows(&terminal, "tunnel is up", 20));
    cr_expect_null(strstr(terminal.text, PASSPHRASE), "the passphrase is on the screen: %s", terminal.text);
    expect_tunnel();
    process_kill(terminal.process, SIGTERM);
    cr_expect_eq(terminal_wait(&terminal, 20), 0);
    terminal_close(&terminal);
}

Test(auth, wrong_passphrases_at_the_terminal) {
    struct terminal terminal;
    const char *key = make_locked_key();
    world.next_on_terminal = true;
    terminal_open(&terminal, &world, leat_with(key, "IdentityAgent=none", "PasswordAuthentication=no"));
    for (unsigned i = 0; i < 3; i++) {
        cr_assert(terminal_shows(&terminal, "Enter passphrase for key", 20));
        cr_assert(terminal_shows(&terminal, ": ", 20));
        terminal_type(&terminal, "not this one");
    }
    cr_expect_eq(terminal_wait(&terminal, 30), 255, "%s", terminal.text);
    cr_expect_not_null(strstr(terminal.text, "Permission denied (publickey"), "%s", terminal.text);
    terminal_close(&terminal);
}

/* Ctrl-C at the prompt ends it and leaves the terminal as it was. */
Test(auth, interrupted_at_the_prompt) {
    struct terminal terminal;
    const char *key = make_locked_key();
    world.next_on_terminal = true;
    terminal_open(&terminal, &world, leat_with(key, "IdentityAgent=none", "LogLevel=INFO"));
    cr_assert(terminal_shows(&terminal, "Enter passphrase for key", 20));
    terminal_type(&terminal, "half \x03");
    cr_expect_neq(terminal_wait(&terminal, 20), 0, "%s", terminal.text);
    cr_expect_null(strstr(terminal.text, "half"), "%s", terminal.text);
    terminal_close(&terminal);
}
