/* Stripes: one forwarded connection on several SSH connections, leat to leatd. A row of proxies stands before leatd,
 * one for each SSH connection in the order in which leat makes them, so that one of them can be lost. */
#include "expect.h"
#include "pair.h"
#include "proxy.h"
#include "traffic.h"
#include <ctype.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <unistd.h>

#define STRIPES 3u
#define ROADS (STRIPES + 1u)              /* one may be made again */
#define STRIPED_BYTES (UINT64_C(4) << 20) /* after so much another lane has been asked for */
#define STALL_SECONDS 30.0
#define MANY 100u

static struct world world;
static struct process *leat;
static struct proxy *roads[ROADS];
static uint16_t local, far;
static int listener;

static void setup(void) {
    world_begin(&world);
    world_leatd(&world, ""); /* of a connection that is silent leat alone learns, and tells it */
    for (unsigned i = 0; i < ROADS; i++)
        roads[i] = i == 0 ? proxy_start(world.server_port) : proxy_next(roads[i - 1]);
    world_reach_through(&world, proxy_port(roads[0]));
    listener = pair_listen(&far);
    local = free_port();
}

static void teardown(void) {
    close(listener);
    for (unsigned i = ROADS; i-- > 0;)
        proxy_stop(roads[i]);
    world_end(&world);
}
TestSuite(stripes, .init = setup, .fini = teardown, .timeout = 300);

static void start_to(uint16_t port) {
    leat = world_leat(&world, "-v", "-o", world_format("Stripes=%u", STRIPES), "-o", "ServerAliveInterval=1", "-o",
                      "ServerAliveCountMax=2", "-o", "DrainTimeout=300", "-L",
                      world_format("%u:127.0.0.1:%u", local, port), NULL);
    expect_up(leat);
}

/* A connection, and how far the streams that go each way have come. */
static struct pair pair;
static uint64_t offset;

static void open_pair(void) {
    start_to(far);
    offset = 0;
    cr_assert(pair_open(&pair, "127.0.0.1", local, listener, 20), "%s", process_log(leat));
}

struct pull {
    int fd;
    uint64_t seed, bytes;
    bool whole;
};

static void *pull_main(void *arg) {
    struct pull *pull = arg;
    pull->whole = pair_pull(pull->fd, pull->seed, offset, pull->bytes, STALL_SECONDS);
    return NULL;
}

/* So many bytes more to the far side, checked there. */
static void carry(uint64_t bytes) {
    struct pull pull = {.fd = pair.far, .seed = 7, .bytes = bytes};
    pthread_t thread;
    cr_assert_eq(pthread_create(&thread, NULL, pull_main, &pull), 0);
    uint64_t pushed = pair_push(pair.near, 7, offset, bytes, STALL_SECONDS);
    pthread_join(thread, NULL);
    cr_assert_eq(pushed, bytes, "%s", process_log(leat));
    cr_assert(pull.whole, "%s", process_log(leat));
    offset += bytes;
}

/* Again and again, until this road has carried a good part of it. */
static void carry_until_used(unsigned road, double seconds) {
    double deadline = now_seconds() + world_deadline(seconds);
    uint64_t before = proxy_carried(roads[road]);
    do
        carry(STRIPED_BYTES);
    while (proxy_carried(roads[road]) < before + STRIPED_BYTES && now_seconds() < deadline);
    cr_assert_geq(proxy_carried(roads[road]), before + STRIPED_BYTES, "connection %u is not used: %s", road,
                  process_log(leat));
}

static void carry_until_all_used(void) {
    for (unsigned i = 0; i < STRIPES; i++)
        carry_until_used(i, 30);
}

/* ---- what is carried ---- */

/* One line for the forwarded connection, not one for each lane, and nothing was wrong with it. */
static void expect_one_orderly_end(void) {
    const char *mark = ": connection closed: ";
    cr_expect(process_says(leat, mark, 10), "%s", process_log(leat));
    cr_expect_eq(process_lines(leat, mark), 1, "%s", process_log(leat));
    const char *line = strstr(process_log(leat), mark);
    cr_expect(line != NULL && isdigit((unsigned char)line[strlen(mark)]), "%s", process_log(leat));
}

Test(stripes, every_connection_carries_of_one_flow) {
    open_pair();
    carry_until_all_used();
    process_kill(leat, SIGUSR1);
    cr_expect(process_says(leat, ": striped over connections 0, ", 10), "%s", process_log(leat));
    shutdown(pair.near, SHUT_WR);
    shutdown(pair.far, SHUT_WR);
    expect_one_orderly_end();
    pair_close(&pair);
    expect_clean_end(leat);
}

