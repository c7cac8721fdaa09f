#pragma once
/* Random results, and files in a folder that goes at the end. */
#include "bench/results.h"
#include "seed.h"
#include <criterion/criterion.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char fixture_dir[64];
static char why[512] __attribute__((unused));

static inline const char *fixture_path(const char *name) {
    static char path[512];
    snprintf(path, sizeof path, "%s/%s", fixture_dir, name);
    return path;
}

static inline void fixture_setup(void) {
    strcpy(fixture_dir, "/tmp/bench-results-test.XXXXXX");
    cr_assert_not_null(mkdtemp(fixture_dir));
}

/* Removes the files of the folder and of those in it; returns how many were in it. */
static inline unsigned fixture_empty(const char *dir) {
    unsigned count = 0;
    DIR *entries = opendir(dir);
    for (struct dirent *entry; entries && (entry = readdir(entries));) {
        char *path;
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        cr_assert_gt(asprintf(&path, "%s/%s", dir, entry->d_name), 0);
        count++;
        if (unlink(path) != 0) {
            fixture_empty(path);
            rmdir(path);
        }
        free(path);
    }
    if (entries)
        closedir(entries);
    return count;
}

static inline void fixture_teardown(void) {
    fixture_empty(fixture_dir);
    rmdir(fixture_dir);
    seed_report();
}

/* The whole file; free it. */
static inline char *fixture_read(const char *path, size_t *len) {
    FILE *in = fopen(path, "r");
    cr_assert_not_null(in, "%s", path);
    char *text = NULL;
    size_t room = 0;
    ssize_t got = getdelim(&text, &room, 0, in);
    fclose(in);
    if (len)
        *len = got < 0 ? 0 : (size_t)got;
    if (got < 0)
        text[0] = 0;
    return text;
}

static inline void fixture_write(const char *path, const void *text, size_t len) {
    FILE *out = fopen(path, "w");
    cr_assert(out && fwrite(text, 1, len, out) == len && fclose(out) == 0);
}

static inline double random_double(uint64_t *state) {
    double value = (double)random_u32(state) / UINT32_MAX;
    static const double scales[] = {1e-12, 1e-3, 1, 1, 1, 1000, 1e6, 1e12, 1e300};
    return random_chance(state, 10) ? 0 : value * scales[random_below(state, 9)];
}

/* With letters of one to four bytes, and what JSON, CSV and Markdown have to escape. */
static inline const char *random_text(uint64_t *state) {
    static const char *const pieces[] = {"a", "bulk", "/", "→", "\"", "\\", ",", "|", " ", "é", "😀", "漢", "=", "<"};
    static char texts[8][64];
    static unsigned next;
    char *text = texts[next++ % 8];
    text[0] = 0;
    for (uint32_t i = random_below(state, 10) + 1; i > 0; i--)
        strcat(text, pieces[random_below(state, 14)]);
    return text;
}

static inline void random_metrics(struct results_scenario *scenario, uint64_t *state) {
    char peers[5][72], name[72];
    for (uint32_t m = random_below(state, 4); m > 0; m--) {
        snprintf(name, sizeof name, "%u%s", m, random_text(state));
        uint32_t peer_count = 1 + random_below(state, 5);
        enum results_better better = (enum results_better)random_below(state, 3);
        bool is_headline = random_chance(state, 2);
        const char *unit = random_text(state);
        for (uint32_t p = 0; p < peer_count; p++) {
            snprintf(peers[p], sizeof peers[p], "%u%s", p, random_text(state));
            for (uint32_t v = 1 + random_below(state, 9); v > 0; v--)
                results_value(scenario, name, unit, better, is_headline, peers[p], random_double(state));
        }
    }
}

static inline void random_latency(struct results_scenario *scenario, uint64_t *state) {
    static struct histogram histogram;
    histogram_clear(&histogram);
    for (uint32_t v = random_below(state, 50); v > 0; v--)
        histogram_record(&histogram, random_u32(state) >> random_below(state, 32));
    results_add_latency(scenario, random_text(state), &histogram);
}

static inline struct results *random_results(uint64_t *state) {
    struct results *results = results_new();
    json_object_set_new(results->machine, "cpu", json_string(random_text(state)));
    json_object_set_new(results->settings, "rounds", json_integer(random_below(state, 100)));
    for (uint32_t i = random_below(state, 4); i > 0; i--)
        json_array_append_new(results->peers, json_pack("{s:s}", "name", random_text(state)));
    if (random_chance(state, 2))
        results->base_peer = strdup(random_text(state));
    for (uint32_t i = random_below(state, 6); i > 0; i--) {
        json_t *parameters = json_pack("{s:f}", "rate", random_double(state));
        struct results_scenario *scenario =
            results_scenario(results, random_text(state), random_text(state), random_text(state), parameters);
        json_decref(parameters);
        random_metrics(scenario, state);
        for (uint32_t k = random_below(state, 3); k > 0; k--)
            random_latency(scenario, state);
        for (uint32_t k = random_below(state, 3); k > 0; k--)
            results_scenario_warn(scenario, "%s", random_text(state));
        for (uint32_t k = random_below(state, 3); k > 0; k--)
            results_fail(scenario, "%s\n%s", random_text(state), random_text(state));
    }
    for (uint32_t k = random_below(state, 3); k > 0; k--)
        results_warn(results, "%s", random_text(state));
    return results;
}
