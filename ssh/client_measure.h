#pragma once
/* What the flows of one session have carried between two looks, and how that is shared out among them. Looked at only
 * while it matters, so that no flow has to carry an account of its own. The session's shard. */
#include "ssh/session.h"

struct measure_sum {
    uint64_t bytes;    /* both ways, all flows */
    uint64_t heaviest; /* the flow that carried most */
    uint64_t movable;  /* flows of local forwards, which might have been on another connection */
};

struct measure {
    struct measure_seen *seen; /* at the last look, oldest flow first */
    uint32_t count, size;
    uint64_t looked_ns;
};

/* false: the last look was too long ago (or there was none) for a difference to say what happens now; the next will do.
 * The owners of the session's relays are forward_routes. */
bool measure_look(struct measure *measure, const struct session *session, struct measure_sum *sum);
/* Any thread, when the shard does not look any more. */
void measure_deinit(struct measure *measure);
