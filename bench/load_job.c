#include "bench/load_job.h"
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#define EVENTS_MAX 256
/* Connections under way at once: no more than any listener's backlog takes. */
#define PENDING_MAX 256u
#define PATIENCE_MS_DEFAULT 10000u
/* Descriptors beside those of the flows. */
#define FILES_SPARE 32u
#define SAMPLES_MAX (sizeof(((struct load_result *)0)->samples) / sizeof(uint64_t))

void job_end(struct job *job) {
    job->phase = PHASE_ENDED;
}

void job_fail(struct job *job, const char *format, ...) {
    va_list args;
    if (job->result->why[0] != '\0')
        return;
    va_start(args, format);
    vsnprintf(job->result->why, sizeof(job->result->why), format, args);
    va_end(args);
    job_end(job);
}

void job_fail_flow(struct job *job, const struct flow *flow, const char *text) {
    job_fail(job, "flow %" PRIu32 "%s: %s at byte %" PRIu64, flow->index, flow->is_up ? " (up)" : "", text,
             job->driver->position(flow));
}

bool job_in_window(const struct job *job, uint64_t at_ns) {
    return job->window_begin_ns != 0 && at_ns >= job->window_begin_ns && at_ns < job->window_end_ns;
}

static uint64_t counted_share(const struct job *job, uint64_t bytes, uint64_t from_ns, uint64_t to_ns) {
    uint64_t begin = job->window_begin_ns, end = job->window_end_ns;
    if (from_ns >= to_ns)
        return job_in_window(job, to_ns) ? bytes : 0;
    if (begin == 0 || to_ns <= begin || from_ns >= end)
        return 0;
    if (from_ns >= begin && to_ns <= end)
        return bytes;
    uint64_t low = from_ns > begin ? from_ns : begin, high = to_ns < end ? to_ns : end;
    return (uint64_t)((double)bytes * (double)(high - low) / (double)(to_ns - from_ns));
}

void job_count(struct job *job, const struct flow *flow, uint64_t bytes, uint64_t from_ns, uint64_t to_ns) {
    struct load_result *result = job->result;
    uint64_t counted = counted_share(job, bytes, from_ns, to_ns);
    uint64_t sample = to_ns > job->begun_ns ? (to_ns - job->begun_ns) / (LOAD_SAMPLE_MS * UINT64_C(1000000)) : 0;
    *(flow->is_up ? &result->up_bytes : &result->down_bytes) += counted;
    result->flow_bytes[flow->index] += counted;
    if (sample < SAMPLES_MAX)
        result->samples[sample] += bytes;
}

void job_stall(struct job *job, uint64_t from_ns, uint64_t to_ns) {
    if (job->window_begin_ns == 0)
        return;
    if (from_ns < job->window_begin_ns)
        from_ns = job->window_begin_ns;
    if (to_ns > job->window_end_ns)
        to_ns = job->window_end_ns;
    if (to_ns > from_ns && (double)(to_ns - from_ns) / 1e9 > job->result->longest_stall_s)
        job->result->longest_stall_s = (double)(to_ns - from_ns) / 1e9;
}

static uint64_t timeval_ns(const struct timeval *time) {
    return (uint64_t)time->tv_sec * UINT64_C(1000000000) + (uint64_t)time->tv_usec * 1000;
}

static void begin_measuring(struct job *job, uint64_t now) {
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    job->user_ns = timeval_ns(&usage.ru_utime);
    job->system_ns = timeval_ns(&usage.ru_stime);
    job->window_begin_ns = now;
    job->phase = PHASE_MEASURING;
    job->end_ns = job->wanted->measure_s > 0 && job->wanted->bytes_per_flow == 0
                      ? now + (uint64_t)(job->wanted->measure_s * 1e9)
                      : UINT64_MAX;
}

static void end_measuring(struct job *job, uint64_t now) {
    struct load_result *result = job->result;
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    job->window_end_ns = now;
    job->phase = PHASE_DRAINING;
    result->cpu_user_s = (double)(timeval_ns(&usage.ru_utime) - job->user_ns) / 1e9;
    result->cpu_system_s = (double)(timeval_ns(&usage.ru_stime) - job->system_ns) / 1e9;
    result->measured_s = (double)(now - job->window_begin_ns) / 1e9;
    if (result->measured_s > 0)
        result->busy = (result->cpu_user_s + result->cpu_system_s) / result->measured_s;
    if (result->busy > 1)
        result->busy = 1;
}

