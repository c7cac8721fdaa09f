#include "ssh/text.h"
#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

static void *need(void *memory) {
    if (!memory) {
        log_fatal("out of memory at start");
        exit(255);
    }
    return memory;
}

char *text_copy(const char *text) {
    return text ? need(strdup(text)) : NULL;
}

char *text_copy_part(const char *text, size_t len) {
    return need(strndup(text, len));
}

char *text_format(const char *format, ...) {
    char *text = NULL;
    va_list args;
    va_start(args, format);
    int len = vasprintf(&text, format, args);
    va_end(args);
    return need(len < 0 ? NULL : text);
}

void text_set(char **at, char *owned) {
    free(*at);
    *at = owned;
}

void growing_add(struct growing *growing, const char *text, size_t len) {
    if (growing->cap - growing->len <= len) {
        growing->cap = 2 * growing->cap + len + 32;
        growing->text = need(realloc(growing->text, growing->cap));
    }
    memcpy(growing->text + growing->len, text, len);
    growing->len += len;
    growing->text[growing->len] = 0;
}

char *growing_take(struct growing *growing) {
    char *text = growing->text ? growing->text : text_copy("");
    *growing = (struct growing){0};
    return text;
}

void strings_add(struct string_list *list, char *owned) {
    list->items = need(realloc(list->items, (list->count + 1) * sizeof *list->items));
    list->items[list->count++] = owned;
}

int strings_add_copy(struct string_list *list, const char *text) {
    char **items = realloc(list->items, (list->count + 1) * sizeof *items);
    if (!items)
        return ERR_NOMEM;
    list->items = items;
    items[list->count] = strdup(text);
    if (!items[list->count])
        return ERR_NOMEM;
    list->count++;
    return 0;
}

bool strings_has(const struct string_list *list, const char *text) {
    for (uint32_t i = 0; i < list->count; i++)
        if (strcmp(list->items[i], text) == 0)
            return true;
    return false;
}

void strings_clear(struct string_list *list) {
    for (uint32_t i = 0; i < list->count; i++)
        free(list->items[i]);
    free(list->items);
    *list = (struct string_list){0};
}

char *strings_join(const struct string_list *list, const char *separator) {
    struct growing joined = {0};
    for (uint32_t i = 0; i < list->count; i++) {
        if (i)
            growing_add(&joined, separator, strlen(separator));
        growing_add(&joined, list->items[i], strlen(list->items[i]));
    }
    return growing_take(&joined);
}

/* Takes one word from *at on; out has room for all of it. False: a quote was left open. */
static bool word_take(const char **at, char *out) {
    const char *from = *at;
    char quote = 0;
    for (; *from && (quote || (*from != ' ' && *from != '\t')); from++) {
        bool escapes = *from == '\\' && from[1] &&
                       (from[1] == '\'' || from[1] == '"' || from[1] == '\\' || (!quote && from[1] == ' '));
        if (escapes)
            *out++ = *++from;
        else if (!quote && (*from == '"' || *from == '\''))
            quote = *from;
        else if (quote && *from == quote)
            quote = 0;
        else
            *out++ = *from;
    }
    *out = 0;
    *at = from;
    return !quote;
}

int words_split(const char *text, struct string_list *words) {
    *words = (struct string_list){0};
    for (;;) {
        text += strspn(text, " \t");
        if (!*text || *text == '#')
            return 0;
        char *word = text_copy(text);
        bool closed = word_take(&text, word);
        strings_add(words, word);
        if (!closed) {
            strings_clear(words);
            return ERR_CONFIG;
        }
    }
}

void items_split(const char *text, struct string_list *items) {
    *items = (struct string_list){0};
    for (;;) {
        size_t len = strcspn(text, ",");
        strings_add(items, text_copy_part(text, len));
        if (!text[len])
            return;
        text += len + 1;
    }
}

static bool same(char a, char b, bool ignore_case) {
    return a == b || (ignore_case && tolower((unsigned char)a) == tolower((unsigned char)b));
}

/* On a mismatch only the last '*' is tried again one further, so the cost is bounded by length × length. */
static bool part_match(const char *text, const char *pattern, size_t len, bool ignore_case) {
    const char *end = pattern + len, *star = NULL, *resume = NULL;
    while (*text) {
        if (pattern < end && *pattern == '*') {
            star = ++pattern;
            resume = text;
        } else if (pattern < end && (*pattern == '?' || same(*pattern, *text, ignore_case))) {
            pattern++;
            text++;
        } else if (star) {
            pattern = star;
            text = ++resume;
        } else {
            return false;
        }
    }
    while (pattern < end && *pattern == '*')
        pattern++;
    return pattern == end;
}

bool pattern_match(const char *text, const char *pattern, bool ignore_case) {
    return part_match(text, pattern, strlen(pattern), ignore_case);
}

enum pattern_result pattern_list_match(const char *text, const char *patterns, bool ignore_case) {
    enum pattern_result result = PATTERN_NONE;
    for (;;) {
        bool negated = *patterns == '!';
        patterns += negated;
        size_t len = strcspn(patterns, ",");
        bool matched = part_match(text, patterns, len, ignore_case);
        if (matched && negated)
            return PATTERN_NEGATED;
        if (matched)
            result = PATTERN_MATCHED;
        if (!patterns[len])
            return result;
        patterns += len + 1;
    }
}
