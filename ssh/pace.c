#include "ssh/pace.h"
#include "engine/limits.h"

_Static_assert(LIMIT_SPARSE_BYTES < UINT16_MAX, "a count that is full is too much");

static uint16_t add(uint16_t count, uint32_t bytes) {
    return bytes < (uint32_t)(UINT16_MAX - count) ? (uint16_t)(count + bytes) : UINT16_MAX;
}

bool pace_move(struct pace *pace, uint32_t bytes, uint64_t now_ns) {
    uint16_t window = (uint16_t)(now_ns / LIMIT_SPARSE_WINDOW_NS);
    if (window != pace->window) {
        pace->before = (uint16_t)(window - pace->window) == 1 ? pace->moved : 0;
        pace->moved = 0;
        pace->window = window;
    }
    pace->moved = add(pace->moved, bytes);
    return bytes <= LIMIT_SPARSE_PACKET_BYTES && (uint32_t)pace->moved + pace->before <= LIMIT_SPARSE_BYTES;
}
