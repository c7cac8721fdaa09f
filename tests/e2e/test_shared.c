/* What the connections of one shard have in common: nobody can take so much of it that nothing is left to the others.
 */
#include "engine/limits.h"
#include "expect.h"
#include "raw_client.h"
#include "ssh/messages.h"
#include "traffic.h"
#include <pthread.h>
#include <stdatomic.h>

static struct world world;
static struct target *target;
static uint16_t port; /* of the honest tunnel */

static void setup(void) {
    world_begin(&world);
    world_leatd(&world, "Shards 1\nMaxStartups 3000");
    target = target_start("127.0.0.1", TARGET_TRAFFIC);
    port = free_port();
    expect_up(world_leat(&world, "-v", "-L", world_format("%u:127.0.0.1:%u", port, target_port(target)), NULL));
}
static void teardown(void) {
    target_stop(target);
    world_end(&world);
}
TestSuite(shared, .init = setup, .fini = teardown, .timeout = 300);

struct flood {
    uint16_t port;
    unsigned failed;
    char why[128];
};
static void *run_flood(void *arg) {
    struct flood *flood = arg;
    flood->failed = traffic_many("127.0.0.1", flood->port, 300, 8, 0, 3 << 20, flood->why, sizeof(flood->why));
    return NULL;
}

/* It has more to take than there are slots, and takes nothing: it gets its share of them and no more. */
Test(shared, a_client_that_is_stopped_with_many_flows) {
    struct flood flood = {.port = free_port()};
    struct process *greedy =
        world_leat(&world, "-v", "-L", world_format("%u:127.0.0.1:%u", flood.port, target_port(target)), NULL);
    expect_up(greedy);
    pthread_t thread;
    pthread_create(&thread, NULL, run_flood, &flood);
    expect_soon(target_accepted(target) >= 290, 60);
    process_kill(greedy, SIGSTOP);
    pause_seconds(world_deadline(0.5)); /* all that can be queued is */
    for (unsigned i = 0; i < 5; i++) {
        struct traffic_result result = traffic_through("127.0.0.1", port, i, 2 << 20, 2 << 20);
        cr_expect(result.ok, "%s", result.why);
    }
    process_kill(greedy, SIGCONT);
    pthread_join(thread, NULL);
    cr_expect_eq(flood.failed, 0, "%s", flood.why);
}

struct chatter {
    pthread_t thread;
    atomic_bool stop;
    struct raw_client *clients[LIMIT_RINGS_PER_SHARD];
    uint32_t channels[LIMIT_RINGS_PER_SHARD];
    unsigned failed;
};
static bool answers(struct raw_client *client, uint32_t channel, double seconds) {
    size_t len;
    return raw_data(client, channel, 1) && raw_wait(client, MSG_CHANNEL_DATA, &len, seconds) != NULL;
}
static void *run_chatter(void *arg) {
    struct chatter *chatter = arg;
    while (!atomic_load(&chatter->stop))
        for (unsigned i = 0; i < LIMIT_RINGS_PER_SHARD; i++)
            chatter->failed += !answers(chatter->clients[i], chatter->channels[i], 20);
    return NULL;
}

/* As many sessions as there are rings are busy all the time: those that come after them are served all the same. */
Test(shared, more_busy_sessions_than_rings) {
    static struct chatter chatter;
    struct target *echo = target_start("127.0.0.1", TARGET_ECHO);
    struct raw_client *late[4];
    for (unsigned i = 0; i < LIMIT_RINGS_PER_SHARD; i++) {
        chatter.clients[i] = raw_connect(&world);
        chatter.channels[i] = raw_open(chatter.clients[i], target_port(echo));
    }
    pthread_create(&chatter.thread, NULL, run_chatter, &chatter);
    for (unsigned i = 0; i < 4; i++) {
        late[i] = raw_connect(&world);
        uint32_t channel = raw_open(late[i], target_port(echo));
        for (unsigned j = 0; j < 10; j++)
            cr_expect(answers(late[i], channel, 10), "%u: %u", i, j);
    }
    atomic_store(&chatter.stop, true);
    pthread_join(chatter.thread, NULL);
    cr_expect_eq(chatter.failed, 0);
    for (unsigned i = 0; i < LIMIT_RINGS_PER_SHARD; i++)
        raw_close(chatter.clients[i]);
    for (unsigned i = 0; i < 4; i++)
        raw_close(late[i]);
    target_stop(echo);
}
