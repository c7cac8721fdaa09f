#pragma once
/* What the two files of the client share: client_start.c brings it up, client.c watches over it until its end. */
#include "ssh/client.h"

#define EXIT_FAILED 255
#define SECOND_NS UINT64_C(1000000000)

enum client_state { CLIENT_STARTING, CLIENT_RUNNING, CLIENT_DRAINING, CLIENT_ENDING };

struct client {
    const struct options *options;
    struct window_budget budget;
    struct mailbox *news; /* what shards tell the main thread */
    struct shard **shards;
    unsigned shards_count;
    struct client_session *sessions;
    unsigned sessions_count, sessions_open;
    struct forward *forwards;
    unsigned forwards_count, forwards_unanswered, listeners_open;
    enum client_state state;
    bool listening;
    uint64_t drain_deadline_ns;
    int signal_fd, status;
    void (*on_ready)(void);
};

/* client_start.c: everything until the tunnel stands (each failure was reported); then the sessions and listeners start
 * to serve; what is left at the end. */
MUST_USE int client_start(struct client *client);
void client_serve(struct client *client);
void client_release(struct client *client);

/* client.c */
void client_post(struct shard *shard, void (*run)(void *, int64_t), void *arg);
void client_session_ended(struct session *session, int err, const char *reason);