struct transfer {
    pthread_t thread;
    struct traffic_result result;
};

static void *transfer_main(void *arg) {
    struct transfer *transfer = arg;
    uint64_t bytes = (world_is_slow() ? 8 : 25) * STRIPED_BYTES;
    transfer->result = traffic_through("127.0.0.1", local, 5, bytes, bytes);
    return NULL;
}

/* What is lost before the server has taken another lane in is lost with it. */
static bool all_carry(void) {
    bool all = true;
    for (unsigned i = 0; i < STRIPES; i++)
        all = all && proxy_carried(roads[i]) > STRIPED_BYTES / 4;
    return all;
}

/* Both ways at once, and in the middle of it `fault` happens to a connection. */
static void lose_in_the_middle(unsigned road, enum proxy_fault fault) {
    struct target *target = target_start("127.0.0.1", TARGET_TRAFFIC);
    struct transfer transfer;
    start_to(target_port(target));
    cr_assert_eq(pthread_create(&transfer.thread, NULL, transfer_main, &transfer), 0);
    expect_soon_of(leat, all_carry() && proxy_carried(roads[road]) > 2 * STRIPED_BYTES, 30);
    proxy_set(roads[road], fault);
    pthread_join(transfer.thread, NULL);
    cr_expect(transfer.result.ok, "%s; %s", transfer.result.why, process_log(leat));
    cr_expect(process_says(leat, world_format("connection %u to 127.0.0.1", road), 20), "%s", process_log(leat));
    cr_expect_eq(process_lines(leat, " lost: "), 1, "%s", process_log(leat));
    expect_one_orderly_end();
    target_stop(target);
    expect_clean_end(leat);
}

Test(stripes, the_first_connection_is_cut) {
    lose_in_the_middle(0, PROXY_RESETS);
}

Test(stripes, another_connection_is_cut) {
    lose_in_the_middle(1, PROXY_CLOSES);
}

Test(stripes, a_frozen_connection) {
    lose_in_the_middle(2, PROXY_BLOCKS);
}

Test(stripes, the_first_connection_is_frozen) {
    lose_in_the_middle(0, PROXY_BLOCKS);
}

/* Nobody asks whether it is there. Every one of these connections ends and leaves no descriptor, neither end of a lane
 * that was begun on it. */
Test(stripes, a_frozen_connection_that_counts_as_alive) {
    char why[128] = "";
    struct target *target = target_start("127.0.0.1", TARGET_TRAFFIC);
    leat = world_leat(&world, "-v", "-o", world_format("Stripes=%u", STRIPES), "-L",
                      world_format("%u:127.0.0.1:%u", local, target_port(target)), NULL);
    expect_up(leat);
    expect_logins(&world, STRIPES);
    unsigned before = process_descriptors(leat), before_there = process_descriptors(world.server);
    proxy_set(roads[2], PROXY_BLOCKS);
    for (unsigned i = 0; i < MANY; i++) {
        struct traffic_result result = traffic_through("127.0.0.1", local, i, STRIPED_BYTES / 2, STRIPED_BYTES / 2);
        cr_assert(result.ok, "%u: %s; %s", i, result.why, process_log(leat));
    }
    expect_soon(process_lines(leat, ": connection closed: ") == MANY, 10);
    expect_soon(process_descriptors(leat) < before + STRIPES, 10);
    expect_soon(process_descriptors(world.server) < before_there + STRIPES, 10);
    /* None begins there either, however many there are elsewhere. */
    cr_expect_eq(traffic_many("127.0.0.1", local, 150, 150, 1000, 1000, why, sizeof(why)), 0, "%s", why);
    target_stop(target);
    process_kill(leat, SIGINT);
    cr_expect_eq(process_wait(leat, 20), 0, "%s", process_log(leat));
}

/* One that has lost a lane gets another on the connection that was made again. */
static void lose_and_use_again(unsigned road) {
    open_pair();
    carry_until_all_used();
    proxy_set(roads[road], PROXY_RESETS);
    carry(STRIPED_BYTES);
    cr_assert(process_says(leat, "; the others go on", 20), "%s", process_log(leat));
    cr_assert(process_says(leat, " stands again", 60), "%s", process_log(leat));
    cr_expect_eq(process_lines(leat, world_format("connection %u to 127.0.0.1", road)), 2, "%s", process_log(leat));
    carry_until_used(STRIPES, 30);
    pair_close(&pair);
    expect_clean_end(leat);
}

