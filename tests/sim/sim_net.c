#include "engine/check.h"
#include "tests/sim/sim_world.h"
#include <errno.h>
#include <string.h>

/* ---- listening ---- */

int io_sim_listener(const struct sim_world *world, uint16_t port) {
    for (unsigned i = 0; port != 0 && i < world->ends_count; i++) {
        const struct sim_end *end = world->ends[i];
        if (end->open && end->listening && end->port == port)
            return SIM_FD_BASE + (int)i;
    }
    return -1;
}

/* NULL: there is none, or its backlog is full. */
static struct sim_end *listener_at(struct sim_world *world, uint16_t port) {
    int fd = io_sim_listener(world, port);
    return fd >= 0 && end_of(world, fd)->backlog_count < SIM_BACKLOG ? end_of(world, fd) : NULL;
}

int io_sim_listen(struct sim_world *world, uint16_t port) {
    struct sim_end *end;
    int fd = end_create(world, &end);
    end->listening = true;
    end->port = port;
    return fd;
}

uint16_t io_sim_port(struct sim_world *world, int fd) {
    return end_of(world, fd)->port;
}

void io_sim_fail_accept(struct sim_world *world, int fd, int error_number) {
    end_of(world, fd)->accept_error = error_number;
    world->activity++;
}

void end_drop_backlog(struct sim_world *world, struct sim_end *end) {
    for (unsigned i = 0; i < end->backlog_count; i++)
        end_close(world, end_of(world, end->backlog[i].fd), IO_CLOSE_RESET);
    end->backlog_count = 0;
}

int end_accept(struct sim_world *world, struct sim_end *end) {
    if (end->backlog_count == 0 || end->backlog[0].at_ns > world->now_ns)
        return -1;
    int fd = end->backlog[0].fd;
    end->backlog_count--;
    memmove(end->backlog, end->backlog + 1, end->backlog_count * sizeof end->backlog[0]);
    world->activity++;
    return fd;
}

int io_sim_accept(struct sim_world *world, int fd) {
    return end_accept(world, end_of(world, fd));
}

/* ---- connecting ---- */

int io_sim_socket(struct sim_world *world) {
    struct sim_end *end;
    return end_create(world, &end);
}

void io_sim_script_connect(struct sim_world *world, uint64_t at_ns, int error_number) {
    world->script.set = true;
    world->script.at_ns = at_ns;
    world->script.error = error_number;
}

static void backlog_add(struct sim_end *listener, int fd, uint64_t at_ns) {
    unsigned at = listener->backlog_count++;
    for (; at > 0 && listener->backlog[at - 1].at_ns > at_ns; at--)
        listener->backlog[at] = listener->backlog[at - 1];
    listener->backlog[at].fd = fd;
    listener->backlog[at].at_ns = at_ns;
}

static void join_listener(struct sim_world *world, struct sim_end *end, struct sim_end *listener, uint64_t at_ns) {
    struct sim_end *server;
    int fd = end_create(world, &server);
    ends_join(world, end, server);
    backlog_add(listener, fd, at_ns);
}

void end_connect(struct sim_world *world, struct sim_end *end, uint16_t port) {
    int error_number = world->script.set ? world->script.error : 0;
    end->connect_ns = world->script.set ? world->script.at_ns : world_arrival(world);
    end->connect_error = error_number ? error_number : ECONNREFUSED;
    world->script.set = false;
    struct sim_end *listener = error_number || end->connect_ns == SIM_NEVER ? NULL : listener_at(world, port);
    if (listener)
        join_listener(world, end, listener, end->connect_ns);
}

int io_sim_connect(struct sim_world *world, uint16_t port) {
    struct sim_end *end, *listener = listener_at(world, port);
    if (!listener)
        return -1;
    int fd = end_create(world, &end);
    join_listener(world, end, listener, world_arrival(world));
    world->activity++;
    return fd;
}

int io_sim_peer(struct sim_world *world, int fd) {
    const struct sim_end *peer = end_of(world, fd)->peer;
    for (unsigned i = 0; peer && peer->open && i < world->ends_count; i++)
        if (world->ends[i] == peer)
            return SIM_FD_BASE + (int)i;
    return -1;
}

uint64_t io_sim_unread(struct sim_world *world, int fd) {
    const struct sim_end *peer = end_of(world, fd)->peer;
    return peer ? peer->in.head - peer->in.tail : 0;
}

bool io_sim_eof_taken(struct sim_world *world, int fd) {
    const struct sim_end *peer = end_of(world, fd)->peer;
    return peer && peer->eof_taken;
}
