#pragma once
/* What the files behind server_forward.h share: server_forward.c answers requests, server_listener.c listens,
 * server_channel.c watches each forwarded connection, server_stripe.c those that are striped. */
#include "ssh/audit.h"
#include "ssh/relay.h"
#include "ssh/server_forward.h"

#define SERVER_HOST_BYTES 256u     /* a name of 255 bytes (RFC 1035) with its NUL */
#define SERVER_ENDPOINT_BYTES 280u /* "host port 65535" */

#define SERVER_STOPPING "this server is stopping"

/* An event of this connection, to be filled in further. */
struct audit server_forward_audit(const struct server_connection *connection, const char *event, const char *forward,
                                  const char *requested);
/* "host port 80" into out. */
const char *server_endpoint(char out[SERVER_ENDPOINT_BYTES], const char *host, uint16_t port);

/* server_channel.c: one forwarded connection, the owner of its relay; gone with it. */
struct server_channel;
struct server_stripe;
/* forward is static. Counted with the connection from now on. NULL: no memory. */
struct server_channel *server_channel_create(struct server_connection *connection, const char *forward,
                                             const char *requested, const char *origin);
/* Its relay was not made: nothing is told. */
void server_channel_discard(struct server_channel *channel);
extern const struct relay_watcher server_channel_watcher;
/* It is the first lane of a striped connection, which begins when the target is connected; taken over. */
void server_channel_found(struct server_channel *channel, struct server_stripe *stripe);
/* It is one lane more of one. */
void server_channel_join(struct server_channel *channel);
/* ChannelTimeout of a channel type. */
uint64_t server_channel_idle_ns(const struct server_connection *connection, const char *type);

/* server_listener.c. What was done or refused has been told to the audit. */
bool server_listener_open(struct server_connection *connection, const char *host, uint16_t port, uint16_t *bound);
bool server_listener_open_path(struct server_connection *connection, const char *path);
/* The one that was asked for with this address and port (or got that port). false: there is none. */
bool server_listener_cancel(struct server_connection *connection, const char *host, uint16_t port);
bool server_listener_cancel_path(struct server_connection *connection, const char *path);
