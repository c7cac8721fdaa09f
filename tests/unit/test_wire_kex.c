/* Key exchanges as the wire sees them: gate, lockstep, strictness, rekey limits. */
#include "wire_pair.h"
#include <stdlib.h>

static uint8_t bytes[PAIR_BUFFER_BYTES], payload[512];

/* What `from` seals is refused by `to`. */
static void refuse(struct wire *from, struct wire *to, const uint8_t *what, uint32_t len) {
    size_t n = seal(from, bytes, what, len);
    refuse_bytes(to, bytes, n, ERR_PROTOCOL);
}

static void refuse_type(struct wire *from, struct wire *to, uint8_t type) {
    refuse(from, to, payload, fill_payload(payload, type, type == NEWKEYS ? 1 : 32));
}

static int try_seal(struct wire *wire, uint8_t type) {
    memset(bytes, 0xee, 64);
    bytes[WIRE_HEADER_BYTES] = type;
    return wire_seal(wire, bytes, 20);
}

/* Our side's NEWKEYS, with the keys of the next epoch. */
static void send_newkeys(struct wire *from, struct wire *to, enum aead_kind kind) {
    give_key(from, WIRE_OUT, kind, from->out.epochs + 1);
    give_key(to, WIRE_IN, kind, from->out.epochs + 1);
    pass_type(from, to, NEWKEYS);
}

static void assert_gate(struct wire *wire, bool open) {
    uint32_t seq = wire->out.seq;
    cr_assert_eq(wire_gate_open(wire), open);
    if (open)
        return;
    cr_assert_eq(try_seal(wire, 80), ERR_AGAIN);
    cr_assert_eq(try_seal(wire, CHANNEL_DATA), ERR_AGAIN);
    cr_assert_eq(try_seal(wire, 255), ERR_AGAIN);
    cr_assert_eq(wire->out.seq, seq, "a refused packet was counted");
    cr_assert_eq(bytes[0], 0xee, "a refused packet was touched");
}

Test(wire_kex, gate_table) {
    struct pair pair;
    struct wire *client = &pair.client, *server = &pair.server;
    pair_plain(&pair);
    assert_gate(client, false);
    client->authenticated = true; /* even so: nothing of 80+ in the clear */
    assert_gate(client, false);
    client->authenticated = false;
    pair_exchange(&pair, AEAD_AES128_GCM, LAX, LAX);
    assert_gate(client, false);
    client->authenticated = server->authenticated = true;
    assert_gate(client, true);
    pass_type(client, server, 80);
    /* the peer's KEXINIT does not shut our gate, only our answer to it does */
    pass_kexinit(server, client, LAX);
    assert_gate(client, true);
    pass_type(client, server, CHANNEL_DATA);
    pass_kexinit(client, server, LAX);
    assert_gate(client, false);
    pass_type(client, server, IGNORE);
    send_newkeys(server, client, AEAD_AES256_GCM);
    assert_gate(client, false);
    assert_gate(server, true);
    pass_type(server, client, CHANNEL_DATA);
    send_newkeys(client, server, AEAD_AES256_GCM);
    assert_gate(client, true);
    pass_type(client, server, CHANNEL_DATA);
    pair_deinit(&pair);
}

Test(wire_kex, newkeys_waits_for_its_keys) {
    struct pair pair;
    pair_plain(&pair);
    pass_kexinit(&pair.client, &pair.server, LAX);
    pass_kexinit(&pair.server, &pair.client, LAX);
    cr_assert_eq(try_seal(&pair.client, NEWKEYS), ERR_AGAIN);
    cr_assert_eq(pair.client.out.seq, 1);
    give_key(&pair.client, WIRE_IN, AEAD_AES128_GCM, 1);
    cr_assert_eq(try_seal(&pair.client, NEWKEYS), ERR_AGAIN);
    give_key(&pair.client, WIRE_OUT, AEAD_AES128_GCM, 1);
    pass_type(&pair.client, &pair.server, NEWKEYS);
    cr_assert_eq(pair.client.out.state, WIRE_SEALED);
    cr_assert_eq(pair.server.in.state, WIRE_WAIT_KEYS);
    cr_assert_eq(pair.client.in.state, WIRE_PLAIN);
    pair_deinit(&pair);
}

