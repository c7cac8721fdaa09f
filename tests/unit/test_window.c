#include "engine/limits.h"
#include "ssh/window.h"
#include <criterion/criterion.h>
#include <pthread.h>
#include <signal.h>

#define MIB (1u << 20)
#define GIB (UINT64_C(1) << 30)
#define MS UINT64_C(1000000)
#define S (1000 * MS)

Test(window, opens_with_the_start_size) {
    struct window_budget budget;
    window_budget_init(&budget, 4 * GIB);
    struct window window;
    cr_assert_eq(window_open(&window, &budget, LIMIT_WINDOW_OPENSSH_BYTES), 0);
    cr_assert_eq(window.target, LIMIT_WINDOW_START_BYTES);
    cr_assert_eq(window.granted, window.target);
    cr_assert_eq(atomic_load(&budget.used), LIMIT_WINDOW_START_BYTES);
    window_close(&window);
    window_close(&window);
    cr_assert_eq(atomic_load(&budget.used), 0);
}

Test(window, max_below_start_rules) {
    struct window_budget budget;
    window_budget_init(&budget, 4 * GIB);
    const uint32_t sizes[] = {1, 100, LIMIT_CHANNEL_PACKET_BYTES, LIMIT_WINDOW_START_BYTES - 1};
    for (unsigned i = 0; i < 4; i++) {
        struct window window;
        cr_assert_eq(window_open(&window, &budget, sizes[i]), 0);
        cr_assert_eq(window.granted, sizes[i]);
        window_close(&window);
    }
}

/* Idle flows get less the more of them there are, long before one is turned away. */
Test(window, budget_shared_and_never_exceeded) {
    enum { COUNT = 32000 };
    static struct window windows[COUNT];
    struct window_budget budget;
    window_budget_init(&budget, GIB);
    unsigned opened = 0;
    while (opened < COUNT && window_open(&windows[opened], &budget, 64 * MIB) == 0) {
        cr_assert(windows[opened].target >= LIMIT_CHANNEL_PACKET_BYTES);
        cr_assert(opened == 0 || windows[opened].target <= windows[opened - 1].target);
        opened++;
        cr_assert(atomic_load(&budget.used) <= budget.max);
    }
    cr_assert(opened > 20000 && opened < COUNT, "%u", opened);
    cr_assert_gt(atomic_load(&budget.used) + LIMIT_CHANNEL_PACKET_BYTES, budget.max);
    window_close(&windows[0]);
    cr_assert_eq(window_open(&windows[0], &budget, 64 * MIB), 0, "what is given back can be had again");
    for (unsigned i = 0; i < opened; i++)
        window_close(&windows[i]);
    cr_assert_eq(atomic_load(&budget.used), 0);
}

Test(window, budget_too_small) {
    struct window_budget budget;
    window_budget_init(&budget, LIMIT_CHANNEL_PACKET_BYTES - 1);
    struct window window;
    cr_assert_eq(window_open(&window, &budget, MIB), ERR_LIMIT);
    window_close(&window);
    cr_assert_eq(atomic_load(&budget.used), 0);
    window_budget_init(&budget, LIMIT_CHANNEL_PACKET_BYTES);
    cr_assert_eq(window_open(&window, &budget, MIB), 0);
    cr_assert_eq(window.target, LIMIT_CHANNEL_PACKET_BYTES);
    window_close(&window);
}

Test(window, receive_to_the_byte) {
    struct window_budget budget;
    window_budget_init(&budget, 4 * GIB);
    struct window window;
    cr_assert_eq(window_open(&window, &budget, 1000), 0);
    cr_assert_eq(window_receive(&window, 1001, 1), ERR_PROTOCOL);
    cr_assert_eq(window_receive(&window, 999, 1), 0);
    cr_assert_eq(window_receive(&window, 2, 1), ERR_PROTOCOL);
    cr_assert_eq(window_receive(&window, 1, 1), 0);
    cr_assert_eq(window_receive(&window, 0, 1), 0);
    cr_assert_eq(window_receive(&window, 1, 1), ERR_PROTOCOL);
    cr_assert_eq(window.unconsumed, 1000);
    window_validate(&window);
    window_close(&window);
}

