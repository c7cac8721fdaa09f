/* A reader that stops makes its own writer stop, costs bounded memory, and delays nobody else; when it goes on, every
 * byte is there. */
#include "expect.h"
#include "pair.h"
#include "suite.h"
#include "traffic.h"
#include <unistd.h>

TUNNEL_SUITE(backpressure)

#define PUSH_MAX (UINT64_C(256) << 20)
/* Kernel buffers of three TCP connections (tcp_rmem and tcp_wmem go up to 6 and 4 MiB), sshd's window and input cap,
 * and the 15 MiB window of ours: a lot, and much less than PUSH_MAX. */
#define ACCEPTED_MAX (UINT64_C(96) << 20)
/* What leat may hold for one stalled flow, with its bookkeeping: a window, and what is on its way. */
#define GROWTH_MAX_KIB (48 << 10)

static void stall(char kind, bool near_reads, double stall_seconds) {
    uint16_t port, stalled = free_port(), active = free_port();
    int listener = pair_listen(&port);
    const char *option = kind == 'L' ? "-L" : "-R";
    struct process *leat = world_leat(&world, "-v", option, world_format("%u:127.0.0.1:%u", stalled, port), option,
                                      world_format("%u:127.0.0.1:%u", active, target_port(target)), NULL);
    struct pair pair;
    expect_up(leat);
    struct traffic_result warm = traffic_through("127.0.0.1", active, 1, 20 << 20, 20 << 20);
    cr_expect(warm.ok, "%s", warm.why);
    long before = process_rss_kib(leat);
    cr_assert(pair_open(&pair, "127.0.0.1", stalled, listener, 10));
    int writer = near_reads ? pair.far : pair.near, reader = near_reads ? pair.near : pair.far;

    uint64_t pushed = pair_push(writer, 5, 0, PUSH_MAX, stall_seconds);
    cr_expect_gt(pushed, 0);
    cr_expect_lt(pushed, ACCEPTED_MAX, "the writer was not stopped: %llu bytes", (unsigned long long)pushed);
    struct traffic_result result = traffic_through("127.0.0.1", active, 2, 50 << 20, 50 << 20);
    cr_expect(result.ok, "beside a stalled reader: %s", result.why);
    long growth = process_rss_kib(leat) - before;
    cr_expect(world_deadline(1) > 1 || growth < GROWTH_MAX_KIB, "grew by %ld KiB", growth);
    double cpu = process_cpu_seconds(leat);
    pause_seconds(0.5);
    cr_expect_lt(process_cpu_seconds(leat) - cpu, 0.2, "it spins while all wait");

    cr_expect(pair_pull(reader, 5, 0, pushed, 20));
    /* The writer may go on, too. */
    uint64_t more = pair_push(writer, 5, pushed, 1 << 20, 10);
    cr_expect_eq(more, 1 << 20);
    cr_expect(pair_pull(reader, 5, pushed, more, 20));
    pair_close(&pair);
    expect_clean_end(leat);
    close(listener);
}

Test(backpressure, local_application_stops_reading) {
    stall('L', true, 0.5);
}
Test(backpressure, far_target_stops_reading) {
    stall('L', false, 0.5);
}
Test(backpressure, remote_application_stops_reading) {
    stall('R', true, 0.5);
}
Test(backpressure, our_target_stops_reading) {
    stall('R', false, 0.5);
}

/* Many stalled readers at once: bounded, too, and nobody waits for them. */
Test(backpressure, many_stalled_readers) {
    enum { STALLED = 20 };
    uint16_t port, stalled = free_port(), active = free_port();
    int listener = pair_listen(&port);
    struct process *leat = world_leat(&world, "-v", "-L", world_format("%u:127.0.0.1:%u", stalled, port), "-L",
                                      world_format("%u:127.0.0.1:%u", active, target_port(target)), NULL);
    struct pair pairs[STALLED];
    uint64_t pushed[STALLED];
    expect_up(leat);
    cr_assert(traffic_through("127.0.0.1", active, 1, 20 << 20, 20 << 20).ok);
    long before = process_rss_kib(leat);
    for (unsigned i = 0; i < STALLED; i++) {
        cr_assert(pair_open(&pairs[i], "127.0.0.1", stalled, listener, 10));
        pushed[i] = pair_push(pairs[i].far, i, 0, 8 << 20, 0.2);
    }
    struct traffic_result result = traffic_through("127.0.0.1", active, 2, 20 << 20, 20 << 20);
    cr_expect(result.ok, "beside stalled readers: %s", result.why);
    /* A window starts with 2 MiB and may double once or twice while the kernel's buffers still take what comes. */
    long growth = process_rss_kib(leat) - before;
    cr_expect(world_deadline(1) > 1 || growth < STALLED * (8 << 10), "grew by %ld KiB", growth);
    for (unsigned i = 0; i < STALLED; i++) {
        cr_expect(pair_pull(pairs[i].near, i, 0, pushed[i], 20), "reader %u", i);
        pair_close(&pairs[i]);
    }
    expect_clean_end(leat);
    close(listener);
}
