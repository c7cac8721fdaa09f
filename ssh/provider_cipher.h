#pragma once
/* Private to the provider: the deferring ciphers' dispatch tables, and where a captured key goes. Runs on whichever
 * thread is inside a libssh call; the state is per thread. */
#include "ssh/aead.h"
#include "ssh/wire.h"
#include <openssl/core.h>
#include <openssl/types.h>

/* Terminated by an entry without names, as OpenSSL wants it. */
extern const OSSL_ALGORITHM provider_ciphers[];

/* The private context that delegated ciphers are fetched in. */
OSSL_LIB_CTX *provider_libctx(void);

/* Is a key that is set up now a session key? True between provider_enter(wire) and provider_leave while that wire's
 * key exchange is under way; false for everything else that libssh decrypts (a private key file sealed with AES-GCM).
 */
bool provider_captures(void);
/* Hands on the key of a direction's next epoch. The first error is kept for provider_leave. */
void provider_capture(enum wire_direction direction, enum aead_kind kind, const uint8_t *key, const uint8_t *iv);
/* One of the two 32-byte halves of a chacha20-poly1305 key, in libssh's order. */
void provider_capture_chacha(const uint8_t *half);
