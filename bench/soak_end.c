/* One end of a flow: what it reads, sends, puts off and breaks off, by its script. */
#include "bench/load_wire.h"
#include "bench/soak_load.h"
#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

/* Of one end in a turn, so that others have theirs. */
#define READS_MAX 4u
#define SENDS_MAX 4u
#define MS UINT64_C(1000000)

static enum soak_side other_side(enum soak_side side) {
    return side == SOAK_NEAR ? SOAK_FAR : SOAK_NEAR;
}

/* The end that all bytes of this one's incoming way begin at. */
static enum soak_side way_in(const struct soak_end *end) {
    return other_side(end->side);
}

static uint64_t bytes_in(const struct soak_end *end) {
    return end->flow->script.bytes[way_in(end)];
}

static uint64_t bytes_out(const struct soak_end *end) {
    return end->flow->script.bytes[end->side];
}

static bool may_break(const struct soak_flow *flow) {
    return flow->was_reset || flow->is_lost;
}

static void end_over(struct soak_end *end) {
    if (end->fd >= 0)
        close(end->fd);
    end->fd = -1;
    end->state = SOAK_END_OVER;
}

/* The connection broke while `way` was not through. */
static void end_broken(struct soak_load *load, struct soak_end *end, enum soak_side way, const char *how) {
    if (!may_break(end->flow))
        soak_fail_flow(load, end->flow, way, how);
    end_over(end);
}

static void end_reset(struct soak_load *load, struct soak_end *end) {
    end->flow->was_reset = true;
    load_socket_reset(end->fd);
    end->fd = -1;
    end->state = SOAK_END_OVER;
    load->shared->resets++;
}

static bool reset_is_due(const struct soak_end *end) {
    const struct soak_script *script = &end->flow->script;
    return script->resets && script->reset_by == end->side && end->in.at >= script->reset_at;
}

/* Puts the end off for so long. */
static uint64_t put_off(struct soak_end *end, uint32_t ms) {
    uint64_t until = load_now() + ms * MS;
    if (end->flow->moved_ns < until)
        end->flow->moved_ns = until;
    return until;
}

static uint64_t least(uint64_t a, uint64_t b) {
    return a < b ? a : b;
}

/* ---- what comes ---- */

static bool stalls_in(const struct soak_load *load, const struct soak_end *end) {
    const struct soak_stall *stall = &end->flow->script.stalls[way_in(end)];
    return load->order == SOAK_RUN && stall->ms > 0 && stall->is_readers && !end->has_stalled_in;
}

/* Up to the next place where the script has something to say. */
static size_t most_to_read(const struct soak_load *load, const struct soak_end *end) {
    const struct soak_script *script = &end->flow->script;
    uint64_t most = LOAD_BUFFER_BYTES;
    if (stalls_in(load, end) && script->stalls[way_in(end)].at > end->in.at)
        most = least(most, script->stalls[way_in(end)].at - end->in.at);
    if (script->resets && script->reset_by == end->side)
        most = least(most, script->reset_at - end->in.at);
    return (size_t)most;
}

static void note_gap(struct soak_load *load, struct soak_end *end, uint64_t now) {
    const struct soak_script *script = &end->flow->script;
    bool is_plain = script->stalls[0].ms == 0 && script->stalls[1].ms == 0 && !may_break(end->flow);
    if (is_plain && end->came_ns != 0 && now - end->came_ns > load->shared->longest_stall_ns)
        load->shared->longest_stall_ns = now - end->came_ns;
    end->came_ns = now;
}

void soak_end_note_gap(struct soak_load *load, struct soak_end *end, uint64_t now) {
    if (end->state == SOAK_END_OPEN && end->in.at < bytes_in(end))
        note_gap(load, end, now);
}

