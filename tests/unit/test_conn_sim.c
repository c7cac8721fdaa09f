/* conn against the simulator: thousands of small decisions per seed, and at the end every byte must have arrived in
 * order, and every slot and slice must be back. */
#include "tests/sim/io_sim.h"
#include "tests/unit/conn_app.h"

#define SEEDS 300u
#define STREAM_BYTES 60000u

struct game {
    struct sim_world *world;
    struct shard shard, *shards[1];
    struct app app;
    int peer_fd;
    uint64_t peer_sent, peer_received;
    bool peer_eof, peer_finished, peer_error;
};

static uint64_t roll(struct game *game, uint64_t below) {
    return sim_random(game->world, below);
}

static void game_init(struct game *game, uint64_t seed) {
    const struct sim_options options = {.seed = seed,
                                        .capacity = 1u << (3 + seed % 13),
                                        .latency_max_ns = seed % 3 * 1000,
                                        .partial_percent = (uint8_t)(seed % 60),
                                        .short_percent = (uint8_t)(seed % 50),
                                        .defer_percent = (uint8_t)(seed % 40)};
    const struct shard_options shard_options = {.slots_max = 2 + (uint32_t)(seed % 40), .rings_max = 2, .cpu = -1};
    int fds[2];
    *game = (struct game){0};
    game->world = sim_world_create(&options);
    cr_assert_eq(shard_init(&game->shard, &shard_options, io_sim_create, game->world), 0);
    game->shards[0] = &game->shard;
    io_sim_pair(game->world, fds);
    app_init(&game->app, &game->shard, fds[0]);
    conn_set_slot_max(&game->app.conn, 1 + (uint32_t)roll(game, 5000));
    game->peer_fd = fds[1];
    game->app.credit_refill = roll(game, 2) ? 0 : 1 + roll(game, 30000);
    game->app.keep = roll(game, 3) == 0;
}

static void game_deinit(struct game *game) {
    for (unsigned steps = 0; !game->app.closed; steps++) {
        cr_assert(steps < 10000);
        sim_world_step(game->world, game->shards, 1);
    }
    app_deinit(&game->app);
    cr_assert_eq(game->shard.slots.free_count, game->shard.slots.count);
    io_sim_close(game->world, game->peer_fd, IO_CLOSE);
    cr_assert_eq(io_sim_open_count(game->world), 0);
    shard_deinit(&game->shard);
    sim_world_destroy(game->world);
}

static void peer_acts(struct game *game) {
    uint8_t data[3000];
    uint32_t len = 1 + (uint32_t)roll(game, sizeof data);
    if (roll(game, 2) == 0) {
        int32_t n = io_sim_read(game->world, game->peer_fd, data, len);
        cr_assert(n < 0 || rig_matches(data, (size_t)n, game->peer_received));
        game->peer_received += n > 0 ? (uint64_t)n : 0;
        game->peer_eof |= n == 0;
        game->peer_error |= n < 0 && n != -EAGAIN;
        return;
    }
    if (len > STREAM_BYTES - game->peer_sent)
        len = (uint32_t)(STREAM_BYTES - game->peer_sent);
    if (len == 0) {
        if (!game->peer_finished)
            io_sim_finish(game->world, game->peer_fd);
        game->peer_finished = true;
        return;
    }
    rig_fill(data, len, game->peer_sent);
    int32_t n = io_sim_write(game->world, game->peer_fd, data, len);
    game->peer_sent += n > 0 ? (uint64_t)n : 0;
    game->peer_error |= n < 0 && n != -EAGAIN;
}

static void feed(struct game *game) {
    uint32_t len = 1 + (uint32_t)roll(game, roll(game, 2) ? 4096 : 50);
    if (len > STREAM_BYTES - game->app.fed)
        len = (uint32_t)(STREAM_BYTES - game->app.fed);
    if (len == 0)
        conn_finish(&game->app.conn);
    else if (roll(game, 4) == 0)
        app_feed_copy(&game->app, len);
    else
        app_feed_slice(&game->app, len);
}