Test(window, consuming_what_never_came_is_our_bug, .signal = SIGABRT) {
    struct window_budget budget;
    window_budget_init(&budget, 4 * GIB);
    struct window window;
    cr_assert_eq(window_open(&window, &budget, 1000), 0);
    cr_assert_eq(window_receive(&window, 10, 1), 0);
    window_consume(&window, 11);
}

/* Owed bytes at which a grant is worth a message, by window size. */
Test(window, grant_threshold) {
    const struct {
        uint32_t max, worth;
    } cases[] = {
        {1, 1},
        {2, 1},
        {3, 1},
        {1000, 500},
        {LIMIT_CHANNEL_PACKET_BYTES, LIMIT_CHANNEL_PACKET_BYTES / 2},
        {128u << 10, 64u << 10},
        {512u << 10, 64u << 10},
        {MIB, 128u << 10},
        {2 * MIB, 256u << 10},
    };
    for (unsigned i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct window_budget budget;
        window_budget_init(&budget, 4 * GIB);
        struct window window;
        cr_assert_eq(window_open(&window, &budget, cases[i].max), 0);
        cr_assert_eq(window_receive(&window, cases[i].worth, 1), 0);
        window_consume(&window, cases[i].worth - 1);
        cr_assert_not(window_grant_due(&window));
        cr_assert_eq(window_grant(&window, 2), 0);
        window_consume(&window, 1);
        cr_assert(window_grant_due(&window), "max %u", cases[i].max);
        cr_assert_eq(window_grant(&window, 2), cases[i].worth);
        cr_assert_eq(window.granted, cases[i].max);
        window_validate(&window);
        window_close(&window);
    }
}

/* A peer that shall have little under way: what it has beyond that stands, the rest is owed and granted afterwards. */
Test(window, grants_no_more_than_asked_for) {
    enum { MOST = 128 << 10 };
    struct window_budget budget;
    window_budget_init(&budget, 4 * GIB);
    struct window window;
    cr_assert_eq(window_open(&window, &budget, MIB), 0);
    cr_assert_eq(window_receive(&window, MIB - MOST / 2 - 1, 1), 0);
    window_consume(&window, MIB - MOST / 2 - 1);
    cr_assert(window_grant_due(&window));
    cr_assert_not(window_grant_due_within(&window, MOST), "half of it and one byte are there");
    cr_assert_eq(window_grant_within(&window, MOST, 2), 0);
    cr_assert_eq(window_receive(&window, 1, 3), 0);
    window_consume(&window, 1);
    cr_assert(window_grant_due_within(&window, MOST));
    cr_assert_eq(window_grant_within(&window, MOST, 4), MOST / 2);
    cr_assert_eq(window.granted, MOST);
    window_validate(&window);
    cr_assert_not(window_grant_due_within(&window, MOST / 4), "it has more");
    cr_assert_eq(window_grant_within(&window, MOST / 4, 5), 0);
    cr_assert_eq(window_grant(&window, 6), MIB - MOST);
    window_validate(&window);
    window_close(&window);
}

/* A peer that is kept short for a while, answering at once, is no measure of the path afterwards. */
Test(window, what_is_kept_short_is_not_measured) {
    struct window_budget budget;
    window_budget_init(&budget, 4 * GIB);
    struct window window;
    uint64_t now_ns = MS;
    cr_assert_eq(window_open(&window, &budget, 4 * MIB), 0);
    for (unsigned turn = 0; turn < 100; turn++) {
        uint32_t bytes = window.granted;
        cr_assert_eq(window_receive(&window, bytes, ++now_ns), 0);
        window_consume(&window, bytes);
        cr_assert_gt(window_grant_within(&window, 128 << 10, now_ns), 0);
        cr_assert_eq(window.rtt_ns, 0);
    }
    window_close(&window);
}

/* Whatever is asked for, a peer that has used up all it was granted gets more once all of that has been consumed. */
Test(window, little_at_a_time_never_stops) {
    static const uint32_t mosts[] = {1, 2, 1000, LIMIT_CHANNEL_PACKET_BYTES, 128u << 10, MIB, 2 * MIB, UINT32_MAX};
    for (unsigned i = 0; i < sizeof mosts / sizeof *mosts; i++) {
        struct window_budget budget;
        window_budget_init(&budget, 4 * GIB);
        struct window window;
        cr_assert_eq(window_open(&window, &budget, 16 * MIB), 0);
        for (unsigned turn = 0; turn < 100; turn++) {
            uint32_t all = window.granted;
            cr_assert_eq(window_receive(&window, all, turn + 1), 0);
            window_consume(&window, all);
            uint32_t granted = window_grant_within(&window, mosts[i], turn + 1);
            cr_assert(granted > 0 && granted <= mosts[i], "%u of %u", granted, mosts[i]);
            window_validate(&window);
        }
        window_close(&window);
    }
}

