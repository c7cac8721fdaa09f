#include "ssh/server_connection.h"
#include "engine/resolve.h"
#include "ssh/server_forward_internal.h"
#include "ssh/server_internal.h"
#include "ssh/server_shell.h"
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static struct server_connection *of_look(struct task *task) {
    return list_entry(task, struct server_connection, look);
}

static void look(struct server_connection *connection) {
    shard_defer(connection->on->shard, &connection->look);
}

/* ---- the audit ---- */

static struct audit about(const struct server_connection *connection, const char *event) {
    const struct server_handshake *handshake = connection->has_handshake ? &connection->handshake : NULL;
    return (struct audit){.event = event,
                          .connection = connection->number,
                          .source = connection->source,
                          .user = handshake != NULL ? handshake->user : NULL,
                          .key = handshake != NULL ? handshake->key_fingerprint : NULL};
}

static void tell_opened(const struct server_connection *connection) {
    struct audit audit = about(connection, "connection opened");
    audit_log(LOG_LEVEL_INFO, &audit);
}

static void tell_authenticated(const struct server_connection *connection) {
    struct audit audit = about(connection, "authentication succeeded");
    audit.detail = connection->handshake.details;
    audit_log(LOG_LEVEL_INFO, &audit);
}

static void tell_not_authenticated(const struct server_connection *connection, const char *reason) {
    struct audit audit = about(connection, "authentication failed");
    audit.reason = reason;
    if (audit.user != NULL)
        audit_log(LOG_LEVEL_INFO, &audit);
}

static void tell_closed(const struct server_connection *connection, const char *reason) {
    struct audit audit = about(connection, "connection closed");
    audit.reason = reason;
    audit.counted = true;
    audit.bytes_to_target = connection->session.bytes_in;
    audit.bytes_from_target = connection->session.bytes_out;
    audit.duration_ns = shard_now(connection->on->shard) - connection->opened_ns;
    audit_log(LOG_LEVEL_INFO, &audit);
}

/* ---- the end ---- */

static void connection_free(struct server_connection *connection) {
    struct server_shard *on = connection->on;
    if (connection->fd >= 0)
        io_close(on->shard->io, connection->fd, IO_CLOSE);
    listener_resume(on->shard); /* a descriptor is free again */
    if (connection->has_handshake)
        server_handshake_deinit(&connection->handshake);
    startups_leave(&connection->startup);
    server_options_unref(connection->options);
    server_config_unref(connection->config);
    list_remove(&connection->node);
    on->connections_count--;
    free(connection);
    server_connection_gone(on);
}

/* Neither handshake nor session: what is left are its remote listeners, then nothing. */
static void connection_closed(struct server_connection *connection, const char *reason) {
    connection->handshaking = connection->serving = false;
    timer_cancel(&connection->on->shard->timers, &connection->unused);
    timer_cancel(&connection->on->shard->timers, &connection->idle);
    tell_closed(connection, reason);
    look(connection);
}

static void on_session_ending(struct session *session) {
    server_forward_stop(session->owner);
}

static void on_session_ended(struct session *session, int err, const char *reason) {
    (void)err;
    connection_closed(session->owner, reason);
}

void server_connection_end(struct server_connection *connection, int err, const char *reason) {
    if (connection->handshaking)
        server_handshake_cancel(&connection->handshake);
    else if (connection->serving)
        session_end(&connection->session, err, reason);
}

/* ---- serving ---- */

static void on_unused(struct timer *timer) {
    struct server_connection *connection = list_entry(timer, struct server_connection, unused);
    server_connection_end(connection, 0, "no channel was open for as long as UnusedConnectionTimeout allows");
}

/* Remote listeners are counted along, and are not what a connection is kept for (sshd_config(5)). */
static uint32_t channels(const struct server_connection *connection) {
    return connection->channels_open - connection->listeners_count;
}

static void watch_unused(struct server_connection *connection) {
    uint32_t timeout_s = connection->options->unused_connection_timeout_s;
    struct shard *shard = connection->on->shard;
    if (timeout_s == 0)
        return;
    if (channels(connection) > 0)
        timer_cancel(&shard->timers, &connection->unused);
    else if (!timer_armed(&connection->unused))
        timer_arm(&shard->timers, &connection->unused, shard_now(shard) + timeout_s * SECOND_NS);
}

