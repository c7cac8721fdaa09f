#include "engine/check.h"
#include "engine/limits.h"
#include "ssh/server_forward_internal.h"
#include "ssh/server_stripe.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct server_channel {
    struct server_connection *connection;
    const char *forward;
    struct server_stripe *stripe; /* to begin with this lane; NULL: it has begun, or there is none */
    uint16_t origin_at;           /* in texts; "" there: not known */
    bool opened;                  /* told as opened, counted as open */
    bool founds, joins;           /* a striped connection */
    char texts[];                 /* what was requested, then the origin */
};

struct audit server_forward_audit(const struct server_connection *connection, const char *event, const char *forward,
                                  const char *requested) {
    return (struct audit){.event = event,
                          .connection = connection->number,
                          .user = connection->handshake.user,
                          .key = connection->handshake.key_fingerprint,
                          .source = connection->source,
                          .forward = forward,
                          .requested = requested};
}

const char *server_endpoint(char out[SERVER_ENDPOINT_BYTES], const char *host, uint16_t port) {
    snprintf(out, SERVER_ENDPOINT_BYTES, "%s port %u", *host != '\0' ? host : "*", port);
    return out;
}

uint64_t server_channel_idle_ns(const struct server_connection *connection, const char *type) {
    return server_options_channel_timeout(connection->options, type) * UINT64_C(1000000000);
}

struct server_channel *server_channel_create(struct server_connection *connection, const char *forward,
                                             const char *requested, const char *origin) {
    size_t requested_len = strlen(requested) + 1, origin_len = strlen(origin) + 1;
    CHECK(requested_len <= UINT16_MAX);
    struct server_channel *channel =
        calloc(1, offsetof(struct server_channel, texts) + requested_len + origin_len); /* there are thousands */
    if (channel == NULL)
        return NULL;
    channel->connection = connection;
    channel->forward = forward;
    channel->origin_at = (uint16_t)requested_len;
    memcpy(channel->texts, requested, requested_len);
    memcpy(channel->texts + requested_len, origin, origin_len);
    server_connection_channels(connection, 1);
    return channel;
}

void server_channel_discard(struct server_channel *channel) {
    struct server_connection *connection = channel->connection;
    if (channel->stripe != NULL)
        server_stripe_discard(channel->stripe);
    free(channel);
    server_connection_channels(connection, -1);
}

void server_channel_found(struct server_channel *channel, struct server_stripe *stripe) {
    channel->stripe = stripe;
    channel->founds = true;
}

void server_channel_join(struct server_channel *channel) {
    channel->joins = true;
}

/* ---- told by the relay ---- */

static const char *or_null(const char *text) {
    return *text != '\0' ? text : NULL;
}

/* Who connected: the client says so of what it opens, we know it of what we accepted. */
static const char *origin_of(const struct server_channel *channel, const struct relay_state *state) {
    return or_null(channel->texts[channel->origin_at] != '\0' ? channel->texts + channel->origin_at : state->origin);
}

static bool is_accepted(const struct server_channel *channel) {
    return strncmp(channel->forward, "forwarded-", 10) == 0;
}

static struct audit audit_of(const struct server_channel *channel, const char *event, const struct relay_state *state) {
    struct audit audit = server_forward_audit(channel->connection, event, channel->forward, channel->texts);
    audit.origin = origin_of(channel, state);
    audit.resolved = or_null(state->resolved);
    return audit;
}

static void on_opened(void *owner, const struct relay_state *state) {
    struct server_channel *channel = owner;
    channel->opened = true;
    channel->connection->forwards_open++;
    struct audit audit = audit_of(channel, channel->joins ? "lane opened" : "forward opened", state);
    audit_log(channel->joins ? LOG_LEVEL_VERBOSE : LOG_LEVEL_INFO, &audit);
}

static int on_dialed(void *owner, const struct relay_state *state, int *fd) {
    struct server_channel *channel = owner;
    int err = channel->stripe != NULL ? server_stripe_begin(channel->stripe, state->resolved, fd) : 0;
    if (err == 0)
        channel->stripe = NULL;
    return err;
}

/* The target of what we accepted is beyond the client. */
static void count(struct audit *audit, bool accepted, const struct relay_state *state) {
    audit->counted = true;
    audit->bytes_to_target = accepted ? state->bytes_to_peer : state->bytes_from_peer;
    audit->bytes_from_target = accepted ? state->bytes_from_peer : state->bytes_to_peer;
    audit->duration_ns = state->duration_ns;
}

/* A striped connection lives longer than its first lane may: it has its own closing line. */
static void tell_end(const struct server_channel *channel, const struct relay_state *state) {
    bool is_lane = channel->joins || (channel->founds && state->opened);
    const char *refused = is_lane ? "lane refused" : "forward refused",
               *closed = is_lane ? "lane closed" : "forward closed";
    struct audit audit = audit_of(channel, state->opened ? closed : refused, state);
    audit.reason = state->what;
    if (state->opened)
        count(&audit, is_accepted(channel), state);
    audit_log(is_lane ? LOG_LEVEL_VERBOSE : LOG_LEVEL_INFO, &audit);
}

static void on_end(void *owner, const struct relay_state *state) {
    struct server_channel *channel = owner;
    tell_end(channel, state);
    if (channel->opened)
        channel->connection->forwards_open--;
    server_channel_discard(channel);
}

const struct relay_watcher server_channel_watcher = {.on_opened = on_opened, .on_end = on_end, .on_dialed = on_dialed};

/* ---- for people ---- */

struct printing {
    void (*line)(void *arg, const char *text);
    void *arg;
};

static void print_one(void *arg, void *owner, const struct relay_state *state) {
    const struct printing *printing = arg;
    const struct server_channel *channel = owner;
    const char *origin = origin_of(channel, state);
    char text[800], requested[SERVER_ENDPOINT_BYTES], from[SERVER_ENDPOINT_BYTES];
    log_safe(requested, sizeof(requested), channel->texts, strlen(channel->texts));
    log_safe(from, sizeof(from), origin != NULL ? origin : "", origin != NULL ? strlen(origin) : 0);
    snprintf(text, sizeof(text), "%s %s%s%s%s, %" PRIu64 " bytes to the client, %" PRIu64 " from it, %.1f s",
             channel->forward, requested, origin != NULL ? " of " : "", from, state->opened ? "" : ", opening",
             state->bytes_to_peer, state->bytes_from_peer, (double)state->duration_ns / 1e9);
    printing->line(printing->arg, text);
}

void server_forward_print_open(const struct server_connection *connection, void (*line)(void *arg, const char *text),
                               void *arg) {
    struct printing printing = {.line = line, .arg = arg};
    relay_for_each(&connection->session, print_one, &printing);
}
