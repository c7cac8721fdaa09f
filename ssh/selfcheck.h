#pragma once
/* The parts of selfcheck() (provider.h), for it and for its tests. */
#include "engine/error.h"
#include <stdbool.h>
#include <stddef.h>

/* The proof itself: for each cipher a client and a server in memory, key exchange, authentication, data both ways, a
 * rekey by either side, data again. After provider_init. ERR_UNSUPPORTED with one logged line. */
MUST_USE int selfcheck_run(void);

/* The user's stamp file ("…/leat/selfcheck" under XDG_CACHE_HOME or ~/.cache). false: there is no place for one. */
bool selfcheck_stamp_path(char *path, size_t cap);
/* Does the stamp name exactly this program, libssh and OpenSSL? */
bool selfcheck_stamp_matches(const char *path);
/* Writes it, or does not: a check too many is the only harm. */
void selfcheck_stamp_write(const char *path);
