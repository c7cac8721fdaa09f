/* Two muxes talk to each other through in-memory queues, with applications that do what applications do, at random:
 * send, end, leave, abort, read late or never until the end, connect and refuse. Thousands of seeds. What must hold:
 *   - every byte in order, none twice; none lost on a flow that nobody aborted
 *   - neither side ever sees the other break the protocol (windows, order of messages)
 *   - no message about a channel after its CLOSE
 *   - a last word (a request such as exit-status) between the last byte and EOF
 *   - at the end everything is closed and every slot and window given back. */
#include "engine/limits.h"
#include "seed.h"
#include "ssh/mux_internal.h"
#include <criterion/criterion.h>
#include <string.h>

#define PAIRS_MAX 10u
#define STEPS 500u
#define SLOT_BYTES 600u
#define SLOTS 48u

/* One application's end of a forwarded connection. */
struct end {
    struct flow flow;
    struct end *peer;
    uint64_t seed;  /* of the bytes it sends */
    uint64_t quota; /* what it wants to send before it ends */
    uint64_t sent, received, unread;
    bool used, asked, opened, wants_room, ended, eof, drained, aborted_self, aborted_by_peer, refused, closed;
    bool word_said, word_heard, left;
};

struct packet {
    struct packet *next;
    uint32_t len;
    uint8_t bytes[];
};

struct side {
    struct mux mux;
    struct slot_pool slots;
    struct window_budget budget;
    struct packet *first, **last; /* on their way to this side */
    uint32_t requests_made, replies_seen, requests_answered;
};

static struct side sides[2];
static struct end ends[PAIRS_MAX][2]; /* [0]: who opened */
static uint32_t pairs;
static uint64_t *rng, now_ns;

static uint8_t byte_at(uint64_t seed, uint64_t position) {
    uint64_t mixed = (position + seed) * UINT64_C(0x9E3779B97F4A7C15);
    return (uint8_t)(mixed >> 56);
}

static struct end *end_of(struct flow *flow) {
    return flow->owner;
}
static struct side *side_of(struct flow *flow) {
    return flow->mux->owner;
}
static bool is_over(const struct end *end) {
    return end->closed || end->refused;
}

static void on_opened(struct flow *flow) {
    cr_assert_not(end_of(flow)->opened);
    end_of(flow)->opened = end_of(flow)->wants_room = true;
}
static void on_refused(struct flow *flow, uint32_t reason, const char *text) {
    struct end *end = end_of(flow);
    cr_assert(!is_over(end) && !end->opened && !end->aborted_self);
    cr_assert(reason == OPEN_CONNECT_FAILED || reason == OPEN_RESOURCE_SHORTAGE);
    cr_assert_not_null(text);
    end->refused = true;
}
static void on_data(struct flow *flow, uint8_t *data, uint32_t len) {
    struct end *end = end_of(flow);
    cr_assert(!is_over(end) && !end->eof && !end->aborted_self && !end->aborted_by_peer);
    for (uint32_t i = 0; i < len; i++)
        cr_assert_eq(data[i], byte_at(end->peer->seed, end->received + i));
    end->received += len;
    if (end->left)
        return flow_consumed(flow, len);
    end->unread += len;
}
static void on_room(struct flow *flow) {
    cr_assert_gt(flow_room(flow), 0);
    cr_assert_not(is_over(end_of(flow)));
    end_of(flow)->wants_room = true;
}
static bool on_request(struct flow *flow, struct bytes name, struct bytes data) {
    struct end *end = end_of(flow);
    cr_assert(bytes_equal(name, "word") && data.len == 8);
    cr_assert(end->peer->word_said && !end->word_heard && !end->eof);
    cr_assert_eq(codec_get_u32(data.at + 4), end->received, "after every byte");
    return end->word_heard = true;
}
static void on_eof(struct flow *flow) {
    struct end *end = end_of(flow);
    cr_assert(!is_over(end) && !end->eof && !end->aborted_self && !end->aborted_by_peer);
    cr_assert(end->peer->ended && end->word_heard == end->peer->word_said);
    end->eof = true;
}
static void on_aborted(struct flow *flow) {
    struct end *end = end_of(flow);
    cr_assert(!is_over(end) && !end->aborted_self && !end->aborted_by_peer);
    end->aborted_by_peer = true;
}
static void on_closed(struct flow *flow) {
    cr_assert_not(is_over(end_of(flow)));
    end_of(flow)->closed = true;
}
static const struct flow_ops flow_ops = {
    .on_opened = on_opened,
    .on_refused = on_refused,
    .on_data = on_data,
    .on_room = on_room,
    .on_request = on_request,
    .on_eof = on_eof,
    .on_aborted = on_aborted,
    .on_closed = on_closed,
};

