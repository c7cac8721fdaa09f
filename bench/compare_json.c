#include "bench/compare_json.h"
#include "bench/text.h"
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

/* What is printed of a value: enough to see what it is about. */
#define VALUE_WIDTH_MAX 60u
/* Objects are looked into only so deep, and below that compared as a whole. */
#define DEPTH_MAX 4u

/* Where in the objects: keys from the outermost one on. */
struct way {
    FILE *out;
    const char *what;
    const char *const *passed_over;
    const char *keys[DEPTH_MAX];
    unsigned depth;
};

/* Frees the text. */
static void print_cut(FILE *out, char *text) {
    if (!text)
        abort();
    text_clean(text, false);
    size_t width = text_width(text);
    text_pad(out, text, width < VALUE_WIDTH_MAX ? width : VALUE_WIDTH_MAX, false);
    free(text);
}

static void print_value(FILE *out, const json_t *value) {
    print_cut(out, value ? json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY | JSON_SORT_KEYS) : strdup("(none)"));
}

static void print_difference(const struct way *way, const json_t *old, const json_t *new) {
    fprintf(way->out, "%s differs: ", way->what);
    for (unsigned i = 0; i < way->depth; i++) {
        fputs(i ? "." : "", way->out);
        print_cut(way->out, strdup(way->keys[i]));
    }
    fputs(": ", way->out);
    print_value(way->out, old);
    fputs(" → ", way->out);
    print_value(way->out, new);
    fputc('\n', way->out);
}

static bool is_passed_over(const struct way *way, const char *key) {
    for (size_t i = 0; way->depth == 0 && way->passed_over && way->passed_over[i]; i++) {
        if (strcmp(way->passed_over[i], key) == 0)
            return true;
    }
    return false;
}

static void compare_objects(const struct way *way, const json_t *old, const json_t *new);

static void compare_member(const struct way *way, const char *key, const json_t *old, const json_t *new) {
    struct way below = *way;
    if (is_passed_over(way, key) || (old && new &&json_equal(old, new)))
        return;
    below.keys[below.depth++] = key;
    if (json_is_object(old) && json_is_object(new) && below.depth < DEPTH_MAX)
        compare_objects(&below, old, new);
    else
        print_difference(&below, old, new);
}

static void compare_objects(const struct way *way, const json_t *old, const json_t *new) {
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)old, key, value) compare_member(way, key, value, json_object_get(new, key));
    json_object_foreach((json_t *)new, key, value) {
        if (!json_object_get(old, key))
            compare_member(way, key, NULL, value);
    }
}

void compare_json(FILE *out, const char *what, const json_t *old, const json_t *new, const char *const *passed_over) {
    const struct way way = {.out = out, .what = what, .passed_over = passed_over};
    compare_objects(&way, old, new);
}
