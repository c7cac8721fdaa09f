/* RFC 4252 as a server answers it, with a client that says whatever the test wants. */
#include "server_handshake_client.h"
#include "ssh/base64.h"

#define GCM "aes128-gcm@openssh.com"
#define CHACHA "chacha20-poly1305@openssh.com"

struct world {
    struct place place;
    struct guest guest;
    struct client client;
    uint8_t blob[1024];
    uint32_t blob_len;
};

static void read_blob(struct world *w, const char *name) {
    char *copy = strdup(file_get(&w->place, name));
    char *base64 = strchr(copy, ' ') + 1;
    int n = base64_decode(w->blob, sizeof w->blob, base64, strcspn(base64, " \n"));
    cr_assert_gt(n, 0);
    w->blob_len = (uint32_t)n;
    free(copy);
}

/* A server that lets the key "user" in, and a client that has exchanged keys with it. */
static void world_make(struct world *w, enum io_backend backend, const char *statements, const char *cipher) {
    char text[1024];
    memset(w, 0, sizeof *w);
    place_make(&w->place);
    keygen(&w->place, "ed25519", "256", "host");
    keygen(&w->place, "ed25519", "256", "user");
    file_put(&w->place, "authorized_keys", file_get(&w->place, "user.pub"));
    snprintf(text, sizeof text, "HostKey %s\n%s", place_path(&w->place, "host"), statements);
    place_serve(&w->place, backend, text);
    read_blob(w, "user.pub");
    client_make(&w->client, &w->place, &w->guest, cipher);
    client_exchange_keys(&w->client);
}

static void world_remove(struct world *w) {
    if (!w->guest.done) {
        server_handshake_cancel(&w->guest.handshake);
        RIG_UNTIL(&w->place.shard, w->guest.done);
    }
    guest_end(&w->guest);
    client_end(&w->client);
    place_remove(&w->place);
}

static void accept_service(struct world *w) {
    client_say_service(&w->client, "ssh-userauth");
    cr_assert_eq(client_answer(&w->client), MSG_SERVICE_ACCEPT);
}

static uint8_t ask(struct world *w, const char *user, const char *service, const char *method) {
    client_say_request(&w->client, user, service, method, "", 0);
    return client_answer(&w->client);
}

/* publickey without signature. */
static void say_query(struct world *w, const char *algorithm) {
    uint8_t rest[2048];
    struct writer writer;
    writer_init(&writer, rest, sizeof rest);
    writer_bool(&writer, false);
    writer_text(&writer, algorithm);
    writer_string(&writer, w->blob, w->blob_len);
    client_say_request(&w->client, "somebody", "ssh-connection", "publickey", rest, writer_len(&writer));
}

/* publickey with these bytes for a signature. */
static void say_signed(struct world *w, const char *algorithm, const char *signature_type, const void *signature,
                       uint32_t len) {
    uint8_t rest[4096], inner[2048];
    struct writer writer, in;
    writer_init(&in, inner, sizeof inner);
    writer_text(&in, signature_type);
    writer_string(&in, signature, len);
    writer_init(&writer, rest, sizeof rest);
    writer_bool(&writer, true);
    writer_text(&writer, algorithm);
    writer_string(&writer, w->blob, w->blob_len);
    writer_string(&writer, inner, writer_len(&in));
    client_say_request(&w->client, "somebody", "ssh-connection", "publickey", rest, writer_len(&writer));
}

static void assert_failure(const struct client *client) {
    static const uint8_t failure[] = {MSG_USERAUTH_FAILURE, 0, 0, 0, 9, 'p', 'u', 'b', 'l', 'i', 'c', 'k', 'e', 'y', 0};
    cr_assert(client->last_len == sizeof failure && memcmp(client->last, failure, sizeof failure) == 0);
}

static void assert_disconnected(struct world *w, int err, const char *text) {
    CLIENT_UNTIL(&w->client, w->client.gone);
    RIG_UNTIL(&w->place.shard, w->guest.done);
    cr_assert_str_eq(w->client.transport.disconnect_reason, text);
    cr_assert_eq(w->guest.err, err);
    cr_assert_str_eq(w->guest.reason, text);
    cr_assert(!w->guest.handshake.transport.wire.authenticated);
}

