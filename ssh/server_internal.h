#pragma once
/* What the files of the running server share.
 *
 *   server_start.c   comes up, and is taken down       server_reload.c  a new configuration
 *   server.c         main loop, signals, drain, end    server_shard.c   what the main thread has done on shards
 *   server_listen.c  which addresses, at a reload too  server_relay.c   one plain relay
 *   server_accept.c  on shard 0: admission             server_inetd.c   -i
 *   server_choice.c  on shard 0: which shard           server_pid.c     PidFile */
#include "engine/listener.h"
#include "engine/mailbox.h"
#include "ssh/program.h"
#include "ssh/server.h"

#define SECOND_NS UINT64_C(1000000000)

enum server_state { SERVER_STARTING, SERVER_RUNNING, SERVER_DRAINING, SERVER_ENDING };

/* Relay's right side. */
struct server_target {
    char *host;
    uint16_t port;
    char *text; /* the directive as written */
};

/* One listening address, SSH or Relay: with the main thread, but for `listener` and `target` of one that is served,
 * which are shard 0's. */
struct server_listen {
    struct list node;
    struct server_main *main;
    struct sockaddr_storage address; /* as asked for: the port may be 0 */
    socklen_t address_len;
    int fd;                       /* bound and not yet served, else -1 */
    struct server_target *target; /* NULL: SSH */
    struct server_target *next;   /* what a reload makes of it */
    bool serving, wanted, fresh;
    struct listener listener;
};

struct server_pid {
    char *path; /* NULL: none was written */
    int directory, fd;
};

struct server_main {
    struct server server; /* first */
    const struct server_command_line *line;
    struct server_generation *generation;
    struct mailbox *news; /* what shards tell the main thread */
    struct timer look;    /* shard 0's: how busy the shards are */
    bool all_idle;        /* … and it comes rarely, until somebody does */
    struct list listens;
    uint32_t listeners_open;
    enum server_state state;
    uint64_t drain_deadline_ns;
    int signal_fd;
    bool inetd;
    struct server_pid pid;
    /* shard 0's: connections that were not admitted */
    uint64_t refused, refused_told, refused_told_ns;
};

/* ---- server_start.c ---- */
/* The generation of a configuration: options, host keys, and proof that libssh takes them. ERR_CONFIG …: reported. */
MUST_USE int server_generation_create(struct server_config *config, const struct server_keys *keys_before,
                                      struct server_generation **generation);
/* Everything until it serves: each failure was reported. server_stop takes down what there is, also after one. */
MUST_USE int server_start(struct server_main *main, struct server_config *config);
void server_stop(struct server_main *main, int status);
/* Log level and format of these options and the command line take effect. */
void server_apply_log(const struct server_main *main, const struct server_options *options);
/* ---- server.c ---- */
/* The main thread until everything is over. */
void server_loop(struct server_main *main);
/* ---- server_reload.c ---- */
void server_reload(struct server_main *main);
/* ---- server_shard.c: the main thread's, but for _gone; the shards' side is in the same file ---- */
void server_post(struct server_main *main, uint32_t index, void (*run)(void *, int64_t), void *arg, int64_t value);
/* Every shard takes this generation for new connections; waits for it. The first error of any. */
MUST_USE int server_shards_renew(struct server_main *main, struct server_generation *generation);
void server_shards_clear(struct server_main *main); /* nothing is on them any more; waits */
void server_shards_drain(struct server_main *main);
void server_shards_end(struct server_main *main);
void server_shards_print(struct server_main *main);
uint32_t server_load(const struct server_main *main); /* connections and relays, on all shards */
/* Any thread: it looks whether it can go on with its end. */
static inline void server_wake_main(const struct server_shard *on) {
    mailbox_wake(((const struct server_main *)on->server)->news);
}
/* What was counted as load of a shard is gone, or could not be handed to it. Any thread. */
static inline void server_shard_unload(struct server_shard *on) {
    atomic_fetch_sub(&on->load, 1);
    server_wake_main(on);
}
/* ---- server_listen.c: main thread ---- */
/* What the options want is bound. ERR_CONFIG: reported; with `starting` an address that cannot be had is no failure
 * while there is another one; in a reload every new one must be. commit or rollback follows. */
MUST_USE int server_listen_plan(struct server_main *main, const struct server_options *options, bool starting);
void server_listen_commit(struct server_main *main); /* shard 0 serves the plan, and closes what is not in it */
void server_listen_rollback(struct server_main *main);
void server_listen_close_all(struct server_main *main);
void server_listen_free_all(struct server_main *main); /* none is served any more */
/* ---- server_choice.c: shard 0 ---- */
/* The shard with the fewest connections and relays among those that are not saturated (if all are, among all). NULL:
 * every one has as many as it may. Any thread. */
struct server_shard *server_choose(struct server *server);
/* Somebody comes: from now on, until nothing is on any shard, it is looked at how busy they are. One shard alone is not
 * looked at. */
void server_watch(struct server_main *main);
void server_unwatch(struct server_main *main); /* at the end */
/* ---- server_accept.c: shard 0 ---- */
void server_accept(struct listener *listener, int fd);
/* TCP options of a socket with somebody far away. */
void server_tune(int fd, const struct server_options *options);
/* "192.0.2.7 port 40000"; the fallback where the address is none of TCP's. */
const char *server_address_text(const struct sockaddr *address, const char *fallback, char *out, size_t cap);
/* ---- server_relay.c: its shard's thread, create: any ---- */
struct plain_relay;
struct plain_relay *plain_relay_create(const struct server_target *target, int fd); /* NULL: no memory, fd stays */
void plain_relay_start(struct server_shard *on, struct plain_relay *relay);
void plain_relay_end_all(struct server_shard *on);
void plain_relay_print_all(const struct server_shard *on);
/* ---- server_pid.c ---- */
/* As root, before it is given up; the file is the account's. A failure is reported and is none of the program's. */
void server_pid_write(struct server_pid *pid, const char *path, uid_t uid, gid_t gid);
void server_pid_remove(struct server_pid *pid);
