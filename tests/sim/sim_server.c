/* leatd's end: a real server_connection with everything above and below it. Doubles stand for its handshake, its
 * configuration and its program; the audit is read line by line. */
#include "engine/check.h"
#include "ssh/audit.h"
#include "ssh/server_forward.h"
#include "tests/sim/sim_game.h"
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct server_end *server_end(void) {
    return &playing->server;
}

/* ---- the configuration ---- */

struct server_config *__wrap_server_config_ref(struct server_config *config);
void __wrap_server_config_unref(struct server_config *config);
struct server_options *__wrap_server_config_resolve(struct server_config *config, const struct match_subject *subject);

struct server_config *__wrap_server_config_ref(struct server_config *config) {
    server_end()->config_references++;
    return config;
}

void __wrap_server_config_unref(struct server_config *config) {
    if (config)
        CHECK(server_end()->config_references-- > 0);
}

struct server_options *__wrap_server_config_resolve(struct server_config *config, const struct match_subject *subject) {
    (void)config;
    expect(subject->host && strcmp(subject->host, "192.0.2.7") == 0 && subject->local_port == 22, "another client");
    return server_options_ref(&server_end()->options);
}

/* ---- the handshake ---- */

int __wrap_server_handshake_start(struct server_handshake *handshake, struct shard *shard,
                                  const struct server_handshake_options *options);
void __wrap_server_handshake_cancel(struct server_handshake *handshake);
void __wrap_server_handshake_deinit(struct server_handshake *handshake);

int __wrap_server_handshake_start(struct server_handshake *handshake, struct shard *shard,
                                  const struct server_handshake_options *options) {
    struct server_end *end = server_end();
    *handshake = (struct server_handshake){.shard = shard, .options = *options, .owner = options->owner};
    end->handshake = handshake;
    end->side.transport = &handshake->transport;
    CHECK(transport_init(&handshake->transport, false, 0, &end->side.fake.base) == 0);
    side_speak(&end->side);
    return 0;
}

void __wrap_server_handshake_cancel(struct server_handshake *handshake) {
    CHECK(handshake == server_end()->handshake);
    server_end()->cancelled++;
}

void __wrap_server_handshake_deinit(struct server_handshake *handshake) {
    transport_deinit(&handshake->transport);
    server_options_unref(handshake->login.options);
    free(handshake->user);
    free(handshake->key_fingerprint);
    free(handshake->details);
    free(handshake->early);
    server_end()->handshake = NULL;
    server_end()->side.transport = NULL;
}

void server_end_login(struct game *game, const uint8_t *early, size_t early_len) {
    struct server_end *end = &game->server;
    struct server_handshake *handshake = end->handshake;
    handshake->user = strdup("alice");
    handshake->key_fingerprint = strdup("SHA256:x");
    handshake->details = strdup("");
    handshake->early = malloc(early_len + 1);
    CHECK(handshake->user && handshake->key_fingerprint && handshake->details && handshake->early);
    if (early_len > 0)
        memcpy(handshake->early, early, early_len);
    handshake->early_len = early_len;
    handshake->login.allowed = true;
    handshake->login.options = server_options_ref(&end->options);
    handshake->login.key.forwarding = true;
    transport_authenticated(&handshake->transport);
    end->side.session = &end->connection->session;
    handshake->options.done(handshake, 0, "");
    expect(end->authenticated == 1 && end->connection->serving, "no session after the handshake");
}

void server_end_no_login(struct game *game) {
    struct server_end *end = &game->server;
    bool cancel = roll(game, 2);
    if (cancel)
        server_connection_end(end->connection, 0, "server stopped");
    expect(end->cancelled == cancel, "the handshake was not cancelled");
    if (roll(game, 2))
        CHECK((end->handshake->user = strdup("alice")) != NULL);
    end->handshake->options.done(end->handshake, cancel ? ERR_CANCELED : ERR_AUTH, "not tonight");
}

