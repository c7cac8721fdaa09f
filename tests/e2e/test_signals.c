/* INT ends, TERM drains, USR1 tells. */
#include "expect.h"
#include "pair.h"
#include "traffic.h"
#include <errno.h>
#include <unistd.h>

static struct world world;
static struct process *leat;
static struct pair pair;
static uint16_t local;
static int listener;

static void start(const char *option) {
    uint16_t port;
    world_begin(&world);
    world_server(&world, "");
    listener = pair_listen(&port);
    local = free_port();
    leat = world_leat(&world, "-v", "-o", option, "-L", world_format("%u:127.0.0.1:%u", local, port), NULL);
    expect_up(leat);
    cr_assert(pair_open(&pair, "127.0.0.1", local, listener, 10));
}
static void teardown(void) {
    pair_close(&pair);
    close(listener);
    world_end(&world);
}
TestSuite(signals, .fini = teardown, .timeout = 300);

/* One that still comes in is aborted, so that it leaves nothing to wait for. */
static bool refuses(void) {
    int fd = connect_to("127.0.0.1", local);
    if (fd < 0)
        return true;
    pair_reset(&fd);
    return false;
}

/* Nobody new is let in, whoever is in may finish. */
Test(signals, term_drains) {
    start("DrainTimeout=60");
    process_kill(leat, SIGTERM);
    expect_soon(refuses(), 10);
    for (uint64_t at = 0; at < 50 << 20; at += 1 << 20) {
        cr_assert_eq(pair_push(pair.near, 3, at, 1 << 20, 10), 1 << 20);
        cr_assert(pair_pull(pair.far, 3, at, 1 << 20, 10));
    }
    cr_expect(process_running(leat));
    double started = now_seconds();
    pair_close(&pair);
    cr_expect_eq(process_wait(leat, 20), 0, "%s", process_log(leat));
    cr_expect_lt(now_seconds() - started, world_deadline(5));
}

Test(signals, term_with_nothing_open_ends_at_once) {
    start("DrainTimeout=60");
    pair_close(&pair);
    expect_soon(process_lines(leat, "connection closed") == 1, 10);
    process_kill(leat, SIGTERM);
    cr_expect_eq(process_wait(leat, 10), 0, "%s", process_log(leat));
}

Test(signals, drain_has_an_end) {
    start("DrainTimeout=1");
    double started = now_seconds();
    process_kill(leat, SIGTERM);
    cr_expect_eq(process_wait(leat, 20), 0, "%s", process_log(leat));
    cr_expect_geq(now_seconds() - started, 0.9);
    cr_expect_eq(pair_end(pair.near, 1), ECONNRESET);
}

Test(signals, second_term_ends_at_once) {
    start("DrainTimeout=60");
    process_kill(leat, SIGTERM);
    expect_soon(refuses(), 10);
    cr_expect(process_running(leat));
    process_kill(leat, SIGTERM);
    cr_expect_eq(process_wait(leat, 10), 0, "%s", process_log(leat));
    cr_expect_eq(pair_end(pair.near, 1), ECONNRESET);
}

Test(signals, int_ends_at_once) {
    start("TCPKeepAlive=yes");
    pair_push(pair.near, 1, 0, 64 << 20, 0.2);
    process_kill(leat, SIGINT);
    cr_expect_eq(process_wait(leat, 5), 0, "%s", process_log(leat));
    cr_expect_eq(process_lines(leat, "lost"), 0, "%s", process_log(leat));
    cr_expect_eq(pair_end(pair.near, 1), ECONNRESET);
}

/* As nohup(1) starts it, and shells without job control what they put into the background. */
Test(signals, what_is_ignored_stays_ignored) {
    signal(SIGINT, SIG_IGN);
    signal(SIGHUP, SIG_IGN);
    signal(SIGTERM, SIG_IGN);
    start("TCPKeepAlive=yes");
    signal(SIGINT, SIG_DFL);
    signal(SIGHUP, SIG_DFL);
    signal(SIGTERM, SIG_DFL);
    process_kill(leat, SIGHUP);
    process_kill(leat, SIGINT);
    process_kill(leat, SIGTERM);
    process_kill(leat, SIGUSR1); /* comes after the others */
    cr_expect(process_says(leat, "1 bytes to the far side", 10));
    cr_expect_eq(pair_push(pair.near, 3, 0, 1 << 20, 10), 1 << 20);
    cr_expect(pair_pull(pair.far, 3, 0, 1 << 20, 10));
    cr_expect_not(refuses(), "it listens");
    cr_expect(process_running(leat));
}

Test(signals, usr1_tells) {
    start("TCPKeepAlive=yes");
    process_kill(leat, SIGUSR1);
    cr_expect(process_says(leat, "1 bytes to the far side, 1 bytes from it, 0 queued", 10));
    cr_expect(process_says(leat, "connection 0 to 127.0.0.1: shard 0, 1 connections", 10));
    pair_close(&pair);
    expect_clean_end(leat);
}
