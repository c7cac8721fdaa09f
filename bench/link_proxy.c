/* The weak link: a TCP proxy that delays both ways. Its loop, listeners and orders; runs in the carrier's process, one
 * thread. */
#include "bench/link_proxy_connection.h"
#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

/* What one connection may have under way, besides what the distance holds at the rate. Without a rate it is what bounds
 * a connection: 320 MB/s at a round trip of 100 ms. */
#define HALF_BYTES_MIN (256u << 10)
#define HALF_BYTES_UNLIMITED (16u << 20)
/* All connections together, without a rate. */
#define WAY_BYTES_UNLIMITED (256u << 20)
#define PACKET_BYTES 1500u
#define EVENTS_PER_TURN 64

struct listener {
    enum source_kind kind; /* first */
    int fd;
    uint16_t server_port;
};

static void accept_all(struct proxy *proxy, const struct listener *listener) {
    static const struct linger at_once = {.l_onoff = 1};
    int fd;
    while ((fd = accept4(listener->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        if (!proxy->is_cut) {
            connection_open(proxy, fd, listener->server_port);
            continue;
        }
        setsockopt(fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
        close(fd);
    }
}

static bool listen_on_any(struct proxy *proxy, struct listener *listener, uint16_t *port) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t address_bytes = sizeof(address);
    listener->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (listener->fd < 0 || bind(listener->fd, (struct sockaddr *)&address, address_bytes) != 0 ||
        listen(listener->fd, SOMAXCONN) != 0 ||
        getsockname(listener->fd, (struct sockaddr *)&address, &address_bytes) != 0 ||
        !proxy_watch(proxy, listener->fd, listener, EPOLLIN | EPOLLET))
        return false;
    *port = ntohs(address.sin_port);
    return true;
}

static int listen_for(struct proxy *proxy, uint16_t server_port, uint16_t *port) {
    struct listener *listener = malloc(sizeof(*listener));
    int error;
    if (listener == NULL)
        return ENOMEM;
    *listener = (struct listener){.kind = SOURCE_LISTENER, .server_port = server_port};
    if (listen_on_any(proxy, listener, port))
        return 0;
    error = errno;
    if (listener->fd >= 0)
        close(listener->fd);
    free(listener);
    return error;
}

static bool obey(struct proxy *proxy) {
    struct carrier_request request;
    bool ended = false;
    while (carrier_request(proxy->carrier, &request, &ended)) {
        uint16_t port = 0;
        int error = 0;
        if (request.order == CARRIER_PORT) {
            error = listen_for(proxy, request.port, &port);
        } else {
            proxy->is_cut = request.order == CARRIER_CUT;
            connection_reset_all(proxy);
        }
        carrier_reply(proxy->carrier, error, port);
    }
    return !ended;
}

static int wait_events(struct proxy *proxy, struct epoll_event *events) {
    bool is_busy = connection_can_read(proxy, 0) || connection_can_read(proxy, 1);
    uint64_t next_ns = shaper_flight_next_ns(&proxy->flights[0]), other_ns = shaper_flight_next_ns(&proxy->flights[1]);
    struct timespec timeout = carrier_time_until(next_ns < other_ns ? next_ns : other_ns);
    bool is_idle = next_ns == SHAPER_NEVER && other_ns == SHAPER_NEVER;
    if (is_busy)
        timeout = (struct timespec){.tv_sec = 0};
    return epoll_pwait2(proxy->epoll, events, EVENTS_PER_TURN, is_idle && !is_busy ? NULL : &timeout, NULL);
}

static bool handle(struct proxy *proxy, const struct epoll_event *event) {
    void *source = event->data.ptr;
    switch (*(const enum source_kind *)source) {
    case SOURCE_CONTROL:
        return obey(proxy);
    case SOURCE_LISTENER:
        accept_all(proxy, source);
        break;
    case SOURCE_END:
        connection_on_event(proxy, source, event->events);
        break;
    }
    return true;
}

static bool turn(struct proxy *proxy) {
    struct epoll_event events[EVENTS_PER_TURN];
    int count = wait_events(proxy, events);
    connection_deliver(proxy, 0);
    connection_deliver(proxy, 1);
    for (int i = 0; i < count; i++) {
        if (!handle(proxy, &events[i]))
            return false;
    }
    connection_read_queued(proxy, 0);
    connection_read_queued(proxy, 1);
    connection_free_ended(proxy);
    return true;
}

/* The line takes as much as the real one: what its length holds, and the queue before it. */
static void set_bounds(struct proxy *proxy, const struct link_shape *shape) {
    double bytes_per_ms = shape->rate_mbit * 1e3 / 8;
    proxy->half_bytes_max = HALF_BYTES_UNLIMITED;
    proxy->way_bytes_max = WAY_BYTES_UNLIMITED;
    if (shape->rate_mbit == 0)
        return;
    proxy->half_bytes_max = HALF_BYTES_MIN + (size_t)(bytes_per_ms * shape->rtt_ms);
    proxy->way_bytes_max =
        (uint64_t)(bytes_per_ms * shape->rtt_ms / 2) + (uint64_t)carrier_queue_packets(shape) * PACKET_BYTES;
}

static void allow_many_files(void) {
    struct rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &files) != 0)
        return;
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
}

void proxy_carry(const struct carrier *carrier) {
    enum source_kind control = SOURCE_CONTROL;
    struct proxy proxy = {.carrier = carrier, .epoll = epoll_create1(EPOLL_CLOEXEC)};
    set_bounds(&proxy, &carrier->shape);
    allow_many_files();
    for (unsigned side = 0; side < 2; side++) {
        shaper_flight_init(&proxy.flights[side]);
        proxy.to_read[side].last_next = &proxy.to_read[side].first;
        if (!carrier_shaper(carrier, side, false, &proxy.shapers[side]))
            return;
    }
    if (!proxy_watch(&proxy, carrier->control, &control, EPOLLIN))
        return;
    while (turn(&proxy))
        continue;
}