/* A path in virtual time: the peer sends at `rate` bytes per ms as far as its credit goes, bytes and grants travel
 * rtt/2 each way, the application takes app_rate bytes per ms. */
#define PATH_MS 20000u
struct path {
    uint32_t rtt_ms;
    uint64_t rate, app_rate;
    uint64_t lost_every; /* bytes; 0: no losses */
    uint32_t max, run_ms;
};

/* Of what has come until now (by ms): what is lost comes again a round trip later, and what is behind it waits. */
static uint64_t in_order(const struct path *path, const uint64_t *came, unsigned ms) {
    if (path->lost_every == 0)
        return came[ms];
    uint64_t whole = ms < path->rtt_ms ? 0 : came[ms - path->rtt_ms];
    uint64_t hole = (whole / path->lost_every + 1) * path->lost_every;
    return came[ms] < hole ? came[ms] : hole;
}

/* Returns the window's size after the run. */
static uint32_t run(const struct path *path, struct window_budget *budget) {
    static uint64_t data[PATH_MS + 2000], grants[PATH_MS + 2000], came[PATH_MS];
    for (unsigned i = 0; i < PATH_MS + 2000; i++)
        data[i] = grants[i] = 0;
    struct window window;
    cr_assert_eq(window_open(&window, budget, path->max), 0);
    uint64_t credit = window.granted, received = 0;
    unsigned half = path->rtt_ms / 2;
    for (unsigned ms = 0; ms < path->run_ms; ms++) {
        credit += grants[ms];
        uint64_t sent = credit < path->rate ? credit : path->rate;
        credit -= sent;
        data[ms + half] += sent;
        came[ms] = data[ms] + (ms > 0 ? came[ms - 1] : 0);
        uint64_t until = in_order(path, came, ms);
        cr_assert_eq(window_receive(&window, (uint32_t)(until - received), ms * MS + 1), 0);
        received = until;
        uint64_t taken = window.unconsumed < path->app_rate ? window.unconsumed : path->app_rate;
        window_consume(&window, (uint32_t)taken);
        grants[ms + half + 1] += window_grant(&window, ms * MS + 1);
        window_validate(&window);
        cr_assert(atomic_load(&budget->used) <= budget->max);
    }
    uint32_t target = window.target;
    window_close(&window);
    return target;
}

static uint32_t run_path(uint32_t rtt_ms, uint64_t rate, uint64_t app_rate, uint32_t max,
                         struct window_budget *budget) {
    const struct path path = {.rtt_ms = rtt_ms, .rate = rate, .app_rate = app_rate, .max = max, .run_ms = PATH_MS};
    return run(&path, budget);
}

Test(window, grows_on_a_long_fat_path) {
    struct window_budget budget;
    window_budget_init(&budget, GIB);
    /* 100 ms at 100 MB/s: 10 MB are under way, and only a 15 MiB window covers them with room to spare */
    cr_assert_eq(run_path(100, 100000, UINT32_MAX, LIMIT_WINDOW_OPENSSH_BYTES, &budget), LIMIT_WINDOW_OPENSSH_BYTES);
    /* 200 ms at 125 MB/s: 25 MB */
    uint32_t target = run_path(200, 125000, UINT32_MAX, LIMIT_WINDOW_LEATD_BYTES, &budget);
    cr_assert(target >= 25000000 && target <= LIMIT_WINDOW_LEATD_BYTES, "%u", target);
    cr_assert_eq(atomic_load(&budget.used), 0);
}

/* A loss in each 1000 packets at 1 Gbit/s: two round trips' worth is under way, after a second. */
Test(window, grows_as_fast_where_packets_are_lost) {
    const struct path path = {.rtt_ms = 100,
                              .rate = 125000,
                              .app_rate = UINT32_MAX,
                              .lost_every = 1448000,
                              .max = LIMIT_WINDOW_LEATD_BYTES,
                              .run_ms = 1000};
    struct window_budget budget;
    window_budget_init(&budget, GIB);
    uint32_t target = run(&path, &budget);
    cr_expect_geq(target, 2 * 12500000, "%u", target);
}