/* After the peer's NEWKEYS nothing is opened until the keys are there, in the first exchange and in any later one. */
Test(wire_kex, lockstep) {
    for (unsigned k = 0; k < KINDS; k++)
        for (unsigned rekey = 0; rekey < 2; rekey++) {
            struct pair pair;
            struct packet packet = {0};
            size_t used;
            pair_plain(&pair);
            if (rekey)
                pair_sealed(&pair, kinds[0]);
            pass_kexinit(&pair.client, &pair.server, LAX);
            pass_kexinit(&pair.server, &pair.client, LAX);
            give_key(&pair.client, WIRE_OUT, kinds[k], 5);
            pass_type(&pair.client, &pair.server, NEWKEYS);
            cr_assert_eq(pair.server.in.state, WIRE_WAIT_KEYS);
            size_t n = seal(&pair.client, bytes, payload, fill_payload(payload, IGNORE, 60));
            for (size_t have = 0; have <= n; have += n / 4)
                cr_assert_eq(wire_open(&pair.server, bytes, have, &packet, &used), ERR_AGAIN);
            cr_assert_null(packet.payload);
            give_key(&pair.server, WIRE_IN, kinds[k], 5);
            cr_assert_eq(pair.server.in.state, WIRE_SEALED);
            cr_assert_eq(wire_open(&pair.server, bytes, n, &packet, &used), 1);
            cr_assert_arr_eq(packet.payload, payload, 60);
            pair_deinit(&pair);
        }
}

Test(wire_kex, the_last_key_given_counts) {
    struct pair pair;
    pair_plain(&pair);
    pass_kexinit(&pair.client, &pair.server, LAX);
    pass_kexinit(&pair.server, &pair.client, LAX);
    give_key(&pair.client, WIRE_OUT, AEAD_CHACHA20_POLY1305, 8);
    give_key(&pair.client, WIRE_OUT, AEAD_AES256_GCM, 9);
    give_key(&pair.server, WIRE_IN, AEAD_AES128_GCM, 7);
    give_key(&pair.server, WIRE_IN, AEAD_AES256_GCM, 9);
    pass_type(&pair.client, &pair.server, NEWKEYS);
    pass_type(&pair.client, &pair.server, IGNORE);
    pair_deinit(&pair);
}

static void connection_packet_too_early(unsigned stage) {
    struct pair pair;
    uint8_t type = stage % 2 ? 80 : CHANNEL_DATA;
    pair_plain(&pair);
    if (stage / 2 == 0) { /* in the clear */
        memset(bytes, 0, 32);
        bytes[3] = 12, bytes[4] = 4, bytes[5] = type;
        pair.server.authenticated = true;
        refuse_bytes(&pair.server, bytes, 16, ERR_PROTOCOL);
    } else { /* sealed, but the receiver has authenticated nobody */
        pair_exchange(&pair, AEAD_AES128_GCM, LAX, LAX);
        pair.client.authenticated = true;
        refuse_type(&pair.client, &pair.server, type);
    }
    pair_deinit(&pair);
}

Test(wire_kex, connection_packets_before_authentication) {
    for (unsigned stage = 0; stage < 4; stage++)
        connection_packet_too_early(stage);
}

/* RFC 4253 §7.1: a peer whose own gate is broken. */
Test(wire_kex, connection_packets_between_kexinit_and_newkeys) {
    struct pair pair;
    pair_sealed(&pair, AEAD_CHACHA20_POLY1305);
    pass_type(&pair.client, &pair.server, CHANNEL_DATA);
    pass_kexinit(&pair.client, &pair.server, LAX);
    pair.client.kexing_out = false;
    refuse_type(&pair.client, &pair.server, CHANNEL_DATA);
    pair_deinit(&pair);
}

