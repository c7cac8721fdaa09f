#include "bench/stream.h"
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* The block and behind it its beginning again, so that a run from any place in it needs no second part. */
#define FILE_BYTES (STREAM_PERIOD_BYTES + STREAM_RUN_BYTES)

static const uint8_t *block;
static int block_fd = -1;

/* SplitMix64: each input its own well-mixed output. */
static uint64_t mix(uint64_t x) {
    x += UINT64_C(0x9e3779b97f4a7c15);
    x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
    return x ^ (x >> 31);
}

static void fill(uint8_t *to) {
    for (uint64_t i = 0; i < STREAM_PERIOD_BYTES; i += sizeof(uint64_t)) {
        uint64_t word = mix(i);
        size_t left = STREAM_PERIOD_BYTES - i;
        memcpy(to + i, &word, left < sizeof(word) ? left : sizeof(word));
    }
    memcpy(to + STREAM_PERIOD_BYTES, to, STREAM_RUN_BYTES);
}

bool stream_setup(void) {
    if (block != NULL)
        return true;
    int fd = memfd_create("bench-stream", MFD_CLOEXEC);
    if (fd < 0)
        return false;
    void *map = MAP_FAILED;
    if (ftruncate(fd, FILE_BYTES) == 0)
        map = mmap(NULL, FILE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (map == MAP_FAILED) {
        int error = errno;
        close(fd);
        errno = error;
        return false;
    }
    fill(map);
    mprotect(map, FILE_BYTES, PROT_READ);
    block = map;
    block_fd = fd;
    return true;
}

void stream_init(struct stream *stream, uint64_t key) {
    stream->at = 0;
    stream->start = (uint32_t)(mix(key) % STREAM_PERIOD_BYTES);
}

static size_t offset_of(const struct stream *stream) {
    return (size_t)((stream->start + stream->at) % STREAM_PERIOD_BYTES);
}

const void *stream_bytes(const struct stream *stream) {
    return block + offset_of(stream);
}

int stream_file(const struct stream *stream, int64_t *offset) {
    *offset = (int64_t)offset_of(stream);
    return block_fd;
}

void stream_skip(struct stream *stream, size_t len) {
    stream->at += len;
}

static size_t first_difference(const uint8_t *a, const uint8_t *b) {
    size_t i = 0;
    while (a[i] == b[i])
        i++;
    return i;
}

bool stream_verify(struct stream *stream, const void *data, size_t len, uint64_t *bad_at) {
    for (const uint8_t *at = data; len > 0;) {
        size_t run = len < STREAM_RUN_BYTES ? len : STREAM_RUN_BYTES;
        if (memcmp(at, stream_bytes(stream), run) != 0) {
            stream->at += first_difference(at, stream_bytes(stream));
            *bad_at = stream->at;
            return false;
        }
        stream->at += run;
        at += run;
        len -= run;
    }
    return true;
}
