#pragma once
/* The kinds of values that configuration keywords take, as text. Each returns false for what is not one; *value is
 * then unchanged. Any thread; a service is looked up in a file. */
#include <stdbool.h>
#include <stdint.h>

bool value_flag(const char *text, bool *value);                     /* yes no true false */
bool value_number(const char *text, uint64_t max, uint64_t *value); /* decimal digits only */
bool value_seconds(const char *text, uint32_t *value);              /* "90", "1h30m"; units s m h d w */
bool value_size(const char *text, uint64_t *bytes);                 /* "65536", "16M"; K M G T, powers of 1024 */
bool value_port(const char *text, uint16_t *port);                  /* 0–65535 or a TCP service's name */
