/* Session channels as stock clients open them: requests of every kind, some answers wanted, a reader that takes its
 * time, an end at any moment from either side. What our own mux has no call for is put on the wire here. */
#include "engine/check.h"
#include "ssh/mux_internal.h"
#include "tests/sim/sim_game.h"
#include <stdlib.h>
#include <string.h>

#define CTRL_C 3

static struct shell *shell_of(struct flow *flow) {
    return list_entry(flow, struct shell, flow);
}

/* ---- opening ---- */

/* host: a path; NULL: a "session". */
static int open_other(struct mux *mux, struct flow *flow, const char *type, const char *host) {
    uint8_t packet[256];
    struct writer writer;
    uint32_t id;
    int err = mux_take_number(mux, &id);
    if (err != 0)
        return err;
    mux_attach(mux, flow, id);
    writer_init(&writer, packet, sizeof packet);
    writer_u8(&writer, MSG_CHANNEL_OPEN);
    writer_text(&writer, type);
    writer_u32(&writer, id);
    err = window_open(&flow->window, mux->budget, mux->window_max);
    writer_u32(&writer, flow->window.granted);
    writer_u32(&writer, mux->packet_max);
    if (host) {
        writer_text(&writer, host);
        writer_text(&writer, "");
        writer_u32(&writer, 0);
    }
    if (err == 0)
        err = flow_set_text(flow, packet, writer_len(&writer));
    if (err != 0) {
        mux_detach(flow);
        return err;
    }
    flow->open_due = true;
    flow_touch(flow);
    return 0;
}

int __real_mux_open_direct(struct mux *mux, struct flow *flow, const struct flow_ops *ops, void *owner,
                           const char *host, uint16_t port, const char *origin, uint16_t origin_port);
int __wrap_mux_open_direct(struct mux *mux, struct flow *flow, const struct flow_ops *ops, void *owner,
                           const char *host, uint16_t port, const char *origin, uint16_t origin_port);

/* A relay to a path beyond the peer: stock clients have it, leat does not. */
int __wrap_mux_open_direct(struct mux *mux, struct flow *flow, const struct flow_ops *ops, void *owner,
                           const char *host, uint16_t port, const char *origin, uint16_t origin_port) {
    if (host[0] != '/')
        return __real_mux_open_direct(mux, flow, ops, owner, host, port, origin, origin_port);
    flow_init(flow, ops, owner, LIFE_OPENING);
    return open_other(mux, flow, "direct-streamlocal@openssh.com", host);
}

/* ---- told by the channel ---- */

static void on_opened(struct flow *flow) {
    struct shell *shell = shell_of(flow);
    expect(shell->state == SHELL_OPENING && !shell->late, "a session channel was opened twice, or too late");
    shell->state = SHELL_OPEN;
    shell->opened = true;
}

static void on_refused(struct flow *flow, uint32_t reason, const char *text) {
    const struct server_end *server = &playing->server;
    struct shell *shell = shell_of(flow);
    bool draining = playing->plan == PLAN_DRAIN && playing->plan_done;
    bool full = strcmp(text, "MaxSessions") == 0 && server->options.max_sessions <= shell->rivals;
    bool stopping = strcmp(text, "this server is stopping") == 0 && draining;
    bool short_of = reason == OPEN_RESOURCE_SHORTAGE && playing->tight;
    bool late = shell->late && strcmp(text, "the client said that it wants no more sessions") == 0;
    expect(full || stopping || short_of || late || flow->dead, "a session channel was refused");
    shell->state = SHELL_OVER;
}

static void on_data(struct flow *flow, uint8_t *data, uint32_t len) {
    struct shell *shell = shell_of(flow);
    static const char begin[] = "This is leatd";
    expect(shell->started && !shell->eof_seen, "text that nobody asked for");
    for (uint32_t i = 0; i < len && shell->received + i < sizeof begin - 1; i++)
        expect(data[i] == (uint8_t)begin[shell->received + i], "another text than leatd's");
    shell->received += len;
    shell->last = data[len - 1];
    if (roll(shell->game, 3) == 0)
        flow_consumed(flow, len);
    else
        shell->held += len;
}

static void on_room(struct flow *flow) {
    (void)flow;
}

static bool on_request(struct flow *flow, struct bytes name, struct bytes data) {
    struct shell *shell = shell_of(flow);
    expect(bytes_equal(name, "exit-status") && data.len == 4, "another request than exit-status");
    expect(shell->started && !shell->eof_seen && ++shell->exits == 1, "exit-status twice, or too late");
    expect(codec_get_u32(data.at) == (shell->is_command ? 1 : 0), "another exit status than there can be");
    return true;
}

static void on_eof(struct flow *flow) {
    struct shell *shell = shell_of(flow);
    expect(shell->exits == 1, "an end without an exit status");
    shell->eof_seen = true;
    flow_drained(flow);
}

