#pragma once
/* The wire: RFC 4253 §6 packets of one connection, framed, counted, sealed and opened in place. Pure: no sockets, no
 * clock, no libssh. Key exchange happens elsewhere (libssh, or a test's double); the wire only sees its packets go by
 * and is told the keys.
 *
 * Each direction by itself:
 *
 *   inbound    PLAIN ──NEWKEYS opened──► WAIT_KEYS ──wire_key(IN)──► SEALED ──NEWKEYS──► WAIT_KEYS …
 *              (keys already there when NEWKEYS comes: straight to SEALED; in WAIT_KEYS nothing is opened)
 *   outbound   PLAIN ──NEWKEYS sealed (wire_key(OUT) must have come)──► SEALED ──…
 *   gate       shut ──authenticated──► open ──own KEXINIT sealed──► shut ──own NEWKEYS sealed──► open   (RFC 4253 §7.1)
 *
 * Every packet counts in its direction's sequence number from the first on; with strict key exchange (kex-strict-*-v00)
 * both sides' numbers restart at 0 after NEWKEYS. A NEWKEYS before both sides' KEXINIT is an error. The tag check is
 * here: a bad tag delivers not one byte and ends the wire. One owner; one thread at a time. */
#include "engine/error.h"
#include "ssh/aead.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Bytes before the payload's type byte (packet_length, padding_length), and the most that can follow the payload. */
#define WIRE_HEADER_BYTES 5u
#define WIRE_TRAILER_MAX (19u + AEAD_TAG_BYTES)

enum wire_direction { WIRE_IN, WIRE_OUT };
enum wire_state { WIRE_PLAIN, WIRE_WAIT_KEYS, WIRE_SEALED, WIRE_DEAD };

struct wire_half {
    struct aead *aead, *next; /* in use; captured for the next epoch */
    enum wire_state state;
    uint32_t seq;
    uint64_t packets, bytes, blocks; /* of this epoch; bytes on the TCP stream */
    uint64_t total_packets, total_bytes;
    uint32_t epochs; /* NEWKEYS passed so far */
};

struct wire {
    struct wire_half in, out;
    bool strict; /* both sides offered strict key exchange in their first KEXINIT */
    bool strict_ours, strict_peers, first_kexinit_in, first_kexinit_out;
    bool breach_in; /* the peer sent what strict key exchange forbids before its first NEWKEYS */
    bool is_client;
    bool authenticated;
    bool kexing_out; /* own KEXINIT sent, own NEWKEYS not yet: the gate is shut */
    bool kexing_in;
    uint64_t rekey_bytes; /* RekeyLimit; 0: the ciphers' own */
};

/* One opened packet; pointers into the caller's buffer, valid as long as that is. */
struct packet {
    uint8_t *raw;         /* at the (plaintext) length field */
    uint32_t raw_len;     /* length field, padding length, payload, padding; without tag */
    uint8_t *payload;     /* at the type byte */
    uint32_t payload_len; /* ≥ 1 */
    uint32_t seq;
    uint8_t type;
};

void wire_init(struct wire *wire, bool is_client, uint64_t rekey_bytes);
void wire_deinit(struct wire *wire);         /* wipes keys */
void wire_validate(const struct wire *wire); /* CHECKs the invariants; for tests */

/* The keys of a direction's next epoch, as negotiated (called from the provider, or by a test). Copied. ERR_CRYPTO,
 * ERR_NOMEM; ERR_PROTOCOL: the wire is dead. A second call before NEWKEYS replaces the first. */
MUST_USE int wire_key(struct wire *wire, enum wire_direction direction, enum aead_kind kind, const uint8_t *key,
                      const uint8_t *iv);

/* Opens the first packet of data[0..len), in place.
 *   1: *packet is set, *used bytes of data are done with (tag included)
 *   0: not whole yet; *used = how many bytes the packet needs in all, as far as is known (≥ 1)
 *   ERR_AGAIN: in WAIT_KEYS, nothing done: give the keys first
 *   ERR_LENGTH, ERR_TAG, ERR_PROTOCOL, ERR_CRYPTO: the wire is dead (both directions; every later call: ERR_PROTOCOL),
 *   nothing was delivered.
 * 80+ before `authenticated` is ERR_PROTOCOL: after USERAUTH_SUCCESS ask libssh before opening the next packet. */
MUST_USE int wire_open(struct wire *wire, uint8_t *data, size_t len, struct packet *packet, size_t *used);

/* May a packet of 80–127 be sealed now? */
bool wire_gate_open(const struct wire *wire);
/* packet: WIRE_HEADER_BYTES to be filled in here, then payload_len bytes of payload, with WIRE_TRAILER_MAX bytes of
 * room behind. Pads (RFC 4253 §6: ≥ 4 bytes), numbers, seals in place. Returns the bytes to send from `packet` on, or
 * ERR_CRYPTO, or ERR_AGAIN (payload is NEWKEYS and its keys are missing; or the type is 80+ and the gate is shut:
 * nothing done), or ERR_LENGTH (longer than LIMIT_PACKET_BYTES when padded: nothing done), or ERR_PROTOCOL (the wire
 * is dead, or this KEXINIT makes the exchange strict and the peer has already broken it: then dead). */
MUST_USE int wire_seal(struct wire *wire, uint8_t *packet, uint32_t payload_len);

/* Is it time to ask for a rekey (RekeyLimit, 2^32 AES blocks, 1 GiB of chacha20, 2^31 packets, in either direction)?
 * No while a key exchange is going on, and none before authentication. */
bool wire_rekey_due(const struct wire *wire);
