#include "ssh/userauth.h"
#include "ssh/messages.h"
#include "ssh/text.h"
#include <string.h>

/* PROTOCOL.u2f of OpenSSH */
#define SK_USER_PRESENT 0x01
#define SK_USER_VERIFIED 0x04

/* Certificates are not served: nobody here would check who signed them. */
static const struct {
    const char *name, *key_type;
    bool by_default;
} algorithms[] = {
    {"ssh-ed25519", "ssh-ed25519", true},
    {"ecdsa-sha2-nistp256", "ecdsa-sha2-nistp256", true},
    {"ecdsa-sha2-nistp384", "ecdsa-sha2-nistp384", true},
    {"ecdsa-sha2-nistp521", "ecdsa-sha2-nistp521", true},
    {"sk-ssh-ed25519@openssh.com", "sk-ssh-ed25519@openssh.com", true},
    {"sk-ecdsa-sha2-nistp256@openssh.com", "sk-ecdsa-sha2-nistp256@openssh.com", true},
    {"rsa-sha2-512", "ssh-rsa", true},
    {"rsa-sha2-256", "ssh-rsa", true},
    {"ssh-rsa", "ssh-rsa", false}, /* SHA-1 */
};
#define ALGORITHMS_COUNT (sizeof algorithms / sizeof algorithms[0])

static size_t algorithm_find(struct bytes name) {
    size_t i = 0;
    while (i < ALGORITHMS_COUNT && !bytes_equal(name, algorithms[i].name))
        i++;
    return i;
}

bool userauth_is_key_type(struct bytes type) {
    for (size_t i = 0; i < ALGORITHMS_COUNT; i++)
        if (bytes_equal(type, algorithms[i].key_type))
            return true;
    return false;
}

static bool algorithm_accepted(const char *accepted, size_t i) {
    if (i == ALGORITHMS_COUNT)
        return false;
    return accepted ? pattern_list_match(algorithms[i].name, accepted, false) == PATTERN_MATCHED
                    : algorithms[i].by_default;
}

bool userauth_accepts(const char *accepted, const struct userauth_request *request) {
    size_t asked = algorithm_find(request->algorithm);
    if (!request->key_type || !algorithm_accepted(accepted, asked))
        return false;
    if (!request->has_signature)
        return true;
    size_t made = algorithm_find(request->signature_algorithm);
    return algorithm_accepted(accepted, made) && strcmp(algorithms[made].key_type, request->key_type) == 0;
}

int userauth_algorithms(const char *accepted, char out[USERAUTH_ALGORITHMS_BYTES]) {
    size_t len = 0;
    for (size_t i = 0; i < ALGORITHMS_COUNT; i++) {
        if (!algorithm_accepted(accepted, i))
            continue;
        size_t name_len = strlen(algorithms[i].name);
        if (len > 0)
            out[len++] = ',';
        memcpy(out + len, algorithms[i].name, name_len); /* all names together are shorter than out */
        len += name_len;
    }
    out[len] = '\0';
    return len ? 0 : ERR_CONFIG;
}

/* ── reading ── */

static uint32_t mpint_bits(struct bytes number) {
    while (number.len > 0 && *number.at == 0) {
        number.at++;
        number.len--;
    }
    if (number.len == 0)
        return 0;
    uint32_t bits = number.len * 8;
    for (uint8_t top = *number.at; !(top & 0x80); top = (uint8_t)(top << 1))
        bits--;
    return bits;
}

uint32_t userauth_rsa_bits(struct bytes blob) {
    struct reader reader;
    reader_init(&reader, blob.at, blob.len);
    bool rsa = bytes_equal(reader_string(&reader), "ssh-rsa");
    (void)reader_string(&reader); /* e */
    uint32_t bits = mpint_bits(reader_string(&reader));
    return rsa && reader_done(&reader) ? bits : 0;
}

