#include "ssh/server_shell.h"
#include "engine/limits.h"
#include "ssh/server_forward_internal.h"
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LISTED_MAX 1000u /* forwards of a kind in the text */
enum { CTRL_C = 3, CTRL_D = 4 };

struct server_shell {
    struct list node; /* in connection->shells */
    struct server_connection *connection;
    struct flow flow;
    char *text; /* [text_sent, text_len) is still to be queued */
    size_t text_len, text_sent;
    struct slot_waiter waiter;
    uint64_t active_ns, idle_ns;
    struct timer idle;
    uint32_t exit_status;
    bool has_pty, started;
    bool ending;   /* as soon as the text is out */
    bool finished; /* exit-status and CLOSE are on their way */
};

static struct shard *shard_of(const struct server_shell *shell) {
    return shell->connection->session.shard;
}

/* ---- the text ---- */

struct text {
    FILE *out;
    const char *newline;
    unsigned listed;
};

__attribute__((format(printf, 2, 3))) static void say(struct text *text, const char *format, ...) {
    va_list list;
    va_start(list, format);
    vfprintf(text->out, format, list);
    va_end(list);
    fputs(text->newline, text->out);
}

static void list_one(void *arg, const char *line) {
    struct text *text = arg;
    if (text->listed++ < LISTED_MAX)
        say(text, "  %s", line);
}

static void end_list(struct text *text) {
    if (text->listed == 0)
        say(text, "  none");
    if (text->listed > LISTED_MAX)
        say(text, "  and %u more", text->listed - LISTED_MAX);
    text->listed = 0;
}

static void describe(struct text *text, const struct server_connection *connection, bool stays) {
    char user[256];
    const char *name = connection->handshake.user;
    log_safe(user, sizeof(user), name, strlen(name));
    say(text, "This is leatd " LEAT_VERSION ". It carries SSH forwards; it has no shell and runs no commands.");
    say(text, "You are %s, from %s.", user, connection->source);
    say(text, "Remote forwards:");
    server_forward_print(connection, list_one, text);
    end_list(text);
    say(text, "Forwarded connections:");
    server_forward_print_open(connection, list_one, text);
    end_list(text);
    if (stays)
        say(text, "The forwards stay up until you press Ctrl-C.");
}

/* Without memory there is no text. */
static void make_text(struct server_shell *shell) {
    struct text text = {.out = open_memstream(&shell->text, &shell->text_len),
                        .newline = shell->has_pty ? "\r\n" : "\n"};
    if (text.out == NULL)
        return;
    describe(&text, shell->connection, !shell->ending);
    bool failed = ferror(text.out) != 0;
    if (fclose(text.out) == 0 && !failed)
        return;
    free(shell->text);
    shell->text = NULL;
    shell->text_len = 0;
}

static void drop_text(struct server_shell *shell) {
    slot_unwait(&shell->waiter);
    free(shell->text);
    shell->text = NULL;
    shell->text_len = shell->text_sent = 0;
}

/* ---- the end ---- */

static void finish(struct server_shell *shell) {
    uint8_t status[4];
    if (shell->finished)
        return;
    shell->finished = true;
    codec_put_u32(status, shell->exit_status);
    if (flow_request(&shell->flow, "exit-status", status, sizeof(status)) == 0)
        flow_close(&shell->flow);
    else
        flow_abort(&shell->flow);
}

/* ---- sending ---- */

static void send_slot(struct server_shell *shell, struct slot *slot, uint64_t room) {
    uint64_t len = shell->text_len - shell->text_sent;
    uint32_t most = shell->flow.peer_packet_max;
    len = len < room ? len : room;
    slot->len = (uint32_t)(len < most ? len : most);
    memcpy(slot->data, shell->text + shell->text_sent, slot->len);
    shell->text_sent += slot->len;
    flow_send(&shell->flow, slot);
}

/* Queues what the client's window and the shard's slots allow; on_room and on_slots go on. */
static void send_text(struct server_shell *shell) {
    struct slot_pool *slots = &shard_of(shell)->slots;
    uint64_t room;
    while (shell->text_sent < shell->text_len && (room = flow_room(&shell->flow)) > 0) {
        struct slot *slot = slot_take(slots);
        if (slot == NULL)
            return slot_wait(slots, &shell->waiter);
        send_slot(shell, slot, room);
    }
    if (shell->text_sent < shell->text_len)
        return;
    drop_text(shell);
    if (shell->ending)
        finish(shell);
}

/* A wake-up that takes no slot is passed on. */
static void on_slots(struct slot_waiter *waiter) {
    struct server_shell *shell = list_entry(waiter, struct server_shell, waiter);
    struct slot_pool *slots = &shard_of(shell)->slots;
    struct slot *slot = slot_take(slots);
    uint64_t room = flow_room(&shell->flow);
    if (slot != NULL && room > 0)
        send_slot(shell, slot, room);
    else if (slot != NULL)
        slot_put(slots, slot);
    if (room > 0)
        send_text(shell);
    session_wake(&shell->connection->session);
}

/* ---- ChannelTimeout ---- */

static void note_activity(struct server_shell *shell) {
    shell->active_ns = shell->connection->session.flows_active_ns = shard_now(shard_of(shell));
}

static void watch_idle(struct server_shell *shell, const char *type) {
    struct timers *timers = &shard_of(shell)->timers;
    note_activity(shell);
    shell->idle_ns = server_channel_idle_ns(shell->connection, type);
    timer_cancel(timers, &shell->idle);
    if (shell->idle_ns != 0)
        timer_arm(timers, &shell->idle, shell->active_ns + shell->idle_ns);
}

