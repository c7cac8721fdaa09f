/* The sending half of a stripe: what is given is kept until the peer has taken it, and cut into records when a lane
 * asks. The peer's window and the budget bound what is kept, LIMIT_STRIPE_CHUNKS the records that it is cut into. */
#include "engine/check.h"
#include "ssh/stripe_internal.h"
#include <stdlib.h>
#include <string.h>

#define CHUNKS_LEAST 16u
/* What can always be kept: the peer says TAKEN at the latest when it has nothing more, so less would do too. */
#define KEPT_LEAST STRIPE_CHUNK_BYTES
_Static_assert(LIMIT_STRIPE_CHUNKS % CHUNKS_LEAST == 0 && (LIMIT_STRIPE_CHUNKS & (LIMIT_STRIPE_CHUNKS - 1)) == 0,
               "doubling ends at the limit");

static uint64_t least_of(uint64_t a, uint64_t b) {
    return a < b ? a : b;
}
static struct chunk *chunk_at(const struct sending *sending, uint32_t number) {
    return &sending->chunks[number & (sending->chunks_size - 1)];
}
static uint64_t kept(const struct sending *sending) {
    return sending->given - sending->acked;
}

int sending_init(struct sending *sending, struct window_budget *budget) {
    *sending = (struct sending){.budget = budget, .end_lane = LANE_NONE};
    sending->chunks = malloc(CHUNKS_LEAST * sizeof *sending->chunks);
    if (!sending->chunks)
        return ERR_NOMEM;
    sending->chunks_size = CHUNKS_LEAST;
    sending->reserved = window_budget_take(budget, KEPT_LEAST, KEPT_LEAST);
    if (sending->reserved > 0)
        return 0;
    sending_deinit(sending);
    return ERR_LIMIT;
}

void sending_deinit(struct sending *sending) {
    pages_deinit(&sending->pages);
    free(sending->chunks);
    sending->chunks = NULL;
    sending->chunks_size = sending->head = sending->tail = sending->lost = sending->lost_next = 0;
    if (sending->reserved > 0)
        window_budget_give(sending->budget, sending->reserved);
    sending->reserved = 0;
}

uint64_t stripe_room(const struct stripe *stripe) {
    const struct sending *out = &stripe->out;
    if (stripe->state != STRIPE_OPEN || out->ended)
        return 0;
    return least_of(out->limit - out->given, out->reserved - kept(out));
}

void stripe_make_room(struct stripe *stripe, uint32_t len) {
    struct sending *out = &stripe->out;
    uint64_t room = out->reserved - kept(out);
    if (stripe->state != STRIPE_OPEN || room >= len)
        return;
    uint32_t missing = len - (uint32_t)room;
    if (missing <= LIMIT_STRIPE_WINDOW_BYTES - out->reserved)
        out->reserved += window_budget_take(out->budget, missing, missing);
}

/* Doubles while more than half is in use: what is reserved follows what the peer's window lets be under way. */
static void reserve_more(struct sending *sending) {
    if (kept(sending) <= sending->reserved / 2)
        return;
    uint64_t want = least_of(sending->reserved, LIMIT_STRIPE_WINDOW_BYTES - sending->reserved);
    if (want > 0)
        sending->reserved += window_budget_take(sending->budget, (uint32_t)want, 0);
}

/* All of it when nothing is kept; and half of what is not in use while others need the room. */
static void reserve_less(struct sending *sending) {
    uint64_t keep = kept(sending) > KEPT_LEAST ? kept(sending) : KEPT_LEAST;
    uint32_t spare = sending->reserved - (uint32_t)keep;
    if (kept(sending) > 0)
        spare = window_budget_low(sending->budget) ? spare / 2 : 0;
    if (spare == 0)
        return;
    sending->reserved -= spare;
    window_budget_give(sending->budget, spare);
}

/* All pages or none. */
static int pages_for(struct sending *sending, size_t len) {
    uint64_t first = sending->given / STRIPE_CHUNK_BYTES, last = (sending->given + len - 1) / STRIPE_CHUNK_BYTES;
    bool first_new = !pages_find(&sending->pages, first);
    for (uint64_t number = first; number <= last; number++) {
        if (pages_make(&sending->pages, number))
            continue;
        while (number-- > first + !first_new)
            pages_drop(&sending->pages, number);
        return ERR_NOMEM;
    }
    return 0;
}

int stripe_give(struct stripe *stripe, const void *data, size_t len) {
    CHECK(len <= stripe_room(stripe));
    struct sending *out = &stripe->out;
    if (len == 0)
        return 0;
    if (pages_for(out, len) < 0)
        return ERR_NOMEM;
    for (const uint8_t *at = data, *end = at + len; at < end;) {
        uint32_t start = (uint32_t)(out->given % STRIPE_CHUNK_BYTES);
        size_t part = least_of((uint64_t)(end - at), STRIPE_CHUNK_BYTES - start);
        memcpy(pages_find(&out->pages, out->given / STRIPE_CHUNK_BYTES)->data + start, at, part);
        out->given += part;
        at += part;
    }
    reserve_more(out);
    return 0;
}

void stripe_end(struct stripe *stripe) {
    stripe->out.ended = true;
}

/* One pass over at most LIMIT_STRIPE_CHUNKS small entries: a loss is rare, and lists for each lane would cost every
 * record of those that are not lost. */
