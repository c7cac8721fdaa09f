/* Looks at every message of the connection protocol as it arrives and keeps a book of its own on RFC 4254: what both
 * ends could get wrong alike. A sender has heard what its peer heard it say, so what a message may say is known from
 * those that arrived before it, in both directions. */
#include "engine/check.h"
#include "ssh/messages.h"
#include "tests/sim/sim_game.h"
#include <stdio.h>
#include <string.h>

#define CHANNELS_MAX 64u
enum { CLIENT, SERVER };

/* Arrays are by who says it. */
struct channel {
    bool used, confirmed;
    int opener;
    uint32_t id[2];
    uint64_t credit[2]; /* may still be sent */
    uint32_t packet_max[2];
    bool eof[2], close[2];
    uint32_t owed[2]; /* answers to requests */
    struct line *line;
    uint64_t heard_ns;   /* when the server got data */
    uint64_t aborted_ns; /* when the server gave it up; 0: not */
};

static struct channel channels[CHANNELS_MAX];

void watch_init(void) {
    memset(channels, 0, sizeof channels);
}

void watch_judge(void) {
    for (unsigned i = 0; i < CHANNELS_MAX; i++)
        expect(!channels[i].used, "a channel is left open");
}

uint64_t watch_silent_ns(const struct line *line) {
    for (unsigned i = 0; i < CHANNELS_MAX; i++)
        if (channels[i].used && channels[i].line == line)
            return channels[i].aborted_ns - channels[i].heard_ns;
    return UINT64_MAX;
}

static struct channel *find(int side, uint32_t id) {
    for (unsigned i = 0; i < CHANNELS_MAX; i++) {
        struct channel *channel = &channels[i];
        if (channel->used && channel->id[side] == id && (channel->confirmed || channel->opener == side))
            return channel;
    }
    return NULL;
}

struct line *watch_line(bool of_client, uint32_t id) {
    const struct channel *channel = find(of_client ? CLIENT : SERVER, id);
    return channel && channel->confirmed ? channel->line : NULL;
}

void __real_flow_abort(struct flow *flow);
void __wrap_flow_abort(struct flow *flow);

void __wrap_flow_abort(struct flow *flow) {
    const struct session *server = playing->server.side.session;
    struct channel *channel = server && flow->mux == &server->mux ? find(SERVER, flow->id) : NULL;
    if (channel && channel->aborted_ns == 0)
        channel->aborted_ns = game_now(playing);
    __real_flow_abort(flow);
}

/* ---- opening ---- */

static struct line *line_named(struct game *game, struct bytes type, struct reader *reader) {
    struct bytes host = reader_string(reader);
    char path[64];
    snprintf(path, sizeof path, "%.*s", (int)host.len, (const char *)host.at);
    if (memmem(type.at, type.len, "streamlocal", 11))
        return line_of_path(game, path);
    reader_u32(reader);
    reader_string(reader);
    uint32_t port = reader_u32(reader);
    return port >= ORIGIN_PORT ? line_at(game, port - ORIGIN_PORT) : NULL;
}

static void hear_open(struct game *game, int from, struct reader *reader) {
    struct channel *channel = channels;
    struct bytes type = reader_string(reader);
    uint32_t id = reader_u32(reader);
    expect(!find(from, id), "a channel number is used twice");
    while (channel->used)
        CHECK(++channel < channels + CHANNELS_MAX);
    *channel = (struct channel){.used = true, .opener = from, .heard_ns = game_now(game)};
    channel->id[from] = id;
    channel->credit[!from] = reader_u32(reader);
    channel->packet_max[!from] = reader_u32(reader);
    if (!bytes_equal(type, "session"))
        channel->line = line_named(game, type, reader);
    if (channel->line && from == CLIENT && game->server.connection->draining)
        channel->line->too_late = true;
    expect(reader_ok(reader) && channel->credit[!from] > 0, "a malformed CHANNEL_OPEN");
}

static void hear_confirmation(struct game *game, int from, struct channel *channel, struct reader *reader) {
    expect(!channel->confirmed && channel->opener != from, "a confirmation of what was not asked");
    channel->confirmed = true;
    channel->id[from] = reader_u32(reader);
    channel->credit[!from] = reader_u32(reader);
    channel->packet_max[!from] = reader_u32(reader);
    if (from == CLIENT)
        channel->heard_ns = game_now(game);
    unsigned same = 0;
    for (unsigned i = 0; i < CHANNELS_MAX; i++)
        same += channels[i].used && (channels[i].confirmed || channels[i].opener == from) &&
                channels[i].id[from] == channel->id[from];
    expect(same == 1, "a channel number is given twice");
}