static void all_running(struct job *job, uint64_t now) {
    job->warm_ns = now + (uint64_t)(job->wanted->warmup_s * 1e9);
    if (job->phase == PHASE_OPENING)
        job->phase = PHASE_WARMUP;
    if (job->driver->on_all_running != NULL)
        job->driver->on_all_running(job, now);
    if (write(job->channel, "r", 1) != 1)
        job_fail(job, "the harness is gone");
}

static void advance(struct job *job, uint64_t now) {
    if (job->warm_ns == 0 && job->running_once == job->flow_count)
        all_running(job, now);
    if (job->phase == PHASE_WARMUP && now >= job->warm_ns)
        begin_measuring(job, now);
    if (job->phase == PHASE_MEASURING && (now >= job->end_ns || job->done == job->flow_count))
        end_measuring(job, now);
    if (job->phase == PHASE_DRAINING && job->driver->is_drained(job))
        job_end(job);
}

static void on_channel(struct job *job) {
    char byte;
    if (read(job->channel, &byte, 1) != 1)
        job_fail(job, "the harness is gone");
    else if (job->warm_ns == 0)
        job_fail(job, "stopped before all flows were there");
    else if (job->driver->on_stop != NULL && job->driver->on_stop(job))
        return;
    if (job->phase == PHASE_WARMUP)
        begin_measuring(job, load_now());
    if (job->phase == PHASE_MEASURING)
        end_measuring(job, load_now());
}

static bool flow_is_waiting(const struct job *job, const struct flow *flow) {
    if (flow->state == FLOW_RUNNING)
        return job->driver->is_waiting(job, flow);
    return flow->state != FLOW_WAITING && flow->state != FLOW_DONE;
}

static void look_for_patience(struct job *job, uint64_t now) {
    if (now < job->patience_look_ns)
        return;
    job->patience_look_ns = now + job->patience_ns / 8;
    for (uint32_t i = 0; i < job->started; i++) {
        const struct flow *flow = &job->flows[i];
        if (flow_is_waiting(job, flow) && now > flow->moved_ns && now - flow->moved_ns > job->patience_ns) {
            char text[64];
            snprintf(text, sizeof(text), "nothing moved for %" PRIu64 " ms", job->patience_ns / 1000000);
            job_fail_flow(job, flow, text);
            return;
        }
    }
}

static void tick(struct job *job, uint64_t now) {
    for (uint32_t i = 0; i < job->started && job->wanted->reconnect; i++)
        if (job->flows[i].state == FLOW_BROKEN && job->pending < job->pending_max)
            flow_open(job, &job->flows[i]);
    if (job->driver->on_tick != NULL)
        job->driver->on_tick(job);
    look_for_patience(job, now);
    job->tick_ns = now + LOAD_TICK_NS;
}

static void start_flows(struct job *job) {
    while (job->started < job->flow_count && job->pending < job->pending_max && job->phase != PHASE_ENDED)
        flow_open(job, &job->flows[job->started++]);
}

static struct timespec time_to_wait(const struct job *job) {
    uint64_t next = job->tick_ns, now = load_now();
    if (job->phase == PHASE_WARMUP && job->warm_ns < next)
        next = job->warm_ns;
    if (job->phase == PHASE_MEASURING && job->end_ns < next)
        next = job->end_ns;
    if (job->driver->next_ns != NULL) {
        uint64_t due = job->driver->next_ns(job);
        if (due < next)
            next = due;
    }
    uint64_t wait = next > now ? next - now : 0;
    return (struct timespec){.tv_sec = (time_t)(wait / 1000000000), .tv_nsec = (long)(wait % 1000000000)};
}

