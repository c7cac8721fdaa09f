#include "ssh/config.h"
#include "engine/limits.h"
#include "ssh/tokens.h"
#include <errno.h>
#include <glob.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

#define BLANKS " \t\r\n\f"

/* What a file's statements are read under; one for each level of Include. */
struct scope {
    struct config *config;
    const struct config_source *source;
    bool active;
};

void config_init(struct config *config, struct options *options, const struct environment *environment) {
    *config = (struct config){.options = options, .environment = environment};
}

void config_deinit(struct config *config) {
    free(config->config_file);
    free(config->tag);
    free(config->ignore_unknown);
    free(config->forward_refused);
    free(config->local_command_place);
    strings_clear(&config->notes);
}

char *config_place(const struct place *place) {
    return place->line ? text_format("%s:%u", place->file, place->line) : text_copy(place->file);
}

int config_error(const struct place *place, const char *keyword, const char *format, ...) {
    char *text = NULL, line[16] = "";
    va_list args;
    va_start(args, format);
    int len = vasprintf(&text, format, args);
    va_end(args);
    if (place->line)
        snprintf(line, sizeof line, ":%u", place->line);
    log_error("%s%s: %s: %s", place->file, line, keyword, len < 0 ? "wrong" : text);
    if (len >= 0)
        free(text);
    return ERR_CONFIG;
}

void config_note(struct config *config, const struct place *place, const char *keyword, const char *text) {
    char *where = config_place(place);
    char *note = text_format("%s: %s: %s", where, keyword, text);
    free(where);
    if (strings_has(&config->notes, note))
        free(note);
    else
        strings_add(&config->notes, note);
}

int config_set(struct config *config, const char *flag, const char *keyword, const char *value) {
    struct statement statement = {
        .keyword = keyword, .rest = value, .place = {.file = flag}, .literal = true, .active = true};
    return keyword_apply(config, &statement);
}

/* Cuts "keyword = arguments" in place. NULL: an empty line or a comment. */
static const char *statement_cut(char *line, const char **rest) {
    line += strspn(line, BLANKS);
    if (!*line || *line == '#')
        return NULL;
    size_t len = strlen(line);
    while (strchr(BLANKS, line[len - 1]))
        line[--len] = 0;
    char *end = line + strcspn(line, BLANKS "=");
    char *arguments = end + strspn(end, BLANKS);
    if (*arguments == '=')
        arguments += 1 + strspn(arguments + 1, BLANKS);
    *end = 0;
    *rest = arguments;
    return line;
}

int config_option(struct config *config, const char *text) {
    char *line = text_copy(text);
    struct statement statement = {.place = {.file = "-o"}, .active = true};
    statement.keyword = statement_cut(line, &statement.rest);
    static const char *const structural[] = {"host", "match", "include"};
    int error = 0;
    if (!statement.keyword)
        error = config_error(&statement.place, text, "no option given");
    for (unsigned i = 0; !error && i < sizeof structural / sizeof *structural; i++)
        if (!strcasecmp(statement.keyword, structural[i]))
            error = config_error(&statement.place, statement.keyword, "only has a meaning in a file");
    if (!error)
        error = keyword_apply(config, &statement);
    free(line);
    return error;
}

static bool host_matches(const struct config *config, const struct string_list *patterns) {
    const char *host = config->final_pass ? config->options->hostname : config->options->host_arg;
    bool matches = false;
    for (uint32_t i = 0; i < patterns->count; i++) {
        const char *pattern = patterns->items[i];
        bool negated = *pattern == '!';
        if (!pattern_match(host, pattern + negated, false))
            continue;
        if (negated)
            return false;
        matches = true;
    }
    return matches;
}

static int host_apply(struct scope *scope, const struct statement *statement) {
    struct string_list patterns;
    if (words_split(statement->rest, &patterns))
        return config_error(&statement->place, "Host", "a quote is not closed");
    bool none = patterns.count == 0, empty = strings_has(&patterns, "") || strings_has(&patterns, "!");
    scope->active = !scope->source->dormant && host_matches(scope->config, &patterns);
    strings_clear(&patterns);
    if (none || empty)
        return config_error(&statement->place, "Host", none ? "no pattern given" : "an empty pattern");
    return 0;
}

