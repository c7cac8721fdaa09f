#include "engine/limits.h"
#include "ssh/aead.h"
#include "wire_vectors.h"
#include <criterion/criterion.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/provider.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define VECTORS (sizeof(wire_vectors) / sizeof(wire_vectors[0]))
#define PACKET_MAX 1024u

static const enum aead_kind kinds[] = {AEAD_AES128_GCM, AEAD_AES256_GCM, AEAD_CHACHA20_POLY1305};
#define KINDS (sizeof(kinds) / sizeof(kinds[0]))

static size_t from_hex(const char *hex, uint8_t *out) {
    size_t n = 0;
    OPENSSL_hexstr2buf_ex(out, PACKET_MAX, &n, hex, '\0');
    return n;
}

static struct aead *make(enum aead_kind kind, enum aead_direction direction) {
    uint8_t key[AEAD_KEY_MAX], iv[AEAD_IV_BYTES];
    struct aead *aead;
    for (unsigned i = 0; i < sizeof(key); i++)
        key[i] = (uint8_t)(i * 7 + kind);
    memset(iv, 0x5a, sizeof(iv));
    cr_assert_eq(aead_create(kind, direction, key, iv, &aead), 0);
    return aead;
}

static struct aead *make_vector(const struct wire_vector *vector, enum aead_direction direction) {
    uint8_t key[PACKET_MAX], iv[PACKET_MAX];
    struct aead *aead;
    from_hex(vector->key, key);
    from_hex(vector->iv, iv);
    cr_assert_eq(aead_create(vector->kind, direction, key, iv, &aead), 0);
    return aead;
}

/* length field, then packet_length bytes that tell their place */
static void fill(uint8_t *packet, uint32_t packet_length) {
    for (unsigned i = 0; i < 4; i++)
        packet[i] = (uint8_t)(packet_length >> (24 - 8 * i));
    for (uint32_t i = 0; i < packet_length; i++)
        packet[4 + i] = (uint8_t)(i * 31 + (i >> 8) + packet_length);
}

Test(aead, names_and_blocks) {
    cr_assert_str_eq(aead_name(AEAD_NONE), "none");
    cr_assert_str_eq(aead_name(AEAD_AES128_GCM), "aes128-gcm@openssh.com");
    cr_assert_str_eq(aead_name(AEAD_AES256_GCM), "aes256-gcm@openssh.com");
    cr_assert_str_eq(aead_name(AEAD_CHACHA20_POLY1305), "chacha20-poly1305@openssh.com");
    cr_assert_eq(aead_block_bytes(AEAD_NONE), 8);
    cr_assert_eq(aead_block_bytes(AEAD_AES128_GCM), 16);
    cr_assert_eq(aead_block_bytes(AEAD_AES256_GCM), 16);
    cr_assert_eq(aead_block_bytes(AEAD_CHACHA20_POLY1305), 8);
    for (unsigned k = 0; k < KINDS; k++) {
        struct aead *aead = make(kinds[k], AEAD_SEAL);
        cr_assert_eq(aead_kind(aead), kinds[k]);
        aead_destroy(aead);
    }
    aead_destroy(NULL);
}

Test(aead, seals_the_vectors) {
    uint8_t plain[PACKET_MAX], sealed[PACKET_MAX];
    for (unsigned v = 0; v < VECTORS; v++) {
        struct aead *aead = make_vector(&wire_vectors[v], AEAD_SEAL);
        for (unsigned p = 0; p < WIRE_VECTOR_PACKETS; p++) {
            const struct wire_vector_packet *packet = &wire_vectors[v].packets[p];
            size_t plain_len = from_hex(packet->plain, plain), sealed_len = from_hex(packet->sealed, sealed);
            cr_assert_eq(sealed_len, plain_len + AEAD_TAG_BYTES);
            cr_assert_eq(aead_seal(aead, packet->seq, plain, (uint32_t)plain_len - 4), 0);
            cr_assert_arr_eq(plain, sealed, sealed_len, "%s, packet %u", aead_name(wire_vectors[v].kind), p);
        }
        aead_destroy(aead);
    }
}

Test(aead, opens_the_vectors) {
    uint8_t plain[PACKET_MAX], sealed[PACKET_MAX], before[PACKET_MAX];
    for (unsigned v = 0; v < VECTORS; v++) {
        struct aead *aead = make_vector(&wire_vectors[v], AEAD_OPEN);
        for (unsigned p = 0; p < WIRE_VECTOR_PACKETS; p++) {
            const struct wire_vector_packet *packet = &wire_vectors[v].packets[p];
            size_t plain_len = from_hex(packet->plain, plain), sealed_len = from_hex(packet->sealed, sealed);
            uint32_t packet_length = 0;
            memcpy(before, sealed, sealed_len);
            cr_assert_eq(aead_length(aead, packet->seq, sealed, &packet_length), 0);
            cr_assert_eq(packet_length, plain_len - 4);
            cr_assert_arr_eq(sealed, before, sealed_len, "aead_length changed the packet");
            cr_assert_eq(aead_open(aead, packet->seq, sealed, packet_length), 0);
            cr_assert_arr_eq(sealed, plain, plain_len, "%s, packet %u", aead_name(wire_vectors[v].kind), p);
        }
        aead_destroy(aead);
    }
}

