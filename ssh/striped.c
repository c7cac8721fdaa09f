#include "ssh/striped.h"
#include "engine/check.h"
#include "engine/limits.h"
#include "ssh/mux.h"
#include "ssh/striped_internal.h"
#include <openssl/crypto.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

_Static_assert(STRIPED_KEY_BYTES == MUX_STRIPE_KEY_BYTES, "the wire's and ours are the same");

static void linger(struct striped *striped) {
    striped->linger_gone = stripe_bytes_gone(striped->stripe);
    timer_arm(&striped->shard->timers, &striped->linger, shard_now(striped->shard) + LIMIT_STRIPE_LINGER_NS);
}

/* What an application has said before it went may take longer, as long as some of it arrives. */
static void on_linger(struct timer *timer) {
    struct striped *striped = list_entry(timer, struct striped, linger);
    if (striped_is_open(striped) && stripe_bytes_gone(striped->stripe) > striped->linger_gone)
        return linger(striped);
    stripe_reset(striped->stripe);
    striped_lanes_abort(striped);
    striped_look(striped);
}

/* Once it is over on its inside, or the application has gone before that: the rest is bounded in time. */
static void check_end(struct striped *striped) {
    bool app_is_gone = striped->app.failed || !striped->has_app;
    if ((!striped_is_open(striped) || app_is_gone) && !timer_armed(&striped->linger))
        linger(striped);
    if (striped_is_open(striped))
        return;
    striped_entry_leave(striped->entry);
    striped->entry = NULL;
    striped_app_drop(striped);
    if (!striped->has_app)
        return;
    if (stripe_state(striped->stripe) == STRIPE_DONE)
        conn_close(&striped->app);
    else
        conn_abort(&striped->app);
}

static bool is_over(const struct striped *striped) {
    for (unsigned i = 0; i < STRIPE_LANES_MAX; i++)
        if (striped->lanes[i] != NULL)
            return false;
    return !striped->has_app && !striped_is_open(striped);
}

static void striped_free(struct striped *striped) {
    timer_cancel(&striped->shard->timers, &striped->linger);
    shard_undefer(&striped->work);
    striped_app_drop(striped);
    stripe_destroy(striped->stripe);
    OPENSSL_cleanse(striped->key, sizeof striped->key);
    free(striped);
}

struct striped_state striped_state(const struct striped *striped) {
    return (struct striped_state){.bytes_to_peer = stripe_bytes_out(striped->stripe),
                                  .bytes_from_peer = stripe_bytes_in(striped->stripe),
                                  .lanes = stripe_lanes(striped->stripe),
                                  .lanes_most = striped->lanes_most};
}

static void tell_end(struct striped *striped) {
    struct striped_state state = striped_state(striped);
    const char *what = stripe_state(striped->stripe) == STRIPE_DONE ? NULL : striped->what;
    striped->watcher->on_end(striped->owner, &state, what);
    striped_free(striped);
}

static uint64_t moved(const struct striped *striped) {
    return stripe_bytes_in(striped->stripe) + stripe_bytes_out(striped->stripe);
}

/* As long as each time one comes; else not before a while has passed and more has been moved. */
static void want_lanes(struct striped *striped) {
    unsigned lanes = stripe_lanes(striped->stripe), before = 0;
    if (striped->watcher->on_want == NULL)
        return;
    while (striped_is_open(striped) && lanes > before && lanes < striped->lanes_max &&
           moved(striped) >= striped->want_bytes && shard_now(striped->shard) >= striped->want_ns) {
        striped->watcher->on_want(striped->owner, striped);
        before = lanes;
        lanes = stripe_lanes(striped->stripe);
        if (lanes > before)
            continue;
        striped->want_ns = shard_now(striped->shard) + LIMIT_STRIPE_RETRY_NS;
        striped->want_bytes = moved(striped) + 1;
    }
}

static void work_run(struct task *task) {
    struct striped *striped = list_entry(task, struct striped, work);
    striped_lanes_drop_lost(striped);
    striped_app_work(striped);
    want_lanes(striped);
    striped_lanes_feed(striped);
    check_end(striped);
    striped_lanes_check_end(striped);
    if (is_over(striped))
        tell_end(striped);
}

static int choose_key(struct striped *striped, const uint8_t *key) {
    if (key != NULL)
        memcpy(striped->key, key, sizeof striped->key);
    else if (getrandom(striped->key, sizeof striped->key, 0) != (ssize_t)sizeof striped->key)
        return ERR_SYSTEM;
    return 0;
}

static struct striped *striped_new(struct shard *shard, unsigned lanes_max, const struct striped_watcher *watcher,
                                   void *owner) {
    struct striped *striped = calloc(1, sizeof *striped);
    CHECK(lanes_max > 0 && lanes_max <= STRIPE_LANES_MAX && watcher->on_end != NULL);
    if (striped == NULL)
        return NULL;
    striped->shard = shard;
    striped->watcher = watcher;
    striped->owner = owner;
    striped->lanes_max = lanes_max;
    striped->want_bytes = LIMIT_STRIPE_JOIN_BYTES;
    striped->retry_ns = LIMIT_STRIPE_RETRY_NS;
    striped->linger.on_timer = on_linger;
    task_init(&striped->work, work_run);
    slot_queue_init(&striped->early);
    return striped;
}

/* All that can fail, but for the lane. Nobody can take the places of all: without one it goes on, on its first lane. */
static int prepare(struct striped *striped, struct window_budget *budget, uint32_t window_max,
                   const struct striped_name *name, const uint8_t *key) {
    int err = choose_key(striped, key);
    if (err == 0)
        err = stripe_create(budget, window_max, &striped->stripe);
    if (err == 0 && name != NULL)
        err = striped_entry_create(striped, name, &striped->entry);
    return err == ERR_FULL ? 0 : err;
}

int striped_start(struct shard *shard, int app_fd, struct window_budget *budget, uint32_t window_max,
                  unsigned lanes_max, const struct striped_name *name, const uint8_t *key,
                  const struct striped_watcher *watcher, void *owner, struct striped **striped, int *lane_fd) {
    struct striped *made = striped_new(shard, lanes_max, watcher, owner);
    if (made == NULL)
        return ERR_NOMEM;
    uint32_t identity; /* the first, whatever its maker */
    int err = prepare(made, budget, window_max, name, key);
    if (err == 0)
        err = striped_join(made, lane_fd, &identity);
    if (err != 0) {
        striped_entry_leave(made->entry);
        striped_free(made);
        return err;
    }
    conn_init(&made->app, shard, &striped_app_ops, made, app_fd, LIMIT_CHANNEL_PACKET_BYTES);
    made->has_app = true;
    *striped = made;
    return 0;
}

int striped_join(struct striped *striped, int *lane_fd, uint32_t *identity) {
    int fds[2];
    if (!striped_is_open(striped))
        return ERR_CLOSED;
    int err = striped_lane_make(fds);
    if (err != 0)
        return err;
    *identity = striped->identity_next++;
    err = striped_lane_add(striped, fds[0], *identity, *identity > 0); /* the first has the target to wait for */
    if (err == 0) {
        *lane_fd = fds[1];
        return 0;
    }
    close(fds[0]);
    close(fds[1]);
    return err;
}

const uint8_t *striped_key(const struct striped *striped) {
    return striped->key;
}

void striped_abort(struct striped *striped) {
    striped_set_what(striped, "ended here");
    stripe_reset(striped->stripe);
    if (striped->has_app)
        conn_abort(&striped->app);
    striped_lanes_abort(striped);
    striped_look(striped);
}
