/* The transport against a double of libssh: a scripted speaker that keeps its own packet count, makes up keys, and
 * appends dummy tags where libssh would. Two transports face each other, or one faces a peer made of a bare wire. */
#include "engine/limits.h"
#include "ssh/transport.h"
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    DISCONNECT = 1,
    UNIMPLEMENTED = 3,
    KEXINIT = 20,
    NEWKEYS = 21,
    KEX_INIT = 30,
    KEX_REPLY = 31,
    USERAUTH_SUCCESS = 52,
    UNKNOWN = 70,
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
    return side->answer;
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

static void whole_life(enum aead_kind kind, size_t chunk) {
    struct side *client = side_create(true, kind), *server = side_create(false, kind);
    connect_sides(client, server, chunk);
    cr_assert(strcmp(client->transport.peer_version, "SSH-2.0-OpenSSH_9.2p1 x") == 0);
    cr_assert(strcmp(server->transport.peer_version, "SSH-2.0-client") == 0);
    cr_assert(client->transport.wire.strict);
    for (unsigned epoch = 1; epoch <= 3; epoch++) {
        for (unsigned i = 0; i < 3; i++) {
            send_packet(client, server, DATA, 10 + i * 50);
            send_packet(server, client, DATA, 7 + i * 50);
        }
        struct side *asking = epoch % 2 ? client : server;
        fake_rekey(&asking->fake.base);
        settle(client, server, chunk);
        cr_assert(server->packets == 3 * epoch);
        cr_assert(client->packets == 3 * epoch);
        cr_assert(client->transport.wire.in.epochs == epoch + 1);
        cr_assert(client->transport.wire.out.epochs == epoch + 1);
        cr_assert(transport_gate_open(&client->transport));
    }
    cr_assert(client->transport.from_speaker == NULL, "an idle transport holds no buffer");
    cr_assert(client->len + server->len == 0);
    destroy_pair(client, server);
}

Test(transport, any_fragmentation) {
    for (size_t chunk = 1; chunk <= 64; chunk++)
        whole_life(chunk % 3 == 0 ? AEAD_AES128_GCM : chunk % 3 == 1 ? AEAD_AES256_GCM : AEAD_CHACHA20_POLY1305, chunk);
    whole_life(AEAD_CHACHA20_POLY1305, STREAM_BYTES);
}

/* Both KEXINITs cross. */
Test(transport, both_sides_ask_for_a_rekey_at_once) {
    struct side *client, *server;
    make_pair(&client, &server, AEAD_CHACHA20_POLY1305);
    fake_rekey(&client->fake.base);
    fake_rekey(&server->fake.base);
    settle(client, server, 5);
    cr_assert(client->transport.wire.in.epochs == 2);
    send_packet(client, server, DATA, 100);
    settle(client, server, 5);
    cr_assert(server->packets == 1);
    destroy_pair(client, server);
}

Test(transport, gate_is_shut_from_kexinit_to_newkeys) {
    struct side *client, *server;
    make_pair(&client, &server, AEAD_AES128_GCM);
    fake_rekey(&client->fake.base);
    cr_assert(transport_gate_open(&client->transport), "KEXINIT is not out yet");
    cr_assert(side_output(client, server) == 0);
    cr_assert(!transport_gate_open(&client->transport));
    /* The server may go on until it has answered. */
    send_packet(server, client, DATA, 20);
    cr_assert(side_receive(client, STREAM_BYTES) == 0);
    cr_assert(client->packets == 1);
    settle(client, server, STREAM_BYTES);
    cr_assert(transport_gate_open(&client->transport));
    destroy_pair(client, server);
}

/* ---- sequence numbers ---- */