static void turn(struct job *job) {
    struct epoll_event events[EVENTS_MAX];
    struct timespec wait = time_to_wait(job);
    int count = epoll_pwait2(job->epoll, events, EVENTS_MAX, &wait, NULL);
    if (count < 0 && errno != EINTR)
        job_fail(job, "epoll: %s", strerror(errno));
    uint64_t now = load_now();
    advance(job, now);
    if (job->driver->on_turn != NULL)
        job->driver->on_turn(job);
    for (int i = 0; i < count && job->phase != PHASE_ENDED; i++) {
        if (events[i].data.ptr == job)
            on_channel(job);
        else
            flow_on_event(job, events[i].data.ptr, events[i].events);
    }
    if (job->phase == PHASE_ENDED)
        return;
    if (now >= job->tick_ns)
        tick(job, now);
    start_flows(job);
    advance(job, load_now());
    load_pace_rest(&job->pace);
}

static const struct load_driver *driver_of(enum load_kind kind) {
    switch (kind) {
    case LOAD_ECHO:
        return &load_echo_driver;
    case LOAD_OPEN:
        return &load_open_driver;
    case LOAD_HOLD:
        return &load_hold_driver;
    default:
        return &load_bulk_driver;
    }
}

static bool job_begin(struct job *job, const struct load_job *wanted) {
    uint32_t limit = 0, patience_ms = wanted->patience_ms > 0 ? wanted->patience_ms : PATIENCE_MS_DEFAULT;
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = job};
    job->wanted = wanted;
    job->driver = driver_of(wanted->kind);
    job->flow_count = wanted->flows + wanted->both_flows;
    job->pending_max = wanted->kind == LOAD_OPEN ? job->flow_count : PENDING_MAX;
    job->patience_ns = patience_ms * UINT64_C(1000000);
    job->window_end_ns = UINT64_MAX;
    if (!load_raise_files(job->flow_count + FILES_SPARE, &limit)) {
        job_fail(job, "%" PRIu32 " flows need %" PRIu32 " descriptors, and the limit is %" PRIu32, job->flow_count,
                 job->flow_count + FILES_SPARE, limit);
        return false;
    }
    job->flows = calloc(job->flow_count, sizeof(*job->flows));
    job->epoll = epoll_create1(EPOLL_CLOEXEC);
    if (job->flows == NULL || job->epoll < 0 || epoll_ctl(job->epoll, EPOLL_CTL_ADD, job->channel, &event) != 0) {
        job_fail(job, "start: %s", strerror(errno));
        return false;
    }
    for (uint32_t i = 0; i < job->flow_count; i++)
        job->flows[i] = (struct flow){.fd = -1, .index = i, .is_up = wanted->kind == LOAD_UP || i >= wanted->flows};
    return true;
}

static void job_run(struct job *job) {
    /* The kernel's own 50 µs of slack would be seen in every message sent by the clock. */
    prctl(PR_SET_TIMERSLACK, 1UL);
    if (job->driver != &load_bulk_driver)
        load_hurry();
    job->begun_ns = load_now();
    job->tick_ns = job->begun_ns + LOAD_TICK_NS;
    if (job->wanted->bytes_per_flow > 0)
        begin_measuring(job, job->begun_ns);
    start_flows(job);
    while (job->phase != PHASE_ENDED)
        turn(job);
    if (job->driver->finish != NULL)
        job->driver->finish(job);
}

static void note_samples(struct job *job) {
    uint64_t end = job->window_end_ns != UINT64_MAX ? job->window_end_ns : load_now();
    uint64_t count = (end - job->begun_ns) / (LOAD_SAMPLE_MS * UINT64_C(1000000)) + 1;
    job->result->sample_count = count < SAMPLES_MAX ? (uint32_t)count : (uint32_t)SAMPLES_MAX;
    job->result->flow_count = job->flow_count;
}

void load_job_main(const struct load_job *wanted, const struct place *place, struct load_shared *shared, int channel) {
    struct job *job = calloc(1, sizeof(*job));
    struct load_result *result = &shared->result;
    struct rusage usage;
    if (job == NULL)
        return;
    job->result = result;
    job->channel = channel;
    histogram_clear(&result->latency);
    if (!load_enter(place, channel))
        job_fail(job, "place: %s", strerror(errno));
    else if (job_begin(job, wanted))
        job_run(job);
    getrusage(RUSAGE_SELF, &usage);
    result->peak_rss_bytes = (uint64_t)usage.ru_maxrss * 1024;
    if (job->driver == &load_bulk_driver && job->begun_ns != 0)
        note_samples(job);
    result->ok = result->why[0] == '\0';
    shared->is_complete = true;
}
