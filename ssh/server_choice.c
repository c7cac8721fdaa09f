/* Shard 0: which shard gets what was accepted, and how busy each of them is. */
#include "engine/limits.h"
#include "ssh/server_internal.h"

/* Those whose thread has a processor's time left come first, however many connections they have: one that carries bulk
 * alone has less to give than many idle ones take. */
struct server_shard *server_choose(struct server *server) {
    struct server_shard *best = NULL;
    uint64_t best_rank = UINT64_MAX;
    for (uint32_t i = 0; i < server->shards_count; i++) {
        struct server_shard *on = &server->shards[i];
        uint32_t load = atomic_load_explicit(&on->load, memory_order_relaxed);
        uint64_t rank = (uint64_t)atomic_load_explicit(&on->saturated, memory_order_relaxed) << 32 | load;
        if (load >= LIMIT_CONNECTIONS_PER_SHARD || rank >= best_rank)
            continue;
        best = on;
        best_rank = rank;
    }
    return best;
}

/* What was sampled until now says nothing about later. */
static void forget(struct server *server) {
    for (uint32_t i = 0; i < server->shards_count; i++) {
        server->shards[i].saturation = (struct saturation){.saturated = false};
        atomic_store(&server->shards[i].saturated, false);
    }
}

static void on_look(struct timer *timer) {
    struct server_main *main = list_entry(timer, struct server_main, look);
    struct shard *first = main->server.shards[0].shard;
    uint64_t now = shard_now(first);
    if (server_load(main) == 0) /* nobody is woken for nothing */
        return forget(&main->server);
    main->all_idle = true;
    for (uint32_t i = 0; i < main->server.shards_count; i++) {
        struct server_shard *on = &main->server.shards[i];
        saturation_sample(&on->saturation, now, shard_busy_ns(on->shard));
        atomic_store(&on->saturated, on->saturation.saturated);
        main->all_idle = main->all_idle && saturation_is_idle(&on->saturation);
    }
    timer_arm(&first->timers, timer, now + (main->all_idle ? LIMIT_SATURATION_QUIET_NS : LIMIT_SATURATION_WINDOW_NS));
}

void server_watch(struct server_main *main) {
    struct shard *first = main->server.shards[0].shard;
    if (main->server.shards_count == 1 || (timer_armed(&main->look) && !main->all_idle))
        return;
    forget(&main->server);
    main->all_idle = false;
    main->look.on_timer = on_look;
    timer_arm(&first->timers, &main->look, shard_now(first));
}

void server_unwatch(struct server_main *main) {
    timer_cancel(&main->server.shards[0].shard->timers, &main->look);
}
