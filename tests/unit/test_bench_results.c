#include "bench_results_fixture.h"
#include <math.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>

TestSuite(bench_results, .init = fixture_setup, .fini = fixture_teardown);

static void check_series(const struct results_series *a, const struct results_series *b) {
    cr_assert_str_eq(a->peer, b->peer);
    cr_assert_eq(a->count, b->count);
    cr_assert_eq(memcmp(a->values, b->values, a->count * sizeof *a->values), 0, "%s", a->peer);
}

static void check_metric(const struct results_metric *a, const struct results_metric *b) {
    cr_assert_str_eq(a->name, b->name);
    cr_assert_str_eq(a->unit, b->unit);
    cr_assert(a->better == b->better && a->is_headline == b->is_headline && a->count == b->count);
    for (size_t i = 0; i < a->count; i++)
        check_series(&a->series[i], &b->series[i]);
}

static void check_latency(const struct results_latency *a, const struct results_latency *b) {
    cr_assert_str_eq(a->peer, b->peer);
    cr_assert(a->histogram.count == b->histogram.count && a->histogram.min_ns == b->histogram.min_ns &&
              a->histogram.max_ns == b->histogram.max_ns && a->histogram.sum_ns == b->histogram.sum_ns);
    cr_assert_eq(memcmp(a->histogram.counts, b->histogram.counts, sizeof a->histogram.counts), 0);
}

static void check_strings(char *const *a, size_t a_count, char *const *b, size_t b_count) {
    cr_assert_eq(a_count, b_count);
    for (size_t i = 0; i < a_count; i++)
        cr_assert_str_eq(a[i], b[i]);
}

static void check_scenario(const struct results_scenario *a, const struct results_scenario *b) {
    cr_assert_str_eq(a->name, b->name);
    cr_assert_str_eq(a->title, b->title);
    cr_assert_str_eq(a->group, b->group);
    cr_assert(json_equal(a->parameters, b->parameters));
    cr_assert(a->metric_count == b->metric_count && a->latency_count == b->latency_count);
    for (size_t i = 0; i < a->metric_count; i++)
        check_metric(&a->metrics[i], &b->metrics[i]);
    for (size_t i = 0; i < a->latency_count; i++)
        check_latency(&a->latencies[i], &b->latencies[i]);
    check_strings(a->warnings, a->warning_count, b->warnings, b->warning_count);
    check_strings(a->failures, a->failure_count, b->failures, b->failure_count);
}

static void check_results(const struct results *a, const struct results *b) {
    cr_assert(json_equal(a->machine, b->machine) && json_equal(a->settings, b->settings) &&
              json_equal(a->peers, b->peers));
    cr_assert_eq(a->base_peer == NULL, b->base_peer == NULL);
    if (a->base_peer)
        cr_assert_str_eq(a->base_peer, b->base_peer);
    cr_assert_eq(a->scenario_count, b->scenario_count);
    for (size_t i = 0; i < a->scenario_count; i++)
        check_scenario(a->scenarios[i], b->scenarios[i]);
    check_strings(a->warnings, a->warning_count, b->warnings, b->warning_count);
}

static void run_round_trip(uint64_t *state) {
    struct results *results = random_results(state);
    const char *path = fixture_path("results.json");
    cr_assert(results_write(results, path, why, sizeof why), "%s", why);
    struct results *read = results_read(path, why, sizeof why);
    cr_assert_not_null(read, "%s", why);
    check_results(results, read);
    results_free(results);
    results_free(read);
}

Test(bench_results, what_is_written_is_read) {
    seed_each(40, run_round_trip);
    cr_assert_eq(fixture_empty(fixture_dir), 1, "nothing but the file itself");
}

Test(bench_results, finds_what_was_added) {
    struct results *results = results_new();
    json_t *parameters = json_pack("{s:i}", "flows", 8);
    struct results_scenario *first = results_scenario(results, "a", "A", "bulk", parameters);
    json_object_set_new(parameters, "flows", json_integer(9));
    for (int i = 0; i < 100; i++) {
        char name[16];
        snprintf(name, sizeof name, "s%d", i);
        results_scenario(results, name, name, "bulk", NULL);
    }
    cr_assert_eq(results_scenario(results, "a", "other title", "other", parameters), first, "pointers stay");
    cr_assert_str_eq(first->title, "A");
    cr_assert_eq(json_integer_value(json_object_get(first->parameters, "flows")), 8, "copied when added");
    json_decref(parameters);
    for (int i = 0; i < 9; i++)
        results_value(first, "m", "u", RESULTS_LOWER, true, i % 2 ? "odd" : "even", i);
    const struct results_metric *metric = results_find_metric(first, "m");
    const struct results_series *odd = results_find_series(metric, "odd"), *even = results_find_series(metric, "even");
    cr_assert(odd->count == 4 && even->count == 5 && odd->values[3] == 7 && even->values[4] == 8);
    cr_assert_null(results_find_metric(first, "n"));
    cr_assert_null(results_find_series(metric, "none"));
    results_free(results);
    results_free(NULL);
}

