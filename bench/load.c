/* The two ends of a measured connection, used by quick.sh and demo.sh:
 *
 *   load serve                       listens on 127.0.0.1, prints its port, serves until its standard input ends
 *   load port                        prints a port that was free a moment ago
 *   load down HOST PORT BYTES [-p]   receives BYTES; prints "seconds MB/s"; -p: a live line on the terminal
 *   load up HOST PORT BYTES [-p]     sends BYTES; ends when the server has said that it received them all
 *   load opens HOST PORT COUNT N     COUNT connections, N at a time: connect, one byte there and back, close; prints
 * opens/s
 *
 * Bytes are counted where they arrive. Neither side touches them (sendfile out of a memfd, MSG_TRUNC in), so that as
 * little as possible of the machine goes into the load itself. Content is verified by the tests, not here. */
#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define CHUNK_BYTES (1u << 20)

enum { WANT_DOWN = 'D', WANT_UP = 'U', WANT_PING = 'P' };

/* The first bytes of every connection say what it is for; same machine, so no byte order. */
struct wish {
    uint8_t kind;
    uint64_t bytes;
};

_Noreturn static void die(const char *what) {
    fprintf(stderr, "load: %s: %s\n", what, strerror(errno));
    exit(1);
}

static double seconds(void) {
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static int payload_fd(void) {
    int fd = memfd_create("load", MFD_CLOEXEC);
    if (fd < 0 || ftruncate(fd, CHUNK_BYTES) < 0)
        die("memfd");
    return fd;
}

static bool read_all(int fd, void *data, size_t len) {
    for (size_t done = 0; done < len;) {
        ssize_t n = read(fd, (char *)data + done, len - done);
        if (n <= 0)
            return false;
        done += (size_t)n;
    }
    return true;
}

static bool write_all(int fd, const void *data, size_t len) {
    for (size_t done = 0; done < len;) {
        ssize_t n = send(fd, (const char *)data + done, len - done, MSG_NOSIGNAL);
        if (n <= 0)
            return false;
        done += (size_t)n;
    }
    return true;
}

/* The live line of -p: MB/s, done, time left; redrawn ten times a second. */
struct progress {
    bool on;
    double start, last;
    uint64_t total;
};

static void progress_show(struct progress *progress, uint64_t done, bool final) {
    double now = seconds();
    if (!progress->on || (!final && now - progress->last < 0.1))
        return;
    progress->last = now;
    double rate = (double)done / (now - progress->start + 1e-9);
    double left = rate > 0 ? (double)(progress->total - done) / rate : 0;
    fprintf(stderr, "\r  %7.0f MB/s   %5.1f %%  of %.1f GB   %4.0f s left \033[K%s", rate / 1e6,
            100.0 * (double)done / (double)progress->total, (double)progress->total / 1e9, left, final ? "\n" : "");
}

static bool send_bytes(int fd, int payload, uint64_t bytes, struct progress *progress) {
    for (uint64_t done = 0; done < bytes;) {
        off_t at = (off_t)(done % CHUNK_BYTES);
        size_t len = CHUNK_BYTES - (size_t)at;
        if (len > bytes - done)
            len = (size_t)(bytes - done);
        ssize_t n = sendfile(fd, payload, &at, len);
        if (n <= 0)
            return false;
        done += (uint64_t)n;
        progress_show(progress, done, done == bytes);
    }
    return true;
}

/* Until `bytes` came, or the end when there is no limit. */
static uint64_t receive_bytes(int fd, uint64_t bytes, struct progress *progress) {
    uint64_t done = 0;
    while (done < bytes) {
        size_t want = bytes - done < CHUNK_BYTES ? (size_t)(bytes - done) : CHUNK_BYTES;
        ssize_t n = recv(fd, NULL, want, MSG_TRUNC);
        if (n <= 0)
            break;
        done += (uint64_t)n;
        progress_show(progress, done, done == bytes);
    }
    return done;
}

static void *serve_one(void *arg) {
    int fd = (int)(intptr_t)arg, payload;
    struct wish wish;
    struct progress none = {0};
    int one = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    if (read_all(fd, &wish, sizeof(wish))) {
        if (wish.kind == WANT_DOWN) {
            payload = payload_fd();
            send_bytes(fd, payload, wish.bytes, &none);
            close(payload);
        } else if (wish.kind == WANT_UP) {
            uint64_t count = receive_bytes(fd, wish.bytes, &none);
            write_all(fd, &count, sizeof(count));
        } else {
            write_all(fd, "!", 1);
        }
    }
    close(fd);
    return NULL;
}

static int listen_any(uint16_t *port) {
    struct sockaddr_in addr = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(addr);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || bind(fd, (struct sockaddr *)&addr, len) < 0 || listen(fd, 4096) < 0)
        die("listen");
    getsockname(fd, (struct sockaddr *)&addr, &len);
    *port = ntohs(addr.sin_port);
    return fd;
}

