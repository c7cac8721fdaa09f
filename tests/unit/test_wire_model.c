/* Two wires that talk at random, through pipes that cut their bytes anywhere, rekey when either side likes, and get
 * their keys early or late; beside them a model that knows what each must say. The failing seed is printed. */
#include "wire_pair.h"
#include <stdbool.h>

#define SEEDS 400u
#define STEPS 400u
#define PAYLOAD_MAX 3000u
#define UNDERWAY_MAX 64u
#define PIPE_BYTES (UNDERWAY_MAX * (PAYLOAD_MAX + 64u))

struct record {
    uint8_t type;
    uint32_t len, seq, mark;
};

/* One way of the connection: bytes sealed and not yet opened, and what they are. */
struct way {
    uint8_t bytes[PIPE_BYTES];
    size_t sent, arrived; /* of bytes: all, and the part that the receiver sees */
    struct record underway[UNDERWAY_MAX];
    unsigned first, count;
    uint32_t seq; /* of the next packet to be sealed */
};

/* One exchange: sent and got its KEXINIT, keys given, sent and got its NEWKEYS. */
struct side {
    struct wire wire;
    struct way *out, *in;
    bool kexinit_sent, kexinit_got, key_in, key_out, newkeys_sent, newkeys_got;
    unsigned exchanges;
};

static struct way ways[2];
static struct side sides[2];
static bool strict;
static uint32_t seed;
static uint64_t random_state;
static uint64_t passed_data, passed_exchanges, waited;

static uint32_t dice(uint32_t n) {
    random_state = random_state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)(random_state >> 33) % n;
}

static enum aead_kind exchange_kind(const struct side *side) {
    return kinds[(seed + side->exchanges * 5 / 2) % KINDS];
}

static bool model_gate(const struct side *side) {
    bool shut = side->kexinit_sent && !side->newkeys_sent;
    return side->wire.authenticated && !shut;
}

static void model_check(const struct side *side) {
    const struct wire *wire = &side->wire;
    unsigned out = side->exchanges + side->newkeys_sent, in = side->exchanges + side->newkeys_got;
    bool waits = side->newkeys_got && !side->key_in;
    wire_validate(wire);
    cr_assert_eq(wire_gate_open(wire), model_gate(side), "seed %u", seed);
    cr_assert_eq(wire->out.epochs, out, "seed %u", seed);
    cr_assert_eq(wire->in.epochs, in, "seed %u", seed);
    cr_assert_eq(wire->out.seq, side->out->seq, "seed %u", seed);
    cr_assert_eq(wire->out.state, out > 0 ? WIRE_SEALED : WIRE_PLAIN, "seed %u", seed);
    cr_assert_eq(wire->in.state, waits ? WIRE_WAIT_KEYS : in > 0 ? WIRE_SEALED : WIRE_PLAIN, "seed %u", seed);
}

static uint8_t mark_byte(uint32_t mark, uint32_t i) {
    return (uint8_t)(mark * 151 + i * 7 + (i >> 8));
}

static uint32_t write_payload(uint8_t *payload, const struct record *record) {
    if (record->type == KEXINIT) {
        bool client = record->mark == 0;
        return kexinit_payload(payload, !strict ? LAX : client ? STRICT_CLIENT : STRICT_SERVER);
    }
    for (uint32_t i = 0; i < record->len; i++)
        payload[i] = mark_byte(record->mark, i);
    payload[0] = record->type;
    return record->len;
}

/* Seals one packet into the way. The model says with what number it goes. */
static void send(struct side *side, uint8_t type, uint32_t len) {
    struct way *way = side->out;
    struct record *record = &way->underway[(way->first + way->count) % UNDERWAY_MAX];
    *record = (struct record){.type = type, .len = len, .seq = way->seq, .mark = dice(1u << 30)};
    if (type == KEXINIT)
        record->mark = side == &sides[0] ? 0 : 1;
    uint8_t *packet = way->bytes + way->sent;
    record->len = write_payload(packet + WIRE_HEADER_BYTES, record);
    int n = wire_seal(&side->wire, packet, record->len);
    cr_assert_gt(n, 0, "seed %u: type %u: %d", seed, type, n);
    way->sent += (size_t)n;
    way->count++;
    way->seq = type == NEWKEYS && strict ? 0 : way->seq + 1;
}

static bool full(const struct side *side) {
    return side->out->count == UNDERWAY_MAX;
}

static void try_refused(struct side *side, uint8_t type) {
    uint8_t packet[64] = {0};
    packet[WIRE_HEADER_BYTES] = type;
    cr_assert_eq(wire_seal(&side->wire, packet, 1), ERR_AGAIN, "seed %u", seed);
}

static void act_talk(struct side *side) {
    /* in a strict initial exchange there is nothing to talk about */
    if (!full(side) && (!strict || side->exchanges + side->newkeys_sent > 0))
        send(side, IGNORE, 1 + dice(dice(8) ? 100 : PAYLOAD_MAX));
}

static void act_data(struct side *side) {
    if (!model_gate(side))
        try_refused(side, CHANNEL_DATA);
    else if (!full(side))
        send(side, CHANNEL_DATA, 1 + dice(dice(8) ? 100 : PAYLOAD_MAX));
}

static void act_kexinit(struct side *side) {
    if (side->kexinit_sent || full(side))
        return;
    send(side, KEXINIT, 0);
    side->kexinit_sent = true;
}

static bool keys_known(const struct side *side) {
    return side->kexinit_sent && side->kexinit_got;
}

