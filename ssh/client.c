/* The main thread of a running client: news from the shards, signals, draining, the end. */
#include "engine/check.h"
#include "engine/limits.h"
#include "engine/log.h"
#include "engine/offload.h"
#include "ssh/client_internal.h"
#include "ssh/deadline.h"
#include "ssh/forward_stripe.h"
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <time.h>
#include <unistd.h>

static uint64_t now_ns(void) {
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * SECOND_NS + (uint64_t)ts.tv_nsec;
}

/* ---- asked by forwards, on shards ---- */

const struct options *client_options(const struct client *client) {
    return client->options;
}
struct window_budget *client_budget(struct client *client) {
    return &client->budget;
}
unsigned client_sessions_count(const struct client *client) {
    return client->sessions_count;
}
struct client_session *client_session_at(struct client *client, unsigned index) {
    return &client->sessions[index];
}
struct shard *client_listener_shard(const struct client *client) {
    return client->shards[0];
}

static bool serves(const struct client_session *session) {
    return atomic_load(&session->state) == SESSION_SERVING;
}

bool client_session_is_silent(const struct client_session *session) {
    return atomic_load(&session->lanes_asked) >= LIMIT_LANES_ASKED;
}

static struct client_session *best_session(struct client *client, client_fits_fn *fits, const void *arg) {
    struct client_session *best = NULL;
    uint64_t best_load = UINT64_MAX;
    for (unsigned i = 0; i < client->sessions_count; i++) {
        struct client_session *session = &client->sessions[i];
        bool saturated = atomic_load_explicit(&session->saturated, memory_order_relaxed);
        bool plain = client->options->stripes > 1 && atomic_load(&session->stripes) < 2; /* as far as is known yet */
        uint64_t load = (uint64_t)client_session_is_silent(session) << 34 | (uint64_t)plain << 33 |
                        (uint64_t)saturated << 32 | atomic_load_explicit(&session->relays, memory_order_relaxed);
        if (load >= best_load || !serves(session) || (fits != NULL && !fits(arg, session)))
            continue;
        best = session;
        best_load = load;
    }
    return best;
}

/* Counted first and then looked at again: the main thread, which does it the other way round before it closes an idle
 * session, cannot miss the relay. */
struct client_session *client_choose_session(struct client *client, client_fits_fn *fits, const void *arg) {
    struct client_session *best;
    while ((best = best_session(client, fits, arg)) != NULL) {
        atomic_fetch_add(&best->relays, 1);
        if (serves(best))
            break;
        client_relay_ended(best);
    }
    return best;
}

void client_relay_ended(struct client_session *session) {
    atomic_fetch_sub_explicit(&session->relays, 1, memory_order_relaxed);
}

void client_striping_began(struct client *client) {
    atomic_fetch_add(&client->stripings, 1);
}

static void on_striping_news(void *arg, int64_t value) {
    (void)arg, (void)value; /* the main thread looks at the count after each turn */
}

/* Either this sees that the main thread waits for the last one, or that one sees the count. */
void client_striping_ended(struct client *client) {
    if (atomic_fetch_sub(&client->stripings, 1) == 1 && atomic_load(&client->ending))
        client_tell(client, on_striping_news, client, 0);
}

struct forward *client_find_remote(struct client *client, struct bytes host, uint32_t port) {
    struct forward *best = NULL;
    enum forward_match best_match = FORWARD_MATCH_NONE;
    list_for_each (node, &client->remotes) {
        struct forward *forward = list_entry(node, struct forward, node);
        enum forward_match match = forward_matches(forward, host, port);
        if (match <= best_match)
            continue;
        best = forward;
        best_match = match;
    }
    return best;
}

void client_serve_remote(struct forward *forward) {
    list_push_back(&forward->client->remotes, &forward->node);
}

/* News is small and rare (a handful per forward and session), so the box cannot be full. */
void client_tell(struct client *client, void (*run)(void *, int64_t), void *arg, int64_t value) {
    int err = mailbox_post(client->news, (struct message){.run = run, .arg = arg, .value = value});
    CHECK(err == 0);
}

/* ---- ending ---- */

static void end_session(void *arg, int64_t value) {
    struct client_session *session = arg;
    (void)value;
    session_end(&session->session, 0, "tunnel closed");
}

static void close_forward(void *arg, int64_t value) {
    (void)value;
    forward_close(arg);
}

void client_post(struct shard *shard, void (*run)(void *, int64_t), void *arg) {
    struct timespec pause = {.tv_nsec = 1000000};
    while (shard_post(shard, run, arg, 0) != 0) /* only while the shard is busy with a full box */
        nanosleep(&pause, NULL);
}

void client_close_forward(struct forward *forward) {
    forward->active = false;
    client_post(forward->client->shards[0], close_forward, forward);
}