Test(transport, unimplemented_names_the_peers_number) {
    struct side *client, *server;
    make_pair(&client, &server, AEAD_AES128_GCM);
    uint32_t expected[3];
    /* The server's wire counts all of these, its speaker only the unknown ones. */
    for (unsigned i = 0; i < 3; i++) {
        send_packet(client, server, DATA, 30);
        send_packet(client, server, DATA, 30);
        expected[i] = client->transport.wire.out.seq;
        send_packet(client, server, UNKNOWN, 5);
    }
    cr_assert(side_receive(server, STREAM_BYTES) == 0);
    cr_assert(side_output(server, client) == 0);
    for (unsigned i = 0; i < 3; i++) {
        struct packet packet;
        size_t used;
        cr_assert(wire_open(&client->transport.wire, client->stream, client->len, &packet, &used) == 1);
        cr_assert(packet.type == UNIMPLEMENTED);
        cr_assert(from_be32(packet.payload + 1) == expected[i]);
        memmove(client->stream, client->stream + used, client->len - used);
        client->len -= used;
    }
    destroy_pair(client, server);
}

/* ---- before the version ---- */

static int input_text(struct side *side, const char *text, size_t len) {
    size_t used;
    memcpy(side->stream + side->len, text, len);
    side->len += len;
    return side_input(side, side->len, &used);
}

static struct side *client_alone(void) {
    return side_create(true, AEAD_AES128_GCM);
}

Test(transport, banner_lines_reach_the_speaker_as_they_are) {
    static const char banner[] = "hello\r\n\nSSH is near\nSSH-2.0-x y z\r\n";
    for (size_t chunk = 1; chunk < sizeof banner; chunk++) {
        struct side *client = client_alone();
        memcpy(client->stream, banner, sizeof banner - 1);
        client->len = sizeof banner - 1;
        cr_assert(side_receive(client, chunk) == 0);
        cr_assert(strcmp(client->fake.lines, banner) == 0);
        cr_assert(strcmp(client->transport.peer_version, "SSH-2.0-x y z") == 0);
        side_destroy(client);
    }
}

Test(transport, version_line_of_the_greatest_length) {
    for (size_t len = LIMIT_VERSION_LINE_BYTES; len <= LIMIT_VERSION_LINE_BYTES + 1; len++) {
        for (int whole = 0; whole < 2; whole++) {
            char line[300] = "SSH-2.0-";
            memset(line + 8, 'a', len - 9);
            line[len - 1] = '\n';
            struct side *client = client_alone();
            int r = 0;
            for (size_t i = 0; !whole && !r && i < len; i++)
                r = input_text(client, line + i, 1);
            if (whole)
                r = input_text(client, line, len);
            cr_assert(r == (len <= LIMIT_VERSION_LINE_BYTES ? 0 : ERR_PROTOCOL));
            cr_assert(client->fake.version_seen == (r == 0));
            if (!r)
                cr_assert(strlen(client->transport.peer_version) == len - 1);
            side_destroy(client);
        }
    }
}

Test(transport, endless_line_is_refused_before_its_end) {
    struct side *client = client_alone();
    char line[LIMIT_VERSION_LINE_BYTES];
    memset(line, 'a', sizeof line);
    cr_assert(input_text(client, line, sizeof line - 1) == 0);
    cr_assert(input_text(client, line, 1) == ERR_PROTOCOL);
    cr_assert(client->fake.fed_bytes == 0);
    side_destroy(client);
}

Test(transport, version_lines_are_limited) {
    struct side *client = client_alone();
    for (unsigned i = 0; i < LIMIT_VERSION_LINES; i++)
        cr_assert(input_text(client, "x\n", 2) == 0);
    cr_assert(input_text(client, "x\n", 2) == ERR_PROTOCOL);
    cr_assert(input_text(client, "SSH-2.0-x\n", 10) == ERR_PROTOCOL, "dead is dead");
    side_destroy(client);
}

Test(transport, client_may_send_no_banner_and_nobody_a_nul) {
    struct side *server = side_create(false, AEAD_AES128_GCM);
    cr_assert(input_text(server, "hello\n", 6) == ERR_PROTOCOL);
    side_destroy(server);
    struct side *client = client_alone();
    cr_assert(input_text(client, "SSH-2.0-\0x\n", 11) == ERR_PROTOCOL);
    side_destroy(client);
}