/* From below the range of outgoing connections, so that none of those takes it meanwhile. */
static uint16_t free_port(void) {
    for (;;) {
        uint16_t random;
        struct sockaddr_in addr = {.sin_family = AF_INET};
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (fd < 0 || getentropy(&random, sizeof(random)) != 0)
            die("port");
        uint16_t port = (uint16_t)(10240 + random % (32768 - 10240));
        addr.sin_port = htons(port);
        int taken = bind(fd, (struct sockaddr *)&addr, sizeof(addr));
        close(fd);
        if (taken == 0)
            return port;
    }
}

static void *wait_for_end(void *arg) {
    char byte;
    (void)arg;
    while (read(STDIN_FILENO, &byte, 1) > 0)
        ;
    exit(0);
}

static int serve(void) {
    uint16_t port;
    int listener = listen_any(&port);
    pthread_t thread;
    pthread_attr_t attr;
    pthread_attr_init(&attr);
    pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    pthread_attr_setstacksize(&attr, 65536);
    printf("%u\n", port);
    fflush(stdout);
    if (pthread_create(&thread, &attr, wait_for_end, NULL) != 0)
        die("thread");
    for (;;) {
        int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
        if (fd >= 0 && pthread_create(&thread, &attr, serve_one, (void *)(intptr_t)fd) != 0)
            close(fd);
    }
}

static int connect_to(const char *host, const char *port) {
    struct sockaddr_in addr = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(port))};
    int one = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || inet_pton(AF_INET, host, &addr.sin_addr) != 1 ||
        connect(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0)
        die("connect");
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    return fd;
}

static int transfer(bool up, const char *host, const char *port, uint64_t bytes, bool live) {
    struct wish wish = {.kind = up ? WANT_UP : WANT_DOWN, .bytes = bytes};
    uint64_t arrived = 0;
    int fd = connect_to(host, port);
    struct progress progress = {.on = live, .start = seconds(), .total = bytes};
    if (!write_all(fd, &wish, sizeof(wish)))
        die("write");
    if (up) {
        int payload = payload_fd();
        if (!send_bytes(fd, payload, bytes, &progress) || !read_all(fd, &arrived, sizeof(arrived)))
            die("upload cut short");
        close(payload);
    } else {
        arrived = receive_bytes(fd, bytes, &progress);
    }
    double took = seconds() - progress.start;
    close(fd);
    if (arrived != bytes) {
        fprintf(stderr, "load: %" PRIu64 " of %" PRIu64 " bytes arrived\n", arrived, bytes);
        return 1;
    }
    printf("%.6f %.1f\n", took, (double)bytes / took / 1e6);
    return 0;
}

struct opens {
    const char *host, *port;
    _Atomic int64_t left;
    _Atomic uint64_t failed;
};

static void *open_some(void *arg) {
    struct opens *opens = arg;
    struct wish wish = {.kind = WANT_PING};
    char answer;
    while (atomic_fetch_sub(&opens->left, 1) > 0) {
        int fd = connect_to(opens->host, opens->port);
        if (!write_all(fd, &wish, sizeof(wish)) || !read_all(fd, &answer, 1))
            atomic_fetch_add(&opens->failed, 1);
        close(fd);
    }
    return NULL;
}

static int open_many(const char *host, const char *port, uint64_t count, unsigned at_once) {
    struct opens opens = {.host = host, .port = port, .left = (int64_t)count};
    pthread_t *threads = calloc(at_once, sizeof(*threads));
    double start = seconds();
    for (unsigned i = 0; i < at_once; i++)
        if (threads == NULL || pthread_create(&threads[i], NULL, open_some, &opens) != 0)
            die("thread");
    for (unsigned i = 0; i < at_once; i++)
        pthread_join(threads[i], NULL);
    free(threads);
    if (opens.failed > 0) {
        fprintf(stderr, "load: %" PRIu64 " of %" PRIu64 " connections failed\n", opens.failed, count);
        return 1;
    }
    printf("%.1f\n", (double)count / (seconds() - start));
    return 0;
}

int main(int argc, char **argv) {
    signal(SIGPIPE, SIG_IGN);
    if (argc == 2 && strcmp(argv[1], "serve") == 0)
        return serve();
    if (argc == 2 && strcmp(argv[1], "port") == 0)
        return printf("%u\n", free_port()) < 0;
    if (argc >= 5 && (strcmp(argv[1], "down") == 0 || strcmp(argv[1], "up") == 0))
        return transfer(argv[1][0] == 'u', argv[2], argv[3], strtoull(argv[4], NULL, 10), argc > 5);
    if (argc == 6 && strcmp(argv[1], "opens") == 0)
        return open_many(argv[2], argv[3], strtoull(argv[4], NULL, 10), (unsigned)atoi(argv[5]));
    fprintf(stderr, "usage: load serve | port | down|up HOST PORT BYTES [-p] | opens HOST PORT COUNT AT_ONCE\n");
    return 2;
}
