#include "bench/by_hand.h"
#include "bench/load.h"
#include "bench/progress.h"
#include "bench/stream.h"
#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define REDRAW_NS 100000000L

static int failed(const char *what, const char *why) {
    fprintf(stderr, "leat-bench: %s: %s\n", what, why);
    return BENCH_FAILED;
}

static int listen_at(uint16_t port, struct sockaddr_in *address) {
    socklen_t len = sizeof(*address);
    int one = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    *address =
        (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK), .sin_port = htons(port)};
    if (fd < 0)
        return -1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    if (bind(fd, (struct sockaddr *)address, len) == 0 && listen(fd, SOMAXCONN) == 0 &&
        getsockname(fd, (struct sockaddr *)address, &len) == 0)
        return fd;
    int error = errno;
    close(fd);
    errno = error;
    return -1;
}

int by_hand_target(const struct bench_options *options) {
    struct sockaddr_in address;
    int listener = listen_at(options->target_port, &address);
    if (listener < 0)
        return failed("target", strerror(errno));
    if (!stream_setup())
        return failed("content", strerror(errno));
    printf("%u\n", ntohs(address.sin_port));
    fflush(stdout);
    return target_serve(listener, STDIN_FILENO);
}

static void draw(double began, uint64_t done, uint64_t total) {
    double took = progress_now() - began + 1e-9, rate = (double)done / took;
    double left = rate > 0 ? (double)(total - done) / rate : 0;
    fprintf(stderr, "\r  %7.0f MB/s   %5.1f %%  of %.1f GB   %4.0f s left \033[K", rate / 1e6,
            100.0 * (double)done / (double)total, (double)total / 1e9, left);
}

/* Redraws the line until the job has ended. */
static void watch(struct load *load, uint64_t total) {
    const struct timespec pause = {.tv_nsec = REDRAW_NS};
    double began = progress_now();
    uint64_t done = 0;
    while (load_look(load, &done)) {
        draw(began, done, total);
        nanosleep(&pause, NULL);
    }
    draw(began, done, total);
    fputc('\n', stderr);
}

static bool is_direction(const char *word) {
    return strcmp(word, "down") == 0 || strcmp(word, "up") == 0;
}

static int usage(const char *word, const char *what) {
    fprintf(stderr, "leat-bench: load: '%s' is not %s\n", word, what);
    return BENCH_USAGE;
}

int by_hand_load(const struct bench_options *options) {
    const struct place here = PLACE_HERE;
    bool up = strcmp(options->words[0], "up") == 0;
    struct load_job job = {.kind = up ? LOAD_UP : LOAD_DOWN, .flows = 1, .key = (uint64_t)progress_now()};
    if (!is_direction(options->words[0]))
        return usage(options->words[0], "down or up");
    if (!bench_options_address(options->words[1], &job.address))
        return usage(options->words[1], "HOST:PORT (with IPv4)");
    if (!bench_options_bytes(options->words[2], &job.bytes_per_flow))
        return usage(options->words[2], "a number of bytes (500M, 2G)");
    struct load_result *result = calloc(1, sizeof(*result));
    struct load *load = result != NULL ? load_start(&job, &here) : NULL;
    if (load == NULL) {
        free(result);
        return failed("load", strerror(errno));
    }
    if (isatty(STDERR_FILENO) == 1 && !options->quiet)
        watch(load, job.bytes_per_flow);
    load_wait(load, result);
    uint64_t arrived = up ? result->up_bytes : result->down_bytes;
    int status = result->ok ? BENCH_FINE : failed("load", result->why);
    if (status == BENCH_FINE)
        printf("%.6f %.1f\n", result->measured_s, (double)arrived / result->measured_s / 1e6);
    free(result);
    return status;
}
