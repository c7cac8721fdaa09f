#include "bench/plot.h"
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define WIDTH 480
#define BAR_HEIGHT 26
#define AXIS_HEIGHT 44
#define LINES_HEIGHT 300
#define SVG_BYTES_MAX (8u << 20)

extern char **environ;

static const char *const colors[] = {"#7a828c", "#1565c0", "#29a3e0", "#2e7d32", "#ef6c00",
                                     "#8e24aa", "#c62828", "#00897b", "#6d4c41", "#f9a825"};
static const char *const part_colors[PLOT_PARTS_MAX] = {"#64b5f6", "#1565c0", "#ffb74d", "#e65100"};

const char *plot_part_color(size_t part) {
    return part_colors[part % PLOT_PARTS_MAX];
}

static const char *color_of(unsigned index) {
    return colors[index % (sizeof colors / sizeof *colors)];
}

/* In a datablock a quoted word ends at a quote, and a line at its end; gnuplot knows some escapes inside. */
static void put_word(FILE *script, const char *text) {
    fputc('"', script);
    for (; *text != '\0'; text++) {
        unsigned char c = (unsigned char)*text;
        fputc(c == '"' || c == '`' ? '\'' : c == '\\' || c == '$' || c < ' ' ? ' ' : c, script);
    }
    fputc('"', script);
}

/* ---- gnuplot ---- */

static bool spawn_gnuplot(int script, int out, pid_t *pid) {
    static char program[] = "gnuplot";
    char *argv[] = {program, NULL};
    posix_spawn_file_actions_t actions;
    if (posix_spawn_file_actions_init(&actions) != 0)
        return false;
    bool ok = posix_spawn_file_actions_adddup2(&actions, script, STDIN_FILENO) == 0 &&
              posix_spawn_file_actions_adddup2(&actions, out, STDOUT_FILENO) == 0 &&
              posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, "/dev/null", O_WRONLY, 0) == 0 &&
              posix_spawnp(pid, program, &actions, NULL, argv, environ) == 0;
    posix_spawn_file_actions_destroy(&actions);
    return ok;
}

static char *read_all(int fd) {
    char *text = NULL;
    size_t len = 0, cap = 0;
    for (;;) {
        if (cap - len < 65536) {
            char *more = cap < SVG_BYTES_MAX ? realloc(text, cap + (256u << 10)) : NULL;
            if (more == NULL)
                break;
            text = more;
            cap += 256u << 10;
        }
        ssize_t n = read(fd, text + len, cap - len - 1);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0) {
            text[len] = '\0';
            if (n == 0)
                return text;
            break;
        }
        len += (size_t)n;
    }
    free(text);
    return NULL;
}

/* The SVG element alone, without what introduces a file of its own. */
static char *element_of(char *svg) {
    char *start = svg != NULL ? strstr(svg, "<svg") : NULL;
    bool is_whole = start != NULL && strstr(start, "</svg>") != NULL;
    char *element = is_whole ? strdup(start) : NULL;
    free(svg);
    return element;
}

