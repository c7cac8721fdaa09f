/* The receiving half of a stripe: bytes from any lane are put where they belong at once, also those of a record of
 * which the rest never comes. */
#include "engine/check.h"
#include "ssh/stripe_internal.h"
#include <string.h>

int receiving_init(struct receiving *receiving, struct window_budget *budget, uint32_t window_max) {
    *receiving = (struct receiving){.said_lane = LANE_NONE};
    return window_open(&receiving->window, budget, window_max);
}

void receiving_deinit(struct receiving *receiving) {
    pages_deinit(&receiving->pages);
    window_close(&receiving->window);
}

void receiving_lane_lost(struct receiving *receiving, unsigned lane) {
    if (receiving->said_lane == lane)
        receiving->again = true;
}

int receiving_on_data(struct receiving *receiving, uint64_t offset, uint32_t len, uint64_t now_ns) {
    if (len == 0 || len > STRIPE_CHUNK_BYTES || offset > UINT64_MAX - len)
        return ERR_PROTOCOL;
    uint64_t end = offset + len;
    if (receiving->end_known && end > receiving->total)
        return ERR_PROTOCOL;
    if (end <= receiving->high)
        return 0;
    if (end - receiving->high > receiving->window.granted)
        return ERR_PROTOCOL;
    int result = window_receive(&receiving->window, (uint32_t)(end - receiving->high), now_ns);
    CHECK(result == 0);
    receiving->high = end;
    return 0;
}

/* What came early now follows. */
static void advance(struct receiving *receiving) {
    while (receiving->ready < receiving->high) {
        const struct page *page = pages_find(&receiving->pages, receiving->ready / STRIPE_CHUNK_BYTES);
        uint32_t run = page ? page_run(page, (uint32_t)(receiving->ready % STRIPE_CHUNK_BYTES)) : 0;
        if (run == 0)
            return;
        receiving->ready += run;
    }
}

/* The peer has used nearly all that it may, the application has taken all that is in order, and yet there is more: it
 * is the lanes that differ, and the shortest round trip says nothing about the longest. */
static void widen(struct receiving *receiving) {
    const struct window *window = &receiving->window;
    bool waits = receiving->taken == receiving->ready && receiving->ready < receiving->high;
    if (waits && window->granted + window->owed < window->target / 8)
        window_widen(&receiving->window);
}

/* Within one page. */
static int put_part(struct receiving *receiving, uint64_t offset, const uint8_t *data, uint32_t len) {
    struct page *page = pages_make(&receiving->pages, offset / STRIPE_CHUNK_BYTES);
    if (!page)
        return ERR_NOMEM;
    uint32_t start = (uint32_t)(offset % STRIPE_CHUNK_BYTES);
    memcpy(page->data + start, data, len);
    if (offset > receiving->ready)
        return pages_mark(&receiving->pages, page, start, len);
    receiving->ready += len;
    return 0;
}

/* What is in order already may have been shown to the application and is left alone. */
int receiving_put(struct receiving *receiving, uint64_t offset, const uint8_t *data, size_t len) {
    uint64_t end = offset + len;
    if (offset < receiving->ready) {
        uint64_t known = (end < receiving->ready ? end : receiving->ready) - offset;
        offset += known;
        data += known;
    }
    while (offset < end) {
        uint64_t page_end = (offset / STRIPE_CHUNK_BYTES + 1) * STRIPE_CHUNK_BYTES;
        uint32_t part = (uint32_t)((end < page_end ? end : page_end) - offset);
        if (put_part(receiving, offset, data, part) < 0)
            return ERR_NOMEM;
        offset += part;
        data += part;
    }
    advance(receiving);
    widen(receiving);
    return 0;
}

int receiving_on_end(struct receiving *receiving, uint64_t total) {
    if (receiving->end_known)
        return total == receiving->total ? 0 : ERR_PROTOCOL;
    if (total < receiving->high || total - receiving->high > receiving->window.granted)
        return ERR_PROTOCOL;
    receiving->end_known = true;
    receiving->total = total;
    return 0;
}

size_t stripe_peek(const struct stripe *stripe, const uint8_t **data) {
    const struct receiving *in = &stripe->in;
    if (stripe->state == STRIPE_BROKEN || in->ready == in->taken)
        return 0;
    uint64_t number = in->taken / STRIPE_CHUNK_BYTES, page_end = (number + 1) * STRIPE_CHUNK_BYTES;
    *data = pages_find(&in->pages, number)->data + in->taken % STRIPE_CHUNK_BYTES;
    return (in->ready < page_end ? in->ready : page_end) - in->taken;
}

void stripe_took(struct stripe *stripe, size_t len) {
    struct receiving *in = &stripe->in;
    uint64_t number = in->taken / STRIPE_CHUNK_BYTES;
    CHECK(len >= 1 && len <= in->ready - in->taken && in->taken % STRIPE_CHUNK_BYTES + len <= STRIPE_CHUNK_BYTES);
    in->taken += len;
    window_consume(&in->window, (uint32_t)len);
    if (in->taken / STRIPE_CHUNK_BYTES != number || in->taken == in->high)
        pages_drop(&in->pages, number);
    widen(in);
}

bool stripe_ended(const struct stripe *stripe) {
    const struct receiving *in = &stripe->in;
    return stripe->state == STRIPE_OPEN && in->end_known && in->taken == in->total && !in->end_taken;
}

void stripe_end_taken(struct stripe *stripe) {
    CHECK(stripe_ended(stripe));
    stripe->in.end_taken = true;
}

/* At the latest when nothing more is known to come: the peer then waits for it, or keeps memory for nothing. */
bool receiving_taken_due(const struct receiving *receiving) {
    if (receiving->again)
        return true;
    if (receiving->end_taken)
        return !receiving->end_taken_said;
    return window_grant_due(&receiving->window) ||
           (receiving->taken == receiving->high && receiving->taken > receiving->said);
}

void receiving_repeat_taken(const struct receiving *receiving, uint64_t *offset, uint32_t *number) {
    uint64_t limit = receiving->high + receiving->window.granted;
    *offset = receiving->taken + receiving->end_taken;
    *number = limit > *offset ? (uint32_t)(limit - *offset) : 0;
}

void receiving_say_taken(struct receiving *receiving, unsigned lane, uint64_t now_ns, uint64_t *offset,
                         uint32_t *number) {
    uint32_t granted = window_grant(&receiving->window, now_ns);
    (void)granted; /* said as a limit, with all before it */
    receiving_repeat_taken(receiving, offset, number);
    receiving->said = receiving->taken;
    receiving->said_lane = (uint8_t)lane;
    receiving->again = false;
    receiving->end_taken_said = receiving->end_taken;
}

void receiving_validate(const struct receiving *receiving) {
    window_validate(&receiving->window);
    CHECK(receiving->said <= receiving->taken && receiving->taken <= receiving->ready);
    CHECK(receiving->ready <= receiving->high);
    CHECK(receiving->high - receiving->taken == receiving->window.unconsumed);
    CHECK(!receiving->end_known || receiving->high <= receiving->total);
    CHECK(!receiving->end_taken || (receiving->end_known && receiving->taken == receiving->total));
    uint64_t first = receiving->taken / STRIPE_CHUNK_BYTES, last = receiving->high / STRIPE_CHUNK_BYTES;
    CHECK(receiving->pages.count <= last - first + 1 && receiving->pages.bitmaps <= receiving->pages.count);
    CHECK(receiving->taken < receiving->high || receiving->pages.count == 0);
}
