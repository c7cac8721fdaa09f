/* The life of leatd itself: configuration, reload, drain, state, plain relays, timeouts, -i, daemon, privileges. */
#include "expect.h"
#include "pair.h"
#include "proxy.h"
#include "traffic.h"
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <pwd.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/utsname.h>
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
TestSuite(leatd, .init = setup, .fini = teardown, .timeout = 300);

static const char *leatd_program(void) {
    return getenv("LEATD_BIN");
}

static const char *spec_to_target(uint16_t port) {
    return world_format("%u:127.0.0.1:%u", port, target_port(target));
}

static struct process *tunnel(uint16_t port) {
    struct process *leat = world_leat(&world, "-v", "-L", spec_to_target(port), NULL);
    expect_up(leat);
    return leat;
}

static void expect_traffic(uint16_t port) {
    struct traffic_result result = traffic_through("127.0.0.1", port, port, 1 << 20, 1 << 20);
    cr_expect(result.ok, "%s", result.why);
}

/* The running leatd's configuration with `more` before it, read again. */
static void reload(const char *more) {
    const char *config = world_path(&world, "sshd_config");
    char *old = world_read(config);
    world_write(config, world_format("%s\n%s", more, old));
    free(old);
    process_kill(world.server, SIGHUP);
}

/* A verified transfer that is under way while something happens. */
struct transfer {
    pthread_t thread;
    uint16_t port;
    struct traffic_result result;
};
static void *run_transfer(void *arg) {
    struct transfer *transfer = arg;
    transfer->result = traffic_through("127.0.0.1", transfer->port, 9, 150 << 20, 150 << 20);
    return NULL;
}
static void transfer_start(struct transfer *transfer, uint16_t port) {
    unsigned before = target_accepted(target);
    *transfer = (struct transfer){.port = port};
    pthread_create(&transfer->thread, NULL, run_transfer, transfer);
    expect_soon(target_accepted(target) > before, 20);
}
static void expect_transferred(struct transfer *transfer) {
    pthread_join(transfer->thread, NULL);
    cr_expect(transfer->result.ok, "%s", transfer->result.why);
}

/* ---- reload ---- */

Test(leatd, reload_keeps_flows_and_takes_the_new_configuration) {
    struct transfer transfer;
    uint16_t port = free_port(), other = free_port();
    world_leatd(&world, "");
    tunnel(port);
    transfer_start(&transfer, port);
    reload("AllowTcpForwarding no");
    cr_expect(process_says(world.server, "reload", 10));
    expect_transferred(&transfer);
    expect_traffic(port); /* what stands keeps what it was given */
    struct process *late = world_leat(&world, "-v", "-L", spec_to_target(other), NULL);
    expect_up(late);
    int fd = connect_to("127.0.0.1", other);
    cr_expect_geq(pair_end(fd, 10), 0);
    close(fd);
    cr_expect(process_says(late, "administratively prohibited", 10));
}

Test(leatd, a_bad_reload_changes_nothing) {
    uint16_t port = free_port();
    world_leatd(&world, "");
    reload("NoSuchDirective yes");
    cr_expect(process_says(world.server, "sshd_config:1", 10));
    cr_expect(process_says(world.server, "NoSuchDirective", 10));
    expect_clean_end(tunnel(port));
}

/* Listeners follow the configuration; the ones that stay are never closed. */
Test(leatd, reload_moves_listeners) {
    uint16_t port = free_port(), fresh = free_port(), relay = free_port(), old = 0;
    world_leatd(&world, "");
    tunnel(port);
    old = world.server_port;
    reload(
        world_format("ListenAddress 127.0.0.1:%u\nRelay 127.0.0.1:%u 127.0.0.1:%u", fresh, relay, target_port(target)));
    int fd = connect_soon("127.0.0.1", relay, 20);
    cr_assert_geq(fd, 0);
    close(fd);
    expect_traffic(relay);
    expect_traffic(port);
    fd = connect_to("127.0.0.1", old);
    cr_expect_geq(fd, 0, "it was there before and stays");
    close(fd);
    world_reach_through(&world, fresh);
    expect_clean_end(tunnel(free_port()));
}

