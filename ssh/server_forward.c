#include "ssh/server_forward.h"
#include "engine/limits.h"
#include "ssh/server_forward_internal.h"
#include "ssh/server_shell.h"
#include "ssh/server_stripe.h"
#include "ssh/striped.h"
#include <stdio.h>
#include <string.h>
#include <sys/un.h>

#define PATH_BYTES sizeof(((struct sockaddr_un *)0)->sun_path)

static struct server_connection *connection_of(const struct mux *mux) {
    const struct session *session = mux->owner;
    return session->owner;
}

/* ---- what the client names ---- */

static bool has_control_bytes(struct bytes text) {
    for (uint32_t i = 0; i < text.len; i++)
        if (text.at[i] < 0x20 || text.at[i] == 0x7F)
            return true;
    return false;
}

/* Copies a name of at most cap - 1 bytes; false: it cannot be one, and out is what it begins with. */
static bool take_name(char *out, size_t cap, struct bytes name) {
    size_t len = name.len < cap ? name.len : cap - 1;
    if (len > 0)
        memcpy(out, name.at, len);
    out[len] = '\0';
    return len == name.len && !has_control_bytes(name);
}

static const char *path_fault(bool taken, const char *path) {
    if (!taken)
        return "not a path";
    return path[0] != '/' ? "the path is not absolute" : NULL;
}

/* ---- channels the client opens ---- */

/* One channel to be opened: what is asked, by whom, and how it is refused. */
struct opening {
    struct server_connection *connection;
    const struct mux_open *open;
    const char *forward; /* NULL: none */
    bool forbidden;      /* a lane of what its user may not have */
    char requested[SERVER_ENDPOINT_BYTES], origin[SERVER_ENDPOINT_BYTES];
    uint32_t *reason;
    const char **text;
};

/* A lane that comes when its striped connection has just ended is nothing to look at; one that is forbidden is. */
static void tell_forward_refused(const struct opening *opening, const char *why) {
    bool is_lane = opening->open->kind == MUX_OPEN_STRIPE_JOIN && !opening->forbidden;
    struct audit audit = server_forward_audit(opening->connection, is_lane ? "lane refused" : "forward refused",
                                              opening->forward, opening->requested);
    audit.origin = opening->origin[0] != '\0' ? opening->origin : NULL;
    audit.reason = why;
    audit_log(is_lane ? LOG_LEVEL_VERBOSE : LOG_LEVEL_INFO, &audit);
}

static void tell_channel_refused(const struct opening *opening, const char *why) {
    struct audit audit = server_forward_audit(opening->connection, "channel refused", NULL, NULL);
    char type[64];
    (void)take_name(type, sizeof(type), opening->open->type);
    audit.detail = type;
    audit.reason = why;
    audit_log(LOG_LEVEL_INFO, &audit);
}

static void tell_refused(const struct opening *opening, const char *why) {
    if (opening->forward != NULL)
        tell_forward_refused(opening, why);
    else
        tell_channel_refused(opening, why);
}

static struct flow *refuse(const struct opening *opening, uint32_t reason, const char *why) {
    tell_refused(opening, why);
    *opening->reason = reason;
    *opening->text = why;
    return NULL;
}

/* stripe: to begin with this channel, taken over; NULL: none. */
static struct flow *ask(const struct opening *opening, const struct relay_target *target,
                        struct server_stripe *stripe) {
    struct server_channel *channel =
        server_channel_create(opening->connection, opening->forward, opening->requested, opening->origin);
    struct flow *flow = NULL;
    if (channel != NULL && stripe != NULL)
        server_channel_found(channel, stripe);
    else if (stripe != NULL)
        server_stripe_discard(stripe);
    if (channel != NULL && target->kind == RELAY_CONNECTED)
        server_channel_join(channel);
    if (channel != NULL)
        flow = relay_asked(&opening->connection->session, target, &server_channel_watcher, channel);
    if (flow != NULL)
        return flow;
    if (channel != NULL)
        server_channel_discard(channel);
    return refuse(opening, OPEN_RESOURCE_SHORTAGE, "out of memory");
}

static void describe_tcpip(struct opening *opening) {
    const struct mux_open *open = opening->open;
    char host[SERVER_HOST_BYTES];
    opening->forward = open->kind == MUX_OPEN_STRIPE ? "stripe" : "direct-tcpip";
    (void)take_name(host, sizeof(host), open->host);
    snprintf(opening->requested, sizeof(opening->requested), "%s port %u", host, open->port);
    (void)take_name(host, sizeof(host), open->origin);
    server_endpoint(opening->origin, host, (uint16_t)open->origin_port);
}

static void describe_path(struct opening *opening) {
    char path[PATH_BYTES];
    opening->forward = "direct-streamlocal";
    (void)take_name(path, sizeof(path), opening->open->host);
    snprintf(opening->requested, sizeof(opening->requested), "%s", path);
}