Test(wire_kex, messages_out_of_turn) {
    struct pair pair;
    /* NEWKEYS without KEXINIT: the bytes are plain ones */
    uint8_t newkeys[16] = {0, 0, 0, 12, 10, NEWKEYS};
    pair_plain(&pair);
    refuse_bytes(&pair.server, newkeys, 16, ERR_PROTOCOL);
    pair_deinit(&pair);
    /* NEWKEYS when we have not sent our KEXINIT */
    memcpy(newkeys, (uint8_t[16]){0, 0, 0, 12, 10, NEWKEYS}, 16);
    pair_plain(&pair);
    pass_kexinit(&pair.client, &pair.server, LAX);
    give_key(&pair.server, WIRE_IN, AEAD_AES128_GCM, 1);
    refuse_bytes(&pair.server, newkeys, 16, ERR_PROTOCOL);
    pair_deinit(&pair);
    /* a second KEXINIT before NEWKEYS */
    pair_sealed(&pair, AEAD_AES256_GCM);
    pass_kexinit(&pair.client, &pair.server, LAX);
    pair.client.kexing_out = false;
    refuse(&pair.client, &pair.server, payload, kexinit_payload(payload, LAX));
    pair_deinit(&pair);
    /* two NEWKEYS for one KEXINIT */
    pair_sealed(&pair, AEAD_AES256_GCM);
    pair.client.kexing_out = pair.client.kexing_in = true;
    give_key(&pair.client, WIRE_OUT, AEAD_AES128_GCM, 2);
    refuse_type(&pair.client, &pair.server, NEWKEYS);
    pair_deinit(&pair);
}

/* The same from our own speaker ends the wire too: what it thinks it has agreed on is not what the peer will see. */
Test(wire_kex, own_messages_out_of_turn) {
    struct wire wire;
    uint32_t len = kexinit_payload(payload, LAX);
    wire_init(&wire, true, 0);
    seal(&wire, bytes, payload, len);
    memcpy(bytes + WIRE_HEADER_BYTES, payload, len);
    cr_assert_eq(wire_seal(&wire, bytes, len), ERR_PROTOCOL);
    assert_dead(&wire);
    wire_deinit(&wire);
    wire_init(&wire, true, 0);
    give_key(&wire, WIRE_OUT, AEAD_AES128_GCM, 1);
    cr_assert_eq(try_seal(&wire, NEWKEYS), ERR_PROTOCOL);
    assert_dead(&wire);
    wire_deinit(&wire);
}

Test(wire_kex, kexinit_cut_short) {
    uint32_t list_len = (uint32_t)strlen(STRICT_CLIENT);
    for (uint32_t len = 1; len <= 21 + list_len; len++) {
        struct pair pair;
        struct packet packet;
        size_t used;
        pair_plain(&pair);
        kexinit_payload(payload, STRICT_CLIENT);
        /* in the clear every sender can do this; ours would refuse to */
        uint32_t padding = 8 - (5 + len) % 8 + 8, packet_length = 1 + len + padding;
        memset(bytes, 0, 5 + len + padding);
        bytes[2] = (uint8_t)(packet_length >> 8), bytes[3] = (uint8_t)packet_length, bytes[4] = (uint8_t)padding;
        memcpy(bytes + WIRE_HEADER_BYTES, payload, len);
        if (len < 21 + list_len) {
            refuse_bytes(&pair.server, bytes, 4 + packet_length, ERR_PROTOCOL);
        } else {
            cr_assert_eq(wire_open(&pair.server, bytes, 4 + packet_length, &packet, &used), 1);
            cr_assert(pair.server.strict_peers);
        }
        pair_deinit(&pair);
    }
}

static const struct strict_case {
    const char *client, *server;
    bool strict;
} strict_cases[] = {
    {STRICT_CLIENT, STRICT_SERVER, true},
    {"kex-strict-c-v00@openssh.com", "kex-strict-s-v00@openssh.com", true},
    {LAX, STRICT_SERVER, false},
    {STRICT_CLIENT, LAX, false},
    {LAX, LAX, false},
    {"", "", false},
    /* each side has its own word for it */
    {STRICT_SERVER, STRICT_CLIENT, false},
    {STRICT_CLIENT, STRICT_CLIENT, false},
    /* and it must be the whole word */
    {"a,kex-strict-c-v00@openssh.co", STRICT_SERVER, false},
    {"xkex-strict-c-v00@openssh.com", STRICT_SERVER, false},
    {"kex-strict-c-v00@openssh.comx,b", STRICT_SERVER, false},
    {",,kex-strict-c-v00@openssh.com,", STRICT_SERVER, true},
};

