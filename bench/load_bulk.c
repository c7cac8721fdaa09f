/* Downloads and uploads. */
#include "bench/load_job.h"
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

static bool is_paused(const struct job *job, const struct flow *flow) {
    return job->wanted->pause_bytes > 0 && !job->is_resumed && flow->bulk.arrived >= job->wanted->pause_bytes;
}

static uint64_t limit_of(const struct job *job) {
    return job->wanted->bytes_per_flow;
}

static void on_greeted(struct job *job, struct flow *flow) {
    struct bulk *bulk = &flow->bulk;
    if (!flow->is_up)
        return;
    bulk->unsent = limit_of(job) > 0 ? limit_of(job) - bulk->arrived_before : UINT64_MAX;
    flow_want(job, flow, EPOLLIN | EPOLLOUT);
}

static void on_broken(struct job *job, struct flow *flow) {
    (void)job;
    flow->bulk.arrived_before = flow->bulk.arrived;
    flow->bulk.reported_ns = 0;
    flow->bulk.report_have = 0;
}

/* With reconnect, an end that is no proper one is one all the same when everything has come. */
static void ended(struct job *job, struct flow *flow, int error) {
    if (job->wanted->reconnect && limit_of(job) > 0 && flow->bulk.arrived == limit_of(job))
        flow_finish(job, flow);
    else
        flow_break(job, flow, error);
}

/* In bytes and not in time: however busy the machine is, it says how many turns others had. */
static void note_wait(struct job *job, const struct flow *flow, uint64_t now) {
    uint64_t others = job->all_arrived - flow->bulk.all_then;
    if (job_in_window(job, now) && flow->bulk.last_ns >= job->window_begin_ns &&
        others > job->result->longest_wait_bytes)
        job->result->longest_wait_bytes = others;
}

static void download_came(struct job *job, struct flow *flow, uint64_t bytes) {
    struct bulk *bulk = &flow->bulk;
    uint64_t now = load_now();
    if (flow->state == FLOW_GREETED)
        flow_run(job, flow, now);
    bulk->arrived += bytes;
    flow->moved_ns = now;
    if (bulk->last_ns != 0) {
        job_stall(job, bulk->last_ns, now);
        note_wait(job, flow, now);
    }
    bulk->last_ns = now;
    job->all_arrived += bytes;
    bulk->all_then = job->all_arrived;
    job_count(job, flow, bytes, now, now);
    load_pace_came(&job->pace, bytes);
    if (limit_of(job) > 0 && bulk->arrived > limit_of(job))
        job_fail_flow(job, flow, "more came than was asked for");
    if (is_paused(job, flow))
        flow_want(job, flow, 0);
}

static void on_download(struct job *job, struct flow *flow, uint32_t events) {
    struct bulk *bulk = &flow->bulk;
    size_t most = sizeof(job->buffer);
    if (is_paused(job, flow)) {
        if (events & (EPOLLHUP | EPOLLERR))
            flow_break(job, flow, ECONNRESET);
        return;
    }
    if (job->wanted->pause_bytes > 0 && !job->is_resumed && job->wanted->pause_bytes - bulk->arrived < most)
        most = (size_t)(job->wanted->pause_bytes - bulk->arrived);
    int64_t n = load_receive_stream(&flow->in, flow->fd, job->buffer, most);
    if (n > 0)
        download_came(job, flow, (uint64_t)n);
    else if (n == -EBADMSG) {
        bulk->arrived = bulk->arrived_before + flow->in.at;
        job_fail_flow(job, flow, "not what was sent");
    } else if (n == 0 && limit_of(job) > 0 && bulk->arrived == limit_of(job))
        flow_finish(job, flow);
    else if (n != -EAGAIN)
        ended(job, flow, (int)-n);
}

static void on_final(struct job *job, struct flow *flow) {
    if (flow->bulk.unsent == 0 && flow->bulk.arrived == limit_of(job))
        flow_finish(job, flow);
    else
        flow_break(job, flow, 0);
}

/* What a report says of arrivals. False: it contradicts itself or the last one. */
static bool take_arrivals(struct job *job, struct flow *flow, const struct load_report *report) {
    struct bulk *bulk = &flow->bulk;
    uint64_t arrived = bulk->arrived_before + report->bytes;
    if (arrived < bulk->arrived || report->bytes > flow->out.at || report->at_ns < bulk->reported_ns)
        return false;
    if (report->gap_end_ns != 0)
        job_stall(job, report->gap_begin_ns != 0 ? report->gap_begin_ns : bulk->last_ns, report->gap_end_ns);
    if (report->last_ns != 0)
        bulk->last_ns = report->last_ns;
    if (arrived > bulk->arrived)
        flow->moved_ns = load_now();
    job_count(job, flow, arrived - bulk->arrived, bulk->reported_ns != 0 ? bulk->reported_ns : report->at_ns,
              report->at_ns);
    bulk->arrived = arrived;
    bulk->reported_ns = report->at_ns;
    return true;
}

