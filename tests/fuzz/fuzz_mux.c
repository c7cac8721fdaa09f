/* libFuzzer: the connection protocol, as client and as server. The bytes are a little program: the first says how the
 * session is set up, then each op is a packet of the peer (with its length), a few calls of mux_next, or something that
 * the owner of a flow does. After each the mux must be sound; at the end everything must have been given back. A real
 * session ends at the first error; here it goes on, because a refused packet must have changed nothing.
 *
 *   clang -g -fsanitize=fuzzer,address,undefined … fuzz_mux.c; ./fuzz_mux corpus/mux */
#include "engine/check.h"
#include "engine/limits.h"
#include "ssh/mux_internal.h"
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define OWNED_MAX 24u
#define SLOTS 32u
#define PACKETS_AT_ONCE 32u

enum op { OP_PACKET, OP_NEXT, OP_OPEN, OP_GLOBAL, OP_ACT, OP_COUNT };
enum act {
    ACT_CONFIRM,
    ACT_REFUSE,
    ACT_SEND,
    ACT_END,
    ACT_CONSUME,
    ACT_DRAINED,
    ACT_ABORT,
    ACT_REQUEST,
    ACT_CLOSE,
    ACT_COUNT
};

/* A flow and its owner; asks counts what the peer's program lets it answer. */
struct owned {
    struct flow flow;
    struct world *world;
    uint64_t unread;
    bool used, ended, eof;
    unsigned asks;
};

struct world {
    struct mux mux;
    struct slot_pool slots;
    struct window_budget budget;
    struct owned owned[OWNED_MAX];
    const uint8_t *at, *end; /* the program */
    uint64_t now_ns;
    uint32_t requests_made, replies_seen;
    uint8_t taste; /* decides what is accepted */
};

static uint8_t take(struct world *world) {
    return world->at < world->end ? *world->at++ : 0;
}

static struct owned *owned_of(struct flow *flow) {
    return flow->owner;
}

static void over(struct flow *flow) {
    struct owned *owned = owned_of(flow);
    CHECK(owned->used && !owned->ended);
    owned->ended = true;
}
static void on_opened(struct flow *flow) {
    CHECK(!owned_of(flow)->ended && flow->phase == FLOW_OPEN);
}
static void on_refused(struct flow *flow, uint32_t reason, const char *text) {
    (void)reason;
    CHECK(text && strlen(text) < REFUSAL_TEXT_BYTES);
    over(flow);
}
static void on_data(struct flow *flow, uint8_t *data, uint32_t len) {
    struct owned *owned = owned_of(flow);
    CHECK(!owned->ended && !owned->eof && len > 0);
    uint8_t sum = 0;
    for (uint32_t i = 0; i < len; i++)
        sum ^= data[i];
    owned->unread += len;
    if (sum == 0xFF)
        flow_abort(flow);
}
static void on_room(struct flow *flow) {
    CHECK(!owned_of(flow)->ended && flow_room(flow) > 0);
}
static bool on_request(struct flow *flow, struct bytes name, struct bytes data) {
    struct owned *owned = owned_of(flow);
    CHECK(!owned->ended && flow->phase == FLOW_OPEN);
    uint8_t last = data.len ? data.at[data.len - 1] : 0;
    if (name.len && name.at[0] == 'a')
        flow_abort(flow);
    if (name.len && name.at[0] == 'e' && last == 'x' && !flow->text)
        return flow_request(flow, "exit-status", "\0\0\0\1", 4) == 0;
    return ++owned->asks & 1;
}
static void on_eof(struct flow *flow) {
    struct owned *owned = owned_of(flow);
    CHECK(!owned->ended && !owned->eof);
    owned->eof = true;
}
static void on_aborted(struct flow *flow) {
    CHECK(!owned_of(flow)->ended);
}
static const struct flow_ops flow_ops = {
    .on_opened = on_opened,
    .on_refused = on_refused,
    .on_data = on_data,
    .on_room = on_room,
    .on_request = on_request,
    .on_eof = on_eof,
    .on_aborted = on_aborted,
    .on_closed = over,
};

