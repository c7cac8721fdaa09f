/* MemoryLimit under readers that have stopped: what is kept for them stays within it, all of it arrives when they
 * return, and the memory goes back. That in release builds only: sanitizers have their own ideas of memory. And who
 * finds no room within it. */
#include "expect.h"
#include "pair.h"
#include "traffic.h"
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#define FLOWS 100u
#define LIMIT "8M"
/* The limit, and beside it the ring in which everything arrives (16 MiB), the flows, and packets on their way. Without
 * a limit it would be twice as much. */
#define GROWTH_MAX_KIB ((8 + 16 + 8) << 10)
#define PUSH_MAX (UINT64_C(16) << 20)
/* The kernel's buffers would take all that is sent; short segments keep also those small that are not ours. */
#define BUFFER_BYTES 8192
#define SEGMENT_BYTES 536

static struct world world;
static struct pair pairs[FLOWS];
static uint64_t pushed[FLOWS];

static void setup(void) {
    world_begin(&world);
    world_server(&world, "");
}
static void teardown(void) {
    world_end(&world);
}
TestSuite(memory_limit, .init = setup, .fini = teardown, .timeout = 300);

static int connect_small(uint16_t port) {
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK), .sin_port = htons(port)};
    int bytes = BUFFER_BYTES, segment = SEGMENT_BYTES, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    cr_assert_geq(fd, 0);
    cr_assert_eq(setsockopt(fd, IPPROTO_TCP, TCP_MAXSEG, &segment, sizeof(segment)), 0);
    cr_assert_eq(setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof(bytes)), 0);
    cr_assert_eq(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    return fd;
}

static void open_all(uint16_t port, int listener) {
    const int bytes = BUFFER_BYTES;
    for (unsigned i = 0; i < FLOWS; i++) {
        cr_assert(pair_join(&pairs[i], connect_small(port), listener, 20), "flow %u", i);
        cr_assert_eq(setsockopt(pairs[i].far, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof(bytes)), 0);
    }
}

static uint64_t push_once(void) {
    uint64_t moved = 0;
    for (unsigned i = 0; i < FLOWS; i++) {
        uint64_t more = pair_push(pairs[i].far, i, pushed[i], PUSH_MAX - pushed[i], 0);
        pushed[i] += more;
        moved += more;
    }
    return moved;
}

/* Until nothing has moved for a while. Returns the most that leat had. */
static long push_all(const struct process *leat) {
    double moved_at = now_seconds(), quiet = world_deadline(1.5);
    long most = 0;
    while (now_seconds() - moved_at < quiet) {
        long now = process_rss_kib(leat);
        most = now > most ? now : most;
        if (push_once() > 0)
            moved_at = now_seconds();
        else
            pause_seconds(0.02);
    }
    return most;
}

static void pull_all(void) {
    for (unsigned i = 0; i < FLOWS; i++) {
        cr_expect_lt(pushed[i], PUSH_MAX, "writer %u was not stopped", i);
        cr_expect(pair_pull(pairs[i].near, i, 0, pushed[i], 30), "reader %u", i);
    }
}

static void expect_back(const struct process *process, long idle_kib) {
    double deadline = now_seconds() + world_deadline(30);
    while (process_rss_kib(process) > idle_kib * 6 / 5 && now_seconds() < deadline)
        pause_seconds(0.2);
    cr_expect_leq(process_rss_kib(process), idle_kib * 6 / 5, "%ld KiB before, %ld KiB after", idle_kib,
                  process_rss_kib(process));
}

Test(memory_limit, holds_under_stalled_readers_and_loses_nothing) {
    uint16_t far_port, port = free_port();
    int listener = pair_listen(&far_port);
    if (world_deadline(1) > 1)
        world_skip(&world, "sanitizers have memory of their own");
    struct process *leat = world_leat(&world, "-v", "-o", "MemoryLimit=" LIMIT, "-L",
                                      world_format("%u:127.0.0.1:%u", port, far_port), NULL);
    expect_up(leat);
    pause_seconds(3); /* what the start needed has gone back */
    long idle = process_rss_kib(leat);
    open_all(port, listener);
    long most = push_all(leat);
    cr_expect_lt(most - idle, GROWTH_MAX_KIB, "grew by %ld KiB", most - idle);
    cr_expect_gt(most, idle * 6 / 5, "nothing was kept for them: this shows nothing");
    pull_all();
    for (unsigned i = 0; i < FLOWS; i++)
        pair_close(&pairs[i]);
    expect_back(leat, idle);
    expect_clean_end(leat);
    close(listener);
}

static void expect_refused(uint16_t port) {
    int fd = connect_to("127.0.0.1", port);
    cr_expect_eq(pair_end(fd, 10), ECONNRESET);
    close(fd);
}

static void expect_alive(const struct pair *pair, unsigned seed) {
    cr_expect_eq(pair_push(pair->far, seed, 0, 10000, 10), 10000);
    cr_expect(pair_pull(pair->near, seed, 0, 10000, 10), "flow %u", seed);
}

/* 2 MiB are 64 of the smallest windows, of which one SSH connection may have four fifths. */
static const char no_room[] = "no room for another connection's window within MemoryLimit 2M";

Test(memory_limit, who_finds_no_room_is_told_why) {
    unsigned opened = 0;
    uint16_t far_port, port = free_port();
    int listener = pair_listen(&far_port);
    struct process *leat =
        world_leat(&world, "-v", "-o", "MemoryLimit=2M", "-L", world_format("%u:127.0.0.1:%u", port, far_port), NULL);
    expect_up(leat);
    while (opened < FLOWS && pair_open(&pairs[opened], "127.0.0.1", port, listener, 5))
        opened++;
    cr_assert(opened > 48 && opened < 56, "%u", opened);
    expect_refused(port);
    expect_refused(port);
    expect_soon(process_lines(leat, no_room) == 3, 10);
    cr_expect_eq(process_lines(leat, "limit reached"), 0);
    for (unsigned i = 0; i < opened; i++) {
        expect_alive(&pairs[i], i);
        pair_close(&pairs[i]);
    }
    expect_soon(process_lines(leat, "connection closed") == opened, 10);
    cr_expect(pair_open(&pairs[0], "127.0.0.1", port, listener, 10), "there is room again");
    pair_close(&pairs[0]);
    expect_clean_end(leat);
    close(listener);
}

/* The server opens them; leat is who has no room. */
Test(memory_limit, connections_of_a_remote_forward_are_refused_and_told) {
    unsigned opened = 0;
    uint16_t far_port, port = free_port();
    int listener = pair_listen(&far_port);
    const char *spec = world_format("%u:127.0.0.1:%u", port, far_port);
    struct process *leat = world_leat(&world, "-v", "-o", "MemoryLimit=2M", "-R", spec, NULL);
    expect_up(leat);
    while (opened < FLOWS && pair_open(&pairs[opened], "127.0.0.1", port, listener, 5))
        opened++;
    cr_assert(opened > 48 && opened < 56, "%u", opened);
    expect_soon(process_lines(leat, world_format("-R %s: %s", spec, no_room)) == 1, 10);
    for (unsigned i = 0; i < opened; i++) {
        expect_alive(&pairs[i], i);
        pair_close(&pairs[i]);
    }
    expect_clean_end(leat);
    close(listener);
}
