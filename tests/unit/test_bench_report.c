#include "bench/text.h"
#include "bench_results_fixture.h"
#include <pty.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <termios.h>

TestSuite(bench_report, .init = fixture_setup, .fini = fixture_teardown);

static char *table_of(const struct results *results, bool is_terminal, bool is_markdown) {
    char *text = NULL;
    size_t len;
    FILE *out = open_memstream(&text, &len);
    report_table(results, out, is_terminal, is_markdown);
    fclose(out);
    return text;
}

static void add(struct results_scenario *scenario, const char *metric, const char *unit, const char *peer, double first,
                double step) {
    for (int i = 0; i < 3; i++)
        results_value(scenario, metric, unit, RESULTS_HIGHER, true, peer, first + step * i);
}

static struct results *example(void) {
    struct results *results = results_new();
    results->base_peer = strdup("ssh→sshd");
    json_decref(results->peers);
    results->peers = json_pack("[{s:s}, {s:s}]", "name", "ssh→sshd", "name", "leat→leatd");
    struct results_scenario *bulk = results_scenario(results, "bulk/down/1", "bulk down, 1 flow", "bulk", NULL);
    add(bulk, "throughput", "MB/s", "leat→leatd", 1400, 0);
    add(bulk, "throughput", "MB/s", "ssh→sshd", 700, 0);
    add(bulk, "cpu", "s/GB", "ssh→sshd", 2, 0.25);
    results_value(bulk, "rss", "MB", RESULTS_LOWER, false, "ssh→sshd", 12345);
    struct results_scenario *opens = results_scenario(results, "opens", "opens", "opens", NULL);
    results_value(opens, "rate", "1/s", RESULTS_HIGHER, true, "socat", 0.5);
    results_fail(bulk, "socat, round 2: truncated\nlast words\n");
    results_scenario_warn(opens, "noisy");
    results_warn(results, "no pins");
    return results;
}

Test(bench_report, table) {
    struct results *results = example();
    char *text = table_of(results, false, false);
    cr_assert_str_eq(text, "Median of the rounds, under it the lowest and the highest;\n"
                           "× ssh→sshd, under it the 95 % interval.\n"
                           "\n"
                           "bulk                 ssh→sshd    leat→leatd\n"
                           "bulk down, 1 flow\n"
                           "  throughput, MB/s         700   1400  2.00×\n"
                           "                                       2.00–2.00\n"
                           "  cpu, s/GB               2.25      –\n"
                           "                     2.00–2.50\n"
                           "\n"
                           "opens         socat\n"
                           "opens\n"
                           "  rate, 1/s   0.500\n"
                           "\n"
                           "Failures\n"
                           "  bulk down, 1 flow: socat, round 2: truncated\n"
                           "      last words\n"
                           "\n"
                           "Warnings\n"
                           "  no pins\n"
                           "  opens: noisy\n");
    free(text);
    results_free(results);
}

Test(bench_report, markdown) {
    struct results *results = example();
    struct results_scenario *scenario = results_scenario(results, "odd", "a|b <c>", "odd\\", NULL);
    results_value(scenario, "m", "u", RESULTS_HIGHER, true, "x|y", 42);
    char *text = table_of(results, true, true);
    cr_assert_str_eq(text, "Median of the rounds, in brackets the lowest and the highest; × ssh→sshd, in brackets the "
                           "95 % interval.\n"
                           "\n"
                           "| bulk | ssh→sshd | leat→leatd |\n"
                           "|---|--:|--:|\n"
                           "| bulk down, 1 flow: throughput, MB/s | 700 | 1400 **2.00×** (2.00–2.00) |\n"
                           "| bulk down, 1 flow: cpu, s/GB | 2.25 (2.00–2.50) | – |\n"
                           "\n"
                           "| opens | socat |\n"
                           "|---|--:|\n"
                           "| opens, 1/s | 0.500 |\n"
                           "\n"
                           "| odd\\\\ | x\\|y |\n"
                           "|---|--:|\n"
                           "| a\\|b &lt;c>, u | 42.0 |\n"
                           "\n"
                           "**Failures**\n"
                           "\n"
                           "- bulk down, 1 flow: socat, round 2: truncated\n"
                           "      last words\n"
                           "\n"
                           "**Warnings**\n"
                           "\n"
                           "- no pins\n"
                           "- opens: noisy\n");
    free(text);
    results_free(results);
}

