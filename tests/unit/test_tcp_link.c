/* What TCP's buffers are made on a long path, with real kernels at its ends. Left out where namespaces are refused. */
#include "engine/limits.h"
#include "engine/tcp.h"
#include "link_rig.h"
#include <linux/sockios.h>
#include <stdlib.h>
#include <sys/ioctl.h>

#define LEAST_RTT_MS (2.0 * LIMIT_LONG_PATH_US / 1000)

static int most_asked(const char *path) {
    FILE *file = fopen(path, "re");
    int bytes = 0;
    cr_assert_not_null(file);
    cr_assert_eq(fscanf(file, "%d", &bytes), 1);
    fclose(file);
    return bytes;
}

static int buffer(int fd, int name) {
    int value = -1;
    socklen_t len = sizeof value;
    cr_assert_eq(getsockopt(fd, SOL_SOCKET, name, &value, &len), 0);
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
    int near = connect_over(&rig, &shape), send_asked = most_asked("/proc/sys/net/core/wmem_max"),
        receive_asked = most_asked("/proc/sys/net/core/rmem_max"), queued = 0;
    cr_assert(send_asked > (int)LINK_TCP_MIN && receive_asked > (int)LINK_TCP_MIN);
    tcp_raise_buffers(near);
    cr_expect_eq(buffer(near, SO_SNDBUF), 2 * send_asked);
    cr_expect_eq(buffer(near, SO_RCVBUF), 2 * receive_asked);
    /* The window follows: more comes than the whole of the buffer that autotuning would end with. */
    static char bytes[8192];
    int far = rig_accept(&rig);
    double until_s = rig_now_s() + RIG_PATIENCE_S;
    while (queued <= (int)LINK_TCP_MIN && rig_now_s() < until_s) {
        struct pollfd room = {.fd = far, .events = POLLOUT};
        if (poll(&room, 1, 10) == 1)
            cr_assert_gt(send(far, bytes, sizeof bytes, MSG_DONTWAIT | MSG_NOSIGNAL), 0, "%s", strerror(errno));
        cr_assert_eq(ioctl(near, SIOCINQ, &queued), 0);
    }
    cr_expect_gt(queued, (int)LINK_TCP_MIN);
    close(near);
    close(far);
    rig_stop(&rig);
}

Test(tcp_link, autotuning_is_left_where_it_gives_more) {
    struct link_rig rig;
    const struct link_shape shape = {
        .rtt_ms = LEAST_RTT_MS, .tcp_receive_max = LINK_TCP_MAX, .tcp_send_max = LINK_TCP_MAX};
    int near = connect_over(&rig, &shape), send = buffer(near, SO_SNDBUF), receive = buffer(near, SO_RCVBUF);
    if (2 * (int64_t)most_asked("/proc/sys/net/core/wmem_max") > LINK_TCP_MAX ||
        2 * (int64_t)most_asked("/proc/sys/net/core/rmem_max") > LINK_TCP_MAX)
        cr_skip_test("one may ask for more than a link's TCP can be given");
    tcp_raise_buffers(near);
    cr_expect_eq(buffer(near, SO_SNDBUF), send);
    cr_expect_eq(buffer(near, SO_RCVBUF), receive);
    close(near);
    rig_stop(&rig);
}

Test(tcp_link, a_short_path_keeps_what_it_has) {
    struct link_rig rig;
    const struct link_shape shape = {.rtt_ms = 0, .tcp_receive_max = LINK_TCP_MIN, .tcp_send_max = LINK_TCP_MIN};
    int near = connect_over(&rig, &shape), send = buffer(near, SO_SNDBUF), receive = buffer(near, SO_RCVBUF);
    tcp_raise_buffers(near);
    cr_expect_eq(buffer(near, SO_SNDBUF), send);
    cr_expect_eq(buffer(near, SO_RCVBUF), receive);
    close(near);
    rig_stop(&rig);
}
