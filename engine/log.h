#pragma once
/* Lines for people: "leat: text" on stderr (or the file of -E). Thread-safe: one write(2) per line, no lock held across
 * it. Control bytes that come from a peer are escaped. Nothing secret is ever passed here. */
#include <stdbool.h>

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
void log_set_level(enum log_level level);
void log_set_fd(int fd);
enum log_level log_level(void);
static inline bool log_wants(enum log_level level) {
    return level <= log_level();
}

void log_line(enum log_level level, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* The same without the program's name: for lines that scripts know from ssh(1), and for texts of several lines. */
void log_plain(enum log_level level, const char *format, ...) __attribute__((format(printf, 2, 3)));

#define log_fatal(...) log_line(LOG_LEVEL_FATAL, __VA_ARGS__)
#define log_error(...) log_line(LOG_LEVEL_ERROR, __VA_ARGS__)
#define log_info(...) log_line(LOG_LEVEL_INFO, __VA_ARGS__)
#define log_verbose(...) log_line(LOG_LEVEL_VERBOSE, __VA_ARGS__)
#define log_debug(...) log_line(LOG_LEVEL_DEBUG1, __VA_ARGS__)

/* Writes text[0..len) to out with control and non-ASCII bytes as \ooo (as vis(3) does), NUL-terminated, cut at cap.
 * Returns out. For every string that came from a peer. */
const char *log_safe(char *out, unsigned long cap, const void *text, unsigned long len);
