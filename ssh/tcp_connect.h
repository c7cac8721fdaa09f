#pragma once
/* The TCP connection to the server, made blocking with a deadline: every address in turn, ConnectionAttempts,
 * AddressFamily, BindAddress, TCPKeepAlive. For the handshake's thread, not for shards (engine/dial.h is for them). */
#include "ssh/options.h"
#include <stddef.h>

/* 0: *fd is connected, non-blocking, the caller's; address holds the peer's numeric address. deadline_ns
 * as deadline.h, for all addresses together. Failures were logged in one line: ERR_RESOLVE, ERR_REFUSED, ERR_TIMEOUT,
 * ERR_UNREACHABLE … */
MUST_USE int tcp_connect(const struct options *options, uint64_t deadline_ns, int *fd, char *address, size_t cap);
