/* The connections of a running client, as far as they are a matter of how busy its shards are: which of them new flows
 * avoid, and how many there are: one that is lost is made again, and with `Connections auto` others come and go. On the
 * main thread; the handshake of another connection is on a thread of its own, one at a time.
 *
 *   ABSENT  ─ auto_connections says OPEN: handshake, handed to its shard ─► SERVING
 *   SERVING ─ it says CLOSE ─► CLOSING ─ a flow has come ─► SERVING
 *                                        └ none ─► ENDED
 *   SERVING, CLOSING ─ lost ─► ENDED ─ everything of it is freed ─► ABSENT
 */
#include "engine/log.h"
#include "ssh/auto_connections.h"
#include "ssh/client_internal.h"
#include "ssh/deadline.h"
#include "ssh/saturation.h"
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>

/* A handshake on a thread of its own. */
struct attempt {
    bool running; /* the thread is not joined yet */
    _Atomic bool finished;
    pthread_t thread;
    unsigned index;
    struct authenticated *made;
    int err;
};

struct connections {
    struct client *client;
    uint64_t next_ns;  /* the next look */
    const char *stays; /* why none is ever made after the start; NULL: they are */
    struct auto_connections decision;
    struct saturation *saturations; /* by shard */
    struct auto_view *views;        /* by session */
    struct attempt attempt;
};

/* ---- how many there may be ---- */

static unsigned processors(void) {
    cpu_set_t cpus;
    if (sched_getaffinity(0, sizeof(cpus), &cpus) != 0 || CPU_COUNT(&cpus) < 1)
        return 1;
    return CPU_COUNT(&cpus) < (int)LIMIT_SHARDS ? (unsigned)CPU_COUNT(&cpus) : LIMIT_SHARDS;
}

unsigned client_connections_min(const struct options *options) {
    return options->connections != 0 ? options->connections : options->stripes;
}

unsigned client_connections_max(const struct options *options) {
    if (options->connections != 0)
        return options->connections;
    unsigned max = options->shards != 0 ? options->shards : processors();
    return max < options->stripes ? options->stripes : max;
}

static bool is_auto(const struct client *client) {
    return client->options->connections == 0;
}

static const char *why_none_is_made(const struct client *client) {
    if (client->sessions_count == 1)
        return "there is one processor, or one shard";
    if (client->options->proxy_command != NULL)
        return "behind a proxy nobody knows whether another one would ask a person";
    return secrets_person_needed(client->secrets);
}

int client_connections_init(struct client *client) {
    unsigned min = client_connections_min(client->options);
    const char *stays = why_none_is_made(client);
    secrets_strip(client->secrets);
    if (!is_auto(client) && client->sessions_count == 1)
        return 0;
    if (stays != NULL && is_auto(client))
        log_verbose("Connections auto stays at %s: %s", min == 1 ? "one" : "those of Stripes", stays);
    else if (stays != NULL)
        log_verbose("a connection that is lost is not made again: %s", stays);
    struct connections *connections = calloc(1, sizeof(*connections));
    if (connections == NULL)
        return ERR_NOMEM;
    client->connections = connections;
    connections->client = client;
    connections->stays = stays;
    auto_connections_init(&connections->decision, min, client->sessions_count);
    connections->saturations = calloc(LIMIT_SHARDS, sizeof(*connections->saturations));
    connections->views = calloc(client->sessions_count, sizeof(*connections->views));
    return connections->saturations == NULL || connections->views == NULL ? ERR_NOMEM : 0;
}

/* ---- one more ---- */

/* A refusal of who we are or of who they are stays one; everything else may pass. */
static bool is_for_good(int err) {
    return err == ERR_AUTH || err == ERR_HOSTKEY;
}

static void attempt_failed(struct connections *connections, int err) {
    bool for_good = is_for_good(err);
    bool is_missed = connections->attempt.index < connections->decision.min;
    log_line(for_good && is_missed ? LOG_LEVEL_INFO : LOG_LEVEL_VERBOSE, "no other connection: %s%s", err_text(err),
             for_good ? "; it is not tried again" : "");
    auto_connections_failed(&connections->decision, deadline_now_ns(), for_good);
}

static int add_session(struct connections *connections, unsigned index, struct authenticated *made) {
    struct client *client = connections->client;
    struct client_session *session = &client->sessions[index];
    bool again = index < connections->decision.min;
    int err = index < client->shards_count || again ? 0 : client_start_shard(client);
    if (err != 0)
        return err;
    session->authenticated = made;
    session->shard = client->shards[index % client->shards_count];
    session->idle_close = false;
    client_start_session(session);
    if (again)
        log_info("connection %u to %s port %u stands again", index, client->options->hostname, client->options->port);
    else
        log_verbose("connection %u added: those there were had no more to give", index);
    auto_connections_opened(&connections->decision, deadline_now_ns());
    connections->next_ns = 0; /* another one that is missing does not wait for the next look */
    return 0;
}

