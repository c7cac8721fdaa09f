/* A little long: the two sides answer each other callback for callback, which is read best in one place. */
#include "ssh/relay.h"
#include "engine/check.h"
#include "engine/limits.h"
#include "engine/log.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ChannelTimeout's. */
struct relay_idle {
    struct timer timer;
    struct relay *relay;
    uint64_t active_ns, limit_ns;
};

/* There are many of these: what only few need, or only for a while, is apart. */
struct relay {
    struct list node;    /* in session->relays */
    struct list waiting; /* in session->relays_waiting */
    struct session *session;
    const struct relay_watcher *watcher;
    void *owner;
    struct flow flow;
    struct conn conn;
    struct dial *dial;       /* while it connects */
    struct relay_idle *idle; /* NULL: it may be idle for ever */
    uint64_t started_ns;
    const char *what;        /* why it ends; NULL while nothing is wrong */
    char *origin, *resolved; /* NULL: not known */
    bool what_is_copy, has_conn, has_flow, opened;
    bool is_lane; /* conn's other end is a striped connection's */
};

_Static_assert(sizeof(struct relay) <= 768, "there are thousands, and the allocator's next size is 896");

static const struct flow_ops flow_ops;
static const struct conn_ops conn_ops;
static void on_idle(struct timer *timer);

static bool watch_idle(struct relay *relay, uint64_t limit_ns) {
    struct relay_idle *idle = calloc(1, sizeof(*idle));
    if (idle == NULL)
        return false;
    idle->timer.on_timer = on_idle;
    idle->relay = relay;
    idle->limit_ns = limit_ns;
    relay->idle = idle;
    return true;
}

static struct relay *relay_create(struct session *session, const struct relay_target *target,
                                  const struct relay_watcher *watcher, void *owner) {
    struct relay *relay = calloc(1, sizeof(*relay));
    if (relay == NULL || (target->idle_ns != 0 && !watch_idle(relay, target->idle_ns))) {
        free(relay);
        return NULL;
    }
    relay->session = session;
    relay->is_lane =
        target->kind == RELAY_STRIPE || target->kind == RELAY_STRIPE_JOIN || target->kind == RELAY_CONNECTED;
    relay->watcher = watcher;
    relay->owner = owner;
    list_init(&relay->waiting);
    relay->started_ns = shard_now(session->shard);
    list_push_back(&session->relays, &relay->node);
    session->relays_count++;
    session->shard->flows++;
    return relay;
}

static struct relay_state relay_state(const struct relay *relay) {
    return (struct relay_state){.what = relay->what,
                                .origin = relay->origin != NULL ? relay->origin : "",
                                .resolved = relay->resolved != NULL ? relay->resolved : "",
                                .opened = relay->opened,
                                .bytes_to_peer = relay->flow.bytes_to_peer,
                                .bytes_from_peer = relay->flow.bytes_from_peer,
                                .duration_ns = shard_now(relay->session->shard) - relay->started_ns};
}

/* Both sides are gone: tells, frees, lets the session know. */
static void relay_check_gone(struct relay *relay) {
    if (relay->has_conn || relay->has_flow || relay->dial != NULL)
        return;
    struct session *session = relay->session;
    struct relay_state state = relay_state(relay);
    if (relay->idle != NULL)
        timer_cancel(&session->shard->timers, &relay->idle->timer);
    list_remove(&relay->node);
    session->shard->flows--;
    relay->watcher->on_end(relay->owner, &state);
    free(relay->idle);
    if (relay->what_is_copy)
        free((char *)relay->what);
    free(relay->origin);
    free(relay->resolved);
    free(relay);
    session_relay_gone(session);
}

/* The first reason counts; `what` is static. */
static void set_what(struct relay *relay, const char *what) {
    if (relay->what == NULL)
        relay->what = what;
}

static void set_what_copy(struct relay *relay, const char *what) {
    if (relay->what != NULL)
        return;
    const char *copy = strdup(what);
    relay->what_is_copy = copy != NULL;
    relay->what = copy != NULL ? copy : "out of memory";
}

static uint32_t slot_max(const struct relay *relay) {
    uint32_t pool = relay->session->shard->slots.payload_max;
    return relay->flow.peer_packet_max < pool ? relay->flow.peer_packet_max : pool;
}

/* What is left to the session is divided among the relays that have something to send: each of them may fill what it is
 * given before it is asked again. The idle ones are not counted, however many they are: one that wakes up reads a
 * single slot, and then it is asked. */
