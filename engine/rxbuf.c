#include "engine/rxbuf.h"
#include "engine/check.h"
#include "engine/limits.h"
#include <stdlib.h>
#include <string.h>

/* One block is enough for a ring full of packets of the usual size. */
#define BLOCK_SLICES 64u
/* A partial packet is shorter than the longest packet with its length field and tag; more than that is whole packets
 * whose parsing has paused, which stay in the ring. */
#define PARTIAL_BYTES_MAX (LIMIT_PACKET_BYTES + 64u)

struct slice_block {
    struct slice_block *next;
    struct slice slices[BLOCK_SLICES];
};

void rxbuf_init(struct rxbuf *rx, struct ring_pool *pool) {
    *rx = (struct rxbuf){.pool = pool};
}

/* Without slices there is at most one block in the list, and the spare one. */
static void blocks_free(struct rxbuf *rx) {
    CHECK(rx->slices == 0 && rx->first == rx->last);
    free(rx->first);
    free(rx->spare);
    rx->first = rx->last = rx->spare = NULL;
    rx->first_at = rx->last_at = 0;
}

static void partial_free(struct rxbuf *rx) {
    free(rx->partial);
    rx->partial = NULL;
    rx->partial_at = rx->partial_len = 0;
}

static void ring_return(struct rxbuf *rx) {
    ring_pool_put(rx->pool, rx->ring);
    rx->ring = NULL;
    rx->parsed = rx->held_end = 0;
    rx->space = 0;
}

void rxbuf_deinit(struct rxbuf *rx) {
    CHECK(rx->slices == 0);
    blocks_free(rx);
    partial_free(rx);
    if (rx->ring)
        ring_return(rx);
}

static int ring_borrow(struct rxbuf *rx) {
    rx->ring = ring_pool_take(rx->pool);
    if (!rx->ring)
        return ERR_NOMEM;
    rx->parsed = rx->held_end = 0;
    if (!rx->partial)
        return ERR_OK;
    uint32_t len = rx->partial_len - rx->partial_at;
    memcpy(rx->ring->base, rx->partial + rx->partial_at, len);
    ring_produce(rx->ring, len);
    partial_free(rx);
    return ERR_OK;
}

/* Starting over at the ring's beginning keeps a session that drains its ring on the same few, cached pages. */
static void ring_rewind(struct rxbuf *rx) {
    rx->ring->head = rx->ring->tail = 0;
    rx->parsed = rx->held_end = 0;
}

int rxbuf_space(struct rxbuf *rx, size_t min_bytes, uint8_t **data, size_t *len) {
    if (!rx->ring && ring_borrow(rx) < 0)
        return ERR_NOMEM;
    if (ring_used(rx->ring) == 0)
        ring_rewind(rx);
    size_t space = ring_free(rx->ring);
    if (space == 0 || space < min_bytes)
        return ERR_FULL;
    rx->space = space;
    *data = ring_at(rx->ring, rx->ring->head);
    *len = space;
    return ERR_OK;
}

void rxbuf_filled(struct rxbuf *rx, size_t bytes) {
    CHECK(bytes <= rx->space);
    rx->space = 0;
    if (bytes > 0)
        ring_produce(rx->ring, bytes);
}

uint8_t *rxbuf_unparsed(const struct rxbuf *rx, size_t *len) {
    if (rx->ring) {
        *len = (size_t)(rx->ring->head - rx->parsed);
        return ring_at(rx->ring, rx->parsed);
    }
    *len = rx->partial_len - rx->partial_at;
    return rx->partial ? rx->partial + rx->partial_at : NULL;
}

static struct slice_block *block_new(struct rxbuf *rx) {
    struct slice_block *block = rx->spare ? rx->spare : malloc(sizeof *block);
    rx->spare = NULL;
    if (block)
        block->next = NULL;
    return block;
}

