/* Connections auto: how many there are follows the load, costs no person anything, and what goes wrong with one more is
 * no loss. A shard is made the bottleneck by taking its processor away from it. */
#include "expect.h"
#include "pump.h"
#include "starve.h"
#include "traffic.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#define FLOWS 8u
#define STARVED_SECONDS 3 /* long enough for more than one decision */

static struct world world;
static struct process *leat;
static struct pair pairs[FLOWS];
static unsigned pairs_count;
static int listener;
static uint16_t local, far;

static void setup(void) {
    world_begin(&world);
    listener = pair_listen(&far);
    local = free_port();
    pairs_count = 0;
}

static void close_pairs(void) {
    while (pairs_count > 0)
        pair_close(&pairs[--pairs_count]);
}

static void teardown(void) {
    starve_end();
    pump_stop();
    close_pairs();
    close(listener);
    world_end(&world);
}
TestSuite(auto_connections, .init = setup, .fini = teardown, .timeout = 300);

/* ---- a shard that is the bottleneck, whatever the machine ---- */

static void load_start(unsigned flows) {
    for (; pairs_count < flows; pairs_count++)
        cr_assert(pair_open(&pairs[pairs_count], "127.0.0.1", local, listener, 20));
    pump_start(pairs, pairs_count);
}

static void start(const char *connections, const char *shards) {
    leat = world_leat(&world, "-v", "-o", world_format("Connections=%s", connections), "-o",
                      world_format("Shards=%s", shards), "-L", world_format("%u:127.0.0.1:%u", local, far), NULL);
    expect_up(leat);
}

/* What USR1 prints, from `first` on. */
static const char *state_now(const char *first) {
    const char *mark = "connection 0 to";
    unsigned before = process_lines(leat, mark);
    process_kill(leat, SIGUSR1);
    expect_soon_of(leat, process_lines(leat, mark) == before + 1, 30);
    const char *log = process_log(leat), *last = "";
    for (const char *at = log; (at = strstr(at, first)) != NULL; at++)
        last = at;
    return last;
}

static bool counts(unsigned connections) {
    const char *line = world_format("Connections auto: %u of at most 2", connections);
    return strncmp(state_now("Connections auto: "), line, strlen(line)) == 0;
}

static bool is_saturated(void) {
    const char *line = state_now("connection 0 to");
    return memmem(line, strcspn(line, "\n"), ", saturated", strlen(", saturated")) != NULL;
}

/* Saturated all the while, and still one connection. */
static void expect_stays_at_one(void) {
    expect_soon_of(leat, is_saturated(), 20);
    double until = now_seconds() + STARVED_SECONDS;
    while (now_seconds() < until && process_running(leat))
        pause_seconds(0.1);
    cr_expect_eq(process_lines(leat, "connection 1 added"), 0, "%s", process_log(leat));
    cr_expect_eq(world_logins(&world), 1, "%s", process_log(leat));
}

static bool adds(unsigned index, double seconds) {
    return process_says(leat, world_format("connection %u added", index), seconds);
}

static void expect_traffic(void) {
    struct pair pair;
    cr_assert(pair_open(&pair, "127.0.0.1", local, listener, 20));
    cr_expect_eq(pair_push(pair.near, 3, 0, 100000, 10), 100000);
    cr_expect(pair_pull(pair.far, 3, 0, 100000, 10));
    pair_close(&pair);
}

/* ---- growing and shrinking ---- */

Test(auto_connections, eight_flows_get_another_and_it_goes_when_they_have_gone) {
    world_server(&world, "");
    start("auto", "2");
    cr_expect(counts(1), "%s", process_log(leat));
    starve(leat, "leat/0");
    load_start(FLOWS);
    cr_assert(adds(1, 30), "%s", process_log(leat));
    expect_logins(&world, 2);
    cr_expect(counts(2), "%s", process_log(leat));
    /* What comes now comes there. */
    expect_traffic();
    cr_expect(process_lines(leat, "connection 1 to 127.0.0.1: shard 1, ") > 0, "%s", process_log(leat));
    pump_stop();
    starve_end();
    close_pairs();
    cr_assert(process_says(leat, "connection 1 closed", 60), "%s", process_log(leat));
    expect_soon_of(leat, counts(1), 10);
    expect_traffic();
    cr_expect_eq(process_lines(leat, " lost: "), 0, "%s", process_log(leat));
    cr_expect_eq(world_logins(&world), 2, "%s", process_log(leat));
    expect_clean_end(leat);
}

