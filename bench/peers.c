#include "bench/peer_data.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define BUILTIN "built-in peers"

/* Each of "one|two" in turn; the word is the first. */
static bool find_program(struct words_program *program, const char *need, const json_t *own, const char *const *given) {
    char *names = strdup(need), *rest = NULL;
    if (names == NULL)
        return false;
    for (char *name = strtok_r(names, "|", &rest); name != NULL && program->path == NULL;
         name = strtok_r(NULL, "|", &rest)) {
        const char *path = json_string_value(json_object_get(own, name));
        if (program->name == NULL)
            program->name = strdup(name);
        program->path = path != NULL ? strdup(path) : words_find_program(name, given);
    }
    free(names);
    return program->name != NULL;
}

static bool find_programs(struct peer_data *data, const char *const *given, const struct peer_place *at) {
    const json_t *needs = json_object_get(data->json, "needs"), *own = json_object_get(data->json, "programs");
    data->programs = calloc(json_array_size(needs) + 1, sizeof *data->programs);
    for (size_t i = 0; data->programs != NULL && i < json_array_size(needs); i++) {
        const char *need = json_string_value(json_array_get(needs, i));
        if (need == NULL || need[0] == '\0')
            return peer_wrong(at, "\"needs\" is an array of programs' names");
        data->program_count = i + 1;
        if (!find_program(&data->programs[i], need, own, given))
            return peer_wrong(at, "out of memory");
        if (data->programs[i].path == NULL && data->peer.missing == NULL)
            data->peer.missing = data->programs[i].name;
    }
    return data->programs != NULL || peer_wrong(at, "out of memory");
}

static void data_free(struct peer_data *data) {
    if (data == NULL)
        return;
    for (size_t i = 0; i < data->program_count; i++) {
        free(data->programs[i].name);
        free(data->programs[i].path);
    }
    free(data->programs);
    json_decref(data->json);
    free(data);
}

const struct peer *peers_find(const struct peers *peers, const char *name) {
    for (size_t i = 0; i < peers->count; i++)
        if (strcmp(peers->at[i]->peer.name, name) == 0)
            return &peers->at[i]->peer;
    return NULL;
}

static bool inherit(const struct peers *peers, json_t *json, const struct peer_place *at) {
    const json_t *like = json_object_get(json, "like");
    if (like == NULL)
        return true;
    const struct peer *peer = json_is_string(like) ? peers_find(peers, json_string_value(like)) : NULL;
    if (peer == NULL)
        return peer_wrong(at, "\"like\" names no peer before this one");
    return json_object_update_missing(json, peer_data_of(peer)->json) == 0 || peer_wrong(at, "out of memory");
}

static void describe(struct peer_data *data) {
    const char *about = json_string_value(json_object_get(data->json, "about"));
    data->peer.name = json_string_value(json_object_get(data->json, "name"));
    data->peer.about = about != NULL ? about : "";
    data->peer.is_ssh = json_is_true(json_object_get(data->json, "ssh"));
    data->peer.can_rekey = json_object_get(data->json, "rekey") != NULL;
    data->peer.can_limit = json_object_get(data->json, "limit") != NULL;
    data->peer.has_client = json_object_get(data->json, "client") != NULL;
    data->peer.has_server = json_object_get(data->json, "server") != NULL;
}

/* In place of one of the same name, or as the last. */
static bool keep(struct peers *peers, struct peer_data *data) {
    for (size_t i = 0; i < peers->count; i++)
        if (strcmp(peers->at[i]->peer.name, data->peer.name) == 0) {
            data_free(peers->at[i]);
            peers->at[i] = data;
            return true;
        }
    struct peer_data **at = realloc(peers->at, (peers->count + 1) * sizeof *at);
    if (at == NULL)
        return false;
    peers->at = at;
    peers->at[peers->count++] = data;
    return true;
}