/* Bytes on any channel move the deadline without touching the timer, so it is armed again and again while there are
 * channels. */
static void watch_idle(struct server_connection *connection) {
    struct timers *timers = &connection->on->shard->timers;
    uint64_t idle_ns = server_channel_idle_ns(connection, "global");
    if (channels(connection) == 0)
        timer_cancel(timers, &connection->idle);
    else if (idle_ns != 0 && !timer_armed(&connection->idle))
        timer_arm(timers, &connection->idle, shard_now(connection->on->shard) + idle_ns);
}

static void on_idle(struct timer *timer) {
    struct server_connection *connection = list_entry(timer, struct server_connection, idle);
    uint64_t now = shard_now(connection->on->shard), idle_ns = server_channel_idle_ns(connection, "global");
    uint64_t due = connection->session.flows_active_ns + idle_ns;
    if (now >= due) {
        relay_end_idle(&connection->session);
        server_shell_end_idle(connection);
        due = now + idle_ns; /* for what was not open yet */
    }
    timer_arm(&connection->on->shard->timers, timer, due);
}

static void look_run(struct task *task) {
    struct server_connection *connection = of_look(task);
    if (!connection->handshaking && !connection->serving) {
        if (server_forward_stopped(connection))
            connection_free(connection);
    } else if (connection->draining && channels(connection) == connection->session_channels) {
        server_connection_end(connection, 0, "server is stopping");
    } else if (connection->serving) {
        watch_unused(connection);
        watch_idle(connection);
    }
}

void server_connection_channels(struct server_connection *connection, int change) {
    connection->channels_open = (uint32_t)((int64_t)connection->channels_open + change);
    look(connection);
}

void server_connection_drain(struct server_connection *connection) {
    connection->draining = true;
    if (connection->serving)
        server_forward_stop(connection);
    look(connection);
}

static int start_session(struct server_connection *connection) {
    const struct server_options *options = connection->options;
    struct server_handshake *handshake = &connection->handshake;
    struct session_options wanted = {.fd = connection->fd,
                                     .transport = &handshake->transport,
                                     .early = handshake->early,
                                     .early_len = handshake->early_len,
                                     .mux_ops = &server_mux_ops,
                                     .budget = &connection->on->server->budget,
                                     .window_max = options->max_window,
                                     .alive_interval_ns = options->client_alive_interval_s * SECOND_NS,
                                     .alive_count_max = options->client_alive_count_max,
                                     .rekey_interval_ns = options->rekey_limit_s * SECOND_NS,
                                     .on_ended = on_session_ended,
                                     .on_ending = on_session_ending,
                                     .is_server = true,
                                     .owner = connection};
    handshake->transport.wire.rekey_bytes = options->rekey_limit_bytes; /* the user's, who was not known before */
    int err = session_start(&connection->session, connection->on->shard, &wanted);
    if (err != 0)
        return err;
    connection->fd = -1; /* the session's now */
    connection->serving = true;
    free(handshake->early);
    handshake->early = NULL;
    return 0;
}

/* From the options for an address to those of the user who has logged in. */
static void take_login(struct server_connection *connection) {
    const struct login_result *login = &connection->handshake.login;
    server_options_unref(connection->options);
    connection->options = server_options_ref(login->options);
    connection->policy = (struct policy){
        .options = connection->options, .key = &login->key, .runs_as_root = connection->on->server->runs_as_root};
}

static void on_handshake(struct server_handshake *handshake, int err, const char *reason) {
    struct server_connection *connection = handshake->owner;
    connection->handshaking = false;
    startups_leave(&connection->startup);
    if (err != 0) {
        tell_not_authenticated(connection, reason);
        return connection_closed(connection, reason);
    }
    tell_authenticated(connection);
    take_login(connection);
    err = start_session(connection);
    if (err != 0)
        return connection_closed(connection, err_text(err));
    look(connection);
}

/* ---- the beginning ---- */

/* Addresses of anything but TCP say nothing about who is there. */
static void describe(struct server_connection *connection) {
    socklen_t len = sizeof(connection->address), local_len = sizeof(connection->local_address);
    struct sockaddr *address = (struct sockaddr *)&connection->address;
    struct sockaddr *local = (struct sockaddr *)&connection->local_address;
    if (getpeername(connection->fd, address, &len) != 0 || address->sa_family == AF_UNIX)
        address->sa_family = AF_UNSPEC;
    if (getsockname(connection->fd, local, &local_len) != 0 || local->sa_family == AF_UNIX)
        local->sa_family = AF_UNSPEC;
    server_address_text(address, "standard input", connection->source, sizeof(connection->source));
}

