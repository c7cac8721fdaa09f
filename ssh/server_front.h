#pragma once
/* Who speaks for a server before libssh does: it says the version line, waits for the client's and for its KEXINIT, and
 * only then starts libssh, with the ciphers that suit this client, and hands it what came. So a client that says
 * nothing costs no libssh session.
 *
 *   client's version line ──► held ──KEXINIT, or server_front_start──► libssh is the transport's speaker */
#include "ssh/libssh_speaker.h"
#include "ssh/server_keys.h"
#include "ssh/transport.h"

struct server_front {
    struct speaker base; /* first; the transport's speaker until started */
    struct transport *transport;
    struct libssh_speaker *libssh; /* to be deinitialised by the owner once `started` */
    struct server_bind *bind;      /* a reference, until started */
    const char *ciphers;           /* Ciphers, borrowed; NULL: by what the client offers */
    char *line;                    /* the client's version line, held */
    bool line_said, started;
};
void server_front_init(struct server_front *front, struct transport *transport, struct libssh_speaker *libssh,
                       struct server_bind *bind, const char *ciphers);
void server_front_deinit(struct server_front *front);
/* The client has said its version and waits for the server's KEXINIT: it gets one that offers every cipher. */
MUST_USE int server_front_start(struct server_front *front);
