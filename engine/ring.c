#include "engine/ring.h"
#include "engine/check.h"
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

/* Kept mapped for the next session that wakes up; mapping anew costs some system calls and a page fault per page. */
#define RINGS_IDLE_MAX 4u

/* Descriptor to map, or −1. */
static int make_file(size_t size) {
    int fd = memfd_create("leat-ring", MFD_CLOEXEC);
    if (fd >= 0 && ftruncate(fd, (off_t)size) != 0) {
        close(fd);
        fd = -1;
    }
    return fd;
}

/* The file twice in a row, or without one (−1) a mapping of which mremap(2) makes a second, as it does of what is
 * shared when it is told that the old is empty. valgrind does not know the latter, and where memory may not be
 * overcommitted it is charged at once. NULL: failed. */
static uint8_t *map_twice(size_t size, int fd) {
    const int rw = PROT_READ | PROT_WRITE, flags = MAP_SHARED | (fd < 0 ? MAP_ANONYMOUS | MAP_NORESERVE : 0);
    uint8_t *base = mmap(NULL, size * 2, rw, flags, fd, 0);
    if (base == MAP_FAILED)
        return NULL;
    void *second = fd < 0 ? mremap(base, 0, size, MREMAP_MAYMOVE | MREMAP_FIXED, base + size)
                          : mmap(base + size, size, rw, MAP_SHARED | MAP_FIXED, fd, 0);
    if (second != MAP_FAILED)
        return base;
    /* Kernels may unmap what is there before they fail, and by now those addresses may be another thread's: they are
     * given up. */
    munmap(base, size);
    return NULL;
}

int ring_init(struct ring *ring, size_t size) {
    CHECK(size > 0 && (size & (size - 1)) == 0);
    CHECK(size % (size_t)sysconf(_SC_PAGESIZE) == 0);
    /* Who has run out of descriptors must be able to read what would close some. */
    int fd = make_file(size);
    uint8_t *base = map_twice(size, fd);
    if (fd >= 0)
        close(fd);
    if (base == NULL)
        return ERR_NOMEM;
    /* Plaintext stays out of core files; not vital, so a refusal is ignored. */
    (void)madvise(base, size * 2, MADV_DONTDUMP);
    *ring = (struct ring){.base = base, .size = size};
    return ERR_OK;
}

void ring_deinit(struct ring *ring) {
    munmap(ring->base, ring->size * 2);
    *ring = (struct ring){0};
}

void ring_produce(struct ring *ring, size_t bytes) {
    CHECK(bytes <= ring_free(ring));
    ring->head += bytes;
}

void ring_consume(struct ring *ring, size_t bytes) {
    CHECK(bytes <= ring_used(ring));
    ring->tail += bytes;
}

void ring_pool_init(struct ring_pool *pool, size_t ring_bytes, uint32_t max) {
    *pool = (struct ring_pool){.ring_bytes = ring_bytes, .max = max};
}

static void ring_destroy(struct ring *ring) {
    ring_deinit(ring);
    free(ring);
}

static struct ring *ring_create(size_t size) {
    struct ring *ring = malloc(sizeof *ring);
    if (ring && ring_init(ring, size) < 0) {
        free(ring);
        ring = NULL;
    }
    return ring;
}

static struct ring *idle_pop(struct ring_pool *pool) {
    struct ring *ring = pool->free;
    pool->free = ring->next_free;
    if (--pool->idle < pool->idle_low)
        pool->idle_low = pool->idle;
    return ring;
}

void ring_pool_deinit(struct ring_pool *pool) {
    CHECK(pool->lent == 0);
    while (pool->idle > 0)
        ring_destroy(idle_pop(pool));
}

struct ring *ring_pool_take(struct ring_pool *pool) {
    if (pool->lent >= pool->max)
        return NULL;
    struct ring *ring = pool->idle > 0 ? idle_pop(pool) : ring_create(pool->ring_bytes);
    if (!ring)
        return NULL;
    ring->head = ring->tail = 0;
    ring->next_free = NULL;
    pool->lent++;
    return ring;
}

void ring_pool_put(struct ring_pool *pool, struct ring *ring) {
    CHECK(pool->lent > 0 && ring->size == pool->ring_bytes);
    pool->lent--;
    if (pool->idle >= RINGS_IDLE_MAX) {
        ring_destroy(ring);
        return;
    }
    ring->next_free = pool->free;
    pool->free = ring;
    pool->idle++;
}

bool ring_pool_trim(struct ring_pool *pool) {
    for (uint32_t left = pool->idle_low; left > 0; left--)
        ring_destroy(idle_pop(pool));
    pool->idle_low = pool->idle;
    return pool->idle > 0;
}
