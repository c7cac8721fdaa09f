#include "bench/runner_record.h"
#include "bench/machine.h"
#include "bench/stage.h"
#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* Nobody listens there, and nobody asks: what is negotiated does not depend on it. */
#define DISCARD_PORT 9

static json_t *time_now(void) {
    char text[64];
    struct tm parts;
    time_t now = time(NULL);
    gmtime_r(&now, &parts);
    strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%SZ", &parts);
    return json_string(text);
}

static json_t *text_or_null(const char *text) {
    return text != NULL ? json_string(text) : json_null();
}

static json_t *list_of(const char *const *items, size_t count) {
    json_t *list = json_array();
    for (size_t i = 0; i < count; i++)
        json_array_append_new(list, json_string(items[i]));
    return list;
}

static const char *size_name(enum scenario_size size) {
    static const char *const names[SIZE_COUNT] = {"smoke", "quick", "standard"};
    return names[size];
}

static json_t *tunnels_of(const struct bench_options *options) {
    json_t *tunnels = json_object();
    for (unsigned i = 0; i < options->tunnel_count; i++) {
        char host[INET_ADDRSTRLEN] = "", text[64];
        const struct sockaddr_in *address = &options->tunnels[i].address;
        inet_ntop(AF_INET, &address->sin_addr, host, sizeof(host));
        snprintf(text, sizeof(text), "%s:%u", host, ntohs(address->sin_port));
        json_object_set_new(tunnels, options->tunnels[i].name, json_string(text));
    }
    return tunnels;
}

static json_t *settings_of(const struct bench_options *options, int argc, char **argv) {
    return json_pack(
        "{s:s, s:o, s:o, s:s, s:i, s:f, s:s, s:o, s:f, s:f, s:f, s:b, s:I, s:o, s:o, s:o, s:o, s:o, s:i, s:I, s:I, "
        "s:o}",
        "leat-bench", LEAT_VERSION, "command_line", list_of((const char *const *)argv, (size_t)argc), "started",
        time_now(), "size", size_name(options->size), "rounds", (int)options->rounds, "seconds", options->seconds,
        "cipher", options->cipher, "peers", list_of(options->peers, options->peer_count), "rtt_ms",
        options->shape.rtt_ms, "rate_mbit", options->shape.rate_mbit, "loss", options->shape.loss, "namespaces",
        !options->no_namespaces, "seed", (json_int_t)options->seed, "peers_file", text_or_null(options->peers_file),
        "programs", list_of(options->programs, options->program_count), "pins",
        json_pack("{s:o, s:o, s:o}", "client", text_or_null(options->client_pin.text), "server",
                  text_or_null(options->server_pin.text), "load", text_or_null(options->load_pin.text)),
        "scenarios", list_of((const char *const *)options->words, options->word_count), "tunnels", tunnels_of(options),
        "target_port", (int)options->target_port, "tcp_receive_max", (json_int_t)options->shape.tcp_receive_max,
        "tcp_send_max", (json_int_t)options->shape.tcp_send_max, "congestion", text_or_null(options->shape.congestion));
}

void record_beginning(struct results *results, const struct plan *plan, const struct bench_options *options, int argc,
                      char **argv) {
    json_decref(results->machine);
    json_decref(results->settings);
    free(results->base_peer);
    results->machine = machine_describe();
    results->settings = settings_of(options, argc, argv);
    results->base_peer = strdup(plan->base->name);
}

/* Lines of a text, which is freed; null for none. */
static json_t *lines_of(char *text) {
    json_t *lines = json_array();
    char *rest = NULL;
    if (text == NULL)
        return json_decref(lines), json_null();
    for (char *line = strtok_r(text, "\n", &rest); line != NULL; line = strtok_r(NULL, "\n", &rest))
        json_array_append_new(lines, json_string(line));
    free(text);
    return lines;
}

void record_peers(struct results *results, const struct plan *plan, const struct bench_options *options,
                  struct world *world, const struct peers *peers) {
    const struct in_addr loopback = {.s_addr = htonl(INADDR_LOOPBACK)};
    const struct tunnel_options tunnel_options = {
        .cipher = options->cipher,
        .target = {.sin_family = AF_INET, .sin_addr = loopback, .sin_port = htons(DISCARD_PORT)},
        .server_address = loopback,
        .client_place = stage_place(&options->client_pin),
        .server_place = stage_place(&options->server_pin)};
    json_decref(results->peers);
    results->peers = json_array();
    for (unsigned i = 0; i < plan->peer_count && !world_interrupted(); i++) {
        const struct peer *peer = plan->peers[i];
        bool is_own = plan_tunnel(plan, options, peer) != NULL;
        char *versions = is_own ? NULL : peer_versions(peers, peer);
        char *negotiated = is_own || !peer->is_ssh ? NULL : peer_negotiated(world, peers, peer, &tunnel_options);
        json_array_append_new(results->peers, json_pack("{s:s, s:o, s:b, s:o, s:o}", "name", peer->name, "about",
                                                        text_or_null(peer->about), "ssh", peer->is_ssh, "versions",
                                                        lines_of(versions), "negotiated", lines_of(negotiated)));
    }
}

json_t *record_parameters(const struct plan_step *step, const struct bench_options *options) {
    const struct scenario *scenario = &step->scenario;
    char direction[2] = {(char)scenario->direction, '\0'};
    return json_pack("{s:i, s:i, s:i, s:i, s:f, s:s, s:f, s:f, s:f, s:i, s:o, s:o, s:f, s:f, s:i, s:b, s:b, s:s, s:s}",
                     "flows", (int)scenario->flows, "message_bytes", (int)scenario->message_bytes, "idle_flows",
                     (int)scenario->idle_flows, "at_once", (int)scenario->at_once, "rate", scenario->rate, "direction",
                     direction, "rtt_ms", scenario->shape.rtt_ms, "rate_mbit", scenario->shape.rate_mbit, "loss",
                     scenario->shape.loss, "queue_packets", (int)scenario->shape.queue_packets, "rekey",
                     text_or_null(scenario->rekey), "limit", text_or_null(scenario->limit), "seconds", step->seconds,
                     "warmup_s", step->warmup_s, "rounds", (int)step->rounds, "warmup_round", step->has_warmup_round,
                     "fresh_tunnel", scenario->needs_fresh_tunnel, "cipher", options->cipher, "size",
                     size_name(options->size));
}

void record_end(struct results *results, bool interrupted) {
    json_object_set_new(results->settings, "ended", time_now());
    json_object_set_new(results->settings, "interrupted", json_boolean(interrupted));
}
