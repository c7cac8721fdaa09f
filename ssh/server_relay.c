/* One plain relay (Relay in the configuration): a connection that was accepted, dialled on, spliced, and told to the
 * audit. On its shard from plain_relay_start to its end. */
#include "engine/dial.h"
#include "engine/limits.h"
#include "engine/tcp.h"
#include "ssh/audit.h"
#include "ssh/server_internal.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct plain_relay {
    struct list node; /* in on->relays */
    struct server_shard *on;
    struct dial dial;
    struct splice_relay *splice; /* NULL while dialling */
    uint64_t started_ns;
    int fd;
    uint16_t port;
    char source[72], resolved[64];
    char requested[320]; /* "host port N" */
    char host[];
};

struct plain_relay *plain_relay_create(const struct server_target *target, int fd) {
    size_t host_bytes = strlen(target->host) + 1;
    struct plain_relay *relay = malloc(sizeof(*relay) + host_bytes);
    if (relay == NULL)
        return NULL;
    *relay = (struct plain_relay){.fd = fd, .port = target->port};
    memcpy(relay->host, target->host, host_bytes);
    snprintf(relay->requested, sizeof(relay->requested), "%s port %u", relay->host, relay->port);
    return relay;
}

static void tell(const struct plain_relay *relay, const char *event, const char *reason, const struct splice_end *end) {
    struct audit audit = {.event = event,
                          .forward = "relay",
                          .source = relay->source,
                          .requested = relay->requested,
                          .resolved = relay->resolved[0] != '\0' ? relay->resolved : NULL,
                          .reason = reason};
    if (end != NULL) {
        audit.counted = true;
        audit.bytes_to_target = end->bytes_a_to_b;
        audit.bytes_from_target = end->bytes_b_to_a;
        audit.duration_ns = shard_now(relay->on->shard) - relay->started_ns;
    }
    audit_log(LOG_LEVEL_INFO, &audit);
}

static void relay_free(struct plain_relay *relay) {
    struct server_shard *on = relay->on;
    list_remove(&relay->node);
    on->relays_count--;
    on->shard->flows--;
    free(relay);
    listener_resume(on->shard); /* descriptors are free again */
    server_connection_gone(on);
}

static void relay_refuse(struct plain_relay *relay, const char *reason) {
    tell(relay, "forward refused", reason, NULL);
    io_close(relay->on->shard->io, relay->fd, IO_CLOSE_RESET);
    relay_free(relay);
}

static void on_spliced(void *owner, const struct splice_end *end) {
    struct plain_relay *relay = owner;
    tell(relay, "forward closed", end->what, end);
    relay_free(relay);
}

static void on_dialed(struct dial *dial, int err, int fd) {
    struct plain_relay *relay = dial->owner;
    struct server_shard *on = relay->on;
    if (err != 0)
        return relay_refuse(relay, dial->reason);
    snprintf(relay->resolved, sizeof(relay->resolved), "%s", dial->address);
    server_tune(fd, on->generation->options);
    err = splice_relay_start(on->pipes, relay->fd, fd, 0, on_spliced, relay, &relay->splice);
    if (err != 0) {
        io_close(on->shard->io, fd, IO_CLOSE_RESET);
        return relay_refuse(relay, err_text(err));
    }
    tell(relay, "forward opened", NULL, NULL);
}

static void describe_source(struct plain_relay *relay) {
    struct sockaddr_storage address = {.ss_family = AF_UNSPEC};
    socklen_t len = sizeof(address);
    (void)getpeername(relay->fd, (struct sockaddr *)&address, &len);
    server_address_text((struct sockaddr *)&address, "unknown", relay->source, sizeof(relay->source));
}

void plain_relay_start(struct server_shard *on, struct plain_relay *relay) {
    relay->on = on;
    relay->started_ns = shard_now(on->shard);
    list_push_back(&on->relays, &relay->node);
    on->relays_count++;
    on->shard->flows++;
    describe_source(relay);
    if (on->draining)
        return relay_refuse(relay, "server is stopping");
    server_tune(relay->fd, on->generation->options);
    dial_start(&relay->dial, on->shard, relay->host, relay->port, AF_UNSPEC, LIMIT_DIAL_NS, on_dialed, relay);
}

void plain_relay_end_all(struct server_shard *on) {
    list_for_each_safe (node, after, &on->relays) {
        struct plain_relay *relay = list_entry(node, struct plain_relay, node);
        if (relay->splice != NULL)
            splice_relay_abort(relay->splice);
        else
            dial_cancel(&relay->dial);
    }
}

void plain_relay_print_all(const struct server_shard *on) {
    list_for_each (node, &on->relays) {
        const struct plain_relay *relay = list_entry(node, struct plain_relay, node);
        log_info("relay: %s to %s: %s, %" PRIu64 " bytes, age %.1f s", relay->source, relay->requested,
                 relay->splice != NULL ? "open" : "connecting",
                 relay->splice != NULL ? splice_relay_bytes(relay->splice) : 0,
                 (double)(shard_now(on->shard) - relay->started_ns) / 1e9);
    }
}
