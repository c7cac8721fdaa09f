#include "bench/stage.h"
#include <arpa/inet.h>
#include <errno.h>
#include <string.h>

#define WHY_BYTES 4096

static struct place pinned(struct place place, const struct bench_pin *pin) {
    place.pinned = pin->text != NULL;
    place.cpus = pin->cpus;
    return place;
}

struct place stage_place(const struct bench_pin *pin) {
    return pinned(PLACE_HERE, pin);
}

static struct in_addr loopback(void) {
    return (struct in_addr){.s_addr = htonl(INADDR_LOOPBACK)};
}

static bool in_namespaces(const struct stage *stage) {
    return stage->has_link && !stage->link.is_proxy;
}

/* Only namespaces lose packets and have limits of their own. Not to have them is a failure where that was asked for by
 * name. */
static bool refuse_proxy(struct stage *stage, const char *why) {
    static const char what[] = "left out: losses and TCP's limits need network namespaces, which cannot be made here";
    if (link_needs_namespaces(&stage->options->shape))
        results_fail(stage->results, "%s: %s", what, why);
    else
        results_scenario_warn(stage->results, "%s: %s", what, why);
    return false;
}

static void record_link(struct stage *stage) {
    const struct link *link = &stage->link;
    json_t *parameters = stage->results->parameters;
    json_object_set_new(parameters, "link", json_string(link->is_proxy ? "proxy" : "namespaces"));
    if (!link->is_proxy)
        json_object_set_new(parameters, "tcp",
                            json_pack("{s:s, s:s, s:s}", "tcp_rmem", link->tcp.receive, "tcp_wmem", link->tcp.send,
                                      "tcp_congestion_control", link->tcp.congestion));
}

static bool open_link(struct stage *stage) {
    const struct link_shape *shape = &stage->step->scenario.shape;
    char why[WHY_BYTES] = "";
    if (shape->rtt_ms <= 0 && shape->rate_mbit <= 0)
        return true;
    bool needs_proxy = stage->step->scenario.needs_proxy;
    stage->has_link = link_start(&stage->link, shape, !stage->options->no_namespaces && !needs_proxy, why, sizeof(why));
    if (!stage->has_link) {
        results_fail(stage->results, "no link: %s", why);
        return false;
    }
    record_link(stage);
    if (stage->link.is_proxy && !needs_proxy)
        results_scenario_warn(stage->results, "weaker: the distance is a delaying proxy%s%s",
                              why[0] != '\0' ? ": " : "", why);
    return !stage->link.is_proxy || !link_needs_namespaces(shape) || refuse_proxy(stage, why);
}

static bool open_target(struct stage *stage) {
    struct place place = stage_place(&stage->options->load_pin);
    struct in_addr address = in_namespaces(stage) ? stage->link.far_address : loopback();
    uint16_t port = in_namespaces(stage) ? 0 : stage->options->target_port;
    if (in_namespaces(stage))
        place = pinned(stage->link.far, &stage->options->load_pin);
    stage->has_target = target_start(&stage->target, address, port, &place);
    if (!stage->has_target)
        results_fail(stage->results, "no target: %s", strerror(errno));
    return stage->has_target;
}

static void place_all(struct stage *stage) {
    const struct bench_options *options = stage->options;
    stage->load_place = stage_place(&options->load_pin);
    stage->tunnel_options = (struct tunnel_options){.cipher = options->cipher,
                                                    .rekey = stage->step->scenario.rekey,
                                                    .limit = stage->step->scenario.limit,
                                                    .target = stage->target.address,
                                                    .server_address = loopback(),
                                                    .client_place = stage_place(&options->client_pin),
                                                    .server_place = stage_place(&options->server_pin)};
    if (!in_namespaces(stage))
        return;
    stage->tunnel_options.server_address = stage->link.far_address;
    stage->load_place = pinned(stage->link.near, &options->load_pin);
    stage->tunnel_options.client_place = pinned(stage->link.near, &options->client_pin);
    stage->tunnel_options.server_place = pinned(stage->link.far, &options->server_pin);
}

/* Through a proxy of connections the distance lies before what the client connects to; where there is no client, before
 * what the load connects to. */
static bool start_over_proxy(struct stage *stage, struct contestant *contestant, char *why, size_t why_bytes) {
    struct tunnel_options options = stage->tunnel_options;
    struct tunnel *tunnel = &contestant->tunnel;
    bool has_both = contestant->peer->has_client && contestant->peer->has_server;
    if (has_both) {
        options.server_port = world_free_port();
        options.server_port_seen = link_proxy_port(&stage->link, options.server_port);
    }
    if (!tunnel_start(stage->world, stage->peers, contestant->peer, &options, tunnel, why, why_bytes))
        return false;
    if (!has_both)
        tunnel->address.sin_port = htons(link_proxy_port(&stage->link, ntohs(tunnel->address.sin_port)));
    return true;
}

static bool start(struct stage *stage, struct contestant *contestant, char *why, size_t why_bytes) {
    const struct bench_tunnel *own = plan_tunnel(stage->plan, stage->options, contestant->peer);
    if (own != NULL) {
        contestant->tunnel = (struct tunnel){.peer = contestant->peer, .address = own->address};
        contestant->tunnel.is_reached_directly = true;
        return true;
    }
    if (stage->has_link && stage->link.is_proxy)
        return start_over_proxy(stage, contestant, why, why_bytes);
    return tunnel_start(stage->world, stage->peers, contestant->peer, &stage->tunnel_options, &contestant->tunnel, why,
                        why_bytes);
}

bool stage_start(struct stage *stage, struct contestant *contestant) {
    char why[WHY_BYTES] = "";
    contestant->is_up = start(stage, contestant, why, sizeof(why));
    contestant->is_out = !contestant->is_up;
    if (contestant->is_out && !world_interrupted())
        results_fail(stage->results, "%s: not started: %s", contestant->peer->name, why);
    return contestant->is_up;
}

void stage_stop(struct stage *stage, struct contestant *contestant) {
    if (contestant->is_up && plan_tunnel(stage->plan, stage->options, contestant->peer) == NULL)
        tunnel_stop(stage->world, &contestant->tunnel);
    contestant->is_up = false;
}

bool stage_open(struct stage *stage) {
    unsigned fit = 0;
    if (!open_link(stage) || !open_target(stage))
        return false;
    place_all(stage);
    for (unsigned i = 0; i < stage->step->peer_count && !world_interrupted(); i++) {
        struct contestant *contestant = &stage->contestants[i];
        contestant->peer = stage->step->peers[i];
        fit += stage->step->scenario.needs_fresh_tunnel || stage_start(stage, contestant);
    }
    return fit > 0;
}

void stage_close(struct stage *stage) {
    for (unsigned i = 0; i < stage->step->peer_count; i++)
        stage_stop(stage, &stage->contestants[i]);
    if (stage->has_target)
        target_stop(&stage->target);
    if (stage->has_link)
        link_stop(&stage->link);
}
