/* Seeded simulation of a client's session and a leatd over a fake link, in virtual time: the real session, relay, mux,
 * wire, transport, dial, listener and conn on the simulator's sockets, and of leatd its connection with all that it
 * answers. libssh's part is played by fake_kex, the applications by sim_line, the rest of the world by sim_host.
 *
 *   sim_session [--seeds N] [--seed S] [--verbose]      LEAT_SIM_BASE in the environment: another first seed
 *
 * Every seed draws a link, a number of connections in both directions to targets that answer, refuse or say nothing,
 * session channels, rekeys, idle chatter, and how it all ends: orderly, by the link's reset or silence, by a flipped
 * bit, by either session's own end, by a drain. What must hold is checked all along and at the end. A failure prints
 * the seed. */
#include "engine/check.h"
#include "engine/log.h"
#include "tests/sim/sim_game.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>

#define SEED_SECONDS_MAX 30 /* of processor time, which a busy machine does not use up */
#define STEPS_MAX 3000000u
#define TIME_MAX (36000 * SECOND)
#define END_MAX (40 * SECOND) /* after the last application has gone; a link may be stalled */

static bool verbose;

/* ---- the beginning ---- */

static void draw_plan(struct game *game) {
    static const enum plan plans[] = {PLAN_ORDERLY,    PLAN_ORDERLY,    PLAN_ORDERLY, PLAN_ORDERLY, PLAN_ORDERLY,
                                      PLAN_ORDERLY,    PLAN_ORDERLY,    PLAN_ORDERLY, PLAN_UNUSED,  PLAN_LINK_RESET,
                                      PLAN_END_CLIENT, PLAN_END_SERVER, PLAN_DRAIN,   PLAN_SILENCE};
    game->plan = plans[roll(game, sizeof plans / sizeof plans[0])];
    if (roll(game, 10) == 0)
        game->plan = PLAN_CORRUPT;
    if (roll(game, 40) == 0)
        game->plan = roll(game, 2) ? PLAN_NO_LOGIN : PLAN_NONSENSE;
    game->plan_done = game->plan == PLAN_UNUSED; /* from the beginning on */
    game->quiet_link = game->plan == PLAN_UNUSED || (game->plan == PLAN_ORDERLY && roll(game, 2));
    game->stock = roll(game, 2);
    game->tight = roll(game, 10) == 0;
    game->short_of_memory = roll(game, 10) == 0;
    game->short_of_descriptors = roll(game, 10) == 0;
    game->event_odds = 3u << roll(game, 8);
}

static void draw_lines(struct game *game) {
    game->lines_count = 1 + (unsigned)roll(game, roll(game, 3) ? 4 : LINES_MAX);
    for (unsigned i = 0; i < game->lines_count; i++) {
        struct line *line = &game->lines[i];
        line_init(line, game->world, i, game_now(game) + roll(game, 2) * roll(game, 200 * MS));
        line->stock = game->stock;
        line->loose = game->tight || game->short_of_descriptors;
        line->forbidden = line_reversed(line) && roll(game, 16) == 0; /* the client wants none of it */
    }
}

/* The server's ChannelTimeout watches over it. */
static uint64_t idle_ns(const struct game *game, const struct line *line) {
    static const char *const types[] = {"direct-tcpip", "direct-streamlocal@openssh.com", "forwarded-tcpip",
                                        "forwarded-streamlocal@openssh.com"};
    const struct server_options *options = &game->server.options;
    uint64_t seconds = server_options_channel_timeout(options, types[line->kind]);
    return (seconds > 0 ? seconds : server_options_channel_timeout(options, "global")) * SECOND;
}

static void settle_lines(struct game *game) {
    uint64_t total = 0;
    for (unsigned i = 0; i < game->lines_count; i++) {
        struct line *line = &game->lines[i];
        line_settle(line, idle_ns(game, line));
        total += line->near.total + line->far.total;
    }
    game->plan_at = roll(game, 2) ? UINT64_MAX : 500 + roll(game, total + 3000);
    game->plan_ns = game_now(game) + roll(game, roll(game, 2) ? 300 * MS : 3000 * MS);
}

