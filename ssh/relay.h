#pragma once
/* A relay joins one flow (a channel of a session) with one conn (a plain endpoint, TCP or a Unix socket): the forwarded
 * connection itself.
 *
 *   conn.on_slot ─► flow_send          flow.on_data ─► slice ─► conn_write_slice
 *   conn.on_eof  ─► flow_end           flow.on_eof  ─► conn_finish ─► on_finished ─► flow_drained
 *   conn.on_reset ─► flow_abort        flow.on_aborted ─► conn_abort
 *   conn.on_written ─► flow_consumed   flow.on_room ─► conn_set_credit
 *
 * A conn that fails after its own orderly end has said all it had to say: flow_close instead of flow_abort.
 * The conn of a striped connection's lane is a local socket whose other end may be closed long before a session that
 * has fallen silent is lost: it is closed then, too, and only the flow waits. (Where the far side's EOF came before the
 * silence both wait for its CLOSE.)
 * It frees itself when both sides are gone. It lives on its session's shard. */
#include "engine/conn.h"
#include "engine/dial.h"
#include "ssh/session.h"

/* How a relay stands, or how it ended; the pointers are valid during the call. */
struct relay_state {
    const char *what;     /* "connection refused by the far side", … ; NULL after an orderly end */
    const char *origin;   /* who connected: "192.0.2.7 port 40000"; "" when not known */
    const char *resolved; /* where a dialled target is: "192.0.2.9 port 80"; "" until known */
    bool opened;
    uint64_t bytes_to_peer, bytes_from_peer, duration_ns;
};
/* Its maker's, static: both with the owner it was made with. */
struct relay_watcher {
    void (*on_opened)(void *owner, const struct relay_state *state); /* both sides stand; may be NULL */
    void (*on_end)(void *owner, const struct relay_state *state);    /* once, last; also when it could not even begin */
    /* Asked, and connected to the target: may put a striped connection's first lane in the place of *fd, which is the
     * callee's then. An error: *fd is as it was, and the channel is refused. May be NULL. */
    int (*on_dialed)(void *owner, const struct relay_state *state, int *fd);
};

/* What is on the far side of a channel we open, or here of one the peer opens. Strings are copied. */
enum relay_kind {
    RELAY_DIRECT_TCPIP,          /* host and port beyond the peer */
    RELAY_FORWARDED_TCPIP,       /* host and port the connection was accepted at, as the peer asked to listen */
    RELAY_FORWARDED_STREAMLOCAL, /* host is the path of the socket it was accepted at */
    RELAY_STRIPE,                /* as RELAY_DIRECT_TCPIP; fd is the first lane of a striped connection */
    RELAY_STRIPE_JOIN,           /* fd is one lane more of the striped connection with this key */
    RELAY_CONNECT_TCP,           /* asked: connect to host and port */
    RELAY_CONNECT_PATH,          /* asked: connect to the Unix socket at host */
    RELAY_CONNECTED,             /* asked: fd is a lane of a striped connection, connected already */
};
struct relay_target {
    enum relay_kind kind;
    const char *host; /* not of CONNECTED */
    uint16_t port;
    int fd;                      /* CONNECTED: taken over */
    int family;                  /* CONNECT_TCP */
    uint64_t connect_timeout_ns; /* CONNECT_* */
    uint64_t idle_ns;            /* ends it after so long without a byte either way (ChannelTimeout); 0: never */
    const uint8_t *stripe_key;   /* STRIPE, STRIPE_JOIN: MUX_STRIPE_KEY_BYTES */
    uint32_t stripe_lane;        /* STRIPE_JOIN: its identity (stripe.h) */
    const char *origin;          /* who connected, where fd is not his connection; NULL: fd is */
    uint16_t origin_port;
};

/* An accepted connection on its way through the peer: opens a channel. Takes fd over; how it ended, also when it could
 * not even begin, is told by on_end (perhaps from within this call). */
void relay_open(struct session *session, int fd, const struct relay_target *target, const struct relay_watcher *watcher,
                void *owner);

/* A channel that the peer asked for: connects here, then confirms or refuses with the true reason. For
 * mux_ops.on_open; NULL: no memory, nothing will be told and nothing was taken over. */
struct flow *relay_asked(struct session *session, const struct relay_target *target,
                         const struct relay_watcher *watcher, void *owner);

/* The session waits no longer: applications that have not taken yet what came for them are cut off. */
void relay_abort_all(struct session *session);

/* The session has slots again: relays that waited for them read on. */
void relay_feed(struct session *session);

/* Every relay that stands ends as one that was idle for too long. */
void relay_end_idle(struct session *session);

/* One line per relay of a session, for USR1. */
void relay_print(const struct session *session);
/* Every relay of a session, oldest first, with the owner it was made with. `visit` only looks. */
void relay_for_each(const struct session *session,
                    void (*visit)(void *arg, void *owner, const struct relay_state *state), void *arg);
