/* A genuine signature, and what it must not be good for: another session, another user, another key, another algorithm.
 * The client's libssh makes it; its request is taken before it is sent, and changed. */
#include "server_handshake_client.h"
#include "ssh/base64.h"

#define GCM "aes128-gcm@openssh.com"
#define HOSTBOUND "publickey-hostbound-v00@openssh.com" /* what libssh has asked with since 0.12 */

/* A request of RFC 4252 §7, taken apart. */
struct request {
    char user[64], method[64], algorithm[64], signature_type[64];
    uint8_t blob[1024], host_key[1024], signature[1024];
    uint32_t blob_len, host_key_len, signature_len; /* no host key: the plain method */
};

struct visit {
    struct guest guest;
    struct client client;
};

static void place_open(struct place *place, enum io_backend backend, const char *type, const char *bits) {
    char text[1024], *mine = NULL, *keys = NULL;
    place_make(place);
    keygen(place, "ed25519", "256", "host");
    keygen(place, type, bits, "user");
    keygen(place, type, bits, "other");
    cr_assert_geq(asprintf(&mine, "%s", file_get(place, "user.pub")), 0);
    cr_assert_geq(asprintf(&keys, "%s%s", mine, file_get(place, "other.pub")), 0);
    file_put(place, "authorized_keys", keys);
    free(mine);
    free(keys);
    snprintf(text, sizeof text, "HostKey %s\nMaxAuthTries 50", place_path(place, "host"));
    place_serve(place, backend, text);
}

static void visit_begin(struct visit *visit, struct place *place) {
    client_make(&visit->client, place, &visit->guest, GCM);
    client_exchange_keys(&visit->client);
}

static void visit_end(struct visit *visit) {
    if (!visit->guest.done) {
        server_handshake_cancel(&visit->guest.handshake);
        RIG_UNTIL(&visit->client.place->shard, visit->guest.done);
    }
    guest_end(&visit->guest);
    client_end(&visit->client);
}

static void take_text(struct reader *reader, char *out, size_t cap) {
    struct bytes text = reader_string(reader);
    cr_assert_lt(text.len, cap);
    memcpy(out, text.at, text.len);
    out[text.len] = 0;
}

static uint32_t take_bytes(struct reader *reader, uint8_t *out, size_t cap) {
    struct bytes bytes = reader_string(reader);
    cr_assert_leq(bytes.len, cap);
    memcpy(out, bytes.at, bytes.len);
    return bytes.len;
}

static void request_read(struct request *request, const uint8_t *payload, uint32_t len) {
    struct reader reader, inner;
    char service[64];
    reader_init(&reader, payload, len);
    cr_assert_eq(reader_u8(&reader), MSG_USERAUTH_REQUEST);
    take_text(&reader, request->user, sizeof request->user);
    take_text(&reader, service, sizeof service);
    take_text(&reader, request->method, sizeof request->method);
    cr_assert(reader_bool(&reader));
    take_text(&reader, request->algorithm, sizeof request->algorithm);
    request->blob_len = take_bytes(&reader, request->blob, sizeof request->blob);
    bool bound = strcmp(request->method, HOSTBOUND) == 0;
    request->host_key_len = bound ? take_bytes(&reader, request->host_key, sizeof request->host_key) : 0;
    struct bytes signature = reader_string(&reader);
    cr_assert(reader_done(&reader));
    reader_init(&inner, signature.at, signature.len);
    take_text(&inner, request->signature_type, sizeof request->signature_type);
    request->signature_len = take_bytes(&inner, request->signature, sizeof request->signature);
    cr_assert(reader_done(&inner));
}

static void request_say(struct client *client, const struct request *request) {
    uint8_t rest[4096], inner[2048];
    struct writer writer, in;
    writer_init(&in, inner, sizeof inner);
    writer_text(&in, request->signature_type);
    writer_string(&in, request->signature, request->signature_len);
    writer_init(&writer, rest, sizeof rest);
    writer_bool(&writer, true);
    writer_text(&writer, request->algorithm);
    writer_string(&writer, request->blob, request->blob_len);
    if (request->host_key_len > 0)
        writer_string(&writer, request->host_key, request->host_key_len);
    writer_string(&writer, inner, writer_len(&in));
    client_say_request(client, request->user, "ssh-connection", request->method, rest, writer_len(&writer));
}

static int call_publickey(ssh_session ssh, void *key) {
    return ssh_userauth_publickey(ssh, NULL, key);
}

/* What the client's libssh would send to log in with "user"; it is not sent. */
static void request_make(struct visit *visit, struct request *request) {
    struct client *client = &visit->client;
    struct speaker *speaker = &client->speaker.base;
    uint8_t packet[8192];
    ssh_key key = NULL;
    size_t len = 0;
    provider_enter(NULL);
    cr_assert_eq(ssh_pki_import_privkey_file(place_path(client->place, "user"), "", NULL, NULL, &key), SSH_OK);
    cr_assert_eq(provider_leave(), 0);
    CLIENT_UNTIL(client, client->transport.wire.in.packets > 0); /* EXT_INFO: which algorithms there are for RSA */
    client->to_libssh = true;
    while (client->types_count == 0) { /* the service is accepted */
        cr_assert_eq(client_libssh(client, call_publickey, key), SSH_AUTH_AGAIN);
        client_turn(client);
    }
    client->to_libssh = false;
    while (len == 0) {
        cr_assert_eq(client_libssh(client, call_publickey, key), SSH_AUTH_AGAIN);
        cr_assert_eq(speaker->ops->pump(speaker), 0);
        for (int n = 1; n > 0; len += (size_t)n) {
            n = speaker->ops->take(speaker, packet + len, sizeof packet - len);
            cr_assert_geq(n, 0);
        }
    }
    request_read(request, packet + WIRE_HEADER_BYTES, codec_get_u32(packet) - 1 - packet[WIRE_HEADER_BYTES - 1]);
    provider_enter(NULL);
    ssh_key_free(key);
    cr_assert_eq(provider_leave(), 0);
}

