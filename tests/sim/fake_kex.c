#include "tests/sim/fake_kex.h"
#include "engine/check.h"
#include "ssh/codec.h"
#include "ssh/messages.h"
#include <stdlib.h>
#include <string.h>

enum { MSG_KEX_INIT = 30, MSG_KEX_REPLY = 31, MSG_UNKNOWN = 19 };

static struct fake_kex *fake_of(struct speaker *speaker) {
    return (struct fake_kex *)(void *)speaker;
}

/* splitmix64 */
static uint64_t next_random(uint64_t *state) {
    uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

static void bytes_add(struct fake_bytes *bytes, const void *data, size_t len) {
    if (bytes->len + len > bytes->cap) {
        bytes->cap = (bytes->len + len) * 2;
        bytes->at = realloc(bytes->at, bytes->cap);
        CHECK(bytes->at);
    }
    memcpy(bytes->at + bytes->len, data, len);
    bytes->len += len;
}

static uint8_t *bytes_first(const struct fake_bytes *bytes, size_t *len) {
    *len = bytes->len - bytes->from;
    return *len > 0 ? bytes->at + bytes->from : NULL;
}

static void bytes_drop(struct fake_bytes *bytes, size_t len) {
    bytes->from += len;
    if (bytes->from == bytes->len)
        bytes->from = bytes->len = 0;
}

/* libssh's framing: padded to 8, a tag of zeros once it is past its NEWKEYS. */
static void say(struct fake_kex *fake, const uint8_t *payload, uint32_t len) {
    static const uint8_t tail[32 + AEAD_TAG_BYTES];
    uint32_t padding = 8 - (5 + len) % 8;
    if (padding < 4)
        padding += 8;
    uint8_t header[5];
    codec_put_u32(header, 1 + len + padding);
    header[4] = (uint8_t)padding;
    bytes_add(&fake->out, header, sizeof header);
    bytes_add(&fake->out, payload, len);
    bytes_add(&fake->out, tail, padding + (fake->out_tagged ? AEAD_TAG_BYTES : 0));
}

static void say_filled(struct fake_kex *fake, uint8_t type, uint32_t len) {
    uint8_t payload[512];
    memset(payload, (int)len, len);
    payload[0] = type;
    say(fake, payload, len);
}

static void say_kexinit(struct fake_kex *fake) {
    const char *list = !fake->offers_strict ? "curve25519-sha256"
                       : fake->is_client    ? "curve25519-sha256,kex-strict-c-v00@openssh.com"
                                            : "kex-strict-s-v00@openssh.com,curve25519-sha256";
    uint8_t payload[256] = {MSG_KEXINIT};
    uint32_t len = (uint32_t)strlen(list);
    if (fake->kexinit_said)
        return;
    fake->kexinit_said = true;
    codec_put_u32(payload + 17, len);
    memcpy(payload + 21, list, len);
    say(fake, payload, 21 + len + 9 * 4 + 5);
}

static void give_key(struct fake_kex *fake, enum wire_direction direction) {
    static const enum aead_kind kinds[] = {AEAD_AES128_GCM, AEAD_AES256_GCM, AEAD_CHACHA20_POLY1305};
    bool from_client = (direction == WIRE_OUT) == fake->is_client;
    uint64_t state = fake->seed + fake->epochs * 2 + from_client;
    uint8_t key[AEAD_KEY_MAX], iv[AEAD_IV_BYTES];
    enum aead_kind kind = kinds[next_random(&state) % 3];
    for (unsigned i = 0; i < sizeof key; i++)
        key[i] = (uint8_t)next_random(&state);
    for (unsigned i = 0; i < sizeof iv; i++)
        iv[i] = (uint8_t)next_random(&state);
    CHECK(wire_key(fake->wire, direction, kind, key, iv) == 0);
}

static void say_newkeys(struct fake_kex *fake) {
    say_filled(fake, MSG_NEWKEYS, 1);
    fake->out_tagged = true;
    fake->kexinit_said = false;
    give_key(fake, WIRE_IN);
    give_key(fake, WIRE_OUT);
    fake->epochs++;
}

static void hear_packet(struct fake_kex *fake, const uint8_t *payload, size_t len) {
    static const char strict[] = "kex-strict-";
    uint8_t type = payload[0];
    switch (type) {
    case MSG_KEXINIT:
        fake->peer_offers_strict |= memmem(payload, len, strict, sizeof strict - 1) != NULL;
        say_kexinit(fake);
        if (fake->is_client)
            say_filled(fake, MSG_KEX_INIT, 37);
        break;
    case MSG_KEX_INIT:
        say_filled(fake, MSG_KEX_REPLY, 200);
        say_newkeys(fake);
        break;
    case MSG_KEX_REPLY:
        say_newkeys(fake);
        break;
    case MSG_NEWKEYS:
        fake->in_tagged = true;
        break;
    case MSG_UNKNOWN:
        say_filled(fake, MSG_UNIMPLEMENTED, 5);
        break;
    case MSG_UNIMPLEMENTED:
        fake->answered++;
        break;
    default:
        CHECK(type < MSG_USERAUTH_FIRST);
        break;
    }
}

/* The bytes of the first line or packet when it is whole, else 0. */
static size_t hear_one(struct fake_kex *fake) {
    size_t have;
    const uint8_t *in = bytes_first(&fake->in, &have);
    if (!fake->version_seen) {
        const uint8_t *end = in ? memchr(in, '\n', have) : NULL;
        if (!end)
            return 0;
        size_t line = (size_t)(end + 1 - in);
        fake->version_seen = true;
        if (fake->is_client)
            say_kexinit(fake);
        return line;
    }
    size_t tag = fake->in_tagged ? AEAD_TAG_BYTES : 0;
    if (have < 5 || have < 4 + codec_get_u32(in) + tag)
        return 0;
    size_t len = 4 + codec_get_u32(in);
    for (size_t i = 0; i < tag; i++)
        CHECK(in[len + i] == 0);
    hear_packet(fake, in + 5, len - 5);
    return len + tag;
}

/* Both ends of the simulation are the same code, so what they could get wrong together is checked here. */
static void check_numbers(const struct fake_kex *fake) {
    bool strict = fake->offers_strict && fake->peer_offers_strict;
    CHECK(fake->wire->strict == strict);
    CHECK(strict == (fake->wire->in.seq == 0));
}

/* Whole lines, packets and tags. */
static int fake_feed(struct speaker *speaker, const uint8_t *bytes, size_t len) {
    if (len > 5 && bytes[5] == MSG_NEWKEYS)
        check_numbers(fake_of(speaker));
    bytes_add(&fake_of(speaker)->in, bytes, len);
    return 0;
}

static int fake_pump(struct speaker *speaker) {
    struct fake_kex *fake = fake_of(speaker);
    size_t n;
    while (!fake->asleep && (n = hear_one(fake)) > 0)
        bytes_drop(&fake->in, n);
    return 0;
}

/* Packets come in pieces. */
static int fake_take(struct speaker *speaker, uint8_t *bytes, size_t cap) {
    struct fake_kex *fake = fake_of(speaker);
    size_t have, most = next_random(&fake->random) % 2 ? 500 : cap;
    const uint8_t *out = bytes_first(&fake->out, &have);
    size_t n = 1 + next_random(&fake->random) % most;
    if (n > cap)
        n = cap;
    if (n > have || fake->asleep)
        n = fake->asleep ? 0 : have;
    if (n > 0) {
        memcpy(bytes, out, n);
        bytes_drop(&fake->out, n);
    }
    return (int)n;
}

static bool exchanging(const struct fake_kex *fake) {
    return fake->kexinit_said || fake->wire->kexing_in || fake->wire->kexing_out;
}

static int fake_rekey(struct speaker *speaker) {
    struct fake_kex *fake = fake_of(speaker);
    if (exchanging(fake))
        return 0;
    if (next_random(&fake->random) % 4 == 0)
        return ERR_AGAIN;
    say_kexinit(fake);
    return 0;
}

void fake_kex_init(struct fake_kex *fake, struct wire *wire, bool is_client, bool offers_strict, uint64_t seed,
                   const char *version) {
    static const struct speaker_ops ops = {fake_feed, fake_pump, fake_take, fake_rekey};
    *fake = (struct fake_kex){.base.ops = &ops,
                              .wire = wire,
                              .seed = seed * UINT64_C(0x9e3779b97f4a7c15),
                              .random = seed + is_client,
                              .is_client = is_client,
                              .offers_strict = offers_strict};
    bytes_add(&fake->out, version, strlen(version));
    if (!is_client)
        say_kexinit(fake);
}

void fake_kex_deinit(struct fake_kex *fake) {
    free(fake->in.at);
    free(fake->out.at);
}

bool fake_kex_settled(const struct fake_kex *fake) {
    return fake->epochs > 0 && !exchanging(fake) && fake->in.len == 0 && fake->out.len == 0;
}

void fake_kex_chatter(struct fake_kex *fake, unsigned count, enum fake_chatter what) {
    static const uint8_t types[] = {
        [FAKE_IGNORE] = MSG_IGNORE, [FAKE_UNKNOWN] = MSG_UNKNOWN, [FAKE_USERAUTH] = MSG_USERAUTH_FIRST};
    CHECK(what != FAKE_USERAUTH || fake->is_client);
    if (fake->epochs == 0 || exchanging(fake))
        return;
    for (unsigned i = 0; i < count; i++) {
        unsigned more = what == FAKE_USERAUTH ? (unsigned)next_random(&fake->random) % 30 : 0;
        say_filled(fake, (uint8_t)(types[what] + more), count > 100 ? 5 : 5 + (i + count) % 300);
    }
    fake->asked += what == FAKE_UNKNOWN ? count : 0;
}
