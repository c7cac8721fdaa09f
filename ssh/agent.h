#pragma once
/* The authentication agent (SSH_AUTH_SOCK, IdentityAgent). libssh offers all keys of an agent or none, in the agent's
 * order, and stops at one it cannot read; so it is given a connection of ours, on which a relay shows it the keys that
 * are to be offered and passes its signature requests on.
 *
 *   libssh (blocks while the agent signs) ── socketpair ── relay's thread ── the agent's socket
 */
#include "engine/error.h"
#include <libssh/libssh.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define AGENT_KEYS_MAX 1024u

struct agent_key {
    const uint8_t *blob; /* within answer */
    uint32_t blob_len;
    char *type;    /* "ssh-ed25519", escaped */
    char *base64;  /* of the blob */
    char *comment; /* escaped */
};
struct agent {
    struct agent_key *keys;
    unsigned keys_count;
    /* private */
    int fd;
    int pair;        /* the relay's end */
    uint8_t *answer; /* the agent's list of identities */
    pthread_t thread;
    bool relaying;
    unsigned *shown; /* indexes of keys; the relay reads them after shown_count */
    _Atomic unsigned shown_count;
    _Atomic int asked; /* the key of the last signature request; -1: none since agent_show */
    _Atomic bool refused;
};

/* Connects and reads the list of keys. identity_agent as in options.h. ERR_UNSUPPORTED: no agent is configured or it
 * does not answer (agent has no keys; needs no agent_close, which is fine however). */
MUST_USE int agent_open(struct agent *agent, const char *identity_agent);
/* Gives libssh its connection; once. Within speaker_enter. ERR_SYSTEM, ERR_NOMEM. */
MUST_USE int agent_attach(struct agent *agent, ssh_session ssh);
/* What ssh_userauth_agent sees from now on: keys[indexes[0..count)]. */
void agent_show(struct agent *agent, const unsigned *indexes, unsigned count);
/* Index of the key that a signature was last asked of since agent_show; -1: none. */
static inline int agent_asked(const struct agent *agent) {
    return atomic_load(&agent->asked);
}
/* The agent did not sign that (ssh_userauth_agent gives up then, and has not offered the keys after it). */
static inline bool agent_refused(const struct agent *agent) {
    return atomic_load(&agent->refused);
}
void agent_close(struct agent *agent); /* no ssh_userauth_agent may be running */
