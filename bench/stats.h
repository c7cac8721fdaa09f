/* What a few rounds say: medians, spread, and how sure a ratio is. Pure; no state. `values` are finite; order does not
 * matter unless said. */
#ifndef BENCH_STATS_H
#define BENCH_STATS_H

#include <stdbool.h>
#include <stddef.h>

struct stats_summary {
    size_t count;
    double median, min, max, low_quartile, high_quartile;
};

struct stats_interval {
    double middle, low, high;
};

/* count > 0. Does not change values. */
void stats_summarise(const double *values, size_t count, struct stats_summary *summary);
double stats_median(const double *values, size_t count);
/* The ratio of the medians of a to b with its 95 % confidence interval by bootstrap (the rounds are drawn in pairs, as
 * they ran beside one another, when a_count equals b_count and `paired`; each side by itself otherwise). The draws are
 * seeded: the same values give the same interval. With one value on each side nothing is known of the noise, and low
 * and high are the middle. False where a median of b, also a drawn one, is not above zero, or there are no values. */
bool stats_ratio(const double *a, size_t a_count, const double *b, size_t b_count, bool paired,
                 struct stats_interval *ratio);
/* Jain's fairness index: 1 when all are equal, 1/n when one has everything; 0 for no values or only zeros. */
double stats_jain(const double *values, size_t count);

#endif