Test(bench_results, what_is_no_number_is_left_out_and_said) {
    struct results *results = results_new();
    struct results_scenario *scenario = results_scenario(results, "a", "A", "bulk", NULL);
    results_value(scenario, "ratio", "×", RESULTS_HIGHER, true, "x", NAN);
    results_value(scenario, "ratio", "×", RESULTS_HIGHER, true, "x", INFINITY);
    cr_assert_null(results_find_metric(scenario, "ratio"));
    cr_assert_eq(scenario->warning_count, 1, "a warning that comes again is there once");
    cr_assert_str_eq(scenario->warnings[0], "x: ratio is not a number and was left out");
    cr_assert_not(results_failed(results));
    results_fail(scenario, "x, round %d: wrong", 1);
    results_fail(scenario, "x, round %d: wrong", 1);
    cr_assert_eq(scenario->failure_count, 2);
    cr_assert(results_failed(results));
    results_free(results);
}

/* Messages hold the output of programs: nothing of it may reach a terminal as more than text, or break the file. */
Test(bench_results, text_is_cleaned) {
    struct results *results = results_new();
    struct results_scenario *scenario = results_scenario(results, "a\x1b[2Jb\nc", "\xff\xc0\xafx", "g\t1", NULL);
    cr_assert_str_eq(scenario->name, "a?[2Jb c");
    cr_assert_str_eq(scenario->title, "???x");
    cr_assert_str_eq(scenario->group, "g 1");
    cr_assert_eq(results_scenario(results, "a\x1b[2Jb\nc", "", "", NULL), scenario);
    results_fail(scenario, "end of output:\n\x1b]0;title\a\xc2\x9b\xed\xa0\x80→\xe2\x86");
    cr_assert_str_eq(scenario->failures[0], "end of output:\n?]0;title??"
                                            "???"
                                            "→??");
    results_warn(results, "\xf4\x90\x80\x80\xf0\x8f\xbf\xbf\xe2\x80\xae\xf4\x8f\xbf\xbd");
    cr_assert_str_eq(results->warnings[0], "?????????\xf4\x8f\xbf\xbd");
    cr_assert(results_write(results, fixture_path("r.json"), why, sizeof why), "%s", why);
    struct results *read = results_read(fixture_path("r.json"), why, sizeof why);
    cr_assert_not_null(read, "%s", why);
    check_results(results, read);
    results_free(read);
    results_free(results);
}

static struct results *small_results(void) {
    struct results *results = results_new();
    struct results_scenario *scenario = results_scenario(results, "s", "S", "g", NULL);
    for (int i = 0; i < 4000; i++)
        results_fail(scenario, "x, round %d: more than a disk of 64 KiB can take", i);
    results_value(scenario, "m", "u", RESULTS_LOWER, true, "x", 1.5);
    return results;
}

/* The disk is full: an error, the old file stays, and nothing is left beside it. */
Test(bench_results, full_disk) {
    struct results *results = small_results();
    char path[512];
    strcpy(path, fixture_path("results.json"));
    fixture_write(path, "old", 3);
    signal(SIGXFSZ, SIG_IGN);
    struct rlimit before, limit;
    getrlimit(RLIMIT_FSIZE, &before);
    limit = (struct rlimit){.rlim_cur = 65536, .rlim_max = before.rlim_max};
    setrlimit(RLIMIT_FSIZE, &limit);
    bool good = results_write(results, path, why, sizeof why);
    setrlimit(RLIMIT_FSIZE, &before);
    cr_assert_not(good);
    cr_assert(strstr(why, path) == why && strstr(why, "File too large"), "%s", why);
    char *text = fixture_read(path, NULL);
    cr_assert_str_eq(text, "old");
    free(text);
    cr_assert_eq(fixture_empty(fixture_dir), 1);
    cr_assert_not(results_write(results, "/dev/full", why, sizeof why));
    cr_assert_str_eq(why, "/dev/full: No space left on device");
    results_free(results);
}