/* What could not be listened on at the start, and could be by now, is not half taken by a reload that fails. */
Test(leatd, a_bad_reload_listens_on_nothing_new) {
    uint16_t first, second;
    int holder = pair_listen(&first), other = pair_listen(&second);
    world_leatd(&world, world_format("ListenAddress 127.0.0.1:%u", first));
    cr_expect(process_says(world.server, world_format("Bind to port %u", first), 10));
    close(holder);
    reload(world_format("ListenAddress 127.0.0.1:%u", second));
    cr_expect(process_says(world.server, "reload failed", 10));
    cr_expect_lt(connect_to("127.0.0.1", first), 0, "it listens there, and nobody answers");
    close(other);
    expect_clean_end(tunnel(free_port()));
}

/* ---- the end ---- */

Test(leatd, term_lets_flows_finish) {
    struct transfer transfer;
    uint16_t port = free_port();
    world_leatd(&world, "DrainTimeout 120");
    struct process *leat = tunnel(port);
    transfer_start(&transfer, port);
    process_kill(world.server, SIGTERM);
    expect_soon(connect_to("127.0.0.1", world.server_port) < 0, 10);
    cr_expect(process_running(world.server));
    expect_transferred(&transfer);
    cr_expect_eq(process_wait(world.server, 20), 0, "%s", process_log(world.server));
    cr_expect_eq(process_wait(leat, 20), 255, "its server has gone");
}

static void held_flow(struct process **leat) {
    struct target *still = target_start("127.0.0.1", TARGET_HOLD);
    uint16_t port = free_port();
    *leat = world_leat(&world, "-v", "-L", world_format("%u:127.0.0.1:%u", port, target_port(still)), NULL);
    expect_up(*leat);
    cr_assert_geq(connect_to("127.0.0.1", port), 0);
    cr_assert(process_says(world.server, "forward opened", 10));
}

Test(leatd, drain_timeout_ends_what_does_not) {
    struct process *leat;
    world_leatd(&world, "DrainTimeout 1");
    held_flow(&leat);
    process_kill(world.server, SIGTERM);
    cr_expect_eq(process_wait(world.server, 20), 0, "%s", process_log(world.server));
    expect_failure(leat, "disconnected by the server");
}

Test(leatd, a_second_term_ends_at_once) {
    struct process *leat;
    world_leatd(&world, "DrainTimeout 100");
    held_flow(&leat);
    process_kill(world.server, SIGTERM);
    expect_soon(connect_to("127.0.0.1", world.server_port) < 0, 10);
    process_kill(world.server, SIGTERM);
    cr_expect_eq(process_wait(world.server, 20), 0, "%s", process_log(world.server));
    expect_failure(leat, "disconnected by the server");
}

Test(leatd, idle_connections_do_not_hold_up_a_drain) {
    world_leatd(&world, "DrainTimeout 100");
    struct process *leat = tunnel(free_port());
    process_kill(world.server, SIGTERM);
    cr_expect_eq(process_wait(world.server, 20), 0, "%s", process_log(world.server));
    expect_failure(leat, "disconnected by the server");
}

/* Nor does somebody's terminal, where nothing is carried. */
Test(leatd, a_shell_does_not_hold_up_a_drain) {
    world_leatd(&world, "DrainTimeout 100");
    world.next_on_terminal = true;
    struct process *ssh = world_ssh(&world, "127.0.0.1", NULL);
    char shown[16];
    cr_assert_gt(read(world.terminal_fd, shown, sizeof(shown)), 0);
    cr_expect(process_running(ssh));
    process_kill(world.server, SIGTERM);
    cr_expect_eq(process_wait(world.server, 20), 0, "%s", process_log(world.server));
    cr_expect_eq(process_wait(ssh, 20), 255);
}

/* ---- state and audit ---- */

Test(leatd, usr1_prints_connections_and_flows) {
    struct process *leat;
    world_leatd(&world, "");
    held_flow(&leat);
    process_kill(world.server, SIGUSR1);
    cr_expect(process_says(world.server, "1 connection", 10));
    cr_expect(process_says(world.server, "direct-tcpip 127.0.0.1 port", 10));
}

