/* Remote forwards: what a client has this server listen on, over TCP (both address families at once) or at a path. */
#include "engine/check.h"
#include "engine/limits.h"
#include "engine/listener.h"
#include "ssh/server_forward_internal.h"
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define LISTEN_BACKLOG 4096
#define SOCKETS_MAX 2u /* one per address family */

struct server_listener {
    struct list node; /* in connection->listeners */
    struct server_connection *connection;
    bool is_path, closing;
    uint16_t port_asked, port; /* the latter as bound */
    dev_t device;              /* of the path's file */
    ino_t inode;
    struct listener sockets[SOCKETS_MAX];
    unsigned sockets_count, sockets_open;
    char name[]; /* the address as asked for, or the path */
};

/* ---- telling ---- */

static const char *forward_of(const struct server_listener *listener) {
    return listener->is_path ? "streamlocal-forward" : "tcpip-forward";
}

static const char *listener_place(const struct server_listener *listener, char out[SERVER_ENDPOINT_BYTES]) {
    if (!listener->is_path)
        return server_endpoint(out, listener->name, listener->port);
    snprintf(out, SERVER_ENDPOINT_BYTES, "%s", listener->name);
    return out;
}

static void tell(const struct server_listener *listener, const char *event, const char *reason) {
    char place[SERVER_ENDPOINT_BYTES];
    struct audit audit =
        server_forward_audit(listener->connection, event, forward_of(listener), listener_place(listener, place));
    audit.reason = reason;
    audit_log(LOG_LEVEL_INFO, &audit);
}

static void tell_errno(const struct server_listener *listener, int error_number) {
    char reason[128];
    snprintf(reason, sizeof(reason), "cannot listen there: %s", strerror(error_number));
    tell(listener, "listener refused", reason);
}

void server_forward_print(const struct server_connection *connection, void (*line)(void *arg, const char *text),
                          void *arg) {
    list_for_each (node, &connection->listeners) {
        const struct server_listener *listener = list_entry(node, struct server_listener, node);
        char place[SERVER_ENDPOINT_BYTES], safe[SERVER_ENDPOINT_BYTES], text[SERVER_ENDPOINT_BYTES + 64];
        listener_place(listener, place);
        log_safe(safe, sizeof(safe), place, strlen(place));
        snprintf(text, sizeof(text), "%s on %s%s", forward_of(listener), safe, listener->closing ? ", closing" : "");
        line(arg, text);
    }
}

/* ---- connections that come in ---- */

static void on_accept(struct listener *socket, int fd) {
    struct server_listener *listener = socket->owner;
    struct server_connection *connection = listener->connection;
    char place[SERVER_ENDPOINT_BYTES];
    const char *forward = listener->is_path ? "forwarded-streamlocal" : "forwarded-tcpip";
    const char *type = listener->is_path ? "forwarded-streamlocal@openssh.com" : forward;
    struct server_channel *channel = server_channel_create(connection, forward, listener_place(listener, place), "");
    if (channel == NULL) {
        struct audit audit = server_forward_audit(connection, "forward refused", forward, place);
        audit.reason = "out of memory";
        audit_log(LOG_LEVEL_INFO, &audit);
        return io_close(socket->shard->io, fd, IO_CLOSE_RESET);
    }
    struct relay_target target = {.kind = listener->is_path ? RELAY_FORWARDED_STREAMLOCAL : RELAY_FORWARDED_TCPIP,
                                  .host = listener->name,
                                  .port = listener->port,
                                  .idle_ns = server_channel_idle_ns(connection, type)};
    relay_open(&connection->session, fd, &target, &server_channel_watcher, channel);
}

/* ---- the end ---- */

static void on_socket_closed(struct listener *socket) {
    struct server_listener *listener = socket->owner;
    struct server_connection *connection = listener->connection;
    if (--listener->sockets_open > 0)
        return;
    list_remove(&listener->node);
    connection->listeners_count--;
    free(listener);
    server_connection_channels(connection, -1);
}

/* Only what we made there: it may be another's by now. */
static void remove_file(const struct server_listener *listener) {
    struct stat now;
    if (lstat(listener->name, &now) == 0 && now.st_dev == listener->device && now.st_ino == listener->inode)
        (void)unlink(listener->name);
}

