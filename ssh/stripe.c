#include "ssh/stripe.h"
#include "engine/check.h"
#include "ssh/codec.h"
#include "ssh/stripe_internal.h"
#include <stdlib.h>
#include <string.h>

int stripe_create(struct window_budget *budget, uint32_t window_max, struct stripe **stripe) {
    struct stripe *created = calloc(1, sizeof *created);
    if (!created)
        return ERR_NOMEM;
    int result = receiving_init(&created->in, budget, window_max);
    if (result == 0)
        result = sending_init(&created->out, budget);
    if (result < 0) {
        receiving_deinit(&created->in);
        free(created);
        return result;
    }
    *stripe = created;
    return 0;
}

void stripe_destroy(struct stripe *stripe) {
    if (!stripe)
        return;
    sending_deinit(&stripe->out);
    receiving_deinit(&stripe->in);
    free(stripe);
}

enum stripe_state stripe_state(const struct stripe *stripe) {
    return stripe->state;
}

/* What is kept for the peer is not wanted any more; what was shown to the application stays, it may be looking. */
static void enter(struct stripe *stripe, enum stripe_state state) {
    CHECK(stripe->state == STRIPE_OPEN && state != STRIPE_OPEN);
    stripe->state = state;
    sending_deinit(&stripe->out);
}

static void check_done(struct stripe *stripe) {
    if (stripe->state == STRIPE_OPEN && stripe->out.end_acked && stripe->in.end_taken_said)
        enter(stripe, STRIPE_DONE);
}

bool stripe_delivered(const struct stripe *stripe) {
    return stripe->out.end_acked;
}

void stripe_reset(struct stripe *stripe) {
    if (stripe->state == STRIPE_OPEN)
        enter(stripe, STRIPE_BROKEN);
}

int stripe_lane_add(struct stripe *stripe, unsigned lane, uint32_t identity, bool waits) {
    CHECK(lane < STRIPE_LANES_MAX && !stripe->lanes[lane].used);
    if (!stripe_identity_use(&stripe->identities, identity))
        return ERR_REFUSED;
    stripe->lanes[lane] = (struct lane){.used = true, .waits = waits, .identity = identity};
    stripe->lanes_used++;
    return 0;
}

bool stripe_lane_lost_there(const struct stripe *stripe, unsigned lane) {
    return stripe->lanes[lane].used && stripe->lanes[lane].lost_there;
}

static void note_lost(struct stripe *stripe, uint32_t identity) {
    stripe->lost[stripe->lost_count++ % LIMIT_STRIPE_LOST] = identity;
}

/* A peer ends lanes in order when it has all that was sent and knows that its own END was taken, not before. */
static bool peer_is_done(const struct stripe *stripe) {
    return stripe->out.end_ever && stripe->in.end_taken;
}

void stripe_lane_gone(struct stripe *stripe, unsigned lane, bool in_order) {
    CHECK(lane < STRIPE_LANES_MAX && stripe->lanes[lane].used);
    stripe->lanes[lane].used = false;
    stripe->lanes_used--;
    if (stripe->state != STRIPE_OPEN)
        return;
    if (stripe->lanes_used == 0)
        return enter(stripe, in_order && peer_is_done(stripe) ? STRIPE_DONE : STRIPE_BROKEN);
    sending_lane_lost(&stripe->out, lane);
    receiving_lane_lost(&stripe->in, lane);
    if (!stripe->lanes[lane].lost_there)
        note_lost(stripe, stripe->lanes[lane].identity);
}

unsigned stripe_lanes(const struct stripe *stripe) {
    return stripe->lanes_used;
}

static void put_header(uint8_t *header, enum stripe_record kind, uint64_t offset, uint32_t number) {
    header[0] = (uint8_t)kind;
    codec_put_u32(header + 1, number);
    codec_put_u32(header + 5, (uint32_t)(offset >> 32));
    codec_put_u32(header + 9, (uint32_t)offset);
}

