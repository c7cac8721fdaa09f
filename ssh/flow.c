#include "ssh/flow.h"
#include "engine/check.h"
#include "engine/limits.h"
#include "ssh/mux_internal.h"
#include <stdlib.h>
#include <string.h>

/* The life of a flow: state × event → next state and actions. BAD: the peer breaks RFC 4254; BUG: we do; HERE: nothing
 * happens. The app's events are HERE where it cannot know yet that the flow is going or gone. */
#define TO(next, actions)                                                                                              \
    { LIFE_##next, (actions) }
#define BAD                                                                                                            \
    { 0, IS_VIOLATION }
#define BUG                                                                                                            \
    { 0, IS_BUG }

static const struct flow_step life_table[LIFE_COUNT][EVENT_COUNT] =
    {
        [LIFE_OPENING] =
            {
                [EVENT_CONFIRMED] = TO(OPEN, TELL_OPENED),
                [EVENT_REFUSED] = TO(CLOSED, TELL_REFUSED),
                [EVENT_CONFIRM] = BUG,
                [EVENT_REFUSE] = BUG,
                [EVENT_REFUSAL_SENT] = BUG,
                [EVENT_ABORT] = TO(OPENING_ABORTED, 0),
                [EVENT_ENDED] = BUG,
                [EVENT_CLOSE] = BAD,
                [EVENT_CLOSE_SENT] = BUG,
                [EVENT_GONE] = TO(CLOSED, TELL_REFUSED),
            },
        [LIFE_OPENING_ABORTED] =
            {
                [EVENT_CONFIRMED] = TO(CLOSE_DUE, DO_CLOSE),
                [EVENT_REFUSED] = TO(CLOSED, TELL_CLOSED),
                [EVENT_CONFIRM] = BUG,
                [EVENT_REFUSE] = BUG,
                [EVENT_REFUSAL_SENT] = BUG,
                [EVENT_ABORT] = TO(OPENING_ABORTED, 0),
                [EVENT_ENDED] = BUG,
                [EVENT_CLOSE] = BAD,
                [EVENT_CLOSE_SENT] = BUG,
                [EVENT_GONE] = TO(CLOSED, TELL_CLOSED),
            },
        [LIFE_ASKED] =
            {
                [EVENT_CONFIRMED] = BAD,
                [EVENT_REFUSED] = BAD,
                [EVENT_CONFIRM] = TO(OPEN, DO_CONFIRM),
                [EVENT_REFUSE] = TO(REFUSING, DO_REFUSE),
                [EVENT_REFUSAL_SENT] = BUG,
                [EVENT_ABORT] = TO(REFUSING, DO_REFUSE),
                [EVENT_ENDED] = BUG,
                [EVENT_CLOSE] = BAD,
                [EVENT_CLOSE_SENT] = BUG,
                [EVENT_GONE] = TO(CLOSED, TELL_ABORTED | TELL_CLOSED),
            },
        [LIFE_REFUSING] =
            {
                [EVENT_CONFIRMED] = BAD,
                [EVENT_REFUSED] = BAD,
                [EVENT_CONFIRM] = TO(REFUSING, 0),
                [EVENT_REFUSE] = TO(REFUSING, 0),
                [EVENT_REFUSAL_SENT] = TO(CLOSED, TELL_CLOSED),
                [EVENT_ABORT] = TO(REFUSING, 0),
                [EVENT_ENDED] = BUG,
                [EVENT_CLOSE] = BAD,
                [EVENT_CLOSE_SENT] = BUG,
                [EVENT_GONE] = TO(CLOSED, TELL_CLOSED),
            },
        [LIFE_OPEN] =
            {
                [EVENT_CONFIRMED] = BAD,
                [EVENT_REFUSED] = BAD,
                [EVENT_CONFIRM] = BUG,
                [EVENT_REFUSE] = BUG,
                [EVENT_REFUSAL_SENT] = BUG,
                [EVENT_ABORT] = TO(CLOSE_DUE, DO_CLOSE),
                [EVENT_ENDED] = TO(CLOSE_DUE, DO_CLOSE),
                [EVENT_CLOSE] = TO(CLOSE_ANSWER, DO_CLOSE | TELL_CUT),
                [EVENT_CLOSE_SENT] = BUG,
                [EVENT_GONE] = TO(CLOSED, TELL_ABORTED | TELL_CLOSED),
            },
        [LIFE_CLOSE_DUE] =
            {
                [EVENT_CONFIRMED] = BAD,
                [EVENT_REFUSED] = BAD,
                [EVENT_CONFIRM] = TO(CLOSE_DUE, 0),
                [EVENT_REFUSE] = TO(CLOSE_DUE, 0),
                [EVENT_REFUSAL_SENT] = BUG,
                [EVENT_ABORT] = TO(CLOSE_DUE, 0),
                [EVENT_ENDED] = BUG,
                [EVENT_CLOSE] = TO(CLOSE_ANSWER, 0),
                [EVENT_CLOSE_SENT] = TO(CLOSE_SENT, 0),
                [EVENT_GONE] = TO(CLOSED, TELL_CLOSED),
            },
        [LIFE_CLOSE_ANSWER] =
            {
                [EVENT_CONFIRMED] = BAD,
                [EVENT_REFUSED] = BAD,
                [EVENT_CONFIRM] = TO(CLOSE_ANSWER, 0),
                [EVENT_REFUSE] = TO(CLOSE_ANSWER, 0),
                [EVENT_REFUSAL_SENT] = BUG,
                [EVENT_ABORT] = TO(CLOSE_ANSWER, 0),
                [EVENT_ENDED] = BUG,
                [EVENT_CLOSE] = BAD,
                [EVENT_CLOSE_SENT] = TO(CLOSED, TELL_CLOSED),
                [EVENT_GONE] = TO(CLOSED, TELL_CLOSED),
            },
        [LIFE_CLOSE_SENT] =
            {
                [EVENT_CONFIRMED] = BAD,
                [EVENT_REFUSED] = BAD,
                [EVENT_CONFIRM] = TO(CLOSE_SENT, 0),
                [EVENT_REFUSE] = TO(CLOSE_SENT, 0),
                [EVENT_REFUSAL_SENT] = BUG,
                [EVENT_ABORT] = TO(CLOSE_SENT, 0),
                [EVENT_ENDED] = BUG,
                [EVENT_CLOSE] = TO(CLOSED, TELL_CLOSED),
                [EVENT_CLOSE_SENT] = BUG,
                [EVENT_GONE] = TO(CLOSED, TELL_CLOSED),
            },
        [LIFE_CLOSED] =
            {
                [EVENT_CONFIRMED] = BUG,
                [EVENT_REFUSED] = BUG,
                [EVENT_CONFIRM] = TO(CLOSED, 0),
                [EVENT_REFUSE] = TO(CLOSED, 0),
                [EVENT_REFUSAL_SENT] = BUG,
                [EVENT_ABORT] = TO(CLOSED, 0),
                [EVENT_ENDED] = BUG,
                [EVENT_CLOSE] = BUG,
                [EVENT_CLOSE_SENT] = BUG,
                [EVENT_GONE] = BUG,
            },
};

static const enum flow_phase phases[LIFE_COUNT] = {
    [LIFE_OPENING] = FLOW_OPENING,
    [LIFE_OPENING_ABORTED] = FLOW_OPENING,
    [LIFE_ASKED] = FLOW_ASKED,
    [LIFE_REFUSING] = FLOW_ASKED,
    [LIFE_OPEN] = FLOW_OPEN,
    [LIFE_CLOSE_DUE] = FLOW_CLOSING,
    [LIFE_CLOSE_ANSWER] = FLOW_CLOSING,
    [LIFE_CLOSE_SENT] = FLOW_CLOSING,
    [LIFE_CLOSED] = FLOW_CLOSED,
};

/* Either half by itself; both ended makes EVENT_ENDED. */
static const enum flow_half half_table[3][2] = {
    [FLOW_HALF_OPEN] = {[HALF_BEGIN] = FLOW_HALF_DRAINING, [HALF_FINISH] = FLOW_HALF_OPEN},
    [FLOW_HALF_DRAINING] = {[HALF_BEGIN] = FLOW_HALF_DRAINING, [HALF_FINISH] = FLOW_HALF_ENDED},
    [FLOW_HALF_ENDED] = {[HALF_BEGIN] = FLOW_HALF_ENDED, [HALF_FINISH] = FLOW_HALF_ENDED},
};

struct flow_step flow_step(enum flow_life life, enum flow_event event) {
    return life_table[life][event];
}

enum flow_half flow_half_step(enum flow_half half, enum half_event event) {
    return half_table[half][event];
}

void flow_init(struct flow *flow, const struct flow_ops *ops, void *owner, enum flow_life life) {
    *flow = (struct flow){.ops = ops, .owner = owner, .life = (uint8_t)life, .phase = phases[life]};
    slot_queue_init(&flow->queue);
    list_init(&flow->ready);
    list_init(&flow->control);
}

void flow_init_asked(struct flow *flow, const struct flow_ops *ops, void *owner) {
    flow_init(flow, ops, owner, LIFE_ASKED);
}

int flow_set_text(struct flow *flow, const void *bytes, uint32_t len) {
    struct flow_text *text = malloc(sizeof *text + len);
    if (!text)
        return ERR_NOMEM;
    text->len = len;
    memcpy(text->bytes, bytes, len);
    flow->text = text;
    return 0;
}

void flow_clear_text(struct flow *flow) {
    free(flow->text);
    flow->text = NULL;
}

static bool control_due(const struct flow *flow) {
    return flow->open_due || flow->confirm_due || flow->refusal_due || flow->answers || flow->adjust_due ||
           flow->request_due || flow->eof_due || flow->close_due;
}

void flow_touch(struct flow *flow) {
    if (!flow->mux) /* answered within on_open: linked when the mux has got the flow */
        return;
    bool due = control_due(flow);
    if (due && !list_linked(&flow->control))
        list_push_back(&flow->mux->control, &flow->control);
    if (!due)
        list_remove(&flow->control);
}

/* Nothing but an open, a confirmation and CLOSE is said any more; what was queued goes to *dropped. */
static void silence(struct flow *flow, struct slot_queue *dropped) {
    flow->in = flow->out = FLOW_HALF_ENDED;
    flow->adjust_due = flow->request_due = flow->eof_due = flow->room_wanted = false;
    if (!flow->open_due)
        flow_clear_text(flow);
    flow_drop_answers(flow);
    window_release(&flow->window);
    scheduler_remove(flow);
    if (flow->mux) {
        flow->mux->flows_queued -= flow->queue.count > 0;
        flow->mux->queued_bytes -= flow->queue.bytes;
        flow->mux->queued_slots -= flow->queue.count;
    }
    struct slot *slot;
    while ((slot = slot_queue_pop(&flow->queue)))
        slot_queue_push(dropped, slot);
}

static void tell(struct flow *flow, unsigned actions, bool cut, const char *text) {
    if (actions & TELL_OPENED)
        flow->ops->on_opened(flow);
    if (actions & TELL_REFUSED)
        flow->ops->on_refused(flow, flow->refusal_reason, text);
    if ((actions & TELL_ABORTED) || cut)
        flow->ops->on_aborted(flow);
    if (actions & TELL_CLOSED)
        flow->ops->on_closed(flow);
}

static bool event_closes(struct flow_step step) {
    return (step.actions & (TELL_CLOSED | TELL_REFUSED)) != 0;
}

int flow_event(struct flow *flow, enum flow_event event, const char *text) {
    struct flow_step step = flow_step(flow->life, event);
    CHECK(!(step.actions & IS_BUG));
    if (step.actions & IS_VIOLATION)
        return ERR_PROTOCOL;
    if (step.next == flow->life) /* no row stays and acts; and a closed flow's mux may be gone */
        return 0;
    flow->life = step.next;
    flow->phase = phases[step.next];
    if (step.actions & DO_CONFIRM)
        flow->confirm_due = true;
    if (step.actions & DO_REFUSE)
        flow->refusal_due = true;
    if (step.actions & DO_CLOSE)
        flow->close_due = true;
    struct slot_queue dropped;
    slot_queue_init(&dropped);
    if (flow->phase >= FLOW_CLOSING || step.next == LIFE_OPENING_ABORTED)
        silence(flow, &dropped);
    if (event_closes(step))
        mux_detach(flow);
    else
        flow_touch(flow);
    struct slot *slot;
    while ((slot = slot_queue_pop(&dropped)))
        slot_put(flow->slots, slot);
    tell(flow, step.actions, (step.actions & TELL_CUT) && !flow->eof_received, text);
    return 0;
}

/* For events of our own side, which the table never calls a violation. */
static void own_event(struct flow *flow, enum flow_event event) {
    int result = flow_event(flow, event, NULL);
    CHECK(result == 0);
}

static void check_ended(struct flow *flow) {
    if (flow->life == LIFE_OPEN && flow->in == FLOW_HALF_ENDED && flow->out == FLOW_HALF_ENDED)
        own_event(flow, EVENT_ENDED);
}

void flow_check_tail(struct flow *flow) {
    if (flow->life != LIFE_OPEN || flow->queue.count > 0)
        return;
    flow->request_due = flow->text != NULL;
    flow->eof_due = flow->in == FLOW_HALF_DRAINING;
    flow_touch(flow);
}

void flow_eof_sent(struct flow *flow) {
    flow->in = flow_half_step(flow->in, HALF_FINISH);
    check_ended(flow);
}

uint64_t flow_room(struct flow *flow) {
    if (flow->phase != FLOW_OPEN || flow->in != FLOW_HALF_OPEN)
        return 0;
    uint64_t space = LIMIT_FLOW_QUEUE_BYTES - flow->queue.bytes;
    uint64_t room = flow->peer_window < space ? flow->peer_window : space;
    flow->room_wanted = room == 0 || room < flow->peer_packet_max;
    return room;
}

void flow_check_room(struct flow *flow) {
    if (!flow->room_wanted || flow->queue.bytes > LIMIT_FLOW_QUEUE_BYTES / 2)
        return;
    uint64_t room = flow_room(flow);
    if (room == 0 || (room < flow->peer_packet_max && flow->queue.count > 0))
        return;
    flow->room_wanted = false;
    flow->ops->on_room(flow);
}

void flow_send(struct flow *flow, struct slot *slot) {
    if (flow->phase != FLOW_OPEN) {
        slot_put(flow->slots, slot);
        return;
    }
    CHECK(flow->in == FLOW_HALF_OPEN);
    CHECK(slot->len > 0 && slot->len <= flow->peer_packet_max && slot->len <= flow->peer_window);
    CHECK(flow->queue.bytes + slot->len <= LIMIT_FLOW_QUEUE_BYTES);
    flow->peer_window -= slot->len;
    flow->mux->queued_bytes += slot->len;
    flow->mux->queued_slots++;
    flow->mux->flows_queued += flow->queue.count == 0;
    slot_queue_push(&flow->queue, slot);
    scheduler_add(flow->mux, flow);
}

void flow_end(struct flow *flow) {
    flow->in = flow_half_step(flow->in, HALF_BEGIN);
    flow_check_tail(flow);
}

void flow_consumed(struct flow *flow, uint32_t bytes) {
    if (flow->phase == FLOW_OPEN || flow->ops->holds)
        window_consume(&flow->window, bytes);
    if (flow->phase != FLOW_OPEN || flow->eof_received || flow->adjust_due ||
        !window_grant_due_within(&flow->window, flow->mux->grant_most))
        return;
    flow->adjust_due = true;
    flow_touch(flow);
}

void flow_drained(struct flow *flow) {
    if (flow->phase != FLOW_OPEN)
        return;
    CHECK(flow->out != FLOW_HALF_OPEN);
    flow->out = flow_half_step(flow->out, HALF_FINISH);
    check_ended(flow);
}

void flow_abort(struct flow *flow) {
    if (flow->life == LIFE_ASKED) {
        flow_refuse(flow, OPEN_CONNECT_FAILED, "");
        return;
    }
    own_event(flow, EVENT_ABORT);
}

void flow_close(struct flow *flow) {
    if (flow->life != LIFE_OPEN && flow->life != LIFE_OPENING) {
        flow_abort(flow);
        return;
    }
    flow->leaving = true;
    flow->out = FLOW_HALF_ENDED;
    window_release(&flow->window);
    flow_end(flow);
    check_ended(flow);
}

void flow_confirm(struct flow *flow) {
    own_event(flow, EVENT_CONFIRM);
    flow_check_tail(flow);
}

void flow_refuse(struct flow *flow, uint32_t reason, const char *text) {
    if (flow->life == LIFE_ASKED) {
        size_t len = strnlen(text, REFUSAL_TEXT_BYTES);
        flow->refusal_reason = reason;
        if (flow_set_text(flow, text, (uint32_t)len) != 0)
            flow->text = NULL; /* the reason's number says enough */
    }
    own_event(flow, EVENT_REFUSE);
}

void flow_validate(const struct flow *flow) {
    CHECK(flow->life < LIFE_COUNT && flow->phase == phases[flow->life]);
    CHECK(flow->peer_window + flow->queue.bytes <= UINT32_MAX);
    CHECK(flow->queue.bytes <= LIMIT_FLOW_QUEUE_BYTES);
    CHECK((flow->queue.count == 0) == (flow->queue.bytes == 0));
    CHECK(flow->queue.count == 0 || list_linked(&flow->ready));
    CHECK(!flow->fresh || list_linked(&flow->ready));
    CHECK(list_linked(&flow->control) == (flow->mux && flow->phase != FLOW_CLOSED && control_due(flow)));
    CHECK(flow->close_due == (flow->life == LIFE_CLOSE_DUE || flow->life == LIFE_CLOSE_ANSWER));
    CHECK(flow->refusal_due == (flow->life == LIFE_REFUSING));
    CHECK(!flow->eof_due || (flow->in == FLOW_HALF_DRAINING && flow->queue.count == 0));
    CHECK(!flow->request_due || (flow->life == LIFE_OPEN && flow->text));
    CHECK(!flow->adjust_due || (flow->life == LIFE_OPEN && !flow->eof_received));
    if (flow->life == LIFE_OPEN) {
        CHECK(!(flow->in == FLOW_HALF_ENDED && flow->out == FLOW_HALF_ENDED));
        CHECK((flow->eof_received || flow->leaving) == (flow->out != FLOW_HALF_OPEN));
    }
    if (flow->phase >= FLOW_CLOSING)
        CHECK(flow->queue.count == 0 && !list_linked(&flow->ready) && !flow->answers);
    flow_validate_answers(flow);
    window_validate(&flow->window);
}
