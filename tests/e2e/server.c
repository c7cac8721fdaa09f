/* The servers of a test's world. */
#include "world.h"
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

static void wait_listening(struct world *world) {
    double deadline = now_seconds() + world_deadline(20);
    struct sockaddr_in addr = {
        .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK), .sin_port = htons(world->server_port)};
    while (process_running(world->server) && now_seconds() < deadline) {
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        int connected = connect(fd, (struct sockaddr *)&addr, sizeof(addr));
        close(fd);
        if (connected == 0)
            return;
        pause_seconds(0.02);
    }
    fprintf(stderr, "%s\n", process_log(world->server));
    world_die("the server does not listen");
}

static void know_host(struct world *world) {
    char *key = world_read(world_path(world, "host_key.pub"));
    char *space = strchr(key, ' ');
    space = space != NULL ? strchr(space + 1, ' ') : NULL;
    if (space != NULL)
        *space = '\0';
    key[strcspn(key, "\n")] = '\0';
    world_write(world->known_hosts, world_format("[127.0.0.1]:%u %s\n", world->server_port, key));
    free(key);
}

void world_reach_through(struct world *world, uint16_t port) {
    world->server_port = port;
    know_host(world);
}

static const char *find_sshd(void) {
    static const char *const places[] = {"/usr/sbin/sshd", "/usr/local/sbin/sshd", "/sbin/sshd"};
    for (unsigned i = 0; i < sizeof(places) / sizeof(places[0]); i++)
        if (access(places[i], X_OK) == 0)
            return places[i];
    world_die("no sshd");
}

/* sshd and leatd take the first value of a directive: `more` comes first (of MaxStartups sshd 9.2 takes the last). What
 * only one of them needs is no harm to the other. */
static const char *write_config(struct world *world, const char *more, const char *own, const char *last) {
    const char *config = world_path(world, "sshd_config");
    const char *startups = strstr(more, "MaxStartups") == NULL ? "MaxStartups 500\n" : "";
    world->server_port = free_port();
    world_write(config,
                world_format(
                    "%s\nPort %u\nListenAddress 127.0.0.1\nHostKey %s/host_key\nAuthorizedKeysFile %s/authorized_keys\n"
                    "StrictModes no\nPidFile none\nLogLevel VERBOSE\nMaxSessions 500\n%s%s%s\n",
                    more, world->server_port, world->dir, world->dir, startups, own, last));
    return config;
}

static void start_server(struct world *world, const char *name, char *const argv[]) {
    world->server = world_start(world, name, argv);
    wait_listening(world);
    know_host(world);
}

static void run_sshd(struct world *world, const char *program, const char *more) {
    /* Where sshd drops its privileges; Debian's service makes it. It stays: another test's sshd may need it by now. */
    if (geteuid() == 0 && mkdir("/run/sshd", 0755) < 0 && errno != EEXIST)
        world_die("/run/sshd");
    char *argv[] = {(char *)program, "-D", "-e", "-f", (char *)write_config(world, more, "UsePAM no\n", ""), NULL};
    world->server_is_leatd = false;
    start_server(world, "sshd", argv);
}

void world_sshd(struct world *world, const char *more) {
    run_sshd(world, find_sshd(), more);
}

/* For root, before OpenSSH 9.8, that is the listener's child; otherwise that one's, which goes on when its parent alone
 * is killed. */
pid_t world_sshd_session(const struct world *world, unsigned index, unsigned count) {
    pid_t children[8], below;
    double deadline = now_seconds() + world_deadline(10);
    /* What has looked whether sshd listens may have one, too, for a while. */
    while (process_children(world, world->server->pid, "sshd", children, 8) != count) {
        if (now_seconds() > deadline) {
            errno = ETIMEDOUT;
            world_die("sshd's connections");
        }
        pause_seconds(0.01);
    }
    while ((below = process_child(world, children[index], "sshd")) != 0)
        children[index] = below;
    return children[index];
}

