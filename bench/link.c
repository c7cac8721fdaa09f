/* The harness' side of a link: starts the carrier's process and gives it orders over a socket. What the carrier has
 * made is the kernel's to clean up (devices with their descriptors, namespaces with the last in them), so it can be
 * killed at any time. */
#include "bench/link.h"
#include "bench/link_carrier.h"
#include <arpa/inet.h>
#include <errno.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* The carrier's end of the control, above the standard streams. */
#define CONTROL_FD 3
#define NAMESPACES_MAX 3

uint64_t carrier_now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

struct timespec carrier_time_until(uint64_t time_ns) {
    uint64_t now_ns = carrier_now_ns(), wait_ns = time_ns > now_ns ? time_ns - now_ns : 0;
    return (struct timespec){.tv_sec = (time_t)(wait_ns / 1000000000u), .tv_nsec = (long)(wait_ns % 1000000000u)};
}

bool carrier_request(const struct carrier *carrier, struct carrier_request *request, bool *ended) {
    ssize_t bytes = recv(carrier->control, request, sizeof(*request), MSG_DONTWAIT);
    if (bytes == (ssize_t)sizeof(*request))
        return true;
    *ended = bytes >= 0 || (errno != EAGAIN && errno != EINTR);
    return false;
}

void carrier_reply(const struct carrier *carrier, int error, uint16_t port) {
    struct carrier_reply reply = {.error = error, .port = port};
    /* A harness that has gone meanwhile is seen at the next request. */
    (void)!send(carrier->control, &reply, sizeof(reply), MSG_NOSIGNAL);
}

uint32_t carrier_queue_packets(const struct link_shape *shape) {
    double packets = shape->rate_mbit * 1e6 / 8 * shape->rtt_ms / 1e3 / 1500;
    if (shape->queue_packets > 0)
        return shape->queue_packets;
    if (packets > SHAPER_QUEUE_MAX)
        return SHAPER_QUEUE_MAX;
    return packets < 256 ? 256 : (uint32_t)packets;
}

bool carrier_shaper(const struct carrier *carrier, unsigned direction, bool may_drop, struct shaper *shaper) {
    const struct link_shape *shape = &carrier->shape;
    struct shaper_options options = {.delay_ns = (uint64_t)(shape->rtt_ms / 2 * 1e6),
                                     .rate = shape->rate_mbit * 1e6,
                                     .loss = may_drop ? shape->loss : 0,
                                     .queue_packets = may_drop ? carrier_queue_packets(shape) : 0,
                                     .seed = shape->seed * 2 + direction};
    return shaper_init(shaper, &options);
}

bool link_needs_namespaces(const struct link_shape *shape) {
    return shape->loss > 0 || shape->tcp_receive_max > 0 || shape->tcp_send_max > 0 || shape->congestion != NULL;
}

static bool check_shape(const struct link_shape *shape, char *why, size_t why_bytes) {
    const char *wrong = NULL;
    if (!(shape->rtt_ms >= 0 && shape->rtt_ms <= 60000))
        wrong = "the round-trip time is not within 0–60000 ms";
    else if (shape->rate_mbit != 0 && !(shape->rate_mbit * 1e6 >= SHAPER_RATE_MIN && isfinite(shape->rate_mbit)))
        wrong = "the rate is below 0.001 Mbit/s";
    else if (!(shape->loss >= 0 && shape->loss <= 1))
        wrong = "the loss is not within 0–1";
    else if (shape->queue_packets > SHAPER_QUEUE_MAX)
        wrong = "the queue is longer than 1048576 packets";
    else if (shape->tcp_receive_max > LINK_TCP_MAX || shape->tcp_send_max > LINK_TCP_MAX)
        wrong = "TCP's buffers are larger than 1 GiB";
    if (wrong != NULL)
        snprintf(why, why_bytes, "link: %s", wrong);
    return wrong == NULL;
}

