#include "ssh/messages.h"
#include "ssh/userauth.h"
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

struct parts {
    const char *user, *service, *method;
    const char *algorithm, *blob_type; /* of publickey; NULL: no rest */
    const char *signature_type;        /* NULL: a question */
    const char *host_key;              /* of the host-bound method */
    int flags;                         /* of a security key's signature; -1: none */
    uint32_t rsa_bytes;
    uint8_t rsa_top;
};

static uint32_t make_blob(uint8_t *blob, uint32_t cap, const struct parts *parts) {
    struct writer writer;
    uint8_t number[1024] = {0};
    writer_init(&writer, blob, cap);
    writer_text(&writer, parts->blob_type);
    if (strcmp(parts->blob_type, "ssh-rsa") == 0) {
        number[1] = parts->rsa_top;
        writer_string(&writer, "\1\0\1", 3);
        writer_string(&writer, number, parts->rsa_bytes + 1);
    } else {
        writer_text(&writer, "key");
    }
    cr_assert(writer_ok(&writer));
    return writer_len(&writer);
}

static uint32_t make(uint8_t *payload, uint32_t cap, const struct parts *parts) {
    struct writer writer, inner;
    uint8_t blob[2048], signature[256];
    writer_init(&writer, payload, cap);
    writer_u8(&writer, MSG_USERAUTH_REQUEST);
    writer_text(&writer, parts->user);
    writer_text(&writer, parts->service);
    writer_text(&writer, parts->method);
    if (parts->algorithm) {
        writer_bool(&writer, parts->signature_type != NULL);
        writer_text(&writer, parts->algorithm);
        writer_string(&writer, blob, make_blob(blob, sizeof blob, parts));
        if (parts->host_key)
            writer_text(&writer, parts->host_key);
    }
    if (parts->signature_type) {
        writer_init(&inner, signature, sizeof signature);
        writer_text(&inner, parts->signature_type);
        writer_text(&inner, "signature");
        if (parts->flags >= 0) {
            writer_u8(&inner, (uint8_t)parts->flags);
            writer_u32(&inner, 1);
        }
        writer_string(&writer, signature, writer_len(&inner));
    }
    cr_assert(writer_ok(&writer));
    return writer_len(&writer);
}

static int parse(const uint8_t *payload, uint32_t len, struct userauth_request *request) {
    uint8_t *copy = malloc(len ? len : 1);
    memcpy(copy, payload, len);
    int err = userauth_parse(copy, len, request);
    free(copy);
    return err;
}

static const struct parts usual = {.user = "me",
                                   .service = "ssh-connection",
                                   .method = "publickey",
                                   .algorithm = "ssh-ed25519",
                                   .blob_type = "ssh-ed25519",
                                   .signature_type = "ssh-ed25519",
                                   .flags = -1};

Test(userauth, reads) {
    uint8_t payload[4096];
    struct userauth_request request;
    struct parts parts = usual;
    cr_assert_eq(userauth_parse(payload, make(payload, sizeof payload, &parts), &request), 0);
    cr_assert(bytes_equal(request.user, "me") && bytes_equal(request.service, "ssh-connection"));
    cr_assert(bytes_equal(request.method_name, "publickey") && request.method == USERAUTH_PUBLICKEY);
    cr_assert(request.has_signature && !request.security_key && request.rsa_bits == 0);
    cr_assert_str_eq(request.key_type, "ssh-ed25519");
    cr_assert(bytes_equal(request.algorithm, "ssh-ed25519") && bytes_equal(request.signature_algorithm, "ssh-ed25519"));
    cr_assert_eq(request.blob.len, 4 + 11 + 4 + 3);
    parts.signature_type = NULL;
    cr_assert_eq(userauth_parse(payload, make(payload, sizeof payload, &parts), &request), 0);
    cr_assert(!request.has_signature && request.key_type);
}

Test(userauth, reads_other_methods) {
    uint8_t payload[4096];
    struct userauth_request request;
    struct parts parts = {.user = "", .service = "", .method = "none"};
    cr_assert_eq(userauth_parse(payload, make(payload, sizeof payload, &parts), &request), 0);
    cr_assert(request.method == USERAUTH_NONE && request.user.len == 0);
    parts.method = "password";
    uint32_t len = make(payload, sizeof payload, &parts);
    payload[len] = 7; /* what follows is nobody's business */
    cr_assert_eq(userauth_parse(payload, len + 1, &request), 0);
    cr_assert_eq(request.method, USERAUTH_OTHER);
}