static void on_alarm(struct timer *timer) {
    (void)timer;
}

static void game_init(struct game *game, uint64_t seed) {
    uint64_t random = seed * UINT64_C(0x9e3779b97f4a7c15);
    const struct sim_options options = {.seed = random,
                                        .capacity = 4096u << (random >> 60) % 7,
                                        .latency_max_ns = (random >> 50) % 4 * (random >> 40) % 5 * 3 * MS,
                                        .partial_percent = (uint8_t)((random >> 30) % 50),
                                        .short_percent = (uint8_t)((random >> 20) % 50),
                                        .defer_percent = (uint8_t)((random >> 10) % 40)};
    int fds[2];
    *game = (struct game){.seed = seed, .world = sim_world_create(&options)};
    playing = game;
    watch_init();
    draw_plan(game);
    draw_lines(game);
    io_sim_pair(game->world, fds);
    side_init(&game->client.side, game, true, fds[0]);
    side_init(&game->server.side, game, false, fds[1]);
    client_init(game);
    server_end_init(game);
    settle_lines(game);
    shells_init(game);
    game->alarm.on_timer = on_alarm;
}

/* ---- going on ---- */

static void alarm_set(struct game *game) {
    uint64_t now = game_now(game), next = shells_wake_ns(game);
    for (unsigned i = 0; i < game->lines_count; i++) {
        uint64_t at = line_wakes_ns(&game->lines[i]);
        next = at < next ? at : next;
    }
    if (!game->plan_done && game->plan != PLAN_ORDERLY && game->plan_ns > now && game->plan_ns < next)
        next = game->plan_ns;
    if (next == UINT64_MAX)
        timer_cancel(&game->client.side.shard.timers, &game->alarm);
    else
        timer_arm(&game->client.side.shard.timers, &game->alarm, next);
}

static bool game_lines_act(struct game *game) {
    bool acted = shells_act(game);
    for (unsigned i = 0; i < game->lines_count; i++) {
        struct line *line = &game->lines[i];
        if (!line->opened && line->start_ns <= game_now(game)) {
            line_open(game, line);
            acted |= line->opened;
        }
        acted |= line_act(line);
        if (line->fault[0])
            fail(line->fault);
    }
    return acted;
}

/* One step of everyone. False: nothing will ever happen again. */
static bool game_step(struct game *game) {
    struct shard *shards[] = {&game->client.side.shard, &game->server.side.shard};
    bool acted = game_lines_act(game);
    alarm_set(game);
    if (acted)
        sim_world_hold(game->world);
    bool alive = sim_world_step(game->world, shards, 2);
    side_note_ending(&game->client.side);
    side_note_ending(&game->server.side);
    if (game->steps++ % 16 == 0) {
        side_validate(&game->client.side);
        side_validate(&game->server.side);
    }
    expect(game->steps < STEPS_MAX, "stuck: too many steps");
    expect(game_now(game) < TIME_MAX, "stuck: too long");
    return alive;
}

static bool game_lines_over(const struct game *game) {
    for (unsigned i = 0; i < game->lines_count; i++)
        if (!line_over(&game->lines[i]))
            return false;
    const struct session *server = game->server.side.session;
    return shells_over(game) && (!server || game->server.side.ended || server->relays_count == 0);
}

/* Only those who were promised nothing may still wait. */
static void game_run_lines(struct game *game) {
    while (!game_lines_over(game)) {
        game_event(game);
        game_plan(game);
        game_silence(game);
        bool by_server = game->plan == PLAN_DRAIN || game->plan == PLAN_UNUSED;
        if (by_server && game->server.side.ended)
            lines_excuse(game); /* slow applications are waited for no longer than a session lingers */
        expect(game_step(game), "stuck: nothing will ever happen again");
    }
}

/* ---- the end ---- */

/* An idle session has given everything back. */
static void game_idle(struct game *game) {
    uint64_t until = game_now(game) + 3 * LIMIT_QUIET_NS;
    while (game_now(game) < until && game_step(game))
        continue;
    side_validate_idle(&game->client.side);
    side_validate_idle(&game->server.side);
    watch_judge();
}

