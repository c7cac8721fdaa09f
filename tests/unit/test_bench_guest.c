/* The load's other end, connection by connection. */
#include "bench/load.h"
#include "bench/load_guest.h"
#include "bench/load_wire.h"
#include <criterion/criterion.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

static struct host *host;

static void begin(void) {
    cr_assert(stream_setup());
    host = calloc(1, sizeof *host);
    cr_assert_not_null(host);
    host->epoll = epoll_create1(EPOLL_CLOEXEC);
    cr_assert_geq(host->epoll, 0);
    host->listener = -1;
}

static void end(void) {
    close(host->epoll);
    free(host);
}

TestSuite(bench_guest, .init = begin, .fini = end, .timeout = 20);

/* Serves what there is to be served now; returns how much that was. */
static int serve(void) {
    struct epoll_event events[8];
    int count = epoll_wait(host->epoll, events, 8, 0);
    for (int i = 0; i < count; i++)
        guest_on_event(host, events[i].data.ptr, events[i].events);
    return count;
}

/* Another thread may be in a call with a guest's descriptor when that is closed, the one that has handed the guest
 * over: the connection is there until that call returns, and must not wake anybody for a guest that is not. */
Test(bench_guest, leaves_nothing_that_is_waited_for) {
    static const enum load_kind kinds[] = {LOAD_OPEN, LOAD_HOLD, LOAD_DOWN, LOAD_ECHO, LOAD_UP};
    for (unsigned i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        int ends[2];
        struct load_wish wish = {.magic = LOAD_MAGIC, .kind = kinds[i], .message_bytes = 64, .bytes = 1};
        cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends), 0);
        int in_a_call = dup(ends[1]);
        cr_assert_geq(in_a_call, 0);
        guest_accept(host, ends[1]);
        cr_assert_eq(write(ends[0], &wish, sizeof wish), (ssize_t)sizeof wish);
        cr_assert_eq(serve(), 1);
        close(ends[0]);
        for (unsigned turns = 0; fcntl(ends[1], F_GETFD) >= 0; turns++) {
            cr_assert_lt(turns, 10, "kind %u", i);
            (void)serve();
        }
        cr_expect_eq(epoll_wait(host->epoll, &(struct epoll_event){0}, 1, 0), 0, "kind %u", i);
        close(in_a_call);
    }
}
