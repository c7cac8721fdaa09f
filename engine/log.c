#include "engine/log.h"
#include "engine/check.h"
#include "engine/log_writer.h"
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <syslog.h>
#include <unistd.h>

static const char *log_program = "leat";
static _Atomic int log_level_now = LOG_LEVEL_INFO;
static _Atomic int log_fd_now = STDERR_FILENO;
static _Atomic bool log_syslog_now;
static log_wrap_fn *_Atomic log_wrap_now;
static _Atomic uint64_t log_lost_now; /* lines that were not written, or not whole */
static _Atomic bool log_torn_now;     /* the last of them was begun */
static _Thread_local bool log_hushed;

/* ---- where lines go ---- */

static int syslog_priority(enum log_level level) {
    if (level <= LOG_LEVEL_FATAL)
        return LOG_CRIT;
    if (level == LOG_LEVEL_ERROR)
        return LOG_ERR;
    return level <= LOG_LEVEL_VERBOSE ? LOG_INFO : LOG_DEBUG;
}

static bool fd_takes_a_line(int fd, int timeout_ms) {
    struct pollfd pollfd = {.fd = fd, .events = POLLOUT};
    return poll(&pollfd, 1, timeout_ms) != 0;
}

/* false: not all of it is out. A descriptor that others have made non-blocking is waited for where there is somebody to
 * wait. */
static bool text_write(int fd, const char *text, size_t len, bool may_wait) {
    size_t at = 0;
    while (at < len) {
        ssize_t n = write(fd, text + at, len - at);
        if (n > 0)
            at += (size_t)n;
        else if (n < 0 && errno == EAGAIN && may_wait)
            (void)fd_takes_a_line(fd, -1);
        else if (n == 0 || errno != EINTR)
            break;
    }
    if (at > 0)
        atomic_store_explicit(&log_torn_now, at < len, memory_order_relaxed);
    return at == len;
}

/* A full disk has room again: how many lines are missing stands in their place, after what is there of the first. */
static bool lost_write(int fd, bool may_wait) {
    uint64_t lost = atomic_load_explicit(&log_lost_now, memory_order_relaxed);
    struct log_record record;
    if (lost == 0)
        return true;
    log_record_compose(&record, LOG_LEVEL_ERROR, "%" PRIu64 " log lines lost: the log did not take them", lost);
    if (atomic_load_explicit(&log_torn_now, memory_order_relaxed) && !text_write(fd, "\n", 1, may_wait))
        return false;
    if (!text_write(fd, record.text, record.len, may_wait))
        return false;
    atomic_fetch_sub_explicit(&log_lost_now, lost, memory_order_relaxed);
    return true;
}

static void line_write(const struct log_record *record, bool may_wait) {
    int fd = atomic_load_explicit(&log_fd_now, memory_order_relaxed);
    if (!may_wait && log_writer_gave_up() && !fd_takes_a_line(fd, 0))
        return;
    if (!lost_write(fd, may_wait) || !text_write(fd, record->text, record->len, may_wait))
        atomic_fetch_add_explicit(&log_lost_now, 1, memory_order_relaxed);
}

void log_record_emit(const struct log_record *record, bool may_wait) {
    if (!atomic_load_explicit(&log_syslog_now, memory_order_relaxed))
        line_write(record, may_wait);
    else if (may_wait || !log_writer_gave_up()) /* else the thread still holds syslog's lock */
        syslog(syslog_priority(record->level), "%.*s", (int)record->len - 1, record->text);
}

/* ---- lines ---- */

static void line_submit(const struct log_record *record) {
    int saved_errno = errno;
    if (!log_writer_submit(record))
        log_record_emit(record, false);
    errno = saved_errno;
}

/* A line that is too long ends in "..." instead of being split over two writes. */
static void line_end(struct log_record *record, size_t wanted) {
    size_t len = wanted;
    if (len >= sizeof record->text - 1) {
        len = sizeof record->text - 1;
        memcpy(record->text + len - 3, "...", 3);
    }
    record->text[len] = '\n';
    record->len = (uint32_t)len + 1;
}

