#include "ssh/aead.h"
#include "engine/check.h"
#include "engine/limits.h"
#include "ssh/codec.h"
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

/* OpenSSL's own implementations, whatever library context and default properties the thread has at the moment: keys
 * arrive from within libssh's calls, where the deferring provider is the preferred one. A plain fetch would seal every
 * packet with a cipher that does nothing. */
#define OWN_PROVIDER "provider=default"

#define CHACHA_KEY_BYTES 32u
#define CHACHA_NONCE_BYTES 16u
#define CHACHA_BLOCK_BYTES 64u
#define POLY_KEY_BYTES 32u

struct aead {
    enum aead_kind kind;
    enum aead_direction direction;
    uint8_t iv[AEAD_IV_BYTES];        /* GCM: of the next packet */
    EVP_CIPHER_CTX *payload, *length; /* length: chacha20 only */
    EVP_MAC_CTX *mac;                 /* chacha20 only */
};

static const struct suite {
    const char *name, *cipher;
    unsigned block_bytes;
} suites[] = {
    [AEAD_NONE] = {"none", NULL, 8},
    [AEAD_AES128_GCM] = {"aes128-gcm@openssh.com", "AES-128-GCM", 16},
    [AEAD_AES256_GCM] = {"aes256-gcm@openssh.com", "AES-256-GCM", 16},
    [AEAD_CHACHA20_POLY1305] = {"chacha20-poly1305@openssh.com", "ChaCha20", 8},
};

/* Everything that OpenSSL refuses ends here, so that its error queue never grows and never misleads libssh. */
static int crypto_failed(void) {
    ERR_clear_error();
    return ERR_CRYPTO;
}

static EVP_CIPHER_CTX *cipher_context(const char *name, const uint8_t *key, bool encrypt) {
    EVP_CIPHER *cipher = EVP_CIPHER_fetch(NULL, name, OWN_PROVIDER);
    EVP_CIPHER_CTX *ctx = cipher != NULL ? EVP_CIPHER_CTX_new() : NULL;
    if (ctx != NULL && EVP_CipherInit_ex2(ctx, cipher, key, NULL, encrypt, NULL) != 1) {
        EVP_CIPHER_CTX_free(ctx);
        ctx = NULL;
    }
    EVP_CIPHER_free(cipher);
    return ctx;
}

static EVP_MAC_CTX *mac_context(void) {
    EVP_MAC *mac = EVP_MAC_fetch(NULL, "Poly1305", OWN_PROVIDER);
    EVP_MAC_CTX *ctx = mac != NULL ? EVP_MAC_CTX_new(mac) : NULL;
    EVP_MAC_free(mac);
    return ctx;
}

static bool contexts_create(struct aead *aead, const uint8_t *key) {
    bool chacha = aead->kind == AEAD_CHACHA20_POLY1305;
    /* ChaCha20 is its own inverse; only GCM has two directions. */
    bool encrypt = chacha || aead->direction == AEAD_SEAL;
    aead->payload = cipher_context(suites[aead->kind].cipher, key, encrypt);
    if (aead->payload == NULL || !chacha)
        return aead->payload != NULL;
    aead->length = cipher_context(suites[aead->kind].cipher, key + CHACHA_KEY_BYTES, encrypt);
    aead->mac = mac_context();
    return aead->length != NULL && aead->mac != NULL;
}

int aead_create(enum aead_kind kind, enum aead_direction direction, const uint8_t *key, const uint8_t *iv,
                struct aead **aead) {
    CHECK(kind == AEAD_AES128_GCM || kind == AEAD_AES256_GCM || kind == AEAD_CHACHA20_POLY1305);
    *aead = NULL;
    struct aead *made = calloc(1, sizeof(*made));
    if (made == NULL)
        return ERR_NOMEM;
    made->kind = kind;
    made->direction = direction;
    if (kind != AEAD_CHACHA20_POLY1305)
        memcpy(made->iv, iv, AEAD_IV_BYTES);
    if (!contexts_create(made, key)) {
        aead_destroy(made);
        return crypto_failed();
    }
    *aead = made;
    return 0;
}

