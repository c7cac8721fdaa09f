/* What happens when one end of a connection fails: the other end learns of it, nobody else does, nothing is left. */
#include "expect.h"
#include "pair.h"
#include "traffic.h"
#include <errno.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

static struct world world;
static struct target *target;
static struct process *leat;
static uint16_t local, remote; /* -L and -R to the target */
static unsigned descriptors;   /* of leat at rest */

static void setup(void) {
    world_begin(&world);
    world_server(&world, "");
    target = target_start("127.0.0.1", TARGET_TRAFFIC);
    local = free_port();
    remote = free_port();
    leat = world_leat(&world, "-v", "-L", world_format("%u:127.0.0.1:%u", local, target_port(target)), "-R",
                      world_format("%u:127.0.0.1:%u", remote, target_port(target)), NULL);
    expect_up(leat);
    /* What is made once, with the first connections, counts as rest. */
    cr_assert(traffic_through("127.0.0.1", local, 1, 1000, 1000).ok);
    cr_assert(traffic_through("127.0.0.1", remote, 1, 1000, 1000).ok);
    expect_soon(process_lines(leat, "connection closed") == 2, 10);
    descriptors = process_descriptors(leat);
}

/* leat is at rest again, both forwards carry, and it ends well. */
static void expect_unharmed(unsigned connections) {
    expect_soon(process_lines(leat, "connection closed") == 2 + connections, 20);
    cr_expect_leq(process_descriptors(leat), descriptors);
    struct traffic_result result = traffic_through("127.0.0.1", local, 2, 1 << 20, 1 << 20);
    cr_expect(result.ok, "%s", result.why);
    result = traffic_through("127.0.0.1", remote, 3, 1 << 20, 1 << 20);
    cr_expect(result.ok, "%s", result.why);
    expect_clean_end(leat);
}

static void teardown(void) {
    target_stop(target);
    world_end(&world);
}
TestSuite(failure, .init = setup, .fini = teardown, .timeout = 300);

struct header {
    uint64_t seed, up, down;
};

/* An application that has asked for a lot in both directions and has a first part of the answer waiting. */
static int begin_transfer(uint16_t port) {
    struct header header = {.seed = 9, .up = 1 << 30, .down = 1 << 30};
    int fd = connect_to("127.0.0.1", port);
    struct pollfd pollfd = {.fd = fd, .events = POLLIN};
    cr_assert_geq(fd, 0);
    cr_assert_eq(send(fd, &header, sizeof(header), MSG_NOSIGNAL), sizeof(header));
    cr_assert_eq(poll(&pollfd, 1, (int)(world_deadline(10) * 1000)), 1);
    return fd;
}

/* The application resets in the middle: its target sees the end at once. */
static void application_resets(uint16_t port) {
    for (unsigned i = 0; i < 10; i++) {
        int fd = begin_transfer(port);
        pair_reset(&fd);
    }
    expect_soon(target_failures(target, NULL, 0) == 10, 20);
    expect_unharmed(10);
}

Test(failure, local_application_resets) {
    application_resets(local);
}
Test(failure, remote_application_resets) {
    application_resets(remote);
}

static void application_is_killed(uint16_t port) {
    int fd = begin_transfer(port);
    pid_t application = fork();
    if (application == 0)
        for (;;)
            pause();
    close(fd);
    kill(application, SIGKILL);
    waitpid(application, NULL, 0);
    expect_soon(target_failures(target, NULL, 0) == 1, 20);
    expect_unharmed(1);
}

Test(failure, local_application_killed) {
    application_is_killed(local);
}
Test(failure, remote_application_killed) {
    application_is_killed(remote);
}

/* ---- the target's side ---- */

static struct process *forward_pair(struct world *there, int *listener, uint16_t *through, char kind) {
    uint16_t port;
    *listener = pair_listen(&port);
    *through = free_port();
    struct process *process =
        world_leat(there, "-v", kind == 'L' ? "-L" : "-R", world_format("%u:127.0.0.1:%u", *through, port), NULL);
    expect_up(process);
    return process;
}

