#include "ssh/window.h"
#include "engine/check.h"
#include "engine/limits.h"
#include <stddef.h>

/* No new window takes more than this part of what the budget has left. */
#define BUDGET_SHARE_NEW 512u
/* What all windows together may have of it beyond the smallest size when they open. */
#define BUDGET_SHARE_START 8u
/* This part of the budget is for new windows: growth stops there, and what has grown gives back. */
#define BUDGET_SHARE_RESERVE 4u
/* Nobody grows beyond this part of what would be left beyond the reserve without him: what is granted cannot be taken
 * back, so that idle ones that were bulk once must leave the next ones room. */
#define BUDGET_SHARE_GROWTH 4u
/* Half of a window below the start size in this time is a use worth more. */
#define SMALL_ROUND_NS UINT64_C(100000000)
#define SECOND_NS UINT64_C(1000000000)
/* What arrives of a window within a round trip for it to grow. TCP delivers nothing past a lost packet until it has
 * come again, a round trip later: with losses only half of a window that is in full use arrives in one, and what hardly
 * grows then is a matter of seconds on a long path. */
#define PART_NEAR 2u
#define PART_FAR 4u
#define FAR_NS UINT64_C(50000000)

static uint32_t smaller(uint32_t a, uint32_t b) {
    return a < b ? a : b;
}
static uint32_t larger(uint32_t a, uint32_t b) {
    return a > b ? a : b;
}

void window_budget_init(struct window_budget *budget, uint64_t max_bytes) {
    atomic_init(&budget->used, 0);
    atomic_init(&budget->windows, 0);
    budget->max = max_bytes;
}

static uint64_t left_of(const struct window_budget *budget, uint64_t used) {
    return used < budget->max ? budget->max - used : 0;
}

uint64_t window_budget_left(const struct window_budget *budget) {
    return left_of(budget, atomic_load_explicit(&budget->used, memory_order_relaxed));
}

/* With n windows open: START / (1 + n/h)². Summed up over n that is START * h, which is the share: of 1 GiB the first
 * has 2 MiB, the 64th 512 KiB, and from the 450th on each has the smallest size. */
static uint64_t share_new(const struct window_budget *budget, uint64_t left, uint32_t has) {
    (void)has;
    const uint64_t h_max = UINT64_C(1) << 20; /* no overflow, and more windows than there will be */
    uint64_t h = budget->max / BUDGET_SHARE_START / LIMIT_WINDOW_START_BYTES;
    h = h < 1 ? 1 : h > h_max ? h_max : h;
    uint64_t n = h + atomic_load_explicit(&budget->windows, memory_order_relaxed);
    uint64_t by_count = LIMIT_WINDOW_START_BYTES * h / n * h / n, by_room = left / BUDGET_SHARE_NEW;
    return by_count < by_room ? by_count : by_room;
}

static uint64_t share_growth(const struct window_budget *budget, uint64_t left, uint32_t has) {
    uint64_t reserve = budget->max / BUDGET_SHARE_RESERVE;
    uint64_t most = left > reserve ? (left - reserve + has) / BUDGET_SHARE_GROWTH : 0;
    return most > has ? most - has : 0;
}

/* Takes `want` bytes for one that has some, or fewer when that is more than the share of it, but not fewer than
 * `least`. Returns what was taken, 0: not even that is left. */
static uint32_t budget_take(struct window_budget *budget, uint32_t has, uint32_t want, uint32_t least,
                            uint64_t (*share)(const struct window_budget *, uint64_t left, uint32_t has)) {
    uint64_t used = atomic_load_explicit(&budget->used, memory_order_relaxed);
    for (;;) {
        uint64_t left = left_of(budget, used);
        if (left < least)
            return 0;
        uint64_t part = share(budget, left, has);
        uint32_t bytes = part < want ? larger((uint32_t)part, least) : want;
        if (atomic_compare_exchange_weak_explicit(&budget->used, &used, used + bytes, memory_order_relaxed,
                                                  memory_order_relaxed))
            return bytes;
    }
}

uint32_t window_budget_take(struct window_budget *budget, uint32_t want, uint32_t least) {
    return budget_take(budget, 0, want, least, share_growth);
}

void window_budget_give(struct window_budget *budget, uint32_t bytes) {
    uint64_t before = atomic_fetch_sub_explicit(&budget->used, bytes, memory_order_relaxed);
    CHECK(before >= bytes);
}

bool window_budget_low(const struct window_budget *budget) {
    return window_budget_left(budget) < budget->max / BUDGET_SHARE_RESERVE;
}

int window_open(struct window *window, struct window_budget *budget, uint32_t max) {
    CHECK(max > 0);
    uint32_t want = smaller(LIMIT_WINDOW_START_BYTES, max);
    uint32_t least = smaller(LIMIT_CHANNEL_PACKET_BYTES, max);
    uint32_t target = budget_take(budget, 0, want, least, share_new);
    *window = (struct window){0};
    if (target == 0)
        return ERR_LIMIT;
    atomic_fetch_add_explicit(&budget->windows, 1, memory_order_relaxed);
    window->budget = budget;
    window->target = window->granted = target;
    window->max = max;
    return 0;
}

static void uncount(struct window *window) {
    if (!window->released)
        atomic_fetch_sub_explicit(&window->budget->windows, 1, memory_order_relaxed);
}

void window_close(struct window *window) {
    if (!window->budget)
        return;
    uncount(window);
    window_budget_give(window->budget, window->target);
    window->budget = NULL;
}

/* What the peer may have under way, or we have of that: the target, as long as that is not released. */
static uint32_t size_of(const struct window *window) {
    return window->granted + window->unconsumed + window->owed;
}

