#pragma once
/* Two wires that talk to each other, for the tests of the wire: payloads, keys of an epoch, a whole key exchange. */
#include "engine/limits.h"
#include "ssh/wire.h"
#include <criterion/criterion.h>
#include <string.h>

#define STRICT_CLIENT "curve25519-sha256,ext-info-c,kex-strict-c-v00@openssh.com"
#define STRICT_SERVER "curve25519-sha256,kex-strict-s-v00@openssh.com,ecdh-sha2-nistp256"
#define LAX "curve25519-sha256"

enum { IGNORE = 2, KEXINIT = 20, NEWKEYS = 21, KEX_REPLY = 31, AUTH_SUCCESS = 52, CHANNEL_DATA = 94 };

#define PAIR_PACKET_MAX (4u + LIMIT_PACKET_BYTES + AEAD_TAG_BYTES)
#define PAIR_BUFFER_BYTES (WIRE_HEADER_BYTES + LIMIT_PACKET_BYTES + WIRE_TRAILER_MAX)

static const enum aead_kind kinds[] = {AEAD_AES128_GCM, AEAD_AES256_GCM, AEAD_CHACHA20_POLY1305};
#define KINDS (sizeof(kinds) / sizeof(kinds[0]))

struct pair {
    struct wire client, server;
};

/* A KEXINIT whose kex list is `list` and whose other nine lists are empty. */
static inline uint32_t kexinit_payload(uint8_t *payload, const char *list) {
    uint32_t len = (uint32_t)strlen(list);
    memset(payload, 0xc0, 17);
    payload[0] = KEXINIT;
    for (unsigned i = 0; i < 4; i++)
        payload[17 + i] = (uint8_t)(len >> (24 - 8 * i));
    memcpy(payload + 21, list, len);
    memset(payload + 21 + len, 0, 9 * 4 + 1 + 4);
    return 21 + len + 9 * 4 + 1 + 4;
}

static inline uint32_t fill_payload(uint8_t *payload, uint8_t type, uint32_t len) {
    for (uint32_t i = 0; i < len; i++)
        payload[i] = (uint8_t)(i * 13 + len + (i >> 8));
    payload[0] = type;
    return len;
}

/* Both ends derive the same key for a direction's epoch. */
static inline void epoch_key(bool from_client, unsigned epoch, uint8_t *key, uint8_t *iv) {
    for (unsigned i = 0; i < AEAD_KEY_MAX; i++)
        key[i] = (uint8_t)(i * 7 + epoch * 29 + (from_client ? 101 : 0));
    for (unsigned i = 0; i < AEAD_IV_BYTES; i++)
        iv[i] = (uint8_t)(0xf0 + i + epoch);
}

static inline void give_key(struct wire *wire, enum wire_direction direction, enum aead_kind kind, unsigned epoch) {
    uint8_t key[AEAD_KEY_MAX], iv[AEAD_IV_BYTES];
    epoch_key((direction == WIRE_OUT) == wire->is_client, epoch, key, iv);
    cr_assert_eq(wire_key(wire, direction, kind, key, iv), 0);
    wire_validate(wire);
}

/* Seals `payload` into `packet` (PAIR_BUFFER_BYTES, or as much as it takes). */
static inline size_t seal(struct wire *wire, uint8_t *packet, const uint8_t *payload, uint32_t len) {
    memcpy(packet + WIRE_HEADER_BYTES, payload, len);
    int bytes = wire_seal(wire, packet, len);
    cr_assert_gt(bytes, 0, "seal: %d", bytes);
    wire_validate(wire);
    return (size_t)bytes;
}

/* One packet from `from` to `to`, which must come out as it went in. */
static inline void pass(struct wire *from, struct wire *to, const uint8_t *payload, uint32_t len) {
    static uint8_t bytes[PAIR_BUFFER_BYTES];
    struct packet packet;
    uint32_t seq = from->out.seq;
    size_t used, n = seal(from, bytes, payload, len);
    int got = wire_open(to, bytes, n, &packet, &used);
    cr_assert_eq(got, 1, "open: %d", got);
    cr_assert_eq(used, n);
    cr_assert_eq(packet.seq, seq);
    cr_assert_eq(packet.type, payload[0]);
    cr_assert_eq(packet.payload_len, len);
    cr_assert_arr_eq(packet.payload, payload, len);
    cr_assert_eq(packet.raw, bytes);
    cr_assert_eq(packet.payload, bytes + WIRE_HEADER_BYTES);
    cr_assert_eq(packet.raw[0] << 24 | packet.raw[1] << 16 | packet.raw[2] << 8 | packet.raw[3],
                 (int)packet.raw_len - 4);
    wire_validate(to);
}