void sending_lane_lost(struct sending *sending, unsigned lane) {
    for (uint32_t number = sending->head; number != sending->tail; number++) {
        struct chunk *chunk = chunk_at(sending, number);
        if (chunk->lane != lane)
            continue;
        chunk->lane = LANE_NONE;
        sending->lost++;
    }
    sending->lost_next = sending->head;
    if (sending->end_lane == lane)
        sending->end_said = false;
}

static void drop_taken(struct sending *sending, uint64_t before) {
    while (sending->head != sending->tail) {
        const struct chunk *chunk = chunk_at(sending, sending->head);
        if (chunk->offset + chunk->len > before)
            break;
        sending->lost -= chunk->lane == LANE_NONE;
        if (sending->lost_next == sending->head)
            sending->lost_next++;
        sending->head++;
    }
}

static void drop_pages(struct sending *sending, uint64_t from, uint64_t to) {
    uint64_t number = from / STRIPE_CHUNK_BYTES;
    for (; number < to / STRIPE_CHUNK_BYTES; number++)
        pages_drop(&sending->pages, number);
    if (to == sending->given)
        pages_drop(&sending->pages, number);
}

/* An older one may come later, on a slower lane. */
int sending_on_taken(struct sending *sending, uint64_t offset, uint32_t number) {
    bool end = sending->end_ever && offset == sending->given + 1;
    if (offset > sending->sent && !end)
        return ERR_PROTOCOL;
    uint64_t before = sending->acked, limit = offset + number;
    sending->end_acked |= end;
    if (limit > sending->limit)
        sending->limit = limit;
    if (offset > before) {
        sending->acked = end ? sending->given : offset;
        drop_taken(sending, sending->acked);
        drop_pages(sending, before, sending->acked);
        reserve_less(sending);
    }
    reserve_more(sending);
    return 0;
}

static bool chunks_grow(struct sending *sending) {
    if (sending->chunks_size == LIMIT_STRIPE_CHUNKS)
        return false;
    uint32_t size = sending->chunks_size * 2;
    struct chunk *chunks = malloc(size * sizeof *chunks);
    if (!chunks)
        return false;
    for (uint32_t number = sending->head; number != sending->tail; number++)
        chunks[number & (size - 1)] = *chunk_at(sending, number);
    free(sending->chunks);
    sending->chunks = chunks;
    sending->chunks_size = size;
    return true;
}

static struct chunk *next_lost(struct sending *sending) {
    if (sending->lost == 0)
        return NULL;
    while (chunk_at(sending, sending->lost_next)->lane != LANE_NONE)
        sending->lost_next++;
    sending->lost--;
    return chunk_at(sending, sending->lost_next++);
}

/* Without room for another chunk the bytes wait until the peer has taken some, and are then cut larger. */
static struct chunk *next_fresh(struct sending *sending) {
    if (sending->sent == sending->given)
        return NULL;
    if (sending->tail - sending->head == sending->chunks_size && !chunks_grow(sending))
        return NULL;
    struct chunk *chunk = chunk_at(sending, sending->tail++);
    uint32_t page_left = STRIPE_CHUNK_BYTES - (uint32_t)(sending->sent % STRIPE_CHUNK_BYTES);
    chunk->offset = sending->sent;
    chunk->len = (uint32_t)least_of(sending->given - sending->sent, page_left);
    sending->sent += chunk->len;
    return chunk;
}

bool sending_next_data(struct sending *sending, unsigned lane, struct chunk *chunk, const uint8_t **data) {
    struct chunk *next = next_lost(sending);
    if (!next)
        next = next_fresh(sending);
    if (!next)
        return false;
    next->lane = (uint8_t)lane;
    *chunk = *next;
    *data = pages_find(&sending->pages, next->offset / STRIPE_CHUNK_BYTES)->data + next->offset % STRIPE_CHUNK_BYTES;
    return true;
}

bool sending_end_due(const struct sending *sending) {
    return sending->ended && sending->sent == sending->given && !sending->end_said && !sending->end_acked;
}

void sending_validate(const struct sending *sending) {
    CHECK(sending->acked <= sending->sent && sending->sent <= sending->given && sending->given <= sending->limit);
    if (!sending->chunks)
        return;
    CHECK(kept(sending) <= sending->reserved && sending->reserved <= LIMIT_STRIPE_WINDOW_BYTES);
    CHECK(sending->tail - sending->head <= sending->chunks_size);
    CHECK(sending->lost_next - sending->head <= sending->tail - sending->head);
    uint32_t lost = 0;
    uint64_t at = sending->sent;
    for (uint32_t number = sending->tail; number-- != sending->head;) {
        const struct chunk *chunk = chunk_at(sending, number);
        CHECK(chunk->len > 0 && chunk->offset + chunk->len == at);
        CHECK(pages_find(&sending->pages, chunk->offset / STRIPE_CHUNK_BYTES));
        at = chunk->offset;
        if (chunk->lane != LANE_NONE)
            continue;
        CHECK(number - sending->head >= sending->lost_next - sending->head);
        lost++;
    }
    CHECK(lost == sending->lost && at <= sending->acked);
    uint64_t pages =
        kept(sending) == 0 ? 0 : (sending->given - 1) / STRIPE_CHUNK_BYTES - sending->acked / STRIPE_CHUNK_BYTES + 1;
    CHECK(sending->pages.count == pages);
}
