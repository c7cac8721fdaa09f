#include "ssh/mux.h"
#include "engine/check.h"
#include "engine/limits.h"
#include "ssh/mux_internal.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NO_NUMBER UINT32_MAX
#define TABLE_START 16u
_Static_assert(LIMIT_FLOWS_PER_SESSION % TABLE_START == 0 &&
                   (LIMIT_FLOWS_PER_SESSION & (LIMIT_FLOWS_PER_SESSION - 1)) == 0,
               "doubling ends at the limit");
/* A host name is at most 255 bytes (RFC 1035); an address with a zone and a socket's path (108) are shorter. All fit a
 * control packet well. */
#define NAME_BYTES_MAX 255u

void mux_init(struct mux *mux, const struct mux_ops *ops, void *owner, struct slot_pool *slots,
              struct window_budget *budget, uint32_t window_max) {
    CHECK(ops->on_open && ops->on_global && window_max > 0);
    *mux = (struct mux){
        .ops = ops,
        .owner = owner,
        .slots = slots,
        .budget = budget,
        .window_max = window_max,
        .grant_most = UINT32_MAX,
        .packet_max = LIMIT_CHANNEL_PACKET_BYTES,
        .free_first = NO_NUMBER,
    };
    list_init(&mux->control);
    list_init(&mux->fresh);
    list_init(&mux->ready);
    list_init(&mux->replies_pending);
    mux->blobs_last = &mux->blobs_first;
}

static void fail_reply(struct mux *mux, struct mux_reply *reply) {
    mux_reply_fn *fn = reply->fn;
    void *arg = reply->arg;
    mux->replies_pending_count--;
    free(reply);
    fn(arg, false, (struct bytes){0});
}

static void shut_replies(struct mux *mux) {
    struct list *node;
    while ((node = list_first(&mux->replies_pending))) {
        list_remove(node);
        fail_reply(mux, list_entry(node, struct mux_reply, node));
    }
    struct mux_blob *blob;
    while ((blob = mux_pop_blob(mux))) {
        struct mux_reply *reply = blob->reply;
        free(blob);
        if (reply)
            fail_reply(mux, reply);
    }
}

void mux_shutdown(struct mux *mux) {
    if (mux->shut)
        return;
    mux->shut = true;
    for (uint32_t id = 0; id < mux->flows_size; id++) {
        struct flow *flow = mux->flows[id];
        if (!flow)
            continue;
        flow->dead = true;
        flow->refusal_reason = OPEN_CONNECT_FAILED;
        int result = flow_event(flow, EVENT_GONE, "session closed");
        CHECK(result == 0);
    }
    shut_replies(mux);
}

void mux_deinit(struct mux *mux) {
    CHECK(mux->flows_count == 0 && mux->queued_bytes == 0 && mux->queued_slots == 0 && mux->flows_queued == 0);
    mux_shutdown(mux);
    free(mux->flows);
    free(mux->free_next);
    mux->flows = NULL;
    mux->free_next = NULL;
    mux->flows_size = 0;
}

/* Both arrays or neither are of the new size; the new numbers are free, lowest first. */
static int grow_table(struct mux *mux) {
    uint32_t old = mux->flows_size, size = old ? old * 2 : TABLE_START;
    if (old == LIMIT_FLOWS_PER_SESSION)
        return ERR_LIMIT;
    struct flow **flows = realloc(mux->flows, size * sizeof *flows);
    if (!flows)
        return ERR_NOMEM;
    mux->flows = flows;
    uint32_t *free_next = realloc(mux->free_next, size * sizeof *free_next);
    if (!free_next)
        return ERR_NOMEM;
    mux->free_next = free_next;
    for (uint32_t id = size; id-- > old;) {
        flows[id] = NULL;
        free_next[id] = mux->free_first;
        mux->free_first = id;
    }
    mux->flows_size = size;
    return 0;
}

int mux_take_number(struct mux *mux, uint32_t *id) {
    if (mux->free_first == NO_NUMBER) {
        int result = grow_table(mux);
        if (result < 0)
            return result;
    }
    *id = mux->free_first;
    mux->free_first = mux->free_next[*id];
    return 0;
}