static struct flow *on_open(struct mux *mux, const struct mux_open *open, uint32_t *reason, const char **text) {
    (void)mux;
    cr_assert(open->kind == MUX_OPEN_DIRECT_TCPIP && open->port < pairs);
    struct end *end = &ends[open->port][1];
    cr_assert_not(end->asked);
    if (random_chance(rng, 12)) {
        *reason = OPEN_CONNECT_FAILED;
        *text = "no";
        end->refused = true;
        return NULL;
    }
    flow_init_asked(&end->flow, &flow_ops, end);
    end->asked = true;
    return &end->flow;
}
static bool on_global(struct mux *mux, struct bytes name, struct bytes data, uint8_t *reply, uint32_t *reply_len) {
    struct side *side = mux->owner;
    cr_assert(bytes_equal(name, "count") && data.len == 4);
    cr_assert_eq(codec_get_u32(data.at), side->requests_answered++);
    memcpy(reply, data.at, 4);
    *reply_len = 4;
    return true;
}
static const struct mux_ops mux_ops = {.on_open = on_open, .on_global = on_global};

static void on_reply(void *arg, bool success, struct bytes data) {
    struct side *side = arg;
    uint32_t expected = side->replies_seen++;
    cr_assert(!success || (data.len == 4 && codec_get_u32(data.at) == expected));
    cr_assert(success || side->mux.shut);
}

static void sides_init(void) {
    const uint32_t windows[] = {1, 20, 100, 1000, 5000, 200000, LIMIT_WINDOW_LEATD_BYTES};
    memset(ends, 0, sizeof ends);
    pairs = 0;
    now_ns = 1;
    for (unsigned i = 0; i < 2; i++) {
        struct side *side = &sides[i];
        *side = (struct side){.last = NULL};
        side->last = &side->first;
        window_budget_init(&side->budget, random_chance(rng, 8) ? 200000 : UINT64_C(1) << 32);
        cr_assert_eq(slot_pool_init(&side->slots, 1 + random_below(rng, SLOT_BYTES), SLOTS), 0);
        uint32_t window = windows[random_below(rng, sizeof windows / sizeof *windows)];
        mux_init(&side->mux, &mux_ops, side, &side->slots, &side->budget, window);
    }
}

/* The receiver of a packet must not have heard the sender's CLOSE of that channel before. */
static void check_not_closed(struct mux *mux, const struct packet *packet) {
    uint8_t type = packet->bytes[0];
    if (type < MSG_CHANNEL_OPEN_CONFIRMATION)
        return;
    uint32_t id = codec_get_u32(packet->bytes + 1);
    cr_assert(id < mux->flows_size && mux->flows[id], "message %u after CLOSE", type);
    cr_assert_neq(mux->flows[id]->life, LIFE_CLOSE_ANSWER, "message %u after CLOSE", type);
}

static bool deliver(struct side *to) {
    struct packet *packet = to->first;
    if (!packet)
        return false;
    to->first = packet->next;
    if (!to->first)
        to->last = &to->first;
    check_not_closed(&to->mux, packet);
    const char *why;
    int result = mux_input(&to->mux, packet->bytes, packet->len, now_ns, &why);
    cr_assert_eq(result, 0, "%s", why);
    free(packet);
    return true;
}

