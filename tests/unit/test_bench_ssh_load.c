/* SSH connections as load, against an sshd of our own. */
#include "bench/ssh_load.h"
#include "bench/usage.h"
#include "bench/world.h"
#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define PATIENCE_S 60.0
#define SSHD "/usr/sbin/sshd"

static struct world *world;
static struct process sshd;
static struct target target;
static struct ssh_load_job job;
static struct load_result result;
static char key_path[512];
static const struct place here = PLACE_HERE;

static struct sockaddr_in loopback(uint16_t port) {
    return (struct sockaddr_in){
        .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK), .sin_port = htons(port)};
}

static void begin(void) {
    char why[400] = "";
    world = world_begin(false);
    cr_assert(world, "no world");
    cr_assert(world_keys(world, why, sizeof why), "%s", why);
    snprintf(key_path, sizeof key_path, "%s/user_key", world_dir(world));
    cr_assert(target_start(&target, loopback(0).sin_addr, 0, &here));
    job = (struct ssh_load_job){.server = loopback(0),
                                .target = target.address,
                                .key = key_path,
                                .cipher = "aes128-gcm@openssh.com",
                                .clients = 2};
}

static void end(void) {
    target_stop(&target);
    world_end(world);
}

/* Skips the test when there is no sshd. `more`: lines of its configuration. */
static void begin_with_sshd(const char *more) {
    char config[2048], config_path[512];
    if (access(SSHD, X_OK) != 0)
        cr_skip("no sshd");
    begin();
    uint16_t port = world_free_port();
    const char *dir = world_dir(world);
    snprintf(config, sizeof config,
             "Port %u\nListenAddress 127.0.0.1\nHostKey %s/host_key\nAuthorizedKeysFile %s/authorized_keys\n"
             "StrictModes no\nPidFile none\nPasswordAuthentication no\nKbdInteractiveAuthentication no\n%s",
             port, dir, dir, more);
    cr_assert(world_write(world, "sshd_config", config));
    snprintf(config_path, sizeof config_path, "%s/sshd_config", dir);
    cr_assert(geteuid() != 0 || world_borrow_dir(world, "/run/sshd"));
    char *argv[] = {SSHD, "-D", "-e", "-f", config_path, NULL};
    cr_assert(world_start(world, &sshd, "sshd", argv, NULL, &here));
    if (!world_wait_listening(&sshd, port, PATIENCE_S))
        cr_assert_fail("sshd: %s", process_tail(&sshd, 5));
    job.server = loopback(port);
}

static void run(void) {
    struct load *load = ssh_load_start(&job, &here);
    cr_assert(load);
    load_wait(load, &result);
}

static void expect_failure(const char *words) {
    run();
    cr_assert_not(result.ok);
    cr_assert(strstr(result.why, words), "'%s' is not in: %s", words, result.why);
}

/* A port on which nobody listens; it stays bound, so that nobody will. */
static struct sockaddr_in deaf(void) {
    struct sockaddr_in address = loopback(0);
    socklen_t len = sizeof address;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    cr_assert(fd >= 0 && bind(fd, (struct sockaddr *)&address, sizeof address) == 0);
    cr_assert_eq(getsockname(fd, (struct sockaddr *)&address, &len), 0);
    return address;
}

/* sshd and one process or more for each connection. */
static uint32_t processes(void) {
    struct usage usage;
    cr_assert(usage_of(sshd.pid, false, &usage));
    return usage.processes;
}

static void expect_jumps(uint64_t operations) {
    cr_assert(result.ok, "%s", result.why);
    cr_assert_eq(result.operations, operations);
    cr_assert_eq(result.latency.count, operations);
    cr_assert(result.measured_s > 0);
    cr_assert(result.cpu_user_s + result.cpu_system_s > 0 && result.busy > 0);
    cr_assert(result.peak_rss_bytes > 1 << 20);
    cr_assert(result.first_byte_s > 0 && result.first_byte_s <= (double)result.latency.max_ns / 1e9);
    /* All of each jump lies in the measured time unless it began in the warm-up. */
    cr_assert(job.warmup_jumps > 0 || result.measured_s >= (double)result.latency.max_ns / 1e9 - 1e-6);
}

Test(bench_ssh_load, every_jump_counts_without_a_warm_up) {
    begin_with_sshd("");
    job.jumps = 5;
    run();
    expect_jumps(5);
    end();
}

Test(bench_ssh_load, the_warm_up_does_not_count) {
    begin_with_sshd("");
    job.jumps = 8;
    job.warmup_jumps = 3;
    run();
    expect_jumps(5);
    end();
}

Test(bench_ssh_load, more_clients_than_jumps) {
    begin_with_sshd("");
    job.clients = 6;
    job.jumps = 1;
    run();
    expect_jumps(1);
    end();
}