static void say_hello(const struct carrier *carrier, const struct carrier_hello *hello, const int *fds, size_t count) {
    union {
        struct cmsghdr header;
        char space[CMSG_SPACE(NAMESPACES_MAX * sizeof(int))];
    } control = {.space = {0}};
    struct iovec iov = {.iov_base = (void *)hello, .iov_len = sizeof(*hello)};
    struct msghdr message = {.msg_iov = &iov, .msg_iovlen = 1};
    if (count > 0) {
        message.msg_control = &control;
        message.msg_controllen = CMSG_SPACE(count * sizeof(int));
        control.header = (struct cmsghdr){
            .cmsg_len = CMSG_LEN(count * sizeof(int)), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS};
        memcpy(CMSG_DATA(&control.header), fds, count * sizeof(int));
    }
    (void)!sendmsg(carrier->control, &message, MSG_NOSIGNAL);
}

/* False: the carrier is gone. `fds` are −1 where it sent none. */
static bool hear_hello(int socket, struct carrier_hello *hello, int fds[NAMESPACES_MAX]) {
    union {
        struct cmsghdr header;
        char space[CMSG_SPACE(NAMESPACES_MAX * sizeof(int))];
    } control = {.space = {0}};
    struct iovec iov = {.iov_base = hello, .iov_len = sizeof(*hello)};
    struct msghdr message = {
        .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control)};
    struct cmsghdr *header;
    ssize_t bytes;
    memset(fds, 0xff, NAMESPACES_MAX * sizeof(int));
    do
        bytes = recvmsg(socket, &message, MSG_CMSG_CLOEXEC);
    while (bytes < 0 && errno == EINTR);
    header = bytes > 0 ? CMSG_FIRSTHDR(&message) : NULL;
    if (header != NULL && header->cmsg_type == SCM_RIGHTS && header->cmsg_len <= CMSG_LEN(NAMESPACES_MAX * sizeof(int)))
        memcpy(fds, CMSG_DATA(header), header->cmsg_len - CMSG_LEN(0));
    return bytes == (ssize_t)sizeof(*hello);
}

static void carry_namespaces(const struct carrier *carrier) {
    struct carrier_hello hello = {.ok = false};
    struct tun_ends ends;
    int fds[NAMESPACES_MAX];
    hello.ok = tun_make(&ends, &carrier->shape, hello.why, sizeof(hello.why));
    link_tcp_get(&hello.tcp);
    if (!hello.ok) {
        say_hello(carrier, &hello, NULL, 0);
        return;
    }
    fds[0] = ends.netns[0];
    fds[1] = ends.netns[1];
    fds[2] = ends.userns;
    say_hello(carrier, &hello, fds, ends.userns >= 0 ? 3 : 2);
    for (size_t i = 0; i < NAMESPACES_MAX; i++) {
        if (fds[i] >= 0)
            close(fds[i]);
    }
    tun_carry(carrier, &ends);
}

/* In the new process: nothing of the harness stays with it but the control, and it ends when the harness does. A group
 * of its own, as what a terminal interrupts is the harness, which then ends the link in its turn. */
static void carrier_main(struct carrier *carrier, pid_t harness, bool with_namespaces) {
    static const int signals[] = {SIGINT, SIGTERM, SIGHUP, SIGPIPE, SIGCHLD};
    sigset_t none;
    for (size_t i = 0; i < sizeof(signals) / sizeof(*signals); i++)
        signal(signals[i], SIG_DFL);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    setpgid(0, 0);
    if (carrier->control != CONTROL_FD && dup2(carrier->control, CONTROL_FD) < 0)
        return;
    carrier->control = CONTROL_FD;
    close_range(CONTROL_FD + 1, ~0u, 0);
    prctl(PR_SET_NAME, "leat-link");
    prctl(PR_SET_TIMERSLACK, 1);
    /* A line does not wait for a processor. Ordinary users may not ask for it: then more is late, which is counted. */
    sched_setscheduler(0, SCHED_RR, &(struct sched_param){.sched_priority = 1});
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != harness)
        return;
    if (with_namespaces) {
        carry_namespaces(carrier);
    } else {
        say_hello(carrier, &(struct carrier_hello){.ok = true}, NULL, 0);
        proxy_carry(carrier);
    }
}