static void end_came(struct soak_load *load, struct soak_end *end, uint64_t bytes) {
    uint64_t now = load_now();
    load->shared->bytes += bytes;
    end->flow->moved_ns = now;
    note_gap(load, end, now);
    if (end->in.at > bytes_in(end)) {
        soak_fail_flow(load, end->flow, way_in(end), "more came than was sent");
    } else if (reset_is_due(end)) {
        end_reset(load, end);
    } else if (stalls_in(load, end) && end->in.at >= end->flow->script.stalls[way_in(end)].at) {
        end->has_stalled_in = true;
        end->read_at_ns = put_off(end, end->flow->script.stalls[way_in(end)].ms);
        load->shared->stalls++;
    }
}

static void end_closed(struct soak_load *load, struct soak_end *end) {
    if (end->in.at < bytes_in(end)) {
        end_broken(load, end, way_in(end), "the stream ended here");
        return;
    }
    end->has_end = true;
    end->flow->moved_ns = load_now();
}

/* One read. False: no more yet. */
static bool end_read(struct soak_load *load, struct soak_end *end) {
    int64_t n = load_receive_stream(&end->in, end->fd, load->buffer, most_to_read(load, end));
    if (n == -EAGAIN)
        return false;
    if (n == -EBADMSG)
        soak_fail_flow(load, end->flow, way_in(end), "not what was sent");
    else if (n < 0)
        end_broken(load, end, way_in(end), strerror((int)-n));
    else if (n == 0)
        end_closed(load, end);
    else
        end_came(load, end, (uint64_t)n);
    return n > 0;
}

static bool wants_to_read(const struct soak_load *load, const struct soak_end *end, uint64_t now) {
    return !load->is_over && end->state == SOAK_END_OPEN && !end->has_end && now >= end->read_at_ns;
}

/* ---- what is sent ---- */

static bool stalls_out(const struct soak_load *load, const struct soak_end *end) {
    const struct soak_stall *stall = &end->flow->script.stalls[end->side];
    return load->order == SOAK_RUN && stall->ms > 0 && !stall->is_readers && !end->has_stalled_out;
}

static bool wants_to_send(const struct soak_load *load, const struct soak_end *end, uint64_t now) {
    bool waits = end->side == SOAK_FAR && end->flow->script.answers && !end->has_end;
    return !load->is_over && end->state == SOAK_END_OPEN && end->out.at < bytes_out(end) && !waits &&
           now >= end->write_at_ns;
}

/* One send. False: no more yet. */
static bool end_send(struct soak_load *load, struct soak_end *end) {
    const struct soak_stall *stall = &end->flow->script.stalls[end->side];
    bool stalls = stalls_out(load, end) && stall->at > end->out.at;
    uint64_t most = (stalls ? stall->at : bytes_out(end)) - end->out.at;
    int64_t n = load_send_stream(&end->out, end->fd, most);
    if (n == -EAGAIN)
        return false;
    if (n < 0) {
        end_broken(load, end, end->side, strerror((int)-n));
        return false;
    }
    end->flow->moved_ns = load_now();
    if (stalls && end->out.at == stall->at) {
        end->has_stalled_out = true;
        end->write_at_ns = put_off(end, stall->ms);
        load->shared->stalls++;
    }
    return true;
}

/* All is sent: is it time to say so? A held flow waits until both ways are through, for its time, and the far end for
 * the near one. */
static bool end_is_due(struct soak_load *load, struct soak_end *end, uint64_t now) {
    const struct soak_script *script = &end->flow->script;
    if (end->has_sent_end || end->state != SOAK_END_OPEN || end->out.at < bytes_out(end) || now < end->write_at_ns)
        return false;
    if (script->hold_ms == 0 || load->order != SOAK_RUN)
        return true;
    if (end->side == SOAK_FAR)
        return end->has_end;
    if (end->in.at < bytes_in(end))
        return false;
    if (end->has_held)
        return true;
    end->has_held = true;
    end->write_at_ns = put_off(end, script->hold_ms);
    load->shared->held++;
    return false;
}

static void end_say_end(struct soak_load *load, struct soak_end *end) {
    end->has_sent_end = true;
    end->flow->moved_ns = load_now();
    if (shutdown(end->fd, SHUT_WR) != 0)
        end_broken(load, end, end->side, strerror(errno));
}

/* ---- both ---- */

