/* The tables for a terminal and for GitHub. On a terminal every value takes two lines, so that many peers fit beside
 * one another; what does not fit follows in another block of columns:
 *
 *   bulk                  ssh→sshd      leat→leatd
 *   bulk down, 1 flow
 *     throughput, MB/s         812            1402  1.73×
 *                          790–820       1390–1411  1.70–1.75
 */
#include "bench/report_cell.h"
#include "bench/text.h"
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#define LABEL_WIDTH_MAX 34u
#define PEER_WIDTH_MAX 28u
#define GAP 3u

struct column {
    const char *peer;
    size_t values, ratios, width; /* in columns of the terminal; width: of both and what is between, or of the name */
};

struct table {
    const struct results *results;
    FILE *out;
    const char *group, *bold, *plain;
    size_t width, label_width;
    struct column *columns;
    size_t column_count;
};

static size_t larger(size_t a, size_t b) {
    return a > b ? a : b;
}

static size_t smaller(size_t a, size_t b) {
    return a < b ? a : b;
}

static void *must_have(void *memory) {
    if (!memory)
        abort();
    return memory;
}

static char *metric_label(const struct results_metric *metric) {
    char *label;
    if (asprintf(&label, "  %s, %s", metric->name, metric->unit) < 0)
        abort();
    return label;
}

static void measure_metric(struct table *table, const struct results_metric *metric) {
    char *label = metric_label(metric);
    table->label_width = larger(table->label_width, smaller(text_width(label), LABEL_WIDTH_MAX));
    free(label);
    for (size_t i = 0; i < table->column_count; i++) {
        struct column *column = &table->columns[i];
        struct report_cell cell;
        report_cell_make(table->results, metric, column->peer, &cell);
        column->values = larger(column->values, larger(text_width(cell.median), text_width(cell.spread)));
        column->ratios = larger(column->ratios, larger(text_width(cell.ratio), text_width(cell.interval)));
        column->width = larger(column->width, column->values + (column->ratios > 0 ? 2 + column->ratios : 0));
    }
}

static void measure(struct table *table) {
    const struct results_scenario *scenario;
    table->label_width = smaller(text_width(table->group), LABEL_WIDTH_MAX);
    for (size_t i = 0; i < table->column_count; i++)
        table->columns[i].width = smaller(text_width(table->columns[i].peer), PEER_WIDTH_MAX);
    for (size_t cursor = 0; (scenario = report_next(table->results, table->group, &cursor));) {
        for (size_t m = 0; m < scenario->metric_count; m++) {
            if (scenario->metrics[m].is_headline)
                measure_metric(table, &scenario->metrics[m]);
        }
    }
}

/* One of a value's two lines. Nothing is printed after the last word: a line that is exactly as wide as the terminal
 * would be followed by an empty one. */
static void print_cells(const struct table *table, const struct results_metric *metric, size_t from, size_t to,
                        bool is_second) {
    size_t space = 0;
    for (size_t i = from; i < to; i++) {
        const struct column *column = &table->columns[i];
        struct report_cell cell;
        bool is_there = report_cell_make(table->results, metric, column->peer, &cell);
        const char *value = is_second ? cell.spread : is_there ? cell.median : "–";
        const char *ratio = is_second ? cell.interval : cell.ratio;
        size_t used = column->values;
        if (*value || *ratio) {
            fprintf(table->out, "%*s", (int)(space + GAP), "");
            text_pad(table->out, value, column->values, true);
            space = 0;
        } else {
            space += GAP + used;
        }
        if (*ratio) {
            fprintf(table->out, "  %s", ratio);
            used += 2 + text_width(ratio);
        }
        space += column->width - used;
    }
    fputc('\n', table->out);
}

static bool has_second_line(const struct table *table, const struct results_metric *metric, size_t from, size_t to) {
    struct report_cell cell;
    for (size_t i = from; i < to; i++) {
        report_cell_make(table->results, metric, table->columns[i].peer, &cell);
        if (cell.spread[0] || cell.interval[0])
            return true;
    }
    return false;
}