static void strict_case(const struct strict_case *c, bool server_first) {
    struct pair pair;
    struct wire *client = &pair.client, *server = &pair.server;
    pair_plain(&pair);
    if (server_first)
        pass_kexinit(server, client, c->server);
    pass_kexinit(client, server, c->client);
    if (!server_first)
        pass_kexinit(server, client, c->server);
    cr_assert_eq(client->strict, c->strict, "%s / %s", c->client, c->server);
    cr_assert_eq(server->strict, c->strict);
    pass_type(client, server, KEX_REPLY);
    send_newkeys(client, server, AEAD_CHACHA20_POLY1305);
    cr_assert_eq(client->out.seq, c->strict ? 0 : 3);
    cr_assert_eq(server->in.seq, c->strict ? 0 : 3);
    send_newkeys(server, client, AEAD_CHACHA20_POLY1305);
    cr_assert_eq(client->in.seq, c->strict ? 0 : 2);
    pass_type(client, server, IGNORE);
    /* later KEXINITs change nothing, and every NEWKEYS counts from 0 again, or goes on */
    pair_exchange(&pair, AEAD_AES128_GCM, c->strict ? LAX : STRICT_CLIENT, c->strict ? LAX : STRICT_SERVER);
    cr_assert_eq(client->strict, c->strict);
    cr_assert_eq(server->strict, c->strict);
    cr_assert_eq(client->out.seq, c->strict ? 0 : 6);
    cr_assert_eq(server->in.seq, c->strict ? 0 : 6);
    pass_type(client, server, IGNORE);
    pair_deinit(&pair);
}

Test(wire_kex, strictness) {
    for (unsigned i = 0; i < sizeof(strict_cases) / sizeof(strict_cases[0]); i++) {
        strict_case(&strict_cases[i], false);
        strict_case(&strict_cases[i], true);
    }
}

/* A packet in front of the peer's KEXINIT, or between it and NEWKEYS: harmless without strictness, the end with it,
 * whichever side's KEXINIT comes first. */
Test(wire_kex, strict_prefix) {
    for (unsigned ours_first = 0; ours_first < 2; ours_first++)
        for (unsigned strict = 0; strict < 2; strict++) {
            struct pair pair;
            struct wire *client = &pair.client, *server = &pair.server;
            pair_plain(&pair);
            if (ours_first)
                seal(server, bytes, payload, kexinit_payload(payload, STRICT_SERVER));
            pass_type(client, server, IGNORE);
            uint32_t len = kexinit_payload(payload, strict ? STRICT_CLIENT : LAX);
            if (ours_first && strict)
                refuse(client, server, payload, len);
            else
                pass(client, server, payload, len);
            if (!ours_first) {
                len = kexinit_payload(bytes + WIRE_HEADER_BYTES, STRICT_SERVER);
                int got = wire_seal(server, bytes, len);
                cr_assert(strict ? got == ERR_PROTOCOL : got > 0, "%d", got);
            }
            cr_assert_eq(server->in.state, strict ? WIRE_DEAD : WIRE_PLAIN);
            pair_deinit(&pair);
        }
}

Test(wire_kex, strict_initial_exchange_has_no_strangers) {
    for (unsigned type = 1; type < 80; type++) {
        struct pair pair;
        bool belongs = type == 1 || (type >= 30 && type <= 49);
        if (type == KEXINIT || type == NEWKEYS)
            continue;
        pair_plain(&pair);
        pass_kexinit(&pair.client, &pair.server, STRICT_CLIENT);
        pass_kexinit(&pair.server, &pair.client, STRICT_SERVER);
        if (belongs)
            pass_type(&pair.client, &pair.server, (uint8_t)type);
        else
            refuse_type(&pair.client, &pair.server, (uint8_t)type);
        pair_deinit(&pair);
        /* in a later exchange they are welcome */
        pair_sealed(&pair, AEAD_AES128_GCM);
        pass_kexinit(&pair.client, &pair.server, STRICT_CLIENT);
        pass_type(&pair.client, &pair.server, (uint8_t)type);
        pair_deinit(&pair);
    }
}

