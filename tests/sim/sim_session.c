/* Seeded simulation of two sessions over a fake link, in virtual time: the real session, relay, mux, wire, transport
 * and conn on the simulator's sockets; libssh's part is played by fake_kex, the applications by sim_line.
 *
 *   sim_session [--seeds N] [--seed S] [--verbose]      LEAT_SIM_BASE in the environment: another first seed
 *
 * Every seed draws a link, a number of connections in both directions, rekeys, idle chatter, and how it all ends:
 * orderly, by the link's reset, by a flipped bit, or by either session's own end. What must hold is checked all along
 * and at the end. A failure prints the seed.
 *
 * Past 600 lines in one file: a seed is one story, drawn, played and judged by functions that share its every state. */
#include "engine/check.h"
#include "engine/limits.h"
#include "ssh/mux.h"
#include "tests/sim/fake_kex.h"
#include "tests/sim/sim_line.h"
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>

#define MS UINT64_C(1000000)
#define SECOND UINT64_C(1000000000)
#define LINES_MAX 10u
#define SEED_SECONDS_MAX 30 /* of processor time, which a busy machine does not use up */
#define STEPS_MAX 3000000u
#define TIME_MAX (36000 * SECOND)

enum plan { PLAN_ORDERLY, PLAN_LINK_RESET, PLAN_CORRUPT, PLAN_END_CLIENT, PLAN_END_SERVER, PLAN_COUNT };
static const char *const plan_names[] = {"orderly", "link reset", "flipped bit", "client ends", "server ends"};

struct side {
    struct game *game;
    const char *name;
    bool is_client;
    struct shard shard;
    struct transport transport;
    struct fake_kex fake;
    struct session session;
    struct window_budget budget;
    int fd;
    unsigned ended;
    uint64_t end_by_ns; /* told to end: not later than this */
    int end_err;
    char end_reason[512];
    unsigned requests, replies; /* global requests: numbered, and answered in that order */
};

struct game {
    uint64_t seed;
    struct sim_world *world;
    struct side client, server;
    struct line lines[LINES_MAX];
    unsigned lines_count;
    struct timer alarm; /* when an application wants the clock to stop; on the client's shard */
    enum plan plan;
    uint64_t plan_at; /* bytes over the link */
    bool plan_done;
    bool quiet_link; /* no keepalive, no rekeys by time: an idle session becomes quiet */
    uint32_t event_odds, burst;
    unsigned rekeys;
    uint64_t steps;
};

/* Far smaller than in the programs: so that slices have to be moved out of it. */
#define SIM_RING_BYTES (1u << 20)

static struct game *playing; /* for what has no argument: the wrapped calls and the report of a failure */
static bool verbose;

static uint64_t roll(struct game *game, uint64_t below) {
    return sim_random(game->world, below);
}

/* ---- failures ---- */

static void print_side(const struct side *side) {
    const struct session *session = &side->session;
    const struct wire *wire = &side->transport.wire;
    fprintf(
        stderr,
        "  %s: ended %u (%s), in epoch %u state %d, out epoch %u state %d, kexing %d/%d, relays %u, slots %u of %u\n",
        side->name, side->ended, side->end_reason, wire->in.epochs, wire->in.state, wire->out.epochs, wire->out.state,
        wire->kexing_in, wire->kexing_out, session->relays_count, side->shard.slots.free_count,
        side->shard.slots.count);
    fprintf(stderr,
            "    bytes in %" PRIu64 " out %" PRIu64
            ", recv %d send %d readable %d, speaker in %zu out %zu asked %u answered %u\n",
            session->bytes_in, session->bytes_out, session->recv.in_flight, session->send.in_flight,
            session->readable.in_flight, side->fake.in.len, side->fake.out.len, side->fake.asked, side->fake.answered);
    if (side->ended)
        return;
    for (uint32_t id = 0; id < session->mux.flows_size; id++) {
        const struct flow *flow = session->mux.flows[id];
        if (flow)
            fprintf(stderr,
                    "    flow %u: phase %d in %d out %d, queued %" PRIu64 ", peer window %" PRIu64
                    ", granted %u unconsumed %u owed %u of %u\n",
                    id, flow->phase, flow->in, flow->out, flow->queue.bytes, flow->peer_window, flow->window.granted,
                    flow->window.unconsumed, flow->window.owed, flow->window.target);
    }
}

