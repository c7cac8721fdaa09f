#pragma once
/* Striped connections of local forwards (`Stripes`): one accepted connection on several sessions, each lane of it a
 * relay there. Towards a server whose hello knows them; forward.c's plain relay is for everything else.
 *
 *   the session that was chosen, and its shard: the application's connection, the striped (striped.h), its first lane
 *   any other session, on its own shard:        a lane more, asked for when the striped could do with one
 *
 * A lane that is lost leaves its place to another session, or to the same one when it stands again. One that was made
 * outlives the session that it began on, not its shard. */
#include <stdbool.h>

struct client_session;
struct forward_route;

/* An accepted connection, counted among the relays of the route's session. False: it is to go unstriped, nothing was
 * taken over. The session's shard. */
bool forward_stripe(struct forward_route *route, int fd);
/* For USR1: those that began on this session. Its shard. */
void forward_stripe_print(const struct client_session *session);
