/* How the client comes up: what may ask a person first, then what must be bound, then threads. */
#include "engine/limits.h"
#include "engine/log.h"
#include "engine/offload.h"
#include "ssh/client_internal.h"
#include "ssh/deadline.h"
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/signalfd.h>
#include <unistd.h>

#define HELLOS_NS (10 * SECOND_NS) /* an answer takes a round trip */

/* hostkeys-00@openssh.com and keepalive@openssh.com: nothing to grant, and any answer is the answer. */
static bool on_global(struct mux *mux, struct bytes name, struct bytes data, uint8_t *reply, uint32_t *reply_len) {
    (void)mux, (void)name, (void)data, (void)reply, (void)reply_len;
    return false;
}

static const struct mux_ops mux_ops = {
    .on_open = forward_on_open, .on_global = on_global, .on_shortage = forward_on_shortage};

static void on_hello(struct session *session) {
    client_hello_answered(session->owner, session->peer.stripes);
}

static int start_session(struct client_session *of) {
    const struct client *client = of->client;
    const struct options *options = client->options;
    struct authenticated *authenticated = of->authenticated;
    struct session_options wanted = {.fd = authenticated->fd,
                                     .transport = &authenticated->transport,
                                     .early = authenticated->early,
                                     .early_len = authenticated->early_len,
                                     .mux_ops = &mux_ops,
                                     .budget = &of->client->budget,
                                     .window_max = options->max_window,
                                     .alive_interval_ns = client->alive_interval_s * SECOND_NS,
                                     .alive_count_max = client->alive_count_max,
                                     .rekey_interval_ns = options->rekey_limit_s * SECOND_NS,
                                     .on_ended = client_session_ended,
                                     .on_ending = client_session_ending,
                                     .on_hello = on_hello,
                                     .owner = of};
    int err = session_start(&of->session, of->shard, &wanted);
    if (err == 0)
        authenticated->fd = -1; /* the session's now */
    return err;
}

static void run_start_session(void *arg, int64_t value) {
    struct client_session *of = arg;
    (void)value;
    of->over = false;
    int err = start_session(of);
    if (err != 0) {
        client_hello_answered(of, 0);
        return client_session_ended(&(struct session){.owner = of}, err, err_text(err));
    }
    hello_ask(&of->session);
}

void client_start_session(struct client_session *session) {
    session->open = true;
    session->client->sessions_open++;
    session->client->hellos_unanswered++;
    atomic_store(&session->stripes, 0);
    client_post(session->shard, run_start_session, session);
    /* What is chosen for it comes to its shard behind the start. It may be over by now, and that stands. */
    enum client_session_state state = SESSION_ABSENT;
    (void)atomic_compare_exchange_strong(&session->state, &state, SESSION_SERVING);
}

static void run_request(void *arg, int64_t value) {
    struct forward *forward = arg;
    struct client_session *first = client_session_at(forward->client, 0);
    (void)value;
    if (first->over)
        return client_forward_answered(forward, false);
    forward_request(forward, &first->session);
}

void client_request(struct forward *forward) {
    forward->client->forwards_unanswered++;
    client_post(client_session_at(forward->client, 0)->shard, run_request, forward);
}

static void run_listen(void *arg, int64_t value) {
    (void)value;
    forward_listen(arg);
}

void client_listen(struct forward *forward) {
    forward->active = true;
    forward->client->listeners_open += forward->listeners_count;
    client_post(forward->client->shards[0], run_listen, forward);
}

static int resolve_forwards(struct client *client) {
    for (unsigned i = 0; i < client->forwards_count; i++) {
        struct forward *forward = client->forwards[i];
        int err = forward->spec->kind == FORWARD_LOCAL ? forward_resolve(forward) : 0;
        if (err != 0 && client->options->exit_on_forward_failure)
            return err;
    }
    return 0;
}

