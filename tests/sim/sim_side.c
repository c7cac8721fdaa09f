/* What both ends have: a shard, a speaker, a transport, a session; how they begin, and what must hold all along. */
#include "engine/check.h"
#include "ssh/hello.h"
#include "tests/sim/sim_game.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Far smaller than in the programs: so that slices have to be moved out of it. */
#define SIM_RING_BYTES (1u << 20)

/* ---- making one ---- */

static void on_doze(struct timer *timer) {
    struct side *side = list_entry(timer, struct side, doze);
    side->fake.asleep = false;
    if (side_works(side))
        session_wake(side->session);
}

void side_doze(struct side *side, uint64_t ns) {
    side->fake.asleep = true;
    timer_arm(&side->shard.timers, &side->doze, shard_now(&side->shard) + ns);
}

static void return_slots(struct side *side) {
    struct slot *slot;
    while ((slot = slot_queue_pop(&side->stolen)))
        slot_put(&side->shard.slots, slot);
}

static void on_theft_over(struct timer *timer) {
    return_slots(list_entry(timer, struct side, theft));
}

void side_steal_slots(struct side *side, uint64_t ns) {
    struct slot *slot;
    while ((slot = slot_take(&side->shard.slots)))
        slot_queue_push(&side->stolen, slot);
    timer_arm(&side->shard.timers, &side->theft, shard_now(&side->shard) + ns);
}

static uint32_t draw_slots(struct game *game) {
    return roll(game, 2) ? 2 + (uint32_t)roll(game, 6) : 2 + (uint32_t)roll(game, 60);
}

/* Whom silence ends; a flipped bit in a length field may need that too. Else it comes too seldom to matter. */
static void draw_alive(struct side *side) {
    struct game *game = side->game;
    bool needed = game->plan == PLAN_CORRUPT || game->plan == PLAN_SILENCE;
    if (game->quiet_link)
        return;
    side->alive_ns = needed ? (1 + roll(game, 3)) * SECOND : 600 * SECOND;
    side->alive_count = 1 + (uint32_t)roll(game, 3);
    if (!side->is_client && game->plan == PLAN_SILENCE && roll(game, 3) == 0)
        side->alive_count = 0; /* never, says sshd_config(5) */
}

void side_init(struct side *side, struct game *game, bool is_client, int fd) {
    *side = (struct side){.game = game, .name = is_client ? "client" : "server", .is_client = is_client, .fd = fd};
    struct shard_options options = {.slots_max = draw_slots(game), .rings_max = 1, .cpu = -1};
    CHECK(shard_init(&side->shard, &options, io_sim_create, game->world) == 0);
    /* A small ring is soon full of what slow applications leave there. A flipped bit can make a packet of any length.
     */
    if (game->plan != PLAN_CORRUPT)
        ring_pool_init(&side->shard.rings, SIM_RING_BYTES >> roll(game, 4), 1);
    side->doze.on_timer = on_doze;
    side->theft.on_timer = on_theft_over;
    slot_queue_init(&side->stolen);
    draw_alive(side);
}

void side_speak(struct side *side) {
    struct game *game = side->game;
    const char *version = side->is_client ? "SSH-2.0-leat_simulated\r\n"
                          : game->stock   ? "SSH-2.0-OpenSSH_9.2p1\r\n"
                                          : "SSH-2.0-leatd_simulated\r\n";
    fake_kex_init(&side->fake, &side->transport->wire, side->is_client, roll(game, 3) > 0, game->seed, version);
}

/* ---- the client ---- */

static void on_ending(struct session *session) {
    struct side *side = &playing->client.side;
    side->ending++;
    expect(session->ending && side->ending == 1 && side->ended == 0, "on_ending is told once, and first");
}

static void on_ended(struct session *session, int err, const char *reason) {
    struct side *side = &playing->client.side;
    expect(session == side->session && side->ending == 1, "the end is told before it begins");
    side_ended(side, err, reason);
}