Test(window, stays_small_where_it_would_not_help) {
    struct window_budget budget;
    window_budget_init(&budget, GIB);
    uint32_t lan = run_path(2, 100000, UINT32_MAX, LIMIT_WINDOW_LEATD_BYTES, &budget);
    cr_assert(lan <= 8 * MIB, "short path: %u", lan);
    uint32_t thin = run_path(100, 1000, UINT32_MAX, LIMIT_WINDOW_LEATD_BYTES, &budget);
    cr_assert(thin <= 8 * MIB, "thin path: %u", thin);
    uint32_t slow_app = run_path(20, 200000, 10000, LIMIT_WINDOW_LEATD_BYTES, &budget);
    cr_assert(slow_app <= 4 * MIB, "slow application: %u", slow_app);
}

Test(window, growth_stops_at_the_budget) {
    struct window_budget budget;
    window_budget_init(&budget, 4 * MIB);
    uint32_t target = run_path(100, 100000, UINT32_MAX, LIMIT_WINDOW_LEATD_BYTES, &budget);
    cr_assert(target > LIMIT_CHANNEL_PACKET_BYTES && target <= 4 * MIB, "%u", target);
    cr_assert_eq(atomic_load(&budget.used), 0);
}

/* Round trips of a millisecond, the window filled in each. */
static void fill_for(struct window *window, unsigned rounds) {
    for (uint64_t now_ns = MS; rounds-- > 0; now_ns += MS) {
        cr_assert_eq(window_receive(window, window->granted, now_ns), 0);
        window_consume(window, window->unconsumed);
        cr_assert_gt(window_grant(window, now_ns), 0);
    }
}

/* However many flows are in bulk and stay: there is room for those that come. */
Test(window, growth_leaves_a_part_of_the_budget_to_new_ones) {
    enum { BULK = 200, IDLE = 4000 };
    static struct window bulk[BULK], idle[IDLE];
    struct window_budget budget;
    window_budget_init(&budget, GIB);
    for (unsigned i = 0; i < BULK; i++) {
        cr_assert_eq(window_open(&bulk[i], &budget, 64 * MIB), 0);
        fill_for(&bulk[i], 100);
    }
    cr_assert_eq(bulk[0].target, 64 * MIB);
    for (unsigned i = 0; i < IDLE; i++)
        cr_assert_eq(window_open(&idle[i], &budget, 64 * MIB), 0, "%u", i);
    for (unsigned i = 0; i < BULK; i++)
        window_close(&bulk[i]);
    for (unsigned i = 0; i < IDLE; i++)
        window_close(&idle[i]);
    cr_assert_eq(atomic_load(&budget.used), 0);
}

/* Nobody can take back what is granted: flows that were bulk once, one after the other, and stay open, leave something
 * to grow in to the next. */
Test(window, one_of_a_few_idle_ones_that_have_grown_is_not_the_last_to_grow) {
    enum { GROWN = 20 };
    struct window grown[GROWN], next;
    struct window_budget budget;
    window_budget_init(&budget, GIB);
    for (unsigned i = 0; i < GROWN; i++) {
        cr_assert_eq(window_open(&grown[i], &budget, 64 * MIB), 0);
        fill_for(&grown[i], 100);
    }
    cr_expect_eq(grown[7].target, 64 * MIB, "the first few have all that they want");
    cr_assert_eq(window_open(&next, &budget, 64 * MIB), 0);
    fill_for(&next, 100);
    cr_expect_geq(next.target, LIMIT_WINDOW_START_BYTES, "%u", next.target);
    for (unsigned i = 0; i < GROWN; i++)
        window_close(&grown[i]);
    window_close(&next);
    cr_assert_eq(atomic_load(&budget.used), 0);
}

