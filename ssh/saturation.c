#include "ssh/saturation.h"

#define RING (LIMIT_SATURATION_SAMPLES + 1)

static uint32_t share_percent(uint64_t part, uint64_t whole) {
    return part >= whole ? 100 : (uint32_t)(part * 100 / whole);
}

static void judge(struct saturation *saturation) {
    if (saturation->count < RING)
        return;
    if (saturation->percent >= LIMIT_SATURATED_PERCENT)
        saturation->saturated = true;
    else if (saturation->percent < LIMIT_UNSATURATED_PERCENT)
        saturation->saturated = false;
}

void saturation_sample(struct saturation *saturation, uint64_t now_ns, uint64_t busy_ns) {
    const struct saturation_sample *last = &saturation->samples[(saturation->count + RING - 1) % RING];
    if (saturation->count > 0 && now_ns - last->at_ns < LIMIT_SATURATION_WINDOW_NS / 2)
        return;
    saturation->samples[saturation->count % RING] = (struct saturation_sample){.at_ns = now_ns, .busy_ns = busy_ns};
    saturation->count++;
    const struct saturation_sample *first =
        &saturation->samples[saturation->count < RING ? 0 : saturation->count % RING];
    if (now_ns == first->at_ns)
        return;
    /* A kernel that stops to tell begins at 0 again. */
    uint64_t busy = busy_ns > first->busy_ns ? busy_ns - first->busy_ns : 0;
    saturation->percent = share_percent(busy, now_ns - first->at_ns);
    judge(saturation);
}
