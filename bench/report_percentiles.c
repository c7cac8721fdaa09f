#include "bench/output.h"
#include "bench/results.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define NAME_BYTES_MAX 100u
/* Plotters are given milliseconds, and five rows for every halving of what is left until 100 %. */
#define UNIT_NS 1e6
#define TICKS 5u

static bool is_plain(char byte) {
    return (byte >= 'a' && byte <= 'z') || (byte >= 'A' && byte <= 'Z') || (byte >= '0' && byte <= '9') ||
           byte == '_' || byte == '+' || byte == '=';
}

/* Letters and digits stay; what is between them becomes one dash, so that names also survive other file systems and
 * shells: "leat→leatd" is leat-leatd. */
static void put_safe(FILE *out, const char *name) {
    bool is_gap = false;
    size_t written = 0;
    for (; *name && written < NAME_BYTES_MAX; name++) {
        if (!is_plain(*name)) {
            is_gap = true;
            continue;
        }
        if (is_gap && written > 0)
            fputc('-', out);
        fputc(*name, out);
        written += is_gap ? 2 : 1;
        is_gap = false;
    }
    if (written == 0)
        fputs("unnamed", out);
}

struct names {
    char **taken;
    size_t count;
};

static bool is_taken(const struct names *names, const char *name) {
    for (size_t i = 0; i < names->count; i++) {
        if (strcmp(names->taken[i], name) == 0)
            return true;
    }
    return false;
}

/* Names that have become the same are told apart by a number. */
static const char *choose_name(struct names *names, const char *scenario, const char *peer) {
    char *name = NULL;
    for (unsigned number = 1; !name || is_taken(names, name); number++) {
        size_t len;
        free(name);
        FILE *out = open_memstream(&name, &len);
        if (!out)
            abort();
        put_safe(out, scenario);
        fputc('.', out);
        put_safe(out, peer);
        if (number > 1)
            fprintf(out, ".%u", number);
        fputs(".hgrm", out);
        fclose(out);
    }
    names->taken = reallocarray(names->taken, names->count + 1, sizeof *names->taken);
    if (!names->taken)
        abort();
    names->taken[names->count++] = name;
    return name;
}

static bool write_one(const char *dir, const char *name, const struct histogram *histogram, char *why,
                      size_t why_bytes) {
    struct output output;
    char *path;
    if (asprintf(&path, "%s/%s", dir, name) < 0)
        abort();
    bool good = output_begin(&output, path, why, why_bytes);
    free(path);
    if (!good)
        return false;
    histogram_print(histogram, output.file, UNIT_NS, TICKS);
    return output_end(&output, why, why_bytes);
}

bool report_percentiles(const struct results *results, const char *dir, char *why, size_t why_bytes) {
    if (mkdir(dir, 0777) != 0 && errno != EEXIST) {
        snprintf(why, why_bytes, "%s: %s", dir, strerror(errno));
        return false;
    }
    struct names names = {0};
    bool good = true;
    for (size_t i = 0; i < results->scenario_count; i++) {
        const struct results_scenario *scenario = results->scenarios[i];
        for (size_t k = 0; k < scenario->latency_count && good; k++) {
            const struct results_latency *latency = &scenario->latencies[k];
            const char *name = choose_name(&names, scenario->name, latency->peer);
            good = write_one(dir, name, &latency->histogram, why, why_bytes);
        }
    }
    for (size_t i = 0; i < names.count; i++)
        free(names.taken[i]);
    free(names.taken);
    return good;
}