/* The target resets: the application sees an end with everything it was sent before or a reset, never silence. */
static void target_resets(char kind) {
    struct pair pair;
    uint16_t through;
    int listener;
    struct process *other = forward_pair(&world, &listener, &through, kind);
    for (unsigned i = 0; i < 10; i++) {
        cr_assert(pair_open(&pair, "127.0.0.1", through, listener, 10));
        pair_push(pair.near, 1, 0, 1 << 20, 1);
        pair_reset(&pair.far);
        cr_expect_neq(pair_end(pair.near, 20), -1, "the end did not arrive");
        pair_close(&pair);
    }
    expect_soon(process_lines(other, "connection closed") == 10, 20);
    cr_expect(pair_open(&pair, "127.0.0.1", through, listener, 10));
    pair_close(&pair);
    expect_clean_end(other);
    close(listener);
    expect_unharmed(0);
}

Test(failure, far_target_resets) {
    target_resets('L');
}
Test(failure, our_target_resets) {
    target_resets('R');
}

/* An abort on our side is an abort for the far side's application although the other direction was open. */
static void abort_while_half_closed(char kind) {
    struct pair pair;
    uint16_t through;
    int listener;
    struct process *other = forward_pair(&world, &listener, &through, kind);
    cr_assert(pair_open(&pair, "127.0.0.1", through, listener, 10));
    shutdown(pair.near, SHUT_WR);
    cr_expect_eq(pair_end(pair.far, 10), 0);
    pair_reset(&pair.far);
    cr_expect_neq(pair_end(pair.near, 10), -1);
    pair_close(&pair);
    expect_soon(process_lines(other, "connection closed") == 1, 20);
    expect_clean_end(other);
    close(listener);
    expect_unharmed(0);
}

Test(failure, far_target_resets_after_half_close) {
    abort_while_half_closed('L');
}
Test(failure, our_target_resets_after_half_close) {
    abort_while_half_closed('R');
}

/* Targets that close at once, by the hundred. */
Test(failure, targets_that_close_at_once) {
    struct target *rude = target_start("127.0.0.1", TARGET_CLOSE);
    uint16_t port = free_port();
    struct process *other =
        world_leat(&world, "-v", "-L", world_format("%u:127.0.0.1:%u", port, target_port(rude)), NULL);
    expect_up(other);
    int fds[100];
    for (unsigned i = 0; i < 100; i++)
        cr_assert_geq(fds[i] = connect_to("127.0.0.1", port), 0);
    for (unsigned i = 0; i < 100; i++) {
        cr_expect_neq(pair_end(fds[i], 20), -1);
        close(fds[i]);
    }
    expect_soon(process_lines(other, "connection closed") == 100, 20);
    expect_clean_end(other);
    target_stop(rude);
    expect_unharmed(0);
}

/* ---- all of several connections at once ---- */

/* What ends leat is said in one line, whichever of them is heard of first. */
static void lose_all(const char *option, int fatal) {
    world_begin(&world);
    world_leatd(&world, "DrainTimeout 0");
    leat =
        world_leat(&world, "-v", "-o", option, "-L", world_format("%u:127.0.0.1:%u", free_port(), free_port()), NULL);
    expect_up(leat);
    process_kill(leat, SIGSTOP); /* it learns of all of them in one moment */
    process_kill(world.server, fatal);
    process_wait(world.server, 20);
    process_kill(leat, SIGCONT);
    expect_failure(leat, "connection to 127.0.0.1 port ");
    cr_expect_eq(process_lines(leat, "leat: connection to "), 1, "%s", process_log(leat));
    world_end(&world);
}

static void lose_all_some_times(const char *option, int fatal) {
    for (unsigned i = 0; i < 5; i++)
        lose_all(option, fatal);
}

Test(failure_of_many, connections_killed) {
    lose_all_some_times("Connections=3", SIGKILL);
}
Test(failure_of_many, stripes_killed) {
    lose_all_some_times("Stripes=3", SIGKILL);
}
Test(failure_of_many, stripes_of_a_server_that_ends) {
    lose_all_some_times("Stripes=3", SIGTERM);
}
