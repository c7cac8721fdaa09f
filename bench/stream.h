/* Keyed content: every flow carries a stream that its receiver can check byte by byte, and that costs next to nothing
 * to make. One block of pseudo-random bytes, the same in every process, is repeated; the key of a flow says where in it
 * the flow begins. The period is a prime near 1 MiB, so that bytes which are lost, doubled, swapped or another flow's
 * do not match. Thread-safe once stream_setup has run. */
#ifndef BENCH_STREAM_H
#define BENCH_STREAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define STREAM_PERIOD_BYTES 1048573u
/* What one call of stream_bytes or stream_file offers at most. */
#define STREAM_RUN_BYTES (256u << 10)

struct stream {
    uint64_t at; /* bytes of the stream before this position */
    uint32_t start;
};

/* Makes the block and the file behind it; once, before threads. False with errno set. */
bool stream_setup(void);
void stream_init(struct stream *stream, uint64_t key);
/* The next `len` bytes (at most STREAM_RUN_BYTES); the position stays. */
const void *stream_bytes(const struct stream *stream);
/* The same bytes as a place in a file, for sendfile(2): descriptor (never closed), offset. STREAM_RUN_BYTES from there
 * are the stream's. */
int stream_file(const struct stream *stream, int64_t *offset);
void stream_skip(struct stream *stream, size_t len);
/* Compares what arrived with the stream and moves on. False at the first byte that differs: *bad_at is its position. */
bool stream_verify(struct stream *stream, const void *data, size_t len, uint64_t *bad_at);

#endif
