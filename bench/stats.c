#include "bench/stats.h"
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define DRAWS 2000u
/* 2.5 % of the draws lie below the interval and as many above. */
#define DRAWS_BESIDE (DRAWS / 40)

static void *must_have(void *memory) {
    if (!memory)
        abort();
    return memory;
}

static double *copy_of(const double *values, size_t count) {
    double *copy = must_have(calloc(count, sizeof *copy));
    memcpy(copy, values, count * sizeof *copy);
    return copy;
}

static int by_value(const void *left, const void *right) {
    double a = *(const double *)left, b = *(const double *)right;
    return (a > b) - (a < b);
}

static void sort(double *values, size_t count) {
    qsort(values, count, sizeof *values, by_value);
}

/* Between the values on both sides of the place, in proportion. */
static double quantile(const double *sorted, size_t count, double share) {
    double place = share * (double)(count - 1);
    size_t below = (size_t)place;
    if (below + 1 >= count)
        return sorted[count - 1];
    double rest = place - (double)below;
    return sorted[below] * (1 - rest) + sorted[below + 1] * rest;
}

void stats_summarise(const double *values, size_t count, struct stats_summary *summary) {
    double *sorted = copy_of(values, count);
    sort(sorted, count);
    *summary = (struct stats_summary){
        .count = count,
        .median = quantile(sorted, count, 0.5),
        .min = sorted[0],
        .max = sorted[count - 1],
        .low_quartile = quantile(sorted, count, 0.25),
        .high_quartile = quantile(sorted, count, 0.75),
    };
    free(sorted);
}

double stats_median(const double *values, size_t count) {
    struct stats_summary summary;
    stats_summarise(values, count, &summary);
    return summary.median;
}

/* splitmix64 */
static uint64_t random_next(uint64_t *state) {
    uint64_t mixed = *state += UINT64_C(0x9E3779B97F4A7C15);
    mixed = (mixed ^ (mixed >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    mixed = (mixed ^ (mixed >> 27)) * UINT64_C(0x94D049BB133111EB);
    return mixed ^ (mixed >> 31);
}

static size_t random_below(uint64_t *state, size_t count) {
    return (size_t)(((random_next(state) >> 32) * (uint64_t)count) >> 32);
}

/* Both sides of a ratio, and room for a draw of each. */
struct sides {
    double *a, *b, *drawn_a, *drawn_b;
    size_t a_count, b_count;
    bool paired;
};

static void draw(struct sides *sides, uint64_t *state) {
    for (size_t i = 0; i < sides->a_count; i++) {
        size_t picked = random_below(state, sides->a_count);
        sides->drawn_a[i] = sides->a[picked];
        if (sides->paired)
            sides->drawn_b[i] = sides->b[picked];
    }
    for (size_t i = 0; i < sides->b_count && !sides->paired; i++)
        sides->drawn_b[i] = sides->b[random_below(state, sides->b_count)];
    sort(sides->drawn_a, sides->a_count);
    sort(sides->drawn_b, sides->b_count);
}

static bool divide(double a, double b, double *ratio) {
    if (!(b > 0))
        return false;
    *ratio = a / b;
    return isfinite(*ratio);
}

static bool bootstrap(struct sides *sides, struct stats_interval *ratio) {
    double drawn[DRAWS];
    uint64_t state = 1;
    for (size_t i = 0; i < DRAWS; i++) {
        draw(sides, &state);
        if (!divide(quantile(sides->drawn_a, sides->a_count, 0.5), quantile(sides->drawn_b, sides->b_count, 0.5),
                    &drawn[i]))
            return false;
    }
    sort(drawn, DRAWS);
    ratio->low = fmin(ratio->middle, drawn[DRAWS_BESIDE]);
    ratio->high = fmax(ratio->middle, drawn[DRAWS - 1 - DRAWS_BESIDE]);
    return true;
}

bool stats_ratio(const double *a, size_t a_count, const double *b, size_t b_count, bool paired,
                 struct stats_interval *ratio) {
    if (a_count == 0 || b_count == 0 || !divide(stats_median(a, a_count), stats_median(b, b_count), &ratio->middle))
        return false;
    struct sides sides = {
        .a = copy_of(a, a_count),
        .b = copy_of(b, b_count),
        .drawn_a = copy_of(a, a_count),
        .drawn_b = copy_of(b, b_count),
        .a_count = a_count,
        .b_count = b_count,
        .paired = paired && a_count == b_count,
    };
    if (!sides.paired) { /* so that the order in which they came does not show */
        sort(sides.a, a_count);
        sort(sides.b, b_count);
    }
    bool known = bootstrap(&sides, ratio);
    free(sides.a);
    free(sides.b);
    free(sides.drawn_a);
    free(sides.drawn_b);
    return known;
}

double stats_jain(const double *values, size_t count) {
    double largest = 0;
    for (size_t i = 0; i < count; i++)
        largest = fmax(largest, fabs(values[i]));
    if (!(largest > 0))
        return 0;
    double sum = 0, squares = 0;
    for (size_t i = 0; i < count; i++) {
        double share = values[i] / largest; /* the squares of big ones could overflow */
        sum += share;
        squares += share * share;
    }
    return sum * sum / ((double)count * squares);
}
