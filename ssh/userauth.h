#pragma once
/* The messages of RFC 4252 as a server reads and writes them. Pure: whether a user, a key, a signature is good is
 * decided elsewhere. */
#include "engine/error.h"
#include "ssh/codec.h"

enum userauth_method { USERAUTH_NONE, USERAUTH_PUBLICKEY, USERAUTH_OTHER };

/* One USERAUTH_REQUEST; pointers into the payload. */
struct userauth_request {
    struct bytes user, service, method_name;
    enum userauth_method method;
    /* of publickey: */
    bool has_signature;               /* else it asks whether the key would do */
    struct bytes algorithm;           /* of the signature: "rsa-sha2-512" */
    struct bytes blob;                /* the public key */
    const char *key_type;             /* "ssh-rsa", static; NULL: a key or algorithm that is not served */
    uint32_t rsa_bits;                /* 0: not RSA */
    struct bytes signature_algorithm; /* what the signature itself says it is */
    bool security_key;                /* and what its signature attests: */
    bool user_present, user_verified;
};
/* payload: from the message number on. ERR_PROTOCOL: malformed. */
MUST_USE int userauth_parse(const uint8_t *payload, uint32_t len, struct userauth_request *request);

/* A type of public key that is served ("ssh-rsa" …). */
bool userauth_is_key_type(struct bytes type);
/* Of an "ssh-rsa" public key; 0: it is none. */
uint32_t userauth_rsa_bits(struct bytes blob);

/* Is the request's signature algorithm allowed by `accepted` (PubkeyAcceptedAlgorithms: patterns; NULL: the default)?
 * Both names count, the request's and the signature's own: they may differ within RSA. */
bool userauth_accepts(const char *accepted, const struct userauth_request *request);
/* The algorithms that are served and accepted, comma-separated: "server-sig-algs" of RFC 8308. ERR_CONFIG: none. */
#define USERAUTH_ALGORITHMS_BYTES 512u
MUST_USE int userauth_algorithms(const char *accepted, char out[USERAUTH_ALGORITHMS_BYTES]);

/* Payloads, from the message number on. */
void userauth_write_service_accept(struct writer *writer);
void userauth_write_banner(struct writer *writer, const char *text, size_t len);
void userauth_write_failure(struct writer *writer);
void userauth_write_pk_ok(struct writer *writer, const struct userauth_request *request);
enum { DISCONNECT_PROTOCOL_ERROR = 2, DISCONNECT_SERVICE_NOT_AVAILABLE = 7 }; /* RFC 4253 §11.1 */
void userauth_write_disconnect(struct writer *writer, uint32_t code, const char *text);