static void give(struct side *side, enum wire_direction direction) {
    bool *given = direction == WIRE_IN ? &side->key_in : &side->key_out;
    if (!keys_known(side) || *given)
        return;
    /* a key that is replaced before it is used leaves no trace */
    if (dice(4) == 0 && !(direction == WIRE_IN && side->newkeys_got))
        give_key(&side->wire, direction, kinds[dice(KINDS)], 77);
    give_key(&side->wire, direction, exchange_kind(side), side->exchanges + 1);
    *given = true;
}

static void exchange_end(struct side *side) {
    if (!side->newkeys_sent || !side->newkeys_got || !side->key_in)
        return;
    side->exchanges++;
    passed_exchanges++;
    side->kexinit_sent = side->kexinit_got = side->key_in = side->key_out = false;
    side->newkeys_sent = side->newkeys_got = false;
    if (sides[0].exchanges > 0 && sides[1].exchanges > 0)
        sides[0].wire.authenticated = sides[1].wire.authenticated = true;
}

static void act_newkeys(struct side *side) {
    if (!keys_known(side) || side->newkeys_sent || full(side))
        return;
    if (!side->key_out) {
        try_refused(side, NEWKEYS);
        give(side, WIRE_OUT);
    }
    send(side, NEWKEYS, 1);
    side->newkeys_sent = true;
    exchange_end(side);
}

static void received(struct side *side, const struct packet *packet) {
    static uint8_t expected[PAYLOAD_MAX];
    struct way *way = side->in;
    cr_assert_gt(way->count, 0, "seed %u: a packet out of nowhere", seed);
    const struct record *record = &way->underway[way->first];
    uint32_t len = write_payload(expected, record);
    cr_assert_eq(packet->type, record->type, "seed %u", seed);
    cr_assert_eq(packet->seq, record->seq, "seed %u", seed);
    cr_assert_eq(packet->payload_len, len, "seed %u", seed);
    cr_assert_arr_eq(packet->payload, expected, len, "seed %u", seed);
    way->first = (way->first + 1) % UNDERWAY_MAX;
    way->count--;
    passed_data += packet->type == CHANNEL_DATA;
    side->kexinit_got |= packet->type == KEXINIT;
    side->newkeys_got |= packet->type == NEWKEYS;
    exchange_end(side);
}

/* Some more bytes arrive; whatever is whole is opened. */
static void act_receive(struct side *side, size_t more) {
    struct way *way = side->in;
    struct packet packet;
    size_t used, at = 0;
    int got;
    way->arrived = more < way->sent - way->arrived ? way->arrived + more : way->sent;
    while ((got = wire_open(&side->wire, way->bytes + at, way->arrived - at, &packet, &used)) == 1) {
        at += used;
        received(side, &packet);
    }
    cr_assert(got == 0 || got == ERR_AGAIN, "seed %u: %d", seed, got);
    cr_assert_eq(got == ERR_AGAIN, side->newkeys_got && !side->key_in, "seed %u", seed);
    cr_assert(got == ERR_AGAIN || used > way->arrived - at, "seed %u: a whole packet was left", seed);
    waited += got == ERR_AGAIN;
    memmove(way->bytes, way->bytes + at, way->sent - at);
    way->sent -= at;
    way->arrived -= at;
}

static void step(struct side *side) {
    switch (dice(12)) {
    case 0:
        act_talk(side);
        break;
    case 1:
    case 2:
    case 3:
        act_data(side);
        break;
    case 4:
        if (dice(4) == 0 || side->exchanges == 0 || side->kexinit_got)
            act_kexinit(side);
        break;
    case 5:
        act_newkeys(side);
        break;
    case 6:
        give(side, dice(2) ? WIRE_IN : WIRE_OUT);
        exchange_end(side);
        break;
    default:
        act_receive(side, 1 + dice(dice(2) ? 100 : 4000));
        break;
    }
    model_check(&sides[0]);
    model_check(&sides[1]);
}

/* Both sides bring an exchange that is going on to its end and receive everything. */
static void finish(void) {
    for (unsigned round = 0; round < 8; round++)
        for (unsigned i = 0; i < 2; i++) {
            act_receive(&sides[i], PIPE_BYTES);
            if (sides[i].kexinit_got)
                act_kexinit(&sides[i]);
            give(&sides[i], WIRE_IN);
            act_newkeys(&sides[i]);
            exchange_end(&sides[i]);
            act_receive(&sides[i], PIPE_BYTES);
        }
    for (unsigned i = 0; i < 2; i++) {
        cr_assert_eq(ways[i].count, 0, "seed %u: packets were lost", seed);
        cr_assert_eq(ways[i].sent, 0, "seed %u: bytes are left", seed);
        cr_assert_not(sides[i].kexinit_sent, "seed %u: an exchange does not end", seed);
    }
}

Test(wire_model, random_talk) {
    for (seed = 0; seed < SEEDS; seed++) {
        random_state = seed;
        strict = seed % 2;
        for (unsigned i = 0; i < 2; i++) {
            ways[i].sent = ways[i].arrived = ways[i].seq = ways[i].first = ways[i].count = 0;
            sides[i] = (struct side){.out = &ways[i], .in = &ways[1 - i]};
            wire_init(&sides[i].wire, i == 0, 0);
        }
        for (unsigned i = 0; i < STEPS; i++)
            step(&sides[dice(2)]);
        finish();
        wire_deinit(&sides[0].wire);
        wire_deinit(&sides[1].wire);
    }
    /* it was not all idle */
    cr_assert_gt(passed_data, SEEDS * 20);
    cr_assert_gt(passed_exchanges, SEEDS * 4);
    cr_assert_gt(waited, SEEDS);
}