Test(stripes, the_first_is_made_again_and_used) {
    lose_and_use_again(0);
}

Test(stripes, another_is_made_again_and_used) {
    lose_and_use_again(1);
}

Test(stripes, connections_auto_begins_with_as_many) {
    leat = world_leat(&world, "-v", "-o", "Connections=auto", "-o", "Shards=2", "-o",
                      world_format("Stripes=%u", STRIPES), "-L", world_format("%u:127.0.0.1:%u", local, far), NULL);
    expect_up(leat);
    expect_logins(&world, STRIPES);
    offset = 0;
    cr_assert(pair_open(&pair, "127.0.0.1", local, listener, 20), "%s", process_log(leat));
    carry_until_all_used();
    process_kill(leat, SIGUSR1);
    cr_expect(process_says(leat, "Connections auto: 3 of at most 3", 10), "%s", process_log(leat));
    pair_close(&pair);
    expect_clean_end(leat);
}

/* ---- ends ---- */

Test(stripes, half_closes) {
    open_pair();
    carry_until_all_used();
    shutdown(pair.near, SHUT_WR);
    cr_expect_eq(pair_end(pair.far, 20), 0);
    struct pull pull = {.fd = pair.near, .seed = 9, .bytes = 2 * STRIPED_BYTES};
    pthread_t thread;
    offset = 0;
    cr_assert_eq(pthread_create(&thread, NULL, pull_main, &pull), 0);
    cr_expect_eq(pair_push(pair.far, 9, 0, pull.bytes, STALL_SECONDS), pull.bytes);
    shutdown(pair.far, SHUT_WR);
    pthread_join(thread, NULL);
    cr_expect(pull.whole);
    cr_expect_eq(pair_end(pair.near, 20), 0);
    pair_close(&pair);
    expect_one_orderly_end();
    expect_clean_end(leat);
}

Test(stripes, a_reset_from_here) {
    open_pair();
    carry_until_all_used();
    pair_reset(&pair.near);
    cr_expect_eq(pair_end(pair.far, 20), ECONNRESET);
    pair_close(&pair);
    expect_clean_end(leat);
}

Test(stripes, a_reset_from_there) {
    open_pair();
    carry_until_all_used();
    pair_reset(&pair.far);
    cr_expect_eq(pair_end(pair.near, 20), ECONNRESET);
    pair_close(&pair);
    expect_clean_end(leat);
}

/* Nobody reads, everything is full, and nobody waits for that. */
Test(stripes, an_end_in_the_middle) {
    open_pair();
    carry_until_all_used();
    cr_expect_gt(pair_push(pair.near, 7, offset, UINT64_MAX, 2), 0);
    process_kill(leat, SIGTERM);
    process_kill(leat, SIGINT); /* the second one: at once */
    cr_expect_eq(process_wait(leat, 10), 0, "%s", process_log(leat));
    cr_expect_eq(pair_end(pair.near, 10), ECONNRESET);
    cr_expect_eq(pair_end(pair.far, 10), ECONNRESET);
    pair_close(&pair);
}

/* It stays until what it carries has ended. */
Test(stripes, a_drain) {
    open_pair();
    carry_until_all_used();
    process_kill(leat, SIGTERM);
    carry(STRIPED_BYTES);
    pair_close(&pair);
    cr_expect_eq(process_wait(leat, 20), 0, "%s", process_log(leat));
}

/* Nobody listens there: as it is said without stripes, once. */
Test(stripes, a_target_that_refuses) {
    start_to(free_port());
    int fd = connect_to("127.0.0.1", local);
    cr_assert_geq(fd, 0);
    cr_expect_neq(pair_end(fd, 20), -1);
    close(fd);
    cr_expect(process_says(leat, "open failed: connect failed", 10), "%s", process_log(leat));
    cr_expect_eq(process_lines(leat, ": connection closed"), 0, "%s", process_log(leat));
    expect_clean_end(leat);
}

Test(stripes, the_server_is_gone) {
    open_pair();
    carry_until_all_used();
    process_kill(world.server, SIGKILL);
    cr_expect_eq(pair_end(pair.near, 30), ECONNRESET);
    expect_failure(leat, " lost: ");
    cr_expect_lt(connect_to("127.0.0.1", local), 0);
    pair_close(&pair);
}

/* ---- towards a stock server ---- */

