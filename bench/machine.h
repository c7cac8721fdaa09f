/* What the figures were measured on. */
#ifndef BENCH_MACHINE_H
#define BENCH_MACHINE_H

#include <jansson.h>

/* An object: time, cpu, cores, memory_bytes, kernel, os, tcp congestion control, the sysctls that matter to tunnels
 * (net.core.*mem_max, net.ipv4.tcp_*mem, tcp_congestion_control, tcp_slow_start_after_idle, io_uring_disabled …),
 * clocksource, governor, hypervisor flag, descriptor limit, load average, library versions. What cannot be read is
 * null. */
json_t *machine_describe(void);

#endif