RIG_TEST(server_auth, questions) {
    struct world w;
    world_make(&w, backend, "", GCM);
    accept_service(&w);
    cr_assert_eq(ask(&w, "somebody", "ssh-connection", "none"), MSG_USERAUTH_FAILURE);
    assert_failure(&w.client);
    say_query(&w, "ssh-ed25519");
    cr_assert_eq(client_answer(&w.client), MSG_USERAUTH_PK_OK);
    struct reader reader;
    reader_init(&reader, w.client.last + 1, w.client.last_len - 1);
    cr_assert(bytes_equal(reader_string(&reader), "ssh-ed25519"));
    struct bytes blob = reader_string(&reader);
    cr_assert(reader_done(&reader) && blob.len == w.blob_len && memcmp(blob.at, w.blob, w.blob_len) == 0);
    cr_assert_eq(ask(&w, "somebody", "ssh-connection", "password"), MSG_USERAUTH_FAILURE);
    cr_assert_eq(ask(&w, "somebody", "ssh-connection", "keyboard-interactive"), MSG_USERAUTH_FAILURE);
    cr_assert_eq(ask(&w, "somebody", "ssh-connection", "gssapi-with-mic"), MSG_USERAUTH_FAILURE);
    cr_assert_str_eq(w.guest.handshake.user, "somebody");
    world_remove(&w);
}

/* Six are forgiven by default but for the last; a first "none" and good questions are not counted. */
RIG_TEST(server_auth, tries_are_counted) {
    struct world w;
    world_make(&w, backend, "", CHACHA);
    accept_service(&w);
    cr_assert_eq(ask(&w, "somebody", "ssh-connection", "none"), MSG_USERAUTH_FAILURE);
    for (int i = 0; i < 5; i++) {
        say_query(&w, "ssh-ed25519");
        cr_assert_eq(client_answer(&w.client), MSG_USERAUTH_PK_OK);
        cr_assert_eq(ask(&w, "somebody", "ssh-connection", i % 2 ? "none" : "password"), MSG_USERAUTH_FAILURE);
    }
    client_say_request(&w.client, "somebody", "ssh-connection", "none", "", 0);
    assert_disconnected(&w, ERR_AUTH, "Too many authentication failures");
    world_remove(&w);
}

RIG_TEST(server_auth, questions_without_end) {
    struct world w;
    world_make(&w, backend, "", GCM);
    accept_service(&w);
    unsigned answered = 0;
    for (;; answered++) {
        say_query(&w, "ssh-ed25519");
        if (client_answer(&w.client) == 0)
            break;
    }
    cr_assert_eq(answered, LIMIT_AUTH_REQUESTS - 1);
    assert_disconnected(&w, ERR_AUTH, "Too many authentication failures");
    world_remove(&w);
}

RIG_TEST(server_auth, service_requests_without_end) {
    struct world w;
    world_make(&w, backend, "", GCM);
    for (unsigned i = 0; i < LIMIT_AUTH_REQUESTS; i++)
        accept_service(&w);
    client_say_service(&w.client, "ssh-userauth");
    assert_disconnected(&w, ERR_AUTH, "Too many authentication failures");
    world_remove(&w);
}

static void refused(enum io_backend backend, const char *user, const char *service, const char *text) {
    struct world w;
    world_make(&w, backend, "", GCM);
    accept_service(&w);
    cr_assert_eq(ask(&w, "somebody", "ssh-connection", "none"), MSG_USERAUTH_FAILURE);
    client_say_request(&w.client, user, service, "none", "", 0);
    assert_disconnected(&w, ERR_PROTOCOL, text);
    world_remove(&w);
}

RIG_TEST(server_auth, user_and_service_stay) {
    refused(backend, "somebodyelse", "ssh-connection", "Change of username or service not allowed");
    refused(backend, "somebod", "ssh-connection", "Change of username or service not allowed");
    refused(backend, "somebody", "ssh-userauth", "Change of username or service not allowed");
}

static void first_refused(enum io_backend backend, const char *user, const char *service, const char *text) {
    struct world w;
    world_make(&w, backend, "", GCM);
    accept_service(&w);
    client_say_request(&w.client, user, service, "none", "", 0);
    assert_disconnected(&w, ERR_PROTOCOL, text);
    world_remove(&w);
}

RIG_TEST(server_auth, strange_users_and_services) {
    char user[LIMIT_USER_NAME_BYTES + 2];
    memset(user, 'u', sizeof user - 1);
    user[sizeof user - 1] = '\0';
    first_refused(backend, "somebody", "ssh-other", "Unsupported service");
    first_refused(backend, user, "ssh-connection", "User name too long");
}

