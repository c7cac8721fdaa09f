/* Text for reports: names and messages may come from a results file or from the output of a process, so they are
 * cleaned before they reach a terminal; and they are UTF-8, so that bytes say nothing about columns. Pure; no state. */
#ifndef BENCH_TEXT_H
#define BENCH_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

/* In place: what is not UTF-8, and control characters, become '?'; tabs become spaces, and so do line ends unless
 * `keep_lines`. */
void text_clean(char *text, bool keep_lines);
/* Columns on a terminal. */
size_t text_width(const char *text);
/* Prints with spaces after it (before it when `to_the_right`) up to `width` columns; what is wider is cut, with an
 * ellipsis. */
void text_pad(FILE *out, const char *text, size_t width, bool to_the_right);
/* A value in about three digits, with as many decimals as `scale` needs: numbers in one cell are given the same scale.
 */
void text_number(char *out, size_t out_bytes, double value, double scale);
/* "1.73", or "0.043": three digits too, but two decimals near one. */
void text_ratio(char *out, size_t out_bytes, double ratio);

#endif
