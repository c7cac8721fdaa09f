#include "bench/stream.h"
#include "bench/world.h"
#include "tests/skip.h"
#include "tests/unit/bench_load_rig.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <poll.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/pidfd.h>
#include <sys/resource.h>

TestSuite(load, .init = target_up, .fini = target_down);

/* Children of `parent` other than the target. */
static pid_t child_of(pid_t parent) {
    pid_t found = 0;
    DIR *dir = opendir("/proc");
    for (struct dirent *entry; found == 0 && (entry = readdir(dir)) != NULL;) {
        char path[300], line[400] = "";
        int pid = atoi(entry->d_name), ppid = 0;
        snprintf(path, sizeof(path), "/proc/%s/stat", entry->d_name);
        FILE *file = pid > 0 && pid != target.pid ? fopen(path, "r") : NULL;
        if (file == NULL)
            continue;
        if (fgets(line, sizeof(line), file) != NULL && strrchr(line, ')') != NULL &&
            sscanf(strrchr(line, ')'), ") %*c %d", &ppid) == 1 && ppid == parent)
            found = pid;
        fclose(file);
    }
    closedir(dir);
    return found;
}

static unsigned descriptors_of(pid_t pid) {
    char path[64];
    unsigned count = 0;
    snprintf(path, sizeof(path), "/proc/%d/fd", pid);
    DIR *dir = opendir(path);
    while (readdir(dir) != NULL)
        count++;
    closedir(dir);
    return count;
}

Test(load, every_byte_of_downloads_and_uploads_is_counted) {
    static const uint64_t sizes[] = {1,
                                     2,
                                     STREAM_RUN_BYTES - 1,
                                     STREAM_RUN_BYTES,
                                     STREAM_RUN_BYTES + 1,
                                     STREAM_PERIOD_BYTES,
                                     STREAM_PERIOD_BYTES + 1,
                                     5000000};
    for (size_t i = 0; i < 2 * sizeof(sizes) / sizeof(*sizes); i++) {
        struct load_job job = job_of(i % 2 ? LOAD_UP : LOAD_DOWN, 3);
        job.bytes_per_flow = sizes[i / 2];
        must_run(&job);
        cr_assert_eq(result.down_bytes, i % 2 ? 0 : 3 * sizes[i / 2]);
        cr_assert_eq(result.up_bytes, i % 2 ? 3 * sizes[i / 2] : 0);
        cr_assert_eq(result.flow_count, 3);
        for (int flow = 0; flow < 3; flow++)
            cr_assert_eq(result.flow_bytes[flow], sizes[i / 2]);
        cr_assert_eq(samples_sum(), 3 * sizes[i / 2]);
        cr_assert_gt(result.measured_s, 0.0);
        cr_assert_gt(result.first_byte_s, 0.0);
        cr_assert_gt(result.peak_rss_bytes, 0);
        cr_assert_eq(result.reconnects, 0);
    }
}

Test(load, both_ways_at_once) {
    struct load_job job = job_of(LOAD_DOWN, 2);
    job.both_flows = 3;
    job.bytes_per_flow = 4000000;
    must_run(&job);
    cr_assert_eq(result.flow_count, 5);
    cr_assert_eq(result.down_bytes, 8000000);
    cr_assert_eq(result.up_bytes, 12000000);
    cr_assert_eq(samples_sum(), 20000000);
}

Test(load, a_timed_job_counts_the_measured_time_alone) {
    struct load_job job = job_of(LOAD_DOWN, 2);
    job.both_flows = 2;
    job.warmup_s = 0.2;
    job.measure_s = 0.3;
    must_run(&job);
    uint64_t down = result.flow_bytes[0] + result.flow_bytes[1], up = result.flow_bytes[2] + result.flow_bytes[3];
    cr_assert_geq(result.measured_s, 0.3);
    cr_assert(result.down_bytes > 0 && result.up_bytes > 0);
    cr_assert_eq(result.down_bytes, down);
    cr_assert_eq(result.up_bytes, up);
    cr_assert_gt(samples_sum(), down + up, "the warm-up is in the samples");
    cr_assert_geq(result.sample_count, 10);
    cr_assert(result.busy > 0 && result.busy <= 1);
    cr_assert_gt(result.cpu_user_s + result.cpu_system_s, 0.0);
}

