/* The report as one page: no script, nothing loaded from elsewhere, plots as SVG inside. */
#include "bench/html_page.h"
#include "bench/output.h"
#include "bench/report_cell.h"
#include "bench/text.h"
#include <stdlib.h>
#include <string.h>

static const char style[] =
    "<style>\n"
    ":root{color-scheme:light "
    "dark;--line:#d0d4da;--soft:#f4f5f7;--text:#1c1f23;--dim:#5f6771;--bad:#b3261e;--card:#fff}\n"
    "@media(prefers-color-scheme:dark){:root{--line:#3a4048;--soft:#22262b;--text:#e6e8eb;--dim:#9aa3ad;--bad:#ff8a80;-"
    "-card:#f4f5f7}"
    "body{background:#16191d}}\n"
    "*{box-sizing:border-box}\n"
    "body{font:15px/1.5 system-ui,sans-serif;color:var(--text);margin:0 auto;max-width:78rem;padding:1rem}\n"
    "h1{font-size:1.5rem;margin:.2rem 0}h2{font-size:1.2rem;margin:2.2rem 0 .6rem;border-bottom:1px solid "
    "var(--line)}\n"
    "p,ul{margin:.4rem 0}.dim{color:var(--dim)}.bad{color:var(--bad)}\n"
    "code{overflow-wrap:anywhere}\n"
    ".plots{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,22rem),1fr));gap:1rem}\n"
    "figure{margin:0;border:1px solid var(--line);border-radius:6px;overflow:hidden;background:var(--card)}\n"
    "figcaption{padding:.4rem .7rem;background:var(--soft);color:var(--text);font-weight:600}\n"
    "figcaption span{font-weight:400;color:var(--dim)}\n"
    "figure svg{display:block;width:100%;height:auto;max-width:34rem;margin:0 auto}\n"
    ".key{white-space:nowrap;margin-right:.6em}.key "
    "i{display:inline-block;width:.8em;height:.8em;border-radius:2px;margin-right:.25em}\n"
    ".wide{overflow-x:auto;margin:.8rem 0}\n"
    "table{border-collapse:collapse;font-variant-numeric:tabular-nums;font-size:.9rem}\n"
    "th,td{padding:.25rem .7rem;border-bottom:1px solid var(--line);text-align:right;white-space:nowrap}\n"
    "th:first-child,td:first-child{text-align:left}thead th{background:var(--soft)}\n"
    "td small{display:block;color:var(--dim)}details{margin:.8rem 0}summary{cursor:pointer}\n"
    "</style>\n";

void page_text(const struct page *page, const char *text) {
    char *clean = strdup(text);
    if (clean == NULL)
        abort();
    text_clean(clean, false);
    for (const char *at = clean; *at != '\0'; at++) {
        switch (*at) {
        case '&':
            fputs("&amp;", page->out);
            break;
        case '<':
            fputs("&lt;", page->out);
            break;
        case '>':
            fputs("&gt;", page->out);
            break;
        case '"':
            fputs("&quot;", page->out);
            break;
        case '\'':
            fputs("&#39;", page->out);
            break;
        default:
            fputc(*at, page->out);
        }
    }
    free(clean);
}

static void put_element(const struct page *page, const char *name, const char *text) {
    fprintf(page->out, "<%s>", name);
    page_text(page, text);
    fprintf(page->out, "</%s>", name);
}

const char *page_string(const json_t *object, const char *key) {
    const char *text = json_string_value(json_object_get(object, key));
    return text != NULL ? text : "";
}

/* ---- tables and text ---- */

static void table_row(const struct page *page, const struct results_scenario *scenario,
                      const struct results_metric *metric, const char *const *peers, size_t count) {
    fputs("<tr><td>", page->out);
    page_text(page, scenario->title);
    fputs("<small>", page->out);
    page_text(page, metric->name);
    fputs(", ", page->out);
    page_text(page, metric->unit);
    fputs("</small></td>", page->out);
    for (size_t i = 0; i < count; i++) {
        struct report_cell cell;
        if (!report_cell_make(page->results, metric, peers[i], &cell)) {
            fputs("<td>–</td>", page->out);
            continue;
        }
        fprintf(page->out, "<td>%s %s<small>%s%s%s</small></td>", cell.median, cell.ratio, cell.spread,
                cell.interval[0] != '\0' ? " · " : "", cell.interval);
    }
    fputs("</tr>\n", page->out);
}

static void table(const struct page *page, const char *group, bool with_all) {
    size_t count;
    const char **peers = report_peers(page->results, group, &count);
    const struct results_scenario *scenario;
    fputs("<div class=wide><table><thead><tr><th></th>", page->out);
    for (size_t i = 0; i < count; i++)
        put_element(page, "th", peers[i]);
    fputs("</tr></thead><tbody>\n", page->out);
    for (size_t cursor = 0; (scenario = report_next(page->results, group, &cursor)) != NULL;) {
        for (size_t i = 0; i < scenario->metric_count; i++) {
            if (with_all || scenario->metrics[i].is_headline)
                table_row(page, scenario, &scenario->metrics[i], peers, count);
        }
    }
    fputs("</tbody></table></div>\n", page->out);
    free(peers);
}

