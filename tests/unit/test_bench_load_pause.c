/* Readers that stop and return, and senders that keep a pace. */
#include "tests/unit/bench_load_rig.h"

TestSuite(load_pause, .init = target_up, .fini = target_down);

Test(load_pause, stalled_readers_that_return_read_the_rest) {
    struct load_job job = job_of(LOAD_DOWN, 4);
    job.pause_bytes = 300001;
    job.bytes_per_flow = 10000000;
    job.resumes = true;
    job.buffer_bytes = 16384;
    struct load *load = load_start(&job, HERE);
    uint64_t bytes = 0;
    cr_assert(load_ready(load, READY_S));
    while (bytes < 4 * job.pause_bytes)
        cr_assert(load_look(load, &bytes));
    nanosleep(&(struct timespec){.tv_nsec = 100000000}, NULL);
    cr_assert(load_look(load, &bytes));
    cr_assert_eq(bytes, 4 * job.pause_bytes);
    load_stop(load);
    load_wait(load, &result);
    cr_assert(result.ok, "%s", result.why);
    cr_assert_eq(result.down_bytes, 4 * job.bytes_per_flow);
}

/* Not much less either, but on a busy machine it may be. */
Test(load_pause, a_pace_is_kept) {
    struct load_job job = job_of(LOAD_DOWN, 2);
    job.pace = 20e6;
    job.warmup_s = 0.3;
    job.measure_s = 0.7;
    load_run(&job, HERE, &result);
    cr_assert(result.ok, "%s", result.why);
    cr_assert_gt(result.down_bytes, 0);
    cr_assert_leq((double)result.down_bytes, 1.5 * job.pace * result.measured_s);
}

Test(load_pause, jobs_without_sense_are_refused) {
    struct load_job job = job_of(LOAD_DOWN, 1);
    job.resumes = true;
    job.bytes_per_flow = 10;
    must_fail(&job, "Invalid argument");
    job.pause_bytes = 10;
    must_fail(&job, "Invalid argument");
    job = job_of(LOAD_UP, 1);
    job.pace = 1000;
    must_fail(&job, "Invalid argument");
}