static const char check_json[] =
    "import json, sys\n"
    "events = [json.loads(line) for line in open(sys.argv[1]) if line.startswith('{')]\n"
    "assert events, 'no line is an object'\n"
    "def one(event, **fields):\n"
    "    found = [e for e in events if e['event'] == event]\n"
    "    assert found, 'no %s in %s' % (event, [e['event'] for e in events])\n"
    "    for name, value in fields.items():\n"
    "        assert name in found[0], (name, found[0])\n"
    "        assert value is None or found[0][name] == value, (name, found[0])\n"
    "    return found[0]\n"
    "user, port = sys.argv[2], sys.argv[3]\n"
    "one('connection opened', source=None, connection=None)\n"
    "one('authentication succeeded', user=user, key=None, source=None)\n"
    "one('forward opened', user=user, key=None, origin=None, forward='direct-tcpip', requested='localhost',\n"
    "    requested_port=int(port))\n"
    "closed = one('forward closed', user=user, resolved='127.0.0.1', resolved_port=int(port), duration_ms=None)\n"
    "assert closed['bytes_to_target'] >= 1 << 20 and closed['bytes_from_target'] >= 1 << 20, closed\n"
    "one('forward refused', reason=None, requested='127.0.0.1', requested_port=1)\n"
    "one('connection closed', reason=None, duration_ms=None)\n"
    "print('as it should be')\n";

Test(leatd, json_lines) {
    uint16_t port = free_port(), nobody = free_port();
    world_leatd(&world, "LogFormat json");
    struct process *leat = world_leat(&world, "-v", "-L", world_format("%u:localhost:%u", port, target_port(target)),
                                      "-L", world_format("%u:127.0.0.1:1", nobody), NULL);
    expect_up(leat);
    expect_traffic(port);
    int fd = connect_to("127.0.0.1", nobody);
    cr_expect_geq(pair_end(fd, 10), 0);
    close(fd);
    expect_clean_end(leat);
    process_kill(world.server, SIGTERM); /* so that its log is whole */
    cr_expect_eq(process_wait(world.server, 20), 0, "%s", process_log(world.server));
    const char *script = world_path(&world, "check.py");
    world_write(script, check_json);
    int status = world_run(&world, "python3", script, world.server->log, getpwuid(geteuid())->pw_name,
                           world_format("%u", target_port(target)), NULL);
    cr_expect_eq(status, 0, "%s\n%s", process_log(&world.processes[world.count - 1]), process_log(world.server));
}

/* More connections through one forward (-L or -R) than MemoryLimit has windows for; the log says so of those beyond. */
static void expect_memory_is_told(const char *flag) {
    struct target *still = target_start("127.0.0.1", TARGET_HOLD);
    uint16_t port = free_port();
    bool is_local = strcmp(flag, "-L") == 0;
    int fds[60];
    world_leatd(&world, "MemoryLimit 2M");
    expect_up(world_leat(&world, "-v", flag, world_format("%u:127.0.0.1:%u", port, target_port(still)), NULL));
    for (unsigned i = 0; i < 60; i++)
        cr_assert_geq(fds[i] = connect_to("127.0.0.1", port), 0);
    cr_expect(process_says(world.server,
                           world_format("to %s port %u: no room for another connection's window within MemoryLimit 2M",
                                        is_local ? "127.0.0.1" : "localhost", is_local ? target_port(still) : port),
                           10),
              "%s", process_log(world.server));
    cr_expect_eq(process_lines(world.server, "limit reached"), 0);
    for (unsigned i = 0; i < 60; i++)
        close(fds[i]);
    target_stop(still);
}

/* What could not even be looked at is told like any other refusal. */
Test(leatd, refusals_for_want_of_memory_are_told) {
    expect_memory_is_told("-L");
}

Test(leatd, a_listener_that_finds_no_memory_tells_so) {
    expect_memory_is_told("-R");
}

/* ---- plain relays ---- */

Test(leatd, relay) {
    uint16_t port = free_port(), bad = free_port();
    char why[128] = "";
    world_leatd(&world, world_format("Relay 127.0.0.1:%u 127.0.0.1:%u\nRelay 127.0.0.1:%u 127.0.0.1:1", port,
                                     target_port(target), bad));
    struct traffic_result result = traffic_through("127.0.0.1", port, 1, 100 << 20, 100 << 20);
    cr_expect(result.ok, "%s", result.why);
    result = traffic_through("127.0.0.1", port, 2, 0, 10 << 20);
    cr_expect(result.ok, "half-close: %s", result.why);
    result = traffic_through("127.0.0.1", port, 3, 10 << 20, 0);
    cr_expect(result.ok, "half-close: %s", result.why);
    cr_expect_eq(traffic_many("127.0.0.1", port, 300, 4, 100000, 100000, why, sizeof(why)), 0, "%s", why);
    cr_expect_eq(target_failures(target, why, sizeof(why)), 0, "%s", why);
    int fd = connect_to("127.0.0.1", bad);
    cr_expect_geq(pair_end(fd, 10), 0);
    close(fd);
    cr_expect(process_says(world.server, "onnection refused", 10));
    process_kill(world.server, SIGTERM);
    cr_expect_eq(process_wait(world.server, 20), 0, "%s", process_log(world.server));
}