static void on_report(struct job *job, struct flow *flow) {
    struct bulk *bulk = &flow->bulk;
    const struct load_report *report = &bulk->report;
    if (report->magic != LOAD_MAGIC) {
        job_fail_flow(job, flow, "the report that came back is none");
        return;
    }
    if (flow->state == FLOW_GREETED) {
        flow_run(job, flow, load_now());
        if (bulk->last_ns == 0)
            bulk->last_ns = flow->moved_ns;
    }
    if (report->flags & REPORT_BAD) {
        bulk->arrived = bulk->arrived_before + report->bad_at;
        job_fail_flow(job, flow, "what arrived is not what was sent");
        return;
    }
    if (!take_arrivals(job, flow, report))
        job_fail_flow(job, flow, "the report that came back cannot be");
    else if (report->flags & REPORT_FINAL)
        on_final(job, flow);
}

/* False: nothing more yet, or the flow is no more. */
static bool read_report(struct job *job, struct flow *flow) {
    struct bulk *bulk = &flow->bulk;
    size_t left = sizeof(bulk->report) - bulk->report_have;
    ssize_t n = recv(flow->fd, (char *)&bulk->report + bulk->report_have, left, 0);
    if (n < 0 && errno == EAGAIN)
        return false;
    if (n <= 0) {
        ended(job, flow, n < 0 ? errno : 0);
        return false;
    }
    bulk->report_have += (size_t)n;
    if (bulk->report_have < sizeof(bulk->report))
        return false;
    bulk->report_have = 0;
    on_report(job, flow);
    return flow->fd >= 0 && job->phase != PHASE_ENDED;
}

static void send_upload(struct job *job, struct flow *flow) {
    struct bulk *bulk = &flow->bulk;
    int64_t n = bulk->unsent > 0 ? load_send_stream(&flow->out, flow->fd, bulk->unsent) : 0;
    if (n == -EAGAIN)
        return;
    if (n > 0)
        bulk->unsent -= (uint64_t)n;
    if (n >= 0 && bulk->unsent > 0)
        return;
    /* A connection that broke is left to the reader, who may find a report that says why. */
    if (n >= 0)
        shutdown(flow->fd, SHUT_WR);
    flow_want(job, flow, EPOLLIN);
}

static void on_upload(struct job *job, struct flow *flow, uint32_t events) {
    if (events & (EPOLLIN | EPOLLHUP | EPOLLERR))
        while (read_report(job, flow))
            ;
    if (events & EPOLLOUT && flow->fd >= 0 && job->phase != PHASE_ENDED)
        send_upload(job, flow);
}

static void on_event(struct job *job, struct flow *flow, uint32_t events) {
    if (flow->is_up)
        on_upload(job, flow, events);
    else
        on_download(job, flow, events);
}

static void on_tick(struct job *job) {
    load_pace_tick(&job->pace, job->started);
}

/* Those that stand still because they were to read again. */
static bool on_stop(struct job *job) {
    if (!job->wanted->resumes || job->is_resumed)
        return false;
    uint64_t now = load_now();
    for (uint32_t i = 0; i < job->flow_count; i++) {
        struct flow *flow = &job->flows[i];
        if (flow->state == FLOW_RUNNING && is_paused(job, flow)) {
            flow->moved_ns = flow->bulk.last_ns = now;
            flow_want(job, flow, EPOLLIN);
        }
    }
    job->is_resumed = true;
    return true;
}

static bool is_waiting(const struct job *job, const struct flow *flow) {
    return !is_paused(job, flow);
}

static uint64_t position(const struct flow *flow) {
    return flow->bulk.arrived;
}

/* The reports have come to where the measured time ends. */
static bool is_drained(const struct job *job) {
    for (uint32_t i = 0; i < job->flow_count; i++) {
        const struct flow *flow = &job->flows[i];
        if (flow->is_up && flow->state == FLOW_RUNNING && flow->bulk.reported_ns < job->window_end_ns)
            return false;
    }
    return true;
}

/* Stalls that were not over, and for jobs of so many bytes the end as the receivers saw it. */
static void finish(struct job *job) {
    uint64_t last_ns = 0;
    for (uint32_t i = 0; i < job->flow_count; i++) {
        const struct flow *flow = &job->flows[i];
        if (flow->state != FLOW_DONE && flow->bulk.last_ns != 0 && !is_paused(job, flow))
            job_stall(job, flow->bulk.last_ns, job->window_end_ns);
        if (flow->state != FLOW_DONE && !flow->is_up && flow->bulk.last_ns != 0 && !is_paused(job, flow))
            note_wait(job, flow, job->window_end_ns - 1);
        if (flow->bulk.last_ns > last_ns)
            last_ns = flow->bulk.last_ns;
    }
    if (job->done == job->flow_count && last_ns > job->window_begin_ns)
        job->result->measured_s = (double)(last_ns - job->window_begin_ns) / 1e9;
}

const struct load_driver load_bulk_driver = {.on_greeted = on_greeted,
                                             .on_event = on_event,
                                             .on_broken = on_broken,
                                             .on_tick = on_tick,
                                             .on_stop = on_stop,
                                             .is_waiting = is_waiting,
                                             .position = position,
                                             .is_drained = is_drained,
                                             .finish = finish};
