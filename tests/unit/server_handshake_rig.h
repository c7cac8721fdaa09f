#pragma once
/* For tests of the server's handshake: a folder with keys and a configuration, a shard that the test turns, a listener
 * on it, and either the real `ssh` as a child or whatever the test connects itself. */
#include "engine/limits.h"
#include "engine/offload.h"
#include "engine_rig.h"
#include "ssh/provider.h"
#include "ssh/server_handshake.h"
#include <dirent.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <sys/stat.h>
#include <sys/wait.h>

extern char **environ;

struct place {
    char dir[64];
    struct server_config *config;
    struct server_options *options;
    struct server_keys *keys;
    struct server_bind *bind;
    struct shard shard;
    struct sockaddr_in address; /* of the listener */
    int listener, log_fd;
    const char *user; /* that ssh logs in as */
};

/* One connection as the server sees it. */
struct guest {
    struct place *place;
    struct server_handshake handshake;
    struct sockaddr_storage address, local_address;
    int fd;
    bool done;
    int err;
    char reason[512];
};

static inline const char *place_path(const struct place *place, const char *name) {
    static char paths[8][512];
    static unsigned next;
    char *path = paths[next++ % 8];
    snprintf(path, sizeof(paths[0]), "%s/%s", place->dir, name);
    return path;
}

static inline void file_put(const struct place *place, const char *name, const char *text) {
    FILE *file = fopen(place_path(place, name), "w");
    cr_assert(file);
    cr_assert_geq(fputs(text, file), 0);
    cr_assert_eq(fclose(file), 0);
}

/* The whole text; "" when there is no file. */
static inline const char *file_get(const struct place *place, const char *name) {
    static char text[262144];
    FILE *file = fopen(place_path(place, name), "r");
    size_t len = file ? fread(text, 1, sizeof text - 1, file) : 0;
    if (file)
        fclose(file);
    text[len] = '\0';
    return text;
}

static inline pid_t run_start(const struct place *place, const char *output, char *const argv[]) {
    posix_spawn_file_actions_t actions;
    pid_t pid;
    cr_assert_eq(posix_spawn_file_actions_init(&actions), 0);
    cr_assert_eq(posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0), 0);
    cr_assert_eq(
        posix_spawn_file_actions_addopen(&actions, 1, place_path(place, output), O_WRONLY | O_CREAT | O_TRUNC, 0600),
        0);
    cr_assert_eq(posix_spawn_file_actions_adddup2(&actions, 1, 2), 0);
    cr_assert_eq(posix_spawnp(&pid, argv[0], &actions, NULL, argv, environ), 0, "%s is needed", argv[0]);
    posix_spawn_file_actions_destroy(&actions);
    return pid;
}

