#include "ssh/forward_stripe.h"
#include "engine/limits.h"
#include "engine/log.h"
#include "engine/resolve.h"
#include "ssh/client.h"
#include "ssh/striped.h"
#include <inttypes.h>
#include <openssl/crypto.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* On one session. Its place is given away by the striping's shard and given back by the session's. */
struct lane {
    struct forward_route route; /* first: it is what the owners of a client's relays are taken for (client_measure.h) */
    struct striping *striping;
    uint32_t identity;
    _Atomic bool taken;
    bool founds; /* it leads to the target, the others to the striped connection */
    bool asks;   /* counted in its session's lanes_asked */
};

struct striping {
    struct list node;    /* in its founder's stripings: of the session that it began on, */
    struct shard *shard; /* whose shard it stays on when that one is lost and made again */
    const struct forward *forward;
    struct striped *striped;        /* NULL: over */
    uint8_t key[STRIPED_KEY_BYTES]; /* for lanes that begin when it may be over */
    _Atomic unsigned holders;       /* the striped, and lanes: the last one frees it */
    uint64_t started_ns;
    unsigned lanes_opened, lanes_max;
    bool told; /* why it ended */
    struct lane lanes[];
};

static void answered(struct lane *lane) {
    if (!lane->asks)
        return;
    lane->asks = false;
    atomic_fetch_sub(&lane->route.session->lanes_asked, 1);
}

static void let_go(struct striping *striping) {
    if (atomic_fetch_sub(&striping->holders, 1) != 1)
        return;
    OPENSSL_cleanse(striping->key, sizeof(striping->key));
    free(striping);
}

/* ---- a lane's relay ---- */

static void lane_over(struct lane *lane) {
    struct striping *striping = lane->striping;
    answered(lane);
    client_relay_ended(lane->route.session);
    atomic_store(&lane->taken, false);
    let_go(striping);
}

static void on_lane_opened(void *owner, const struct relay_state *state) {
    (void)state;
    answered(owner);
}

static void on_lane_end(void *owner, const struct relay_state *end) {
    struct lane *lane = owner;
    struct striping *striping = lane->striping;
    const char *text = striping->forward->spec->text;
    if (lane->founds && !end->opened && end->what != NULL && striping->striped != NULL) {
        striping->told = true;
        log_error("-L %s: %s", text, end->what);
    } else if (end->what != NULL) {
        log_debug("-L %s: its lane on connection %u ended: %s", text, lane->route.session->index, end->what);
    }
    lane_over(lane);
}

static const struct relay_watcher lane_watcher = {.on_opened = on_lane_opened, .on_end = on_lane_end};

static struct lane *free_lane(struct striping *striping) {
    for (unsigned i = 0; i < striping->lanes_max; i++)
        if (!atomic_load(&striping->lanes[i].taken))
            return &striping->lanes[i];
    return NULL;
}

static void take_lane(struct lane *lane, struct client_session *session, bool founds) {
    struct striping *striping = lane->striping;
    lane->route.session = session;
    lane->founds = founds;
    lane->asks = !founds; /* a target may take its time */
    if (lane->asks)
        atomic_fetch_add(&session->lanes_asked, 1);
    atomic_store(&lane->taken, true);
    atomic_fetch_add(&striping->holders, 1);
    striping->lanes_opened++;
}

static void open_joining(void *arg, int64_t fd) {
    struct lane *lane = arg;
    struct relay_target target = {
        .kind = RELAY_STRIPE_JOIN, .stripe_key = lane->striping->key, .stripe_lane = lane->identity};
    relay_open(&lane->route.session->session, (int)fd, &target, &lane_watcher, lane);
}

/* ---- the striped connection ---- */

static bool could_carry(const void *arg, const struct client_session *session) {
    const struct striping *striping = arg;
    if (atomic_load(&session->stripes) < 2 || client_session_is_silent(session))
        return false;
    for (unsigned i = 0; i < striping->lanes_max; i++)
        if (atomic_load(&striping->lanes[i].taken) && striping->lanes[i].route.session == session)
            return false;
    return true;
}

/* What cannot be had now is asked for again later (striped.h). */
static void on_want(void *owner, struct striped *striped) {
    struct striping *striping = owner;
    struct lane *lane = free_lane(striping);
    struct client_session *session =
        lane != NULL ? client_choose_session(striping->forward->client, could_carry, striping) : NULL;
    if (session == NULL)
        return;
    int fd, err = striped_join(striped, &fd, &lane->identity);
    if (err != 0)
        return client_relay_ended(session);
    take_lane(lane, session, false);
    if (session->shard == striping->shard)
        return open_joining(lane, fd);
    if (shard_post(session->shard, open_joining, lane, fd) == 0)
        return;
    io_close(striping->shard->io, fd, IO_CLOSE_RESET);
    lane_over(lane);
}

