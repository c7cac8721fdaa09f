#pragma once
/* How much a flow has moved lately, both ways together: tells the flow that somebody waits for, byte by byte, from bulk
 * and from its odd tails. Pure, time as an argument; all zeros is a flow that has moved nothing. */
#include <stdbool.h>
#include <stdint.h>

struct pace {
    uint16_t window; /* the current one's number, LIMIT_SPARSE_WINDOW_NS each; what it was an hour ago is little lost */
    uint16_t moved, before; /* bytes in it and in the last, at most UINT16_MAX */
};

/* A packet of `bytes` goes or has come. True: it is a sparse flow's, small and with little beside it in this window and
 * the last. */
bool pace_move(struct pace *pace, uint32_t bytes, uint64_t now_ns);
