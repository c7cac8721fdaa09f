#pragma once
/* The client's authentication (RFC 4252): which method next, and what is said when none is left.
 *
 *   none ─► methods the server allows ─► publickey (agent, then files) ─► keyboard-interactive ─► password
 *           in the order of PreferredAuthentications; after a partial success the rest goes on with what is allowed
 * then */
#include "ssh/client_link.h"
#include "ssh/secrets.h"

enum auth_method { AUTH_PUBLICKEY = 1, AUTH_KBDINT = 2, AUTH_PASSWORD = 4 };

/* After the host key was verified. 0: authenticated. ERR_AUTH, ERR_CLOSED, ERR_CANCELED …: reported in one line. */
MUST_USE int auth_run(struct client_link *link, struct secrets *secrets);
