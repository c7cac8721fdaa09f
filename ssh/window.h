#pragma once
/* The receive window of one channel (RFC 4254 §5.2): what we have granted, and when to grant more. Pure arithmetic.
 *
 *   target = what the peer may have under way at most: starts at LIMIT_WINDOW_START_BYTES; doubles whenever the peer
 * had used up more than half of it within one round trip, up to `max` (15 MiB towards OpenSSH), while the budget lasts.
 *   granted bytes still unused by the peer + delivered-but-not-consumed bytes ≤ target, always. */
#include "engine/error.h"
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/* All windows of the process; shared by shards, touched only when a window opens, grows or closes. */
struct window_budget {
    _Atomic uint64_t used;
    uint64_t max;
};
void window_budget_init(struct window_budget *budget, uint64_t max_bytes);

struct window {
    struct window_budget *budget;
    uint32_t target, max;
    uint32_t granted;    /* the peer may still send this much */
    uint32_t unconsumed; /* received, not yet consumed */
    uint32_t owed;       /* consumed, not yet granted again */
    uint64_t last_grant_ns, rtt_ns;
};

/* ERR_LIMIT: the budget does not hold even the smallest window (LIMIT_CHANNEL_PACKET_BYTES); else target is as large as
 * fits, at most LIMIT_WINDOW_START_BYTES. */
MUST_USE int window_open(struct window *window, struct window_budget *budget, uint32_t max);
void window_close(struct window *window); /* gives the target back to the budget; idempotent */
/* Peer data of len bytes. ERR_PROTOCOL: more than was granted. */
MUST_USE int window_receive(struct window *window, uint32_t len);
/* len received bytes have left for the application. */
void window_consume(struct window *window, uint32_t len);
/* Bytes to grant now with a WINDOW_ADJUST, 0: not worth a message yet. Grants when at least half the target, or (small
 * windows) two packets, are owed; may grow the target first. Call after window_consume. */
uint32_t window_grant(struct window *window, uint64_t now_ns);