static void round_trip(struct aead *seal, struct aead *open, uint32_t seq, uint32_t packet_length) {
    static uint8_t packet[4 + LIMIT_PACKET_BYTES + AEAD_TAG_BYTES + 1], plain[4 + LIMIT_PACKET_BYTES];
    uint32_t length = 0;
    fill(plain, packet_length);
    memcpy(packet, plain, 4 + packet_length);
    packet[4 + packet_length + AEAD_TAG_BYTES] = 0xa5;
    cr_assert_eq(aead_seal(seal, seq, packet, packet_length), 0);
    cr_assert(packet_length < 16 || memcmp(packet + 4, plain + 4, packet_length) != 0);
    cr_assert_eq(aead_length(open, seq, packet, &length), 0);
    cr_assert_eq(length, packet_length);
    cr_assert_eq(aead_open(open, seq, packet, packet_length), 0);
    cr_assert_arr_eq(packet, plain, 4 + packet_length, "%s, %u bytes", aead_name(aead_kind(seal)), packet_length);
    cr_assert_eq(packet[4 + packet_length + AEAD_TAG_BYTES], 0xa5, "wrote behind the tag");
}

Test(aead, round_trips_of_every_size) {
    for (unsigned k = 0; k < KINDS; k++) {
        struct aead *seal = make(kinds[k], AEAD_SEAL), *open = make(kinds[k], AEAD_OPEN);
        uint32_t seq = 0;
        for (uint32_t packet_length = 1; packet_length <= 600; packet_length++)
            round_trip(seal, open, seq++, packet_length);
        for (uint32_t packet_length = LIMIT_PACKET_BYTES - 2; packet_length <= LIMIT_PACKET_BYTES; packet_length++)
            round_trip(seal, open, seq++, packet_length);
        aead_destroy(seal);
        aead_destroy(open);
    }
}

/* A packet with one bit turned over: refused, and the buffer then holds nothing of the plaintext. */
static void flip_is_refused(enum aead_kind kind, uint32_t packet_length, uint32_t bit) {
    uint8_t sealed[4 + 48 + AEAD_TAG_BYTES], plain[4 + 48], zeros[48] = {0}, damaged[sizeof(sealed)];
    struct aead *seal = make(kind, AEAD_SEAL), *open = make(kind, AEAD_OPEN);
    fill(plain, packet_length);
    memcpy(sealed, plain, 4 + packet_length);
    cr_assert_eq(aead_seal(seal, 7, sealed, packet_length), 0);
    sealed[bit / 8] ^= (uint8_t)(1u << bit % 8);
    memcpy(damaged, sealed, sizeof(damaged));
    cr_assert_eq(aead_open(open, 7, sealed, packet_length), ERR_TAG, "%s: bit %u", aead_name(kind), bit);
    if (kind == AEAD_CHACHA20_POLY1305)
        cr_assert_arr_eq(sealed, damaged, 4 + packet_length + AEAD_TAG_BYTES, "decrypted before the check");
    else
        cr_assert_arr_eq(sealed + 4, zeros, packet_length, "plaintext was left behind");
    cr_assert_eq(ERR_peek_error(), 0, "OpenSSL's error queue was left full");
    aead_destroy(seal);
    aead_destroy(open);
}

Test(aead, every_flipped_bit_is_refused) {
    for (unsigned k = 0; k < KINDS; k++)
        for (uint32_t packet_length = 16; packet_length <= 48; packet_length += 16)
            for (uint32_t bit = 0; bit < (4 + packet_length + AEAD_TAG_BYTES) * 8; bit++)
                flip_is_refused(kinds[k], packet_length, bit);
}

Test(aead, a_packet_out_of_order_is_refused) {
    uint8_t packet[2][4 + 16 + AEAD_TAG_BYTES];
    for (unsigned k = 0; k < KINDS; k++) {
        struct aead *seal = make(kinds[k], AEAD_SEAL), *open = make(kinds[k], AEAD_OPEN);
        for (uint32_t seq = 0; seq < 2; seq++) {
            fill(packet[seq], 16);
            cr_assert_eq(aead_seal(seal, seq, packet[seq], 16), 0);
        }
        cr_assert_neq(memcmp(packet[0], packet[1], sizeof(packet[0])), 0, "a nonce was used twice");
        cr_assert_eq(aead_open(open, 0, packet[1], 16), ERR_TAG);
        aead_destroy(seal);
        aead_destroy(open);
    }
}

