#pragma once
/* libssh as the speaker of messages 1–79: one ssh_session on one end of a socketpair, the transport on the other.
 * Used by the client's handshake (off the shards), by the shard's session for rekeys, and by servers.
 * Every libssh call runs between speaker_enter and speaker_leave, which name the wire that gets the keys. */
#include "ssh/transport.h"
#include <libssh/libssh.h>

struct libssh_speaker {
    struct speaker base; /* first: a struct speaker * is one of these */
    ssh_session ssh;
    ssh_event event;
    int pair[2]; /* [0] libssh's, [1] ours; both non-blocking */
    struct wire *wire;
    bool adopted;  /* libssh has taken its end */
    bool restless; /* fed or used since it was last pumped */
    bool talked;   /* its end may hold bytes for us */
    bool closed;   /* it gave up; `reason` is its word for it, escaped */
    char reason[256];
};

/* Makes the pair and, for a client (ssh NULL), an ssh_session with SSH_OPTIONS_FD, no config processing, compression
 * none and the three AEAD ciphers. A server passes a session of ssh_new (owned here from now on, even on failure) and
 * hands speaker->pair[0] to ssh_bind_accept_fd afterwards. ERR_LIMIT: the descriptor is above 65535, which libssh
 * cannot hold; ERR_SYSTEM (errno kept), ERR_NOMEM. Nothing is left to deinit then. */
MUST_USE int libssh_speaker_init(struct libssh_speaker *speaker, struct wire *wire, ssh_session ssh);
/* After options are set and before the first ssh_connect or ssh_handle_key_exchange: makes the session non-blocking. */
MUST_USE int libssh_speaker_begin(struct libssh_speaker *speaker);
/* Lets libssh say DISCONNECT (by application), to be taken by transport_output. The speaker is closed then. */
void libssh_speaker_disconnect(struct libssh_speaker *speaker);
void libssh_speaker_deinit(struct libssh_speaker *speaker);

void speaker_enter(struct libssh_speaker *speaker);
/* The first error that a key hand-over met since speaker_enter. */
MUST_USE int speaker_leave(struct libssh_speaker *speaker);
