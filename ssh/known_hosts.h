#pragma once
/* The known_hosts files (sshd(8), SSH_KNOWN_HOSTS FILE FORMAT): patterns with negation, hashed names, @revoked, several
 * files. libssh reads one user file, stops at a line it does not understand and knows no @revoked, so the files are
 * read here. No libssh; blocking file access: for the handshake's thread. */
#include "engine/error.h"
#include "ssh/options.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define KNOWN_HOSTS_NAME_BYTES 512u

/* What is on record for a name, strongest last: one matching line that is stronger decides. */
enum known_host {
    KNOWN_HOST_NEW,        /* nothing */
    KNOWN_HOST_OTHER_TYPE, /* only keys of other types */
    KNOWN_HOST_CHANGED,    /* a different key of this type */
    KNOWN_HOST_SAME,       /* this key */
    KNOWN_HOST_REVOKED,    /* this key, marked @revoked */
};
struct known_hosts_answer {
    enum known_host verdict;
    const char *file; /* where the deciding line is; borrowed from the lists; NULL for KNOWN_HOST_NEW */
    unsigned line;
};

/* The name looked up and written: "host", or "[host]:port" when port is not 22; alias (HostKeyAlias) as it is, without
 * a port. Lower case. ERR_LENGTH. */
MUST_USE int known_hosts_name(char out[KNOWN_HOSTS_NAME_BYTES], const char *host, uint16_t port, const char *alias);

/* key: base64 of the public key blob; type: its name ("ssh-ed25519"). A file that is missing or unreadable holds
 * nothing. */
void known_hosts_find(const struct string_list *user, const struct string_list *global, const char *name,
                      const char *type, const char *key, struct known_hosts_answer *answer);

/* `algorithms` (comma-separated host key algorithms) into out, those first whose key is on record for the name: a
 * server with several keys then shows the one that can be checked. ERR_LENGTH. */
MUST_USE int known_hosts_order(const struct string_list *user, const struct string_list *global, const char *name,
                               const char *algorithms, char *out, size_t cap);

/* Appends a line to file; makes the file (0600) and its directory (0700) when missing. ERR_SYSTEM with errno;
 * ERR_CRYPTO, ERR_NOMEM. */
MUST_USE int known_hosts_add(const char *file, const char *name, const char *type, const char *key, bool hashed);
