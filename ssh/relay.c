#include "ssh/relay.h"
#include "engine/check.h"
#include "engine/limits.h"
#include "engine/log.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct relay {
    struct list node; /* in session->relays */
    struct session *session;
    struct flow flow;
    struct conn conn;
    struct dial dial;
    relay_end_fn *on_end;
    void *owner;
    uint64_t started_ns;
    bool has_conn, has_flow, dialing, opened;
    char what[200];
};

static const struct flow_ops flow_ops;
static const struct conn_ops conn_ops;

static struct relay *relay_create(struct session *session, relay_end_fn *on_end, void *owner) {
    struct relay *relay = calloc(1, sizeof(*relay));
    if (relay == NULL)
        return NULL;
    relay->session = session;
    relay->on_end = on_end;
    relay->owner = owner;
    relay->started_ns = shard_now(session->shard);
    list_push_back(&session->relays, &relay->node);
    session->relays_count++;
    atomic_fetch_add_explicit(&session->shard->load, 1, memory_order_relaxed);
    return relay;
}

/* Both sides are gone: tells, frees, lets the session know. */
static void relay_check_gone(struct relay *relay) {
    if (relay->has_conn || relay->has_flow || relay->dialing)
        return;
    struct session *session = relay->session;
    struct relay_end end = {.what = relay->what[0] != '\0' ? relay->what : NULL,
                            .opened = relay->opened,
                            .bytes_to_peer = relay->flow.bytes_to_peer,
                            .bytes_from_peer = relay->flow.bytes_from_peer,
                            .duration_ns = shard_now(session->shard) - relay->started_ns};
    relay->on_end(relay->owner, &end);
    list_remove(&relay->node);
    atomic_fetch_sub_explicit(&session->shard->load, 1, memory_order_relaxed);
    free(relay);
    session_relay_gone(session);
}

static void set_what(struct relay *relay, const char *what) {
    if (relay->what[0] == '\0')
        snprintf(relay->what, sizeof(relay->what), "%s", what);
}

static uint32_t slot_max(const struct relay *relay) {
    uint32_t pool = relay->session->shard->slots.payload_max;
    return relay->flow.peer_packet_max < pool ? relay->flow.peer_packet_max : pool;
}

static void give_credit(struct relay *relay) {
    conn_set_credit(&relay->conn, flow_room(&relay->flow));
}

static void start_conn(struct relay *relay, int fd) {
    conn_init(&relay->conn, relay->session->shard, &conn_ops, relay, fd, LIMIT_CHANNEL_PACKET_BYTES);
    relay->has_conn = true;
}

/* ---- the flow speaks ---- */

static void on_opened(struct flow *flow) {
    struct relay *relay = flow->owner;
    relay->opened = true;
    if (!relay->has_conn) /* the application has gone meanwhile; the abort is under way */
        return;
    conn_set_slot_max(&relay->conn, slot_max(relay));
    give_credit(relay);
}

static void on_refused(struct flow *flow, uint32_t reason, const char *text) {
    static const char *const reasons[] = {"refused", "administratively prohibited", "connect failed",
                                          "unknown channel type", "resource shortage"};
    struct relay *relay = flow->owner;
    char what[sizeof(relay->what)];
    snprintf(what, sizeof(what), "open failed: %s%s%s", reasons[reason < 5 ? reason : 0], text[0] ? ": " : "", text);
    set_what(relay, what);
    relay->has_flow = false;
    if (relay->has_conn)
        conn_abort(&relay->conn);
    relay_check_gone(relay);
}

static void on_data(struct flow *flow, uint8_t *data, uint32_t len) {
    struct relay *relay = flow->owner;
    struct slice *slice = rxbuf_hold(&relay->session->rx, data, len);
    if (slice != NULL)
        return conn_write_slice(&relay->conn, &relay->session->rx, slice);
    if (conn_write_copy(&relay->conn, data, len) == 0)
        return;
    set_what(relay, "out of memory");
    flow_abort(flow);
    conn_abort(&relay->conn);
}

static void on_room(struct flow *flow) {
    struct relay *relay = flow->owner;
    if (relay->has_conn)
        give_credit(relay);
}

static void on_eof(struct flow *flow) {
    struct relay *relay = flow->owner;
    if (relay->has_conn)
        conn_finish(&relay->conn);
}

/* leatd says EOF before CLOSE when all is well; of others a CLOSE alone may be the orderly end, and what they sent
 * before it is delivered (RFC 4254 §5.3): on_flow_closed lets it drain. */
static bool cut_means_broken(const struct relay *relay) {
    return relay->flow.dead || transport_peer(relay->session->transport) == PEER_LEATD;
}

static void on_aborted(struct flow *flow) {
    struct relay *relay = flow->owner;
    if (relay->has_conn && !cut_means_broken(relay))
        return;
    set_what(relay, flow->dead ? "session ended" : "closed by the far side before its end");
    if (relay->has_conn)
        conn_abort(&relay->conn);
    else if (relay->dialing)
        dial_cancel(&relay->dial);
}

/* The channel is gone. After an orderly end what the peer sent may still be on its way to the application: the conn
 * closes when it is out. */
static void on_flow_closed(struct flow *flow) {
    struct relay *relay = flow->owner;
    relay->has_flow = false;
    if (relay->dialing)
        dial_cancel(&relay->dial);
    if (relay->has_conn) {
        conn_set_credit(&relay->conn, 0);
        if (relay->conn.finished)
            conn_close(&relay->conn);
        else
            conn_finish(&relay->conn);
    }
    relay_check_gone(relay);
}