Test(transport, need_tells_what_a_partial_packet_lacks) {
    struct side *client, *server;
    make_pair(&client, &server, AEAD_AES128_GCM);
    size_t whole = send_packet(client, server, DATA, 3000), used, need;
    cr_assert(transport_input(&server->transport, server->stream, 3, &used, &need) == 0);
    cr_assert(used == 0);
    cr_assert(need >= 4 && need <= whole);
    cr_assert(transport_input(&server->transport, server->stream, whole - 1, &used, &need) == 0);
    cr_assert(used == 0);
    cr_assert(need == whole);
    cr_assert(transport_input(&server->transport, server->stream, whole, &used, &need) == 0);
    cr_assert(used == whole);
    cr_assert(need == 1);
    destroy_pair(client, server);
}

/* ---- what ends it ---- */

Test(transport, garbage_after_the_version) {
    struct side *client = client_alone();
    cr_assert(input_text(client, "SSH-2.0-x\r\n", 11) == 0);
    cr_assert(input_text(client, "GET / HTTP/1.1\r\n", 16) == ERR_LENGTH);
    cr_assert(input_text(client, "SSH-2.0-x\r\n", 11) == ERR_LENGTH);
    side_destroy(client);
}

Test(transport, a_flipped_bit_anywhere_delivers_nothing) {
    for (enum aead_kind kind = AEAD_AES128_GCM; kind <= AEAD_CHACHA20_POLY1305; kind++) {
        for (size_t byte = 0;; byte++) {
            struct side *client, *server;
            make_pair(&client, &server, kind);
            size_t fed = server->fake.fed_bytes;
            size_t first = send_packet(client, server, DATA, 40);
            size_t whole = first + send_packet(client, server, UNKNOWN, 5);
            if (byte == whole) {
                destroy_pair(client, server);
                break;
            }
            server->stream[byte] ^= (uint8_t)(1u << byte % 8);
            unsigned before = byte < first ? 0 : 1;
            size_t used;
            int r = side_input(server, server->len, &used);
            /* A shorter or longer length is found out at once, by its tag, or by what never comes. */
            cr_assert(r == ERR_TAG || r == ERR_LENGTH || r == 0);
            cr_assert(server->packets == before);
            cr_assert(server->fake.fed_bytes == fed);
            if (r)
                cr_assert(side_input(server, server->len, &used) < 0);
            else
                cr_assert((byte < first ? byte : byte - first) < 4);
            destroy_pair(client, server);
        }
    }
}

Test(transport, disconnect_is_kept_and_escaped) {
    struct side *client, *server;
    make_pair(&client, &server, AEAD_AES128_GCM);
    uint8_t *packet = client->stream, *payload = packet + 5;
    memset(payload, 0, 64);
    payload[0] = DISCONNECT;
    payload[4] = 2;
    payload[8] = 9;
    memcpy(payload + 9, "go\x1b[31m a", 9);
    int n = wire_seal(&server->transport.wire, packet, 9 + 9 + 4);
    client->len = (size_t)n;
    client->fake.give_up = ERR_KEX;
    size_t used;
    cr_assert(side_input(client, client->len, &used) == ERR_CLOSED);
    cr_assert(client->transport.disconnect_reason[0] != '\0');
    cr_assert(strchr(client->transport.disconnect_reason, '\x1b') == NULL);
    cr_assert(strstr(client->transport.disconnect_reason, "go") != NULL);
    destroy_pair(client, server);
}

/* A description longer than its packet, and none at all. */
Test(transport, malformed_disconnect_ends_it_too) {
    for (uint32_t len = 1; len <= 12; len++) {
        struct side *client, *server;
        make_pair(&client, &server, AEAD_AES128_GCM);
        uint8_t *packet = client->stream;
        memset(packet + 5, 0xFF, 64);
        packet[5] = DISCONNECT;
        client->len = (size_t)wire_seal(&server->transport.wire, packet, len);
        size_t used;
        cr_assert(side_input(client, client->len, &used) == ERR_CLOSED);
        cr_assert(client->transport.disconnect_reason[0] != '\0');
        destroy_pair(client, server);
    }
}

