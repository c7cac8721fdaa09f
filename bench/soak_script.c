#include "bench/soak_script.h"
#include <math.h>

/* Flows come in blocks, of which some begin with a burst. */
#define BLOCK_FLOWS 64u
#define BURST_ONE_IN 4u
#define BURST_FLOWS 40u

#define EXCHANGE_BYTES_MAX (16u << 10)
#define BULK_BYTES_MIN (64u << 10)

#define PERCENT_BULK 20u
#define PERCENT_STALLED 15u /* of bulk, of each way */
#define PERCENT_RESET 8u
#define PERCENT_HELD 10u
#define PERCENT_ANSWERED 30u

struct draw {
    uint64_t state;
};

/* SplitMix64. */
static uint64_t draw_next(struct draw *draw) {
    uint64_t x = draw->state += UINT64_C(0x9e3779b97f4a7c15);
    x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
    return x ^ (x >> 31);
}

static struct draw draw_begin(uint64_t seed, uint32_t number, uint32_t purpose) {
    struct draw draw = {.state = seed};
    draw.state = draw_next(&draw) ^ (((uint64_t)purpose << 32) | number);
    (void)draw_next(&draw);
    return draw;
}

/* low to high. */
static uint64_t draw_between(struct draw *draw, uint64_t low, uint64_t high) {
    return low + draw_next(draw) % (high - low + 1);
}

static bool draw_percent(struct draw *draw, unsigned percent) {
    return draw_between(draw, 1, 100) <= percent;
}

/* Above 0, at most 1. */
static double draw_fraction(struct draw *draw) {
    return (double)((draw_next(draw) >> 11) + 1) * 0x1p-53;
}

/* As many short ones as ten times longer ones. */
static uint64_t draw_length(struct draw *draw, uint64_t low, uint64_t high) {
    double factor = pow((double)high / (double)low, draw_fraction(draw));
    return (uint64_t)((double)low * factor);
}

static void draw_bulk(struct soak_script *script, struct draw *draw) {
    uint64_t way = draw_between(draw, 0, 2);
    for (unsigned side = 0; side < SOAK_SIDES; side++) {
        bool has_bulk = way == side || way == SOAK_SIDES;
        script->bytes[side] =
            has_bulk ? draw_length(draw, BULK_BYTES_MIN, SOAK_BYTES_MAX) : draw_between(draw, 2, EXCHANGE_BYTES_MAX);
        if (has_bulk && draw_percent(draw, PERCENT_STALLED))
            script->stalls[side] =
                (struct soak_stall){.at = draw_between(draw, 1, script->bytes[side] - 1),
                                    .ms = (uint32_t)draw_between(draw, SOAK_STALL_MS_MAX / 10, SOAK_STALL_MS_MAX),
                                    .is_readers = draw_percent(draw, 50)};
    }
}

static void draw_end(struct soak_script *script, struct draw *draw) {
    if (draw_percent(draw, PERCENT_RESET)) {
        script->resets = true;
        script->reset_by = draw_percent(draw, 50) ? SOAK_NEAR : SOAK_FAR;
        uint64_t coming = script->bytes[SOAK_SIDES - 1 - script->reset_by];
        script->reset_at = draw_between(draw, script->reset_by == SOAK_NEAR ? 1 : 0, coming - 1);
    } else if (draw_percent(draw, PERCENT_ANSWERED)) {
        script->answers = true;
    } else if (draw_percent(draw, PERCENT_HELD)) {
        script->hold_ms = (uint32_t)draw_between(draw, SOAK_HOLD_MS_MAX / 10, SOAK_HOLD_MS_MAX);
    }
}

void soak_script_draw(struct soak_script *script, uint64_t seed, uint32_t number) {
    struct draw draw = draw_begin(seed, number, 0);
    *script = (struct soak_script){.answers = false};
    if (draw_percent(&draw, PERCENT_BULK)) {
        draw_bulk(script, &draw);
    } else {
        /* No bytes at all are an exchange, too; two make a middle to be reset in. */
        for (unsigned side = 0; side < SOAK_SIDES; side++)
            script->bytes[side] = draw_percent(&draw, 5) ? 0 : draw_between(&draw, 2, EXCHANGE_BYTES_MAX);
    }
    if (script->bytes[SOAK_NEAR] > 0 && script->bytes[SOAK_FAR] > 0)
        draw_end(script, &draw);
}

uint64_t soak_script_gap_ns(uint64_t seed, uint32_t number, double rate) {
    struct draw block = draw_begin(seed, number / BLOCK_FLOWS, 1), flow = draw_begin(seed, number, 2);
    uint32_t within = number % BLOCK_FLOWS;
    if (draw_between(&block, 1, BURST_ONE_IN) == 1 && within > 0 && within < BURST_FLOWS)
        return 0;
    return (uint64_t)(-log(draw_fraction(&flow)) / rate * 1e9);
}
