/* Plots as SVG text, drawn by gnuplot. Labels are data and never part of a command. Free what is returned; NULL:
 * gnuplot is not installed or did not draw. One thread at a time. */
#ifndef BENCH_PLOT_H
#define BENCH_PLOT_H

#include <stdbool.h>
#include <stddef.h>

#define PLOT_PARTS_MAX 4u

/* Horizontal bars, the first on top: what was measured, with whiskers from the lowest to the highest round. */
struct plot_bar {
    const char *label, *text; /* text: the value in words, behind the bar */
    double value, low, high;  /* not below zero */
    unsigned color;           /* an index; the same for the same peer all over a report */
};

/* The same made of parts behind one another. */
struct plot_stack {
    const char *label, *text;
    double parts[PLOT_PARTS_MAX];
};

struct plot_line {
    const char *label;
    const double *x, *y;
    size_t count;
    unsigned color;
};

enum plot_axes {
    PLOT_LINEAR,
    PLOT_PERCENTILES /* x is 1/(1 − share), shown as percentiles; both logarithmic */
};

char *plot_bars(const struct plot_bar *bars, size_t count);
/* Colors of the parts: plot_part_color. */
char *plot_stacks(const struct plot_stack *stacks, size_t count);
char *plot_lines(const struct plot_line *lines, size_t count, enum plot_axes axes);
/* "#rrggbb" of the nth part of a stack. */
const char *plot_part_color(size_t part);

#endif
