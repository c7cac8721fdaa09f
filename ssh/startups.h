#pragma once
/* Admission of connections that have not authenticated yet: MaxStartups, PerSourceMaxStartups. Any thread; a lock is
 * held for the arithmetic only, once per connection. */
#include "ssh/server_options.h"

struct startups;
MUST_USE int startups_create(struct startups **startups); /* ERR_NOMEM; ERR_SYSTEM: no random numbers */
void startups_destroy(struct startups *startups);         /* CHECKs that nobody is inside */

struct startup {               /* one admitted connection */
    struct startups *startups; /* NULL: not inside */
    uint64_t source;           /* private */
};
/* May one more begin? Random early drop between begin and full as sshd_config(5) says; `dice` 0–99 is the caller's
 * random number. ERR_LIMIT with *why (static): refused. ERR_NOMEM. */
MUST_USE int startups_enter(struct startups *startups, const struct server_options *options,
                            const struct sockaddr *address, uint32_t dice, struct startup *startup, const char **why);
void startups_leave(struct startup *startup); /* authenticated, or gone; idempotent */
uint32_t startups_count(struct startups *startups);
