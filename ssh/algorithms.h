#pragma once
/* Algorithm lists of ssh_config(5): "a,b", and "+…", "-…", "^…" relative to a default set. Resolved here, because
 * libssh 0.10 does not know the prefixes; names that the installed libssh lacks are left for it to drop. Pure. */
#include "engine/error.h"

extern const char algorithms_ciphers[], algorithms_kex[], algorithms_host_keys[], algorithms_pubkey[];

/* The list that `text` stands for, owned by the caller. ERR_CONFIG: nothing remains. ERR_NOMEM. */
MUST_USE int algorithms_resolve(const char *text, const char *defaults, char **resolved);
/* The same, reduced to the AEAD ciphers that leat can carry packets with. */
MUST_USE int algorithms_resolve_ciphers(const char *text, char **resolved);
