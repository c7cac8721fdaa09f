#include "ssh/base64.h"
#include <stdbool.h>
#include <string.h>

static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

void base64_encode(char *out, const void *data, size_t len) {
    const uint8_t *in = data;
    for (; len > 0; out += 4) {
        size_t n = len < 3 ? len : 3;
        uint32_t bits = (uint32_t)in[0] << 16 | (n > 1 ? (uint32_t)in[1] << 8 : 0) | (n > 2 ? in[2] : 0);
        out[0] = digits[bits >> 18];
        out[1] = digits[bits >> 12 & 63];
        out[2] = n > 1 ? digits[bits >> 6 & 63] : '=';
        out[3] = n > 2 ? digits[bits & 63] : '=';
        in += n;
        len -= n;
    }
    *out = '\0';
}

static int digit_value(char c) {
    const char *at = c ? strchr(digits, c) : NULL;
    return at ? (int)(at - digits) : -1;
}

int base64_decode(uint8_t *out, size_t cap, const char *text, size_t len) {
    if (len % 4 != 0)
        return ERR_LENGTH;
    size_t made = 0;
    for (size_t at = 0; at < len; at += 4) {
        bool last = at + 4 == len;
        size_t padding = last && text[at + 3] == '=' ? (text[at + 2] == '=' ? 2 : 1) : 0;
        uint32_t bits = 0;
        for (size_t i = 0; i < 4; i++) {
            int value = i >= 4 - padding ? 0 : digit_value(text[at + i]);
            if (value < 0)
                return ERR_LENGTH;
            bits = bits << 6 | (uint32_t)value;
        }
        if (made + 3 - padding > cap)
            return ERR_LENGTH;
        for (size_t i = 0; i < 3 - padding; i++)
            out[made++] = (uint8_t)(bits >> (16 - 8 * i));
    }
    return (int)made;
}
