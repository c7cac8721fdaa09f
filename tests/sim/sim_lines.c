/* How lines come to be: the client opens those that go to the server, and asks it to listen for those that come back.
 */
#include "engine/check.h"
#include "ssh/relay.h"
#include "tests/sim/sim_game.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- told by the client's relays; the server's go to the audit ---- */

static void on_relay_opened(void *owner, const struct relay_state *state) {
    struct line *line = owner;
    expect(state->opened && ++line->client.opened == 1 && line->client.ended == 0, "opened twice, or after its end");
}

static void on_relay_end(void *owner, const struct relay_state *state) {
    struct line *line = owner;
    expect(++line->client.ended == 1 && state->opened == (line->client.opened == 1), "the client's relay ended twice");
    line->client.refused = !state->opened;
    snprintf(line->client.what, sizeof line->client.what, "%s", state->what ? state->what : "");
}

static const struct relay_watcher watcher = {.on_opened = on_relay_opened, .on_end = on_relay_end};

/* ---- what the server opens ---- */

static struct line *line_asked_for(struct game *game, const struct mux_open *open) {
    char path[64];
    if (open->kind == MUX_OPEN_FORWARDED_TCPIP)
        return open->origin_port >= ORIGIN_PORT ? line_at(game, open->origin_port - ORIGIN_PORT) : NULL;
    expect(open->kind == MUX_OPEN_FORWARDED_STREAMLOCAL, "wrong type of channel");
    snprintf(path, sizeof path, "%.*s", (int)open->host.len, (const char *)open->host.at);
    return line_of_path(game, path);
}

static void check_open(const struct game *game, const struct line *line, const struct mux_open *open) {
    const struct asked *asked = &game->asked[line->index];
    expect(line_reversed(line) && line_is_path(line) == (open->kind == MUX_OPEN_FORWARDED_STREAMLOCAL),
           "a channel nobody opened");
    expect(asked->state != ASKED_NOT && bytes_equal(open->host, asked->name), "a channel of another forward");
    if (!asked->is_path && asked->port != 0)
        expect(open->port == asked->port, "a channel of another port");
}

static struct flow *on_open(struct mux *mux, const struct mux_open *open, uint32_t *reason, const char **text) {
    struct game *game = playing;
    struct line *line = line_asked_for(game, open);
    CHECK(mux->owner == &game->client.session);
    *reason = OPEN_ADMINISTRATIVELY_PROHIBITED;
    *text = "not allowed";
    if (!line) /* who connected had gone before the server could ask who it was */
        return NULL;
    check_open(game, line, open);
    if (line->forbidden)
        return NULL;
    expect(++line->client.begun == 1, "a line is opened twice");
    struct relay_target target = {.kind = line_is_path(line) ? RELAY_CONNECT_PATH : RELAY_CONNECT_TCP,
                                  .host = line->target,
                                  .port = line->port,
                                  .family = AF_UNSPEC,
                                  .connect_timeout_ns = LIMIT_DIAL_NS};
    return relay_asked(&game->client.session, &target, &watcher, line);
}

static bool on_global(struct mux *mux, struct bytes name, struct bytes data, uint8_t *reply, uint32_t *reply_len) {
    (void)mux;
    if (!bytes_equal(name, "echo"))
        return false;
    memcpy(reply, data.at, data.len);
    *reply_len = data.len;
    return true;
}

const struct mux_ops client_mux_ops = {.on_open = on_open, .on_global = on_global};

/* ---- requests that mean nothing ---- */

struct request {
    struct side *side;
    unsigned number;
};

/* The client knows "echo", the server does not. */
static void on_reply(void *arg, bool success, struct bytes data) {
    struct request request = *(struct request *)arg;
    struct side *side = request.side;
    free(arg);
    expect(request.number == side->replies++, "answers came in another order");
    if (side->is_client)
        expect(!success, "the server knows a request that there is not");
    else if (success)
        expect(data.len == 4 && codec_get_u32(data.at) == request.number, "wrong answer to a global request");
    else
        expect(side_is_ending(side), "a global request failed");
}

