#include "engine/ring.h"
#include "engine/check.h"
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

/* Kept mapped for the next session that wakes up; mapping anew costs some system calls and a page fault per page. */
#define RINGS_IDLE_MAX 4u

static bool map_shared(uint8_t *at, size_t size, int flags, int fd) {
    return mmap(at, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED | flags, fd, 0) != MAP_FAILED;
}

/* Of a shared mapping mremap(2) makes another one when it is told that the old is empty. There is no descriptor behind
 * it: who has run out of those must be able to read what would close some. */
static bool map_without_file(uint8_t *base, size_t size) {
    return map_shared(base, size, MAP_ANONYMOUS | MAP_NORESERVE, -1) &&
           mremap(base, 0, size, MREMAP_MAYMOVE | MREMAP_FIXED, base + size) != MAP_FAILED;
}

/* valgrind knows no such mremap(2). */
static bool map_file(uint8_t *base, size_t size) {
    int fd = memfd_create("leat-ring", MFD_CLOEXEC);
    if (fd < 0)
        return false;
    bool done =
        ftruncate(fd, (off_t)size) == 0 && map_shared(base, size, 0, fd) && map_shared(base + size, size, 0, fd);
    close(fd);
    return done;
}

int ring_init(struct ring *ring, size_t size) {
    CHECK(size > 0 && (size & (size - 1)) == 0);
    CHECK(size % (size_t)sysconf(_SC_PAGESIZE) == 0);
    /* The reservation keeps both halves' addresses ours until they are mapped over it. */
    void *base = mmap(NULL, size * 2, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (base == MAP_FAILED)
        return ERR_NOMEM;
    if (!map_without_file(base, size) && !map_file(base, size)) {
        munmap(base, size * 2);
        return ERR_NOMEM;
    }
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
