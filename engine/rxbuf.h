#pragma once
/* The receive side of one session: a ring lent by the shard, the position up to which packets were parsed, and the
 * slices of opened payload that are still wanted by a connection. No payload byte is moved on the way from the
 * session's socket to the application's; the ring's memory is free again up to the oldest slice that is still held.
 *
 *   tail (oldest held slice, else parsed)   parsed            head
 *   |== slice ==|..hdr..|== slice ==|..done..|## not yet parsed ##|   free …
 *
 * An idle session holds no ring: when nothing is held and nothing unparsed the ring goes back to the pool; a partial
 * packet (unparsed, not yet whole) is kept in a small private copy and put back in front of the next received bytes.
 * One thread; the owner is the session. */
#include "engine/error.h"
#include "engine/list.h"
#include "engine/ring.h"
#include <stdbool.h>

struct slice {
    struct list node; /* for the holder's own queue; untouched by rxbuf */
    uint8_t *data;
    uint32_t len;
    void *holder;  /* who wants the bytes: set by the holder, read by rxbuf_oldest()'s caller */
    uint64_t pos;  /* private */
    bool released; /* private */
};

struct slice_block;
struct rxbuf {
    struct ring_pool *pool;
    /* private */
    struct ring *ring; /* NULL while idle */
    uint64_t parsed;
    size_t space;                             /* of the receive that may be in flight */
    struct slice_block *first, *last, *spare; /* slices in order of position; blocks, so that addresses are stable */
    uint32_t first_at, last_at, slices;       /* oldest in first, next free in last; all that are not yet retired */
    uint64_t held_end;                        /* behind the youngest slice */
    uint8_t *partial;                         /* kept while idle; [partial_at, partial_len) is unparsed */
    uint32_t partial_at, partial_len;
};

void rxbuf_init(struct rxbuf *rx, struct ring_pool *pool);
void rxbuf_deinit(struct rxbuf *rx); /* CHECKs that no slice is held */
/* Bytes that were received before there was an rxbuf, in front of all others: copied, since they are few. Once, first.
 * ERR_NOMEM. */
MUST_USE int rxbuf_put_early(struct rxbuf *rx, const uint8_t *bytes, size_t len);
/* Space for the next receive: sets *data, *len (contiguous). Takes a ring when there is none. ERR_NOMEM: no ring to
 * lend; ERR_FULL: less than min_bytes free, release (or spill) the oldest slices first. The space stays valid until
 * rxbuf_filled; after a receive that brought nothing that call may be left out. */
MUST_USE int rxbuf_space(struct rxbuf *rx, size_t min_bytes, uint8_t **data, size_t *len);
void rxbuf_filled(struct rxbuf *rx, size_t bytes);
/* Unparsed bytes, contiguous and writable (they are opened in place). While idle they are those of the kept copy: they
 * can be parsed too, but not held. */
uint8_t *rxbuf_unparsed(const struct rxbuf *rx, size_t *len);
/* Hold len bytes at data (which lie within the unparsed run, in ascending order between calls), then pass them with
 * rxbuf_parsed. Returns NULL at LIMIT_SLICES_PER_RING, without memory, or while idle: the caller copies instead. A
 * slice's address is stable until it is released. */
struct slice *rxbuf_hold(struct rxbuf *rx, uint8_t *data, uint32_t len);
void rxbuf_parsed(struct rxbuf *rx, size_t bytes);
void rxbuf_release(struct rxbuf *rx, struct slice *slice);
/* The oldest held slice: its holder keeps the ring's memory from being reused; NULL when none is held. */
struct slice *rxbuf_oldest(struct rxbuf *rx);
/* No receive is in flight: gives the ring back when nothing is held (keeping a partial packet aside), otherwise a
 * no-op. */
void rxbuf_idle(struct rxbuf *rx);
