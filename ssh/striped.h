#pragma once
/* Drives a stripe (stripe.h) on a shard: the application's connection, and a local socket for each lane whose other end
 * an ordinary relay carries over a session, on whatever shard that session lives. A copy through a local socket more
 * than a plain relay; what a long path carries is little beside that.
 *
 *   app socket ◄─► conn ◄─► stripe ◄─► conn ◄─► socketpair ◄─► relay ◄─► channel of session 0
 *                                  ◄─► conn ◄─► socketpair ◄─► relay ◄─► channel of session 1 …
 *
 * The founder of a striped connection (leat) opens channel 0 with the target, gives it a random key, and opens further
 * ones with that key alone once the connection has moved LIMIT_STRIPE_JOIN_BYTES, and again when a lane was lost; the
 * server finds it by user and key. The founder numbers the lanes, and either side tells the other of one that it has
 * lost (LOST, stripe.h).
 *
 * A session may fall silent, and count as alive for long. The founder relies on a lane that it has joined once it is
 * answered there; and one that has ended at this end leaves nothing behind but its channel (relay.h). What was given to
 * a lane before its session fell silent waits until one side knows it to be lost. */
#include "engine/shard.h"
#include "ssh/stripe.h"

#define STRIPED_KEY_BYTES 16u

struct striped;
struct striped_state {
    uint64_t bytes_to_peer, bytes_from_peer; /* the application's */
    unsigned lanes, lanes_most;              /* now, and at the same time at any time */
};
struct striped_watcher {
    /* It could do with another lane: it moves much and has fewer than lanes_max. On its shard; may be NULL. */
    void (*on_want)(void *owner, struct striped *striped);
    /* Over, last. what: why it broke, NULL after an orderly end. */
    void (*on_end)(void *owner, const struct striped_state *state, const char *what);
};

/* By what a server's striped is found: whose it is, and the target that whoever joins must be allowed, too. */
struct striped_name {
    const char *user, *host;
    uint16_t port;
};

/* Takes app_fd over. Its first lane's other end is in *lane_fd then, the caller's. lanes_max: 1..STRIPE_LANES_MAX. key:
 * NULL makes a random one. name: copied; a server's striped is found by it and its key from any thread as long as it
 * lives, NULL, or beyond LIMIT_STRIPES: it is not found. ERR_NOMEM, ERR_FILES, ERR_LIMIT (budget, and a key that is
 * there already), ERR_SYSTEM: app_fd is still the caller's. The shard's thread. */
MUST_USE int striped_start(struct shard *shard, int app_fd, struct window_budget *budget, uint32_t window_max,
                           unsigned lanes_max, const struct striped_name *name, const uint8_t *key,
                           const struct striped_watcher *watcher, void *owner, struct striped **striped, int *lane_fd);
struct striped_state striped_state(const struct striped *striped);
const uint8_t *striped_key(const struct striped *striped);
/* One lane more: its other end, and its identity. ERR_LIMIT: has lanes_max; ERR_FILES; ERR_CLOSED: it ends;
 * ERR_REFUSED: the peer calls that identity lost. Its shard's thread. */
MUST_USE int striped_join(struct striped *striped, int *lane_fd, uint32_t *identity);
/* The same for a server, from any thread, by user and key (compared in constant time): the lane is handed to its shard.
 * may: may whoever joins have this target? Called with a lock held. ERR_REFUSED: nobody of that user has such a key,
 * or not for him. ERR_INUSE: its identity was used already. */
MUST_USE int striped_find_join(const char *user, const uint8_t *key, uint32_t identity,
                               bool (*may)(void *arg, const char *host, uint16_t port), void *arg, int *lane_fd);
/* Ends it: the application's connection and all lanes are cut. on_end follows, not from within this call. Idempotent.
 * Its shard's thread. */
void striped_abort(struct striped *striped);