static bool greet(const struct stripe *stripe, struct lane *lane, uint8_t *header) {
    uint64_t offset;
    uint32_t more;
    receiving_repeat_taken(&stripe->in, &offset, &more);
    put_header(header, RECORD_TAKEN, offset, more);
    return lane->greeted = true;
}

static bool say_taken(struct stripe *stripe, unsigned number, uint64_t now_ns, uint8_t *header) {
    struct lane *lane = &stripe->lanes[number];
    uint64_t offset;
    uint32_t more;
    receiving_say_taken(&stripe->in, number, now_ns, &offset, &more);
    put_header(header, RECORD_TAKEN, offset, more);
    lane->greeted = true;
    lane->told_end = stripe->in.end_taken;
    check_done(stripe);
    return true;
}

static bool say_end(struct stripe *stripe, unsigned lane, uint8_t *header) {
    put_header(header, RECORD_END, stripe->out.given, 0);
    stripe->out.end_said = stripe->out.end_ever = true;
    stripe->out.end_lane = (uint8_t)lane;
    return true;
}

/* A lane that comes later says them, too: those on which it was said may have been lost with it. */
static bool say_lost(const struct stripe *stripe, struct lane *lane, uint8_t *header) {
    if (stripe->lost_count - lane->lost_told > LIMIT_STRIPE_LOST)
        lane->lost_told = stripe->lost_count - LIMIT_STRIPE_LOST;
    put_header(header, RECORD_LOST, 0, stripe->lost[lane->lost_told++ % LIMIT_STRIPE_LOST]);
    return true;
}

static bool say_reset(struct lane *lane, uint8_t *header) {
    put_header(header, RECORD_RESET, 0, 0);
    return lane->told_reset = true;
}

bool stripe_next(struct stripe *stripe, unsigned lane, uint64_t now_ns, uint8_t header[STRIPE_HEADER_BYTES],
                 const uint8_t **data, size_t *len) {
    CHECK(lane < STRIPE_LANES_MAX && stripe->lanes[lane].used);
    struct lane *to = &stripe->lanes[lane];
    *data = NULL;
    *len = 0;
    if (to->lost_there || (stripe->state != STRIPE_OPEN && stripe_lane_finished(stripe, lane)))
        return false;
    if (stripe->state == STRIPE_BROKEN)
        return say_reset(to, header);
    if (stripe->state == STRIPE_OPEN && to->waits && !to->greeted)
        return greet(stripe, to, header);
    if (stripe->state == STRIPE_DONE || !to->greeted)
        return say_taken(stripe, lane, now_ns, header);
    if (to->lost_told != stripe->lost_count)
        return say_lost(stripe, to, header);
    if (to->waits)
        return false;
    if (receiving_taken_due(&stripe->in))
        return say_taken(stripe, lane, now_ns, header);
    struct chunk chunk;
    if (sending_next_data(&stripe->out, lane, &chunk, data)) {
        put_header(header, RECORD_DATA, chunk.offset, chunk.len);
        *len = chunk.len;
        return true;
    }
    return sending_end_due(&stripe->out) && say_end(stripe, lane, header);
}

/* After DONE the peer's END is confirmed on each lane, so that it is enough for the peer that one of them arrives. */
bool stripe_lane_finished(const struct stripe *stripe, unsigned lane) {
    CHECK(lane < STRIPE_LANES_MAX && stripe->lanes[lane].used);
    const struct lane *to = &stripe->lanes[lane];
    if (stripe->state == STRIPE_BROKEN)
        return to->told_reset;
    return stripe->state == STRIPE_DONE && to->told_end;
}

/* Of one that is not here it is noted: it may be on its way. */
static int on_lost(struct stripe *stripe, const struct lane *heard_on, uint32_t identity) {
    if (identity == heard_on->identity)
        return ERR_PROTOCOL;
    for (unsigned i = 0; i < STRIPE_LANES_MAX; i++) {
        struct lane *lane = &stripe->lanes[i];
        lane->lost_there |= lane->used && lane->identity == identity;
    }
    (void)stripe_identity_use(&stripe->identities, identity);
    return 0;
}

