#pragma once
/* The connection protocol, RFC 4254, as far as forwarding needs it: messages 80–127, the channel table, the scheduler.
 * Pure: packets in (mux_input), packets out (mux_next), time as an argument; no sockets, no wire.
 *
 *   control messages ──────────────► first
 *   new and sparse flows ──────────► then          one packet per call of mux_next; whoever sends decides when to stop,
 *   bulk flows, deficit round robin► then          and seals only then
 *
 * Fair as fq_codel is: a flow that starts to send after a pause is fresh for one quantum (a packet of the largest
 * size), then it waits its turn among the bulk flows, so that neither starves the other.
 *
 * One thread; belongs to one session. Callbacks come last in whatever called them, so they may call back: any flow_ and
 * mux_ function but mux_input, mux_next and mux_deinit; mux_shutdown not from mux_ops. */
#include "engine/error.h"
#include "ssh/codec.h"
#include "ssh/flow.h"

/* RFC 4254 §5.1 */
enum open_failure {
    OPEN_ADMINISTRATIVELY_PROHIBITED = 1,
    OPEN_CONNECT_FAILED = 2,
    OPEN_UNKNOWN_CHANNEL_TYPE = 3,
    OPEN_RESOURCE_SHORTAGE = 4
};

/* A peer's CHANNEL_OPEN (RFC 4254 §6.1, §7.2; OpenSSH's PROTOCOL §2.4; striped.h). Strings point into the packet. */
enum mux_open_kind {
    MUX_OPEN_OTHER,                 /* any other type: refused by whoever does not know it */
    MUX_OPEN_SESSION,               /* "session" */
    MUX_OPEN_DIRECT_TCPIP,          /* host and port to connect to; origin */
    MUX_OPEN_FORWARDED_TCPIP,       /* host and port that were connected to; origin */
    MUX_OPEN_DIRECT_STREAMLOCAL,    /* "direct-streamlocal@openssh.com": host is the path */
    MUX_OPEN_FORWARDED_STREAMLOCAL, /* "forwarded-streamlocal@openssh.com": host is the path that was connected to */
    MUX_OPEN_STRIPE,                /* "stripe@leat": as direct-tcpip, then string key */
    MUX_OPEN_STRIPE_JOIN,           /* "stripe-join@leat": string key, uint32 lane */
};
#define MUX_STRIPE_KEY_BYTES 16u
struct mux_open {
    struct bytes type; /* as sent */
    enum mux_open_kind kind;
    struct bytes host, origin;  /* without NUL */
    uint32_t port, origin_port; /* as sent: may be no port at all */
    const uint8_t *stripe_key;  /* MUX_STRIPE_KEY_BYTES, of the stripe kinds; else NULL */
    uint32_t stripe_lane;       /* of STRIPE_JOIN: its identity (stripe.h), as sent */
};

struct mux_ops {
    /* Returns the flow to take the channel (initialised with flow_init_asked, answered later or at once by flow_confirm
     * or flow_refuse), or NULL with *reason and *text set: refused. */
    struct flow *(*on_open)(struct mux *mux, const struct mux_open *open, uint32_t *reason, const char **text);
    /* GLOBAL_REQUEST (§4). want_reply: true → SUCCESS with reply[0..*reply_len) (cap MUX_REPLY_BYTES, 0 at entry),
     * false → FAILURE. */
    bool (*on_global)(struct mux *mux, struct bytes name, struct bytes data, uint8_t *reply, uint32_t *reply_len);
    /* A CHANNEL_OPEN was refused for want of a number or a window, and `why` tells people which limit that is; on_open
     * was not asked. May be NULL. */
    void (*on_shortage)(struct mux *mux, const struct mux_open *open, const char *why);
};
#define MUX_REPLY_BYTES 96u

typedef void mux_reply_fn(void *arg, bool success, struct bytes data);

struct mux {
    const struct mux_ops *ops;
    void *owner;
    struct slot_pool *slots;
    struct window_budget *budget;
    uint32_t window_max, packet_max;
    uint32_t grant_most;   /* no flow's peer is granted more at once; UINT32_MAX: what its window is */
    uint64_t queued_bytes; /* waiting in all flows */
    uint32_t queued_slots; /* the same, in slots */
    uint32_t flows_queued; /* flows that have something waiting */
    uint32_t flows_count;
    uint32_t sparse_packets; /* of sparse flows (pace.h), in and out, ever; wraps around */
    /* private */
    struct flow **flows; /* by our channel number; grown by doubling to LIMIT_FLOWS_PER_SESSION */
    uint32_t *free_next; /* a free number's successor in the free list */
    uint32_t flows_size, free_first;
    struct list control, fresh, ready;          /* flows with something due */
    struct list replies_pending;                /* own global requests sent and waiting for an answer, in order */
    uint32_t replies_pending_count;             /* sent or not */
    struct mux_blob *blobs_first, **blobs_last; /* session-level control messages, in order */
    uint32_t answers_count;                     /* blobs that answer the peer; bounded */
    bool shut;
};

