#include "bench/html_page.h"
#include "bench/plot.h"
#include "bench_results_fixture.h"
#include "tests/skip.h"

TestSuite(bench_html, .init = fixture_setup, .fini = fixture_teardown);

static const char hostile[] = "<script>alert(\"1\")</script> & `id` $HOME \\n'";

static struct results_scenario *scenario_of(struct results *results, const char *name, const char *group,
                                            double rtt_ms) {
    json_t *parameters = json_pack("{s:f, s:s, s:f}", "rtt_ms", rtt_ms, "direction", "d", "loss", 0.0);
    struct results_scenario *scenario = results_scenario(results, name, name, group, parameters);
    json_decref(parameters);
    return scenario;
}

static void add_rounds(struct results_scenario *scenario, const char *metric, const char *peer, double value) {
    for (int i = 0; i < 5; i++)
        results_value(scenario, metric, "MB/s", RESULTS_HIGHER, true, peer, value + i);
}

static char *page_of(const struct results *results) {
    size_t len;
    const char *path = fixture_path("page.html");
    cr_assert(report_html(results, path, why, sizeof why), "%s", why);
    return fixture_read(path, &len);
}

static unsigned times_in(const char *text, const char *words) {
    unsigned count = 0;
    for (const char *at = text; (at = strstr(at, words)) != NULL; at++)
        count++;
    return count;
}

static void skip_without_gnuplot(void) {
    if (!page_can_plot())
        skip_after(fixture_teardown(), "gnuplot is not installed");
}

/* Whatever a name holds, it is text: in the page, and in what gnuplot is told. */
Test(bench_html, hostile_names) {
    struct results *results = results_new();
    json_array_append_new(results->peers, json_pack("{s:s}", "name", hostile));
    results->base_peer = strdup(hostile);
    struct results_scenario *scenario = results_scenario(results, hostile, hostile, hostile, NULL);
    add_rounds(scenario, hostile, hostile, 10);
    results_fail(scenario, "%s", hostile);
    results_scenario_warn(scenario, "%s", hostile);
    results_warn(results, "%s", hostile);
    char *page = page_of(results);
    cr_expect_null(strstr(page, "<script"), "not escaped");
    cr_expect_geq(times_in(page, "&lt;script&gt;"), 6);
    cr_expect_null(strstr(page, "uid="), "a command of a name was run");
    free(page);
    results_free(results);
}

/* Nothing is loaded from elsewhere; a browser of any width is told to use it. */
Test(bench_html, stands_alone) {
    struct results *results = results_new();
    add_rounds(scenario_of(results, "bulk/down/1", "bulk", 0), "throughput", "leat→leatd", 1000);
    char *page = page_of(results);
    cr_expect_eq(times_in(page, "src="), 0);
    cr_expect_eq(times_in(page, "http"), times_in(page, "http://www.w3.org/"), "only names of SVG's vocabularies");
    cr_expect_not_null(strstr(page, "width=device-width"));
    cr_expect_not_null(strstr(page, "leat→leatd"));
    cr_expect_not_null(strstr(page, "</html>"));
    free(page);
    results_free(results);
}

/* A figure for every headline; the time of processors in its parts; a curve of latencies; one of distance only where
 * there is one. */
Test(bench_html, figures) {
    skip_without_gnuplot();
    struct results *results = results_new();
    struct results_scenario *bulk = scenario_of(results, "bulk/down/1", "bulk", 0);
    add_rounds(bulk, "throughput", "a", 1000);
    add_rounds(bulk, "cpu", "a", 2);
    add_rounds(bulk, "client-cpu-user", "a", 1);
    struct histogram *histogram = calloc(1, sizeof *histogram);
    histogram_clear(histogram);
    for (uint64_t i = 1; i < 5000; i++)
        histogram_record(histogram, i * 1000);
    results_add_latency(bulk, "a", histogram);
    char *page = page_of(results);
    cr_expect_eq(times_in(page, "<figure>"), 4, "throughput, processor time, its part, latency");
    cr_expect_eq(times_in(page, "<svg"), times_in(page, "</svg>"));
    cr_expect_eq(times_in(page, "over distance"), 0);
    cr_expect_not_null(strstr(page, "99 %"));
    free(page);
    for (int i = 1; i < 4; i++)
        add_rounds(scenario_of(results, (const char *const[]){"0", "20", "100", "200"}[i], "rtt", 50 * i), "throughput",
                   "a", 1000 / i);
    page = page_of(results);
    cr_expect_eq(times_in(page, "over distance"), 1);
    free(page);
    free(histogram);
    results_free(results);
}

/* What the value of a round may be, gnuplot takes. */
Test(bench_html, odd_values) {
    skip_without_gnuplot();
    static const double values[] = {0, 1e-12, 1e15, -5};
    for (size_t i = 0; i < sizeof values / sizeof *values; i++) {
        struct results *results = results_new();
        results_value(scenario_of(results, "x", "x", 0), "m", "u", RESULTS_LOWER, true, "p", values[i]);
        char *page = page_of(results);
        cr_expect_eq(times_in(page, "<svg"), 1, "%g", values[i]);
        free(page);
        results_free(results);
    }
    cr_expect_null(plot_bars(NULL, 0));
    cr_expect_null(plot_lines(NULL, 0, PLOT_LINEAR));
}

Test(bench_html, no_place_for_it) {
    struct results *results = results_new();
    cr_expect_not(report_html(results, fixture_path("no/such/folder.html"), why, sizeof why));
    cr_expect_not_null(strstr(why, "folder.html"), "%s", why);
    results_free(results);
}
