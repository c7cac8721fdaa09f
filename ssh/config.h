#pragma once
/* ssh_config(5): statements from -o, flags and files into struct options; the first value wins. Each wrong statement
 * is reported in one line with its place, and ends reading. Main thread, at start and on reload.
 *
 *   command line ─┐
 *   ~/.ssh/config ┼─► statement ─► Host, Match, Include (config.c, config_match.c): does it count here?
 *   ssh_config   ─┘             └► keyword_apply (keywords.c): checked always, stored if it counts and is the first
 *
 * Values are stored as written; tokens and defaults come in options_finish, when all of them are known. */
#include "ssh/options.h"
#include "ssh/text.h"
#include <stdio.h>
#include <sys/types.h>

#define CONFIG_KEYWORDS_MAX 192

/* Who runs the program and where the files are. */
struct environment {
    const char *user, *home;
    uid_t uid;
    const char *system_config; /* "/etc/ssh/ssh_config" */
    /* Match exec: runs it with the user's shell; the exit status, or -1. */
    int (*run)(const char *command);
};

struct place {
    const char *file; /* or a flag: "-o" */
    uint32_t line;    /* 0 for a flag */
};

struct statement {
    const char *keyword; /* as written */
    const char *rest;    /* the arguments, without blanks around them */
    struct place place;
    bool literal; /* a flag's value: one word, without quoting */
    bool active;  /* the Host or Match block around it applies */
};

struct config {
    struct options *options;
    const struct environment *environment;
    bool given[CONFIG_KEYWORDS_MAX]; /* by keyword_index */
    bool user_literal;               /* from the command line: no tokens */
    bool log_level_fixed;            /* by -q or -v, which outweigh LogLevel wherever it stands */
    char *config_file;               /* -F */
    char *tag, *ignore_unknown;
    char *forward_refused; /* the report of the first forward that cannot be; moot with ClearAllForwardings */
    bool permit_local_command;
    char *local_command_place;
    bool final_pass, final_wanted;
    bool hostname_settled;    /* options->hostname is final: tokens expanded */
    struct string_list notes; /* for -v, each once */
};

void config_init(struct config *config, struct options *options, const struct environment *environment);
void config_deinit(struct config *config); /* not the options */

/* A flag's value as the keyword it stands for. */
MUST_USE int config_set(struct config *config, const char *flag, const char *keyword, const char *value);
/* "Key=value" or "Key value" of -o. */
MUST_USE int config_option(struct config *config, const char *text);

struct config_source {
    const char *path;
    bool of_user; /* ~ is allowed, relative Includes are in ~/.ssh */
    bool check_permissions;
    bool required;
    uint32_t depth;
    bool dormant; /* included from a block that does not apply: checked, not stored */
};
MUST_USE int config_read(struct config *config, const struct config_source *source);
MUST_USE int config_read_stream(struct config *config, const struct config_source *source, FILE *stream);

/* "PLACE: keyword: text" as an error; returns ERR_CONFIG. */
int config_error(const struct place *place, const char *keyword, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* The same, kept for the end of reading and shown at -v. */
void config_note(struct config *config, const struct place *place, const char *keyword, const char *text);
char *config_place(const struct place *place);

/* Does the Match line's condition hold? Sets *matched; runs nothing when dormant. */
MUST_USE int config_match(struct config *config, const struct statement *statement, bool dormant, bool *matched);

/* Adds "[bind:]port:host:hostport", unless the same is there already. What leat cannot forward is kept for the end, as
 * ClearAllForwardings may make it moot. */
MUST_USE int config_add_forward(struct config *config, const struct place *place, const char *keyword,
                                enum forward_kind kind, const char *text);
void config_refuse_forward(struct config *config, const struct place *place, const char *keyword, const char *text,
                           const char *why);

/* Every keyword but Host, Match and Include. */
MUST_USE int keyword_apply(struct config *config, const struct statement *statement);
