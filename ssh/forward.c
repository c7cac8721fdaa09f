#include "ssh/forward.h"
#include "engine/check.h"
#include "engine/limits.h"
#include "engine/log.h"
#include "ssh/client.h"
#include "ssh/forward_stripe.h"
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#define LISTEN_BACKLOG 4096

int forward_init(struct forward *forward, struct client *client, const struct forward_spec *spec) {
    *forward = (struct forward){.spec = spec, .client = client, .port = spec->port};
    list_init(&forward->node);
    unsigned sessions = client_sessions_count(client);
    forward->routes = calloc(sessions, sizeof(*forward->routes));
    if (forward->routes == NULL)
        return ERR_NOMEM;
    for (unsigned i = 0; i < sessions; i++)
        forward->routes[i] = (struct forward_route){.forward = forward, .session = client_session_at(client, i)};
    return 0;
}

void forward_deinit(struct forward *forward) {
    if (!forward->listening)
        for (unsigned i = 0; i < forward->listeners_count; i++)
            close(forward->fds[i]);
    free(forward->addresses.addresses);
    free(forward->fds);
    free(forward->listeners);
    free(forward->routes);
}

static void on_relay_end(void *owner, const struct relay_state *end) {
    struct forward_route *route = owner;
    const struct forward_spec *spec = route->forward->spec;
    char kind = spec->kind == FORWARD_LOCAL ? 'L' : 'R';
    client_relay_ended(route->session);
    if (end->what != NULL && !end->opened)
        return log_error("-%c %s: %s", kind, spec->text, end->what);
    log_verbose("-%c %s: connection closed%s%s: %" PRIu64 " bytes to the far side, %" PRIu64 " from it, %.3f s", kind,
                spec->text, end->what != NULL ? ": " : "", end->what != NULL ? end->what : "", end->bytes_to_peer,
                end->bytes_from_peer, (double)end->duration_ns / 1e9);
}

static const struct relay_watcher watcher = {.on_end = on_relay_end};

/* ---- local ---- */

/* ssh(1): no bind address: loopback, or everything with -g; "" and "*": everything; "localhost": loopback. */
static const char *bind_host(const struct forward *forward, bool *passive) {
    const char *bind = forward->spec->bind;
    *passive =
        bind != NULL ? bind[0] == '\0' || strcmp(bind, "*") == 0 : client_options(forward->client)->gateway_ports;
    if (*passive)
        return NULL;
    return bind != NULL ? bind : "localhost";
}

static bool is_loopback_name(const char *host) {
    return host != NULL && strcasecmp(host, "localhost") == 0;
}

/* The loopback is taken as numbers, so that neither a resolver nor an odd hosts file decides where we listen. */
static void loopback_addresses(uint16_t port, int family, struct resolve_result *result) {
    struct resolve_result part[2] = {{0}};
    if (family != AF_INET6)
        resolve_now("127.0.0.1", port, AF_INET, false, &part[0]);
    if (family != AF_INET)
        resolve_now("::1", port, AF_INET6, false, &part[1]);
    *result = (struct resolve_result){.addresses = calloc(2, sizeof(struct address))};
    if (result->addresses == NULL)
        result->err = ERR_NOMEM;
    for (int i = 0; i < 2; i++) {
        if (part[i].count > 0 && result->addresses != NULL)
            result->addresses[result->count++] = part[i].addresses[0];
        free(part[i].addresses);
    }
}

/* Not a fault of anybody's while another address is bound. */
static bool family_is_missing(int error_number) {
    return error_number == EADDRNOTAVAIL || error_number == EAFNOSUPPORT;
}

static void tell_unbound(const struct forward *forward, const struct address *address, int error_number) {
    char host[64];
    log_line(forward->listeners_count > 0 ? LOG_LEVEL_INFO : LOG_LEVEL_ERROR,
             "-L %s: cannot listen on %s port %u: %s%s", forward->spec->text,
             address_host((const struct sockaddr *)&address->addr, host, sizeof(host)),
             address_port((const struct sockaddr *)&address->addr), strerror(error_number),
             forward->listeners_count > 0 ? "; the forward's other addresses serve" : "");
}

