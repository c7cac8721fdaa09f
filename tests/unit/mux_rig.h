#pragma once
/* A mux with a scripted peer: packets are put in by field, what comes out is read by field, callbacks are counted. */
#include "engine/limits.h"
#include "seed.h"
#include "ssh/mux_internal.h"
#include <criterion/criterion.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

/* A flow and what its owner was told. */
struct probe {
    struct flow flow;
    unsigned opened, refused, aborted, closed, eof, room;
    unsigned chunks; /* calls of on_data */
    uint64_t received;
    uint32_t reason;
    char text[64];
    unsigned requests;
    bool request_answer;                   /* what the next request gets */
    void (*while_asked)(struct probe *of); /* what the owner does before it answers; may be NULL */
    char request_name[64];
    uint8_t request_data[64];
    uint32_t request_len;
};

struct rig {
    struct slot_pool slots;
    struct window_budget budget;
    struct mux mux;
    struct probe *next_asked; /* what the next CHANNEL_OPEN gets; NULL: refused */
    unsigned opens, globals;
    struct mux_open last_open;
    bool global_answer;
    uint64_t now_ns;
    const char *why;
    uint8_t out[MUX_CONTROL_BYTES + LIMIT_CHANNEL_PACKET_BYTES];
    uint32_t out_len;
};

static inline struct probe *probe_of(struct flow *flow) {
    return flow->owner;
}
static void probe_opened(struct flow *flow) {
    probe_of(flow)->opened++;
}
static void probe_refused(struct flow *flow, uint32_t reason, const char *text) {
    struct probe *probe = probe_of(flow);
    probe->refused++;
    probe->reason = reason;
    strncpy(probe->text, text, sizeof probe->text - 1);
}
static void probe_data(struct flow *flow, uint8_t *data, uint32_t len) {
    (void)data;
    probe_of(flow)->chunks++;
    probe_of(flow)->received += len;
}
static void probe_room(struct flow *flow) {
    probe_of(flow)->room++;
}
static void probe_eof(struct flow *flow) {
    probe_of(flow)->eof++;
}
static void probe_aborted(struct flow *flow) {
    probe_of(flow)->aborted++;
}
static void probe_closed(struct flow *flow) {
    probe_of(flow)->closed++;
}
static bool probe_request(struct flow *flow, struct bytes name, struct bytes data) {
    struct probe *probe = probe_of(flow);
    probe->requests++;
    snprintf(probe->request_name, sizeof probe->request_name, "%.*s", (int)name.len, (const char *)name.at);
    probe->request_len = data.len;
    memcpy(probe->request_data, data.at, data.len < sizeof probe->request_data ? data.len : 0);
    if (probe->while_asked)
        probe->while_asked(probe);
    return probe->request_answer;
}
static const struct flow_ops probe_ops = {
    .on_opened = probe_opened,
    .on_refused = probe_refused,
    .on_data = probe_data,
    .on_room = probe_room,
    .on_request = probe_request,
    .on_eof = probe_eof,
    .on_aborted = probe_aborted,
    .on_closed = probe_closed,
};

static struct flow *rig_on_open(struct mux *mux, const struct mux_open *open, uint32_t *reason, const char **text) {
    struct rig *rig = mux->owner;
    rig->opens++;
    rig->last_open = *open;
    struct probe *probe = rig->next_asked;
    if (!probe) {
        *reason = OPEN_UNKNOWN_CHANNEL_TYPE;
        *text = "no such thing";
        return NULL;
    }
    *probe = (struct probe){0};
    flow_init_asked(&probe->flow, &probe_ops, probe);
    return &probe->flow;
}
static bool rig_on_global(struct mux *mux, struct bytes name, struct bytes data, uint8_t *reply, uint32_t *reply_len) {
    struct rig *rig = mux->owner;
    rig->globals++;
    (void)name;
    (void)data;
    if (rig->global_answer) {
        codec_put_u32(reply, 4711);
        *reply_len = 4;
    }
    return rig->global_answer;
}
static const struct mux_ops rig_ops = {.on_open = rig_on_open, .on_global = rig_on_global};

static inline void rig_init(struct rig *rig) {
    memset(rig, 0, sizeof *rig);
    cr_assert_eq(slot_pool_init(&rig->slots, LIMIT_CHANNEL_PACKET_BYTES, 1024), 0);
    window_budget_init(&rig->budget, UINT64_C(1) << 40);
    mux_init(&rig->mux, &rig_ops, rig, &rig->slots, &rig->budget, LIMIT_WINDOW_OPENSSH_BYTES);
    rig->now_ns = 1000;
}
static inline void rig_deinit(struct rig *rig) {
    mux_shutdown(&rig->mux);
    mux_validate(&rig->mux);
    mux_deinit(&rig->mux);
    cr_assert_eq(atomic_load(&rig->budget.used), 0);
    slot_pool_deinit(&rig->slots);
}

/* Feeds a packet from memory of exactly its size, so that a read past its end is seen by ASan. */
static inline int rig_feed(struct rig *rig, const uint8_t *packet, uint32_t len) {
    uint8_t *copy = malloc(len ? len : 1);
    if (len > 0)
        memcpy(copy, packet, len);
    int result = mux_input(&rig->mux, copy, len, rig->now_ns, &rig->why);
    free(copy);
    mux_validate(&rig->mux);
    return result;
}

