#include "ssh/auto_connections.h"
#include "engine/check.h"

void auto_connections_init(struct auto_connections *connections, unsigned min, unsigned max) {
    CHECK(min >= 1 && min <= max && max <= LIMIT_SHARDS);
    *connections = (struct auto_connections){.min = min, .max = max};
}

static bool is_free(const struct auto_view *view) {
    return view->presence == AUTO_SERVING && !view->saturated;
}

static unsigned count(const struct auto_connections *connections, const struct auto_view *views,
                      bool (*counts)(const struct auto_view *)) {
    unsigned sum = 0;
    for (unsigned i = 0; i < connections->max; i++)
        sum += counts(&views[i]);
    return sum;
}

static bool is_saturated(const struct auto_view *view) {
    return view->presence == AUTO_SERVING && view->saturated;
}

static bool is_serving(const struct auto_view *view) {
    return view->presence == AUTO_SERVING;
}

static bool is_leaving(const struct auto_view *view) {
    return view->presence == AUTO_LEAVING;
}

/* More than trickles beside one bulk flow, and some of it where it could be had elsewhere. */
static bool has_several_flows(const struct auto_view *view) {
    return is_saturated(view) && view->flows > 1 && view->bytes >= LIMIT_AUTO_BULK_BYTES &&
           view->movable >= LIMIT_AUTO_BULK_BYTES && view->bytes - view->heaviest >= view->bytes / 4;
}

static unsigned first_absent(const struct auto_connections *connections, const struct auto_view *views) {
    unsigned i = 0;
    while (i < connections->max && views[i].presence != AUTO_ABSENT)
        i++;
    return i;
}

static bool may_open(const struct auto_connections *connections, uint64_t now_ns) {
    return !connections->opening && !connections->gave_up && now_ns >= connections->not_before_ns;
}

bool auto_connections_wants_measures(const struct auto_connections *connections, uint64_t now_ns,
                                     const struct auto_view *views) {
    return connections->min < connections->max && may_open(connections, now_ns) &&
           now_ns >= connections->extra_not_before_ns && count(connections, views, is_free) == 0 &&
           count(connections, views, is_leaving) == 0 && first_absent(connections, views) < connections->max;
}

static bool one_is_missing(const struct auto_connections *connections, uint64_t now_ns, const struct auto_view *views) {
    return may_open(connections, now_ns) && first_absent(connections, views) < connections->min;
}

static bool another_helps(const struct auto_connections *connections, uint64_t now_ns, const struct auto_view *views) {
    return auto_connections_wants_measures(connections, now_ns, views) &&
           count(connections, views, has_several_flows) > 0;
}

/* While one is saturated, a free one is what the next flow needs. */
static void note_idle(struct auto_connections *connections, uint64_t now_ns, const struct auto_view *views) {
    bool needed = count(connections, views, is_saturated) > 0;
    for (unsigned i = 0; i < connections->max; i++)
        if (needed || views[i].presence != AUTO_SERVING || views[i].flows > 0)
            connections->idle_since_ns[i] = now_ns;
}

/* The last of those that have been idle for long enough and are not needed; 0: none. */
static unsigned last_idle(const struct auto_connections *connections, uint64_t now_ns, const struct auto_view *views) {
    unsigned i = count(connections, views, is_serving) > connections->min ? connections->max : 0;
    while (i > connections->min)
        if (now_ns - connections->idle_since_ns[--i] >= LIMIT_AUTO_IDLE_NS)
            return i;
    return 0;
}

static void hold_off(struct auto_connections *connections, uint64_t since_ns, unsigned doublings) {
    uint64_t wait_ns = LIMIT_AUTO_BACKOFF_NS;
    for (unsigned i = 0; i < doublings && wait_ns < LIMIT_AUTO_BACKOFF_MAX_NS; i++)
        wait_ns *= 2;
    uint64_t until_ns = since_ns + (wait_ns < LIMIT_AUTO_BACKOFF_MAX_NS ? wait_ns : LIMIT_AUTO_BACKOFF_MAX_NS);
    if (connections->not_before_ns < until_ns)
        connections->not_before_ns = until_ns;
}

static bool a_new_one_is_lost(const struct auto_connections *connections, const struct auto_view *views) {
    for (unsigned i = 0; i < connections->max; i++)
        if (views[i].presence != AUTO_SERVING && connections->lost_ns < connections->new_until_ns[i])
            return true;
    return false;
}

static void judge_loss(struct auto_connections *connections, const struct auto_view *views) {
    if (connections->lost_ns == 0)
        return;
    if (!a_new_one_is_lost(connections, views))
        connections->losses = 0;
    hold_off(connections, connections->lost_ns, connections->losses++);
    connections->lost_ns = 0;
}

/* Not before they are absent: one may be seen to leave before its loss is told. */
static void forget_absent(struct auto_connections *connections, const struct auto_view *views) {
    for (unsigned i = 0; i < connections->max; i++)
        if (views[i].presence == AUTO_ABSENT)
            connections->new_until_ns[i] = 0;
}

enum auto_step auto_connections_step(struct auto_connections *connections, uint64_t now_ns,
                                     const struct auto_view *views, unsigned *index) {
    note_idle(connections, now_ns, views);
    judge_loss(connections, views);
    forget_absent(connections, views);
    *index = last_idle(connections, now_ns, views);
    if (*index > 0) {
        connections->idle_since_ns[*index] = now_ns; /* a close that a new flow forestalls is not tried at once again */
        connections->new_until_ns[*index] = 0;
        return AUTO_CLOSE;
    }
    if (!one_is_missing(connections, now_ns, views) && !another_helps(connections, now_ns, views))
        return AUTO_STAY;
    connections->opening = true;
    *index = connections->index = first_absent(connections, views);
    return AUTO_OPEN;
}

void auto_connections_opened(struct auto_connections *connections, uint64_t now_ns) {
    connections->opening = false;
    connections->failures = 0;
    connections->new_until_ns[connections->index] = now_ns + LIMIT_AUTO_NEW_NS;
    connections->extra_not_before_ns = now_ns + LIMIT_AUTO_PAUSE_NS;
}

void auto_connections_failed(struct auto_connections *connections, uint64_t now_ns, bool for_good) {
    connections->opening = false;
    connections->gave_up |= for_good;
    hold_off(connections, now_ns, connections->failures++);
}

/* The next step sees which one it was. */
void auto_connections_lost(struct auto_connections *connections, uint64_t now_ns) {
    if (connections->lost_ns == 0 && now_ns >= connections->not_before_ns)
        connections->lost_ns = now_ns;
}