static bool start_carrier(struct link *link, const struct link_shape *shape, bool with_namespaces,
                          struct carrier_hello *hello, int fds[NAMESPACES_MAX]) {
    int pair[2];
    pid_t harness = getpid();
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0) {
        snprintf(hello->why, sizeof(hello->why), "%s", strerror(errno));
        return false;
    }
    link->pid = fork();
    if (link->pid == 0) {
        struct carrier carrier = {.control = pair[1], .shape = *shape, .counters = link->counters};
        carrier_main(&carrier, harness, with_namespaces);
        _exit(0);
    }
    close(pair[1]);
    link->control = pair[0];
    if (link->pid > 0 && hear_hello(pair[0], hello, fds))
        return hello->ok;
    snprintf(hello->why, sizeof(hello->why), "%s", link->pid < 0 ? strerror(errno) : "the carrier is gone");
    return false;
}

static void end_carrier(struct link *link) {
    if (link->pid > 0) {
        kill(link->pid, SIGKILL);
        while (waitpid(link->pid, NULL, 0) < 0 && errno == EINTR)
            continue;
    }
    close(link->control);
    link->pid = 0;
    link->control = -1;
}

static bool start_namespaces(struct link *link, const struct link_shape *shape, char *why, size_t why_bytes) {
    struct carrier_hello hello = {.ok = false};
    int fds[NAMESPACES_MAX];
    if (!start_carrier(link, shape, true, &hello, fds)) {
        snprintf(why, why_bytes, "no link of namespaces: %s", hello.why);
        end_carrier(link);
        return false;
    }
    link->near = (struct place){.netns_fd = fds[0], .userns_fd = fds[2]};
    link->far = (struct place){.netns_fd = fds[1], .userns_fd = fds[2]};
    link->tcp = hello.tcp;
    link->near_address = tun_address(0);
    link->far_address = tun_address(1);
    return true;
}

static bool start_proxy(struct link *link, const struct link_shape *shape, char *why, size_t why_bytes) {
    struct carrier_hello hello = {.ok = false};
    int fds[NAMESPACES_MAX];
    if (!start_carrier(link, shape, false, &hello, fds)) {
        snprintf(why, why_bytes, "no link: %s", hello.why);
        end_carrier(link);
        return false;
    }
    link->is_proxy = true;
    link->near = link->far = PLACE_HERE;
    link->near_address.s_addr = link->far_address.s_addr = htonl(INADDR_LOOPBACK);
    return true;
}

bool link_start(struct link *link, const struct link_shape *shape, bool allow_namespaces, char *why, size_t why_bytes) {
    *link = (struct link){.control = -1, .near = PLACE_HERE, .far = PLACE_HERE};
    if (!check_shape(shape, why, why_bytes))
        return false;
    link->counters = mmap(NULL, sizeof(*link->counters), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (link->counters == MAP_FAILED) {
        snprintf(why, why_bytes, "no link: %s", strerror(errno));
        link->counters = NULL;
        return false;
    }
    if (allow_namespaces && start_namespaces(link, shape, why, why_bytes))
        return true;
    if (start_proxy(link, shape, why, why_bytes))
        return true;
    munmap(link->counters, sizeof(*link->counters));
    link->counters = NULL;
    return false;
}

static struct carrier_reply ask(struct link *link, enum carrier_order order, uint16_t port) {
    struct carrier_request request = {.order = order, .port = port};
    struct carrier_reply reply = {.error = EPIPE};
    ssize_t bytes;
    if (send(link->control, &request, sizeof(request), MSG_NOSIGNAL) < 0)
        return reply;
    do
        bytes = recv(link->control, &reply, sizeof(reply), 0);
    while (bytes < 0 && errno == EINTR);
    if (bytes != (ssize_t)sizeof(reply))
        reply = (struct carrier_reply){.error = EPIPE};
    return reply;
}

uint16_t link_proxy_port(struct link *link, uint16_t port) {
    struct carrier_reply reply = ask(link, CARRIER_PORT, port);
    errno = reply.error;
    return reply.error == 0 ? reply.port : 0;
}

void link_cut(struct link *link, bool cut) {
    ask(link, cut ? CARRIER_CUT : CARRIER_MEND, 0);
}

void link_stop(struct link *link) {
    if (link->pid <= 0)
        return;
    end_carrier(link);
    if (!link->is_proxy) {
        close(link->near.netns_fd);
        close(link->far.netns_fd);
        if (link->near.userns_fd >= 0)
            close(link->near.userns_fd);
    }
    munmap(link->counters, sizeof(*link->counters));
    *link = (struct link){.control = -1, .near = PLACE_HERE, .far = PLACE_HERE};
}
