/* Latencies in nanoseconds, from 1 ns to an hour, within 1/256 of the value (as HdrHistogram with two to three digits):
 * log-linear buckets. Its percentile output is HdrHistogram's text format (.hgrm), which its plotters read.
 * (HdrHistogram itself is not packaged for C.) One thread at a time. */
#ifndef BENCH_HISTOGRAM_H
#define BENCH_HISTOGRAM_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#define HISTOGRAM_SUB_BITS 8u
#define HISTOGRAM_BUCKETS ((42u - HISTOGRAM_SUB_BITS + 1u) << HISTOGRAM_SUB_BITS)

struct histogram {
    uint64_t count, max_ns, min_ns;
    double sum_ns;
    uint64_t counts[HISTOGRAM_BUCKETS];
};

/* An empty one is all zeros but for min_ns. */
void histogram_clear(struct histogram *histogram);
/* Values past the top count as the top. */
void histogram_record(struct histogram *histogram, uint64_t ns);
void histogram_add(struct histogram *sum, const struct histogram *other);
/* The value at or below which `percentile` (0–100) of the values lie; 0 when empty. */
uint64_t histogram_percentile(const struct histogram *histogram, double percentile);
double histogram_mean(const struct histogram *histogram);
/* HdrHistogram's percentile distribution, values divided by `unit_ns` (1e6 for milliseconds), `ticks` rows per halving
 * of what is left. */
void histogram_print(const struct histogram *histogram, FILE *out, double unit_ns, unsigned ticks);
/* The buckets that are not empty, lowest first: the nth such bucket's lowest value and count; false past the last. Used
 * to store a histogram; histogram_record_many restores it. Start with *cursor 0. */
bool histogram_next(const struct histogram *histogram, uint32_t *cursor, uint64_t *lowest_ns, uint64_t *count);
void histogram_record_many(struct histogram *histogram, uint64_t ns, uint64_t count);

#endif