static struct owned *spare_owned(struct world *world) {
    for (unsigned i = 0; i < OWNED_MAX; i++) {
        struct owned *owned = &world->owned[i];
        if (!owned->used || owned->ended) {
            *owned = (struct owned){.world = world};
            return owned;
        }
    }
    return NULL;
}

/* Reads every byte that it was given, so that ASan sees where they end. */
static unsigned weigh(struct bytes bytes) {
    unsigned sum = 0;
    for (uint32_t i = 0; i < bytes.len; i++)
        sum += bytes.at[i];
    return sum;
}

static struct flow *on_open(struct mux *mux, const struct mux_open *open, uint32_t *reason, const char **text) {
    struct world *world = mux->owner;
    CHECK(open->kind != MUX_OPEN_OTHER || (open->host.len == 0 && open->port == 0));
    unsigned sum = weigh(open->type) + weigh(open->host) + weigh(open->origin) + open->port;
    struct owned *owned = (sum ^ world->taste) % 4 ? spare_owned(world) : NULL;
    if (!owned) {
        *reason = OPEN_CONNECT_FAILED;
        *text = "no";
        return NULL;
    }
    owned->used = true;
    flow_init_asked(&owned->flow, &flow_ops, owned);
    if (world->taste & 8)
        flow_confirm(&owned->flow);
    return &owned->flow;
}
static bool on_global(struct mux *mux, struct bytes name, struct bytes data, uint8_t *reply, uint32_t *reply_len) {
    struct world *world = mux->owner;
    unsigned sum = weigh(name) + weigh(data);
    *reply_len = sum % (MUX_REPLY_BYTES + 1);
    memset(reply, 'r', *reply_len);
    return (sum ^ world->taste) & 1;
}
static const struct mux_ops mux_ops = {.on_open = on_open, .on_global = on_global};

static void on_reply(void *arg, bool success, struct bytes data) {
    struct world *world = arg;
    (void)success;
    weigh(data);
    world->replies_seen++;
}

/* From memory of exactly its size. */
static void put_packet(struct world *world) {
    size_t len = take(world);
    len |= (size_t)(take(world) & 3) << 8;
    size_t left = (size_t)(world->end - world->at);
    if (len > left)
        len = left;
    uint8_t *packet = malloc(len ? len : 1);
    CHECK(packet);
    memcpy(packet, world->at, len);
    world->at += len;
    const char *why = NULL;
    int result = mux_input(&world->mux, packet, (uint32_t)len, world->now_ns, &why);
    CHECK(result == 0 || result == ERR_PROTOCOL || result == ERR_LIMIT || result == ERR_UNSUPPORTED);
    CHECK((why[0] == 0) == (result == 0 || result == ERR_UNSUPPORTED));
    free(packet);
}

static bool get_packet(struct world *world) {
    uint8_t control[MUX_CONTROL_BYTES];
    uint32_t len = 0;
    struct slot *slot = NULL;
    bool pending = mux_pending(&world->mux);
    enum mux_kind kind = mux_next(&world->mux, world->now_ns, control, sizeof control, &len, &slot);
    CHECK(pending || kind == MUX_NOTHING);
    CHECK(kind != MUX_CONTROL || (len > 0 && control[0] >= MSG_CONNECTION_FIRST));
    if (kind == MUX_DATA) {
        CHECK(slot->len > 0 && codec_get_u32(slot->data - 4) == slot->len);
        slot_put(&world->slots, slot);
    }
    return kind != MUX_NOTHING;
}

static void open_flow(struct world *world) {
    struct owned *owned = spare_owned(world);
    if (!owned)
        return;
    int result;
    unsigned how = take(world) % 3;
    if (how == 0)
        result = mux_open_direct(&world->mux, &owned->flow, &flow_ops, owned, "host", 80, "origin", 81);
    else if (how == 1)
        result = mux_open_forwarded(&world->mux, &owned->flow, &flow_ops, owned, "host", 80, "origin", 81);
    else
        result = mux_open_forwarded_path(&world->mux, &owned->flow, &flow_ops, owned, "/run/socket");
    CHECK(result == 0 || result == ERR_LIMIT);
    owned->used = result == 0;
}

