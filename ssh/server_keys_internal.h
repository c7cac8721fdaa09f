#pragma once
/* What server_keys.c reads and server_bind.c hands to libssh. */
#include "ssh/server_keys.h"
#include <pthread.h>

enum server_key_slot { SLOT_ED25519, SLOT_ECDSA, SLOT_RSA, SLOTS }; /* libssh holds one key of each */

struct host_key {
    ssh_key key; /* NULL: none */
    char *path;
};
struct server_keys {
    _Atomic uint32_t references;
    struct host_key slots[SLOTS];
    pthread_mutex_t copying; /* OpenSSL may cache within a key while it is copied */
};
ssh_key server_key_copy(const struct server_keys *keys, ssh_key key); /* any thread; NULL: no memory */
