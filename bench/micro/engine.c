/* The parts of a shard: ring, slot pool, mailbox, timers. */
#include "bench/micro/micro.h"
#include "engine/check.h"
#include "engine/mailbox.h"
#include "engine/ring.h"
#include "engine/slot.h"
#include "engine/timer.h"
#include <stdlib.h>
#include <string.h>

/* Bytes written into a ring and read out of it. */
struct ring_state {
    struct ring ring;
    uint32_t bytes;
    uint8_t from[32768], to[32768];
};

#define RING_BYTES (1u << 20)

static void *ring_set_up(const struct micro *micro) {
    struct ring_state *state = calloc(1, sizeof *state);
    CHECK(state && micro->bytes <= sizeof state->from);
    CHECK(ring_init(&state->ring, RING_BYTES) == 0);
    memset(state->from, 'x', sizeof state->from);
    state->bytes = micro->bytes;
    return state;
}

static void ring_run(void *arg, uint32_t operations) {
    struct ring_state *state = arg;
    struct ring *ring = &state->ring;
    for (uint32_t i = 0; i < operations; i++) {
        memcpy(ring_at(ring, ring->head), state->from, state->bytes);
        ring_produce(ring, state->bytes);
        memcpy(state->to, ring_at(ring, ring->tail), state->bytes);
        ring_consume(ring, state->bytes);
    }
}

static void ring_tear_down(void *arg) {
    struct ring_state *state = arg;
    CHECK(ring_used(&state->ring) == 0 && memcmp(state->from, state->to, state->bytes) == 0);
    ring_deinit(&state->ring);
    free(state);
}

/* Slots taken from the pool, so many at a time, and put back. */
struct slot_state {
    struct slot_pool pool;
    uint32_t at_once;
    struct slot *taken[64];
};

static void *slot_set_up(const struct micro *micro) {
    struct slot_state *state = calloc(1, sizeof *state);
    CHECK(state && micro->number <= sizeof state->taken / sizeof state->taken[0]);
    CHECK(slot_pool_init(&state->pool, 32768, 1024) == 0);
    state->at_once = micro->number;
    return state;
}

static void slot_run(void *arg, uint32_t operations) {
    struct slot_state *state = arg;
    for (uint32_t done = 0; done < operations; done += state->at_once) {
        for (uint32_t i = 0; i < state->at_once; i++)
            CHECK((state->taken[i] = slot_take(&state->pool)));
        for (uint32_t i = 0; i < state->at_once; i++)
            slot_put(&state->pool, state->taken[i]);
    }
}

static void slot_tear_down(void *arg) {
    struct slot_state *state = arg;
    slot_pool_deinit(&state->pool);
    free(state);
}

/* Messages posted, so many at a time, and run: the wake-up by the descriptor is in it. */
struct mailbox_state {
    struct mailbox *mailbox;
    uint32_t at_once;
    uint64_t sent, received;
};

static void *mailbox_set_up(const struct micro *micro) {
    struct mailbox_state *state = calloc(1, sizeof *state);
    CHECK(state);
    CHECK(mailbox_create(1024, &state->mailbox) == 0);
    state->at_once = micro->number;
    return state;
}

static void on_message(void *arg, int64_t value) {
    struct mailbox_state *state = arg;
    state->received += (uint64_t)value;
}

static void mailbox_bench_run(void *arg, uint32_t operations) {
    struct mailbox_state *state = arg;
    for (uint32_t done = 0; done < operations; done += state->at_once) {
        for (uint32_t i = 0; i < state->at_once; i++) {
            struct message message = {.run = on_message, .arg = state, .value = i};
            CHECK(mailbox_post(state->mailbox, message) == 0);
            state->sent += i;
        }
        while (mailbox_pending(state->mailbox))
            (void)mailbox_run(state->mailbox);
    }
}

static void mailbox_tear_down(void *arg) {
    struct mailbox_state *state = arg;
    CHECK(state->sent == state->received);
    mailbox_destroy(state->mailbox);
    free(state);
}

/* A timer armed among others and cancelled, at deadlines as they come: the later the farther down the heap. */
#define DEADLINES 4096u
struct timer_state {
    struct timers timers;
    struct timer timer, *others;
    uint32_t others_count, next;
    uint64_t deadlines[DEADLINES];
};

static void on_timer(struct timer *timer) {
    (void)timer;
}

static void *timer_set_up(const struct micro *micro) {
    struct timer_state *state = calloc(1, sizeof *state);
    uint64_t random = 88172645463325252u;
    CHECK(state && (state->others = calloc(micro->number + 1, sizeof *state->others)));
    timers_init(&state->timers);
    for (uint32_t i = 0; i < DEADLINES; i++) {
        random ^= random << 13, random ^= random >> 7, random ^= random << 17;
        state->deadlines[i] = random >> 1;
    }
    state->others_count = micro->number;
    for (uint32_t i = 0; i < state->others_count; i++) {
        state->others[i].on_timer = on_timer;
        timer_arm(&state->timers, &state->others[i], state->deadlines[i % DEADLINES] + i);
    }
    state->timer.on_timer = on_timer;
    return state;
}

static void timer_run(void *arg, uint32_t operations) {
    struct timer_state *state = arg;
    for (uint32_t i = 0; i < operations; i++) {
        timer_arm(&state->timers, &state->timer, state->deadlines[state->next++ % DEADLINES]);
        timer_cancel(&state->timers, &state->timer);
    }
}

static void timer_tear_down(void *arg) {
    struct timer_state *state = arg;
    CHECK(state->timers.count == state->others_count && !timer_armed(&state->timer));
    for (uint32_t i = 0; i < state->others_count; i++)
        timer_cancel(&state->timers, &state->others[i]);
    timers_deinit(&state->timers);
    free(state->others);
    free(state);
}

#define RING(size, count)                                                                                              \
    { "ring/" #size, "written and read", size, count, 0, ring_set_up, NULL, ring_run, ring_tear_down }
#define SLOT(at_once)                                                                                                  \
    { "slot/" #at_once, "taken and put back", 0, 8192, at_once, slot_set_up, NULL, slot_run, slot_tear_down }
#define MAILBOX(at_once)                                                                                               \
    {                                                                                                                  \
        "mailbox/" #at_once, "a message posted and run", 0, 2048, at_once, mailbox_set_up, NULL, mailbox_bench_run,    \
            mailbox_tear_down                                                                                          \
    }
#define TIMER(others)                                                                                                  \
    { "timer/" #others, "armed and cancelled", 0, 8192, others, timer_set_up, NULL, timer_run, timer_tear_down }

const struct micro micro_engine[] = {
    RING(64, 8192), RING(1024, 2048), RING(32768, 64), SLOT(1),      SLOT(64),       MAILBOX(1),
    MAILBOX(64),    TIMER(0),         TIMER(100),      TIMER(10000), {.name = NULL},
};
