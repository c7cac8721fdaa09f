#pragma once
/* Forwards of the client: what -L and -R ask for. A local forward owns listening sockets here; a remote forward owns a
 * listener at the server, asked for with "tcpip-forward" (RFC 4254 §7.1). Both hand each connection to a relay.
 *
 * Local listeners live on the first shard; each accepted connection goes to the least loaded session (client.h), over a
 * mailbox when that one is on another shard. */
#include "engine/list.h"
#include "engine/listener.h"
#include "engine/resolve.h"
#include "ssh/options.h"
#include "ssh/relay.h"

struct client;
struct client_session;

/* The way of an accepted connection to one session: what a mailbox message points at. */
struct forward_route {
    struct forward *forward;
    struct client_session *session;
};

struct forward {
    /* Borrowed from the options of the start or of a reload. Its main thread puts another one in place when only the
     * target has changed: where it listens never does. */
    const struct forward_spec *_Atomic spec;
    struct client *client;
    struct list node;                /* remote: in client->remotes */
    struct resolve_result addresses; /* local: found, not yet bound */
    int *fds;                        /* local: bound, not yet on a shard */
    struct listener *listeners;
    unsigned listeners_count, listeners_open;
    struct forward_route *routes; /* one per session */
    uint16_t port;                /* remote: as asked, then as allocated */
    bool listening;
    bool granted;                /* remote: the server listens; the first session's shard */
    bool active, removing, kept; /* main thread */
};

MUST_USE int forward_init(struct forward *forward, struct client *client, const struct forward_spec *spec);
void forward_deinit(struct forward *forward); /* closes what was bound and never started */

/* Local: finds the addresses to bind. Blocks for as long as a name server takes. On a failure one line was logged and
 * there is nothing to bind. Main thread. */
MUST_USE int forward_resolve(struct forward *forward);
/* Local: binds what forward_resolve has found, once: at least one; those that could not be had were logged. On a
 * failure one line was logged and nothing is bound. Main thread. */
MUST_USE int forward_bind(struct forward *forward);
/* Local: starts accepting. First shard's thread. */
void forward_listen(struct forward *forward);
/* Local: stops accepting; client_listener_closed() is told for each listener. First shard's thread. */
void forward_close(struct forward *forward);

/* Remote: asks the server; client_forward_answered() is told. The session's thread. */
void forward_request(struct forward *forward, struct session *session);
/* Remote: the server shall listen no more; client_forward_cancelled() is told. The session's thread. */
void forward_cancel(struct forward *forward, struct session *session);
/* Remote: does a "forwarded-tcpip" open to this listener belong to it? */
enum forward_match { FORWARD_MATCH_NONE, FORWARD_MATCH_LOOSE, FORWARD_MATCH_EXACT };
enum forward_match forward_matches(const struct forward *forward, struct bytes host, uint32_t port);
/* mux_ops.on_open of clients: finds the forward, connects to its target. */
struct flow *forward_on_open(struct mux *mux, const struct mux_open *open, uint32_t *reason, const char **text);
/* … on_shortage: who asked for the forward is told why nobody gets through. */
void forward_on_shortage(struct mux *mux, const struct mux_open *open, const char *why);