void mux_init(struct mux *mux, const struct mux_ops *ops, void *owner, struct slot_pool *slots,
              struct window_budget *budget, uint32_t window_max);
/* The session is gone: every flow that its owner still counts on gets on_aborted and on_closed (on_refused while
 * opening), one that is on its way out just on_closed; replies get failure, slots go back. Idempotent; afterwards
 * nothing can be opened or requested (ERR_CLOSED). */
void mux_shutdown(struct mux *mux);
void mux_deinit(struct mux *mux); /* CHECKs that no flow is left */
void mux_validate(const struct mux *mux);

/* Windows, those of open channels too, may grow to `max` from now on; less than before changes nothing. */
void mux_raise_window(struct mux *mux, uint32_t max);

#define MUX_SHORTAGE_BYTES 96u
/* There is no window for one channel more, and `why` says so to people. Other threads' channels may take the last at
 * any time. */
bool mux_lacks_window(const struct mux *mux, char why[MUX_SHORTAGE_BYTES]);

/* One opened packet of 80–127. ERR_PROTOCOL with *why (static text): the session must end with DISCONNECT (2).
 * ERR_LIMIT: the peer asks without reading our answers; ERR_NOMEM; both with *why, and the session must end too.
 * ERR_UNSUPPORTED: no message of RFC 4254; nothing changed, and the peer is owed an UNIMPLEMENTED (RFC 4253 §11.4). */
MUST_USE int mux_input(struct mux *mux, uint8_t *payload, uint32_t len, uint64_t now_ns, const char **why);

enum mux_kind { MUX_NOTHING, MUX_CONTROL, MUX_DATA };
/* The next packet to seal, or nothing. CONTROL: *len payload bytes were written to control[0..cap), cap ≥
 * MUX_CONTROL_BYTES.
 * DATA: *slot's payload is preceded by the CHANNEL_DATA header (9 bytes in its headroom); the packet's payload starts
 * at slot->data - 9 and is slot->len + 9 long; the caller owns the slot and puts it back after sending. */
MUST_USE enum mux_kind mux_next(struct mux *mux, uint64_t now_ns, uint8_t *control, uint32_t cap, uint32_t *len,
                                struct slot **slot);
#define MUX_CONTROL_BYTES 2048u
#define MUX_DATA_HEADER_BYTES 9u
bool mux_pending(const struct mux *mux);

/* Opens a channel "direct-tcpip" (§7.2) to host:port. The flow is initialised here; on_opened or on_refused follows.
 * ERR_LIMIT: no channel number or window budget; ERR_LENGTH: name too long; ERR_NOMEM; ERR_CLOSED. Nothing is kept
 * then. */
MUST_USE int mux_open_direct(struct mux *mux, struct flow *flow, const struct flow_ops *ops, void *owner,
                             const char *host, uint16_t port, const char *origin, uint16_t origin_port);
/* The same with type "forwarded-tcpip" (servers). */
MUST_USE int mux_open_forwarded(struct mux *mux, struct flow *flow, const struct flow_ops *ops, void *owner,
                                const char *host, uint16_t port, const char *origin, uint16_t origin_port);
/* "forwarded-streamlocal@openssh.com" (servers): a connection to the Unix socket at path. */
MUST_USE int mux_open_forwarded_path(struct mux *mux, struct flow *flow, const struct flow_ops *ops, void *owner,
                                     const char *path);
/* "stripe@leat" and "stripe-join@leat" (clients, towards a server that said it knows them): the first lane of a striped
 * connection to host:port, and one lane more with that identity (stripe.h). key: MUX_STRIPE_KEY_BYTES. */
MUST_USE int mux_open_stripe(struct mux *mux, struct flow *flow, const struct flow_ops *ops, void *owner,
                             const char *host, uint16_t port, const char *origin, uint16_t origin_port,
                             const uint8_t *key);
MUST_USE int mux_open_stripe_join(struct mux *mux, struct flow *flow, const struct flow_ops *ops, void *owner,
                                  const uint8_t *key, uint32_t lane);
/* For mux_ops.on_open only: prepares the flow it returns. */
void flow_init_asked(struct flow *flow, const struct flow_ops *ops, void *owner);

/* GLOBAL_REQUEST with want_reply; on_reply (may be NULL: want_reply false) comes in order of the requests. ERR_LIMIT,
 * ERR_LENGTH, ERR_NOMEM, ERR_CLOSED: on_reply will not come. */
MUST_USE int mux_global_request(struct mux *mux, const char *name, const void *data, uint32_t len,
                                mux_reply_fn *on_reply, void *arg);
/* "tcpip-forward" / "cancel-tcpip-forward" (§7.1). A success reply to port 0 carries the port as uint32. */
MUST_USE int mux_tcpip_forward(struct mux *mux, bool cancel, const char *address, uint16_t port, mux_reply_fn *on_reply,
                               void *arg);