/* The address is free again at once; the sockets are closed when nothing is in flight on them. */
static void stop(struct server_listener *listener, const char *reason) {
    struct io *io = listener->connection->session.shard->io;
    listener->closing = true;
    for (unsigned i = 0; i < listener->sockets_count; i++) {
        listener_close(&listener->sockets[i], on_socket_closed);
        io_shutdown(io, listener->sockets[i].fd, SHUT_RDWR);
    }
    if (listener->is_path)
        remove_file(listener);
    tell(listener, "listener closed", reason);
}

void server_forward_stop(struct server_connection *connection) {
    list_for_each (node, &connection->listeners) {
        struct server_listener *listener = list_entry(node, struct server_listener, node);
        if (!listener->closing)
            stop(listener, connection->session.ending ? "the connection ends" : SERVER_STOPPING);
    }
}

/* ---- finding one ---- */

static struct server_listener *find(const struct server_connection *connection, bool is_path, const char *name,
                                    uint16_t port) {
    list_for_each (node, &connection->listeners) {
        struct server_listener *listener = list_entry(node, struct server_listener, node);
        bool same = listener->is_path == is_path && strcmp(listener->name, name) == 0;
        if (same && !listener->closing && (is_path || listener->port == port || listener->port_asked == port))
            return listener;
    }
    return NULL;
}

static bool cancel(struct server_listener *listener) {
    if (listener == NULL)
        return false;
    stop(listener, "cancelled by the client");
    return true;
}

bool server_listener_cancel(struct server_connection *connection, const char *host, uint16_t port) {
    return cancel(find(connection, false, host, port));
}

bool server_listener_cancel_path(struct server_connection *connection, const char *path) {
    return cancel(find(connection, true, path, 0));
}

/* ---- making one ---- */

static struct server_listener *create(struct server_connection *connection, bool is_path, const char *name,
                                      uint16_t port) {
    size_t len = strlen(name) + 1;
    struct server_listener *listener = calloc(1, sizeof(*listener) + len);
    if (listener == NULL)
        return NULL;
    listener->connection = connection;
    listener->is_path = is_path;
    listener->port = listener->port_asked = port;
    memcpy(listener->name, name, len);
    return listener;
}

static bool refused(struct server_listener *listener, const char *why) {
    tell(listener, "listener refused", why);
    free(listener);
    return false;
}

static bool may_begin(struct server_listener *listener, const char **why) {
    const struct server_connection *connection = listener->connection;
    bool names_one = listener->is_path || listener->port != 0;
    *why = "this connection listens there already";
    if (names_one && find(connection, listener->is_path, listener->name, listener->port) != NULL)
        return false;
    *why = "too many listeners";
    return connection->listeners_count < LIMIT_LISTENERS_PER_CONNECTION;
}

static void add_socket(struct server_listener *listener, int fd) {
    struct shard *shard = listener->connection->session.shard;
    listener_init(&listener->sockets[listener->sockets_count++], shard, fd, on_accept, listener);
    listener->sockets_open++;
}

static void begin(struct server_listener *listener) {
    struct server_connection *connection = listener->connection;
    list_push_back(&connection->listeners, &listener->node);
    connection->listeners_count++;
    tell(listener, "listener opened", NULL);
    server_connection_channels(connection, 1);
}

/* ---- TCP ---- */

struct bind_address {
    struct sockaddr_storage addr;
    socklen_t len;
};

/* A number, with or without a scope; no name is looked up. */
static unsigned numeric_address(const char *host, int family, struct bind_address *address) {
    const struct addrinfo hints = {
        .ai_family = family, .ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV};
    struct addrinfo *found;
    if (getaddrinfo(host, "0", &hints, &found) != 0)
        return 0;
    memcpy(&address->addr, found->ai_addr, found->ai_addrlen);
    address->len = found->ai_addrlen;
    freeaddrinfo(found);
    return 1;
}

