#pragma once
/* The server's side from accepted socket to authenticated transport, on the connection's shard, without ever blocking:
 * libssh speaks 1–79 on its pair, this carries the bytes, answers service and authentication requests, and lets the
 * login's questions (NSS, files) be answered off the shard.
 *
 *   VERSION, KEX ──► SERVICE ──► AUTH (none, publickey: query, signature) ──► done(0)
 *   LoginGraceTime, MaxAuthTries, DISCONNECT, end of file, nonsense ───────► done(err)
 *
 * Bounded: one receive buffer, one send buffer, one login under way; nothing is read while an answer is due. Packets
 * that follow USERAUTH_REQUEST wait unread. */
#include "engine/offload.h"
#include "ssh/libssh_speaker.h"
#include "ssh/login.h"
#include "ssh/server_keys.h"
#include "ssh/transport.h"

struct server_handshake;
/* Once, never from within start; the handshake's operations are joined. err 0: authenticated, `login` and the bytes
 * are there; else reason says why, for the log. */
typedef void server_handshake_fn(struct server_handshake *handshake, int err, const char *reason);

struct server_handshake_options {
    int fd; /* borrowed: connected, non-blocking, one stream both ways; stays open whatever happens */
    const struct server_config *config;             /* borrowed until done */
    const struct server_options *options;           /* for the address: before the user is known; borrowed until done */
    struct server_bind *bind;                       /* the shard's; a reference is taken */
    const struct sockaddr *address, *local_address; /* borrowed until done; AF_UNSPEC when unknown (-i on pipes) */
    const char *source;                             /* "192.0.2.7 port 40000", for the log; borrowed until done */
    uint64_t connection;                            /* its number, for the log */
    server_handshake_fn *done;
    void *owner;
};

struct server_handshake {
    struct shard *shard;
    struct transport transport; /* the session's later; both stay here until deinit */
    struct libssh_speaker speaker;
    uint8_t *early; /* bytes received and not worked on */
    size_t early_len;
    char *user;                /* as the client named it; NULL before it has */
    char *key_fingerprint;     /* "SHA256:…" of the key that got in */
    char *details;             /* "aes128-gcm@openssh.com curve25519-sha256 ssh-ed25519, SSH-2.0-OpenSSH_9.2p1" */
    struct login_result login; /* of the last question answered */
    void *owner;
    /* private */
    struct server_handshake_options options;
    struct server_handshake_work *work; /* buffers, the request under work: gone once done */
    struct io_op recv, send;
    struct iovec recv_iov, send_iov;
    struct timer grace;
    struct task step, end;
    bool speaking, ended;
    int end_err;
    char end_reason[512];
};
/* ERR_NOMEM, ERR_LIMIT, ERR_KEX (libssh refused): nothing is left. */
MUST_USE int server_handshake_start(struct server_handshake *handshake, struct shard *shard,
                                    const struct server_handshake_options *options);
/* Ends it early; done follows with ERR_CANCELED. */
void server_handshake_cancel(struct server_handshake *handshake);
/* After done, and after the session that used the transport has ended. */
void server_handshake_deinit(struct server_handshake *handshake);
