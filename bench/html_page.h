/* The page of report_html while it is written: what its parts share. */
#ifndef BENCH_HTML_PAGE_H
#define BENCH_HTML_PAGE_H

#include "bench/results.h"
#include <stdbool.h>
#include <stdio.h>

struct page {
    FILE *out;
    const struct results *results;
    bool has_plots; /* gnuplot draws */
};

/* Text from a file, a process or a person, as text: cleaned and escaped. */
void page_text(const struct page *page, const char *text);
/* A string of an object of the results; "" where there is none. */
const char *page_string(const json_t *object, const char *key);
/* Every figure of a group of scenarios. */
void page_figures(const struct page *page, const char *group);
/* Whether gnuplot is there and draws. */
bool page_can_plot(void);

#endif