static unsigned bind_addresses(const struct server_connection *connection, const char *host,
                               struct bind_address addresses[SOCKETS_MAX]) {
    int family = connection->options->family;
    enum listen_where where = policy_listen_where(&connection->policy, host);
    unsigned count = 0;
    if (where == LISTEN_HOST)
        return numeric_address(host, family, addresses);
    if (family != AF_INET6)
        count += numeric_address(where == LISTEN_ALL ? "0.0.0.0" : "127.0.0.1", AF_INET, &addresses[count]);
    if (family != AF_INET)
        count += numeric_address(where == LISTEN_ALL ? "::" : "::1", AF_INET6, &addresses[count]);
    return count;
}

static void set_port(struct sockaddr_storage *addr, uint16_t port) {
    if (addr->ss_family == AF_INET6)
        ((struct sockaddr_in6 *)addr)->sin6_port = htons(port);
    else
        ((struct sockaddr_in *)addr)->sin_port = htons(port);
}

static uint16_t bound_port(int fd) {
    struct sockaddr_storage addr = {0};
    socklen_t len = sizeof(addr);
    (void)getsockname(fd, (struct sockaddr *)&addr, &len);
    return address_port((const struct sockaddr *)&addr);
}

/* As sshd: one family is enough, and both have the port that the first one got. Returns the errno of a failure. */
static int bind_tcp(struct server_listener *listener, struct bind_address *addresses, unsigned count) {
    int error_number = 0;
    for (unsigned i = 0; i < count; i++) {
        int fd;
        set_port(&addresses[i].addr, listener->port);
        if (listen_bind((struct sockaddr *)&addresses[i].addr, addresses[i].len, LISTEN_BACKLOG, &fd) != 0) {
            error_number = error_number != 0 ? error_number : errno;
            continue;
        }
        listener->port = bound_port(fd);
        add_socket(listener, fd);
    }
    return listener->sockets_count > 0 ? 0 : error_number;
}

bool server_listener_open(struct server_connection *connection, const char *host, uint16_t port, uint16_t *bound) {
    struct server_listener *listener = create(connection, false, host, port);
    struct bind_address addresses[SOCKETS_MAX];
    const char *why;
    if (listener == NULL)
        return false;
    if (!may_begin(listener, &why))
        return refused(listener, why);
    unsigned count = bind_addresses(connection, host, addresses);
    if (count == 0)
        return refused(listener, "neither an address of a family in use nor \"localhost\", \"*\" or \"\"");
    int error_number = bind_tcp(listener, addresses, count);
    if (error_number != 0) {
        tell_errno(listener, error_number);
        free(listener);
        return false;
    }
    *bound = listener->port;
    begin(listener);
    return true;
}

/* ---- paths ---- */

/* StreamLocalBindUnlink: what a listener that is gone has left behind. Only a socket is that. */
static void remove_leftover(const struct server_listener *listener) {
    struct stat now;
    if (listener->connection->options->streamlocal_bind_unlink && lstat(listener->name, &now) == 0 &&
        S_ISSOCK(now.st_mode))
        (void)unlink(listener->name);
}

/* The process's umask may have taken more than StreamLocalBindMask says. The file is held while it is looked at, so
 * that nothing else can be in its place. */
static void adopt_file(struct server_listener *listener, mode_t mode) {
    char link[64];
    struct stat made;
    int fd = open(listener->name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return;
    if (fstat(fd, &made) == 0 && S_ISSOCK(made.st_mode) && made.st_uid == geteuid()) {
        listener->device = made.st_dev;
        listener->inode = made.st_ino;
        snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
        if ((made.st_mode & 0777) != mode)
            (void)chmod(link, mode); /* without it fewer may connect than were to */
    }
    close(fd);
}

bool server_listener_open_path(struct server_connection *connection, const char *path) {
    struct server_listener *listener = create(connection, true, path, 0);
    mode_t mode = 0777 & ~connection->options->streamlocal_bind_mask;
    const char *why;
    int fd;
    if (listener == NULL)
        return false;
    if (!may_begin(listener, &why))
        return refused(listener, why);
    remove_leftover(listener);
    if (listen_bind_path(path, mode, LISTEN_BACKLOG, &fd) != 0) {
        tell_errno(listener, errno);
        free(listener);
        return false;
    }
    adopt_file(listener, mode);
    add_socket(listener, fd);
    begin(listener);
    return true;
}