Test(transport, speaker_that_gives_up_is_heard_out) {
    struct side *client, *server;
    make_pair(&client, &server, AEAD_AES128_GCM);
    fake_say_type(&client->fake, DISCONNECT);
    client->fake.give_up = ERR_KEX;
    cr_assert(transport_output(&client->transport, server->stream, STREAM_BYTES) > 0);
    cr_assert(transport_output(&client->transport, server->stream, STREAM_BYTES) == ERR_KEX);
    destroy_pair(client, server);
}

Test(transport, speaker_has_no_say_in_the_connection_protocol) {
    struct side *client, *server;
    make_pair(&client, &server, AEAD_AES128_GCM);
    fake_say_type(&client->fake, DATA);
    cr_assert(transport_output(&client->transport, server->stream, STREAM_BYTES) == ERR_KEX);
    destroy_pair(client, server);
    make_pair(&client, &server, AEAD_AES128_GCM);
    memset(client->fake.out, 0xFF, 8);
    client->fake.out_len = 8;
    cr_assert(transport_output(&client->transport, server->stream, STREAM_BYTES) == ERR_KEX);
    destroy_pair(client, server);
}

/* Its NEWKEYS without the keys: nothing of it goes out. */
Test(transport, newkeys_without_keys_is_a_failed_exchange) {
    struct side *client = client_alone();
    client->fake.out_len = 0;
    memcpy(client->fake.out, "SSH-2.0-c\r\n", 11);
    client->fake.out_len = 11;
    fake_say_type(&client->fake, NEWKEYS);
    uint8_t out[TRANSPORT_OUTPUT_BYTES];
    cr_assert(transport_output(&client->transport, out, sizeof out) == ERR_KEX);
    side_destroy(client);
}

Test(transport, packet_handlers_error_ends_it) {
    struct side *client, *server;
    make_pair(&client, &server, AEAD_AES128_GCM);
    server->answer = ERR_PROTOCOL;
    send_packet(client, server, DATA, 10);
    send_packet(client, server, DATA, 10);
    size_t used;
    cr_assert(side_input(server, server->len, &used) == ERR_PROTOCOL);
    cr_assert(side_input(server, server->len, &used) == ERR_PROTOCOL);
    cr_assert(server->packets == 1);
    destroy_pair(client, server);
}

Test(transport, no_connection_protocol_before_authentication) {
    struct side *client = side_create(true, AEAD_AES128_GCM), *server = side_create(false, AEAD_AES128_GCM);
    settle(client, server, STREAM_BYTES);
    transport_authenticated(&client->transport);
    send_packet(client, server, DATA, 10);
    size_t used;
    cr_assert(side_input(server, server->len, &used) == ERR_PROTOCOL);
    cr_assert(server->packets == 0);
    destroy_pair(client, server);
}

/* ---- what makes it wait ---- */

/* The server's REPLY, NEWKEYS and the first sealed packet come in one read, before the client's speaker has worked. */
Test(transport, sealed_bytes_wait_for_the_speakers_keys) {
    struct side *client = side_create(true, AEAD_CHACHA20_POLY1305);
    struct side *server = side_create(false, AEAD_CHACHA20_POLY1305);
    size_t used;
    for (int i = 0; i < 2; i++) {
        cr_assert(side_output(client, server) == 0);
        cr_assert(side_receive(server, STREAM_BYTES) == 0);
        if (server->fake.types[KEX_INIT])
            break;
        cr_assert(side_output(server, client) == 0);
        cr_assert(side_receive(client, STREAM_BYTES) == 0);
    }
    cr_assert(server->fake.types[KEX_INIT] == 1);
    cr_assert(side_output(server, client) == 0);
    send_packet(server, client, 7, 40); /* EXT_INFO */
    client->fake.asleep = true;
    cr_assert(side_input(client, client->len, &used) == 0);
    cr_assert(used > 0);
    cr_assert(client->len > 0, "the sealed packet waits");
    cr_assert(side_input(client, client->len, &used) == 0);
    cr_assert(used == 0);
    client->fake.asleep = false;
    cr_assert(side_output(client, server) == 0);
    cr_assert(side_input(client, client->len, &used) == 0);
    cr_assert(client->len == 0);
    cr_assert(client->fake.last_type == 7);
    cr_assert(side_receive(server, STREAM_BYTES) == 0);
    cr_assert(server->fake.in_tagged);
    destroy_pair(client, server);
}