static struct opening opening_of(struct mux *mux, const struct mux_open *open) {
    struct opening opening = {.connection = connection_of(mux), .open = open};
    if (open->kind == MUX_OPEN_DIRECT_TCPIP || open->kind == MUX_OPEN_STRIPE)
        describe_tcpip(&opening);
    else if (open->kind == MUX_OPEN_STRIPE_JOIN)
        opening.forward = "stripe";
    else if (open->kind == MUX_OPEN_DIRECT_STREAMLOCAL)
        describe_path(&opening);
    return opening;
}

static struct flow *open_tcpip(struct opening *opening) {
    const struct mux_open *open = opening->open;
    const struct server_connection *connection = opening->connection;
    const char *why = NULL;
    char host[SERVER_HOST_BYTES];
    bool is_name = take_name(host, sizeof(host), open->host) && host[0] != '\0';
    if (connection->draining)
        return refuse(opening, OPEN_ADMINISTRATIVELY_PROHIBITED, SERVER_STOPPING);
    if (!is_name)
        return refuse(opening, OPEN_CONNECT_FAILED, "not a host name");
    if (open->port == 0 || open->port > UINT16_MAX)
        return refuse(opening, OPEN_CONNECT_FAILED, "not a port");
    uint16_t port = (uint16_t)open->port;
    if (!policy_may_open(&connection->policy, host, port, &why))
        return refuse(opening, OPEN_ADMINISTRATIVELY_PROHIBITED, why);
    struct relay_target target = {.kind = RELAY_CONNECT_TCP,
                                  .host = host,
                                  .port = port,
                                  .family = connection->options->family,
                                  .connect_timeout_ns = LIMIT_DIAL_NS,
                                  .idle_ns = server_channel_idle_ns(connection, "direct-tcpip")};
    if (open->kind == MUX_OPEN_DIRECT_TCPIP)
        return ask(opening, &target, NULL);
    struct server_stripe *stripe =
        server_stripe_create(connection, &target, open->stripe_key, opening->requested, opening->origin);
    return stripe != NULL ? ask(opening, &target, stripe) : refuse(opening, OPEN_RESOURCE_SHORTAGE, "out of memory");
}

/* Whoever joins must be allowed what was opened, too: another key of the user may be restricted. */
static bool may_join(void *arg, const char *host, uint16_t port) {
    struct opening *opening = arg;
    const char *why;
    snprintf(opening->requested, sizeof(opening->requested), "%s port %u", host, port);
    opening->forbidden = !policy_may_open(&opening->connection->policy, host, port, &why);
    return !opening->forbidden;
}

static struct flow *join(struct opening *opening) {
    const struct server_connection *connection = opening->connection;
    struct relay_target target = {.kind = RELAY_CONNECTED,
                                  .idle_ns = server_channel_idle_ns(connection, "direct-tcpip")};
    if (connection->draining)
        return refuse(opening, OPEN_ADMINISTRATIVELY_PROHIBITED, SERVER_STOPPING);
    int err = striped_find_join(connection->handshake.user, opening->open->stripe_key, opening->open->stripe_lane,
                                may_join, opening, &target.fd);
    if (err == ERR_REFUSED)
        return refuse(opening, OPEN_ADMINISTRATIVELY_PROHIBITED, "no such striped connection");
    if (err == ERR_INUSE)
        return refuse(opening, OPEN_ADMINISTRATIVELY_PROHIBITED, "a lane of that number has been");
    if (err != 0)
        return refuse(opening, OPEN_RESOURCE_SHORTAGE, err_text(err));
    struct flow *flow = ask(opening, &target, NULL);
    if (flow == NULL)
        io_close(connection->session.shard->io, target.fd, IO_CLOSE);
    return flow;
}

static struct flow *open_path(struct opening *opening) {
    const struct server_connection *connection = opening->connection;
    char path[PATH_BYTES];
    const char *why = path_fault(take_name(path, sizeof(path), opening->open->host), path);
    if (connection->draining)
        return refuse(opening, OPEN_ADMINISTRATIVELY_PROHIBITED, SERVER_STOPPING);
    if (why != NULL)
        return refuse(opening, OPEN_CONNECT_FAILED, why);
    if (!policy_may_open_path(&connection->policy, &why))
        return refuse(opening, OPEN_ADMINISTRATIVELY_PROHIBITED, why);
    struct relay_target target = {.kind = RELAY_CONNECT_PATH,
                                  .host = path,
                                  .connect_timeout_ns = LIMIT_DIAL_NS,
                                  .idle_ns = server_channel_idle_ns(connection, "direct-streamlocal@openssh.com")};
    return ask(opening, &target, NULL);
}

