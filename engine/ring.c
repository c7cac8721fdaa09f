#include "engine/ring.h"
#include "engine/check.h"
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

/* Kept mapped for the next session that wakes up; mapping anew costs some system calls and a page fault per page. */
#define RINGS_IDLE_MAX 4u

static int map_twice(uint8_t *base, size_t size, int fd) {
    for (size_t half = 0; half < 2; half++) {
        void *at = base + half * size;
        if (mmap(at, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0) == MAP_FAILED)
            return ERR_NOMEM;
    }
    /* Plaintext stays out of core files; not vital, so a refusal is ignored. */
    (void)madvise(base, size * 2, MADV_DONTDUMP);
    return ERR_OK;
}

static int map_fd(struct ring *ring, size_t size, int fd) {
    if (ftruncate(fd, (off_t)size) < 0)
        return ERR_NOMEM;
    /* The reservation keeps both halves' addresses ours until they are mapped over it. */
    void *base = mmap(NULL, size * 2, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (base == MAP_FAILED)
        return ERR_NOMEM;
    if (map_twice(base, size, fd) < 0) {
        munmap(base, size * 2);
        return ERR_NOMEM;
    }
    *ring = (struct ring){.base = base, .size = size};
    return ERR_OK;
}

int ring_init(struct ring *ring, size_t size) {
    CHECK(size > 0 && (size & (size - 1)) == 0);
    CHECK(size % (size_t)sysconf(_SC_PAGESIZE) == 0);
    int fd = memfd_create("leat-ring", MFD_CLOEXEC);
    if (fd < 0)
        return ERR_NOMEM;
    int err = map_fd(ring, size, fd);
    close(fd);
    return err;
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
