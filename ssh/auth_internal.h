#pragma once
/* What auth.c, auth_key.c and auth_ask.c share. */
#include "ssh/agent.h"
#include "ssh/auth.h"

enum auth_answer {
    AUTH_DENIED, /* of a whole method: it has nothing more to try */
    AUTH_PARTLY, /* accepted, and the server wants another method */
    AUTH_DONE,   /* authenticated */
    AUTH_INFO,   /* keyboard-interactive: questions have come */
};

/* One key that may be offered; from the agent, from a file, or both. */
struct identity {
    const char *path;  /* of the private key; NULL: only the agent has it. Borrowed from the options */
    const char *label; /* path, or the agent's comment; borrowed */
    ssh_key public;    /* NULL: known only once the private key is unlocked */
    char *base64;      /* libssh's; of `public` */
    int agent_index;   /* -1: not in the agent */
    bool skipped;      /* not to be offered */
    bool tried;
    bool accepted;
};

struct auth {
    struct client_link *link;
    const struct options *options;
    struct secrets *secrets;
    unsigned allowed;      /* libssh's SSH_AUTH_METHOD_… bits of the server's last word */
    unsigned spent;        /* of enum auth_method */
    const char *done_with; /* the method that succeeded last */
    unsigned password_tries, kbdint_tries;
    bool identities_read;
    struct identity *identities;
    unsigned identities_count;
    struct agent agent;
    bool agent_attached;
};

/* One libssh authentication call. 0 and *answer, or the connection's end (link->reason). */
MUST_USE int auth_call(struct auth *auth, link_fn *fn, void *arg, enum auth_answer *answer);

/* The methods: each goes on until the server has accepted or there is nothing left to try. ERR_CANCELED: a signal. */
MUST_USE int auth_publickey(struct auth *auth, enum auth_answer *answer);
MUST_USE int auth_kbdint(struct auth *auth, enum auth_answer *answer);
MUST_USE int auth_password(struct auth *auth, enum auth_answer *answer);

/* auth_identity.c */
MUST_USE int identities_read(struct auth *auth); /* ERR_NOMEM */
void identities_free(struct auth *auth);
/* *key is the unlocked private key; *owned: free it with ssh_key_free. ERR_ACCESS: cannot be had (said so);
 * ERR_CANCELED. */
MUST_USE int identity_unlock(struct auth *auth, const struct identity *identity, ssh_key *key, bool *owned);