static void print_game(const struct game *game) {
    fprintf(stderr, "  plan: %s%s, %" PRIu64 " steps, %.3f s of virtual time\n", plan_names[game->plan],
            game->plan_done ? ", done" : "", game->steps, (double)sim_world_now(game->world) / 1e9);
    print_side(&game->client);
    print_side(&game->server);
    for (unsigned i = 0; i < game->lines_count; i++)
        line_print(&game->lines[i]);
}

static void report(void) {
    const struct game *game = playing;
    playing = NULL;
    if (!game)
        return;
    fprintf(stderr, "sim_session: failed with seed %" PRIu64 "; again with: sim_session --seed %" PRIu64 "\n",
            game->seed, game->seed);
    print_game(game);
}

extern void __sanitizer_set_death_callback(void (*callback)(void)) __attribute__((weak));

static void on_signal(int number) {
    report();
    if (number == SIGPROF)
        _exit(1);
}

/* A CHECK, a crash, and a loop without end. */
static void report_signals(void) {
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = (int)SA_RESETHAND};
    sigaction(SIGABRT, &action, NULL);
    sigaction(SIGPROF, &action, NULL);
    if (__sanitizer_set_death_callback)
        __sanitizer_set_death_callback(report);
    else
        sigaction(SIGSEGV, &action, NULL);
}

_Noreturn static void fail(const char *what) {
    fprintf(stderr, "sim_session: %s\n", what);
    report();
    exit(1);
}

static void expect(bool holds, const char *what) {
    if (!holds)
        fail(what);
}

/* ---- calls that the linker sends here (--wrap): the kernel's part, and looks at what is queued ---- */

int __wrap_socket(int family, int type, int protocol);
int __wrap_setsockopt(int fd, int level, int name, const void *value, socklen_t len);
void __real_conn_write_slice(struct conn *conn, struct rxbuf *rx, struct slice *slice);
void __wrap_conn_write_slice(struct conn *conn, struct rxbuf *rx, struct slice *slice);

int __wrap_socket(int family, int type, int protocol) {
    (void)family, (void)type, (void)protocol;
    return io_sim_socket(playing->world);
}

int __wrap_setsockopt(int fd, int level, int name, const void *value, socklen_t len) {
    (void)len;
    if (level == SOL_SOCKET && name == SO_RCVLOWAT)
        io_sim_receive_low(playing->world, fd, (uint32_t) * (const int *)value);
    return 0;
}

/* A reader that stops costs its own window and no more. */
void __wrap_conn_write_slice(struct conn *conn, struct rxbuf *rx, struct slice *slice) {
    __real_conn_write_slice(conn, rx, slice);
    struct side *side = conn->shard == &playing->client.shard ? &playing->client : &playing->server;
    expect(conn_queued(conn) <= side->session.mux.window_max, "more is queued for an application than its window");
}

/* ---- lines ---- */

static void note_what(char *to, const struct relay_state *end) {
    snprintf(to, 200, "%s", end->what ? end->what : "");
}

static void on_near_end(void *owner, const struct relay_state *end) {
    struct line *line = owner;
    line->near_ends++;
    note_what(line->near_what, end);
}

static void on_far_end(void *owner, const struct relay_state *end) {
    struct line *line = owner;
    line->far_ends++;
    note_what(line->far_what, end);
}

static const struct relay_watcher near_watcher = {.on_end = on_near_end}, far_watcher = {.on_end = on_far_end};

static struct side *side_of(struct mux *mux) {
    return list_entry(list_entry(mux, struct session, mux), struct side, session);
}

static struct flow *on_open(struct mux *mux, const struct mux_open *open, uint32_t *reason, const char **text) {
    struct side *side = side_of(mux);
    struct game *game = side->game;
    uint32_t at = open->port - 1000;
    expect(open->kind == (side->is_client ? MUX_OPEN_FORWARDED_TCPIP : MUX_OPEN_DIRECT_TCPIP), "wrong type of channel");
    expect(bytes_equal(open->host, "127.0.0.1") && at < game->lines_count, "a channel nobody opened");
    struct line *line = &game->lines[at];
    if (line->prohibited) {
        *reason = OPEN_ADMINISTRATIVELY_PROHIBITED;
        *text = "not allowed";
        return NULL;
    }
    line->far_asked++;
    struct relay_target target = {.kind = RELAY_CONNECT_TCP,
                                  .host = "127.0.0.1",
                                  .port = line->port,
                                  .family = AF_INET,
                                  .connect_timeout_ns = 600 * SECOND};
    return relay_asked(&side->session, &target, &far_watcher, line);
}

