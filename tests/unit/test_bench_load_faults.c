/* What a tunnel may do to the bytes, and that the load finds it. */
#include "bench/stream.h"
#include "tests/unit/bench_load_rig.h"
#include <stdio.h>

#define BIG 3000000u

TestSuite(load_faults, .init = target_up, .fini = target_down);

/* The job through a relay with the fault fails, and says so. */
static void fails_with(struct load_job job, struct fault fault, const char *why) {
    struct relay relay = relay_start(&fault);
    job.address = relay.address;
    must_fail(&job, why);
    relay_stop(&relay);
}

static struct load_job bulk(enum load_kind kind) {
    struct load_job job = job_of(kind, 1);
    job.bytes_per_flow = BIG;
    return job;
}

static struct load_job messages(uint32_t bytes) {
    struct load_job job = job_of(LOAD_ECHO, 1);
    job.message_bytes = bytes;
    job.measure_s = 60; /* the fault ends it */
    return job;
}

static const uint64_t places[] = {0, 1, 65535, STREAM_RUN_BYTES, 1234567, BIG - 1};
#define PLACES (sizeof(places) / sizeof(*places))

Test(load_faults, a_relay_without_faults_is_none) {
    struct fault none = {0};
    struct relay relay = relay_start(&none);
    struct load_job down = bulk(LOAD_DOWN), up = bulk(LOAD_UP);
    down.address = up.address = relay.address;
    must_run(&down);
    cr_assert_eq(result.down_bytes, BIG);
    must_run(&up);
    cr_assert_eq(result.up_bytes, BIG);
    relay_stop(&relay);
}

Test(load_faults, a_changed_byte_down_is_found_where_it_is) {
    for (size_t i = 0; i < PLACES; i++) {
        char why[100];
        snprintf(why, sizeof(why), "flow 0: not what was sent at byte %ju", (uintmax_t)places[i]);
        fails_with(bulk(LOAD_DOWN), (struct fault){.kind = FAULT_CORRUPT, .at = places[i]}, why);
    }
}

Test(load_faults, a_changed_byte_up_is_found_where_it_is) {
    for (size_t i = 0; i < PLACES; i++) {
        char why[100];
        snprintf(why, sizeof(why), "flow 0 (up): what arrived is not what was sent at byte %ju", (uintmax_t)places[i]);
        fails_with(bulk(LOAD_UP), (struct fault){.kind = FAULT_CORRUPT, .up = true, .at = WISH_BYTES + places[i]}, why);
    }
}

Test(load_faults, a_lost_byte_is_found) {
    /* The byte after it may be the same by chance; then it is found a byte later. */
    fails_with(bulk(LOAD_DOWN), (struct fault){.kind = FAULT_LOSE, .at = 1000},
               "flow 0: not what was sent at byte 100");
    fails_with(bulk(LOAD_UP), (struct fault){.kind = FAULT_LOSE, .up = true, .at = WISH_BYTES + 1000},
               "what arrived is not what was sent at byte 100");
    fails_with(bulk(LOAD_DOWN), (struct fault){.kind = FAULT_LOSE, .at = BIG - 1}, "ended by the other side at byte");
    fails_with(bulk(LOAD_UP), (struct fault){.kind = FAULT_LOSE, .up = true, .at = WISH_BYTES + BIG - 1},
               "ended by the other side at byte 2999999");
}

Test(load_faults, swapped_flows_are_found) {
    for (int i = 0; i < 2; i++) {
        struct load_job job = i == 0 ? bulk(LOAD_DOWN) : messages(1000);
        job.flows = 2;
        fails_with(job, (struct fault){.kind = FAULT_SWAP}, "not what was sent at byte");
    }
}

Test(load_faults, a_changed_byte_of_a_message_is_found_either_way) {
    fails_with(messages(100), (struct fault){.kind = FAULT_CORRUPT, .up = true, .at = WISH_BYTES + 12345},
               "flow 0: what arrived there is not what was sent at byte 12345");
    fails_with(messages(100), (struct fault){.kind = FAULT_CORRUPT, .at = 1 + 12345},
               "flow 0: not what was sent at byte 12345");
    fails_with(messages(300000), (struct fault){.kind = FAULT_CORRUPT, .up = true, .at = WISH_BYTES + 123456},
               "flow 0: what arrived there is not what was sent at byte 123456");
    fails_with(messages(300000), (struct fault){.kind = FAULT_CORRUPT, .at = 1 + 777777},
               "flow 0: not what was sent at byte 777777");
}