Test(wire_kex, sequence_number_wraps) {
    struct pair pair;
    pair_plain(&pair);
    pair.client.out.seq = pair.server.in.seq = UINT32_MAX - 1;
    pass_type(&pair.client, &pair.server, IGNORE);
    /* before the first NEWKEYS it must not come round: neither when opened nor when sealed */
    uint8_t plain[16] = {0, 0, 0, 12, 10, IGNORE};
    refuse_bytes(&pair.server, plain, 16, ERR_PROTOCOL);
    cr_assert_eq(try_seal(&pair.client, IGNORE), ERR_PROTOCOL);
    assert_dead(&pair.client);
    pair_deinit(&pair);
    for (unsigned k = 0; k < KINDS; k++) {
        pair_sealed(&pair, kinds[k]);
        pair.client.out.seq = pair.server.in.seq = UINT32_MAX;
        pass_type(&pair.client, &pair.server, IGNORE);
        cr_assert_eq(pair.server.in.seq, 0);
        pass_type(&pair.client, &pair.server, IGNORE);
        pair_deinit(&pair);
    }
}

static void due_at(enum aead_kind kind, uint64_t rekey_bytes, size_t field, uint64_t limit) {
    for (unsigned direction = 0; direction < 2; direction++) {
        struct pair pair;
        pair_sealed(&pair, kind);
        pair.client.rekey_bytes = rekey_bytes;
        struct wire_half *half = direction == WIRE_IN ? &pair.client.in : &pair.client.out;
        uint64_t *counter = (uint64_t *)((char *)half + field);
        half->total_bytes = half->total_packets = UINT64_MAX / 2;
        *counter = limit - 1;
        cr_assert_not(wire_rekey_due(&pair.client));
        *counter = limit;
        cr_assert(wire_rekey_due(&pair.client));
        pair_deinit(&pair);
    }
}

Test(wire_kex, rekey_is_due) {
    const size_t packets = offsetof(struct wire_half, packets), stream = offsetof(struct wire_half, bytes),
                 blocks = offsetof(struct wire_half, blocks);
    for (unsigned k = 0; k < KINDS; k++) {
        due_at(kinds[k], 0, packets, UINT64_C(1) << 31);
        due_at(kinds[k], 1000000, stream, 1000000);
    }
    due_at(AEAD_AES128_GCM, 0, blocks, UINT64_C(1) << 32);
    due_at(AEAD_AES256_GCM, 0, blocks, UINT64_C(1) << 32);
    due_at(AEAD_CHACHA20_POLY1305, 0, stream, UINT64_C(1) << 30);
    due_at(AEAD_CHACHA20_POLY1305, UINT64_C(1) << 40, stream, UINT64_C(1) << 30);
}

Test(wire_kex, rekey_is_due_once) {
    struct pair pair;
    struct wire *client = &pair.client, *server = &pair.server;
    pair_sealed(&pair, AEAD_AES128_GCM);
    client->rekey_bytes = 1000;
    while (client->out.bytes < 1000) {
        cr_assert_not(wire_rekey_due(client));
        pass_type(client, server, CHANNEL_DATA);
    }
    cr_assert(wire_rekey_due(client));
    client->authenticated = false;
    cr_assert_not(wire_rekey_due(client), "OpenSSH's client does not expect a rekey while it authenticates");
    client->authenticated = true;
    pass_kexinit(server, client, LAX);
    cr_assert_not(wire_rekey_due(client), "the peer has already begun");
    pass_kexinit(client, server, LAX);
    cr_assert_not(wire_rekey_due(client));
    send_newkeys(client, server, AEAD_AES128_GCM);
    cr_assert_not(wire_rekey_due(client));
    send_newkeys(server, client, AEAD_AES128_GCM);
    cr_assert_not(wire_rekey_due(client), "the new epoch counts from 0");
    cr_assert_eq(client->out.bytes, 0);
    pair_deinit(&pair);
}
