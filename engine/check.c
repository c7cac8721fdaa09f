#include "engine/check.h"
#include <stdio.h>
#include <stdlib.h>

void check_failed(const char *expr, const char *file, int line) {
    fprintf(stderr, "leat: internal error: %s (%s:%d)\n", expr, file, line);
    abort();
}
