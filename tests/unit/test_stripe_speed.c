/* What a stripe makes of its lanes, in virtual time: a bulk transfer is as fast as all of them together, from the third
 * second on, whatever their delays; windows and what is kept grow to what that takes. */
#include "engine/limits.h"
#include "ssh/stripe.h"
#include "stripe_pipe.h"
#include <criterion/criterion.h>

#define LANES 4u
#define WARM_NS (3000 * MS)
#define END_NS (6000 * MS)

struct way {
    uint64_t delay_ns;
    uint32_t bytes_per_ms;
};
struct world {
    struct stripe *from, *to;
    struct pipe there[LANES], back[LANES];
    unsigned lanes;
    uint64_t now_ns, rng, peak_held;
};
static struct window_budget budgets[2];

static void world_init(struct world *world, const struct way *ways, unsigned lanes) {
    *world = (struct world){.lanes = lanes, .now_ns = 1, .rng = 1};
    for (unsigned i = 0; i < 2; i++) {
        window_budget_init(&budgets[i], LIMIT_WINDOW_BUDGET_BYTES);
        cr_assert_eq(stripe_create(&budgets[i], LIMIT_STRIPE_WINDOW_BYTES, i ? &world->to : &world->from), 0);
    }
    for (unsigned i = 0; i < lanes; i++) {
        pipe_init(&world->there[i], ways[i].delay_ns, ways[i].bytes_per_ms);
        pipe_init(&world->back[i], ways[i].delay_ns, ways[i].bytes_per_ms);
        cr_assert_eq(stripe_lane_add(world->from, i, i, false), 0);
        cr_assert_eq(stripe_lane_add(world->to, i, i, false), 0);
    }
}

static void world_deinit(struct world *world) {
    for (unsigned i = 0; i < world->lanes; i++) {
        pipe_clear(&world->there[i]);
        pipe_clear(&world->back[i]);
    }
    stripe_destroy(world->from);
    stripe_destroy(world->to);
    cr_assert_eq(atomic_load(&budgets[0].used), 0);
    cr_assert_eq(atomic_load(&budgets[1].used), 0);
}

static void send(struct world *world, struct stripe *stripe, unsigned lane, struct pipe *pipe) {
    uint8_t header[STRIPE_HEADER_BYTES];
    const uint8_t *data;
    size_t len;
    uint64_t queue_ns = LIMIT_STRIPE_LANE_BYTES * MS / pipe->bytes_per_ms;
    while (pipe->busy_ns < world->now_ns + queue_ns && stripe_next(stripe, lane, world->now_ns, header, &data, &len)) {
        pipe_write(pipe, &world->rng, world->now_ns, header, sizeof header);
        pipe_write(pipe, &world->rng, world->now_ns, data, len);
    }
}

static void receive(struct world *world, struct stripe *stripe, unsigned lane, struct pipe *pipe) {
    struct segment *segment;
    while ((segment = pipe->first) && segment->at_ns <= world->now_ns) {
        cr_assert_eq(stripe_input(stripe, lane, segment->bytes, segment->len, world->now_ns), 0);
        pipe_used(pipe, segment->len);
    }
}

static void step(struct world *world) {
    static const uint8_t bytes[1u << 20];
    const uint8_t *data;
    uint64_t room;
    size_t len;
    while ((room = stripe_room(world->from)) > 0)
        cr_assert_eq(stripe_give(world->from, bytes, room < sizeof bytes ? room : sizeof bytes), 0);
    for (unsigned i = 0; i < world->lanes; i++) {
        send(world, world->from, i, &world->there[i]);
        receive(world, world->to, i, &world->there[i]);
        while ((len = stripe_peek(world->to, &data)) > 0)
            stripe_took(world->to, len);
        send(world, world->to, i, &world->back[i]);
        receive(world, world->from, i, &world->back[i]);
    }
    uint64_t held = stripe_bytes_held(world->to) + stripe_bytes_held(world->from);
    world->peak_held = held > world->peak_held ? held : world->peak_held;
    world->now_ns += MS;
}

/* Of what the lanes could carry together after the start, in percent. */
static uint64_t percent(const struct way *ways, unsigned lanes, uint64_t *peak_held) {
    struct world world;
    uint64_t warm = 0, rate = 0;
    world_init(&world, ways, lanes);
    for (unsigned i = 0; i < lanes; i++)
        rate += ways[i].bytes_per_ms;
    while (world.now_ns < END_NS) {
        if (world.now_ns < WARM_NS)
            warm = stripe_bytes_in(world.to);
        step(&world);
    }
    uint64_t moved = stripe_bytes_in(world.to) - warm;
    *peak_held = world.peak_held;
    world_deinit(&world);
    return moved * 100 / (rate * (END_NS - WARM_NS) / MS);
}

/* 40 MB/s over 200 ms there and back: twice as much under way as a window begins with, and more. */
Test(stripe_speed, equal_lanes) {
    const struct way ways[LANES] = {{100 * MS, 10000}, {100 * MS, 10000}, {100 * MS, 10000}, {100 * MS, 10000}};
    uint64_t peak, filled = percent(ways, LANES, &peak);
    cr_assert_geq(filled, 90, "%lu %%", filled);
    cr_assert_leq(peak, 2 * LIMIT_STRIPE_WINDOW_BYTES);
    filled = percent(ways, 1, &peak);
    cr_assert_geq(filled, 90, "one lane: %lu %%", filled);
}

/* The others wait for what is on the slow one only as far as the window reaches. */
Test(stripe_speed, unequal_lanes) {
    const struct way ways[LANES] = {{20 * MS, 20000}, {100 * MS, 10000}, {150 * MS, 5000}, {50 * MS, 1000}};
    uint64_t peak, filled = percent(ways, LANES, &peak);
    cr_assert_geq(filled, 90, "%lu %%", filled);
}
