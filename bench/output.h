/* A file that is there wholly or not at all: written beside its place and moved there at the end. A place that is no
 * plain file (a link, a device, a pipe) is written to directly, and stays what it is. */
#ifndef BENCH_OUTPUT_H
#define BENCH_OUTPUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

struct output {
    FILE *file;
    char *path, *temporary; /* temporary: NULL when written directly */
};

/* False: `why`, and there is nothing to end. */
bool output_begin(struct output *output, const char *path, char *why, size_t why_bytes);
/* Brings everything to the disk and to its place. False: `why` (a full disk shows here); what was at the place before
 * is still there. */
bool output_end(struct output *output, char *why, size_t why_bytes);

#endif
