#include "ssh/codec.h"
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

Test(codec, known_bytes) {
    uint8_t out[64];
    struct writer writer;
    writer_init(&writer, out, sizeof out);
    writer_u8(&writer, 0xAB);
    writer_bool(&writer, true);
    writer_bool(&writer, false);
    writer_u32(&writer, 0x29B7F4AA); /* RFC 4251 §5's example */
    writer_text(&writer, "testing");
    const uint8_t expected[] = {0xAB, 1, 0, 0x29, 0xB7, 0xF4, 0xAA, 0, 0, 0, 7, 't', 'e', 's', 't', 'i', 'n', 'g'};
    cr_assert(writer_ok(&writer));
    cr_assert_eq(writer_len(&writer), sizeof expected);
    cr_assert_arr_eq(out, expected, sizeof expected);
}

Test(codec, reads_what_was_written) {
    const uint8_t in[] = {5, 2, 0xFF, 0xFF, 0xFF, 0xFF, 0, 0, 0, 2, 'a', 'b', 0, 0, 0, 0, 9, 9};
    struct reader reader;
    reader_init(&reader, in, sizeof in);
    cr_assert_eq(reader_u8(&reader), 5);
    cr_assert(reader_bool(&reader), "every value but 0 is true");
    cr_assert_eq(reader_u32(&reader), UINT32_MAX);
    cr_assert(bytes_equal(reader_string(&reader), "ab"));
    cr_assert(bytes_equal(reader_string(&reader), ""));
    cr_assert(reader_ok(&reader));
    cr_assert_not(reader_done(&reader));
    struct bytes rest = reader_rest(&reader);
    cr_assert_eq(rest.len, 2);
    cr_assert_eq(rest.at, in + 16);
    cr_assert(reader_done(&reader));
}

Test(codec, bytes_equal_is_exact) {
    struct bytes bytes = {(const uint8_t *)"abc", 3};
    cr_assert(bytes_equal(bytes, "abc"));
    cr_assert_not(bytes_equal(bytes, "ab"));
    cr_assert_not(bytes_equal(bytes, "abcd"));
    cr_assert_not(bytes_equal(bytes, "abd"));
    cr_assert(bytes_equal((struct bytes){NULL, 0}, ""));
    cr_assert_not(bytes_equal((struct bytes){NULL, 0}, "x"));
}

/* Every prefix of a packet is bad, sticks to it, and never gives out a byte beyond itself. */
Test(codec, truncated) {
    const uint8_t whole[] = {1, 0, 0, 0, 9, 0, 0, 0, 3, 'x', 'y', 'z', 1};
    for (uint32_t len = 0; len <= sizeof whole; len++) {
        uint8_t *in = malloc(len ? len : 1);
        memcpy(in, whole, len);
        struct reader reader;
        reader_init(&reader, in, len);
        reader_u8(&reader);
        reader_u32(&reader);
        struct bytes text = reader_string(&reader);
        reader_bool(&reader);
        cr_assert_eq(reader_done(&reader), len == sizeof whole, "len %u", len);
        cr_assert_eq(reader_ok(&reader), len == sizeof whole);
        cr_assert_eq(text.len, len >= 12 ? 3 : 0);
        if (len < sizeof whole) {
            cr_assert_eq(reader_u8(&reader), 0, "a bad reader stays bad");
            cr_assert_eq(reader_rest(&reader).len, 0);
            cr_assert_not(reader_ok(&reader));
        }
        free(in);
    }
}

Test(codec, string_length_lies) {
    const uint32_t lies[] = {1, 5, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFC, UINT32_MAX};
    for (unsigned i = 0; i < sizeof lies / sizeof *lies; i++) {
        uint8_t *in = malloc(4);
        codec_put_u32(in, lies[i]);
        struct reader reader;
        reader_init(&reader, in, 4);
        cr_assert_eq(reader_string(&reader).len, 0);
        cr_assert_not(reader_ok(&reader));
        free(in);
    }
}

Test(codec, writer_full) {
    for (uint32_t cap = 0; cap <= 13; cap++) {
        uint8_t *out = malloc(cap ? cap : 1);
        struct writer writer;
        writer_init(&writer, out, cap);
        writer_u8(&writer, 1);
        writer_u32(&writer, 2);
        writer_text(&writer, "abcd");
        cr_assert_eq(writer_ok(&writer), cap >= 13, "cap %u", cap);
        cr_assert(writer_len(&writer) <= cap);
        uint32_t len = writer_len(&writer);
        if (cap < 13) {
            writer_bool(&writer, true);
            cr_assert_eq(writer_len(&writer), len, "a bad writer stays where it is");
        }
        free(out);
    }
}
