/* HUP of a running leat: forwards come, go and change their targets, what stands is not touched; what is wrong changes
 * nothing. */
#include "expect.h"
#include "pair.h"
#include "proxy.h"
#include "terminal.h"
#include "traffic.h"
#include <errno.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

static struct world world;
static struct process *leat;
static struct target *target;
static struct pair pair;
static int listener;
static uint16_t far; /* the listener's port */

static void setup(void) {
    world_begin(&world);
    world_server(&world, "");
    target = target_start("127.0.0.1", TARGET_TRAFFIC);
    listener = pair_listen(&far);
    pair = (struct pair){-1, -1};
}
static void teardown(void) {
    pair_close(&pair);
    close(listener);
    target_stop(target);
    world_end(&world);
}
TestSuite(reload, .init = setup, .fini = teardown, .timeout = 300);

static void configure(const char *text) {
    world_write(world_path(&world, "config"),
                world_format("Port %u\nIdentityFile %s\nIdentitiesOnly yes\nBatchMode yes\nUserKnownHostsFile %s\n%s\n",
                             world.server_port, world.user_key, world.known_hosts, text));
}

static void start(const char *text) {
    configure(text);
    leat = world_leat_bare(&world, "-v", "-F", world_path(&world, "config"), "127.0.0.1", NULL);
    expect_up(leat);
}

/* Done when it says `line` once more. */
static void reload(const char *text, const char *line) {
    unsigned before = process_lines(leat, line);
    configure(text);
    process_kill(leat, SIGHUP);
    expect_soon(process_lines(leat, line) == before + 1, 20);
    cr_assert_eq(process_lines(leat, line), before + 1, "%s", process_log(leat));
}

static const char *forward(char kind, uint16_t port, uint16_t to) {
    return world_format("%sForward %u 127.0.0.1:%u\n", kind == 'L' ? "Local" : "Remote", port, to);
}

static bool reachable(uint16_t port) {
    int fd = connect_to("127.0.0.1", port);
    if (fd < 0)
        return false;
    pair_reset(&fd);
    return true;
}

static void expect_traffic(uint16_t port) {
    struct traffic_result result = traffic_through("127.0.0.1", port, port, 1 << 20, 1 << 20);
    cr_expect(result.ok, "%s", result.why);
}

/* What an open connection carries, although its forward is gone or leads somewhere else. */
static void expect_untouched(void) {
    cr_expect_eq(pair_push(pair.near, 3, 0, 1 << 20, 10), 1 << 20);
    cr_expect(pair_pull(pair.far, 3, 0, 1 << 20, 10));
    cr_expect_eq(pair_push(pair.far, 4, 0, 1 << 20, 10), 1 << 20);
    cr_expect(pair_pull(pair.near, 4, 0, 1 << 20, 10));
}

static void forwards_come_and_go(char kind) {
    uint16_t stays = free_port(), goes = free_port(), comes = free_port();
    char stays_text[100], goes_text[100];
    snprintf(stays_text, sizeof(stays_text), "%s", forward(kind, stays, target_port(target)));
    snprintf(goes_text, sizeof(goes_text), "%s", forward(kind, goes, far));
    start(world_format("%s%s", stays_text, goes_text));
    cr_assert(pair_open(&pair, "127.0.0.1", goes, listener, 20));
    reload(world_format("%s%s", stays_text, forward(kind, comes, target_port(target))),
           "configuration reloaded: 1 forwards added, 1 removed, 0 changed");
    expect_soon(!reachable(goes), 10);
    expect_soon(reachable(comes), 10);
    expect_traffic(stays);
    expect_traffic(comes);
    expect_untouched();
    /* And back again: the port was given up for good. */
    reload(world_format("%s%s", stays_text, goes_text),
           "configuration reloaded: 1 forwards added, 1 removed, 0 changed");
    expect_soon(reachable(goes), 10);
    expect_soon(!reachable(comes), 10);
    expect_traffic(stays);
    expect_untouched();
    reload(world_format("%s%s", stays_text, goes_text),
           "configuration reloaded: 0 forwards added, 0 removed, 0 changed");
    pair_close(&pair);
    expect_clean_end(leat);
}
Test(reload, local_forwards_come_and_go) {
    forwards_come_and_go('L');
}
Test(reload, remote_forwards_come_and_go) {
    forwards_come_and_go('R');
}

static void another_target(char kind) {
    uint16_t port = free_port();
    start(forward(kind, port, far));
    cr_assert(pair_open(&pair, "127.0.0.1", port, listener, 20));
    reload(forward(kind, port, target_port(target)), "configuration reloaded: 0 forwards added, 0 removed, 1 changed");
    expect_traffic(port);
    expect_untouched();
    pair_close(&pair);
    expect_clean_end(leat);
}
Test(reload, another_target_of_a_local_forward) {
    another_target('L');
}
Test(reload, another_target_of_a_remote_forward) {
    another_target('R');
}