Test(aead, keys_and_directions_are_apart) {
    uint8_t key[AEAD_KEY_MAX] = {1}, iv[AEAD_IV_BYTES] = {0}, packet[4 + 16 + AEAD_TAG_BYTES];
    for (unsigned k = 0; k < KINDS; k++) {
        struct aead *seal = make(kinds[k], AEAD_SEAL), *open;
        cr_assert_eq(aead_create(kinds[k], AEAD_OPEN, key, iv, &open), 0);
        fill(packet, 16);
        cr_assert_eq(aead_seal(seal, 0, packet, 16), 0);
        cr_assert_eq(aead_open(open, 0, packet, 16), ERR_TAG);
        aead_destroy(seal);
        aead_destroy(open);
    }
}

/* As when the deferring provider calls: a private context is the thread's own, and its properties ask for another
 * provider. */
Test(aead, own_provider_under_a_private_context) {
    OSSL_LIB_CTX *private = OSSL_LIB_CTX_new();
    OSSL_PROVIDER *provider = OSSL_PROVIDER_load(private, "default");
    cr_assert(private != NULL && provider != NULL);
    cr_assert_eq(EVP_set_default_properties(private, "provider=another"), 1);
    OSSL_LIB_CTX *before = OSSL_LIB_CTX_set0_default(private);
    cr_assert_null(EVP_CIPHER_fetch(NULL, "AES-128-GCM", NULL), "the properties have no effect: nothing is tested");
    ERR_clear_error();
    struct aead *seal[KINDS], *open[KINDS];
    for (unsigned k = 0; k < KINDS; k++) {
        seal[k] = make(kinds[k], AEAD_SEAL);
        open[k] = make(kinds[k], AEAD_OPEN);
    }
    OSSL_LIB_CTX_set0_default(before);
    for (unsigned k = 0; k < KINDS; k++) {
        round_trip(seal[k], open[k], 3, 64);
        aead_destroy(seal[k]);
        aead_destroy(open[k]);
    }
    OSSL_PROVIDER_unload(provider);
    OSSL_LIB_CTX_free(private);
}

Test(aead, no_cipher_is_an_error_and_nothing_else) {
    uint8_t key[AEAD_KEY_MAX] = {0}, iv[AEAD_IV_BYTES] = {0};
    OSSL_LIB_CTX *private = OSSL_LIB_CTX_new();
    OSSL_PROVIDER *provider = OSSL_PROVIDER_load(private, "null");
    cr_assert(private != NULL && provider != NULL);
    OSSL_LIB_CTX *before = OSSL_LIB_CTX_set0_default(private);
    for (unsigned k = 0; k < KINDS; k++) {
        struct aead *aead = (struct aead *)key;
        cr_assert_eq(aead_create(kinds[k], AEAD_SEAL, key, iv, &aead), ERR_CRYPTO);
        cr_assert_null(aead);
        cr_assert_eq(ERR_peek_error(), 0);
    }
    OSSL_LIB_CTX_set0_default(before);
    OSSL_PROVIDER_unload(provider);
    OSSL_LIB_CTX_free(private);
}

static unsigned long allocations;
static int counting;

static void *counted_malloc(size_t bytes, const char *file, int line) {
    (void)file, (void)line;
    allocations++;
    return malloc(bytes);
}

static void *counted_realloc(void *memory, size_t bytes, const char *file, int line) {
    (void)file, (void)line;
    allocations++;
    return realloc(memory, bytes);
}

static void counted_free(void *memory, const char *file, int line) {
    (void)file, (void)line;
    free(memory);
}

/* OpenSSL takes other allocators only before it has used its own, which the constructors of libraries make it do:
 * this must come before them. */
static void count_allocations(void) {
    counting = CRYPTO_set_mem_functions(counted_malloc, counted_realloc, counted_free);
}
__attribute__((section(".preinit_array"), used)) static void (*const before_constructors)(void) = count_allocations;

Test(aead, no_allocation_per_packet) {
    cr_assert_eq(counting, 1);
    for (unsigned k = 0; k < KINDS; k++) {
        struct aead *seal = make(kinds[k], AEAD_SEAL), *open = make(kinds[k], AEAD_OPEN);
        round_trip(seal, open, 0, 64);
        unsigned long before = allocations;
        cr_assert_gt(before, 0, "nothing is counted");
        for (uint32_t seq = 1; seq < 100; seq++)
            round_trip(seal, open, seq, 1024);
        cr_assert_eq(allocations, before, "%s: %lu allocations", aead_name(kinds[k]), allocations - before);
        aead_destroy(seal);
        aead_destroy(open);
    }
}