/* As ssh(1), a forward stands as long as one of its addresses does. */
static int bind_all(struct forward *forward) {
    const struct resolve_result *addresses = &forward->addresses;
    int failed[LIMIT_ADDRESSES_PER_NAME] = {0}, err = 0;
    unsigned first = addresses->count; /* the failure that says most */
    for (unsigned i = 0; i < addresses->count; i++) {
        const struct address *address = &addresses->addresses[i];
        int fd, result = listen_bind((const struct sockaddr *)&address->addr, address->len, LISTEN_BACKLOG, &fd);
        if (result == 0) {
            forward->fds[forward->listeners_count++] = fd;
            continue;
        }
        failed[i] = errno;
        if (first < addresses->count && (family_is_missing(failed[i]) || !family_is_missing(failed[first])))
            continue;
        first = i;
        err = result;
    }
    bool stands = forward->listeners_count > 0;
    for (unsigned i = 0; i < addresses->count; i++)
        if (stands ? failed[i] != 0 && !family_is_missing(failed[i]) : i == first)
            tell_unbound(forward, &addresses->addresses[i], failed[i]);
    return stands ? 0 : err;
}

int forward_resolve(struct forward *forward) {
    struct resolve_result *addresses = &forward->addresses;
    const struct options *options = client_options(forward->client);
    bool passive;
    const char *host = bind_host(forward, &passive);
    if (is_loopback_name(host))
        loopback_addresses(forward->spec->port, options->family, addresses);
    else
        resolve_now(host, forward->spec->port, options->family, passive, addresses);
    if (addresses->err != 0)
        log_error("-L %s: cannot resolve the bind address \"%s\": %s", forward->spec->text, host != NULL ? host : "*",
                  addresses->reason != NULL ? addresses->reason : err_text(addresses->err));
    return addresses->err;
}

int forward_bind(struct forward *forward) {
    struct resolve_result *addresses = &forward->addresses;
    forward->fds = calloc(addresses->count, sizeof(int));
    forward->listeners = calloc(addresses->count, sizeof(struct listener));
    int err = forward->fds == NULL || forward->listeners == NULL ? ERR_NOMEM : bind_all(forward);
    free(addresses->addresses);
    *addresses = (struct resolve_result){0};
    return err;
}

static void open_relay(void *arg, int64_t fd) {
    struct forward_route *route = arg;
    const struct forward_spec *spec = route->forward->spec;
    if (forward_stripe(route, (int)fd))
        return;
    struct relay_target target = {.kind = RELAY_DIRECT_TCPIP, .host = spec->host, .port = spec->host_port};
    relay_open(&route->session->session, (int)fd, &target, &watcher, route);
}

static void on_accept(struct listener *listener, int fd) {
    struct forward *forward = listener->owner;
    struct client_session *session = client_choose_session(forward->client, NULL, NULL);
    if (session == NULL)
        return io_close(listener->shard->io, fd, IO_CLOSE_RESET);
    struct forward_route *route = &forward->routes[session->index];
    if (session->shard == listener->shard)
        return open_relay(route, fd);
    if (shard_post(session->shard, open_relay, route, fd) == 0)
        return;
    log_error("-L %s: connection refused: shard %u has no room for it", forward->spec->text, session->shard->index);
    client_relay_ended(session);
    io_close(listener->shard->io, fd, IO_CLOSE_RESET);
}

void forward_listen(struct forward *forward) {
    struct shard *shard = client_listener_shard(forward->client);
    forward->listening = true;
    for (unsigned i = 0; i < forward->listeners_count; i++)
        listener_init(&forward->listeners[i], shard, forward->fds[i], on_accept, forward);
}

static void on_listener_closed(struct listener *listener) {
    client_listener_closed(listener->owner);
}

void forward_close(struct forward *forward) {
    for (unsigned i = 0; i < forward->listeners_count; i++)
        listener_close(&forward->listeners[i], on_listener_closed);
}

