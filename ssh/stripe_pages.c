/* The pages of a stripe: see stripe_internal.h. */
#include "engine/check.h"
#include "ssh/stripe_internal.h"
#include <stdlib.h>
#include <string.h>

#define RING_LEAST 8u

static struct page *place_of(const struct pages *pages, uint64_t number) {
    return &pages->ring[number & (pages->size - 1)];
}

static void page_free(struct page *page) {
    free(page->data);
    free(page->present);
    *page = (struct page){0};
}

void pages_deinit(struct pages *pages) {
    for (uint64_t i = 0; i < pages->size && pages->count > 0; i++) {
        pages->count -= pages->ring[i].data != NULL;
        page_free(&pages->ring[i]);
    }
    free(pages->ring);
    *pages = (struct pages){0};
}

struct page *pages_find(const struct pages *pages, uint64_t number) {
    if (pages->size == 0)
        return NULL;
    struct page *page = place_of(pages, number);
    return page->data && page->number == number ? page : NULL;
}

/* Two that do not share a place do not share one in a ring twice as large either. */
static int ring_grow(struct pages *pages) {
    struct pages grown = {.size = pages->size ? pages->size * 2 : RING_LEAST};
    grown.ring = calloc(grown.size, sizeof *grown.ring);
    if (!grown.ring)
        return ERR_NOMEM;
    for (uint64_t i = 0; i < pages->size; i++)
        if (pages->ring[i].data)
            *place_of(&grown, pages->ring[i].number) = pages->ring[i];
    free(pages->ring);
    pages->ring = grown.ring;
    pages->size = grown.size;
    return 0;
}

struct page *pages_make(struct pages *pages, uint64_t number) {
    struct page *page = pages_find(pages, number);
    if (page)
        return page;
    while (pages->size == 0 || place_of(pages, number)->data)
        if (ring_grow(pages) < 0)
            return NULL;
    page = place_of(pages, number);
    page->data = malloc(STRIPE_CHUNK_BYTES);
    if (!page->data)
        return NULL;
    page->number = number;
    pages->count++;
    return page;
}

void pages_drop(struct pages *pages, uint64_t number) {
    struct page *page = pages_find(pages, number);
    if (!page)
        return;
    pages->bitmaps -= page->present != NULL;
    pages->count--;
    page_free(page);
    if (pages->count == 0 && pages->size > RING_LEAST)
        pages_deinit(pages);
}

int pages_mark(struct pages *pages, struct page *page, uint32_t start, uint32_t len) {
    CHECK(start + len <= STRIPE_CHUNK_BYTES);
    if (!page->present) {
        page->present = calloc(PAGE_WORDS, sizeof *page->present);
        if (!page->present)
            return ERR_NOMEM;
        pages->bitmaps++;
    }
    for (uint32_t end = start + len; start < end;) {
        uint32_t bit = start % 64, bits = 64 - bit < end - start ? 64 - bit : end - start;
        page->present[start / 64] |= UINT64_MAX >> (64 - bits) << bit;
        start += bits;
    }
    return 0;
}

uint32_t page_run(const struct page *page, uint32_t start) {
    if (!page->present)
        return 0;
    uint32_t at = start;
    while (at < STRIPE_CHUNK_BYTES) {
        uint32_t bit = at % 64;
        uint64_t missing = ~page->present[at / 64] >> bit;
        if (missing)
            return at + (uint32_t)__builtin_ctzll(missing) - start;
        at += 64 - bit;
    }
    return at - start;
}

uint64_t pages_bytes(const struct pages *pages) {
    return pages->size * sizeof *pages->ring + (uint64_t)pages->count * STRIPE_CHUNK_BYTES +
           (uint64_t)pages->bitmaps * PAGE_WORDS * sizeof(uint64_t);
}