static void send_some(struct owned *owned) {
    struct flow *flow = &owned->flow;
    uint64_t room = flow_room(flow);
    struct slot *slot = room > 0 ? slot_take(&owned->world->slots) : NULL;
    if (!slot)
        return;
    uint32_t most = flow->peer_packet_max < room ? flow->peer_packet_max : (uint32_t)room;
    slot->len = 1 + take(owned->world) * 16u % most;
    memset(slot->data, 'd', slot->len);
    flow_send(flow, slot);
}

static void consume(struct owned *owned) {
    uint32_t bytes = (uint32_t)owned->unread;
    if (bytes > 1 && (take(owned->world) & 1))
        bytes /= 2;
    owned->unread -= bytes;
    if (bytes > 0)
        flow_consumed(&owned->flow, bytes);
}

static void act(struct owned *owned, enum act what) {
    struct flow *flow = &owned->flow;
    if (!owned->used || owned->ended)
        return;
    if (what == ACT_CONFIRM && flow->phase == FLOW_ASKED)
        flow_confirm(flow);
    else if (what == ACT_REFUSE && flow->phase == FLOW_ASKED)
        flow_refuse(flow, take(owned->world), "refused");
    else if (what == ACT_SEND)
        send_some(owned);
    else if (what == ACT_END && flow->phase != FLOW_ASKED)
        flow_end(flow);
    else if (what == ACT_CONSUME)
        consume(owned);
    else if (what == ACT_DRAINED && owned->eof)
        flow_drained(flow);
    else if (what == ACT_ABORT)
        flow_abort(flow);
    else if (what == ACT_CLOSE)
        flow_close(flow);
    else if (what == ACT_REQUEST && !flow->text)
        CHECK(flow_request(flow, "exit-status", "\0\0\0\0", take(owned->world) % 5) == 0);
}

static void step(struct world *world) {
    uint8_t byte = take(world), rest = byte / OP_COUNT;
    world->now_ns += UINT64_C(1) << rest % 32;
    switch ((enum op)(byte % OP_COUNT)) {
    case OP_PACKET:
        put_packet(world);
        break;
    case OP_NEXT:
        for (unsigned i = 0; i <= rest % PACKETS_AT_ONCE && get_packet(world); i++)
            ;
        break;
    case OP_OPEN:
        open_flow(world);
        break;
    case OP_GLOBAL:
        if (mux_global_request(&world->mux, "r", NULL, 0, rest & 1 ? on_reply : NULL, world) == 0)
            world->requests_made += rest & 1;
        break;
    default:
        act(&world->owned[rest % OWNED_MAX], (enum act)(take(world) % ACT_COUNT));
    }
    mux_validate(&world->mux);
}

static void world_init(struct world *world, const uint8_t *data, size_t size) {
    const uint32_t windows[] = {1, 1000, LIMIT_WINDOW_START_BYTES, LIMIT_WINDOW_LEATD_BYTES};
    *world = (struct world){.at = data, .end = data + size, .now_ns = 1};
    uint8_t setting = take(world);
    world->taste = setting >> 4;
    window_budget_init(&world->budget, setting & 4 ? 4 * LIMIT_CHANNEL_PACKET_BYTES : LIMIT_WINDOW_BUDGET_BYTES);
    CHECK(slot_pool_init(&world->slots, setting & 8 ? 100 : LIMIT_CHANNEL_PACKET_BYTES, SLOTS) == 0);
    mux_init(&world->mux, &mux_ops, world, &world->slots, &world->budget, windows[setting & 3]);
}

static void world_deinit(struct world *world) {
    mux_shutdown(&world->mux);
    mux_validate(&world->mux);
    CHECK(!mux_pending(&world->mux));
    for (unsigned i = 0; i < OWNED_MAX; i++)
        CHECK(!world->owned[i].used || world->owned[i].ended);
    CHECK(world->replies_seen == world->requests_made);
    mux_deinit(&world->mux);
    CHECK(atomic_load(&world->budget.used) == 0);
    slot_pool_deinit(&world->slots); /* CHECKs that it is whole */
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static struct world world;
    world_init(&world, data, size);
    while (world.at < world.end)
        step(&world);
    world_deinit(&world);
    return 0;
}
