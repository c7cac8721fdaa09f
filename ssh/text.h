#pragma once
/* Strings of start-up: copies, lists, words of a configuration line, patterns (ssh_config(5) PATTERNS). Used before
 * the program does anything: an allocation that fails here ends it with one line and status 255. Main thread only. */
#include "engine/error.h"
#include "ssh/options.h"
#include <stdbool.h>
#include <stddef.h>

char *text_copy(const char *text); /* NULL gives NULL */
char *text_copy_part(const char *text, size_t len);
char *text_format(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* *at takes over owned; what it held is freed. */
void text_set(char **at, char *owned);

/* A text that grows at its end. Starts as all zero; `text` is the owner's to free, and NULL while nothing was added. */
struct growing {
    char *text;
    size_t len, cap;
};
void growing_add(struct growing *growing, const char *text, size_t len);
/* The finished text, never NULL, and the caller's. */
char *growing_take(struct growing *growing);

void strings_add(struct string_list *list, char *owned);
/* For those who must go on without memory, on any thread: adds a copy. ERR_NOMEM: the list is as it was. */
MUST_USE int strings_add_copy(struct string_list *list, const char *text);
bool strings_has(const struct string_list *list, const char *text);
void strings_clear(struct string_list *list);
char *strings_join(const struct string_list *list, const char *separator);

/* Splits the rest of a configuration line as ssh does: blanks separate; '…' and "…" quote; \ before a quote, another \
 * or (outside quotes) a space takes it literally; # at the start of a word begins a comment. ERR_CONFIG: a quote is not
 * closed (words is empty). */
MUST_USE int words_split(const char *text, struct string_list *words);
/* Splits at commas; empty items are kept. */
void items_split(const char *text, struct string_list *items);

/* '*' and '?' wildcards over the whole text. */
bool pattern_match(const char *text, const char *pattern, bool ignore_case);
enum pattern_result { PATTERN_NEGATED = -1, PATTERN_NONE = 0, PATTERN_MATCHED = 1 };
/* Comma-separated patterns; one with ! before it that matches outweighs all others. */
enum pattern_result pattern_list_match(const char *text, const char *patterns, bool ignore_case);