Test(load_faults, a_changed_answer_is_found) {
    struct load_job open = job_of(LOAD_OPEN, 1), hold = job_of(LOAD_HOLD, 1);
    fails_with(open, (struct fault){.kind = FAULT_CORRUPT}, "flow 0: not what was sent");
    fails_with(hold, (struct fault){.kind = FAULT_CORRUPT}, "flow 0: not what was sent");
}

Test(load_faults, a_changed_wish_is_refused) {
    fails_with(bulk(LOAD_DOWN), (struct fault){.kind = FAULT_CORRUPT, .up = true}, "flow 0: ");
}

Test(load_faults, an_early_end_is_found) {
    for (enum fault_kind kind = FAULT_END; kind <= FAULT_RESET; kind++) {
        struct load_job down = bulk(LOAD_DOWN), up = bulk(LOAD_UP);
        struct fault early = {.kind = kind, .at = 1000000}, early_up = {.kind = kind, .up = true, .at = 1000000};
        fails_with(down, early, "flow 0: ");
        fails_with(up, early_up, "flow 0 (up): ");
        down.bytes_per_flow = up.bytes_per_flow = 0;
        down.measure_s = up.measure_s = 60;
        fails_with(down, early, "flow 0: ");
        fails_with(up, early_up, "flow 0 (up): ");
        fails_with(messages(1000), early, "flow 0: ");
        fails_with(messages(1000), early_up, "flow 0: ");
        fails_with(job_of(LOAD_HOLD, 1), (struct fault){.kind = kind}, "flow 0: ");
        fails_with(job_of(LOAD_OPEN, 1), (struct fault){.kind = kind}, "flow 0: ");
    }
}

Test(load_faults, the_place_of_an_early_end_is_told) {
    fails_with(bulk(LOAD_DOWN), (struct fault){.kind = FAULT_END, .at = 1000000},
               "flow 0: ended by the other side at byte 1000000");
}

Test(load_faults, a_held_connection_that_ends_later_is_found) {
    struct fault none = {0};
    struct relay relay = relay_start(&none);
    struct load_job job = job_of(LOAD_HOLD, 3);
    job.address = relay.address;
    struct load *load = load_start(&job, HERE);
    cr_assert(load_ready(load, READY_S));
    relay_stop(&relay);
    load_wait(load, &result);
    cr_assert(!result.ok);
    cr_assert_not_null(strstr(result.why, "flow "), "%s", result.why);
}

Test(load_faults, a_stall_is_measured) {
    struct fault down = {.kind = FAULT_STALL, .at = 1000000, .stall_ms = 400};
    struct fault up = {.kind = FAULT_STALL, .up = true, .at = 1000000, .stall_ms = 400};
    for (int direction = 0; direction < 2; direction++) {
        struct relay relay = relay_start(direction == 0 ? &down : &up);
        struct load_job job = bulk(direction == 0 ? LOAD_DOWN : LOAD_UP);
        job.address = relay.address;
        /* More than all buffers on the way hold, so that the sender stands as well. */
        job.bytes_per_flow = 40000000;
        must_run(&job);
        /* A receiver that had to wait for a processor read the last bytes before the stall in the midst of it. */
        cr_assert_geq(result.longest_stall_s, 0.2);
        cr_assert_geq(result.measured_s, result.longest_stall_s);
        cr_assert_eq(samples_sum(), job.bytes_per_flow);
        relay_stop(&relay);
    }
}

Test(load_faults, a_stall_to_the_end_of_the_measured_time_counts) {
    struct relay relay = relay_start(&(struct fault){.kind = FAULT_STALL, .at = 1000000});
    struct load_job job = job_of(LOAD_DOWN, 1);
    job.address = relay.address;
    job.measure_s = 0.5;
    must_run(&job);
    cr_assert_geq(result.longest_stall_s, 0.1);
    relay_stop(&relay);
}

