#pragma once
/* A double of libssh for the transport's tests: a scripted speaker that keeps its own packet count, makes up keys, and
 * appends dummy tags where libssh would. Two transports face each other. */
#include "engine/limits.h"
#include "ssh/transport.h"
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    DISCONNECT = 1,
    UNIMPLEMENTED = 3,
    SERVICE_REQUEST = 5,
    UNKNOWN = 19,
    KEXINIT = 20,
    NEWKEYS = 21,
    KEX_INIT = 30,
    KEX_REPLY = 31,
    USERAUTH_REQUEST = 50,
    USERAUTH_SUCCESS = 52,
    USERAUTH_LAST = 79,
    UNKNOWN_TO_MUX = 110,
    DATA = 94
};

#define STREAM_BYTES (4u << 20)

/* ---- the double ---- */

struct fake {
    struct speaker base;
    struct wire *wire;
    bool is_client;
    enum aead_kind kind;
    bool asleep; /* pump does nothing */
    int give_up; /* what pump returns once awake */
    bool version_seen, in_tagged, out_tagged, kexinit_sent;
    unsigned epoch;
    uint32_t fed_packets; /* its own idea of the sequence number */
    uint8_t *in, *out;
    size_t in_len, out_len, fed_bytes;
    char lines[4096]; /* what came before the version, and it */
    uint8_t last_type;
    unsigned types[256];
};

static void be32(uint8_t *to, uint32_t value) {
    to[0] = (uint8_t)(value >> 24);
    to[1] = (uint8_t)(value >> 16);
    to[2] = (uint8_t)(value >> 8);
    to[3] = (uint8_t)value;
}

static uint32_t from_be32(const uint8_t *from) {
    return (uint32_t)from[0] << 24 | (uint32_t)from[1] << 16 | (uint32_t)from[2] << 8 | from[3];
}

/* libssh's framing: padded to 8, a tag of zeros once it is past its NEWKEYS. */
static void fake_say(struct fake *fake, const uint8_t *payload, uint32_t len) {
    uint32_t padding = 8 - (5 + len) % 8;
    if (padding < 4)
        padding += 8;
    uint8_t *at = fake->out + fake->out_len;
    be32(at, 1 + len + padding);
    at[4] = (uint8_t)padding;
    memcpy(at + 5, payload, len);
    memset(at + 5 + len, 0xEE, padding);
    fake->out_len += 5 + len + padding;
    if (fake->out_tagged) {
        memset(fake->out + fake->out_len, 0, AEAD_TAG_BYTES);
        fake->out_len += AEAD_TAG_BYTES;
    }
}

static void fake_say_type(struct fake *fake, uint8_t type) {
    fake_say(fake, (uint8_t[]){type, 0, 0, 0, 0}, 5);
}

static uint32_t make_kexinit(uint8_t *payload, bool is_client) {
    const char *list =
        is_client ? "curve25519-sha256,kex-strict-c-v00@openssh.com" : "curve25519-sha256,kex-strict-s-v00@openssh.com";
    memset(payload, 0, 256);
    payload[0] = KEXINIT;
    be32(payload + 17, (uint32_t)strlen(list));
    memcpy(payload + 21, list, strlen(list));
    return 21 + (uint32_t)strlen(list) + 9 * 4 + 5;
}

static void fake_kexinit(struct fake *fake) {
    uint8_t payload[256];
    if (fake->kexinit_sent)
        return;
    fake->kexinit_sent = true;
    uint32_t len = make_kexinit(payload, fake->is_client);
    fake_say(fake, payload, len);
}

static void make_key(uint8_t *key, uint8_t *iv, unsigned epoch, bool from_client) {
    for (unsigned i = 0; i < AEAD_KEY_MAX; i++)
        key[i] = (uint8_t)(i * 3 + epoch * 31 + from_client);
    for (unsigned i = 0; i < AEAD_IV_BYTES; i++)
        iv[i] = (uint8_t)(i + epoch * 17 + from_client * 5);
}

static void wire_keys(struct wire *wire, enum aead_kind kind, unsigned epoch, bool is_client) {
    uint8_t key[AEAD_KEY_MAX], iv[AEAD_IV_BYTES];
    make_key(key, iv, epoch, !is_client);
    cr_assert(wire_key(wire, WIRE_IN, kind, key, iv) == 0);
    make_key(key, iv, epoch, is_client);
    cr_assert(wire_key(wire, WIRE_OUT, kind, key, iv) == 0);
}

