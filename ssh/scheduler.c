/* Deficit round robin with a fresh list, after fq_codel (RFC 8290 §4.2).
 *
 *   idle ──scheduler_add──► fresh ──quantum used up, or queue empty──► ready ──found empty on its turn──► idle
 *                                                                      ▲   │
 *                                                                      └───┘ quantum used up
 *
 * A flow that empties its queue passes through `ready` once before it can be fresh again; so in one round of the ready
 * flows each other flow gets at most one quantum ahead of them. A flow on a list always has a positive deficit, so the
 * first flow with a slot is served without a search; empty flows met on the way are paid for by their own packets. */
#include "engine/check.h"
#include "engine/limits.h"
#include "ssh/mux_internal.h"

void scheduler_add(struct mux *mux, struct flow *flow) {
    if (list_linked(&flow->ready))
        return;
    flow->deficit = (int32_t)SCHEDULER_QUANTUM_BYTES;
    flow->fresh = true;
    list_push_back(&mux->fresh, &flow->ready);
}

void scheduler_remove(struct flow *flow) {
    list_remove(&flow->ready);
    flow->fresh = false;
}

static void to_ready(struct mux *mux, struct flow *flow) {
    scheduler_remove(flow);
    list_push_back(&mux->ready, &flow->ready);
}

static struct flow *first_with_slot(struct mux *mux) {
    for (;;) {
        struct list *node = list_first(&mux->fresh);
        if (!node)
            node = list_first(&mux->ready);
        if (!node)
            return NULL;
        struct flow *flow = list_entry(node, struct flow, ready);
        if (flow->queue.count > 0)
            return flow;
        scheduler_remove(flow);
    }
}

struct slot *scheduler_next(struct mux *mux, struct flow **flow) {
    struct flow *turn = first_with_slot(mux);
    if (!turn)
        return NULL;
    struct slot *slot = slot_queue_pop(&turn->queue);
    turn->deficit -= (int32_t)(slot->len + MUX_DATA_HEADER_BYTES);
    bool spent = turn->deficit <= 0;
    if (spent)
        turn->deficit += (int32_t)SCHEDULER_QUANTUM_BYTES;
    if (spent || (turn->fresh && turn->queue.count == 0))
        to_ready(mux, turn);
    DCHECK(turn->deficit > 0);
    *flow = turn;
    return slot;
}
