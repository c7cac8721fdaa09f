#pragma once
/* The running relay: shards with their connections, listeners, and the main thread that watches over them.
 *
 *   main thread: configuration, keys, binding, privileges ─► shards ─► signals (HUP reload, TERM drain, USR1 state)
 *   shard 0: listeners of SSH and of Relay; an accepted socket goes over its mailbox to the shard with the
 *            fewest connections among those whose thread is not saturated
 *   shard i: connections
 *
 *   RUNNING ── TERM ──► DRAINING (no listeners; no new channels) ── all gone, or DrainTimeout, or TERM again ──► ENDING
 */
#include "engine/splice.h"
#include "ssh/saturation.h"
#include "ssh/server_config.h"
#include "ssh/server_connection.h"
#include "ssh/startups.h"
#include "ssh/window.h"

struct server;

/* What one configuration amounts to, replaced whole by a reload. Shared by reference count; a shard holds the one it
 * hands to new connections. */
struct server_generation {
    _Atomic uint32_t references;
    struct server_config *config;
    struct server_options *options; /* the global section */
    struct server_keys *keys;
};
struct server_generation *server_generation_ref(struct server_generation *generation);
void server_generation_unref(struct server_generation *generation);

struct server_shard {
    struct server *server;
    struct shard *shard;
    struct server_generation *generation;
    struct server_bind *bind; /* of the generation's keys */
    struct splice_pool *pipes;
    struct list connections, relays, stripes;
    uint32_t connections_count, relays_count;
    _Atomic uint32_t load;        /* connections, relays and striped connections on it */
    _Atomic bool saturated;       /* its thread has no more to give: others are chosen first */
    struct saturation saturation; /* shard 0's */
    bool draining, ending;
};

struct server {
    struct window_budget budget;
    struct startups *startups;
    _Atomic uint64_t connections_total; /* numbers them */
    bool runs_as_root;
    struct server_shard *shards;
    uint32_t shards_count;
    /* the rest is private to server*.c: server_internal.h */
};

/* Runs leatd to its end. Returns the exit status. on_ready: everything is bound and privileges are given up. */
int server_run(const struct server_command_line *line, struct server_config *config, void (*on_ready)(void));
/* -i: one connection on standard input and output. */
int server_run_inetd(const struct server_command_line *line, struct server_config *config);
/* -t: would it start with this configuration, keys included? Returns the exit status; what is wrong was reported. */
int server_check(struct server_config *config);
/* The shard's connection is gone, its memory too: told by server_connection.c as its last act. */
void server_connection_gone(struct server_shard *on);