static void end_want(struct soak_load *load, struct soak_end *end) {
    uint64_t now = load_now();
    uint32_t events = (wants_to_read(load, end, now) ? (uint32_t)EPOLLIN : 0) |
                      (wants_to_send(load, end, now) ? (uint32_t)EPOLLOUT : 0);
    struct epoll_event event = {.events = events, .data.ptr = end};
    if (end->state != SOAK_END_OPEN || events == end->events)
        return;
    end->events = events;
    epoll_ctl(load->epoll, EPOLL_CTL_MOD, end->fd, &event);
}

static void end_work(struct soak_load *load, struct soak_end *end) {
    uint64_t now = load_now();
    for (unsigned i = 0; i < READS_MAX && wants_to_read(load, end, now) && end_read(load, end); i++)
        ;
    for (unsigned i = 0; i < SENDS_MAX && wants_to_send(load, end, now) && end_send(load, end); i++)
        ;
    if (!load->is_over && end_is_due(load, end, now))
        end_say_end(load, end);
    if (end->state == SOAK_END_OPEN && end->has_end && end->has_sent_end)
        end_over(end);
    end_want(load, end);
}

static void end_open(struct soak_load *load, struct soak_end *end) {
    uint64_t id = soak_flow_id(load, end->flow);
    end->state = SOAK_END_OPEN;
    stream_init(&end->in, 2 * id + (end->side == SOAK_NEAR));
    stream_init(&end->out, 2 * id + (end->side == SOAK_FAR));
    end->flow->moved_ns = load_now();
    if (end->side == SOAK_FAR && reset_is_due(end))
        end_reset(load, end);
    else
        end_work(load, end);
}

static void end_greet(struct soak_load *load, struct soak_end *end) {
    struct load_wish wish = {
        .magic = LOAD_MAGIC, .kind = LOAD_HANDED, .up_key = load->taker_key, .down_key = soak_flow_id(load, end->flow)};
    int error = 0;
    socklen_t len = sizeof(error);
    getsockopt(end->fd, SOL_SOCKET, SO_ERROR, &error, &len);
    if (error == 0 && send(end->fd, &wish, sizeof(wish), MSG_NOSIGNAL) != (ssize_t)sizeof(wish))
        error = errno;
    if (error != 0)
        end_broken(load, end, SOAK_NEAR, strerror(error));
    else
        end_open(load, end);
}

void soak_end_connect(struct soak_load *load, struct soak_end *end) {
    struct epoll_event event = {.events = EPOLLOUT, .data.ptr = end};
    const struct sockaddr *address = (const struct sockaddr *)&load->job->address;
    end->state = SOAK_END_CONNECTING;
    end->events = EPOLLOUT;
    end->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (end->fd >= 0)
        load_socket_prepare(end->fd);
    if (end->fd < 0 || (connect(end->fd, address, sizeof(load->job->address)) != 0 && errno != EINPROGRESS) ||
        epoll_ctl(load->epoll, EPOLL_CTL_ADD, end->fd, &event) != 0)
        end_broken(load, end, SOAK_NEAR, strerror(errno));
}

void soak_end_begin(struct soak_load *load, struct soak_end *end, int fd) {
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = end};
    end->fd = fd;
    end->events = EPOLLIN;
    load_socket_prepare(fd);
    if (epoll_ctl(load->epoll, EPOLL_CTL_ADD, fd, &event) != 0)
        end_broken(load, end, SOAK_NEAR, strerror(errno));
    else
        end_open(load, end);
}

void soak_end_on_event(struct soak_load *load, struct soak_end *end, uint32_t events) {
    if (end->state == SOAK_END_CONNECTING) {
        end_greet(load, end);
        return;
    }
    /* A connection that is over says so again and again until it is looked at. */
    if (events & (EPOLLHUP | EPOLLERR))
        end->read_at_ns = end->write_at_ns = 0;
    if (end->state == SOAK_END_OPEN)
        end_work(load, end);
}

void soak_end_hurry(struct soak_load *load, struct soak_end *end) {
    end->read_at_ns = end->write_at_ns = 0;
    if (end->state == SOAK_END_OPEN)
        end_work(load, end);
}