static void on_attempt_news(void *arg, int64_t value) {
    struct connections *connections = arg;
    struct attempt *attempt = &connections->attempt;
    (void)value;
    pthread_join(attempt->thread, NULL);
    attempt->running = false;
    int err = attempt->err;
    if (err == 0)
        err = connections->client->state == CLIENT_RUNNING ? add_session(connections, attempt->index, attempt->made)
                                                           : ERR_CANCELED;
    if (err == 0)
        return;
    authenticated_destroy(attempt->made);
    attempt_failed(connections, err);
}

static void *attempt_main(void *arg) {
    struct connections *connections = arg;
    struct attempt *attempt = &connections->attempt;
    struct client *client = connections->client;
    pthread_setname_np(pthread_self(), "leat/handshake");
    log_hush_thread();
    attempt->err = handshake_unattended(client->options, client->secrets, &attempt->made);
    atomic_store(&attempt->finished, true);
    client_tell(client, on_attempt_news, connections, 0);
    return NULL;
}

static void attempt_begin(struct connections *connections, unsigned index) {
    struct attempt *attempt = &connections->attempt;
    *attempt = (struct attempt){.index = index};
    attempt->running = pthread_create(&attempt->thread, NULL, attempt_main, connections) == 0;
    if (!attempt->running)
        attempt_failed(connections, ERR_LIMIT);
}

/* ---- one less ---- */

static unsigned count_serving(const struct client *client) {
    unsigned count = 0;
    for (unsigned i = 0; i < client->sessions_count; i++)
        count += atomic_load(&client->sessions[i].state) == SESSION_SERVING;
    return count;
}

static void run_end_idle(void *arg, int64_t value) {
    struct client_session *session = arg;
    (void)value;
    session_end(&session->session, 0, "not needed any more");
}

/* Its shard may end it at any moment, and that stands. */
static void close_idle(struct client_session *session) {
    enum client_session_state state = SESSION_SERVING;
    if (!atomic_compare_exchange_strong(&session->state, &state, SESSION_CLOSING))
        return;
    state = SESSION_CLOSING;
    if (atomic_load(&session->relays) > 0) {
        (void)atomic_compare_exchange_strong(&session->state, &state, SESSION_SERVING);
        return;
    }
    session->idle_close = true;
    client_post(session->shard, run_end_idle, session);
}

/* Remote forwards are on the first connection. */
static bool holds_remotes(const struct client_session *session) {
    const struct client *client = session->client;
    for (unsigned i = 0; session->index == 0 && i < client->forwards_count; i++)
        if (client->forwards[i]->spec->kind == FORWARD_REMOTE &&
            (client->forwards[i]->active || client->forwards_unanswered > 0))
            return true;
    return false;
}

bool client_connections_spare(const struct client_session *session) {
    return count_serving(session->client) > 0 && !holds_remotes(session);
}

static void on_released_news(void *arg, int64_t value) {
    struct client_session *session = arg;
    (void)value;
    session->measuring = false;
    session->measured_ns = 0;
    atomic_store(&session->saturated, false);
    atomic_store(&session->state, SESSION_ABSENT);
}

/* Behind everything that the main thread has ever asked its shard to do with it. */
static void run_release(void *arg, int64_t value) {
    struct client_session *session = arg;
    (void)value;
    client_release_session(session);
    client_tell(session->client, on_released_news, session, 0);
}

void client_connections_ended(struct client_session *session, int err, const char *reason) {
    struct client *client = session->client;
    if (session->idle_close && err == 0) {
        log_verbose("connection %u closed: nothing was on it any more", session->index);
    } else {
        log_info("connection %u to %s port %u lost: %s; the others go on%s", session->index, client->options->hostname,
                 client->options->port, reason, client->connections->stays != NULL ? ", and it is not made again" : "");
        auto_connections_lost(&client->connections->decision, deadline_now_ns());
    }
    client_post(session->shard, run_release, session);
}

/* ---- a look ---- */

static void on_measured_news(void *arg, int64_t recent) {
    struct client_session *session = arg;
    session->measuring = false;
    session->measured_ns = recent ? deadline_now_ns() : 0;
}

static void run_measure(void *arg, int64_t value) {
    struct client_session *session = arg;
    (void)value;
    bool recent = !session->over && measure_look(&session->measure, &session->session, &session->measured);
    client_tell(session->client, on_measured_news, session, recent);
}

