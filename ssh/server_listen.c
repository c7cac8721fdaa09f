/* Which addresses are listened on. A plan is made of what the options want, on top of what there is: an address that
 * stays keeps its socket, so that nobody who connects during a reload is turned away; a new one is bound before any old
 * one is closed, so that a plan that fails changes nothing.
 *
 *   options ──plan──► wanted (kept, or fresh: bound now) ──commit──► served by shard 0; the rest closed
 *                                                       └─rollback─► fresh ones closed, as before */
#include "engine/check.h"
#include "engine/limits.h"
#include "engine/resolve.h"
#include "ssh/server_internal.h"
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define LISTEN_BACKLOG 4096
/* Each tells the main thread once, when it is closed, and those of two configurations may be about. */
#define LISTENS_MAX (LIMIT_MAILBOX_MESSAGES / 4)

struct plan {
    struct server_main *main;
    bool starting;
    uint32_t wanted, failed;
};

static void target_free(struct server_target *target) {
    if (target == NULL)
        return;
    free(target->host);
    free(target->text);
    free(target);
}

static struct server_target *target_create(const struct relay_spec *relay) {
    struct server_target *target = calloc(1, sizeof(*target));
    if (target == NULL)
        return NULL;
    *target = (struct server_target){.host = strdup(relay->host), .port = relay->port, .text = strdup(relay->text)};
    if (target->host != NULL && target->text != NULL)
        return target;
    target_free(target);
    return NULL;
}

static void listen_unbind(struct server_listen *listen) {
    if (listen->fd >= 0)
        close(listen->fd);
    listen->fd = -1;
}

static void listen_free(struct server_listen *listen) {
    list_remove(&listen->node);
    listen_unbind(listen);
    target_free(listen->target);
    target_free(listen->next);
    free(listen);
}

/* ---- the plan ---- */

static bool same_address(const struct sockaddr_storage *a, const struct sockaddr_storage *b) {
    const struct sockaddr_in *a4 = (const void *)a, *b4 = (const void *)b;
    const struct sockaddr_in6 *a6 = (const void *)a, *b6 = (const void *)b;
    if (a->ss_family != b->ss_family)
        return false;
    if (a->ss_family == AF_INET)
        return a4->sin_port == b4->sin_port && a4->sin_addr.s_addr == b4->sin_addr.s_addr;
    return a6->sin6_port == b6->sin6_port && a6->sin6_scope_id == b6->sin6_scope_id &&
           memcmp(&a6->sin6_addr, &b6->sin6_addr, sizeof(a6->sin6_addr)) == 0;
}

static struct server_listen *find(struct server_main *main, const struct sockaddr_storage *address) {
    list_for_each (node, &main->listens) {
        struct server_listen *listen = list_entry(node, struct server_listen, node);
        if (same_address(&listen->address, address))
            return listen;
    }
    return NULL;
}

static struct server_listen *listen_create(struct server_main *main, const struct address *address) {
    struct server_listen *listen = calloc(1, sizeof(*listen));
    if (listen == NULL)
        return NULL;
    *listen = (struct server_listen){
        .main = main, .address = address->addr, .address_len = address->len, .fd = -1, .fresh = true};
    list_push_back(&main->listens, &listen->node);
    return listen;
}

static void report(const struct plan *plan, const struct server_listen *listen, int error_number) {
    char host[64];
    const struct sockaddr *address = (const struct sockaddr *)&listen->address;
    /* A machine without IPv6 is no fault of the configuration. */
    bool no_family = error_number == EAFNOSUPPORT || error_number == EADDRNOTAVAIL;
    log_line(no_family && plan->starting ? LOG_LEVEL_VERBOSE : LOG_LEVEL_ERROR, "Bind to port %u on %s failed: %s.",
             address_port(address), address_host(address, host, sizeof(host)), strerror(error_number));
}

/* Not every address can be had; one that could not before may still not. */
static void bind_one(struct plan *plan, struct server_listen *listen) {
    if (listen->serving || listen->fd >= 0)
        return;
    if (listen_bind((const struct sockaddr *)&listen->address, listen->address_len, LISTEN_BACKLOG, &listen->fd) == 0)
        return;
    report(plan, listen, errno);
    if (listen->fresh)
        plan->failed++;
}

static int want_address(struct plan *plan, const struct address *address, const struct relay_spec *relay) {
    struct server_listen *listen = find(plan->main, &address->addr);
    char text[80];
    bool anonymous = address_port((const struct sockaddr *)&address->addr) == 0;
    if (listen != NULL && listen->wanted && !anonymous) {
        if (relay == NULL && listen->next == NULL)
            return 0;
        server_address_text((const struct sockaddr *)&address->addr, "", text, sizeof(text));
        log_error("two directives listen on %s", text);
        return ERR_CONFIG;
    }
    if (plan->wanted++ == LISTENS_MAX) {
        log_error("more than %u addresses to listen on", LISTENS_MAX);
        return ERR_CONFIG;
    }
    if (listen == NULL || listen->wanted)
        listen = listen_create(plan->main, address);
    struct server_target *target = listen != NULL && relay != NULL ? target_create(relay) : NULL;
    if (listen == NULL || (relay != NULL && target == NULL)) {
        log_error("cannot listen: %s", err_text(ERR_NOMEM));
        return ERR_NOMEM;
    }
    listen->wanted = true;
    target_free(listen->next);
    listen->next = target;
    bind_one(plan, listen);
    return 0;
}