Test(bench_report, headings_are_bold_on_a_terminal_only) {
    struct results *results = example();
    char *bold = table_of(results, true, false), *plain = table_of(results, false, false);
    cr_assert(strstr(bold, "\033[1mbulk "));
    cr_assert(strstr(bold, "\033[1mFailures\033[0m\n"));
    cr_assert_null(strchr(plain, '\033'));
    free(bold);
    free(plain);
    results_free(results);
}

Test(bench_report, nothing_measured) {
    struct results *results = results_new();
    char *text = table_of(results, false, false);
    cr_assert_str_eq(text, "Nothing was measured.\n");
    free(text);
    results_fail(results_scenario(results, "s", "all failed", "g", NULL), "x: no");
    text = table_of(results, false, false);
    cr_assert(strstr(text, "all failed\n  nothing was measured\n"), "%s", text);
    cr_assert(strstr(text, "Failures\n  all failed: x: no\n"), "%s", text);
    free(text);
    text = table_of(results, false, true);
    cr_assert_null(strstr(text, "| g"));
    free(text);
    results_free(results);
}

static struct results *many_peers(void) {
    struct results *results = results_new();
    results->base_peer = strdup("p3 漢字");
    struct results_scenario *scenario = results_scenario(results, "s", "s", "g", NULL);
    for (int i = 0; i < 13; i++) {
        char peer[64];
        snprintf(peer, sizeof peer, "p%d %s", i, i % 3 ? "→→ a long name that has no end at all" : "漢字");
        add(scenario, "throughput", "MB/s", peer, 100000 + i * 1000, 7);
    }
    return results;
}

/* Every peer's column is there once, and no line is wider than it may be. */
static void check_blocks(char *text, size_t width) {
    unsigned columns = 0, values = 0;
    char *rest;
    for (char *line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
        cr_assert_leq(text_width(line), width, "%s", line);
        for (char *at = line; line[0] == 'g' && (at = strstr(at, "   p")); at++)
            columns++;
        for (char *at = strstr(line, "throughput"); at && (at = strstr(at, " 1")); at++)
            values++;
    }
    cr_assert_eq(columns, 13);
    cr_assert_geq(values, 13);
}

Test(bench_report, many_peers_are_wrapped_into_blocks) {
    struct results *results = many_peers();
    char *text = table_of(results, false, false);
    cr_assert(strstr(text, "…"), "%s", text);
    check_blocks(text, 100);
    free(text);
    results_free(results);
}

Test(bench_report, as_wide_as_the_terminal) {
    struct results *results = many_peers();
    const unsigned short widths[] = {80, 120};
    for (int i = 0; i < 2; i++) {
        int master, slave;
        struct winsize size = {.ws_row = 24, .ws_col = widths[i]};
        struct termios raw;
        cr_assert_eq(openpty(&master, &slave, NULL, NULL, &size), 0);
        tcgetattr(slave, &raw);
        cfmakeraw(&raw);
        tcsetattr(slave, TCSANOW, &raw);
        FILE *out = fdopen(slave, "w");
        char text[16384];
        setvbuf(out, text, _IOFBF, sizeof text); /* looked at before it is written: a terminal takes only so much */
        report_table(results, out, true, false);
        for (char *at = text; (at = strpbrk(at, "\033"));)
            memmove(at, strchr(at, 'm') + 1, strlen(strchr(at, 'm') + 1) + 1);
        check_blocks(text, widths[i]);
        text[0] = 0;
        tcflush(slave, TCIOFLUSH);
        close(master);
        fclose(out);
    }
    results_free(results);
}