/* "user:style" logs in as user. */
RIG_TEST(server_auth, styles) {
    struct world w;
    world_make(&w, backend, "", GCM);
    accept_service(&w);
    cr_assert_eq(ask(&w, "somebody:style", "ssh-connection", "none"), MSG_USERAUTH_FAILURE);
    cr_assert_str_eq(w.guest.handshake.user, "somebody");
    world_remove(&w);
}

static void say_raw(struct world *w, const uint8_t *payload, uint32_t len, const char *text) {
    client_say(&w->client, payload, len);
    assert_disconnected(w, ERR_PROTOCOL, text);
    world_remove(w);
}

RIG_TEST(server_auth, malformed) {
    static const uint8_t cut[] = {MSG_USERAUTH_REQUEST, 0, 0, 0, 9, 'a'}, nothing[] = {MSG_USERAUTH_REQUEST};
    static const uint8_t nul[] = {MSG_USERAUTH_REQUEST,
                                  0,
                                  0,
                                  0,
                                  2,
                                  'a',
                                  0,
                                  0,
                                  0,
                                  0,
                                  14,
                                  's',
                                  's',
                                  'h',
                                  '-',
                                  'c',
                                  'o',
                                  'n',
                                  'n',
                                  'e',
                                  'c',
                                  't',
                                  'i',
                                  'o',
                                  'n',
                                  0,
                                  0,
                                  0,
                                  4,
                                  'n',
                                  'o',
                                  'n',
                                  'e'};
    static const uint8_t service[] = {MSG_SERVICE_REQUEST, 0, 0, 0, 1}, reply[] = {MSG_USERAUTH_SUCCESS};
    static const uint8_t info[] = {61, 0, 0, 0, 0};
    const struct {
        const uint8_t *payload;
        uint32_t len;
        const char *text;
    } cases[] = {{cut, sizeof cut, "Invalid authentication request"},
                 {nothing, sizeof nothing, "Invalid authentication request"},
                 {nul, sizeof nul, "Invalid authentication request"},
                 {service, sizeof service, "bad service request"},
                 {reply, sizeof reply, "protocol error"},
                 {info, sizeof info, "protocol error"}};
    for (unsigned i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct world w;
        world_make(&w, backend, "", GCM);
        accept_service(&w);
        say_raw(&w, cases[i].payload, cases[i].len, cases[i].text);
    }
}

RIG_TEST(server_auth, authentication_before_its_service) {
    struct world w;
    world_make(&w, backend, "", GCM);
    client_say_request(&w.client, "somebody", "ssh-connection", "none", "", 0);
    assert_disconnected(&w, ERR_PROTOCOL, "Invalid authentication request");
    world_remove(&w);
    world_make(&w, backend, "", GCM);
    client_say_service(&w.client, "ssh-connection");
    assert_disconnected(&w, ERR_PROTOCOL, "bad service request");
    world_remove(&w);
}

/* Channels before authentication are none. */
RIG_TEST(server_auth, connection_protocol_too_early) {
    static const uint8_t request[] = {MSG_GLOBAL_REQUEST, 0, 0, 0, 1, 'x', 1};
    struct world w;
    world_make(&w, backend, "", GCM);
    transport_authenticated(&w.client.transport);
    client_say(&w.client, request, sizeof request);
    RIG_UNTIL(&w.place.shard, w.guest.done);
    cr_assert_eq(w.guest.err, ERR_PROTOCOL);
    world_remove(&w);
}