Test(bench_results, places_that_are_no_plain_file) {
    struct results *results = small_results();
    struct stat status;
    char link[512];
    cr_assert_not(results_write(results, fixture_path("none/r.json"), why, sizeof why));
    cr_assert(strstr(why, "none/r.json: No such file or directory"), "%s", why);
    cr_assert_not(results_write(results, fixture_dir, why, sizeof why));
    cr_assert(results_write(results, "/dev/null", why, sizeof why), "%s", why);
    cr_assert(stat("/dev/null", &status) == 0 && S_ISCHR(status.st_mode), "a device stays one");
    fixture_write(fixture_path("real.json"), "", 0);
    strcpy(link, fixture_path("link.json"));
    cr_assert_eq(symlink("real.json", link), 0);
    cr_assert(results_write(results, link, why, sizeof why), "%s", why);
    cr_assert(lstat(link, &status) == 0 && S_ISLNK(status.st_mode));
    struct results *read = results_read(fixture_path("real.json"), why, sizeof why);
    cr_assert_not_null(read, "%s", why);
    results_free(read);
    results_free(results);
}

#define HEAD "{\"format\":\"leat-bench/1\",\"machine\":{},\"settings\":{},\"peers\":[],\"base_peer\":null,"
#define SCENARIO(more)                                                                                                 \
    HEAD "\"warnings\":[],\"scenarios\":[{\"name\":\"s\",\"title\":\"\",\"group\":\"\",\"parameters\":{}," more "}]}"
#define METRICS(metrics) SCENARIO("\"metrics\":[" metrics "],\"latencies\":[],\"warnings\":[],\"failures\":[]")
#define METRIC(series) "{\"name\":\"m\",\"unit\":\"\",\"better\":\"lower\",\"headline\":true,\"series\":[" series "]}"
#define LATENCIES(latencies) SCENARIO("\"metrics\":[],\"latencies\":[" latencies "],\"warnings\":[],\"failures\":[]")
#define LATENCY(min, max, sum, buckets)                                                                                \
    "{\"peer\":\"x\",\"min_ns\":" min ",\"max_ns\":" max ",\"sum_ns\":" sum ",\"buckets\":[" buckets "]}"
#define GOOD_SERIES "{\"peer\":\"x\",\"values\":[1,2.5]}"