static bool transmit(struct side *from) {
    struct side *to = &sides[from == &sides[0]];
    uint8_t control[MUX_CONTROL_BYTES];
    uint32_t len = 0;
    struct slot *slot = NULL;
    bool pending = mux_pending(&from->mux);
    enum mux_kind kind = mux_next(&from->mux, now_ns, control, sizeof control, &len, &slot);
    cr_assert(pending || kind == MUX_NOTHING);
    if (kind == MUX_NOTHING)
        return false;
    if (kind == MUX_DATA)
        len = slot->len + MUX_DATA_HEADER_BYTES;
    struct packet *packet = malloc(sizeof *packet + len);
    packet->next = NULL;
    packet->len = len;
    memcpy(packet->bytes, kind == MUX_DATA ? slot->data - MUX_DATA_HEADER_BYTES : control, len);
    if (slot)
        slot_put(&from->slots, slot);
    *to->last = packet;
    to->last = &packet->next;
    return true;
}

static void open_pair(void) {
    struct end *end = &ends[pairs][0];
    struct side *side = &sides[random_below(rng, 2)];
    for (unsigned i = 0; i < 2; i++) {
        ends[pairs][i].seed = random_u32(rng);
        ends[pairs][i].quota = random_below(rng, 32u << random_below(rng, 8));
        ends[pairs][i].peer = &ends[pairs][!i];
    }
    int result = mux_open_direct(&side->mux, &end->flow, &flow_ops, end, "h", (uint16_t)pairs, "o", 1);
    cr_assert(result == 0 || result == ERR_LIMIT);
    if (result == 0) {
        end->used = true;
        pairs++;
    }
}

static bool can_send(const struct end *end) {
    return end->flow.phase == FLOW_OPEN && end->wants_room && !end->ended && !end->aborted_self;
}
/* Like a connection with credit: sends only when told that there is room, and asks again when it has used it. */
static void send_some(struct end *end) {
    struct side *side = side_of(&end->flow);
    uint64_t room = flow_room(&end->flow);
    struct slot *slot = room > 0 ? slot_take(&side->slots) : NULL;
    if (slot) {
        uint32_t most = end->flow.peer_packet_max < room ? end->flow.peer_packet_max : (uint32_t)room;
        slot->len = random_chance(rng, 2) ? most : 1 + random_below(rng, most);
        for (uint32_t i = 0; i < slot->len; i++)
            slot->data[i] = byte_at(end->seed, end->sent + i);
        end->sent += slot->len;
        flow_send(&end->flow, slot);
        room = flow_room(&end->flow);
    }
    end->wants_room = room > 0;
}

static void read_some(struct end *end) {
    uint32_t bytes = random_chance(rng, 3) ? (uint32_t)end->unread : 1 + random_below(rng, (uint32_t)end->unread);
    end->unread -= bytes;
    flow_consumed(&end->flow, bytes);
}

static void end_sending(struct end *end) {
    uint8_t data[8] = {0};
    codec_put_u32(data + 4, (uint32_t)end->sent);
    end->ended = true;
    end->word_said = end->flow.phase == FLOW_OPEN && random_chance(rng, 3);
    if (end->word_said)
        cr_assert_eq(flow_request(&end->flow, "word", data, sizeof data), 0);
    flow_end(&end->flow);
}

static void leave(struct end *end) {
    if (!end->ended)
        end_sending(end);
    end->left = true;
    flow_close(&end->flow);
}

static void answer(struct end *end) {
    if (random_chance(rng, 6)) {
        flow_refuse(&end->flow, OPEN_CONNECT_FAILED, "refused");
        end->aborted_self = true;
    } else {
        end->opened = end->wants_room = true;
        flow_confirm(&end->flow);
    }
}

static void act(struct end *end) {
    if (!end->used && !end->asked)
        return;
    uint32_t choice = random_below(rng, 64);
    bool live = !is_over(end) && !end->aborted_self && !end->aborted_by_peer;
    if (end->flow.phase == FLOW_ASKED && live && choice < 16)
        answer(end);
    else if (choice < 40 && can_send(end))
        send_some(end);
    else if (choice < 56 && end->unread > 0)
        read_some(end);
    else if (choice < 58 && end->eof && end->unread == 0 && !end->drained)
        flow_drained(&end->flow), end->drained = true;
    else if (choice == 58 && live && !end->ended && (end->opened || end->used) && random_chance(rng, 3))
        end_sending(end);
    else if (choice == 60 && live && end->flow.phase == FLOW_OPEN && random_chance(rng, 6))
        leave(end);
    else if (choice == 59 && live && random_chance(rng, 6))
        end->aborted_self = true, flow_abort(&end->flow);
}