static void print_metric(const struct table *table, const struct results_metric *metric, size_t from, size_t to) {
    char *label = metric_label(metric);
    text_pad(table->out, label, table->label_width, false);
    free(label);
    print_cells(table, metric, from, to, false);
    if (!has_second_line(table, metric, from, to))
        return;
    text_pad(table->out, "", table->label_width, false);
    print_cells(table, metric, from, to, true);
}

static void print_scenario(const struct table *table, const struct results_scenario *scenario, size_t from, size_t to) {
    bool has_any = false;
    fprintf(table->out, "%s\n", scenario->title);
    for (size_t m = 0; m < scenario->metric_count; m++) {
        if (!scenario->metrics[m].is_headline)
            continue;
        has_any = true;
        print_metric(table, &scenario->metrics[m], from, to);
    }
    if (!has_any)
        fputs("  nothing was measured\n", table->out);
}

static void print_block(const struct table *table, size_t from, size_t to) {
    const struct results_scenario *scenario;
    fprintf(table->out, "\n%s", table->bold);
    text_pad(table->out, table->group, table->label_width, false);
    for (size_t i = from; i < to; i++) {
        const struct column *column = &table->columns[i];
        size_t width = i + 1 < to ? column->width : smaller(column->width, text_width(column->peer));
        fprintf(table->out, "%*s", (int)GAP, "");
        text_pad(table->out, column->peer, width, false);
    }
    fprintf(table->out, "%s\n", table->plain);
    for (size_t cursor = 0; (scenario = report_next(table->results, table->group, &cursor));)
        print_scenario(table, scenario, from, to);
}

static void find_columns(struct table *table) {
    const char **peers = report_peers(table->results, table->group, &table->column_count);
    table->columns = must_have(calloc(table->column_count + 1, sizeof *table->columns));
    for (size_t i = 0; i < table->column_count; i++)
        table->columns[i].peer = peers[i];
    free(peers);
}

static void print_group(struct table *table, const char *group) {
    table->group = group;
    find_columns(table);
    measure(table);
    size_t from = 0;
    do {
        size_t to = from, used = table->label_width;
        while (to < table->column_count && (to == from || used + GAP + table->columns[to].width <= table->width)) {
            used += GAP + table->columns[to].width;
            to++;
        }
        print_block(table, from, to);
        from = to;
    } while (from < table->column_count);
    free(table->columns);
}

/* The text of a `|` cell. */
static void print_escaped(FILE *out, const char *text) {
    for (; *text; text++) {
        if (*text == '|' || *text == '\\')
            fputc('\\', out);
        if (*text == '<')
            fputs("&lt;", out);
        else
            fputc(*text == '\n' ? ' ' : *text, out);
    }
}

static size_t headline_count(const struct results_scenario *scenario) {
    size_t count = 0;
    for (size_t m = 0; m < scenario->metric_count; m++)
        count += scenario->metrics[m].is_headline;
    return count;
}

static void print_markdown_row(const struct table *table, const struct results_scenario *scenario,
                               const struct results_metric *metric) {
    FILE *out = table->out;
    fputs("| ", out);
    print_escaped(out, scenario->title);
    if (headline_count(scenario) > 1) {
        fputs(": ", out);
        print_escaped(out, metric->name);
    }
    fputs(", ", out);
    print_escaped(out, metric->unit);
    for (size_t i = 0; i < table->column_count; i++) {
        struct report_cell cell;
        bool is_there = report_cell_make(table->results, metric, table->columns[i].peer, &cell);
        fprintf(out, " | %s", is_there ? cell.median : "–");
        if (cell.spread[0])
            fprintf(out, " (%s)", cell.spread);
        if (cell.ratio[0])
            fprintf(out, " **%s**", cell.ratio);
        if (cell.interval[0])
            fprintf(out, " (%s)", cell.interval);
    }
    fputs(" |\n", out);
}

