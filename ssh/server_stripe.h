#pragma once
/* A striped connection at the server (striped.h): from the client's "stripe@leat" to its closing line. It begins when
 * its target is connected, lives on that shard, and may outlive the SSH connection that opened it, as long as others of
 * the same user carry it. Its shard's thread. */
#include "ssh/relay.h"
#include "ssh/server_connection.h"

struct server_stripe;

/* What was asked for, copied. NULL: no memory. */
struct server_stripe *server_stripe_create(const struct server_connection *connection,
                                           const struct relay_target *target, const uint8_t *key, const char *requested,
                                           const char *origin);
void server_stripe_discard(struct server_stripe *stripe); /* it has not begun */
/* *fd is connected to the target; becomes the first lane. It frees itself at its end. An error of striped_start: *fd
 * is still the caller's, and it has not begun. */
MUST_USE int server_stripe_begin(struct server_stripe *stripe, const char *resolved, int *fd);

void server_stripe_end_all(struct server_shard *on);
void server_stripe_print_all(const struct server_shard *on);
