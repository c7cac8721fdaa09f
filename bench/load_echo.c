/* Messages there and back. By the clock (`rate`), message k of all is due at k / rate and goes over flow k mod flows,
 * whatever has come back: so a flow's n-th is due at a time that n alone tells, and nothing need be queued to know how
 * late it is back. */
#include "bench/load_job.h"
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#define LATE_NS 1000000

static bool by_clock(const struct job *job) {
    return job->wanted->rate > 0;
}

static uint64_t due_ns(const struct job *job, uint64_t k) {
    return job->plan_ns + (uint64_t)((double)k * 1e9 / job->wanted->rate);
}

static void want_events(struct job *job, struct flow *flow) {
    flow_want(job, flow, flow->echo.unsent > 0 ? EPOLLIN | EPOLLOUT : EPOLLIN);
}

static void send_messages(struct job *job, struct flow *flow) {
    struct echo *echo = &flow->echo;
    while (echo->unsent > 0) {
        size_t len = echo->unsent < STREAM_RUN_BYTES ? (size_t)echo->unsent : STREAM_RUN_BYTES;
        ssize_t n = send(flow->fd, stream_bytes(&flow->out), len, MSG_NOSIGNAL);
        /* A broken one is read first: what came says more than that it broke. */
        if (n < 0)
            break;
        stream_skip(&flow->out, (size_t)n);
        echo->unsent -= (uint64_t)n;
        flow->moved_ns = load_now();
    }
    want_events(job, flow);
}

/* One more message is due. */
static void plan(struct job *job, struct flow *flow, uint64_t now) {
    struct echo *echo = &flow->echo;
    if (echo->planned == echo->back)
        flow->moved_ns = now;
    echo->planned++;
    job->outstanding++;
    if (flow->state != FLOW_RUNNING)
        return;
    echo->unsent += job->wanted->message_bytes;
    send_messages(job, flow);
}

static void plan_at_once(struct job *job, struct flow *flow) {
    flow->echo.sent_ns = load_now();
    plan(job, flow, flow->echo.sent_ns);
}

static void message_back(struct job *job, struct flow *flow, uint64_t now) {
    struct echo *echo = &flow->echo;
    uint64_t begun = by_clock(job) ? due_ns(job, echo->back * job->flow_count + flow->index) : echo->sent_ns;
    echo->back++;
    job->outstanding--;
    if (!job_in_window(job, begun))
        return;
    job->result->operations++;
    histogram_record(&job->result->latency, now > begun ? now - begun : 0);
}

static void messages_back(struct job *job, struct flow *flow) {
    struct echo *echo = &flow->echo;
    uint64_t now = load_now(), bytes = job->wanted->message_bytes;
    flow->moved_ns = now;
    if (flow->in.at > flow->out.at / bytes * bytes) {
        job_fail_flow(job, flow, "more came back than was sent");
        return;
    }
    while (echo->back - echo->back_before < flow->in.at / bytes)
        message_back(job, flow, now);
    if (!by_clock(job) && echo->back == echo->planned && job->phase != PHASE_DRAINING)
        plan_at_once(job, flow);
}

static void fail_content(struct job *job, struct flow *flow) {
    /* The target's report stands in the buffer where the stream of messages broke off. */
    uint64_t magic = LOAD_MAGIC;
    struct load_report report;
    const char *at = memmem(job->buffer, sizeof(job->buffer) - sizeof(report), &magic, sizeof(magic));
    if (at != NULL) {
        memcpy(&report, at, sizeof(report));
        job_fail(job, "flow %u: what arrived there is not what was sent at byte %ju", flow->index,
                 (uintmax_t)report.bad_at);
        return;
    }
    job_fail_flow(job, flow, "not what was sent");
}

static void read_messages(struct job *job, struct flow *flow) {
    int64_t n = load_receive_stream(&flow->in, flow->fd, job->buffer, sizeof(job->buffer));
    if (n > 0)
        messages_back(job, flow);
    else if (n == -EBADMSG)
        fail_content(job, flow);
    else if (n != -EAGAIN)
        flow_break(job, flow, (int)-n);
}

static void read_ack(struct job *job, struct flow *flow) {
    struct echo *echo = &flow->echo;
    char byte = 0;
    ssize_t n = recv(flow->fd, &byte, 1, 0);
    if (n < 0 && errno == EAGAIN)
        return;
    if (n <= 0 || byte != LOAD_ACK) {
        flow_break(job, flow, n < 0 ? errno : n == 0 ? 0 : EPROTO);
        return;
    }
    flow_run(job, flow, load_now());
    /* After a break all that is not back goes again. */
    echo->unsent = (echo->planned - echo->back) * job->wanted->message_bytes;
    if (!by_clock(job) && echo->planned == echo->back)
        plan_at_once(job, flow);
    else
        send_messages(job, flow);
}

static void on_greeted(struct job *job, struct flow *flow) {
    (void)job;
    flow->echo.back_before = flow->echo.back;
}

static void on_event(struct job *job, struct flow *flow, uint32_t events) {
    if (flow->state == FLOW_GREETED) {
        read_ack(job, flow);
        return;
    }
    if (events & (EPOLLIN | EPOLLHUP | EPOLLERR))
        read_messages(job, flow);
    if (events & EPOLLOUT && flow->state == FLOW_RUNNING)
        send_messages(job, flow);
}

static void on_all_running(struct job *job, uint64_t now) {
    job->plan_ns = now;
}

/* What was due before the measured time ended is sent however late that is. */
static bool has_plan(const struct job *job) {
    return by_clock(job) && job->plan_ns != 0 && due_ns(job, job->plan_next) < job->window_end_ns;
}

static uint64_t next_ns(const struct job *job) {
    return has_plan(job) ? due_ns(job, job->plan_next) : UINT64_MAX;
}

static void on_turn(struct job *job) {
    uint64_t now = load_now();
    for (uint64_t due; has_plan(job) && (due = due_ns(job, job->plan_next)) <= now; job->plan_next++) {
        job->result->late += job_in_window(job, due) && now - due > LATE_NS;
        plan(job, &job->flows[job->plan_next % job->flow_count], now);
    }
}

static bool is_waiting(const struct job *job, const struct flow *flow) {
    (void)job;
    return flow->echo.planned != flow->echo.back;
}

static uint64_t position(const struct flow *flow) {
    return flow->in.at;
}

static bool is_drained(const struct job *job) {
    return job->outstanding == 0 && !has_plan(job);
}

const struct load_driver load_echo_driver = {.on_greeted = on_greeted,
                                             .on_event = on_event,
                                             .on_all_running = on_all_running,
                                             .on_turn = on_turn,
                                             .next_ns = next_ns,
                                             .is_waiting = is_waiting,
                                             .position = position,
                                             .is_drained = is_drained};