Test(transport, client_stops_at_userauth_success) {
    struct side *client = side_create(true, AEAD_AES128_GCM), *server = side_create(false, AEAD_AES128_GCM);
    settle(client, server, STREAM_BYTES);
    transport_authenticated(&server->transport);
    send_packet(server, client, USERAUTH_SUCCESS, 1);
    size_t after = send_packet(server, client, DATA, 33), used;
    cr_assert(side_input(client, client->len, &used) == 0);
    cr_assert(client->fake.last_type == USERAUTH_SUCCESS);
    cr_assert(client->len == after);
    transport_authenticated(&client->transport);
    cr_assert(side_input(client, client->len, &used) == 0);
    cr_assert(client->packets == 1);
    destroy_pair(client, server);
}

/* A peer whose every packet is answered, and who reads nothing. */
Test(transport, unsent_answers_stop_the_input) {
    struct side *client, *server;
    make_pair(&client, &server, AEAD_AES128_GCM);
    for (unsigned i = 0; i < 20000; i++)
        send_packet(client, server, UNKNOWN, 5);
    size_t used, total = server->len, held = 0;
    unsigned rounds = 0;
    for (; server->len > 0; rounds++) {
        cr_assert(side_input(server, server->len, &used) == 0);
        cr_assert(used > 0);
        if (server->transport.from_cap > held)
            held = server->transport.from_cap;
        cr_assert(side_output(server, client) == 0);
    }
    cr_assert(rounds > 3);
    cr_assert(held <= 256u << 10);
    cr_assert(total > 2 * held);
    cr_assert(server->fake.types[UNKNOWN] == 20000);
    cr_assert(side_receive(client, STREAM_BYTES) == 0);
    cr_assert(client->fake.types[UNIMPLEMENTED] == 20000);
    destroy_pair(client, server);
}

/* Output in pieces with hardly any room: the same packets, none lost, none torn. */
Test(transport, output_into_little_room) {
    struct side *client, *server;
    make_pair(&client, &server, AEAD_AES256_GCM);
    for (unsigned i = 0; i < 50; i++)
        fake_say_type(&client->fake, 2);
    for (size_t cap = 0; cap < 64; cap = cap == 63 ? 0 : cap + 1) {
        int n = transport_output(&client->transport, server->stream + server->len, cap);
        cr_assert(n >= 0 && n <= (int)cap);
        server->len += (size_t)n;
        if (client->transport.from_speaker == NULL && n == 0 && cap > 5)
            break;
    }
    unsigned before = server->fake.types[2];
    cr_assert(side_receive(server, STREAM_BYTES) == 0);
    cr_assert(server->fake.types[2] - before == 50);
    destroy_pair(client, server);
}

Test(transport, peers_are_known_by_their_version) {
    static const struct {
        const char *version;
        enum peer_kind kind;
    } peers[] = {{"SSH-2.0-OpenSSH_9.2p1 Debian-2", PEER_OPENSSH},
                 {"SSH-1.99-OpenSSH_3.0", PEER_OPENSSH},
                 {"SSH-2.0-leatd_0.1.0", PEER_LEATD},
                 {"SSH-2.0-dropbear_2022.83", PEER_DROPBEAR},
                 {"SSH-2.0-xOpenSSH", PEER_OTHER},
                 {"SSH-2.0-", PEER_OTHER},
                 {"SSH-2.0", PEER_OTHER},
                 {"", PEER_OTHER}};
    struct side *client = client_alone();
    for (size_t i = 0; i < sizeof peers / sizeof peers[0]; i++) {
        strcpy(client->transport.peer_version, peers[i].version);
        cr_assert(transport_peer(&client->transport) == peers[i].kind, "%s", peers[i].version);
    }
    side_destroy(client);
}
