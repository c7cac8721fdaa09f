/* Reading leatd's configuration: the command line's statements first, then the file with what it includes. Reading goes
 * on after a wrong statement, so that each is reported. */
#include "engine/check.h"
#include "ssh/server_config_private.h"
#include "ssh/text.h"
#include <errno.h>
#include <glob.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#define BLANKS " \t\r\n\f"
#define CONFIG_FILE "/etc/leat/leatd_config"
#define COMMAND_LINE "command line"

struct reader {
    struct server_config *config;
    char *include_directory;
    uint32_t errors, read; /* statements read, Match and Include too */
    bool stopped;          /* there is no point in going on */
    bool noted[SERVER_KEYWORDS_MAX];
};

/* One file: where in it, and what it stands in. */
struct source {
    struct reader *reader;
    const char *name; /* one of config->files */
    uint32_t depth;
    uint32_t base, block; /* the block the file was included from; the one being read */
};

static char *absolute(const char *directory, const char *path) {
    return *path == '/' ? text_copy(path) : text_format("%s/%s", directory, path);
}

static const char *file_name(struct server_config *config, const char *name) {
    strings_add(&config->files, text_copy(name));
    return config->files.items[config->files.count - 1];
}

static struct server_config *config_create(const char *directory) {
    struct server_config *config = server_need(malloc(sizeof *config));
    *config = (struct server_config){.blocks_count = 1};
    atomic_init(&config->references, 1);
    config->directory = directory ? text_copy(directory) : getcwd(NULL, 0);
    if (!config->directory)
        config->directory = text_copy("/");
    config->blocks = server_need(malloc(sizeof *config->blocks));
    config->blocks[0] = (struct match_block){.unconditional = true};
    return config;
}

/* Of each type the first there is: leatd's own, else the host's sshd's. */
static void find_host_keys(struct server_config *config) {
    static const char *const types[] = {"ed25519", "ecdsa", "rsa"}, *const directories[] = {"/etc/leat", "/etc/ssh"};
    for (unsigned i = 0; i < sizeof types / sizeof *types; i++) {
        for (unsigned j = 0; j < sizeof directories / sizeof *directories; j++) {
            char *path = text_format("%s/ssh_host_%s_key", directories[j], types[i]);
            if (access(path, F_OK) == 0) {
                strings_add(&config->default_host_keys, path);
                break;
            }
            free(path);
        }
    }
}

static void failed(struct reader *reader, int error) {
    if (error && ++reader->errors == LIMIT_CONFIG_ERRORS) {
        log_error("too many errors in the configuration");
        reader->stopped = true;
    }
}

/* On its own, over options that are thrown away: also what no connection will ever have is checked. */
static int statement_check(struct reader *reader, const struct server_statement *statement) {
    struct server_draft draft = {.options = server_need(server_options_create()),
                                 .directory = reader->config->directory,
                                 .noted = reader->noted};
    int error = server_statement_apply(statement, &draft);
    server_options_unref(draft.options);
    if (error == ERR_NOMEM)
        log_error("%s", err_text(error));
    return error;
}

static int statement_take(struct reader *reader, struct server_statement *statement) {
    const struct server_keyword *keyword = statement->keyword;
    bool everywhere = keyword->in_match || reader->config->blocks[statement->block].unconditional;
    int error = 0;
    if (!everywhere)
        error = config_error(&statement->place, keyword->text, "is not allowed within a Match block");
    if (!error)
        error = statement_check(reader, statement);
    if (!error && keyword->kind != SERVER_VALUE_IGNORED && keyword->kind != SERVER_VALUE_REFUSED)
        server_config_add(reader->config, statement);
    else
        strings_clear(&statement->words);
    return error;
}

static int statement_read(struct reader *reader, const struct place *place, uint32_t block, const char *keyword,
                          const char *rest) {
    struct server_statement statement = {.place = *place, .block = block};
    statement.keyword = server_keyword_find(keyword);
    if (!statement.keyword)
        return config_error(place, keyword, "unknown directive");
    int error = server_keyword_words(statement.keyword, place, rest, &statement.words);
    if (!error)
        return statement_take(reader, &statement);
    strings_clear(&statement.words);
    return error;
}

/* Cuts "keyword = arguments" in place; NULL: an empty line or a comment. */
static char *keyword_cut(char *line, char **rest) {
    line += strspn(line, BLANKS);
    if (!*line || *line == '#')
        return NULL;
    size_t len = strlen(line);
    while (strchr(BLANKS, line[len - 1]))
        line[--len] = 0;
    char *end = line + strcspn(line, BLANKS "="), *arguments = end + strspn(end, BLANKS);
    if (*arguments == '=')
        arguments += 1 + strspn(arguments + 1, BLANKS);
    *end = 0;
    *rest = arguments;
    return line;
}

static void file_read(struct reader *reader, const char *name, const char *path, uint32_t depth, uint32_t base);

static void include_pattern(struct source *source, const struct place *place, const char *word) {
    struct reader *reader = source->reader;
    glob_t found;
    if (*word == '~' || !*word) {
        failed(reader, config_error(place, "Include", "'%s' is no path here", word));
        return;
    }
    char *pattern = absolute(reader->include_directory, word);
    int result = glob(pattern, 0, NULL, &found);
    free(pattern);
    if (result == GLOB_NOMATCH)
        return;
    if (result != 0) {
        failed(reader, config_error(place, "Include", "cannot look for '%s'", word));
        return;
    }
    for (size_t i = 0; i < found.gl_pathc && !reader->stopped; i++)
        file_read(reader, found.gl_pathv[i], found.gl_pathv[i], source->depth + 1, source->block);
    globfree(&found);
}

