/* Both kinds of link, with real kernels at their ends. Those of namespaces are left out where they are refused. */
#define LINK_SUITE link
#include "link_traffic.h"
#include <math.h>

BOTH_KINDS(takes_the_round_trip) {
    struct link_rig rig;
    double began_s, connected_s, there_s;
    int near, far;
    rig_start(&rig, &(struct link_shape){.rtt_ms = 60}, kind);
    near = rig_socket(&rig.link.near, SOCK_STREAM);
    began_s = rig_now_s();
    cr_assert_eq(connect(near, (struct sockaddr *)&rig.to, sizeof(rig.to)), 0);
    connected_s = rig_now_s();
    send_byte(near, 'a');
    far = rig_accept(&rig);
    expect_byte(far, 'a');
    there_s = rig_now_s();
    send_byte(far, 'b');
    expect_byte(near, 'b');
    /* A proxy's connect is the one thing that comes back at once. */
    if (kind == NAMESPACES)
        cr_assert_geq(connected_s - began_s, 0.060);
    cr_assert_geq(there_s - began_s, 0.090);
    cr_assert_geq(rig_now_s() - there_s, 0.030);
    close(near);
    close(far);
    rig_stop(&rig);
}

BOTH_KINDS(carries_every_byte_both_ways) {
    struct link_rig rig;
    rig_start(&rig, &(struct link_shape){.rtt_ms = 4}, kind);
    carry(&rig, 5000000, 5000000);
    cr_assert_geq(rig.link.counters->bytes, 10000000);
    cr_assert_geq(rig.link.counters->packets, 10000000 / 65536);
    cr_assert_eq(rig.link.counters->lost, 0);
    rig_stop(&rig);
}

BOTH_KINDS(is_not_faster_than_its_rate) {
    struct link_rig rig;
    double took_s;
    rig_start(&rig, &(struct link_shape){.rtt_ms = 10, .rate_mbit = 40}, kind);
    took_s = carry(&rig, 2000000, 500000);
    cr_assert_geq(took_s, 2000000 * 8 / 40e6, "%g s", took_s);
    rig_stop(&rig);
}

/* One way is through and ended long before the other begins. */
BOTH_KINDS(keeps_half_closed_connections) {
    struct link_rig rig;
    int near, far;
    rig_start(&rig, &(struct link_shape){.rtt_ms = 10}, kind);
    near = rig_connect(&rig);
    send_byte(near, 'a');
    cr_assert_eq(shutdown(near, SHUT_WR), 0);
    far = rig_accept(&rig);
    expect_byte(far, 'a');
    cr_assert_eq(end_of(far), 0);
    send_byte(far, 'b');
    expect_byte(near, 'b');
    send_byte(far, 'c');
    expect_byte(near, 'c');
    cr_assert_eq(shutdown(far, SHUT_WR), 0);
    cr_assert_eq(end_of(near), 0);
    close(near);
    close(far);
    rig_stop(&rig);
}

