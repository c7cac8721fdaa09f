#pragma once
/* The I/O seam: a proactor. Operations are submitted and complete later, from io_turn(), never from within a submit
 * call. Three implementations with the same meaning: io_uring, epoll, and the tests' seeded simulator in virtual time.
 *
 * Life of an op:   idle ── submit ──► in flight ── done(op, res) ──► idle
 * Every submit gives exactly one done (accept: any number with op->more set, then a last one without). io_cancel() asks
 * for an early end; done still comes, with -ECANCELED or with what happened first. An op, its buffers and its
 * descriptor must stay until done: terminate → join → close. CHECKed where it costs nothing.
 *
 * At most one receiving op (accept, recv, recv_slot), one sending op (connect, send, poll with POLLOUT) and one other
 * poll per descriptor are in flight at once. One struct io belongs to one thread: every call from that thread only
 * (create included). Results are ≥ 0 or -errno.
 */
#include "engine/error.h"
#include "engine/slot.h"
#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/uio.h>

struct io;
struct io_op;
typedef void io_done_fn(struct io_op *op, int32_t res);

/* Every forwarded connection has three: a cache line each. */
struct io_op {
    io_done_fn *done;  /* set by io_op_init */
    struct slot *slot; /* recv_slot: the slot that was filled, owned by the callee, when res > 0 */
    /* private to the backend, but for in_flight and more */
    union {
        struct iovec *iov;           /* recv, send: what is left of the buffers */
        const struct sockaddr *addr; /* connect: total_bytes long */
    };
    struct list node;
    int fd;
    int32_t res;
    union {
        uint32_t poll_events;
        uint32_t slot_max; /* recv_slot */
    };
    uint32_t total_bytes, done_bytes; /* of the buffers; of them sent */
    uint16_t iov_count;
    uint8_t kind;       /* enum io_kind */
    bool in_flight : 1; /* read-only for owners */
    bool more : 1;      /* accept: set in done while the op stays in flight; read-only for owners */
    bool nowait : 1;    /* send: IO_SEND_NOW */
    bool canceling : 1; /* io_uring: io_cancel was called */
    bool answered : 1;  /* io_uring: and the kernel has answered to it */
    bool settled : 1;   /* res is final, done is still to come */
    bool drained : 1;   /* io_uring: the last receive took all there was */
    bool edges : 1;     /* io_uring: waits by a poll that reports changes only */
};
_Static_assert(sizeof(struct io_op) <= 64, "an idle connection pays for three");

static inline void io_op_init(struct io_op *op, io_done_fn *done) {
    *op = (struct io_op){.done = done, .fd = -1};
    list_init(&op->node);
}

enum io_backend { IO_BACKEND_AUTO, IO_BACKEND_URING, IO_BACKEND_EPOLL };

/* Creates a backend on the calling thread. AUTO takes io_uring, and epoll where the kernel refuses it. `slots` feeds
 * io_recv_slot and outlives io. ERR_UNSUPPORTED: the asked-for backend is not to be had here (errno tells); ERR_NOMEM.
 */
MUST_USE int io_create(enum io_backend backend, struct slot_pool *slots, struct io **io);
void io_destroy(struct io *io);           /* CHECKs that nothing is in flight */
const char *io_name(const struct io *io); /* "io_uring", "epoll", … */

/* Listening socket: done(res = new descriptor, non-blocking, close-on-exec) for each connection until an error or
 * cancel. -EMFILE/-ENFILE/-ENOBUFS/-ENOMEM end the op too: the owner waits before it submits again. */
void io_accept(struct io *io, struct io_op *op, int fd);
/* fd is non-blocking; res 0 or -errno. addr is copied. */
void io_connect(struct io *io, struct io_op *op, int fd, const struct sockaddr *addr, socklen_t addr_len);
/* Receives what is there, waiting for at least one byte, into iov[0..n), which stays with the caller until done.
 * res: bytes, 0 at end of file. */
void io_recv(struct io *io, struct io_op *op, int fd, struct iovec *iov, unsigned n);
/* Receives at most max bytes into a slot that is taken from the pool only when data is there: an idle connection holds
 * none. res > 0: op->slot is filled, ->len set, owned by the callee. -ENOBUFS: the pool is empty (use slot_wait, submit
 * again). */