static int include_read(struct source *source, const struct place *place, const char *rest) {
    struct reader *reader = source->reader;
    struct string_list words;
    if (words_split(rest, &words))
        return config_error(place, "Include", "a quote is not closed");
    int error = words.count ? 0 : config_error(place, "Include", "no file given");
    if (!error && source->depth >= LIMIT_CONFIG_INCLUDE_DEPTH) {
        /* Most likely a loop: what else it would say was said before. */
        reader->stopped = true;
        error = config_error(place, "Include", "more than %u levels deep", LIMIT_CONFIG_INCLUDE_DEPTH);
    }
    for (uint32_t i = 0; !error && i < words.count && !reader->stopped; i++)
        include_pattern(source, place, words.items[i]);
    strings_clear(&words);
    return error;
}

static int line_read(struct source *source, const struct place *place, char *line) {
    struct reader *reader = source->reader;
    char *rest, *keyword = keyword_cut(line, &rest);
    if (!keyword)
        return 0;
    if (reader->read++ >= LIMIT_CONFIG_STATEMENTS) {
        reader->stopped = true;
        return config_error(place, keyword, "more than %u statements", LIMIT_CONFIG_STATEMENTS);
    }
    if (!strcasecmp(keyword, "match"))
        return server_match_parse(reader->config, place, rest, source->base, &source->block);
    if (!strcasecmp(keyword, "include"))
        return include_read(source, place, rest);
    return statement_read(reader, place, source->block, keyword, rest);
}

static void stream_read(struct source *source, FILE *stream) {
    struct reader *reader = source->reader;
    struct place place = {.file = source->name};
    char *line = NULL;
    size_t cap = 0;
    ssize_t len;
    while (!reader->stopped && (len = getline(&line, &cap, stream)) >= 0) {
        place.line++;
        if (len > (ssize_t)LIMIT_CONFIG_LINE_BYTES)
            failed(reader, config_error(&place, "line", "longer than %u bytes", LIMIT_CONFIG_LINE_BYTES));
        else if (memchr(line, 0, (size_t)len))
            failed(reader, config_error(&place, "line", "a NUL byte"));
        else
            failed(reader, line_read(source, &place, line));
    }
    if (ferror(stream)) {
        log_error("cannot read %s: %s", source->name, strerror(errno));
        failed(reader, ERR_CONFIG);
    }
    free(line);
}

static void open_failed(struct reader *reader, const char *name) {
    log_error("cannot open the configuration file %s: %s", name, strerror(errno));
    failed(reader, ERR_CONFIG);
}

static void file_read(struct reader *reader, const char *name, const char *path, uint32_t depth, uint32_t base) {
    FILE *stream = fopen(path, "re");
    if (!stream) {
        open_failed(reader, name);
        return;
    }
    struct source source = {
        .reader = reader, .name = file_name(reader->config, name), .depth = depth, .base = base, .block = base};
    stream_read(&source, stream);
    fclose(stream);
}

static void main_file_read(struct reader *reader, const char *name) {
    char *path = absolute(reader->config->directory, name ? name : CONFIG_FILE);
    const char *slash = strrchr(path, '/');
    reader->include_directory = text_copy_part(path, (size_t)(slash - path) + (slash == path));
    bool missing = !name && access(path, F_OK) != 0 && errno == ENOENT;
    if (!missing)
        file_read(reader, name ? name : path, path, 0, 0);
    free(path);
}

static int command_statement_read(struct reader *reader, const struct place *place, const char *text) {
    char *line = text_copy(text), *rest;
    const char *keyword = keyword_cut(line, &rest);
    int error;
    if (!keyword)
        error = config_error(place, text, "no directive given");
    else if (!strcasecmp(keyword, "match") || !strcasecmp(keyword, "include"))
        error = config_error(place, keyword, "only has a meaning in a file");
    else
        error = statement_read(reader, place, 0, keyword, rest);
    free(line);
    return error;
}

static void command_line_read(struct reader *reader, const struct server_command_line *line) {
    struct place place = {.file = file_name(reader->config, COMMAND_LINE)};
    for (uint32_t i = 0; i < line->statements.count && !reader->stopped; i++)
        failed(reader, command_statement_read(reader, &place, line->statements.items[i]));
    for (uint32_t i = 0; i < line->host_keys.count && !reader->stopped; i++) {
        struct server_statement statement = {.place = place, .keyword = server_keyword_find("HostKey")};
        strings_add(&statement.words, text_copy(line->host_keys.items[i]));
        failed(reader, statement_take(reader, &statement));
    }
}

static int finish(struct reader *reader, struct server_config **config) {
    struct server_options *options = NULL;
    find_host_keys(reader->config);
    int error = reader->errors ? ERR_CONFIG : server_config_try(reader->config, NULL, &options);
    if (error == ERR_NOMEM)
        log_error("%s", err_text(error));
    server_options_unref(options);
    free(reader->include_directory);
    if (error)
        server_config_unref(reader->config);
    else
        *config = reader->config;
    return error;
}

int server_config_read(const struct server_command_line *line, struct server_config **config) {
    struct reader reader = {.config = config_create(line->directory)};
    command_line_read(&reader, line);
    bool none = line->config_file && !strcmp(line->config_file, "none");
    if (!none && !reader.stopped)
        main_file_read(&reader, line->config_file);
    return finish(&reader, config);
}

/* A stream has no directory, so its Includes are as deep as can be: refused. */
int server_config_read_stream(FILE *stream, const char *name, struct server_config **config) {
    struct reader reader = {.config = config_create(NULL)};
    struct source source = {
        .reader = &reader, .name = file_name(reader.config, name), .depth = LIMIT_CONFIG_INCLUDE_DEPTH};
    stream_read(&source, stream);
    return finish(&reader, config);
}
