#include "bench/settle.h"

/* Tunnels give buffers back after about a second of quiet. */
#define SETTLE_MIN_S 1.2
#define SETTLE_MAX_S 4.0
#define SETTLE_STEP_S 0.2

bool settle_usage(const struct round *round, pid_t pid, struct usage *usage) {
    double began_s = round_now_s();
    if (round->size == SIZE_SMOKE)
        return usage_of(pid, true, usage);
    round_sleep(SETTLE_MIN_S);
    if (!usage_of(pid, true, usage))
        return false;
    for (uint64_t last = usage->rss_bytes + 1; usage->rss_bytes < last && !world_interrupted();) {
        if (round_now_s() - began_s > SETTLE_MAX_S)
            break;
        last = usage->rss_bytes;
        round_sleep(SETTLE_STEP_S);
        if (!usage_of(pid, true, usage))
            return false;
    }
    return true;
}