static struct flow *on_open(struct mux *mux, const struct mux_open *open, uint32_t *reason, const char **text) {
    struct opening opening = opening_of(mux, open);
    opening.reason = reason;
    opening.text = text;
    switch (open->kind) {
    case MUX_OPEN_DIRECT_TCPIP:
    case MUX_OPEN_STRIPE:
        return open_tcpip(&opening);
    case MUX_OPEN_STRIPE_JOIN:
        return join(&opening);
    case MUX_OPEN_DIRECT_STREAMLOCAL:
        return open_path(&opening);
    case MUX_OPEN_SESSION:
        return server_shell_open(opening.connection, reason, text);
    default:
        return refuse(&opening, OPEN_UNKNOWN_CHANNEL_TYPE, "this server only forwards");
    }
}

static void on_shortage(struct mux *mux, const struct mux_open *open, const char *why) {
    struct opening opening = opening_of(mux, open);
    tell_refused(&opening, why);
}

/* ---- global requests ---- */

struct listen_request {
    char name[SERVER_HOST_BYTES]; /* address or path */
    uint16_t port;
};

/* tcpip-forward and its cancel (RFC 4254 §7.1): address, port. */
static bool take_address(struct bytes data, struct listen_request *request) {
    struct reader reader;
    reader_init(&reader, data.at, data.len);
    struct bytes host = reader_string(&reader);
    uint32_t port = reader_u32(&reader);
    request->port = (uint16_t)port;
    return reader_done(&reader) && port <= UINT16_MAX && take_name(request->name, sizeof(request->name), host);
}

static bool take_path(struct bytes data, struct listen_request *request) {
    struct reader reader;
    reader_init(&reader, data.at, data.len);
    bool taken = take_name(request->name, PATH_BYTES, reader_string(&reader));
    return reader_done(&reader) && path_fault(taken, request->name) == NULL;
}

static bool refuse_listener(const struct server_connection *connection, const char *forward, const char *requested,
                            const char *why) {
    struct audit audit = server_forward_audit(connection, "listener refused", forward, requested);
    audit.reason = why;
    audit_log(LOG_LEVEL_INFO, &audit);
    return false;
}

static bool listen_tcpip(struct server_connection *connection, struct bytes data, uint8_t *reply, uint32_t *reply_len) {
    struct listen_request request = {.name = ""};
    char requested[SERVER_ENDPOINT_BYTES];
    const char *why = "not an address and port";
    uint16_t bound;
    bool taken = take_address(data, &request);
    server_endpoint(requested, request.name, request.port);
    if (connection->draining)
        return refuse_listener(connection, "tcpip-forward", requested, SERVER_STOPPING);
    if (!taken || !policy_may_listen(&connection->policy, request.name, request.port, &why))
        return refuse_listener(connection, "tcpip-forward", requested, why);
    if (!server_listener_open(connection, request.name, request.port, &bound))
        return false;
    if (request.port != 0)
        return true;
    codec_put_u32(reply, bound);
    *reply_len = 4;
    return true;
}

static bool listen_path(struct server_connection *connection, struct bytes data) {
    struct listen_request request = {.name = ""};
    const char *why = "not an absolute path";
    bool taken = take_path(data, &request);
    if (connection->draining)
        return refuse_listener(connection, "streamlocal-forward", request.name, SERVER_STOPPING);
    if (!taken || !policy_may_listen_path(&connection->policy, &why))
        return refuse_listener(connection, "streamlocal-forward", request.name, why);
    return server_listener_open_path(connection, request.name);
}

/* What is not here is refused, as sshd does with keepalive@openssh.com (any answer is one) and with
 * hostkeys-prove-00@openssh.com of a client that was told of no keys. */
static bool on_global(struct mux *mux, struct bytes name, struct bytes data, uint8_t *reply, uint32_t *reply_len) {
    struct server_connection *connection = connection_of(mux);
    struct listen_request request;
    if (bytes_equal(name, HELLO_REQUEST))
        return hello_answer(mux->owner, data, reply, reply_len);
    if (bytes_equal(name, "tcpip-forward"))
        return listen_tcpip(connection, data, reply, reply_len);
    if (bytes_equal(name, "streamlocal-forward@openssh.com"))
        return listen_path(connection, data);
    if (bytes_equal(name, "cancel-tcpip-forward"))
        return take_address(data, &request) && server_listener_cancel(connection, request.name, request.port);
    if (bytes_equal(name, "cancel-streamlocal-forward@openssh.com"))
        return take_path(data, &request) && server_listener_cancel_path(connection, request.name);
    if (bytes_equal(name, "no-more-sessions@openssh.com"))
        return connection->no_more_sessions = true;
    return false;
}

const struct mux_ops server_mux_ops = {.on_open = on_open, .on_global = on_global, .on_shortage = on_shortage};
