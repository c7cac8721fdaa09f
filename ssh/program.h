#pragma once
/* What leat and leatd do alike before and after they do anything of their own: standard descriptors, limits, the log
 * file, the background, -V. Main thread, before there are others. */
#include "engine/error.h"
#include "engine/io.h"
#include "engine/log.h"
#include <stdint.h>
#include <sys/types.h>

#define EXIT_FAILED 255

/* First thing in main: standard descriptors are there, SIGPIPE is ignored, the log goes to stderr as "name: …" (name is
 * static). ERR_SYSTEM. */
MUST_USE int program_begin(const char *name);
/* Descriptors up to the hard limit; and TCP's limits are known (tcp.h). */
void program_set_limits(void);
/* Another program that we start has the limit that we were given: one that uses select(2) cannot live with more. In the
 * child before exec (async-signal-safe), or with its number right after it was started; 0: the caller. */
void program_reset_limits(pid_t pid);
/* Says so when there are fewer descriptors than `wanted`, which `what` needs before anything is forwarded. */
void program_check_descriptors(uint64_t wanted, const char *what);
/* -E: the log goes to the end of this file from now on. ERR_SYSTEM: reported. Called again for the same path (a file
 * that was moved away) it takes the new one; on failure the old one stays. */
MUST_USE int program_log_to_file(const char *path);
/* Forks: the parent ends with 0 once program_ready is called in the child, else with the child's status; it does not
 * return. The terminal stays the child's until then, so prompts work. ERR_SYSTEM: reported. */
MUST_USE int program_go_background(void);
/* The child of program_go_background cuts itself loose from the terminal and lets the parent go; keep_stderr: its
 * standard error stays. A no-op in the foreground. */
void program_ready(bool keep_stderr);
/* -V: the versions of everything on one line of stderr. Returns the exit status. */
int program_print_versions(const char *name, enum io_backend backend);
