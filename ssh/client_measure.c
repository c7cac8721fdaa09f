#include "ssh/client_measure.h"
#include "engine/limits.h"
#include "ssh/forward.h"
#include <stdlib.h>

/* One flow. Flows are listed by age, so two looks are compared side by side; those that began in the same turn are told
 * apart by their order alone, which is wrong for one look when one of them has gone. */
struct measure_seen {
    uint64_t started_ns, bytes;
};

struct look {
    struct measure *measure;
    struct measure_sum *sum;
    uint64_t now_ns;
    uint32_t before_at, before_count; /* in seen: still from the last look */
    uint32_t at;                      /* in seen: of this one, never ahead of before_at */
};

static uint64_t bytes_before(struct look *look, uint64_t started_ns) {
    const struct measure_seen *seen = look->measure->seen;
    while (look->before_at < look->before_count && seen[look->before_at].started_ns < started_ns)
        look->before_at++;
    bool known = look->before_at < look->before_count && seen[look->before_at].started_ns == started_ns;
    return known ? seen[look->before_at++].bytes : 0;
}

static void visit(void *arg, void *owner, const struct relay_state *state) {
    struct look *look = arg;
    const struct forward_route *route = owner;
    const struct forward_spec *spec = route->forward->spec;
    struct measure_sum *sum = look->sum;
    struct measure_seen seen = {.started_ns = look->now_ns - state->duration_ns,
                                .bytes = state->bytes_to_peer + state->bytes_from_peer};
    uint64_t before = bytes_before(look, seen.started_ns);
    uint64_t carried = seen.bytes > before ? seen.bytes - before : 0;
    sum->bytes += carried;
    sum->movable += spec->kind == FORWARD_LOCAL ? carried : 0;
    sum->heaviest = carried > sum->heaviest ? carried : sum->heaviest;
    look->measure->seen[look->at++] = seen;
}

static bool make_room(struct measure *measure, uint32_t count) {
    if (count <= measure->size)
        return true;
    struct measure_seen *seen = realloc(measure->seen, count * sizeof(*seen));
    if (seen == NULL)
        return false;
    measure->seen = seen;
    measure->size = count;
    return true;
}

bool measure_look(struct measure *measure, const struct session *session, struct measure_sum *sum) {
    uint64_t now_ns = shard_now(session->shard);
    bool recent = measure->looked_ns != 0 && now_ns - measure->looked_ns < 4 * LIMIT_SATURATION_WINDOW_NS;
    struct look look = {.measure = measure, .sum = sum, .now_ns = now_ns, .before_count = measure->count};
    *sum = (struct measure_sum){0};
    if (!make_room(measure, session->relays_count))
        return false;
    relay_for_each(session, visit, &look);
    measure->count = look.at;
    measure->looked_ns = now_ns;
    return recent;
}

void measure_deinit(struct measure *measure) {
    free(measure->seen);
    *measure = (struct measure){0};
}
