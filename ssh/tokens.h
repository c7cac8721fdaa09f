#pragma once
/* %-tokens, ${ENVIRONMENT} and ~ in values of ssh_config(5). They read what is known so far: while the files are being
 * read, defaults stand in for what is not set yet, as in ssh. */
#include "ssh/config.h"

#define TOKENS_COMMON "dhijkLlnpru"
#define TOKENS_PROXY "hnpr"
#define TOKENS_USER "dhijkLlnpu"

/* %% and the tokens whose letters are given; ${NAME} when env. 0 and *out is the caller's; ERR_CONFIG and *why is. */
MUST_USE int tokens_expand(const struct config *config, const char *text, const char *letters, bool env, char **out,
                           char **why);
/* What is connected to: HostName, with %% and %h (the name as typed), or the name as typed; in lower case. */
MUST_USE int hostname_expand(const struct config *config, char **out, char **why);
/* ~, ~/… and ~user/… at the start. */
MUST_USE int tilde_expand(const struct config *config, const char *text, char **out, char **why);
/* Tilde, then all common tokens and ${NAME}: a path. */
MUST_USE int path_expand(const struct config *config, const char *text, char **out, char **why);
