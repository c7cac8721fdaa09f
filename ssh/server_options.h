#pragma once
/* leatd's effective options for one connection: sshd_config(5) after Match has been decided, the first value wins, then
 * defaults. Immutable once made; shared by reference count (atomic), since connections outlive a reload.
 *
 * What only the program as a whole can have (listeners, host keys, shards …) is in it too, and is taken from the
 * section before the first Match. */
#include "engine/error.h"
#include "engine/io.h"
#include "engine/log.h"
#include "ssh/options.h"
#include "ssh/permission.h"
#include <stdatomic.h>
#include <stdio.h>
#include <sys/types.h>

enum { FORWARDING_LOCAL = 1, FORWARDING_REMOTE = 2, FORWARDING_ALL = 3 }; /* bits of Allow…Forwarding */
#define SERVER_PID_FILE "/run/leatd.pid"                                  /* the default */
enum server_gateway { SERVER_GATEWAY_NO, SERVER_GATEWAY_YES, SERVER_GATEWAY_CLIENT_SPECIFIED };
enum log_format { LOG_FORMAT_TEXT, LOG_FORMAT_JSON };

struct channel_timeout {
    char *type;       /* pattern over channel types, "global" included */
    uint32_t seconds; /* 0: none */
};
struct listen_address { /* ListenAddress with Port, or Relay's left side; resolved when bound */
    char *host;         /* NULL: every address */
    uint16_t port;
};
struct relay_spec { /* Relay [bind:]port host:hostport */
    struct listen_address listen;
    char *host;
    uint16_t port;
    char *text; /* as written */
};

struct server_options {
    _Atomic uint32_t references;
    /* who may come in */
    struct string_list authorized_keys_files; /* with %h %u %U %%; relative to the home; "none": empty list */
    bool strict_modes, pubkey_authentication, permit_root_login, refuse_connection;
    bool touch_required, verify_required; /* PubkeyAuthOptions: of every security key */
    struct string_list allow_users, deny_users, allow_groups, deny_groups; /* patterns, as written */
    uint32_t max_auth_tries, max_sessions;
    uint32_t required_rsa_bits;
    char *banner; /* file; NULL: none */
    /* what they may do */
    uint8_t allow_tcp_forwarding, allow_streamlocal_forwarding; /* FORWARDING_ bits */
    bool allow_streamlocal_given;                               /* not only by default */
    bool disable_forwarding;
    enum server_gateway gateway_ports;
    struct permission_list permit_open, permit_listen;
    mode_t streamlocal_bind_mask;
    bool streamlocal_bind_unlink;
    /* how long */
    uint32_t login_grace_s; /* 0: no limit */
    uint32_t client_alive_interval_s, client_alive_count_max;
    struct channel_timeout *channel_timeouts;
    uint32_t channel_timeouts_count;
    uint32_t unused_connection_timeout_s; /* 0: none */
    /* the wire */
    char *ciphers, *kex_algorithms, *host_key_algorithms, *pubkey_accepted_algorithms; /* resolved; NULL: defaults */
    uint64_t rekey_limit_bytes;
    uint32_t rekey_limit_s;
    bool tcp_keepalive;
    char *version_addendum; /* NULL: none */
    uint32_t max_window;    /* 0: by peer */
    enum log_level log_level;
    /* the program */
    struct listen_address *listen;
    uint32_t listen_count;
    uint16_t *ports; /* of Port: what ListenAddress without a port takes, and is in `listen` already */
    uint32_t ports_count;
    int family;
    struct string_list host_keys; /* files; at least one, defaults included where they exist */
    bool host_keys_given;
    uint32_t max_startups_begin, max_startups_rate, max_startups_full; /* rate in percent */
    uint32_t per_source_max_startups;                                  /* UINT32_MAX: none */
    uint32_t per_source_bits4, per_source_bits6;                       /* PerSourceNetBlockSize */
    int syslog_facility;                                               /* LOG_AUTH … of syslog(3) */
    char *pid_file;                                                    /* NULL: none */
    uint32_t shards;                                                   /* 0: one per core */
    enum io_backend io_backend;
    uint64_t memory_limit;
    uint32_t drain_timeout_s;
    struct relay_spec *relays;
    uint32_t relays_count;
    enum log_format log_format;
    char *run_user, *run_group; /* User, Group; NULL: not given */
};

/* A connection's timeout for a channel type ("direct-tcpip", "session:shell" …) in seconds; 0: none. */
uint32_t server_options_channel_timeout(const struct server_options *options, const char *type);
struct server_options *server_options_ref(const struct server_options *options);
void server_options_unref(struct server_options *options); /* NULL is fine */
/* -T: one "keyword value" a line, in the spelling of `sshd -T`, leatd's own directives last. */
void server_options_print(const struct server_options *options, FILE *out);
