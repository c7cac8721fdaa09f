/* One packet of CHANNEL_DATA sealed or opened in place. The packets of a batch lie side by side, as in a send batch. */
#include "bench/micro/micro.h"
#include "engine/check.h"
#include "ssh/aead.h"
#include "ssh/codec.h"
#include "ssh/mux.h"
#include <stdlib.h>
#include <string.h>

#define CACHE_LINE 64u

struct packets {
    struct aead *seal, *open;
    uint8_t *memory;
    size_t stride;
    uint32_t packet_length, count, seq_sealed, seq_opened;
};

/* RFC 4253 §6: at least four bytes of padding up to a whole block. */
static uint32_t packet_length(const struct aead *aead, uint32_t data_bytes) {
    uint32_t block = aead_block_bytes(aead_kind(aead));
    uint32_t least = 1 + MUX_DATA_HEADER_BYTES + data_bytes + 4;
    return (least + block - 1) / block * block;
}

static void *crypto_set_up(const struct micro *micro) {
    static const uint8_t key[AEAD_KEY_MAX] = {1, 2, 3}, iv[AEAD_IV_BYTES] = {4, 5, 6};
    struct packets *packets = calloc(1, sizeof *packets);
    CHECK(packets);
    CHECK(aead_create((enum aead_kind)micro->number, AEAD_SEAL, key, iv, &packets->seal) == 0);
    CHECK(aead_create((enum aead_kind)micro->number, AEAD_OPEN, key, iv, &packets->open) == 0);
    packets->packet_length = packet_length(packets->seal, micro->bytes);
    packets->stride = AEAD_LENGTH_BYTES + packets->packet_length + AEAD_TAG_BYTES;
    packets->stride = (packets->stride + CACHE_LINE - 1) / CACHE_LINE * CACHE_LINE;
    packets->count = micro->batch;
    packets->memory = aligned_alloc(CACHE_LINE, packets->count * packets->stride);
    CHECK(packets->memory);
    memset(packets->memory, 'x', packets->count * packets->stride);
    return packets;
}

static uint8_t *packet_at(const struct packets *packets, uint32_t index) {
    return packets->memory + index * packets->stride;
}

static void seal_run(void *state, uint32_t operations) {
    struct packets *packets = state;
    for (uint32_t i = 0; i < operations; i++) {
        uint8_t *packet = packet_at(packets, i);
        codec_put_u32(packet, packets->packet_length);
        CHECK(aead_seal(packets->seal, packets->seq_sealed++, packet, packets->packet_length) == 0);
    }
}

static void open_run(void *state, uint32_t operations) {
    struct packets *packets = state;
    for (uint32_t i = 0; i < operations; i++) {
        uint8_t *packet = packet_at(packets, i);
        uint32_t len, seq = packets->seq_opened++;
        CHECK(aead_length(packets->open, seq, packet, &len) == 0 && len == packets->packet_length);
        CHECK(aead_open(packets->open, seq, packet, len) == 0);
    }
}

static void crypto_tear_down(void *state) {
    struct packets *packets = state;
    CHECK(packets->seq_sealed > 0);
    aead_destroy(packets->seal);
    aead_destroy(packets->open);
    free(packets->memory);
    free(packets);
}

#define CRYPTO(cipher, kind, size, count)                                                                              \
    {"seal/" cipher "/" #size, "a packet sealed", size, count, kind, crypto_set_up, NULL, seal_run, crypto_tear_down}, \
    {                                                                                                                  \
        "open/" cipher "/" #size, "a packet opened", size, count, kind, crypto_set_up, seal_run, open_run,             \
            crypto_tear_down                                                                                           \
    }
/* About as much memory as a send batch has, whatever the size. */
#define CIPHER(cipher, kind)                                                                                           \
    CRYPTO(cipher, kind, 64, 2048), CRYPTO(cipher, kind, 1024, 256), CRYPTO(cipher, kind, 32768, 16)

const struct micro micro_crypto[] = {
    CIPHER("aes128-gcm", AEAD_AES128_GCM),
    CIPHER("aes256-gcm", AEAD_AES256_GCM),
    CIPHER("chacha20-poly1305", AEAD_CHACHA20_POLY1305),
    {.name = NULL},
};
