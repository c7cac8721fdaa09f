#pragma once
/* Plain relay: two connected sockets, bytes moved between them by splice(2) through pipes, driven by readiness. No byte
 * is seen in user space.
 *
 *   a ──splice──► pipe ──splice──► b          each direction by itself: EOF of a ─► pipe drained ─► shutdown(b, WR)
 *   b ──splice──► pipe ──splice──► a          RST or an error on either side: RST to the other
 *
 * A direction holds a pipe only while bytes are in it; pipes come from the shard's pool (splice_pool), which keeps some
 * and never holds more than the user's pipe limits allow. Without a pipe to be had a direction copies through one
 * buffer of the shard, so that slow readers, who keep theirs, hold nobody up. Backpressure is the peer's socket: what
 * it does not take stays in the pipe, and nothing more is read. One direction moves at most LIMIT_SPLICE_TURN_BYTES in
 * a turn.
 *
 * splice(2) knows no MSG_NOSIGNAL: SIGPIPE is ignored, or blocked as it is on a shard's own thread. */
#include "engine/shard.h"

struct splice_pool;
/* pipes_max: 0: what limits allow. One per shard. ERR_NOMEM. */
MUST_USE int splice_pool_create(struct shard *shard, uint32_t pipes_max, struct splice_pool **pool);
void splice_pool_destroy(struct splice_pool *pool); /* no relay uses it any more */

struct splice_relay;
struct splice_end {
    const char *what; /* "connection reset", …; NULL after an orderly end of both directions */
    uint64_t bytes_a_to_b, bytes_b_to_a;
    uint64_t duration_ns;
};
typedef void splice_end_fn(void *owner, const struct splice_end *end);
/* Takes both over (connected, non-blocking). on_end comes once, never from within a call of this header; the relay is
 * freed after it. idle_ns: ends it after so long without a byte, 0: never. ERR_NOMEM: both are still the caller's. */
MUST_USE int splice_relay_start(struct splice_pool *pool, int a, int b, uint64_t idle_ns, splice_end_fn *on_end,
                                void *owner, struct splice_relay **relay);
/* Resets both sides; on_end follows. */
void splice_relay_abort(struct splice_relay *relay);
uint64_t splice_relay_bytes(const struct splice_relay *relay); /* both ways */