Test(load, messages_come_back_whatever_their_size) {
    static const uint32_t sizes[] = {1, 64, 65536, STREAM_RUN_BYTES + 1, 3000000};
    for (size_t i = 0; i < sizeof(sizes) / sizeof(*sizes); i++) {
        struct load_job job = job_of(LOAD_ECHO, 3);
        job.message_bytes = sizes[i];
        job.measure_s = 0.15;
        must_run(&job);
        /* Big ones may take longer than that on a machine that has much to do. */
        cr_assert(result.operations >= 1 || sizes[i] > 65536);
        cr_assert_eq(result.latency.count, result.operations);
        job.rate = 40;
        must_run(&job);
        cr_assert_geq(result.operations, 5);
        cr_assert_eq(result.latency.count, result.operations);
        cr_assert_gt(histogram_percentile(&result.latency, 50), 0);
    }
}

Test(load, messages_by_the_clock_are_as_many_as_planned) {
    static const double rates[] = {1, 50, 3000};
    for (size_t i = 0; i < sizeof(rates) / sizeof(*rates); i++) {
        struct load_job job = job_of(LOAD_ECHO, 7);
        job.message_bytes = 100;
        job.rate = rates[i];
        job.warmup_s = 0.1;
        job.measure_s = 0.3;
        must_run(&job);
        double planned = result.measured_s * rates[i];
        cr_assert((double)result.operations >= planned - 1 && (double)result.operations <= planned + 1, "%ju of %g",
                  (uintmax_t)result.operations, planned);
        cr_assert_eq(result.latency.count, result.operations);
        cr_assert_leq(result.late, result.operations);
    }
}

Test(load, connections_are_opened_all_the_time) {
    struct load_job job = job_of(LOAD_OPEN, 8);
    job.warmup_s = 0.05;
    job.measure_s = 0.2;
    must_run(&job);
    cr_assert_geq(result.operations, 1);
    cr_assert_eq(result.latency.count, result.operations);
}

Test(load, thousands_of_connections_are_held) {
    struct load_job job = job_of(LOAD_HOLD, 3000);
    struct load *load = load_start(&job, HERE);
    cr_assert(load_ready(load, READY_S));
    cr_assert_geq(descriptors_of(target.pid), 3000);
    load_stop(load);
    load_wait(load, &result);
    cr_assert(result.ok, "%s", result.why);
    cr_assert_eq(result.operations, 3000);
}

Test(load, a_job_without_end_ends_when_told) {
    struct load_job job = job_of(LOAD_DOWN, 2);
    job.both_flows = 1;
    struct load *load = load_start(&job, HERE);
    cr_assert(load_ready(load, READY_S));
    for (uint64_t bytes = 0; bytes < 1000000;)
        cr_assert(load_look(load, &bytes));
    load_stop(load);
    load_wait(load, &result);
    cr_assert(result.ok, "%s", result.why);
    cr_assert_gt(result.measured_s, 0.0);
    cr_assert_geq(result.down_bytes + result.up_bytes, 1000000);
}

Test(load, stalled_readers_read_so_much_and_no_more) {
    struct load_job job = job_of(LOAD_DOWN, 4);
    job.pause_bytes = 300001;
    job.bytes_per_flow = 10000000; /* measured from the beginning on */
    job.patience_ms = 2000;
    struct load *load = load_start(&job, HERE);
    uint64_t bytes = 0;
    cr_assert(load_ready(load, READY_S));
    while (bytes < 4 * job.pause_bytes)
        cr_assert(load_look(load, &bytes));
    /* Longer than its patience: paused flows are not stalled ones. */
    nanosleep(&(struct timespec){.tv_sec = 2, .tv_nsec = 500000000}, NULL);
    cr_assert(load_look(load, &bytes));
    load_stop(load);
    load_wait(load, &result);
    cr_assert(result.ok, "%s", result.why);
    cr_assert_eq(result.down_bytes, 4 * job.pause_bytes);
    cr_assert_eq(samples_sum(), 4 * job.pause_bytes);
}

