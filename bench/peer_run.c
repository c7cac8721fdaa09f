#include "bench/peer_data.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

char **peer_strings(const json_t *array, const struct words *words, char *why, size_t why_bytes) {
    size_t count = json_array_size(array);
    char unknown[64] = "", **strings = calloc(count + 1, sizeof *strings);
    for (size_t i = 0; strings != NULL && i < count; i++) {
        strings[i] = words_expand(words, json_string_value(json_array_get(array, i)), unknown, sizeof unknown);
        if (strings[i] == NULL) {
            peer_strings_free(strings);
            strings = NULL;
        }
    }
    if (strings == NULL)
        snprintf(why, why_bytes, "%s%s", unknown[0] != '\0' ? "unknown word " : "out of memory", unknown);
    return strings;
}

void peer_strings_free(char **strings) {
    for (char **at = strings; at != NULL && *at != NULL; at++)
        free(*at);
    free(strings);
}

/* Programs greet in many ways: the first line that has a digit is taken for the version. */
static void add_version(FILE *out, const char *program, char *output) {
    char *rest = NULL;
    for (char *line = strtok_r(output, "\n", &rest); line != NULL; line = strtok_r(NULL, "\n", &rest))
        if (strpbrk(line, "0123456789") != NULL) {
            fprintf(out, "%s\n", line);
            return;
        }
    fprintf(out, "%s: no word on its version\n", program);
}

/* The text without its last end of line; NULL when it is empty. Takes it. */
static char *lines_or_null(char *text, size_t len) {
    if (text != NULL && len > 0) {
        text[len - 1] = '\0';
        return text;
    }
    free(text);
    return NULL;
}

char *peer_versions(const struct peers *peers, const struct peer *peer) {
    (void)peers;
    const struct peer_data *data = peer_data_of(peer);
    const json_t *commands = json_object_get(data->json, "version");
    const struct words words = {
        .values = {[WORD_BIN] = words_bin()}, .programs = data->programs, .program_count = data->program_count};
    char *text = NULL, *output, why[64];
    size_t len;
    FILE *out = peer->missing == NULL ? open_memstream(&text, &len) : NULL;
    if (out == NULL)
        return NULL;
    for (size_t i = 0; i < json_array_size(commands); i++) {
        char **argv = peer_strings(json_array_get(commands, i), &words, why, sizeof why);
        if (argv != NULL && world_run((const char *const *)argv, &output) >= 0) {
            add_version(out, argv[0], output);
            free(output);
        }
        peer_strings_free(argv);
    }
    fclose(out);
    return lines_or_null(text, len);
}

/* The first line that has the mark, from there. */
static void add_told(FILE *out, const char *log, const char *mark) {
    const char *at = strstr(log, mark);
    if (at != NULL)
        fprintf(out, "%.*s\n", (int)strcspn(at, "\r\n"), at);
}

char *peer_negotiated(struct world *world, const struct peers *peers, const struct peer *peer,
                      const struct tunnel_options *options) {
    (void)peers;
    const json_t *marks = json_object_get(json_object_get(peer_data_of(peer)->json, "negotiated"), "lines");
    struct tunnel tunnel;
    char why[256], *text = NULL;
    size_t len = 0;
    if (marks == NULL || !tunnel_launch(world, peer, options, true, &tunnel, why, sizeof why))
        return NULL;
    char *log = world_read(tunnel.client.log);
    FILE *out = log != NULL ? open_memstream(&text, &len) : NULL;
    for (size_t i = 0; out != NULL && i < json_array_size(marks); i++)
        add_told(out, log, json_string_value(json_array_get(marks, i)));
    if (out != NULL)
        fclose(out);
    free(log);
    tunnel_stop(world, &tunnel);
    return lines_or_null(text, len);
}