Test(auto_connections, one_flow_cannot_be_spread) {
    world_server(&world, "");
    start("auto", "2");
    starve(leat, "leat/0");
    load_start(1);
    expect_stays_at_one();
    expect_clean_end(leat);
}

Test(auto_connections, idle_flows_are_no_load) {
    world_server(&world, "");
    start("auto", "2");
    for (; pairs_count < FLOWS; pairs_count++)
        cr_assert(pair_open(&pairs[pairs_count], "127.0.0.1", local, listener, 20));
    pause_seconds(STARVED_SECONDS);
    cr_expect_eq(world_logins(&world), 1, "%s", process_log(leat));
    expect_clean_end(leat);
}

/* The main thread, which looks at the shards. */
Test(auto_connections, an_idle_client_sleeps) {
    world_server(&world, "");
    start("auto", "2");
    cr_assert(pair_open(&pairs[pairs_count++], "127.0.0.1", local, listener, 20));
    expect_soon_of(leat, thread_rests(leat->pid), 60);
    close_pairs();
    expect_clean_end(leat);
}

/* ---- nobody is asked ---- */

Test(auto_connections, a_key_with_a_passphrase_stays_at_one) {
    const char *key = world_path(&world, "locked_key"), *script = world_path(&world, "askpass");
    world_server(&world, "");
    cr_assert_eq(world_run(&world, "ssh-keygen", "-q", "-t", "ed25519", "-N", "open sesame", "-f", key, NULL), 0);
    world_copy(world_format("%s.pub", key), world_path(&world, "authorized_keys"));
    world_write(script, world_format("#!/bin/sh\necho \"$1\" >>%s/asked\necho 'open sesame'\n", world.dir));
    chmod(script, 0700);
    setenv("SSH_ASKPASS", script, 1);
    setenv("SSH_ASKPASS_REQUIRE", "force", 1);
    leat = world_leat_bare(&world, "-v", "-F", "none", "-p", world_format("%u", world.server_port), "-o",
                           world_format("UserKnownHostsFile=%s", world.known_hosts), "-o",
                           world_format("IdentityFile=%s", key), "-o", "IdentityAgent=none", "-o", "Connections=auto",
                           "-o", "Shards=2", "-L", world_format("%u:127.0.0.1:%u", local, far), "127.0.0.1", NULL);
    expect_up(leat);
    cr_expect_eq(process_lines(leat, "Connections auto stays at one: the key has a passphrase"), 1, "%s",
                 process_log(leat));
    starve(leat, "leat/0");
    load_start(FLOWS);
    pause_seconds(STARVED_SECONDS);
    cr_expect_eq(world_logins(&world), 1, "%s", process_log(leat));
    char *asked = world_read(world_path(&world, "asked"));
    cr_expect_eq(strchr(asked, '\n'), strrchr(asked, '\n'), "asked more than once: %s", asked);
    free(asked);
    expect_clean_end(leat);
}

/* ---- the server's limits ---- */

/* sshd's words for the limit are others with every release. */
static unsigned refusals(void) {
    return process_lines(world.server, world.server_is_leatd ? "past MaxStartups" : "drop connection #");
}

/* The server may not have noticed yet that whoever has looked whether it listens is gone, and has room for one. OpenSSH
 * 10 starts two programs before it does. */
static void start_where_one_may(const char *shards) {
    for (double pause = 0.1; pause < world_deadline(10); pause *= 2) {
        leat = world_leat(&world, "-v", "-o", "Connections=auto", "-o", world_format("Shards=%s", shards), "-L",
                          world_format("%u:127.0.0.1:%u", local, far), NULL);
        if (process_says(leat, "tunnel is up", 20))
            return;
        pause_seconds(pause);
    }
    cr_assert_fail("%s", process_log(leat));
}

