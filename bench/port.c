/* Ports for servers of ours. */
#include "bench/world.h"
#include <errno.h>
#include <netinet/in.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define PORT_FIRST 10240u
#define PORT_ROOM 1024u /* too few to choose from where the range of outgoing connections leaves less */
#define PORT_TRIES 10000u

static bool port_is_free(uint16_t port) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool is_free = fd >= 0 && bind(fd, (struct sockaddr *)&address, sizeof address) == 0;
    if (fd >= 0)
        close(fd);
    return is_free;
}

/* Nobody else who asks in this way is given the port while this process lives: the name of a Unix socket outside the
 * file system is the whole machine's, and goes with the descriptor. The end-to-end tests use the same name. */
static bool port_is_ours(uint16_t port) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int len = snprintf(address.sun_path + 1, sizeof address.sun_path - 1, "leat-test-port-%u", port);
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd >= 0 && bind(fd, (struct sockaddr *)&address,
                        (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)len)) == 0)
        return true; /* held until the process ends */
    if (fd >= 0)
        close(fd);
    return false;
}

static unsigned first_outgoing(void) {
    unsigned first = 32768;
    FILE *file = fopen("/proc/sys/net/ipv4/ip_local_port_range", "re");
    if (file != NULL) {
        if (fscanf(file, "%u", &first) != 1 || first < PORT_FIRST + PORT_ROOM || first > 65536)
            first = 65536;
        fclose(file);
    }
    return first;
}

uint16_t world_free_port(void) {
    unsigned end = first_outgoing();
    for (unsigned tries = 0; tries < PORT_TRIES; tries++) {
        uint32_t random;
        if (getrandom(&random, sizeof random, 0) != sizeof random)
            return 0;
        uint16_t port = (uint16_t)(PORT_FIRST + random % (end - PORT_FIRST));
        if (port_is_free(port) && port_is_ours(port))
            return port;
    }
    errno = EADDRINUSE;
    return 0;
}
