/* The connection protocol's data path: who sends next, CHANNEL_DATA made and taken apart. */
#include "bench/micro/micro.h"
#include "engine/check.h"
#include "engine/limits.h"
#include "ssh/mux_internal.h"
#include <stdlib.h>
#include <string.h>

struct mux_state {
    struct slot_pool slots;
    struct window_budget budget;
    struct mux mux;
    uint64_t now_ns;
    uint8_t control[MUX_CONTROL_BYTES];
};

static struct flow *on_open(struct mux *mux, const struct mux_open *open, uint32_t *reason, const char **text) {
    (void)mux, (void)open;
    *reason = OPEN_ADMINISTRATIVELY_PROHIBITED;
    *text = "no";
    return NULL;
}
static bool on_global(struct mux *mux, struct bytes name, struct bytes data, uint8_t *reply, uint32_t *reply_len) {
    (void)mux, (void)name, (void)data, (void)reply, (void)reply_len;
    return false;
}
static const struct mux_ops bench_mux_ops = {.on_open = on_open, .on_global = on_global};

static void mux_state_init(struct mux_state *state) {
    CHECK(slot_pool_init(&state->slots, LIMIT_CHANNEL_PACKET_BYTES, 64) == 0);
    window_budget_init(&state->budget, LIMIT_WINDOW_BUDGET_BYTES);
    mux_init(&state->mux, &bench_mux_ops, state, &state->slots, &state->budget, LIMIT_WINDOW_LEATD_BYTES);
    state->now_ns = 1;
}

static void mux_state_deinit(struct mux_state *state) {
    mux_shutdown(&state->mux);
    mux_deinit(&state->mux);
    slot_pool_deinit(&state->slots);
}

/* So many bulk flows, each with packets waiting; what is sent is queued again, so that the round never ends. */
struct scheduler_state {
    struct mux_state base;
    struct flow *flows;
    struct slot *slots;
};

#define SLOTS_PER_FLOW 2u
/* Coprime to the number of flows: the round does not go through memory in order. */
#define STEP 7919u

static void *scheduler_set_up(const struct micro *micro) {
    struct scheduler_state *state = calloc(1, sizeof *state);
    uint32_t count = micro->number;
    CHECK(state && (state->flows = calloc(count, sizeof *state->flows)));
    CHECK((state->slots = calloc((size_t)count * SLOTS_PER_FLOW, sizeof *state->slots)));
    mux_state_init(&state->base);
    for (uint32_t i = 0; i < count; i++) {
        uint32_t index = (uint32_t)((uint64_t)i * STEP % count);
        struct flow *flow = &state->flows[index];
        list_init(&flow->ready);
        slot_queue_init(&flow->queue);
        for (uint32_t j = 0; j < SLOTS_PER_FLOW; j++) {
            struct slot *slot = &state->slots[index * SLOTS_PER_FLOW + j];
            slot->len = LIMIT_CHANNEL_PACKET_BYTES;
            slot_queue_push(&flow->queue, slot);
        }
        scheduler_add(&state->base.mux, flow);
    }
    return state;
}

static void scheduler_run(void *arg, uint32_t operations) {
    struct scheduler_state *state = arg;
    for (uint32_t i = 0; i < operations; i++) {
        struct flow *flow = NULL;
        struct slot *slot = scheduler_next(&state->base.mux, &flow);
        CHECK(slot);
        slot_queue_push(&flow->queue, slot);
    }
}

static void scheduler_tear_down(void *arg) {
    struct scheduler_state *state = arg;
    struct flow *flow = NULL;
    while (scheduler_next(&state->base.mux, &flow))
        ;
    mux_state_deinit(&state->base);
    free(state->slots);
    free(state->flows);
    free(state);
}

/* One open channel. */
struct channel {
    struct mux_state base;
    struct flow flow;
    uint32_t bytes;
    uint64_t sent, delivered, expected;
    uint8_t packet[MUX_DATA_HEADER_BYTES + LIMIT_CHANNEL_PACKET_BYTES];
};

static void on_nothing(struct flow *flow) {
    (void)flow;
}
static void on_refused(struct flow *flow, uint32_t reason, const char *text) {
    (void)flow, (void)reason, (void)text;
}
static void on_data(struct flow *flow, uint8_t *data, uint32_t len) {
    struct channel *channel = flow->owner;
    (void)data;
    channel->delivered += len;
    flow_consumed(flow, len);
}
static const struct flow_ops bench_flow_ops = {
    .on_opened = on_nothing,
    .on_refused = on_refused,
    .on_data = on_data,
    .on_room = on_nothing,
    .on_eof = on_nothing,
    .on_aborted = on_nothing,
    .on_closed = on_nothing,
};

