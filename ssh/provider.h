#pragma once
/* The deferring ciphers: a built-in OpenSSL provider that stands in for AES-GCM and ChaCha20 towards libssh alone. It
 * hands key and IV to the current thread's wire at key set-up and passes packets through unchanged, with an all-zero
 * tag; the wire seals them, once, together with leat's own packets. Everything else comes from OpenSSL's default
 * provider. The provider and a private OSSL_LIB_CTX are process-wide. */
#include "engine/error.h"

struct wire;

/* Loads both providers into the private context; once per process, before any thread uses libssh. Also ssh_init().
 * ERR_UNSUPPORTED: the installed OpenSSL or libssh is older than what leat needs (logged); ERR_CRYPTO. */
MUST_USE int provider_init(void);
void provider_deinit(void);

/* Around every call into libssh: makes the private context this thread's default and `wire` the one that gets the keys.
 * Not nested. With no wire set, the ciphers behave as OpenSSL's own. provider_leave returns the first error that
 * a key hand-over met since provider_enter (0 when none). */
void provider_enter(struct wire *wire);
MUST_USE int provider_leave(void);

/* The versions line of -V: "libssh 0.10.6, OpenSSL 3.0.19 …", static. */
const char *provider_versions(void);

/* Proves that the installed libssh and OpenSSL behave as the provider needs: a client and a server of libssh shake
 * hands in memory over two wires, with each cipher, and rekey. Remembered for the process, and across processes in a
 * stamp file under the user's cache directory that names the exact library builds. 0, or ERR_UNSUPPORTED with one clear
 * logged line. */
MUST_USE int selfcheck(void);
