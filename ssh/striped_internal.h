#pragma once
/* The inside of a striped connection (striped.h): its lanes, its application, and which ones others can join.
 *
 * Conns call in, and what follows is done once at the end of the turn (striped_look): each of them may have moved
 * bytes, ended, or brought the stripe to its end, and the order in which that is looked at is the same always. */
#include "engine/conn.h"
#include "ssh/striped.h"

struct striped_entry;

struct striped_lane {
    struct striped *striped;
    struct conn conn;
    unsigned number;
    bool heard;     /* the far side has said something on it */
    bool eof, gone; /* gone: the stripe has been told */
};

struct striped {
    struct shard *shard;
    struct stripe *stripe;
    const struct striped_watcher *watcher;
    void *owner;
    struct striped_entry *entry; /* NULL: nobody can join */
    struct conn app;
    struct slot_queue early; /* the application's, read when there was more room */
    uint32_t early_given;    /* of its first slot */
    struct striped_lane *lanes[STRIPE_LANES_MAX];
    unsigned lanes_max, lanes_most;
    uint32_t identity_next; /* of the lane that is made here next */
    struct task work;
    struct timer linger;
    uint64_t linger_gone;         /* of the application's bytes, when it was armed */
    uint64_t want_ns, want_bytes; /* another lane is asked for from then on, when so much has been moved */
    uint64_t retry_ns;            /* how long after one that is gone */
    const char *what;             /* static; NULL: nothing is wrong */
    bool has_app;
    bool over_there; /* since it ended here the far side has ended a lane, too */
    uint8_t key[STRIPED_KEY_BYTES];
};

/* Its work is done at the end of this turn. */
static inline void striped_look(struct striped *striped) {
    shard_defer(striped->shard, &striped->work);
}
/* The first reason counts; static text. */
static inline void striped_set_what(struct striped *striped, const char *what) {
    if (striped->what == NULL)
        striped->what = what;
}
static inline bool striped_is_open(const struct striped *striped) {
    return stripe_state(striped->stripe) == STRIPE_OPEN;
}

/* ---- striped_lane.c ---- */
/* Queues a private copy. ERR_NOMEM: only some of it was. */
MUST_USE int striped_write(struct conn *conn, const uint8_t *data, size_t len);
/* A lane's two ends. ERR_FILES, ERR_NOMEM, ERR_SYSTEM. */
MUST_USE int striped_lane_make(int fds[2]);
/* Takes fd over: the near end of a new lane. waits: stripe_lane_add. ERR_LIMIT, ERR_NOMEM, ERR_REFUSED: it is still the
 * caller's. */
MUST_USE int striped_lane_add(struct striped *striped, int fd, uint32_t identity, bool waits);
/* Takes over what somebody who joined has sent. */
void striped_lane_take(struct striped *striped, int fd, uint32_t identity);
void striped_lanes_drop_lost(struct striped *striped); /* those that the peer has lost */
void striped_lanes_feed(struct striped *striped);      /* records, as far as there is room */
void striped_lanes_check_end(struct striped *striped); /* those that have nothing more to do end */
void striped_lanes_abort(struct striped *striped);

/* ---- striped_app.c ---- */
extern const struct conn_ops striped_app_ops;
void striped_app_work(struct striped *striped); /* bytes both ways, as far as there is room */
void striped_app_drop(struct striped *striped); /* what was read of it and not given to the stripe */

/* ---- striped_registry.c ---- */
/* From now on it is found. ERR_NOMEM; ERR_FULL: LIMIT_STRIPES; ERR_LIMIT: the user has this key already; ERR_SYSTEM: no
 * random bytes. Its shard's thread, as everything here but striped_find_join. */
MUST_USE int striped_entry_create(struct striped *striped, const struct striped_name *name,
                                  struct striped_entry **entry);
/* It is found no more; lanes that are on their way to it are closed. NULL is fine. */
void striped_entry_leave(struct striped_entry *entry);
void striped_entry_lane_gone(struct striped_entry *entry); /* there is room for another; NULL is fine */