static void feed(struct channel *channel, uint8_t *packet, uint32_t len) {
    const char *why = NULL;
    CHECK(mux_input(&channel->base.mux, packet, len, channel->base.now_ns, &why) == 0);
}

static enum mux_kind next(struct channel *channel, struct slot **slot) {
    struct mux_state *base = &channel->base;
    uint32_t len = 0;
    return mux_next(&base->mux, base->now_ns, base->control, sizeof base->control, &len, slot);
}

static void *channel_set_up(const struct micro *micro) {
    struct channel *channel = calloc(1, sizeof *channel);
    struct slot *slot = NULL;
    uint8_t confirmation[17] = {MSG_CHANNEL_OPEN_CONFIRMATION};
    CHECK(channel);
    mux_state_init(&channel->base);
    channel->bytes = micro->number;
    CHECK(mux_open_direct(&channel->base.mux, &channel->flow, &bench_flow_ops, channel, "host", 80, "127.0.0.1", 1) ==
          0);
    CHECK(next(channel, &slot) == MUX_CONTROL);
    codec_put_u32(confirmation + 1, channel->flow.id);
    codec_put_u32(confirmation + 5, 77);                          /* its own number */
    codec_put_u32(confirmation + 9, 0);                           /* window: given as it is needed */
    codec_put_u32(confirmation + 13, LIMIT_CHANNEL_PACKET_BYTES); /* largest packet */
    feed(channel, confirmation, sizeof confirmation);
    channel->packet[0] = MSG_CHANNEL_DATA;
    codec_put_u32(channel->packet + 1, channel->flow.id);
    codec_put_u32(channel->packet + 5, channel->bytes);
    return channel;
}

static void channel_tear_down(void *arg) {
    struct channel *channel = arg;
    CHECK(channel->delivered == channel->expected && channel->flow.bytes_to_peer == channel->sent);
    mux_state_deinit(&channel->base);
    free(channel);
}

static void encode_prepare(void *arg, uint32_t operations) {
    struct channel *channel = arg;
    uint8_t adjust[9] = {MSG_CHANNEL_WINDOW_ADJUST};
    codec_put_u32(adjust + 1, channel->flow.id);
    codec_put_u32(adjust + 5, operations * channel->bytes);
    feed(channel, adjust, sizeof adjust);
}

static void encode_run(void *arg, uint32_t operations) {
    struct channel *channel = arg;
    for (uint32_t i = 0; i < operations; i++) {
        struct slot *slot = slot_take(&channel->base.slots);
        CHECK(slot);
        slot->len = channel->bytes;
        flow_send(&channel->flow, slot);
        slot = NULL;
        CHECK(next(channel, &slot) == MUX_DATA);
        slot_put(&channel->base.slots, slot);
        channel->sent += channel->bytes;
    }
}

/* With the window that is granted again when it is due, and time that goes on as at some gigabytes per second. */
static void decode_run(void *arg, uint32_t operations) {
    struct channel *channel = arg;
    struct slot *slot = NULL;
    for (uint32_t i = 0; i < operations; i++) {
        channel->base.now_ns += 1 + channel->bytes / 4;
        feed(channel, channel->packet, MUX_DATA_HEADER_BYTES + channel->bytes);
        channel->expected += channel->bytes;
        while (mux_pending(&channel->base.mux))
            CHECK(next(channel, &slot) == MUX_CONTROL);
    }
}

#define SCHEDULER(flows)                                                                                               \
    {                                                                                                                  \
        "scheduler/" #flows, "the next packet found", 0, 16384, flows, scheduler_set_up, NULL, scheduler_run,          \
            scheduler_tear_down                                                                                        \
    }
#define CHANNEL(size)                                                                                                  \
    {"encode/" #size, "CHANNEL_DATA made", 0, 4096, size, channel_set_up, encode_prepare,                              \
     encode_run,      channel_tear_down},                                                                              \
    {                                                                                                                  \
        "decode/" #size, "CHANNEL_DATA read", 0, 4096, size, channel_set_up, NULL, decode_run, channel_tear_down       \
    }

const struct micro micro_mux[] = {
    SCHEDULER(1), SCHEDULER(100), SCHEDULER(10000), CHANNEL(64), CHANNEL(1024), CHANNEL(32768), {.name = NULL},
};
