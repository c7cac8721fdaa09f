#pragma once
/* The inside of a stripe (stripe.h). Both directions keep their bytes in pages of STRIPE_CHUNK_BYTES, numbered from
 * offset 0 on. A page is made when its first byte comes and dropped when its last has been taken; no record costs
 * memory of its own, so that how a peer cuts and orders them makes no difference.
 *
 *   sending      acked ≤ sent ≤ given ≤ limit     kept: acked..given; chunks say on which lane acked..sent has gone
 *   receiving    taken ≤ ready ≤ high ≤ limit     in order: taken..ready; with holes: ready..high */
#include "engine/limits.h"
#include "ssh/stripe.h"
#include "ssh/stripe_identity.h"

enum stripe_record { RECORD_DATA = 1, RECORD_TAKEN = 2, RECORD_END = 3, RECORD_RESET = 4, RECORD_LOST = 5 };

#define LANE_NONE UINT8_MAX
#define PAGE_WORDS (STRIPE_CHUNK_BYTES / 64u)

struct page {
    uint64_t number;
    uint8_t *data;
    uint64_t *present; /* a bit for each byte that came before those in front of it; NULL: none */
};
/* A ring by number; as large as the pages in use are apart. */
struct pages {
    struct page *ring;
    uint64_t size; /* a power of two, or 0 */
    uint32_t count, bitmaps;
};
void pages_deinit(struct pages *pages); /* everything is dropped */
struct page *pages_find(const struct pages *pages, uint64_t number);
/* The one that is there, or a new one. NULL: no memory. */
struct page *pages_make(struct pages *pages, uint64_t number);
void pages_drop(struct pages *pages, uint64_t number); /* when there */
/* Counts these bytes as present. ERR_NOMEM. */
MUST_USE int pages_mark(struct pages *pages, struct page *page, uint32_t start, uint32_t len);
uint32_t page_run(const struct page *page, uint32_t start); /* bytes that are marked from start on */
uint64_t pages_bytes(const struct pages *pages);

/* What went out as one record. */
struct chunk {
    uint64_t offset;
    uint32_t len;
    uint8_t lane; /* LANE_NONE: that lane is lost */
};
struct sending {
    struct window_budget *budget;
    struct pages pages;
    struct chunk *chunks; /* a ring in the order of their offsets, from head to tail */
    uint32_t head, tail, chunks_size;
    uint32_t lost, lost_next; /* how many have to go out again, and none of them is before lost_next */
    uint64_t acked, sent, given, limit;
    uint32_t reserved;                         /* of the budget; given - acked is never more */
    bool ended, end_said, end_ever, end_acked; /* end_ever: said once, whatever became of it */
    uint8_t end_lane;
};
MUST_USE int sending_init(struct sending *sending, struct window_budget *budget);
void sending_deinit(struct sending *sending); /* gives everything back; idempotent */
void sending_lane_lost(struct sending *sending, unsigned lane);
MUST_USE int sending_on_taken(struct sending *sending, uint64_t offset, uint32_t number);
/* The next record's bytes; false: none. */
bool sending_next_data(struct sending *sending, unsigned lane, struct chunk *chunk, const uint8_t **data);
bool sending_end_due(const struct sending *sending);
void sending_validate(const struct sending *sending);

struct receiving {
    struct window window; /* what was received of it: up to high */
    struct pages pages;
    uint64_t taken, ready, high, total, said; /* said: taken as the peer was told last */
    bool end_known, end_taken, end_taken_said;
    bool again; /* the lane on which it was told is lost */
    uint8_t said_lane;
};
MUST_USE int receiving_init(struct receiving *receiving, struct window_budget *budget, uint32_t window_max);
void receiving_deinit(struct receiving *receiving);
void receiving_lane_lost(struct receiving *receiving, unsigned lane);
/* A DATA record's header: may it come? */
MUST_USE int receiving_on_data(struct receiving *receiving, uint64_t offset, uint32_t len, uint64_t now_ns);
/* Bytes of one that may. */
MUST_USE int receiving_put(struct receiving *receiving, uint64_t offset, const uint8_t *data, size_t len);
MUST_USE int receiving_on_end(struct receiving *receiving, uint64_t total);
bool receiving_taken_due(const struct receiving *receiving);
/* What TAKEN has said last, or could have: nothing is counted, nothing granted. */
void receiving_repeat_taken(const struct receiving *receiving, uint64_t *offset, uint32_t *number);
/* What TAKEN says now; counted as said on that lane. */
void receiving_say_taken(struct receiving *receiving, unsigned lane, uint64_t now_ns, uint64_t *offset,
                         uint32_t *number);
void receiving_validate(const struct receiving *receiving);

struct lane {
    bool used;
    bool waits;    /* the peer has said nothing on it yet, and it is not relied on before that */
    bool greeted;  /* TAKEN was said on it */
    bool told_end; /* and it said that the peer's END was taken */
    bool told_reset;
    bool lost_there; /* the peer has said so */
    uint32_t identity;
    uint32_t lost_told; /* how many of stripe.lost were said on it */
    /* The record that comes in. */
    uint8_t header_len, header[STRIPE_HEADER_BYTES];
    uint32_t data_left;
    uint64_t data_offset;
};

struct stripe {
    enum stripe_state state;
    unsigned lanes_used;
    struct sending out;
    struct receiving in;
    struct lane lanes[STRIPE_LANES_MAX];
    struct stripe_identities identities; /* that were here, or were lost there before they came */
    uint32_t lost[LIMIT_STRIPE_LOST];    /* a ring of those that were lost here; so many were */
    uint32_t lost_count;
};