static int bind_forwards(struct client *client) {
    for (unsigned i = 0; i < client->forwards_count; i++) {
        struct forward *forward = client->forwards[i];
        int err = forward->addresses.count > 0 ? forward_bind(forward) : 0;
        if (err != 0 && client->options->exit_on_forward_failure)
            return err;
    }
    return 0;
}

static int make_sessions(struct client *client) {
    const struct options *options = client->options;
    unsigned count = client_connections_min(options);
    int err = secrets_create(&client->secrets);
    for (unsigned i = 0; i < count && err == 0; i++)
        err = handshake_client(options, client->secrets, &client->sessions[i].authenticated);
    return err;
}

int client_start_shard(struct client *client) {
    unsigned i = client->shards_count;
    struct shard_options options = {.backend = client->options->io_backend, .index = i, .cpu = -1};
    int err = shard_start(&options, &client->shards[i]);
    client->shards_count += err == 0;
    return err;
}

/* `Connections auto` starts them as it needs them. */
static int start_shards(struct client *client) {
    const struct options *options = client->options;
    unsigned count = client_connections_min(options);
    if (options->shards != 0 && (options->connections != 0 || options->shards < count))
        count = options->shards;
    while (client->shards_count < count) {
        int err = client_start_shard(client);
        if (err == 0)
            continue;
        log_error("cannot start shard %u: %s", client->shards_count, err_text(err));
        return err;
    }
    log_verbose("%u shard(s) on %s", client->shards_count, io_name(client->shards[0]->io));
    return 0;
}

void client_serve(struct client *client) {
    for (unsigned i = 0; i < client->sessions_count && client->sessions[i].authenticated != NULL; i++) {
        client->sessions[i].shard = client->shards[i % client->shards_count];
        client_start_session(&client->sessions[i]);
    }
    for (unsigned i = 0; i < client->forwards_count; i++)
        if (client->forwards[i]->spec->kind == FORWARD_REMOTE)
            client_request(client->forwards[i]);
    client->hellos_deadline_ns = deadline_now_ns() + HELLOS_NS;
}

/* ---- when it serves ---- */

static void listen_all(struct client *client) {
    client->listening = true;
    for (unsigned i = 0; i < client->forwards_count; i++) {
        struct forward *forward = client->forwards[i];
        if (forward->spec->kind == FORWARD_LOCAL && forward->listeners_count > 0)
            client_listen(forward);
    }
}

/* Whether a connection is striped is settled when it is accepted: before that, it waits where the kernel has it. */
static bool awaits_hellos(const struct client *client) {
    return client->options->stripes > 1 && client->hellos_unanswered > 0 &&
           !deadline_passed(client->hellos_deadline_ns);
}

/* Some connection has lasted, and none has said that the server can. */
static bool cannot_stripe(const struct client *client) {
    bool can = false, serves = false;
    for (unsigned i = 0; i < client->sessions_count; i++) {
        can = can || atomic_load(&client->sessions[i].stripes) > 1;
        serves = serves || atomic_load(&client->sessions[i].state) == SESSION_SERVING;
    }
    return serves && !can;
}

static void tell_hellos(const struct client *client) {
    if (client->options->stripes < 2)
        return;
    if (client->hellos_unanswered > 0)
        log_info("%u of %u connections have not said in time whether the server knows striped connections",
                 client->hellos_unanswered, client->sessions_open);
    else if (cannot_stripe(client))
        log_info("the server knows no striped connections: each forwarded connection stays on one SSH connection");
}

void client_start_go_on(struct client *client) {
    if (client->state != CLIENT_STARTING)
        return;
    if (!client->listening && !awaits_hellos(client)) {
        tell_hellos(client);
        listen_all(client);
    }
    if (!client->listening || client->forwards_unanswered > 0)
        return;
    client->state = CLIENT_RUNNING;
    log_verbose("tunnel is up");
    client->program->on_ready();
}