/* A relay in front of a stock sshd, as the manual has it. */
static bool port_is_odd(int fd) {
    struct sockaddr_in peer;
    socklen_t len = sizeof(peer);
    cr_assert_eq(getpeername(fd, (struct sockaddr *)&peer, &len), 0);
    return ntohs(peer.sin_port) % 2 == 1;
}

/* Where there are hundreds to one target, also those ports that the kernel keeps for bind(2): else the search for a
 * free one becomes long. */
Test(leatd, relays_take_any_port) {
    enum { EACH = 400 };
    static int nears[EACH], fars[EACH];
    struct utsname kernel;
    unsigned major = 0, minor = 0, odd = 0;
    uint16_t target_at, port = free_port();
    cr_assert(uname(&kernel) == 0 && sscanf(kernel.release, "%u.%u", &major, &minor) == 2);
    if (major * 100 + minor < 608)
        world_skip(&world, "this kernel keeps half of the ports for bind(2)");
    int listener = pair_listen(&target_at);
    world_leatd(&world, world_format("Shards 1\nRelay 127.0.0.1:%u 127.0.0.1:%u", port, target_at));
    for (unsigned i = 0; i < EACH; i++) {
        cr_assert_geq(nears[i] = connect_to("127.0.0.1", port), 0);
        struct pollfd come = {.fd = listener, .events = POLLIN};
        cr_assert_eq(poll(&come, 1, 10000), 1);
        cr_assert_geq(fars[i] = accept(listener, NULL, NULL), 0);
        odd += port_is_odd(fars[i]);
    }
    cr_expect(odd > 0 && odd < EACH, "%u", odd);
    for (unsigned i = 0; i < EACH; i++) {
        close(nears[i]);
        close(fars[i]);
    }
    close(listener);
}

Test(leatd, relay_before_an_sshd) {
    struct world behind = {.count = 0};
    uint16_t entrance = free_port(), port = free_port();
    world_begin(&behind);
    world_sshd(&behind, "");
    world_leatd(&world, world_format("Relay 127.0.0.1:%u 127.0.0.1:%u", entrance, behind.server_port));
    world_reach_through(&behind, entrance);
    struct process *leat = world_leat(&behind, "-v", "-L", spec_to_target(port), NULL);
    expect_up(leat);
    expect_traffic(port);
    expect_clean_end(leat);
    world_end(&behind);
}

/* ---- time limits ---- */

Test(leatd, client_alive) {
    world_leatd(&world, "ClientAliveInterval 1\nClientAliveCountMax 2");
    struct proxy *proxy = proxy_start(world.server_port);
    world_reach_through(&world, proxy_port(proxy));
    tunnel(free_port());
    pause_seconds(3); /* a living client answers */
    cr_expect_eq(process_lines(world.server, "client not responding"), 0);
    proxy_set(proxy, PROXY_BLOCKS);
    cr_expect(process_says(world.server, "client not responding", 20));
    proxy_stop(proxy);
}

Test(leatd, unused_connection_timeout) {
    world_leatd(&world, "UnusedConnectionTimeout 2");
    struct process *leat = tunnel(free_port());
    double began = now_seconds();
    expect_failure(leat, "disconnected by the server");
    cr_expect_geq(now_seconds() - began, 1);
}

Test(leatd, channel_timeout) {
    struct process *leat;
    world_leatd(&world, "ChannelTimeout direct-tcpip=2");
    held_flow(&leat);
    cr_expect(process_says(world.server, "idle for too long", 20));
    cr_expect(process_running(leat));
    uint16_t port = free_port();
    tunnel(port);
    expect_traffic(port);
}

