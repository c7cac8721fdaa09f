#pragma once
/* A relay joins one flow (a channel of a session) with one conn (a plain TCP endpoint): the forwarded connection
 * itself.
 *
 *   conn.on_slot ─► flow_send          flow.on_data ─► slice ─► conn_write_slice
 *   conn.on_eof  ─► flow_end           flow.on_eof  ─► conn_finish ─► on_finished ─► flow_drained
 *   conn.on_reset ─► flow_abort        flow.on_aborted ─► conn_abort
 *   conn.on_written ─► flow_consumed   flow.on_room ─► conn_set_credit
 *
 * It frees itself when both sides are gone. It lives on its session's shard. */
#include "engine/conn.h"
#include "engine/dial.h"
#include "ssh/session.h"

/* How a relay ended, told once to whoever made it; the pointers are valid during the call. */
struct relay_end {
    const char *what; /* "connection refused by the far side", … ; NULL after an orderly end */
    bool opened;
    uint64_t bytes_to_peer, bytes_from_peer, duration_ns;
};
typedef void relay_end_fn(void *owner, const struct relay_end *end);

/* An accepted connection on its way to `host:port` beyond the peer: opens a "direct-tcpip" channel. Takes fd over; how
 * it ended, also when it could not even begin, is told by on_end. */
void relay_open(struct session *session, int fd, const char *host, uint16_t port, relay_end_fn *on_end, void *owner);

/* A channel that the peer asked for: connects to host:port here, then confirms or refuses. For mux_ops.on_open; NULL:
 * no memory. */
struct flow *relay_asked(struct session *session, const char *host, uint16_t port, int family,
                         uint64_t connect_timeout_ns, relay_end_fn *on_end, void *owner);

/* The session waits no longer: applications that have not taken yet what came for them are cut off. */
void relay_abort_all(struct session *session);

/* One line per relay of a session, for USR1. */
void relay_print(const struct session *session);
