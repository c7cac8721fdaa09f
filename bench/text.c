#include "bench/text.h"
#include <math.h>
#include <stdint.h>
#include <string.h>

/* Decodes one character (RFC 3629): its length, or 0 where there is none. */
static size_t decode(const char *text, uint32_t *code) {
    const unsigned char *byte = (const unsigned char *)text;
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    if (byte[0] < 0x80) {
        *code = byte[0];
        return 1;
    }
    size_t len = byte[0] >= 0xF0 ? 4 : byte[0] >= 0xE0 ? 3 : 2;
    if (byte[0] < 0xC2 || byte[0] > 0xF4)
        return 0;
    *code = byte[0] & (0x7Fu >> len);
    for (size_t i = 1; i < len; i++) {
        if ((byte[i] & 0xC0) != 0x80)
            return 0;
        *code = *code << 6 | (byte[i] & 0x3Fu);
    }
    bool is_surrogate = *code >= 0xD800 && *code <= 0xDFFF;
    return *code < least[len] || *code > 0x10FFFF || is_surrogate ? 0 : len;
}

static bool is_control(uint32_t code) {
    /* The marks of direction and the separators of lines can rearrange a terminal's line as well. */
    return code < 0x20 || (code >= 0x7F && code < 0xA0) || (code >= 0x200E && code <= 0x200F) ||
           (code >= 0x2028 && code <= 0x202E) || (code >= 0x2066 && code <= 0x2069);
}

void text_clean(char *text, bool keep_lines) {
    char *to = text;
    while (*text) {
        uint32_t code = 0;
        size_t len = decode(text, &code);
        if (len > 0 && !is_control(code)) {
            memmove(to, text, len);
            to += len;
        } else if (*text == '\n' && keep_lines) {
            *to++ = '\n';
        } else {
            *to++ = *text == '\n' || *text == '\t' ? ' ' : '?';
        }
        text += len > 0 ? len : 1;
    }
    *to = 0;
}

static size_t columns_of(uint32_t code) {
    static const struct {
        uint32_t first, last;
        size_t columns;
    } ranges[] = {
        {0x0300, 0x036F, 0}, {0x1100, 0x115F, 2},   {0x200B, 0x200D, 0},   {0x20D0, 0x20FF, 0}, {0x2E80, 0xA4CF, 2},
        {0xAC00, 0xD7A3, 2}, {0xF900, 0xFAFF, 2},   {0xFE00, 0xFE0F, 0},   {0xFE30, 0xFE6F, 2}, {0xFF00, 0xFF60, 2},
        {0xFFE0, 0xFFE6, 2}, {0x1F300, 0x1FAFF, 2}, {0x20000, 0x3FFFD, 2},
    };
    for (size_t i = 0; i < sizeof ranges / sizeof *ranges; i++) {
        if (code >= ranges[i].first && code <= ranges[i].last)
            return ranges[i].columns;
    }
    return 1;
}

/* The bytes of `text` that fit into `width` columns, and the columns that they fill. */
static size_t fitting(const char *text, size_t width, size_t *columns) {
    size_t bytes = 0;
    *columns = 0;
    while (text[bytes]) {
        uint32_t code = '?';
        size_t len = decode(text + bytes, &code);
        size_t more = columns_of(code);
        if (*columns + more > width)
            break;
        *columns += more;
        bytes += len > 0 ? len : 1;
    }
    return bytes;
}

size_t text_width(const char *text) {
    size_t columns;
    fitting(text, SIZE_MAX, &columns);
    return columns;
}

void text_pad(FILE *out, const char *text, size_t width, bool to_the_right) {
    size_t columns, bytes = fitting(text, width, &columns);
    bool is_cut = text[bytes] != 0;
    if (is_cut && width > 0) {
        bytes = fitting(text, width - 1, &columns);
        columns++;
    }
    int space = (int)(width - columns);
    fprintf(out, "%*s%.*s%s%*s", to_the_right ? space : 0, "", (int)bytes, text, is_cut && width > 0 ? "…" : "",
            to_the_right ? 0 : space, "");
}

void text_number(char *out, size_t out_bytes, double value, double scale) {
    double size = fabs(scale);
    int decimals = size >= 100 || size == 0 ? 0 : size >= 10 ? 1 : size >= 1 ? 2 : size >= 0.1 ? 3 : 4;
    if (size >= 1e8 || (size > 0 && size < 0.001))
        snprintf(out, out_bytes, "%.2e", value);
    else
        snprintf(out, out_bytes, "%.*f", decimals, value);
}

void text_ratio(char *out, size_t out_bytes, double ratio) {
    double size = fabs(ratio);
    if (size >= 1e6)
        snprintf(out, out_bytes, "%.1e", ratio);
    else
        snprintf(out, out_bytes, "%.*f", size >= 100 ? 0 : size >= 10 ? 1 : size >= 0.1 ? 2 : 3, ratio);
}