/* All channels together: one that moves keeps the others, as sshd_config(5) has it. */
Test(leatd, channel_timeout_of_all_together) {
    struct process *leat;
    world_leatd(&world, "ChannelTimeout global=2");
    held_flow(&leat);
    struct target *echo = target_start("127.0.0.1", TARGET_ECHO);
    uint16_t port = free_port();
    struct process *other =
        world_leat(&world, "-v", "-L", world_format("%u:127.0.0.1:%u", port, target_port(echo)), NULL);
    expect_up(other);
    int moving = connect_to("127.0.0.1", port), still = connect_to("127.0.0.1", port);
    cr_assert(moving >= 0 && still >= 0);
    double began = now_seconds();
    while (now_seconds() - began < 5) {
        char byte = 'x';
        cr_assert_eq(send(moving, &byte, 1, 0), 1);
        cr_assert_eq(recv(moving, &byte, 1, 0), 1);
        pause_seconds(0.1);
    }
    cr_expect_eq(process_lines(world.server, "idle for too long"), 1, "%s", process_log(world.server));
    cr_expect_eq(pair_end(still, 20), ECONNRESET);
    cr_expect_eq(pair_end(moving, 20), ECONNRESET);
    expect_soon(process_lines(world.server, "idle for too long") == 3, 20);
    cr_expect(process_running(other));
    expect_soon(connect_to("127.0.0.1", port) >= 0, 10);
    close(moving);
    close(still);
    target_stop(echo);
}

/* ---- starting ---- */

static struct process *leatd(const char *a, const char *b, const char *c, const char *d) {
    char *argv[] = {(char *)leatd_program(), (char *)a, (char *)b, (char *)c, (char *)d, NULL};
    return world_start(&world, "leatd", argv);
}

static const char *config_file(const char *text) {
    const char *path = world_path(&world, "config");
    world_write(path, world_format("%s\nHostKey %s/host_key\nAuthorizedKeysFile %s/authorized_keys\nStrictModes no\n"
                                   "PidFile none\n%s",
                                   text, world.dir, world.dir, geteuid() == 0 ? "User root\n" : ""));
    return path;
}

Test(leatd, test_mode) {
    cr_expect_eq(process_wait(leatd("-t", "-f", config_file(""), NULL), 20), 0);
    struct process *bad = leatd("-t", "-f", config_file("\nFrobnicate yes"), NULL);
    cr_expect_eq(process_wait(bad, 20), 255);
    cr_expect_not_null(strstr(process_log(bad), "config:2"), "%s", process_log(bad));
    bad = leatd("-t", "-f", config_file("HostKey /nonexistent/key"), NULL);
    cr_expect_eq(process_wait(bad, 20), 255);
    cr_expect_not_null(strstr(process_log(bad), "/nonexistent/key"), "%s", process_log(bad));
    bad = leatd("-t", "-f", "/nonexistent/config", NULL);
    cr_expect_eq(process_wait(bad, 20), 255);
    struct process *print = leatd("-T", "-f", config_file("PermitOpen 127.0.0.1:1"), NULL);
    cr_expect_eq(process_wait(print, 20), 0);
    cr_expect_not_null(strstr(process_log(print), "\npermitopen 127.0.0.1:1\n"), "%s", process_log(print));
}

Test(leatd, a_port_in_use) {
    uint16_t taken;
    int holder = pair_listen(&taken);
    struct process *server = leatd("-D", "-e", "-f", config_file(world_format("ListenAddress 127.0.0.1:%u", taken)));
    cr_expect_eq(process_wait(server, 20), 255);
    cr_expect_not_null(strstr(process_log(server), "ddress already in use"), "%s", process_log(server));
    close(holder);
}

static pid_t pid_in(const char *path) {
    char *text = world_read(path);
    pid_t pid = (pid_t)atol(text);
    free(text);
    return pid;
}

Test(leatd, daemon) {
    const char *pid_file = world_path(&world, "leatd.pid"), *log = world_path(&world, "leatd.log");
    uint16_t port = free_port();
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    const char *config = config_file(world_format("PidFile %s\nListenAddress 127.0.0.1:%u", pid_file, port));
    cr_expect_eq(process_wait(leatd("-f", config, "-E", log), 20), 0);
    int fd = connect_to("127.0.0.1", port); /* it listens by the time the start is over */
    cr_expect_geq(fd, 0);
    close(fd);
    pid_t pid = pid_in(pid_file);
    cr_assert_gt(pid, 1);
    struct process *daemon = world_adopt(&world, "leatd daemon", pid);
    process_kill(daemon, SIGTERM);
    cr_expect_eq(process_wait(daemon, 20), 0);
    cr_expect_neq(access(pid_file, F_OK), 0);
    char *said = world_read(log);
    cr_expect_not_null(strstr(said, "listening"), "%s", said);
    free(said);
}

