#include "engine/limits.h"
#include "ssh/audit.h"
#include "ssh/messages.h"
#include "ssh/server_handshake_internal.h"
#include <stdlib.h>
#include <string.h>

/* RFC 4252, as sshd answers it:
 *
 *   SERVICE_REQUEST ssh-userauth ──► SERVICE_ACCEPT
 *   USERAUTH_REQUEST   the first:     user and service are settled, Banner is shown
 *     none             ──► FAILURE
 *     publickey        the login is asked whether this key opens it:  no  ──► FAILURE
 *       without signature                                            yes ──► PK_OK
 *       with signature                            libssh judges it:  bad ──► FAILURE; good ──► SUCCESS
 *     anything else    ──► FAILURE
 *
 * Every FAILURE but that to a first "none" counts towards MaxAuthTries. libssh sees none of it but the signature, and
 * that only of a key that may log in: what it makes of requests it does not like is silence. */

/* ── taking ── */

static bool is_sealed(const struct wire *wire) {
    return wire->in.state == WIRE_SEALED && wire->out.state == WIRE_SEALED && !wire->kexing_in && !wire->kexing_out;
}

bool server_auth_take(void *handshake, const struct packet *packet) {
    struct server_handshake *h = handshake;
    struct server_auth *auth = &h->work->auth;
    bool is_auth = packet->type == MSG_SERVICE_REQUEST || packet->type == MSG_SERVICE_ACCEPT ||
                   (packet->type >= MSG_USERAUTH_FIRST && packet->type <= MSG_USERAUTH_LAST);
    if (!is_auth)
        return false;
    auth->breach =
        !is_sealed(&h->transport.wire) || (packet->type != MSG_SERVICE_REQUEST && packet->type != MSG_USERAUTH_REQUEST);
    auth->taken = auth->breach ? NULL : malloc(packet->raw_len);
    if (!auth->taken) {
        auth->breach = true;
        return true;
    }
    memcpy(auth->taken, packet->raw, packet->raw_len);
    auth->taken_len = packet->raw_len;
    return true;
}

static void drop_taken(struct server_auth *auth) {
    free(auth->taken);
    auth->taken = NULL;
    auth->request = (struct userauth_request){0};
}

void server_auth_deinit(struct server_auth *auth) {
    drop_taken(auth);
    if (auth->login)
        server_login_abandon(auth->login);
    auth->login = NULL;
    free(auth->user);
    free(auth->service);
    auth->user = auth->service = NULL;
}

static const uint8_t *taken_payload(const struct server_auth *auth, uint32_t *len) {
    *len = auth->taken_len - WIRE_HEADER_BYTES - auth->taken[WIRE_HEADER_BYTES - 1];
    return auth->taken + WIRE_HEADER_BYTES;
}

/* ── refusing ── */

static void log_failure(struct server_handshake *h, const char *reason) {
    const struct userauth_request *request = &h->work->auth.request;
    /* Clients ask about one key after the other: that alone is no event for everyone. */
    enum log_level level = request->has_signature ? LOG_LEVEL_INFO : LOG_LEVEL_VERBOSE;
    if (!log_wants(level))
        return;
    char method[64];
    char *key = request->key_type ? server_fingerprint(request) : NULL;
    log_safe(method, sizeof method, request->method_name.at, request->method_name.len);
    audit_log(level, &(struct audit){.event = "authentication failed",
                                     .connection = h->options.connection,
                                     .user = h->user,
                                     .key = key,
                                     .source = h->options.source,
                                     .detail = method,
                                     .reason = reason});
    free(key);
}

static void too_many(struct server_handshake *h) {
    handshake_disconnect(h, ERR_AUTH, "Too many authentication failures");
}

static void refuse(struct server_handshake *h, const char *reason) {
    struct server_auth *auth = &h->work->auth;
    struct writer writer;
    /* Everybody asks for the methods with a "none" first. */
    bool counts = auth->requests > 1 || auth->request.method != USERAUTH_NONE;
    if (counts) {
        log_failure(h, reason);
        auth->failures++;
    }
    if (auth->failures >= h->login.options->max_auth_tries)
        return too_many(h);
    if (!handshake_begin(h, &writer))
        return;
    userauth_write_failure(&writer);
    (void)handshake_say(h, &writer);
}

/* ── answering ── */

/* NULL: the key may log in with the algorithm it comes with. */
static const char *key_objection(const struct server_handshake *h) {
    const struct userauth_request *request = &h->work->auth.request;
    const struct login_result *login = &h->login;
    if (!request->key_type)
        return "the key's type or algorithm is not served";
    if (!login->allowed)
        return login->reason[0] ? login->reason : "not allowed";
    if (!userauth_accepts(login->options->pubkey_accepted_algorithms, request))
        return "the signature algorithm is not in PubkeyAcceptedAlgorithms";
    if (!request->has_signature || !request->security_key)
        return NULL;
    if (!request->user_present && (login->options->touch_required || !login->key.touch_waived))
        return "the security key was not touched";
    if (!request->user_verified && (login->options->verify_required || login->key.verify_required))
        return "the security key did not verify its user";
    return NULL;
}

static void answer_query(struct server_handshake *h) {
    struct writer writer;
    if (!handshake_begin(h, &writer))
        return;
    userauth_write_pk_ok(&writer, &h->work->auth.request);
    (void)handshake_say(h, &writer);
}

static void answer_signature(struct server_handshake *h) {
    bool good;
    int err = server_verify(h, &good);
    if (err)
        return handshake_fail_transport(h, err);
    if (!good)
        return refuse(h, "bad signature");
    h->work->accepted = true;
}

