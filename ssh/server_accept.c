/* Shard 0: what becomes of an accepted connection. Admission is decided here, before anything is spent on it; then it
 * goes to a shard (server_choice.c). */
#include "engine/limits.h"
#include "engine/resolve.h"
#include "engine/tcp.h"
#include "ssh/audit.h"
#include "ssh/server_internal.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Refusals are a flood when they matter: one line at most in so long, with their number. */
#define REFUSED_TELL_NS SECOND_NS

void server_tune(int fd, const struct server_options *options) {
    int on = options->tcp_keepalive;
    tcp_tune(fd);
    (void)setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
}

const char *server_address_text(const struct sockaddr *address, const char *fallback, char *out, size_t cap) {
    char host[64];
    if (address->sa_family == AF_INET || address->sa_family == AF_INET6)
        snprintf(out, cap, "%s port %u", address_host(address, host, sizeof(host)), address_port(address));
    else
        snprintf(out, cap, "%s", fallback);
    return out;
}

static void tell_refused(struct server_main *main, const struct sockaddr *address, const char *why) {
    uint64_t now = shard_now(main->server.shards[0].shard);
    main->refused++;
    if (main->refused_told_ns != 0 && now - main->refused_told_ns < REFUSED_TELL_NS)
        return;
    char source[72], detail[64];
    uint64_t untold = main->refused - main->refused_told - 1;
    snprintf(detail, sizeof(detail), "and %llu more since the last such line", (unsigned long long)untold);
    audit_log(LOG_LEVEL_INFO, &(struct audit){.event = "connection refused",
                                              .source = server_address_text(address, "unknown", source, sizeof(source)),
                                              .detail = untold > 0 ? detail : NULL,
                                              .reason = why});
    main->refused_told = main->refused;
    main->refused_told_ns = now;
}

/* sshd's words, where the client can still read them. */
static void refuse(struct server_main *main, int fd, const struct sockaddr *address, const char *why) {
    static const char words[] = "Exceeded MaxStartups\r\n";
    tell_refused(main, address, why);
    (void)!send(fd, words, sizeof(words) - 1, MSG_NOSIGNAL | MSG_DONTWAIT);
    io_close(main->server.shards[0].shard->io, fd, IO_CLOSE);
}

/* ---- SSH ---- */

struct incoming {
    struct server_shard *on;
    struct startup startup;
};

static void run_incoming(void *arg, int64_t fd) {
    struct incoming *incoming = arg;
    server_connection_start(incoming->on, (int)fd, &incoming->startup);
    free(incoming);
}

static int hand_over(struct server_shard *on, int fd, const struct startup *startup) {
    struct incoming *incoming = malloc(sizeof(*incoming));
    if (incoming == NULL)
        return ERR_NOMEM;
    *incoming = (struct incoming){.on = on, .startup = *startup};
    atomic_fetch_add(&on->load, 1);
    int err = shard_post(on->shard, run_incoming, incoming, fd);
    if (err == 0)
        return 0;
    free(incoming);
    server_shard_unload(on);
    return err;
}

static uint32_t dice(void) {
    return arc4random_uniform(100);
}

static void accept_ssh(struct server_main *main, int fd) {
    struct server_shard *first = &main->server.shards[0], *on = server_choose(&main->server);
    struct sockaddr_storage storage = {.ss_family = AF_UNSPEC};
    struct sockaddr *address = (struct sockaddr *)&storage;
    socklen_t len = sizeof(storage);
    struct startup startup;
    const char *why = "every shard has as many connections as it may";
    if (getpeername(fd, address, &len) != 0) /* it has gone already */
        return io_close(first->shard->io, fd, IO_CLOSE);
    if (on == NULL)
        return refuse(main, fd, address, why);
    int err = startups_enter(main->server.startups, first->generation->options, address, dice(), &startup, &why);
    if (err != 0)
        return refuse(main, fd, address, err == ERR_LIMIT ? why : err_text(err));
    err = hand_over(on, fd, &startup);
    if (err == 0)
        return;
    startups_leave(&startup);
    refuse(main, fd, address, err_text(err));
}

/* ---- Relay ---- */

static void run_relay(void *arg, int64_t index) {
    struct plain_relay *relay = arg;
    struct server_shard *on = (struct server_shard *)(intptr_t)index;
    plain_relay_start(on, relay);
}

static int hand_over_relay(struct server_shard *on, const struct server_target *target, int fd) {
    if (on == NULL)
        return ERR_LIMIT;
    struct plain_relay *relay = plain_relay_create(target, fd);
    if (relay == NULL)
        return ERR_NOMEM;
    atomic_fetch_add(&on->load, 1);
    int err = shard_post(on->shard, run_relay, relay, (intptr_t)on);
    if (err == 0)
        return 0;
    server_shard_unload(on);
    free(relay);
    return err;
}

static void accept_relay(struct server_main *main, const struct server_target *target, int fd) {
    int err = hand_over_relay(server_choose(&main->server), target, fd);
    if (err == 0)
        return;
    struct sockaddr_storage address = {.ss_family = AF_UNSPEC};
    socklen_t len = sizeof(address);
    char source[72], requested[320];
    (void)getpeername(fd, (struct sockaddr *)&address, &len);
    server_address_text((struct sockaddr *)&address, "unknown", source, sizeof(source));
    snprintf(requested, sizeof(requested), "%s port %u", target->host, target->port);
    audit_log(LOG_LEVEL_INFO, &(struct audit){.event = "forward refused",
                                              .forward = "relay",
                                              .source = source,
                                              .requested = requested,
                                              .reason = err_text(err)});
    io_close(main->server.shards[0].shard->io, fd, IO_CLOSE_RESET);
}

void server_accept(struct listener *listener, int fd) {
    struct server_listen *listen = listener->owner;
    if (listen->main->server.shards[0].draining)
        return io_close(listener->shard->io, fd, IO_CLOSE);
    server_watch(listen->main);
    if (listen->target != NULL)
        accept_relay(listen->main, listen->target, fd);
    else
        accept_ssh(listen->main, fd);
}
