#include "ssh/codec.h"
#include <string.h>

bool bytes_equal(struct bytes bytes, const char *text) {
    size_t len = strlen(text);
    return bytes.len == len && (len == 0 || memcmp(bytes.at, text, len) == 0);
}

void reader_init(struct reader *reader, const uint8_t *at, uint32_t len) {
    *reader = (struct reader){.at = at, .end = at + len};
}

/* The next len bytes, or NULL: the reader is bad, and stays where it is. */
static const uint8_t *reader_take(struct reader *reader, uint32_t len) {
    if (reader->bad || reader_left(reader) < len) {
        reader->bad = true;
        return NULL;
    }
    const uint8_t *at = reader->at;
    reader->at += len;
    return at;
}

uint8_t reader_u8(struct reader *reader) {
    const uint8_t *at = reader_take(reader, 1);
    return at ? *at : 0;
}

bool reader_bool(struct reader *reader) {
    return reader_u8(reader) != 0;
}

uint32_t reader_u32(struct reader *reader) {
    const uint8_t *at = reader_take(reader, 4);
    return at ? codec_get_u32(at) : 0;
}

struct bytes reader_string(struct reader *reader) {
    uint32_t len = reader_u32(reader);
    const uint8_t *at = reader_take(reader, len);
    return at ? (struct bytes){.at = at, .len = len} : (struct bytes){.at = reader->end};
}

struct bytes reader_rest(struct reader *reader) {
    uint32_t len = reader->bad ? 0 : reader_left(reader);
    const uint8_t *at = reader_take(reader, len);
    return (struct bytes){.at = at ? at : reader->end, .len = len};
}

void writer_init(struct writer *writer, uint8_t *at, uint32_t cap) {
    *writer = (struct writer){.start = at, .at = at, .end = at + cap};
}

static uint8_t *writer_take(struct writer *writer, size_t len) {
    if (writer->bad || (size_t)(writer->end - writer->at) < len) {
        writer->bad = true;
        return NULL;
    }
    uint8_t *at = writer->at;
    writer->at += len;
    return at;
}

void writer_u8(struct writer *writer, uint8_t value) {
    uint8_t *at = writer_take(writer, 1);
    if (at)
        *at = value;
}

void writer_bool(struct writer *writer, bool value) {
    writer_u8(writer, value ? 1 : 0);
}

void writer_u32(struct writer *writer, uint32_t value) {
    uint8_t *at = writer_take(writer, 4);
    if (at)
        codec_put_u32(at, value);
}

void writer_raw(struct writer *writer, const void *data, size_t len) {
    uint8_t *at = writer_take(writer, len);
    if (at && len > 0)
        memcpy(at, data, len);
}

void writer_string(struct writer *writer, const void *data, size_t len) {
    if (len > UINT32_MAX) {
        writer->bad = true;
        return;
    }
    writer_u32(writer, (uint32_t)len);
    writer_raw(writer, data, len);
}

void writer_text(struct writer *writer, const char *text) {
    writer_string(writer, text, strlen(text));
}