Test(userauth, reads_host_bound_keys) {
    uint8_t payload[4096];
    struct userauth_request request;
    struct parts parts = usual;
    parts.method = "publickey-hostbound-v00@openssh.com";
    cr_assert_eq(userauth_parse(payload, make(payload, sizeof payload, &parts), &request), ERR_PROTOCOL);
    parts.host_key = "the host's";
    cr_assert_eq(userauth_parse(payload, make(payload, sizeof payload, &parts), &request), 0);
    cr_assert(request.method == USERAUTH_PUBLICKEY && request.has_signature && request.key_type);
    cr_assert(bytes_equal(request.signature_algorithm, "ssh-ed25519"));
}

Test(userauth, refuses_all_but_the_whole) {
    uint8_t payload[4096];
    struct userauth_request request;
    uint32_t len = make(payload, sizeof payload, &usual);
    for (uint32_t cut = 0; cut < len; cut++)
        cr_assert_eq(parse(payload, cut, &request), ERR_PROTOCOL);
    cr_assert_eq(parse(payload, len, &request), 0);
    payload[len] = 0;
    cr_assert_eq(parse(payload, len + 1, &request), ERR_PROTOCOL);
    payload[0] = MSG_USERAUTH_FAILURE;
    cr_assert_eq(parse(payload, len, &request), ERR_PROTOCOL);
}

