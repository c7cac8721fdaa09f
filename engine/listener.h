#pragma once
/* Listening sockets. Binding is a plain call, made before anything else is promised (so that "address already in use"
 * is a start-up error); accepting runs on a shard. When descriptors run out (EMFILE, ENFILE) accepting pauses, logs
 * once, and resumes on a short timer or when conn.c closes a descriptor of this shard: it never spins. */
#include "engine/shard.h"
#include <sys/socket.h>

/* Creates, binds and listens: non-blocking, close-on-exec; TCP: SO_REUSEADDR, IPV6_V6ONLY. 0 and *fd; ERR_ACCESS,
 * ERR_INUSE, ERR_UNREACHABLE (address not here), ERR_SYSTEM; errno is kept. */
MUST_USE int listen_bind(const struct sockaddr *addr, socklen_t addr_len, int backlog, int *fd);
/* The same for a Unix stream socket. The file gets `mode` without the bits of umask(2) at once, so that it is never
 * open to more; ERR_INUSE: there is a file already. Removing it is the caller's. */
MUST_USE int listen_bind_path(const char *path, mode_t mode, int backlog, int *fd);

struct listener;
/* fd is the callee's: connected, non-blocking. */
typedef void listener_accept_fn(struct listener *listener, int fd);
struct listener {
    struct shard *shard;
    listener_accept_fn *on_accept;
    void (*on_closed)(struct listener *listener);
    void *owner;
    int fd;
    struct io_op accept;
    struct timer retry;
    /* private */
    struct list paused_node;
    struct task close;
    uint64_t complained_ns; /* when the last pause was logged */
    bool closing;
};
/* Takes over fd. Shard's thread. */
void listener_init(struct listener *listener, struct shard *shard, int fd, listener_accept_fn *on_accept, void *owner);
/* Stops accepting, closes, then on_closed (never from within this call). */
void listener_close(struct listener *listener, void (*on_closed)(struct listener *listener));
/* A descriptor was freed on this shard: paused listeners try again. Called by conn.c. */
void listener_resume(struct shard *shard);
