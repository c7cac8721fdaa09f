#pragma once
/* Lists of "host:port" as PermitOpen, PermitListen and the permitopen= and permitlisten= options of keys have them, and
 * how sshd compares them: names as written, never resolved. Pure. */
#include "engine/error.h"
#include <stdbool.h>
#include <stdint.h>

enum permission_use { PERMISSION_OPEN, PERMISSION_LISTEN };
struct permission {
    char *host; /* OPEN: exact, or "*"; LISTEN: a pattern, lower case; without brackets */
    bool any_port;
    uint16_t port;
};
struct permission_list {
    bool
        restricted; /* false: everything is permitted ("any", or nothing said); true: what is listed, "none": nothing */
    struct permission *items;
    uint32_t count;
};

/* "host:port", "[v6]:port", "*:port", "host:*"; LISTEN also "port" alone (any host). ERR_CONFIG with *why (static). The
 * list becomes restricted. ERR_LIMIT: LIMIT_PERMISSIONS. ERR_NOMEM. The list is as it was after any of them. */
MUST_USE int permission_add(struct permission_list *list, enum permission_use use, const char *text, const char **why);
void permission_clear(struct permission_list *list); /* back to permitting everything */
bool permission_open_matches(const struct permission_list *list, const char *host, uint16_t port);
bool permission_listen_matches(const struct permission_list *list, const char *host, uint16_t port);
/* "host:port" as it is written in a configuration, into out. */
const char *permission_text(const struct permission *permission, char *out, unsigned long cap);
