/* What differs between two JSON objects, for people. */
#ifndef BENCH_COMPARE_JSON_H
#define BENCH_COMPARE_JSON_H

#include <jansson.h>
#include <stdio.h>

/* A line "WHAT differs: path.to.key: old → new" for each value that differs or that only one has. `passed_over`: keys
 * of the outermost object that say nothing, NULL-terminated. */
void compare_json(FILE *out, const char *what, const json_t *old, const json_t *new, const char *const *passed_over);

#endif
