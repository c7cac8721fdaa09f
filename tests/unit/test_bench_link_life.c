/* How links are cut, mended and ended, and for whom they are. */
#define LINK_SUITE link_life
#include "bench/link_carrier.h"
#include "link_traffic.h"
#include <dirent.h>
#include <fcntl.h>
#include <net/if.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

Test(link_life, what_is_under_way_when_it_is_cut_is_gone) {
    struct link_rig rig;
    struct sockaddr_in to;
    char got;
    int near, far;
    rig_start(&rig, &(struct link_shape){.rtt_ms = 200}, true);
    near = rig_socket(&rig.link.near, SOCK_DGRAM);
    far = rig_socket(&rig.link.far, SOCK_DGRAM);
    to = rig_bind(&rig.link, far);
    cr_assert_eq(connect(near, (struct sockaddr *)&to, sizeof(to)), 0);
    send_byte(near, 'a');
    link_cut(&rig.link, true);
    send_byte(near, 'b');
    /* On a machine that stands still for the tenth of a second, the first one may have been through. */
    bool came = recv(far, &got, 1, MSG_DONTWAIT) == 1;
    rig_await(&rig.link.counters->lost, came ? 1 : 2);
    link_cut(&rig.link, false);
    send_byte(near, 'c');
    expect_byte(far, 'c');
    close(near);
    close(far);
    rig_stop(&rig);
}

Test(link_life, connections_live_through_a_cut) {
    struct link_rig rig;
    int near, far;
    rig_start(&rig, &(struct link_shape){.rtt_ms = 10}, true);
    near = rig_connect(&rig);
    far = rig_accept(&rig);
    link_cut(&rig.link, true);
    send_byte(near, 'a');
    rig_await(&rig.link.counters->lost, 2); /* once more at least, after TCP's own time */
    cr_assert_eq(recv(far, &(char){0}, 1, MSG_DONTWAIT), -1);
    cr_assert_eq(errno, EAGAIN);
    link_cut(&rig.link, false);
    expect_byte(far, 'a');
    close(near);
    close(far);
    rig_stop(&rig);
}

Test(link_life, a_proxy_that_is_cut_resets_connections) {
    struct link_rig rig;
    int near, far;
    rig_start(&rig, &(struct link_shape){.rtt_ms = 10}, false);
    near = rig_connect(&rig);
    send_byte(near, 'a');
    far = rig_accept(&rig);
    expect_byte(far, 'a');
    link_cut(&rig.link, true);
    cr_assert_eq(end_of(near), ECONNRESET);
    cr_assert_eq(end_of(far), ECONNRESET);
    close(near);
    close(far);
    near = rig_connect(&rig);
    cr_assert_eq(end_of(near), ECONNRESET);
    close(near);
    link_cut(&rig.link, false);
    carry(&rig, 1000, 1000);
    rig_stop(&rig);
}

static unsigned count_descriptors(void) {
    unsigned count = 0;
    DIR *dir = opendir("/proc/self/fd");
    cr_assert_not_null(dir);
    while (readdir(dir) != NULL)
        count++;
    closedir(dir);
    return count;
}

static bool has_device(int netns) {
    struct place place = {.netns_fd = netns, .userns_fd = -1};
    int status;
    pid_t pid = fork();
    if (pid == 0)
        _exit(!place_enter(&place) ? 2 : if_nametoindex("leat0") != 0);
    cr_assert_eq(waitpid(pid, &status, 0), pid);
    cr_assert(WIFEXITED(status) && WEXITSTATUS(status) < 2);
    return WEXITSTATUS(status) == 1;
}

BOTH_KINDS(leaves_nothing_behind) {
    struct link_rig rig;
    unsigned before = count_descriptors();
    pid_t pid;
    int netns = -1;
    rig_start(&rig, &(struct link_shape){.rtt_ms = 1}, kind);
    pid = rig.link.pid;
    if (kind == NAMESPACES && rig.link.near.userns_fd < 0) {
        netns = fcntl(rig.link.near.netns_fd, F_DUPFD_CLOEXEC, 0);
        cr_assert(has_device(netns));
    }
    carry(&rig, 1000, 1000);
    rig_stop(&rig);
    cr_assert_eq(kill(pid, 0), -1);
    cr_assert_eq(errno, ESRCH);
    if (netns >= 0) {
        cr_assert_not(has_device(netns));
        close(netns);
    }
    cr_assert_eq(count_descriptors(), before);
    link_stop(&rig.link); /* once more is nothing */
}

/* The carrier ends by itself when the control is closed. */
BOTH_KINDS(ends_with_its_control) {
    struct link_rig rig;
    siginfo_t info = {0};
    rig_start(&rig, &(struct link_shape){.rtt_ms = 1}, kind);
    cr_assert_eq(shutdown(rig.link.control, SHUT_RDWR), 0);
    cr_assert_eq(waitid(P_PID, (id_t)rig.link.pid, &info, WEXITED | WNOWAIT), 0);
    cr_assert_eq(info.si_code, CLD_EXITED);
    rig_stop(&rig);
}

