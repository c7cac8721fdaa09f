/* How leat starts: servers that cannot be reached, the background, logs, and what the configuration file says. */
#include "expect.h"
#include "pair.h"
#include "traffic.h"
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
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
TestSuite(start, .init = setup, .fini = teardown, .timeout = 300);

static const char *spec_on(uint16_t port) {
    return world_format("%u:127.0.0.1:%u", port, target_port(target));
}

static void expect_traffic(uint16_t port) {
    struct traffic_result result = traffic_through("127.0.0.1", port, 1, 100000, 100000);
    cr_expect(result.ok, "%s", result.why);
}

/* ---- the server cannot be reached ---- */

Test(start, connection_refused) {
    world.server_port = free_port();
    expect_failure_line(world_leat(&world, "-L", spec_on(free_port()), NULL),
                        world_format("connect to host 127.0.0.1 port %u: Connection refused", world.server_port));
}

Test(start, host_without_an_address) {
    struct process *leat = world_leat_bare(&world, "-F", "none", "-N", "-o", "BatchMode=yes", "-L",
                                           spec_on(free_port()), "no.such.host.invalid", NULL);
    expect_failure_line(leat, "could not resolve host name no.such.host.invalid");
}

/* Something listens there and never says a word. */
Test(start, server_that_never_answers) {
    int listener = pair_listen(&world.server_port);
    double started = now_seconds();
    expect_failure_line(world_leat(&world, "-o", "ConnectTimeout=1", "-L", spec_on(free_port()), NULL), "timed out");
    cr_expect_geq(now_seconds() - started, 0.9);
    cr_expect_lt(now_seconds() - started, world_deadline(6));
    close(listener);
}

#ifndef LEAT_DEBUG_CHECKS
/* What may be traced belongs to its own user and group in /proc, what may not to root. Root's own leat has another
 * group for this. */
static bool is_roots(const struct process *process) {
    struct stat stat_of;
    return stat(world_format("/proc/%d/environ", (int)process->pid), &stat_of) == 0 && stat_of.st_uid == 0 &&
           stat_of.st_gid == 0;
}

/* Passwords, passphrases and session keys are in leat's memory. */
Test(start, nobody_else_looks_into_memory) {
    int listener = pair_listen(&world.server_port);
    char *const argv[] = {"setpriv",
                          "--regid=65534",
                          "--clear-groups",
                          getenv("LEAT_BIN"),
                          "-F",
                          "none",
                          "-N",
                          "-p",
                          (char *)world_format("%u", world.server_port),
                          "127.0.0.1",
                          NULL};
    struct process *leat = world_start(&world, "leat", geteuid() == 0 ? argv : argv + 3);
    struct pollfd fd = {.fd = listener, .events = POLLIN};
    cr_assert_eq(poll(&fd, 1, (int)(world_deadline(10) * 1000)), 1, "%s", process_log(leat));
    cr_expect(is_roots(leat), "leat has connected by now");
    process_kill(leat, SIGTERM);
    close(listener);
}
#endif

Test(start, server_that_hangs_up) {
    struct target *rude = target_start("127.0.0.1", TARGET_CLOSE);
    world.server_port = target_port(rude);
    struct process *leat = world_leat(&world, "-L", spec_on(free_port()), NULL);
    cr_expect_eq(process_wait(leat, 20), 255);
    cr_expect_eq(process_lines(leat, "leat: "), 1, "%s", process_log(leat));
    cr_expect_eq(process_lines(leat, world_format("127.0.0.1 port %u", world.server_port)), 1, "%s", process_log(leat));
    target_stop(rude);
}

/* A web server, say. */
Test(start, server_that_speaks_something_else) {
    uint16_t port;
    int listener = pair_listen(&port);
    world.server_port = port;
    struct process *leat = world_leat(&world, "-o", "ConnectTimeout=20", "-L", spec_on(free_port()), NULL);
    int fd = accept(listener, NULL, NULL);
    cr_assert_geq(fd, 0);
    static const char words[] = "HTTP/1.1 400 Bad Request\r\n\r\n";
    (void)!write(fd, words, sizeof(words) - 1);
    close(fd);
    cr_expect_eq(process_wait(leat, 20), 255);
    cr_expect_eq(process_lines(leat, ""), 1, "%s", process_log(leat));
    close(listener);
}

/* ---- quiet, log file ---- */

Test(start, quiet_says_nothing) {
    world.server_port = free_port();
    struct process *leat = world_leat(&world, "-q", "-L", spec_on(free_port()), NULL);
    cr_expect_eq(process_wait(leat, 20), 255);
    cr_expect_str_empty(process_log(leat));
}

/* A server that comes a little later than its client. */
Test(start, connection_attempts) {
    uint16_t port = free_port();
    uint16_t listening = world.server_port;
    world.server_port = free_port();
    struct process *leat = world_leat(&world, "-v", "-o", "ConnectionAttempts=3", "-L", spec_on(port), NULL);
    cr_expect_eq(process_wait(leat, 20), 255);
    cr_expect_eq(process_lines(leat, "Connection refused"), 4, "three attempts and their end: %s", process_log(leat));
    cr_expect_eq(process_lines(leat, "trying again"), 2, "%s", process_log(leat));
    world.server_port = listening;
}

