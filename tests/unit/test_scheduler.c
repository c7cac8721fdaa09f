/* Who sends next: fairness among bulk flows, promptness of sparse ones, and that neither starves the other. */
#include "mux_rig.h"

#define FLOWS_MAX 200u
#define BIG_WINDOW UINT32_MAX

static struct rig rig;
static struct probe probes[FLOWS_MAX];

static void connect_flows(uint32_t count) {
    rig_init(&rig);
    for (uint32_t i = 0; i < count; i++) {
        rig_open_sent(&rig, &probes[i]);
        int result = rig_put(&rig, MSG_CHANNEL_OPEN_CONFIRMATION, "uuuu", probes[i].flow.id, i, BIG_WINDOW,
                             LIMIT_CHANNEL_PACKET_BYTES);
        cr_assert_eq(result, 0);
    }
}

/* Keeps `packets` packets of len bytes waiting. */
static void fill(uint32_t i, uint32_t len, uint32_t packets) {
    while (probes[i].flow.queue.count < packets)
        rig_send(&rig, &probes[i], len);
}

/* The flow that sends next; its peer id is its index. */
static uint32_t serve(void) {
    rig_expect(&rig, MSG_CHANNEL_DATA);
    return rig_u32(&rig, 0);
}

static double jain(const uint64_t *shares, uint32_t count) {
    double sum = 0, squares = 0;
    for (uint32_t i = 0; i < count; i++) {
        sum += (double)shares[i];
        squares += (double)shares[i] * (double)shares[i];
    }
    return sum * sum / (count * squares);
}

Test(scheduler, bulk_flows_share_evenly) {
    enum { COUNT = 64 };
    connect_flows(COUNT);
    for (uint32_t n = 0; n < 100 * COUNT; n++) {
        for (uint32_t i = 0; i < COUNT; i++)
            fill(i, LIMIT_CHANNEL_PACKET_BYTES, 2);
        serve();
    }
    uint64_t shares[COUNT];
    for (uint32_t i = 0; i < COUNT; i++)
        shares[i] = probes[i].flow.bytes_to_peer;
    cr_assert(jain(shares, COUNT) >= 0.999, "%f", jain(shares, COUNT));
    rig_deinit(&rig);
}

/* Shares are of bytes: whoever sends small packets gets more of them. */
Test(scheduler, packet_size_does_not_matter) {
    enum { COUNT = 8 };
    const uint32_t sizes[COUNT] = {500, 1000, 3000, 9000, 15000, 20000, 30000, LIMIT_CHANNEL_PACKET_BYTES};
    connect_flows(COUNT);
    uint64_t sent = 0;
    while (sent < UINT64_C(64) * COUNT * LIMIT_CHANNEL_PACKET_BYTES) {
        for (uint32_t i = 0; i < COUNT; i++)
            fill(i, sizes[i], 3);
        sent += sizes[serve()];
    }
    uint64_t shares[COUNT];
    for (uint32_t i = 0; i < COUNT; i++)
        shares[i] = probes[i].flow.bytes_to_peer;
    cr_assert(jain(shares, COUNT) >= 0.99, "%f", jain(shares, COUNT));
    rig_deinit(&rig);
}

/* A flow that has been silent goes before every bulk flow. */
Test(scheduler, a_fresh_flow_goes_first) {
    connect_flows(65);
    for (uint32_t n = 0; n < 200; n++) {
        for (uint32_t i = 0; i < 64; i++)
            fill(i, LIMIT_CHANNEL_PACKET_BYTES, 2);
        serve();
    }
    fill(64, 40, 1);
    cr_assert_eq(serve(), 64);
    rig_deinit(&rig);
}

/* One that speaks again and again waits at most one round of the others, whatever they do. */
Test(scheduler, sparse_within_a_round) {
    enum { BULK = 32 };
    uint64_t seed = 7;
    connect_flows(BULK + 1);
    for (uint32_t i = 0; i < BULK; i++)
        fill(i, LIMIT_CHANNEL_PACKET_BYTES, 2);
    for (uint32_t n = 0; n < 500; n++) {
        for (uint32_t idle = random_below(&seed, 2 * BULK); idle > 0; idle--)
            fill(serve(), LIMIT_CHANNEL_PACKET_BYTES, 2);
        fill(BULK, 1 + random_below(&seed, 100), 1);
        uint32_t waited = 0, who;
        while ((who = serve()) != BULK) {
            fill(who, LIMIT_CHANNEL_PACKET_BYTES, 2);
            waited++;
        }
        cr_assert(waited <= BULK, "%u waited %u", n, waited);
    }
    rig_deinit(&rig);
}