static void check_end(const struct game *game) {
    const struct side *client = &game->client.side, *server = &game->server.side;
    if (game->plan == PLAN_CORRUPT)
        expect(client->end_err != 0 || server->end_err != 0, "a flipped bit was not noticed");
    if (game->plan == PLAN_SILENCE)
        expect(client->end_err == ERR_TIMEOUT || server->end_err == ERR_TIMEOUT, "silence was not noticed");
    if (game->plan == PLAN_NONSENSE)
        expect(server->end_err == ERR_PROTOCOL && strncmp(server->end_reason, "protocol error in message ", 26) == 0,
               "nonsense was not noticed");
    if (game->plan == PLAN_UNUSED)
        expect(strstr(server->end_reason, "UnusedConnectionTimeout"), "an unused connection ended otherwise");
    if (game->plan == PLAN_DRAIN)
        expect(strcmp(server->end_reason, "server is stopping") == 0, "a drained server ended otherwise");
}

static bool sides_over(const struct game *game) {
    return game->client.side.ended && game->server.side.ended && game->server.gone > 0;
}

static void game_end_sessions(struct game *game) {
    struct side *client = &game->client.side, *server = &game->server.side;
    if (!game->plan_done && game->quiet_link)
        game_idle(game);
    bool by_plan = game->plan_done;
    if (!by_plan) {
        game->plan_done = true;
        side_end(roll(game, 2) ? client : server);
    }
    uint64_t end_by_ns = game_now(game) + END_MAX + game->server.options.unused_connection_timeout_s * SECOND;
    while (!sides_over(game)) {
        bool alive = game_step(game);
        expect(alive || sides_over(game), "stuck: a session does not end");
        game_silence(game);
        expect(game_now(game) < end_by_ns, "the end takes too long");
    }
    if (by_plan)
        check_end(game);
}

static void game_release(struct game *game) {
    timer_cancel(&game->client.side.shard.timers, &game->alarm);
    for (unsigned i = 0; i < game->lines_count; i++) {
        line_judge(&game->lines[i]);
        if (game->lines[i].fault[0])
            fail(game->lines[i].fault);
        line_close(&game->lines[i]);
    }
    shells_judge(game);
    expect(io_sim_open_count(game->world) == 0, "a descriptor is open");
    if (verbose) {
        fprintf(stderr, "seed %" PRIu64 ": %u rekeys asked for\n", game->seed, game->rekeys);
        print_game(game);
    }
    side_deinit(&game->client.side);
    transport_deinit(&game->client.transport);
    server_end_deinit(game);
    sim_world_destroy(game->world);
    playing = NULL;
}

/* A client that never gets in: leatd's end is all there is. */
static void game_refuse(struct game *game) {
    struct server_end *server = &game->server;
    if (server->handshake)
        server_end_no_login(game);
    struct shard *shards[] = {&server->side.shard};
    while (server->gone == 0) {
        bool alive = sim_world_step(game->world, shards, 1);
        expect(alive || server->gone > 0, "stuck: a connection does not end");
    }
    expect(server->authenticated == 0 && server->refused <= 1, "a login that failed was told otherwise");
    io_sim_close(game->world, game->client.side.fd, IO_CLOSE);
    for (unsigned i = 0; i < game->lines_count; i++)
        game->lines[i].excused = true;
    for (unsigned i = 0; i < game->client.shells_count; i++)
        game->client.shells[i].state = SHELL_OVER;
}

static void play(struct game *game, uint64_t seed) {
    const struct itimerval watchdog = {.it_value.tv_sec = SEED_SECONDS_MAX};
    setitimer(ITIMER_PROF, &watchdog, NULL);
    game_init(game, seed);
    if (game->plan == PLAN_NO_LOGIN) {
        game_refuse(game);
    } else {
        sides_start(game);
        asks_begin(game);
        game_run_lines(game);
        game_end_sessions(game);
    }
    game_release(game);
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
    log_init("sim_session", LOG_LEVEL_FATAL, 2);
    report_signals();
    static struct game game;
    for (uint64_t seed = first; seed < first + count; seed++)
        play(&game, seed);
    printf("sim_session: %" PRIu64 " seeds from %" PRIu64 "\n", count, first);
    return 0;
}
