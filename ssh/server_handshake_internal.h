#pragma once
/* What the files of the server's handshake share: server_handshake.c carries the bytes, server_auth.c answers the
 * requests of RFC 4252. Shard's thread. */
#include "ssh/server_front.h"
#include "ssh/server_handshake.h"
#include "ssh/server_login.h"
#include "ssh/userauth.h"

struct server_auth {
    /* The request under work, as the transport opened it; nothing more is read meanwhile. NULL: none. */
    uint8_t *taken;
    uint32_t taken_len;
    struct userauth_request request;       /* of a USERAUTH_REQUEST; into taken */
    struct server_login *login;            /* under way */
    char *user, *service;                  /* of the first request, in full */
    uint32_t messages, requests, failures; /* all taken; USERAUTH_REQUESTs of them; those that MaxAuthTries counts */
    bool service_accepted, breach;         /* a message that has no place here */
};

struct server_handshake_work {
    struct server_front front;
    struct server_auth auth;
    struct server_handshake *handshake;
    struct timer kexinit;
    uint8_t *in, *out; /* NULL while there is nothing */
    size_t in_len, in_cap, out_at, out_len;
    bool accepted; /* USERAUTH_SUCCESS is said: ends well once that is sent */
    bool closing;  /* ends badly once what was said is sent */
};

/* ── server_handshake.c ── */
/* It ends with this reason, for the log; the first counts. What was said before is sent. */
void handshake_fail(struct server_handshake *handshake, int err, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* The same, and the client is told why. */
void handshake_disconnect(struct server_handshake *handshake, int err, const char *text);
/* Before the client has a version there are no packets: text, with CR LF. */
void handshake_say_line(struct server_handshake *handshake, const char *line);
/* A message of our own: begin, write the payload, say. All that is said in answer to one request fits. false: no
 * memory, or the wire has failed, and the handshake with it. */
bool handshake_begin(struct server_handshake *handshake, struct writer *writer);
bool handshake_say(struct server_handshake *handshake, const struct writer *writer);
void handshake_wake(struct server_handshake *handshake); /* an answer has come from elsewhere */

/* ── server_reason.c ── */
/* A transport that failed: the reason is looked for. */
void handshake_fail_transport(struct server_handshake *handshake, int err);

/* ── server_auth.c ── */
bool server_auth_take(void *handshake, const struct packet *packet); /* transport.on_speech */
/* Answers what was taken, or asks for what it needs to: then auth.login is set, and handshake_wake follows. */
void server_auth_work(struct server_handshake *handshake);
void server_auth_deinit(struct server_auth *auth);

/* ── server_verify.c ── */
/* Has libssh judge the signature of the request, and say USERAUTH_SUCCESS when it is good; *good is false when it is
 * not. An error: the transport has failed, or there is no memory. */
MUST_USE int server_verify(struct server_handshake *handshake, bool *good);
/* "SHA256:…" of a public key; NULL: it is none, or there is no memory. */
char *server_fingerprint(const struct userauth_request *request);
