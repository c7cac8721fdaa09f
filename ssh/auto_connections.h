#pragma once
/* When a tunnel gets another SSH connection and when it gives one up. Pure: what was measured goes in, one step comes
 * out, time is an argument. There are `min` of them that it always has, and with `Connections auto` others, up to
 * `max`.
 *
 *   one of the first `min` is lost ─► OPEN, one at a time
 *   no less than `min` ─ all that serve are saturated, and one of them with several flows ─► OPEN, one at a time
 *   an extra one without flows for LIMIT_AUTO_IDLE_NS, and nothing saturated ─► CLOSE
 *   an attempt that failed ─► none for LIMIT_AUTO_BACKOFF_NS, twice as long each time; or never again
 *   one is lost ─► none for LIMIT_AUTO_BACKOFF_NS, twice as long each time one is lost that was made shortly before
 *
 * What is lost while such a wait runs adds nothing to it: what takes one connection often takes all. After it they are
 * opened one after the other without a pause, which is for those beyond `min`.
 *
 * A flow stays where it is; only those to come find the new connection. So one that is not saturated is enough, however
 * many of the others are; and one flow alone, which cannot be spread, is no reason. The first `min`, with the very
 * first that has the remote forwards, are never closed, nor is any while one of them is missing. */
#include "engine/limits.h"
#include <stdbool.h>
#include <stdint.h>

enum auto_presence {
    AUTO_ABSENT,
    AUTO_SERVING,
    AUTO_LEAVING, /* asked to close, or lost, and not quite gone */
};

/* One connection, as it is now. */
struct auto_view {
    enum auto_presence presence;
    bool saturated; /* its shard */
    uint32_t flows;
    /* What its flows have carried in the last LIMIT_SATURATION_WINDOW_NS or so; 0: not measured. */
    uint64_t bytes;    /* all of them */
    uint64_t heaviest; /* the one that carried most */
    uint64_t movable;  /* those of local forwards, which could have been on another connection */
};

struct auto_connections {
    unsigned min, max; /* both 1: nothing ever happens but that one is lost */
    bool opening;      /* an attempt is under way */
    bool gave_up;
    /* private */
    unsigned index;         /* of the attempt */
    unsigned failures;      /* of attempts, since the last success */
    unsigned losses;        /* since one that had stood was lost */
    uint64_t lost_ns;       /* when one was lost for which nothing waits yet; 0: none */
    uint64_t not_before_ns; /* any */
    uint64_t extra_not_before_ns;
    uint64_t idle_since_ns[LIMIT_SHARDS];
    uint64_t new_until_ns[LIMIT_SHARDS];
};

enum auto_step { AUTO_STAY, AUTO_OPEN, AUTO_CLOSE };

void auto_connections_init(struct auto_connections *connections, unsigned min, unsigned max); /* 1 ≤ min ≤ max */
/* What to do now about views[0..max): *index is opened, or closed. After AUTO_OPEN, auto_connections_opened or _failed
 * must tell what came of it. */
enum auto_step auto_connections_step(struct auto_connections *connections, uint64_t now_ns,
                                     const struct auto_view *views, unsigned *index);
/* Is anything measured of use now? Those that are saturated should have bytes, heaviest and movable then. */
bool auto_connections_wants_measures(const struct auto_connections *connections, uint64_t now_ns,
                                     const struct auto_view *views);
void auto_connections_opened(struct auto_connections *connections, uint64_t now_ns);
/* An attempt came to nothing. for_good: the next one would as well. */
void auto_connections_failed(struct auto_connections *connections, uint64_t now_ns, bool for_good);
/* A connection that stood has ended without being asked to. */
void auto_connections_lost(struct auto_connections *connections, uint64_t now_ns);