static uint32_t other_blob(const struct place *place, uint8_t *out, size_t cap) {
    const char *base64 = strchr(file_get(place, "other.pub"), ' ') + 1;
    int n = base64_decode(out, cap, base64, strcspn(base64, " \n"));
    cr_assert_gt(n, 0);
    return (uint32_t)n;
}

/* How a request is changed; the user stays, since a session has one. */
enum change {
    OTHER_KEY,
    BIT_OF_SIGNATURE,
    FIRST_BIT,
    SHORTER,
    LONGER,
    NO_SIGNATURE,
    HOST_KEY,
    METHOD,
    ALGORITHM,
    ALGORITHMS,
    CHANGES
};

static bool change(const struct place *place, struct request *request, enum change what) {
    bool bound = request->host_key_len > 0, rsa = strncmp(request->algorithm, "rsa-", 4) == 0;
    switch (what) {
    case OTHER_KEY:
        request->blob_len = other_blob(place, request->blob, sizeof request->blob);
        return true;
    case BIT_OF_SIGNATURE:
        request->signature[request->signature_len - 1] ^= 1;
        return true;
    case FIRST_BIT:
        request->signature[0] ^= 1;
        return true;
    case SHORTER:
        request->signature_len--;
        return true;
    case LONGER:
        request->signature[request->signature_len++] = 0;
        return true;
    case NO_SIGNATURE:
        request->signature_len = 0;
        return true;
    case HOST_KEY:
        request->host_key_len = other_blob(place, request->host_key, sizeof request->host_key);
        return bound;
    case METHOD: /* which says less than what was signed */
        strcpy(request->method, "publickey");
        request->host_key_len = 0;
        return bound;
    case ALGORITHMS:
        strcpy(request->signature_type, "rsa-sha2-256");
        __attribute__((fallthrough));
    case ALGORITHM:
        strcpy(request->algorithm, "rsa-sha2-256");
        return rsa;
    default:
        return false;
    }
}

static void attack(enum io_backend backend, const char *type, const char *bits) {
    struct place place;
    struct visit first, second;
    struct request genuine;
    place_open(&place, backend, type, bits);
    visit_begin(&first, &place);
    request_make(&first, &genuine);
    cr_assert_str_eq(genuine.user, "somebody");
    for (int what = 0; what < CHANGES; what++) {
        struct request changed = genuine;
        if (!change(&place, &changed, (enum change)what))
            continue;
        request_say(&first.client, &changed);
        cr_assert_eq(client_answer(&first.client), MSG_USERAUTH_FAILURE, "change %d", what);
    }
    /* in another session */
    visit_begin(&second, &place);
    client_say_service(&second.client, "ssh-userauth");
    cr_assert_eq(client_answer(&second.client), MSG_SERVICE_ACCEPT);
    request_say(&second.client, &genuine);
    cr_assert_eq(client_answer(&second.client), MSG_USERAUTH_FAILURE);
    cr_assert_not(second.guest.handshake.transport.wire.authenticated);
    visit_end(&second);
    /* and where it belongs */
    request_say(&first.client, &genuine);
    cr_assert_eq(client_answer(&first.client), MSG_USERAUTH_SUCCESS);
    RIG_UNTIL(&place.shard, first.guest.done);
    cr_assert_eq(first.guest.err, 0);
    visit_end(&first);
    place_remove(&place);
}

RIG_TEST(server_replay, ed25519) {
    attack(backend, "ed25519", "256");
}
RIG_TEST(server_replay, ecdsa) {
    attack(backend, "ecdsa", "256");
}
RIG_TEST(server_replay, rsa) {
    attack(backend, "rsa", "2048");
}

/* The name that was signed is not the one that is asked for, and the first request settles it: also with a style, which
 * is signed along. */
RIG_TEST(server_replay, another_user) {
    static const char *const users[] = {"root", "somebody2", "Somebody", "somebody:", "somebody:style", ""};
    for (size_t i = 0; i < sizeof users / sizeof users[0]; i++) {
        struct place place;
        struct visit visit;
        struct request request;
        place_open(&place, backend, "ed25519", "256");
        visit_begin(&visit, &place);
        request_make(&visit, &request);
        strcpy(request.user, users[i]);
        request_say(&visit.client, &request);
        cr_assert_eq(client_answer(&visit.client), MSG_USERAUTH_FAILURE, "'%s'", users[i]);
        visit_end(&visit);
        place_remove(&place);
    }
}

/* A request bound to a host key that says none. */
RIG_TEST(server_replay, another_method) {
    struct place place;
    struct visit visit;
    struct request request;
    place_open(&place, backend, "ed25519", "256");
    visit_begin(&visit, &place);
    request_make(&visit, &request);
    strcpy(request.method, HOSTBOUND);
    request.host_key_len = 0;
    request_say(&visit.client, &request);
    CLIENT_UNTIL(&visit.client, visit.client.gone);
    RIG_UNTIL(&place.shard, visit.guest.done);
    cr_assert_eq(visit.guest.err, ERR_PROTOCOL, "%s", visit.guest.reason);
    visit_end(&visit);
    place_remove(&place);
}