/* The pattern of files that one argument of Include stands for. */
static int include_pattern(const struct scope *scope, const struct statement *statement, const char *word,
                           char **pattern) {
    const struct config *config = scope->config;
    const struct config_source *source = scope->source;
    if (*word == '~' && !source->of_user)
        return config_error(&statement->place, "Include", "'%s': ~ has no meaning in the system's files", word);
    char *why, *path;
    if (path_expand(config, word, &path, &why)) {
        config_error(&statement->place, "Include", "%s", why);
        free(why);
        return ERR_CONFIG;
    }
    if (*path == '/') {
        *pattern = path;
        return 0;
    }
    if (source->of_user)
        *pattern = text_format("%s/.ssh/%s", config->environment->home, path);
    else
        *pattern = text_format(
            "%.*s/%s", (int)(strrchr(config->environment->system_config, '/') - config->environment->system_config),
            config->environment->system_config, path);
    free(path);
    return 0;
}

static int include_files(struct scope *scope, const struct statement *statement, const char *pattern) {
    glob_t found;
    int result = glob(pattern, 0, NULL, &found);
    if (result == GLOB_NOMATCH)
        return 0;
    if (result != 0)
        return config_error(&statement->place, "Include", "cannot look for '%s'", pattern);
    int error = 0;
    for (size_t i = 0; !error && i < found.gl_pathc; i++) {
        struct config_source source = *scope->source;
        source.path = found.gl_pathv[i];
        source.required = false;
        source.depth++;
        source.dormant = !statement->active;
        error = config_read(scope->config, &source);
    }
    globfree(&found);
    return error;
}

static int include_apply(struct scope *scope, const struct statement *statement) {
    struct string_list words;
    if (words_split(statement->rest, &words))
        return config_error(&statement->place, "Include", "a quote is not closed");
    int error = 0;
    if (words.count == 0)
        error = config_error(&statement->place, "Include", "no file given");
    else if (scope->source->depth + 1 > LIMIT_CONFIG_INCLUDE_DEPTH)
        error = config_error(&statement->place, "Include", "more than %u levels deep", LIMIT_CONFIG_INCLUDE_DEPTH);
    for (uint32_t i = 0; !error && i < words.count; i++) {
        char *pattern = NULL;
        error = include_pattern(scope, statement, words.items[i], &pattern);
        if (error)
            break;
        error = include_files(scope, statement, pattern);
        free(pattern);
    }
    strings_clear(&words);
    return error;
}

static int line_apply(struct scope *scope, char *line, uint32_t number) {
    struct statement statement = {.place = {scope->source->path, number}, .active = scope->active};
    statement.keyword = statement_cut(line, &statement.rest);
    if (!statement.keyword)
        return 0;
    if (!strcasecmp(statement.keyword, "host"))
        return host_apply(scope, &statement);
    if (!strcasecmp(statement.keyword, "match"))
        return config_match(scope->config, &statement, scope->source->dormant, &scope->active);
    if (!strcasecmp(statement.keyword, "include"))
        return include_apply(scope, &statement);
    return keyword_apply(scope->config, &statement);
}

int config_read_stream(struct config *config, const struct config_source *source, FILE *stream) {
    struct scope scope = {.config = config, .source = source, .active = !source->dormant};
    char *line = NULL;
    size_t cap = 0;
    ssize_t len;
    int error = 0;
    struct place place = {.file = source->path};
    while (!error && (len = getline(&line, &cap, stream)) >= 0) {
        place.line++;
        if (len > (ssize_t)LIMIT_CONFIG_LINE_BYTES)
            error = config_error(&place, "line", "longer than %u bytes", LIMIT_CONFIG_LINE_BYTES);
        else if (memchr(line, 0, (size_t)len))
            error = config_error(&place, "line", "a NUL byte");
        else
            error = line_apply(&scope, line, place.line);
    }
    if (!error && ferror(stream)) {
        log_error("cannot read %s: %s", source->path, strerror(errno));
        error = ERR_CONFIG;
    }
    free(line);
    return error;
}

/* As ssh: who may write a person's configuration may run commands as that person. */
static bool permissions_good(const struct config *config, FILE *stream) {
    struct stat status;
    return fstat(fileno(stream), &status) == 0 && (status.st_uid == 0 || status.st_uid == config->environment->uid) &&
           (status.st_mode & (S_IWGRP | S_IWOTH)) == 0;
}

int config_read(struct config *config, const struct config_source *source) {
    FILE *stream = fopen(source->path, "re");
    if (!stream && errno == ENOENT && !source->required)
        return 0;
    if (!stream) {
        log_error("cannot open the configuration file %s: %s", source->path, strerror(errno));
        return ERR_CONFIG;
    }
    int error = 0;
    if (source->check_permissions && !permissions_good(config, stream)) {
        log_error("bad owner or permissions on %s", source->path);
        error = ERR_CONFIG;
    } else {
        error = config_read_stream(config, source, stream);
    }
    fclose(stream);
    return error;
}
