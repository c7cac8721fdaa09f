#pragma once
/* Lines for people: "leat: text" on stderr (or the file of -E), or syslog. Thread-safe: one write(2) per line, no lock
 * held across it. Control bytes that come from a peer are escaped. Nothing secret is ever passed here.
 *
 *   without the thread:  log_line ─► write(2)
 *   with it:             log_line ─► queue (bounded) ─► thread ─► write(2), syslog(3) */
#include "engine/error.h"
#include <stdbool.h>

/* Of one line, newline included; what is longer is cut. PIPE_BUF: a line written to a pipe is never mixed with another
 * process' one. */
#define LOG_LINE_BYTES 4096u

enum log_level {
    LOG_LEVEL_QUIET,
    LOG_LEVEL_FATAL,
    LOG_LEVEL_ERROR,
    LOG_LEVEL_INFO,
    LOG_LEVEL_VERBOSE,
    LOG_LEVEL_DEBUG1,
    LOG_LEVEL_DEBUG2,
    LOG_LEVEL_DEBUG3
};

/* Set program name (static string), level and descriptor (borrowed). Before threads start, or from the main thread. */
void log_init(const char *program, enum log_level level, int fd);
/* From now on lines go through a thread of their own, so that a log nobody reads never holds up a shard: at most
 * LIMIT_LOG_QUEUE_BYTES wait; what does not fit is dropped and counted, and the count is logged as soon as there is
 * room. Lines at FATAL and log_stop_thread wait (at most a second) until everything is out. ERR_NOMEM. */
MUST_USE int log_start_thread(void); /* nothing forks after it */
void log_stop_thread(void);          /* writes what waits; lines are written at once again. No-op without a thread */
/* Waits (at most a second) until what was logged is out. */
void log_flush(void);
/* Lines go to syslog(3) instead of a descriptor, with the priority of their level. ident is static. */
void log_to_syslog(const char *ident, int facility);
void log_set_level(enum log_level level);
/* What waits goes to the former one first. Lines that a descriptor does not take (a full disk) are counted, and told as
 * soon as one is taken again. */
void log_set_fd(int fd);
/* How every line is written from now on: wrap fills out (at most cap bytes, newline not included, NUL-terminated) with
 * what stands for the text. It must not log. NULL: as it is, after the program's name. */
typedef void log_wrap_fn(char *out, unsigned long cap, enum log_level level, const char *text);
void log_set_wrap(log_wrap_fn *wrap);
/* What this thread does is no concern of anybody's: from now on its lines are VERBOSE, but for FATAL and what is lower
 * anyway. */
void log_hush_thread(void);
enum log_level log_level(void);
static inline bool log_wants(enum log_level level) {
    return level <= log_level();
}

void log_line(enum log_level level, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* The same without the program's name: for lines that scripts know from ssh(1), and for texts of several lines. */
void log_plain(enum log_level level, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* A line that is written already: no name, no wrapping. */
void log_raw(enum log_level level, const char *line);

#define log_fatal(...) log_line(LOG_LEVEL_FATAL, __VA_ARGS__)
#define log_error(...) log_line(LOG_LEVEL_ERROR, __VA_ARGS__)
#define log_info(...) log_line(LOG_LEVEL_INFO, __VA_ARGS__)
#define log_verbose(...) log_line(LOG_LEVEL_VERBOSE, __VA_ARGS__)
#define log_debug(...) log_line(LOG_LEVEL_DEBUG1, __VA_ARGS__)

/* Writes text[0..len) to out with control and non-ASCII bytes as \ooo (as vis(3) does), NUL-terminated, cut at cap.
 * Returns out. For every string that came from a peer. */
const char *log_safe(char *out, unsigned long cap, const void *text, unsigned long len);