void side_request(struct side *side) {
    struct request *request = malloc(sizeof *request);
    uint8_t number[4];
    CHECK(request);
    *request = (struct request){.side = side, .number = side->requests};
    codec_put_u32(number, side->requests);
    int err = mux_global_request(&side->session->mux, "echo", number, 4, on_reply, request);
    side->requests += err == 0;
    if (err != 0)
        free(request);
    expect(err == 0 || err == ERR_LIMIT || err == ERR_CLOSED, "a global request was not taken");
    session_wake(side->session);
}

/* ---- remote forwards ---- */

static struct line *line_of_ask(struct game *game, const struct asked *asked) {
    return &game->lines[asked - game->asked];
}

/* What the server has done about it was in the audit first, in the order of the requests. */
static bool next_listened(struct server_end *end, bool *already) {
    expect(end->listened_count > 0, "an answer to a request that the server has not seen");
    unsigned at = end->listened_first;
    end->listened_first = (at + 1) % 64;
    end->listened_count--;
    *already = end->listened[at].already;
    return end->listened[at].yes;
}

static void on_ask_reply(void *arg, bool success, struct bytes data) {
    struct asked *asked = arg;
    struct game *game = playing;
    if (!success && side_is_ending(&game->client.side)) {
        asked->state = ASKED_OVER;
        return;
    }
    bool already;
    expect(success == next_listened(&game->server, &already), "the server's answer is not what it has done");
    expect(!already, "another forward listens there");
    if (asked->state == ASKED_OVER) /* cancelled, or drained, meanwhile */
        return;
    asked->state = success ? ASKED_GRANTED : ASKED_REFUSED;
    if (!success || asked->is_path)
        return;
    expect(data.len == (asked->port_asked == 0 ? 4 : 0), "a port is told when it was left to the server");
    asked->port = data.len == 4 ? (uint16_t)codec_get_u32(data.at) : asked->port_asked;
}

static int ask_send(struct game *game, struct asked *asked, bool cancel, mux_reply_fn *on_answer) {
    struct mux *mux = &game->client.session.mux;
    uint8_t data[64];
    struct writer writer;
    if (!asked->is_path)
        return mux_tcpip_forward(mux, cancel, asked->name, cancel ? asked->port : asked->port_asked, on_answer, asked);
    const char *request = cancel ? "cancel-streamlocal-forward@openssh.com" : "streamlocal-forward@openssh.com";
    writer_init(&writer, data, sizeof data);
    writer_text(&writer, asked->name);
    return mux_global_request(mux, request, data, writer_len(&writer), on_answer, asked);
}

static void ask(struct game *game, struct asked *asked) {
    static const char *const addresses[] = {"", "localhost", "127.0.0.1", "*"};
    const struct line *line = line_of_ask(game, asked);
    asked->is_path = line_is_path(line);
    asked->port_asked = roll(game, 2) ? 0 : (uint16_t)(5000 + line->index);
    if (asked->is_path)
        snprintf(asked->name, sizeof asked->name, "/sim/listen/%u", line->index);
    else
        snprintf(asked->name, sizeof asked->name, "%s", addresses[roll(game, 4)]);
    int err = ask_send(game, asked, false, on_ask_reply);
    asked->state = err == 0 ? ASKED_WAITING : ASKED_OVER;
}

void asks_begin(struct game *game) {
    for (unsigned i = 0; i < game->lines_count; i++)
        if (line_reversed(&game->lines[i]))
            ask(game, &game->asked[i]);
    session_wake(&game->client.session);
}

static void ask_over(struct game *game, struct asked *asked) {
    struct line *line = line_of_ask(game, asked);
    if (asked->state == ASKED_NOT)
        return;
    asked->state = ASKED_OVER;
    line->loose = true;
}

void asks_over(struct game *game) {
    for (unsigned i = 0; i < game->lines_count; i++)
        ask_over(game, &game->asked[i]);
}

