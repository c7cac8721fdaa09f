/* Descriptors run out: accepting pauses, without spinning, and goes on; nobody who has connected is lost. */
#include "expect.h"
#include "pair.h"
#include "traffic.h"
#include <poll.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

static struct world world;
static struct target *target;

static void setup(void) {
    world_begin(&world);
    world_server(&world, "");
    target = target_start("127.0.0.1", TARGET_ECHO);
}
static void teardown(void) {
    target_stop(target);
    world_end(&world);
}
TestSuite(limits, .init = setup, .fini = teardown, .timeout = 300);

#define APPLICATIONS 60u

/* Reads the echo of whoever has one, and closes it; how many. */
static unsigned serve_ready(struct pollfd *fds) {
    unsigned served = 0;
    char byte;
    if (poll(fds, APPLICATIONS, 100) <= 0)
        return 0;
    for (unsigned i = 0; i < APPLICATIONS; i++) {
        if (fds[i].fd < 0 || fds[i].revents == 0)
            continue;
        cr_expect_eq(recv(fds[i].fd, &byte, 1, 0), 1, "connection %u was lost", i);
        close(fds[i].fd);
        fds[i].fd = -1;
        served++;
    }
    return served;
}

Test(limits, descriptors_run_out) {
    uint16_t port = free_port();
    world.next_nofile_max = 40;
    struct process *leat =
        world_leat(&world, "-v", "-L", world_format("%u:127.0.0.1:%u", port, target_port(target)), NULL);
    expect_up(leat);
    struct pollfd fds[APPLICATIONS];
    for (unsigned i = 0; i < APPLICATIONS; i++) {
        fds[i] = (struct pollfd){.fd = connect_to("127.0.0.1", port), .events = POLLIN};
        cr_assert_geq(fds[i].fd, 0);
        cr_assert_eq(send(fds[i].fd, "x", 1, MSG_NOSIGNAL), 1);
    }
    cr_assert(process_says(leat, "accepting paused: Too many open files", 20));
    cr_expect_lt(target_accepted(target), APPLICATIONS);
    double cpu = process_cpu_seconds(leat);
    pause_seconds(1.2); /* longer than the pause of a listener */
    cr_expect_lt(process_cpu_seconds(leat) - cpu, 0.1, "it spins");
    cr_expect_leq(process_lines(leat, "accepting paused"), 2, "one line a listener: %s", process_log(leat));

    unsigned served = 0;
    double deadline = now_seconds() + world_deadline(30);
    while (served < APPLICATIONS && now_seconds() < deadline)
        served += serve_ready(fds);
    cr_expect_eq(served, APPLICATIONS);
    expect_clean_end(leat);
}

/* Whoever starts it from a shell has 1024; it takes all it may have, and what it starts has what we gave it. */
Test(limits, the_soft_limit_is_raised_for_ourselves_alone) {
    uint16_t port = free_port();
    world.next_nofile_max = 200;
    world.next_nofile_now = 40;
    struct process *leat =
        world_leat(&world, "-v", "-L", world_format("%u:127.0.0.1:%u", port, target_port(target)), NULL);
    expect_up(leat);
    int fds[APPLICATIONS];
    char byte;
    for (unsigned i = 0; i < APPLICATIONS; i++) {
        cr_assert_geq(fds[i] = connect_to("127.0.0.1", port), 0);
        cr_assert_eq(send(fds[i], "x", 1, MSG_NOSIGNAL), 1);
    }
    for (unsigned i = 0; i < APPLICATIONS; i++) {
        cr_expect_eq(recv(fds[i], &byte, 1, 0), 1);
        close(fds[i]);
    }
    cr_expect_eq(process_lines(leat, "accepting paused"), 0);
    expect_clean_end(leat);

    const char *told = world_path(&world, "limit");
    world.next_nofile_max = 200;
    world.next_nofile_now = 40;
    leat = world_leat(&world, "-o", world_format("ProxyCommand=sh -c 'ulimit -Sn >%s'", told), "-L",
                      world_format("%u:127.0.0.1:1", port), NULL);
    cr_expect_eq(process_wait(leat, 30), 255);
    char *limit = world_read(world_path(&world, "limit"));
    cr_expect_str_eq(limit, "40\n");
    free(limit);
}

Test(limits, too_few_descriptors_are_told) {
    world.next_nofile_max = 14;
    struct process *leat = world_leat(&world, "-L", world_format("%u:127.0.0.1:1", free_port()), NULL);
    cr_expect(process_says(leat, "this process may have 14 descriptors: too few for 1 connections and 1 forwards", 20));
}

/* Those that carry the stripes are there from the beginning. */
Test(limits, too_few_descriptors_for_the_stripes_are_told) {
    world.next_nofile_max = 70;
    struct process *leat = world_leat(&world, "-o", "Connections=auto", "-o", "Stripes=16", "-L",
                                      world_format("%u:127.0.0.1:1", free_port()), NULL);
    cr_expect(
        process_says(leat, "this process may have 70 descriptors: too few for 16 connections and 1 forwards", 20));
}

/* -R: a target cannot be reached for want of a descriptor: that connection is refused, the next one is served. */
Test(limits, no_descriptor_for_a_remote_connection) {
    uint16_t port = free_port();
    world.next_nofile_max = 40;
    struct process *leat =
        world_leat(&world, "-v", "-R", world_format("%u:127.0.0.1:%u", port, target_port(target)), NULL);
    expect_up(leat);
    int fds[APPLICATIONS];
    for (unsigned i = 0; i < APPLICATIONS; i++)
        cr_assert_geq(fds[i] = connect_to("127.0.0.1", port), 0);
    cr_expect(process_says(leat, "Too many open files", 20));
    for (unsigned i = 0; i < APPLICATIONS; i++)
        close(fds[i]);
    char byte = 'x';
    bool served = false;
    for (double deadline = now_seconds() + world_deadline(20); !served && now_seconds() < deadline;) {
        int fd = connect_to("127.0.0.1", port);
        struct pollfd pollfd = {.fd = fd, .events = POLLIN};
        served = send(fd, &byte, 1, MSG_NOSIGNAL) == 1 && poll(&pollfd, 1, 5000) == 1 && recv(fd, &byte, 1, 0) == 1;
        close(fd);
    }
    cr_expect(served);
    expect_clean_end(leat);
}
