/* leat-bench's command line. Lists point into argv, but for what bench_options_deinit frees. */
#ifndef BENCH_BENCH_OPTIONS_H
#define BENCH_BENCH_OPTIONS_H

#include "bench/link.h"
#include "bench/place.h"
#include "bench/scenario.h"
#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#define BENCH_LIST_MAX 32
#define BENCH_DEFAULT_CIPHER "aes128-gcm@openssh.com"

enum bench_command {
    BENCH_RUN,
    BENCH_COMPARE,
    BENCH_REPORT,
    BENCH_LIST,
    BENCH_TARGET,
    BENCH_LOAD,
    BENCH_HELP,
    BENCH_VERSION
};

/* Exit statuses, beside 128 + signal. */
enum { BENCH_FINE = 0, BENCH_FAILED = 1, BENCH_USAGE = 2 };

/* A tunnel that listens already, measured like a peer. */
struct bench_tunnel {
    char *name;
    struct sockaddr_in address;
};

struct bench_pin {
    char *text; /* NULL: not pinned */
    cpu_set_t cpus;
};

struct bench_options {
    enum bench_command command;
    char **words; /* what is not an option: scenarios; OLD NEW; RESULTS; down|up HOST:PORT BYTES */
    unsigned word_count;

    enum scenario_size size;
    unsigned rounds; /* 0: as the scenario and the size have it */
    double seconds;  /* 0: likewise */
    const char *peers[BENCH_LIST_MAX + 1];
    unsigned peer_count; /* 0: the usual ones */
    const char *base;    /* NULL: ssh→sshd, or the first there is */
    const char *peers_file;
    const char *programs[BENCH_LIST_MAX + 1]; /* NAME=PATH, NULL-terminated */
    unsigned program_count;
    struct bench_tunnel tunnels[BENCH_LIST_MAX];
    unsigned tunnel_count;
    uint16_t target_port; /* 0: a free one */
    const char *cipher;
    struct link_shape shape; /* rtt_ms or rate_mbit: over a link */
    bool no_namespaces, keep, quiet;
    uint64_t seed;
    struct bench_pin client_pin, server_pin, load_pin;

    const char *json, *csv, *html, *percentiles;
    bool markdown;
    double tolerance; /* 0.05: 5 % */

    char *peers_text; /* what `peers` points into */
};

/* 0, or BENCH_USAGE after one line to `err` that names the option and what is wrong with it. To be deinitialised after
 * both. */
int bench_options_read(struct bench_options *options, int argc, char **argv, FILE *err);
void bench_options_deinit(struct bench_options *options);
void bench_options_help(FILE *out);

/* "2G", "500k", "1000": bytes, in powers of ten. False: not a number, 0 or too large. */
bool bench_options_bytes(const char *text, uint64_t *bytes);
/* "HOST:PORT" with a name or an IPv4 address. */
bool bench_options_address(const char *text, struct sockaddr_in *address);

#endif
