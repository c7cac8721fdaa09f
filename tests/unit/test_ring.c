#include "engine/ring.h"
#include <criterion/criterion.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

static uint32_t random_next(uint32_t *state) {
    *state ^= *state << 13;
    *state ^= *state >> 17;
    *state ^= *state << 5;
    return *state;
}

static size_t page_bytes(void) {
    return (size_t)sysconf(_SC_PAGESIZE);
}

Test(ring, both_mappings_show_the_same_bytes) {
    struct ring ring;
    size_t size = page_bytes();
    cr_assert_eq(ring_init(&ring, size), ERR_OK);
    for (size_t i = 0; i < size; i++)
        ring.base[i] = (uint8_t)(i * 7);
    cr_assert_eq(memcmp(ring.base, ring.base + size, size), 0);
    ring.base[size * 2 - 1] = 0x5a;
    cr_assert_eq(ring.base[size - 1], 0x5a);
    ring_deinit(&ring);
}

Test(ring, boundaries_empty_full_and_wrap) {
    struct ring ring;
    size_t size = page_bytes();
    cr_assert_eq(ring_init(&ring, size), ERR_OK);
    cr_assert(ring_used(&ring) == 0 && ring_free(&ring) == size);
    ring_produce(&ring, 0);
    ring_consume(&ring, 0);
    ring_produce(&ring, size - 1);
    cr_assert_eq(ring_free(&ring), 1);
    ring_produce(&ring, 1);
    cr_assert(ring_used(&ring) == size && ring_free(&ring) == 0);
    ring_consume(&ring, size - 1);
    cr_assert_eq(ring_used(&ring), 1);
    ring_produce(&ring, size - 1);
    cr_assert_eq(ring_at(&ring, ring.head), ring.base + size - 1, "head has wrapped");
    /* A full ring that starts on its last byte is still one run. */
    memset(ring_at(&ring, ring.tail), 0xab, size);
    for (size_t i = 0; i < size; i++)
        cr_assert_eq(ring.base[i], 0xab);
    ring_consume(&ring, size);
    cr_assert_eq(ring_used(&ring), 0);
    ring_deinit(&ring);
}

Test(ring, random_traffic_comes_out_as_it_went_in) {
    struct ring ring;
    size_t size = page_bytes() * 4;
    uint32_t state = 99;
    uint64_t written = 0, read = 0;
    cr_assert_eq(ring_init(&ring, size), ERR_OK);
    for (unsigned step = 0; step < 20000; step++) {
        size_t n = random_next(&state) % (size / 3);
        if (random_next(&state) & 1) {
            n = n < ring_free(&ring) ? n : ring_free(&ring);
            uint8_t *data = ring_at(&ring, ring.head);
            for (size_t i = 0; i < n; i++)
                data[i] = (uint8_t)((written + i) * 31 >> 3);
            ring_produce(&ring, n);
            written += n;
        } else {
            n = n < ring_used(&ring) ? n : ring_used(&ring);
            const uint8_t *data = ring_at(&ring, ring.tail);
            for (size_t i = 0; i < n; i++)
                if (data[i] != (uint8_t)((read + i) * 31 >> 3))
                    cr_assert_fail("byte %llu differs", (unsigned long long)(read + i));
            ring_consume(&ring, n);
            read += n;
        }
        cr_assert_eq(ring_used(&ring), written - read);
        cr_assert_eq(ring_used(&ring) + ring_free(&ring), size);
    }
    cr_assert_gt(read, size * 100);
    ring_deinit(&ring);
}

Test(ring, producing_more_than_is_free_aborts, .signal = SIGABRT) {
    struct ring ring;
    cr_assert_eq(ring_init(&ring, page_bytes()), ERR_OK);
    ring_produce(&ring, page_bytes());
    ring_produce(&ring, 1);
}

Test(ring, consuming_more_than_is_used_aborts, .signal = SIGABRT) {
    struct ring ring;
    cr_assert_eq(ring_init(&ring, page_bytes()), ERR_OK);
    ring_produce(&ring, 5);
    ring_consume(&ring, 6);
}

/* Who has run out of them must be able to read what would close some. */
Test(ring, needs_no_descriptor) {
    struct ring ring;
    struct rlimit limit, none;
    cr_assert_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
    none = (struct rlimit){.rlim_cur = 0, .rlim_max = limit.rlim_max};
    cr_assert_eq(setrlimit(RLIMIT_NOFILE, &none), 0);
    int err = ring_init(&ring, page_bytes());
    cr_assert_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
    cr_assert_eq(err, ERR_OK);
    ring.base[0] = 1;
    cr_expect_eq(ring.base[ring.size], 1);
    ring_deinit(&ring);
}