/* Without a part for those of which nothing is kept a peer could have any number of channels by never closing them. */
static uint32_t released_most(const struct window *window) {
    return larger(window->unconsumed, smaller(size_of(window), LIMIT_CHANNEL_PACKET_BYTES));
}

static void give_released(struct window *window) {
    uint32_t most = released_most(window);
    if (window->target <= most)
        return;
    window_budget_give(window->budget, window->target - most);
    window->target = most;
    if (most == 0)
        window->budget = NULL;
}

void window_release(struct window *window) {
    if (!window->budget || window->released)
        return;
    uncount(window);
    window->released = true;
    give_released(window);
}

void window_close_held(struct window *window) {
    if (!window->budget)
        return;
    window_release(window);
    window->closed = true;
    window->granted = window->owed = 0;
    give_released(window);
}

static void measure(struct window *window, uint64_t now_ns) {
    uint64_t took = now_ns > window->mark_ns ? now_ns - window->mark_ns : 1;
    if (window->rtt_ns == 0 || took < window->rtt_ns)
        window->rtt_ns = took;
    window->marked = false;
}

int window_receive(struct window *window, uint32_t len, uint64_t now_ns) {
    if (len > window->granted)
        return ERR_PROTOCOL;
    window->granted -= len;
    window->unconsumed += len;
    window->received += len;
    if (window->marked && window->received > window->mark_at)
        measure(window, now_ns);
    return 0;
}

void window_consume(struct window *window, uint32_t len) {
    CHECK(len <= window->unconsumed);
    window->unconsumed -= len;
    if (!window->closed)
        window->owed += len;
    if (window->released && window->budget)
        give_released(window);
}

static uint32_t grantable(const struct window *window, uint32_t most) {
    return window->granted < most ? smaller(window->owed, most - window->granted) : 0;
}

bool window_grant_due_within(const struct window *window, uint32_t most) {
    uint32_t target = smaller(size_of(window), most);
    uint32_t worth = smaller(target / 2, larger(2 * LIMIT_CHANNEL_PACKET_BYTES, target / 8));
    return grantable(window, most) >= larger(worth, 1);
}

bool window_grant_due(const struct window *window) {
    return window_grant_due_within(window, UINT32_MAX);
}

static void grow(struct window *window) {
    uint32_t want = smaller(window->target, window->max - window->target);
    if (want == 0)
        return;
    uint32_t more = budget_take(window->budget, window->target, want, 0, share_growth);
    window->target += more;
    window->owed += more;
}

void window_widen(struct window *window) {
    if (!window->budget || window->released)
        return;
    window->widened = true;
    grow(window);
}

/* Down to the start size, by half of what can be kept back now. */
static void shrink(struct window *window) {
    uint32_t beyond = window->target - LIMIT_WINDOW_START_BYTES, bytes = smaller(window->owed / 2, beyond);
    window->target -= bytes;
    window->owed -= bytes;
    window_budget_give(window->budget, bytes);
}

/* What is worth a grant, an eighth of the window, has lasted for two seconds of the clock. */
static bool is_little_used(const struct window *window, uint64_t now_ns) {
    return (uint16_t)(now_ns / SECOND_NS - window->granted_s) > 1;
}

/* Others need the room, or it is more than this one needs. */
static bool must_shrink(const struct window *window, uint64_t now_ns) {
    return window->target > LIMIT_WINDOW_START_BYTES &&
           (window_budget_low(window->budget) || (is_little_used(window, now_ns) && !window->widened));
}

/* A window that opened small because there were many grows to what it would have had by being used at all: on a busy
 * machine or a short path it could wait for ever for a round trip as short as the shortest. */
static uint64_t round_max_ns(const struct window *window) {
    bool is_small = window->target < LIMIT_WINDOW_START_BYTES;
    return is_small && window->rtt_ns < SMALL_ROUND_NS ? SMALL_ROUND_NS : window->rtt_ns;
}

static void judge_round(struct window *window, uint64_t now_ns) {
    uint64_t max_ns = round_max_ns(window);
    uint32_t part = window->target / (window->rtt_ns > FAR_NS ? PART_FAR : PART_NEAR);
    bool enough = window->received - window->round_at >= part;
    bool in_time = max_ns > 0 && now_ns - window->round_ns <= max_ns;
    if (in_time && !enough)
        return;
    if (in_time)
        grow(window);
    window->round_at = window->received;
    window->round_ns = now_ns;
}

/* Not while the peer is kept short: that is no use of the window to judge, and a round trip without the path's own
 * queue would be too short for it ever to grow again. */
static void watch(struct window *window, uint64_t now_ns) {
    judge_round(window, now_ns);
    if (window->marked)
        return;
    window->marked = true;
    window->mark_at = window->received + window->granted;
    window->mark_ns = now_ns;
}

uint32_t window_grant_within(struct window *window, uint32_t most, uint64_t now_ns) {
    if (!window_grant_due_within(window, most))
        return 0;
    bool judged = !window->released;
    if (judged && must_shrink(window, now_ns))
        shrink(window);
    window->granted_s = (uint16_t)(now_ns / SECOND_NS);
    window->widened = false;
    uint32_t bytes = grantable(window, most);
    if (judged && bytes == window->owed) {
        watch(window, now_ns);
        bytes = grantable(window, most); /* it may have grown */
    }
    window->granted += bytes;
    window->owed -= bytes;
    return bytes;
}

uint32_t window_grant(struct window *window, uint64_t now_ns) {
    return window_grant_within(window, UINT32_MAX, now_ns);
}

void window_validate(const struct window *window) {
    if (!window->budget)
        return;
    CHECK(window->target > 0 && window->target <= window->max);
    CHECK(window->released ? window->target <= released_most(window)
                           : (uint64_t)window->granted + window->unconsumed + window->owed == window->target);
}
