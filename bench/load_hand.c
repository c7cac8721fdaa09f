#include "bench/load_hand.h"
#include <errno.h>
#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

/* A taker that does not take for so long is not there. */
#define TAKER_PATIENCE_S 2

union descriptor_message {
    struct cmsghdr header;
    char space[CMSG_SPACE(sizeof(int))];
};

static socklen_t address_of(uint64_t key, struct sockaddr_un *address) {
    *address = (struct sockaddr_un){.sun_family = AF_UNIX};
    int length = snprintf(address->sun_path + 1, sizeof(address->sun_path) - 1, "leat-bench-taker-%016" PRIx64, key);
    return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)length);
}

bool load_hand_over(int fd, const struct load_wish *wish) {
    struct sockaddr_un address;
    uint64_t number = wish->down_key;
    struct iovec data = {.iov_base = &number, .iov_len = sizeof(number)};
    union descriptor_message control = {
        .header = {.cmsg_len = CMSG_LEN(sizeof(int)), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS}};
    struct msghdr message = {.msg_name = &address,
                             .msg_namelen = address_of(wish->up_key, &address),
                             .msg_iov = &data,
                             .msg_iovlen = 1,
                             .msg_control = &control,
                             .msg_controllen = sizeof(control.space)};
    struct timeval patience = {.tv_sec = TAKER_PATIENCE_S};
    int sender = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (sender < 0)
        return false;
    memcpy(CMSG_DATA(&control.header), &fd, sizeof(fd));
    bool ok = setsockopt(sender, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience)) == 0 &&
              sendmsg(sender, &message, MSG_NOSIGNAL) == (ssize_t)sizeof(number);
    close(sender);
    return ok;
}

int load_hand_listen(uint64_t key) {
    struct sockaddr_un address;
    socklen_t length = address_of(key, &address);
    int taker = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (taker < 0 || bind(taker, (struct sockaddr *)&address, length) == 0)
        return taker;
    int error = errno;
    close(taker);
    errno = error;
    return -1;
}

int load_hand_take(int socket, uint64_t *number) {
    struct iovec data = {.iov_base = number, .iov_len = sizeof(*number)};
    union descriptor_message control = {.space = {0}};
    struct msghdr message = {
        .msg_iov = &data, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control.space)};
    int fd;
    do {
        if (recvmsg(socket, &message, MSG_CMSG_CLOEXEC) < 0)
            return -1;
        /* Anybody may write to it; what has no connection is nothing. */
    } while (message.msg_controllen < sizeof(control.header) || control.header.cmsg_type != SCM_RIGHTS);
    memcpy(&fd, CMSG_DATA(&control.header), sizeof(fd));
    return fd;
}
