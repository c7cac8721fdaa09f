#pragma once
/* Private to options*.c and their tests. */
#include "ssh/config.h"

/* options_read with the surroundings given, so that tests have their own. */
MUST_USE int options_read_in(struct options *options, int argc, char **argv, const struct environment *environment);

struct command_line {
    struct config *config;
    bool config_none; /* -F none */
};
/* Flags and host into line->config; the usage goes to stderr where flags are wrong. */
MUST_USE int command_line_read(struct command_line *line, int argc, char **argv);

void options_defaults(struct options *options);
/* All values are known: expands tokens and ~, turns ProxyJump into a command, adds default files, drops cleared
 * forwards, reports what cannot be. */
MUST_USE int options_finish(struct config *config);
/* HostName for good (the default: as typed), which the second reading for "Match final" needs. */
MUST_USE int options_settle_hostname(struct config *config);
