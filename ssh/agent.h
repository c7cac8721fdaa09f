#pragma once
/* The authentication agent (SSH_AUTH_SOCK, IdentityAgent). libssh offers all keys of an agent or none, in the agent's
 * order, and stops at one it cannot read; so it is given a connection of ours, on which a relay shows it one key at a
 * time and passes its signature requests on.
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
    _Atomic unsigned shown;
};

/* Connects and reads the list of keys. identity_agent as in options.h. ERR_UNSUPPORTED: no agent is configured or it
 * does not answer (agent has no keys; needs no agent_close, which is fine however). */
MUST_USE int agent_open(struct agent *agent, const char *identity_agent);
/* Gives libssh its connection; once. Within speaker_enter. ERR_SYSTEM, ERR_NOMEM. */
MUST_USE int agent_attach(struct agent *agent, ssh_session ssh);
/* The one key that ssh_userauth_agent sees from now on. */
void agent_show(struct agent *agent, unsigned index);
void agent_close(struct agent *agent); /* no ssh_userauth_agent may be running */