/* ---- the audit ---- */

void __wrap_audit_log(enum log_level level, const struct audit *audit);
void __wrap_server_connection_gone(struct server_shard *on);

static bool is(const char *text, const char *what) {
    return text && strcmp(text, what) == 0;
}

struct line *line_at(struct game *game, uint32_t index) {
    return index < game->lines_count ? &game->lines[index] : NULL;
}

struct line *line_of_path(struct game *game, const char *path) {
    unsigned index;
    bool known = sscanf(path, "/sim/%u", &index) == 1 || sscanf(path, "/sim/listen/%u", &index) == 1;
    return known ? line_at(game, index) : NULL;
}

/* NULL: an application that was gone before anybody could ask where it is. */
static struct line *line_of_audit(const struct audit *audit) {
    unsigned port;
    if (strstr(audit->forward, "streamlocal"))
        return line_of_path(playing, audit->requested);
    bool known = audit->origin && sscanf(audit->origin, "198.51.100.1 port %u", &port) == 1;
    return known && port >= ORIGIN_PORT ? line_at(playing, port - ORIGIN_PORT) : NULL;
}

/* The address that won is one that answers. */
static void check_resolved(const struct line *line, const char *resolved) {
    unsigned index = 0, place = 1, port = 0;
    bool v4 = resolved && sscanf(resolved, "10.0.%u.%u port %u", &index, &place, &port) == 3;
    bool v6 = resolved && !v4 && sscanf(resolved, "fd00::%x:%x port %u", &index, &place, &port) == 3;
    expect(v4 || v6, "where a target is was not told");
    index -= v6;
    bool right = index == line->index && port == line->port && place >= 1 && place <= line->fates_count;
    expect(right && line->fates[place - 1].kind == FATE_ANSWERS && line->fates[place - 1].is_v6 == v6,
           "a target is not where it answered");
}

static void on_opened(struct game *game, const struct audit *audit) {
    struct line *line = line_of_audit(audit);
    game->server.channels_opened++;
    game->server.channel_ns = game_now(game);
    expect(!audit->reason && !audit->counted, "an opening with a reason or a count");
    if (!line)
        return;
    expect(line->reachable && !line->too_late && ++line->server.opened == 1 && line->server.ended == 0,
           "opened, and cannot have been");
    if (line->kind == LINE_DIRECT)
        check_resolved(line, audit->resolved);
}

/* RFC: nothing came for so long. What the server sends is not seen to leave, so only what it gets is looked at. */
static void on_idle(struct game *game, struct line *line) {
    uint64_t timeout_ns = game->server.timeout.seconds * SECOND;
    expect(game->server.options.channel_timeouts_count > 0, "idle, and there is no ChannelTimeout");
    expect(watch_silent_ns(line) >= timeout_ns, "ended as idle while bytes came");
    line->excused = true;
}

static void check_counts(const struct game *game, const struct line *line, const struct audit *audit) {
    expect(audit->counted, "bytes are not counted");
    if (line->excused || line->near.left || line->far.left || side_is_ending(&game->server.side))
        return;
    expect(!audit->reason, "an orderly end was told as a failure");
    expect(audit->bytes_to_target == line->near.total && audit->bytes_from_target == line->far.total,
           "bytes are counted wrongly");
}

static void on_over(struct game *game, const struct audit *audit, bool was_open) {
    struct line *line = line_of_audit(audit);
    game->server.channels_closed += was_open;
    if (was_open)
        game->server.channel_ns = game_now(game);
    if (line && is(audit->reason, "idle for too long"))
        on_idle(game, line);
    if (game->plan == PLAN_DRAIN)
        expect(!is(audit->reason, "session ended") || (line && line->excused), "a drain did not wait for a connection");
    if (!line)
        return;
    expect(++line->server.ended == 1 && (line->server.opened == 1) == was_open, "told otherwise than it began");
    line->server.refused = !was_open;
    snprintf(line->server.what, sizeof line->server.what, "%s", audit->reason ? audit->reason : "");
    if (was_open)
        check_counts(game, line, audit);
}