/* Without an EOF before: only where somebody wanted that. */
static void on_aborted(struct flow *flow) {
    struct shell *shell = shell_of(flow);
    bool idle = playing->server.options.channel_timeouts_count > 0;
    expect(flow->dead || idle, "a session channel was cut off");
    shell->cut = true;
}

static void on_closed(struct flow *flow) {
    shell_of(flow)->state = SHELL_OVER;
}

static const struct flow_ops flow_ops = {.on_opened = on_opened,
                                         .on_refused = on_refused,
                                         .on_data = on_data,
                                         .on_room = on_room,
                                         .on_request = on_request,
                                         .on_eof = on_eof,
                                         .on_aborted = on_aborted,
                                         .on_closed = on_closed};

/* ---- requests ---- */

struct shell *shell_of_channel(struct game *game, uint32_t id) {
    struct client_end *end = &game->client;
    for (unsigned i = 0; i < end->shells_count; i++)
        if (end->shells[i].state == SHELL_OPEN && end->shells[i].flow.id == id)
            return &end->shells[i];
    return NULL;
}

void shell_request_heard(struct shell *shell) {
    shell->owed++;
}

void shell_answered(struct shell *shell, bool success) {
    expect(shell->answered < shell->owed, "more answers than requests");
    expect(success == shell->answers[shell->answered++], "a request was answered wrongly");
}

static const struct {
    const char *name;
    bool starts, success;
} requests[] = {{"env", false, true},           {"pty-req", false, true},
                {"window-change", false, true}, {"shell", true, true},
                {"exec", true, true},           {"subsystem", false, false},
                {"x11-req", false, false},      {"auth-agent-req@openssh.com", false, false}};

/* Puts it before everything else that is to be said, which is right where nothing of the channel is. */
static void say_request(struct shell *shell, unsigned which) {
    uint8_t packet[128];
    struct writer writer;
    bool wants_reply = roll(shell->game, 4) > 0, success = requests[which].success;
    if (requests[which].starts)
        success = !shell->started;
    if (requests[which].starts && !shell->started) {
        shell->started = true;
        shell->is_command = strcmp(requests[which].name, "exec") == 0;
    }
    if (wants_reply)
        shell->answers[shell->asked++] = success;
    writer_init(&writer, packet, sizeof packet);
    writer_u8(&writer, MSG_CHANNEL_REQUEST);
    writer_u32(&writer, shell->flow.peer_id);
    writer_text(&writer, requests[which].name);
    writer_bool(&writer, wants_reply);
    writer_text(&writer, "true\033");
    CHECK(mux_answer(shell->flow.mux, &writer) == 0);
    if (requests[which].starts && roll(shell->game, 8) == 0) /* the text has to wait */
        side_steal_slots(&shell->game->server.side, roll(shell->game, 300 * MS));
}

/* ---- what a client does ---- */

/* Returns how many were sent: none while there is no room. */
static unsigned send_bytes(struct shell *shell, uint8_t byte, unsigned most) {
    uint64_t room = shell->flow.in == FLOW_HALF_OPEN ? flow_room(&shell->flow) : 0;
    struct slot *slot = room > 0 ? slot_take(&shell->game->client.side.shard.slots) : NULL;
    if (!slot)
        return 0;
    if (most > shell->flow.peer_packet_max)
        most = shell->flow.peer_packet_max;
    slot->len = room < most ? (uint32_t)room : most;
    memset(slot->data, byte, slot->len);
    unsigned sent = slot->len;
    flow_send(&shell->flow, slot);
    return sent;
}

static void take_held(struct shell *shell) {
    flow_consumed(&shell->flow, shell->held);
    shell->held = 0;
}

static void act_open(struct shell *shell) {
    if (shell->actions > 0)
        shell->actions--;
    switch (roll(shell->game, 8)) {
    case 0:
        (void)send_bytes(shell, 'a', 1 + (unsigned)roll(shell->game, 200));
        break;
    case 1:
        (void)send_bytes(shell, CTRL_C, 1);
        break;
    case 2:
        flow_end(&shell->flow);
        break;
    case 3:
        take_held(shell);
        break;
    default:
        if (shell->asked < 16 && shell->flow.phase == FLOW_OPEN)
            say_request(shell, (unsigned)roll(shell->game, sizeof requests / sizeof requests[0]));
        break;
    }
}

/* Ends for good: a command ends by itself; a shell is told to by EOF, by CLOSE, or by an interrupt after more bytes
 * than its window takes at once. */
static void decide_end(struct shell *shell) {
    bool can_talk = shell->started && shell->flow.phase == FLOW_OPEN && shell->flow.in == FLOW_HALF_OPEN;
    shell->wants_end = true;
    if (can_talk && !shell->is_command && roll(shell->game, 3) == 0) {
        shell->flood = 3000;
    } else if (shell->started && (shell->is_command || roll(shell->game, 2))) {
        flow_end(&shell->flow);
    } else {
        shell->aborted = true;
        flow_abort(&shell->flow);
    }
}

