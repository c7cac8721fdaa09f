#include "ssh/wire.h"
#include "engine/check.h"
#include "engine/limits.h"
#include "ssh/codec.h"
#include "ssh/messages.h"
#include <string.h>

#define PADDING_MIN 4u
#define KEXINIT_COOKIE_BYTES 16u
#define AES_BLOCK_BYTES 16u

static void half_wipe(struct wire_half *half) {
    aead_destroy(half->aead);
    aead_destroy(half->next);
    half->aead = half->next = NULL;
}

/* One connection has one fate: after an error nothing more is opened or sealed, and no key is left. */
static int wire_die(struct wire *wire, int err) {
    half_wipe(&wire->in);
    half_wipe(&wire->out);
    wire->in.state = wire->out.state = WIRE_DEAD;
    return err;
}

void wire_init(struct wire *wire, bool is_client, uint64_t rekey_bytes) {
    *wire = (struct wire){.is_client = is_client, .rekey_bytes = rekey_bytes};
}

void wire_deinit(struct wire *wire) {
    (void)wire_die(wire, 0);
}

static void half_validate(const struct wire_half *half) {
    switch (half->state) {
    case WIRE_PLAIN:
        CHECK(half->aead == NULL && half->epochs == 0);
        CHECK(half->packets == half->total_packets && half->bytes == half->total_bytes);
        break;
    case WIRE_WAIT_KEYS:
        CHECK(half->aead == NULL && half->next == NULL && half->epochs > 0);
        CHECK(half->packets == 0 && half->bytes == 0 && half->blocks == 0);
        break;
    case WIRE_SEALED:
        CHECK(half->aead != NULL && half->epochs > 0);
        break;
    case WIRE_DEAD:
        CHECK(half->aead == NULL && half->next == NULL);
        break;
    }
    CHECK(half->packets <= half->total_packets && half->bytes <= half->total_bytes);
}

void wire_validate(const struct wire *wire) {
    half_validate(&wire->in);
    half_validate(&wire->out);
    CHECK(wire->out.state != WIRE_WAIT_KEYS);
    CHECK((wire->in.state == WIRE_DEAD) == (wire->out.state == WIRE_DEAD));
    CHECK(wire->in.epochs <= wire->out.epochs + 1 && wire->out.epochs <= wire->in.epochs + 1);
    CHECK(wire->strict == (wire->strict_ours && wire->strict_peers));
    CHECK(wire->first_kexinit_in || (!wire->kexing_in && !wire->strict_peers && wire->in.epochs == 0));
    CHECK(wire->first_kexinit_out || (!wire->kexing_out && !wire->strict_ours && wire->out.epochs == 0));
    CHECK(!wire_gate_open(wire) || (wire->authenticated && wire->out.state == WIRE_SEALED && !wire->kexing_out));
}

int wire_key(struct wire *wire, enum wire_direction direction, enum aead_kind kind, const uint8_t *key,
             const uint8_t *iv) {
    struct wire_half *half = direction == WIRE_IN ? &wire->in : &wire->out;
    struct aead *aead;
    if (half->state == WIRE_DEAD)
        return ERR_PROTOCOL;
    int err = aead_create(kind, direction == WIRE_IN ? AEAD_OPEN : AEAD_SEAL, key, iv, &aead);
    if (err != 0)
        return err;
    if (half->state == WIRE_WAIT_KEYS) {
        half->aead = aead;
        half->state = WIRE_SEALED;
        return 0;
    }
    aead_destroy(half->next);
    half->next = aead;
    return 0;
}

/* ── framing ── */

static size_t half_tag_bytes(const struct wire_half *half) {
    return half->state == WIRE_SEALED ? AEAD_TAG_BYTES : 0;
}

/* Before the keys the length field counts into the alignment, after them it does not (RFC 4253 §6, RFC 5647 §7.2,
 * PROTOCOL.chacha20poly1305). */
static uint32_t half_aligned_bytes(const struct wire_half *half) {
    return half->state == WIRE_SEALED ? 0 : AEAD_LENGTH_BYTES;
}

static uint32_t half_block_bytes(const struct wire_half *half) {
    return aead_block_bytes(half->state == WIRE_SEALED ? aead_kind(half->aead) : AEAD_NONE);
}

static uint32_t padding_bytes(const struct wire_half *half, uint32_t payload_len) {
    uint32_t block = half_block_bytes(half);
    uint32_t padding = block - (half_aligned_bytes(half) + 1 + payload_len) % block;
    return padding < PADDING_MIN ? padding + block : padding;
}

/* ── what the packets that go by mean ── */

static bool name_list_has(const uint8_t *list, size_t len, const char *name) {
    size_t name_len = strlen(name);
    for (size_t start = 0; start < len;) {
        const uint8_t *comma = memchr(list + start, ',', len - start);
        size_t end = comma != NULL ? (size_t)(comma - list) : len;
        if (end - start == name_len && memcmp(list + start, name, name_len) == 0)
            return true;
        start = end + 1;
    }
    return false;
}

