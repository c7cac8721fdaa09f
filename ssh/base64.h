#pragma once
/* Base64 (RFC 4648 §4, padded, no line breaks), as known_hosts and public key files write it. Pure. */
#include "engine/error.h"
#include <stddef.h>
#include <stdint.h>

#define BASE64_BYTES(len) (((len) + 2) / 3 * 4 + 1)

/* Writes text and a NUL to out, which has BASE64_BYTES(len) bytes. */
void base64_encode(char *out, const void *data, size_t len);
/* Decodes text[0..len); returns the number of bytes, or ERR_LENGTH: not base64, or longer than cap. */
MUST_USE int base64_decode(uint8_t *out, size_t cap, const char *text, size_t len);