static void note_listened(struct server_end *end, bool yes, bool already) {
    unsigned at = (end->listened_first + end->listened_count++) % 64;
    expect(end->listened_count <= 64, "requests to listen are not answered");
    end->listened[at].yes = yes;
    end->listened[at].already = already;
}

static void on_listener(struct server_end *end, const struct audit *audit) {
    if (is(audit->event, "listener closed")) {
        end->listeners_closed++;
        expect(audit->reason && end->listeners_closed <= end->listeners_opened, "a listener closed that never opened");
        return;
    }
    bool opened = is(audit->event, "listener opened");
    expect(opened != (audit->reason != NULL), "a refusal without a reason");
    end->listeners_opened += opened;
    note_listened(end, opened, is(audit->reason, "this connection listens there already"));
}

static void on_connection_closed(struct server_end *end, const struct audit *audit) {
    end->closed++;
    expect(end->opened == 1 && end->closed == 1 && audit->counted && audit->reason, "a connection closed strangely");
    expect(end->channels_opened == end->channels_closed, "the connection is closed and a channel is not");
    expect(end->connection == NULL || (end->connection->session_channels == 0 && end->connection->forwards_open == 0),
           "the connection is closed and still counts channels");
    if (strstr(audit->reason, "UnusedConnectionTimeout"))
        expect(game_now(playing) >= end->channel_ns + end->options.unused_connection_timeout_s * SECOND,
               "ended as unused too soon after a channel");
    if (end->authenticated)
        side_ended(&end->side, end->connection->session.end_err, audit->reason);
}

void __wrap_audit_log(enum log_level level, const struct audit *audit) {
    struct server_end *end = server_end();
    const char *event = audit->event;
    char *text = audit_text(audit, roll(playing, 2) ? LOG_FORMAT_TEXT : LOG_FORMAT_JSON);
    free(text);
    expect(text && level == LOG_LEVEL_INFO && audit->connection == 1, "an event of another connection");
    expect(is(audit->source, "192.0.2.7 port 40000"), "an event of another client");
    expect(end->closed == 0, "an event after the connection was closed");
    if (end->authenticated)
        expect(is(audit->user, "alice") && is(audit->key, "SHA256:x"), "an event of another user");
    if (is(event, "connection opened"))
        end->opened++;
    else if (is(event, "authentication succeeded"))
        end->authenticated++;
    else if (is(event, "authentication failed"))
        end->refused++;
    else if (is(event, "connection closed"))
        on_connection_closed(end, audit);
    else if (is(event, "forward opened"))
        on_opened(playing, audit);
    else if (is(event, "forward closed") || is(event, "forward refused"))
        on_over(playing, audit, is(event, "forward closed"));
    else if (strncmp(event, "listener ", 9) == 0)
        on_listener(end, audit);
    else
        expect(is(event, "session refused") || is(event, "command refused") || is(event, "channel refused"),
               "an event nobody knows");
}

void __wrap_server_connection_gone(struct server_shard *on) {
    struct server_end *end = server_end();
    expect(on == &end->on && ++end->gone == 1, "a connection is gone twice");
    expect(end->listeners_opened == end->listeners_closed, "a listener was left open");
    end->connection = NULL;
    end->side.session = NULL;
}

/* ---- what it allows ---- */

/* A list of the targets that are not forbidden; a path is in no such list. */
static void draw_permit_open(struct game *game) {
    struct server_end *end = &game->server;
    struct permission_list *list = &end->options.permit_open;
    *list = (struct permission_list){.restricted = true, .items = end->permits};
    for (unsigned i = 0; i < game->lines_count; i++) {
        struct line *line = &game->lines[i];
        if (line_reversed(line))
            continue;
        line->forbidden = line_is_path(line) || roll(game, 3) == 0;
        if (!line->forbidden)
            end->permits[list->count++] = (struct permission){.host = line->target, .port = line->port};
    }
}