static void give_credit(struct relay *relay) {
    struct session *session = relay->session;
    uint64_t room = flow_room(&relay->flow);
    uint32_t left = session_slots_left(session), active = session->mux.flows_queued;
    uint32_t part = left / (active > 0 ? active : 1);
    uint64_t share = (uint64_t)(part > 0 ? part : 1) * session->shard->slots.payload_max;
    list_remove(&relay->waiting);
    if (left == 0 && room > 0)
        list_push_back(&session->relays_waiting, &relay->waiting);
    conn_set_credit(&relay->conn, left == 0 ? 0 : room < share ? room : share);
}

void relay_feed(struct session *session) {
    struct list *node;
    for (uint32_t left = session_slots_left(session); left > 0; left--) {
        if ((node = list_first(&session->relays_waiting)) == NULL)
            return;
        give_credit(list_entry(node, struct relay, waiting));
    }
}

static void start_conn(struct relay *relay, int fd) {
    conn_init(&relay->conn, relay->session->shard, &conn_ops, relay, fd, LIMIT_CHANNEL_PACKET_BYTES);
    if (relay->is_lane) /* which may be over long before a session that is silent is */
        conn_watch_peer(&relay->conn);
    relay->has_conn = true;
}

static void note_activity(struct relay *relay) {
    relay->session->flows_active_ns = shard_now(relay->session->shard);
    if (relay->idle != NULL)
        relay->idle->active_ns = relay->session->flows_active_ns;
}

/* Both sides stand. */
static void begin(struct relay *relay) {
    note_activity(relay);
    if (relay->idle != NULL)
        timer_arm(&relay->session->shard->timers, &relay->idle->timer, relay->idle->active_ns + relay->idle->limit_ns);
    conn_set_slot_max(&relay->conn, slot_max(relay));
    give_credit(relay);
    if (relay->watcher->on_opened == NULL)
        return;
    struct relay_state state = relay_state(relay);
    relay->watcher->on_opened(relay->owner, &state);
}

static void end_idle(struct relay *relay) {
    set_what(relay, "idle for too long");
    if (relay->has_conn)
        conn_abort(&relay->conn);
    if (!relay->has_flow)
        return;
    flow_abort(&relay->flow);
    session_wake(relay->session);
}

/* Armed once for a whole period: bytes move the deadline without touching the timer. */
static void on_idle(struct timer *timer) {
    struct relay_idle *idle = list_entry(timer, struct relay_idle, timer);
    struct shard *shard = idle->relay->session->shard;
    uint64_t due = idle->active_ns + idle->limit_ns;
    if (shard_now(shard) < due)
        return timer_arm(&shard->timers, timer, due);
    end_idle(idle->relay);
}

/* ---- the flow speaks ---- */

static void on_opened(struct flow *flow) {
    struct relay *relay = flow->owner;
    relay->opened = true;
    if (relay->has_conn) /* else the application has gone meanwhile; the end is under way */
        begin(relay);
}

static void on_refused(struct flow *flow, uint32_t reason, const char *text) {
    static const char *const reasons[] = {"refused", "administratively prohibited", "connect failed",
                                          "unknown channel type", "resource shortage"};
    struct relay *relay = flow->owner;
    char what[200];
    snprintf(what, sizeof(what), "open failed: %s%s%s", reasons[reason < 5 ? reason : 0], text[0] ? ": " : "", text);
    set_what_copy(relay, what);
    relay->has_flow = false;
    if (relay->has_conn)
        conn_abort(&relay->conn);
    relay_check_gone(relay);
}

