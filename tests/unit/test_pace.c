/* Which flows are sparse: by what they have moved in this window of time and the last, never by one packet alone. */
#include "engine/limits.h"
#include "mux_rig.h"

#define WINDOW LIMIT_SPARSE_WINDOW_NS
#define SMALL LIMIT_SPARSE_PACKET_BYTES
#define SPARSE LIMIT_SPARSE_BYTES

Test(pace, fits_a_flow) {
    cr_assert_leq(sizeof(struct pace), 8);
}

Test(pace, small_packets) {
    struct pace pace = {0};
    cr_expect(pace_move(&pace, 0, 5));
    cr_expect(pace_move(&pace, 1, 5));
    cr_expect(pace_move(&pace, SMALL, 5));
    cr_expect_not(pace_move(&pace, SMALL + 1, 5), "sparse it may be, but this is no small packet");
    cr_expect(pace_move(&pace, 1, 5));
}

Test(pace, volume) {
    struct pace pace = {0};
    cr_expect_not(pace_move(&pace, SPARSE - 1, 0));
    cr_expect(pace_move(&pace, 1, WINDOW - 1), "as much as there may be");
    cr_expect_not(pace_move(&pace, 1, WINDOW - 1), "and one byte more");
    cr_expect_not(pace_move(&pace, 1, WINDOW), "the last window counts");
    cr_expect_not(pace_move(&pace, 1, 2 * WINDOW - 1));
    cr_expect(pace_move(&pace, 1, 2 * WINDOW), "and the one before does not");
}

Test(pace, pauses) {
    struct pace pace = {0};
    pace_move(&pace, UINT32_MAX, 0);
    cr_expect(pace_move(&pace, 1, 2 * WINDOW), "a window without anything is between them");
    pace_move(&pace, UINT32_MAX, 2 * WINDOW);
    cr_expect(pace_move(&pace, 1, 1000 * WINDOW));
}

/* What moves more than can be counted is not taken for little. */
Test(pace, counts_stop_when_full) {
    struct pace pace = {0};
    for (unsigned i = 0; i < 5; i++)
        cr_expect_not(pace_move(&pace, UINT16_MAX, 0));
    cr_expect_not(pace_move(&pace, UINT32_MAX, 0));
    cr_expect_not(pace_move(&pace, 1, WINDOW));
}

struct moved {
    uint64_t now_ns;
    uint32_t bytes;
};

static uint64_t moved_lately(const struct moved *moved, unsigned count, uint64_t now_ns) {
    uint64_t volume = 0;
    for (unsigned i = 0; i < count; i++)
        if (now_ns / WINDOW - moved[i].now_ns / WINDOW <= 1)
            volume += moved[i].bytes;
    return volume;
}

/* Against all packets of a flow, added up. */
static void random_packets(uint64_t *seed) {
    struct moved moved[200];
    struct pace pace = {0};
    uint64_t now = random_u32(seed) * UINT64_C(1000);
    for (unsigned i = 0; i < sizeof moved / sizeof *moved; i++) {
        uint32_t pause = (uint32_t)(random_chance(seed, 8) ? 3 * WINDOW : WINDOW / 8);
        now += random_below(seed, pause);
        moved[i] = (struct moved){now, random_below(seed, random_chance(seed, 4) ? 40000 : 5000)};
        uint64_t volume = moved_lately(moved, i + 1, now);
        bool sparse = moved[i].bytes <= SMALL && volume <= SPARSE;
        cr_assert_eq(pace_move(&pace, moved[i].bytes, now), sparse, "packet %u of %u bytes, %lu in all", i,
                     moved[i].bytes, (unsigned long)volume);
    }
}
Test(pace, random_packets, .fini = seed_report) {
    seed_each(300, random_packets);
}

/* ---- of a mux's flows ---- */

#define BULK_FLOWS 8u

static struct rig rig;
static struct probe probes[BULK_FLOWS + 1];

static void connect_flows(uint32_t count) {
    rig_init(&rig);
    for (uint32_t i = 0; i < count; i++) {
        rig_open_sent(&rig, &probes[i]);
        int result = rig_put(&rig, MSG_CHANNEL_OPEN_CONFIRMATION, "uuuu", probes[i].flow.id, i, UINT32_MAX,
                             LIMIT_CHANNEL_PACKET_BYTES);
        cr_assert_eq(result, 0);
    }
}

static void comes(uint32_t i, uint32_t len) {
    cr_assert_eq(rig_put(&rig, MSG_CHANNEL_DATA, "uz", probes[i].flow.id, len), 0, "%s", rig.why);
    flow_consumed(&probes[i].flow, len);
}

static void goes(uint32_t i, uint32_t len) {
    rig_send(&rig, &probes[i], len);
    while (mux_pending(&rig.mux)) /* window credit among it */
        cr_assert_neq(rig_next(&rig), 0);
}

/* Each read of theirs leaves a small rest, each in its own packet, and what goes the other way is small altogether. */
static void bulk_with_tails(void (*moves)(uint32_t i, uint32_t len), void (*answers)(uint32_t i, uint32_t len)) {
    connect_flows(BULK_FLOWS);
    for (uint32_t n = 0; n < 200; n++, rig.now_ns += WINDOW / 10)
        for (uint32_t i = 0; i < BULK_FLOWS; i++) {
            moves(i, LIMIT_CHANNEL_PACKET_BYTES);
            moves(i, 1 + (n * 7 + i) % 4000);
            answers(i, 20);
        }
    cr_expect_eq(rig.mux.sparse_packets, 0);
    rig_deinit(&rig);
}

Test(pace_mux, bulk_that_comes_is_not_sparse) {
    bulk_with_tails(comes, goes);
}
Test(pace_mux, bulk_that_goes_is_not_sparse) {
    bulk_with_tails(goes, comes);
}

Test(pace_mux, a_sparse_flow_among_bulk) {
    connect_flows(BULK_FLOWS + 1);
    uint32_t seen = 0;
    for (uint32_t n = 0; n < 100; n++, rig.now_ns += WINDOW / 10) {
        for (uint32_t i = 0; i < BULK_FLOWS; i++)
            comes(i, LIMIT_CHANNEL_PACKET_BYTES);
        cr_assert_eq(rig.mux.sparse_packets, seen);
        comes(BULK_FLOWS, 64);
        cr_assert_eq(rig.mux.sparse_packets, ++seen);
        goes(BULK_FLOWS, 64);
        cr_assert_eq(rig.mux.sparse_packets, ++seen);
    }
    rig_deinit(&rig);
}
