/* What the figures were measured on. */
#ifndef BENCH_MACHINE_H
#define BENCH_MACHINE_H

#include <jansson.h>

/* An object: time (UTC), cpu, cores and cores_allowed, hypervisor (a flag), memory_bytes, kernel, os,
 * congestion_control, sysctls (an object of those that matter to tunnels: "net.core.rmem_max" and so on), clocksource,
 * governor, descriptors (soft and hard limit), load_average (three), libraries (versions). What cannot be read is null.
 * Texts but for cores, memory_bytes and what is said otherwise. */
json_t *machine_describe(void);

#endif
