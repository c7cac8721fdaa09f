/* What happens meanwhile, and how it ends. */
#include "engine/check.h"
#include "ssh/mux_internal.h"
#include "ssh/relay.h"
#include "tests/sim/sim_game.h"

#define EVENTS_MAX 2000u

static void rekey(struct side *side) {
    struct speaker *speaker = &side->fake.base;
    int err = speaker->ops->rekey(speaker);
    expect(err == 0 || err == ERR_AGAIN, "a rekey failed");
    side->game->rekeys++;
    session_wake(side->session);
}

static void chatter(struct side *side) {
    struct game *game = side->game;
    unsigned kinds = side->is_client ? 3 : 2;
    fake_kex_chatter(&side->fake, 1 + (unsigned)roll(game, 3), (enum fake_chatter)roll(game, kinds));
    session_wake(side->session);
}

/* A server that is out of descriptors for a moment. */
static void fail_accept(struct game *game) {
    const struct server_connection *connection = game->server.connection;
    list_for_each (node, &game->server.side.shard.accept_paused)
        return;
    for (unsigned i = 0; i < game->lines_count && connection; i++)
        if (game->asked[i].state == ASKED_GRANTED)
            host_fail_accept(game, &game->asked[i]);
}

static void network_event(struct side *side) {
    struct game *game = side->game;
    switch (roll(game, 10)) {
    case 0:
        fail_accept(game);
        break;
    case 1:
        if (roll(game, 4) == 0)
            ask_cancel(game, &game->asked[roll(game, game->lines_count)]);
        break;
    case 2:
        side_doze(side, roll(game, 200 * MS));
        break;
    case 3:
    case 6:
        side_steal_slots(side, roll(game, 200 * MS));
        break;
    case 4:
        ask_more(game);
        break;
    case 5:
        server_connection_print(game->server.connection);
        relay_print(game->client.side.session);
        break;
    default:
        io_sim_stall(game->world, side->fd, game_now(game) + roll(game, 200 * MS));
        break;
    }
}

static void speak(struct side *side) {
    struct game *game = side->game;
    switch (roll(game, 6)) {
    case 0:
    case 1:
        rekey(side);
        break;
    case 2:
        rekey(&game->client.side);
        rekey(&game->server.side);
        break;
    case 3:
        side_request(side);
        break;
    case 4:
        chatter(side);
        break;
    default:
        if (roll(game, 20) == 0)
            game->burst = 40;
        if (roll(game, 20) == 0)
            shells_refuse(game);
        break;
    }
}

void game_event(struct game *game) {
    struct side *side = roll(game, 2) ? &game->client.side : &game->server.side;
    if (!side_works(&game->client.side) || !side_works(&game->server.side))
        return;
    if (game->plan == PLAN_SILENCE && game->plan_done)
        return;
    /* More answers than the transport lets wait; but not more questions: two ends that both wait for the other to read
     * would wait for ever, and no speaker that is real asks so much. */
    if (game->burst > 0 && game->client.transport.from_len < 16384 && game->client.side.fake.out.len == 0) {
        game->burst--;
        fake_kex_chatter(&game->client.side.fake, 200, FAKE_UNKNOWN);
        session_wake(game->client.side.session);
    }
    if (game->events == EVENTS_MAX || roll(game, game->event_odds) != 0)
        return;
    game->events++;
    if (roll(game, 4) == 0)
        network_event(side);
    else
        speak(side);
}

/* ---- the plan ---- */

/* For longer than anybody waits. */
static void silence(struct game *game) {
    io_sim_stall(game->world, game->server.side.fd, game_now(game) + 3600 * SECOND);
}

/* A server that nobody has told to look for silence hears of the end in the end. */
void game_silence(struct game *game) {
    if (game->plan == PLAN_SILENCE && game->client.side.ended && !game->server.side.ended)
        io_sim_stall(game->world, game->server.side.fd, 0);
}

/* Told by the tag, or by the length field's rules; a flip that makes a packet longer and no more by the keepalive, if
 * nothing else comes. */
static bool flip_bit(struct game *game) {
    struct side *side = roll(game, 2) ? &game->client.side : &game->server.side;
    return side_works(side) && side->transport->wire.in.epochs > 0 && io_sim_corrupt(game->world, side->fd);
}

/* Each breaks RFC 4254 in whatever state things are. */
static void nonsense(struct game *game) {
    static const struct {
        uint8_t type, len;
        const char *payload;
    } messages[] = {{MSG_CHANNEL_DATA, 9, "\377\377\377\377\0\0\0\1x"},
                    {MSG_CHANNEL_DATA, 9, "\0\0\0\0\0\0\0\2x"},
                    {MSG_CHANNEL_CLOSE, 4, "\0\1\0\0"},
                    {MSG_CHANNEL_EOF, 3, "\0\0\0"},
                    {MSG_CHANNEL_OPEN_CONFIRMATION, 16, "\0\0\377\0\0\0\0\0\0\1\0\0\0\1\0\0"},
                    {MSG_CHANNEL_OPEN, 4, "\0\0\0\7"},
                    {MSG_GLOBAL_REQUEST, 2, "\0\0"},
                    {MSG_CHANNEL_WINDOW_ADJUST, 5, "\0\0\0\0\0"},
                    {MSG_CHANNEL_OPEN_FAILURE, 4, "\0\0\0\0"}};
    unsigned which = (unsigned)roll(game, sizeof messages / sizeof messages[0]);
    uint8_t packet[32];
    struct writer writer;
    writer_init(&writer, packet, sizeof packet);
    writer_u8(&writer, messages[which].type);
    writer_raw(&writer, messages[which].payload, messages[which].len);
    CHECK(mux_answer(&game->client.session.mux, &writer) == 0);
    session_wake(&game->client.session);
}

static void drain(struct game *game) {
    asks_over(game);
    lines_loosen(game);
    server_connection_drain(game->server.connection);
}

static void carry_out(struct game *game) {
    struct side *side = roll(game, 2) ? &game->client.side : &game->server.side;
    switch (game->plan) {
    case PLAN_LINK_RESET:
        io_sim_reset(game->world, side->fd);
        break;
    case PLAN_END_CLIENT:
        side_end(&game->client.side);
        break;
    case PLAN_END_SERVER:
        side_end(&game->server.side);
        break;
    case PLAN_DRAIN:
        drain(game);
        return; /* what stands goes on */
    case PLAN_SILENCE:
        silence(game);
        break;
    case PLAN_NONSENSE:
        nonsense(game);
        break;
    default:
        break;
    }
    lines_excuse(game);
}

void game_plan(struct game *game) {
    const struct session *client = game->client.side.session, *server = game->server.side.session;
    if (game->plan_done || game->plan == PLAN_ORDERLY || !client || !server)
        return;
    bool due = client->bytes_in + server->bytes_in >= game->plan_at || game_now(game) >= game->plan_ns;
    if (!due || (game->plan == PLAN_CORRUPT && !flip_bit(game)))
        return;
    if (game->plan == PLAN_NONSENSE && (!side_works(&game->client.side) || client->mux.answers_count > 0))
        return;
    game->plan_done = true;
    carry_out(game);
}