/* Keys and signatures that libssh would answer with silence. */
RIG_TEST(server_auth, bad_keys_and_signatures) {
    uint8_t signature[64] = {1};
    struct world w;
    world_make(&w, backend, "MaxAuthTries 20\n", GCM);
    accept_service(&w);
    /* a key of the list, a signature of nobody */
    say_signed(&w, "ssh-ed25519", "ssh-ed25519", signature, sizeof signature);
    cr_assert_eq(client_answer(&w.client), MSG_USERAUTH_FAILURE);
    assert_failure(&w.client);
    say_signed(&w, "ssh-ed25519", "ssh-ed25519", signature, 3);
    cr_assert_eq(client_answer(&w.client), MSG_USERAUTH_FAILURE);
    say_signed(&w, "ssh-ed25519", "rsa-sha2-512", signature, sizeof signature);
    cr_assert_eq(client_answer(&w.client), MSG_USERAUTH_FAILURE);
    say_signed(&w, "rsa-sha2-512", "rsa-sha2-512", signature, sizeof signature);
    cr_assert_eq(client_answer(&w.client), MSG_USERAUTH_FAILURE);
    say_query(&w, "ssh-dss");
    cr_assert_eq(client_answer(&w.client), MSG_USERAUTH_FAILURE);
    say_query(&w, "ssh-ed25519-cert-v01@openssh.com");
    cr_assert_eq(client_answer(&w.client), MSG_USERAUTH_FAILURE);
    /* no key at all */
    uint8_t kept = w.blob[20];
    w.blob_len = 20;
    say_query(&w, "ssh-ed25519");
    cr_assert_eq(client_answer(&w.client), MSG_USERAUTH_FAILURE);
    w.blob_len = 1024;
    say_query(&w, "ssh-ed25519");
    cr_assert_eq(client_answer(&w.client), MSG_USERAUTH_FAILURE);
    /* and the connection is as good as before */
    read_blob(&w, "user.pub");
    cr_assert_eq(w.blob[20], kept);
    say_query(&w, "ssh-ed25519");
    cr_assert_eq(client_answer(&w.client), MSG_USERAUTH_PK_OK);
    world_remove(&w);
}

/* ---- security keys ---- */

#define SK "sk-ssh-ed25519@openssh.com"

/* A key that nobody has, with these options in authorized_keys. */
static void authorize_sk(struct world *w, const char *options) {
    char text[1024], base64[512];
    struct writer writer;
    writer_init(&writer, w->blob, sizeof w->blob);
    writer_text(&writer, SK);
    writer_string(&writer, "0123456789abcdef0123456789abcdef", 32);
    writer_text(&writer, "ssh:");
    w->blob_len = writer_len(&writer);
    base64_encode(base64, w->blob, w->blob_len);
    snprintf(text, sizeof text, "%s" SK " %s\n", options, base64);
    file_put(&w->place, "authorized_keys", text);
}

/* What becomes of a signature that attests `flags`, and is none. */
static void sk_case(enum io_backend backend, const char *statements, const char *options, uint8_t flags,
                    const char *reason) {
    uint8_t rest[1024], inner[256], signature[64] = {1};
    struct writer writer, in;
    struct world w;
    world_make(&w, backend, statements, GCM);
    authorize_sk(&w, options);
    accept_service(&w);
    say_query(&w, SK);
    cr_assert_eq(client_answer(&w.client), MSG_USERAUTH_PK_OK);
    writer_init(&in, inner, sizeof inner);
    writer_text(&in, SK);
    writer_string(&in, signature, sizeof signature);
    writer_u8(&in, flags);
    writer_u32(&in, 7);
    writer_init(&writer, rest, sizeof rest);
    writer_bool(&writer, true);
    writer_text(&writer, SK);
    writer_string(&writer, w.blob, w.blob_len);
    writer_string(&writer, inner, writer_len(&in));
    client_say_request(&w.client, "somebody", "ssh-connection", "publickey", rest, writer_len(&writer));
    cr_assert_eq(client_answer(&w.client), MSG_USERAUTH_FAILURE);
    cr_assert(strstr(file_get(&w.place, "log"), reason), "%s", file_get(&w.place, "log"));
    world_remove(&w);
}

RIG_TEST(server_auth, security_keys) {
    static const char untouched[] = "the security key was not touched", bad[] = "bad signature";
    static const char unverified[] = "the security key did not verify its user";
    sk_case(backend, "", "", 0, untouched);
    sk_case(backend, "", "", 4, untouched);
    sk_case(backend, "", "", 1, bad);
    sk_case(backend, "", "no-touch-required ", 0, bad);
    sk_case(backend, "", "verify-required ", 1, unverified);
    sk_case(backend, "", "verify-required ", 5, bad);
    sk_case(backend, "PubkeyAuthOptions touch-required\n", "no-touch-required ", 0, untouched);
    sk_case(backend, "PubkeyAuthOptions touch-required\n", "no-touch-required ", 1, bad);
    sk_case(backend, "PubkeyAuthOptions verify-required\n", "", 1, unverified);
    sk_case(backend, "Match User somebody\nPubkeyAuthOptions verify-required\n", "no-touch-required ", 0, unverified);
    sk_case(backend, "PubkeyAuthOptions verify-required\n", "", 5, bad);
}