static void line_open(struct game *game, struct line *line) {
    struct side *side = line->reversed ? &game->server : &game->client;
    struct relay_target target = {
        .kind = line->reversed ? RELAY_FORWARDED_TCPIP : RELAY_DIRECT_TCPIP, .host = "127.0.0.1", .port = line->port};
    int fds[2];
    line->opened = true;
    io_sim_pair(game->world, fds);
    line->near.fd = fds[0];
    if (!side->ended)
        return relay_open(&side->session, fds[1], &target, &near_watcher, line);
    io_sim_close(game->world, fds[1], IO_CLOSE_RESET);
    line->near_ends++;
}

static void excuse_lines(struct game *game) {
    for (unsigned i = 0; i < game->lines_count; i++)
        game->lines[i].excused = true;
}

/* ---- sessions ---- */

static bool on_global(struct mux *mux, struct bytes name, struct bytes data, uint8_t *reply, uint32_t *reply_len) {
    (void)mux;
    if (!bytes_equal(name, "echo"))
        return false;
    memcpy(reply, data.at, data.len);
    *reply_len = data.len;
    return true;
}

static void on_reply(void *arg, bool success, struct bytes data) {
    struct side *side = arg;
    expect(!success || (data.len == 4 && codec_get_u32(data.at) == side->replies), "wrong answer to a global request");
    expect(success || side->session.ending, "a global request failed");
    side->replies++;
}

static void on_ended(struct session *session, int err, const char *reason) {
    struct side *side = list_entry(session, struct side, session);
    side->ended++;
    side->end_err = err;
    snprintf(side->end_reason, sizeof side->end_reason, "%s", reason);
    expect(side->game->plan_done, "a session ended by itself");
    expect(side->end_by_ns == 0 || shard_now(&side->shard) <= side->end_by_ns, "a session took too long to end");
}

static const struct mux_ops mux_ops = {.on_open = on_open, .on_global = on_global};

static void side_init(struct side *side, struct game *game, bool is_client, int fd) {
    struct shard_options options = {
        .slots_max = 2 + (uint32_t)roll(game, roll(game, 2) ? 6 : 60), .rings_max = 1, .cpu = -1};
    uint64_t rekey_bytes = roll(game, 2) ? 0 : 2000 + roll(game, 100000);
    *side = (struct side){.game = game, .name = is_client ? "client" : "server", .is_client = is_client, .fd = fd};
    CHECK(shard_init(&side->shard, &options, io_sim_create, game->world) == 0);
    /* A small ring is soon full of what slow applications leave there. A flipped bit can make a packet of any length.
     */
    if (game->plan != PLAN_CORRUPT)
        ring_pool_init(&side->shard.rings, SIM_RING_BYTES >> roll(game, 4), 1);
    CHECK(transport_init(&side->transport, is_client, rekey_bytes, &side->fake.base) == 0);
    fake_kex_init(&side->fake, &side->transport.wire, is_client, roll(game, 3) > 0, game->seed,
                  "SSH-2.0-simulated\r\n");
    window_budget_init(&side->budget, LIMIT_WINDOW_BUDGET_BYTES);
}

static void side_start(struct side *side, const uint8_t *early, size_t early_len) {
    struct game *game = side->game;
    static const uint32_t windows[] = {1000, 40000, 100000, LIMIT_WINDOW_OPENSSH_BYTES};
    struct session_options options = {.fd = side->fd,
                                      .transport = &side->transport,
                                      .early = early,
                                      .early_len = early_len,
                                      .mux_ops = &mux_ops,
                                      .budget = &side->budget,
                                      .window_max = windows[roll(game, 4)],
                                      .on_ended = on_ended,
                                      .owner = side};
    if (!game->quiet_link) {
        options.alive_interval_ns = game->plan == PLAN_CORRUPT ? SECOND : 600 * SECOND;
        options.alive_count_max = 3;
        options.rekey_interval_ns = (1 + roll(game, 20)) * SECOND / 2;
    }
    transport_authenticated(&side->transport);
    CHECK(session_start(&side->session, &side->shard, &options) == 0);
    side->session.peer.resets_by_close = true; /* leat's own ends: what was cut must be seen to be */
}