Test(start, log_file_takes_all_lines) {
    const char *log = world_path(&world, "leat.log");
    world.server_port = free_port();
    struct process *leat = world_leat(&world, "-E", log, "-L", spec_on(free_port()), NULL);
    cr_expect_eq(process_wait(leat, 20), 255);
    cr_expect_str_empty(process_log(leat));
    struct process file = {.pid = -1};
    snprintf(file.log, sizeof(file.log), "%s", log);
    cr_expect_eq(process_lines(&file, "Connection refused"), 1, "%s", process_log(&file));
}

/* ---- -f ---- */

Test(start, background_when_all_is_up) {
    uint16_t local = free_port(), remote = free_port();
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    world_server(&world, "");
    struct process *leat = world_leat(&world, "-f", "-L", spec_on(local), "-R", spec_on(remote), NULL);
    cr_expect_eq(process_wait(leat, 20), 0, "%s", process_log(leat));
    /* At once, without another try: this is what -f promises. */
    expect_traffic(local);
    expect_traffic(remote);
    struct process *background = adopt_background(&world);
    cr_expect_eq(getsid(background->pid), background->pid, "it is no session of its own");
    expect_clean_end(background);
    cr_expect_str_empty(process_log(leat));
}

/* What fails before that fails in the foreground, and nobody stays. */
static void expect_foreground_failure(struct process *leat, const char *why) {
    expect_failure_line(leat, why);
    cr_expect_eq(process_child(&world, getpid(), "leat"), 0, "somebody is in the background");
}

Test(start, background_after_nothing_that_failed) {
    uint16_t taken;
    int holder = pair_listen(&taken);
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    world_server(&world, "AddressFamily inet");
    expect_foreground_failure(
        world_leat(&world, "-f", "-4", "-o", "ExitOnForwardFailure=yes", "-L", spec_on(taken), NULL),
        "Address already in use");
    expect_foreground_failure(world_leat(&world, "-f", "-o", "ExitOnForwardFailure=yes", "-R", spec_on(taken), NULL),
                              "remote port forwarding failed");
    world_write(world_path(&world, "authorized_keys"), "# nobody\n");
    expect_foreground_failure(world_leat(&world, "-f", "-L", spec_on(free_port()), NULL),
                              "Permission denied (publickey");
    close(holder);
}

/* Killed before it is ready, nothing goes on behind its back. */
Test(start, background_gives_up_with_the_foreground) {
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    int silent = pair_listen(&world.server_port);
    struct process *leat = world_leat(&world, "-f", "-L", spec_on(free_port()), NULL);
    int connected = accept(silent, NULL, NULL); /* by the one that would stay in the background */
    cr_assert_geq(connected, 0);
    process_kill(leat, SIGKILL);
    cr_expect_eq(process_wait(leat, 10), 128 + SIGKILL);
    char byte;
    while (read(connected, &byte, 1) > 0) /* its version line, then the end */
        ;
    close(connected);
    close(silent);
}

/* ---- ssh_config ---- */

static const char *config_with(const char *host_lines) {
    const char *path = world_path(&world, "ssh_config");
    world_write(path, world_format("Host elsewhere\n  Port 1\nHost work\n  HostName 127.0.0.1\n  Port %u\n%s\n",
                                   world.server_port, host_lines));
    FILE *file = fopen(path, "ae");
    cr_assert_not_null(file);
    fprintf(file, "Host *\n  IdentityFile %s\n  IdentitiesOnly yes\n  UserKnownHostsFile %s\n  BatchMode yes\n",
            world.user_key, world.known_hosts);
    fclose(file);
    return path;
}

Test(start, forwards_of_the_configuration_file) {
    uint16_t local = free_port(), remote = free_port(), typed = free_port();
    world_server(&world, "");
    const char *config = config_with(world_format("  LocalForward %u 127.0.0.1:%u\n  RemoteForward %u 127.0.0.1:%u",
                                                  local, target_port(target), remote, target_port(target)));
    struct process *leat = world_leat_bare(&world, "-v", "-F", config, "-L", spec_on(typed), "work", NULL);
    expect_up(leat);
    expect_traffic(local);
    expect_traffic(remote);
    expect_traffic(typed);
    expect_clean_end(leat);

    /* ClearAllForwardings also takes those of the command line, as in ssh. */
    leat = world_leat_bare(&world, "-v", "-F", config, "-o", "ClearAllForwardings=yes", "-L", spec_on(typed), "work",
                           NULL);
    expect_up(leat);
    cr_expect_lt(connect_to("127.0.0.1", local), 0);
    cr_expect_lt(connect_to("127.0.0.1", remote), 0);
    cr_expect_lt(connect_to("127.0.0.1", typed), 0);
    expect_clean_end(leat);
}

Test(start, exit_on_forward_failure_of_the_configuration_file) {
    uint16_t taken;
    int holder = pair_listen(&taken);
    world_server(&world, "");
    const char *config = config_with(world_format(
        "  LocalForward 127.0.0.1:%u 127.0.0.1:%u\n  ExitOnForwardFailure yes", taken, target_port(target)));
    expect_failure_line(world_leat_bare(&world, "-F", config, "work", NULL), "Address already in use");
    close(holder);
}

Test(start, error_in_the_configuration_file) {
    world_server(&world, "");
    const char *config = config_with("  LocalForward nonsense");
    expect_failure_line(world_leat_bare(&world, "-F", config, "work", NULL), world_format("%s:6: ", config));
}
