#pragma once
/* The client's connection while it is being made: carries bytes between the TCP socket and the transport, with poll(2),
 * until a libssh call has its answer. On the handshake's thread only. */
#include "ssh/handshake.h"

struct client_link {
    const struct options *options;
    struct authenticated *made; /* owns fd, transport and speaker */
    uint64_t limit_ns;          /* of everything, when nobody is asked; 0: none */
    uint64_t deadline_ns;       /* deadline.h; 0 while a person may be asked */
    char address[64];           /* the peer's, numeric; "" behind a ProxyCommand */
    char where[320];            /* "HOST port N" */
    char reason[512];           /* after a failure: what happened, escaped, one line */
    /* private */
    uint8_t *in, *out;
    size_t in_len, out_at, out_len;
};

/* ERR_NOMEM. made's fd, transport and speaker come to life later. */
MUST_USE int link_init(struct client_link *link, const struct options *options, struct authenticated *made);
void link_deinit(struct client_link *link); /* wipes the buffers */

/* One libssh call, non-blocking, made again until it returns something other than `again` (SSH_AGAIN or
 * SSH_AUTH_AGAIN). */
typedef int link_fn(ssh_session ssh, void *arg);
/* 0: *result is what fn returned. Else the connection is over and `reason` says why: ERR_CLOSED, ERR_RESET,
 * ERR_TIMEOUT, ERR_KEX, ERR_TAG … */
MUST_USE int link_call(struct client_link *link, link_fn *fn, void *arg, int again, int *result);

/* Sends what is still to be sent, without waiting for long: for a last word of libssh. */
void link_flush_last(struct client_link *link);
/* The peer's bytes that were received and not worked on, as malloc'd memory; *bytes is NULL when there are none.
 * ERR_NOMEM. */
MUST_USE int link_take_early(struct client_link *link, uint8_t **bytes, size_t *len);
