/* A line for every value (RFC 4180, but with plain line ends): what spreadsheets, R and pandas turn into any table. */
#include "bench/output.h"
#include "bench/results.h"
#include <string.h>

static void print_field(FILE *out, const char *text, const char *after) {
    if (!strpbrk(text, ",\"\n\r")) {
        fprintf(out, "%s%s", text, after);
        return;
    }
    fputc('"', out);
    for (; *text; text++) {
        if (*text == '"')
            fputc('"', out);
        fputc(*text, out);
    }
    fprintf(out, "\"%s", after);
}

static void print_metric(FILE *out, const struct results_scenario *scenario, const struct results_metric *metric) {
    static const char *const better[] = {
        [RESULTS_HIGHER] = "higher", [RESULTS_LOWER] = "lower", [RESULTS_INFORMATION] = ""};
    for (size_t s = 0; s < metric->count; s++) {
        const struct results_series *series = &metric->series[s];
        for (size_t i = 0; i < series->count; i++) {
            print_field(out, scenario->group, ",");
            print_field(out, scenario->name, ",");
            print_field(out, scenario->title, ",");
            print_field(out, series->peer, ",");
            print_field(out, metric->name, ",");
            print_field(out, metric->unit, ",");
            fprintf(out, "%s,%zu,%.17g\n", better[metric->better], i + 1, series->values[i]);
        }
    }
}

bool report_csv(const struct results *results, const char *path, char *why, size_t why_bytes) {
    struct output output;
    if (!output_begin(&output, path, why, why_bytes))
        return false;
    fputs("group,scenario,title,peer,metric,unit,better,round,value\n", output.file);
    for (size_t i = 0; i < results->scenario_count; i++) {
        const struct results_scenario *scenario = results->scenarios[i];
        for (size_t m = 0; m < scenario->metric_count; m++)
            print_metric(output.file, scenario, &scenario->metrics[m]);
    }
    return output_end(&output, why, why_bytes);
}
