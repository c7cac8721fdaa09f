#include "proxy.h"
#include "pair.h"
#include "traffic.h"
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

struct proxy {
    int listener, client, server;
    int taken; /* an event: its connection has come */
    struct proxy *before;
    _Atomic uint64_t carried;
    uint16_t port, server_port;
    int wake;
    _Atomic int fault;
    _Atomic bool stop;
    pthread_t thread;
};

static void notify(int event) {
    uint64_t one = 1;
    (void)!write(event, &one, sizeof(one));
}

static void end_both(struct proxy *proxy, bool reset) {
    if (reset && proxy->client >= 0) {
        pair_reset(&proxy->client);
        pair_reset(&proxy->server);
    }
    if (proxy->client >= 0) {
        close(proxy->client);
        close(proxy->server);
    }
    proxy->client = proxy->server = -1;
}

static bool carry(struct proxy *proxy, int from, int to) {
    uint8_t block[16384];
    ssize_t n = recv(from, block, sizeof(block), 0);
    if (n <= 0)
        return false;
    int flips = PROXY_FLIPS_BIT;
    if (from == proxy->server && atomic_compare_exchange_strong(&proxy->fault, &flips, PROXY_WORKS))
        block[n / 2] ^= 1;
    for (ssize_t done = 0, m; done < n; done += m)
        if ((m = send(to, block + done, (size_t)(n - done), MSG_NOSIGNAL)) <= 0)
            return false;
    atomic_fetch_add(&proxy->carried, (uint64_t)n);
    return true;
}

static bool take_wake(struct proxy *proxy, short revents) {
    uint64_t count;
    return revents != 0 && read(proxy->wake, &count, sizeof(count)) > 0;
}

/* One turn of the relay; false when it is over. */
static bool turn(struct proxy *proxy) {
    int fault = atomic_load(&proxy->fault);
    if (atomic_load(&proxy->stop) || fault == PROXY_CLOSES || fault == PROXY_RESETS)
        return false;
    short up = fault == PROXY_BLOCKS ? 0 : POLLIN, down = fault == PROXY_BLOCKS_DOWN ? 0 : up;
    struct pollfd fds[3] = {{.fd = proxy->wake, .events = POLLIN},
                            {.fd = up != 0 ? proxy->client : -1, .events = up},
                            {.fd = down != 0 ? proxy->server : -1, .events = down}};
    poll(fds, 3, -1);
    if (take_wake(proxy, fds[0].revents))
        return true;
    return (fds[1].revents == 0 || carry(proxy, proxy->client, proxy->server)) &&
           (fds[2].revents == 0 || carry(proxy, proxy->server, proxy->client));
}

/* False: it is to stop. */
static bool wait_until_readable(struct proxy *proxy, int fd) {
    struct pollfd fds[2] = {{.fd = proxy->wake, .events = POLLIN}, {.fd = fd, .events = POLLIN}};
    while (!atomic_load(&proxy->stop) && fds[1].revents == 0) {
        poll(fds, 2, -1);
        take_wake(proxy, fds[0].revents);
    }
    return !atomic_load(&proxy->stop);
}

static void *run(void *arg) {
    struct proxy *proxy = arg;
    if ((proxy->before != NULL && !wait_until_readable(proxy, proxy->before->taken)) ||
        !wait_until_readable(proxy, proxy->listener))
        return NULL;
    proxy->client = accept4(proxy->listener, NULL, NULL, SOCK_CLOEXEC);
    notify(proxy->taken);
    proxy->server = connect_to("127.0.0.1", proxy->server_port);
    while (turn(proxy))
        ;
    end_both(proxy, atomic_load(&proxy->fault) == PROXY_RESETS);
    return NULL;
}

static struct proxy *start(struct proxy *before, int listener, uint16_t port, uint16_t server_port) {
    struct proxy *proxy = calloc(1, sizeof(*proxy));
    proxy->before = before;
    proxy->listener = listener;
    proxy->port = port;
    proxy->client = proxy->server = -1;
    proxy->server_port = server_port;
    proxy->wake = eventfd(0, EFD_CLOEXEC);
    proxy->taken = eventfd(0, EFD_CLOEXEC);
    pthread_create(&proxy->thread, NULL, run, proxy);
    return proxy;
}

struct proxy *proxy_start(uint16_t server_port) {
    uint16_t port;
    int listener = pair_listen(&port);
    return start(NULL, listener, port, server_port);
}

struct proxy *proxy_next(struct proxy *before) {
    return start(before, before->listener, before->port, before->server_port);
}

uint64_t proxy_carried(const struct proxy *proxy) {
    return atomic_load(&proxy->carried);
}

uint16_t proxy_port(const struct proxy *proxy) {
    return proxy->port;
}

void proxy_set(struct proxy *proxy, enum proxy_fault fault) {
    atomic_store(&proxy->fault, fault);
    notify(proxy->wake);
}

void proxy_stop(struct proxy *proxy) {
    atomic_store(&proxy->stop, true);
    notify(proxy->wake);
    pthread_join(proxy->thread, NULL);
    if (proxy->before == NULL)
        close(proxy->listener);
    close(proxy->wake);
    close(proxy->taken);
    free(proxy);
}
