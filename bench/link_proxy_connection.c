#include "bench/link_proxy_connection.h"
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define PIECE_BYTES (64u << 10)
/* A connection's share of a turn, so that others are not late. */
#define PIECES_PER_TURN 4
#define CONTROL_PIECE_BYTES 40

enum piece_kind { PIECE_SYN, PIECE_SYN_ACK, PIECE_ACK, PIECE_DATA, PIECE_FIN, PIECE_RESET };

struct piece {
    struct shaper_packet packet; /* first */
    struct connection *connection;
    enum piece_kind kind;
    uint32_t bytes, written;
    unsigned char data[];
};

static struct end *other(struct end *end) {
    return &end->connection->ends[1 - end->side];
}

static void free_when_done(struct proxy *proxy, struct connection *connection) {
    if (connection->ends[0].fd >= 0 || connection->ends[1].fd >= 0 || connection->uses > 0 || connection->is_ended)
        return;
    connection->is_ended = true;
    connection->next_ended = proxy->ended;
    proxy->ended = connection;
}

void connection_free_ended(struct proxy *proxy) {
    struct connection *connection;
    while ((connection = proxy->ended) != NULL) {
        proxy->ended = connection->next_ended;
        *connection->pprev = connection->next;
        if (connection->next != NULL)
            connection->next->pprev = connection->pprev;
        free(connection);
    }
}

static struct piece *make_piece(enum piece_kind kind, size_t bytes) {
    struct piece *piece = malloc(sizeof(*piece) + bytes);
    if (piece == NULL)
        abort();
    *piece = (struct piece){.kind = kind, .bytes = (uint32_t)bytes};
    return piece;
}

static void send_piece(struct proxy *proxy, struct end *from, struct piece *piece) {
    piece->connection = from->connection;
    piece->connection->uses++;
    piece->packet.bytes = piece->bytes > 0 ? piece->bytes : CONTROL_PIECE_BYTES;
    /* This line neither loses nor drops. */
    (void)shaper_offer(&proxy->shapers[from->side], carrier_now_ns(), piece->packet.bytes, &piece->packet.due_ns);
    shaper_flight_add(&proxy->flights[from->side], &piece->packet);
}

static void send_kind(struct proxy *proxy, struct end *from, enum piece_kind kind) {
    send_piece(proxy, from, make_piece(kind, 0));
}

