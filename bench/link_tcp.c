/* TCP's limits in a namespace of the link: its own, so that a machine that was tuned and one that was not can both be
 * measured here, and nothing of the machine itself is changed. */
#include "bench/link_carrier.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define RECEIVE "/proc/sys/net/ipv4/tcp_rmem"
#define SEND "/proc/sys/net/ipv4/tcp_wmem"
#define CONGESTION "/proc/sys/net/ipv4/tcp_congestion_control"

/* The text without its line's end; empty when it cannot be read. */
static void read_sysctl(const char *path, char *text, size_t text_bytes) {
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t bytes = fd >= 0 ? read(fd, text, text_bytes - 1) : 0;
    text[bytes > 0 ? bytes : 0] = '\0';
    text[strcspn(text, "\n")] = '\0';
    for (char *at = text; (at = strchr(at, '\t')) != NULL;)
        *at = ' ';
    if (fd >= 0)
        close(fd);
}

static bool write_sysctl(const char *path, const char *text, char *why, size_t why_bytes) {
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    bool wrote = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);
    if (!wrote)
        snprintf(why, why_bytes, "%s: '%s': %s", path, text, strerror(errno));
    if (fd >= 0)
        close(fd);
    return wrote;
}

/* The least and the first stay, where they are not more than the most. */
static bool set_most(const char *path, uint32_t most, char *why, size_t why_bytes) {
    char text[64];
    unsigned least, first;
    read_sysctl(path, text, sizeof(text));
    if (sscanf(text, "%u %u", &least, &first) != 2) {
        snprintf(why, why_bytes, "%s: cannot be read", path);
        return false;
    }
    snprintf(text, sizeof(text), "%u %u %u", least, first < most ? first : most, most);
    return write_sysctl(path, text, why, why_bytes);
}

bool link_tcp_set(const struct link_shape *shape, char *why, size_t why_bytes) {
    if (shape->tcp_receive_max > 0 && !set_most(RECEIVE, shape->tcp_receive_max, why, why_bytes))
        return false;
    if (shape->tcp_send_max > 0 && !set_most(SEND, shape->tcp_send_max, why, why_bytes))
        return false;
    return shape->congestion == NULL || write_sysctl(CONGESTION, shape->congestion, why, why_bytes);
}

void link_tcp_get(struct link_tcp *tcp) {
    read_sysctl(RECEIVE, tcp->receive, sizeof(tcp->receive));
    read_sysctl(SEND, tcp->send, sizeof(tcp->send));
    read_sysctl(CONGESTION, tcp->congestion, sizeof(tcp->congestion));
}
