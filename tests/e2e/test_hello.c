/* What leat and leatd know of each other: a reset is a reset at the other end of the tunnel, whichever end it comes
 * from. And nobody else is ever asked. */
#include "expect.h"
#include "pair.h"
#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

static struct world world;
static struct process *leat;
static struct pair pair;
static uint16_t through;
static int listener = -1;

static void setup(void) {
    world_begin(&world);
}
static void teardown(void) {
    pair_close(&pair);
    close(listener);
    world_end(&world);
}
TestSuite(hello, .init = setup, .fini = teardown, .timeout = 300);

/* A tunnel of this kind ('L' or 'R') with one connection through it. */
static void tunnel(char kind) {
    uint16_t port;
    listener = pair_listen(&port);
    through = free_port();
    leat = world_leat(&world, "-vv", kind == 'L' ? "-L" : "-R", world_format("%u:127.0.0.1:%u", through, port), NULL);
    expect_up(leat);
    cr_assert(pair_open(&pair, "127.0.0.1", through, listener, 20));
}

/* One end resets, with bytes of both ends under way; how it looks at the other end. */
static int reset_arrives_as(int *from, int to) {
    pair_push(*from, 1, 0, 3 << 20, 0.1);
    pair_push(to, 2, 0, 100000, 0.1);
    pair_reset(from);
    return pair_end(to, 20);
}

static void resets(char kind) {
    world_leatd(&world, "");
    tunnel(kind);
    cr_expect_eq(reset_arrives_as(&pair.near, pair.far), ECONNRESET, "the application's");
    pair_close(&pair);
    cr_assert(pair_open(&pair, "127.0.0.1", through, listener, 20));
    cr_expect_eq(reset_arrives_as(&pair.far, pair.near), ECONNRESET, "the target's");
    pair_close(&pair);
    expect_clean_end(leat);
}
Test(hello, resets_through_a_local_forward) {
    resets('L');
}
Test(hello, resets_through_a_remote_forward) {
    resets('R');
}

/* Both orders; every byte arrives before the end. */
static void ends(int *first, int *second) {
    cr_expect_eq(pair_push(*first, 1, 0, 3 << 20, 10), 3 << 20);
    shutdown(*first, SHUT_WR);
    cr_expect(pair_pull(*second, 1, 0, 3 << 20, 10));
    cr_expect_eq(pair_end(*second, 20), 0);
    cr_expect_eq(pair_push(*second, 2, 0, 3 << 20, 10), 3 << 20);
    shutdown(*second, SHUT_WR);
    cr_expect(pair_pull(*first, 2, 0, 3 << 20, 10));
    cr_expect_eq(pair_end(*first, 20), 0);
    pair_close(&pair);
}
Test(hello, an_end_is_no_reset) {
    world_leatd(&world, "");
    tunnel('L');
    ends(&pair.near, &pair.far);
    cr_assert(pair_open(&pair, "127.0.0.1", through, listener, 20));
    ends(&pair.far, &pair.near);
    expect_clean_end(leat);
}

Test(hello, a_stock_server_is_not_asked) {
    world_sshd(&world, "LogLevel DEBUG1");
    tunnel('R');
    pair_close(&pair);
    expect_clean_end(leat);
    cr_expect(process_says(world.server, "rtype tcpip-forward", 10), "requests are logged: %s",
              process_log(world.server));
    cr_expect_eq(process_lines(world.server, "hello@leat"), 0, "%s", process_log(world.server));
}

/* It says leatd and is none that knows the request: FAILURE, and all goes on as towards a stock server. */
Test(hello, a_server_that_does_not_know_it) {
    world_sshd_as(&world, "leatd_0.", "LogLevel DEBUG1");
    tunnel('L');
    cr_expect(process_says(world.server, "rtype hello@leat want_reply 1", 10), "%s", process_log(world.server));
    cr_expect(process_says(leat, "does not know hello@leat", 10), "%s", process_log(leat));
    ends(&pair.near, &pair.far);
    cr_assert(pair_open(&pair, "127.0.0.1", through, listener, 20));
    pair_reset(&pair.near);
    cr_expect_neq(pair_end(pair.far, 20), -1);
    pair_close(&pair);
    expect_clean_end(leat);
}