/* A flow that was bulk and moves little now gives back what it has no use for, and grows again when it has. */
Test(window, shrinks_where_little_moves) {
    struct window_budget budget;
    struct window window;
    uint64_t now_ns = 100 * MS, granted = 0;
    window_budget_init(&budget, GIB);
    cr_assert_eq(window_open(&window, &budget, 64 * MIB), 0);
    fill_for(&window, 100);
    cr_assert_eq(window.target, 64 * MIB);
    for (unsigned second = 0; second < 600; second++) { /* half a megabyte a second */
        now_ns += 1000 * MS;
        cr_assert_eq(window_receive(&window, MIB / 2, now_ns), 0);
        window_consume(&window, MIB / 2);
        granted += window_grant(&window, now_ns);
        window_validate(&window);
    }
    cr_expect_geq(granted, 200 * MIB, "what it needs it is given");
    cr_expect_leq(window.target, 2 * LIMIT_WINDOW_START_BYTES, "%u", window.target);
    cr_expect_geq(window.target, LIMIT_WINDOW_START_BYTES, "%u", window.target);
    cr_expect_eq(atomic_load(&budget.used), window.target);
    for (unsigned rounds = 0; rounds < 100; rounds++) {
        now_ns += MS;
        cr_assert_eq(window_receive(&window, window.granted, now_ns), 0);
        window_consume(&window, window.unconsumed);
        cr_assert_gt(window_grant(&window, now_ns), 0);
    }
    cr_expect_eq(window.target, 64 * MIB);
    window_close(&window);
}

/* Fifteen thousand idle flows: one that has something to carry still gets a window of its own. */
Test(window, grows_beside_many_idle_ones) {
    enum { IDLE = 15000 };
    static struct window idle[IDLE];
    struct window bulk;
    struct window_budget budget;
    window_budget_init(&budget, LIMIT_WINDOW_BUDGET_BYTES);
    for (unsigned i = 0; i < IDLE; i++)
        cr_assert_eq(window_open(&idle[i], &budget, 64 * MIB), 0, "%u", i);
    cr_assert_eq(window_open(&bulk, &budget, 64 * MIB), 0);
    cr_assert_eq(bulk.target, LIMIT_CHANNEL_PACKET_BYTES);
    fill_for(&bulk, 100);
    cr_expect_geq(bulk.target, 32 * MIB, "%u", bulk.target);
    for (unsigned i = 0; i < IDLE; i++)
        window_close(&idle[i]);
    window_close(&bulk);
    cr_assert_eq(atomic_load(&budget.used), 0);
    cr_assert_eq(atomic_load(&budget.windows), 0);
}

/* Though no round trip is ever as short again as the first was. */
Test(window, small_ones_grow_by_being_used) {
    enum { IDLE = 10000 };
    static struct window idle[IDLE];
    struct window used;
    struct window_budget budget;
    uint64_t now_ns = MS;
    window_budget_init(&budget, LIMIT_WINDOW_BUDGET_BYTES);
    for (unsigned i = 0; i < IDLE; i++)
        cr_assert_eq(window_open(&idle[i], &budget, 64 * MIB), 0, "%u", i);
    cr_assert_eq(window_open(&used, &budget, 64 * MIB), 0);
    fill_for(&used, 3);
    for (unsigned i = 0; i < 20; i++) {
        now_ns += 50 * MS;
        cr_assert_eq(window_receive(&used, used.granted, now_ns), 0);
        window_consume(&used, used.unconsumed);
        cr_assert_gt(window_grant(&used, now_ns), 0);
    }
    cr_expect_geq(used.target, LIMIT_WINDOW_START_BYTES);
    cr_expect_leq(used.target, 2 * LIMIT_WINDOW_START_BYTES, "and no further: %u", used.target);
    for (unsigned i = 0; i < IDLE; i++)
        window_close(&idle[i]);
    window_close(&used);
}