/* fields: u uint32, s text, b boolean, z that many zero bytes as a string */
static inline uint32_t build_packet(uint8_t *packet, uint32_t cap, uint8_t type, const char *fields, va_list list) {
    struct writer writer;
    writer_init(&writer, packet, cap);
    writer_u8(&writer, type);
    for (; *fields; fields++) {
        if (*fields == 'u') {
            writer_u32(&writer, va_arg(list, uint32_t));
        } else if (*fields == 's') {
            writer_text(&writer, va_arg(list, const char *));
        } else if (*fields == 'b') {
            writer_bool(&writer, va_arg(list, int) != 0);
        } else {
            uint32_t len = va_arg(list, uint32_t);
            uint8_t *zeros = calloc(1, len + 1);
            writer_string(&writer, zeros, len);
            free(zeros);
        }
    }
    cr_assert(writer_ok(&writer));
    return writer_len(&writer);
}
static inline int rig_put(struct rig *rig, uint8_t type, const char *fields, ...) {
    static uint8_t packet[200000];
    va_list list;
    va_start(list, fields);
    uint32_t len = build_packet(packet, sizeof packet, type, fields, list);
    va_end(list);
    return rig_feed(rig, packet, len);
}

/* The next packet's type, its bytes in rig->out; 0: nothing. */
static inline uint8_t rig_next(struct rig *rig) {
    struct slot *slot = NULL;
    bool pending = mux_pending(&rig->mux);
    enum mux_kind kind = mux_next(&rig->mux, rig->now_ns, rig->out, MUX_CONTROL_BYTES, &rig->out_len, &slot);
    if (kind == MUX_DATA) {
        rig->out_len = slot->len + MUX_DATA_HEADER_BYTES;
        memcpy(rig->out, slot->data - MUX_DATA_HEADER_BYTES, rig->out_len);
        slot_put(&rig->slots, slot);
    }
    mux_validate(&rig->mux);
    cr_assert(pending || kind == MUX_NOTHING);
    return kind == MUX_NOTHING ? 0 : rig->out[0];
}
static inline uint32_t rig_u32(const struct rig *rig, unsigned field) {
    return codec_get_u32(rig->out + 1 + 4 * field);
}
#define rig_expect(rig, type) cr_assert_eq(rig_next(rig), (type), "expected message %d, got %d", (type), (rig)->out[0])
static inline void rig_expect_nothing(struct rig *rig) {
    cr_assert_eq(rig_next(rig), 0);
    cr_assert_not(mux_pending(&rig->mux));
}

static inline void rig_text(struct reader *reader, const char *expected) {
    struct bytes text = reader_string(reader);
    cr_assert(bytes_equal(text, expected), "expected %s, got %.*s", expected, (int)text.len, (const char *)text.at);
}

#define PEER_ID 77u
#define PEER_WINDOW 100000u
#define PEER_PACKET 30000u

static inline void rig_open(struct rig *rig, struct probe *probe) {
    *probe = (struct probe){0};
    int result = mux_open_direct(&rig->mux, &probe->flow, &probe_ops, probe, "host", 80, "127.0.0.1", 4000);
    cr_assert_eq(result, 0);
}
/* Our CHANNEL_OPEN is out. */
static inline void rig_open_sent(struct rig *rig, struct probe *probe) {
    rig_open(rig, probe);
    rig_expect(rig, MSG_CHANNEL_OPEN);
}
static inline int rig_confirm(struct rig *rig, struct probe *probe) {
    return rig_put(rig, MSG_CHANNEL_OPEN_CONFIRMATION, "uuuu", probe->flow.id, PEER_ID, PEER_WINDOW, PEER_PACKET);
}
static inline void rig_connect(struct rig *rig, struct probe *probe) {
    rig_open_sent(rig, probe);
    cr_assert_eq(rig_confirm(rig, probe), 0);
    cr_assert_eq(probe->opened, 1);
}
static inline int rig_ask(struct rig *rig, struct probe *probe) {
    rig->next_asked = probe;
    return rig_put(rig, MSG_CHANNEL_OPEN, "suuususu", "forwarded-tcpip", PEER_ID, PEER_WINDOW, PEER_PACKET, "here",
                   8080u, "there", 1234u);
}
static inline void rig_send(struct rig *rig, struct probe *probe, uint32_t len) {
    struct slot *slot = slot_take(&rig->slots);
    cr_assert(slot);
    memset(slot->data, 'x', len);
    slot->len = len;
    flow_send(&probe->flow, slot);
}

/* A new rig with a real flow in that state. */
static inline void rig_reach(struct rig *rig, struct probe *probe, enum flow_life life) {
    rig_init(rig);
    switch (life) {
    case LIFE_OPENING:
    case LIFE_OPENING_ABORTED:
        rig_open_sent(rig, probe);
        if (life == LIFE_OPENING_ABORTED)
            flow_abort(&probe->flow);
        break;
    case LIFE_ASKED:
    case LIFE_REFUSING:
        cr_assert_eq(rig_ask(rig, probe), 0);
        if (life == LIFE_REFUSING)
            flow_refuse(&probe->flow, OPEN_CONNECT_FAILED, "refused");
        break;
    default:
        rig_connect(rig, probe);
        if (life == LIFE_CLOSE_ANSWER || life == LIFE_CLOSED)
            cr_assert_eq(rig_put(rig, MSG_CHANNEL_CLOSE, "u", probe->flow.id), 0);
        if (life == LIFE_CLOSE_DUE || life == LIFE_CLOSE_SENT)
            flow_abort(&probe->flow);
        if (life == LIFE_CLOSE_SENT || life == LIFE_CLOSED)
            rig_expect(rig, MSG_CHANNEL_CLOSE);
    }
    cr_assert_eq(probe->flow.life, life);
}
