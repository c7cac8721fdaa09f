#pragma once
/* A "session" channel at leatd (RFC 4254 §6): there is no shell. A request for a shell gets a short text on what this
 * server is and the list of the connection's forwards, and stays open until the client ends it; a command gets the same
 * text and exit status 1; subsystems, X11 and agent forwarding are refused; pty-req and env are accepted without
 * effect. Nothing is ever executed. */
#include "ssh/server_connection.h"

/* For mux_ops.on_open: the flow, or NULL with the reason. */
struct flow *server_shell_open(struct server_connection *connection, uint32_t *reason, const char **text);
/* Every session channel of the connection that was asked for anything ends, as one that was idle for too long. */
void server_shell_end_idle(struct server_connection *connection);