/* Bulk flows that go on make room for those that come, down to what they began with. */
Test(window, shrinks_when_others_need_the_room) {
    enum { BULK = 100, IDLE = 15000 };
    static struct window bulk[BULK], idle[IDLE];
    struct window_budget budget;
    uint64_t now_ns = MS;
    window_budget_init(&budget, LIMIT_WINDOW_BUDGET_BYTES);
    for (unsigned i = 0; i < BULK; i++) {
        cr_assert_eq(window_open(&bulk[i], &budget, 64 * MIB), 0);
        fill_for(&bulk[i], 100);
    }
    for (unsigned i = 0; i < IDLE; i++) {
        cr_assert_eq(window_open(&idle[i], &budget, 64 * MIB), 0, "%u", i);
        struct window *window = &bulk[i % BULK];
        cr_assert_eq(window_receive(window, window->granted, now_ns), 0);
        window_consume(window, window->unconsumed);
        cr_assert_gt(window_grant(window, now_ns += MS), 0);
        window_validate(window);
    }
    cr_assert_leq(atomic_load(&budget.used), budget.max);
    for (unsigned i = 0; i < BULK; i++) {
        cr_assert_geq(bulk[i].target, LIMIT_CHANNEL_PACKET_BYTES);
        window_close(&bulk[i]);
    }
    for (unsigned i = 0; i < IDLE; i++)
        window_close(&idle[i]);
    cr_assert_eq(atomic_load(&budget.used), 0);
}

static void *open_and_close(void *arg) {
    struct window_budget *budget = arg;
    for (unsigned i = 0; i < 20000; i++) {
        struct window window;
        if (window_open(&window, budget, 64 * MIB) == 0)
            window_close(&window);
    }
    return NULL;
}
Test(window, budget_from_two_threads) {
    struct window_budget budget;
    window_budget_init(&budget, LIMIT_CHANNEL_PACKET_BYTES);
    pthread_t other;
    cr_assert_eq(pthread_create(&other, NULL, open_and_close, &budget), 0);
    open_and_close(&budget);
    pthread_join(other, NULL);
    cr_assert_eq(atomic_load(&budget.used), 0);
}

/* What was received and not taken is counted for as long as somebody has it, and nothing else is. */
Test(window, closed_while_bytes_are_held) {
    struct window_budget budget;
    struct window window;
    window_budget_init(&budget, GIB);
    cr_assert_eq(window_open(&window, &budget, MIB), 0);
    cr_assert_eq(window_receive(&window, 1000, 1), 0);
    window_consume(&window, 100);
    window_close_held(&window);
    window_validate(&window);
    cr_assert_eq(atomic_load(&budget.used), 900);
    window_close_held(&window);
    cr_assert_eq(atomic_load(&budget.used), 900);
    window_consume(&window, 0);
    window_consume(&window, 300);
    window_validate(&window);
    cr_assert_eq(atomic_load(&budget.used), 600);
    cr_assert_not(window_grant_due(&window));
    window_consume(&window, 600);
    cr_assert_eq(atomic_load(&budget.used), 0);
    window_consume(&window, 0);
    window_close(&window);

    cr_assert_eq(window_open(&window, &budget, MIB), 0);
    window_close_held(&window);
    cr_assert_eq(atomic_load(&budget.used), 0, "nothing was held");
    window_close_held(&(struct window){0});

    cr_assert_eq(window_open(&window, &budget, MIB), 0);
    cr_assert_eq(window_receive(&window, 1000, 1), 0);
    window_close_held(&window);
    window_close(&window);
    cr_assert_eq(atomic_load(&budget.used), 0, "closed for good");
}

/* Nothing is kept for who may still send: what he was granted stands, and is granted again, and no more of it is
 * counted than what somebody still has, or the smallest window. */
Test(window, released) {
    const uint32_t least = LIMIT_CHANNEL_PACKET_BYTES;
    struct window_budget budget;
    struct window window;
    window_budget_init(&budget, GIB);
    cr_assert_eq(window_open(&window, &budget, MIB), 0);
    cr_assert_eq(window_receive(&window, 5 * least, 1), 0);
    window_release(&window);
    window_release(&window);
    window_validate(&window);
    cr_assert_eq(atomic_load(&budget.used), 5 * least, "somebody has these");
    cr_assert_eq(atomic_load(&budget.windows), 0);
    cr_assert_eq(window.granted, MIB - 5 * least);
    window_consume(&window, least);
    window_validate(&window);
    cr_assert_eq(atomic_load(&budget.used), 4 * least);
    cr_assert_eq(window_receive(&window, MIB - 5 * least, 2), 0);
    cr_assert_eq(window_receive(&window, 1, 2), ERR_PROTOCOL);
    cr_assert_eq(atomic_load(&budget.used), 4 * least);
    window_consume(&window, MIB - least);
    window_validate(&window);
    cr_assert_eq(atomic_load(&budget.used), least);
    for (uint64_t now = S; now < 20 * S; now += S) {
        cr_assert_eq(window_grant(&window, now), MIB, "all again, and no more");
        cr_assert_eq(window_receive(&window, MIB, now + 1), 0);
        window_widen(&window);
        window_validate(&window);
        window_consume(&window, MIB);
        cr_assert_eq(atomic_load(&budget.used), least);
    }
    window_close(&window);
    window_close_held(&window);
    cr_assert_eq(atomic_load(&budget.used), 0);
    cr_assert_eq(atomic_load(&budget.windows), 0);
}

