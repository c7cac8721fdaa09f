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
    uint64_t last_rekey_ns;
    bool closed;
};

/* Makes the pair and, for a client, an ssh_session with SSH_OPTIONS_FD, no config processing, compression none and the
 * three AEAD ciphers. For a server pass a session made by ssh_bind_accept_fd's caller in `ssh` (then owned here). */
MUST_USE int libssh_speaker_init(struct libssh_speaker *speaker, struct wire *wire, ssh_session ssh);
/* After options are set and before the first non-blocking call: adds the session to its event, sets non-blocking. */
MUST_USE int libssh_speaker_begin(struct libssh_speaker *speaker);
void libssh_speaker_deinit(struct libssh_speaker *speaker);

void speaker_enter(struct libssh_speaker *speaker);
MUST_USE int speaker_leave(struct libssh_speaker *speaker);