static bool add_peer(struct peers *peers, const json_t *json, const char *const *given, struct peer_place at) {
    struct peer_data *data = calloc(1, sizeof *data);
    if (data == NULL || (data->json = json_copy((json_t *)json)) == NULL) {
        free(data);
        return peer_wrong(&at, "out of memory");
    }
    if (inherit(peers, data->json, &at) && find_programs(data, given, &at) && peer_check(data, &at)) {
        describe(data);
        if (keep(peers, data))
            return true;
        peer_wrong(&at, "out of memory");
    }
    data_free(data);
    return false;
}

static bool add_all(struct peers *peers, json_t *json, const json_error_t *error, const char *file,
                    const struct peers_options *options, char *why, size_t why_bytes) {
    size_t i;
    json_t *peer;
    if (json == NULL)
        snprintf(why, why_bytes, error->line > 0 ? "%s:%d: %s" : "%s%.0d: %s", file, error->line, error->text);
    else if (!json_is_array(json))
        snprintf(why, why_bytes, "%s:1: an array of peers is expected", file);
    bool ok = json_is_array(json);
    json_array_foreach(json, i, peer) {
        char number[32];
        const char *name = json_string_value(json_object_get(peer, "name"));
        snprintf(number, sizeof number, "number %zu", i + 1);
        struct peer_place at = {file, name != NULL ? name : number, "", why, why_bytes};
        ok = ok && (name != NULL || peer_wrong(&at, "it has no \"name\"")) &&
             add_peer(peers, peer, options->programs, at);
    }
    json_decref(json);
    return ok;
}

static bool is_needed(const struct peers *peers, const char *given) {
    size_t len = strcspn(given, "=");
    for (size_t i = 0; i < peers->count; i++) {
        const json_t *needs = json_object_get(peers->at[i]->json, "needs");
        for (size_t n = 0; n < json_array_size(needs); n++) {
            const char *at = json_string_value(json_array_get(needs, n));
            for (; *at != '\0'; at += strcspn(at, "|"), at += *at == '|')
                if (strcspn(at, "|") == len && strncmp(at, given, len) == 0)
                    return true;
        }
    }
    return false;
}

static bool check_given(const struct peers *peers, const char *const *given, char *why, size_t why_bytes) {
    for (; given != NULL && *given != NULL; given++) {
        const char *equals = strchr(*given, '=');
        if (equals == NULL)
            snprintf(why, why_bytes, "program \"%s\": NAME=PATH is expected", *given);
        else if (!is_needed(peers, *given))
            snprintf(why, why_bytes, "program \"%s\": no peer needs it", *given);
        else if (access(equals + 1, X_OK) != 0)
            snprintf(why, why_bytes, "program \"%s\": it cannot be run", *given);
        else
            continue;
        return false;
    }
    return true;
}

struct peers *peers_load(const struct peers_options *options, char *why, size_t why_bytes) {
    json_error_t error;
    struct peers *peers = calloc(1, sizeof *peers);
    if (peers == NULL) {
        snprintf(why, why_bytes, "out of memory");
        return NULL;
    }
    json_t *json = json_loads(peers_builtin, JSON_REJECT_DUPLICATES, &error);
    bool ok = add_all(peers, json, &error, BUILTIN, options, why, why_bytes);
    if (ok && options->file != NULL) {
        json = json_load_file(options->file, JSON_REJECT_DUPLICATES, &error);
        ok = add_all(peers, json, &error, options->file, options, why, why_bytes);
    }
    if (ok && check_given(peers, options->programs, why, why_bytes))
        return peers;
    peers_free(peers);
    return NULL;
}

void peers_free(struct peers *peers) {
    if (peers == NULL)
        return;
    for (size_t i = 0; i < peers->count; i++)
        data_free(peers->at[i]);
    free(peers->at);
    free(peers);
}

size_t peers_count(const struct peers *peers) {
    return peers->count;
}

const struct peer *peers_at(const struct peers *peers, size_t index) {
    return &peers->at[index]->peer;
}