/* Are all of them idle? */
static bool sample_shards(struct connections *connections, uint64_t now_ns) {
    struct client *client = connections->client;
    bool all_idle = true;
    for (unsigned i = 0; i < client->shards_count; i++) {
        saturation_sample(&connections->saturations[i], now_ns, shard_busy_ns(client->shards[i]));
        all_idle = all_idle && saturation_is_idle(&connections->saturations[i]);
    }
    for (unsigned i = 0; i < client->sessions_count; i++) {
        struct client_session *session = &client->sessions[i];
        if (session->open)
            atomic_store(&session->saturated, connections->saturations[session->shard->index].saturated);
    }
    return all_idle;
}

static enum auto_presence presence_of(const struct client_session *session) {
    switch (atomic_load(&session->state)) {
    case SESSION_ABSENT:
        return AUTO_ABSENT;
    case SESSION_SERVING:
        return AUTO_SERVING;
    default:
        return AUTO_LEAVING;
    }
}

static struct auto_view view_of(const struct client_session *session, uint64_t now_ns) {
    struct auto_view view = {
        .presence = presence_of(session), .saturated = session->saturated, .flows = atomic_load(&session->relays)};
    if (session->measuring || now_ns - session->measured_ns > 2 * LIMIT_SATURATION_WINDOW_NS)
        return view;
    view.bytes = session->measured.bytes;
    view.heaviest = session->measured.heaviest;
    view.movable = session->measured.movable;
    return view;
}

static void decide(struct connections *connections, uint64_t now_ns) {
    struct client *client = connections->client;
    unsigned index;
    for (unsigned i = 0; i < client->sessions_count; i++)
        connections->views[i] = view_of(&client->sessions[i], now_ns);
    enum auto_step step = auto_connections_step(&connections->decision, now_ns, connections->views, &index);
    if (step == AUTO_OPEN)
        return attempt_begin(connections, index);
    if (step == AUTO_CLOSE)
        return close_idle(&client->sessions[index]);
    if (!auto_connections_wants_measures(&connections->decision, now_ns, connections->views))
        return;
    for (unsigned i = 0; i < client->sessions_count; i++) {
        struct client_session *session = &client->sessions[i];
        if (!session->open || session->measuring || connections->views[i].flows < 2)
            continue;
        session->measuring = true;
        client_post(session->shard, run_measure, session);
    }
}

static bool carries_nothing(const struct client *client) {
    uint32_t relays = 0;
    for (unsigned i = 0; i < client->sessions_count; i++)
        relays += atomic_load_explicit(&client->sessions[i].relays, memory_order_relaxed);
    return relays == 0;
}

/* There is something to choose among, or something to add. */
static bool is_looked_at(const struct connections *connections) {
    return connections != NULL && connections->client->state == CLIENT_RUNNING &&
           (connections->stays == NULL || connections->decision.min > 1);
}

void client_connections_go_on(struct client *client) {
    struct connections *connections = client->connections;
    uint64_t now_ns = deadline_now_ns();
    if (!is_looked_at(connections) || now_ns < connections->next_ns)
        return;
    bool quiet = sample_shards(connections, now_ns) || carries_nothing(client);
    connections->next_ns = now_ns + (quiet ? LIMIT_SATURATION_QUIET_NS : LIMIT_SATURATION_WINDOW_NS);
    if (connections->stays == NULL)
        decide(connections, now_ns);
}

int client_connections_timeout_ms(const struct client *client) {
    const struct connections *connections = client->connections;
    if (!is_looked_at(connections))
        return -1;
    return connections->next_ns == 0 ? 0 : deadline_poll_ms(connections->next_ns);
}

/* ---- for people; the end ---- */

void client_connections_print(const struct client *client) {
    const struct connections *connections = client->connections;
    if (connections == NULL)
        return;
    unsigned serving = count_serving(client);
    const char *what = connections->decision.gave_up   ? ", none will be added: the server took no other"
                       : connections->decision.opening ? ", adding one"
                                                       : "";
    if (!is_auto(client))
        return log_info("Connections %u: %u serving%s", client->sessions_count, serving, what);
    if (connections->stays != NULL)
        return log_info("Connections auto: %u, and it stays there: %s", serving, connections->stays);
    log_info("Connections auto: %u of at most %u%s", serving, client->sessions_count, what);
}

bool client_connections_busy(const struct client *client) {
    const struct connections *connections = client->connections;
    return connections != NULL && connections->attempt.running && !atomic_load(&connections->attempt.finished);
}

void client_connections_release(struct client *client) {
    struct connections *connections = client->connections;
    if (connections == NULL)
        return;
    if (connections->attempt.running) {
        pthread_join(connections->attempt.thread, NULL);
        authenticated_destroy(connections->attempt.made);
    }
    free(connections->saturations);
    free(connections->views);
    free(connections);
}
