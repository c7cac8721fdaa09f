#pragma once
/* Has a thread no more to give? Told from how much of a short while it was busy: running, or waiting for a processor to
 * run on. Pure; time is an argument.
 *
 *   calm ─ LIMIT_SATURATED_WINDOWS samples in a row at LIMIT_SATURATED_PERCENT or above ─► saturated
 *   saturated ─ one sample below LIMIT_UNSATURATED_PERCENT ─► calm */
#include <stdbool.h>
#include <stdint.h>

struct saturation {
    bool saturated;
    uint32_t percent; /* busy between the last two samples */
    /* private */
    bool begun;
    unsigned full; /* samples in a row */
    uint64_t at_ns, busy_ns;
};

/* Takes a sample: busy_ns since some beginning. One that follows the last within less than half a
 * LIMIT_SATURATION_WINDOW_NS is passed over. Zeroed memory is the start. */
void saturation_sample(struct saturation *saturation, uint64_t now_ns, uint64_t busy_ns);
