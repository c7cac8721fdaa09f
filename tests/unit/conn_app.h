#pragma once
/* An owner of a conn that checks what it is told, and feeds it. */
#include "engine/conn.h"
#include "tests/unit/engine_rig.h"

enum app_event { APP_NONE, APP_SLOT, APP_EOF, APP_WRITTEN, APP_FINISHED, APP_RESET };

struct app {
    struct conn conn;
    struct rxbuf rx;
    uint64_t received, fed, written, credit_refill;
    unsigned slots_max; /* most slots out of the pool that were seen in on_slot */
    bool keep, eof, finished, closed, ended;
    int reset;
    struct slot_queue kept;
    enum app_event end_on; /* close (or abort) from within this callback */
    bool end_by_abort;
};

static inline void app_end(struct app *app) {
    app->ended = true;
    if (app->end_by_abort)
        conn_abort(&app->conn);
    else
        conn_close(&app->conn);
    cr_assert(!app->closed, "on_closed came from within conn_close");
}

static inline void app_event(struct app *app, enum app_event event) {
    cr_assert(!app->ended && !app->closed, "callback %d after the end", event);
    if (app->end_on == event)
        app_end(app);
}

static inline void app_on_slot(struct conn *conn, struct slot *slot) {
    struct app *app = conn->owner;
    struct slot_pool *pool = &conn->shard->slots;
    cr_assert(!app->eof && slot->len > 0 && slot->len <= pool->payload_max);
    cr_assert(rig_matches(slot->data, slot->len, app->received));
    app->received += slot->len;
    if (pool->count - pool->free_count > app->slots_max)
        app->slots_max = pool->count - pool->free_count;
    if (app->keep)
        slot_queue_push(&app->kept, slot);
    else
        slot_put(pool, slot);
    app_event(app, APP_SLOT);
    if (!app->ended && app->credit_refill > 0)
        conn_set_credit(conn, app->credit_refill);
}

static inline void app_on_eof(struct conn *conn) {
    struct app *app = conn->owner;
    cr_assert(!app->eof);
    app->eof = true;
    app_event(app, APP_EOF);
}

static inline void app_on_written(struct conn *conn, uint64_t bytes) {
    struct app *app = conn->owner;
    app->written += bytes;
    cr_assert(bytes > 0 && app->written <= app->fed && !app->finished);
    app_event(app, APP_WRITTEN);
}

static inline void app_on_finished(struct conn *conn) {
    struct app *app = conn->owner;
    cr_assert(!app->finished && app->written == app->fed && conn_queued(conn) == 0);
    app->finished = true;
    app_event(app, APP_FINISHED);
}

static inline void app_on_reset(struct conn *conn, int err) {
    struct app *app = conn->owner;
    cr_assert(app->reset == 0 && err < 0);
    app->reset = err;
    app_event(app, APP_RESET);
}

static inline void app_on_closed(struct conn *conn) {
    struct app *app = conn->owner;
    cr_assert(!app->closed && app->ended && conn->fd == -1);
    app->closed = true;
}

static const struct conn_ops app_ops = {.on_slot = app_on_slot,
                                        .on_eof = app_on_eof,
                                        .on_written = app_on_written,
                                        .on_finished = app_on_finished,
                                        .on_reset = app_on_reset,
                                        .on_closed = app_on_closed};

static inline void app_init(struct app *app, struct shard *shard, int fd) {
    *app = (struct app){0};
    slot_queue_init(&app->kept);
    rxbuf_init(&app->rx, &shard->rings);
    conn_init(&app->conn, shard, &app_ops, app, fd, LIMIT_CHANNEL_PACKET_BYTES);
}

static inline void app_release_kept(struct app *app) {
    struct slot *slot;
    while ((slot = slot_queue_pop(&app->kept)) != NULL)
        slot_put(&app->conn.shard->slots, slot);
}

static inline void app_deinit(struct app *app) {
    cr_assert(app->closed);
    app_release_kept(app);
    cr_assert_null(rxbuf_oldest(&app->rx), "a slice was not released");
    rxbuf_deinit(&app->rx);
}

/* Receives len bytes of the pattern into the session's ring and queues them as one slice. False: no room. */
static inline bool app_feed_slice(struct app *app, uint32_t len) {
    uint8_t *data;
    size_t space;
    if (rxbuf_space(&app->rx, len, &data, &space) < 0)
        return false;
    rig_fill(data, len, app->fed);
    rxbuf_filled(&app->rx, len);
    struct slice *slice = rxbuf_hold(&app->rx, rxbuf_unparsed(&app->rx, &space), len);
    rxbuf_parsed(&app->rx, len);
    if (!slice)
        abort();
    app->fed += len;
    conn_write_slice(&app->conn, &app->rx, slice);
    return true;
}

static inline void app_feed_copy(struct app *app, uint32_t len) {
    uint8_t data[4096];
    cr_assert(len <= sizeof data);
    rig_fill(data, len, app->fed);
    app->fed += len;
    cr_assert_eq(conn_write_copy(&app->conn, data, len), 0);
}