Test(window, released_and_then_closed) {
    struct window_budget budget;
    struct window window;
    window_budget_init(&budget, GIB);
    window_release(&(struct window){0});
    for (unsigned held = 0; held <= 1000; held += 1000) {
        cr_assert_eq(window_open(&window, &budget, MIB), 0);
        cr_assert_eq(window_receive(&window, held, 1), 0);
        window_release(&window);
        cr_assert_eq(atomic_load(&budget.used), LIMIT_CHANNEL_PACKET_BYTES);
        window_close_held(&window);
        window_validate(&window);
        cr_assert_eq(atomic_load(&budget.used), held);
        window_consume(&window, held / 4);
        cr_assert_eq(atomic_load(&budget.used), held - held / 4);
        window_close(&window);
        cr_assert_eq(atomic_load(&budget.used), 0);
        cr_assert_eq(atomic_load(&budget.windows), 0);
    }
    cr_assert_eq(window_open(&window, &budget, 100), 0);
    window_release(&window);
    cr_assert_eq(atomic_load(&budget.used), 100, "it had no more");
    window_close(&window);
    cr_assert_eq(atomic_load(&budget.used), 0);
}

/* Who keeps bytes outside of a window gets what it needs to the last, and more only beyond what new windows may want.
 */
Test(window, budget_taken_outside) {
    struct window_budget budget;
    window_budget_init(&budget, 8 * MIB);
    cr_assert_eq(window_budget_take(&budget, 64 * MIB, 0), 3 * MIB / 2, "a quarter of what is beyond the reserve");
    cr_assert_eq(window_budget_take(&budget, 1000, 1000), 1000);
    cr_assert_not(window_budget_low(&budget));
    cr_assert_eq(window_budget_take(&budget, 6 * MIB, 6 * MIB), 6 * MIB);
    cr_assert(window_budget_low(&budget));
    cr_assert_eq(window_budget_take(&budget, 1000, 0), 0);
    cr_assert_eq(window_budget_take(&budget, MIB, MIB), 0);
    cr_assert_eq(window_budget_take(&budget, 1000, 1000), 1000);
    window_budget_give(&budget, 15 * MIB / 2 + 2000);
    cr_assert_eq(atomic_load(&budget.used), 0);
}

/* Without any round trip; up to its maximum; nothing any more when it is closed. */
Test(window, widened) {
    struct window_budget budget;
    struct window window;
    window_budget_init(&budget, GIB);
    cr_assert_eq(window_open(&window, &budget, 100000), 0);
    window_close(&window);
    window_widen(&window);
    cr_assert_eq(window_open(&window, &budget, 5 * MIB), 0);
    const uint32_t first = window.target, targets[] = {2 * first, 4 * first < 5 * MIB ? 4 * first : 5 * MIB, 5 * MIB};
    for (unsigned i = 0; i < 3; i++) {
        window_widen(&window);
        window_validate(&window);
        cr_assert_eq(window.target, targets[i]);
        cr_assert_eq(window.granted + window.owed, targets[i]);
    }
    /* However long ago the last grant was. */
    cr_assert_eq(window_grant(&window, 5 * S), 5 * MIB - first);
    window_close(&window);
    cr_assert_eq(window_open(&window, &budget, 64 * MIB), 0);
    cr_assert_eq(window_receive(&window, first / 2, 6 * S), 0);
    window_consume(&window, first / 2);
    cr_assert_eq(window_grant(&window, 6 * S), first / 2);
    cr_assert_eq(window_receive(&window, first / 2, 9 * S), 0);
    window_consume(&window, first / 2);
    window_widen(&window);
    cr_assert_eq(window_grant(&window, 9 * S), first / 2 + first);
    window_close(&window);
    cr_assert_eq(atomic_load(&budget.used), 0);
}