static void answer(struct server_handshake *h) {
    struct userauth_request *request = &h->work->auth.request;
    if (request->method != USERAUTH_PUBLICKEY)
        return refuse(h, request->method == USERAUTH_NONE ? "no key was offered" : "the method is not served");
    const char *objection = key_objection(h);
    if (objection)
        return refuse(h, objection);
    if (request->has_signature)
        answer_signature(h);
    else
        answer_query(h);
}

static void show_banner(struct server_handshake *h, const struct server_login *login) {
    struct writer writer;
    if (!login->banner_len || !handshake_begin(h, &writer))
        return;
    userauth_write_banner(&writer, login->banner, login->banner_len);
    (void)handshake_say(h, &writer);
}

/* What the user's options say about the connection as a whole, once they are known. */
static bool admitted(struct server_handshake *h) {
    const struct server_options *options = h->login.options;
    if (!options) {
        handshake_fail(h, ERR_NOMEM, "%s", err_text(ERR_NOMEM));
        return false;
    }
    if (options->refuse_connection) {
        handshake_fail(h, ERR_AUTH, "refused by RefuseConnection");
        return false;
    }
    if (!options->pubkey_authentication) {
        handshake_disconnect(h, ERR_AUTH, "no authentication methods enabled");
        return false;
    }
    return true;
}

static void on_login(struct server_login *login) {
    struct server_handshake *h = login->owner;
    struct server_handshake_work *work = h->work;
    work->auth.login = NULL;
    login_result_deinit(&h->login);
    h->login = login->result;
    login->result = (struct login_result){0};
    key_options_init(&login->result.key);
    if (!work->closing) {
        show_banner(h, login);
        if (admitted(h))
            answer(h);
        drop_taken(&work->auth);
    }
    server_login_destroy(login);
    handshake_wake(h);
}

/* ── asking ── */

static void ask_login(struct server_handshake *h) {
    struct server_auth *auth = &h->work->auth;
    const struct server_login_question question = {.config = h->options.config,
                                                   .user = h->user,
                                                   .key = auth->request.key_type ? &auth->request : NULL,
                                                   .address = h->options.address,
                                                   .local_address = h->options.local_address,
                                                   .wants_banner = auth->requests == 1,
                                                   .done = on_login,
                                                   .owner = h};
    int err = server_login_start(&question, h->shard, &auth->login);
    if (!err)
        return;
    handshake_fail(h, err, "cannot ask about the user: %s", err_text(err));
    drop_taken(auth);
}

/* The first request settles who wants what. sshd takes "user:style" for the user. */
static int settle_user(struct server_handshake *h) {
    struct server_auth *auth = &h->work->auth;
    const struct userauth_request *request = &auth->request;
    auth->user = strndup((const char *)request->user.at, request->user.len);
    auth->service = strndup((const char *)request->service.at, request->service.len);
    h->user = auth->user ? strndup(auth->user, strcspn(auth->user, ":")) : NULL;
    return auth->service && h->user ? 0 : ERR_NOMEM;
}

/* NULL: the request can be answered. Else what to disconnect with. */
static const char *request_objection(struct server_handshake *h) {
    struct server_auth *auth = &h->work->auth;
    const struct userauth_request *request = &auth->request;
    if (request->user.len > LIMIT_USER_NAME_BYTES)
        return "User name too long";
    if (auth->requests == 1)
        return bytes_equal(request->service, "ssh-connection") ? NULL : "Unsupported service";
    if (!bytes_equal(request->user, auth->user) || !bytes_equal(request->service, auth->service))
        return "Change of username or service not allowed";
    return NULL;
}

static void work_userauth(struct server_handshake *h) {
    struct server_auth *auth = &h->work->auth;
    uint32_t len;
    const uint8_t *payload = taken_payload(auth, &len);
    if (!auth->service_accepted || userauth_parse(payload, len, &auth->request)) {
        handshake_disconnect(h, ERR_PROTOCOL, "Invalid authentication request");
        return drop_taken(auth);
    }
    const char *objection = request_objection(h);
    if (objection) {
        handshake_disconnect(h, ERR_PROTOCOL, objection);
        return drop_taken(auth);
    }
    if (auth->request.blob.len > LIMIT_KEY_BLOB_BYTES)
        auth->request.key_type = NULL;
    if (auth->requests == 1 && settle_user(h)) {
        handshake_fail(h, ERR_NOMEM, "%s", err_text(ERR_NOMEM));
        return drop_taken(auth);
    }
    if (auth->requests == 1 || auth->request.key_type)
        return ask_login(h);
    answer(h);
    drop_taken(auth);
}

static void work_service(struct server_handshake *h) {
    struct server_auth *auth = &h->work->auth;
    struct reader reader;
    struct writer writer;
    uint32_t len;
    const uint8_t *payload = taken_payload(auth, &len);
    reader_init(&reader, payload, len);
    (void)reader_u8(&reader);
    bool known = bytes_equal(reader_string(&reader), "ssh-userauth") && reader_done(&reader);
    drop_taken(auth);
    if (!known)
        return handshake_disconnect(h, ERR_PROTOCOL, "bad service request");
    auth->service_accepted = true;
    if (!handshake_begin(h, &writer))
        return;
    userauth_write_service_accept(&writer);
    (void)handshake_say(h, &writer);
}

void server_auth_work(struct server_handshake *handshake) {
    struct server_auth *auth = &handshake->work->auth;
    if (auth->breach) {
        auth->breach = false;
        return handshake_disconnect(handshake, ERR_PROTOCOL, "protocol error");
    }
    if (++auth->messages > LIMIT_AUTH_REQUESTS) {
        too_many(handshake);
        return drop_taken(auth);
    }
    if (auth->taken[WIRE_HEADER_BYTES] == MSG_SERVICE_REQUEST)
        return work_service(handshake);
    auth->requests++;
    work_userauth(handshake);
}
