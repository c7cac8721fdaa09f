#pragma once
/* What a client of leatd may ask for (RFC 4254 §7, OpenSSH's PROTOCOL): direct-tcpip, direct-streamlocal@openssh.com,
 * tcpip-forward and streamlocal-forward@openssh.com with their cancels, session channels, keepalive and the like. Each
 * is checked by policy.h, done, and told to the audit. Connection's shard.
 *
 * An address to listen on is a number, "localhost", "*" or "": a name would have to be looked up, which a shard must
 * not wait for, so it is refused with that reason. Paths are absolute. */
#include "ssh/server_connection.h"

extern const struct mux_ops server_mux_ops; /* mux->owner is the session, its owner the connection */

/* The connection ends or drains: its remote listeners stop now. */
void server_forward_stop(struct server_connection *connection);
/* None of them is left. */
static inline bool server_forward_stopped(const struct server_connection *connection) {
    return connection->listeners_count == 0;
}
/* One line per remote listener, each given to `line`. For USR1 and for the text a session channel shows. */
void server_forward_print(const struct server_connection *connection, void (*line)(void *arg, const char *text),
                          void *arg);
/* The same for each forwarded connection that stands or is about to. */
void server_forward_print_open(const struct server_connection *connection, void (*line)(void *arg, const char *text),
                               void *arg);
