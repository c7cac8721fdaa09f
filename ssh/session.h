#pragma once
/* One authenticated SSH connection on a shard: the TCP socket, the transport above it, the mux on top.
 *
 *   receive:  io_recv into the ring ─► transport_input ─► mux_input ─► flows hold slices of the ring
 *   send:     speaker's packets, then mux_next until the batch is full, sealed only then ─► one io_send at a time
 *
 *   RUNNING ──session_end / a failure──► ENDING ──operations joined, relays gone──► on_ended (last call)
 *
 * Lives and dies on its shard; every call from that shard's thread. */
#include "engine/rxbuf.h"
#include "engine/shard.h"
#include "ssh/hello.h"
#include "ssh/mux.h"
#include "ssh/transport.h"

struct session;
struct session_options {
    int fd;                      /* taken over */
    struct transport *transport; /* authenticated; borrowed until on_ended */
    const uint8_t *early;        /* peer bytes received before the hand-over; copied */
    size_t early_len;
    const struct mux_ops *mux_ops;
    struct window_budget *budget;
    uint32_t window_max;        /* 0: what the peer takes well */
    uint64_t alive_interval_ns; /* 0: no keepalive */
    uint32_t alive_count_max;   /* ends when so many are unanswered and the next is due; 0 of a server: never */
    uint64_t rekey_interval_ns; /* 0: by volume alone */
    /* The session is over and holds nothing any more. err 0: by session_end. reason: for a person, valid during the
     * call. */
    void (*on_ended)(struct session *session, int err, const char *reason);
    /* It begins to end: nothing can be opened any more; its flows are told next, on_ended follows. Once. May be NULL.
     */
    void (*on_ending)(struct session *session);
    /* Clients, once: the server's answer to hello_ask is in `peer`, or there will be none. May be NULL. */
    void (*on_hello)(struct session *session);
    bool is_server; /* for the words of log and DISCONNECT */
    void *owner;
};

/* What is being sent: the slots and control bytes behind one io_send. */
struct send_batch {
    struct iovec *iov;
    uint32_t iov_count;
    size_t bytes;
    struct slot_queue slots;
    uint8_t *control; /* LIMIT_CONTROL_BYTES, from the first use until the session is quiet */
    uint32_t control_len;
};

/* By whom its sizes are chosen. */
enum tempo_name {
    TEMPO_ALONE,  /* one flow has the connection to itself: nobody else waits */
    TEMPO_SHARED, /* by several flows */
    TEMPO_AWAITED /* somebody waits for a sparse flow's next packet, behind bulk */
};

struct session {
    struct shard *shard;
    struct transport *transport;
    struct mux mux;
    struct rxbuf rx;
    void *owner;
    int fd;
    uint64_t bytes_in, bytes_out;
    struct hello peer;        /* what it has said of itself */
    uint64_t flows_active_ns; /* when bytes have last moved on any of its channels, or one was opened */
    struct list relays;       /* of relay.c: every one holds the session up */
    uint32_t relays_count;
    struct list relays_waiting; /* those that read nothing because the session holds its share of the slots */
    /* private */
    struct session_options options;
    struct io_op recv, send, readable;
    struct iovec recv_iov;
    struct send_batch batch;
    struct task flush, finish;
    struct timer rx_retry, quiet, lull, alive, rekey, linger;
    size_t rx_need;
    uint64_t last_input_ns, rekeyed_ns, rekey_not_before_ns;
    uint32_t rekey_epoch;
    uint32_t alive_unanswered;
    uint64_t busy_bytes; /* received without a pause worth mentioning */
    int receive_low;     /* SO_RCVLOWAT; 0: never set */
    enum tempo_name tempo;
    uint32_t last_channel;     /* that data came for */
    uint64_t shared_until_ns;  /* more than that channel's data came lately */
    uint64_t awaited_until_ns; /* a sparse flow's packet passed lately, in bulk */
    uint32_t sparse_seen;      /* of the mux's sparse_packets */
    int unsent_max;            /* TCP_NOTSENT_LOWAT */
    uint64_t path_bytes;       /* under way on a long path; 0: it is not long */
    uint64_t path_seen_at;     /* bytes_out when that was looked at */
    bool ending, disconnect_due, quieting, work_again;
    int end_err;
    char end_reason[512];
};

/* Starts to serve. ERR_NOMEM: nothing was taken over, and the session is as one that is ending. */
MUST_USE int session_start(struct session *session, struct shard *shard, const struct session_options *options);
/* Ends it: DISCONNECT (RFC 4253 §11.1) is sent when the socket still takes it, flows are aborted, then on_ended.
 * Idempotent. */
void session_end(struct session *session, int err, const char *reason);
/* Something is to be sent: builds a batch at the end of this turn. Call after any mux_* or flow_* call that was not
 * made from within one of the session's own callbacks. */
void session_wake(struct session *session);
/* Keepalives as in session_options, from now on. */
void session_set_alive(struct session *session, uint64_t interval_ns, uint32_t count_max);
/* How many more of the shard's slots the session's relays may fill: as many as it leaves free for all others, so that
 * one whose peer does not read leaves half of them, two leave a third, and so on. Never 0 while it holds none. */
uint32_t session_slots_left(const struct session *session);
/* A relay is gone: the last one lets an ending session end. */
void session_relay_gone(struct session *session);
