#include "bench/json_read.h"
#include "bench/text.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Ten times what the standard set over a dozen peers comes to. */
#define FILE_BYTES_MAX (64u << 20)
/* A value in an array takes jansson some 50 bytes, one in an object 120, and an empty object 250: half a gigabyte. */
#define COMMAS_MAX 4000000u
#define OPENINGS_MAX 200000u

static char *read_stream(FILE *in, size_t *len) {
    char *text = NULL;
    size_t room = 0;
    *len = 0;
    for (;;) {
        if (*len == room) {
            room = room ? room * 2 : 1 << 16;
            text = realloc(text, room);
            if (!text)
                abort();
        }
        size_t got = fread(text + *len, 1, room - *len, in);
        *len += got;
        if (got == 0 || *len > FILE_BYTES_MAX)
            return text;
    }
}

/* Counts inside strings too: an honest file has few there. */
static bool is_too_rich(const char *text, size_t len) {
    size_t commas = 0, openings = 0;
    for (size_t i = 0; i < len; i++) {
        commas += text[i] == ',';
        openings += text[i] == '[' || text[i] == '{';
    }
    return commas > COMMAS_MAX || openings > OPENINGS_MAX;
}

static json_t *parse(const struct json_read *read, const char *text, size_t len) {
    if (len > FILE_BYTES_MAX || is_too_rich(text, len)) {
        snprintf(read->why, read->why_bytes, "%s: bigger than results can be", read->path);
        return NULL;
    }
    json_error_t error;
    json_t *json = json_loadb(text, len, JSON_REJECT_DUPLICATES, &error);
    if (json)
        return json;
    text_clean(error.text, false); /* quotes the file */
    snprintf(read->why, read->why_bytes, "%s:%d:%d: %s", read->path, error.line, error.column, error.text);
    return NULL;
}

json_t *json_read_file(const struct json_read *read) {
    FILE *in = fopen(read->path, "re");
    if (!in) {
        snprintf(read->why, read->why_bytes, "%s: %s", read->path, strerror(errno));
        return NULL;
    }
    size_t len;
    errno = 0;
    char *text = read_stream(in, &len);
    json_t *json = NULL;
    if (ferror(in))
        snprintf(read->why, read->why_bytes, "%s: %s", read->path, strerror(errno));
    else
        json = parse(read, text, len);
    fclose(in);
    free(text);
    return json;
}

struct json_where json_below(const struct json_where *up, const char *key) {
    return (struct json_where){.read = up->read, .up = up, .key = key};
}

struct json_where json_element(const struct json_where *up, size_t index) {
    return (struct json_where){.read = up->read, .up = up, .index = index};
}

static void print_where(FILE *out, const struct json_where *where) {
    if (!where->up)
        return;
    print_where(out, where->up);
    if (where->key)
        fprintf(out, "%s%s", where->up->up ? "." : "", where->key);
    else
        fprintf(out, "[%zu]", where->index);
}

bool json_refuse(const struct json_where *at, const char *what) {
    char *text = NULL;
    size_t len;
    FILE *out = open_memstream(&text, &len);
    if (!out)
        abort();
    print_where(out, at);
    fprintf(out, "%s%s", at->up ? ": " : "", what);
    fclose(out);
    snprintf(at->read->why, at->read->why_bytes, "%s: %s", at->read->path, text);
    free(text);
    return false;
}

bool json_refuse_below(const struct json_where *at, const char *key, const char *what) {
    struct json_where where = json_below(at, key);
    return json_refuse(&where, what);
}

static json_t *get(const struct json_where *at, const json_t *object, const char *key, bool is_right(const json_t *),
                   const char *what) {
    json_t *value = json_object_get(object, key);
    if (value && is_right(value))
        return value;
    json_refuse_below(at, key, value ? what : "missing");
    return NULL;
}

static bool is_array(const json_t *value) {
    return json_is_array(value);
}
static bool is_object(const json_t *value) {
    return json_is_object(value);
}
static bool is_string(const json_t *value) {
    return json_is_string(value);
}
static bool is_number(const json_t *value) {
    return json_is_number(value);
}
static bool is_integer(const json_t *value) {
    return json_is_integer(value);
}
static bool is_boolean(const json_t *value) {
    return json_is_boolean(value);
}

json_t *json_get_array(const struct json_where *at, const json_t *object, const char *key, size_t count_max) {
    json_t *array = get(at, object, key, is_array, "not an array");
    if (!array || json_array_size(array) <= count_max)
        return array;
    json_refuse_below(at, key, "too long");
    return NULL;
}

json_t *json_get_object(const struct json_where *at, const json_t *object, const char *key) {
    return get(at, object, key, is_object, "not an object");
}

const char *json_get_string(const struct json_where *at, const json_t *object, const char *key) {
    return json_string_value(get(at, object, key, is_string, "not a string"));
}

const char *json_get_name(const struct json_where *at, const json_t *object, const char *key) {
    const char *name = json_get_string(at, object, key);
    if (!name || *name)
        return name;
    json_refuse_below(at, key, "empty");
    return NULL;
}

bool json_get_number(const struct json_where *at, const json_t *object, const char *key, double *number) {
    const json_t *value = get(at, object, key, is_number, "not a number");
    if (value)
        *number = json_number_value(value);
    return value;
}

bool json_get_count(const struct json_where *at, const json_t *object, const char *key, uint64_t *count) {
    const json_t *value = get(at, object, key, is_integer, "not a whole number");
    if (!value)
        return false;
    if (json_integer_value(value) < 0 || json_integer_value(value) > JSON_COUNT_MAX)
        return json_refuse_below(at, key, "out of range");
    *count = (uint64_t)json_integer_value(value);
    return true;
}

bool json_get_bool(const struct json_where *at, const json_t *object, const char *key, bool *value) {
    const json_t *found = get(at, object, key, is_boolean, "neither true nor false");
    *value = json_is_true(found);
    return found;
}

bool json_want_object(const struct json_where *at, const json_t *value) {
    return json_is_object(value) || json_refuse(at, "not an object");
}