/* ---- remote ---- */

/* What ssh(1) asks for: nothing given: "localhost"; "*": every address. */
static const char *remote_address(const struct forward_spec *spec) {
    if (spec->bind == NULL)
        return "localhost";
    return strcmp(spec->bind, "*") == 0 ? "" : spec->bind;
}

static void on_reply(void *arg, bool success, struct bytes data) {
    struct forward *forward = arg;
    if (!success && client_session_at(forward->client, 0)->session.ending)
        return; /* the session's end is what there is to tell, not a refusal */
    if (success && forward->port == 0 && data.len >= 4)
        forward->port = (uint16_t)(data.at[2] << 8 | data.at[3]);
    forward->granted = success && forward->port != 0;
    if (forward->granted)
        client_serve_remote(forward);
    client_forward_answered(forward, forward->granted);
}

void forward_request(struct forward *forward, struct session *session) {
    int err =
        mux_tcpip_forward(&session->mux, false, remote_address(forward->spec), forward->spec->port, on_reply, forward);
    if (err != 0)
        client_forward_answered(forward, false);
    session_wake(session);
}

static void on_cancelled(void *arg, bool success, struct bytes data) {
    struct forward *forward = arg;
    (void)data;
    forward->granted = false; /* yes or no, nothing of it is taken any more */
    list_remove(&forward->node);
    client_forward_cancelled(forward, success);
}

void forward_cancel(struct forward *forward, struct session *session) {
    int err =
        mux_tcpip_forward(&session->mux, true, remote_address(forward->spec), forward->port, on_cancelled, forward);
    if (err != 0)
        on_cancelled(forward, false, (struct bytes){0});
    session_wake(session);
}

enum forward_match forward_matches(const struct forward *forward, struct bytes host, uint32_t port) {
    if (!forward->granted || forward->port != port)
        return FORWARD_MATCH_NONE;
    const char *asked = remote_address(forward->spec);
    if (strlen(asked) == host.len && memcmp(asked, host.at, host.len) == 0)
        return FORWARD_MATCH_EXACT;
    /* A server names the address it listens on as it likes where we asked for a wildcard or the loopback. */
    bool any = asked[0] == '\0' || strcmp(asked, "localhost") == 0;
    return any ? FORWARD_MATCH_LOOSE : FORWARD_MATCH_NONE;
}

/* The remote forward that the server opens a connection of; NULL: none. Only the first session asks for them. */
static struct forward *asked_of(const struct client_session *of, const struct mux_open *open) {
    if (open->kind != MUX_OPEN_FORWARDED_TCPIP || of->index != 0)
        return NULL;
    return client_find_remote(of->client, open->host, open->port);
}

void forward_on_shortage(struct mux *mux, const struct mux_open *open, const char *why) {
    const struct session *session = mux->owner;
    const struct forward *forward = asked_of(session->owner, open);
    if (forward != NULL)
        log_error("-R %s: %s", forward->spec->text, why);
}

struct flow *forward_on_open(struct mux *mux, const struct mux_open *open, uint32_t *reason, const char **text) {
    struct session *session = mux->owner;
    struct client_session *of = session->owner;
    *reason = OPEN_ADMINISTRATIVELY_PROHIBITED;
    *text = "this client only takes connections of the remote forwards it asked for";
    struct forward *forward = asked_of(of, open);
    if (forward == NULL)
        return NULL;
    const struct forward_spec *spec = forward->spec;
    atomic_fetch_add_explicit(&of->relays, 1, memory_order_relaxed);
    struct relay_target target = {.kind = RELAY_CONNECT_TCP,
                                  .host = spec->host,
                                  .port = spec->host_port,
                                  .family = AF_UNSPEC,
                                  .connect_timeout_ns = LIMIT_DIAL_NS};
    struct flow *flow = relay_asked(session, &target, &watcher, &forward->routes[of->index]);
    if (flow != NULL)
        return flow;
    client_relay_ended(of);
    *reason = OPEN_RESOURCE_SHORTAGE;
    *text = "out of memory";
    return NULL;
}
