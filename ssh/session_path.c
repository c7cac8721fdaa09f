/* What the kernel may hold unsent for a session. On a short path little, so that what is urgent is not behind it. A
 * long path drains that sooner than a busy machine wakes us up: the line is idle then, and BBR takes the lulls for the
 * application's own pace, never ends its start, and overflows the path's queues with that pacing for ever. There it is
 * a part of what is under way, which is a part of the round trip that everybody waits for anyway. */
#include "engine/limits.h"
#include "engine/tcp.h"
#include "ssh/session_internal.h"
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

static int unsent_worth(const struct session *session) {
    bool awaited = session->tempo == TEMPO_AWAITED, alone = session->relays_count <= 1 && !awaited;
    uint64_t least = awaited ? LIMIT_AWAITED_NOTSENT_BYTES : LIMIT_NOTSENT_BYTES;
    uint64_t most = alone ? LIMIT_NOTSENT_ALONE_BYTES : LIMIT_NOTSENT_SHARED_BYTES;
    uint64_t part = session->path_bytes / (alone ? LIMIT_NOTSENT_ALONE_PART : LIMIT_NOTSENT_SHARED_PART);
    return (int)(part < least ? least : part < most ? part : most);
}

void session_path_apply(struct session *session) {
    int bytes = unsent_worth(session);
    if (bytes == session->unsent_max)
        return;
    session->unsent_max = bytes;
    /* A proxy's socketpair does not have it, and works without. */
    (void)setsockopt(session->fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &bytes, sizeof(bytes));
}

void session_path_sent(struct session *session) {
    if (session->bytes_out - session->path_seen_at < LIMIT_PATH_LOOK_BYTES)
        return;
    session->path_seen_at = session->bytes_out;
    session->path_bytes = tcp_long_path_bytes(session->fd);
    session_path_apply(session);
}
