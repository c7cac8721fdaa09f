/* The connection to the server is lost, in every way there is: applications see a reset, leat ends with 255 and the
 * reason in one line. */
#include "expect.h"
#include "pair.h"
#include "proxy.h"
#include "traffic.h"
#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

static struct world world;
static struct proxy *proxy;
static struct process *leat;
static struct pair pair;
static uint16_t local;
static int listener;

static void setup(void) {
    world_begin(&world);
    world_server(&world, "");
    proxy = proxy_start(world.server_port);
    world_reach_through(&world, proxy_port(proxy));
    uint16_t port;
    listener = pair_listen(&port);
    local = free_port();
    leat = world_leat(&world, "-o", "ServerAliveInterval=1", "-o", "ServerAliveCountMax=2", "-v", "-L",
                      world_format("%u:127.0.0.1:%u", local, port), NULL);
    expect_up(leat);
    cr_assert(pair_open(&pair, "127.0.0.1", local, listener, 10));
}
static void teardown(void) {
    pair_close(&pair);
    close(listener);
    proxy_stop(proxy);
    world_end(&world);
}
TestSuite(link, .init = setup, .fini = teardown, .timeout = 300);

/* The open connection is reset, the reason is named once, nobody listens any more. */
static void expect_lost(const char *why) {
    cr_expect_eq(pair_end(pair.near, 30), ECONNRESET);
    expect_failure(leat, world_format("port %u lost: %s", world.server_port, why));
    cr_expect_eq(process_lines(leat, " lost: "), 1, "%s", process_log(leat));
    cr_expect_lt(connect_to("127.0.0.1", local), 0);
}

Test(link, closed) {
    proxy_set(proxy, PROXY_CLOSES);
    expect_lost("connection closed");
}

Test(link, reset) {
    proxy_set(proxy, PROXY_RESETS);
    expect_lost("connection reset");
}

Test(link, silent) {
    double started = now_seconds();
    proxy_set(proxy, PROXY_BLOCKS);
    expect_lost("timeout, server not responding");
    cr_expect_lt(now_seconds() - started, world_deadline(10));
}

/* Nothing comes back while an application writes all the time. */
Test(link, silent_one_way) {
    proxy_set(proxy, PROXY_BLOCKS_DOWN);
    pair_push(pair.near, 1, 0, 64 << 20, 0.5);
    expect_lost("timeout, server not responding");
}

/* Without keepalive's time being over, a server that answers keepalives alone is alive. */
Test(link, idle_but_alive) {
    double until = now_seconds() + 4; /* longer than Interval times CountMax */
    while (now_seconds() < until && process_running(leat))
        pause_seconds(0.1);
    cr_expect(process_running(leat), "%s", process_log(leat));
    pair_push(pair.near, 1, 0, 100000, 1);
    cr_expect(pair_pull(pair.far, 1, 0, 100000, 10));
    pair_close(&pair);
    expect_clean_end(leat);
}

/* One flipped bit on the wire ends the connection, and nothing behind it is delivered. */
Test(link, bit_flipped) {
    uint64_t sent = 200000;
    pair_push(pair.far, 7, 0, sent, 1);
    cr_expect(pair_pull(pair.near, 7, 0, sent, 10));
    proxy_set(proxy, PROXY_FLIPS_BIT);
    pair_push(pair.far, 8, 0, sent, 1);
    uint8_t block[65536];
    uint64_t got = 0;
    struct process *process = leat;
    while (process_running(process) || got < sent) {
        ssize_t n = recv(pair.near, block, sizeof(block), 0);
        if (n < 0 && errno == EAGAIN) {
            pause_seconds(0.001);
            continue;
        }
        if (n <= 0)
            break;
        cr_assert(stream_check(8, got, block, (size_t)n), "something that was never sent was delivered");
        got += (uint64_t)n;
    }
    cr_expect_lt(got, sent);
    expect_failure(leat, " lost: message authentication failed");
    cr_expect_eq(process_lines(leat, " lost: "), 1, "%s", process_log(leat));
}

/* ---- the server's processes; without a proxy in between ---- */

/* The process that speaks with leat. */
static pid_t server_process(void) {
    return world.server_is_leatd ? world.server->pid : world_sshd_session(&world, 0, 1);
}

Test(link, server_killed) {
    kill(server_process(), SIGKILL);
    expect_lost("connection ");
}

/* The listening sshd is nothing to a connection that stands. */
Test(link, listener_killed) {
    if (world.server_is_leatd)
        world_skip(&world, "leatd is both");
    pid_t child = server_process();
    process_kill(world.server, SIGKILL);
    process_wait(world.server, 10);
    pair_push(pair.near, 1, 0, 100000, 1);
    cr_expect(pair_pull(pair.far, 1, 0, 100000, 10));
    kill(child, SIGKILL);
    expect_lost("connection ");
}

Test(link, server_stopped) {
    pid_t child = server_process();
    double started = now_seconds(), deadline = started + world_deadline(10);
    kill(child, SIGSTOP);
    while (process_running(leat) && now_seconds() < deadline)
        pause_seconds(0.01);
    double seconds = now_seconds() - started;
    kill(child, SIGKILL); /* before anything can fail: nobody else would end it */
    expect_lost("timeout, server not responding");
    cr_expect_geq(seconds, 1.5);
}

static void start_three(const char *more, const char *value) {
    world_begin(&world);
    world_sshd(&world, ""); /* which has a process for each */
    leat = world_leat(&world, "-v", "-o", "Connections=3", more, value, NULL);
    expect_up(leat);
    expect_logins(&world, 3);
}

/* One of several connections is lost: the others go on, and it is made again. */
Test(link_of_many, one_of_three_closed) {
    uint16_t far;
    listener = pair_listen(&far);
    local = free_port();
    start_three("-L", world_format("%u:127.0.0.1:%u", local, far));
    kill(world_sshd_session(&world, 0, 3), SIGKILL);
    cr_assert(process_says(leat, "; the others go on", 20), "%s", process_log(leat));
    cr_expect_eq(process_lines(leat, " lost: "), 1, "%s", process_log(leat));
    cr_expect(pair_open(&pair, "127.0.0.1", local, listener, 20));
    pair_close(&pair);
    cr_expect(process_says(leat, " stands again", 60), "%s", process_log(leat));
    expect_logins(&world, 4);
    expect_clean_end(leat);
    close(listener);
    world_end(&world);
}

/* Remote forwards are on the first one: without it, the tunnel is not what was asked for any more. */
Test(link_of_many, the_one_with_remote_forwards) {
    start_three("-R", "0:127.0.0.1:1");
    kill(world_sshd_session(&world, 0, 3), SIGKILL);
    expect_failure(leat, "connection to 127.0.0.1 port ");
    cr_expect_eq(process_lines(leat, " lost: "), 1, "%s", process_log(leat));
    world_end(&world);
}