/* ---- success ---- */

static int call_publickey(ssh_session ssh, void *key) {
    return ssh_userauth_publickey(ssh, NULL, key);
}

static ssh_key load_key(const struct place *place, const char *name) {
    ssh_key key = NULL;
    provider_enter(NULL);
    cr_assert_eq(ssh_pki_import_privkey_file(place_path(place, name), "", NULL, NULL, &key), SSH_OK);
    cr_assert_eq(provider_leave(), 0);
    return key;
}

static void free_key(ssh_key key) {
    provider_enter(NULL);
    ssh_key_free(key);
    cr_assert_eq(provider_leave(), 0);
}

/* The client does not wait for SUCCESS, and what it says behind its signature is the session's, not lost and not looked
 * at. */
RIG_TEST(server_auth, early_bytes) {
    static const uint8_t request[] = {MSG_GLOBAL_REQUEST, 0, 0, 0, 1, 'x', 1};
    struct world w;
    world_make(&w, backend, "", GCM);
    ssh_key key = load_key(&w.place, "user");
    w.client.to_libssh = true;
    int r = SSH_AUTH_AGAIN;
    while (w.client.types_count == 0) { /* the service is accepted */
        cr_assert_eq(client_libssh(&w.client, call_publickey, key), SSH_AUTH_AGAIN);
        client_turn(&w.client);
    }
    uint64_t before = w.client.transport.wire.out.packets;
    while (w.client.transport.wire.out.packets == before) {
        r = client_libssh(&w.client, call_publickey, key);
        cr_assert_eq(r, SSH_AUTH_AGAIN);
        client_flush(&w.client);
    }
    transport_authenticated(&w.client.transport);
    client_say(&w.client, request, sizeof request);
    RIG_UNTIL(&w.place.shard, w.guest.done);
    cr_assert_eq(w.guest.err, 0, "%s", w.guest.reason);
    const struct server_handshake *h = &w.guest.handshake;
    cr_assert_eq(h->early_len, 4 + 16 + 16, "one packet of one block: %zu", h->early_len);
    /* and it can be opened where the session goes on */
    struct packet packet;
    size_t used;
    cr_assert_eq(wire_open((struct wire *)&h->transport.wire, h->early, h->early_len, &packet, &used), 1);
    cr_assert(packet.type == MSG_GLOBAL_REQUEST && used == h->early_len);
    CLIENT_UNTIL(&w.client, w.client.types[w.client.types_count - 1] == MSG_USERAUTH_SUCCESS);
    free_key(key);
    world_remove(&w);
}

/* The whole goes on afterwards: packets both ways, and a rekey of either side. */
RIG_TEST(server_auth, the_transport_works_on) {
    static const uint8_t request[] = {MSG_GLOBAL_REQUEST, 0, 0, 0, 1, 'x', 1};
    struct world w;
    world_make(&w, backend, "", CHACHA);
    ssh_key key = load_key(&w.place, "user");
    w.client.to_libssh = true;
    int r = SSH_AUTH_AGAIN;
    while (r == SSH_AUTH_AGAIN) {
        r = client_libssh(&w.client, call_publickey, key);
        client_turn(&w.client);
    }
    cr_assert_eq(r, SSH_AUTH_SUCCESS);
    cr_assert(w.guest.done && w.guest.err == 0);
    transport_authenticated(&w.client.transport);
    struct transport *server = &w.guest.handshake.transport;
    server->on_packet = client_on_packet;
    for (int side = 0; side < 2; side++) {
        struct libssh_speaker *speaker = side ? &w.client.speaker : &w.guest.handshake.speaker;
        cr_assert_eq(speaker->base.ops->rekey(&speaker->base), 0);
        static uint8_t bytes[CLIENT_BYTES];
        size_t len = 0, used, need;
        uint32_t epochs = (uint32_t)side + 2;
        for (int i = 0; i < 2000 && (server->wire.in.epochs < epochs || server->wire.out.epochs < epochs ||
                                     w.client.transport.wire.in.epochs < epochs);
             i++) {
            uint8_t out[TRANSPORT_OUTPUT_BYTES];
            int n = transport_output(server, out, sizeof out);
            cr_assert_geq(n, 0);
            cr_assert_eq(send(w.guest.fd, out, (size_t)n, 0), n);
            client_turn(&w.client);
            ssize_t got = recv(w.guest.fd, bytes + len, sizeof bytes - len, MSG_DONTWAIT);
            len += got > 0 ? (size_t)got : 0;
            cr_assert_eq(transport_input(server, bytes, len, &used, &need), 0);
            memmove(bytes, bytes + used, len - used);
            len -= used;
        }
        cr_assert(server->wire.in.epochs == epochs && server->wire.out.epochs == epochs);
        client_say(&w.client, request, sizeof request);
    }
    free_key(key);
    world_remove(&w);
}