static void list_lines(const struct page *page, const char *title, char *const *lines, size_t count) {
    for (size_t i = 0; i < count; i++) {
        fputs("<li>", page->out);
        page_text(page, title);
        page_text(page, lines[i]);
        fputs("</li>\n", page->out);
    }
}

/* What did not work is seen at once; what makes a figure doubtful, for who asks. */
static void remarks(const struct page *page, const char *group) {
    const struct results_scenario *scenario;
    char *title;
    size_t warnings = 0;
    fputs("<ul class=bad>", page->out);
    for (size_t cursor = 0; (scenario = report_next(page->results, group, &cursor)) != NULL;) {
        warnings += scenario->warning_count;
        if (asprintf(&title, "%s: ", scenario->title) < 0)
            abort();
        list_lines(page, title, scenario->failures, scenario->failure_count);
        free(title);
    }
    fputs("</ul>\n", page->out);
    if (warnings == 0)
        return;
    fprintf(page->out, "<details class=dim><summary>%zu warning%s</summary><ul>", warnings, warnings == 1 ? "" : "s");
    for (size_t cursor = 0; (scenario = report_next(page->results, group, &cursor)) != NULL;) {
        if (asprintf(&title, "%s: ", scenario->title) < 0)
            abort();
        list_lines(page, title, scenario->warnings, scenario->warning_count);
        free(title);
    }
    fputs("</ul></details>\n", page->out);
}

static void section(const struct page *page, const char *group) {
    put_element(page, "h2", group);
    remarks(page, group);
    if (page->has_plots)
        page_figures(page, group);
    table(page, group, false);
    fputs("<details><summary>every metric</summary>", page->out);
    table(page, group, true);
    fputs("</details>\n", page->out);
}

/* An object as a table of two columns; what is nested, as JSON. */
static void object_table(const struct page *page, const char *title, const json_t *object) {
    const char *key;
    json_t *value;
    fputs("<details><summary>", page->out);
    page_text(page, title);
    fputs("</summary><div class=wide><table><tbody>", page->out);
    json_object_foreach((json_t *)object, key, value) {
        char *text =
            json_is_string(value) ? NULL : json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT | JSON_REAL_PRECISION(10));
        fputs("<tr><td>", page->out);
        page_text(page, key);
        fputs("</td><td style=\"text-align:left;white-space:normal\"><code>", page->out);
        page_text(page, text != NULL ? text : json_is_string(value) ? json_string_value(value) : "");
        fputs("</code></td></tr>\n", page->out);
        free(text);
    }
    fputs("</tbody></table></div></details>\n", page->out);
}

static void head(const struct page *page) {
    const json_t *machine = page->results->machine, *settings = page->results->settings;
    fprintf(page->out,
            "<!doctype html>\n<html lang=en><head><meta charset=utf-8>"
            "<meta name=viewport "
            "content=\"width=device-width,initial-scale=1\"><title>leat-bench</title>\n%s</head><body>\n"
            "<h1>leat-bench</h1>\n<p class=dim>",
            style);
    page_text(page, page_string(settings, "started"));
    for (size_t i = 0; i < 2; i++) {
        const char *text = page_string(machine, i == 0 ? "cpu" : "kernel");
        if (text[0] != '\0')
            fputs(" · ", page->out);
        page_text(page, text);
    }
    fputs("</p>\n<p>Medians of interleaved rounds; beneath, from the lowest to the highest round", page->out);
    if (page->results->base_peer != NULL) {
        fputs(", and the ratio to ", page->out);
        put_element(page, "b", page->results->base_peer);
        fputs(" with its 95 % interval", page->out);
    }
    fputs(".</p>\n", page->out);
    if (json_is_true(json_object_get(settings, "interrupted")))
        fputs("<p class=bad>The run was interrupted: these are the results until then.</p>\n", page->out);
    if (!page->has_plots)
        fputs("<p class=dim>No plots: gnuplot is not installed.</p>\n", page->out);
    fputs("<ul class=bad>", page->out);
    list_lines(page, "", page->results->warnings, page->results->warning_count);
    fputs("</ul>\n", page->out);
}

static void foot(const struct page *page) {
    size_t i;
    json_t *peer;
    fputs("<h2>what was measured, on what</h2>\n", page->out);
    json_array_foreach(page->results->peers, i, peer) object_table(page, page_string(peer, "name"), peer);
    object_table(page, "machine", page->results->machine);
    object_table(page, "settings", page->results->settings);
    fputs("</body></html>\n", page->out);
}

bool report_html(const struct results *results, const char *path, char *why, size_t why_bytes) {
    struct output output;
    if (!output_begin(&output, path, why, why_bytes))
        return false;
    struct page page = {.out = output.file, .results = results, .has_plots = page_can_plot()};
    head(&page);
    for (size_t i = 0; i < results->scenario_count; i++) {
        if (report_begins_group(results, i))
            section(&page, results->scenarios[i]->group);
    }
    foot(&page);
    return output_end(&output, why, why_bytes);
}
