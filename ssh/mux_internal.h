#pragma once
/* What the files of the mux share: the table that governs a flow's life, the channel table, and the
 * scheduler. For mux*.c, flow.c, scheduler.c and their tests. */
#include "ssh/messages.h"
#include "ssh/mux.h"

#define REFUSAL_TEXT_BYTES 256u /* longer words of a refusal are cut */

enum flow_life {
    LIFE_OPENING,         /* we asked */
    LIFE_OPENING_ABORTED, /* we asked and want it no more: the peer's answer must come before we may close */
    LIFE_ASKED,           /* the peer asked */
    LIFE_REFUSING,        /* our refusal is due */
    LIFE_OPEN,            /* the halves rule */
    LIFE_CLOSE_DUE,       /* CLOSE due, the peer's not received */
    LIFE_CLOSE_ANSWER,    /* CLOSE due in answer to the peer's */
    LIFE_CLOSE_SENT,      /* waiting for the peer's */
    LIFE_CLOSED,
    LIFE_COUNT
};
enum flow_event {
    EVENT_CONFIRMED,    /* peer's OPEN_CONFIRMATION */
    EVENT_REFUSED,      /* peer's OPEN_FAILURE */
    EVENT_CONFIRM,      /* flow_confirm */
    EVENT_REFUSE,       /* flow_refuse */
    EVENT_REFUSAL_SENT, /* our OPEN_FAILURE is out */
    EVENT_ABORT,        /* flow_abort */
    EVENT_ENDED,        /* both halves have ended */
    EVENT_CLOSE,        /* peer's CLOSE */
    EVENT_CLOSE_SENT,   /* our CLOSE is out */
    EVENT_GONE,         /* the session is gone */
    EVENT_COUNT
};
enum flow_action {
    DO_CONFIRM = 1 << 0, /* make the message due */
    DO_REFUSE = 1 << 1,
    DO_CLOSE = 1 << 2,
    TELL_OPENED = 1 << 3, /* call the owner */
    TELL_REFUSED = 1 << 4,
    TELL_ABORTED = 1 << 5,
    TELL_CUT = 1 << 6, /* on_aborted, unless the peer's EOF came */
    TELL_CLOSED = 1 << 7,
    IS_VIOLATION = 1 << 8, /* the peer may not do this here */
    IS_BUG = 1 << 9        /* we may not */
};
struct flow_step {
    uint8_t next;
    uint16_t actions;
};
struct flow_step flow_step(enum flow_life life, enum flow_event event);
/* Moves the flow along the table, then does the actions; callbacks last, so the flow may be gone afterwards. text: the
 * words of a refusal, for TELL_REFUSED. ERR_PROTOCOL: the peer may not do this now, nothing changed. */
MUST_USE int flow_event(struct flow *flow, enum flow_event event, const char *text);

/* The halves; flow.c. */
enum half_event {
    HALF_BEGIN /* flow_end; EOF received */,
    HALF_FINISH /* EOF sent; flow_drained */
};
/* The half's next state: what is not a step forward leaves it as it is. */
enum flow_half flow_half_step(enum flow_half half, enum half_event event);

void flow_init(struct flow *flow, const struct flow_ops *ops, void *owner, enum flow_life life);
/* Links or unlinks the flow with the mux's control list as its due flags say. */
void flow_touch(struct flow *flow);
/* Makes due what follows the queue when that is empty: our request, then EOF if the app has ended. */
void flow_check_tail(struct flow *flow);
void flow_eof_sent(struct flow *flow);
/* Calls on_room when it was asked for and is worth it; a callback, so last. */
void flow_check_room(struct flow *flow);
MUST_USE int flow_set_text(struct flow *flow, const void *bytes, uint32_t len); /* ERR_NOMEM */
void flow_clear_text(struct flow *flow);

/* Answers owed to the peer's CHANNEL_REQUESTs, in their order; flow_request.c. */
struct flow_answers;
/* Owes one more answer: FAILURE, until flow_answer_success makes it SUCCESS. ERR_LIMIT, ERR_NOMEM. */
MUST_USE int flow_owe_answer(struct flow *flow);
/* The answer owed last. */
void flow_answer_success(struct flow *flow);
/* Takes the first answer: true: SUCCESS. There must be one. */
bool flow_take_answer(struct flow *flow);
void flow_drop_answers(struct flow *flow);
void flow_validate_answers(const struct flow *flow);

struct flow_text {
    uint32_t len;
    uint8_t bytes[];
};

/* A free channel number is taken before anyone is asked, so that there is one when the answer is yes. ERR_LIMIT,
 * ERR_NOMEM. */
MUST_USE int mux_take_number(struct mux *mux, uint32_t *id);
void mux_put_number(struct mux *mux, uint32_t id);
/* A window for one channel more. ERR_LIMIT: the budget does not hold it, or the session has as many channels as are
 * left for all others together. */
MUST_USE int mux_take_window(const struct mux *mux, struct window *window);
void mux_attach(struct mux *mux, struct flow *flow, uint32_t id);
/* Out of the table, lists and budget; its number is free again. */
void mux_detach(struct flow *flow);

struct mux_reply {
    struct list node;
    mux_reply_fn *fn;
    void *arg;
};
struct mux_blob {
    struct mux_blob *next;
    struct mux_reply *reply; /* own request: pending once this is sent */
    bool is_answer;
    uint32_t len;
    uint8_t bytes[];
};
/* Queues an answer to the peer. ERR_LIMIT: too many are waiting already; ERR_NOMEM. */
MUST_USE int mux_answer(struct mux *mux, const struct writer *packet);
struct mux_blob *mux_pop_blob(struct mux *mux);

/* The scheduler; scheduler.c. */
#define SCHEDULER_QUANTUM_BYTES (LIMIT_CHANNEL_PACKET_BYTES + MUX_DATA_HEADER_BYTES)
/* The flow's queue has just become non-empty. */
void scheduler_add(struct mux *mux, struct flow *flow);
/* The flow's queue was dropped. */
void scheduler_remove(struct flow *flow);
/* The flow whose turn it is and its first slot, taken off its queue and charged to it; NULL: nothing is queued. */
struct slot *scheduler_next(struct mux *mux, struct flow **flow);
