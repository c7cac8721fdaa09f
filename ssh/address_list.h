#pragma once
/* sshd's lists of addresses and names: "192.0.2.0/24,2001:db8::/32,*.example.com,!192.0.2.9" (Match Address and Host,
 * from= of keys, the host part of AllowUsers). Numbers and masks are compared as numbers, anything else as a pattern
 * over the numeric address and, where known, the name. Pure. */
#include "engine/error.h"
#include "ssh/text.h"
#include <sys/socket.h>

/* address may be NULL or AF_UNSPEC: then only host is compared. An IPv4 address mapped into IPv6 counts as IPv4.
 * ERR_CONFIG with *why (static): an entry has a mask that does not fit its address (sshd refuses the whole list). */
MUST_USE int address_list_match(const struct sockaddr *address, const char *host, const char *patterns,
                                enum pattern_result *result, const char **why);
