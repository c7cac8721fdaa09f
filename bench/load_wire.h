/* What goes over a connection of the load beside the streams (protocol: load.h), in host byte order. */
#ifndef BENCH_LOAD_WIRE_H
#define BENCH_LOAD_WIRE_H

#include <stdint.h>

#define LOAD_MAGIC UINT64_C(0x4c4f41442d303102) /* changes with the layout */
#define LOAD_ACK '!'
#define LOAD_MESSAGE_BYTES_MAX (16u << 20)

/* A kind of wish that no job has: the connection is to be another process' (load_hand.h). */
#define LOAD_HANDED 100

/* The first bytes of a connection. */
struct load_wish {
    uint64_t magic;
    uint32_t kind, message_bytes;
    uint64_t bytes;            /* LOAD_DOWN: so many; 0: without end */
    uint64_t up_key, down_key; /* of the two streams */
    uint64_t pace;             /* LOAD_DOWN: at most so many bytes per second; 0: as fast as it goes */
    uint64_t buffer_bytes;     /* of the sockets here; 0: the kernel's own choice */
};

enum { REPORT_FINAL = 1, REPORT_BAD = 2 };

/* What an upload's receiver has seen up to now. Times are CLOCK_MONOTONIC's, which all of a machine share. */
struct load_report {
    uint64_t magic;
    uint64_t at_ns, bytes;
    uint64_t last_ns;                  /* when bytes came last; 0: none have */
    uint64_t gap_begin_ns, gap_end_ns; /* the longest time without bytes that ended since the last report (the end 0:
                                          none did); a begin of 0: these were the connection's first bytes */
    uint64_t bad_at;                   /* REPORT_BAD: the byte that is not the stream's */
    uint32_t flags, unused;
};

#endif
