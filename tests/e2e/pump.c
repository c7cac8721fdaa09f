#include "pump.h"
#include <criterion/criterion.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/socket.h>

#define PUMP_POLL_MS 50 /* how late pump_stop is noticed at most */

static struct pump {
    pthread_t thread;
    const struct pair *pairs;
    struct pollfd *fds; /* near and far of each */
    unsigned count;
    _Atomic bool stop;
    bool running;
} pump;

static void discard(int fd) {
    static char bytes[262144];
    while (recv(fd, bytes, sizeof(bytes), MSG_DONTWAIT) > 0)
        continue;
}

static void *pump_main(void *arg) {
    static const char bytes[262144];
    (void)arg;
    while (!pump.stop) {
        if (poll(pump.fds, 2 * pump.count, PUMP_POLL_MS) <= 0)
            continue;
        for (unsigned i = 0; i < pump.count; i++) {
            if (pump.fds[2 * i].revents & POLLOUT)
                (void)!send(pump.pairs[i].near, bytes, sizeof(bytes), MSG_NOSIGNAL | MSG_DONTWAIT);
            if (pump.fds[2 * i + 1].revents & POLLIN)
                discard(pump.pairs[i].far);
        }
    }
    return NULL;
}

void pump_start(const struct pair *pairs, unsigned count) {
    pump.pairs = pairs;
    pump.count = count;
    pump.fds = calloc(2 * count, sizeof(*pump.fds));
    cr_assert_not_null(pump.fds);
    for (unsigned i = 0; i < count; i++) {
        pump.fds[2 * i] = (struct pollfd){.fd = pairs[i].near, .events = POLLOUT};
        pump.fds[2 * i + 1] = (struct pollfd){.fd = pairs[i].far, .events = POLLIN};
    }
    pump.stop = false;
    cr_assert_eq(pthread_create(&pump.thread, NULL, pump_main, NULL), 0);
    pump.running = true;
}

void pump_stop(void) {
    if (!pump.running)
        return;
    pump.stop = true;
    pthread_join(pump.thread, NULL);
    pump.running = false;
    free(pump.fds);
}