BOTH_KINDS(passes_a_reset_on) {
    struct linger at_once = {.l_onoff = 1};
    struct link_rig rig;
    int near, far;
    rig_start(&rig, &(struct link_shape){.rtt_ms = 10}, kind);
    for (int turn = 0; turn < 2; turn++) {
        near = rig_connect(&rig);
        send_byte(near, 'a');
        far = rig_accept(&rig);
        expect_byte(far, 'a');
        setsockopt(turn ? near : far, SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
        close(turn ? near : far);
        cr_assert_eq(end_of(turn ? far : near), ECONNRESET);
        close(turn ? far : near);
    }
    rig_stop(&rig);
}

/* Whoever listens no more is refused by: at the near end with a proxy, after its distance. */
BOTH_KINDS(nobody_listens) {
    struct link_rig rig;
    int near;
    rig_start(&rig, &(struct link_shape){.rtt_ms = 10}, kind);
    close(rig.listener);
    rig.listener = -1;
    near = rig_socket(&rig.link.near, SOCK_STREAM);
    if (kind == NAMESPACES) {
        cr_assert_neq(connect(near, (struct sockaddr *)&rig.to, sizeof(rig.to)), 0);
        cr_assert_eq(errno, ECONNREFUSED);
    } else {
        cr_assert_eq(connect(near, (struct sockaddr *)&rig.to, sizeof(rig.to)), 0);
        cr_assert_eq(end_of(near), ECONNRESET);
    }
    close(near);
    link_stop(&rig.link);
}

BOTH_KINDS(many_connections_at_once) {
    enum { COUNT = 25 };
    struct link_rig rig;
    int near[COUNT], far[COUNT];
    rig_start(&rig, &(struct link_shape){.rtt_ms = 5}, kind);
    for (int i = 0; i < COUNT; i++) {
        near[i] = rig_connect(&rig);
        send_byte(near[i], (char)i);
    }
    for (int i = 0; i < COUNT; i++) {
        char byte;
        far[i] = rig_accept(&rig);
        cr_assert_eq(recv(far[i], &byte, 1, 0), 1);
        send_byte(far[i], (char)~byte);
    }
    for (int i = 0; i < COUNT; i++)
        expect_byte(near[i], (char)~i);
    for (int i = 0; i < COUNT; i++) {
        close(near[i]);
        close(far[i]);
    }
    rig_stop(&rig);
}

Test(link, loses_packets_and_tcp_makes_up_for_them) {
    struct link_rig rig;
    struct link_counters *counters;
    double share;
    rig_start(&rig, &(struct link_shape){.rtt_ms = 2, .loss = 0.02, .seed = 5}, true);
    carry(&rig, 2000000, 2000000);
    counters = rig.link.counters;
    share = (double)counters->lost / (double)(counters->packets + counters->lost);
    cr_assert_geq(counters->packets, 4000000 / 1500, "real packets are counted, not frames");
    cr_assert(share > 0.005 && share < 0.05, "%g", share);
    rig_stop(&rig);
}

#define DATAGRAMS 300

/* Which of a number of datagrams arrive. */
static unsigned send_datagrams(const struct link_shape *shape, bool *arrived) {
    struct link_rig rig;
    struct sockaddr_in to;
    unsigned count;
    int near, far, buffer_bytes = 1 << 20, number;
    rig_start(&rig, shape, true);
    near = rig_socket(&rig.link.near, SOCK_DGRAM);
    far = rig_socket(&rig.link.far, SOCK_DGRAM);
    setsockopt(far, SOL_SOCKET, SO_RCVBUF, &buffer_bytes, sizeof(buffer_bytes));
    to = rig_bind(&rig.link, far);
    for (int i = 0; i < DATAGRAMS; i++)
        cr_assert_eq(sendto(near, &i, sizeof(i), 0, (struct sockaddr *)&to, sizeof(to)), (ssize_t)sizeof(i));
    rig_await_sum(&rig.link.counters->packets, &rig.link.counters->lost, DATAGRAMS);
    memset(arrived, 0, DATAGRAMS * sizeof(*arrived));
    for (count = 0; count < rig.link.counters->packets; count++) {
        cr_assert_eq(recv(far, &number, sizeof(number), 0), (ssize_t)sizeof(number));
        cr_assert(number >= 0 && number < DATAGRAMS && !arrived[number]);
        arrived[number] = true;
    }
    cr_assert_eq(count, DATAGRAMS - rig.link.counters->lost);
    cr_assert_eq(rig.link.counters->bytes, count * (20 + 8 + sizeof(number)));
    close(near);
    close(far);
    rig_stop(&rig);
    return count;
}

Test(link, the_seed_decides_what_is_lost) {
    bool one[DATAGRAMS], same[DATAGRAMS], another[DATAGRAMS];
    unsigned count = send_datagrams(&(struct link_shape){.loss = 0.3, .seed = 1}, one);
    cr_assert(count > DATAGRAMS * 0.55 && count < DATAGRAMS * 0.85, "%u", count);
    send_datagrams(&(struct link_shape){.loss = 0.3, .seed = 1}, same);
    send_datagrams(&(struct link_shape){.loss = 0.3, .seed = 2}, another);
    cr_assert_arr_eq(one, same, sizeof(one));
    cr_assert_arr_neq(one, another, sizeof(one));
}

/* Nearly a second for each: what comes at once is what the queue holds. */
Test(link, a_full_queue_drops) {
    struct link_rig rig;
    struct sockaddr_in to;
    char datagram[1000] = {0};
    int near, far;
    rig_start(&rig, &(struct link_shape){.rate_mbit = 0.01, .queue_packets = 10}, true);
    near = rig_socket(&rig.link.near, SOCK_DGRAM);
    far = rig_socket(&rig.link.far, SOCK_DGRAM);
    to = rig_bind(&rig.link, far);
    for (int i = 0; i < 50; i++)
        cr_assert_eq(sendto(near, datagram, sizeof(datagram), 0, (struct sockaddr *)&to, sizeof(to)), 1000);
    rig_await(&rig.link.counters->queue_drops, 30);
    rig_await(&rig.link.counters->packets, 1);
    cr_assert_leq(rig.link.counters->queue_drops, 40);
    cr_assert_eq(recv(far, datagram, sizeof(datagram), 0), 1000);
    cr_assert_eq(rig.link.counters->lost, 0);
    close(near);
    close(far);
    rig_stop(&rig);
}

/* A reader that stands still: the writer has to wait before it has sent without end. */
Test(link, a_proxy_has_bounded_buffers) {
    static char bytes[1 << 16];
    struct link_rig rig;
    size_t sent = 0;
    ssize_t done;
    int near, far;
    struct pollfd wait;
    rig_start(&rig, &(struct link_shape){.rtt_ms = 2, .rate_mbit = 1000}, false);
    near = rig_connect(&rig);
    far = rig_accept(&rig);
    wait = (struct pollfd){.fd = near, .events = POLLOUT};
    /* Kernels' buffers hold a few times as much as the proxy's; what is not written in half a second waits. */
    while (poll(&wait, 1, 500) == 1 && sent < (256u << 20)) {
        done = send(near, bytes, sizeof(bytes), MSG_DONTWAIT | MSG_NOSIGNAL);
        sent += done > 0 ? (size_t)done : 0;
    }
    cr_assert_lt(sent, 256u << 20);
    while (sent > 0) {
        done = recv(far, bytes, sizeof(bytes), 0);
        cr_assert_gt(done, 0);
        sent -= (size_t)done;
    }
    close(near);
    close(far);
    rig_stop(&rig);
}

Test(link, a_real_link_has_no_ports_of_a_proxy) {
    struct link_rig rig;
    rig_start(&rig, &(struct link_shape){.rtt_ms = 1}, true);
    cr_assert_eq(link_proxy_port(&rig.link, 22), 0);
    cr_assert_eq(errno, EOPNOTSUPP);
    carry(&rig, 1000, 1000);
    rig_stop(&rig);
}

Test(link, refuses_what_cannot_be) {
    static const struct link_shape shapes[] = {{.rtt_ms = -1},
                                               {.rtt_ms = 1e9},
                                               {.rtt_ms = NAN},
                                               {.rate_mbit = -1},
                                               {.rate_mbit = NAN},
                                               {.rate_mbit = 0.0001},
                                               {.rate_mbit = 1e308 * 10},
                                               {.loss = -0.1},
                                               {.loss = 1.1},
                                               {.loss = NAN},
                                               {.queue_packets = UINT32_MAX}};
    for (size_t i = 0; i < sizeof(shapes) / sizeof(*shapes); i++) {
        struct link link;
        char why[200] = "";
        cr_assert_not(link_start(&link, &shapes[i], true, why, sizeof(why)), "shape %zu", i);
        cr_assert_eq(strncmp(why, "link: ", 6), 0, "%s", why);
        link_stop(&link);
    }
}
