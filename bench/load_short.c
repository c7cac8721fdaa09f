/* Connections that carry one byte: opened all the time, or held. */
#include "bench/load_job.h"
#include <errno.h>
#include <sys/epoll.h>
#include <sys/socket.h>

static void on_greeted(struct job *job, struct flow *flow) {
    (void)job;
    (void)flow;
}

/* The byte of the answer. False: not there yet, or something else came, and the flow is broken. */
static bool read_ack(struct job *job, struct flow *flow) {
    char byte = 0;
    ssize_t n = recv(flow->fd, &byte, 1, 0);
    if (n < 0 && errno == EAGAIN)
        return false;
    if (n <= 0) {
        flow_break(job, flow, n < 0 ? errno : 0);
        return false;
    }
    if (byte != LOAD_ACK) {
        job_fail_flow(job, flow, "not what was sent");
        return false;
    }
    flow_run(job, flow, load_now());
    flow->latency_ns = flow->moved_ns - flow->begun_ns;
    return true;
}

/* What comes once the answer is there: nothing (false), the end (true); else the flow is broken (false). */
static bool has_ended(struct job *job, struct flow *flow) {
    char byte;
    ssize_t n = recv(flow->fd, &byte, 1, 0);
    if (n == 0)
        return true;
    if (n > 0)
        job_fail_flow(job, flow, "more came than was asked for");
    else if (errno != EAGAIN)
        flow_break(job, flow, errno);
    return false;
}

static void on_open_event(struct job *job, struct flow *flow, uint32_t events) {
    (void)events;
    if (flow->state == FLOW_GREETED && !read_ack(job, flow))
        return;
    if (!has_ended(job, flow))
        return;
    if (job_in_window(job, flow->begun_ns)) {
        histogram_record(&job->result->latency, flow->latency_ns);
        job->result->operations++;
    }
    if (job->phase == PHASE_DRAINING) {
        flow_finish(job, flow);
        return;
    }
    flow_close(job, flow);
    flow_open(job, flow);
}

static void on_hold_event(struct job *job, struct flow *flow, uint32_t events) {
    (void)events;
    if (flow->state == FLOW_GREETED)
        read_ack(job, flow);
    else if (has_ended(job, flow))
        flow_break(job, flow, 0);
}

/* An opened one, for its end. */
static bool open_is_waiting(const struct job *job, const struct flow *flow) {
    (void)job;
    (void)flow;
    return true;
}

static bool hold_is_waiting(const struct job *job, const struct flow *flow) {
    (void)job;
    (void)flow;
    return false;
}

static uint64_t position(const struct flow *flow) {
    return flow->state == FLOW_RUNNING;
}

static bool open_is_drained(const struct job *job) {
    return job->done == job->flow_count;
}

static bool hold_is_drained(const struct job *job) {
    (void)job;
    return true;
}

static void finish_hold(struct job *job) {
    for (uint32_t i = 0; i < job->flow_count; i++)
        job->result->operations += job->flows[i].state == FLOW_RUNNING;
}

const struct load_driver load_open_driver = {.on_greeted = on_greeted,
                                             .on_event = on_open_event,
                                             .is_waiting = open_is_waiting,
                                             .position = position,
                                             .is_drained = open_is_drained};
const struct load_driver load_hold_driver = {.on_greeted = on_greeted,
                                             .on_event = on_hold_event,
                                             .is_waiting = hold_is_waiting,
                                             .position = position,
                                             .is_drained = hold_is_drained,
                                             .finish = finish_hold};