void mux_put_number(struct mux *mux, uint32_t id) {
    mux->flows[id] = NULL;
    mux->free_next[id] = mux->free_first;
    mux->free_first = id;
}

/* A session has at most so many times the channels that are left for all others together. */
#define SESSION_SHARE 4u

static uint32_t least_window(const struct mux *mux) {
    return mux->window_max < LIMIT_CHANNEL_PACKET_BYTES ? mux->window_max : LIMIT_CHANNEL_PACKET_BYTES;
}

static bool has_its_share(const struct mux *mux) {
    return window_budget_left(mux->budget) < (uint64_t)least_window(mux) * mux->flows_count / SESSION_SHARE;
}

int mux_take_window(const struct mux *mux, struct window *window) {
    if (has_its_share(mux)) {
        *window = (struct window){0};
        return ERR_LIMIT;
    }
    return window_open(window, mux->budget, mux->window_max);
}

/* As it is given in a configuration. */
static void put_size(char *text, size_t cap, uint64_t bytes) {
    const char *unit = "\0KMGTPE";
    for (; bytes > 0 && bytes % 1024 == 0; bytes /= 1024)
        unit++;
    snprintf(text, cap, "%" PRIu64 "%.1s", bytes, unit);
}

bool mux_lacks_window(const struct mux *mux, char why[MUX_SHORTAGE_BYTES]) {
    char limit[32];
    if (!has_its_share(mux) && window_budget_left(mux->budget) >= least_window(mux))
        return false;
    put_size(limit, sizeof limit, mux->budget->max);
    snprintf(why, MUX_SHORTAGE_BYTES, "no room for another connection's window within MemoryLimit %s", limit);
    return true;
}

void mux_attach(struct mux *mux, struct flow *flow, uint32_t id) {
    flow->mux = mux;
    flow->slots = mux->slots;
    flow->id = id;
    mux->flows[id] = flow;
    mux->flows_count++;
}

void mux_detach(struct flow *flow) {
    struct mux *mux = flow->mux;
    CHECK(mux->flows[flow->id] == flow);
    flow->open_due = flow->confirm_due = flow->refusal_due = flow->close_due = false;
    list_remove(&flow->control);
    scheduler_remove(flow);
    flow_clear_text(flow);
    if (flow->ops->holds)
        window_close_held(&flow->window);
    else
        window_close(&flow->window);
    mux->flows_count--;
    mux_put_number(mux, flow->id);
}

void mux_raise_window(struct mux *mux, uint32_t max) {
    if (max <= mux->window_max)
        return;
    mux->window_max = max;
    for (uint32_t id = 0; id < mux->flows_size; id++)
        if (mux->flows[id])
            mux->flows[id]->window.max = max;
}

/* What a channel is opened for: a host and a port, or with origin NULL the path of a socket, or with host NULL neither;
 * then the key of a striped connection, if there is one, and with neither host nor path the lane that joins it. */
struct open_target {
    const char *type, *host, *origin;
    uint16_t port, origin_port;
    const uint8_t *key;
    uint32_t lane;
};

static void put_target(struct writer *writer, const struct open_target *target) {
    if (target->host)
        writer_text(writer, target->host);
    if (target->host && target->origin) {
        writer_u32(writer, target->port);
        writer_text(writer, target->origin);
        writer_u32(writer, target->origin_port);
    } else if (target->host) {
        writer_text(writer, ""); /* reserved */
    }
    if (target->key)
        writer_string(writer, target->key, MUX_STRIPE_KEY_BYTES);
    if (target->key && !target->host)
        writer_u32(writer, target->lane);
}

static bool is_too_long(const char *name) {
    return name && strlen(name) > NAME_BYTES_MAX;
}

static int encode_open(struct mux *mux, struct flow *flow, const struct open_target *target) {
    uint8_t packet[MUX_CONTROL_BYTES];
    struct writer writer;
    writer_init(&writer, packet, sizeof packet);
    writer_u8(&writer, MSG_CHANNEL_OPEN);
    writer_text(&writer, target->type);
    writer_u32(&writer, flow->id);
    writer_u32(&writer, flow->window.granted);
    writer_u32(&writer, mux->packet_max);
    put_target(&writer, target);
    CHECK(writer_ok(&writer));
    return flow_set_text(flow, packet, writer_len(&writer));
}

