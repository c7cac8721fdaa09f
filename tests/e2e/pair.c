#include "pair.h"
#include "traffic.h"
#include "world.h"
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#define BLOCK_BYTES 65536u

int pair_listen(uint16_t *port) {
    struct sockaddr_in addr = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(addr);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || bind(fd, (struct sockaddr *)&addr, len) < 0 || listen(fd, 1024) < 0 ||
        getsockname(fd, (struct sockaddr *)&addr, &len) < 0) {
        perror("pair_listen");
        abort();
    }
    *port = ntohs(addr.sin_port);
    return fd;
}

static bool wait_for(int fd, short events, double seconds) {
    struct pollfd pollfd = {.fd = fd, .events = events};
    return poll(&pollfd, 1, (int)(world_deadline(seconds) * 1000)) == 1;
}

static bool pass_byte(int from, int to, double seconds) {
    char byte = 'x';
    return send(from, &byte, 1, MSG_NOSIGNAL) == 1 && wait_for(to, POLLIN, seconds) && recv(to, &byte, 1, 0) == 1;
}

bool pair_join(struct pair *pair, int near, int listener, double seconds) {
    *pair = (struct pair){near, -1};
    if (pair->near >= 0 && wait_for(listener, POLLIN, seconds))
        pair->far = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    if (pair->far < 0 || !pass_byte(pair->near, pair->far, seconds) || !pass_byte(pair->far, pair->near, seconds)) {
        pair_close(pair);
        return false;
    }
    fcntl(pair->near, F_SETFL, O_NONBLOCK);
    fcntl(pair->far, F_SETFL, O_NONBLOCK);
    return true;
}

bool pair_open(struct pair *pair, const char *host, uint16_t port, int listener, double seconds) {
    return pair_join(pair, connect_to(host, port), listener, seconds);
}

void pair_close(struct pair *pair) {
    if (pair->near >= 0)
        close(pair->near);
    if (pair->far >= 0)
        close(pair->far);
    *pair = (struct pair){-1, -1};
}

uint64_t pair_push(int fd, uint64_t seed, uint64_t offset, uint64_t max, double stall_seconds) {
    uint8_t block[BLOCK_BYTES];
    uint64_t pushed = 0;
    while (pushed < max && wait_for(fd, POLLOUT, stall_seconds)) {
        size_t len = max - pushed < sizeof(block) ? (size_t)(max - pushed) : sizeof(block);
        stream_fill(seed, offset + pushed, block, len);
        ssize_t n = send(fd, block, len, MSG_NOSIGNAL);
        if (n < 0 && errno != EAGAIN)
            break;
        if (n > 0)
            pushed += (uint64_t)n;
    }
    return pushed;
}

bool pair_pull(int fd, uint64_t seed, uint64_t offset, uint64_t bytes, double stall_seconds) {
    uint8_t block[BLOCK_BYTES];
    for (uint64_t pulled = 0; pulled < bytes;) {
        if (!wait_for(fd, POLLIN, stall_seconds))
            return false;
        size_t len = bytes - pulled < sizeof(block) ? (size_t)(bytes - pulled) : sizeof(block);
        ssize_t n = recv(fd, block, len, 0);
        if (n < 0 && errno == EAGAIN)
            continue;
        if (n <= 0 || !stream_check(seed, offset + pulled, block, (size_t)n))
            return false;
        pulled += (uint64_t)n;
    }
    return true;
}

int pair_end(int fd, double seconds) {
    uint8_t block[BLOCK_BYTES];
    while (wait_for(fd, POLLIN, seconds)) {
        ssize_t n = recv(fd, block, sizeof(block), 0);
        if (n == 0)
            return 0;
        if (n < 0 && errno != EAGAIN)
            return errno;
    }
    return -1;
}

void pair_reset(int *fd) {
    struct linger reset = {.l_onoff = 1};
    setsockopt(*fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
    close(*fd);
    *fd = -1;
}
