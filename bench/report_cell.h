/* What one peer's values of one metric come to, in words: for the tables. */
#ifndef BENCH_REPORT_CELL_H
#define BENCH_REPORT_CELL_H

#include "bench/results.h"

struct report_cell {
    char median[32];
    char spread[72];   /* lowest–highest; empty where all are the same */
    char ratio[32];    /* "1.73×"; empty: of the base peer itself, or not known */
    char interval[72]; /* of the ratio; empty where there is but one round */
};

/* False: the peer has no value. */
bool report_cell_make(const struct results *results, const struct results_metric *metric, const char *peer,
                      struct report_cell *cell);

/* The peers which have a headline value in this group: in the order of results->peers, then in that of their coming.
 * Free the array, not the names. */
const char **report_peers(const struct results *results, const char *group, size_t *count);
/* The next scenario of the group from *cursor on (start with 0), NULL: no more. */
const struct results_scenario *report_next(const struct results *results, const char *group, size_t *cursor);
/* Whether scenario `index` is the first of its group. */
bool report_begins_group(const struct results *results, size_t index);

#endif