static void forbid_direct(struct game *game, bool only_paths) {
    for (unsigned i = 0; i < game->lines_count; i++) {
        struct line *line = &game->lines[i];
        line->forbidden |= !line_reversed(line) && (line_is_path(line) || !only_paths);
    }
}

static void draw_policy(struct game *game) {
    struct server_options *options = &game->server.options;
    options->allow_tcp_forwarding = options->allow_streamlocal_forwarding = FORWARDING_ALL;
    options->gateway_ports = (enum server_gateway)roll(game, 3);
    switch (roll(game, 10)) {
    case 0:
        draw_permit_open(game);
        break;
    case 1:
        options->allow_tcp_forwarding = FORWARDING_REMOTE;
        forbid_direct(game, false);
        break;
    case 2:
        options->allow_tcp_forwarding = FORWARDING_LOCAL;
        break;
    case 3:
        options->allow_streamlocal_forwarding = 0;
        forbid_direct(game, true);
        break;
    default:
        break;
    }
}

static void draw_timeouts(struct game *game) {
    static char types[][16] = {"*", "direct-*", "forwarded-tcpip", "session*", "global"};
    struct server_end *end = &game->server;
    if (roll(game, 4) > 0)
        return;
    end->timeout = (struct channel_timeout){.type = types[roll(game, 5)], .seconds = 1 + (uint32_t)roll(game, 4)};
    end->options.channel_timeouts = &end->timeout;
    end->options.channel_timeouts_count = 1;
}

void server_end_init(struct game *game) {
    static const uint32_t windows[] = {1000, 40000, 100000, 0};
    struct server_end *end = &game->server;
    struct startup startup = {0};
    window_budget_init(&end->server.budget,
                       game->tight && roll(game, 2) ? 33000 + roll(game, 200000) : LIMIT_WINDOW_BUDGET_BYTES);
    end->side.budget = &end->server.budget;
    end->options = (struct server_options){.references = 1,
                                           .family = AF_UNSPEC,
                                           .max_sessions = 1 + (uint32_t)roll(game, 10),
                                           .max_window = windows[roll(game, 4)],
                                           .client_alive_interval_s = (uint32_t)(end->side.alive_ns / SECOND),
                                           .client_alive_count_max = end->side.alive_count,
                                           .rekey_limit_bytes = roll(game, 2) ? 0 : 2000 + roll(game, 100000)};
    draw_policy(game);
    draw_timeouts(game);
    end->options.unused_connection_timeout_s = game->plan == PLAN_UNUSED ? 20 + (uint32_t)roll(game, 20) : 0;
    end->options.refuse_connection = game->plan == PLAN_NO_LOGIN && roll(game, 4) == 0;
    end->generation.config = (struct server_config *)(void *)end;
    end->on = (struct server_shard){
        .server = &end->server, .shard = &end->side.shard, .generation = &end->generation, .load = 1};
    end->on.draining = game->plan == PLAN_NO_LOGIN && roll(game, 4) == 0;
    list_init(&end->on.connections);
    list_init(&end->on.relays);
    server_connection_start(&end->on, end->side.fd, &startup);
    end->connection = list_entry(list_first(&end->on.connections), struct server_connection, node);
    bool refused = end->on.draining || end->options.refuse_connection;
    expect(end->opened == 1 && refused == !end->handshake, "the connection did not begin");
}

void server_end_deinit(struct game *game) {
    struct server_end *end = &game->server;
    expect(end->gone == 1 && end->closed == 1 && end->on.connections_count == 0, "the connection is still there");
    expect(end->config_references == 0 && end->options.references == 1, "a reference to the configuration is missing");
    side_deinit(&end->side);
}