static void fake_newkeys(struct fake *fake) {
    fake_say_type(fake, NEWKEYS);
    fake->out_tagged = true;
    fake->kexinit_sent = false;
    wire_keys(fake->wire, fake->kind, fake->epoch++, fake->is_client);
}

static void fake_packet(struct fake *fake, const uint8_t *payload) {
    uint8_t unimplemented[5] = {UNIMPLEMENTED};
    uint32_t seq = fake->fed_packets++;
    fake->last_type = payload[0];
    fake->types[payload[0]]++;
    switch (payload[0]) {
    case KEXINIT:
        fake_kexinit(fake);
        if (fake->is_client)
            fake_say_type(fake, KEX_INIT);
        break;
    case KEX_INIT:
        fake_say_type(fake, KEX_REPLY);
        fake_newkeys(fake);
        break;
    case KEX_REPLY:
        fake_newkeys(fake);
        break;
    case NEWKEYS:
        fake->in_tagged = true;
        break;
    case UNKNOWN:
    case UNKNOWN_TO_MUX:
        be32(unimplemented + 1, seq);
        fake_say(fake, unimplemented, sizeof unimplemented);
        break;
    default:
        break;
    }
}

static void fake_line(struct fake *fake, const uint8_t *line, size_t len) {
    size_t have = strlen(fake->lines);
    if (have + len < sizeof fake->lines)
        memcpy(fake->lines + have, line, len);
    if (memcmp(line, "SSH-", 4) != 0)
        return;
    fake->version_seen = true;
    if (fake->is_client)
        fake_kexinit(fake);
}

/* One line or packet of what it was fed; 0 when none is whole. */
static size_t fake_step(struct fake *fake) {
    if (!fake->version_seen) {
        uint8_t *end = memchr(fake->in, '\n', fake->in_len);
        if (!end)
            return 0;
        size_t len = (size_t)(end + 1 - fake->in);
        fake_line(fake, fake->in, len);
        return len;
    }
    size_t tag = fake->in_tagged ? AEAD_TAG_BYTES : 0;
    if (fake->in_len < 5 || fake->in_len < 4 + from_be32(fake->in) + tag)
        return 0;
    size_t len = 4 + from_be32(fake->in);
    for (size_t i = 0; i < tag; i++)
        cr_assert(fake->in[len + i] == 0, "the dummy tag is zeros");
    fake_packet(fake, fake->in + 5);
    return len + tag;
}

static struct fake *fake_of(struct speaker *speaker) {
    return (struct fake *)speaker;
}

static int fake_feed(struct speaker *speaker, const uint8_t *bytes, size_t len) {
    struct fake *fake = fake_of(speaker);
    memcpy(fake->in + fake->in_len, bytes, len);
    fake->in_len += len;
    fake->fed_bytes += len;
    return 0;
}

static int fake_pump(struct speaker *speaker) {
    struct fake *fake = fake_of(speaker);
    size_t n;
    if (fake->asleep)
        return 0;
    while ((n = fake_step(fake)) > 0) {
        memmove(fake->in, fake->in + n, fake->in_len - n);
        fake->in_len -= n;
    }
    return fake->give_up;
}

/* Not more than 7 bytes at once: packets come in pieces. */
static int fake_take(struct speaker *speaker, uint8_t *bytes, size_t cap) {
    struct fake *fake = fake_of(speaker);
    size_t n = fake->out_len < 7 ? fake->out_len : 7;
    if (n > cap)
        n = cap;
    memcpy(bytes, fake->out, n);
    memmove(fake->out, fake->out + n, fake->out_len - n);
    fake->out_len -= n;
    return (int)n;
}

static int fake_rekey(struct speaker *speaker) {
    fake_kexinit(fake_of(speaker));
    return 0;
}

static const struct speaker_ops fake_ops = {fake_feed, fake_pump, fake_take, fake_rekey};

/* ---- one side ---- */

struct side {
    struct transport transport;
    struct fake fake;
    uint8_t *stream; /* bytes for this side */
    size_t len;
    unsigned packets, bytes;
    uint8_t last[64];
    int answer; /* of on_packet */
};

