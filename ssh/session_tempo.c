/* How much a session moves at once. Large is cheap; but whoever waits for a small answer waits for what is ahead of it
 * in these sizes, so that they are small while a sparse flow shares the connection with bulk. */
#include "engine/limits.h"
#include "engine/tcp.h"
#include "ssh/messages.h"
#include "ssh/session_internal.h"

static const struct tempo tempos[] = {
    [TEMPO_ALONE] = {.receive_bytes = LIMIT_RECV_BATCH_BYTES,
                     .receive_low = LIMIT_RECV_LOW_ALONE_BYTES,
                     .lull_ns = LIMIT_LULL_ALONE_NS,
                     .send_bytes = LIMIT_SEND_BATCH_BYTES},
    [TEMPO_SHARED] = {.receive_bytes = LIMIT_RECV_BATCH_BYTES,
                      .receive_low = LIMIT_RECV_LOW_BYTES,
                      .lull_ns = LIMIT_LULL_NS,
                      .send_bytes = LIMIT_SEND_BATCH_BYTES},
    [TEMPO_AWAITED] = {.receive_bytes = LIMIT_AWAITED_RECV_BYTES,
                       .receive_low = 1,
                       .lull_ns = LIMIT_LULL_NS,
                       .send_bytes = LIMIT_AWAITED_SEND_BYTES},
};

const struct tempo *session_sizes(const struct session *session) {
    return &tempos[session->tempo];
}

/* Window credit waits for no one. */
void session_tempo_packet(struct session *session, const struct packet *packet) {
    bool data = packet->type == MSG_CHANNEL_DATA && packet->payload_len >= MUX_DATA_HEADER_BYTES;
    uint32_t channel = data ? codec_get_u32(packet->payload + 1) : session->last_channel;
    if (packet->type == MSG_CHANNEL_WINDOW_ADJUST || (data && channel == session->last_channel))
        return;
    session->last_channel = channel;
    session->shared_until_ns = shard_now(session->shard) + LIMIT_SHARED_NS;
}

/* What is sealed already goes ahead of a sparse flow's packet, and so would what is queued, at the peer. */
static bool in_bulk(const struct session *session) {
    return session_receives_bulk(session) ||
           session->mux.queued_bytes + session->batch.bytes > LIMIT_AWAITED_SEND_BYTES;
}

/* What the kernel holds on the way is a queue too. On a short path a flow's window is no more than that queue: of which
 * it gets a little at a time, as the kernel's receive buffer cannot be made smaller without losing packets. */
static void set_sizes_elsewhere(struct session *session) {
    bool awaited = session->tempo == TEMPO_AWAITED;
    session_path_apply(session);
    if (awaited)
        session_receive_low(session, session_sizes(session)->receive_low);
    session->mux.grant_most = awaited && tcp_path_is_short(session->fd) ? LIMIT_AWAITED_GRANT_BYTES : UINT32_MAX;
}

void session_tempo_update(struct session *session) {
    uint64_t now = shard_now(session->shard);
    bool sparse = session->mux.sparse_packets != session->sparse_seen;
    session->sparse_seen = session->mux.sparse_packets;
    if (sparse && in_bulk(session))
        session->awaited_until_ns = now + LIMIT_SHARED_NS;
    enum tempo_name old = session->tempo;
    session->tempo = now < session->awaited_until_ns  ? TEMPO_AWAITED
                     : now < session->shared_until_ns ? TEMPO_SHARED
                                                      : TEMPO_ALONE;
    if ((session->tempo == TEMPO_AWAITED) != (old == TEMPO_AWAITED))
        set_sizes_elsewhere(session);
}