static void end_idle(struct server_shell *shell) {
    flow_abort(&shell->flow);
    session_wake(&shell->connection->session);
}

static void on_idle(struct timer *timer) {
    struct server_shell *shell = list_entry(timer, struct server_shell, idle);
    uint64_t due = shell->active_ns + shell->idle_ns;
    if (shard_now(shard_of(shell)) < due)
        return timer_arm(&shard_of(shell)->timers, timer, due);
    end_idle(shell);
}

void server_shell_end_idle(struct server_connection *connection) {
    list_for_each (node, &connection->shells) {
        struct server_shell *shell = list_entry(node, struct server_shell, node);
        if (shell->started)
            end_idle(shell);
    }
}

/* ---- requests ---- */

static bool start(struct server_shell *shell, const char *type, bool ends, uint32_t exit_status) {
    if (shell->started)
        return false;
    shell->started = true;
    shell->ending = ends || shell->flow.eof_received;
    shell->exit_status = exit_status;
    watch_idle(shell, type);
    make_text(shell);
    send_text(shell);
    return true;
}

static bool refuse_command(struct server_shell *shell, struct bytes data) {
    char command[256];
    struct reader reader;
    reader_init(&reader, data.at, data.len);
    struct bytes asked = reader_string(&reader);
    snprintf(command, sizeof(command), "%.*s", (int)asked.len, (const char *)asked.at);
    struct audit audit = server_forward_audit(shell->connection, "command refused", NULL, NULL);
    audit.detail = command;
    audit.reason = "nothing is executed here";
    audit_log(LOG_LEVEL_INFO, &audit);
    return start(shell, "session:command", true, 1);
}

static bool on_request(struct flow *flow, struct bytes name, struct bytes data) {
    struct server_shell *shell = flow->owner;
    if (bytes_equal(name, "shell"))
        return start(shell, "session:shell", false, 0);
    if (bytes_equal(name, "exec"))
        return !shell->started && refuse_command(shell, data);
    if (bytes_equal(name, "pty-req"))
        return shell->has_pty = true;
    return bytes_equal(name, "env") || bytes_equal(name, "window-change");
}

/* ---- the flow speaks ---- */

static void on_data(struct flow *flow, uint8_t *data, uint32_t len) {
    struct server_shell *shell = flow->owner;
    note_activity(shell);
    flow_consumed(flow, len);
    if (!shell->started || (memchr(data, CTRL_C, len) == NULL && memchr(data, CTRL_D, len) == NULL))
        return;
    drop_text(shell);
    finish(shell);
}

static void on_room(struct flow *flow) {
    send_text(flow->owner);
}

static void on_eof(struct flow *flow) {
    struct server_shell *shell = flow->owner;
    flow_drained(flow);
    if (!shell->started)
        return;
    shell->ending = true;
    send_text(shell);
}

static void on_aborted(struct flow *flow) {
    drop_text(flow->owner);
}

static void on_closed(struct flow *flow) {
    struct server_shell *shell = flow->owner;
    struct server_connection *connection = shell->connection;
    drop_text(shell);
    timer_cancel(&shard_of(shell)->timers, &shell->idle);
    list_remove(&shell->node);
    free(shell);
    connection->session_channels--;
    server_connection_channels(connection, -1);
}

static const struct flow_ops flow_ops = {.on_data = on_data,
                                         .on_room = on_room,
                                         .on_request = on_request,
                                         .on_eof = on_eof,
                                         .on_aborted = on_aborted,
                                         .on_closed = on_closed};

/* ---- making one ---- */

static const char *fault(const struct server_connection *connection) {
    uint32_t max = connection->options->max_sessions;
    if (connection->draining)
        return SERVER_STOPPING;
    if (connection->no_more_sessions)
        return "the client said that it wants no more sessions";
    return connection->session_channels >= (max < LIMIT_SESSION_CHANNELS ? max : LIMIT_SESSION_CHANNELS) ? "MaxSessions"
                                                                                                         : NULL;
}

static struct flow *refuse(struct server_connection *connection, uint32_t code, const char *why, uint32_t *reason,
                           const char **text) {
    struct audit audit = server_forward_audit(connection, "session refused", NULL, NULL);
    audit.reason = why;
    audit_log(LOG_LEVEL_INFO, &audit);
    *reason = code;
    *text = why;
    return NULL;
}

struct flow *server_shell_open(struct server_connection *connection, uint32_t *reason, const char **text) {
    const char *why = fault(connection);
    if (why != NULL)
        return refuse(connection, OPEN_ADMINISTRATIVELY_PROHIBITED, why, reason, text);
    struct server_shell *shell = calloc(1, sizeof(*shell));
    if (shell == NULL)
        return refuse(connection, OPEN_RESOURCE_SHORTAGE, "out of memory", reason, text);
    shell->connection = connection;
    shell->waiter.on_slots = on_slots;
    list_init(&shell->waiter.node);
    shell->idle.on_timer = on_idle;
    flow_init_asked(&shell->flow, &flow_ops, shell);
    flow_confirm(&shell->flow);
    list_push_back(&connection->shells, &shell->node);
    connection->session_channels++;
    watch_idle(shell, "session");
    server_connection_channels(connection, 1);
    return &shell->flow;
}
