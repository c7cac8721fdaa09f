#pragma once
/* One stripe, and records said to it and heard from it by hand. */
#include "engine/limits.h"
#include "ssh/codec.h"
#include "ssh/stripe_internal.h"
#include <criterion/criterion.h>
#include <string.h>

#define MIB (1u << 20)

struct record {
    enum stripe_record kind;
    uint32_t number;
    uint64_t offset;
    const uint8_t *data;
};

static struct window_budget rig_budget;
static uint64_t rig_now = 1;

static inline uint8_t rig_byte(uint64_t offset) {
    return (uint8_t)(offset * UINT64_C(0x9E3779B97F4A7C15) >> 56);
}

static inline struct stripe *rig_create(uint32_t window_max) {
    struct stripe *stripe;
    window_budget_init(&rig_budget, LIMIT_WINDOW_BUDGET_BYTES);
    cr_assert_eq(stripe_create(&rig_budget, window_max, &stripe), 0);
    return stripe;
}

/* Everything is given back. */
static inline void rig_destroy(struct stripe *stripe) {
    stripe_validate(stripe);
    stripe_destroy(stripe);
    cr_assert_eq(atomic_load(&rig_budget.used), 0);
    cr_assert_eq(atomic_load(&rig_budget.windows), 0);
}

static inline size_t rig_record(uint8_t *bytes, unsigned kind, uint64_t offset, uint32_t number) {
    bytes[0] = (uint8_t)kind;
    codec_put_u32(bytes + 1, number);
    codec_put_u32(bytes + 5, (uint32_t)(offset >> 32));
    codec_put_u32(bytes + 9, (uint32_t)offset);
    if (kind != RECORD_DATA || number > STRIPE_CHUNK_BYTES)
        return STRIPE_HEADER_BYTES;
    for (uint32_t i = 0; i < number; i++)
        bytes[STRIPE_HEADER_BYTES + i] = rig_byte(offset + i);
    return STRIPE_HEADER_BYTES + number;
}

/* The peer says it; of DATA it is rig_byte of each offset. */
static inline int rig_say(struct stripe *stripe, unsigned lane, unsigned kind, uint64_t offset, uint32_t number) {
    static uint8_t bytes[STRIPE_HEADER_BYTES + STRIPE_CHUNK_BYTES];
    int result = stripe_input(stripe, lane, bytes, rig_record(bytes, kind, offset, number), rig_now);
    stripe_validate(stripe);
    return result;
}

/* False: nothing to hear. Data is as rig_give gave it. */
static inline bool rig_hear(struct stripe *stripe, unsigned lane, struct record *record) {
    uint8_t header[STRIPE_HEADER_BYTES];
    size_t len;
    bool said = stripe_next(stripe, lane, rig_now, header, &record->data, &len);
    stripe_validate(stripe);
    if (!said)
        return false;
    record->kind = header[0];
    record->number = codec_get_u32(header + 1);
    record->offset = (uint64_t)codec_get_u32(header + 5) << 32 | codec_get_u32(header + 9);
    cr_assert_eq(len, record->kind == RECORD_DATA ? record->number : 0);
    for (size_t i = 0; i < len; i++)
        cr_assert_eq(record->data[i], rig_byte(record->offset + i));
    return true;
}

static inline void rig_expect(struct stripe *stripe, unsigned lane, unsigned kind, uint64_t offset, uint32_t number) {
    struct record record;
    cr_assert(rig_hear(stripe, lane, &record), "nothing said");
    cr_assert(record.kind == kind && record.offset == offset && record.number == number, "said %u %lu %u", record.kind,
              record.offset, record.number);
}
static inline void rig_expect_silence(struct stripe *stripe, unsigned lane) {
    struct record record;
    cr_assert_not(rig_hear(stripe, lane, &record));
}

static inline void rig_give(struct stripe *stripe, size_t len) {
    uint8_t *bytes = malloc(len);
    for (size_t i = 0; i < len; i++)
        bytes[i] = rig_byte(stripe_bytes_out(stripe) + i);
    cr_assert_eq(stripe_give(stripe, bytes, len), 0);
    free(bytes);
    stripe_validate(stripe);
}

/* The application takes all that is there; returns how much. */
static inline size_t rig_take(struct stripe *stripe) {
    const uint8_t *data;
    size_t all = 0, len;
    while ((len = stripe_peek(stripe, &data)) > 0) {
        for (size_t i = 0; i < len; i++)
            cr_assert_eq(data[i], rig_byte(stripe_bytes_in(stripe) + i));
        stripe_took(stripe, len);
        stripe_validate(stripe);
        all += len;
    }
    return all;
}

/* The place is the identity, unless it serves again. */
static inline void rig_add(struct stripe *stripe, unsigned lane, uint32_t identity) {
    cr_assert_eq(stripe_lane_add(stripe, lane, identity, false), 0);
    stripe_validate(stripe);
}

/* One on which nothing has been heard. */
static inline void rig_add_waiting(struct stripe *stripe, unsigned lane, uint32_t identity) {
    cr_assert_eq(stripe_lane_add(stripe, lane, identity, true), 0);
    stripe_validate(stripe);
}

/* With lanes 0..lanes) that were greeted, 0 last, and leave to send. */
static inline struct stripe *rig_open(unsigned lanes, uint32_t window_max, uint32_t limit) {
    struct stripe *stripe = rig_create(window_max);
    for (unsigned i = lanes; i-- > 0;) {
        struct record record;
        rig_add(stripe, i, i);
        cr_assert(rig_hear(stripe, i, &record) && record.kind == RECORD_TAKEN);
    }
    cr_assert_eq(rig_say(stripe, 0, RECORD_TAKEN, 0, limit), 0);
    return stripe;
}
