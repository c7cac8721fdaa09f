#pragma once
/* The client's way to an authenticated transport: TCP (or ProxyCommand) connect, version and key exchange, host key
 * decision, authentication. Runs on a plain thread with poll(2), never on a shard: it may ask a person. The result is
 * handed to a shard whole. */
#include "ssh/libssh_speaker.h"
#include "ssh/options.h"
#include "ssh/transport.h"

/* An authenticated connection, not yet on a shard. */
struct authenticated {
    int fd; /* TCP socket (or a proxy's stream socket), non-blocking; -1 once a session has taken it over */
    struct transport transport;
    struct libssh_speaker speaker;
    uint8_t *early; /* peer bytes received and not yet worked on (malloc'd, may be NULL) */
    size_t early_len;
    char *kex, *cipher, *hostkey; /* names, for the log */
    /* private */
    int proxy_pidfd; /* of the ProxyCommand; -1: none */
    bool speaking;   /* transport and speaker are initialised */
};
/* Packets 80–127 that arrive before the hand-over (OpenSSH sends hostkeys-00@openssh.com at once) are not lost: reading
 * stops when authentication succeeds, unread bytes are in `early`. */

/* What was asked of the person once and serves the program's other connections; in locked memory, wiped by
 * secrets_wipe, which must come before provider_deinit. */
struct secrets;
MUST_USE int secrets_create(struct secrets **secrets);
void secrets_wipe(struct secrets *secrets); /* and frees */
/* Why another connection would take a person once more, as far as those made with `secrets` tell (static text); NULL:
 * it would not. Before secrets_strip. */
const char *secrets_person_needed(const struct secrets *secrets);
/* Wipes what is secret. What stays, for handshake_unattended: which host key and which of our keys it was. */
void secrets_strip(struct secrets *secrets);

/* Makes one connection; one at a time for one `secrets`. 0: *result is the caller's (authenticated_destroy, or handed
 * on). Every failure was reported in one line that names the cause: ERR_RESOLVE, ERR_REFUSED, ERR_TIMEOUT, ERR_KEX,
 * ERR_HOSTKEY, ERR_AUTH, ERR_CLOSED, …
 */
MUST_USE int handshake_client(const struct options *options, struct secrets *secrets, struct authenticated **result);
/* One more connection, later and on a thread beside: nobody is asked, the host key must be known or that of a
 * connection before, and all of it takes LIMIT_UNATTENDED_HANDSHAKE_S at most. */
MUST_USE int handshake_unattended(const struct options *options, struct secrets *secrets,
                                  struct authenticated **result);
/* Frees everything, tells a ProxyCommand to end, closes fd unless it is -1. No early end is said to the peer. */
void authenticated_destroy(struct authenticated *authenticated);