static void run_any_table(uint64_t *state) {
    struct results *results = random_results(state);
    for (int i = 0; i < 4; i++) {
        char *text = table_of(results, i & 1, i & 2);
        cr_assert_gt(strlen(text), 0);
        free(text);
    }
    results_free(results);
}

Test(bench_report, any_results) {
    seed_each(10, run_any_table);
}

/* Takes a field off a line of CSV as RFC 4180 has it. */
static char *take_field(char **at) {
    char *field = *at, *to = *at, *from = *at;
    bool is_quoted = *from == '"';
    for (from += is_quoted; *from && (is_quoted ? *from != '"' || from[1] == '"' : !strchr(",\n", *from)); from++) {
        from += is_quoted && *from == '"';
        *to++ = *from;
    }
    from += is_quoted;
    cr_assert(*from == ',' || *from == '\n');
    *at = from + 1;
    *to = 0;
    return field;
}

static void check_csv(const struct results *results, char *at) {
    static const char *const better[] = {"higher", "lower", ""};
    for (size_t i = 0; i < results->scenario_count; i++) {
        const struct results_scenario *scenario = results->scenarios[i];
        for (size_t m = 0; m < scenario->metric_count; m++) {
            const struct results_metric *metric = &scenario->metrics[m];
            for (size_t v = 0, s = 0; s < metric->count; v++) {
                if (v == metric->series[s].count) {
                    s++;
                    v = (size_t)-1;
                    continue;
                }
                cr_assert_str_eq(take_field(&at), scenario->group);
                cr_assert_str_eq(take_field(&at), scenario->name);
                cr_assert_str_eq(take_field(&at), scenario->title);
                cr_assert_str_eq(take_field(&at), metric->series[s].peer);
                cr_assert_str_eq(take_field(&at), metric->name);
                cr_assert_str_eq(take_field(&at), metric->unit);
                cr_assert_str_eq(take_field(&at), better[metric->better]);
                cr_assert_eq(strtoul(take_field(&at), NULL, 10), v + 1);
                cr_assert_eq(strtod(take_field(&at), NULL), metric->series[s].values[v]);
            }
        }
    }
    cr_assert_eq(*at, 0);
}

static void run_csv(uint64_t *state) {
    struct results *results = random_results(state);
    cr_assert(report_csv(results, fixture_path("r.csv"), why, sizeof why), "%s", why);
    char *text = fixture_read(fixture_path("r.csv"), NULL);
    const char *head = "group,scenario,title,peer,metric,unit,better,round,value\n";
    cr_assert_eq(strncmp(text, head, strlen(head)), 0);
    check_csv(results, text + strlen(head));
    free(text);
    results_free(results);
}

Test(bench_report, csv_has_every_value) {
    seed_each(30, run_csv);
    struct results *results = example();
    cr_assert_not(report_csv(results, "/dev/full", why, sizeof why));
    cr_assert_str_eq(why, "/dev/full: No space left on device");
    results_free(results);
}

static void add_latency(struct results *results, const char *scenario, const char *peer, uint64_t ns) {
    static struct histogram histogram;
    histogram_clear(&histogram);
    histogram_record(&histogram, ns);
    results_add_latency(results_scenario(results, scenario, scenario, "g", NULL), peer, &histogram);
}

static void check_percentile_file(const char *name, const char *value) {
    char path[600];
    snprintf(path, sizeof path, "%s/%s", fixture_path("percentiles"), name);
    char *text = fixture_read(path, NULL);
    cr_assert(strstr(text, "1/(1-Percentile)") && strstr(text, value), "%s: %s", name, text);
    free(text);
}

