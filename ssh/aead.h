#pragma once
/* Seals and opens one SSH packet in place with an AEAD cipher of OpenSSH: aes128-gcm@openssh.com,
 * aes256-gcm@openssh.com (RFC 5647, with OpenSSH's negotiation) and chacha20-poly1305@openssh.com
 * (PROTOCOL.chacha20poly1305). Keys live in EVP contexts only. One context serves one direction of one epoch. One
 * thread at a time. */
#include "engine/error.h"
#include <stddef.h>
#include <stdint.h>

#define AEAD_TAG_BYTES 16u
#define AEAD_LENGTH_BYTES 4u
#define AEAD_KEY_MAX 64u
#define AEAD_IV_BYTES 12u

enum aead_kind { AEAD_NONE, AEAD_AES128_GCM, AEAD_AES256_GCM, AEAD_CHACHA20_POLY1305 };
enum aead_direction { AEAD_SEAL, AEAD_OPEN };

struct aead;
/* key: 16, 32 or 64 bytes (chacha20: K2 ‖ K1, payload key first); iv: 12 bytes for GCM, ignored for chacha20. Copied
 * once. ERR_CRYPTO, ERR_NOMEM: *aead is NULL. */
MUST_USE int aead_create(enum aead_kind kind, enum aead_direction direction, const uint8_t *key, const uint8_t *iv,
                         struct aead **aead);
void aead_destroy(struct aead *aead); /* wipes; NULL is fine */
enum aead_kind aead_kind(const struct aead *aead);
const char *aead_name(enum aead_kind kind); /* "aes128-gcm@openssh.com"; "none" */
/* What (length field excluded for all three) padding aligns packet_length to: 16 for GCM, 8 for chacha20. */
unsigned aead_block_bytes(enum aead_kind kind);
/* packet_length of the packet whose first four bytes are at packet (decrypted for chacha20; packet is not changed).
 * seq: RFC 4253 sequence number, used by chacha20 only. ERR_CRYPTO. */
MUST_USE int aead_length(struct aead *aead, uint32_t seq, const uint8_t *packet, uint32_t *packet_length);
/* packet: length field ‖ packet_length bytes plaintext; encrypts in place and writes the tag behind. ERR_CRYPTO. */
MUST_USE int aead_seal(struct aead *aead, uint32_t seq, uint8_t *packet, uint32_t packet_length);
/* packet: length field ‖ packet_length bytes ciphertext ‖ tag. ERR_TAG: wrong tag, and the plaintext must not be looked
 * at (it is wiped where it was already written). On success the length field is plaintext too. */
MUST_USE int aead_open(struct aead *aead, uint32_t seq, uint8_t *packet, uint32_t packet_length);