static const struct {
    const char *text, *refusal; /* after the file's name; without a colon: jansson's words; NULL: none */
} files[] = {
    {METRICS(METRIC(GOOD_SERIES)), NULL},
    {LATENCIES(LATENCY("1001", "1001", "2002", "1000,2")), NULL},
    {LATENCIES(LATENCY("0", "0", "0", "")), NULL},
    {"", "expected near end of file"},
    {"[]", ": not an object"},
    {"{}", ": format: missing"},
    {"{\"format\":1}", ": format: not a string"},
    {"{\"format\":\"leat-bench/2\"}", ": format: not leat-bench/1: of another version, or another program's"},
    {"{\"format\":\"leat-bench/1\",\"machine\":[]}", ": machine: not an object"},
    {"{\"format\":\"leat-bench/1\",\"machine\":{},\"settings\":{},\"peers\":{}}", ": peers: not an array"},
    {"{\"format\":\"leat-bench/1\",\"machine\":{},\"settings\":{},\"peers\":[{\"name\":\"a\"},1]}",
     ": peers[1]: not an object"},
    {"{\"format\":\"leat-bench/1\",\"machine\":{},\"settings\":{},\"peers\":[{}]}", ": peers[0].name: missing"},
    {"{\"format\":\"leat-bench/1\",\"machine\":{},\"settings\":{},\"peers\":[]}", ": base_peer: missing"},
    {HEAD "\"warnings\":[]}", ": scenarios: missing"},
    {HEAD "\"scenarios\":[],\"warnings\":[\"a\",{}]}", ": warnings[1]: not a string"},
    {HEAD "\"scenarios\":[1],\"warnings\":[]}", ": scenarios[0]: not an object"},
    {HEAD "\"scenarios\":[{\"name\":\"\"}],\"warnings\":[]}", ": scenarios[0].name: empty"},
    {HEAD "\"format\":\"leat-bench/1\"}", "duplicate object key near"},
    {SCENARIO("\"metrics\":{}"), ": scenarios[0].metrics: not an array"},
    {METRICS("null"), ": scenarios[0].metrics[0]: not an object"},
    {METRICS("{\"name\":\"m\",\"unit\":\"\",\"better\":\"more\"}"),
     ": scenarios[0].metrics[0].better: neither higher, lower nor information"},
    {METRICS("{\"name\":\"m\",\"unit\":\"\",\"better\":\"lower\",\"headline\":1}"),
     ": scenarios[0].metrics[0].headline: neither true nor false"},
    {METRICS(METRIC("")), ": scenarios[0].metrics[0].series: empty"},
    {METRICS(METRIC(GOOD_SERIES "," GOOD_SERIES)), ": scenarios[0].metrics[0].series[1]: a second one of this peer"},
    {METRICS(METRIC(GOOD_SERIES) "," METRIC(GOOD_SERIES)), ": scenarios[0].metrics[1]: a second one of this name"},
    {METRICS(METRIC("{\"peer\":\"x\",\"values\":3}")), ": scenarios[0].metrics[0].series[0].values: not an array"},
    {METRICS(METRIC("{\"peer\":\"x\",\"values\":[]}")), ": scenarios[0].metrics[0].series[0].values: empty"},
    {METRICS(METRIC("{\"peer\":\"x\",\"values\":[1,\"2\"]}")),
     ": scenarios[0].metrics[0].series[0].values[1]: not a number"},
    {METRICS(METRIC("{\"peer\":\"x\",\"values\":[1e999]}")), "real number overflow near '1e999'"},
    {METRICS(METRIC("{\"peer\":\"x\",\"values\":[NaN]}")), "invalid token near 'NaN'"},
    {METRICS(METRIC("{\"peer\":\"x\x1b[31m\",\"values\":[1]}")), "control character 0x1b near '\"x'"},
    {METRICS(METRIC("{\"peer\":\"x\\u0000\",\"values\":[1]}")), "\\u0000 is not allowed"},
    {LATENCIES("{\"peer\":\"x\"}"), ": scenarios[0].latencies[0].buckets: missing"},
    {LATENCIES(LATENCY("1", "1", "1", "1")), ": scenarios[0].latencies[0].buckets: not values and counts in turn"},
    {LATENCIES(LATENCY("1", "1", "1", "1,1.0")), ": scenarios[0].latencies[0].buckets[0]: not whole numbers"},
    {LATENCIES(LATENCY("1", "1", "1", "1,1,2,-1")), ": scenarios[0].latencies[0].buckets[2]: out of range"},
    {LATENCIES(LATENCY("1", "1", "1", "-1,1")), ": scenarios[0].latencies[0].buckets[0]: out of range"},
    {LATENCIES(LATENCY("1", "2", "1", "1,9007199254740992,2,1")),
     ": scenarios[0].latencies[0].buckets[2]: out of range"},
    {LATENCIES(LATENCY("-1", "1", "1", "1,1")), ": scenarios[0].latencies[0].min_ns: out of range"},
    {LATENCIES(LATENCY("1", "2", "1", "1,1")),
     ": scenarios[0].latencies[0]: min_ns or max_ns do not belong to the buckets"},
    {LATENCIES(LATENCY("2", "1", "1", "1,1")),
     ": scenarios[0].latencies[0]: min_ns or max_ns do not belong to the buckets"},
    {LATENCIES(LATENCY("1", "1", "5", "1,1")), ": scenarios[0].latencies[0]: sum_ns does not belong to the buckets"},
    {LATENCIES(LATENCY("1", "1", "1", "1,1") "," LATENCY("1", "1", "1", "1,1")),
     ": scenarios[0].latencies[1]: a second one of this peer"},
    {SCENARIO("\"metrics\":[],\"latencies\":[],\"warnings\":[1],\"failures\":[]"),
     ": scenarios[0].warnings[0]: not a string"},
    {SCENARIO("\"metrics\":[],\"latencies\":[],\"warnings\":[]"), ": scenarios[0].failures: missing"},
};

Test(bench_results, says_what_is_wrong_and_where) {
    char path[512];
    strcpy(path, fixture_path("f.json"));
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        fixture_write(path, files[i].text, strlen(files[i].text));
        struct results *results = results_read(path, why, sizeof why);
        cr_assert_eq(results != NULL, files[i].refusal == NULL, "%s: %s", files[i].text, results ? "read" : why);
        results_free(results);
        if (!files[i].refusal)
            continue;
        cr_expect_eq(strncmp(why, path, strlen(path)), 0, "%s", why);
        const char *what = why + strlen(path);
        bool is_as_told = files[i].refusal[0] == ':' ? strcmp(what, files[i].refusal) == 0
                                                     : what[0] == ':' && strstr(what, files[i].refusal);
        cr_expect(is_as_told, "%s, expected %s, for %s", why, files[i].refusal, files[i].text);
    }
    cr_assert_null(results_read(fixture_path("none.json"), why, sizeof why));
    cr_assert(strstr(why, "none.json: No such file"), "%s", why);
    cr_assert_null(results_read(fixture_dir, why, sizeof why));
    cr_assert(strstr(why, ": Is a directory"), "%s", why);
    char small[8];
    cr_assert_null(results_read(fixture_path("none.json"), small, sizeof small));
    cr_assert_lt(strlen(small), sizeof small);
}

