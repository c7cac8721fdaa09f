#pragma once
/* What happened, for the people who run a relay: one line per event, as text ("leatd: forward closed: …") or as one
 * JSON object (LogFormat json). Any thread. Strings may come from a peer: they are escaped here as vis(3) does. Both
 * formats are documented in leatd(8): what is there stays. */
#include "engine/log.h"
#include "ssh/server_options.h"
#include <stdint.h>

/* Every pointer may be NULL: the field is left out. */
struct audit {
    const char *event;     /* "connection opened", "authentication failed", "forward opened", "forward refused" … */
    uint64_t connection;   /* number of the SSH connection; 0: none */
    const char *user;      /* as the client named it */
    const char *key;       /* "SHA256:…" */
    const char *source;    /* the client: "192.0.2.7 port 40000" */
    const char *forward;   /* "direct-tcpip", "forwarded-tcpip", "tcpip-forward", "relay" … */
    const char *origin;    /* who connected, as far as is known: "192.0.2.7 port 40000" */
    const char *requested; /* destination as asked for: "lan-host port 80", "/run/app.sock" */
    const char *resolved;  /* and where that led: "192.0.2.9 port 80" */
    const char *detail;    /* anything else worth a word: cipher, client version */
    const char *reason;
    bool counted; /* the three below are told */
    uint64_t bytes_to_target, bytes_from_target, duration_ns;
};
/* With JSON every other line of the log becomes an object too. */
void audit_set_format(enum log_format format);
void audit_log(enum log_level level, const struct audit *audit);
/* The line itself, malloc'd, without newline and program name, never longer than a line of the log: the longest strings
 * are cut. NULL: no memory. */
char *audit_text(const struct audit *audit, enum log_format format);