/* What whoever started us had ignored, as nohup(1) does, stays ignored: ssh(1) does the same. */
static void add_unless_ignored(sigset_t *set, int number) {
    struct sigaction action;
    if (sigaction(number, NULL, &action) == 0 && action.sa_handler != SIG_IGN)
        sigaddset(set, number);
}

static int block_signals(struct client *client) {
    sigset_t set;
    sigemptyset(&set);
    add_unless_ignored(&set, SIGINT);
    add_unless_ignored(&set, SIGTERM);
    add_unless_ignored(&set, SIGHUP);
    sigaddset(&set, SIGUSR1);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    client->signal_fd = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
    return client->signal_fd < 0 ? ERR_SYSTEM : 0;
}

static bool has_terminal(const struct options *options) {
    int fd = options->background ? -1 : open("/dev/tty", O_RDWR | O_NOCTTY | O_CLOEXEC);
    if (fd >= 0)
        close(fd);
    return fd >= 0;
}

struct forward *client_add_forward(struct client *client, const struct forward_spec *spec) {
    struct forward *forward = client->forwards_count < LIMIT_FORWARDS_EVER ? malloc(sizeof(*forward)) : NULL;
    size_t size = (client->forwards_count + 1) * sizeof(struct forward *);
    struct forward **forwards = forward != NULL ? realloc(client->forwards, size) : NULL;
    if (forwards != NULL)
        client->forwards = forwards;
    if (forwards == NULL || forward_init(forward, client, spec) != 0) {
        free(forward);
        return NULL;
    }
    return client->forwards[client->forwards_count++] = forward;
}

static int allocate(struct client *client) {
    const struct options *options = client->options;
    client->sessions_count = client_connections_max(options);
    client->sessions = calloc(client->sessions_count, sizeof(*client->sessions));
    client->shards = calloc(options->shards != 0 ? options->shards : client->sessions_count, sizeof(struct shard *));
    if (client->sessions == NULL || client->shards == NULL)
        return ERR_NOMEM;
    client->has_terminal = has_terminal(options);
    for (unsigned i = 0; i < client->sessions_count; i++) {
        client->sessions[i].client = client;
        client->sessions[i].index = i;
        client->sessions[i].over = true;
        list_init(&client->sessions[i].stripings);
    }
    for (unsigned i = 0; i < options->forwards_count; i++)
        if (client_add_forward(client, &options->forwards[i]) == NULL)
            return ERR_NOMEM;
    return mailbox_create(LIMIT_MAILBOX_MESSAGES, &client->news);
}

void client_release_session(struct client_session *session) {
    if (session->authenticated != NULL)
        authenticated_destroy(session->authenticated);
    session->authenticated = NULL;
    measure_deinit(&session->measure);
}

void client_release(struct client *client) {
    client_connections_release(client);
    secrets_wipe(client->secrets);
    for (unsigned i = 0; i < client->forwards_count; i++) {
        forward_deinit(client->forwards[i]);
        free(client->forwards[i]);
    }
    for (unsigned i = 0; client->sessions != NULL && i < client->sessions_count; i++)
        client_release_session(&client->sessions[i]);
    if (client->news != NULL)
        mailbox_destroy(client->news);
    if (client->signal_fd >= 0)
        close(client->signal_fd);
    client_reload_release(client);
    free(client->forwards);
    free(client->sessions);
    free(client->shards);
}

/* Everything until the tunnel stands; each failure was reported. */
int client_start(struct client *client) {
    int err = allocate(client);
    if (err == 0)
        err = make_sessions(client);
    if (err == 0)
        err = client_connections_init(client);
    if (err == 0)
        err = resolve_forwards(client); /* while a signal ends us, however long a name server takes */
    if (err == 0)
        err = block_signals(client); /* before ports listen: who sees one may send a signal */
    if (err == 0)
        err = bind_forwards(client);
    if (err == 0)
        err = offload_start();
    return err == 0 ? start_shards(client) : err;
}
