/* The machine that both ends run on. What goes to the kernel past the I/O seam, and to name servers, is sent here by
 * the linker (--wrap): addresses are made up so that each says whose it is.
 *
 *   10.0.LINE.PLACE, fd00::LINE+1:PLACE   the PLACE-th address of "line-LINE.sim", where the line's far app listens
 *   /sim/LINE                             the same as a Unix socket
 *   198.51.100.1 port 40000 + LINE        the line's near app */
#include "engine/check.h"
#include "engine/conn.h"
#include "engine/resolve.h"
#include "tests/sim/sim_game.h"
#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>

#define V6_BIT 0x8000u /* of a simulated port: the listener of the other family */
#define PORT_DYNAMIC 20000u
#define PORT_PATHS 30000u

/* ---- sockets ---- */

int __wrap_socket(int family, int type, int protocol);
int __wrap_setsockopt(int fd, int level, int name, const void *value, socklen_t len);
int __wrap_getsockname(int fd, struct sockaddr *addr, socklen_t *len);
int __wrap_getpeername(int fd, struct sockaddr *addr, socklen_t *len);

int __wrap_socket(int family, int type, int protocol) {
    (void)family, (void)type, (void)protocol;
    if (playing->short_of_descriptors && roll(playing, 8) == 0) {
        errno = EMFILE;
        return -1;
    }
    return io_sim_socket(playing->world);
}

int __wrap_setsockopt(int fd, int level, int name, const void *value, socklen_t len) {
    (void)len;
    if (level == SOL_SOCKET && name == SO_RCVLOWAT)
        io_sim_receive_low(playing->world, fd, (uint32_t) * (const int *)value);
    return 0;
}

static int tell_address(const char *host, uint16_t port, struct sockaddr *addr, socklen_t *len) {
    struct sockaddr_in *in = (struct sockaddr_in *)(void *)addr;
    CHECK(*len >= sizeof *in);
    *in = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons(port)};
    CHECK(inet_pton(AF_INET, host, &in->sin_addr) == 1);
    *len = sizeof *in;
    return 0;
}

int __wrap_getsockname(int fd, struct sockaddr *addr, socklen_t *len) {
    if (fd == playing->server.side.fd || fd == playing->client.side.fd)
        return tell_address("192.0.2.1", 22, addr, len);
    return tell_address("127.0.0.1", io_sim_port(playing->world, fd) & ~V6_BIT, addr, len);
}

int __wrap_getpeername(int fd, struct sockaddr *addr, socklen_t *len) {
    if (fd == playing->server.side.fd || fd == playing->client.side.fd)
        return tell_address("192.0.2.7", 40000, addr, len);
    int peer = io_sim_peer(playing->world, fd);
    for (unsigned i = 0; peer >= 0 && i < playing->lines_count; i++) {
        const struct line *line = &playing->lines[i];
        if (line->near.fd == peer && line->kind != LINE_FORWARDED_PATH)
            return tell_address("198.51.100.1", (uint16_t)(ORIGIN_PORT + i), addr, len);
    }
    errno = ENOTCONN;
    return -1;
}

/* ---- listening ---- */

int __wrap_listen_bind(const struct sockaddr *addr, socklen_t addr_len, int backlog, int *fd);
int __wrap_listen_bind_path(const char *path, mode_t mode, int backlog, int *fd);

static int bind_failed(int error_number, int err) {
    errno = error_number;
    return err;
}

int __wrap_listen_bind(const struct sockaddr *addr, socklen_t addr_len, int backlog, int *fd) {
    struct game *game = playing;
    bool is_v6 = addr->sa_family == AF_INET6;
    uint16_t port = address_port(addr);
    CHECK(addr_len > 0 && backlog > 0);
    if (is_v6 && roll(game, 4) == 0)
        return bind_failed(EADDRNOTAVAIL, ERR_UNREACHABLE);
    if (port == 0)
        port = (uint16_t)(PORT_DYNAMIC + game->server.ports++);
    port |= is_v6 ? V6_BIT : 0;
    if (io_sim_listener(game->world, port) >= 0 || roll(game, 30) == 0)
        return bind_failed(EADDRINUSE, ERR_INUSE);
    *fd = io_sim_listen(game->world, port);
    return 0;
}

static uint16_t path_port(const char *path) {
    unsigned index;
    CHECK(sscanf(path, "/sim/listen/%u", &index) == 1);
    return (uint16_t)(PORT_PATHS + index);
}

