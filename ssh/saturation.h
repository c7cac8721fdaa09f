#pragma once
/* Has a thread no more to give? Told from how much of the last LIMIT_SATURATION_SAMPLES windows it was busy: running,
 * or waiting for a processor to run on. Several windows, since the kernel accounts for a wait only when it is over. One
 * lasts from a sample to the next: LIMIT_SATURATION_WINDOW_NS or, while all that are looked at are idle,
 * LIMIT_SATURATION_QUIET_NS. Pure; time is an argument.
 *
 *   calm ─ LIMIT_SATURATED_PERCENT or more ─► saturated ─ less than LIMIT_UNSATURATED_PERCENT ─► calm */
#include "engine/limits.h"
#include <stdbool.h>
#include <stdint.h>

struct saturation {
    bool saturated;
    uint32_t percent; /* busy, as far as the samples go back */
    /* private */
    uint32_t count;        /* samples taken, ever */
    uint32_t idle_windows; /* that have just passed */
    struct saturation_sample {
        uint64_t at_ns, busy_ns;
    } samples[LIMIT_SATURATION_SAMPLES + 1]; /* a ring */
};

/* Takes a sample: busy_ns since some beginning. One that follows the last within less than half a
 * LIMIT_SATURATION_WINDOW_NS is passed over. Zeroed memory is the start; nothing is saturated before there are
 * LIMIT_SATURATION_SAMPLES windows. */
void saturation_sample(struct saturation *saturation, uint64_t now_ns, uint64_t busy_ns);
/* It was busy for less than LIMIT_IDLE_PERCENT of each of the last LIMIT_IDLE_WINDOWS windows. */
bool saturation_is_idle(const struct saturation *saturation);