static inline void pass_type(struct wire *from, struct wire *to, uint8_t type) {
    uint8_t payload[32];
    pass(from, to, payload, fill_payload(payload, type, type == NEWKEYS ? 1 : 32));
}

static inline void pass_kexinit(struct wire *from, struct wire *to, const char *list) {
    uint8_t payload[256];
    pass(from, to, payload, kexinit_payload(payload, list));
}

/* A whole exchange, keys before NEWKEYS on both sides. */
static inline void pair_exchange(struct pair *pair, enum aead_kind kind, const char *client_list,
                                 const char *server_list) {
    struct wire *client = &pair->client, *server = &pair->server;
    unsigned epoch = client->out.epochs + 1;
    pass_kexinit(client, server, client_list);
    pass_kexinit(server, client, server_list);
    give_key(client, WIRE_IN, kind, epoch);
    give_key(client, WIRE_OUT, kind, epoch);
    give_key(server, WIRE_IN, kind, epoch);
    give_key(server, WIRE_OUT, kind, epoch);
    pass_type(client, server, NEWKEYS);
    pass_type(server, client, NEWKEYS);
}

static inline void pair_plain(struct pair *pair) {
    wire_init(&pair->client, true, 0);
    wire_init(&pair->server, false, 0);
}

static inline void pair_sealed(struct pair *pair, enum aead_kind kind) {
    pair_plain(pair);
    pair_exchange(pair, kind, STRICT_CLIENT, STRICT_SERVER);
    pair->client.authenticated = pair->server.authenticated = true;
}

static inline void pair_deinit(struct pair *pair) {
    wire_deinit(&pair->client);
    wire_deinit(&pair->server);
}

/* Nothing goes in or out any more, and no key is left. */
static inline void assert_dead(struct wire *wire) {
    uint8_t bytes[64] = {0, 0, 0, 12, 10, IGNORE};
    struct packet packet = {0};
    size_t used;
    cr_assert_eq(wire->in.state, WIRE_DEAD);
    cr_assert_eq(wire->out.state, WIRE_DEAD);
    cr_assert_eq(wire_open(wire, bytes, 16, &packet, &used), ERR_PROTOCOL);
    cr_assert_null(packet.payload);
    cr_assert_eq(wire_seal(wire, bytes, 1), ERR_PROTOCOL);
    cr_assert_eq(wire_key(wire, WIRE_IN, AEAD_AES128_GCM, bytes, bytes), ERR_PROTOCOL);
    cr_assert_not(wire_gate_open(wire));
    cr_assert_not(wire_rekey_due(wire));
    wire_validate(wire);
}

/* The bytes are refused with `err`, nothing is delivered, the wire is dead. */
static inline void refuse_bytes(struct wire *wire, uint8_t *bytes, size_t len, int err) {
    struct packet packet = {0};
    size_t used;
    int got = wire_open(wire, bytes, len, &packet, &used);
    cr_assert_eq(got, err, "got %d instead of %d", got, err);
    cr_assert_null(packet.payload);
    assert_dead(wire);
}

/* What `from` seals is refused by `to`. */
static inline void refuse(struct wire *from, struct wire *to, const uint8_t *what, uint32_t len) {
    static uint8_t bytes[PAIR_BUFFER_BYTES];
    size_t n = seal(from, bytes, what, len);
    refuse_bytes(to, bytes, n, ERR_PROTOCOL);
}

static inline void refuse_type(struct wire *from, struct wire *to, uint8_t type) {
    uint8_t payload[32];
    refuse(from, to, payload, fill_payload(payload, type, type == NEWKEYS ? 1 : 32));
}

/* Bytes of `packet` (64) are 0xee, but for the type. */
static inline int try_seal(struct wire *wire, uint8_t *packet, uint8_t type) {
    memset(packet, 0xee, 64);
    packet[WIRE_HEADER_BYTES] = type;
    return wire_seal(wire, packet, 20);
}

/* Our side's NEWKEYS, with the keys of the next epoch. */
static inline void send_newkeys(struct wire *from, struct wire *to, enum aead_kind kind) {
    give_key(from, WIRE_OUT, kind, from->out.epochs + 1);
    give_key(to, WIRE_IN, kind, from->out.epochs + 1);
    pass_type(from, to, NEWKEYS);
}