static void act_last(struct shell *shell) {
    take_held(shell);
    if (shell->sleeps)
        shell->act_ns = UINT64_MAX;
    else if (!shell->wants_end)
        decide_end(shell);
    else if (shell->flood > 1)
        shell->flood -= send_bytes(shell, 'b', shell->flood - 1);
    else if (shell->flood == 1)
        shell->flood -= send_bytes(shell, CTRL_C, 1);
}

static unsigned shells_there(const struct game *game) {
    unsigned count = 0;
    for (unsigned i = 0; i < game->client.shells_count; i++)
        count += game->client.shells[i].state == SHELL_OPENING || game->client.shells[i].state == SHELL_OPEN;
    return count;
}

static void shell_open(struct shell *shell) {
    struct side *side = &shell->game->client.side;
    flow_init(&shell->flow, &flow_ops, NULL, LIFE_OPENING);
    int err = side_works(side) ? open_other(&side->session->mux, &shell->flow, "session", NULL) : ERR_CLOSED;
    shell->state = err == 0 ? SHELL_OPENING : SHELL_OVER;
    shell->late = shell->game->no_more_sessions;
    shell->rivals = shells_there(shell->game) - 1;
    expect(err == 0 || err == ERR_CLOSED || shell->game->tight, "a session channel cannot be opened");
}

static void shell_act(struct shell *shell) {
    struct game *game = shell->game;
    uint64_t pause_ns = roll(game, 2) ? 5 * MS : 200 * MS;
    shell->act_ns = game_now(game) + 1 + roll(game, pause_ns);
    if (shell->state == SHELL_WAITING)
        shell_open(shell);
    else if (shell->state == SHELL_OPENING && roll(game, 20) == 0)
        flow_abort(&shell->flow);
    else if (shell->state == SHELL_OPEN && shell->actions > 0)
        act_open(shell);
    else if (shell->state == SHELL_OPEN)
        act_last(shell);
    if (side_works(&game->client.side))
        session_wake(game->client.side.session);
}

bool shells_act(struct game *game) {
    bool acted = false;
    for (unsigned i = 0; i < game->client.shells_count; i++) {
        struct shell *shell = &game->client.shells[i];
        if (shell->state == SHELL_OVER || shell->act_ns > game_now(game))
            continue;
        shell_act(shell);
        acted = true;
    }
    return acted;
}

uint64_t shells_wake_ns(const struct game *game) {
    uint64_t next = UINT64_MAX;
    for (unsigned i = 0; i < game->client.shells_count; i++) {
        const struct shell *shell = &game->client.shells[i];
        if (shell->state != SHELL_OVER && shell->act_ns < next)
            next = shell->act_ns;
    }
    return next;
}

bool shells_over(const struct game *game) {
    for (unsigned i = 0; i < game->client.shells_count; i++)
        if (game->client.shells[i].state != SHELL_OVER)
            return false;
    return true;
}

static void on_refuse_reply(void *arg, bool success, struct bytes data) {
    (void)arg, (void)data;
    expect(success || side_is_ending(&playing->client.side), "\"no more sessions\" was not understood");
}

void shells_refuse(struct game *game) {
    struct session *session = &game->client.session;
    int err = mux_global_request(&session->mux, "no-more-sessions@openssh.com", NULL, 0, on_refuse_reply, NULL);
    game->no_more_sessions |= err == 0;
    for (unsigned i = 0; i < game->client.shells_count; i++) { /* what is not sent yet comes after it */
        struct shell *shell = &game->client.shells[i];
        shell->late |= shell->state == SHELL_OPENING && !shell->flow.announced && err == 0;
    }
    session_wake(session);
}

/* A timeout ends them whatever they have been told to do. */
static bool shells_may_sleep(const struct game *game) {
    const struct server_options *options = &game->server.options;
    return server_options_channel_timeout(options, "session") > 0 &&
           server_options_channel_timeout(options, "session:shell") > 0;
}

void shells_init(struct game *game) {
    struct client_end *end = &game->client;
    end->shells_count = roll(game, 3) ? 0 : 1 + (unsigned)roll(game, SHELLS_MAX);
    for (unsigned i = 0; i < end->shells_count; i++)
        end->shells[i] = (struct shell){
            .game = game, .act_ns = game_now(game) + roll(game, 300 * MS), .actions = (unsigned)roll(game, 12)};
    for (unsigned i = 0; i < end->shells_count; i++)
        end->shells[i].sleeps = shells_may_sleep(game) && roll(game, 2);
}

/* What the server ended orderly it has answered and told in full. */
void shells_judge(struct game *game) {
    for (unsigned i = 0; i < game->client.shells_count; i++) {
        const struct shell *shell = &game->client.shells[i];
        expect(shell->state == SHELL_OVER, "a session channel is left");
        if (!shell->opened || shell->aborted || shell->cut)
            continue;
        expect(shell->eof_seen && shell->exits == 1, "a session channel ended without its end being told");
        expect(shell->answered == shell->owed, "a request was not answered");
    }
}