void client_init(struct game *game) {
    struct client_end *end = &game->client;
    uint64_t rekey_bytes = roll(game, 2) ? 0 : 2000 + roll(game, 100000);
    end->side.transport = &end->transport;
    CHECK(transport_init(&end->transport, true, rekey_bytes, &end->side.fake.base) == 0);
    side_speak(&end->side);
    window_budget_init(&end->budget,
                       game->tight && roll(game, 2) ? 33000 + roll(game, 200000) : LIMIT_WINDOW_BUDGET_BYTES);
    end->side.budget = &end->budget;
}

static void client_start(struct game *game, const uint8_t *early, size_t early_len) {
    static const uint32_t windows[] = {1000, 40000, 100000, 0};
    struct client_end *end = &game->client;
    struct session_options options = {.fd = end->side.fd,
                                      .transport = &end->transport,
                                      .early = early,
                                      .early_len = early_len,
                                      .mux_ops = &client_mux_ops,
                                      .budget = &end->budget,
                                      .window_max = windows[roll(game, 4)],
                                      .alive_interval_ns = end->side.alive_ns,
                                      .alive_count_max = end->side.alive_count,
                                      .on_ended = on_ended,
                                      .on_ending = on_ending,
                                      .owner = end};
    if (!game->quiet_link)
        options.rekey_interval_ns = (1 + roll(game, 20)) * SECOND / 2;
    transport_authenticated(&end->transport);
    end->side.session = &end->session;
    CHECK(session_start(&end->session, &end->side.shard, &options) == 0);
    hello_ask(&end->session);
}

/* ---- the handshake ---- */

struct pipe {
    uint8_t bytes[1 << 16];
    size_t len;
};

static bool hand_over(struct transport *from, struct transport *to, struct pipe *pipe) {
    size_t used = 0, need, before = pipe->len;
    int n = transport_output(from, pipe->bytes + pipe->len, sizeof pipe->bytes - pipe->len);
    expect(n >= 0, "the handshake failed");
    pipe->len += (size_t)n;
    expect(transport_input(to, pipe->bytes, pipe->len, &used, &need) == 0, "the handshake failed");
    memmove(pipe->bytes, pipe->bytes + used, pipe->len - used);
    pipe->len -= used;
    return used > 0 || pipe->len != before;
}

/* Part of what came last is taken over with the session, the rest is still on its way. */
static size_t take_early(struct side *other, struct pipe *pipe) {
    struct game *game = other->game;
    fake_kex_chatter(&other->fake, (unsigned)roll(game, 4), FAKE_IGNORE);
    int n = transport_output(other->transport, pipe->bytes, sizeof pipe->bytes);
    CHECK(n >= 0);
    size_t early = roll(game, (uint64_t)n + 1), rest = (size_t)n - early;
    if (rest > 0)
        CHECK(io_sim_write(game->world, other->fd, pipe->bytes + early, (uint32_t)rest) == (int32_t)rest);
    return early;
}

void sides_start(struct game *game) {
    struct side *client = &game->client.side, *server = &game->server.side;
    struct pipe up = {.len = 0}, down = {.len = 0};
    if (game->stock && roll(game, 2)) { /* the sessions see to it themselves */
        client_start(game, NULL, 0);
        server_end_login(game, NULL, 0);
        return;
    }
    for (bool moved = true; moved;) {
        moved = hand_over(client->transport, server->transport, &up);
        moved |= hand_over(server->transport, client->transport, &down);
    }
    expect(fake_kex_settled(&client->fake) && fake_kex_settled(&server->fake), "the handshake is stuck");
    client_start(game, up.bytes, take_early(server, &up));
    server_end_login(game, down.bytes, take_early(client, &down));
}

/* ---- the end ---- */

