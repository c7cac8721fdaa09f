#pragma once
/* What the files of a session share: session.c starts, keeps alive and ends it; session_receive.c and
 * session_send.c are its two directions; session_tempo.c owns their sizes. */
#include "ssh/session.h"

#define SECOND_NS UINT64_C(1000000000)

/* session.c */
void session_fail(struct session *session, int err); /* ends it; the reason is the most telling one known */
void session_try_finish(struct session *session);    /* an operation of an ending session is over */

/* session_receive.c */
void session_receive_init(struct session *session);
void session_receive(struct session *session);                /* arms the next receive, if none is in flight */
void session_receive_low(struct session *session, int bytes); /* what the kernel gathers before it wakes us up */
bool session_receives_bulk(const struct session *session);    /* and has not paused since */
MUST_USE int session_work_input(struct session *session);
/* Rings are short and nothing is being received: this session's goes back as soon as nobody holds a slice of it. */
void session_lend_ring(struct session *session);
void session_receive_stop(struct session *session); /* cancels what is in flight, disarms timers */

/* session_tempo.c */
struct tempo {
    size_t receive_bytes; /* one receive */
    int receive_low;      /* SO_RCVLOWAT in bulk */
    uint64_t lull_ns;     /* what the last bytes of a batch wait at most */
    size_t send_bytes;    /* sealed for one send */
};
const struct tempo *session_sizes(const struct session *session);
void session_tempo_packet(struct session *session, const struct packet *packet); /* it has come */
void session_tempo_update(struct session *session);                              /* once a turn */

/* session_path.c */
void session_path_apply(struct session *session); /* what the kernel may hold unsent, as tempo and path have it */
void session_path_sent(struct session *session);  /* looks at the path again, when enough was sent */

/* session_send.c */
void session_send_init(struct session *session);
void session_send_stop(struct session *session);    /* disarms timers; cancels the send unless a DISCONNECT is due */
void session_send_release(struct session *session); /* slots and buffers of a finished session */
