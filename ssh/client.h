#pragma once
/* The running client: sessions on shards, forwards, and the main thread that watches over them.
 *
 *   main thread: handshakes (may ask a person) ─► shards started, sessions handed over ─► signals and news, until the
 * end shard i:     its sessions, their relays; shard 0 also the local listeners
 *
 *   STARTING ─ every forward answered ─► RUNNING ─ signal ─► DRAINING ─ no relays or time over ─► ENDING ─ all closed
 * ─► exit any session's end ────────────────────────────────────► ENDING, status 255 */
#include "ssh/forward.h"
#include "ssh/handshake.h"

struct client_session {
    struct client *client;
    struct session session;
    struct authenticated *authenticated;
    struct shard *shard;
    unsigned index;
    _Atomic uint32_t relays; /* chosen for it and not yet ended: what "least loaded" looks at */
    bool ended;              /* main thread */
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

/* The session with the fewest relays that is still running; counts the relay to come (client_relay_ended undoes it). */
struct client_session *client_choose_session(struct client *client);
void client_relay_ended(struct client_session *session);
/* Remote forwards that the server listens for: on the first session's shard. */
void client_serve_remote(struct forward *forward);
struct forward *client_find_remote(struct client *client, struct bytes host, uint32_t port);
const struct options *client_options(const struct client *client);
unsigned client_sessions_count(const struct client *client);
struct client_session *client_session_at(struct client *client, unsigned index);
struct shard *client_listener_shard(const struct client *client);