Test(bench_ssh_load, jumps_end_when_they_are_told_to) {
    begin_with_sshd("");
    job.jumps = 1000000;
    struct load *load = ssh_load_start(&job, &here);
    cr_assert(load);
    cr_assert(load_ready(load, PATIENCE_S));
    load_stop(load);
    load_wait(load, &result);
    cr_assert(result.operations >= 1 && result.operations < job.jumps);
    expect_jumps(result.operations);
    end();
}

/* More of them than are opened at once, of an sshd that drops the eleventh that is not yet through. */
Test(bench_ssh_load, connections_are_held_until_told) {
    begin_with_sshd("");
    job.clients = 11;
    struct load *load = ssh_load_start(&job, &here);
    cr_assert(load);
    cr_assert(load_ready(load, PATIENCE_S));
    cr_assert_geq(processes(), 1 + job.clients);
    load_stop(load);
    load_wait(load, &result);
    cr_assert(result.ok, "%s", result.why);
    cr_assert_eq(result.operations, job.clients);
    cr_assert_eq(result.latency.count, 0);
    cr_assert(result.measured_s > 0);
    end();
}

/* Nobody answers its questions, so that it hangs up. */
Test(bench_ssh_load, a_connection_that_was_not_held_is_told) {
    begin_with_sshd("ClientAliveInterval 1\nClientAliveCountMax 1\n");
    struct load *load = ssh_load_start(&job, &here);
    cr_assert(load);
    cr_assert(load_ready(load, PATIENCE_S));
    while (processes() > 1)
        nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL);
    load_stop(load);
    load_wait(load, &result);
    cr_assert_not(result.ok);
    cr_assert_str_eq(result.why, "2 of 2 held connections are gone");
    end();
}

Test(bench_ssh_load, a_key_that_opens_nothing) {
    begin_with_sshd("");
    snprintf(key_path, sizeof key_path, "%s/host_key", world_dir(world));
    job.jumps = 1;
    expect_failure("authentication: ");
    end();
}

Test(bench_ssh_load, a_cipher_the_server_has_not) {
    begin_with_sshd("Ciphers aes256-ctr\n");
    job.jumps = 1;
    expect_failure("connect: ");
    end();
}

Test(bench_ssh_load, a_target_that_is_not_there) {
    begin_with_sshd("");
    job.target = deaf();
    job.jumps = 3;
    expect_failure("direct-tcpip: ");
    end();
}

/* What answers, but not as the target: sshd itself, with its version. */
Test(bench_ssh_load, an_answer_that_is_not_the_target_s) {
    begin_with_sshd("");
    job.target = job.server;
    job.jumps = 1;
    expect_failure("content");
    end();
}

Test(bench_ssh_load, a_server_that_is_not_there) {
    begin();
    job.server = deaf();
    job.jumps = 3;
    expect_failure("connect: ");
    job.jumps = 0;
    struct load *load = ssh_load_start(&job, &here);
    cr_assert(load);
    cr_assert_not(load_ready(load, PATIENCE_S));
    load_wait(load, &result);
    cr_assert(!result.ok && strstr(result.why, "connect: "), "%s", result.why);
    end();
}

/* Its listener takes the connection and never says anything. */
Test(bench_ssh_load, stopped_before_anything_was_through) {
    begin();
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in address = loopback(0);
    socklen_t len = sizeof address;
    cr_assert(listener >= 0 && bind(listener, (struct sockaddr *)&address, len) == 0 && listen(listener, 8) == 0);
    cr_assert_eq(getsockname(listener, (struct sockaddr *)&address, &len), 0);
    job.server = address;
    const uint32_t jumps[] = {0, 7};
    for (size_t i = 0; i < sizeof jumps / sizeof jumps[0]; i++) {
        job.jumps = jumps[i];
        struct load *load = ssh_load_start(&job, &here);
        cr_assert(load);
        load_stop(load);
        load_wait(load, &result);
        cr_assert_not(result.ok);
        cr_assert_str_eq(result.why,
                         jumps[i] > 0 ? "stopped when 0 of 7 were through" : "stopped when 0 of 2 were through");
    }
    end();
}

Test(bench_ssh_load, jobs_that_make_no_sense) {
    begin();
    job.server = deaf();
    job.jumps = 4;
    job.warmup_jumps = 4;
    expect_failure("4 jumps of which 4 warm up");
    job.warmup_jumps = 3;
    job.clients = 0;
    expect_failure("0 clients");
    job.clients = 257;
    expect_failure("257 clients");
    job.clients = 1;
    snprintf(key_path, sizeof key_path, "%s/authorized_keys", world_dir(world));
    expect_failure("not a private key");
    end();
}