static void close_end(struct end *end, bool reset) {
    struct shaper_packet *packet;
    struct linger at_once = {.l_onoff = 1};
    if (end->fd >= 0) {
        if (reset)
            setsockopt(end->fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
        close(end->fd);
    }
    end->fd = -1;
    end->is_open = false;
    while ((packet = shaper_flight_take(&end->arrived, SHAPER_NEVER)) != NULL)
        free(packet);
}

static void fail_end(struct proxy *proxy, struct end *end) {
    close_end(end, true);
    send_kind(proxy, end, PIECE_RESET);
}

static void close_when_through(struct proxy *proxy, struct end *end) {
    if (!end->read_ended || !end->write_ended)
        return;
    close_end(end, false);
    free_when_done(proxy, end->connection);
}

static void read_later(struct proxy *proxy, struct end *end) {
    struct end_queue *queue = &proxy->to_read[end->side];
    if (end->is_queued)
        return;
    end->is_queued = true;
    end->connection->uses++;
    end->next_to_read = NULL;
    *queue->last_next = end;
    queue->last_next = &end->next_to_read;
}

static bool is_way_full(const struct proxy *proxy, unsigned side) {
    return proxy->flights[side].bytes >= proxy->way_bytes_max;
}

/* False: there is nothing more to read yet. */
static bool read_piece(struct proxy *proxy, struct end *end) {
    static unsigned char buffer[PIECE_BYTES];
    struct piece *piece;
    ssize_t bytes;
    if (!end->is_open || !end->is_readable || end->read_ended || end->held >= proxy->half_bytes_max)
        return false;
    bytes = recv(end->fd, buffer, sizeof(buffer), 0);
    if (bytes < 0 && errno == EINTR)
        return true;
    if (bytes < 0) {
        end->is_readable = false;
        if (errno != EAGAIN)
            fail_end(proxy, end);
        return false;
    }
    if (bytes == 0) {
        end->read_ended = true;
        send_kind(proxy, end, PIECE_FIN);
        close_when_through(proxy, end);
        return false;
    }
    piece = make_piece(PIECE_DATA, (size_t)bytes);
    memcpy(piece->data, buffer, (size_t)bytes);
    end->held += (size_t)bytes;
    send_piece(proxy, end, piece);
    return true;
}

static void read_end(struct proxy *proxy, struct end *end) {
    for (unsigned i = 0; i < PIECES_PER_TURN && !is_way_full(proxy, end->side); i++) {
        if (!read_piece(proxy, end))
            return;
    }
    read_later(proxy, end);
}

/* False: it has to wait, or the end has failed and the piece with it. */
static bool write_piece(struct proxy *proxy, struct end *end, struct piece *piece) {
    if (piece->kind == PIECE_FIN) {
        end->write_ended = true;
        shutdown(end->fd, SHUT_WR);
        return true;
    }
    while (piece->written < piece->bytes) {
        ssize_t bytes = send(end->fd, piece->data + piece->written, piece->bytes - piece->written, MSG_NOSIGNAL);
        if (bytes < 0 && errno == EINTR)
            continue;
        if (bytes < 0) {
            if (errno != EAGAIN)
                fail_end(proxy, end);
            return false;
        }
        piece->written += (uint32_t)bytes;
        other(end)->held -= (size_t)bytes;
    }
    return true;
}

static void write_end(struct proxy *proxy, struct end *end) {
    bool was_held = other(end)->held >= proxy->half_bytes_max;
    while (end->is_open && end->is_connected && end->arrived.first != NULL) {
        if (!write_piece(proxy, end, (struct piece *)end->arrived.first))
            break;
        free(shaper_flight_take(&end->arrived, SHAPER_NEVER));
    }
    if (was_held && other(end)->held < proxy->half_bytes_max)
        read_later(proxy, other(end));
    if (end->is_open)
        close_when_through(proxy, end);
}

bool proxy_watch(struct proxy *proxy, int fd, void *source, uint32_t events) {
    struct epoll_event event = {.events = events, .data.ptr = source};
    return epoll_ctl(proxy->epoll, EPOLL_CTL_ADD, fd, &event) == 0;
}

static bool open_end(struct proxy *proxy, struct end *end) {
    int on = 1;
    setsockopt(end->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    end->is_open = true;
    return proxy_watch(proxy, end->fd, end, EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET);
}

static void dial(struct proxy *proxy, struct end *end) {
    struct sockaddr_in to = {
        .sin_family = AF_INET, .sin_port = htons(end->connection->port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    end->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (end->fd < 0 || (connect(end->fd, (struct sockaddr *)&to, sizeof(to)) != 0 && errno != EINPROGRESS) ||
        !open_end(proxy, end))
        fail_end(proxy, end);
}

/* A piece has come over the distance to `end`. */
static void arrive(struct proxy *proxy, struct end *end, struct piece *piece) {
    switch (piece->kind) {
    case PIECE_SYN:
        send_kind(proxy, end, PIECE_SYN_ACK);
        break;
    case PIECE_SYN_ACK:
        send_kind(proxy, end, PIECE_ACK);
        if (!open_end(proxy, end))
            fail_end(proxy, end);
        break;
    case PIECE_ACK:
        dial(proxy, end);
        break;
    case PIECE_RESET:
        close_end(end, true);
        break;
    case PIECE_DATA:
    case PIECE_FIN:
        shaper_flight_add(&end->arrived, &piece->packet);
        write_end(proxy, end);
        return;
    }
    free(piece);
}

void connection_deliver(struct proxy *proxy, unsigned side) {
    struct link_counters *counters = proxy->carrier->counters;
    struct shaper_packet *packet;
    uint64_t now_ns = carrier_now_ns();
    while ((packet = shaper_flight_take(&proxy->flights[side], now_ns)) != NULL) {
        struct piece *piece = (struct piece *)packet;
        struct connection *connection = piece->connection;
        struct end *end = &connection->ends[1 - side];
        bool is_gone = end->fd < 0 && (piece->kind >= PIECE_DATA || other(end)->fd < 0);
        counters->late += now_ns - packet->due_ns > CARRIER_LATE_NS;
        connection->uses--;
        if (is_gone) {
            counters->lost++;
            free(piece);
        } else {
            counters->packets++;
            counters->bytes += piece->bytes;
            arrive(proxy, end, piece);
        }
        free_when_done(proxy, connection);
    }
}

void connection_open(struct proxy *proxy, int fd, uint16_t server_port) {
    struct connection *connection = calloc(1, sizeof(*connection));
    if (connection == NULL)
        abort();
    for (unsigned side = 0; side < 2; side++) {
        connection->ends[side] = (struct end){.kind = SOURCE_END, .connection = connection, .side = side, .fd = -1};
        shaper_flight_init(&connection->ends[side].arrived);
    }
    connection->port = server_port;
    connection->ends[0].fd = fd;
    connection->next = proxy->connections;
    connection->pprev = &proxy->connections;
    if (connection->next != NULL)
        connection->next->pprev = &connection->next;
    proxy->connections = connection;
    send_kind(proxy, &connection->ends[0], PIECE_SYN);
}

void connection_on_event(struct proxy *proxy, struct end *end, uint32_t events) {
    if (!end->is_open)
        return;
    if (events & EPOLLOUT) {
        end->is_connected = true;
        write_end(proxy, end);
    }
    if (events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR)) {
        end->is_readable = true;
        read_end(proxy, end);
    }
    free_when_done(proxy, end->connection);
}

bool connection_can_read(const struct proxy *proxy, unsigned side) {
    return proxy->to_read[side].first != NULL && !is_way_full(proxy, side);
}

void connection_read_queued(struct proxy *proxy, unsigned side) {
    struct end_queue *queue = &proxy->to_read[side];
    struct end *end, **stop = queue->last_next;
    while (connection_can_read(proxy, side) && stop != &queue->first) {
        end = queue->first;
        queue->first = end->next_to_read;
        if (&end->next_to_read == stop)
            stop = &queue->first;
        if (queue->first == NULL)
            queue->last_next = &queue->first;
        end->is_queued = false;
        end->connection->uses--;
        read_end(proxy, end);
        free_when_done(proxy, end->connection);
    }
}

void connection_reset_all(struct proxy *proxy) {
    for (struct connection *connection = proxy->connections; connection != NULL; connection = connection->next) {
        close_end(&connection->ends[0], true);
        close_end(&connection->ends[1], true);
        free_when_done(proxy, connection);
    }
}