/* ---- the handshake that leat makes before there is a session ---- */

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
static void start_with_early(struct side *side, struct side *other) {
    struct pipe pipe;
    fake_kex_chatter(&other->fake, (unsigned)roll(side->game, 4), false);
    int n = transport_output(&other->transport, pipe.bytes, sizeof pipe.bytes);
    CHECK(n >= 0);
    size_t early = roll(side->game, (uint64_t)n + 1), rest = (size_t)n - early;
    if (rest > 0)
        CHECK(io_sim_write(side->game->world, other->fd, pipe.bytes + early, (uint32_t)rest) == (int32_t)rest);
    side_start(side, pipe.bytes, early);
}

static void game_start_sessions(struct game *game) {
    struct side *client = &game->client, *server = &game->server;
    struct pipe up = {.len = 0}, down = {.len = 0};
    if (roll(game, 3) == 0) {
        side_start(client, NULL, 0);
        side_start(server, NULL, 0);
        return;
    }
    for (bool moved = true; moved;) {
        moved = hand_over(&client->transport, &server->transport, &up);
        moved |= hand_over(&server->transport, &client->transport, &down);
    }
    expect(fake_kex_settled(&client->fake) && fake_kex_settled(&server->fake), "the handshake is stuck");
    start_with_early(client, server);
    start_with_early(server, client);
}

static void game_init(struct game *game, uint64_t seed) {
    uint64_t random = seed * UINT64_C(0x9e3779b97f4a7c15);
    const struct sim_options options = {.seed = random,
                                        .capacity = 4096u << (random >> 60) % 7,
                                        .latency_max_ns = (random >> 50) % 4 * (random >> 40) % 5 * 3 * MS,
                                        .partial_percent = (uint8_t)((random >> 30) % 50),
                                        .short_percent = (uint8_t)((random >> 20) % 50),
                                        .defer_percent = (uint8_t)((random >> 10) % 40)};
    static const enum plan plans[] = {PLAN_ORDERLY,    PLAN_ORDERLY, PLAN_ORDERLY,    PLAN_ORDERLY,   PLAN_ORDERLY,
                                      PLAN_LINK_RESET, PLAN_CORRUPT, PLAN_END_CLIENT, PLAN_END_SERVER};
    int fds[2];
    *game = (struct game){.seed = seed, .world = sim_world_create(&options)};
    playing = game;
    game->plan = plans[roll(game, sizeof plans / sizeof plans[0])];
    game->quiet_link = game->plan == PLAN_ORDERLY && roll(game, 2);
    game->event_odds = 3u << roll(game, 8);
    game->lines_count = 1 + (unsigned)roll(game, roll(game, 3) ? 4 : LINES_MAX);
    io_sim_pair(game->world, fds);
    side_init(&game->client, game, true, fds[0]);
    side_init(&game->server, game, false, fds[1]);
    uint64_t total = 0;
    for (unsigned i = 0; i < game->lines_count; i++) {
        line_init(&game->lines[i], game->world, i, sim_world_now(game->world) + roll(game, 2) * roll(game, 200 * MS));
        total += game->lines[i].near.total + game->lines[i].far.total;
    }
    game->plan_at = game->plan == PLAN_ORDERLY ? UINT64_MAX : 500 + roll(game, total + 3000);
    game_start_sessions(game);
}

/* ---- what happens ---- */

static void rekey(struct side *side) {
    struct speaker *speaker = &side->fake.base;
    int err = speaker->ops->rekey(speaker);
    expect(err == 0 || err == ERR_AGAIN, "a rekey failed");
    side->game->rekeys++;
    session_wake(&side->session);
}

static void request(struct side *side) {
    uint8_t number[4];
    codec_put_u32(number, side->requests);
    int err = mux_global_request(&side->session.mux, "echo", number, 4, on_reply, side);
    side->requests += err == 0;
    expect(err == 0 || err == ERR_LIMIT || err == ERR_CLOSED, "a global request was not taken");
    session_wake(&side->session);
}