int __wrap_listen_bind_path(const char *path, mode_t mode, int backlog, int *fd) {
    (void)mode, (void)backlog;
    if (io_sim_listener(playing->world, path_port(path)) >= 0)
        return bind_failed(EADDRINUSE, ERR_INUSE);
    *fd = io_sim_listen(playing->world, path_port(path));
    return 0;
}

void host_fail_accept(struct game *game, const struct asked *asked) {
    int fd = io_sim_listener(game->world, asked->is_path ? path_port(asked->name) : asked->port);
    if (fd >= 0)
        io_sim_fail_accept(game->world, fd, EMFILE);
}

int host_connect(struct game *game, const struct asked *asked) {
    uint16_t port = asked->is_path ? path_port(asked->name) : asked->port, v6 = asked->port | V6_BIT;
    bool has_v6 = !asked->is_path && io_sim_listener(game->world, v6) >= 0;
    if (has_v6 && (roll(game, 2) || io_sim_listener(game->world, port) < 0))
        port = v6;
    return io_sim_connect(game->world, port);
}

/* ---- names ---- */

struct lookup {
    struct timer timer;
    struct side *side;
    const struct line *line;
    uint16_t port;
    int family;
    void (*done)(void *arg, const struct resolve_result *result);
    void *arg;
};

struct resolve *__wrap_resolve_start(struct shard *shard, const char *host, uint16_t port, int family,
                                     void (*done)(void *arg, const struct resolve_result *result), void *arg);
void __wrap_resolve_cancel(struct resolve *resolve);

static void make_address(struct address *address, const struct line *line, unsigned place, uint16_t port) {
    char host[64];
    if (line->fates[place].is_v6) {
        struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)(void *)&address->addr;
        *in6 = (struct sockaddr_in6){.sin6_family = AF_INET6, .sin6_port = htons(port)};
        snprintf(host, sizeof host, "fd00::%x:%x", line->index + 1, place + 1);
        CHECK(inet_pton(AF_INET6, host, &in6->sin6_addr) == 1);
        address->len = sizeof *in6;
        return;
    }
    socklen_t len = sizeof address->addr;
    snprintf(host, sizeof host, "10.0.%u.%u", line->index, place + 1);
    (void)tell_address(host, port, (struct sockaddr *)&address->addr, &len);
    address->len = len;
}

static void on_lookup(struct timer *timer) {
    struct lookup *lookup = list_entry(timer, struct lookup, timer);
    const struct line *line = lookup->line;
    struct address addresses[LINE_ADDRESSES_MAX] = {0};
    struct resolve_result result = {.addresses = addresses, .count = line->fates_count};
    for (unsigned i = 0; i < line->fates_count; i++)
        make_address(&addresses[i], line, i, lookup->port);
    if (line->resolve_fails)
        result = (struct resolve_result){.err = ERR_RESOLVE, .reason = "Name or service not known"};
    lookup->side->lookups--;
    lookup->done(lookup->arg, &result);
    free(lookup);
}

struct resolve *__wrap_resolve_start(struct shard *shard, const char *host, uint16_t port, int family,
                                     void (*done)(void *arg, const struct resolve_result *result), void *arg) {
    unsigned index;
    struct lookup *lookup = calloc(1, sizeof *lookup);
    CHECK(lookup && sscanf(host, "line-%u.sim", &index) == 1 && index < playing->lines_count);
    const struct line *line = &playing->lines[index];
    expect(port == line->port && family == AF_UNSPEC, "a name is looked up for another port or family");
    *lookup =
        (struct lookup){.timer.on_timer = on_lookup,
                        .side = shard == &playing->client.side.shard ? &playing->client.side : &playing->server.side,
                        .line = line,
                        .port = port,
                        .done = done,
                        .arg = arg};
    lookup->side->lookups++;
    timer_arm(&shard->timers, &lookup->timer, shard_now(shard) + line->resolve_ns);
    return (struct resolve *)(void *)lookup;
}

void __wrap_resolve_cancel(struct resolve *resolve) {
    struct lookup *lookup = (struct lookup *)(void *)resolve;
    CHECK(timer_armed(&lookup->timer));
    timer_cancel(&lookup->side->shard.timers, &lookup->timer);
    lookup->side->lookups--;
    free(lookup);
}

/* ---- connecting to a target ---- */

