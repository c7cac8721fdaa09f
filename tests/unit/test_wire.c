/* Framing, sealing and refusing: single packets. test_wire_kex.c has key exchanges and the gate. */
#include "wire_pair.h"
#include "wire_vectors.h"
#include <openssl/crypto.h>
#include <stdlib.h>

static uint8_t bytes[PAIR_BUFFER_BYTES], payload[LIMIT_PACKET_BYTES + 64], copy[PAIR_BUFFER_BYTES];

static void put_length(uint8_t *packet, uint32_t length) {
    for (unsigned i = 0; i < 4; i++)
        packet[i] = (uint8_t)(length >> (24 - 8 * i));
}

/* What a peer that holds the client's keys of epoch 1 can seal, however wrong. */
static void seal_raw(enum aead_kind kind, uint32_t seq, uint8_t *packet, uint32_t packet_length) {
    uint8_t key[AEAD_KEY_MAX], iv[AEAD_IV_BYTES];
    struct aead *aead;
    epoch_key(true, 1, key, iv);
    cr_assert_eq(aead_create(kind, AEAD_SEAL, key, iv, &aead), 0);
    cr_assert_eq(aead_seal(aead, seq, packet, packet_length), 0);
    aead_destroy(aead);
}

Test(wire, a_plain_packet_byte_by_byte) {
    static const uint8_t expected[16] = {0, 0, 0, 12, 10, IGNORE};
    struct wire wire;
    wire_init(&wire, true, 0);
    wire_validate(&wire);
    memset(bytes, 0xee, sizeof(bytes));
    bytes[WIRE_HEADER_BYTES] = IGNORE;
    cr_assert_eq(wire_seal(&wire, bytes, 1), 16);
    cr_assert_arr_eq(bytes, expected, 16);
    cr_assert_eq(bytes[16], 0xee, "wrote behind the packet");
    cr_assert_eq(wire.out.seq, 1);
    cr_assert_eq(wire.out.total_bytes, 16);
    wire_deinit(&wire);
}

static void padding_is_right(enum aead_kind kind, uint32_t len) {
    struct pair pair;
    pair_plain(&pair);
    if (kind != AEAD_NONE)
        pair_exchange(&pair, kind, LAX, LAX);
    unsigned block = aead_block_bytes(kind), tag = kind == AEAD_NONE ? 0 : AEAD_TAG_BYTES;
    size_t used, n = seal(&pair.client, bytes, payload, fill_payload(payload, IGNORE, len));
    struct packet packet;
    cr_assert_eq(wire_open(&pair.server, bytes, n, &packet, &used), 1);
    unsigned padding = bytes[4];
    cr_assert_eq(packet.raw_len, 5 + len + padding);
    cr_assert_eq(n, packet.raw_len + tag);
    cr_assert_eq((packet.raw_len - (tag != 0 ? 4 : 0)) % block, 0);
    cr_assert(padding >= 4 && padding < 4 + block, "%u bytes of padding", padding);
    cr_assert_leq(padding + tag, WIRE_TRAILER_MAX);
    for (unsigned i = 0; i < padding; i++)
        cr_assert_eq(bytes[5 + len + i], 0);
    pair_deinit(&pair);
}

Test(wire, padding) {
    for (uint32_t len = 1; len <= 64; len++) {
        padding_is_right(AEAD_NONE, len);
        for (unsigned k = 0; k < KINDS; k++)
            padding_is_right(kinds[k], len);
    }
}