static int open_channel(struct mux *mux, struct flow *flow, const struct open_target *target) {
    if (mux->shut)
        return ERR_CLOSED;
    if (is_too_long(target->host) || is_too_long(target->origin))
        return ERR_LENGTH;
    uint32_t id;
    int result = mux_take_window(mux, &flow->window);
    if (result == 0)
        result = mux_take_number(mux, &id);
    if (result < 0) {
        window_close(&flow->window);
        return result;
    }
    mux_attach(mux, flow, id);
    result = encode_open(mux, flow, target);
    if (result < 0) {
        mux_detach(flow);
        return result;
    }
    flow->open_due = true;
    flow_touch(flow);
    return 0;
}

int mux_open_direct(struct mux *mux, struct flow *flow, const struct flow_ops *ops, void *owner, const char *host,
                    uint16_t port, const char *origin, uint16_t origin_port) {
    const struct open_target target = {
        .type = "direct-tcpip", .host = host, .origin = origin, .port = port, .origin_port = origin_port};
    flow_init(flow, ops, owner, LIFE_OPENING);
    return open_channel(mux, flow, &target);
}

int mux_open_forwarded(struct mux *mux, struct flow *flow, const struct flow_ops *ops, void *owner, const char *host,
                       uint16_t port, const char *origin, uint16_t origin_port) {
    const struct open_target target = {
        .type = "forwarded-tcpip", .host = host, .origin = origin, .port = port, .origin_port = origin_port};
    flow_init(flow, ops, owner, LIFE_OPENING);
    return open_channel(mux, flow, &target);
}

int mux_open_forwarded_path(struct mux *mux, struct flow *flow, const struct flow_ops *ops, void *owner,
                            const char *path) {
    const struct open_target target = {.type = "forwarded-streamlocal@openssh.com", .host = path};
    flow_init(flow, ops, owner, LIFE_OPENING);
    return open_channel(mux, flow, &target);
}

int mux_open_stripe(struct mux *mux, struct flow *flow, const struct flow_ops *ops, void *owner, const char *host,
                    uint16_t port, const char *origin, uint16_t origin_port, const uint8_t *key) {
    const struct open_target target = {
        .type = "stripe@leat", .host = host, .origin = origin, .port = port, .origin_port = origin_port, .key = key};
    flow_init(flow, ops, owner, LIFE_OPENING);
    return open_channel(mux, flow, &target);
}

int mux_open_stripe_join(struct mux *mux, struct flow *flow, const struct flow_ops *ops, void *owner,
                         const uint8_t *key, uint32_t lane) {
    const struct open_target target = {.type = "stripe-join@leat", .key = key, .lane = lane};
    flow_init(flow, ops, owner, LIFE_OPENING);
    return open_channel(mux, flow, &target);
}

static struct mux_blob *push_blob(struct mux *mux, const struct writer *packet) {
    uint32_t len = writer_len(packet);
    struct mux_blob *blob = malloc(sizeof *blob + len);
    if (!blob)
        return NULL;
    *blob = (struct mux_blob){.len = len};
    memcpy(blob->bytes, packet->start, len);
    *mux->blobs_last = blob;
    mux->blobs_last = &blob->next;
    return blob;
}

struct mux_blob *mux_pop_blob(struct mux *mux) {
    struct mux_blob *blob = mux->blobs_first;
    if (!blob)
        return NULL;
    mux->blobs_first = blob->next;
    if (!mux->blobs_first)
        mux->blobs_last = &mux->blobs_first;
    if (blob->is_answer)
        mux->answers_count--;
    return blob;
}

int mux_answer(struct mux *mux, const struct writer *packet) {
    CHECK(writer_ok(packet));
    if (mux->answers_count == LIMIT_GLOBAL_REQUESTS_PENDING)
        return ERR_LIMIT;
    struct mux_blob *blob = push_blob(mux, packet);
    if (!blob)
        return ERR_NOMEM;
    blob->is_answer = true;
    mux->answers_count++;
    return 0;
}