static const char *copy_renamed(struct world *world, const char *from, const char *name, const char *software) {
    static const char own[] = "OpenSSH_";
    const char *path = world_path(world, name);
    struct stat stat;
    FILE *file = fopen(from, "r");
    char *bytes = file != NULL && fstat(fileno(file), &stat) == 0 ? malloc((size_t)stat.st_size) : NULL;
    if (bytes == NULL || fread(bytes, 1, (size_t)stat.st_size, file) != (size_t)stat.st_size)
        world_die(from);
    fclose(file);
    for (char *at = bytes; (at = memmem(at, (size_t)(bytes + stat.st_size - at), own, sizeof(own) - 1)) != NULL; at++)
        memcpy(at, software, sizeof(own) - 1);
    file = fopen(path, "w");
    if (file == NULL || fwrite(bytes, 1, (size_t)stat.st_size, file) != (size_t)stat.st_size || fclose(file) != 0 ||
        chmod(path, 0700) != 0)
        world_die(path);
    free(bytes);
    return path;
}

/* Which of its programs says the version: the one and only before OpenSSH 9.8, then the session's, lately the one that
 * authenticates. */
void world_sshd_as(struct world *world, const char *software, const char *more) {
    static const char *const parts[][2] = {{"/usr/lib/openssh/sshd-session", "SshdSessionPath"},
                                           {"/usr/lib/openssh/sshd-auth", "SshdAuthPath"}};
    const char *config = more;
    for (unsigned i = 0; i < sizeof(parts) / sizeof(parts[0]); i++)
        if (access(parts[i][0], X_OK) == 0)
            config = world_format("%s\n%s %s", config, parts[i][1],
                                  copy_renamed(world, parts[i][0], strrchr(parts[i][0], '/') + 1, software));
    run_sshd(world, config == more ? copy_renamed(world, find_sshd(), "sshd", software) : find_sshd(), config);
}

void world_leatd(struct world *world, const char *more) {
    world_leatd_matching(world, more, "");
}

void world_leatd_matching(struct world *world, const char *more, const char *match) {
    const char *program = getenv("LEATD_BIN");
    if (program == NULL)
        world_die("LEATD_BIN is not set");
    const char *own = geteuid() == 0 ? "User root\nAllowStreamLocalForwarding yes\n" : "";
    char *argv[] = {(char *)program,
                    "-D",
                    "-e",
                    "-f",
                    (char *)write_config(world, more, own, match),
                    "-o",
                    (char *)world_backend_option(),
                    NULL};
    world->server_is_leatd = true;
    start_server(world, "leatd", argv);
}

void world_server(struct world *world, const char *more) {
    const char *server = getenv("LEAT_SERVER");
    if (server != NULL && strcmp(server, "leatd") == 0)
        world_leatd(world, more);
    else
        world_sshd(world, more);
}

unsigned world_logins(const struct world *world) {
    return process_lines(world->server, world->server_is_leatd ? "authentication succeeded" : "Accepted publickey");
}

/* dropbear reads authorized_keys in the user's home alone: nss_wrapper gives this user a home in the world's folder. */
void world_dropbear(struct world *world) {
    const char *key = world_path(world, "dropbear_key"), *passwd = world_path(world, "passwd");
    struct passwd *user = getpwuid(geteuid());
    if (user == NULL ||
        world_run(world, "dropbearconvert", "openssh", "dropbear", world_path(world, "host_key"), key, NULL) != 0)
        world_die("dropbearconvert");
    mkdir(world_path(world, "home"), 0700);
    mkdir(world_path(world, "home/.ssh"), 0700);
    world_copy(world_path(world, "authorized_keys"), world_path(world, "home/.ssh/authorized_keys"));
    world_write(passwd, world_format("%s:x:%u:%u::%s/home:/bin/sh\n", user->pw_name, (unsigned)user->pw_uid,
                                     (unsigned)user->pw_gid, world->dir));
    world_write(world_path(world, "group"), "");
    world->server_port = free_port();
    char *argv[] = {"env",
                    "LD_PRELOAD=libnss_wrapper.so",
                    (char *)world_format("NSS_WRAPPER_PASSWD=%s", passwd),
                    (char *)world_format("NSS_WRAPPER_GROUP=%s/group", world->dir),
                    "/usr/sbin/dropbear",
                    "-F",
                    "-E",
                    "-r",
                    (char *)key,
                    "-p",
                    (char *)world_format("127.0.0.1:%u", world->server_port),
                    "-P",
                    (char *)world_path(world, "dropbear.pid"),
                    NULL};
    start_server(world, "dropbear", argv);
}
