#include "engine/heap.h"
#include <malloc.h>
#include <stddef.h>

/* jemalloc's, where the program is linked with it (jemalloc(3)); it purges by itself only while it is called. */
extern int mallctl(const char *name, void *old, size_t *old_len, void *new, size_t new_len) __attribute__((weak));

void heap_decay(void) {
    if (mallctl)
        (void)mallctl("arena.4096.decay", NULL, NULL, NULL, 0); /* 4096: all arenas */
}

void heap_purge(void) {
    if (!mallctl) {
        (void)malloc_trim(0);
        return;
    }
    (void)mallctl("thread.tcache.flush", NULL, NULL, NULL, 0);
    (void)mallctl("arena.4096.purge", NULL, NULL, NULL, 0);
}
