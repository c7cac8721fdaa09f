#pragma once
/* A leatd configuration for each case: from a text, or from files in a directory of its own; what is logged is kept. */
#include "ssh/server_config.h"
#include "ssh/text.h"
#include <criterion/criterion.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static char server_fixture_log[32768]; /* of the last reading */

static inline int server_fixture_log_begin(void) {
    int fd = memfd_create("log", MFD_CLOEXEC);
    log_init("leatd", LOG_LEVEL_INFO, fd);
    return fd;
}

static inline void server_fixture_log_end(int fd) {
    log_init("leatd", LOG_LEVEL_INFO, STDERR_FILENO);
    ssize_t len = pread(fd, server_fixture_log, sizeof server_fixture_log - 1, 0);
    server_fixture_log[len < 0 ? 0 : len] = 0;
    close(fd);
}

static inline int server_fixture_read_bytes(const void *bytes, size_t len, struct server_config **config) {
    FILE *stream = fmemopen((void *)(uintptr_t)bytes, len, "r");
    cr_assert(stream);
    int fd = server_fixture_log_begin();
    int error = server_config_read_stream(stream, "file", config);
    server_fixture_log_end(fd);
    fclose(stream);
    return error;
}

static inline struct server_config *server_fixture_read(const char *text) {
    struct server_config *config = NULL;
    int error = server_fixture_read_bytes(text, strlen(text) + !*text, &config);
    if (!*text) /* fmemopen has no empty streams: one NUL was read */
        return NULL;
    cr_assert_eq(error, 0, "'%s': %s", text, server_fixture_log);
    return config;
}

/* The options of the global section. */
static inline struct server_options *server_fixture_options(const char *text) {
    struct server_config *config = server_fixture_read(text);
    struct server_options *options = server_config_resolve(config, NULL);
    server_config_unref(config);
    return options;
}

static inline char *server_fixture_print(const struct server_options *options) {
    char *text = NULL;
    size_t len;
    FILE *out = open_memstream(&text, &len);
    server_options_print(options, out);
    cr_assert_eq(fclose(out), 0);
    return text;
}

/* Is "line\n" one of the lines of text? */
static inline bool server_fixture_has_line(const char *text, const char *line) {
    size_t len = strlen(line);
    for (const char *at = text; (at = strstr(at, line)); at++)
        if ((at == text || at[-1] == '\n') && at[len] == '\n')
            return true;
    return false;
}

struct server_fixture_files {
    char home[64];
};

static inline void server_fixture_files_init(struct server_fixture_files *files) {
    strcpy(files->home, "/tmp/leatd-config-XXXXXX");
    cr_assert(mkdtemp(files->home));
}

static inline int server_fixture_remove(const char *path, const struct stat *status, int type, struct FTW *walk) {
    (void)status, (void)type, (void)walk;
    return remove(path);
}

static inline void server_fixture_files_deinit(struct server_fixture_files *files) {
    cr_assert_eq(nftw(files->home, server_fixture_remove, 8, FTW_DEPTH | FTW_PHYS), 0);
}

/* '@' in the text stands for the directory. */
static inline void server_fixture_file(const struct server_fixture_files *files, const char *name, const char *text) {
    char *path = text_format("%s/%s", files->home, name);
    FILE *file = fopen(path, "we");
    cr_assert(file, "%s", path);
    for (; *text; text++) {
        if (*text == '@')
            fputs(files->home, file);
        else
            fputc(*text, file);
    }
    cr_assert_eq(fclose(file), 0);
    free(path);
}

/* Reads the file "main" and the statements, separated by '|'. */
static inline int server_fixture_files_read(const struct server_fixture_files *files, const char *statements,
                                            struct server_config **config) {
    struct server_command_line line = {.config_file = "main", .directory = text_copy(files->home)};
    char *copy = text_copy(statements), *rest = copy;
    while (rest && *rest)
        strings_add(&line.statements, text_copy(strsep(&rest, "|")));
    int fd = server_fixture_log_begin();
    int error = server_config_read(&line, config);
    server_fixture_log_end(fd);
    free(copy);
    line.config_file = NULL;
    server_command_line_deinit(&line);
    return error;
}