static void step(void) {
    now_ns += random_below(rng, 1000000);
    struct side *side = &sides[random_below(rng, 2)];
    uint32_t choice = random_below(rng, 100);
    if (choice < 4 && pairs < PAIRS_MAX) {
        open_pair();
    } else if (choice < 6) {
        uint8_t data[4];
        codec_put_u32(data, side->requests_made);
        int result = mux_global_request(&side->mux, "count", data, 4, on_reply, side);
        side->requests_made += result == 0;
    } else if (choice < 26) {
        transmit(side);
    } else if (choice < 46) {
        deliver(side);
    } else if (pairs > 0) {
        act(&ends[random_below(rng, pairs)][random_below(rng, 2)]);
    }
    mux_validate(&side->mux);
}

/* Nothing new: what is under way is finished by everybody. Returns whether anything moved. */
static bool finish(struct end *end) {
    if ((!end->used && !end->asked) || is_over(end) || end->aborted_self || end->aborted_by_peer)
        return false;
    if (end->flow.phase == FLOW_ASKED)
        answer(end);
    else if (end->unread > 0)
        read_some(end);
    else if (end->eof && !end->drained)
        flow_drained(&end->flow), end->drained = true;
    else if (end->opened && !end->ended && end->sent >= end->quota)
        end_sending(end);
    else if (can_send(end))
        send_some(end);
    else
        return false;
    return true;
}

static void run_down(void) {
    uint32_t idle = 0;
    while (idle < 3) {
        bool moved = false;
        now_ns += 1000;
        for (unsigned i = 0; i < 2; i++) {
            while (transmit(&sides[i]))
                moved = true;
            while (deliver(&sides[!i]))
                moved = true;
        }
        for (uint32_t i = 0; i < pairs; i++)
            for (unsigned k = 0; k < 2; k++)
                moved = finish(&ends[i][k]) || moved;
        mux_validate(&sides[0].mux);
        mux_validate(&sides[1].mux);
        idle = moved ? 0 : idle + 1;
    }
}

static void check_pair(uint32_t i) {
    for (unsigned k = 0; k < 2; k++) {
        struct end *end = &ends[i][k], *peer = end->peer;
        cr_assert(is_over(end) || !(end->used || end->asked), "pair %u end %u life %u", i, k, end->flow.life);
        cr_assert(peer->received <= end->sent);
        bool whole = !end->aborted_self && !peer->aborted_self && !end->aborted_by_peer && !peer->aborted_by_peer;
        if (whole && !peer->left && end->opened && peer->opened)
            cr_assert(peer->received == end->sent && peer->eof, "pair %u: %lu of %lu", i, peer->received, end->sent);
        cr_assert(!end->aborted_by_peer || peer->aborted_self);
    }
}

static void sides_deinit(void) {
    for (unsigned i = 0; i < 2; i++) {
        struct side *side = &sides[i];
        cr_assert_eq(side->replies_seen, side->requests_made);
        mux_validate(&side->mux);
        mux_deinit(&side->mux);
        cr_assert_eq(atomic_load(&side->budget.used), 0);
        slot_pool_deinit(&side->slots);
        while (side->first) {
            struct packet *packet = side->first;
            side->first = packet->next;
            free(packet);
        }
    }
}

static void conversation(uint64_t *seed) {
    rng = seed;
    sides_init();
    uint32_t steps = random_below(rng, 2 * STEPS);
    for (uint32_t i = 0; i < steps; i++)
        step();
    if (random_chance(rng, 4)) { /* the connection breaks */
        mux_shutdown(&sides[0].mux);
        mux_shutdown(&sides[1].mux);
    } else {
        run_down();
    }
    for (uint32_t i = 0; i < pairs; i++)
        if (!sides[0].mux.shut)
            check_pair(i);
    sides_deinit();
}

Test(mux_model, conversations, .fini = seed_report) {
    seed_each(2000, conversation);
}