void __real_io_connect(struct io *io, struct io_op *op, int fd, const struct sockaddr *addr, socklen_t addr_len);
void __wrap_io_connect(struct io *io, struct io_op *op, int fd, const struct sockaddr *addr, socklen_t addr_len);

static struct line *line_of_address(const struct sockaddr *addr, unsigned *place) {
    const uint8_t *v4 = (const uint8_t *)&((const struct sockaddr_in *)(const void *)addr)->sin_addr;
    const uint8_t *v6 = (const uint8_t *)&((const struct sockaddr_in6 *)(const void *)addr)->sin6_addr;
    const struct sockaddr_un *un = (const struct sockaddr_un *)(const void *)addr;
    *place = 0;
    if (addr->sa_family == AF_UNIX)
        return line_of_path(playing, un->sun_path);
    bool is_v6 = addr->sa_family == AF_INET6;
    *place = (is_v6 ? v6[15] : v4[3]) - 1u;
    return line_at(playing, is_v6 ? v6[13] - 1u : v4[2]);
}

/* Unix sockets answer at once, or are not there. */
static void script_path(struct game *game, struct line *line) {
    static const int errors[] = {[FATE_ANSWERS] = 0, [FATE_REFUSES] = ECONNREFUSED, [FATE_SILENT] = ENOENT};
    int error_number = line->busy > 0 ? EAGAIN : errors[line->fates[0].kind];
    line->busy -= line->busy > 0;
    io_sim_script_connect(game->world, game_now(game), error_number);
}

static void script_address(struct game *game, const struct fate *fate) {
    uint64_t at_ns = fate->kind == FATE_SILENT ? UINT64_MAX : game_now(game) + fate->delay_ns;
    io_sim_script_connect(game->world, at_ns, fate->kind == FATE_REFUSES ? ECONNREFUSED : 0);
}

void __wrap_io_connect(struct io *io, struct io_op *op, int fd, const struct sockaddr *addr, socklen_t addr_len) {
    unsigned place;
    struct line *line = line_of_address(addr, &place);
    struct sockaddr_in to = {.sin_family = AF_INET};
    expect(line && addr_len > 0 && place < line->fates_count && !line->forbidden, "a connect to nobody's address");
    to.sin_port = htons(line->port);
    if (line->dialled_ns == 0)
        line->dialled_ns = game_now(playing);
    if (addr->sa_family == AF_UNIX)
        script_path(playing, line);
    else if (line->fates[place].scripted)
        script_address(playing, &line->fates[place]);
    __real_io_connect(io, op, fd, (struct sockaddr *)&to, sizeof to);
}

/* ---- stock peers' ways ---- */

void __real_flow_end(struct flow *flow);
void __wrap_flow_end(struct flow *flow);

/* Some close at once when an application has said all, without EOF: what they sent before is delivered all the same. */
void __wrap_flow_end(struct flow *flow) {
    struct game *game = playing;
    bool from_client = flow->mux == &game->client.session.mux;
    bool sent_all = flow->phase == FLOW_OPEN && flow->in == FLOW_HALF_OPEN && flow->queue.count == 0;
    struct line *line = game->stock && sent_all && roll(game, 6) == 0 ? watch_line(from_client, flow->id) : NULL;
    if (!line || line->excused)
        return __real_flow_end(flow);
    line_hang_up(line, from_client != line_reversed(line) ? &line->near : &line->far);
    flow_abort(flow);
}

/* ---- memory ---- */

struct slice *__real_rxbuf_hold(struct rxbuf *rx, uint8_t *data, uint32_t len);
struct slice *__wrap_rxbuf_hold(struct rxbuf *rx, uint8_t *data, uint32_t len);

struct slice *__wrap_rxbuf_hold(struct rxbuf *rx, uint8_t *data, uint32_t len) {
    if (playing->short_of_memory && roll(playing, 8) == 0)
        return NULL;
    return __real_rxbuf_hold(rx, data, len);
}

void __real_conn_write_slice(struct conn *conn, struct rxbuf *rx, struct slice *slice);
void __wrap_conn_write_slice(struct conn *conn, struct rxbuf *rx, struct slice *slice);

/* A reader that stops costs its own window and no more. */
void __wrap_conn_write_slice(struct conn *conn, struct rxbuf *rx, struct slice *slice) {
    __real_conn_write_slice(conn, rx, slice);
    const struct side *side =
        conn->shard == &playing->client.side.shard ? &playing->client.side : &playing->server.side;
    expect(conn_queued(conn) <= side->session->mux.window_max, "more is queued for an application than its window");
}
