#pragma once
/* The decision about a server's host key: known_hosts, StrictHostKeyChecking, and the person. */
#include "ssh/client_link.h"
#include "ssh/secrets.h"

/* After the key exchange. 0: the key is the server's as far as can be told (a new one was added to known_hosts).
 * ERR_HOSTKEY, ERR_CANCELED: refused, and said so. */
MUST_USE int hostkey_verify(struct client_link *link, struct secrets *secrets);
/* The host key algorithms to ask for (comma-separated), those first whose key known_hosts holds. ERR_LENGTH. */
MUST_USE int hostkey_algorithms(const struct options *options, char *out, size_t cap);
