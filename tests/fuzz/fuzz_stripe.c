/* A stripe whose peer says anything on any lane, while the application gives and takes and lanes come and go. Two bytes
 * are an operation: what, and how much. */
#include "engine/check.h"
#include "engine/limits.h"
#include "ssh/codec.h"
#include "ssh/stripe_internal.h"
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define LANES 4u

enum op { OP_RAW, OP_DATA, OP_TAKEN, OP_END, OP_NEXT, OP_GIVE, OP_TAKE, OP_LANE, OP_CLOSE, OP_LOST, OP_COUNT };

struct world {
    struct stripe *stripe;
    struct window_budget budget;
    const uint8_t *at, *end;
    uint64_t now_ns;
    bool here[LANES];
    uint32_t identities;
};

static uint8_t take(struct world *world) {
    return world->at < world->end ? *world->at++ : 0;
}

/* From memory of exactly its size. */
static void say(struct world *world, unsigned lane, const uint8_t *bytes, size_t len) {
    uint8_t *copy = malloc(len ? len : 1);
    CHECK(copy);
    memcpy(copy, bytes, len);
    bool was_open = stripe_state(world->stripe) == STRIPE_OPEN;
    int result = stripe_input(world->stripe, lane, copy, len, world->now_ns);
    CHECK(result == 0 || (result == ERR_PROTOCOL && was_open && stripe_state(world->stripe) == STRIPE_BROKEN));
    free(copy);
}

static void say_raw(struct world *world, unsigned lane, size_t len) {
    size_t left = (size_t)(world->end - world->at);
    len = len < left ? len : left;
    say(world, lane, world->at, len);
    world->at += len;
}

/* Near to what is right, or it would seldom be. */
static void say_record(struct world *world, unsigned lane, enum op op, uint8_t amount) {
    static uint8_t bytes[STRIPE_HEADER_BYTES + STRIPE_CHUNK_BYTES];
    const struct stripe *stripe = world->stripe;
    uint64_t offset = op == OP_TAKEN ? stripe->out.acked : op == OP_END ? stripe->in.high : stripe->in.ready;
    uint32_t number = 1 + (uint32_t)(amount >> 4) * 2731;
    offset += take(world) * (amount & 8 ? UINT64_C(997) : 1) - (amount & 7);
    bytes[0] = (uint8_t)(op == OP_DATA ? RECORD_DATA : op == OP_TAKEN ? RECORD_TAKEN : RECORD_END);
    codec_put_u32(bytes + 1, op == OP_END ? 0 : number);
    codec_put_u32(bytes + 5, (uint32_t)(offset >> 32));
    codec_put_u32(bytes + 9, (uint32_t)offset);
    size_t len = op == OP_DATA && number <= STRIPE_CHUNK_BYTES ? STRIPE_HEADER_BYTES + number : STRIPE_HEADER_BYTES;
    size_t cut = take(world) * 128u;
    cut = cut < len ? cut : len;
    say(world, lane, bytes, cut);
    say(world, lane, bytes + cut, len - cut);
}

static void hear(struct world *world, unsigned lane, uint8_t most) {
    uint8_t header[STRIPE_HEADER_BYTES];
    const uint8_t *data;
    size_t len;
    unsigned sum = 0;
    for (unsigned i = 0; i <= most && stripe_next(world->stripe, lane, world->now_ns, header, &data, &len); i++) {
        CHECK(len <= STRIPE_CHUNK_BYTES && (header[0] == RECORD_DATA) == (len > 0));
        for (size_t k = 0; k < len; k++)
            sum += data[k];
    }
    CHECK(sum % 'g' == 0);
}

static void give(struct world *world, uint8_t amount) {
    static uint8_t bytes[256 * 512];
    memset(bytes, 'g', sizeof bytes);
    uint64_t len = amount * UINT64_C(512) + 1;
    if (amount & 1)
        stripe_make_room(world->stripe, (uint32_t)len);
    uint64_t room = stripe_room(world->stripe);
    CHECK(stripe_give(world->stripe, bytes, len < room ? len : room) == 0);
}

static void take_some(struct world *world, uint8_t amount) {
    const uint8_t *data;
    size_t len = stripe_peek(world->stripe, &data);
    if (len > 0)
        stripe_took(world->stripe, amount < len && amount % 2 ? amount : len);
    else if (stripe_ended(world->stripe))
        stripe_end_taken(world->stripe);
}

/* An identity may have been lost there before it comes. */
static void change_lane(struct world *world, unsigned lane, bool in_order) {
    if (world->here[lane]) {
        stripe_lane_gone(world->stripe, lane, in_order);
        world->here[lane] = false;
        return;
    }
    uint32_t identity = world->identities++;
    int result = stripe_lane_add(world->stripe, lane, identity, identity % 2 == 1);
    CHECK(result == 0 || result == ERR_REFUSED);
    world->here[lane] = result == 0;
}

static void say_lost(struct world *world, unsigned lane, uint8_t amount) {
    uint8_t bytes[STRIPE_HEADER_BYTES] = {RECORD_LOST};
    codec_put_u32(bytes + 1, world->identities + 2 - amount % 16);
    say(world, lane, bytes, sizeof bytes);
    for (unsigned i = 0; i < LANES && (amount & 128) == 0; i++)
        if (stripe_lane_lost_there(world->stripe, i))
            change_lane(world, i, false);
}

static void step(struct world *world) {
    uint8_t what = take(world), amount = take(world);
    unsigned lane = what / OP_COUNT % LANES;
    enum op op = what % OP_COUNT;
    world->now_ns += UINT64_C(1) << amount % 32;
    if (op == OP_GIVE)
        give(world, amount);
    else if (op == OP_TAKE)
        take_some(world, amount);
    else if (op == OP_LANE)
        change_lane(world, lane, amount & 1);
    else if (op == OP_CLOSE)
        amount & 1 ? stripe_reset(world->stripe) : stripe_end(world->stripe);
    else if (!world->here[lane])
        return;
    else if (op == OP_RAW)
        say_raw(world, lane, amount);
    else if (op == OP_LOST)
        say_lost(world, lane, amount);
    else if (op == OP_NEXT)
        hear(world, lane, amount);
    else
        say_record(world, lane, op, amount);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    const uint32_t windows[] = {1, 1000, 100000, LIMIT_WINDOW_LEATD_BYTES};
    struct world world = {.at = data, .end = data + size, .now_ns = 1};
    uint8_t setting = take(&world);
    window_budget_init(&world.budget, setting & 4 ? 3 * LIMIT_CHANNEL_PACKET_BYTES : LIMIT_WINDOW_BUDGET_BYTES);
    CHECK(stripe_create(&world.budget, windows[setting & 3], &world.stripe) == 0);
    change_lane(&world, 0, false);
    while (world.at < world.end) {
        step(&world);
        stripe_validate(world.stripe);
        CHECK(stripe_bytes_held(world.stripe) <= 2 * atomic_load(&world.budget.used) + 4 * STRIPE_CHUNK_BYTES);
    }
    stripe_destroy(world.stripe);
    CHECK(atomic_load(&world.budget.used) == 0);
    return 0;
}