Test(load_faults, patience_has_an_end) {
    struct load_job job = bulk(LOAD_DOWN), up = bulk(LOAD_UP), echo = messages(1000), open = job_of(LOAD_OPEN, 1);
    job.patience_ms = up.patience_ms = echo.patience_ms = open.patience_ms = 300;
    fails_with(job, (struct fault){.kind = FAULT_STALL, .at = 1000000},
               "flow 0: nothing moved for 300 ms at byte 1000000");
    fails_with(up, (struct fault){.kind = FAULT_STALL, .up = true, .at = 1000000},
               "flow 0 (up): nothing moved for 300 ms");
    fails_with(echo, (struct fault){.kind = FAULT_STALL, .at = 100000}, "flow 0: nothing moved for 300 ms");
    fails_with(open, (struct fault){.kind = FAULT_STALL, .every = true}, "flow 0: nothing moved for 300 ms");
}

/* A stall of 200 ms in one of two flows at 1000 messages a second each delays 200 of 1000, 140 of them by more than 60
 * ms; a load that waits for each answer would see one. */
Test(load_faults, a_stall_delays_every_message_planned_meanwhile) {
    struct relay relay = relay_start(&(struct fault){.kind = FAULT_STALL, .at = 1 + 64 * 100, .stall_ms = 200});
    struct load_job job = job_of(LOAD_ECHO, 2);
    job.address = relay.address;
    job.message_bytes = 64;
    job.rate = 2000;
    job.measure_s = 0.5;
    must_run(&job);
    cr_assert_geq(result.operations, 990);
    cr_assert_eq(result.latency.count, result.operations);
    cr_assert_geq(result.latency.max_ns, 190000000);
    cr_assert_geq(histogram_percentile(&result.latency, 94), 60000000);
    relay_stop(&relay);
}

Test(load_faults, broken_flows_are_opened_again) {
    static const enum load_kind kinds[] = {LOAD_DOWN, LOAD_UP};
    for (int i = 0; i < 4; i++) {
        struct fault fault = {.kind = i < 2 ? FAULT_END : FAULT_RESET, .up = i % 2, .at = 1000000};
        struct relay relay = relay_start(&fault);
        struct load_job job = bulk(kinds[i % 2]);
        job.address = relay.address;
        job.flows = 2;
        job.reconnect = true;
        must_run(&job);
        cr_assert_eq(result.reconnects, 1);
        /* What was under way when it broke is lost; all that is asked for comes in the end. */
        cr_assert_eq(i % 2 ? result.up_bytes : result.down_bytes, 2 * BIG);
        cr_assert_gt(result.longest_stall_s, 0.0);
        relay_stop(&relay);
    }
}

Test(load_faults, messages_lost_with_a_connection_go_again) {
    for (int i = 0; i < 2; i++) {
        struct relay relay = relay_start(&(struct fault){.kind = FAULT_RESET, .at = 1 + 64 * 5});
        struct load_job job = job_of(LOAD_ECHO, 1);
        job.address = relay.address;
        job.message_bytes = 64;
        job.rate = i == 0 ? 0 : 500;
        job.measure_s = 0.4;
        job.reconnect = true;
        must_run(&job);
        cr_assert_eq(result.reconnects, 1);
        cr_assert_gt(result.operations, 5);
        cr_assert_eq(result.latency.count, result.operations);
        relay_stop(&relay);
    }
}

Test(load_faults, with_reconnect_a_changed_byte_is_still_one) {
    struct load_job job = bulk(LOAD_DOWN);
    job.reconnect = true;
    fails_with(job, (struct fault){.kind = FAULT_CORRUPT, .at = 1000000}, "not what was sent at byte 1000000");
}

Test(load_faults, a_link_that_does_not_come_back_is_given_up) {
    struct relay relay = relay_start(&(struct fault){0});
    struct load_job job = job_of(LOAD_DOWN, 1);
    job.address = relay.address;
    job.reconnect = true;
    job.patience_ms = 300;
    struct load *load = load_start(&job, HERE);
    cr_assert(load_ready(load, READY_S));
    relay_stop(&relay);
    load_wait(load, &result);
    cr_assert(!result.ok);
    cr_assert_not_null(strstr(result.why, "nothing moved for 300 ms"), "%s", result.why);
}
