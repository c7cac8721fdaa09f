#include "traffic.h"
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define STALL_SECONDS 60.0
#define BLOCK_BYTES 65536u

struct header {
    uint64_t seed, up, down;
};

/* ---- the keyed stream: 64-bit words, each a hash of its index ---- */

static uint64_t word_at(uint64_t seed, uint64_t index) {
    uint64_t z = seed + (index + 1) * UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

/* How many of the bytes of the word at offset are there, at most len. */
static size_t part_of_word(uint64_t offset, size_t len) {
    size_t left = 8 - offset % 8;
    return left < len ? left : len;
}

/* Whole words by themselves: every byte of the end-to-end tests comes through here, twice. */
void stream_fill(uint64_t seed, uint64_t offset, uint8_t *out, size_t len) {
    for (size_t done = 0, n; done < len; done += n) {
        uint64_t word;
        for (; (offset + done) % 8 == 0 && len - done >= 8; done += 8) {
            word = word_at(seed, (offset + done) / 8);
            memcpy(out + done, &word, 8);
        }
        n = part_of_word(offset + done, len - done);
        word = word_at(seed, (offset + done) / 8);
        memcpy(out + done, (uint8_t *)&word + (offset + done) % 8, n);
    }
}

bool stream_check(uint64_t seed, uint64_t offset, const uint8_t *data, size_t len) {
    uint64_t wrong = 0;
    for (size_t done = 0, n; done < len; done += n) {
        uint64_t word, found;
        for (; (offset + done) % 8 == 0 && len - done >= 8; done += 8) {
            memcpy(&found, data + done, 8);
            wrong |= found ^ word_at(seed, (offset + done) / 8);
        }
        n = part_of_word(offset + done, len - done);
        word = word_at(seed, (offset + done) / 8);
        if (memcmp((uint8_t *)&word + (offset + done) % 8, data + done, n) != 0)
            return false;
    }
    return wrong == 0;
}

/* ---- both directions at once over one socket ---- */

struct exchange {
    int fd;
    uint64_t send_seed, send, receive_seed, receive;
    bool ended; /* the peer's EOF came */
    uint8_t out[BLOCK_BYTES], in[BLOCK_BYTES];
    uint64_t out_offset; /* stream offset of out[0] */
    size_t out_len;
    struct traffic_result result;
};

static void give_up(struct exchange *x, const char *what, uint64_t at) {
    x->result.ok = false;
    snprintf(x->result.why, sizeof(x->result.why), "%s at byte %llu (%s)", what, (unsigned long long)at,
             strerror(errno));
}

static bool send_some(struct exchange *x) {
    if (x->result.sent == x->out_offset + x->out_len) {
        x->out_offset += x->out_len;
        uint64_t left = x->send - x->out_offset;
        x->out_len = left < BLOCK_BYTES ? (size_t)left : BLOCK_BYTES;
        stream_fill(x->send_seed, x->out_offset, x->out, x->out_len);
    }
    size_t at = (size_t)(x->result.sent - x->out_offset);
    ssize_t n = send(x->fd, x->out + at, x->out_len - at, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n < 0 && errno != EAGAIN && errno != EINTR)
        return give_up(x, "send failed", x->result.sent), false;
    if (n > 0)
        x->result.sent += (uint64_t)n;
    if (x->result.sent == x->send)
        shutdown(x->fd, SHUT_WR);
    return true;
}

static bool receive_some(struct exchange *x) {
    ssize_t n = recv(x->fd, x->in, sizeof(x->in), MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return true;
    if (n < 0)
        return give_up(x, "receive failed", x->result.received), false;
    if (n == 0) {
        x->ended = true;
        if (x->result.received != x->receive)
            return give_up(x, "stream cut short", x->result.received), false;
        return true;
    }
    if (x->result.received + (uint64_t)n > x->receive)
        return give_up(x, "more than was sent", x->result.received), false;
    if (!stream_check(x->receive_seed, x->result.received, x->in, (size_t)n))
        return give_up(x, "wrong content", x->result.received), false;
    x->result.received += (uint64_t)n;
    return true;
}

static bool exchange_step(struct exchange *x, double stall_seconds) {
    struct pollfd pollfd = {.fd = x->fd};
    if (!x->ended)
        pollfd.events |= POLLIN;
    if (x->result.sent < x->send)
        pollfd.events |= POLLOUT;
    int n = poll(&pollfd, 1, (int)(stall_seconds * 1000));
    if (n == 0) {
        errno = ETIMEDOUT;
        return give_up(x, x->result.received < x->receive ? "no progress receiving" : "no progress sending",
                       x->result.received),
               false;
    }
    if ((pollfd.revents & POLLOUT) != 0 && !send_some(x))
        return false;
    return (pollfd.revents & (POLLIN | POLLHUP | POLLERR)) == 0 || x->ended || receive_some(x);
}

struct traffic_result traffic_exchange(int fd, uint64_t send_seed, uint64_t send, uint64_t receive_seed,
                                       uint64_t receive, double stall_seconds) {
    struct exchange *x = calloc(1, sizeof(*x));
    *x = (struct exchange){
        .fd = fd, .send_seed = send_seed, .send = send, .receive_seed = receive_seed, .receive = receive};
    x->result.ok = true;
    if (send == 0)
        shutdown(fd, SHUT_WR);
    while (x->result.ok && (x->result.sent < send || !x->ended))
        if (!exchange_step(x, stall_seconds))
            break;
    struct traffic_result result = x->result;
    free(x);
    return result;
}

/* ---- targets ---- */

struct target {
    int fd;
    enum target_mode mode;
    uint16_t port;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t idle;
    int *held;
    unsigned held_count, running;
    _Atomic unsigned accepted;
    unsigned failures;
    char why[128];
};
struct served {
    struct target *target;
    int fd;
};

static bool read_header(int fd, struct header *header) {
    for (size_t done = 0; done < sizeof(*header);) {
        ssize_t n = read(fd, (uint8_t *)header + done, sizeof(*header) - done);
        if (n <= 0)
            return false;
        done += (size_t)n;
    }
    return true;
}

static void serve_traffic(struct target *target, int fd) {
    struct header header;
    struct traffic_result result = {.why = "no header"};
    if (read_header(fd, &header))
        result = traffic_exchange(fd, ~header.seed, header.down, header.seed, header.up, STALL_SECONDS);
    pthread_mutex_lock(&target->lock);
    if (!result.ok && target->failures++ == 0)
        memcpy(target->why, result.why, sizeof(target->why));
    pthread_mutex_unlock(&target->lock);
}

static void serve_echo(int fd) {
    uint8_t block[BLOCK_BYTES];
    ssize_t n;
    while ((n = read(fd, block, sizeof(block))) > 0)
        for (ssize_t done = 0, m; done < n; done += m)
            if ((m = send(fd, block + done, (size_t)(n - done), MSG_NOSIGNAL)) <= 0)
                return;
}

static void serve_reset(int fd) {
    char byte;
    struct linger reset = {.l_onoff = 1};
    (void)!read(fd, &byte, 1);
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
}

static void *serve_one(void *arg) {
    struct served *served = arg;
    struct target *target = served->target;
    int fd = served->fd;
    free(served);
    if (target->mode == TARGET_TRAFFIC)
        serve_traffic(target, fd);
    else if (target->mode == TARGET_ECHO)
        serve_echo(fd);
    else if (target->mode == TARGET_RESET)
        serve_reset(fd);
    pthread_mutex_lock(&target->lock);
    if (target->mode == TARGET_HOLD)
        target->held[target->held_count++] = fd;
    else
        close(fd);
    target->running--;
    pthread_cond_broadcast(&target->idle);
    pthread_mutex_unlock(&target->lock);
    return NULL;
}

static void *accept_loop(void *arg) {
    struct target *target = arg;
    for (;;) {
        int fd = accept4(target->fd, NULL, NULL, SOCK_CLOEXEC);
        if (fd < 0)
            return NULL;
        atomic_fetch_add(&target->accepted, 1);
        struct served *served = malloc(sizeof(*served));
        *served = (struct served){.target = target, .fd = fd};
        pthread_mutex_lock(&target->lock);
        target->running++;
        target->held = realloc(target->held, (target->held_count + target->running) * sizeof(int));
        pthread_mutex_unlock(&target->lock);
        pthread_t thread;
        pthread_attr_t attr;
        pthread_attr_init(&attr);
        pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
        pthread_attr_setstacksize(&attr, 512 << 10);
        pthread_create(&thread, &attr, serve_one, served);
        pthread_attr_destroy(&attr);
    }
}

struct place {
    struct sockaddr_storage addr;
    socklen_t len;
};

/* A numeric address with a port, or the path of a Unix socket. */
static bool find_place(const char *host, uint16_t port, struct place *place) {
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV}, *found;
    struct sockaddr_un path = {.sun_family = AF_UNIX};
    char service[8];
    if (host[0] == '/') {
        snprintf(path.sun_path, sizeof(path.sun_path), "%s", host);
        memcpy(&place->addr, &path, place->len = sizeof(path));
        return strlen(host) < sizeof(path.sun_path);
    }
    snprintf(service, sizeof(service), "%u", port);
    if (getaddrinfo(host, service, &hints, &found) != 0)
        return false;
    memcpy(&place->addr, found->ai_addr, place->len = found->ai_addrlen);
    freeaddrinfo(found);
    return true;
}

static uint16_t port_of(const struct sockaddr_storage *addr) {
    if (addr->ss_family == AF_UNIX)
        return 0;
    return ntohs(addr->ss_family == AF_INET ? ((const struct sockaddr_in *)addr)->sin_port
                                            : ((const struct sockaddr_in6 *)addr)->sin6_port);
}

struct target *target_start(const char *host, enum target_mode mode) {
    struct target *target = calloc(1, sizeof(*target));
    struct place place;
    struct sockaddr_storage bound;
    socklen_t len = sizeof(bound);
    target->mode = mode;
    pthread_mutex_init(&target->lock, NULL);
    pthread_cond_init(&target->idle, NULL);
    target->fd = find_place(host, 0, &place) ? socket(place.addr.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0) : -1;
    if (target->fd < 0 || bind(target->fd, (struct sockaddr *)&place.addr, place.len) < 0 ||
        listen(target->fd, 4096) < 0 || getsockname(target->fd, (struct sockaddr *)&bound, &len) < 0) {
        perror("target");
        abort();
    }
    target->port = port_of(&bound);
    pthread_create(&target->thread, NULL, accept_loop, target);
    return target;
}

uint16_t target_port(const struct target *target) {
    return target->port;
}

unsigned target_accepted(const struct target *target) {
    return atomic_load(&target->accepted);
}

unsigned target_failures(const struct target *target, char *why, size_t cap) {
    struct target *t = (struct target *)target;
    pthread_mutex_lock(&t->lock);
    unsigned failures = t->failures;
    if (why != NULL)
        snprintf(why, cap, "%s", t->why);
    pthread_mutex_unlock(&t->lock);
    return failures;
}

void target_stop(struct target *target) {
    shutdown(target->fd, SHUT_RDWR);
    pthread_join(target->thread, NULL);
    close(target->fd);
    pthread_mutex_lock(&target->lock);
    while (target->running > 0)
        pthread_cond_wait(&target->idle, &target->lock);
    pthread_mutex_unlock(&target->lock);
    for (unsigned i = 0; i < target->held_count; i++)
        close(target->held[i]);
    free(target->held);
    pthread_mutex_destroy(&target->lock);
    pthread_cond_destroy(&target->idle);
    free(target);
}

/* ---- clients ---- */

int connect_to(const char *host, uint16_t port) {
    struct place place;
    int one = 1, fd = find_place(host, port, &place) ? socket(place.addr.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0) : -1;
    if (fd >= 0 && connect(fd, (struct sockaddr *)&place.addr, place.len) < 0) {
        int saved = errno;
        close(fd);
        errno = saved;
        fd = -1;
    }
    if (fd >= 0)
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    return fd;
}

int connect_soon(const char *host, uint16_t port, double seconds) {
    struct timespec pause = {.tv_nsec = 20000000};
    for (double waited = 0; waited < seconds; waited += 0.02) {
        int fd = connect_to(host, port);
        if (fd >= 0)
            return fd;
        nanosleep(&pause, NULL);
    }
    return -1;
}

struct traffic_result traffic_through(const char *host, uint16_t port, uint64_t seed, uint64_t up, uint64_t down) {
    struct header header = {.seed = seed, .up = up, .down = down};
    struct traffic_result result = {.ok = false};
    int fd = connect_to(host, port);
    if (fd < 0 || send(fd, &header, sizeof(header), MSG_NOSIGNAL) != sizeof(header))
        snprintf(result.why, sizeof(result.why), "connect: %s", strerror(errno));
    else
        result = traffic_exchange(fd, seed, up, ~seed, down, STALL_SECONDS);
    if (fd >= 0)
        close(fd);
    return result;
}

struct one_of_many {
    const char *host;
    uint16_t port;
    uint64_t seed, up, down;
    pthread_t thread;
    struct traffic_result result;
};

static void *run_one(void *arg) {
    struct one_of_many *one = arg;
    one->result = traffic_through(one->host, one->port, one->seed, one->up, one->down);
    return NULL;
}

unsigned traffic_many(const char *host, uint16_t port, unsigned flows, uint64_t seed, uint64_t up, uint64_t down,
                      char *why, size_t cap) {
    struct one_of_many *all = calloc(flows, sizeof(*all));
    pthread_attr_t attr;
    unsigned failed = 0;
    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, 512 << 10);
    for (unsigned i = 0; i < flows; i++) {
        all[i] = (struct one_of_many){.host = host, .port = port, .seed = seed + i, .up = up, .down = down};
        pthread_create(&all[i].thread, &attr, run_one, &all[i]);
    }
    for (unsigned i = 0; i < flows; i++) {
        pthread_join(all[i].thread, NULL);
        if (!all[i].result.ok && failed++ == 0)
            snprintf(why, cap, "flow %u: %s", i, all[i].result.why);
    }
    pthread_attr_destroy(&attr);
    free(all);
    return failed;
}
