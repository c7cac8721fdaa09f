#pragma once
/* What the three files of a session share: session.c starts, keeps alive and ends it; session_receive.c and
 * session_send.c are its two directions. */
#include "ssh/session.h"

#define SECOND_NS UINT64_C(1000000000)

/* session.c */
void session_fail(struct session *session, int err); /* ends it; the reason is the most telling one known */
void session_try_finish(struct session *session);    /* an operation of an ending session is over */

/* session_receive.c */
void session_receive_init(struct session *session);
void session_receive(struct session *session); /* arms the next receive, if none is in flight */
MUST_USE int session_work_input(struct session *session);
/* Rings are short and nothing is being received: this session's goes back as soon as nobody holds a slice of it. */
void session_lend_ring(struct session *session);
void session_receive_stop(struct session *session); /* cancels what is in flight, disarms timers */

/* session_send.c */
void session_send_init(struct session *session);
void session_send_stop(struct session *session);    /* disarms timers; cancels the send unless a DISCONNECT is due */
void session_send_release(struct session *session); /* slots and buffers of a finished session */
