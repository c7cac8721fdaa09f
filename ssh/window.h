#pragma once
/* The receive window of one channel (RFC 4254 §5.2): what we have granted, and when to grant more. Pure arithmetic.
 *
 *   target = granted, unused by the peer  +  received, not consumed  +  consumed, not granted again (owed)
 *
 * always and exactly: the peer never has more under way than target. It starts at LIMIT_WINDOW_START_BYTES and doubles,
 * up to `max` (15 MiB towards OpenSSH) and while the budget lasts, whenever half of it arrived within one round trip,
 * or a quarter of it within one longer than 50 ms. One that is smaller than the start size doubles whenever half of it
 * arrived within a tenth of a second. What a slow application leaves unread is not granted again, so its window is
 * hardly used in a round trip. While less than a quarter of the budget is left, and where two seconds lie between
 * two grants, windows above the start size shrink: half of what they owe is kept. What an idle peer has been granted
 * stays granted: SSH knows no way to take it back. So no window grows beyond a quarter of what would be left to grow in
 * without it.
 *
 * The round trip is measured by the window itself: a byte beyond what was granted before a WINDOW_ADJUST cannot have
 * been sent before that message arrived, so the time between them is never less than a round trip, and is one where the
 * window is what holds the peer back. The shortest such time counts. On a path that is fast but short it stops
 * growing by itself: there a window twice as big takes twice as long. So it does, once larger, where the sender is what
 * is slow: what its window lasts for looks like a long path then. */
#include "engine/error.h"
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/* All windows of the process; shared by shards, touched only when a window opens, grows, shrinks or closes. */
struct window_budget {
    _Atomic uint64_t used;
    _Atomic uint32_t windows; /* that are open */
    uint64_t max;
};
void window_budget_init(struct window_budget *budget, uint64_t max_bytes);
uint64_t window_budget_left(const struct window_budget *budget);
/* For bytes that are kept outside of a window (stripe.h): `least` as long as that is left, and up to `want` as windows
 * grow, so that new windows find room too. Returns what was taken, 0: not even least was left. */
MUST_USE uint32_t window_budget_take(struct window_budget *budget, uint32_t want, uint32_t least);
void window_budget_give(struct window_budget *budget, uint32_t bytes);
/* Less is left than is meant for new windows: who has grown gives back. */
bool window_budget_low(const struct window_budget *budget);

struct window {
    struct window_budget *budget;
    uint32_t target, max;
    uint32_t granted;    /* the peer may still send this much */
    uint32_t unconsumed; /* received, not yet consumed */
    uint32_t owed;       /* consumed (or grown by), not yet granted again */
    /* private */
    bool marked : 1;
    bool released : 1;         /* target is what is still counted, and no longer what the peer may use */
    bool closed : 1;           /* held: what is not consumed is all that there is of it */
    bool widened : 1;          /* and not granted since */
    uint16_t granted_s;        /* in which second there was a grant last; once in 18 hours it is taken for a new one */
    uint64_t rtt_ns;           /* shortest time between a grant and its use; 0: not measured yet */
    uint64_t received;         /* bytes in all */
    uint64_t mark_at, mark_ns; /* the first byte that needs the watched grant, and when that was made */
    uint64_t round_at, round_ns; /* where and when the round in which growth is judged began */
};

/* ERR_LIMIT: the budget does not hold even the smallest window (LIMIT_CHANNEL_PACKET_BYTES, or max if that is less).
 * Else target is LIMIT_WINDOW_START_BYTES, or less the more windows are open and the less of the budget is left, so
 * that thousands of idle flows leave room for others and for those that have something to say to grow. All of target
 * counts as granted: it is the channel's initial window. max > 0. */
MUST_USE int window_open(struct window *window, struct window_budget *budget, uint32_t max);
void window_close(struct window *window); /* gives the target back to the budget; idempotent, also when zeroed */
/* Nothing that comes from now on is kept: what is not consumed yet stays counted until window_consume is told of it,
 * and of the rest no more than the smallest window, as the channel itself is not free; what was beyond that goes back
 * to the budget at once, however long the channel stays. What the peer was granted stands, and is granted again as it
 * is consumed; it neither grows nor shrinks any more. Idempotent, also when zeroed. */
void window_release(struct window *window);
/* As window_close, for bytes whose taker still has them after the channel's end: what is not consumed stays counted
 * until window_consume is told of it. */
void window_close_held(struct window *window);
/* Peer data of len bytes. ERR_PROTOCOL: more than was granted; nothing changed. */
MUST_USE int window_receive(struct window *window, uint32_t len, uint64_t now_ns);
/* len received bytes have left for the application. CHECKs that they were received. */
void window_consume(struct window *window, uint32_t len);
/* Is a WINDOW_ADJUST worth a message? When an eighth of the target is owed, but not less than two packets; for small
 * windows half of the target. */
bool window_grant_due(const struct window *window);
/* Bytes to grant now with a WINDOW_ADJUST, counted as granted; 0 when none is due. May grow the target first and then
 * grants the growth too. */
MUST_USE uint32_t window_grant(struct window *window, uint64_t now_ns);
/* The same where the peer shall have no more than `most` bytes under way meanwhile; what it has been granted beyond
 * that stands. The rest stays owed. */
bool window_grant_due_within(const struct window *window, uint32_t most);
MUST_USE uint32_t window_grant_within(struct window *window, uint32_t most, uint64_t now_ns);
/* Doubles it at once, while the budget lasts: for who knows that it is too small, whatever its round trip seems to be.
 * What that adds is granted with the next window_grant. */
void window_widen(struct window *window);
void window_validate(const struct window *window);