static int resolve_options(struct server_connection *connection) {
    char host[64] = "";
    const struct sockaddr *address = (const struct sockaddr *)&connection->address;
    const struct sockaddr *local = (const struct sockaddr *)&connection->local_address;
    struct match_subject subject = {.address = address, .local_address = local};
    if (address->sa_family != AF_UNSPEC)
        subject.host = address_host(address, host, sizeof(host));
    if (local->sa_family != AF_UNSPEC)
        subject.local_port = address_port(local);
    connection->config = server_config_ref(connection->on->generation->config);
    connection->options = server_config_resolve(connection->config, &subject);
    return connection->options != NULL ? 0 : ERR_NOMEM;
}

static int start_handshake(struct server_connection *connection) {
    struct server_shard *on = connection->on;
    struct server_handshake_options wanted = {.fd = connection->fd,
                                              .config = connection->config,
                                              .options = connection->options,
                                              .bind = on->bind,
                                              .address = (const struct sockaddr *)&connection->address,
                                              .local_address = (const struct sockaddr *)&connection->local_address,
                                              .source = connection->source,
                                              .connection = connection->number,
                                              .done = on_handshake,
                                              .owner = connection};
    int err = server_handshake_start(&connection->handshake, on->shard, &wanted);
    connection->has_handshake = connection->handshaking = err == 0;
    return err;
}

static struct server_connection *connection_create(struct server_shard *on, int fd, struct startup *startup) {
    struct server_connection *connection = calloc(1, sizeof(*connection));
    if (connection == NULL)
        return NULL;
    connection->on = on;
    connection->fd = fd;
    connection->number = atomic_fetch_add(&on->server->connections_total, 1) + 1;
    connection->opened_ns = shard_now(on->shard);
    connection->startup = *startup;
    connection->unused.on_timer = on_unused;
    connection->idle.on_timer = on_idle;
    task_init(&connection->look, look_run);
    list_init(&connection->listeners);
    list_init(&connection->shells);
    list_push_back(&on->connections, &connection->node);
    on->connections_count++;
    return connection;
}

void server_connection_start(struct server_shard *on, int fd, struct startup *startup) {
    struct server_connection *connection = connection_create(on, fd, startup);
    if (connection == NULL) {
        log_error("a connection was closed: %s", err_text(ERR_NOMEM));
        startups_leave(startup);
        io_close(on->shard->io, fd, IO_CLOSE);
        return server_connection_gone(on);
    }
    describe(connection);
    tell_opened(connection);
    if (on->draining)
        return connection_closed(connection, "server is stopping");
    int err = resolve_options(connection);
    if (err != 0)
        return connection_closed(connection, err_text(err));
    if (connection->options->refuse_connection)
        return connection_closed(connection, "RefuseConnection");
    server_tune(fd, connection->options);
    err = start_handshake(connection);
    if (err != 0)
        connection_closed(connection, err_text(err));
}

/* ---- USR1 ---- */

static void print_line(void *arg, const char *text) {
    (void)arg;
    log_info("  %s", text);
}

void server_connection_print(const struct server_connection *connection) {
    double age_s = (double)(shard_now(connection->on->shard) - connection->opened_ns) / 1e9;
    if (!connection->serving)
        return log_info("connection %" PRIu64 ": from %s, %s, age %.1f s", connection->number, connection->source,
                        connection->handshaking ? "not authenticated yet" : "closing", age_s);
    char user[128];
    const struct server_handshake *handshake = &connection->handshake;
    log_safe(user, sizeof(user), handshake->user, strlen(handshake->user));
    log_info("connection %" PRIu64 ": user %s from %s, key %s, %u channels, %u remote forwards, %" PRIu64
             " bytes in, %" PRIu64 " bytes out, %u rekeys, age %.1f s",
             connection->number, user, connection->source, handshake->key_fingerprint, channels(connection),
             connection->listeners_count, connection->session.bytes_in, connection->session.bytes_out,
             handshake->transport.wire.out.epochs - 1, age_s);
    server_forward_print_open(connection, print_line, NULL);
    server_forward_print(connection, print_line, NULL);
}
