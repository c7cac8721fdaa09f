#pragma once
/* The running client: sessions on shards, forwards, and the main thread that watches over them.
 *
 *   main thread: handshakes (may ask a person) ─► shards started, sessions handed over ─► signals, news, the end
 *   shard i:     its sessions, their relays; shard 0 also the local listeners
 *
 *   STARTING ─ every forward answered, listeners accept ─► RUNNING ─ signal ─► DRAINING
 *   DRAINING ─ no relays or time over ─► ENDING ─ all closed ─► exit
 *   the last session's end ─► ENDING, status 255
 *
 * The end of a session is no reason to end while another one serves; but that of the first is, if remote forwards are
 * on it. One that is lost is made again, and with `Connections auto` there is one at first, and others come and go
 * (client_connections.c). */
#include "ssh/client_measure.h"
#include "ssh/forward.h"
#include "ssh/handshake.h"

enum client_session_state {
    SESSION_ABSENT,
    SESSION_SERVING,
    SESSION_CLOSING, /* idle: takes nothing new while the main thread sees whether anything has come meanwhile */
    SESSION_ENDED,   /* its shard ends it, or has; not absent before everything of it is freed */
};

struct client_session {
    struct client *client;
    struct session session;
    struct authenticated *authenticated;
    struct shard *shard;
    unsigned index;
    _Atomic uint32_t relays;                 /* chosen for it and not yet ended: what "least loaded" looks at */
    _Atomic enum client_session_state state; /* its shard writes ENDED, the main thread everything else */
    _Atomic bool saturated;                  /* its shard has no more to give: others are chosen first */
    _Atomic uint32_t lanes_asked;            /* for striped connections that began elsewhere, and not answered */
    _Atomic uint32_t stripes;                /* what its server's hello says of them; 0: none, or not known yet */
    struct list stripings;                   /* its shard: of forward_stripe.c, those that began on it */
    bool over;                               /* its shard */
    struct measure measure;                  /* its shard */
    struct measure_sum measured;             /* its shard's, then the news', then the main thread's */
    bool open;                               /* main thread: handed to its shard, its end not told yet */
    bool idle_close, measuring;              /* main thread: has asked its shard to close, to measure */
    uint64_t measured_ns;                    /* main thread; 0: measured is not to be looked at */
};

/* What the program around it does, on the main thread. */
struct client_program {
    /* Once, when authenticated and every forward that must listen does (for -f). */
    void (*on_ready)(void);
    /* SIGHUP: the options as they are to be had now; each error was reported. */
    int (*reread)(struct options *options);
};

/* Runs the tunnel of `options` to its end. Returns the exit status. */
int client_run(const struct options *options, const struct client_program *program);

/* From shards: news for the main thread. */
void client_forward_answered(struct forward *forward, bool success);
void client_forward_cancelled(struct forward *forward, bool success);
void client_listener_closed(struct forward *forward);

/* Its server has left so many lanes unanswered as it answers at once: perhaps for long before it counts as lost, or for
 * ever. Each more would leave a channel there with its window, longer than the connection that it was for. */
bool client_session_is_silent(const struct client_session *session);
/* The session with the fewest relays among those whose shard is not saturated (if all are, among all), of those that
 * `fits` (NULL: all do); NULL: none serves. With Stripes, one that can carry lanes comes before any that cannot, or has
 * not said it yet, and that before one that is silent. Counts the relay to come (client_relay_ended undoes it). Any
 * shard. */
typedef bool client_fits_fn(const void *arg, const struct client_session *session);
struct client_session *client_choose_session(struct client *client, client_fits_fn *fits, const void *arg);
void client_relay_ended(struct client_session *session);
/* A striped connection, which is on no session's account, holds the client up until it has ended. Any shard. */
void client_striping_began(struct client *client);
void client_striping_ended(struct client *client);
/* Remote forwards that the server listens for: on the first session's shard. */
void client_serve_remote(struct forward *forward);
struct forward *client_find_remote(struct client *client, struct bytes host, uint32_t port);
const struct options *client_options(const struct client *client);
struct window_budget *client_budget(struct client *client);
unsigned client_sessions_count(const struct client *client); /* the most there may be at a time */
struct client_session *client_session_at(struct client *client, unsigned index);
struct shard *client_listener_shard(const struct client *client);