static size_t address_space_bytes(void) {
    unsigned long pages = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    cr_assert(file && fscanf(file, "%lu", &pages) == 1);
    fclose(file);
    return pages * page_bytes();
}

Test(ring, without_address_space_it_is_an_error) {
    const size_t size = (size_t)1 << 30;
    struct ring ring;
    struct rlimit limit, tight;
    cr_assert_eq(getrlimit(RLIMIT_AS, &limit), 0);
    tight = (struct rlimit){.rlim_cur = address_space_bytes() + size, .rlim_max = limit.rlim_max};
    cr_assert_eq(setrlimit(RLIMIT_AS, &tight), 0);
    int err = ring_init(&ring, size);
    cr_assert_eq(setrlimit(RLIMIT_AS, &limit), 0);
    cr_assert_eq(err, ERR_NOMEM);
}

static unsigned maps_left = UINT_MAX; /* until one fails */
void *__real_mmap(void *at, size_t size, int prot, int flags, int fd, off_t offset);
void *__wrap_mmap(void *at, size_t size, int prot, int flags, int fd, off_t offset);
void *__wrap_mmap(void *at, size_t size, int prot, int flags, int fd, off_t offset) {
    return maps_left-- > 0 ? __real_mmap(at, size, prot, flags, fd, offset) : MAP_FAILED;
}

/* Only the addresses of the second half are given up: the kernel may have given them to somebody else. */
Test(ring, where_it_is_mapped_once_only_that_is_undone) {
    const size_t size = (size_t)1 << 20;
    struct ring ring;
    size_t before = address_space_bytes();
    unsigned descriptors = 0, now = 0;
    for (int fd = 0; fd < 100; fd++)
        descriptors += fcntl(fd, F_GETFD) >= 0;
    maps_left = 1;
    int err = ring_init(&ring, size);
    maps_left = UINT_MAX;
    for (int fd = 0; fd < 100; fd++)
        now += fcntl(fd, F_GETFD) >= 0;
    cr_assert_eq(err, ERR_NOMEM);
    cr_expect_eq(now, descriptors);
    cr_expect_lt(address_space_bytes(), before + 2 * size);
}

Test(ring_pool, lends_up_to_the_maximum_and_empties_what_comes_back) {
    enum { MAX = 7 };
    struct ring_pool pool;
    struct ring *rings[MAX];
    ring_pool_init(&pool, page_bytes(), MAX);
    for (unsigned i = 0; i < MAX; i++) {
        rings[i] = ring_pool_take(&pool);
        cr_assert_not_null(rings[i]);
        cr_assert_eq(ring_used(rings[i]), 0);
        cr_assert_eq(rings[i]->size, page_bytes());
        for (unsigned j = 0; j < i; j++)
            cr_assert_neq(rings[i]->base, rings[j]->base);
        ring_produce(rings[i], 100 + i);
    }
    cr_assert_null(ring_pool_take(&pool));
    cr_assert_eq(pool.lent, MAX);
    for (unsigned i = 0; i < MAX; i++)
        ring_pool_put(&pool, rings[i]);
    cr_assert_eq(pool.lent, 0);
    cr_assert(pool.idle > 0 && pool.idle < MAX, "a few stay mapped, the rest does not: %u", pool.idle);
    uint32_t idle = pool.idle;
    struct ring *again = ring_pool_take(&pool);
    cr_assert_eq(pool.idle, idle - 1);
    cr_assert(again->head == 0 && again->tail == 0);
    ring_pool_put(&pool, again);
    ring_pool_deinit(&pool);
}

Test(ring_pool, deinit_with_a_ring_lent_aborts, .signal = SIGABRT) {
    struct ring_pool pool;
    ring_pool_init(&pool, page_bytes(), 2);
    cr_assert_not_null(ring_pool_take(&pool));
    ring_pool_deinit(&pool);
}

Test(ring, pool_trim_unmaps_what_was_idle) {
    struct ring_pool pool;
    struct ring *a, *b;
    ring_pool_init(&pool, 1u << 16, 4);
    cr_assert_not(ring_pool_trim(&pool));
    cr_assert_not_null(a = ring_pool_take(&pool));
    cr_assert_not_null(b = ring_pool_take(&pool));
    ring_pool_put(&pool, a);
    ring_pool_put(&pool, b);
    cr_assert(ring_pool_trim(&pool), "both were lent since the last call");
    cr_assert_eq(pool.idle, 2);
    a = ring_pool_take(&pool);
    ring_pool_put(&pool, a);
    cr_assert(ring_pool_trim(&pool), "one of them was");
    cr_assert_eq(pool.idle, 1);
    cr_assert_not(ring_pool_trim(&pool));
    cr_assert_eq(pool.idle, 0);
    cr_assert_not_null(a = ring_pool_take(&pool));
    ring_pool_put(&pool, a);
    ring_pool_deinit(&pool);
}
