#pragma once
/* A TCP port for a test that listens on it later, or has something else listen there. */
#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static inline bool port_is_free(uint16_t port) {
    struct sockaddr_in addr = {.sin_family = AF_INET, .sin_port = htons(port)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool is_free = fd >= 0 && bind(fd, (struct sockaddr *)&addr, sizeof(addr)) == 0;
    close(fd);
    return is_free;
}

/* Nobody else who asks here is given this port while this process lives: the name of a Unix socket outside the file
 * system is the whole machine's, and goes with the descriptor. */
static inline bool port_is_ours(uint16_t port) {
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    int len = snprintf(addr.sun_path + 1, sizeof(addr.sun_path) - 1, "leat-test-port-%u", port);
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd >= 0 &&
        bind(fd, (struct sockaddr *)&addr, (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + len)) == 0)
        return true; /* held until the process ends */
    close(fd);
    return false;
}

/* From below the range that the kernel gives to outgoing connections, so that none of the many of a test running beside
 * this one takes it before it is listened on. 0: there is none. */
static inline uint16_t port_choose(void) {
    for (unsigned tries = 0; tries < 10000; tries++) {
        uint16_t random;
        if (getentropy(&random, sizeof(random)) != 0)
            return 0;
        uint16_t port = (uint16_t)(10240 + random % (32768 - 10240));
        if (port_is_ours(port) && port_is_free(port))
            return port;
    }
    return 0;
}
