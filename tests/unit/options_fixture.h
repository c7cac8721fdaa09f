#pragma once
/* A person of their own for each test: home directory, configuration files, environment; what is logged is kept. */
#include "engine/log.h"
#include "ssh/options_private.h"
#include <criterion/criterion.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define FIXTURE_ARGS_MAX 64

struct fixture {
    char home[64];
    char *system_config;
    struct environment environment;
    struct options options;
    int log_fd;
    char log[16384]; /* of the last read */
};

/* What Match exec "ran", and what it shall return. */
static char fixture_command[4096];
static int fixture_status;

static inline int fixture_run(const char *command) {
    snprintf(fixture_command, sizeof fixture_command, "%s", command);
    return fixture_status;
}

static inline void fixture_file(struct fixture *fixture, const char *name, const char *text) {
    char *path = text_format("%s/%s", fixture->home, name);
    FILE *file = fopen(path, "we");
    cr_assert(file, "%s", path);
    fputs(text, file);
    cr_assert_eq(fclose(file), 0);
    cr_assert_eq(chmod(path, 0600), 0);
    free(path);
}

static inline void fixture_init(struct fixture *fixture) {
    memset(fixture, 0, sizeof *fixture);
    strcpy(fixture->home, "/tmp/leat-options-XXXXXX");
    cr_assert(mkdtemp(fixture->home));
    char *dir = text_format("%s/.ssh", fixture->home), *etc = text_format("%s/etc", fixture->home);
    cr_assert_eq(mkdir(dir, 0700), 0);
    cr_assert_eq(mkdir(etc, 0700), 0);
    free(dir);
    free(etc);
    fixture->system_config = text_format("%s/etc/ssh_config", fixture->home);
    fixture->environment = (struct environment){.user = "miller",
                                                .home = fixture->home,
                                                .uid = getuid(),
                                                .system_config = fixture->system_config,
                                                .run = fixture_run};
    fixture_command[0] = 0;
    fixture_status = 0;
}

static inline int fixture_remove(const char *path, const struct stat *status, int type, struct FTW *walk) {
    (void)status, (void)type, (void)walk;
    return remove(path);
}

static inline void fixture_deinit(struct fixture *fixture) {
    options_deinit(&fixture->options);
    cr_assert_eq(nftw(fixture->home, fixture_remove, 8, FTW_DEPTH | FTW_PHYS), 0);
    free(fixture->system_config);
}

/* Reads the command line "leat args…", words of args separated by '|'. The usage on stderr is not part of the log. */
static inline int fixture_read(struct fixture *fixture, const char *args) {
    char *words = text_format("leat|%s", args), *argv[FIXTURE_ARGS_MAX + 1];
    int argc = 0;
    for (char *word = words; word; argc++) {
        cr_assert_lt(argc, FIXTURE_ARGS_MAX);
        argv[argc] = strsep(&word, "|");
    }
    argv[argc] = NULL;
    options_deinit(&fixture->options);
    int stderr_copy = dup(STDERR_FILENO), null = open("/dev/null", O_WRONLY | O_CLOEXEC);
    dup2(null, STDERR_FILENO);
    int log_fd = memfd_create("log", MFD_CLOEXEC);
    log_init("leat", LOG_LEVEL_INFO, log_fd);
    int error = options_read_in(&fixture->options, argc, argv, &fixture->environment);
    log_init("leat", LOG_LEVEL_INFO, STDERR_FILENO);
    dup2(stderr_copy, STDERR_FILENO);
    close(stderr_copy);
    close(null);
    ssize_t len = pread(log_fd, fixture->log, sizeof fixture->log - 1, 0);
    fixture->log[len < 0 ? 0 : len] = 0;
    close(log_fd);
    free(words);
    return error;
}

static inline void fixture_read_well(struct fixture *fixture, const char *args) {
    cr_assert_eq(fixture_read(fixture, args), 0, "'%s': %s", args, fixture->log);
}

/* One line, which holds the text; '@' in it stands for the home directory. */
static inline void fixture_read_badly(struct fixture *fixture, const char *args, const char *text) {
    cr_assert_eq(fixture_read(fixture, args), ERR_CONFIG, "'%s' was accepted", args);
    char *expected = text_copy(text), *at = strchr(expected, '@');
    if (at)
        text_set(&expected, text_format("%.*s%s%s", (int)(at - expected), expected, fixture->home, at + 1));
    cr_assert(strstr(fixture->log, expected), "'%s' gave '%s', not '%s'", args, fixture->log, expected);
    cr_assert(strncmp(fixture->log, "leat: ", 6) == 0);
    cr_assert_eq(strchr(fixture->log, '\n'), fixture->log + strlen(fixture->log) - 1, "not one line: %s", fixture->log);
    free(expected);
}
