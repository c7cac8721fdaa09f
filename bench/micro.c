/* leat-bench-micro: what an operation of leat's inner parts costs, in nanoseconds and in instructions.
 *
 *   leat-bench-micro [--list] [--no-instructions] [--json FILE] [NAME…]
 *
 * NAME is a benchmark ("seal/aes128-gcm/64") or the beginning of some ("seal"). Two more are for other programs:
 * --smoke runs each once and measures nothing, --once NAME OPERATIONS is what callgrind is given. */
#include "bench/micro/micro.h"
#include <errno.h>
#include <getopt.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

#define JSON_VERSION 1

static const struct micro *const tables[] = {micro_crypto, micro_engine, micro_mux};
#define TABLES (sizeof tables / sizeof tables[0])

struct options {
    bool list, smoke, once, no_instructions;
    const char *json;
    char *const *names; /* NULL-terminated; none: all */
};

static const char usage[] = "usage: leat-bench-micro [--list] [--no-instructions] [--json FILE] [NAME...]\n";

/* `name` itself, or a beginning of it that ends where a part ends. */
static bool begins(const char *name, const char *wanted) {
    size_t len = strlen(wanted);
    return len > 0 && strncmp(name, wanted, len) == 0 &&
           (name[len] == '\0' || name[len] == '/' || wanted[len - 1] == '/');
}

static bool is_wanted(const struct micro *micro, char *const *names) {
    if (!*names)
        return true;
    for (; *names; names++)
        if (begins(micro->name, *names))
            return true;
    return false;
}

static const struct micro *find(const char *name) {
    for (size_t i = 0; i < TABLES; i++)
        for (const struct micro *micro = tables[i]; micro->name; micro++)
            if (strcmp(micro->name, name) == 0)
                return micro;
    return NULL;
}

/* A name that means nothing would be a benchmark silently left out. */
static bool names_are_known(char *const *names) {
    for (; *names; names++) {
        bool known = false;
        for (size_t i = 0; i < TABLES; i++)
            for (const struct micro *micro = tables[i]; micro->name; micro++)
                known |= begins(micro->name, *names);
        if (!known) {
            fprintf(stderr, "leat-bench-micro: no benchmark '%s' (--list names them)\n", *names);
            return false;
        }
    }
    return true;
}

static int run_once(char *const *args) {
    const struct micro *micro = args[0] ? find(args[0]) : NULL;
    long operations = micro && args[1] ? strtol(args[1], NULL, 10) : 0;
    if (operations < 1 || operations > (long)micro->batch) {
        fputs(usage, stderr);
        return 2;
    }
    micro_once(micro, (uint32_t)operations);
    return 0;
}

struct result {
    struct micro_time time;
    bool has_instructions;
    double instructions;
};

static void print_head(enum micro_counter counter) {
    const char *how = micro_counter_name(counter);
    printf("instructions: %s\n\n", how ? how : "not counted");
    printf("%-32s %-26s %12s %7s %14s %9s\n", "benchmark", "operation", "ns", "±", "instructions", "GB/s");
}

static void print_result(const struct micro *micro, const struct result *result) {
    char instructions[32] = "–", rate[32] = "–";
    const struct micro_time *time = &result->time;
    double spread = (time->high_ns - time->low_ns) / 2 / time->ns * 100;
    if (result->has_instructions)
        snprintf(instructions, sizeof instructions, "%.1f", result->instructions);
    if (micro->bytes > 0)
        snprintf(rate, sizeof rate, "%.2f", micro->bytes / time->ns);
    /* A dash has three bytes and one column. */
    printf("%-32s %-26s %12.1f %5.1f %% %*s %*s\n", micro->name, micro->operation, time->ns, spread,
           result->has_instructions ? 13 : 15, instructions, micro->bytes > 0 ? 9 : 11, rate);
    fflush(stdout);
}

static json_t *result_json(const struct micro *micro, const struct result *result) {
    return json_pack("{s:s, s:s, s:i, s:f, s:f, s:f, s:i, s:o}", "name", micro->name, "operation", micro->operation,
                     "bytes", (int)micro->bytes, "ns", result->time.ns, "ns_low", result->time.low_ns, "ns_high",
                     result->time.high_ns, "samples", (int)result->time.samples, "instructions",
                     result->has_instructions ? json_real(result->instructions) : json_null());
}

static bool write_json(const char *path, enum micro_counter counter, json_t *results) {
    struct utsname name;
    if (uname(&name) != 0)
        memset(&name, 0, sizeof name);
    json_t *root = json_pack("{s:s, s:i, s:s, s:s?, s:s, s:s, s:O}", "program", "leat-bench-micro", "version",
                             JSON_VERSION, "leat", LEAT_VERSION, "instructions_by", micro_counter_name(counter),
                             "kernel", name.release, "machine", name.machine, "benchmarks", results);
    bool ok = root && json_dump_file(root, path, JSON_INDENT(2)) == 0;
    if (!ok)
        fprintf(stderr, "leat-bench-micro: %s: cannot be written\n", path);
    json_decref(root);
    return ok;
}

static void run_one(const struct micro *micro, enum micro_counter counter, json_t *results) {
    struct result result = {.has_instructions = false};
    if (isatty(STDERR_FILENO))
        fprintf(stderr, "\r%s …\033[K", micro->name);
    micro_measure(micro, &result.time);
    result.has_instructions = micro_instructions(counter, micro, &result.instructions);
    if (isatty(STDERR_FILENO))
        fprintf(stderr, "\r\033[K");
    print_result(micro, &result);
    json_array_append_new(results, result_json(micro, &result));
}

static void do_each(const struct options *options, enum micro_counter counter, json_t *results) {
    for (size_t i = 0; i < TABLES; i++)
        for (const struct micro *micro = tables[i]; micro->name; micro++) {
            if (!is_wanted(micro, options->names))
                continue;
            if (options->list)
                printf("%-32s %s\n", micro->name, micro->operation);
            else if (options->smoke)
                micro_once(micro, micro->batch);
            else
                run_one(micro, counter, results);
        }
}

static bool parse(int argc, char **argv, struct options *options) {
    enum { LIST, SMOKE, ONCE, NO_INSTRUCTIONS, JSON };
    static const struct option known[] = {
        {"list", no_argument, NULL, LIST},       {"smoke", no_argument, NULL, SMOKE},
        {"once", no_argument, NULL, ONCE},       {"no-instructions", no_argument, NULL, NO_INSTRUCTIONS},
        {"json", required_argument, NULL, JSON}, {0},
    };
    int option;
    while ((option = getopt_long(argc, argv, "", known, NULL)) != -1) {
        options->list |= option == LIST;
        options->smoke |= option == SMOKE;
        options->once |= option == ONCE;
        options->no_instructions |= option == NO_INSTRUCTIONS;
        if (option == JSON)
            options->json = optarg;
        if (option == '?')
            return false;
    }
    options->names = argv + optind;
    return !options->json || !(options->list || options->smoke || options->once);
}

int main(int argc, char **argv) {
    struct options options = {.list = false};
    if (!parse(argc, argv, &options)) {
        fputs(usage, stderr);
        return 2;
    }
    if (options.once)
        return run_once(options.names);
    if (!names_are_known(options.names))
        return 2;
    bool measures = !options.list && !options.smoke;
    enum micro_counter counter = measures && !options.no_instructions ? micro_counter_find() : MICRO_COUNTER_NONE;
    json_t *results = json_array();
    if (measures)
        print_head(counter);
    do_each(&options, counter, results);
    bool ok = !options.json || write_json(options.json, counter, results);
    json_decref(results);
    return ok ? 0 : 1;
}