static void on_data(struct flow *flow, uint8_t *data, uint32_t len) {
    struct relay *relay = flow->owner;
    if (!relay->has_conn || relay->conn.failed) /* nobody takes it any more; the peer is about to hear that */
        return flow_consumed(flow, len);
    note_activity(relay);
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

/* Of a peer that has not said otherwise a CLOSE alone may be the orderly end, and what it sent before is delivered
 * (RFC 4254 §5.3): on_flow_closed lets it drain. */
static bool cut_means_broken(const struct relay *relay) {
    return relay->flow.dead || relay->session->peer.resets_by_close;
}

static void on_aborted(struct flow *flow) {
    struct relay *relay = flow->owner;
    if (relay->has_conn && !cut_means_broken(relay))
        return;
    set_what(relay, flow->dead ? "session ended" : "closed by the far side before its end");
    if (relay->has_conn)
        conn_abort(&relay->conn);
    else if (relay->dial != NULL)
        dial_cancel(relay->dial);
}

/* The channel is gone. After an orderly end what the peer sent may still be on its way to the application: the conn
 * closes when it is out. */
static void on_flow_closed(struct flow *flow) {
    struct relay *relay = flow->owner;
    relay->has_flow = false;
    if (relay->dial != NULL)
        dial_cancel(relay->dial);
    list_remove(&relay->waiting);
    if (relay->has_conn) {
        conn_set_credit(&relay->conn, 0);
        if (relay->conn.finished)
            conn_close(&relay->conn);
        else
            conn_finish(&relay->conn);
    }
    relay_check_gone(relay);
}

static const struct flow_ops flow_ops = {.holds = true,
                                         .on_opened = on_opened,
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
    note_activity(relay);
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
    flow_consumed(&relay->flow, (uint32_t)bytes);
    if (!relay->has_flow)
        return;
    note_activity(relay);
    session_wake(relay->session);
}

static void on_finished(struct conn *conn) {
    struct relay *relay = conn->owner;
    if (!relay->has_flow)
        return conn_close(conn);
    flow_drained(&relay->flow);
    session_wake(relay->session);
}

/* A lane that is let go before the far side has said anything on it has ended in order, too: nothing depends on what is
 * in it (striped_lane.c). */
static bool has_said_all(const struct relay *relay) {
    return relay->conn.read_ended || (relay->is_lane && relay->has_flow && relay->flow.phase == FLOW_OPENING);
}

/* What the application sent up to its orderly end is still delivered. What it has not taken is dropped, and its window
 * given back, so that a peer that writes before it reads gets there. Of a lane nothing is missing then: its striped
 * connection has ended, or goes on without it, and tells that itself. */
static void on_reset(struct conn *conn, int err) {
    struct relay *relay = conn->owner;
    uint64_t dropped = conn_queued(conn);
    bool orderly = has_said_all(relay);
    if (!relay->is_lane || !orderly)
        set_what(relay, err_text(err));
    conn_abort(conn);
    flow_consumed(&relay->flow, (uint32_t)dropped);
    if (!relay->has_flow)
        return;
    if (orderly)
        flow_close(&relay->flow);
    else
        flow_abort(&relay->flow);
    session_wake(relay->session);
}

static void on_conn_closed(struct conn *conn) {
    struct relay *relay = conn->owner;
    relay->has_conn = false;
    flow_consumed(&relay->flow, relay->flow.window.unconsumed); /* what was dropped without being told */
    list_remove(&relay->waiting);
    relay_check_gone(relay);
}

static const struct conn_ops conn_ops = {.on_slot = on_slot,
                                         .on_eof = on_conn_eof,
                                         .on_written = on_written,
                                         .on_finished = on_finished,
                                         .on_reset = on_reset,
                                         .on_closed = on_conn_closed};

/* ---- making one ---- */

struct origin {
    char host[64], text[80];
    uint16_t port;
};

static void set_origin(struct origin *origin, uint16_t port) {
    origin->port = port;
    snprintf(origin->text, sizeof(origin->text), "%s port %u", origin->host, port);
}

/* A connection without an address of its own (a Unix socket's) is given one where the protocol wants it. */
static void describe_origin(int fd, const struct relay_target *target, struct origin *origin) {
    struct sockaddr_storage addr;
    socklen_t len = sizeof(addr);
    *origin = (struct origin){.host = "127.0.0.1"};
    if (target->origin != NULL) {
        snprintf(origin->host, sizeof(origin->host), "%s", target->origin);
        return set_origin(origin, target->origin_port);
    }
    if (getpeername(fd, (struct sockaddr *)&addr, &len) != 0 || addr.ss_family == AF_UNIX)
        return;
    address_host((struct sockaddr *)&addr, origin->host, sizeof(origin->host));
    set_origin(origin, address_port((struct sockaddr *)&addr));
}

static int open_channel(struct relay *relay, const struct relay_target *target, const struct origin *origin) {
    struct mux *mux = &relay->session->mux;
    switch (target->kind) {
    case RELAY_DIRECT_TCPIP:
        return mux_open_direct(mux, &relay->flow, &flow_ops, relay, target->host, target->port, origin->host,
                               origin->port);
    case RELAY_FORWARDED_TCPIP:
        return mux_open_forwarded(mux, &relay->flow, &flow_ops, relay, target->host, target->port, origin->host,
                                  origin->port);
    case RELAY_STRIPE:
        return mux_open_stripe(mux, &relay->flow, &flow_ops, relay, target->host, target->port, origin->host,
                               origin->port, target->stripe_key);
    case RELAY_STRIPE_JOIN:
        return mux_open_stripe_join(mux, &relay->flow, &flow_ops, relay, target->stripe_key, target->stripe_lane);
    default:
        CHECK(target->kind == RELAY_FORWARDED_STREAMLOCAL);
        return mux_open_forwarded_path(mux, &relay->flow, &flow_ops, relay, target->host);
    }
}

void relay_open(struct session *session, int fd, const struct relay_target *target, const struct relay_watcher *watcher,
                void *owner) {
    struct origin origin;
    describe_origin(fd, target, &origin);
    struct relay *relay = session->ending ? NULL : relay_create(session, target, watcher, owner);
    if (relay == NULL) {
        struct relay_state state = {
            .what = session->ending ? "session ended" : "out of memory", .origin = origin.text, .resolved = ""};
        io_close(session->shard->io, fd, IO_CLOSE_RESET);
        return watcher->on_end(owner, &state);
    }
    if (origin.text[0] != '\0')
        relay->origin = strdup(origin.text);
    start_conn(relay, fd);
    int err = open_channel(relay, target, &origin);
    if (err != 0) {
        char limit[MUX_SHORTAGE_BYTES];
        set_what_copy(relay, err == ERR_LIMIT && mux_lacks_window(&session->mux, limit) ? limit : err_text(err));
        return conn_abort(&relay->conn);
    }
    relay->has_flow = true;
    session_wake(session);
}

static void refuse(struct relay *relay, uint32_t reason, const char *text) {
    set_what_copy(relay, text);
    flow_refuse(&relay->flow, reason, relay->what);
    session_wake(relay->session);
}

static int exchange(struct relay *relay, int *fd) {
    struct relay_state state = relay_state(relay);
    return relay->watcher->on_dialed != NULL ? relay->watcher->on_dialed(relay->owner, &state, fd) : 0;
}

static void dialed(struct relay *relay, int err, int fd, const char *reason) {
    if (!relay->has_flow || relay->flow.phase != FLOW_ASKED) { /* the peer or the session has gone meanwhile */
        if (fd >= 0)
            io_close(relay->session->shard->io, fd, IO_CLOSE_RESET);
        return relay_check_gone(relay);
    }
    if (err != 0)
        return refuse(relay, OPEN_CONNECT_FAILED, reason);
    int dialed_fd = fd;
    err = exchange(relay, &fd);
    relay->is_lane |= fd != dialed_fd;
    if (err != 0) {
        io_close(relay->session->shard->io, fd, IO_CLOSE_RESET);
        return refuse(relay, OPEN_RESOURCE_SHORTAGE, err_text(err));
    }
    start_conn(relay, fd);
    relay->opened = true;
    flow_confirm(&relay->flow);
    begin(relay);
    session_wake(relay->session);
}

static void on_dialed(struct dial *dial, int err, int fd) {
    struct relay *relay = dial->owner;
    relay->dial = NULL;
    if (dial->address[0] != '\0')
        relay->resolved = strdup(dial->address);
    dialed(relay, err, fd, dial->reason);
    free(dial);
}

struct flow *relay_asked(struct session *session, const struct relay_target *target,
                         const struct relay_watcher *watcher, void *owner) {
    struct dial *dial = calloc(1, sizeof(*dial));
    struct relay *relay = dial != NULL ? relay_create(session, target, watcher, owner) : NULL;
    if (relay == NULL) {
        free(dial);
        return NULL;
    }
    flow_init_asked(&relay->flow, &flow_ops, relay);
    relay->has_flow = true;
    relay->dial = dial;
    if (target->kind == RELAY_CONNECTED)
        dial_start_connected(dial, session->shard, target->fd, on_dialed, relay);
    else if (target->kind == RELAY_CONNECT_PATH)
        dial_start_path(dial, session->shard, target->host, target->connect_timeout_ns, on_dialed, relay);
    else
        dial_start(dial, session->shard, target->host, target->port, target->family, target->connect_timeout_ns,
                   on_dialed, relay);
    return &relay->flow;
}

/* ---- all of a session ---- */

void relay_abort_all(struct session *session) {
    list_for_each (node, &session->relays) {
        struct relay *relay = list_entry(node, struct relay, node);
        if (!relay->has_conn)
            continue;
        set_what(relay, "session ended");
        conn_abort(&relay->conn);
    }
}

void relay_end_idle(struct session *session) {
    list_for_each (node, &session->relays) {
        struct relay *relay = list_entry(node, struct relay, node);
        if (relay->opened)
            end_idle(relay);
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

void relay_for_each(const struct session *session,
                    void (*visit)(void *arg, void *owner, const struct relay_state *state), void *arg) {
    list_for_each (node, &session->relays) {
        const struct relay *relay = list_entry(node, struct relay, node);
        struct relay_state state = relay_state(relay);
        visit(arg, relay->owner, &state);
    }
}
