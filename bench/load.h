/* The load: connections through whatever listens on a TCP port, to a target of ours behind it.
 *
 * Protocol (load_wire.h; in host byte order: both ends are this program; a magic number refuses others). A connection
 * begins with a struct load_wish from the client. Then by kind
 *
 * - LOAD_DOWN: the target sends the keyed stream: `bytes` of it and FIN, or until the connection ends when bytes is 0
 * - LOAD_UP: the client sends the stream and FIN; the target sends a struct load_report at once, every LOAD_REPORT_MS,
 *   and a final one after FIN, then FIN; what is counted is what arrived
 * - LOAD_ECHO: a byte from the target; then messages of `message_bytes`, each answered by as many bytes once it is
 *   there whole; each way has its own stream, and both ends check
 * - LOAD_OPEN: a byte from the target and FIN
 * - LOAD_HOLD: a byte from the target, then nothing until FIN
 *
 * A receiver that meets a byte that is not the stream's ends the connection by a reset, after a report that says where.
 *
 * A job runs in a process of its own: its CPU time is the load's and nobody else's. One thread and epoll: when `busy`
 * says that this thread ran more than nine tenths of the time, the load was the bottleneck. */
#ifndef BENCH_LOAD_H
#define BENCH_LOAD_H

#include "bench/histogram.h"
#include "bench/place.h"
#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define LOAD_REPORT_MS 20
#define LOAD_FLOWS_MAX 20000u
#define LOAD_WHY_BYTES 200

enum load_kind { LOAD_DOWN = 1, LOAD_UP, LOAD_ECHO, LOAD_OPEN, LOAD_HOLD };

/* What is asked of a job. Zeros mean: none, unlimited, off. */
struct load_job {
    enum load_kind kind;
    struct sockaddr_in address; /* where the tunnel listens */
    uint32_t flows;             /* connections; LOAD_OPEN: at once */
    uint32_t both_flows;        /* LOAD_DOWN only: as many uploads beside them */
    uint32_t message_bytes;     /* LOAD_ECHO */
    double rate; /* LOAD_ECHO: messages per second over all flows, sent when planned whatever came back, and timed
                    from the plan; 0: each flow sends when the last message is back */
    double warmup_s, measure_s; /* the job ends after both; measure_s 0: until load_stop */
    uint64_t bytes_per_flow;    /* bulk: the job ends when all flows are through, and measures from start to end */
    uint64_t pause_bytes;  /* LOAD_DOWN: stalled readers: a flow reads this much and then no more until load_stop */
    bool resumes;          /* … and then the rest of bytes_per_flow: the job goes on to that end */
    double pace;           /* LOAD_DOWN: bytes per second that the target sends at most, over all flows, evenly */
    uint32_t buffer_bytes; /* SO_SNDBUF and SO_RCVBUF at both ends: thousands of stalled flows in the kernel's own
                              would use up what it has for all sockets of the machine; 0: the kernel's choice */
    uint64_t key;
    uint32_t patience_ms; /* a flow on which nothing moves for so long fails the job; 0: 10 s */
    bool any_port;        /* of the local range, as leat does it beside thousands of connections (engine/tcp.h) */
    bool reconnect;       /* a flow that breaks is opened again (recovery); the gap is in longest_stall_s */
};

struct load_result {
    bool ok;                  /* false: `why`; the numbers stand for nothing */
    char why[LOAD_WHY_BYTES]; /* names flow and position */
    double measured_s; /* at the receivers; of messages and openings those count that were begun in it, and all of them
                          are waited for */
    uint64_t down_bytes, up_bytes; /* in the measured time, at the receivers, verified */
    uint64_t operations;           /* LOAD_ECHO: messages back; LOAD_OPEN: connections through; LOAD_HOLD: held */
    uint64_t reconnects, late;     /* late: planned messages that the load itself sent more than a millisecond late */
    double longest_stall_s;        /* bulk: the longest time in which a flow got nothing */
    uint64_t longest_wait_bytes;   /* downloads: the most that others got while one got nothing */
    double first_byte_s;           /* the longest time from connect to the first byte back */
    double cpu_user_s, cpu_system_s,
        busy; /* of the load's process in the measured time; busy: its thread's share, 0–1 */
    uint64_t peak_rss_bytes;
    struct histogram latency; /* ns; LOAD_ECHO and LOAD_OPEN (connect to byte back), in the measured time */
    uint32_t flow_count;      /* bulk: bytes of each flow in the measured time */
    uint64_t flow_bytes[LOAD_FLOWS_MAX];
    uint32_t
        sample_count; /* bulk: bytes over all flows per LOAD_SAMPLE_MS, from the start of the job (warm-up included) */
    uint64_t samples[4096];
};

#define LOAD_SAMPLE_MS 50

struct load;

/* Starts a job; NULL with errno. The result lies in memory shared with the process, so it is big but costs only what is
 * used. */
struct load *load_start(const struct load_job *job, const struct place *place);
/* True once the flows are there and have had their first byte; false when the job has failed instead (load_wait tells
 * why). */
bool load_ready(struct load *load, double timeout_s);
/* What has arrived until now (bulk) in the measured time. False: the job has ended. Takes the word load_ready waits
 * for. */
bool load_look(struct load *load, uint64_t *bytes);
/* Ends a job without an end of its own: what it has measured until now counts. */
void load_stop(struct load *load);
/* Waits for the end, copies the result and frees the load. A job that was killed is a result that is not ok. */
void load_wait(struct load *load, struct load_result *result);
/* load_start and load_wait. */
void load_run(const struct load_job *job, const struct place *place, struct load_result *result);

/* The other end: a process that serves until target_stop or until the harness is gone. */
struct target {
    pid_t pid;
    int control; /* closed, it ends */
    struct sockaddr_in address;
};

/* Listens on `bind_address` with a free port (or the port in it). False with errno. */
bool target_start(struct target *target, struct in_addr bind_address, uint16_t port, const struct place *place);
void target_stop(struct target *target);
/* The target's loop itself, in the calling process and one thread, until `control` (no plain file) ends: 0; −1: it
 * could not begin. */
int target_serve(int listener, int control);

#endif