/* A harness that is killed takes its links with it. */
BOTH_KINDS(ends_with_its_harness) {
    int pipe_fds[2], status;
    pid_t harness, carrier = 0;
    cr_assert_eq(pipe2(pipe_fds, O_CLOEXEC), 0);
    cr_assert_eq(prctl(PR_SET_CHILD_SUBREAPER, 1), 0);
    harness = fork();
    if (harness == 0) {
        struct link link;
        char why[200];
        if (!link_start(&link, &(struct link_shape){.rtt_ms = 1}, kind == NAMESPACES, why, sizeof(why)) ||
            write(pipe_fds[1], &link.pid, sizeof(link.pid)) != (ssize_t)sizeof(link.pid))
            _exit(1);
        for (;;)
            pause();
    }
    close(pipe_fds[1]);
    cr_assert_eq(read(pipe_fds[0], &carrier, sizeof(carrier)), (ssize_t)sizeof(carrier));
    cr_assert_eq(kill(harness, SIGKILL), 0);
    cr_assert_eq(waitpid(harness, &status, 0), harness);
    cr_assert_eq(waitpid(carrier, &status, 0), carrier, "not ours to wait for: %s", strerror(errno));
    close(pipe_fds[0]);
}

/* A device that anybody may open, for this process alone. */
static bool open_device_to_all(void) {
    return unshare(CLONE_NEWNS) == 0 && mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 &&
           mount("tmpfs", "/dev/net", "tmpfs", 0, NULL) == 0 &&
           mknod("/dev/net/tun", S_IFCHR | 0666, makedev(10, 200)) == 0 && chmod("/dev/net/tun", 0666) == 0;
}

static int connect_as_ordinary_user(void) {
    struct link link;
    char why[200];
    struct sockaddr_in to = {.sin_family = AF_INET};
    socklen_t bytes = sizeof(to);
    int near, far;
    if (setresgid(65534, 65534, 65534) != 0 || setresuid(65534, 65534, 65534) != 0 || prctl(PR_SET_DUMPABLE, 1) != 0)
        return 2;
    if (!link_start(&link, &(struct link_shape){.rtt_ms = 20}, true, why, sizeof(why)))
        return 3;
    if (link.is_proxy)
        return 4;
    far = rig_socket_in(&link.far, SOCK_STREAM);
    near = rig_socket_in(&link.near, SOCK_STREAM);
    to.sin_addr = link.far_address;
    if (far < 0 || near < 0 || bind(far, (struct sockaddr *)&to, sizeof(to)) != 0 || listen(far, 1) != 0 ||
        getsockname(far, (struct sockaddr *)&to, &bytes) != 0)
        return 5;
    if (connect(near, (struct sockaddr *)&to, sizeof(to)) != 0)
        return 6;
    link_stop(&link);
    return 0;
}

/* With a user namespace, which the places then have to enter too. */
Test(link_life, an_ordinary_user_has_namespaces_too) {
    int status;
    pid_t pid;
    if (geteuid() != 0)
        cr_skip_test("needs root, to make the device one that ordinary users may open");
    pid = fork();
    if (pid == 0)
        _exit(open_device_to_all() ? connect_as_ordinary_user() : 4);
    cr_assert_eq(waitpid(pid, &status, 0), pid);
    cr_assert(WIFEXITED(status));
    if (WEXITSTATUS(status) == 4)
        cr_skip_test("refused here");
    cr_assert_eq(WEXITSTATUS(status), 0);
}

/* As a machine has them that was tuned, or was not; and the harness' own network is as it was. */
Test(link_life, its_tcp_has_limits_of_its_own) {
    static const struct link_shape shape = {
        .rtt_ms = 1, .tcp_receive_max = 1234567, .tcp_send_max = 100000, .congestion = "reno"};
    struct link link;
    struct link_tcp before = {.receive = ""}, after = {.receive = ""};
    char why[4096];
    cr_assert(link_needs_namespaces(&shape));
    link_tcp_get(&before);
    cr_assert(link_start(&link, &shape, true, why, sizeof(why)), "%s", why);
    if (link.is_proxy) {
        link_stop(&link);
        cr_skip_test("no namespaces: %s", why);
    }
    cr_expect_not_null(strstr(link.tcp.receive, " 1234567"), "%s", link.tcp.receive);
    cr_expect_not_null(strstr(link.tcp.send, " 100000"), "%s", link.tcp.send);
    cr_expect_str_eq(link.tcp.congestion, "reno");
    link_stop(&link);
    link_tcp_get(&after);
    cr_expect(memcmp(&before, &after, sizeof(before)) == 0);
}

/* What cannot be set is no link of namespaces, and says why. */
Test(link_life, an_unknown_congestion_control_is_refused) {
    struct link link;
    char why[4096] = "";
    cr_assert(link_start(&link, &(struct link_shape){.rtt_ms = 1, .congestion = "nobody"}, true, why, sizeof(why)));
    cr_expect(link.is_proxy);
    cr_expect_not_null(strstr(why, "no link of namespaces"), "%s", why);
    link_stop(&link);
}
