#include "ssh/server_stripe.h"
#include "engine/limits.h"
#include "ssh/audit.h"
#include "ssh/server_internal.h"
#include "ssh/striped.h"
#include <inttypes.h>
#include <openssl/crypto.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct server_stripe {
    struct list node; /* in on->stripes, once it has begun */
    struct server_shard *on;
    struct striped *striped;
    uint64_t connection; /* number of the SSH connection that opened it, which may be over */
    uint64_t started_ns;
    uint32_t window_max;
    uint16_t port;
    uint8_t asked_key[STRIPED_KEY_BYTES];
    char resolved[sizeof((struct dial *)0)->address];
    const char *user, *key, *source, *origin, *requested, *host; /* within texts */
    char texts[];
};

static const char *put(char **at, const char *text) {
    size_t bytes = strlen(text) + 1;
    const char *copy = memcpy(*at, text, bytes);
    *at += bytes;
    return copy;
}

static const char *or_empty(const char *text) {
    return text != NULL ? text : "";
}

static const char *or_null(const char *text) {
    return *text != '\0' ? text : NULL;
}

struct server_stripe *server_stripe_create(const struct server_connection *connection,
                                           const struct relay_target *target, const uint8_t *key, const char *requested,
                                           const char *origin) {
    const char *user = connection->handshake.user, *key_name = or_empty(connection->handshake.key_fingerprint);
    const char *texts[] = {user, key_name, connection->source, origin, requested, target->host};
    size_t bytes = 0;
    for (unsigned i = 0; i < sizeof(texts) / sizeof(*texts); i++)
        bytes += strlen(texts[i]) + 1;
    struct server_stripe *stripe = calloc(1, sizeof(*stripe) + bytes);
    if (stripe == NULL)
        return NULL;
    char *at = stripe->texts;
    uint32_t window_max = connection->options->max_window;
    list_init(&stripe->node);
    stripe->on = connection->on;
    stripe->connection = connection->number;
    stripe->window_max = window_max != 0 ? window_max : LIMIT_STRIPE_WINDOW_BYTES;
    stripe->port = target->port;
    memcpy(stripe->asked_key, key, sizeof(stripe->asked_key));
    stripe->user = put(&at, user);
    stripe->key = put(&at, key_name);
    stripe->source = put(&at, connection->source);
    stripe->origin = put(&at, origin);
    stripe->requested = put(&at, requested);
    stripe->host = put(&at, target->host);
    return stripe;
}

void server_stripe_discard(struct server_stripe *stripe) {
    OPENSSL_cleanse(stripe->asked_key, sizeof(stripe->asked_key));
    free(stripe);
}

static void tell_closed(const struct server_stripe *stripe, const struct striped_state *state, const char *what) {
    char lanes[40];
    snprintf(lanes, sizeof(lanes), "%u lane%s", state->lanes_most, state->lanes_most == 1 ? "" : "s");
    struct audit audit = {.event = "forward closed",
                          .connection = stripe->connection,
                          .user = stripe->user,
                          .key = or_null(stripe->key),
                          .source = stripe->source,
                          .forward = "stripe",
                          .origin = or_null(stripe->origin),
                          .requested = stripe->requested,
                          .resolved = or_null(stripe->resolved),
                          .detail = lanes,
                          .reason = what,
                          .counted = true,
                          .bytes_to_target = state->bytes_from_peer,
                          .bytes_from_target = state->bytes_to_peer,
                          .duration_ns = shard_now(stripe->on->shard) - stripe->started_ns};
    audit_log(LOG_LEVEL_INFO, &audit);
}

static void on_end(void *owner, const struct striped_state *state, const char *what) {
    struct server_stripe *stripe = owner;
    struct server_shard *on = stripe->on;
    tell_closed(stripe, state, what);
    list_remove(&stripe->node);
    server_stripe_discard(stripe);
    server_shard_unload(on);
}

static const struct striped_watcher watcher = {.on_end = on_end};

int server_stripe_begin(struct server_stripe *stripe, const char *resolved, int *fd) {
    struct server_shard *on = stripe->on;
    const struct striped_name name = {.user = stripe->user, .host = stripe->host, .port = stripe->port};
    int lane_fd, err = striped_start(on->shard, *fd, &on->server->budget, stripe->window_max, STRIPE_LANES_MAX, &name,
                                     stripe->asked_key, &watcher, stripe, &stripe->striped, &lane_fd);
    if (err != 0)
        return err;
    *fd = lane_fd;
    snprintf(stripe->resolved, sizeof(stripe->resolved), "%s", resolved);
    stripe->started_ns = shard_now(on->shard);
    list_push_back(&on->stripes, &stripe->node);
    atomic_fetch_add(&on->load, 1);
    return 0;
}

void server_stripe_end_all(struct server_shard *on) {
    list_for_each (node, &on->stripes)
        striped_abort(list_entry(node, struct server_stripe, node)->striped);
}

void server_stripe_print_all(const struct server_shard *on) {
    list_for_each (node, &on->stripes) {
        const struct server_stripe *stripe = list_entry(node, struct server_stripe, node);
        struct striped_state state = striped_state(stripe->striped);
        char user[128], requested[300];
        log_safe(user, sizeof(user), stripe->user, strlen(stripe->user));
        log_safe(requested, sizeof(requested), stripe->requested, strlen(stripe->requested));
        log_info("striped connection of user %s to %s: %u lanes, %" PRIu64 " bytes out, %" PRIu64 " back, age %.1f s",
                 user, requested, state.lanes, state.bytes_from_peer, state.bytes_to_peer,
                 (double)(shard_now(on->shard) - stripe->started_ns) / 1e9);
    }
}