static void on_striped_end(void *owner, const struct striped_state *state, const char *what) {
    struct striping *striping = owner;
    double seconds = (double)(shard_now(striping->shard) - striping->started_ns) / 1e9;
    striping->striped = NULL;
    list_remove(&striping->node);
    if (!striping->told)
        log_verbose("-L %s: connection closed%s%s: %" PRIu64 " bytes to the far side, %" PRIu64
                    " from it, %.3f s, %u lanes",
                    striping->forward->spec->text, what != NULL ? ": " : "", what != NULL ? what : "",
                    state->bytes_to_peer, state->bytes_from_peer, seconds, striping->lanes_opened);
    client_striping_ended(striping->forward->client);
    let_go(striping);
}

static const struct striped_watcher striped_watcher = {.on_want = on_want, .on_end = on_striped_end};

static struct striping *striping_create(const struct forward_route *route, unsigned lanes_max) {
    struct striping *striping = calloc(1, sizeof(*striping) + lanes_max * sizeof(struct lane));
    if (striping == NULL)
        return NULL;
    striping->shard = route->session->shard;
    striping->forward = route->forward;
    striping->started_ns = shard_now(route->session->shard);
    striping->lanes_max = lanes_max;
    for (unsigned i = 0; i < lanes_max; i++) {
        striping->lanes[i].striping = striping;
        striping->lanes[i].route.forward = route->forward;
    }
    list_init(&striping->node);
    return striping;
}

/* Its striped stands: from now on its watcher ends it. */
static void striping_began(struct striping *striping, struct client_session *founder, int app_fd, int lane_fd) {
    const struct forward_spec *spec = striping->forward->spec;
    struct sockaddr_storage addr = {0};
    socklen_t len = sizeof(addr);
    char origin[64];
    bool known = getpeername(app_fd, (struct sockaddr *)&addr, &len) == 0;
    struct relay_target target = {
        .kind = RELAY_STRIPE,
        .host = spec->host,
        .port = spec->host_port,
        .stripe_key = striping->key,
        .origin = known ? address_host((struct sockaddr *)&addr, origin, sizeof(origin)) : NULL,
        .origin_port = known ? address_port((struct sockaddr *)&addr) : 0,
    };
    memcpy(striping->key, striped_key(striping->striped), sizeof(striping->key));
    list_push_back(&founder->stripings, &striping->node);
    client_striping_began(striping->forward->client);
    atomic_store(&striping->holders, 1);
    take_lane(&striping->lanes[0], founder, true);
    relay_open(&founder->session, lane_fd, &target, &lane_watcher, &striping->lanes[0]);
}

bool forward_stripe(struct forward_route *route, int fd) {
    struct client_session *session = route->session;
    const struct options *options = client_options(route->forward->client);
    uint32_t theirs = atomic_load(&session->stripes);
    unsigned lanes_max = theirs < options->stripes ? theirs : options->stripes;
    if (lanes_max < 2 || session->session.ending)
        return false;
    uint32_t window_max = options->max_window != 0 ? options->max_window : LIMIT_STRIPE_WINDOW_BYTES;
    struct striping *striping = striping_create(route, lanes_max);
    int lane_fd, err = striping == NULL ? ERR_NOMEM
                                        : striped_start(session->shard, fd, client_budget(route->forward->client),
                                                        window_max, lanes_max, NULL, NULL, &striped_watcher, striping,
                                                        &striping->striped, &lane_fd);
    if (err != 0) {
        log_verbose("-L %s: a connection goes unstriped: %s", route->forward->spec->text, err_text(err));
        free(striping);
        return false;
    }
    striping_began(striping, session, fd, lane_fd);
    return true;
}

/* ---- for people ---- */

static void print(const struct striping *striping) {
    char lanes[STRIPE_LANES_MAX * 5] = "";
    for (unsigned i = 0, used = 0; i < striping->lanes_max; i++)
        if (atomic_load(&striping->lanes[i].taken))
            used += (unsigned)snprintf(lanes + used, sizeof(lanes) - used, "%s%u", used > 0 ? ", " : "",
                                       striping->lanes[i].route.session->index);
    struct striped_state state = striped_state(striping->striped);
    log_info("-L %s: striped over connections %s: %" PRIu64 " bytes to the far side, %" PRIu64
             " bytes from it, age %.1f s",
             striping->forward->spec->text, lanes, state.bytes_to_peer, state.bytes_from_peer,
             (double)(shard_now(striping->shard) - striping->started_ns) / 1e9);
}

void forward_stripe_print(const struct client_session *session) {
    list_for_each (node, &session->stripings)
        print(list_entry(node, struct striping, node));
}