static int on_header(struct stripe *stripe, struct lane *lane, uint64_t now_ns) {
    const uint8_t *header = lane->header;
    uint32_t number = codec_get_u32(header + 1);
    uint64_t offset = (uint64_t)codec_get_u32(header + 5) << 32 | codec_get_u32(header + 9);
    int result;
    switch (header[0]) {
    case RECORD_DATA:
        result = receiving_on_data(&stripe->in, offset, number, now_ns);
        lane->data_left = result == 0 ? number : 0;
        lane->data_offset = offset;
        return result;
    case RECORD_TAKEN:
        return sending_on_taken(&stripe->out, offset, number);
    case RECORD_END:
        return number == 0 ? receiving_on_end(&stripe->in, offset) : ERR_PROTOCOL;
    case RECORD_RESET:
        if (number != 0 || offset != 0)
            return ERR_PROTOCOL;
        enter(stripe, STRIPE_BROKEN);
        return 0;
    case RECORD_LOST:
        return offset == 0 ? on_lost(stripe, lane, number) : ERR_PROTOCOL;
    default:
        return ERR_PROTOCOL;
    }
}

static size_t input_header(struct lane *lane, const uint8_t *data, size_t len) {
    size_t missing = STRIPE_HEADER_BYTES - lane->header_len, part = len < missing ? len : missing;
    memcpy(lane->header + lane->header_len, data, part);
    lane->header_len += (uint8_t)part;
    return part;
}

static int input_data(struct stripe *stripe, struct lane *lane, const uint8_t *data, size_t len, size_t *used) {
    uint32_t part = len < lane->data_left ? (uint32_t)len : lane->data_left;
    uint64_t offset = lane->data_offset;
    lane->data_left -= part;
    lane->data_offset += part;
    *used = part;
    return receiving_put(&stripe->in, offset, data, part);
}

/* One header, or bytes of one DATA. */
static int input_part(struct stripe *stripe, struct lane *lane, const uint8_t *data, size_t len, uint64_t now_ns,
                      size_t *used) {
    if (lane->data_left > 0)
        return input_data(stripe, lane, data, len, used);
    *used = input_header(lane, data, len);
    if (lane->header_len < STRIPE_HEADER_BYTES)
        return 0;
    lane->header_len = 0;
    int result = on_header(stripe, lane, now_ns);
    check_done(stripe);
    return result;
}

int stripe_input(struct stripe *stripe, unsigned lane, const uint8_t *data, size_t len, uint64_t now_ns) {
    CHECK(lane < STRIPE_LANES_MAX && stripe->lanes[lane].used);
    stripe->lanes[lane].waits = false;
    while (len > 0 && stripe->state == STRIPE_OPEN) {
        size_t used = 0;
        int result = input_part(stripe, &stripe->lanes[lane], data, len, now_ns, &used);
        if (result < 0) {
            enter(stripe, STRIPE_BROKEN);
            return result;
        }
        data += used;
        len -= used;
    }
    return 0;
}

uint64_t stripe_bytes_in(const struct stripe *stripe) {
    return stripe->in.taken;
}
uint64_t stripe_bytes_out(const struct stripe *stripe) {
    return stripe->out.given;
}
uint64_t stripe_bytes_gone(const struct stripe *stripe) {
    return stripe->out.acked;
}
uint64_t stripe_bytes_held(const struct stripe *stripe) {
    return pages_bytes(&stripe->in.pages) + pages_bytes(&stripe->out.pages);
}

void stripe_validate(const struct stripe *stripe) {
    sending_validate(&stripe->out);
    receiving_validate(&stripe->in);
    unsigned used = 0;
    for (unsigned i = 0; i < STRIPE_LANES_MAX; i++) {
        const struct lane *lane = &stripe->lanes[i];
        used += lane->used;
        CHECK(!lane->used || (lane->header_len < STRIPE_HEADER_BYTES && lane->data_left <= STRIPE_CHUNK_BYTES));
    }
    CHECK(used == stripe->lanes_used);
    CHECK(stripe->state != STRIPE_OPEN || !stripe->out.end_acked || !stripe->in.end_taken_said);
}
