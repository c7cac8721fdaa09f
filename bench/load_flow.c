#include "bench/load_job.h"
#include "engine/tcp.h"
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

/* Each flow and connection its own streams. */
static uint64_t key_of(const struct job *job, const struct flow *flow, bool up) {
    uint64_t key = job->wanted->key * UINT64_C(0x9e3779b97f4a7c15);
    key = (key ^ flow->index) * UINT64_C(0xbf58476d1ce4e5b9);
    return (key ^ flow->attempt) * UINT64_C(0x94d049bb133111eb) + up;
}

static bool is_pending(const struct flow *flow) {
    return flow->state == FLOW_CONNECTING || flow->state == FLOW_GREETED;
}

static void leave_pending(struct job *job, const struct flow *flow) {
    if (is_pending(flow))
        job->pending--;
}

void flow_close(struct job *job, struct flow *flow) {
    leave_pending(job, flow);
    if (flow->fd >= 0)
        close(flow->fd);
    flow->fd = -1;
    flow->state = FLOW_WAITING;
}

void flow_finish(struct job *job, struct flow *flow) {
    flow_close(job, flow);
    flow->state = FLOW_DONE;
    job->done++;
}

void flow_break(struct job *job, struct flow *flow, int error) {
    char text[100];
    const char *what = flow->state == FLOW_CONNECTING ? "connect: " : "";
    if (!job->wanted->reconnect || !flow->has_run) {
        snprintf(text, sizeof(text), "%s%s", what, error != 0 ? strerror(error) : "ended by the other side");
        job_fail_flow(job, flow, text);
        return;
    }
    if (job->driver->on_broken != NULL)
        job->driver->on_broken(job, flow);
    flow_close(job, flow);
    flow->state = FLOW_BROKEN;
    flow->was_broken = true;
}

void flow_want(struct job *job, struct flow *flow, uint32_t events) {
    struct epoll_event event = {.events = events, .data.ptr = flow};
    if (events == flow->events)
        return;
    flow->events = events;
    epoll_ctl(job->epoll, EPOLL_CTL_MOD, flow->fd, &event);
}

void flow_open(struct job *job, struct flow *flow) {
    struct epoll_event event = {.events = EPOLLOUT, .data.ptr = flow};
    const struct sockaddr *address = (const struct sockaddr *)&job->wanted->address;
    flow->attempt++;
    flow->events = EPOLLOUT;
    flow->begun_ns = load_now();
    if (!flow->was_broken)
        flow->moved_ns = flow->begun_ns;
    flow->state = FLOW_CONNECTING;
    job->pending++;
    flow->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (flow->fd < 0) {
        flow_break(job, flow, errno);
        return;
    }
    load_socket_prepare(flow->fd);
    if (job->wanted->any_port)
        tcp_take_any_port(flow->fd);
    load_socket_buffers(flow->fd, job->wanted->buffer_bytes);
    if ((connect(flow->fd, address, sizeof(job->wanted->address)) != 0 && errno != EINPROGRESS) ||
        epoll_ctl(job->epoll, EPOLL_CTL_ADD, flow->fd, &event) != 0)
        flow_break(job, flow, errno);
}

/* What is still to come of a flow of so many bytes. */
static uint64_t bytes_left(const struct job *job, const struct flow *flow) {
    return job->wanted->bytes_per_flow > 0 ? job->wanted->bytes_per_flow - flow->bulk.arrived_before : 0;
}

static void flow_greet(struct job *job, struct flow *flow) {
    int error = 0;
    socklen_t len = sizeof(error);
    struct load_wish wish = {.magic = LOAD_MAGIC,
                             .kind = flow->is_up ? LOAD_UP : job->wanted->kind,
                             .message_bytes = job->wanted->message_bytes,
                             .buffer_bytes = job->wanted->buffer_bytes,
                             .up_key = key_of(job, flow, true),
                             .down_key = key_of(job, flow, false)};
    if (wish.kind == LOAD_DOWN)
        wish.bytes = bytes_left(job, flow);
    if (wish.kind == LOAD_DOWN && job->wanted->pace > 0)
        wish.pace = (uint64_t)(job->wanted->pace / job->wanted->flows) + 1;
    getsockopt(flow->fd, SOL_SOCKET, SO_ERROR, &error, &len);
    if (error != 0) {
        flow_break(job, flow, error);
        return;
    }
    flow->state = FLOW_GREETED;
    stream_init(&flow->in, wish.down_key);
    stream_init(&flow->out, wish.up_key);
    if (send(flow->fd, &wish, sizeof(wish), MSG_NOSIGNAL) != sizeof(wish)) {
        flow_break(job, flow, errno);
        return;
    }
    flow_want(job, flow, EPOLLIN);
    job->driver->on_greeted(job, flow);
}

void flow_run(struct job *job, struct flow *flow, uint64_t now) {
    double took_s = (double)(now - flow->begun_ns) / 1e9;
    leave_pending(job, flow);
    flow->state = FLOW_RUNNING;
    flow->moved_ns = now;
    if (took_s > job->result->first_byte_s)
        job->result->first_byte_s = took_s;
    if (flow->was_broken)
        job->result->reconnects++;
    flow->was_broken = false;
    if (!flow->has_run)
        job->running_once++;
    flow->has_run = true;
}

void flow_on_event(struct job *job, struct flow *flow, uint32_t events) {
    if (flow->state == FLOW_CONNECTING)
        flow_greet(job, flow);
    else if (is_pending(flow) || flow->state == FLOW_RUNNING)
        job->driver->on_event(job, flow, events);
}