static int want(struct plan *plan, const struct listen_address *wanted, int family, const struct relay_spec *relay) {
    struct resolve_result result;
    resolve_now(wanted->host, wanted->port, family, true, &result);
    if (result.err != 0) {
        log_error("cannot resolve the address to listen on \"%s\": %s", wanted->host != NULL ? wanted->host : "*",
                  result.reason != NULL ? result.reason : err_text(result.err));
        plan->failed++;
        return result.err;
    }
    int err = 0;
    for (unsigned i = 0; err == 0 && i < result.count; i++)
        err = want_address(plan, &result.addresses[i], relay);
    free(result.addresses);
    return err;
}

static uint32_t bound_count(const struct server_main *main) {
    uint32_t bound = 0;
    list_for_each (node, &main->listens) {
        const struct server_listen *listen = list_entry(node, struct server_listen, node);
        bound += listen->wanted && (listen->serving || listen->fd >= 0);
    }
    return bound;
}

int server_listen_plan(struct server_main *main, const struct server_options *options, bool starting) {
    struct plan plan = {.main = main, .starting = starting};
    int err = 0;
    list_for_each (node, &main->listens)
        list_entry(node, struct server_listen, node)->wanted = false;
    for (uint32_t i = 0; err == 0 && i < options->listen_count; i++)
        err = want(&plan, &options->listen[i], options->family, NULL);
    for (uint32_t i = 0; err == 0 && i < options->relays_count; i++)
        err = want(&plan, &options->relays[i].listen, options->family, &options->relays[i]);
    if (err == ERR_NOMEM || err == ERR_CONFIG)
        return ERR_CONFIG;
    if (!starting && plan.failed > 0)
        return ERR_CONFIG;
    if (bound_count(main) > 0)
        return 0;
    log_error("Cannot bind any address.");
    return ERR_CONFIG;
}

void server_listen_rollback(struct server_main *main) {
    list_for_each_safe (node, after, &main->listens) {
        struct server_listen *listen = list_entry(node, struct server_listen, node);
        target_free(listen->next);
        listen->next = NULL;
        if (listen->fresh)
            listen_free(listen);
        else if (!listen->serving)
            listen_unbind(listen);
    }
}

/* ---- shard 0 ---- */

static void run_serve(void *arg, int64_t value) {
    struct server_listen *listen = arg;
    (void)value;
    int fd = listen->fd;
    listen->fd = -1;
    listener_init(&listen->listener, listen->main->server.shards[0].shard, fd, server_accept, listen);
}

static void run_retarget(void *arg, int64_t target) {
    struct server_listen *listen = arg;
    target_free(listen->target);
    listen->target = (struct server_target *)(intptr_t)target;
}

static void on_closed_news(void *arg, int64_t value) {
    struct server_listen *listen = arg;
    (void)value;
    listen->main->listeners_open--;
    listen_free(listen);
}

/* There is news of listeners alone, and the box holds as many as there can be. */
static void on_closed(struct listener *listener) {
    struct server_listen *listen = listener->owner;
    CHECK(mailbox_post(listen->main->news, (struct message){.run = on_closed_news, .arg = listen}) == 0);
}

static void run_close(void *arg, int64_t value) {
    struct server_listen *listen = arg;
    (void)value;
    listener_close(&listen->listener, on_closed);
}

/* ---- and back on the main thread ---- */

static void tell_listening(const struct server_listen *listen) {
    struct sockaddr_storage address;
    socklen_t len = sizeof(address);
    char host[64];
    if (getsockname(listen->fd, (struct sockaddr *)&address, &len) != 0)
        return;
    const struct sockaddr *bound = (const struct sockaddr *)&address;
    const char *relay = listen->target != NULL ? listen->target->text : NULL;
    log_info("Server listening on %s port %u.%s%s", address_host(bound, host, sizeof(host)), address_port(bound),
             relay != NULL ? " Relay " : "", relay != NULL ? relay : "");
}

static void serve(struct server_main *main, struct server_listen *listen) {
    listen->fresh = false;
    if (listen->serving) {
        server_post(main, 0, run_retarget, listen, (intptr_t)listen->next);
        listen->next = NULL;
        return;
    }
    target_free(listen->target);
    listen->target = listen->next;
    listen->next = NULL;
    if (listen->fd < 0)
        return;
    tell_listening(listen);
    listen->serving = true;
    main->listeners_open++;
    server_post(main, 0, run_serve, listen, 0);
}

static void stop(struct server_main *main, struct server_listen *listen) {
    if (!listen->serving)
        return listen_free(listen);
    /* Out of sight of the next plan, which may want the address again. */
    list_remove(&listen->node);
    server_post(main, 0, run_close, listen, 0);
}

void server_listen_commit(struct server_main *main) {
    list_for_each_safe (node, after, &main->listens) {
        struct server_listen *listen = list_entry(node, struct server_listen, node);
        if (listen->wanted)
            serve(main, listen);
        else
            stop(main, listen);
    }
}

void server_listen_close_all(struct server_main *main) {
    list_for_each_safe (node, after, &main->listens)
        stop(main, list_entry(node, struct server_listen, node));
}

void server_listen_free_all(struct server_main *main) {
    list_for_each_safe (node, after, &main->listens)
        listen_free(list_entry(node, struct server_listen, node));
}
