/* What TCP's buffers are made on a long path, with real kernels at its ends. Left out where namespaces are refused. */
#include "engine/limits.h"
#include "engine/tcp.h"
#include "link_rig.h"
#include <netinet/tcp.h>

#define LEAST_RTT_MS (2.0 * LIMIT_LONG_PATH_US / 1000)

/* Bytes. Before Linux 6.12 the files are not to be seen from within a namespace. */
static int most_asked(const char *path) {
    FILE *file = fopen(path, "re");
    int bytes = 0;
    if (file == NULL)
        cr_skip_test("%s: %s", path, strerror(errno));
    cr_assert_eq(fscanf(file, "%d", &bytes), 1);
    fclose(file);
    return bytes < LIMIT_PATH_BUFFER_BYTES / 2 ? bytes : LIMIT_PATH_BUFFER_BYTES / 2;
}

static int option(int fd, int level, int name) {
    int value = -1;
    socklen_t len = sizeof value;
    cr_assert_eq(getsockopt(fd, level, name, &value, &len), 0);
    return value;
}

/* A connection over the path, of whose near end this process knows the limits. */
static int connect_over(struct link_rig *rig, const struct link_shape *shape) {
    rig_start(rig, shape, true);
    int near = rig_connect(rig);
    cr_assert(place_enter(&rig->link.near), "%s", strerror(errno));
    tcp_read_limits();
    return near;
}

Test(tcp_link, a_long_path_has_what_one_may_ask_for) {
    struct link_rig rig;
    const struct link_shape shape = {
        .rtt_ms = LEAST_RTT_MS, .tcp_receive_max = LINK_TCP_MIN, .tcp_send_max = LINK_TCP_MIN};
    int send_asked = most_asked("/proc/sys/net/core/wmem_max"),
        receive_asked = most_asked("/proc/sys/net/core/rmem_max"), near = connect_over(&rig, &shape);
    cr_assert(send_asked > (int)LINK_TCP_MIN && receive_asked > (int)LINK_TCP_MIN);
    tcp_raise_buffers(near);
    cr_expect_eq(option(near, SOL_SOCKET, SO_SNDBUF), 2 * send_asked);
    cr_expect_eq(option(near, SOL_SOCKET, SO_RCVBUF), 2 * receive_asked);
    cr_expect_eq(option(near, IPPROTO_TCP, TCP_WINDOW_CLAMP), 2 * receive_asked);
    close(near);
    rig_stop(&rig);
}

static void expect_left_alone(const struct link_shape *shape) {
    struct link_rig rig;
    int near = connect_over(&rig, shape), send = option(near, SOL_SOCKET, SO_SNDBUF),
        receive = option(near, SOL_SOCKET, SO_RCVBUF);
    tcp_raise_buffers(near);
    cr_expect_eq(option(near, SOL_SOCKET, SO_SNDBUF), send);
    cr_expect_eq(option(near, SOL_SOCKET, SO_RCVBUF), receive);
    close(near);
    rig_stop(&rig);
}

_Static_assert(LINK_TCP_MAX > LIMIT_PATH_BUFFER_BYTES, "autotuning can give more than is ever asked for");

Test(tcp_link, autotuning_is_left_where_it_gives_more) {
    expect_left_alone(
        &(struct link_shape){.rtt_ms = LEAST_RTT_MS, .tcp_receive_max = LINK_TCP_MAX, .tcp_send_max = LINK_TCP_MAX});
}

Test(tcp_link, a_short_path_keeps_what_it_has) {
    expect_left_alone(&(struct link_shape){.rtt_ms = 0, .tcp_receive_max = LINK_TCP_MIN, .tcp_send_max = LINK_TCP_MIN});
}