/* The blob must begin with the type that the algorithm signs with; its numbers are libssh's to judge. */
static void parse_key(struct userauth_request *request) {
    struct reader reader;
    size_t i = algorithm_find(request->algorithm);
    reader_init(&reader, request->blob.at, request->blob.len);
    struct bytes type = reader_string(&reader);
    if (i == ALGORITHMS_COUNT || !bytes_equal(type, algorithms[i].key_type))
        return;
    if (strcmp(algorithms[i].key_type, "ssh-rsa") == 0 && !(request->rsa_bits = userauth_rsa_bits(request->blob)))
        return;
    request->key_type = algorithms[i].key_type;
}

static void parse_signature(struct userauth_request *request, struct bytes signature) {
    struct reader reader;
    reader_init(&reader, signature.at, signature.len);
    request->signature_algorithm = reader_string(&reader);
    (void)reader_string(&reader); /* the signature proper */
    if (!request->key_type || strncmp(request->key_type, "sk-", 3) != 0)
        return;
    uint8_t flags = reader_u8(&reader);
    request->security_key = true;
    request->user_present = flags & SK_USER_PRESENT;
    request->user_verified = flags & SK_USER_VERIFIED;
}

static void parse_publickey(struct reader *reader, struct userauth_request *request, bool hostbound) {
    request->has_signature = reader_bool(reader);
    request->algorithm = reader_string(reader);
    request->blob = reader_string(reader);
    if (hostbound)
        (void)reader_string(reader); /* the host key: libssh compares it */
    struct bytes signature = request->has_signature ? reader_string(reader) : (struct bytes){.at = reader->end};
    if (!reader_done(reader)) {
        reader->bad = true;
        return;
    }
    parse_key(request);
    if (request->has_signature)
        parse_signature(request, signature);
}

int userauth_parse(const uint8_t *payload, uint32_t len, struct userauth_request *request) {
    struct reader reader;
    *request = (struct userauth_request){.method = USERAUTH_OTHER};
    reader_init(&reader, payload, len);
    uint8_t type = reader_u8(&reader);
    request->user = reader_string(&reader);
    request->service = reader_string(&reader);
    request->method_name = reader_string(&reader);
    /* A name with a NUL in it would be another name to everyone who reads C strings. */
    if (type != MSG_USERAUTH_REQUEST || !reader_ok(&reader) || memchr(request->user.at, 0, request->user.len))
        return ERR_PROTOCOL;
    if (bytes_equal(request->method_name, "none"))
        request->method = USERAUTH_NONE;
    bool hostbound = bytes_equal(request->method_name, "publickey-hostbound-v00@openssh.com");
    if (hostbound || bytes_equal(request->method_name, "publickey")) {
        request->method = USERAUTH_PUBLICKEY;
        parse_publickey(&reader, request, hostbound);
    }
    return reader_ok(&reader) ? 0 : ERR_PROTOCOL;
}

/* ── writing ── */

void userauth_write_service_accept(struct writer *writer) {
    writer_u8(writer, MSG_SERVICE_ACCEPT);
    writer_text(writer, "ssh-userauth");
}

void userauth_write_banner(struct writer *writer, const char *text, size_t len) {
    writer_u8(writer, MSG_USERAUTH_BANNER);
    writer_string(writer, text, len);
    writer_text(writer, ""); /* language */
}

void userauth_write_failure(struct writer *writer) {
    writer_u8(writer, MSG_USERAUTH_FAILURE);
    writer_text(writer, "publickey");
    writer_bool(writer, false); /* no partial success */
}

void userauth_write_pk_ok(struct writer *writer, const struct userauth_request *request) {
    writer_u8(writer, MSG_USERAUTH_PK_OK);
    writer_string(writer, request->algorithm.at, request->algorithm.len);
    writer_string(writer, request->blob.at, request->blob.len);
}

void userauth_write_disconnect(struct writer *writer, uint32_t code, const char *text) {
    writer_u8(writer, MSG_DISCONNECT);
    writer_u32(writer, code);
    writer_text(writer, text);
    writer_text(writer, ""); /* language */
}