void aead_destroy(struct aead *aead) {
    if (aead == NULL)
        return;
    EVP_CIPHER_CTX_free(aead->payload);
    EVP_CIPHER_CTX_free(aead->length);
    EVP_MAC_CTX_free(aead->mac);
    OPENSSL_cleanse(aead, sizeof(*aead));
    free(aead);
}

enum aead_kind aead_kind(const struct aead *aead) {
    return aead->kind;
}

const char *aead_name(enum aead_kind kind) {
    return suites[kind].name;
}

unsigned aead_block_bytes(enum aead_kind kind) {
    return suites[kind].block_bytes;
}

/* The invocation counter of RFC 5647 §7.1: the last 64 bits, which wrap without a carry into the fixed 32. */
static void gcm_next_iv(uint8_t *iv) {
    for (unsigned i = AEAD_IV_BYTES; i-- > 4;)
        if (++iv[i] != 0)
            return;
}

static int gcm_seal(struct aead *aead, uint8_t *packet, uint32_t packet_length) {
    EVP_CIPHER_CTX *ctx = aead->payload;
    uint8_t *body = packet + AEAD_LENGTH_BYTES, *tag = body + packet_length;
    int n;
    if (EVP_EncryptInit_ex2(ctx, NULL, NULL, aead->iv, NULL) != 1 ||
        EVP_EncryptUpdate(ctx, NULL, &n, packet, AEAD_LENGTH_BYTES) != 1 ||
        EVP_EncryptUpdate(ctx, body, &n, body, (int)packet_length) != 1 || EVP_EncryptFinal_ex(ctx, tag, &n) != 1 ||
        EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_GET_TAG, AEAD_TAG_BYTES, tag) != 1)
        return crypto_failed();
    gcm_next_iv(aead->iv);
    return 0;
}

static int gcm_open(struct aead *aead, uint8_t *packet, uint32_t packet_length) {
    EVP_CIPHER_CTX *ctx = aead->payload;
    uint8_t *body = packet + AEAD_LENGTH_BYTES, *tag = body + packet_length;
    int n, err = 0;
    if (EVP_DecryptInit_ex2(ctx, NULL, NULL, aead->iv, NULL) != 1 ||
        EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_SET_TAG, AEAD_TAG_BYTES, tag) != 1 ||
        EVP_DecryptUpdate(ctx, NULL, &n, packet, AEAD_LENGTH_BYTES) != 1 ||
        EVP_DecryptUpdate(ctx, body, &n, body, (int)packet_length) != 1)
        err = ERR_CRYPTO;
    else if (EVP_DecryptFinal_ex(ctx, tag, &n) != 1)
        err = ERR_TAG;
    if (err != 0) {
        /* GCM decrypts before it can judge: what it wrote was vouched for by nobody. */
        OPENSSL_cleanse(body, packet_length);
        ERR_clear_error();
        return err;
    }
    gcm_next_iv(aead->iv);
    return 0;
}

/* The block counter (8 bytes, little endian) starts at 0; the nonce is the sequence number (8 bytes, big endian). */
static bool chacha_start(EVP_CIPHER_CTX *ctx, uint32_t seq) {
    uint8_t nonce[CHACHA_NONCE_BYTES] = {0};
    codec_put_u32(nonce + CHACHA_NONCE_BYTES - 4, seq);
    return EVP_EncryptInit_ex2(ctx, NULL, NULL, nonce, NULL) == 1;
}

static bool chacha_length(struct aead *aead, uint32_t seq, const uint8_t *from, uint8_t *to) {
    int n;
    return chacha_start(aead->length, seq) && EVP_EncryptUpdate(aead->length, to, &n, from, AEAD_LENGTH_BYTES) == 1;
}

