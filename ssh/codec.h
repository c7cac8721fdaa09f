#pragma once
/* Reads and writes the field types of RFC 4251 §5 (byte, boolean, uint32, string), bounds-checked. The first field that
 * does not fit makes the reader or writer `bad` for good, so that a packet is parsed straight through and judged once
 * at its end. Pure; nothing is copied or allocated. */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A string field of a packet: bytes within it, not NUL-terminated. */
struct bytes {
    const uint8_t *at;
    uint32_t len;
};
bool bytes_equal(struct bytes bytes, const char *text);

static inline uint32_t codec_get_u32(const uint8_t *at) {
    return (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3];
}
static inline void codec_put_u32(uint8_t *at, uint32_t value) {
    at[0] = (uint8_t)(value >> 24);
    at[1] = (uint8_t)(value >> 16);
    at[2] = (uint8_t)(value >> 8);
    at[3] = (uint8_t)value;
}

struct reader {
    const uint8_t *at, *end;
    bool bad;
};
void reader_init(struct reader *reader, const uint8_t *at, uint32_t len);
/* 0, false or an empty string once the reader is bad. */
uint8_t reader_u8(struct reader *reader);
bool reader_bool(struct reader *reader); /* every value but 0 is true */
uint32_t reader_u32(struct reader *reader);
struct bytes reader_string(struct reader *reader);
struct bytes reader_rest(struct reader *reader); /* everything that is left */
static inline uint32_t reader_left(const struct reader *reader) {
    return (uint32_t)(reader->end - reader->at);
}
/* Every field was there. */
static inline bool reader_ok(const struct reader *reader) {
    return !reader->bad;
}
/* Every field was there, and nothing follows. */
static inline bool reader_done(const struct reader *reader) {
    return !reader->bad && reader->at == reader->end;
}

struct writer {
    uint8_t *start, *at, *end;
    bool bad;
};
void writer_init(struct writer *writer, uint8_t *at, uint32_t cap);
void writer_u8(struct writer *writer, uint8_t value);
void writer_bool(struct writer *writer, bool value);
void writer_u32(struct writer *writer, uint32_t value);
void writer_string(struct writer *writer, const void *data, size_t len);
void writer_text(struct writer *writer, const char *text); /* a string field without the NUL */
void writer_raw(struct writer *writer, const void *data, size_t len);
static inline bool writer_ok(const struct writer *writer) {
    return !writer->bad;
}
static inline uint32_t writer_len(const struct writer *writer) {
    return (uint32_t)(writer->at - writer->start);
}