Test(wire, round_trips) {
    struct pair pair;
    for (unsigned k = 0; k < KINDS; k++) {
        pair_plain(&pair);
        for (uint32_t len = 1; len <= 300; len++)
            pass(&pair.client, &pair.server, payload, fill_payload(payload, IGNORE, len));
        pair_exchange(&pair, kinds[k], LAX, LAX);
        pair.client.authenticated = pair.server.authenticated = true;
        for (uint32_t len = 1; len <= 300; len++) {
            pass(&pair.client, &pair.server, payload, fill_payload(payload, CHANNEL_DATA, len));
            pass(&pair.server, &pair.client, payload, fill_payload(payload, IGNORE, len));
        }
        pass(&pair.server, &pair.client, payload, fill_payload(payload, CHANNEL_DATA, 9 + LIMIT_CHANNEL_PACKET_BYTES));
        cr_assert_eq(pair.client.out.total_bytes, pair.server.in.total_bytes);
        cr_assert_eq(pair.client.out.blocks, pair.server.in.blocks);
        cr_assert_eq(pair.client.out.packets, 300);
        cr_assert_eq(pair.client.out.total_packets, 602);
        pair_deinit(&pair);
    }
}

Test(wire, opens_the_vectors) {
    uint8_t key[1024], iv[1024], expected[1024];
    size_t n, used;
    for (unsigned v = 0; v < sizeof(wire_vectors) / sizeof(wire_vectors[0]); v++) {
        const struct wire_vector *vector = &wire_vectors[v];
        struct pair pair;
        struct packet packet;
        pair_plain(&pair);
        pass_kexinit(&pair.client, &pair.server, LAX);
        pass_kexinit(&pair.server, &pair.client, LAX);
        OPENSSL_hexstr2buf_ex(key, sizeof(key), &n, vector->key, '\0');
        OPENSSL_hexstr2buf_ex(iv, sizeof(iv), &n, vector->iv, '\0');
        cr_assert_eq(wire_key(&pair.server, WIRE_IN, vector->kind, key, iv), 0);
        give_key(&pair.client, WIRE_OUT, vector->kind, 1);
        pass_type(&pair.client, &pair.server, NEWKEYS);
        pair.server.in.seq = vector->packets[0].seq;
        for (unsigned p = 0; p < WIRE_VECTOR_PACKETS; p++) {
            OPENSSL_hexstr2buf_ex(expected, sizeof(expected), &n, vector->packets[p].plain, '\0');
            OPENSSL_hexstr2buf_ex(bytes, sizeof(bytes), &n, vector->packets[p].sealed, '\0');
            cr_assert_eq(wire_open(&pair.server, bytes, n, &packet, &used), 1);
            cr_assert_eq(packet.seq, vector->packets[p].seq);
            cr_assert_eq(packet.raw_len, n - AEAD_TAG_BYTES);
            cr_assert_arr_eq(packet.raw, expected, packet.raw_len);
        }
        pair_deinit(&pair);
    }
}

/* Every prefix says how much is missing and leaves everything as it was. */
static void fragments(struct pair *pair, uint32_t len) {
    struct packet packet = {0};
    size_t used, n = seal(&pair->client, bytes, payload, fill_payload(payload, IGNORE, len));
    memcpy(copy, bytes, n);
    for (size_t have = 0; have < n; have += 1 + have / 64) {
        cr_assert_eq(wire_open(&pair->server, bytes, have, &packet, &used), 0);
        cr_assert_eq(used, have < 4 ? 4 : n);
        cr_assert_null(packet.payload);
        cr_assert_arr_eq(bytes, copy, n);
        wire_validate(&pair->server);
    }
    /* and what follows is not touched */
    memset(bytes + n, 0xab, 16);
    cr_assert_eq(wire_open(&pair->server, bytes, n + 16, &packet, &used), 1);
    cr_assert_eq(used, n);
    cr_assert_arr_eq(packet.payload, payload, len);
    for (unsigned i = 0; i < 16; i++)
        cr_assert_eq(bytes[n + i], 0xab);
}

Test(wire, fragmentation) {
    struct pair pair;
    pair_plain(&pair);
    fragments(&pair, 1);
    fragments(&pair, 5000);
    pair_deinit(&pair);
    for (unsigned k = 0; k < KINDS; k++) {
        pair_sealed(&pair, kinds[k]);
        fragments(&pair, 1);
        fragments(&pair, 61);
        fragments(&pair, 5000);
        pair_deinit(&pair);
    }
}

