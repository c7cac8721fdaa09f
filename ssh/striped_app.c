/* The application's side of a striped connection. */
#include "engine/limits.h"
#include "ssh/striped_internal.h"

/* What it has said goes in as far as there is room, which may have become less since it was read. */
static void app_give(struct striped *striped) {
    struct slot *slot;
    while ((slot = striped->early.first) != NULL && striped_is_open(striped)) {
        uint32_t left = slot->len - striped->early_given;
        stripe_make_room(striped->stripe, left);
        uint64_t room = stripe_room(striped->stripe);
        uint32_t len = left < room ? left : (uint32_t)room;
        if (len == 0)
            return;
        if (stripe_give(striped->stripe, slot->data + striped->early_given, len) != 0) {
            striped_set_what(striped, "out of memory");
            return stripe_reset(striped->stripe);
        }
        striped->early_given += len;
        if (striped->early_given < slot->len)
            continue;
        slot_put(&striped->shard->slots, slot_queue_pop(&striped->early));
        striped->early_given = 0;
    }
}

void striped_app_drop(struct striped *striped) {
    struct slot *slot;
    while ((slot = slot_queue_pop(&striped->early)) != NULL)
        slot_put(&striped->shard->slots, slot);
}

static void app_on_slot(struct conn *conn, struct slot *slot) {
    struct striped *striped = conn->owner;
    slot_queue_push(&striped->early, slot);
    app_give(striped);
    striped_look(striped);
}

static void app_on_eof(struct conn *conn) {
    striped_look(conn->owner);
}

static void app_on_written(struct conn *conn, uint64_t bytes) {
    struct striped *striped = conn->owner;
    if (striped_is_open(striped))
        stripe_took(striped->stripe, bytes);
    striped_look(striped);
}

static void app_on_finished(struct conn *conn) {
    struct striped *striped = conn->owner;
    if (striped_is_open(striped))
        stripe_end_taken(striped->stripe);
    striped_look(striped);
}

/* What it said up to its orderly end is still delivered. */
static void app_on_reset(struct conn *conn, int err) {
    struct striped *striped = conn->owner;
    striped_set_what(striped, err_text(err));
    if (!conn->read_ended)
        stripe_reset(striped->stripe);
    conn_abort(conn);
    striped_look(striped);
}

static void app_on_closed(struct conn *conn) {
    struct striped *striped = conn->owner;
    striped->has_app = false;
    striped_look(striped);
}

const struct conn_ops striped_app_ops = {.on_slot = app_on_slot,
                                         .on_eof = app_on_eof,
                                         .on_written = app_on_written,
                                         .on_finished = app_on_finished,
                                         .on_reset = app_on_reset,
                                         .on_closed = app_on_closed};

/* One piece at a time: only what has left for it has been taken. */
static void app_feed(struct striped *striped) {
    struct conn *app = &striped->app;
    const uint8_t *data;
    if (app->finishing || conn_queued(app) > 0)
        return;
    size_t len = stripe_peek(striped->stripe, &data);
    if (len > LIMIT_STRIPE_LANE_BYTES)
        len = LIMIT_STRIPE_LANE_BYTES;
    if (len > 0 && striped_write(app, data, len) != 0) {
        striped_set_what(striped, "out of memory");
        stripe_reset(striped->stripe);
    } else if (len == 0 && stripe_ended(striped->stripe)) {
        conn_finish(app);
    }
}

static void app_read(struct striped *striped) {
    struct conn *app = &striped->app;
    app_give(striped);
    if (!striped_is_open(striped) || app->closing)
        return;
    if (app->read_ended && striped->early.count == 0)
        stripe_end(striped->stripe);
    conn_set_credit(app, striped->early.count > 0 ? 0 : stripe_room(striped->stripe));
}

/* It broke after its own end: what comes for it goes nowhere, until all that it said has arrived. */
static void app_discard(struct striped *striped) {
    const uint8_t *data;
    size_t len;
    app_give(striped);
    if (striped_is_open(striped) && striped->early.count == 0)
        stripe_end(striped->stripe);
    while ((len = stripe_peek(striped->stripe, &data)) > 0)
        stripe_took(striped->stripe, len);
    if (stripe_ended(striped->stripe))
        stripe_end_taken(striped->stripe);
    if (stripe_delivered(striped->stripe))
        stripe_reset(striped->stripe);
}

void striped_app_work(struct striped *striped) {
    if (!striped_is_open(striped))
        return;
    if (striped->app.failed || !striped->has_app)
        return app_discard(striped);
    app_feed(striped);
    app_read(striped);
}
