/* Which shard gets what leatd has accepted, against a model that is too simple to be wrong. */
#include "engine/limits.h"
#include "ssh/server_internal.h"
#include "tests/unit/seed.h"
#include <criterion/criterion.h>

#define SHARDS 6u

static struct server_shard shards[SHARDS];
static struct server server = {.shards = shards};

static void set(uint32_t index, uint32_t load, bool saturated) {
    atomic_store(&shards[index].load, load);
    atomic_store(&shards[index].saturated, saturated);
    if (index >= server.shards_count)
        server.shards_count = index + 1;
}

static void begin(void) {
    server.shards_count = 0;
}

TestSuite(server_choice, .init = begin, .fini = seed_report);

Test(server_choice, the_fewest_connections) {
    set(0, 3, false);
    set(1, 1, false);
    set(2, 1, false);
    cr_assert_eq(server_choose(&server), &shards[1], "the first of equals");
    set(1, 4, false);
    cr_assert_eq(server_choose(&server), &shards[2]);
}

Test(server_choice, one_shard) {
    set(0, 3, true);
    cr_assert_eq(server_choose(&server), &shards[0]);
}

Test(server_choice, never_a_saturated_one_while_there_is_another) {
    set(0, 0, true);
    set(1, LIMIT_CONNECTIONS_PER_SHARD - 1, false);
    cr_assert_eq(server_choose(&server), &shards[1]);
    set(1, LIMIT_CONNECTIONS_PER_SHARD, false);
    cr_assert_eq(server_choose(&server), &shards[0], "a full one is none");
}

Test(server_choice, all_saturated_means_the_fewest) {
    set(0, 2, true);
    set(1, 1, true);
    cr_assert_eq(server_choose(&server), &shards[1]);
}

Test(server_choice, all_full_means_none) {
    set(0, LIMIT_CONNECTIONS_PER_SHARD, false);
    set(1, LIMIT_CONNECTIONS_PER_SHARD, true);
    cr_assert_null(server_choose(&server));
    set(1, LIMIT_CONNECTIONS_PER_SHARD - 1, true);
    cr_assert_eq(server_choose(&server), &shards[1]);
}

static bool better(const struct server_shard *a, const struct server_shard *b) {
    return a->saturated != b->saturated ? b->saturated : a->load < b->load;
}

static void run_random(uint64_t *state) {
    const struct server_shard *expected = NULL;
    uint32_t count = 1 + random_below(state, SHARDS);
    for (uint32_t i = 0; i < count; i++) {
        uint32_t load = random_below(state, 4) + (random_chance(state, 2) ? LIMIT_CONNECTIONS_PER_SHARD - 2 : 0);
        set(i, load, random_chance(state, 2));
    }
    for (uint32_t i = 0; i < count; i++)
        if (shards[i].load < LIMIT_CONNECTIONS_PER_SHARD && (expected == NULL || better(&shards[i], expected)))
            expected = &shards[i];
    server.shards_count = count;
    cr_assert_eq(server_choose(&server), expected);
}

Test(server_choice, as_the_model) {
    seed_each(2000, run_random);
}