static void stop_listening(struct client *client) {
    if (!client->listening)
        return;
    client->listening = false;
    for (unsigned i = 0; i < client->forwards_count; i++)
        if (client->forwards[i]->active && client->forwards[i]->spec->kind == FORWARD_LOCAL)
            client_close_forward(client->forwards[i]);
}

static void begin_ending(struct client *client, int status) {
    if (client->state == CLIENT_ENDING)
        return;
    client->state = CLIENT_ENDING;
    client->status = status;
    atomic_store(&client->ending, true);
    stop_listening(client);
    for (unsigned i = 0; i < client->sessions_count; i++)
        if (client->sessions[i].open)
            client_post(client->sessions[i].shard, end_session, &client->sessions[i]);
}

static uint32_t relays_running(struct client *client) {
    uint32_t relays = 0;
    for (unsigned i = 0; i < client->sessions_count; i++)
        relays += atomic_load_explicit(&client->sessions[i].relays, memory_order_relaxed);
    return relays;
}

static void begin_draining(struct client *client, uint32_t default_timeout_s) {
    if (client->state == CLIENT_DRAINING) /* asked twice: at once */
        return begin_ending(client, 0);
    if (client->state == CLIENT_ENDING)
        return;
    uint32_t timeout_s = client->drain_timeout_given ? client->drain_timeout_s : default_timeout_s;
    client->state = CLIENT_DRAINING;
    client->drain_deadline_ns = now_ns() + timeout_s * SECOND_NS;
    stop_listening(client);
}

/* ---- news from shards ---- */

struct session_news {
    struct client_session *session;
    int err;
    char reason[512];
};

static void on_session_news(void *arg, int64_t value) {
    struct session_news *news = arg;
    struct client *client = news->session->client;
    (void)value;
    news->session->open = false;
    client->sessions_open--;
    if (client->state != CLIENT_ENDING && client_connections_spare(news->session)) {
        client_connections_ended(news->session, news->err, news->reason);
    } else if (client->state != CLIENT_ENDING) { /* in ending, why has been told */
        log_error("connection to %s port %u lost: %s", client->options->hostname, client->options->port, news->reason);
        begin_ending(client, EXIT_FAILED);
    }
    free(news);
}

/* New flows go elsewhere at once, before the main thread has heard of it. */
void client_session_ending(struct session *session) {
    struct client_session *of = session->owner;
    atomic_store(&of->state, SESSION_ENDED);
}

void client_session_ended(struct session *session, int err, const char *reason) {
    struct client_session *of = session->owner;
    of->over = true;
    atomic_store(&of->state, SESSION_ENDED);
    struct session_news *news = malloc(sizeof(*news));
    CHECK(news != NULL);
    *news = (struct session_news){.session = of, .err = err};
    snprintf(news->reason, sizeof(news->reason), "%s", reason);
    client_tell(of->client, on_session_news, news, 0);
}

static void on_listener_news(void *arg, int64_t value) {
    struct forward *forward = arg;
    (void)value;
    forward->client->listeners_open--;
    if (forward->removing)
        forward->client->reload.waiting--;
}

void client_listener_closed(struct forward *forward) {
    client_tell(forward->client, on_listener_news, forward, 0);
}

static void on_hello_news(void *arg, int64_t value) {
    struct client *client = arg;
    (void)value;
    client->hellos_unanswered--;
}

void client_hello_answered(struct client_session *session, uint32_t stripes) {
    atomic_store(&session->stripes, stripes);
    client_tell(session->client, on_hello_news, session->client, 0);
}

static void on_answer_news(void *arg, int64_t success) {
    struct forward *forward = arg;
    struct client *client = forward->client;
    const struct forward_spec *spec = forward->spec;
    client->forwards_unanswered--;
    forward->active = success;
    /* What the end leaves without an answer was not refused by the server. */
    if (client->state == CLIENT_ENDING)
        return;
    if (success && spec->port == 0)
        log_plain(LOG_LEVEL_INFO, "Allocated port %u for remote forward to %s:%u", forward->port, spec->host,
                  spec->host_port);
    if (success) {
        log_verbose("-R %s: the server listens on port %u", spec->text, forward->port);
    } else {
        log_error("-R %s: remote port forwarding failed for listen port %u: the server refused it", spec->text,
                  spec->port);
        if (client->options->exit_on_forward_failure && client->state == CLIENT_STARTING)
            begin_ending(client, EXIT_FAILED);
    }
}

void client_forward_answered(struct forward *forward, bool success) {
    client_tell(forward->client, on_answer_news, forward, success);
}

static void on_cancel_news(void *arg, int64_t success) {
    struct forward *forward = arg;
    struct client *client = forward->client;
    client->reload.waiting--;
    if (!success && client->state != CLIENT_ENDING)
        log_error("-R %s: the server did not cancel it; its connections are refused here", forward->spec->text);
}

