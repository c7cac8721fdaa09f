/* JSON files that nobody vouches for. Size, and how many values jansson would make of them, are bounded before they are
 * parsed (depth is bounded by jansson); and everything that is refused is named with its file and its place there. */
#ifndef BENCH_JSON_READ_H
#define BENCH_JSON_READ_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Up to here a double is exact. */
#define JSON_COUNT_MAX ((json_int_t)1 << 53)

/* Whose fault is told where. */
struct json_read {
    const char *path;
    char *why;
    size_t why_bytes;
};

/* Where in the file a function is: the way from the root, on the stack. */
struct json_where {
    const struct json_read *read;
    const struct json_where *up; /* NULL at the root */
    const char *key;             /* NULL: an element of an array */
    size_t index;
};

/* The parsed file; NULL: `why`. */
json_t *json_read_file(const struct json_read *read);

struct json_where json_below(const struct json_where *up, const char *key);
struct json_where json_element(const struct json_where *up, size_t index);
/* "FILE: scenarios[3].metrics[0].series: WHAT". Returns false. */
bool json_refuse(const struct json_where *at, const char *what);
bool json_refuse_below(const struct json_where *at, const char *key, const char *what);

/* Members of an object by type; NULL or false: refused. Borrowed. */
json_t *json_get_array(const struct json_where *at, const json_t *object, const char *key, size_t count_max);
json_t *json_get_object(const struct json_where *at, const json_t *object, const char *key);
const char *json_get_string(const struct json_where *at, const json_t *object, const char *key);
/* A string with something in it. */
const char *json_get_name(const struct json_where *at, const json_t *object, const char *key);
/* Finite always: jansson refuses what does not fit a double. */
bool json_get_number(const struct json_where *at, const json_t *object, const char *key, double *number);
/* 0 – JSON_COUNT_MAX */
bool json_get_count(const struct json_where *at, const json_t *object, const char *key, uint64_t *count);
bool json_get_bool(const struct json_where *at, const json_t *object, const char *key, bool *value);
bool json_want_object(const struct json_where *at, const json_t *value);

#endif