static void game_event(struct game *game) {
    struct side *side = roll(game, 2) ? &game->client : &game->server;
    bool works = !game->client.ended && !game->server.ended;
    if (!works)
        return;
    if (game->burst > 0) { /* more answers than the transport lets wait */
        game->burst--;
        fake_kex_chatter(&game->client.fake, 200, true);
        session_wake(&game->client.session);
    }
    if (roll(game, game->event_odds) != 0)
        return;
    switch (roll(game, 8)) {
    case 0:
    case 1:
        rekey(side);
        break;
    case 2:
        rekey(&game->client);
        rekey(&game->server);
        break;
    case 3:
        request(side);
        break;
    case 4:
        fake_kex_chatter(&side->fake, 1 + (unsigned)roll(game, 3), roll(game, 2));
        session_wake(&side->session);
        break;
    case 5:
        if (roll(game, 20) == 0)
            game->burst = 40;
        break;
    default:
        io_sim_stall(game->world, side->fd, sim_world_now(game->world) + roll(game, 200 * MS));
        break;
    }
}

/* A peer that does not take our last bytes holds nothing up for long. */
static void side_end(struct side *side) {
    uint64_t now = sim_world_now(side->game->world);
    side->end_by_ns = now + LIMIT_LINGER_NS + SECOND;
    if (roll(side->game, 4) == 0)
        io_sim_stall(side->game->world, side->fd, now + 20 * SECOND);
    session_end(&side->session, 0, "wants no more");
}

/* A flipped bit is told by the tag, or by the length field's rules; one that makes a packet longer and no more by the
 * keepalive, if nothing else comes. */
static void game_plan(struct game *game) {
    uint64_t passed = game->client.session.bytes_in + game->server.session.bytes_in;
    if (game->plan_done || passed < game->plan_at)
        return;
    struct side *side = roll(game, 2) ? &game->client : &game->server;
    if (game->plan == PLAN_CORRUPT && (side->transport.wire.in.epochs == 0 || !io_sim_corrupt(game->world, side->fd)))
        return;
    if (game->plan == PLAN_LINK_RESET)
        io_sim_reset(game->world, side->fd);
    if (game->plan == PLAN_END_CLIENT)
        side_end(&game->client);
    if (game->plan == PLAN_END_SERVER)
        side_end(&game->server);
    game->plan_done = true;
    excuse_lines(game);
}

static void side_validate(struct side *side) {
    if (side->ended)
        return;
    wire_validate(&side->transport.wire);
    mux_validate(&side->session.mux);
    expect(side->shard.rings.lent <= 1, "more than one ring for a session");
    uint64_t granted = 0;
    for (uint32_t id = 0; id < side->session.mux.flows_size; id++)
        if (side->session.mux.flows[id])
            granted += side->session.mux.flows[id]->window.target;
    /* More while relays whose channels are gone still write. */
    expect(granted <= side->budget.used, "the window budget is less than what the windows have");
}

static void alarm_set(struct game *game) {
    uint64_t next = UINT64_MAX;
    for (unsigned i = 0; i < game->lines_count; i++) {
        uint64_t at = line_wakes_ns(&game->lines[i]);
        next = at < next ? at : next;
    }
    if (next == UINT64_MAX)
        timer_cancel(&game->client.shard.timers, &game->alarm);
    else
        timer_arm(&game->client.shard.timers, &game->alarm, next);
}

static void on_alarm(struct timer *timer) {
    (void)timer;
}

static bool game_lines_act(struct game *game) {
    bool acted = false;
    for (unsigned i = 0; i < game->lines_count; i++) {
        struct line *line = &game->lines[i];
        if (!line->opened && line->start_ns <= sim_world_now(game->world)) {
            line_open(game, line);
            acted = true;
        }
        if (line->opened)
            acted |= line_act(line);
        if (line->fault[0])
            fail(line->fault);
    }
    return acted;
}

static bool game_lines_over(const struct game *game) {
    for (unsigned i = 0; i < game->lines_count; i++)
        if (!line_over(&game->lines[i]))
            return false;
    return true;
}

/* One step of everyone. False: nothing will ever happen again. */
static bool game_step(struct game *game) {
    struct shard *shards[] = {&game->client.shard, &game->server.shard};
    bool acted = game_lines_act(game);
    alarm_set(game);
    bool alive = sim_world_step(game->world, shards, 2);
    if (game->steps++ % 16 == 0) {
        side_validate(&game->client);
        side_validate(&game->server);
    }
    expect(game->steps < STEPS_MAX, "stuck: too many steps");
    expect(sim_world_now(game->world) < TIME_MAX, "stuck: too long");
    return acted || alive;
}

/* Only those who were promised nothing may still wait. */
static void game_run_lines(struct game *game) {
    while (!game_lines_over(game)) {
        game_event(game);
        game_plan(game);
        expect(game_step(game), "stuck: nothing will ever happen again");
    }
}

