#include "ssh/saturation.h"
#include "engine/limits.h"

static uint32_t share_percent(uint64_t part, uint64_t whole) {
    return part >= whole ? 100 : (uint32_t)(part * 100 / whole);
}

static void judge(struct saturation *saturation) {
    bool full = saturation->percent >= LIMIT_SATURATED_PERCENT;
    saturation->full = full ? saturation->full + 1 : 0;
    if (saturation->full >= LIMIT_SATURATED_WINDOWS)
        saturation->saturated = true;
    else if (saturation->percent < LIMIT_UNSATURATED_PERCENT)
        saturation->saturated = false;
}

void saturation_sample(struct saturation *saturation, uint64_t now_ns, uint64_t busy_ns) {
    uint64_t passed_ns = now_ns - saturation->at_ns;
    if (saturation->begun && passed_ns < LIMIT_SATURATION_WINDOW_NS / 2)
        return;
    if (saturation->begun) {
        /* The kernel brings its accounts up to date in its own time: never does the sum go back for it. */
        uint64_t busy = busy_ns > saturation->busy_ns ? busy_ns - saturation->busy_ns : 0;
        saturation->percent = share_percent(busy, passed_ns);
        judge(saturation);
    }
    saturation->begun = true;
    saturation->at_ns = now_ns;
    saturation->busy_ns = busy_ns;
}