void client_forward_cancelled(struct forward *forward, bool success) {
    client_tell(forward->client, on_cancel_news, forward, success);
}

/* ---- the main thread's loop ---- */

static void print_session(void *arg, int64_t value) {
    struct client_session *of = arg;
    (void)value;
    forward_stripe_print(of); /* they may outlive it */
    if (of->over)
        return;
    log_info("connection %u to %s: shard %u, %u connections, %" PRIu64 " bytes in, %" PRIu64 " bytes out, %u rekeys%s",
             of->index, of->client->options->hostname, of->shard->index, of->session.relays_count, of->session.bytes_in,
             of->session.bytes_out, of->authenticated->transport.wire.out.epochs - 1,
             of->saturated ? ", saturated" : "");
    relay_print(&of->session);
}

/* Whoever had leat in the foreground of a terminal that is gone now means the end, as with ssh(1). */
static bool terminal_is_gone(const struct client *client) {
    int fd = client->has_terminal ? open("/dev/tty", O_RDWR | O_NOCTTY | O_CLOEXEC) : -1;
    if (fd >= 0)
        close(fd);
    return client->has_terminal && fd < 0;
}

static void on_hangup(struct client *client) {
    if (terminal_is_gone(client))
        return begin_draining(client, 0);
    client->reload.wanted = true;
}

static void on_signal(struct client *client) {
    struct signalfd_siginfo info;
    if (read(client->signal_fd, &info, sizeof(info)) != sizeof(info))
        return;
    if (info.ssi_signo == SIGINT)
        return begin_draining(client, 0);
    if (info.ssi_signo == SIGTERM)
        return begin_draining(client, 10);
    if (info.ssi_signo == SIGHUP)
        return on_hangup(client);
    client_connections_print(client);
    for (unsigned i = 0; i < client->sessions_count; i++)
        if (client->sessions[i].shard != NULL)
            client_post(client->sessions[i].shard, print_session, &client->sessions[i]);
}

static int poll_timeout_ms(const struct client *client) {
    if (client->state == CLIENT_STARTING && !client->listening)
        return deadline_poll_ms(client->hellos_deadline_ns);
    if (client->state != CLIENT_DRAINING)
        return client_connections_timeout_ms(client);
    uint64_t now = now_ns();
    if (now >= client->drain_deadline_ns)
        return 0;
    uint64_t left_ms = (client->drain_deadline_ns - now) / 1000000 + 1;
    return left_ms < 50 ? (int)left_ms : 50;
}

static void run_loop(struct client *client) {
    struct pollfd fds[2] = {{.fd = client->signal_fd, .events = POLLIN},
                            {.fd = mailbox_fd(client->news), .events = POLLIN}};
    client_start_go_on(client);
    while (client->sessions_open > 0 || client->listeners_open > 0 || atomic_load(&client->stripings) > 0) {
        if (poll(fds, 2, poll_timeout_ms(client)) < 0 && errno != EINTR)
            break;
        if (fds[0].revents != 0)
            on_signal(client);
        mailbox_run(client->news);
        client_start_go_on(client);
        client_reload_go_on(client);
        client_connections_go_on(client);
        if (client->state == CLIENT_DRAINING && (relays_running(client) == 0 || now_ns() >= client->drain_deadline_ns))
            begin_ending(client, 0);
    }
}

int client_run(const struct options *options, const struct client_program *program) {
    struct client client = {.options = options,
                            .program = program,
                            .drain_timeout_given = options->drain_timeout_given,
                            .drain_timeout_s = options->drain_timeout_s,
                            .alive_interval_s = options->server_alive_interval_s,
                            .alive_count_max = options->server_alive_count_max,
                            .signal_fd = -1};
    list_init(&client.remotes);
    window_budget_init(&client.budget, options->memory_limit);
    int err = client_start(&client);
    if (err == 0) {
        if (log_start_thread() != 0) /* everything that forks has forked */
            log_error("the log has no thread: a reader that is slow will hold the tunnel up");
        client_serve(&client);
        run_loop(&client);
        /* Everything is closed; a name server or an sshd that does not answer holds nobody up. */
        if (offload_busy() || client_connections_busy(&client)) {
            log_stop_thread();
            _exit(client.status);
        }
        offload_stop();
    }
    for (unsigned i = 0; i < client.shards_count; i++) {
        shard_stop(client.shards[i]);
        shard_join(client.shards[i]);
    }
    if (err == 0)
        (void)mailbox_run(client.news); /* what shards had to say after all was closed */
    log_stop_thread();
    client_release(&client);
    return err == 0 ? client.status : EXIT_FAILED;
}
