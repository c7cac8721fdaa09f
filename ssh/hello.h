#pragma once
/* What leat and leatd tell each other of themselves, beyond RFC 4254. A global request with reply, the first message of
 * the connection protocol, of a client whose server's version says leatd; nobody else ever sees it. Request and the
 * answer's data are laid out alike:
 *
 *   uint32  1, the version of this layout; any other is answered with FAILURE
 *   uint32  number of features, each:  string name   string value
 *
 *   "reset-by-close"   value empty: an orderly stream of mine ends with EOF before CLOSE; a CLOSE alone is a reset
 *   "window-max"       value uint32: the largest window of a channel that I fill without harm as its sender
 *   "stripes"          value uint32: the most lanes that I carry one striped connection on (striped.h)
 *
 * Each feature says something of whoever names it and holds for all that he says afterwards, so nothing has to be
 * agreed upon. Unknown names are passed over. Without the request, and after a FAILURE, everything is as towards a
 * stock peer. As the request comes first, so does its answer: no channel is ever closed before both sides know.
 *
 * The session's thread. */
#include "engine/error.h"
#include "ssh/codec.h"

#define HELLO_REQUEST "hello@leat"
#define HELLO_BYTES 80u

struct session;

/* What the other side has said of itself; zeroed: nothing. */
struct hello {
    bool resets_by_close;
    uint32_t window_max;
    uint32_t stripes; /* at most STRIPE_LANES_MAX; less than 2: it knows of no striped connections */
};

/* Ours into out[0..HELLO_BYTES); returns its length. */
uint32_t hello_write(uint8_t out[HELLO_BYTES]);
/* ERR_PROTOCOL: malformed or of another version, *hello is zeroed. */
MUST_USE int hello_read(struct bytes data, struct hello *hello);

/* Clients: asks, if the server's version says leatd. Before anything else is said on the session. */
void hello_ask(struct session *session);
/* Servers, for mux_ops.on_global: takes the client's, answers with ours. Returns and arguments as there. */
MUST_USE bool hello_answer(struct session *session, struct bytes data, uint8_t *reply, uint32_t *reply_len);
