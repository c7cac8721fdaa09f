#pragma once
/* One forwarded connection as an SSH channel (RFC 4254 §5): identity, state, credit, queue. Pure; belongs to one mux.
 *
 * Two halves and the closing handshake:
 *   in  (app → peer)   OPEN ──flow_end──► DRAINING ──queue empty, EOF sealed──► ENDED
 *   out (peer → app)   OPEN ──EOF received──► DRAINING ──flow_drained──► ENDED
 *   CLOSE is sent once both halves are ENDED, or at once by flow_abort, or in answer to the peer's CLOSE.
 *   The flow is gone (on_closed) when CLOSE was sent and received.
 * The whole table is in flow.c; events change state, actions never do. Sent means: taken by mux_next. Per flow the
 * order is CHANNEL_OPEN or its confirmation, then data with WINDOW_ADJUST and request replies in between, EOF, CLOSE.
 *
 * Once a flow is CLOSING or CLOSED (aborted, or the peer's CLOSE came) both halves are ENDED and every flow function is
 * a no-op, so that an owner whose socket is still busy need not look first; but for flow_consumed of an owner that
 * holds (flow_ops). */
#include "engine/list.h"
#include "engine/slot.h"
#include "ssh/codec.h"
#include "ssh/pace.h"
#include "ssh/window.h"

struct mux;
struct flow;

enum flow_phase {
    FLOW_OPENING /* we asked */,
    FLOW_ASKED /* the peer asked, not answered */,
    FLOW_OPEN,
    FLOW_CLOSING /* our CLOSE is out or due */,
    FLOW_CLOSED
};
enum flow_half { FLOW_HALF_OPEN, FLOW_HALF_DRAINING, FLOW_HALF_ENDED };

/* All from within mux_input, or mux_next (on_room, on_closed). The owner may call any flow function from within, and
 * frees the flow no earlier than on_closed. */
struct flow_ops {
    /* The owner holds what on_data gave it for as long as its application takes, on_closed or not: it counts against
     * the window budget until flow_consumed, of which none may be left out. Otherwise all is given back at the end. */
    bool holds;
    void (*on_opened)(struct flow *flow);
    /* The peer refused (RFC 4254 §5.1 reason; text escaped), or the session ended first. The flow is gone: last call.
     * An OPENING flow that was aborted gets on_closed instead. */
    void (*on_refused)(struct flow *flow, uint32_t reason, const char *text);
    /* Payload in place, in the session's ring: hold it (rxbuf_hold) or copy it before returning. flow_consumed gives it
     * back. */
    void (*on_data)(struct flow *flow, uint8_t *data, uint32_t len);
    /* flow_room() was too small for a packet and is worth reading for again: a packet fits and at most half of the
     * queue is waiting, or nothing at all is waiting and there is any room (a peer whose whole window is tiny). */
    void (*on_room)(struct flow *flow);
    /* CHANNEL_REQUEST (RFC 4254 §5.4): true: SUCCESS, false: FAILURE, where an answer is wanted; answers go out in the
     * order of the requests. NULL: all refused. */
    bool (*on_request)(struct flow *flow, struct bytes name, struct bytes data);
    void (*on_eof)(struct flow *flow); /* the peer will send no more; finish the app's write side, then flow_drained */
    /* The peer closed without EOF: what it sent is cut short; abort the app's connection. The flow answers CLOSE by
     * itself. */
    void (*on_aborted)(struct flow *flow);
    /* The channel number is free again; last call. When on_eof came before, what was delivered may still be on its way
     * to the app; the app's own sending has nowhere to go any more. */
    void (*on_closed)(struct flow *flow);
};

struct flow {
    struct mux *mux;
    const struct flow_ops *ops;
    void *owner;
    uint32_t id, peer_id;
    uint8_t phase;   /* enum flow_phase */
    uint8_t in, out; /* enum flow_half */
    uint8_t life;    /* private: row of the table in flow.c */
    /* app → peer */
    uint32_t peer_packet_max; /* the peer's, or our slots' payload if that is less */
    uint64_t peer_window;     /* granted by the peer, not yet queued against; ≤ 2^32 - 1 */
    struct slot_queue queue;
    /* peer → app */
    struct window window;
    uint64_t bytes_to_peer, bytes_from_peer;
    /* private */
    struct list ready;            /* linked while the scheduler looks at it */
    struct list control;          /* linked while a control message is due */
    struct flow_answers *answers; /* owed to the peer's CHANNEL_REQUESTs; NULL: none */
    struct flow_text *text;       /* the CHANNEL_OPEN to be sent, the refusal's words, or when OPEN our request */
    struct slot_pool *slots;
    int32_t deficit;
    uint32_t refusal_reason;
    struct pace pace;   /* fills what would be padding: a relay more than 768 bytes takes 896 of the allocator */
    bool dead : 1;      /* the session is gone: tells on_aborted, on_refused and on_closed why */
    bool announced : 1; /* the peer knows our channel number */
    bool eof_received : 1, room_wanted : 1;
    bool leaving : 1; /* flow_close was called */
    bool fresh : 1;   /* on the scheduler's fresh list */
    /* control messages to be built */
    bool open_due : 1, confirm_due : 1, refusal_due : 1, adjust_due : 1, request_due : 1, eof_due : 1, close_due : 1;
};

/* Bytes that may be queued now: peer window, and not more than LIMIT_FLOW_QUEUE_BYTES waiting. When it is less than
 * peer_packet_max on_room comes later; the caller may use what there is all the same. 0 unless OPEN. */
uint64_t flow_room(struct flow *flow);
/* Queues one slot (1 ≤ len ≤ peer_packet_max, len ≤ flow_room); the mux owns it until sealed, and its window is
 * reserved now. Not after flow_end. After close or abort: put back to the pool at once. */
void flow_send(struct flow *flow, struct slot *slot);
/* CHANNEL_REQUEST of ours without reply, such as "exit-status" (§6.10): sent after what is queued (and what is queued
 * before the queue has emptied) and before EOF. At most one is waiting at a time (CHECKed); ERR_NOMEM, ERR_LENGTH:
 * nothing was queued. No-op unless OPEN. */
MUST_USE int flow_request(struct flow *flow, const char *name, const void *data, uint32_t len);
void flow_end(struct flow *flow);                      /* app's EOF: EOF follows the queue; idempotent */
void flow_consumed(struct flow *flow, uint32_t bytes); /* bytes have left for the app: window credit */
void flow_drained(struct flow *flow);                  /* everything after on_eof has left for the app */
void flow_abort(struct flow *flow); /* the app's connection broke: CLOSE without EOF, queue dropped */
/* The app has said all and takes no more: the queue, our request and EOF go out, then CLOSE without waiting for the
 * peer's EOF. Until on_closed on_data may still come, for the owner to drop with flow_consumed. While OPENING the peer
 * is told once it has confirmed (on_opened). Idempotent; as flow_abort in every other phase.
 * From then on, as from flow_abort on, what was not consumed counts against the window budget, or the smallest window
 * if that is more: however long the peer takes for its answer, nothing is kept for it. */
void flow_close(struct flow *flow);
/* Answers to a peer's CHANNEL_OPEN (phase ASKED): */
void flow_confirm(struct flow *flow);
/* The flow is gone once the refusal is out (on_closed). */
void flow_refuse(struct flow *flow, uint32_t reason, const char *text);
void flow_validate(const struct flow *flow);
