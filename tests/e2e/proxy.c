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
    uint16_t port, server_port;
    int wake;
    _Atomic int fault;
    _Atomic bool stop;
    pthread_t thread;
};

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
    return true;
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
    if (fds[0].revents != 0) {
        uint64_t count;
        (void)!read(proxy->wake, &count, sizeof(count));
        return true;
    }
    return (fds[1].revents == 0 || carry(proxy, proxy->client, proxy->server)) &&
           (fds[2].revents == 0 || carry(proxy, proxy->server, proxy->client));
}

static void *run(void *arg) {
    struct proxy *proxy = arg;
    struct pollfd fds[2] = {{.fd = proxy->wake, .events = POLLIN}, {.fd = proxy->listener, .events = POLLIN}};
    poll(fds, 2, -1);
    if (atomic_load(&proxy->stop))
        return NULL;
    proxy->client = accept4(proxy->listener, NULL, NULL, SOCK_CLOEXEC);
    proxy->server = connect_to("127.0.0.1", proxy->server_port);
    while (turn(proxy))
        ;
    end_both(proxy, atomic_load(&proxy->fault) == PROXY_RESETS);
    return NULL;
}

struct proxy *proxy_start(uint16_t server_port) {
    struct proxy *proxy = calloc(1, sizeof(*proxy));
    proxy->client = proxy->server = -1;
    proxy->server_port = server_port;
    proxy->listener = pair_listen(&proxy->port);
    proxy->wake = eventfd(0, EFD_CLOEXEC);
    pthread_create(&proxy->thread, NULL, run, proxy);
    return proxy;
}

uint16_t proxy_port(const struct proxy *proxy) {
    return proxy->port;
}

static void wake(struct proxy *proxy) {
    uint64_t one = 1;
    (void)!write(proxy->wake, &one, sizeof(one));
}

void proxy_set(struct proxy *proxy, enum proxy_fault fault) {
    atomic_store(&proxy->fault, fault);
    wake(proxy);
}

void proxy_stop(struct proxy *proxy) {
    atomic_store(&proxy->stop, true);
    wake(proxy);
    pthread_join(proxy->thread, NULL);
    close(proxy->listener);
    close(proxy->wake);
    free(proxy);
}