static const struct flow_ops flow_ops = {.on_opened = on_opened,
                                         .on_refused = on_refused,
                                         .on_data = on_data,
                                         .on_room = on_room,
                                         .on_eof = on_eof,
                                         .on_aborted = on_aborted,
                                         .on_closed = on_flow_closed};

/* ---- the conn speaks ---- */

static void on_slot(struct conn *conn, struct slot *slot) {
    struct relay *relay = conn->owner;
    if (!relay->has_flow)
        return slot_put(&relay->session->shard->slots, slot);
    flow_send(&relay->flow, slot);
    give_credit(relay);
    session_wake(relay->session);
}

static void on_conn_eof(struct conn *conn) {
    struct relay *relay = conn->owner;
    if (!relay->has_flow)
        return;
    flow_end(&relay->flow);
    session_wake(relay->session);
}

static void on_written(struct conn *conn, uint64_t bytes) {
    struct relay *relay = conn->owner;
    if (!relay->has_flow)
        return;
    flow_consumed(&relay->flow, (uint32_t)bytes);
    session_wake(relay->session);
}

static void on_finished(struct conn *conn) {
    struct relay *relay = conn->owner;
    if (!relay->has_flow)
        return conn_close(conn);
    flow_drained(&relay->flow);
    session_wake(relay->session);
}

static void on_reset(struct conn *conn, int err) {
    struct relay *relay = conn->owner;
    set_what(relay, err_text(err));
    conn_abort(conn);
    if (!relay->has_flow)
        return;
    flow_abort(&relay->flow);
    session_wake(relay->session);
}

static void on_conn_closed(struct conn *conn) {
    struct relay *relay = conn->owner;
    relay->has_conn = false;
    relay_check_gone(relay);
}

static const struct conn_ops conn_ops = {.on_slot = on_slot,
                                         .on_eof = on_conn_eof,
                                         .on_written = on_written,
                                         .on_finished = on_finished,
                                         .on_reset = on_reset,
                                         .on_closed = on_conn_closed};

/* ---- making one ---- */

static void describe_origin(int fd, char *host, size_t cap, uint16_t *port) {
    struct sockaddr_storage addr;
    socklen_t len = sizeof(addr);
    if (getpeername(fd, (struct sockaddr *)&addr, &len) == 0 && addr.ss_family != AF_UNIX) {
        address_host((struct sockaddr *)&addr, host, cap);
        *port = address_port((struct sockaddr *)&addr);
    }
}

void relay_open(struct session *session, int fd, const char *host, uint16_t port, relay_end_fn *on_end, void *owner) {
    char origin[64] = "127.0.0.1"; /* for a connection without an address of its own */
    uint16_t origin_port = 0;
    describe_origin(fd, origin, sizeof(origin), &origin_port);
    struct relay *relay = session->ending ? NULL : relay_create(session, on_end, owner);
    if (relay == NULL) {
        io_close(session->shard->io, fd, IO_CLOSE_RESET);
        return on_end(owner, &(struct relay_end){.what = session->ending ? "session ended" : "out of memory"});
    }
    start_conn(relay, fd);
    int err = mux_open_direct(&session->mux, &relay->flow, &flow_ops, relay, host, port, origin, origin_port);
    if (err != 0) {
        set_what(relay, err_text(err));
        return conn_abort(&relay->conn);
    }
    relay->has_flow = true;
    session_wake(session);
}

static void on_dialed(struct dial *dial, int err, int fd) {
    struct relay *relay = dial->owner;
    relay->dialing = false;
    if (!relay->has_flow || relay->flow.phase != FLOW_ASKED) { /* the peer or the session has gone meanwhile */
        if (fd >= 0)
            io_close(relay->session->shard->io, fd, IO_CLOSE_RESET);
        return relay_check_gone(relay);
    }
    if (err != 0) {
        set_what(relay, dial->reason);
        flow_refuse(&relay->flow, OPEN_CONNECT_FAILED, dial->reason);
        return session_wake(relay->session);
    }
    start_conn(relay, fd);
    relay->opened = true;
    flow_confirm(&relay->flow);
    conn_set_slot_max(&relay->conn, slot_max(relay));
    give_credit(relay);
    session_wake(relay->session);
}

struct flow *relay_asked(struct session *session, const char *host, uint16_t port, int family,
                         uint64_t connect_timeout_ns, relay_end_fn *on_end, void *owner) {
    struct relay *relay = relay_create(session, on_end, owner);
    if (relay == NULL)
        return NULL;
    flow_init_asked(&relay->flow, &flow_ops, relay);
    relay->has_flow = true;
    relay->dialing = true;
    dial_start(&relay->dial, session->shard, host, port, family, connect_timeout_ns, on_dialed, relay);
    return &relay->flow;
}

void relay_abort_all(struct session *session) {
    list_for_each (node, &session->relays) {
        struct relay *relay = list_entry(node, struct relay, node);
        if (!relay->has_conn)
            continue;
        set_what(relay, "session ended");
        conn_abort(&relay->conn);
    }
}

void relay_print(const struct session *session) {
    list_for_each (node, &session->relays) {
        const struct relay *relay = list_entry(node, struct relay, node);
        log_info("  channel %" PRIu32 ": %s, %" PRIu64 " bytes to the far side, %" PRIu64 " bytes from it, %" PRIu64
                 " queued, age %.1f s",
                 relay->flow.id, relay->opened ? "open" : "opening", relay->flow.bytes_to_peer,
                 relay->flow.bytes_from_peer, relay->has_conn ? conn_queued(&relay->conn) : 0,
                 (double)(shard_now(session->shard) - relay->started_ns) / 1e9);
    }
}