/* Refused when asked about, and no reason to end the connection. */
RIG_TEST(server_auth, a_key_of_nobody) {
    struct world w;
    world_make(&w, backend, "", GCM);
    keygen(&w.place, "ed25519", "256", "other");
    ssh_key key = load_key(&w.place, "other");
    w.client.to_libssh = true;
    int r = SSH_AUTH_AGAIN;
    while (r == SSH_AUTH_AGAIN) {
        r = client_libssh(&w.client, call_publickey, key);
        client_turn(&w.client);
    }
    cr_assert_eq(r, SSH_AUTH_DENIED);
    cr_assert(!w.guest.done);
    free_key(key);
    world_remove(&w);
}

/* ---- ends while something is under way ---- */

RIG_TEST(server_auth, cancelled_while_the_login_is_asked) {
    struct world w;
    world_make(&w, backend, "", GCM);
    accept_service(&w);
    client_say_request(&w.client, "somebody", "ssh-connection", "none", "", 0);
    RIG_UNTIL(&w.place.shard, w.guest.handshake.user != NULL); /* it is being asked, or has just been */
    server_handshake_cancel(&w.guest.handshake);
    RIG_UNTIL(&w.place.shard, w.guest.done);
    cr_assert_eq(w.guest.err, ERR_CANCELED);
    world_remove(&w);
}

RIG_TEST(server_auth, client_leaves_while_the_login_is_asked) {
    struct world w;
    world_make(&w, backend, "", GCM);
    accept_service(&w);
    client_say_request(&w.client, "somebody", "ssh-connection", "none", "", 0);
    shutdown(w.client.fd, SHUT_RDWR);
    RIG_UNTIL(&w.place.shard, w.guest.done);
    cr_assert_neq(w.guest.err, 0);
    world_remove(&w);
}

RIG_TEST(server_auth, grace_ends) {
    struct world w;
    world_make(&w, backend, "LoginGraceTime 1\n", GCM);
    accept_service(&w);
    uint64_t start = io_clock_ns();
    RIG_UNTIL(&w.place.shard, w.guest.done);
    cr_assert_eq(w.guest.err, ERR_TIMEOUT);
    cr_assert_str_eq(w.guest.reason, "Timeout before authentication");
    cr_assert_lt(io_clock_ns() - start, 5 * UINT64_C(1000000000));
    world_remove(&w);
}

/* The client's goodbye is the reason. */
RIG_TEST(server_auth, client_disconnects) {
    uint8_t payload[64];
    struct writer writer;
    struct world w;
    world_make(&w, backend, "", GCM);
    writer_init(&writer, payload, sizeof payload);
    userauth_write_disconnect(&writer, 11, "had\nenough");
    client_say(&w.client, payload, writer_len(&writer));
    RIG_UNTIL(&w.place.shard, w.guest.done);
    cr_assert_eq(w.guest.err, ERR_CLOSED);
    cr_assert_str_eq(w.guest.reason, "Received disconnect: had\\012enough");
    world_remove(&w);
}

RIG_TEST(server_auth, tampered) {
    uint8_t packet[64] = {0, 0, 0, 32};
    struct world w;
    world_make(&w, backend, "", GCM);
    client_send(&w.client, packet, 4 + 32 + 16);
    RIG_UNTIL(&w.place.shard, w.guest.done);
    cr_assert_eq(w.guest.err, ERR_TAG);
    world_remove(&w);
}

/* The wire would take it, a stranger is not given the memory. */
RIG_TEST(server_auth, a_packet_too_long) {
    uint8_t packet[64] = {0, 1, 0, 0};
    struct world w;
    world_make(&w, backend, "", GCM);
    client_send(&w.client, packet, sizeof packet);
    RIG_UNTIL(&w.place.shard, w.guest.done);
    cr_assert_eq(w.guest.err, ERR_LENGTH);
    world_remove(&w);
}