/* Keys Poly1305 with the payload cipher's block 0, all of which is used up, so that the payload goes on with block 1 as
 * PROTOCOL.chacha20poly1305 has it, without a second initialisation. */
static bool chacha_start_packet(struct aead *aead, uint32_t seq) {
    static const uint8_t zeros[CHACHA_BLOCK_BYTES];
    uint8_t block[CHACHA_BLOCK_BYTES];
    int n;
    bool ok = chacha_start(aead->payload, seq) &&
              EVP_EncryptUpdate(aead->payload, block, &n, zeros, CHACHA_BLOCK_BYTES) == 1 &&
              EVP_MAC_init(aead->mac, block, POLY_KEY_BYTES, NULL) == 1;
    OPENSSL_cleanse(block, sizeof(block));
    return ok;
}

static bool chacha_payload(struct aead *aead, uint8_t *body, uint32_t packet_length) {
    int n;
    return EVP_EncryptUpdate(aead->payload, body, &n, body, (int)packet_length) == 1;
}

static bool chacha_tag(struct aead *aead, const uint8_t *packet, uint32_t packet_length, uint8_t *tag) {
    size_t n;
    return EVP_MAC_update(aead->mac, packet, AEAD_LENGTH_BYTES + (size_t)packet_length) == 1 &&
           EVP_MAC_final(aead->mac, tag, &n, AEAD_TAG_BYTES) == 1;
}

static int chacha_seal(struct aead *aead, uint32_t seq, uint8_t *packet, uint32_t packet_length) {
    uint8_t *body = packet + AEAD_LENGTH_BYTES;
    if (!chacha_length(aead, seq, packet, packet) || !chacha_start_packet(aead, seq) ||
        !chacha_payload(aead, body, packet_length) || !chacha_tag(aead, packet, packet_length, body + packet_length))
        return crypto_failed();
    return 0;
}

static int chacha_open(struct aead *aead, uint32_t seq, uint8_t *packet, uint32_t packet_length) {
    uint8_t *body = packet + AEAD_LENGTH_BYTES, tag[AEAD_TAG_BYTES];
    if (!chacha_start_packet(aead, seq) || !chacha_tag(aead, packet, packet_length, tag))
        return crypto_failed();
    if (CRYPTO_memcmp(tag, body + packet_length, AEAD_TAG_BYTES) != 0)
        return ERR_TAG;
    if (!chacha_payload(aead, body, packet_length)) {
        OPENSSL_cleanse(body, packet_length);
        return crypto_failed();
    }
    codec_put_u32(packet, packet_length);
    return 0;
}

int aead_length(struct aead *aead, uint32_t seq, const uint8_t *packet, uint32_t *packet_length) {
    uint8_t plain[AEAD_LENGTH_BYTES];
    if (aead->kind != AEAD_CHACHA20_POLY1305) {
        *packet_length = codec_get_u32(packet);
        return 0;
    }
    if (!chacha_length(aead, seq, packet, plain))
        return crypto_failed();
    *packet_length = codec_get_u32(plain);
    return 0;
}

int aead_seal(struct aead *aead, uint32_t seq, uint8_t *packet, uint32_t packet_length) {
    CHECK(aead->direction == AEAD_SEAL && packet_length <= LIMIT_PACKET_BYTES);
    return aead->kind == AEAD_CHACHA20_POLY1305 ? chacha_seal(aead, seq, packet, packet_length)
                                                : gcm_seal(aead, packet, packet_length);
}

int aead_open(struct aead *aead, uint32_t seq, uint8_t *packet, uint32_t packet_length) {
    CHECK(aead->direction == AEAD_OPEN && packet_length <= LIMIT_PACKET_BYTES);
    return aead->kind == AEAD_CHACHA20_POLY1305 ? chacha_open(aead, seq, packet, packet_length)
                                                : gcm_open(aead, packet, packet_length);
}
