/* Key exchanges as the wire sees them: gate, lockstep, order of messages, rekey limits. test_wire_strict.c has
 * strictness. */
#include "wire_pair.h"
#include <stdlib.h>

static uint8_t bytes[PAIR_BUFFER_BYTES], payload[512];

static void assert_gate(struct wire *wire, bool open) {
    uint32_t seq = wire->out.seq;
    cr_assert_eq(wire_gate_open(wire), open);
    if (open)
        return;
    cr_assert_eq(try_seal(wire, bytes, 80), ERR_AGAIN);
    cr_assert_eq(try_seal(wire, bytes, CHANNEL_DATA), ERR_AGAIN);
    cr_assert_eq(try_seal(wire, bytes, 255), ERR_AGAIN);
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
    cr_assert_eq(try_seal(&pair.client, bytes, NEWKEYS), ERR_AGAIN);
    cr_assert_eq(pair.client.out.seq, 1);
    give_key(&pair.client, WIRE_IN, AEAD_AES128_GCM, 1);
    cr_assert_eq(try_seal(&pair.client, bytes, NEWKEYS), ERR_AGAIN);
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
    /* NEWKEYS when only we have sent a KEXINIT */
    memcpy(newkeys, (uint8_t[16]){0, 0, 0, 12, 10, NEWKEYS}, 16);
    pair_plain(&pair);
    pass_kexinit(&pair.server, &pair.client, LAX);
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
    cr_assert_eq(try_seal(&wire, bytes, NEWKEYS), ERR_PROTOCOL);
    assert_dead(&wire);
    wire_deinit(&wire);
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
