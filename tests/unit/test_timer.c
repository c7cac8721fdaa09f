#include "engine/list.h"
#include "engine/timer.h"
#include <criterion/criterion.h>
#include <signal.h>

#define COUNT 300u

struct alarm {
    struct timer timer;
    unsigned fired;
};

static struct timers timers;
static uint64_t last_fired_ns, now_ns;
static unsigned fired;
static uint64_t rearm_ns; /* not 0: the callback arms its timer again for then */
static struct timer *cancel_other, *arm_other;
static uint64_t arm_other_ns;

static uint32_t random_next(uint32_t *state) {
    *state ^= *state << 13;
    *state ^= *state >> 17;
    *state ^= *state << 5;
    return *state;
}

static void on_timer(struct timer *timer) {
    cr_assert_not(timer_armed(timer), "disarmed before its callback");
    cr_assert_leq(timer->deadline_ns, now_ns);
    cr_assert_geq(timer->deadline_ns, last_fired_ns, "in order of deadline");
    last_fired_ns = timer->deadline_ns;
    fired++;
    list_entry(timer, struct alarm, timer)->fired++;
    if (rearm_ns)
        timer_arm(&timers, timer, rearm_ns);
    if (cancel_other)
        timer_cancel(&timers, cancel_other);
    if (arm_other)
        timer_arm(&timers, arm_other, arm_other_ns);
}

static void run(uint64_t at_ns) {
    now_ns = at_ns;
    last_fired_ns = 0;
    timers_run(&timers, at_ns);
}

static void setup(void) {
    timers_init(&timers);
    fired = 0;
    rearm_ns = 0;
    cancel_other = arm_other = NULL;
}

static void teardown(void) {
    timers_deinit(&timers);
}

TestSuite(timer, .init = setup, .fini = teardown);

Test(timer, none_one_and_the_edge_of_a_deadline) {
    struct alarm alarm = {.timer.on_timer = on_timer};
    cr_assert_eq(timers_next(&timers), UINT64_MAX);
    run(UINT64_MAX);
    timer_cancel(&timers, &alarm.timer);
    timer_arm(&timers, &alarm.timer, 100);
    cr_assert(timer_armed(&alarm.timer));
    cr_assert_eq(timers_next(&timers), 100);
    run(99);
    cr_assert_eq(fired, 0);
    run(100);
    cr_assert_eq(fired, 1);
    cr_assert_eq(timers_next(&timers), UINT64_MAX);
    run(200);
    cr_assert_eq(fired, 1);
}

Test(timer, moving_and_cancelling) {
    struct alarm a = {.timer.on_timer = on_timer}, b = {.timer.on_timer = on_timer};
    timer_arm(&timers, &a.timer, 10);
    timer_arm(&timers, &b.timer, 20);
    timer_arm(&timers, &a.timer, 30);
    cr_assert_eq(timers_next(&timers), 20);
    timer_arm(&timers, &a.timer, 5);
    cr_assert_eq(timers_next(&timers), 5);
    timer_cancel(&timers, &a.timer);
    cr_assert_eq(timers_next(&timers), 20);
    run(100);
    cr_assert(a.fired == 0 && b.fired == 1);
}

Test(timer, one_armed_again_for_the_past_fires_once_a_run) {
    struct alarm alarm = {.timer.on_timer = on_timer};
    timer_arm(&timers, &alarm.timer, 10);
    rearm_ns = 1;
    run(50);
    cr_assert_eq(alarm.fired, 1);
    cr_assert_eq(timers_next(&timers), 1);
    rearm_ns = 0;
    run(50);
    cr_assert_eq(alarm.fired, 2);
}

Test(timer, a_callback_cancels_one_that_is_due_and_arms_another) {
    struct alarm a = {.timer.on_timer = on_timer}, b = {.timer.on_timer = on_timer}, c = {.timer.on_timer = on_timer};
    timer_arm(&timers, &a.timer, 10);
    timer_arm(&timers, &b.timer, 20);
    cancel_other = &b.timer;
    arm_other = &c.timer;
    arm_other_ns = 70;
    run(50);
    cr_assert(a.fired == 1 && b.fired == 0 && c.fired == 0);
    cr_assert_eq(timers_next(&timers), 70);
    cancel_other = arm_other = NULL;
    run(70);
    cr_assert_eq(c.fired, 1);
}

static uint64_t model_next(const bool *armed, const uint64_t *deadlines) {
    uint64_t next = UINT64_MAX;
    for (unsigned i = 0; i < COUNT; i++)
        if (armed[i] && deadlines[i] < next)
            next = deadlines[i];
    return next;
}

static void model_run(struct alarm *alarms, bool *armed, const uint64_t *deadlines, uint64_t at_ns) {
    unsigned before[COUNT];
    for (unsigned i = 0; i < COUNT; i++)
        before[i] = alarms[i].fired;
    run(at_ns);
    for (unsigned i = 0; i < COUNT; i++) {
        bool due = armed[i] && deadlines[i] <= at_ns;
        cr_assert_eq(alarms[i].fired - before[i], due ? 1u : 0u);
        armed[i] = armed[i] && !due;
        cr_assert_eq(timer_armed(&alarms[i].timer), armed[i]);
    }
}

Test(timer, random_operations_against_a_model) {
    static struct alarm alarms[COUNT];
    static bool armed[COUNT];
    static uint64_t deadlines[COUNT];
    uint32_t state = 4711;
    uint64_t time_ns = 0;
    for (unsigned i = 0; i < COUNT; i++)
        alarms[i].timer.on_timer = on_timer;
    for (unsigned step = 0; step < 30000; step++) {
        unsigned i = random_next(&state) % COUNT;
        uint32_t what = random_next(&state) % 16;
        if (what == 0) {
            time_ns += random_next(&state) % 100;
            model_run(alarms, armed, deadlines, time_ns);
        } else if (what < 12) {
            deadlines[i] = time_ns + random_next(&state) % 1000;
            armed[i] = true;
            timer_arm(&timers, &alarms[i].timer, deadlines[i]);
        } else {
            timer_cancel(&timers, &alarms[i].timer);
            armed[i] = false;
        }
        cr_assert_eq(timers_next(&timers), model_next(armed, deadlines));
    }
    cr_assert_gt(fired, 1000);
    model_run(alarms, armed, deadlines, UINT64_MAX);
    cr_assert_eq(timers_next(&timers), UINT64_MAX);
}

Test(timer, deinit_with_one_armed_aborts, .signal = SIGABRT) {
    struct alarm alarm = {.timer.on_timer = on_timer};
    timer_arm(&timers, &alarm.timer, 1);
    timers_deinit(&timers);
}