/* ---- an open channel ---- */

static bool flow_is_open(const struct mux *mux, uint32_t id) {
    return id < mux->flows_size && mux->flows[id] && mux->flows[id]->phase == FLOW_OPEN;
}

static void hear_data(struct game *game, int from, struct channel *channel, struct reader *reader) {
    uint32_t len = reader_string(reader).len;
    expect(len > 0 && !channel->eof[from], "data after EOF, or none");
    expect(len <= channel->credit[from] && len <= channel->packet_max[from], "more data than was allowed");
    channel->credit[from] -= len;
    if (from == CLIENT && flow_is_open(&game->server.side.session->mux, channel->id[SERVER]))
        channel->heard_ns = game_now(game);
}

static void hear_eof(int from, struct channel *channel) {
    expect(!channel->eof[from], "EOF twice");
    channel->eof[from] = true;
}

static void hear_close(int from, struct channel *channel) {
    expect(!channel->close[from], "CLOSE twice");
    channel->close[from] = true;
    channel->used = !channel->close[!from];
}

static void hear_request(struct game *game, int from, struct channel *channel, struct reader *reader) {
    struct shell *shell = from == CLIENT ? shell_of_channel(game, channel->id[CLIENT]) : NULL;
    struct bytes name = reader_string(reader);
    bool wants_reply = reader_bool(reader);
    expect(!wants_reply || from == CLIENT, "the server asks for an answer");
    expect(from == CLIENT || bytes_equal(name, "exit-status"), "a request nobody expects");
    if (!wants_reply || !flow_is_open(&game->server.side.session->mux, channel->id[SERVER]))
        return;
    channel->owed[SERVER]++;
    if (shell)
        shell_request_heard(shell);
}

static void hear_answer(struct game *game, int from, struct channel *channel, bool success) {
    struct shell *shell = from == SERVER ? shell_of_channel(game, channel->id[CLIENT]) : NULL;
    expect(channel->owed[from] > 0, "an answer that nobody asked for");
    channel->owed[from]--;
    if (shell)
        shell_answered(shell, success);
}

static void hear_on_channel(struct game *game, int from, uint8_t type, struct reader *reader) {
    struct channel *channel = find(!from, reader_u32(reader));
    expect(channel != NULL && !channel->close[from], "a message on a channel that there is not");
    if (type == MSG_CHANNEL_OPEN_CONFIRMATION)
        return hear_confirmation(game, from, channel, reader);
    expect(channel->confirmed == (type != MSG_CHANNEL_OPEN_FAILURE), "a message on a channel that is not open");
    switch (type) {
    case MSG_CHANNEL_OPEN_FAILURE:
        channel->used = false;
        break;
    case MSG_CHANNEL_WINDOW_ADJUST:
        channel->credit[!from] += reader_u32(reader);
        expect(channel->credit[!from] <= LIMIT_WINDOW_LEATD_BYTES, "a window beyond its limit");
        break;
    case MSG_CHANNEL_DATA:
        hear_data(game, from, channel, reader);
        break;
    case MSG_CHANNEL_EOF:
        hear_eof(from, channel);
        break;
    case MSG_CHANNEL_CLOSE:
        hear_close(from, channel);
        break;
    case MSG_CHANNEL_REQUEST:
        hear_request(game, from, channel, reader);
        break;
    case MSG_CHANNEL_SUCCESS:
    case MSG_CHANNEL_FAILURE:
        hear_answer(game, from, channel, type == MSG_CHANNEL_SUCCESS);
        break;
    default:
        fail("a message that neither end says");
    }
}

int __real_mux_input(struct mux *mux, uint8_t *payload, uint32_t len, uint64_t now_ns, const char **why);
int __wrap_mux_input(struct mux *mux, uint8_t *payload, uint32_t len, uint64_t now_ns, const char **why);

int __wrap_mux_input(struct mux *mux, uint8_t *payload, uint32_t len, uint64_t now_ns, const char **why) {
    struct game *game = playing;
    int from = mux == &game->client.session.mux ? SERVER : CLIENT;
    struct reader reader;
    if (game->plan == PLAN_NONSENSE && game->plan_done)
        return __real_mux_input(mux, payload, len, now_ns, why);
    reader_init(&reader, payload + 1, len - 1);
    if (payload[0] == MSG_CHANNEL_OPEN)
        hear_open(game, from, &reader);
    else if (payload[0] > MSG_CHANNEL_OPEN)
        hear_on_channel(game, from, payload[0], &reader);
    expect(reader_ok(&reader), "a malformed message");
    int err = __real_mux_input(mux, payload, len, now_ns, why);
    expect(err == 0, *why);
    return err;
}
