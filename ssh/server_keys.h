#pragma once
/* The host keys of a server, read once per configuration (as root, before privileges are given up), and what libssh
 * needs to use them on each shard. */
#include "ssh/server_options.h"
#include <libssh/libssh.h>
#include <libssh/server.h>

struct server_keys; /* shared by reference count: reloads replace it while handshakes use the old */
/* Reads every file of options->host_keys: permissions as sshd has them (not readable by others), one key per algorithm
 * (ed25519, ecdsa, rsa ≥ RequiredRSASize); other types are passed over with a warning. A file that was named and cannot
 * be read: reported, ERR_CONFIG; with `before` (a reload), its key is kept when the file is no longer readable to this
 * account. No key at all: ERR_CONFIG, reported. Blocks; main thread. */
MUST_USE int server_keys_read(const struct server_options *options, const struct server_keys *before,
                              struct server_keys **keys);
struct server_keys *server_keys_ref(const struct server_keys *keys);
void server_keys_unref(struct server_keys *keys); /* wipes with the last */
/* One line per key for the log: type and fingerprint. */
void server_keys_log(const struct server_keys *keys);

/* A shard's own use of them: ssh_bind is not for several threads. Made, referenced and let go on the shard's thread: a
 * reload replaces the shard's while handshakes that began before hold the old. Algorithms and version line
 * ("SSH-2.0-leatd_VERSION[ addendum]") are those of the options. */
struct server_bind {
    ssh_bind ssh;
    char version[256]; /* as sent, with CR LF */
    uint32_t references;
};
/* The caller's reference. ERR_KEX: libssh refused (reported). ERR_NOMEM. */
MUST_USE int server_keys_bind(const struct server_keys *keys, const struct server_options *options,
                              struct server_bind **bind);
struct server_bind *server_bind_ref(struct server_bind *bind);
void server_bind_unref(struct server_bind *bind); /* NULL is fine */
