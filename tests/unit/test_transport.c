/* The transport against a double of libssh. */
#include "tests/unit/transport_pair.h"

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
        send_packet(client, server, i == 1 ? UNKNOWN_TO_MUX : UNKNOWN, 5);
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

/* ---- after authentication ---- */

Test(transport, a_server_passes_over_late_authentication) {
    struct side *client, *server;
    make_pair(&client, &server, AEAD_AES128_GCM);
    for (unsigned type = USERAUTH_REQUEST; type <= USERAUTH_LAST; type++)
        send_packet(client, server, (uint8_t)type, 40);
    send_packet(client, server, DATA, 10);
    size_t fed = server->fake.fed_bytes;
    cr_assert(side_receive(server, STREAM_BYTES) == 0);
    cr_expect(server->fake.fed_bytes == fed, "the speaker saw none of it");
    cr_expect(server->packets == 1, "the connection goes on");
    cr_assert(side_output(server, client) == 0);
    cr_expect(client->len == 0, "and nothing is said");
    destroy_pair(client, server);
}

/* libssh would keep each of them in a list that nobody empties. */
Test(transport, a_server_passes_over_late_service_requests) {
    struct side *client, *server;
    make_pair(&client, &server, AEAD_AES128_GCM);
    for (unsigned i = 0; i < 3; i++)
        send_packet(client, server, SERVICE_REQUEST, 4000);
    send_packet(client, server, DATA, 10);
    size_t fed = server->fake.fed_bytes;
    cr_assert(side_receive(server, STREAM_BYTES) == 0);
    cr_expect(server->fake.fed_bytes == fed, "the speaker saw none of it");
    cr_expect(server->packets == 1, "the connection goes on");
    cr_assert(side_output(server, client) == 0);
    cr_expect(client->len == 0, "and nothing is said");
    destroy_pair(client, server);
}

/* Its neighbours are the speaker's, and so is all of it for a client, and before authentication. */
Test(transport, what_is_not_late_authentication_is_the_speakers) {
    struct side *client, *server;
    make_pair(&client, &server, AEAD_AES128_GCM);
    send_packet(client, server, USERAUTH_REQUEST - 1, 40);
    send_packet(client, server, SERVICE_REQUEST + 1, 40);
    send_packet(server, client, USERAUTH_REQUEST, 40);
    send_packet(server, client, SERVICE_REQUEST, 40);
    settle(client, server, STREAM_BYTES);
    cr_expect(server->fake.types[USERAUTH_REQUEST - 1] == 1);
    cr_expect(server->fake.types[SERVICE_REQUEST + 1] == 1);
    cr_expect(client->fake.types[SERVICE_REQUEST] == 1);
    cr_expect(client->fake.types[USERAUTH_REQUEST] == 1);
    destroy_pair(client, server);
    client = side_create(true, AEAD_AES128_GCM);
    server = side_create(false, AEAD_AES128_GCM);
    settle(client, server, STREAM_BYTES);
    send_packet(client, server, USERAUTH_REQUEST, 40);
    send_packet(client, server, SERVICE_REQUEST, 40);
    cr_assert(side_receive(server, STREAM_BYTES) == 0);
    cr_expect(server->fake.types[USERAUTH_REQUEST] == 1);
    cr_expect(server->fake.types[SERVICE_REQUEST] == 1);
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