/* The same port in other words: what is there is closed before what comes is bound. */
static void same_port_otherwise(char kind) {
    uint16_t port = free_port();
    start(forward(kind, port, target_port(target)));
    reload(world_format("%sForward 127.0.0.1:%u 127.0.0.1:%u", kind == 'L' ? "Local" : "Remote", port,
                        target_port(target)),
           "configuration reloaded: 1 forwards added, 1 removed, 0 changed");
    expect_soon(reachable(port), 10);
    expect_traffic(port);
    cr_expect_eq(process_lines(leat, "cannot listen") + process_lines(leat, "refused it"), 0, "%s", process_log(leat));
    expect_clean_end(leat);
}
Test(reload, a_local_port_in_other_words) {
    same_port_otherwise('L');
}
Test(reload, a_remote_port_in_other_words) {
    same_port_otherwise('R');
}

Test(reload, what_is_wrong_changes_nothing) {
    uint16_t port = free_port(), other = free_port();
    start(forward('L', port, target_port(target)));
    reload(world_format("%sNoSuchKeyword yes", forward('L', other, target_port(target))), "reload failed");
    cr_expect_eq(process_lines(leat, "config:7"), 1, "%s", process_log(leat));
    expect_traffic(port);
    cr_expect_not(reachable(other));
    reload(forward('L', port, target_port(target)), "configuration reloaded: 0 forwards added, 0 removed, 0 changed");
    expect_clean_end(leat);
}

/* What could not be had is tried again; ExitOnForwardFailure is a matter of the start. */
Test(reload, a_port_that_is_taken) {
    uint16_t port = free_port(), taken;
    char text[200];
    int holder = pair_listen(&taken);
    start(forward('L', port, target_port(target)));
    snprintf(text, sizeof(text), "ExitOnForwardFailure yes\n%sLocalForward 127.0.0.1:%u 127.0.0.1:%u\n",
             forward('L', port, target_port(target)), taken, target_port(target));
    reload(text, "configuration reloaded: 0 forwards added, 0 removed, 0 changed");
    cr_expect_eq(process_lines(leat, "Address already in use"), 1, "%s", process_log(leat));
    expect_traffic(port);
    close(holder);
    reload(text, "configuration reloaded: 1 forwards added, 0 removed, 0 changed");
    expect_traffic(taken);
    expect_clean_end(leat);
}

Test(reload, what_takes_a_restart_is_named) {
    uint16_t port = free_port();
    start(forward('L', port, target_port(target)));
    reload(world_format("%sConnections 3\nUser somebody\nLogLevel VERBOSE\nRekeyLimit 1G", forward('L', port, far)),
           "changed, and needs a restart: user, rekeylimit, connections");
    cr_expect_eq(process_lines(leat, "needs a restart"), 1, "%s", process_log(leat));
    expect_soon(process_lines(leat, "1 changed") == 1, 10);
    expect_clean_end(leat);
}

/* -v is on the command line and wins over files: without it the file decides. */
Test(reload, log_level) {
    uint16_t port = free_port();
    configure(forward('L', port, target_port(target)));
    leat = world_leat_bare(&world, "-F", world_path(&world, "config"), "127.0.0.1", NULL);
    expect_soon(reachable(port), 20);
    reload(world_format("LogLevel VERBOSE\n%s", forward('L', port, target_port(target))), "configuration reloaded");
    expect_traffic(port);
    cr_expect(process_says(leat, "connection closed", 10));
    expect_clean_end(leat);
}

Test(reload, drain_timeout) {
    uint16_t port = free_port();
    start(world_format("DrainTimeout 60\n%s", forward('L', port, far)));
    cr_assert(pair_open(&pair, "127.0.0.1", port, listener, 20));
    reload(world_format("DrainTimeout 0\n%s", forward('L', port, far)), "configuration reloaded");
    process_kill(leat, SIGTERM);
    cr_expect_eq(process_wait(leat, 10), 0, "%s", process_log(leat));
    cr_expect_eq(pair_end(pair.near, 10), ECONNRESET);
}

Test(reload, server_alive) {
    struct proxy *proxy = proxy_start(world.server_port);
    world_reach_through(&world, proxy_port(proxy));
    start(forward('L', free_port(), far));
    proxy_set(proxy, PROXY_BLOCKS);
    reload("ServerAliveInterval 1\nServerAliveCountMax 2", "configuration reloaded");
    expect_failure(leat, "server not responding");
    proxy_stop(proxy);
}

/* Nobody is left to want it. */
Test(reload, the_end_of_its_terminal_is_its_end) {
    uint16_t port = free_port();
    configure(forward('L', port, target_port(target)));
    world.next_on_terminal = true;
    leat = world_leat_bare(&world, "-F", world_path(&world, "config"), "127.0.0.1", NULL);
    expect_soon(reachable(port), 20);
    close(world.terminal_fd);
    cr_expect_eq(process_wait(leat, 20), 0);
}
