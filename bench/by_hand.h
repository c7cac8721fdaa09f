/* For people who test a tunnel by hand, between machines perhaps: the two ends of the load by themselves. */
#ifndef BENCH_BY_HAND_H
#define BENCH_BY_HAND_H

#include "bench/bench_options.h"

/* Serves on the loopback until standard input ends; prints its port. Returns the exit status. */
int by_hand_target(const struct bench_options *options);
/* down|up HOST:PORT BYTES: prints "SECONDS MB/s"; on a terminal with a live line. Returns the exit status. */
int by_hand_load(const struct bench_options *options);

#endif