/* An idle session has given everything back. */
static void game_idle(struct game *game) {
    uint64_t until = sim_world_now(game->world) + 3 * LIMIT_QUIET_NS;
    while (sim_world_now(game->world) < until && game_step(game))
        continue;
    struct side *sides[] = {&game->client, &game->server};
    for (unsigned i = 0; i < 2; i++) {
        struct side *side = sides[i];
        expect(side->shard.slots.free_count == side->shard.slots.count, "an idle session holds slots");
        expect(side->shard.rings.lent == 0, "an idle session holds a ring");
        expect(side->shard.timers.count == 0, "an idle session has timers");
        expect(side->budget.used == 0, "an idle session holds window budget");
        expect(!wire_rekey_due(&side->transport.wire), "a rekey is due and nobody asks for it");
        expect(side->replies == side->requests, "a global request was not answered");
        expect(side->fake.asked == side->fake.answered, "the speakers' packets were lost");
        expect(fake_kex_settled(&side->fake), "a key exchange never ended");
    }
}

static void game_end_sessions(struct game *game) {
    struct side *client = &game->client, *server = &game->server;
    if (!game->plan_done && game->plan == PLAN_ORDERLY && game->quiet_link)
        game_idle(game);
    bool by_plan = game->plan_done;
    if (!by_plan) {
        game->plan_done = true;
        side_end(roll(game, 2) ? client : server);
    }
    while (!client->ended || !server->ended)
        expect(game_step(game), "stuck: a session does not end");
    if (by_plan && game->plan == PLAN_CORRUPT)
        expect(client->end_err != 0 || server->end_err != 0, "a flipped bit was not noticed");
}

static void side_deinit(struct side *side) {
    expect(side->ended == 1, "on_ended not exactly once");
    expect(side->replies == side->requests, "a global request was not answered");
    expect(side->shard.slots.free_count == side->shard.slots.count, "slots are missing");
    expect(side->shard.rings.lent == 0, "a ring is missing");
    expect(side->shard.timers.count == 0, "a timer is armed");
    expect(list_empty(&side->shard.tasks), "a task is left");
    expect(side->budget.used == 0, "window budget is missing");
    expect(side->shard.load == 0, "the shard's load is not 0");
    transport_deinit(&side->transport);
    fake_kex_deinit(&side->fake);
    shard_deinit(&side->shard);
}

static void play(struct game *game, uint64_t seed) {
    const struct itimerval watchdog = {.it_value.tv_sec = SEED_SECONDS_MAX};
    setitimer(ITIMER_PROF, &watchdog, NULL);
    game_init(game, seed);
    game->alarm.on_timer = on_alarm;
    game_run_lines(game);
    game_end_sessions(game);
    timer_cancel(&game->client.shard.timers, &game->alarm);
    for (unsigned i = 0; i < game->lines_count; i++) {
        line_judge(&game->lines[i]);
        if (game->lines[i].fault[0])
            fail(game->lines[i].fault);
        line_close(&game->lines[i]);
    }
    expect(io_sim_open_count(game->world) == 0, "a descriptor is open");
    if (verbose) {
        fprintf(stderr, "seed %" PRIu64 ": %u rekeys asked for\n", seed, game->rekeys);
        print_game(game);
    }
    side_deinit(&game->client);
    side_deinit(&game->server);
    sim_world_destroy(game->world);
    playing = NULL;
}

int main(int argc, char **argv) {
    const char *base = getenv("LEAT_SIM_BASE");
    uint64_t first = base ? strtoull(base, NULL, 0) : 1, count = 300;
    for (int i = 1; i < argc; i++) {
        bool value = i + 1 < argc;
        if (value && strcmp(argv[i], "--seeds") == 0) {
            count = strtoull(argv[++i], NULL, 0);
        } else if (value && strcmp(argv[i], "--seed") == 0) {
            first = strtoull(argv[++i], NULL, 0);
            count = 1;
        } else if (strcmp(argv[i], "--verbose") == 0) {
            verbose = true;
        } else {
            fprintf(stderr, "usage: sim_session [--seeds N] [--seed S] [--verbose]\n");
            return 2;
        }
    }
    report_signals();
    static struct game game;
    for (uint64_t seed = first; seed < first + count; seed++)
        play(&game, seed);
    printf("sim_session: %" PRIu64 " seeds from %" PRIu64 "\n", count, first);
    return 0;
}