static inline int run_wait(pid_t pid) {
    int status;
    cr_assert_eq(waitpid(pid, &status, 0), pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

/* A key pair NAME and NAME.pub. */
static inline void keygen(const struct place *place, const char *type, const char *bits, const char *name) {
    char *argv[] = {"ssh-keygen", "-q", "-t", (char *)type, "-b", (char *)bits,
                    "-N",         "",   "-C", "test",       "-f", (char *)place_path(place, name),
                    NULL};
    cr_assert_eq(run_wait(run_start(place, "keygen.log", argv)), 0, "%s", file_get(place, "keygen.log"));
}

static inline void config_read(struct place *place, const char *text) {
    FILE *stream = fmemopen((char *)text, strlen(text), "r");
    cr_assert(stream);
    cr_assert_eq(server_config_read_stream(stream, "test", &place->config), 0);
    fclose(stream);
    place->options = server_config_resolve(place->config, NULL);
}

/* Folder and log; then keys are made, and place_serve is called. */
static inline void place_make(struct place *place) {
    *place = (struct place){.dir = "/tmp/leat-handshake-XXXXXX", .listener = -1, .user = "somebody"};
    cr_assert(mkdtemp(place->dir));
    place->log_fd = open(place_path(place, "log"), O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    cr_assert_geq(place->log_fd, 0);
    log_init("leatd", LOG_LEVEL_VERBOSE, place->log_fd);
    cr_assert_eq(provider_init(), 0);
    cr_assert_eq(offload_start(), 0);
}

static inline void place_remove(struct place *place) {
    if (place->listener >= 0)
        close(place->listener);
    if (place->bind)
        shard_deinit(&place->shard);
    offload_stop();
    server_bind_unref(place->bind);
    server_keys_unref(place->keys);
    server_options_unref(place->options);
    server_config_unref(place->config);
    provider_deinit();
    DIR *dir = opendir(place->dir);
    for (struct dirent *entry; dir && (entry = readdir(dir)) != NULL;)
        if (entry->d_name[0] != '.')
            unlink(place_path(place, entry->d_name));
    closedir(dir);
    close(place->log_fd);
    rmdir(place->dir);
}

/* statements: of the configuration, beside host keys "host" where there are, and authorized_keys. */
static inline void place_serve(struct place *place, enum io_backend backend, const char *statements) {
    char text[4096];
    snprintf(text, sizeof text, "StrictModes no\nAuthorizedKeysFile %s/authorized_keys\n%s\n", place->dir, statements);
    config_read(place, text);
    cr_assert_eq(server_keys_read(place->options, NULL, &place->keys), 0, "%s", file_get(place, "log"));
    rig_init_or(place_remove(place), &place->shard, backend, 4);
    cr_assert_eq(server_keys_bind(place->keys, place->options, &place->bind), 0, "%s", file_get(place, "log"));
    place->listener = rig_listen(&place->address);
}

static inline void guest_on_done(struct server_handshake *handshake, int err, const char *reason) {
    struct guest *guest = handshake->owner;
    cr_assert(!guest->done);
    guest->done = true;
    guest->err = err;
    snprintf(guest->reason, sizeof guest->reason, "%s", reason);
}

/* fd is taken over. */
static inline void guest_begin(struct guest *guest, struct place *place, int fd) {
    *guest = (struct guest){.place = place, .fd = fd};
    socklen_t len = sizeof guest->address;
    (void)getpeername(fd, (struct sockaddr *)&guest->address, &len);
    len = sizeof guest->local_address;
    (void)getsockname(fd, (struct sockaddr *)&guest->local_address, &len);
    const struct server_handshake_options options = {.fd = fd,
                                                     .config = place->config,
                                                     .options = place->options,
                                                     .bind = place->bind,
                                                     .address = (struct sockaddr *)&guest->address,
                                                     .local_address = (struct sockaddr *)&guest->local_address,
                                                     .source = "127.0.0.1 port 1",
                                                     .connection = 7,
                                                     .done = guest_on_done,
                                                     .owner = guest};
    cr_assert_eq(server_handshake_start(&guest->handshake, &place->shard, &options), 0);
}

static inline bool accept_ready(const struct place *place) {
    struct pollfd ready = {.fd = place->listener, .events = POLLIN};
    return poll(&ready, 1, 0) == 1;
}

static inline int place_accept(struct place *place) {
    RIG_UNTIL(&place->shard, accept_ready(place));
    int fd = accept4(place->listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    cr_assert_geq(fd, 0);
    return fd;
}

/* A plain TCP client of the test's own. */
static inline int place_connect(const struct place *place) {
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    cr_assert_eq(connect(fd, (const struct sockaddr *)&place->address, sizeof place->address), 0);
    cr_assert_eq(fcntl(fd, F_SETFL, O_NONBLOCK), 0);
    cr_assert_eq(setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int)), 0);
    return fd;
}

static inline void guest_end(struct guest *guest) {
    cr_assert(guest->done);
    server_handshake_deinit(&guest->handshake);
    if (guest->fd >= 0)
        io_close(guest->place->shard.io, guest->fd, IO_CLOSE);
    guest->fd = -1;
}

/* `ssh` with the identity file `key` and more arguments (-o …), NULL at the end; its words go to ssh.log. */
static inline pid_t ssh_start(const struct place *place, const char *key, ...) {
    char port[16];
    char *argv[40] = {"ssh",
                      "-v",
                      "-N",
                      "-F",
                      "none",
                      "-o",
                      "BatchMode=yes",
                      "-o",
                      "IdentitiesOnly=yes",
                      "-o",
                      "IdentityAgent=none",
                      "-o",
                      "StrictHostKeyChecking=no",
                      "-o",
                      "UserKnownHostsFile=/dev/null",
                      "-o",
                      "GlobalKnownHostsFile=/dev/null",
                      "-l",
                      (char *)place->user,
                      "-i",
                      (char *)place_path(place, key),
                      "-p",
                      port};
    unsigned n = 23;
    va_list args;
    snprintf(port, sizeof port, "%u", ntohs(place->address.sin_port));
    va_start(args, key);
    for (char *arg; (arg = va_arg(args, char *)) != NULL;)
        argv[n++] = arg;
    va_end(args);
    argv[n++] = "127.0.0.1";
    argv[n] = NULL;
    return run_start(place, "ssh.log", argv);
}

/* The whole: a client comes, and the handshake ends one way or the other. The client is gone afterwards. */
static inline void ssh_visit(struct place *place, struct guest *guest, pid_t pid) {
    guest_begin(guest, place, place_accept(place));
    RIG_UNTIL(&place->shard, guest->done);
    io_close(place->shard.io, guest->fd, IO_CLOSE);
    guest->fd = -1;
    (void)run_wait(pid);
}
