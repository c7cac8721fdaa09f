#pragma once
/* Asks a person: on the controlling terminal, or through SSH_ASKPASS as ssh(1) does (SSH_ASKPASS_REQUIRE; without it
 * when there is no terminal but a display). A signal during the question puts the terminal right first, then takes its
 * usual course. One question at a time in the process; blocks. */
#include "engine/error.h"
#include <stddef.h>

enum prompt_echo { PROMPT_HIDDEN, PROMPT_SHOWN };

/* The answer without its newline, cut at cap - 1, goes to answer (wiped on failure). Text of a peer must have been
 * escaped.
 *   ERR_UNSUPPORTED: nobody to ask
 *   ERR_CLOSED: end of file, or the askpass program was dismissed
 *   ERR_CANCELED: a signal; it has been raised again */
MUST_USE int prompt_ask(const char *text, enum prompt_echo echo, char *answer, size_t cap);
