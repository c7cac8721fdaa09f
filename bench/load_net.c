#include "bench/load_net.h"
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* A rest is as long as a flow needs for so much, which the smallest of receive buffers has room for; and there is none
 * below 100 MB/s. */
#define SMALL_SEGMENT_BYTES 536 /* RFC 9293 §3.7.1: what every host takes */
#define REST_BYTES (48u << 10)
#define REST_NS_MAX (500 * UINT64_C(1000))
#define REST_BYTES_PER_TICK 2000000u

#define HURRY_NICE 10
#define HURRY_TURN_NS 100000u

uint64_t load_now(void) {
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * UINT64_C(1000000000) + (uint64_t)ts.tv_nsec;
}

/* What the harness has open is its own: a connection or pipe held here too would not end when it closes it. */
static void close_others(int channel) {
    struct stream any = {0};
    int64_t offset;
    int file = stream_file(&any, &offset);
    unsigned low = (unsigned)(channel < file ? channel : file), high = (unsigned)(channel < file ? file : channel);
    if (low > 3)
        close_range(3, low - 1, 0);
    if (high > low + 1)
        close_range(low + 1, high - 1, 0);
    close_range(high + 1, ~0u, 0);
}

static void become_child(pid_t parent) {
    static const int defaults[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGCHLD, SIGALRM, SIGUSR1, SIGUSR2};
    sigset_t none;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent)
        _exit(1);
    for (size_t i = 0; i < sizeof(defaults) / sizeof(*defaults); i++)
        signal(defaults[i], SIG_DFL);
    signal(SIGPIPE, SIG_IGN);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
}

bool load_enter(const struct place *place, int channel) {
    bool entered = place_enter(place);
    int error = errno;
    close_others(channel);
    errno = error;
    return entered;
}

pid_t load_fork(int *channel) {
    int pair[2];
    pid_t parent = getpid();
    if (!stream_setup() || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0)
        return -1;
    pid_t pid = fork();
    if (pid == 0) {
        become_child(parent);
        *channel = pair[1];
        return 0;
    }
    int error = errno;
    close(pair[1]);
    if (pid < 0)
        close(pair[0]);
    else
        *channel = pair[0];
    errno = error;
    return pid;
}

void load_hurry(void) {
    /* The first version of the kernel's struct sched_attr, which the C library does not declare everywhere. */
    struct {
        uint32_t size, policy;
        uint64_t flags;
        int32_t nice;
        uint32_t priority;
        uint64_t runtime_ns, deadline_ns, period_ns;
    } attributes = {.size = 48, .runtime_ns = HURRY_TURN_NS};
    int nice = getpriority(PRIO_PROCESS, 0);
    attributes.nice = nice > PRIO_MIN + HURRY_NICE ? nice - HURRY_NICE : PRIO_MIN;
    if (syscall(SYS_sched_setattr, 0, &attributes, 0) == 0)
        return;
    attributes.nice = nice;
    (void)syscall(SYS_sched_setattr, 0, &attributes, 0); /* without it: times are a little longer on a busy machine */
}

bool load_raise_files(uint32_t count, uint32_t *limit) {
    struct rlimit files, wanted;
    if (getrlimit(RLIMIT_NOFILE, &files) != 0)
        return false;
    wanted = files;
    if (wanted.rlim_max < count)
        wanted.rlim_max = count; /* root may */
    wanted.rlim_cur = wanted.rlim_max;
    if (setrlimit(RLIMIT_NOFILE, &wanted) != 0) {
        wanted.rlim_cur = wanted.rlim_max = files.rlim_max;
        setrlimit(RLIMIT_NOFILE, &wanted);
    }
    getrlimit(RLIMIT_NOFILE, &files);
    *limit = (uint32_t)files.rlim_cur;
    return files.rlim_cur >= count;
}

void load_socket_prepare(int fd) {
    int one = 1;
    fcntl(fd, F_SETFL, O_NONBLOCK);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
}

void load_socket_buffers(int fd, uint64_t bytes) {
    int size = bytes < INT_MAX ? (int)bytes : INT_MAX, segment = SMALL_SEGMENT_BYTES;
    if (size == 0)
        return;
    setsockopt(fd, IPPROTO_TCP, TCP_MAXSEG, &segment, sizeof(segment));
    setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size));
}

void load_socket_pace(int fd, uint64_t bytes_per_s) {
    if (bytes_per_s > 0)
        setsockopt(fd, SOL_SOCKET, SO_MAX_PACING_RATE, &bytes_per_s, sizeof(bytes_per_s));
}

void load_socket_reset(int fd) {
    struct linger linger = {.l_onoff = 1};
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
    close(fd);
}

int64_t load_receive_stream(struct stream *stream, int fd, void *buffer, size_t most) {
    uint64_t bad_at;
    ssize_t n = recv(fd, buffer, most, 0);
    if (n < 0)
        return -errno;
    return stream_verify(stream, buffer, (size_t)n, &bad_at) ? n : -EBADMSG;
}

void load_pace_came(struct load_pace *pace, uint64_t bytes) {
    pace->bytes += bytes;
    pace->has_more |= bytes == LOAD_BUFFER_BYTES;
}

void load_pace_tick(struct load_pace *pace, uint32_t flows) {
    pace->rest_ns = 0;
    if (pace->bytes >= REST_BYTES_PER_TICK)
        pace->rest_ns = (uint64_t)flows * REST_BYTES * LOAD_TICK_NS / pace->bytes;
    if (pace->rest_ns > REST_NS_MAX)
        pace->rest_ns = REST_NS_MAX;
    pace->bytes = 0;
}

void load_pace_rest(struct load_pace *pace) {
    struct timespec rest = {.tv_nsec = (long)pace->rest_ns};
    if (pace->rest_ns > 0 && !pace->has_more)
        clock_nanosleep(CLOCK_MONOTONIC, 0, &rest, NULL);
    pace->has_more = false;
}

int64_t load_send_stream(struct stream *stream, int fd, uint64_t most) {
    size_t len = most < STREAM_RUN_BYTES ? (size_t)most : STREAM_RUN_BYTES;
    int64_t offset;
    int file = stream_file(stream, &offset);
    off_t at = (off_t)offset;
    ssize_t n = sendfile(fd, file, &at, len);
    if (n < 0)
        return -errno;
    stream_skip(stream, (size_t)n);
    return n;
}
