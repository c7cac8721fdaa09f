#include "bench/histogram.h"
#include <math.h>
#include <string.h>

/* Values below 2^SUB_BITS have a bucket each. Above, every power of two is cut into 2^SUB_BITS buckets of equal width:
 *
 *   index:   0 … 255        256 … 511        512 … 767        …
 *   values:  0 … 255        256 … 511        512 … 1023       …
 *   width:   1              1                2                …
 */
#define SUB_COUNT (1u << HISTOGRAM_SUB_BITS)
#define TOP_NS ((1ull << 42) - 1)
/* 99.9 % of 1000 is 999, and not the 1000 that rounding upwards after a rounded product would make of it. */
#define LESS_A_TRIFLE (1 - 1e-12)

static uint32_t bucket_of(uint64_t ns) {
    if (ns < SUB_COUNT)
        return (uint32_t)ns;
    unsigned shift = 63u - (unsigned)__builtin_clzll(ns) - HISTOGRAM_SUB_BITS;
    return (shift << HISTOGRAM_SUB_BITS) + (uint32_t)(ns >> shift);
}

static unsigned bucket_shift(uint32_t bucket) {
    return bucket < SUB_COUNT ? 0 : (bucket >> HISTOGRAM_SUB_BITS) - 1;
}

static uint64_t bucket_lowest(uint32_t bucket) {
    unsigned shift = bucket_shift(bucket);
    return (uint64_t)(bucket - (shift << HISTOGRAM_SUB_BITS)) << shift;
}

/* The highest value that may be in the bucket, and no higher than what was seen. */
static uint64_t bucket_highest(const struct histogram *histogram, uint32_t bucket) {
    uint64_t highest = bucket_lowest(bucket) + (1ull << bucket_shift(bucket)) - 1;
    return highest < histogram->max_ns ? highest : histogram->max_ns;
}

void histogram_clear(struct histogram *histogram) {
    memset(histogram, 0, sizeof *histogram);
    histogram->min_ns = UINT64_MAX;
}

void histogram_record(struct histogram *histogram, uint64_t ns) {
    histogram_record_many(histogram, ns, 1);
}

/* An empty histogram may also be one that is all zeros (fresh shared memory), so `count` tells, and not min_ns. */
static void widen(struct histogram *histogram, uint64_t min_ns, uint64_t max_ns) {
    if (histogram->count == 0 || min_ns < histogram->min_ns)
        histogram->min_ns = min_ns;
    if (max_ns > histogram->max_ns)
        histogram->max_ns = max_ns;
}

void histogram_record_many(struct histogram *histogram, uint64_t ns, uint64_t count) {
    if (count == 0)
        return;
    if (ns > TOP_NS)
        ns = TOP_NS;
    widen(histogram, ns, ns);
    histogram->count += count;
    histogram->sum_ns += (double)ns * (double)count;
    histogram->counts[bucket_of(ns)] += count;
}

void histogram_add(struct histogram *sum, const struct histogram *other) {
    if (other->count == 0)
        return;
    widen(sum, other->min_ns, other->max_ns);
    sum->count += other->count;
    sum->sum_ns += other->sum_ns;
    for (uint32_t i = 0; i < HISTOGRAM_BUCKETS; i++)
        sum->counts[i] += other->counts[i];
}

uint64_t histogram_percentile(const struct histogram *histogram, double percentile) {
    if (histogram->count == 0)
        return 0;
    if (!(percentile > 0))
        return histogram->min_ns;
    if (percentile >= 100)
        return histogram->max_ns;
    double rank = ceil(percentile / 100 * (double)histogram->count * LESS_A_TRIFLE);
    uint64_t wanted = rank < 1 ? 1 : (uint64_t)rank;
    uint64_t seen = 0;
    for (uint32_t i = 0; i < HISTOGRAM_BUCKETS; i++) {
        seen += histogram->counts[i];
        if (seen >= wanted)
            return bucket_highest(histogram, i);
    }
    return histogram->max_ns;
}

double histogram_mean(const struct histogram *histogram) {
    return histogram->count == 0 ? 0 : histogram->sum_ns / (double)histogram->count;
}

bool histogram_next(const struct histogram *histogram, uint32_t *cursor, uint64_t *lowest_ns, uint64_t *count) {
    for (; *cursor < HISTOGRAM_BUCKETS; (*cursor)++) {
        if (histogram->counts[*cursor] == 0)
            continue;
        *lowest_ns = bucket_lowest(*cursor);
        *count = histogram->counts[(*cursor)++];
        return true;
    }
    return false;
}

static double deviation(const struct histogram *histogram) {
    if (histogram->count == 0)
        return 0;
    double mean = histogram_mean(histogram), squares = 0;
    for (uint32_t i = 0; i < HISTOGRAM_BUCKETS; i++) {
        if (histogram->counts[i] == 0)
            continue;
        double middle = ((double)bucket_lowest(i) + (double)bucket_highest(histogram, i)) / 2;
        squares += (middle - mean) * (middle - mean) * (double)histogram->counts[i];
    }
    return sqrt(squares / (double)histogram->count);
}

/* The next percentile to have a row: steps halve whenever what is left until 100 has halved. */
static double next_level(double level, unsigned ticks) {
    double halvings = floor(log2(100 / (100 - level))) + 1;
    return level + 100 / (ticks * exp2(halvings));
}

static void print_rows(const struct histogram *histogram, FILE *out, double unit_ns, unsigned ticks) {
    uint64_t seen = 0;
    double level = 0;
    for (uint32_t i = 0; i < HISTOGRAM_BUCKETS && seen < histogram->count; i++) {
        if (histogram->counts[i] == 0)
            continue;
        seen += histogram->counts[i];
        double value = (double)bucket_highest(histogram, i) / unit_ns;
        double reached = 100 * (double)seen / (double)histogram->count;
        while (level * LESS_A_TRIFLE <= reached && level < 100) {
            fprintf(out, "%12.3f %2.12f %10llu %14.2f\n", value, level / 100, (unsigned long long)seen,
                    1 / (1 - level / 100));
            level = next_level(level, ticks);
            if (seen == histogram->count)
                break;
        }
    }
    if (histogram->count > 0)
        fprintf(out, "%12.3f %2.12f %10llu\n", (double)histogram->max_ns / unit_ns, 1.0,
                (unsigned long long)histogram->count);
}

void histogram_print(const struct histogram *histogram, FILE *out, double unit_ns, unsigned ticks) {
    fprintf(out, "%12s %14s %10s %14s\n\n", "Value", "Percentile", "TotalCount", "1/(1-Percentile)");
    print_rows(histogram, out, unit_ns, ticks > 0 ? ticks : 1);
    fprintf(out, "#[Mean    = %12.3f, StdDeviation   = %12.3f]\n", histogram_mean(histogram) / unit_ns,
            deviation(histogram) / unit_ns);
    fprintf(out, "#[Max     = %12.3f, Total count    = %12llu]\n", (double)histogram->max_ns / unit_ns,
            (unsigned long long)histogram->count);
    fprintf(out, "#[Buckets = %12u, SubBuckets     = %12u]\n", HISTOGRAM_BUCKETS >> HISTOGRAM_SUB_BITS, SUB_COUNT);
}