static char *draw(FILE *script) {
    int pipe_fds[2] = {-1, -1}, status = -1;
    pid_t pid = 0;
    char *svg = NULL;
    bool ok = fflush(script) == 0 && lseek(fileno(script), 0, SEEK_SET) == 0 && pipe2(pipe_fds, O_CLOEXEC) == 0 &&
              spawn_gnuplot(fileno(script), pipe_fds[1], &pid);
    if (pipe_fds[1] >= 0)
        close(pipe_fds[1]);
    if (ok)
        svg = read_all(pipe_fds[0]);
    if (pipe_fds[0] >= 0)
        close(pipe_fds[0]);
    fclose(script);
    while (ok && waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    if (status != 0) {
        free(svg);
        return NULL;
    }
    return element_of(svg);
}

/* A script is a file that gnuplot reads as its standard input. Each plot has names of its own, as all stand in one
 * page. */
static FILE *script_begin(int height) {
    static unsigned number;
    int fd = memfd_create("plot", MFD_CLOEXEC);
    FILE *script = fd >= 0 ? fdopen(fd, "w") : NULL;
    if (script == NULL) {
        if (fd >= 0)
            close(fd);
        return NULL;
    }
    fprintf(script,
            "set encoding utf8\n"
            "set terminal svg size %d,%d dynamic noenhanced font 'sans-serif,14' name 'plot%u'\n"
            "set border 3 lc rgb '#888888'\nset tics nomirror textcolor rgb '#333333'\n"
            "set grid back lc rgb '#dddddd' lt 1\n",
            WIDTH, height, ++number);
    return script;
}

/* ---- bars and stacks ---- */

static FILE *bars_begin(size_t count, double top) {
    FILE *script = script_begin(AXIS_HEIGHT + BAR_HEIGHT * (int)count);
    if (script == NULL)
        return NULL;
    fprintf(script,
            "unset key\nset grid noytics\nset ytics scale 0\nset xtics autofreq\nset border 2\n"
            "set yrange [%zu.5:-0.5]\nset xrange [0:%.17g]\n",
            count - 1, top > 0 ? 1.25 * top : 1.0);
    return script;
}

static const double half_bar = 0.36;

char *plot_bars(const struct plot_bar *bars, size_t count) {
    double top = 0;
    for (size_t i = 0; i < count; i++)
        top = fmax(top, fmax(bars[i].value, bars[i].high));
    FILE *script = count > 0 ? bars_begin(count, top) : NULL;
    if (script == NULL)
        return NULL;
    fputs("$bars << END_OF_BARS\n", script);
    for (size_t i = 0; i < count; i++) {
        put_word(script, bars[i].label);
        fprintf(script, " %.17g %.17g %.17g 0x%s ", bars[i].value, bars[i].low, bars[i].high,
                color_of(bars[i].color) + 1);
        put_word(script, bars[i].text);
        fputc('\n', script);
    }
    fprintf(script,
            "END_OF_BARS\n"
            "set style fill solid 1.0 noborder\n"
            "plot $bars using (0):0:(0):2:($0-%g):($0+%g):5:ytic(1) with boxxyerror lc rgb variable,\\\n"
            "  '' using 2:0:3:4 with xerrorbars lc rgb '#222222' pt 0,\\\n"
            "  '' using ($4>$2?$4:$2):0:6 with labels left offset 0.8,0\n",
            half_bar, half_bar);
    return draw(script);
}

char *plot_stacks(const struct plot_stack *stacks, size_t count) {
    double top = 0;
    for (size_t i = 0; i < count; i++) {
        double sum = 0;
        for (size_t part = 0; part < PLOT_PARTS_MAX; part++)
            sum += stacks[i].parts[part];
        top = fmax(top, sum);
    }
    FILE *script = count > 0 ? bars_begin(count, top) : NULL;
    if (script == NULL)
        return NULL;
    fputs("$stacks << END_OF_STACKS\n", script);
    for (size_t i = 0; i < count; i++) {
        double sum = 0;
        put_word(script, stacks[i].label);
        for (size_t part = 0; part < PLOT_PARTS_MAX; part++)
            fprintf(script, " %.17g", sum += stacks[i].parts[part]);
        fputc(' ', script);
        put_word(script, stacks[i].text);
        fputc('\n', script);
    }
    fputs("END_OF_STACKS\nset style fill solid 1.0 noborder\nplot ", script);
    for (unsigned part = 0; part < PLOT_PARTS_MAX; part++) { /* the second column is the first part's end, and so on */
        char from[16] = "0";
        if (part > 0)
            snprintf(from, sizeof from, "$%u", part + 1);
        fprintf(script, "%s using (0):0:(%s):%u:($0-%g):($0+%g)%s with boxxyerror lc rgb '%s',\\\n",
                part == 0 ? "$stacks" : "  ''", from, part + 2, half_bar, half_bar, part == 0 ? ":ytic(1)" : "",
                plot_part_color(part));
    }
    fprintf(script, "  '' using %u:0:%u with labels left offset 0.8,0\n", PLOT_PARTS_MAX + 1, PLOT_PARTS_MAX + 2);
    return draw(script);
}

/* ---- lines ---- */

char *plot_lines(const struct plot_line *lines, size_t count, enum plot_axes axes) {
    FILE *script = count > 0 ? script_begin(LINES_HEIGHT + 18 * (int)count) : NULL;
    if (script == NULL)
        return NULL;
    for (size_t i = 0; i < count; i++) {
        fprintf(script, "$line%zu << END_OF_LINE\nx ", i);
        put_word(script, lines[i].label);
        fputc('\n', script);
        for (size_t at = 0; at < lines[i].count; at++)
            fprintf(script, "%.17g %.17g\n", lines[i].x[at], lines[i].y[at]);
        fputs("END_OF_LINE\n", script);
    }
    fputs("set key outside bottom center horizontal maxcols 2 Left reverse\n", script);
    if (axes == PLOT_PERCENTILES)
        fputs("set logscale xy\nset xtics ('50 %%' 2, '90 %%' 10, '99 %%' 100, '99.9 %%' 1000, '99.99 %%' 10000, "
              "'99.999 %%' "
              "100000)\n",
              script);
    else
        fputs("set yrange [0:*]\n", script);
    for (size_t i = 0; i < count; i++)
        fprintf(script, "%s $line%zu using 1:2 with %s lw 2 lc rgb '%s' pt 7 ps 0.5 title columnheader(2)%s",
                i == 0 ? "plot" : "", i, axes == PLOT_PERCENTILES ? "lines" : "linespoints", color_of(lines[i].color),
                i + 1 < count ? ",\\\n" : "\n");
    return draw(script);
}