/* A turned-over bit in the length can make the wire wait for more; whatever comes then must not be believed. */
static void flip(enum aead_kind kind, uint32_t len, uint32_t bit) {
    struct pair pair;
    struct packet packet = {0};
    size_t used;
    pair_sealed(&pair, kind);
    memset(bytes, 0, sizeof(bytes));
    size_t n = seal(&pair.client, bytes, payload, fill_payload(payload, CHANNEL_DATA, len));
    bit %= (uint32_t)n * 8;
    bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
    int got = wire_open(&pair.server, bytes, n, &packet, &used);
    if (got == 0) {
        cr_assert_lt(bit, 32, "%s: waits for more after bit %u", aead_name(kind), bit);
        cr_assert(used > n && used <= PAIR_PACKET_MAX);
        got = wire_open(&pair.server, bytes, used, &packet, &used);
    }
    cr_assert(got == ERR_TAG || (bit < 32 && got == ERR_LENGTH), "%s, bit %u: %d", aead_name(kind), bit, got);
    cr_assert_null(packet.payload);
    assert_dead(&pair.server);
    pair_deinit(&pair);
}

Test(wire, every_flipped_bit_of_a_small_packet) {
    for (unsigned k = 0; k < KINDS; k++)
        for (uint32_t bit = 0; bit < (4 + 32 + AEAD_TAG_BYTES) * 8; bit++)
            flip(kinds[k], 20, bit);
}

Test(wire, flipped_bits_of_larger_packets) {
    srand(2);
    for (unsigned k = 0; k < KINDS; k++)
        for (unsigned i = 0; i < 100; i++)
            flip(kinds[k], 1 + (uint32_t)rand() % 40000, (uint32_t)rand());
}

Test(wire, a_packet_lost_repeated_or_swapped) {
    struct pair pair;
    for (unsigned k = 0; k < KINDS; k++)
        for (unsigned skipped = 0; skipped < 2; skipped++) {
            struct packet packet;
            size_t used, n;
            pair_sealed(&pair, kinds[k]);
            n = seal(&pair.client, bytes, payload, fill_payload(payload, IGNORE, 40));
            memcpy(copy, bytes, n);
            if (skipped)
                n = seal(&pair.client, copy, payload, 40);
            else
                cr_assert_eq(wire_open(&pair.server, bytes, n, &packet, &used), 1);
            struct packet none = {0};
            int got = wire_open(&pair.server, copy, n, &none, &used);
            /* chacha20 hides the length too: it comes out as anything */
            if (got == 0)
                got = wire_open(&pair.server, copy, used, &none, &used);
            cr_assert(got == ERR_TAG || (kinds[k] == AEAD_CHACHA20_POLY1305 && got == ERR_LENGTH));
            cr_assert_null(none.payload);
            assert_dead(&pair.server);
            pair_deinit(&pair);
        }
}

Test(wire, longest_packets) {
    struct pair pair;
    /* plain: 4 + packet_length is a multiple of 8, so the longest is 4 below the limit */
    uint32_t longest = LIMIT_PACKET_BYTES - 4 - 1 - 4;
    pair_plain(&pair);
    pass(&pair.client, &pair.server, payload, fill_payload(payload, IGNORE, longest));
    cr_assert_eq(wire_seal(&pair.client, bytes, longest + 1), ERR_LENGTH);
    cr_assert_eq(wire_seal(&pair.client, bytes, UINT32_MAX), ERR_LENGTH);
    pass_type(&pair.client, &pair.server, IGNORE);
    pair_deinit(&pair);
    longest = LIMIT_PACKET_BYTES - 1 - 4;
    for (unsigned k = 0; k < KINDS; k++) {
        pair_sealed(&pair, kinds[k]);
        pass(&pair.client, &pair.server, payload, fill_payload(payload, IGNORE, longest));
        cr_assert_eq(wire_seal(&pair.client, bytes, longest + 1), ERR_LENGTH);
        pass_type(&pair.client, &pair.server, IGNORE);
        pair_deinit(&pair);
    }
}

