#pragma once
/* One SSH connection of leatd, from accept to its last line in the log. Lives and dies on its shard.
 *
 *   HANDSHAKE ──authenticated──► SERVING ──session over──► CLOSING ──listeners closed──► gone (server_connection_gone)
 *       └──────── refused, timed out ───────────────────────┘ */
#include "ssh/policy.h"
#include "ssh/server_handshake.h"
#include "ssh/session.h"
#include "ssh/startups.h"

struct server_shard;
struct server_listener;

struct server_connection {
    struct server_shard *on;
    struct list node; /* in on->connections */
    uint64_t number;
    struct sockaddr_storage address, local_address;
    char source[72]; /* "192.0.2.7 port 40000" */
    struct server_handshake handshake;
    struct session session;
    struct server_config *config;   /* references */
    struct server_options *options; /* for the address, then for the user */
    struct policy policy;
    struct startup startup;
    uint64_t opened_ns;
    int fd;
    bool handshaking, serving, no_more_sessions, draining;
    /* of server_forward.c and server_shell.c */
    struct list listeners; /* struct server_listener */
    struct list shells;    /* struct server_shell: the session channels */
    uint32_t listeners_count, session_channels, forwards_open;
    struct timer unused; /* UnusedConnectionTimeout */
    struct timer idle;   /* ChannelTimeout of all channels together */
    uint32_t channels_open;
    /* private */
    struct task look; /* what the state asks for, at the end of the turn */
    bool has_handshake;
};

/* Takes fd over. On failure it is closed and one line was logged. */
void server_connection_start(struct server_shard *on, int fd, struct startup *startup);
/* Its end, told to the peer where that is possible. Idempotent. */
void server_connection_end(struct server_connection *connection, int err, const char *reason);
/* Drain: nothing new; ends by itself with its last forwarded connection. */
void server_connection_drain(struct server_connection *connection);
/* A channel or remote listener began or ended: UnusedConnectionTimeout and drain look at it. */
void server_connection_channels(struct server_connection *connection, int change);
/* USR1: the connection and its flows, one line each. */
void server_connection_print(const struct server_connection *connection);