Test(load, stopped_before_the_flows_are_there_is_a_failure) {
    struct load_job job = job_of(LOAD_HOLD, 1);
    int listener = listen_somewhere(&job.address); /* nobody answers */
    struct load *load = load_start(&job, HERE);
    cr_assert(!load_ready(load, 0.05));
    load_stop(load);
    load_wait(load, &result);
    cr_assert(!result.ok);
    cr_assert_not_null(strstr(result.why, "stopped before"), "%s", result.why);
    close(listener);
}

Test(load, a_killed_job_is_a_failure) {
    struct load_job job = job_of(LOAD_DOWN, 1);
    struct load *load = load_start(&job, HERE);
    cr_assert(load_ready(load, READY_S));
    pid_t pid = child_of(getpid());
    cr_assert_gt(pid, 0);
    kill(pid, SIGKILL);
    load_wait(load, &result);
    cr_assert(!result.ok);
    cr_assert_not_null(strstr(result.why, "killed by signal 9"), "%s", result.why);
    cr_assert_eq(kill(pid, 0), -1, "it is not waited for");
}

Test(load, an_interrupted_harness_does_not_wait) {
    struct world *world = world_begin(false);
    cr_assert_not_null(world);
    struct load_job job = job_of(LOAD_HOLD, 1);
    struct load *load = load_start(&job, HERE);
    cr_assert(load_ready(load, READY_S));
    raise(SIGTERM);
    load_wait(load, &result);
    cr_assert(!result.ok);
    cr_assert_str_eq(result.why, "interrupted");
    world_end(world);
}

Test(load, dies_with_its_parent) {
    int ends[2];
    cr_assert_eq(pipe(ends), 0);
    pid_t middle = fork();
    if (middle == 0) {
        pid_t pids[2] = {0};
        target_up();
        struct load_job job = job_of(LOAD_HOLD, 1);
        struct load *load = load_start(&job, HERE);
        if (load_ready(load, READY_S)) {
            pids[0] = target.pid;
            pids[1] = child_of(getpid());
        }
        if (write(ends[1], pids, sizeof(pids)) != sizeof(pids))
            _exit(1);
        for (;;)
            pause();
    }
    pid_t pids[2];
    cr_assert_eq(read(ends[0], pids, sizeof(pids)), sizeof(pids));
    for (int i = 0; i < 2; i++) {
        cr_assert_gt(pids[i], 0);
        ends[i] = pidfd_open(pids[i], 0);
        cr_assert_geq(ends[i], 0);
    }
    kill(middle, SIGKILL);
    waitpid(middle, NULL, 0);
    for (int i = 0; i < 2; i++)
        cr_assert_eq(poll(&(struct pollfd){.fd = ends[i], .events = POLLIN}, 1, 20000), 1);
}

Test(load, does_not_hold_what_the_harness_has_open) {
    int ends[2];
    char byte;
    cr_assert_eq(pipe(ends), 0);
    struct load_job job = job_of(LOAD_HOLD, 1);
    struct load *load = load_start(&job, HERE);
    cr_assert(load_ready(load, READY_S));
    close(ends[1]);
    cr_assert_eq(read(ends[0], &byte, 1), 0, "the load has the other end");
    load_stop(load);
    load_wait(load, &result);
    cr_assert(result.ok, "%s", result.why);
    close(ends[0]);
}

Test(load, a_refused_connection_is_named) {
    struct load_job job = job_of(LOAD_DOWN, 2);
    close(listen_somewhere(&job.address));
    must_fail(&job, "connect: Connection refused");
    cr_assert_not_null(strstr(result.why, "flow 0"));
    job.reconnect = true;
    must_fail(&job, "connect: Connection refused");
}

Test(load, too_few_descriptors_are_named) {
    struct rlimit few = {.rlim_cur = 100, .rlim_max = 100};
    cr_assert_eq(setrlimit(RLIMIT_NOFILE, &few), 0);
    if (geteuid() == 0)
        cr_assert_eq(setresuid(65534, 65534, 65534), 0); /* root's limits are none */
    struct load_job job = job_of(LOAD_HOLD, 200);
    must_fail(&job, "200 flows need 232 descriptors, and the limit is 100");
}