static int on_packet(void *arg, const struct packet *packet) {
    struct side *side = arg;
    side->packets++;
    side->bytes += packet->payload_len;
    memcpy(side->last, packet->payload, packet->payload_len < 64 ? packet->payload_len : 64);
    return packet->type == UNKNOWN_TO_MUX ? ERR_UNSUPPORTED : side->answer;
}

static struct side *side_create(bool is_client, enum aead_kind kind) {
    struct side *side = calloc(1, sizeof *side);
    side->fake = (struct fake){.base.ops = &fake_ops, .is_client = is_client, .kind = kind};
    side->fake.in = malloc(STREAM_BYTES);
    side->fake.out = malloc(STREAM_BYTES);
    side->stream = malloc(STREAM_BYTES);
    cr_assert(transport_init(&side->transport, is_client, 0, &side->fake.base) == 0);
    side->fake.wire = &side->transport.wire;
    side->transport.on_packet = on_packet;
    side->transport.arg = side;
    const char *version = is_client ? "SSH-2.0-client\r\n" : "SSH-2.0-OpenSSH_9.2p1 x\r\n";
    memcpy(side->fake.out, version, strlen(version));
    side->fake.out_len = strlen(version);
    if (!is_client)
        fake_kexinit(&side->fake);
    return side;
}

static void side_destroy(struct side *side) {
    transport_deinit(&side->transport);
    free(side->fake.in);
    free(side->fake.out);
    free(side->stream);
    free(side);
}

/* Everything `from` has to say, in pieces that one packet just fits. */
static int side_output(struct side *from, struct side *to) {
    for (;;) {
        int n = transport_output(&from->transport, to->stream + to->len, TRANSPORT_OUTPUT_BYTES);
        if (n <= 0)
            return n;
        to->len += (size_t)n;
    }
}

static int side_input(struct side *side, size_t len, size_t *used) {
    size_t need = 0;
    int r = transport_input(&side->transport, side->stream, len, used, &need);
    cr_assert(*used <= len);
    if (!r)
        cr_assert(need >= 1);
    memmove(side->stream, side->stream + *used, side->len - *used);
    side->len -= *used;
    return r;
}

/* Bytes arrive in growing prefixes of what is under way, `chunk` at a time, as short reads would bring them. */
static int side_receive(struct side *side, size_t chunk) {
    size_t shown = 0;
    while (shown < side->len) {
        shown = shown + chunk < side->len ? shown + chunk : side->len;
        size_t used;
        int r = side_input(side, shown, &used);
        if (r)
            return r;
        shown -= used;
    }
    return 0;
}

static void settle(struct side *a, struct side *b, size_t chunk) {
    for (int idle = 0; idle < 2;) {
        size_t before = a->len + b->len + a->fake.fed_bytes + b->fake.fed_bytes + a->bytes + b->bytes;
        cr_assert(side_output(a, b) == 0);
        cr_assert(side_receive(b, chunk) == 0);
        cr_assert(side_output(b, a) == 0);
        cr_assert(side_receive(a, chunk) == 0);
        wire_validate(&a->transport.wire);
        wire_validate(&b->transport.wire);
        size_t after = a->len + b->len + a->fake.fed_bytes + b->fake.fed_bytes + a->bytes + b->bytes;
        idle = before == after ? idle + 1 : 0;
    }
}

static void connect_sides(struct side *client, struct side *server, size_t chunk) {
    settle(client, server, chunk);
    cr_assert(client->transport.wire.out.epochs == 1);
    cr_assert(server->transport.wire.in.epochs == 1);
    transport_authenticated(&client->transport);
    transport_authenticated(&server->transport);
    cr_assert(transport_gate_open(&client->transport));
    cr_assert(transport_gate_open(&server->transport));
}

/* Seals a packet of the given type from one side to the other, as the mux would (or a stranger). */
static size_t send_packet(struct side *from, struct side *to, uint8_t type, uint32_t len) {
    uint8_t *packet = to->stream + to->len;
    memset(packet + 5, 0xAB, len);
    packet[5] = type;
    int n = wire_seal(&from->transport.wire, packet, len);
    cr_assert(n > 0);
    to->len += (size_t)n;
    return (size_t)n;
}

static void make_pair(struct side **client, struct side **server, enum aead_kind kind) {
    *client = side_create(true, kind);
    *server = side_create(false, kind);
    connect_sides(*client, *server, STREAM_BYTES);
}

static void destroy_pair(struct side *client, struct side *server) {
    side_destroy(client);
    side_destroy(server);
}
