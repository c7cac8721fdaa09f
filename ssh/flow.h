#pragma once
/* One forwarded connection as an SSH channel (RFC 4254 §5): identity, state, credit, queue. Pure; belongs to one mux.
 *
 * Two halves and the closing handshake:
 *   in  (app → peer)   OPEN ──flow_end──► DRAINING ──queue empty, EOF sealed──► ENDED
 *   out (peer → app)   OPEN ──EOF received──► DRAINING ──flow_drained──► ENDED
 *   CLOSE is sent once both halves are ENDED, or at once by flow_abort, or in answer to the peer's CLOSE.
 *   The flow is gone (on_closed) when CLOSE was sent and received.
 * The whole table is in flow.c; events change state, actions never do. */
#include "engine/list.h"
#include "engine/slot.h"
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
    void (*on_opened)(struct flow *flow);
    /* The peer refused (RFC 4254 §5.1 reason; text escaped). The flow is gone: last call. */
    void (*on_refused)(struct flow *flow, uint32_t reason, const char *text);
    /* Payload in place, in the session's ring: hold it (rxbuf_hold) or copy it before returning. flow_consumed gives it
     * back. */
    void (*on_data)(struct flow *flow, uint8_t *data, uint32_t len);
    /* flow_room() has become larger after it was too small for a packet. */
    void (*on_room)(struct flow *flow);
    void (*on_eof)(struct flow *flow); /* the peer will send no more; finish the app's write side, then flow_drained */
    /* The peer closed without EOF: what it sent is cut short; abort the app's connection. The flow answers CLOSE by
     * itself. */
    void (*on_aborted)(struct flow *flow);
    void (*on_closed)(struct flow *flow); /* channel number is free again; last call */
};

struct flow {
    struct mux *mux;
    const struct flow_ops *ops;
    void *owner;
    uint32_t id, peer_id;
    enum flow_phase phase;
    enum flow_half in, out;
    bool close_sent, close_received, close_due, eof_due, open_due, confirm_due, adjust_due, room_wanted,
        dead /* session gone */;
    /* app → peer */
    struct slot_queue queue;
    uint64_t peer_window; /* granted by the peer, not yet queued against; ≤ 2^32 - 1 */
    uint32_t peer_packet_max;
    int32_t deficit;
    struct list ready;   /* linked while data may be sent */
    struct list control; /* linked while a control message is due */
    /* peer → app */
    struct window window;
    uint32_t adjust_bytes;
    uint64_t bytes_to_peer, bytes_from_peer, packets_to_peer;
    struct flow_open *open_request; /* private: the CHANNEL_OPEN to be sent, or the refusal */
};

/* Bytes that may be queued now: peer window, and not more than LIMIT_FLOW_QUEUE_BYTES waiting. When it is 0 (or the
 * caller could not use it) on_room comes later. */
uint64_t flow_room(struct flow *flow);
/* Queues one slot (1 ≤ len ≤ peer_packet_max, len ≤ what flow_room said); the mux owns it until sealed. After close or
 * abort: put back to the pool at once. */
void flow_send(struct flow *flow, struct slot *slot);
void flow_end(struct flow *flow);                      /* app's EOF: EOF follows the queue; idempotent */
void flow_consumed(struct flow *flow, uint32_t bytes); /* bytes have left for the app: window credit */
void flow_drained(struct flow *flow);                  /* everything after on_eof has left for the app */
void flow_abort(struct flow *flow); /* the app's connection broke: CLOSE without EOF, queue dropped */
/* Answers to a peer's CHANNEL_OPEN (phase ASKED): */
void flow_confirm(struct flow *flow);
/* The flow is gone once the refusal is out (on_closed). */
void flow_refuse(struct flow *flow, uint32_t reason, const char *text);
void flow_validate(const struct flow *flow);