Test(wire, impossible_lengths_in_the_clear) {
    static const uint32_t wrong[] = {0,  1,  4,  5,  6,          7,          8,         11,
                                     13, 16, 19, 21, 262140 + 4, 262140 + 8, 1u << 31u, UINT32_MAX};
    for (unsigned i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        struct wire wire;
        wire_init(&wire, false, 0);
        put_length(bytes, wrong[i]);
        refuse_bytes(&wire, bytes, 4, ERR_LENGTH);
        wire_deinit(&wire);
    }
}

/* Four bytes are enough to refuse: for chacha20, what decrypts to a wrong length is one flipped from a right one. */
static void refuse_sealed_length(enum aead_kind kind, uint32_t wrong) {
    struct pair pair;
    pair_sealed(&pair, kind);
    seal(&pair.client, bytes, payload, fill_payload(payload, IGNORE, 11));
    for (unsigned i = 0; i < 4; i++)
        bytes[i] ^= (uint8_t)((16 ^ wrong) >> (24 - 8 * i));
    refuse_bytes(&pair.server, bytes, 4, ERR_LENGTH);
    pair_deinit(&pair);
}

Test(wire, impossible_lengths_sealed) {
    static const uint32_t wrong[] = {0, 1, 4, 12, 15, 17, 20, 28, LIMIT_PACKET_BYTES + 16, 1u << 31u, UINT32_MAX - 15};
    for (unsigned k = 0; k < KINDS; k++)
        for (unsigned i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
            refuse_sealed_length(kinds[k], wrong[i]);
    refuse_sealed_length(AEAD_AES128_GCM, 24);
    refuse_sealed_length(AEAD_AES256_GCM, 8);
}

/* padding_length must be 4 at least and leave a payload of a byte */
Test(wire, bad_padding_in_the_clear) {
    for (unsigned padding = 0; padding < 256; padding++) {
        struct wire wire;
        struct packet packet;
        size_t used;
        wire_init(&wire, false, 0);
        memset(bytes, IGNORE, 32);
        put_length(bytes, 28);
        bytes[4] = (uint8_t)padding;
        if (padding >= 4 && padding <= 26) {
            cr_assert_eq(wire_open(&wire, bytes, 32, &packet, &used), 1);
            cr_assert_eq(packet.payload_len, 27 - padding);
        } else {
            refuse_bytes(&wire, bytes, 32, ERR_PROTOCOL);
        }
        wire_deinit(&wire);
    }
}

Test(wire, bad_padding_sealed) {
    for (unsigned k = 0; k < KINDS; k++)
        for (unsigned padding = 0; padding < 256; padding++) {
            struct pair pair;
            struct packet packet;
            size_t used;
            pair_sealed(&pair, kinds[k]);
            memset(bytes, IGNORE, 64);
            put_length(bytes, 32);
            bytes[4] = (uint8_t)padding;
            seal_raw(kinds[k], pair.server.in.seq, bytes, 32);
            if (padding >= 4 && padding <= 30) {
                cr_assert_eq(wire_open(&pair.server, bytes, 4 + 32 + 16, &packet, &used), 1);
                cr_assert_eq(packet.payload_len, 31 - padding);
            } else {
                refuse_bytes(&pair.server, bytes, 4 + 32 + 16, ERR_PROTOCOL);
            }
            pair_deinit(&pair);
        }
}

/* The shortest packet that chacha20 allows has 8 bytes behind its length; ours never are so short. */
Test(wire, shortest_chacha_packet) {
    struct pair pair;
    struct packet packet;
    size_t used;
    pair_sealed(&pair, AEAD_CHACHA20_POLY1305);
    memset(bytes, IGNORE, 64);
    put_length(bytes, 8);
    bytes[4] = 6;
    seal_raw(AEAD_CHACHA20_POLY1305, 0, bytes, 8);
    cr_assert_eq(wire_open(&pair.server, bytes, 28, &packet, &used), 1);
    cr_assert_eq(packet.payload_len, 1);
    cr_assert_eq(used, 28);
    pair_deinit(&pair);
}