/* One connection on standard input and output: a socket as ssh gives a ProxyCommand, and pipes. */
static void expect_inetd(const char *command) {
    const char *known = world_path(&world, "known_hosts_of_proxy");
    char *key = world_read(world_path(&world, "host_key.pub"));
    world_write(known, world_format("relay %s", key));
    free(key);
    uint16_t port = free_port();
    char *argv[] = {"ssh",   "-F",
                    "none",  "-N",
                    "-i",    world.user_key,
                    "-o",    "IdentitiesOnly=yes",
                    "-o",    "BatchMode=yes",
                    "-o",    (char *)world_format("UserKnownHostsFile=%s", known),
                    "-o",    (char *)world_format("ProxyCommand=%s", command),
                    "-L",    (char *)spec_to_target(port),
                    "relay", NULL};
    struct process *ssh = world_start(&world, "ssh", argv);
    int fd = connect_soon("127.0.0.1", port, 20);
    cr_assert_geq(fd, 0, "%s", process_log(ssh));
    close(fd);
    struct traffic_result result = traffic_through("127.0.0.1", port, 1, 20 << 20, 20 << 20);
    cr_expect(result.ok, "%s: %s", command, result.why);
    process_kill(ssh, SIGTERM);
    process_wait(ssh, 20);
}

Test(leatd, inetd) {
    const char *config = config_file("");
    const char *log = world_path(&world, "inetd.log");
    expect_inetd(world_format("%s -i -E %s -f %s", leatd_program(), log, config));
    expect_inetd(world_format("cat | %s -i -E %s -f %s | cat", leatd_program(), log, config));
    char *said = world_read(log);
    cr_expect_not_null(strstr(said, "authentication succeeded"), "%s", said);
    free(said);
}

/* ---- privileges ---- */

static long uid_of(const struct process *process) {
    char *status = world_read(world_format("/proc/%d/status", (int)process->pid));
    const char *uids = strstr(status, "Uid:");
    long real = -1, effective = -1, saved = -1;
    if (uids != NULL)
        (void)!sscanf(uids, "Uid: %ld %ld %ld", &real, &effective, &saved);
    free(status);
    return real == effective && effective == saved ? real : -1;
}

static bool kernel_says(const struct process *process, const char *line) {
    char *status = world_read(world_format("/proc/%d/status", (int)process->pid));
    bool found = strstr(status, line) != NULL;
    free(status);
    return found;
}

Test(leatd, is_confined) {
    world_leatd(&world, "");
    /* It binds before, but takes no connection until then. */
    expect_soon(kernel_says(world.server, "NoNewPrivs:\t1"), 10);
    if (!world_is_slow())
        expect_soon(kernel_says(world.server, "Seccomp:\t2"), 10);
}

Test(leatd, gives_up_root) {
    if (geteuid() != 0)
        world_skip(&world, "needs root");
    struct passwd *nobody = getpwnam("nobody");
    uint16_t port = free_port();
    chmod(world.dir, 0755);
    chmod(world_path(&world, "authorized_keys"), 0644);
    world_leatd(&world, "User nobody\nGroup nogroup");
    expect_soon(uid_of(world.server) == (long)nobody->pw_uid, 10);
    expect_clean_end(tunnel(port));
    process_kill(world.server, SIGHUP); /* the host key is not to be read any more: it is kept */
    cr_expect(process_says(world.server, "reload", 10));
    expect_clean_end(tunnel(port));
}

Test(leatd, does_not_stay_root_unasked) {
    if (geteuid() != 0 || getpwnam("leatd") != NULL)
        world_skip(&world, "needs root, and no user leatd");
    const char *path = world_path(&world, "config");
    world_write(
        path, world_format("HostKey %s/host_key\nPidFile none\nListenAddress 127.0.0.1:%u\n", world.dir, free_port()));
    struct process *server = leatd("-D", "-e", "-f", path);
    cr_expect_eq(process_wait(server, 20), 255);
    cr_expect_not_null(strstr(process_log(server), "leatd"), "%s", process_log(server));
}
