/* The ceiling of a tunnel: what a bare loop does that reads, seals in place and writes, with its counterpart that
 * reads, opens in place and writes. No channels, no windows, no other connection: one AEAD stream for each direction of
 * one TCP connection, a thread for each.
 *
 *   ceiling near LISTEN_HOST LISTEN_PORT HOST PORT    plain connections come in, sealed ones go out
 *   ceiling far  LISTEN_HOST LISTEN_PORT HOST PORT    sealed connections come in, plain ones go out
 *
 * Packets are SSH's (RFC 4253 §6 with aes128-gcm@openssh.com), 32 KiB of payload each and eight to a write, as leat's.
 * Keys are constants: this measures, it protects nothing. */
#include "engine/check.h"
#include "ssh/aead.h"
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#define PAYLOAD_BYTES 32768u
#define BATCH 8u
#define HEADER_BYTES 14u /* as leat: length, padding length, message, channel, data length */
#define PACKET_MAX (HEADER_BYTES + PAYLOAD_BYTES + 20u + AEAD_TAG_BYTES)
#define RING_BYTES (4u * BATCH * PACKET_MAX)

_Noreturn static void die(const char *what) {
    fprintf(stderr, "ceiling: %s: %s\n", what, strerror(errno));
    exit(1);
}

struct direction {
    int from, to;
    bool seals;
};

static struct aead *make_aead(enum aead_direction direction) {
    static const uint8_t key[16] = {1}, iv[AEAD_IV_BYTES] = {2};
    struct aead *aead;
    if (aead_create(AEAD_AES128_GCM, direction, key, iv, &aead) != 0)
        die("cipher");
    return aead;
}

static bool write_all(int fd, struct iovec *iov, unsigned n) {
    while (n > 0) {
        ssize_t sent = writev(fd, iov, (int)n);
        if (sent < 0)
            return false;
        for (; n > 0 && (size_t)sent >= iov->iov_len; n--, iov++)
            sent -= (ssize_t)iov->iov_len;
        if (n > 0) {
            iov->iov_base = (uint8_t *)iov->iov_base + sent;
            iov->iov_len -= (size_t)sent;
        }
    }
    return true;
}

static void put_u32(uint8_t *at, uint32_t value) {
    value = htonl(value);
    memcpy(at, &value, 4);
}

static uint32_t get_u32(const uint8_t *at) {
    uint32_t value;
    memcpy(&value, at, 4);
    return ntohl(value);
}

/* Seals len bytes that lie behind the header; returns the packet's bytes. */
static size_t seal(struct aead *aead, uint8_t *packet, uint32_t len) {
    uint32_t plain = HEADER_BYTES - 4 + len, padding = 16 - plain % 16;
    if (padding < 4)
        padding += 16;
    put_u32(packet, plain + padding);
    packet[4] = (uint8_t)padding;
    put_u32(packet + 10, len);
    memset(packet + 4 + plain, 0, padding);
    CHECK(aead_seal(aead, 0, packet, plain + padding) == 0);
    return 4 + plain + padding + AEAD_TAG_BYTES;
}

static void run_seal(const struct direction *direction) {
    struct aead *aead = make_aead(AEAD_SEAL);
    static _Thread_local uint8_t packets[BATCH][PACKET_MAX + 64];
    struct iovec in[BATCH], out[BATCH];
    for (;;) {
        for (unsigned i = 0; i < BATCH; i++)
            in[i] = (struct iovec){packets[i] + HEADER_BYTES, PAYLOAD_BYTES};
        ssize_t got = readv(direction->from, in, BATCH);
        unsigned n = 0;
        for (; got > 0; n++) {
            uint32_t len = got > (ssize_t)PAYLOAD_BYTES ? PAYLOAD_BYTES : (uint32_t)got;
            out[n] = (struct iovec){packets[n], seal(aead, packets[n], len)};
            got -= (ssize_t)len;
        }
        if (n == 0 || !write_all(direction->to, out, n))
            break;
    }
    aead_destroy(aead);
}

/* Opens every whole packet of data[0..len); returns the bytes done with, or 0 with *broken. */
static size_t open_packets(struct aead *aead, uint8_t *data, size_t len, struct iovec *out, unsigned *n, unsigned max) {
    size_t used = 0;
    for (*n = 0; *n < max && len - used >= 4;) {
        uint8_t *packet = data + used;
        size_t bytes = 4 + get_u32(packet) + AEAD_TAG_BYTES;
        if (len - used < bytes)
            break;
        CHECK(aead_open(aead, 0, packet, (uint32_t)(bytes - 4 - AEAD_TAG_BYTES)) == 0);
        out[(*n)++] = (struct iovec){packet + HEADER_BYTES, get_u32(packet + 10)};
        used += bytes;
    }
    return used;
}

static void run_open(const struct direction *direction) {
    struct aead *aead = make_aead(AEAD_OPEN);
    uint8_t *ring = malloc(RING_BYTES);
    struct iovec out[64];
    size_t len = 0;
    while (ring != NULL) {
        ssize_t got = read(direction->from, ring + len, RING_BYTES - len);
        if (got <= 0)
            break;
        len += (size_t)got;
        size_t used = 0, done;
        unsigned n;
        while ((done = open_packets(aead, ring + used, len - used, out, &n, 64)) > 0) {
            used += done;
            if (!write_all(direction->to, out, n)) {
                free(ring);
                return aead_destroy(aead);
            }
        }
        memmove(ring, ring + used, len - used);
        len -= used;
    }
    free(ring);
    aead_destroy(aead);
}

static void *run(void *arg) {
    struct direction *direction = arg;
    if (direction->seals)
        run_seal(direction);
    else
        run_open(direction);
    shutdown(direction->to, SHUT_WR);
    free(direction);
    return NULL;
}

static void start(int from, int to, bool seals) {
    struct direction *direction = malloc(sizeof *direction);
    pthread_t thread;
    if (direction == NULL)
        die("memory");
    *direction = (struct direction){from, to, seals};
    if (pthread_create(&thread, NULL, run, direction) != 0)
        die("thread");
    pthread_detach(thread);
}

static struct sockaddr_in address(const char *host, const char *port) {
    struct sockaddr_in addr = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(port))};
    if (inet_pton(AF_INET, host, &addr.sin_addr) != 1)
        die(host);
    return addr;
}

static int listen_on(const char *host, const char *port) {
    struct sockaddr_in addr = address(host, port);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(fd, (struct sockaddr *)&addr, sizeof addr) < 0 || listen(fd, 128) < 0)
        die("listen");
    return fd;
}

/* The two sockets of a connection are closed with the process: a measurement makes a handful. */
int main(int argc, char **argv) {
    if (argc != 6 || (strcmp(argv[1], "near") != 0 && strcmp(argv[1], "far") != 0)) {
        fprintf(stderr, "usage: ceiling near|far LISTEN_HOST LISTEN_PORT HOST PORT\n");
        return 1;
    }
    bool near = strcmp(argv[1], "near") == 0;
    struct sockaddr_in target = address(argv[4], argv[5]);
    int listener = listen_on(argv[2], argv[3]), on = 1;
    signal(SIGPIPE, SIG_IGN);
    for (;;) {
        int in = accept4(listener, NULL, NULL, SOCK_CLOEXEC), out = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (in < 0 || out < 0 || connect(out, (struct sockaddr *)&target, sizeof target) < 0)
            die("connection");
        setsockopt(in, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        setsockopt(out, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        start(in, out, near);
        start(out, in, !near);
    }
}
