#pragma once
/* What a person was asked once and what was found to work, for the program's other connections: secret pages, unlocked
 * keys, answers, the accepted host key. One handshake at a time. handshake.h has its life cycle; secrets_wipe must come
 * before provider_deinit, whose library context the keys live in. */
#include "ssh/handshake.h"
#include <libssh/libssh.h>
#include <stdbool.h>

#define SECRET_BYTES 1024u /* of one answer, with its NUL */
#define SECRETS_ANSWERS_MAX 16u

/* Zeroed memory of SECRET_BYTES that is locked (where the limit allows) and left out of core files. NULL: no memory. */
char *secret_new(void);
void secret_free(char *secret); /* wipes; NULL is fine */

struct secrets_key {
    char *path;
    ssh_key key;
};
struct secrets_answer {
    char *prompt;
    char *answer; /* a secret */
};
struct secrets {
    struct secrets_key *keys; /* private keys that needed a passphrase */
    unsigned keys_count;
    char *password; /* a secret; NULL: none */
    struct secrets_answer answers[SECRETS_ANSWERS_MAX];
    unsigned answers_count;
    char *host_key;       /* "type base64", accepted by the person or taken as new */
    char *banner;         /* the server's, shown last: once is enough for all connections */
    unsigned methods_won; /* bits of enum auth_method: what got a connection in goes first on the next */
    char *key_won;        /* base64 of the public key that was accepted last */
    bool touch_won;       /* it was a security key's, which a person touches each time */
};

ssh_key secrets_find_key(const struct secrets *secrets, const char *path); /* borrowed; NULL: not there */
/* Takes the key over. ERR_NOMEM: it is still the caller's. */
MUST_USE int secrets_keep_key(struct secrets *secrets, const char *path, ssh_key key);
/* Takes the secret over, whatever comes of it: without memory or room it is forgotten. */
void secrets_keep_password(struct secrets *secrets, char *password); /* NULL: forget */
void secrets_keep_answer(struct secrets *secrets, const char *prompt, char *answer);
void secrets_forget_answers(struct secrets *secrets);
/* *at takes a copy of text; without memory it becomes NULL. */
void secrets_note(char **at, const char *text);