/* What nobody answers is noticed in the time that the keepalives take, no sooner and not much later. */
static void check_timeout(const struct side *side) {
    uint64_t silent_ns = side->ending_ns - side->session->last_input_ns;
    uint64_t due_ns = side->alive_ns * (side->alive_count + 1);
    expect(side->alive_count > 0 || side->is_client, "a server ended what is never to be ended");
    expect(silent_ns >= due_ns && silent_ns <= due_ns + MS, "silence was noticed at the wrong time");
}

void side_note_ending(struct side *side) {
    if (side->ending_ns == 0 && side_is_ending(side))
        side->ending_ns = game_now(side->game);
}

void side_ended(struct side *side, int err, const char *reason) {
    side->ended++;
    side->end_err = err;
    snprintf(side->end_reason, sizeof side->end_reason, "%s", reason);
    expect(side->game->plan_done, "a session ended by itself");
    expect(side->end_by_ns == 0 || shard_now(&side->shard) <= side->end_by_ns, "a session took too long to end");
    side_note_ending(side);
    expect(shard_now(&side->shard) <= side->ending_ns + LIMIT_LINGER_NS + SECOND, "an end lingers too long");
    if (err == ERR_TIMEOUT)
        check_timeout(side);
}

void side_end(struct side *side) {
    struct game *game = side->game;
    side->end_by_ns = game_now(game) + LIMIT_LINGER_NS + SECOND;
    if (roll(game, 4) == 0)
        io_sim_stall(game->world, side->fd, game_now(game) + 20 * SECOND);
    if (side->is_client)
        session_end(side->session, 0, "wants no more");
    else
        server_connection_end(game->server.connection, 0, "wants no more");
}

/* ---- what must hold ---- */

void side_validate(struct side *side) {
    if (side->ended || !side->session)
        return;
    const struct mux *mux = &side->session->mux;
    wire_validate(&side->transport->wire);
    mux_validate(mux);
    expect(side->shard.rings.lent <= 1, "more than one ring for a session");
    uint64_t granted = 0;
    for (uint32_t id = 0; id < mux->flows_size; id++)
        granted += mux->flows[id] ? mux->flows[id]->window.target : 0;
    /* What channels that are gone have left for slow applications is counted too. */
    expect(granted <= side->budget->used, "the window budget is less than what the windows have");
    expect(side->budget->used <= side->budget->max, "the window budget is exceeded");
}

void side_validate_idle(struct side *side) {
    expect(side->shard.slots.free_count == side->shard.slots.count, "an idle session holds slots");
    expect(side->shard.rings.lent == 0, "an idle session holds a ring");
    expect(side->shard.timers.count == 0, "an idle session has timers");
    expect(side->budget->used == 0, "an idle session holds window budget");
    expect(side->shard.flows == 0, "an idle shard has flows");
    expect(!wire_rekey_due(&side->transport->wire), "a rekey is due and nobody asks for it");
    expect(side->replies == side->requests, "a global request was not answered");
    expect(side->fake.asked == side->fake.answered, "the speakers' packets were lost");
    expect(fake_kex_settled(&side->fake), "a key exchange never ended");
}

void side_deinit(struct side *side) {
    timer_cancel(&side->shard.timers, &side->doze);
    timer_cancel(&side->shard.timers, &side->theft);
    return_slots(side);
    expect(side->replies == side->requests, "a global request was not answered");
    expect(side->lookups == 0, "a name is still looked up");
    expect(side->shard.slots.free_count == side->shard.slots.count, "slots are missing");
    expect(side->shard.rings.lent == 0, "a ring is missing");
    expect(side->shard.timers.count == 0, "a timer is armed");
    expect(list_empty(&side->shard.tasks), "a task is left");
    expect(list_empty(&side->shard.slots.waiters), "somebody still waits for slots");
    expect(list_empty(&side->shard.accept_paused), "a listener still waits for a descriptor");
    expect(side->budget->used == 0, "window budget is missing");
    expect(side->shard.flows == 0, "the shard still counts flows");
    fake_kex_deinit(&side->fake);
    shard_deinit(&side->shard);
}