/* A fresh flow that goes on sending is fresh for one quantum only. */
Test(scheduler, fresh_for_a_quantum) {
    connect_flows(2);
    fill(0, LIMIT_CHANNEL_PACKET_BYTES, 10);
    cr_assert_eq(serve(), 0);
    cr_assert_eq(serve(), 0);
    fill(1, 100, 500);
    uint32_t ahead = 0;
    while (serve() == 1)
        ahead++;
    /* the header is paid for too */
    cr_assert_eq(ahead, (SCHEDULER_QUANTUM_BYTES + 108) / 109);
    rig_deinit(&rig);
}

/* Many flows that pause on purpose after each packet, to be fresh again, do not starve a bulk flow: between two of its
 * packets each of them sends at most a quantum as fresh and one in its turn. */
static void pause_and_return(uint32_t len) {
    enum { SPARSE = 50 };
    const uint64_t most = UINT64_C(2) * SPARSE * SCHEDULER_QUANTUM_BYTES;
    connect_flows(SPARSE + 1);
    uint64_t between = 0, all = 0;
    uint32_t last = SPARSE;
    while (all < 3 * most) {
        for (uint32_t i = 0; i < SPARSE; i++)
            if (i != last)
                fill(i, len, 1);
        fill(SPARSE, LIMIT_CHANNEL_PACKET_BYTES, 3);
        last = serve();
        between = last == SPARSE ? 0 : between + len;
        all += len;
        cr_assert(between <= most, "%lu bytes of others in a row", between);
    }
    rig_deinit(&rig);
}
Test(scheduler, pausing_gains_nothing) {
    pause_and_return(LIMIT_CHANNEL_PACKET_BYTES);
    pause_and_return(5000);
    pause_and_return(1000);
}

/* Control messages of any flow go before any data. */
Test(scheduler, control_before_data) {
    connect_flows(3);
    fill(0, 100, 5);
    fill(1, 100, 5);
    cr_assert_eq(serve(), 0);
    flow_abort(&probes[2].flow);
    rig_expect(&rig, MSG_CHANNEL_CLOSE);
    cr_assert_eq(rig_put(&rig, MSG_CHANNEL_REQUEST, "usb", probes[1].flow.id, "x", 1), 0);
    cr_assert_eq(rig_put(&rig, MSG_GLOBAL_REQUEST, "sb", "y", 1), 0);
    rig_expect(&rig, MSG_REQUEST_FAILURE);
    rig_expect(&rig, MSG_CHANNEL_FAILURE);
    serve();
    rig_deinit(&rig);
}

/* Random fills against a model: each flow's packets come in order and complete, and no turn is wasted. */
static void random_fills(uint64_t *seed) {
    static uint32_t lens[FLOWS_MAX][2000], put[FLOWS_MAX], got[FLOWS_MAX];
    uint32_t count = 1 + random_below(seed, FLOWS_MAX), waiting = 0;
    memset(put, 0, sizeof put);
    memset(got, 0, sizeof got);
    connect_flows(count);
    for (uint32_t step = 0; step < 1500 || waiting > 0; step++) {
        uint32_t i = random_below(seed, count), len = 1 + random_below(seed, 3000);
        if (step < 1500 && random_chance(seed, 2) && rig.slots.free_count > 0 && flow_room(&probes[i].flow) >= len) {
            rig_send(&rig, &probes[i], len);
            lens[i][put[i]++] = len;
            waiting++;
        } else if (waiting > 0) {
            uint32_t who = serve();
            cr_assert_eq(rig.out_len - MUX_DATA_HEADER_BYTES, lens[who][got[who]++]);
            waiting--;
        }
    }
    rig_expect_nothing(&rig);
    cr_assert_arr_eq(got, put, sizeof put);
    rig_deinit(&rig);
}
Test(scheduler, random_fills, .fini = seed_report) {
    seed_each(30, random_fills);
}
