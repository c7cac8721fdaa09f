#pragma once
/* What the files of the client share: client_start.c brings it up, client.c watches over it until its end,
 * client_reload.c takes a new configuration on the way, client_connections.c sees how busy its shards are. The main
 * thread's, but where it says otherwise. */
#include "engine/limits.h"
#include "ssh/client.h"

#define EXIT_FAILED 255
#define SECOND_NS UINT64_C(1000000000)

enum client_state { CLIENT_STARTING, CLIENT_RUNNING, CLIENT_DRAINING, CLIENT_ENDING };

struct client {
    const struct options *options;
    struct window_budget budget;
    struct mailbox *news; /* what shards tell the main thread */
    struct shard **shards;
    unsigned shards_count; /* started */
    struct client_session *sessions;
    unsigned sessions_count, sessions_open;
    struct secrets *secrets;                            /* without what is secret, for connections to come */
    struct connections *connections;                    /* NULL: one session, and its end is the end */
    _Atomic uint32_t alive_interval_s, alive_count_max; /* for sessions to come */
    struct forward **forwards;                          /* all there ever were */
    unsigned forwards_count, forwards_unanswered, listeners_open, hellos_unanswered;
    _Atomic unsigned stripings;
    _Atomic bool ending; /* state is CLIENT_ENDING, for shards */
    struct list remotes; /* forwards that the server listens for; the first session's shard */
    enum client_state state;
    bool listening;              /* with Stripes, once it is known what the server can */
    uint64_t hellos_deadline_ns; /* … or it is given up to know it */
    bool has_terminal;           /* in the foreground of one */
    bool drain_timeout_given;
    uint32_t drain_timeout_s;
    uint64_t drain_deadline_ns;
    int signal_fd, status;
    const struct client_program *program;
    struct reload {
        bool wanted;
        unsigned waiting;     /* listeners being closed, remote forwards being cancelled, before the rest is done */
        struct options *next; /* while it is under way */
        bool *settled;        /* of next's forwards: there is one already */
        bool adopted;         /* something points into next */
        unsigned added, removed, changed;
        struct options *kept[LIMIT_RELOADS_KEPT]; /* that forwards point into */
        unsigned kept_count;
    } reload;
};

/* client_start.c: everything until the tunnel stands (each failure was reported); then the sessions start to serve;
 * after each turn, what is left of STARTING: listeners accept, readiness is announced; what is left at the end. */
MUST_USE int client_start(struct client *client);
void client_serve(struct client *client);
void client_start_go_on(struct client *client);
void client_release(struct client *client);
/* One more of `spec`, neither bound nor asked for; NULL: no memory, or there were too many. */
struct forward *client_add_forward(struct client *client, const struct forward_spec *spec);
/* Has shards do it, once the forward is bound. */
void client_listen(struct forward *forward);
void client_request(struct forward *forward);

/* A shard more; not logged. A session whose handshake is done begins, on its shard. */
MUST_USE int client_start_shard(struct client *client);
void client_start_session(struct client_session *session);
/* Frees what a session has left that is over: its shard, or when there are no shards any more. */
void client_release_session(struct client_session *session);

/* client_connections.c: looks at the shards now and then, so that new flows avoid those that have no more to give,
 * makes again what is lost, and with `Connections auto` opens and closes connections. How many there are from the
 * start, and the most that there may be. */
unsigned client_connections_min(const struct options *options);
unsigned client_connections_max(const struct options *options);
MUST_USE int client_connections_init(struct client *client);
void client_connections_go_on(struct client *client); /* after each turn */
int client_connections_timeout_ms(const struct client *client);
/* Does the tunnel go on without this session, which is over? Another one serves, and no remote forwards were on it. */
bool client_connections_spare(const struct client_session *session);
void client_connections_ended(struct client_session *session, int err, const char *reason);
void client_connections_print(const struct client *client);
/* A handshake is under way that cannot be interrupted: client_connections_release would wait for it. */
bool client_connections_busy(const struct client *client);
void client_connections_release(struct client *client);

/* client_reload.c: goes on with what SIGHUP has asked for as far as it goes now; after each turn. */
void client_reload_go_on(struct client *client);
void client_reload_release(struct client *client);

/* client.c */
void client_post(struct shard *shard, void (*run)(void *, int64_t), void *arg);
void client_tell(struct client *client, void (*run)(void *, int64_t), void *arg, int64_t value); /* from any thread */
void client_close_forward(struct forward *forward);
void client_hello_answered(struct client_session *session, uint32_t stripes); /* its shard */
void client_session_ending(struct session *session);
void client_session_ended(struct session *session, int err, const char *reason);