/* A file of one piece over and over, between a beginning and an end. */
static void write_repeated(const char *begin, const char *piece, size_t count, const char *end) {
    FILE *out = fopen(fixture_path("big.json"), "w");
    fputs(begin, out);
    for (size_t i = 0; i < count; i++)
        fputs(piece, out);
    fputs(end, out);
    cr_assert_eq(fclose(out), 0);
}

static void check_refused(const char *refusal) {
    cr_assert_null(results_read(fixture_path("big.json"), why, sizeof why));
    cr_assert(strstr(why, refusal), "%s", why);
}

Test(bench_results, what_would_exhaust_is_refused) {
    static const char values[] = HEAD "\"warnings\":[],\"scenarios\":[{\"name\":\"s\",\"title\":\"\",\"group\":\"\","
                                      "\"parameters\":{},\"metrics\":[{\"name\":\"m\",\"unit\":\"\",\"better\":"
                                      "\"lower\",\"headline\":true,\"series\":[{\"peer\":\"x\",\"values\":[1";
    write_repeated("", "[", 100000, "");
    check_refused("maximum parsing depth reached");
    write_repeated(HEAD "\"x\":[[]", ",{}", 200000, "]}");
    check_refused("bigger than results can be");
    write_repeated(HEAD "\"x\":[1", ",1", 4000000, "]}");
    check_refused("bigger than results can be");
    write_repeated("\"", "0123456789abcdef", (64u << 20) / 16, "\"");
    check_refused("bigger than results can be");
    write_repeated(values, ",1", 10000, "]}]}],\"latencies\":[],\"warnings\":[],\"failures\":[]}]}");
    check_refused("values: too long");
    write_repeated(values, ",1", 9999, "]}]}],\"latencies\":[],\"warnings\":[],\"failures\":[]}]}");
    struct results *results = results_read(fixture_path("big.json"), why, sizeof why);
    cr_assert_not_null(results, "%s", why);
    results_free(results);
    write_repeated(HEAD "\"warnings\":[\"\"", ",\"\"", 10000, "],\"scenarios\":[]}");
    check_refused("warnings: too long");
}

/* Histograms are big in memory and small in a file. */
Test(bench_results, latencies_are_counted_over_the_file) {
    FILE *out = fopen(fixture_path("big.json"), "w");
    fputs(HEAD "\"warnings\":[],\"scenarios\":[0", out);
    for (int i = 0; i < 5; i++) {
        fputs(",{\"latencies\":[0", out);
        for (int k = 0; k < (i < 4 ? 799 : 800); k++)
            fputs(",0", out);
        fputs("]}", out);
    }
    fputs("]}", out);
    cr_assert_eq(fclose(out), 0);
    check_refused("scenarios: too many latencies");
}

/* Bytes of a good file are changed, left out and doubled; whatever comes of it is read or refused with a reason. */
static void run_damaged(uint64_t *state) {
    char path[512];
    strcpy(path, fixture_path("damaged.json"));
    struct results *results = random_results(state);
    cr_assert(results_write(results, path, why, sizeof why), "%s", why);
    results_free(results);
    size_t len;
    char *text = fixture_read(path, &len);
    static const char interesting[] = "0123456789-.eE\"\\[]{},:ntf \n\x80\xff";
    for (int i = 0; i < 20; i++) {
        char *damaged = malloc(len);
        memcpy(damaged, text, len);
        size_t kept = len;
        for (uint32_t k = 1 + random_below(state, 3); k > 0; k--)
            damaged[random_below(state, (uint32_t)len)] = interesting[random_below(state, sizeof interesting - 1)];
        if (random_chance(state, 5))
            kept = random_below(state, (uint32_t)len);
        fixture_write(path, damaged, kept);
        free(damaged);
        why[0] = 0;
        results = results_read(path, why, sizeof why);
        cr_assert(results || strncmp(why, path, strlen(path)) == 0, "%s", why);
        results_free(results);
    }
    free(text);
}

Test(bench_results, damaged_files) {
    seed_each(15, run_damaged);
}
