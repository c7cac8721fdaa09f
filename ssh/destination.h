#pragma once
/* "[user@]host[:port]" and "ssh://[user@]host[:port]", as an argument and as a hop of ProxyJump. Pure. */
#include "engine/error.h"
#include <stdbool.h>
#include <stdint.h>

struct destination {
    char *user; /* NULL: none given */
    char *host; /* without brackets */
    bool port_given;
    uint16_t port;
};

/* The argument of ssh(1): "[user@]host" (a colon belongs to the host, so bare IPv6 works) or a URI. ERR_CONFIG with
 * *why (static). */
MUST_USE int destination_parse(const char *text, struct destination *destination, const char **why);
/* One hop of ProxyJump: "[user@]host[:port]" or a URI. */
MUST_USE int destination_parse_hop(const char *text, struct destination *destination, const char **why);
void destination_deinit(struct destination *destination);

/* Free of what a shell could act on, because both end up in ProxyCommand through %h and %r; and no leading '-'. */
bool destination_host_sound(const char *host);
bool destination_user_sound(const char *user);