Test(stripes_sshd, each_stays_on_one_connection) {
    world_begin(&world);
    world_sshd(&world, "");
    struct target *target = target_start("127.0.0.1", TARGET_TRAFFIC);
    char why[128] = "";
    local = free_port();
    start_to(target_port(target));
    expect_logins(&world, STRIPES);
    cr_expect_eq(process_lines(leat, "knows no striped connections"), 1, "%s", process_log(leat));
    cr_expect_eq(traffic_many("127.0.0.1", local, 4, 11, 8 << 20, 8 << 20, why, sizeof(why)), 0, "%s", why);
    cr_expect_eq(process_lines(leat, "striped over"), 0, "%s", process_log(leat));
    expect_clean_end(leat);
    target_stop(target);
    world_end(&world);
}

/* ---- from the first moment on ---- */

/* Leat asks over a connection what its server can once all of them stand: from before that on, the first is silent. */
static void start_with_a_silent_first(uint16_t port) {
    proxy_set(roads[2], PROXY_BLOCKS);
    leat = world_leat(&world, "-v", "-o", world_format("Stripes=%u", STRIPES), "-L",
                      world_format("%u:127.0.0.1:%u", local, port), NULL);
    expect_soon(proxy_carried(roads[1]) > 0, 20); /* the first is authenticated */
    proxy_set(roads[0], PROXY_BLOCKS);
    proxy_set(roads[2], PROXY_WORKS);
}

/* As soon as the port is bound. */
static int connect_at_once(void) {
    double deadline = now_seconds() + world_deadline(20);
    int fd;
    while ((fd = connect_to("127.0.0.1", local)) < 0 && now_seconds() < deadline)
        pause_seconds(0.001);
    cr_assert_geq(fd, 0, "%s", process_log(leat));
    return fd;
}

Test(stripes, a_connection_that_comes_before_the_server_has_said_what_it_can) {
    offset = 0;
    start_with_a_silent_first(far);
    int fd = connect_at_once();
    pause_seconds(0.3);
    cr_expect_eq(process_lines(leat, "tunnel is up"), 0, "%s", process_log(leat));
    proxy_set(roads[0], PROXY_WORKS);
    cr_assert(pair_join(&pair, fd, listener, 20), "%s", process_log(leat));
    carry_until_all_used();
    pair_close(&pair);
    expect_clean_end(leat);
}

/* It is not waited for any longer than that, and nothing is put on it while others can carry a lane. */
Test(stripes, a_connection_over_which_nothing_is_said) {
    offset = 0;
    start_with_a_silent_first(far);
    int fd = connect_at_once();
    expect_up(leat);
    cr_expect_eq(process_lines(leat, "1 of 3 connections have not said in time"), 1, "%s", process_log(leat));
    cr_assert(pair_join(&pair, fd, listener, 20), "%s", process_log(leat));
    carry_until_used(1, 30);
    carry_until_used(2, 30);
    pair_close(&pair);
    process_kill(leat, SIGINT);
    cr_expect_eq(process_wait(leat, 20), 0, "%s", process_log(leat));
}

/* It has said nothing, and no more is known from that of the server. */
Test(stripes, a_connection_that_is_lost_before_anything_is_said) {
    offset = 0;
    start_with_a_silent_first(far);
    int fd = connect_at_once();
    proxy_set(roads[0], PROXY_RESETS);
    cr_assert(pair_join(&pair, fd, listener, 20), "%s", process_log(leat));
    cr_assert(process_says(leat, "connection 0 to 127.0.0.1", 20), "%s", process_log(leat));
    expect_up(leat);
    cr_expect_eq(process_lines(leat, "knows no striped connections"), 0, "%s", process_log(leat));
    carry_until_used(1, 30);
    carry_until_used(2, 30);
    pair_close(&pair);
    expect_clean_end(leat);
}

Test(stripes_sshd, a_connection_at_once) {
    world_begin(&world);
    world_sshd(&world, "");
    listener = pair_listen(&far);
    local = free_port();
    leat = world_leat(&world, "-v", "-o", world_format("Stripes=%u", STRIPES), "-L",
                      world_format("%u:127.0.0.1:%u", local, far), NULL);
    cr_expect(pair_join(&pair, connect_at_once(), listener, 20), "%s", process_log(leat));
    expect_up(leat);
    cr_expect_eq(process_lines(leat, "knows no striped connections"), 1, "%s", process_log(leat));
    pair_close(&pair);
    expect_clean_end(leat);
    close(listener);
    world_end(&world);
}