/* The text of a line, its program's name before it where there is one to be shown; cut where it does not fit. Returns
 * the length wanted. */
static size_t text_format(char *out, size_t cap, const char *program, const char *format, va_list args)
    __attribute__((format(printf, 4, 0)));
static size_t text_format(char *out, size_t cap, const char *program, const char *format, va_list args) {
    bool named = program[0] != '\0' && !atomic_load_explicit(&log_syslog_now, memory_order_relaxed);
    int start = snprintf(out, cap, "%.64s%s", named ? program : "", named ? ": " : "");
    int text = vsnprintf(out + start, cap - (size_t)start, format, args);
    return (size_t)start + (text < 0 ? 0 : (size_t)text);
}

static void line_compose(struct log_record *record, enum log_level level, const char *program, const char *format,
                         va_list args) __attribute__((format(printf, 4, 0)));
static void line_compose(struct log_record *record, enum log_level level, const char *program, const char *format,
                         va_list args) {
    log_wrap_fn *wrap = atomic_load_explicit(&log_wrap_now, memory_order_relaxed);
    record->level = level;
    if (wrap == NULL) {
        line_end(record, text_format(record->text, sizeof record->text, program, format, args));
        return;
    }
    char text[LOG_LINE_BYTES];
    (void)text_format(text, sizeof text, "", format, args);
    wrap(record->text, sizeof record->text - 1, level, text);
    line_end(record, strlen(record->text));
}

void log_record_compose(struct log_record *record, enum log_level level, const char *format, ...) {
    va_list args;
    va_start(args, format);
    line_compose(record, level, log_program, format, args);
    va_end(args);
}

/* Of a line that this thread asks for. */
static enum log_level line_level(enum log_level level) {
    return log_hushed && level > LOG_LEVEL_FATAL && level < LOG_LEVEL_VERBOSE ? LOG_LEVEL_VERBOSE : level;
}

static bool line_wanted(enum log_level level) {
    return level != LOG_LEVEL_QUIET && log_wants(level);
}

void log_line(enum log_level level, const char *format, ...) {
    struct log_record record;
    level = line_level(level);
    if (!line_wanted(level))
        return;
    va_list args;
    va_start(args, format);
    line_compose(&record, level, log_program, format, args);
    va_end(args);
    line_submit(&record);
}

void log_plain(enum log_level level, const char *format, ...) {
    struct log_record record;
    level = line_level(level);
    if (!line_wanted(level))
        return;
    va_list args;
    va_start(args, format);
    line_compose(&record, level, "", format, args);
    va_end(args);
    line_submit(&record);
}

void log_raw(enum log_level level, const char *text) {
    struct log_record record;
    if (!line_wanted(level))
        return;
    record.level = level;
    line_end(&record, (size_t)snprintf(record.text, sizeof record.text, "%s", text));
    line_submit(&record);
}

/* ---- settings ---- */

void log_init(const char *program, enum log_level level, int fd) {
    log_program = program;
    log_set_level(level);
    log_set_fd(fd);
}

void log_set_level(enum log_level level) {
    atomic_store_explicit(&log_level_now, (int)level, memory_order_relaxed);
}

void log_hush_thread(void) {
    log_hushed = true;
}

enum log_level log_level(void) {
    return (enum log_level)atomic_load_explicit(&log_level_now, memory_order_relaxed);
}

void log_set_fd(int fd) {
    log_flush();
    atomic_store_explicit(&log_fd_now, fd, memory_order_relaxed);
    atomic_store(&log_syslog_now, false);
    log_writer_forgive();
}

void log_to_syslog(const char *ident, int facility) {
    log_flush();
    openlog(ident, LOG_PID | LOG_NDELAY, facility);
    atomic_store(&log_syslog_now, true);
}

void log_set_wrap(log_wrap_fn *wrap) {
    atomic_store_explicit(&log_wrap_now, wrap, memory_order_relaxed);
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