void io_recv_slot(struct io *io, struct io_op *op, int fd, uint32_t max);
enum io_send_mode {
    IO_SEND_ALL, /* completes when everything is sent, waiting for room; res = all bytes, or -errno */
    IO_SEND_NOW, /* sends what fits now; res = bytes, or -EAGAIN when nothing fits */
};
/* iov[0..n) and its bytes stay until done; iov may be modified by the backend. No SIGPIPE. n ≤ LIMIT_SEND_BATCH_PACKETS
 * * 2. */
void io_send(struct io *io, struct io_op *op, int fd, struct iovec *iov, unsigned n, enum io_send_mode mode);
/* One-shot readiness: events of poll(2) (POLLIN, POLLOUT, POLLRDHUP; POLLERR and POLLHUP always, also with 0); res =
 * those of them that are there. */
void io_poll(struct io *io, struct io_op *op, int fd, uint32_t events);
/* No-op when not in flight. */
void io_cancel(struct io *io, struct io_op *op);

/* Immediate calls that go through the seam, so that the simulator sees them. */
void io_shutdown(struct io *io, int fd, int how);
enum io_close_mode { IO_CLOSE, IO_CLOSE_RESET /* TCP: RST instead of FIN */ };
/* Closes; CHECKs that no op on fd is in flight (where the backend knows). A descriptor that an op was submitted for is
 * closed by this and by nothing else while io lives: epoll keeps state by descriptor number. */
void io_close(struct io *io, int fd, enum io_close_mode mode);

/* Slots that wait inside the backend for data go back to the pool; fresh ones are taken when they are needed. */
void io_trim(struct io *io);

/* Monotonic nanoseconds; read once per turn, virtual in the simulator. */
uint64_t io_now(const struct io *io);
/* Submits what was queued, waits until a completion, a wake-up or deadline_ns (absolute; UINT64_MAX: none; 0: do not
 * wait), and runs the completions. Returns 0, or ERR_SYSTEM when the backend itself failed (logged). */
MUST_USE int io_turn(struct io *io, uint64_t deadline_ns);

/* The table behind the calls above; only backends and io.c look at it. io.c checks the arguments, marks the op in
 * flight (more false, slot NULL) and calls; the backend clears in_flight and more before its last done. */
enum io_kind { IO_KIND_ACCEPT, IO_KIND_CONNECT, IO_KIND_RECV, IO_KIND_RECV_SLOT, IO_KIND_SEND, IO_KIND_POLL };
struct io_ops {
    const char *name;
    void (*destroy)(struct io *);
    void (*accept)(struct io *, struct io_op *, int);
    void (*connect)(struct io *, struct io_op *, int, const struct sockaddr *, socklen_t);
    void (*recv)(struct io *, struct io_op *, int, struct iovec *, unsigned);
    void (*recv_slot)(struct io *, struct io_op *, int, uint32_t);
    void (*send)(struct io *, struct io_op *, int, struct iovec *, unsigned, enum io_send_mode);
    void (*poll)(struct io *, struct io_op *, int, uint32_t);
    void (*cancel)(struct io *, struct io_op *);
    void (*shutdown)(struct io *, int, int);
    void (*close)(struct io *, int, enum io_close_mode);
    int (*turn)(struct io *, uint64_t);
    void (*trim)(struct io *); /* NULL: it keeps nothing */
};
struct io { /* first member of every backend's own struct */
    const struct io_ops *ops;
    struct slot_pool *slots;
    uint64_t now_ns;
};
MUST_USE int io_uring_create(struct slot_pool *slots, struct io **io);
MUST_USE int io_epoll_create(struct slot_pool *slots, struct io **io);
uint64_t io_clock_ns(void); /* CLOCK_MONOTONIC */
void io_op_set_iov(struct io_op *op, struct iovec *iov, unsigned n);
/* Passes over bytes that were sent, modifying the caller's iov. True when none is left. */
bool io_op_advance(struct io_op *op, uint32_t bytes);
/* accept(2) failed on account of one connection that is gone already: the next one may be fine. */
bool io_accept_transient(int error_number);
void io_close_now(int fd, enum io_close_mode mode);
