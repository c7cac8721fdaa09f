#include "ssh/session.h"
#include "engine/check.h"
#include "engine/limits.h"
#include "engine/log.h"
#include "engine/tcp.h"
#include "ssh/relay.h"
#include "ssh/session_internal.h"
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void session_fail(struct session *session, int err) {
    char reason[sizeof(session->end_reason)];
    const char *peer = session->transport->disconnect_reason;
    if (session->end_reason[0] != '\0')
        memcpy(reason, session->end_reason, sizeof(reason));
    else if (peer[0] != '\0')
        snprintf(reason, sizeof(reason), "disconnected by the %s: %s", session->options.is_server ? "client" : "server",
                 peer);
    else
        snprintf(reason, sizeof(reason), "%s", err_text(err));
    session_end(session, err, reason);
}

/* ---- keepalive ---- */

static void on_alive_reply(void *arg, bool success, struct bytes data) {
    (void)arg, (void)success, (void)data; /* any answer is a sign of life; on_recv has counted it */
}

/* sshd_config(5): a ClientAliveCountMax of 0 never ends a connection; ssh(1) ends it at once then. */
static bool alive_never_ends(const struct session *session) {
    return session->options.is_server && session->options.alive_count_max == 0;
}

static void alive_lost(struct session *session) {
    session_end(session, ERR_TIMEOUT,
                session->options.is_server ? "Timeout, client not responding" : "timeout, server not responding");
}

static void on_alive(struct timer *timer) {
    struct session *session = list_entry(timer, struct session, alive);
    uint64_t now = shard_now(session->shard), due = session->last_input_ns + session->options.alive_interval_ns;
    if (session->alive_unanswered == 0 && now < due) {
        timer_arm(&session->shard->timers, timer, due);
        return;
    }
    if (session->alive_unanswered >= session->options.alive_count_max && !alive_never_ends(session))
        return alive_lost(session);
    session->alive_unanswered++;
    int err = mux_global_request(&session->mux, "keepalive@openssh.com", NULL, 0, on_alive_reply, session);
    if (err != 0 && err != ERR_LIMIT) /* at the limit enough of them wait for an answer already */
        return session_fail(session, err);
    timer_arm(&session->shard->timers, timer, now + session->options.alive_interval_ns);
    session_wake(session);
}

void session_set_alive(struct session *session, uint64_t interval_ns, uint32_t count_max) {
    struct timers *timers = &session->shard->timers;
    session->options.alive_interval_ns = interval_ns;
    session->options.alive_count_max = count_max;
    timer_cancel(timers, &session->alive);
    if (!session->ending && interval_ns != 0)
        timer_arm(timers, &session->alive, shard_now(session->shard) + interval_ns);
}

/* ---- start and end ---- */

/* A larger window of the user's own would make OpenSSH slower, not faster. */
static uint32_t window_max(const struct session_options *options) {
    bool capped = transport_peer(options->transport) == PEER_OPENSSH;
    if (options->window_max == 0 || (capped && options->window_max > LIMIT_WINDOW_OPENSSH_BYTES))
        return LIMIT_WINDOW_OPENSSH_BYTES;
    return options->window_max;
}

/* Nothing is in flight and nobody holds a slice: the last task of a session. */
static void on_finish(struct task *task) {
    struct session *session = list_entry(task, struct session, finish);
    timer_cancel(&session->shard->timers, &session->linger);
    io_close(session->shard->io, session->fd, IO_CLOSE);
    session->fd = -1;
    session_send_release(session);
    rxbuf_deinit(&session->rx);
    mux_deinit(&session->mux);
    session->options.on_ended(session, session->end_err, session->end_reason);
}

void session_try_finish(struct session *session) {
    bool busy = session->recv.in_flight || session->send.in_flight || session->readable.in_flight;
    if (session->ending && !busy && !session->disconnect_due && session->relays_count == 0)
        shard_defer(session->shard, &session->finish);
}

void session_relay_gone(struct session *session) {
    CHECK(session->relays_count > 0);
    session->relays_count--;
    session_try_finish(session);
}

static void on_linger(struct timer *timer) {
    struct session *session = list_entry(timer, struct session, linger);
    session->disconnect_due = false;
    io_cancel(session->shard->io, &session->send);
    relay_abort_all(session);
    session_try_finish(session);
}

static void session_clear(struct session *session, struct shard *shard, const struct session_options *options) {
    *session = (struct session){.shard = shard,
                                .transport = options->transport,
                                .owner = options->owner,
                                .fd = options->fd,
                                .options = *options};
    list_init(&session->relays);
    list_init(&session->relays_waiting);
    task_init(&session->finish, on_finish);
    session->alive.on_timer = on_alive;
    session->linger.on_timer = on_linger;
    session_receive_init(session);
    session_send_init(session);
}

int session_start(struct session *session, struct shard *shard, const struct session_options *options) {
    session_clear(session, shard, options);
    mux_init(&session->mux, options->mux_ops, session, &shard->slots, options->budget, window_max(options));
    int err = rxbuf_put_early(&session->rx, options->early, options->early_len);
    if (err != 0) {
        rxbuf_deinit(&session->rx);
        session_send_release(session);
        session->ending = true;
        return err;
    }
    tcp_tune(session->fd);
    tcp_raise_buffers(session->fd);
    session_path_apply(session);
    uint64_t now = shard_now(shard);
    if (options->alive_interval_ns != 0)
        timer_arm(&shard->timers, &session->alive, now + options->alive_interval_ns);
    /* What came early is worked on like a receive of this turn. */
    timer_arm(&shard->timers, &session->rx_retry, now);
    session->work_again = true;
    session_wake(session);
    return 0;
}

void session_end(struct session *session, int err, const char *reason) {
    if (session->ending)
        return;
    session->ending = true;
    session->end_err = err;
    if (reason != session->end_reason)
        snprintf(session->end_reason, sizeof(session->end_reason), "%s", reason);
    timer_cancel(&session->shard->timers, &session->alive);
    bool socket_works = err != ERR_CLOSED && err != ERR_RESET && err != ERR_TIMEOUT;
    session->disconnect_due = socket_works && session->transport->wire.out.state == WIRE_SEALED;
    session_receive_stop(session);
    session_send_stop(session);
    timer_arm(&session->shard->timers, &session->linger, shard_now(session->shard) + LIMIT_LINGER_NS);
    if (session->options.on_ending != NULL)
        session->options.on_ending(session);
    mux_shutdown(&session->mux);
    shard_defer(session->shard, &session->flush);
    session_try_finish(session);
}