static void print_markdown_group(struct table *table, const char *group) {
    const struct results_scenario *scenario;
    table->group = group;
    find_columns(table);
    if (table->column_count == 0) { /* all has failed, which is said below */
        free(table->columns);
        return;
    }
    fputs("\n| ", table->out);
    print_escaped(table->out, group);
    for (size_t i = 0; i < table->column_count; i++) {
        fputs(" | ", table->out);
        print_escaped(table->out, table->columns[i].peer);
    }
    fputs(" |\n|---|", table->out);
    for (size_t i = 0; i < table->column_count; i++)
        fputs("--:|", table->out);
    fputc('\n', table->out);
    for (size_t cursor = 0; (scenario = report_next(table->results, group, &cursor));) {
        for (size_t m = 0; m < scenario->metric_count; m++) {
            if (scenario->metrics[m].is_headline)
                print_markdown_row(table, scenario, &scenario->metrics[m]);
        }
    }
    free(table->columns);
}

/* A message of several lines (the end of a process' output) stays one item. */
static void print_message(const struct table *table, const char *bullet, const char *title, const char *text) {
    fprintf(table->out, "%s%s%s", bullet, title ? title : "", title ? ": " : "");
    for (; *text; text++) {
        if (*text != '\n')
            fputc(*text, table->out);
        else if (text[1])
            fputs("\n      ", table->out);
    }
    fputc('\n', table->out);
}

static void print_messages(const struct table *table, const char *bullet) {
    const struct results *results = table->results;
    size_t failures = 0, warnings = 0;
    for (size_t i = 0; i < results->scenario_count; i++) {
        const struct results_scenario *scenario = results->scenarios[i];
        for (size_t k = 0; k < scenario->failure_count; k++) {
            if (failures++ == 0)
                fprintf(table->out, "\n%sFailures%s\n", table->bold, table->plain);
            print_message(table, bullet, scenario->title, scenario->failures[k]);
        }
    }
    for (size_t k = 0; k < results->warning_count; k++) {
        if (warnings++ == 0)
            fprintf(table->out, "\n%sWarnings%s\n", table->bold, table->plain);
        print_message(table, bullet, NULL, results->warnings[k]);
    }
    for (size_t i = 0; i < results->scenario_count; i++) {
        const struct results_scenario *scenario = results->scenarios[i];
        for (size_t k = 0; k < scenario->warning_count; k++) {
            if (warnings++ == 0)
                fprintf(table->out, "\n%sWarnings%s\n", table->bold, table->plain);
            print_message(table, bullet, scenario->title, scenario->warnings[k]);
        }
    }
}

/* What is no terminal will be read on one of common width, or in a file. */
static size_t width_of(FILE *out, bool is_terminal) {
    struct winsize size;
    if (!is_terminal || ioctl(fileno(out), TIOCGWINSZ, &size) != 0 || size.ws_col == 0)
        return 100;
    return smaller(larger(size.ws_col, 60), 250);
}

static void print_legend(const struct table *table, bool is_markdown) {
    const char *under = is_markdown ? "in brackets" : "under it";
    fprintf(table->out, "Median of the rounds, %s the lowest and the highest", under);
    if (table->results->base_peer)
        fprintf(table->out, ";%c× %s, %s the 95 %% interval", is_markdown ? ' ' : '\n', table->results->base_peer,
                under);
    fputs(".\n", table->out);
}

void report_table(const struct results *results, FILE *out, bool is_terminal, bool is_markdown) {
    bool is_bold = is_terminal && !is_markdown;
    struct table table = {
        .results = results,
        .out = out,
        .bold = is_markdown ? "**"
                : is_bold   ? "\033[1m"
                            : "",
        .plain = is_markdown ? "**\n"
                 : is_bold   ? "\033[0m"
                             : "",
        .width = width_of(out, is_terminal),
    };
    if (results->scenario_count == 0)
        fputs("Nothing was measured.\n", out);
    else
        print_legend(&table, is_markdown);
    for (size_t i = 0; i < results->scenario_count; i++) {
        if (!report_begins_group(results, i))
            continue;
        if (is_markdown)
            print_markdown_group(&table, results->scenarios[i]->group);
        else
            print_group(&table, results->scenarios[i]->group);
    }
    print_messages(&table, is_markdown ? "- " : "  ");
}
