#include "ssh/tcp_connect.h"
#include "engine/resolve.h"
#include "ssh/deadline.h"
#include <errno.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

/* 0 or an errno. */
static int wait_connected(int fd, uint64_t deadline_ns) {
    for (;;) {
        struct pollfd ready = {.fd = fd, .events = POLLOUT};
        int n = poll(&ready, 1, deadline_poll_ms(deadline_ns));
        if (n > 0) {
            int error = 0;
            socklen_t len = sizeof error;
            return getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len) < 0 ? errno : error;
        }
        if (n < 0 && errno != EINTR)
            return errno;
        if (deadline_passed(deadline_ns))
            return ETIMEDOUT;
    }
}

/* BindAddress may be a name with addresses of both families: the first of the right one. */
static int bind_source(int fd, const char *source, int family) {
    struct resolve_result found;
    resolve_now(source, 0, family, true, &found);
    if (found.err)
        return EADDRNOTAVAIL;
    int error = bind(fd, (struct sockaddr *)&found.addresses[0].addr, found.addresses[0].len) < 0 ? errno : 0;
    free(found.addresses);
    return error;
}

static void set_keepalive(int fd, bool keepalive) {
    const int on = keepalive;
    (void)setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
}

/* 0 and *fd, or an errno. */
static int try_address(const struct options *options, const struct address *address, uint64_t deadline_ns, int *fd) {
    const struct sockaddr *to = (const struct sockaddr *)&address->addr;
    *fd = socket(to->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (*fd < 0)
        return errno;
    set_keepalive(*fd, options->tcp_keepalive);
    int error = options->bind_address ? bind_source(*fd, options->bind_address, to->sa_family) : 0;
    if (!error && connect(*fd, to, address->len) < 0)
        error = errno == EINPROGRESS || errno == EINTR ? wait_connected(*fd, deadline_ns) : errno;
    if (error) {
        (void)close(*fd);
        *fd = -1;
    }
    return error;
}

static int try_all(const struct options *options, const struct resolve_result *found, uint64_t deadline_ns, int *fd,
                   char *address, size_t cap) {
    int error = EADDRNOTAVAIL;
    for (unsigned i = 0; i < found->count; i++) {
        const struct sockaddr *to = (const struct sockaddr *)&found->addresses[i].addr;
        (void)address_host(to, address, cap);
        log_debug("connecting to %s [%s] port %u", options->hostname, address, options->port);
        error = try_address(options, &found->addresses[i], deadline_ns, fd);
        if (!error)
            return 0;
        log_verbose("connect to address %s port %u: %s", address, options->port, strerror(error));
        if (deadline_passed(deadline_ns))
            break;
    }
    return error;
}

/* ConnectionAttempts: all addresses again, a second later, while there is time for it. */
static int try_often(const struct options *options, const struct resolve_result *found, uint64_t deadline_ns, int *fd,
                     char *address, size_t cap) {
    int error = try_all(options, found, deadline_ns, fd, address, cap);
    for (uint32_t attempt = 1; error && attempt < options->connection_attempts; attempt++) {
        const struct timespec second = {.tv_sec = 1};
        if (deadline_passed(deadline_ns))
            break;
        (void)nanosleep(&second, NULL);
        log_verbose("trying again to connect to %s: attempt %u of %u", options->hostname, attempt + 1,
                    options->connection_attempts);
        error = try_all(options, found, deadline_ns, fd, address, cap);
    }
    return error;
}

int tcp_connect(const struct options *options, uint64_t deadline_ns, int *fd, char *address, size_t cap) {
    struct resolve_result found;
    resolve_now(options->hostname, options->port, options->family, false, &found);
    if (found.err) {
        log_error("could not resolve host name %s: %s", options->hostname,
                  found.reason ? found.reason : err_text(found.err));
        return found.err;
    }
    int error = try_often(options, &found, deadline_ns, fd, address, cap);
    free(found.addresses);
    if (!error)
        return 0;
    log_error("connect to host %s port %u: %s", options->hostname, options->port, strerror(error));
    return err_from_errno(error);
}
