#include "engine/log.h"
#include "engine/check.h"
#include <errno.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* Not longer than PIPE_BUF, so that a line written to a pipe is never mixed with another one. */
#define LINE_BYTES 4096u

static const char *log_program = "leat";
static _Atomic int log_level_now = LOG_LEVEL_INFO;
static _Atomic int log_fd_now = STDERR_FILENO;

void log_init(const char *program, enum log_level level, int fd) {
    log_program = program;
    log_set_level(level);
    log_set_fd(fd);
}

void log_set_level(enum log_level level) {
    atomic_store_explicit(&log_level_now, (int)level, memory_order_relaxed);
}

void log_set_fd(int fd) {
    atomic_store_explicit(&log_fd_now, fd, memory_order_relaxed);
}

enum log_level log_level(void) {
    return (enum log_level)atomic_load_explicit(&log_level_now, memory_order_relaxed);
}

/* A line that is too long ends in "..." instead of being split over two writes. */
static size_t line_end(char *line, int wanted) {
    size_t len = (size_t)wanted;
    if (len >= LINE_BYTES - 1) {
        len = LINE_BYTES - 1;
        memcpy(line + len - 3, "...", 3);
    }
    line[len] = '\n';
    return len + 1;
}

static void write_line(const char *prefix, const char *format, va_list args) __attribute__((format(printf, 2, 0)));
static void write_line(const char *prefix, const char *format, va_list args) {
    int saved_errno = errno;
    char line[LINE_BYTES];
    int start = snprintf(line, sizeof line, "%.64s%s", prefix, prefix[0] != '\0' ? ": " : "");
    int text = vsnprintf(line + start, sizeof line - (size_t)start, format, args);
    size_t len = line_end(line, start + (text < 0 ? 0 : text));
    ssize_t written;
    do {
        written = write(atomic_load_explicit(&log_fd_now, memory_order_relaxed), line, len);
    } while (written < 0 && errno == EINTR);
    errno = saved_errno;
}

void log_line(enum log_level level, const char *format, ...) {
    if (level == LOG_LEVEL_QUIET || !log_wants(level))
        return;
    va_list args;
    va_start(args, format);
    write_line(log_program, format, args);
    va_end(args);
}

void log_plain(enum log_level level, const char *format, ...) {
    if (level == LOG_LEVEL_QUIET || !log_wants(level))
        return;
    va_list args;
    va_start(args, format);
    write_line("", format, args);
    va_end(args);
}

/* vis(3) with VIS_OCTAL: a backslash is doubled, so that a peer cannot write what looks like an escape of ours. */
static size_t escape(char out[4], uint8_t byte) {
    if (byte == '\\') {
        memcpy(out, "\\\\", 2);
        return 2;
    }
    if (byte >= 0x20 && byte < 0x7f) {
        out[0] = (char)byte;
        return 1;
    }
    out[0] = '\\';
    out[1] = (char)('0' + (byte >> 6));
    out[2] = (char)('0' + ((byte >> 3) & 7));
    out[3] = (char)('0' + (byte & 7));
    return 4;
}

const char *log_safe(char *out, unsigned long cap, const void *text, unsigned long len) {
    CHECK(cap > 0);
    const uint8_t *bytes = text;
    size_t at = 0;
    for (unsigned long i = 0; i < len; i++) {
        char escaped[4];
        size_t n = escape(escaped, bytes[i]);
        if (at + n >= cap)
            break;
        memcpy(out + at, escaped, n);
        at += n;
    }
    out[at] = '\0';
    return out;
}