/* Does a KEXINIT (RFC 4253 §7.1) offer strict key exchange, in the spelling of the side that sent it? */
static int kexinit_strict(const uint8_t *payload, size_t len, bool from_client, bool *strict) {
    const size_t list_at = 1 + KEXINIT_COOKIE_BYTES + 4;
    if (len < list_at)
        return ERR_PROTOCOL;
    uint32_t list_len = codec_get_u32(payload + list_at - 4);
    if (list_len > len - list_at)
        return ERR_PROTOCOL;
    *strict = name_list_has(payload + list_at, list_len,
                            from_client ? "kex-strict-c-v00@openssh.com" : "kex-strict-s-v00@openssh.com");
    return 0;
}

/* A later KEXINIT says nothing about strictness: it is settled by the first of each side. */
static int kexinit_note(struct wire *wire, enum wire_direction direction, const uint8_t *payload, size_t len) {
    bool in = direction == WIRE_IN, *kexing = in ? &wire->kexing_in : &wire->kexing_out;
    bool *seen = in ? &wire->first_kexinit_in : &wire->first_kexinit_out;
    if (*kexing)
        return ERR_PROTOCOL;
    *kexing = true;
    if (*seen)
        return 0;
    *seen = true;
    int err = kexinit_strict(payload, len, in != wire->is_client, in ? &wire->strict_peers : &wire->strict_ours);
    wire->strict = wire->strict_ours && wire->strict_peers;
    return err;
}

/* The direction's next packet belongs to a new epoch. No side can be here before the other's KEXINIT, so strictness is
 * settled by now. */
static int newkeys_note(struct wire *wire, enum wire_direction direction) {
    bool in = direction == WIRE_IN;
    struct wire_half *half = in ? &wire->in : &wire->out, *other = in ? &wire->out : &wire->in;
    bool *kexing = in ? &wire->kexing_in : &wire->kexing_out;
    bool other_joined = (in ? wire->kexing_out : wire->kexing_in) || other->epochs > half->epochs;
    if (!*kexing || !other_joined)
        return ERR_PROTOCOL;
    *kexing = false;
    aead_destroy(half->aead);
    half->aead = half->next;
    half->next = NULL;
    half->state = half->aead != NULL ? WIRE_SEALED : WIRE_WAIT_KEYS;
    half->epochs++;
    half->packets = half->bytes = half->blocks = 0;
    if (wire->strict)
        half->seq = 0;
    return 0;
}

static int half_count(struct wire_half *half, uint32_t packet_length, size_t bytes) {
    half->packets++;
    half->total_packets++;
    half->bytes += bytes;
    half->total_bytes += bytes;
    half->blocks += packet_length / AES_BLOCK_BYTES + 1; /* GCM spends one more on the tag */
    /* A number that comes round before there is any key is what strict key exchange was made against. */
    return ++half->seq == 0 && half->epochs == 0 ? ERR_PROTOCOL : 0;
}

/* Packets that have no place in the initial key exchange are how a prefix is cut out unnoticed (CVE-2023-48795).
 * Whether both sides are strict is known only when both KEXINITs are through, so the breach is remembered until then.
 */
static void initial_kex_note(struct wire *wire, uint8_t type) {
    bool is_first = wire->in.total_packets == 0;
    bool is_kex = type == MSG_KEXINIT || type == MSG_NEWKEYS || type == MSG_DISCONNECT ||
                  (type >= MSG_KEX_METHOD_FIRST && type <= MSG_KEX_METHOD_LAST);
    if (!is_kex || (is_first && type != MSG_KEXINIT))
        wire->breach_in = true;
}

static int note_in(struct wire *wire, const struct packet *packet, size_t bytes) {
    struct wire_half *in = &wire->in;
    int err = 0;
    if (in->epochs == 0)
        initial_kex_note(wire, packet->type);
    if (packet->type >= MSG_CONNECTION_FIRST && (in->state != WIRE_SEALED || !wire->authenticated || wire->kexing_in))
        return ERR_PROTOCOL;
    if (packet->type == MSG_KEXINIT)
        err = kexinit_note(wire, WIRE_IN, packet->payload, packet->payload_len);
    if (err != 0 || (wire->strict && wire->breach_in))
        return ERR_PROTOCOL;
    err = half_count(in, packet->raw_len - AEAD_LENGTH_BYTES, bytes);
    if (err == 0 && packet->type == MSG_NEWKEYS)
        err = newkeys_note(wire, WIRE_IN);
    return err;
}

/* ── inbound ── */

static int frame_length(struct wire_half *in, const uint8_t *data, uint32_t *packet_length) {
    *packet_length = codec_get_u32(data);
    int err = in->state == WIRE_SEALED ? aead_length(in->aead, in->seq, data, packet_length) : 0;
    if (err != 0)
        return err;
    /* padding_length, one byte of payload and the least padding */
    if (*packet_length < 1 + 1 + PADDING_MIN || *packet_length > LIMIT_PACKET_BYTES)
        return ERR_LENGTH;
    return (*packet_length + half_aligned_bytes(in)) % half_block_bytes(in) == 0 ? 0 : ERR_LENGTH;
}

