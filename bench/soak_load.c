#include "bench/soak_load.h"
#include "bench/load_hand.h"
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#define EVENTS_MAX 256
#define LOOK_NS UINT64_C(10000000) /* between looks at orders, clocks and flows that do not move */
#define FILES_SPARE 32u
#define MS UINT64_C(1000000)

static const char *const way_names[SOAK_SIDES] = {"up", "down"};

void soak_fail_flow(struct soak_load *load, const struct soak_flow *flow, enum soak_side way, const char *text) {
    const struct soak_end *sender = &flow->ends[way], *receiver = &flow->ends[SOAK_SIDES - 1 - way];
    if (load->is_over)
        return;
    load->is_over = true;
    snprintf(load->shared->why, sizeof(load->shared->why),
             "seed %" PRIu64 ", flow %" PRIu32 ", %s, byte %" PRIu64 " of %" PRIu64 " (%" PRIu64 " sent): %s%s",
             load->job->seed, flow->number, way_names[way], receiver->in.at, flow->script.bytes[way], sender->out.at,
             text, flow->script.resets ? "; a flow to be reset" : "");
}

static void fail(struct soak_load *load, const char *what) {
    if (!load->is_over)
        snprintf(load->shared->why, sizeof(load->shared->why), "%s: %s", what, strerror(errno));
    load->is_over = true;
}

/* The slot is found by it, and a flow that is there no more is not taken for the one that is. */
uint64_t soak_flow_id(const struct soak_load *load, const struct soak_flow *flow) {
    return ((uint64_t)flow->number << 32) | (uint32_t)(flow - load->flows);
}

/* ---- flows ---- */

static uint64_t bytes_left(const struct soak_load *load) {
    uint64_t left = 0;
    for (const struct soak_flow *flow = load->flows; flow < load->flows + SOAK_FLOWS_MAX; flow++)
        for (unsigned way = 0; flow->is_used && way < SOAK_SIDES; way++)
            left += flow->script.bytes[way] - flow->ends[SOAK_SIDES - 1 - way].in.at;
    return left;
}

static struct soak_flow *free_flow(struct soak_load *load) {
    for (struct soak_flow *flow = load->flows; flow < load->flows + SOAK_FLOWS_MAX; flow++)
        if (!flow->is_used)
            return flow;
    return NULL;
}

static void note_open(struct soak_load *load, int change) {
    uint32_t open = atomic_load(&load->shared->open) + (uint32_t)change;
    atomic_store(&load->shared->open, open);
    if (open > load->shared->open_peak)
        load->shared->open_peak = open;
}

static void flow_begin(struct soak_load *load, struct soak_flow *flow) {
    *flow = (struct soak_flow){.is_used = true, .number = load->next_number++, .moved_ns = load_now()};
    soak_script_draw(&flow->script, load->job->seed, flow->number);
    for (unsigned side = 0; side < SOAK_SIDES; side++)
        flow->ends[side] = (struct soak_end){.fd = -1, .side = (enum soak_side)side, .flow = flow};
    load->shared->flows++;
    note_open(load, 1);
    soak_end_connect(load, &flow->ends[SOAK_NEAR]);
}

/* Over on both sides. One that lost its link may have had no far end at all. */
static bool flow_is_over(const struct soak_flow *flow) {
    const struct soak_end *far = &flow->ends[SOAK_FAR];
    return flow->ends[SOAK_NEAR].state == SOAK_END_OVER &&
           (far->state == SOAK_END_OVER || (far->state == SOAK_END_NONE && flow->is_lost));
}

static void begin_due(struct soak_load *load, uint64_t now) {
    struct soak_flow *flow;
    while (load->order == SOAK_RUN && !load->is_over && now >= load->next_ns &&
           bytes_left(load) < load->job->bytes_max && (flow = free_flow(load)) != NULL) {
        flow_begin(load, flow);
        load->next_ns += soak_script_gap_ns(load->job->seed, load->next_number, load->job->rate);
    }
    /* Who had to wait is not to be made up for by a burst. */
    if (load->next_ns < now)
        load->next_ns = now;
}

static bool time_has_come(const struct soak_end *end, uint64_t since, uint64_t now) {
    return (end->read_at_ns > since && end->read_at_ns <= now) || (end->write_at_ns > since && end->write_at_ns <= now);
}

static void check_patience(struct soak_load *load, const struct soak_flow *flow, uint64_t now) {
    char text[100];
    if (now < flow->moved_ns + load->job->patience_ms * MS)
        return;
    snprintf(text, sizeof(text), "%s for %" PRIu32 " s",
             flow->is_lost ? "its link is gone, and it has not ended" : "nothing has moved",
             load->job->patience_ms / 1000);
    enum soak_side way = flow->ends[SOAK_FAR].in.at < flow->script.bytes[SOAK_NEAR] ? SOAK_NEAR : SOAK_FAR;
    soak_fail_flow(load, flow, way, text);
}

