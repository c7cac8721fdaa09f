#pragma once
/* One forwarded connection carried by several channels, each on an SSH connection of its own (its lanes): for long
 * paths on which one TCP connection cannot fill the link. Between leat and leatd only. Pure: bytes in, bytes out, time
 * as an argument; no sockets. One thread.
 *
 *   app bytes ─► chunks, kept until the peer has TAKEN them ─► records, on whichever lane has room
 *   records from any lane, in any order ─► put in order ─► app bytes, each once
 *
 * A lane is a stream of records both ways, integers big-endian:
 *
 *   byte kind   uint32 number   uint64 offset   and of DATA number bytes
 *   1 DATA    the application's bytes from offset on; 1 ≤ number ≤ STRIPE_CHUNK_BYTES
 *   2 TAKEN   everything before offset has been taken by the application (END counts as one byte more), and the sender
 *             may send up to offset + number; neither ever goes back. The first thing that each side says on a lane,
 *             once DONE the last; and said at the latest when nothing more is known to come, as the sender keeps what
 *             is not TAKEN and may have room for no more
 *   3 END     the stream ends before offset; number 0
 *   4 RESET   the application's connection broke: nothing follows; number and offset 0
 *   5 LOST    the lane with this identity is gone at the sender: nothing more comes from it or goes on it; offset 0.
 *             Never of the lane that it comes on; of one that is not there it counts, too: it does not come any more
 *
 * A lane has an identity, the same for both sides: 0 the first, and each that is joined one that was not used before.
 *
 * What was sent on a lane that is lost, and not taken, is sent again on the others; duplicates are dropped. A side that
 * loses one says LOST on all that it has then or later, as the other may not notice for minutes, or never. Every END
 * is TAKEN before the lanes are ended in order, so that an orderly end of all lanes loses nothing.
 *
 *   life:  OPEN ──own END taken and peer's END delivered and said so──► DONE   lanes end in order
 *          OPEN ──RESET either way, all lanes lost, nonsense──────────► BROKEN
 *   (an orderly end of the last lane with only the TAKEN of our END missing is DONE: the peer had all) */
#include "engine/error.h"
#include "ssh/window.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define STRIPE_HEADER_BYTES 13u
#define STRIPE_CHUNK_BYTES 32768u
#define STRIPE_LANES_MAX 16u

enum stripe_state { STRIPE_OPEN, STRIPE_DONE, STRIPE_BROKEN };
struct stripe;

/* window_max: the most that the peer may have under way to us, and that we keep for it. ERR_NOMEM; ERR_LIMIT: the
 * budget holds no window and a chunk. */
MUST_USE int stripe_create(struct window_budget *budget, uint32_t window_max, struct stripe **stripe);
void stripe_destroy(struct stripe *stripe); /* gives everything back; NULL is fine */
enum stripe_state stripe_state(const struct stripe *stripe);
void stripe_validate(const struct stripe *stripe);

/* The application's side. What is given is copied. */
uint64_t stripe_room(const struct stripe *stripe); /* bytes it may give now; 0 after stripe_end */
/* Room becomes less when others need memory. For len bytes that were read before that, memory is taken that is kept for
 * new windows, too, if there is some: they would hold a slot each. */
void stripe_make_room(struct stripe *stripe, uint32_t len);
/* len ≤ stripe_room. ERR_NOMEM: nothing was taken. */
MUST_USE int stripe_give(struct stripe *stripe, const void *data, size_t len);
void stripe_end(struct stripe *stripe); /* the application's EOF; idempotent */
/* All of it, and its EOF, has been taken by the peer's. */
bool stripe_delivered(const struct stripe *stripe);
void stripe_reset(struct stripe *stripe); /* its connection broke: RESET is said on every lane, then BROKEN */
/* The next bytes in order for it, valid until stripe_took; 0: none now. */
size_t stripe_peek(const struct stripe *stripe, const uint8_t **data);
void stripe_took(struct stripe *stripe, size_t len); /* they have left for it: 1 ≤ len ≤ peeked */
bool stripe_ended(const struct stripe *stripe);      /* all of the peer's bytes were taken and its END is next */
void stripe_end_taken(struct stripe *stripe); /* the application has been told the end; once, when stripe_ended */

/* The lanes' side: places 0..STRIPE_LANES_MAX-1, each used once at a time. waits: until the peer has said something on
 * it. While the stripe is OPEN nothing goes on it before that but a first TAKEN, which does not count as said, and
 * LOST: should it never be answered, no byte waits for that. It is for the side that asks for lanes, as those are not
 * read before they are answered; the other side's first bytes would come a round trip later. ERR_REFUSED: this identity
 * was used already, or the peer has lost it before it came: it is not there. */
MUST_USE int stripe_lane_add(struct stripe *stripe, unsigned lane, uint32_t identity, bool waits);
/* It is gone, in order (after the peer's last whole record) or not. */
void stripe_lane_gone(struct stripe *stripe, unsigned lane, bool in_order);
/* The peer has lost it, as it said on another (asked after stripe_input): nothing goes on it any more, and whoever
 * calls says stripe_lane_gone, and ends it. False for a place that is not in use. */
bool stripe_lane_lost_there(const struct stripe *stripe, unsigned lane);
unsigned stripe_lanes(const struct stripe *stripe);
/* The next record for this lane: writes its header, and *data and *len are what follows it (len 0: nothing), valid
 * until the next call of any function of this stripe. False: nothing to say on it now. Whoever calls asks a lane only
 * while little is queued there, so that chunks go where there is room. */
MUST_USE bool stripe_next(struct stripe *stripe, unsigned lane, uint64_t now_ns, uint8_t header[STRIPE_HEADER_BYTES],
                          const uint8_t **data, size_t *len);
/* Bytes of that lane, cut anywhere. ERR_PROTOCOL: nonsense, or more than was granted; ERR_NOMEM. BROKEN then. */
MUST_USE int stripe_input(struct stripe *stripe, unsigned lane, const uint8_t *data, size_t len, uint64_t now_ns);
/* The state is not OPEN and this lane has said all it should (stripe_next has nothing more): end it in order. */
bool stripe_lane_finished(const struct stripe *stripe, unsigned lane);

uint64_t stripe_bytes_in(const struct stripe *stripe);   /* the peer's, taken */
uint64_t stripe_bytes_out(const struct stripe *stripe);  /* the application's, given */
uint64_t stripe_bytes_gone(const struct stripe *stripe); /* of those: taken by the peer's */
uint64_t stripe_bytes_held(const struct stripe *stripe); /* memory for chunks, both ways */