Test(bench_report, percentiles) {
    struct results *results = results_new();
    char dir[512], endless[301], *name;
    memset(endless, 'e', 300);
    endless[300] = 0;
    strcpy(dir, fixture_path("percentiles"));
    add_latency(results, "latency/64 B", "leat→leatd", 1000000);
    add_latency(results, "latency-64 B", "leat→leatd", 2000000);
    add_latency(results, "../../etc/x", "→", 3000000);
    add_latency(results, ".hidden", endless, 4000000);
    for (int i = 0; i < 2; i++) /* into a new folder, and into that which is there */
        cr_assert(report_percentiles(results, dir, why, sizeof why), "%s", why);
    check_percentile_file("latency-64-B.leat-leatd.hgrm", "       1.000 1.000000000000          1\n");
    check_percentile_file("latency-64-B.leat-leatd.2.hgrm", "       2.000 1.000000000000          1\n");
    check_percentile_file("etc-x.unnamed.hgrm", "       3.000 1.000000000000          1\n");
    endless[100] = 0;
    cr_assert_gt(asprintf(&name, "hidden.%s.hgrm", endless), 0);
    check_percentile_file(name, "       4.000 1.000000000000          1\n");
    free(name);
    cr_assert_eq(fixture_empty(dir), 4);
    cr_assert_not(report_percentiles(results, fixture_path("none/there"), why, sizeof why));
    cr_assert(strstr(why, "none/there: No such file or directory"), "%s", why);
    fixture_write(fixture_path("file"), "", 0);
    cr_assert_not(report_percentiles(results, fixture_path("file"), why, sizeof why));
    cr_assert(strstr(why, ": Not a directory"), "%s", why);
    results_free(results);
}

static void check_pad(const char *text, size_t width, bool to_the_right, const char *expected) {
    char *padded = NULL;
    size_t len;
    FILE *out = open_memstream(&padded, &len);
    text_pad(out, text, width, to_the_right);
    fclose(out);
    cr_expect_str_eq(padded, expected);
    free(padded);
}

Test(bench_report, columns_are_not_bytes) {
    cr_assert_eq(text_width(""), 0);
    cr_assert_eq(text_width("leat→leatd"), 10);
    cr_assert_eq(text_width("漢字"), 4);
    cr_assert_eq(text_width("e\xcc\x81"), 1);
    cr_assert_eq(text_width("\xff\xff"), 2);
    check_pad("a→", 4, false, "a→  ");
    check_pad("a→", 4, true, "  a→");
    check_pad("a→b", 3, false, "a→b");
    check_pad("a→bc", 3, false, "a→…");
    check_pad("漢字", 3, false, "漢…");
    check_pad("漢字", 2, true, " …");
    check_pad("abc", 1, false, "…");
    check_pad("abc", 0, false, "");
}

Test(bench_report, numbers_in_three_digits) {
    char text[32];
    const struct {
        double value, scale;
        const char *expected;
    } numbers[] = {{0, 0, "0"},
                   {1234.5, 1234.5, "1234"},
                   {99.96, 99.96, "100.0"},
                   {12.34, 12.34, "12.3"},
                   {1.234, 1.234, "1.23"},
                   {0.1234, 0.1234, "0.123"},
                   {0.00123, 0.00123, "0.0012"},
                   {1e-9, 1e-9, "1.00e-09"},
                   {2e12, 2e12, "2.00e+12"},
                   {7, 500, "7"},
                   {-12.34, -12.34, "-12.3"}};
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        text_number(text, sizeof text, numbers[i].value, numbers[i].scale);
        cr_expect_str_eq(text, numbers[i].expected);
    }
    const double ratios[] = {1.734, 0.0432, 0.2, 12.34, 123.4, 2e7};
    const char *const expected[] = {"1.73", "0.043", "0.20", "12.3", "123", "2.0e+07"};
    for (size_t i = 0; i < 6; i++) {
        text_ratio(text, sizeof text, ratios[i]);
        cr_expect_str_eq(text, expected[i]);
    }
}