static void look_at_flow(struct soak_load *load, struct soak_flow *flow, uint64_t now) {
    for (unsigned side = 0; side < SOAK_SIDES; side++)
        if (time_has_come(&flow->ends[side], load->look_ns, now))
            soak_end_hurry(load, &flow->ends[side]);
    if (flow_is_over(flow)) {
        load->shared->lost += flow->is_lost;
        flow->is_used = false;
        note_open(load, -1);
    } else {
        check_patience(load, flow, now);
    }
}

/* ---- orders ---- */

static void obey(struct soak_load *load, enum soak_order order, uint64_t now) {
    load->order = order;
    load->next_ns = now;
    for (struct soak_flow *flow = load->flows; order != SOAK_RUN && flow < load->flows + SOAK_FLOWS_MAX; flow++) {
        if (!flow->is_used)
            continue;
        for (unsigned side = 0; side < SOAK_SIDES; side++)
            soak_end_note_gap(load, &flow->ends[side], now);
        flow->is_lost |= order == SOAK_LOSE;
        flow->moved_ns = now;
        for (unsigned side = 0; side < SOAK_SIDES; side++)
            soak_end_hurry(load, &flow->ends[side]);
    }
}

static void look(struct soak_load *load, uint64_t now) {
    uint32_t order = atomic_load(&load->shared->order);
    if (order != atomic_load(&load->shared->obeyed))
        obey(load, (enum soak_order)(order & 0xff), now);
    for (struct soak_flow *flow = load->flows; flow < load->flows + SOAK_FLOWS_MAX; flow++)
        if (flow->is_used)
            look_at_flow(load, flow, now);
    /* Known from here on: nothing before it is under way any more. */
    atomic_store(&load->shared->obeyed, order);
    load->look_ns = now;
}

/* ---- the loop ---- */

/* One whose flow has gone with its link meanwhile is of nobody. */
static void take_far_ends(struct soak_load *load) {
    uint64_t id;
    for (int fd; (fd = load_hand_take(load->taker, &id)) >= 0;) {
        struct soak_flow *flow = &load->flows[(uint32_t)id % SOAK_FLOWS_MAX];
        if (flow->is_used && soak_flow_id(load, flow) == id && flow->ends[SOAK_FAR].state == SOAK_END_NONE)
            soak_end_begin(load, &flow->ends[SOAK_FAR], fd);
        else
            load_socket_reset(fd);
    }
}

static int time_to_wait_ms(const struct soak_load *load, uint64_t now) {
    uint64_t next_ns = load->look_ns + LOOK_NS;
    if (load->order == SOAK_RUN && load->next_ns > now && load->next_ns < next_ns)
        next_ns = load->next_ns;
    return next_ns > now ? (int)((next_ns - now) / MS) + 1 : 0;
}

static void turn(struct soak_load *load) {
    struct epoll_event events[EVENTS_MAX];
    int count = epoll_wait(load->epoll, events, EVENTS_MAX, time_to_wait_ms(load, load_now()));
    if (count < 0 && errno != EINTR)
        fail(load, "epoll");
    for (int i = 0; i < count && !load->is_over; i++) {
        if (events[i].data.ptr == load)
            load->is_over = true;
        else if (events[i].data.ptr == &load->taker)
            take_far_ends(load);
        else
            soak_end_on_event(load, events[i].data.ptr, events[i].events);
    }
    uint64_t now = load_now();
    if (now >= load->look_ns + LOOK_NS && !load->is_over)
        look(load, now);
    begin_due(load, now);
}

static bool watch(const struct soak_load *load, int fd, void *data) {
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = data};
    return epoll_ctl(load->epoll, EPOLL_CTL_ADD, fd, &event) == 0;
}

static bool begin(struct soak_load *load, const struct place *place) {
    uint32_t limit;
    if (!load_enter(place, load->channel) || !load_raise_files(SOAK_SIDES * SOAK_FLOWS_MAX + FILES_SPARE, &limit))
        return false;
    load->taker_key = (load->job->seed << 32) ^ (uint64_t)getpid();
    load->epoll = epoll_create1(EPOLL_CLOEXEC);
    load->taker = load_hand_listen(load->taker_key);
    return load->epoll >= 0 && load->taker >= 0 && watch(load, load->channel, load) &&
           watch(load, load->taker, &load->taker);
}

void soak_load_main(const struct soak_job *job, const struct place *place, struct soak_shared *shared, int channel) {
    struct soak_load *load = calloc(1, sizeof(*load));
    if (load == NULL)
        return;
    load->job = job;
    load->shared = shared;
    load->channel = channel;
    load->order = SOAK_QUIET;
    if (!begin(load, place))
        fail(load, "start");
    while (!load->is_over)
        turn(load);
    atomic_store(&shared->has_ended, true);
}
