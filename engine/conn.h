#pragma once
/* One plain TCP endpoint (an application's socket, or a forward's target) on a shard. There may be many thousands,
 * nearly all of them idle: what only a busy one needs is allocated while it is.
 *
 * Reading: payload goes straight into packet slots. Nothing is read without credit, and an idle connection holds no
 * slot: a cold connection uses io_recv_slot, one that keeps filling slots receives into several at once. Writing:
 * slices of a session's ring are queued and sent with one vectored send per turn. What the socket does not take stays
 * where it is until the ring needs the room; then conn_spill() moves it aside.
 *
 *   read side :  OPEN ──EOF──► ENDED          (RESET from either: on_reset)
 *   write side:  OPEN ──conn_finish──► FINISHING ──queue empty, FIN sent──► FINISHED (on_finished)
 *   conn_close / conn_abort at any moment ──► ops cancelled and joined ──► on_closed, then the owner may free it. */
#include "engine/limits.h"
#include "engine/sendq.h"
#include "engine/shard.h"

struct conn;
struct conn_ops {
    /* A slot with payload (len 1..slot_max); the callee owns it and gives it back with slot_put. Uses up credit. */
    void (*on_slot)(struct conn *conn, struct slot *slot);
    void (*on_eof)(struct conn *conn); /* once; no on_slot after it */
    void (*on_written)(struct conn *conn,
                       uint64_t bytes); /* bytes have left for the socket (or were dropped by close/abort: not told) */
    void (*on_finished)(struct conn *conn); /* everything queued and the FIN are out */
    void (*on_reset)(struct conn *conn,
                     int err);            /* the socket failed (ERR_RESET …), once; the owner then aborts or closes */
    void (*on_closed)(struct conn *conn); /* after conn_close/conn_abort: descriptor gone, no op in flight; last call */
};

struct conn {
    struct shard *shard;
    const struct conn_ops *ops;
    void *owner; /* for the ops' owner */
    int fd;
    /* private */
    uint32_t slot_max;
    struct io_op recv, send, watch;
    struct iovec recv_one, send_one;
    struct iovec *recv_many, *send_many; /* while more than one buffer is in flight or soon will be; else NULL */
    struct slot *recv_slots;             /* of the vectored receive in flight; then those not handed over yet */
    struct slot_waiter slot_waiter;
    struct task flush;
    struct sendq out;
    uint64_t send_bytes; /* asked for by the send in flight */
    uint64_t credit;     /* may be read, what a receive in flight brings included */
    uint32_t recv_asked;
    uint8_t hot;           /* slots in the next vectored receive; 0: cold */
    bool recv_filled : 1;  /* the last receive filled all it asked for: there is probably more */
    bool delivering : 1;   /* inside on_slot */
    bool waiting_room : 1; /* the socket is full: sending goes on when the watch sees POLLOUT */
    bool watch_room : 1;   /* the watch in flight looks for POLLOUT too */
    bool hung_up : 1;      /* the watch saw a hang-up that is no error: it would only spin */
    bool read_ended : 1, finishing : 1, finished : 1, failed : 1, closing : 1;
    bool close_resets : 1;
    bool watches_peer : 1;
};

/* Takes over fd (connected, non-blocking): closed by conn_close/conn_abort. Sets TCP_NODELAY (ignored on other
 * sockets). Starts without credit: nothing is read until conn_set_credit. slot_max: longest payload per slot. This
 * shard's thread. */
void conn_init(struct conn *conn, struct shard *shard, const struct conn_ops *ops, void *owner, int fd,
               uint32_t slot_max);
/* How many bytes may be read from now on, what a receive in flight brings included (it is not called back when the new
 * credit is smaller). */
void conn_set_credit(struct conn *conn, uint64_t bytes);
void conn_set_slot_max(struct conn *conn, uint32_t slot_max);
/* For a Unix stream socket: a peer that has closed, and not only ended its own stream, is reported by on_reset with
 * ERR_CLOSED, behind on_eof; or at once while there is no credit, with what the peer has sent unread. (Elsewhere that
 * shows when something is written to it.) Not after conn_finish. It takes a poll more once reading has ended. Call it
 * before conn_set_credit. */
void conn_watch_peer(struct conn *conn);
/* Queues bytes of a held slice; takes the slice over (released to rx when sent, spilled or dropped). Sent at the end of
 * the turn. After conn_finish/close/abort: dropped and released at once. */
void conn_write_slice(struct conn *conn, struct rxbuf *rx, struct slice *slice);
/* Queues a private copy. ERR_NOMEM: nothing queued. */
MUST_USE int conn_write_copy(struct conn *conn, const void *data, uint32_t len);
/* Copies every queued ring slice aside, so that the ring's memory is free. ERR_AGAIN: a send of them is in flight, next
 * turn; ERR_NOMEM: nothing changed for the rest. */
MUST_USE int conn_spill(struct conn *conn);
static inline uint64_t conn_queued(const struct conn *conn) {
    return conn->out.bytes;
}
void conn_finish(struct conn *conn);
void conn_close(struct conn *conn); /* what is still queued is dropped; FIN */
void conn_abort(struct conn *conn); /* what is still queued is dropped; RST */