Test(load, jobs_without_sense_are_refused) {
    const struct load_job fine = {.kind = LOAD_DOWN, .address = target.address, .flows = 1};
    struct load_job jobs[10];
    for (int i = 0; i < 10; i++)
        jobs[i] = fine;
    jobs[0].kind = 0;
    jobs[1].kind = LOAD_HOLD + 1;
    jobs[2].flows = 0;
    jobs[3].flows = LOAD_FLOWS_MAX + 1;
    jobs[4].both_flows = LOAD_FLOWS_MAX;
    jobs[5].kind = LOAD_ECHO;
    jobs[6].kind = LOAD_ECHO, jobs[6].message_bytes = LOAD_MESSAGE_BYTES_MAX + 1;
    jobs[7].kind = LOAD_UP, jobs[7].both_flows = 1;
    jobs[8].kind = LOAD_UP, jobs[8].pause_bytes = 1;
    jobs[9].kind = LOAD_OPEN, jobs[9].bytes_per_flow = 1;
    for (int i = 0; i < 10; i++) {
        errno = 0;
        cr_assert_null(load_start(&jobs[i], HERE), "job %d", i);
        cr_assert_eq(errno, EINVAL);
    }
    must_fail(&jobs[0], "Invalid argument");
}

Test(load, a_place_that_is_none_is_named) {
    struct place place = PLACE_HERE;
    place.netns_fd = open("/dev/null", O_RDONLY);
    struct load_job job = job_of(LOAD_HOLD, 1);
    load_run(&job, &place, &result);
    cr_assert(!result.ok);
    cr_assert_not_null(strstr(result.why, "place: "), "%s", result.why);
    struct target other;
    cr_assert(!target_start(&other, target.address.sin_addr, 0, &place));
    cr_assert_eq(child_of(getpid()), 0, "a process was left behind");
}

Test(load, a_target_is_gone_once_stopped) {
    struct target other;
    errno = 0;
    cr_assert(!target_start(&other, target.address.sin_addr, ntohs(target.address.sin_port), HERE));
    cr_assert_eq(errno, EADDRINUSE);
    cr_assert(target_start(&other, target.address.sin_addr, 0, HERE));
    struct sockaddr_in address = other.address;
    target_stop(&other);
    target_stop(&other); /* nothing more to stop */
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    cr_assert_eq(connect(fd, (struct sockaddr *)&address, sizeof(address)), -1);
    cr_assert_eq(errno, ECONNREFUSED);
    close(fd);
}

Test(load, a_target_refuses_foreign_connections) {
    char garbage[WISH_BYTES] = "GET / HTTP/1.1\r\n", byte;
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    cr_assert_eq(connect(fd, (struct sockaddr *)&target.address, sizeof(target.address)), 0);
    cr_assert_eq(send(fd, garbage, sizeof(garbage), 0), sizeof(garbage));
    cr_assert_eq(recv(fd, &byte, 1, 0), -1);
    cr_assert_eq(errno, ECONNRESET);
    close(fd);
    struct load_job job = job_of(LOAD_DOWN, 1);
    job.bytes_per_flow = 1000;
    must_run(&job);
}

/* A namespace with a loopback that is up; −1: not possible here. */
static int make_network(void) {
    int home = open("/proc/self/ns/net", O_RDONLY), network = -1;
    struct ifreq loopback = {.ifr_name = "lo", .ifr_flags = IFF_UP};
    if (unshare(CLONE_NEWNET) == 0) {
        int fd = socket(AF_INET, SOCK_DGRAM, 0);
        cr_assert_eq(ioctl(fd, SIOCSIFFLAGS, &loopback), 0);
        close(fd);
        network = open("/proc/self/ns/net", O_RDONLY);
        cr_assert_eq(setns(home, CLONE_NEWNET), 0);
    }
    close(home);
    return network;
}

Test(load, both_ends_go_to_their_place) {
    struct place place = PLACE_HERE;
    struct target there;
    if (geteuid() != 0 || (place.netns_fd = make_network()) < 0)
        skip_after(target_down(), "no network namespaces here");
    cr_assert(target_start(&there, target.address.sin_addr, ntohs(target.address.sin_port), &place),
              "the same port is free there");
    target_down();
    struct load_job job = job_of(LOAD_DOWN, 1);
    job.address = there.address;
    job.bytes_per_flow = 1000000;
    load_run(&job, &place, &result);
    cr_assert(result.ok, "%s", result.why);
    must_fail(&job, "Connection refused"); /* here nobody listens */
    target_stop(&there);
    close(place.netns_fd);
}