/* Any single bit: never past the end, whatever is made of it. */
Test(userauth, survives_flipped_bits) {
    uint8_t payload[4096];
    struct userauth_request request;
    struct parts parts = usual;
    parts.algorithm = parts.signature_type = "sk-ssh-ed25519@openssh.com";
    parts.blob_type = "sk-ssh-ed25519@openssh.com";
    parts.flags = 1;
    uint32_t len = make(payload, sizeof payload, &parts), good = 0;
    for (uint32_t bit = 0; bit < len * 8; bit++) {
        payload[bit / 8] ^= (uint8_t)(1u << bit % 8);
        good += parse(payload, len, &request) == 0;
        payload[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    cr_assert(good > 0 && good < len * 8);
}

Test(userauth, a_user_with_nul_is_none) {
    static const uint8_t payload[] = {
        MSG_USERAUTH_REQUEST, 0, 0, 0, 3, 'a', 0, 'b', 0, 0, 0, 0, 0, 0, 0, 4, 'n', 'o', 'n', 'e'};
    struct userauth_request request;
    cr_assert_eq(userauth_parse(payload, sizeof payload, &request), ERR_PROTOCOL);
}

static bool served(const char *algorithm, const char *blob_type) {
    uint8_t payload[4096];
    struct userauth_request request;
    struct parts parts = usual;
    parts.algorithm = algorithm;
    parts.blob_type = blob_type;
    parts.rsa_bytes = 256;
    parts.rsa_top = 0x80;
    cr_assert_eq(userauth_parse(payload, make(payload, sizeof payload, &parts), &request), 0);
    return request.key_type != NULL;
}

Test(userauth, key_and_algorithm_belong_together) {
    cr_assert(served("ssh-ed25519", "ssh-ed25519") && served("rsa-sha2-512", "ssh-rsa") &&
              served("ssh-rsa", "ssh-rsa"));
    cr_assert(served("sk-ecdsa-sha2-nistp256@openssh.com", "sk-ecdsa-sha2-nistp256@openssh.com"));
    cr_assert(!served("ssh-ed25519", "ssh-rsa") && !served("rsa-sha2-256", "rsa-sha2-256"));
    cr_assert(!served("ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384") && !served("ssh-dss", "ssh-dss"));
    cr_assert(!served("ssh-ed25519-cert-v01@openssh.com", "ssh-ed25519-cert-v01@openssh.com"));
    cr_assert(!served("ssh-ed25519", "ssh-ed25519-cert-v01@openssh.com") && !served("", ""));
}

static uint32_t rsa_bits(uint32_t bytes, uint8_t top) {
    uint8_t blob[2048];
    struct parts parts = {.blob_type = "ssh-rsa", .rsa_bytes = bytes, .rsa_top = top};
    return userauth_rsa_bits((struct bytes){.at = blob, .len = make_blob(blob, sizeof blob, &parts)});
}

Test(userauth, rsa_bits) {
    cr_assert(rsa_bits(256, 0x80) == 2048 && rsa_bits(256, 0xff) == 2048 && rsa_bits(256, 0x7f) == 2047);
    cr_assert(rsa_bits(256, 1) == 2041 && rsa_bits(1, 1) == 1 && rsa_bits(256, 0) == 0 && rsa_bits(0, 0) == 0);
    cr_assert_eq(userauth_rsa_bits((struct bytes){.at = (const uint8_t *)"", .len = 0}), 0);
}

static bool accepted(const char *list, const char *algorithm, const char *signature) {
    uint8_t payload[4096];
    struct userauth_request request;
    struct parts parts = usual;
    bool rsa = strstr(algorithm, "rsa") != NULL;
    parts.algorithm = algorithm;
    parts.blob_type = rsa ? "ssh-rsa" : algorithm;
    parts.rsa_bytes = 256;
    parts.rsa_top = 0x80;
    parts.signature_type = signature;
    cr_assert_eq(userauth_parse(payload, make(payload, sizeof payload, &parts), &request), 0);
    return userauth_accepts(list, &request);
}

Test(userauth, accepted_algorithms) {
    cr_assert(accepted(NULL, "ssh-ed25519", NULL) && accepted(NULL, "ssh-ed25519", "ssh-ed25519"));
    cr_assert(accepted(NULL, "rsa-sha2-512", "rsa-sha2-512") && accepted(NULL, "rsa-sha2-512", "rsa-sha2-256"));
    /* SHA-1 neither by its name nor behind another */
    cr_assert(!accepted(NULL, "ssh-rsa", NULL) && !accepted(NULL, "ssh-rsa", "ssh-rsa"));
    cr_assert(!accepted(NULL, "rsa-sha2-512", "ssh-rsa") && !accepted(NULL, "ssh-rsa", "rsa-sha2-512"));
    cr_assert(accepted("ssh-rsa,rsa-sha2-512", "rsa-sha2-512", "ssh-rsa"));
    cr_assert(!accepted(NULL, "ssh-ed25519", "rsa-sha2-512") && !accepted(NULL, "ssh-ed25519", "nonsense"));
    cr_assert(!accepted("rsa-sha2-512", "ssh-ed25519", NULL) && !accepted("rsa-sha2-512", "rsa-sha2-256", NULL));
    cr_assert(accepted("ecdsa-*,ssh-ed*", "ssh-ed25519", NULL) && !accepted("*,!ssh-ed25519", "ssh-ed25519", NULL));
}

Test(userauth, algorithms_for_the_client) {
    char out[USERAUTH_ALGORITHMS_BYTES];
    cr_assert_eq(userauth_algorithms(NULL, out), 0);
    cr_assert_str_eq(out, "ssh-ed25519,ecdsa-sha2-nistp256,ecdsa-sha2-nistp384,ecdsa-sha2-nistp521,"
                          "sk-ssh-ed25519@openssh.com,sk-ecdsa-sha2-nistp256@openssh.com,rsa-sha2-512,rsa-sha2-256");
    cr_assert_eq(userauth_algorithms("*", out), 0);
    cr_assert(strlen(out) < sizeof out / 2 && strstr(out, ",ssh-rsa"));
    cr_assert_eq(userauth_algorithms("rsa-sha2-256,ssh-ed25519-cert-v01@openssh.com", out), 0);
    cr_assert_str_eq(out, "rsa-sha2-256");
    cr_assert_eq(userauth_algorithms("ssh-dss", out), ERR_CONFIG);
}

enum { PRESENT = 1, VERIFIED = 2, NO_SECURITY_KEY = 4 };
static int attested(const char *type, int flags) {
    uint8_t payload[4096];
    struct userauth_request request;
    struct parts parts = usual;
    parts.algorithm = parts.blob_type = parts.signature_type = type;
    parts.flags = flags;
    cr_assert_eq(userauth_parse(payload, make(payload, sizeof payload, &parts), &request), 0);
    return request.security_key ? request.user_present * PRESENT + request.user_verified * VERIFIED : NO_SECURITY_KEY;
}

Test(userauth, what_security_keys_attest) {
    const char *sk = "sk-ssh-ed25519@openssh.com";
    cr_assert_eq(attested(sk, 1), PRESENT);
    cr_assert_eq(attested(sk, 5), PRESENT + VERIFIED);
    cr_assert_eq(attested(sk, 4), VERIFIED);
    cr_assert_eq(attested(sk, 0xfa), 0);
    cr_assert_eq(attested(sk, -1), 0, "nothing is attested where the flags are missing");
    cr_assert_eq(attested("ssh-ed25519", -1), NO_SECURITY_KEY);
    cr_assert_eq(attested("ssh-ed25519", 5), NO_SECURITY_KEY);
}
