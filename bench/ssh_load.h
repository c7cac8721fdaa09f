/* Load that is SSH connections: whole jumps and idle connections, by libssh's client, which is the same for every
 * server and runs in a process of its own like every load. */
#ifndef BENCH_SSH_LOAD_H
#define BENCH_SSH_LOAD_H

#include "bench/load.h"

struct ssh_load_job {
    struct sockaddr_in server, target; /* target: where the server's direct-tcpip goes, a target of load.h */
    const char *key;                   /* path of the user's private key */
    const char *cipher;
    uint32_t clients;    /* at once */
    uint32_t jumps;      /* this many in all: connect, key exchange, public key, direct-tcpip, one byte there and back,
                            close; 0: hold */
    double warmup_jumps; /* of them, not measured */
};

/* jumps > 0: runs to its end (load_wait); operations and measured_s in the result, latency per whole jump. jumps 0:
 * `clients` authenticated connections are opened and held until load_stop; load_ready tells when all are there. */
struct load *ssh_load_start(const struct ssh_load_job *job, const struct place *place);

#endif
