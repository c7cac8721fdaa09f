#include "ssh/saturation.h"

#define RING (LIMIT_SATURATION_SAMPLES + 1)

static uint32_t share_percent(uint64_t part, uint64_t whole) {
    return part >= whole ? 100 : (uint32_t)(part * 100 / whole);
}

/* A kernel that stops to tell begins at 0 again. */
static uint32_t busy_percent(const struct saturation_sample *from, const struct saturation_sample *to) {
    uint64_t busy = to->busy_ns > from->busy_ns ? to->busy_ns - from->busy_ns : 0;
    return share_percent(busy, to->at_ns - from->at_ns);
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
    struct saturation_sample *now = &saturation->samples[saturation->count % RING];
    *now = (struct saturation_sample){.at_ns = now_ns, .busy_ns = busy_ns};
    saturation->count++;
    const struct saturation_sample *first =
        &saturation->samples[saturation->count < RING ? 0 : saturation->count % RING];
    if (now == first)
        return;
    saturation->percent = busy_percent(first, now);
    bool idle = busy_percent(last, now) < LIMIT_IDLE_PERCENT;
    saturation->idle_windows = idle ? saturation->idle_windows + 1 : 0;
    judge(saturation);
}

bool saturation_is_idle(const struct saturation *saturation) {
    return saturation->idle_windows >= LIMIT_IDLE_WINDOWS;
}
