/* Strict key exchange (kex-strict-*-v00@openssh.com): who gets it, what it numbers and what it forbids. */
#include "wire_pair.h"

static uint8_t bytes[PAIR_BUFFER_BYTES], payload[512];

Test(wire_strict, kexinit_cut_short) {
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

Test(wire_strict, strictness) {
    for (unsigned i = 0; i < sizeof(strict_cases) / sizeof(strict_cases[0]); i++) {
        strict_case(&strict_cases[i], false);
        strict_case(&strict_cases[i], true);
    }
}

static void strict_prefix(uint8_t type) {
    for (unsigned ours_first = 0; ours_first < 2; ours_first++)
        for (unsigned strict = 0; strict < 2; strict++) {
            struct pair pair;
            struct wire *client = &pair.client, *server = &pair.server;
            pair_plain(&pair);
            if (ours_first)
                seal(server, bytes, payload, kexinit_payload(payload, STRICT_SERVER));
            pass_type(client, server, type);
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

/* A packet in front of the peer's KEXINIT: harmless without strictness, the end with it, whichever side's KEXINIT comes
 * first, and even if it is one that has its place later. */
Test(wire_strict, strict_prefix) {
    strict_prefix(IGNORE);
    strict_prefix(KEX_REPLY);
    strict_prefix(1);
}

Test(wire_strict, strict_initial_exchange_has_no_strangers) {
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

Test(wire_strict, sequence_number_wraps) {
    struct pair pair;
    pair_plain(&pair);
    pair.client.out.seq = pair.server.in.seq = UINT32_MAX - 1;
    pass_type(&pair.client, &pair.server, IGNORE);
    /* before the first NEWKEYS it must not come round: neither when opened nor when sealed */
    uint8_t plain[16] = {0, 0, 0, 12, 10, IGNORE};
    refuse_bytes(&pair.server, plain, 16, ERR_PROTOCOL);
    cr_assert_eq(try_seal(&pair.client, bytes, IGNORE), ERR_PROTOCOL);
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
