/* leatd's shards under load that is not even: what is accepted avoids the thread that has no more to give, although it
 * has the fewest connections. */
#include "expect.h"
#include "pump.h"
#include "starve.h"
#include "traffic.h"
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#define LATER 4u

static struct world world;
static struct pair bulk, later[LATER + 1];
static int strangers[LATER];
static unsigned later_count, strangers_count;
static int listener;
static uint16_t relay, far;

static void setup(void) {
    world_begin(&world);
    listener = pair_listen(&far);
    relay = free_port();
    later_count = strangers_count = 0;
    world_leatd(&world, world_format("Shards 2\nLogLevel VERBOSE\nRelay 127.0.0.1:%u 127.0.0.1:%u", relay, far));
}

static void close_later(void) {
    while (later_count > 0)
        pair_close(&later[--later_count]);
    while (strangers_count > 0)
        close(strangers[--strangers_count]);
}

static void teardown(void) {
    starve_end();
    pump_stop();
    close_later();
    close(listener);
    world_end(&world);
}
TestSuite(spread, .init = setup, .fini = teardown, .timeout = 120);

static void open_later(void) {
    for (; later_count < LATER; later_count++)
        cr_assert(pair_open(&later[later_count], "127.0.0.1", relay, listener, 20));
}

static bool printed(unsigned times) {
    return process_lines(world.server, "shard 0: ") == times && process_lines(world.server, "shard 1: ") == times;
}

/* What USR1 prints of this shard. Each shard prints its own in its own time: what is asked next must not be mistaken
 * for what was asked before. */
static const char *shard_now(unsigned index) {
    const char *mark = world_format("shard %u: ", index), *last = "";
    unsigned before = process_lines(world.server, mark);
    process_kill(world.server, SIGUSR1);
    expect_soon_of(world.server, printed(before + 1), 30);
    for (const char *at = process_log(world.server); (at = strstr(at, mark)) != NULL; at++)
        last = at + strlen(mark);
    return last;
}

static bool has(unsigned index, unsigned connections, unsigned relays) {
    const char *text = world_format("%u connections, %u relays", connections, relays);
    return strncmp(shard_now(index), text, strlen(text)) == 0;
}

/* The first that is accepted is the first shard's, once nobody is there who has looked whether leatd listens. */
static void open_first(void) {
    expect_soon_of(world.server, has(0, 0, 0) && has(1, 0, 0), 20);
    cr_assert(pair_open(&bulk, "127.0.0.1", relay, listener, 20));
}

static void load_start(void) {
    open_first();
    pump_start(&bulk, 1);
}

static bool is_saturated(unsigned index) {
    const char *line = shard_now(index);
    return memmem(line, strcspn(line, "\n"), ", saturated", strlen(", saturated")) != NULL;
}

Test(spread, by_number_while_none_is_saturated) {
    expect_soon_of(world.server, has(0, 0, 0) && has(1, 0, 0), 20);
    open_later();
    expect_soon_of(world.server, has(0, 0, 2), 20);
    expect_soon_of(world.server, has(1, 0, 2), 20);
    cr_expect_not(is_saturated(0), "%s", process_log(world.server));
    cr_expect_not(is_saturated(1), "%s", process_log(world.server));
}

Test(spread, new_connections_avoid_a_saturated_shard) {
    load_start();
    starve(world.server, "leat/0");
    expect_soon_of(world.server, is_saturated(0), 30);
    open_later();
    expect_soon_of(world.server, has(0, 0, 1), 20);
    cr_expect(has(1, 0, LATER), "%s", process_log(world.server));
    /* SSH as well; nobody has to log in for that. */
    for (; strangers_count < 3; strangers_count++) {
        char byte;
        strangers[strangers_count] = connect_to("127.0.0.1", world.server_port);
        cr_assert_geq(strangers[strangers_count], 0);
        cr_assert_eq(recv(strangers[strangers_count], &byte, 1, 0), 1, "the server greets");
    }
    cr_expect(has(1, 3, LATER), "%s", process_log(world.server));
    /* It gets its processor back and has less to do than the other: it is chosen again. */
    pump_stop();
    starve_end();
    expect_soon_of(world.server, !is_saturated(0), 30);
    cr_assert(pair_open(&later[later_count], "127.0.0.1", relay, listener, 20));
    later_count++;
    expect_soon_of(world.server, has(0, 0, 2), 20);
    process_kill(world.server, SIGTERM);
    close_later();
    pair_close(&bulk);
    cr_expect_eq(process_wait(world.server, 30), 0, "%s", process_log(world.server));
}

/* Somebody is there, and nobody is busy. */
Test(spread, an_idle_server_sleeps) {
    open_first();
    pid_t first = thread_named(world.server, "leat/0");
    cr_assert_gt(first, 0);
    expect_soon_of(world.server, thread_rests(first), 60);
    /* What comes then is looked at again. */
    pump_start(&bulk, 1);
    starve(world.server, "leat/0");
    expect_soon_of(world.server, is_saturated(0), 30);
    pump_stop();
    pair_close(&bulk);
}

/* Nothing is on it any more: what was known of it is forgotten. */
Test(spread, saturation_ends_with_the_last_connection) {
    load_start();
    starve(world.server, "leat/0");
    expect_soon_of(world.server, is_saturated(0), 30);
    pump_stop();
    pair_close(&bulk);
    expect_soon_of(world.server, has(0, 0, 0) && !is_saturated(0), 30);
}