static void owner_acts(struct game *game) {
    struct app *app = &game->app;
    uint64_t now = sim_world_now(game->world);
    switch (roll(game, 12)) {
    case 0:
    case 1:
        conn_set_credit(&app->conn, roll(game, 3) == 0 ? 0 : roll(game, 40000));
        break;
    case 2:
    case 3:
    case 4:
        feed(game);
        break;
    case 5: {
        int err = conn_spill(&app->conn);
        cr_assert(err == 0 || err == ERR_AGAIN);
        cr_assert(err != 0 || rxbuf_oldest(&app->rx) == NULL);
        break;
    }
    case 6:
        conn_set_slot_max(&app->conn, 1 + (uint32_t)roll(game, 5000));
        break;
    case 7:
        io_sim_stall(game->world, roll(game, 2) ? game->peer_fd : app->conn.fd, now + roll(game, 5000));
        break;
    case 8:
        app_release_kept(app);
        break;
    default:
        peer_acts(game);
        break;
    }
}

static bool game_complete(const struct game *game) {
    return game->app.received == STREAM_BYTES && game->app.eof && game->peer_received == STREAM_BYTES &&
           game->peer_eof && game->app.finished;
}

/* Nobody decides anything any more: everyone just lets it flow. What is left must come by itself. */
static void game_let_flow(struct game *game, uint64_t seed) {
    game->app.keep = false;
    game->app.credit_refill = 1u << 20;
    app_release_kept(&game->app);
    conn_set_credit(&game->app.conn, 1u << 20);
    for (unsigned steps = 0; !game_complete(game); steps++) {
        cr_assert(steps < 500000, "seed %lu: received %lu, peer %lu", (unsigned long)seed,
                  (unsigned long)game->app.received, (unsigned long)game->peer_received);
        peer_acts(game);
        if (game->app.fed < STREAM_BYTES || !game->app.conn.finishing)
            feed(game);
        sim_world_step(game->world, game->shards, 1);
    }
}

Test(conn_sim, every_byte_in_order_and_everything_returned, .timeout = 100) {
    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        struct game game;
        game_init(&game, seed);
        for (unsigned i = 0; i < 2000 && !game_complete(&game); i++) {
            owner_acts(&game);
            if (roll(&game, 3) == 0)
                sim_world_step(game.world, game.shards, 1);
        }
        game_let_flow(&game, seed);
        cr_assert(game.app.reset == 0 && !game.peer_error, "seed %lu", (unsigned long)seed);
        cr_assert_eq(game.app.written, STREAM_BYTES);
        app_end(&game.app);
        game_deinit(&game);
    }
}

/* The end comes at a random moment, from a random side, in a random way. */
Test(conn_sim, an_end_at_any_moment_leaves_nothing_behind, .timeout = 100) {
    unsigned resets = 0;
    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        struct game game;
        game_init(&game, seed);
        game.app.end_by_abort = roll(&game, 2);
        game.app.end_on = (enum app_event)roll(&game, APP_RESET + 1);
        uint64_t moment = roll(&game, 1500);
        bool by_network = roll(&game, 2);
        for (unsigned i = 0; i < 1500 && !game.app.ended; i++) {
            if (i == moment && by_network)
                io_sim_reset(game.world, game.peer_fd);
            if (i == moment && !by_network)
                break;
            if (game.app.reset == 0)
                owner_acts(&game);
            if (roll(&game, 3) == 0)
                sim_world_step(game.world, game.shards, 1);
        }
        resets += game.app.reset != 0;
        if (!game.app.ended)
            app_end(&game.app);
        game_deinit(&game);
    }
    cr_assert_geq(resets, SEEDS / 20, "resets were hardly ever noticed");
}

/* A reset must be told even to a connection that neither reads nor writes. */
Test(conn_sim, a_reset_is_always_told, .timeout = 100) {
    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        struct game game;
        game_init(&game, seed);
        for (uint64_t i = roll(&game, 200); i > 0; i--) {
            owner_acts(&game);
            if (roll(&game, 3) == 0)
                sim_world_step(game.world, game.shards, 1);
        }
        io_sim_reset(game.world, game.peer_fd);
        game.app.keep = false;
        app_release_kept(&game.app);
        game.app.credit_refill = 0;
        conn_set_credit(&game.app.conn, 0);
        bool ended = game.app.eof;
        for (unsigned steps = 0; steps < 2000 && sim_world_step(game.world, game.shards, 1); steps++)
            continue;
        cr_assert(game.app.reset < 0 || ended || game.app.eof, "seed %lu", (unsigned long)seed);
        app_end(&game.app);
        game_deinit(&game);
    }
}