static struct slice *slice_append(struct rxbuf *rx) {
    if (!rx->last || rx->last_at == BLOCK_SLICES) {
        struct slice_block *block = block_new(rx);
        if (!block)
            return NULL;
        if (rx->last)
            rx->last->next = block;
        else
            rx->first = block;
        rx->last = block;
        rx->last_at = 0;
    }
    rx->slices++;
    return &rx->last->slices[rx->last_at++];
}

struct slice *rxbuf_hold(struct rxbuf *rx, uint8_t *data, uint32_t len) {
    if (!rx->ring || rx->slices == LIMIT_SLICES_PER_RING)
        return NULL;
    const struct ring *ring = rx->ring;
    CHECK(len > 0 && data >= ring->base && data < ring->base + ring->size * 2);
    /* Modulo the size: data may be an address in the other mapping than the one that rxbuf_unparsed would give now. */
    size_t offset = ((size_t)(data - ring->base) - (size_t)rx->parsed) & (ring->size - 1);
    uint64_t pos = rx->parsed + offset;
    CHECK(pos < ring->head && len <= ring->head - pos);
    CHECK(pos >= rx->held_end);
    struct slice *slice = slice_append(rx);
    if (!slice)
        return NULL;
    *slice = (struct slice){.data = ring_at(ring, pos), .len = len, .pos = pos};
    list_init(&slice->node);
    rx->held_end = pos + len;
    return slice;
}

/* The ring's memory is free again up to what is still wanted. */
static void tail_advance(struct rxbuf *rx) {
    const struct slice *oldest = rxbuf_oldest(rx);
    uint64_t tail = oldest && oldest->pos < rx->parsed ? oldest->pos : rx->parsed;
    ring_consume(rx->ring, (size_t)(tail - rx->ring->tail));
}

void rxbuf_parsed(struct rxbuf *rx, size_t bytes) {
    if (!rx->ring) {
        CHECK(bytes <= rx->partial_len - rx->partial_at);
        rx->partial_at += (uint32_t)bytes;
        return;
    }
    CHECK(bytes <= rx->ring->head - rx->parsed);
    rx->parsed += bytes;
    tail_advance(rx);
}

static void block_retire(struct rxbuf *rx) {
    struct slice_block *block = rx->first;
    rx->first = block->next;
    rx->first_at = 0;
    if (!rx->first)
        rx->last = NULL;
    free(rx->spare);
    rx->spare = block;
}

/* Slices are released in any order, and retired in order of position. */
static void slices_retire(struct rxbuf *rx) {
    while (rx->slices > 0 && rx->first->slices[rx->first_at].released) {
        rx->slices--;
        rx->first_at++;
        if (rx->first_at == BLOCK_SLICES)
            block_retire(rx);
    }
}

void rxbuf_release(struct rxbuf *rx, struct slice *slice) {
    CHECK(rx->slices > 0 && !slice->released);
    slice->released = true;
    slices_retire(rx);
    tail_advance(rx);
}

struct slice *rxbuf_oldest(struct rxbuf *rx) {
    return rx->slices > 0 ? &rx->first->slices[rx->first_at] : NULL;
}

static bool partial_make(struct rxbuf *rx, const uint8_t *bytes, size_t len) {
    uint8_t *copy = malloc(len);
    if (!copy)
        return false;
    memcpy(copy, bytes, len);
    rx->partial = copy;
    rx->partial_len = (uint32_t)len;
    return true;
}

int rxbuf_put_early(struct rxbuf *rx, const uint8_t *bytes, size_t len) {
    CHECK(!rx->ring && !rx->partial && len <= rx->pool->ring_bytes);
    return len == 0 || partial_make(rx, bytes, len) ? ERR_OK : ERR_NOMEM;
}

static bool partial_keep(struct rxbuf *rx) {
    size_t len = 0;
    const uint8_t *unparsed = rxbuf_unparsed(rx, &len);
    if (len == 0)
        return true;
    return len <= PARTIAL_BYTES_MAX && partial_make(rx, unparsed, len);
}

void rxbuf_idle(struct rxbuf *rx) {
    if (!rx->ring || rx->slices > 0 || !partial_keep(rx))
        return;
    blocks_free(rx);
    ring_return(rx);
}
