#include "bench/stream.h"
#include <criterion/criterion.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static uint64_t random_state = 0x1234567;

static uint32_t random_below(uint32_t limit) {
    random_state = random_state * UINT64_C(6364136223846793005) + 1442695040888963407;
    return (uint32_t)(random_state >> 33) % limit;
}

/* `len` bytes of the stream from its beginning on, put together from runs of random length. */
static uint8_t *take(uint64_t key, size_t len) {
    uint8_t *bytes = malloc(len);
    struct stream stream;
    stream_init(&stream, key);
    while (stream.at < len) {
        size_t run = 1 + random_below(STREAM_RUN_BYTES);
        if (run > len - stream.at)
            run = len - (size_t)stream.at;
        memcpy(bytes + stream.at, stream_bytes(&stream), run);
        stream_skip(&stream, run);
    }
    return bytes;
}

Test(stream, setup_twice_is_setup_once) {
    struct stream stream;
    int64_t offset;
    cr_assert(stream_setup());
    stream_init(&stream, 1);
    int fd = stream_file(&stream, &offset);
    const void *bytes = stream_bytes(&stream);
    cr_assert(stream_setup());
    cr_assert_eq(stream_file(&stream, &offset), fd);
    cr_assert_eq(stream_bytes(&stream), bytes);
}

Test(stream, repeats_with_its_period_and_no_other) {
    cr_assert(stream_setup());
    size_t len = 3 * (size_t)STREAM_PERIOD_BYTES;
    uint8_t *bytes = take(7, len);
    cr_assert_eq(memcmp(bytes, bytes + STREAM_PERIOD_BYTES, len - STREAM_PERIOD_BYTES), 0);
    for (int i = 0; i < 2000; i++) {
        size_t shift = 1 + random_below(STREAM_PERIOD_BYTES - 1), at = random_below(STREAM_PERIOD_BYTES);
        cr_assert_neq(memcmp(bytes + at, bytes + at + shift, 32), 0, "32 bytes at %zu come again %zu later", at, shift);
    }
    free(bytes);
}

Test(stream, bytes_look_random) {
    cr_assert(stream_setup());
    uint8_t *bytes = take(3, STREAM_PERIOD_BYTES);
    unsigned counts[256] = {0};
    for (size_t i = 0; i < STREAM_PERIOD_BYTES; i++)
        counts[bytes[i]]++;
    for (int value = 0; value < 256; value++)
        cr_assert(counts[value] > 3700 && counts[value] < 4500, "value %d: %u times", value, counts[value]);
    free(bytes);
}

Test(stream, keys_give_different_places) {
    struct stream stream;
    uint32_t starts[1000];
    unsigned same = 0;
    for (uint32_t key = 0; key < 1000; key++) {
        stream_init(&stream, key);
        cr_assert_lt(stream.start, STREAM_PERIOD_BYTES);
        starts[key] = stream.start;
        for (uint32_t other = 0; other < key; other++)
            same += starts[other] == stream.start;
    }
    cr_assert_leq(same, 5); /* half a pair expected */
}

Test(stream, file_and_bytes_agree_at_every_edge) {
    cr_assert(stream_setup());
    struct stream stream;
    char *read_back = malloc(STREAM_RUN_BYTES);
    stream_init(&stream, 11);
    for (int i = 0; i < 40; i++) {
        /* Up to the last byte of the period every other time: the run then goes past its end. */
        uint64_t to_end = STREAM_PERIOD_BYTES - 1 - (stream.start + stream.at) % STREAM_PERIOD_BYTES;
        stream_skip(&stream, (size_t)(i % 2 ? to_end : random_below(STREAM_PERIOD_BYTES)));
        int64_t offset;
        int fd = stream_file(&stream, &offset);
        cr_assert_eq(pread(fd, read_back, STREAM_RUN_BYTES, offset), STREAM_RUN_BYTES);
        cr_assert_eq(memcmp(read_back, stream_bytes(&stream), STREAM_RUN_BYTES), 0);
    }
    free(read_back);
}

Test(stream, verifies_in_any_pieces) {
    cr_assert(stream_setup());
    size_t len = 2 * (size_t)STREAM_PERIOD_BYTES + 5;
    uint8_t *bytes = take(99, len);
    for (int round = 0; round < 20; round++) {
        struct stream stream;
        uint64_t bad_at = 0;
        stream_init(&stream, 99);
        while (stream.at < len) {
            /* Nothing, a byte, and more than a run at once come up too. */
            size_t piece = random_below(round % 2 ? 3 * STREAM_RUN_BYTES : 70000);
            if (round == 0)
                piece = len;
            if (piece > len - stream.at)
                piece = len - (size_t)stream.at;
            uint64_t before = stream.at;
            cr_assert(stream_verify(&stream, bytes + stream.at, piece, &bad_at));
            cr_assert_eq(stream.at, before + piece);
        }
    }
    free(bytes);
}

Test(stream, names_the_first_byte_that_differs) {
    cr_assert(stream_setup());
    size_t len = 700000;
    uint8_t *bytes = take(5, len);
    for (int i = 0; i < 200; i++) {
        struct stream stream;
        size_t skipped = random_below(1000), bad = i == 0 ? skipped : i == 1 ? len - 1 : skipped + random_below(600000);
        uint64_t bad_at = 0;
        bytes[bad] ^= (uint8_t)(1u << (i % 8));
        bytes[len - 1] ^= 0x80; /* a second one, later (or the same byte: another bit still) */
        stream_init(&stream, 5);
        stream_skip(&stream, skipped);
        bool same = stream_verify(&stream, bytes + skipped, len - skipped, &bad_at);
        bool undone = bad == len - 1 && i % 8 == 7;
        cr_assert_eq(same, undone);
        cr_assert(undone || bad_at == bad, "%ju instead of %zu", (uintmax_t)bad_at, bad);
        bytes[bad] ^= (uint8_t)(1u << (i % 8));
        bytes[len - 1] ^= 0x80;
    }
    free(bytes);
}

Test(stream, lost_doubled_swapped_and_foreign_bytes_do_not_match) {
    cr_assert(stream_setup());
    struct stream stream;
    uint64_t bad_at;
    uint8_t *bytes = take(1, STREAM_PERIOD_BYTES), *other = take(2, 4096);
    stream_init(&stream, 1);
    cr_assert(!stream_verify(&stream, bytes + 1, 4096, &bad_at), "the first byte lost");
    stream_init(&stream, 1);
    stream_skip(&stream, 16384);
    cr_assert(!stream_verify(&stream, bytes, 4096, &bad_at), "a packet doubled");
    stream_init(&stream, 1);
    cr_assert(!stream_verify(&stream, bytes + 32768, 4096, &bad_at), "packets swapped");
    stream_init(&stream, 1);
    cr_assert(!stream_verify(&stream, other, 4096, &bad_at), "another flow's");
    free(bytes);
    free(other);
}

Test(stream, block_cannot_be_written) {
    cr_assert(stream_setup());
    struct stream stream;
    stream_init(&stream, 1);
    uint8_t *bytes = (uint8_t *)(uintptr_t)stream_bytes(&stream);
    pid_t child = fork();
    if (child == 0) {
        signal(SIGSEGV, SIG_DFL);
        bytes[0] ^= 1;
        _exit(0);
    }
    int status;
    cr_assert_eq(waitpid(child, &status, 0), child);
    cr_assert(!WIFEXITED(status) || WEXITSTATUS(status) != 0);
}
