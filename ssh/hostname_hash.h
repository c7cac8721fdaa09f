#pragma once
/* Hashed host names of known_hosts (HashKnownHosts): "|1|salt|HMAC-SHA1(salt, name)", both in base64. With provider and
 * aead the only user of OpenSSL: libssh can compare such names, but not make them. */
#include "engine/error.h"
#include <stdbool.h>
#include <stddef.h>

#define HOSTNAME_HASH_BYTES 64u /* room for the text with its NUL */

bool hostname_hash_matches(const char *hashed, const char *name);
/* out has HOSTNAME_HASH_BYTES. ERR_CRYPTO. */
MUST_USE int hostname_hash_make(char *out, const char *name);