int mux_global_request(struct mux *mux, const char *name, const void *data, uint32_t len, mux_reply_fn *on_reply,
                       void *arg) {
    if (mux->shut)
        return ERR_CLOSED;
    if (mux->replies_pending_count == LIMIT_GLOBAL_REQUESTS_PENDING)
        return ERR_LIMIT;
    uint8_t packet[MUX_CONTROL_BYTES];
    struct writer writer;
    writer_init(&writer, packet, sizeof packet);
    writer_u8(&writer, MSG_GLOBAL_REQUEST);
    writer_text(&writer, name);
    writer_bool(&writer, on_reply != NULL);
    writer_raw(&writer, data, len);
    if (!writer_ok(&writer))
        return ERR_LENGTH;
    struct mux_reply *reply = on_reply ? malloc(sizeof *reply) : NULL;
    if (on_reply && !reply)
        return ERR_NOMEM;
    struct mux_blob *blob = push_blob(mux, &writer);
    if (!blob) {
        free(reply);
        return ERR_NOMEM;
    }
    blob->reply = reply;
    if (reply) {
        *reply = (struct mux_reply){.fn = on_reply, .arg = arg};
        mux->replies_pending_count++;
    }
    return 0;
}

int mux_tcpip_forward(struct mux *mux, bool cancel, const char *address, uint16_t port, mux_reply_fn *on_reply,
                      void *arg) {
    uint8_t data[NAME_BYTES_MAX + 8];
    struct writer writer;
    writer_init(&writer, data, sizeof data);
    writer_text(&writer, address);
    writer_u32(&writer, port);
    if (!writer_ok(&writer))
        return ERR_LENGTH;
    return mux_global_request(mux, cancel ? "cancel-tcpip-forward" : "tcpip-forward", data, writer_len(&writer),
                              on_reply, arg);
}

static uint32_t count_list(const struct list *head) {
    uint32_t count = 0;
    list_for_each (node, head)
        count++;
    return count;
}

static void validate_blobs(const struct mux *mux) {
    uint32_t answers = 0, replies = count_list(&mux->replies_pending);
    struct mux_blob *const *last = &mux->blobs_first;
    for (; *last; last = &(*last)->next) {
        answers += (*last)->is_answer;
        replies += (*last)->reply != NULL;
    }
    CHECK(mux->blobs_last == last);
    CHECK(answers == mux->answers_count && answers <= LIMIT_GLOBAL_REQUESTS_PENDING);
    CHECK(replies == mux->replies_pending_count && replies <= LIMIT_GLOBAL_REQUESTS_PENDING);
}

void mux_validate(const struct mux *mux) {
    uint32_t flows = 0, spare = 0, control = 0, scheduled = 0;
    uint64_t queued = 0;
    uint32_t queued_slots = 0, queued_flows = 0;
    for (uint32_t id = 0; id < mux->flows_size; id++) {
        const struct flow *flow = mux->flows[id];
        if (!flow)
            continue;
        CHECK(flow->mux == mux && flow->id == id && flow->phase != FLOW_CLOSED);
        flow_validate(flow);
        flows++;
        control += list_linked(&flow->control);
        scheduled += list_linked(&flow->ready);
        queued += flow->queue.bytes;
        queued_slots += flow->queue.count;
        queued_flows += flow->queue.count > 0;
    }
    for (uint32_t id = mux->free_first; id != NO_NUMBER; id = mux->free_next[id]) {
        CHECK(id < mux->flows_size && !mux->flows[id]);
        spare++;
    }
    CHECK(flows == mux->flows_count && flows + spare == mux->flows_size);
    CHECK(queued == mux->queued_bytes && queued_slots == mux->queued_slots && queued_flows == mux->flows_queued);
    CHECK(control == count_list(&mux->control));
    CHECK(scheduled == count_list(&mux->fresh) + count_list(&mux->ready));
    validate_blobs(mux);
}
