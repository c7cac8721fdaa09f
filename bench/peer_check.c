/* Is what a file says about a peer what peers.h promises to understand? */
#include "bench/peer_data.h"
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define WORDS_ALL ((1u << WORD_COUNT) - 1)
/* {rekey} is nothing where there may be no rekeying; likewise {limit}. */
#define WORDS_TUNNEL (WORDS_ALL & ~(1u << WORD_REKEY) & ~(1u << WORD_LIMIT))
#define WORDS_REKEY (WORDS_TUNNEL | 1u << WORD_REKEY)
#define WORDS_LIMIT (WORDS_TUNNEL | 1u << WORD_LIMIT)
#define WORDS_NONE (1u << WORD_BIN)

bool peer_wrong(const struct peer_place *at, const char *format, ...) {
    char text[512];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    snprintf(at->why, at->why_bytes, "%s: peer \"%s\"%s%s%s: %s", at->file, at->peer, at->key[0] != '\0' ? ", \"" : "",
             at->key, at->key[0] != '\0' ? "\"" : "", text);
    return false;
}

/* What a checking walk carries. */
struct check {
    struct peer_place at;
    struct words words; /* those that the key may use stand for themselves */
    struct peer_data *data;
};

static bool check_string(struct check *check, const json_t *value) {
    static const enum word of_keys[] = {WORD_KEYS, WORD_HOST_PUBLIC_KEY, WORD_USER_PUBLIC_KEY};
    char unknown[64];
    const char *text = json_string_value(value);
    if (text == NULL)
        return peer_wrong(&check->at, "a string is expected");
    char *expanded = words_expand(&check->words, text, unknown, sizeof unknown);
    if (expanded == NULL)
        return peer_wrong(&check->at, unknown[0] != '\0' ? "unknown word %s" : "out of memory%s", unknown);
    free(expanded);
    for (unsigned i = 0; i < sizeof of_keys / sizeof of_keys[0]; i++)
        check->data->uses_keys |= words_uses(text, of_keys[i]);
    return true;
}

static bool check_strings(struct check *check, const json_t *value) {
    if (!json_is_array(value))
        return peer_wrong(&check->at, "an array of strings is expected");
    for (size_t i = 0; i < json_array_size(value); i++)
        if (!check_string(check, json_array_get(value, i)))
            return false;
    return true;
}

static bool check_command(struct check *check, const json_t *value) {
    return check_strings(check, value) && (json_array_size(value) > 0 || peer_wrong(&check->at, "an empty command"));
}

static bool check_commands(struct check *check, const json_t *value) {
    if (!json_is_array(value))
        return peer_wrong(&check->at, "an array of commands is expected");
    for (size_t i = 0; i < json_array_size(value); i++)
        if (!check_command(check, json_array_get(value, i)))
            return false;
    return true;
}

static bool check_line(struct check *check, json_t *line) {
    if (!json_is_object(line))
        return check_string(check, line);
    if (json_object_size(line) != 2 || json_object_get(line, "line") == NULL || json_object_get(line, "if") == NULL)
        return peer_wrong(&check->at, "a line is a string or {\"line\": …, \"if\": […]}");
    return check_string(check, json_object_get(line, "line")) && check_command(check, json_object_get(line, "if"));
}

static bool check_files(struct check *check, const json_t *value) {
    const char *name;
    json_t *lines;
    if (!json_is_object(value))
        return peer_wrong(&check->at, "an object of files is expected");
    json_object_foreach((json_t *)value, name, lines) {
        if (name[0] == '\0' || name[0] == '/' || strstr(name, "..") != NULL)
            return peer_wrong(&check->at, "\"%s\" is not in the tunnel's folder", name);
        if (!json_is_array(lines))
            return peer_wrong(&check->at, "\"%s\": an array of lines is expected", name);
        for (size_t i = 0; i < json_array_size(lines); i++)
            if (!check_line(check, json_array_get(lines, i)))
                return false;
    }
    return true;
}

static bool check_bool(struct check *check, const json_t *value) {
    return json_is_boolean(value) || peer_wrong(&check->at, "true or false is expected");
}

static bool check_programs(struct check *check, const json_t *value) {
    const char *name;
    json_t *path;
    if (!json_is_object(value))
        return peer_wrong(&check->at, "an object of paths is expected");
    json_object_foreach((json_t *)value, name, path) {
        if (!json_is_string(path))
            return peer_wrong(&check->at, "\"%s\": a path is expected", name);
        if (access(json_string_value(path), X_OK) != 0)
            return peer_wrong(&check->at, "%s cannot be run", json_string_value(path));
    }
    return true;
}

static bool check_negotiated(struct check *check, const json_t *value) {
    return (json_object_size(value) == 2 || peer_wrong(&check->at, "\"arguments\" and \"lines\" are expected")) &&
           check_strings(check, json_object_get(value, "arguments")) &&
           check_strings(check, json_object_get(value, "lines"));
}

static const struct key {
    const char *name;
    bool (*check)(struct check *check, const json_t *value);
    unsigned words; /* a bit for each that it may use, beside programs */
} keys[] = {
    {"name", check_string, WORDS_NONE},           {"about", check_string, WORDS_NONE},
    {"like", check_string, WORDS_NONE},           {"needs", check_strings, WORDS_NONE},
    {"programs", check_programs, WORDS_NONE},     {"folders", check_strings, WORDS_NONE},
    {"files", check_files, WORDS_TUNNEL},         {"prepare", check_commands, WORDS_TUNNEL},
    {"server", check_command, WORDS_TUNNEL},      {"client", check_command, WORDS_TUNNEL},
    {"environment", check_strings, WORDS_TUNNEL}, {"ssh", check_bool, WORDS_NONE},
    {"rekey", check_strings, WORDS_REKEY},        {"negotiated", check_negotiated, WORDS_TUNNEL},
    {"limit", check_strings, WORDS_LIMIT},        {"version", check_commands, WORDS_NONE},
};

static const struct key *find_key(const char *name) {
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++)
        if (strcmp(keys[i].name, name) == 0)
            return &keys[i];
    return NULL;
}

static bool check_keys(struct check *check) {
    const char *name;
    json_t *value;
    json_object_foreach(check->data->json, name, value) {
        const struct key *key = find_key(name);
        check->at.key = name;
        if (key == NULL)
            return peer_wrong(&check->at, "no such key");
        for (unsigned i = 0; i < WORD_COUNT; i++)
            check->words.values[i] = key->words & 1u << i ? "" : NULL;
        if (!key->check(check, value))
            return false;
    }
    check->at.key = "";
    if (json_object_get(check->data->json, "client") == NULL &&
        (json_object_get(check->data->json, "rekey") != NULL ||
         json_object_get(check->data->json, "negotiated") != NULL))
        return peer_wrong(&check->at, "\"rekey\" and \"negotiated\" are a client's");
    return true;
}

bool peer_check(struct peer_data *data, const struct peer_place *at) {
    struct check check = {
        .at = *at, .words = {.programs = data->programs, .program_count = data->program_count}, .data = data};
    return check_keys(&check);
}