Test(auto_connections, max_startups_of_one_is_not_tripped) {
    world_server(&world, "MaxStartups 1");
    start_where_one_may("3");
    unsigned before = refusals();
    starve(leat, "leat/0");
    load_start(FLOWS);
    cr_assert(adds(1, 30), "%s", process_log(leat));
    cr_expect_eq(refusals(), before, "%s", process_log(world.server));
    expect_clean_end(leat);
}

/* Somebody else takes the server's only place: the tunnel goes on, and the next try, later, comes through. */
Test(auto_connections, a_refusal_is_borne) {
    world_server(&world, "MaxStartups 1");
    start_where_one_may("2");
    expect_traffic();
    unsigned before = refusals();
    int fd = connect_to("127.0.0.1", world.server_port);
    char byte;
    cr_assert_geq(fd, 0);
    cr_assert_eq(recv(fd, &byte, 1, 0), 1, "the server takes it");
    starve(leat, "leat/0");
    load_start(FLOWS);
    cr_assert(process_says(leat, "no other connection: ", 30), "%s", process_log(leat));
    cr_expect_eq(process_lines(leat, "connection 1 added"), 0, "%s", process_log(leat));
    expect_soon_of(world.server, refusals() > before, 10);
    close(fd);
    cr_assert(adds(1, 60), "%s", process_log(leat));
    cr_expect_eq(process_lines(leat, " lost: "), 0, "%s", process_log(leat));
    expect_clean_end(leat);
}

/* ---- what else may happen to it ---- */

/* A reload and a drain with two of them. */
Test(auto_connections, a_reload_and_a_drain) {
    world_server(&world, "");
    start("auto", "2");
    starve(leat, "leat/0");
    load_start(FLOWS);
    cr_assert(adds(1, 30), "%s", process_log(leat));
    struct pair on_it;
    cr_assert(pair_open(&on_it, "127.0.0.1", local, listener, 20));
    process_kill(leat, SIGHUP); /* with -F none: nothing changes, and nobody is disturbed */
    cr_assert(process_says(leat, "configuration reloaded: 0 forwards added, 0 removed, 0 changed", 20));
    cr_expect_eq(pair_push(on_it.near, 4, 0, 1000, 10), 1000);
    cr_expect(pair_pull(on_it.far, 4, 0, 1000, 10));
    pump_stop();
    starve_end();
    process_kill(leat, SIGTERM); /* both are drained */
    pair_close(&on_it);
    close_pairs();
    cr_expect_eq(process_wait(leat, 20), 0, "%s", process_log(leat));
}

/* sshd, which has a process for each connection. */
Test(auto_connections, the_end_of_another_is_not_the_end) {
    struct pair on_it;
    world_sshd(&world, "");
    start("auto", "2");
    starve(leat, "leat/0");
    load_start(FLOWS);
    cr_assert(adds(1, 30), "%s", process_log(leat));
    cr_assert(pair_open(&on_it, "127.0.0.1", local, listener, 20));
    pump_stop();
    starve_end();
    cr_assert_eq(kill(world_sshd_session(&world, 1, 2), SIGKILL), 0);
    cr_assert(process_says(leat, "connection 1 to 127.0.0.1", 20), "%s", process_log(leat));
    cr_expect(pair_end(on_it.near, 20) != 0, "what was on it is reset");
    pair_close(&on_it);
    cr_expect_eq(process_lines(leat, " lost: "), 1, "%s", process_log(leat));
    expect_traffic();
    expect_clean_end(leat);
}

/* With a number of connections too: the one with fewer flows is not the better one when its shard has no more to give.
 */
Test(auto_connections, new_flows_avoid_a_saturated_shard) {
    struct pair later[4];
    world_server(&world, "");
    start("2", "2");
    starve(leat, "leat/0");
    load_start(1); /* the first flow is the first connection's */
    expect_soon_of(leat, is_saturated(), 20);
    for (unsigned i = 0; i < 4; i++)
        cr_assert(pair_open(&later[i], "127.0.0.1", local, listener, 20));
    (void)state_now("connection 0 to");
    cr_expect(process_says(leat, "connection 1 to 127.0.0.1: shard 1, 4 connections", 10), "%s", process_log(leat));
    for (unsigned i = 0; i < 4; i++)
        pair_close(&later[i]);
    expect_clean_end(leat);
}
