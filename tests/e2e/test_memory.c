/* What idle connections cost in memory, and that it is given back. Release builds only: sanitizers have their own ideas
 * of memory. */
#include "expect.h"
#include "traffic.h"
#include <arpa/inet.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#define FEW 500u
#define MANY 7000u /* pages here and there are little among them */
#define TARGETS 2u /* the kernel queues 4096 for one that takes none */
#define FLOW_BYTES_MAX 1024

static struct world world;
static struct target *target;
static struct process *leat;
static int fds[MANY];
static unsigned held;
static int listening[TARGETS];
static uint16_t held_ports[TARGETS], traffic_port;

static void setup(void) {
    struct rlimit files;
    cr_assert_eq(getrlimit(RLIMIT_NOFILE, &files), 0);
    files.rlim_cur = files.rlim_max;
    cr_assert_eq(setrlimit(RLIMIT_NOFILE, &files), 0);
    world_begin(&world);
    world_server(&world, "");
    target = target_start("127.0.0.1", TARGET_TRAFFIC);
}
static void teardown(void) {
    target_stop(target);
    world_end(&world);
}
TestSuite(memory, .init = setup, .fini = teardown, .timeout = 300);

static bool can_measure(void) {
    struct rlimit files;
    return getrlimit(RLIMIT_NOFILE, &files) == 0 && files.rlim_cur >= MANY + 200 && world_deadline(1) <= 1;
}

/* A target that never takes its connections costs no thread and no descriptor: the kernel answers for it. */
static uint16_t listen_only(int *fd) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(address);
    *fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    cr_assert(*fd >= 0 && bind(*fd, (struct sockaddr *)&address, len) == 0);
    cr_assert_eq(listen(*fd, (int)(MANY / TARGETS) + 100), 0);
    cr_assert_eq(getsockname(*fd, (struct sockaddr *)&address, &len), 0);
    return ntohs(address.sin_port);
}

/* Both ends have taken all of them. */
static bool all_open(unsigned count) {
    double deadline = now_seconds() + world_deadline(60);
    while (now_seconds() < deadline) {
        bool at_server = !world.server_is_leatd || process_descriptors(world.server) >= count;
        if (at_server && process_descriptors(leat) >= count)
            return true;
        pause_seconds(0.05);
    }
    return false;
}

static void hold(unsigned count) {
    for (; held < count; held++)
        cr_assert_geq(fds[held] = connect_to("127.0.0.1", held_ports[held % TARGETS]), 0);
    cr_assert(all_open(count), "%s", process_log(leat));
    pause_seconds(0.3); /* for the last ones' channels */
}

/* The target's end too, or half of each connection would go on. */
static void release_all(void) {
    while (held > 0)
        close(fds[--held]);
    for (unsigned i = 0; i < TARGETS; i++)
        close(listening[i]);
}

static void start(void) {
    const char *specs[TARGETS];
    for (unsigned i = 0; i < TARGETS; i++) {
        held_ports[i] = free_port();
        specs[i] = world_format("%u:127.0.0.1:%u", held_ports[i], listen_only(&listening[i]));
    }
    traffic_port = free_port();
    leat = world_leat(&world, "-v", "-L", specs[0], "-L", specs[1], "-L",
                      world_format("%u:127.0.0.1:%u", traffic_port, target_port(target)), NULL);
    expect_up(leat);
    struct traffic_result result = traffic_through("127.0.0.1", traffic_port, 1, 100000, 100000);
    cr_assert(result.ok, "%s", result.why);
}

static long bytes_each(const struct process *process, long before_kib) {
    return (process_rss_kib(process) - before_kib) * 1024 / (long)(MANY - FEW);
}

/* Opening them takes more, for a moment. */
static void expect_cheap(const char *name, const struct process *process, long before_kib) {
    double deadline = now_seconds() + world_deadline(20);
    while (bytes_each(process, before_kib) > FLOW_BYTES_MAX && now_seconds() < deadline)
        pause_seconds(0.2);
    long each = bytes_each(process, before_kib);
    cr_expect_leq(each, FLOW_BYTES_MAX, "%s: %ld bytes for an idle connection", name, each);
}

Test(memory, an_idle_connection_takes_a_kibibyte_at_most) {
    if (!can_measure())
        world_skip(&world, "sanitizers have memory of their own");
    start();
    hold(FEW);
    pause_seconds(3); /* what opening them took has gone back */
    long client = process_rss_kib(leat), server = process_rss_kib(world.server);
    hold(MANY);
    expect_cheap("leat", leat, client);
    if (world.server_is_leatd)
        expect_cheap("leatd", world.server, server);
    release_all();
    expect_clean_end(leat);
}

static void expect_back(const char *name, const struct process *process, long idle_kib) {
    double deadline = now_seconds() + world_deadline(30);
    while (process_rss_kib(process) > idle_kib * 6 / 5 && now_seconds() < deadline)
        pause_seconds(0.2);
    cr_expect_leq(process_rss_kib(process), idle_kib * 6 / 5, "%s: %ld KiB before, %ld KiB after", name, idle_kib,
                  process_rss_kib(process));
}

Test(memory, goes_back_after_the_load) {
    char why[200];
    if (!can_measure())
        world_skip(&world, "sanitizers have memory of their own");
    start();
    pause_seconds(3); /* what the start needed has gone back */
    long client = process_rss_kib(leat), server = process_rss_kib(world.server);
    hold(MANY);
    cr_expect_eq(traffic_many("127.0.0.1", traffic_port, 32, 7, 4u << 20, 4u << 20, why, sizeof(why)), 0, "%s", why);
    cr_expect_gt(process_rss_kib(leat), client * 6 / 5, "a load that takes memory");
    release_all();
    expect_back("leat", leat, client);
    if (world.server_is_leatd)
        expect_back("leatd", world.server, server);
    expect_clean_end(leat);
}
