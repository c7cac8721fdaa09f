#pragma once
/* The client's effective options: command line first, then configuration files, first value wins (ssh_config(5)); then
 * defaults. Filled by options.c (command line) through config.c (keywords); immutable once the program runs. All
 * strings owned here. */
#include "engine/error.h"
#include "engine/io.h"
#include "engine/log.h"
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

struct string_list {
    char **items;
    uint32_t count;
};

enum forward_kind { FORWARD_LOCAL, FORWARD_REMOTE };
enum gateway {
    GATEWAY_LOOPBACK /* no bind address, no -g */,
    GATEWAY_ALL /* empty, "*", or -g */,
    GATEWAY_ADDRESS /* bind holds it */
};
struct forward_spec {
    enum forward_kind kind;
    char *bind;    /* as written; NULL when none was given; "" or "*": all interfaces */
    uint16_t port; /* 0 for FORWARD_REMOTE only: the server chooses */
    char *host;    /* target */
    uint16_t host_port;
    char *text; /* as written, for messages: "10000:lan-host:80" */
};

/* "[bind:]port:host:hostport" in every spelling of ssh(1): IPv6 in brackets, "*" and empty bind, service names, \: for
 * a colon. A '/' makes a field a socket path, as in ssh. ERR_CONFIG with *why (static); ERR_UNSUPPORTED with *why for
 * socket paths and SOCKS. ERR_NOMEM with *why. */
MUST_USE int forward_spec_parse(enum forward_kind kind, const char *text, struct forward_spec *spec, const char **why);
void forward_spec_deinit(struct forward_spec *spec);

enum host_key_check { HOST_KEY_CHECK_ASK, HOST_KEY_CHECK_YES, HOST_KEY_CHECK_NO, HOST_KEY_CHECK_ACCEPT_NEW };

struct options {
    char *host_arg; /* as typed */
    char *hostname; /* after HostName and tokens: what is connected to */
    char *host_key_alias;
    char *user;
    uint16_t port;
    int family; /* AF_UNSPEC, AF_INET, AF_INET6 */
    char *bind_address;
    uint32_t connect_timeout_s;   /* 0: the system's */
    uint32_t connection_attempts; /* ≥ 1, one a second */
    bool tcp_keepalive;
    uint32_t server_alive_interval_s, server_alive_count_max;

    struct string_list identity_files; /* tokens and ~ expanded; defaults when none is given */
    bool identities_only;
    bool identity_files_given;
    char *identity_agent; /* socket path; NULL: SSH_AUTH_SOCK; "none" */
    bool pubkey_authentication, password_authentication, kbd_interactive_authentication;
    char *preferred_authentications;
    uint32_t number_of_password_prompts;
    bool batch_mode;

    enum host_key_check strict_host_key_checking;
    struct string_list user_known_hosts_files, global_known_hosts_files;
    bool hash_known_hosts, check_host_ip;
    uint32_t required_rsa_bits; /* smaller RSA keys, of hosts and of ours, are refused; ≥ 1024 */

    char *ciphers; /* NULL: leat's order; only the three AEADs survive, checked here */
    char *kex_algorithms, *host_key_algorithms, *pubkey_accepted_algorithms; /* NULL: libssh's defaults, best first */
    uint64_t rekey_limit_bytes;                                              /* 0: default */
    uint32_t rekey_limit_s;                                                  /* 0: none */
    char *proxy_command; /* NULL: none; tokens expanded; ProxyJump has become one */
    char *proxy_jump;    /* as given, for messages; NULL: none */

    struct forward_spec *forwards;
    uint32_t forwards_count;
    bool gateway_ports, exit_on_forward_failure, clear_all_forwardings;

    bool background; /* -f */
    enum log_level log_level;
    char *log_file;    /* -E */
    bool version_only; /* -V */
    bool print_config; /* -G */

    uint32_t connections; /* 1..LIMIT_SHARDS, no fewer than stripes; 0: auto */
    uint32_t stripes;     /* 1..STRIPE_LANES_MAX: SSH connections for one forwarded connection */
    uint32_t shards;      /* 0: as many as connections; of auto: as there are processors */
    enum io_backend io_backend;
    uint32_t max_window;   /* 0: by peer */
    uint64_t memory_limit; /* LIMIT_WINDOW_BUDGET_BYTES by default */
    uint32_t drain_timeout_s;
    bool drain_timeout_given;
};

/* Parses argv, reads the configuration files, expands tokens, fills in defaults. Every error is already reported on
 * stderr in one line
 * ("leat: …", with file:line for files). 0; ERR_CONFIG: exit 255 (usage was printed for a wrong command line). */
MUST_USE int options_read(struct options *options, int argc, char **argv);
void options_deinit(struct options *options);
/* -G: one "keyword value" a line, in the spelling of `ssh -G`, with tokens and ~ expanded. */
void options_print(const struct options *options, FILE *out);