static void on_more_reply(void *arg, bool success, struct bytes data) {
    const struct asked *asked = arg; /* whose address it is, or NULL */
    struct game *game = playing;
    bool already;
    (void)data;
    if (!success && side_is_ending(&game->client.side))
        return;
    expect(success == next_listened(&game->server, &already), "the server's answer is not what it has done");
    if (asked && asked->state == ASKED_GRANTED && (asked->is_path || asked->port_asked != 0))
        expect(!success && already, "what is listened to already is granted again");
}

static void on_again_reply(void *arg, bool success, struct bytes data) {
    struct game *game = playing;
    bool already;
    (void)arg, (void)data;
    if (!success && side_is_ending(&game->client.side))
        return;
    expect(success == next_listened(&game->server, &already) && !already, "what was cancelled is not free again");
}

static void ask_for(struct game *game, const struct asked *what, mux_reply_fn *on_answer, void *arg) {
    uint8_t data[64];
    struct writer writer;
    writer_init(&writer, data, sizeof data);
    writer_text(&writer, what->name);
    if (!what->is_path)
        writer_u32(&writer, what->port_asked);
    (void)!mux_global_request(&game->client.session.mux,
                              what->is_path ? "streamlocal-forward@openssh.com" : "tcpip-forward", data,
                              writer_len(&writer), on_answer, arg);
    session_wake(&game->client.session);
}

void ask_more(struct game *game) {
    struct asked *again = &game->asked[roll(game, game->lines_count)];
    struct asked other = {.name = "no-number.sim", .port_asked = (uint16_t)(6000 + game->extra_asks)};
    if (++game->extra_asks > 5)
        return;
    if (again->state == ASKED_GRANTED && roll(game, 2))
        ask_for(game, again, on_more_reply, again);
    else
        ask_for(game, &other, on_more_reply, NULL);
}

static void on_cancel_reply(void *arg, bool success, struct bytes data) {
    (void)arg, (void)data;
    struct game *game = playing;
    bool gone = game->plan == PLAN_DRAIN && game->plan_done;
    expect(success || gone || side_is_ending(&game->client.side), "a listener that is there cannot be cancelled");
}

/* What it has brought goes on; who has only just connected may be broken off. The address is free again at once. */
void ask_cancel(struct game *game, struct asked *asked) {
    if (asked->state != ASKED_GRANTED || ask_send(game, asked, true, on_cancel_reply) != 0)
        return;
    ask_over(game, asked);
    if (game->extra_asks++ < 5)
        ask_for(game, asked, on_again_reply, NULL);
    session_wake(&game->client.session);
}

/* ---- opening ---- */

static void open_direct(struct game *game, struct line *line) {
    struct relay_target target = {.kind = RELAY_DIRECT_TCPIP, .host = line->target, .port = line->port};
    int fds[2];
    io_sim_pair(game->world, fds);
    line_begin(line, fds[0]);
    if (game->client.side.ended)
        return io_sim_close(game->world, fds[1], IO_CLOSE_RESET);
    line->client.begun++;
    relay_open(&game->client.session, fds[1], &target, &watcher, line);
}

/* Nobody listens, or no longer: the line is over. */
static void open_forwarded(struct game *game, struct line *line) {
    const struct asked *asked = &game->asked[line->index];
    bool gone = game->client.side.ended || game->server.side.ended;
    if (asked->state == ASKED_WAITING && !gone)
        return;
    int fd = asked->state == ASKED_GRANTED && !gone ? host_connect(game, asked) : -1;
    if (fd < 0) {
        expect(asked->state != ASKED_GRANTED || gone || side_is_ending(&game->server.side), "a listener is not there");
        line->excused = line->far.gone = true;
    }
    line_begin(line, fd);
}

void line_open(struct game *game, struct line *line) {
    if (line_reversed(line))
        open_forwarded(game, line);
    else
        open_direct(game, line);
}

void lines_excuse(struct game *game) {
    for (unsigned i = 0; i < game->lines_count; i++)
        game->lines[i].excused = true;
}

void lines_loosen(struct game *game) {
    for (unsigned i = 0; i < game->lines_count; i++)
        game->lines[i].loose |= !line_stands(&game->lines[i]);
}