static int frame_open(struct wire *wire, uint8_t *data, uint32_t packet_length, struct packet *opened) {
    struct wire_half *in = &wire->in;
    size_t bytes = AEAD_LENGTH_BYTES + packet_length + half_tag_bytes(in);
    int err = in->state == WIRE_SEALED ? aead_open(in->aead, in->seq, data, packet_length) : 0;
    if (err != 0)
        return err;
    uint8_t padding = data[AEAD_LENGTH_BYTES];
    if (padding < PADDING_MIN || padding + 2u > packet_length)
        return ERR_PROTOCOL;
    *opened = (struct packet){
        .raw = data,
        .raw_len = AEAD_LENGTH_BYTES + packet_length,
        .payload = data + WIRE_HEADER_BYTES,
        .payload_len = packet_length - 1 - padding,
        .seq = in->seq,
        .type = data[WIRE_HEADER_BYTES],
    };
    return note_in(wire, opened, bytes);
}

int wire_open(struct wire *wire, uint8_t *data, size_t len, struct packet *packet, size_t *used) {
    struct wire_half *in = &wire->in;
    struct packet opened;
    uint32_t packet_length;
    *used = 0;
    if (in->state == WIRE_DEAD)
        return ERR_PROTOCOL;
    if (in->state == WIRE_WAIT_KEYS)
        return ERR_AGAIN;
    *used = AEAD_LENGTH_BYTES;
    if (len < AEAD_LENGTH_BYTES)
        return 0;
    int err = frame_length(in, data, &packet_length);
    if (err != 0)
        return wire_die(wire, err);
    *used = AEAD_LENGTH_BYTES + packet_length + half_tag_bytes(in);
    if (len < *used)
        return 0;
    err = frame_open(wire, data, packet_length, &opened);
    if (err != 0)
        return wire_die(wire, err);
    *packet = opened;
    return 1;
}

/* ── outbound ── */

bool wire_gate_open(const struct wire *wire) {
    return wire->authenticated && wire->out.state == WIRE_SEALED && !wire->kexing_out;
}

static int note_out(struct wire *wire, uint8_t type, uint32_t packet_length, size_t bytes) {
    int err = half_count(&wire->out, packet_length, bytes);
    if (err == 0 && type == MSG_NEWKEYS)
        err = newkeys_note(wire, WIRE_OUT);
    return err;
}

int wire_seal(struct wire *wire, uint8_t *packet, uint32_t payload_len) {
    struct wire_half *out = &wire->out;
    CHECK(payload_len > 0);
    uint8_t type = packet[WIRE_HEADER_BYTES];
    if (out->state == WIRE_DEAD)
        return ERR_PROTOCOL;
    if ((type >= MSG_CONNECTION_FIRST && !wire_gate_open(wire)) || (type == MSG_NEWKEYS && out->next == NULL))
        return ERR_AGAIN;
    if (payload_len > LIMIT_PACKET_BYTES)
        return ERR_LENGTH;
    uint32_t padding = padding_bytes(out, payload_len), packet_length = 1 + payload_len + padding;
    if (packet_length > LIMIT_PACKET_BYTES)
        return ERR_LENGTH;
    int err = 0;
    if (type == MSG_KEXINIT)
        err = kexinit_note(wire, WIRE_OUT, packet + WIRE_HEADER_BYTES, payload_len);
    if (err != 0 || (wire->strict && wire->breach_in))
        return wire_die(wire, ERR_PROTOCOL);
    codec_put_u32(packet, packet_length);
    packet[AEAD_LENGTH_BYTES] = (uint8_t)padding;
    /* Zeros, not the random bytes that RFC 4253 §6 suggests: they helped CBC ciphers against known plaintext. An AEAD
     * needs no such help, and in the clear they would hide nothing. */
    memset(packet + WIRE_HEADER_BYTES + payload_len, 0, padding);
    size_t bytes = AEAD_LENGTH_BYTES + packet_length + half_tag_bytes(out);
    if (out->state == WIRE_SEALED)
        err = aead_seal(out->aead, out->seq, packet, packet_length);
    if (err == 0)
        err = note_out(wire, type, packet_length, bytes);
    return err != 0 ? wire_die(wire, err) : (int)bytes;
}

static bool half_rekey_due(const struct wire_half *half, uint64_t rekey_bytes) {
    if (half->packets >= LIMIT_REKEY_PACKETS || (rekey_bytes != 0 && half->bytes >= rekey_bytes))
        return true;
    if (aead_kind(half->aead) == AEAD_CHACHA20_POLY1305)
        return half->bytes >= LIMIT_REKEY_CHACHA_BYTES;
    return half->blocks >= LIMIT_REKEY_AES_BLOCKS;
}

bool wire_rekey_due(const struct wire *wire) {
    /* Nobody expects a rekey while authentication is under way, OpenSSH's client least of all. */
    if (!wire->authenticated || wire->kexing_in || wire->kexing_out)
        return false;
    if (wire->in.state != WIRE_SEALED || wire->out.state != WIRE_SEALED)
        return false;
    return half_rekey_due(&wire->in, wire->rekey_bytes) || half_rekey_due(&wire->out, wire->rekey_bytes);
}
