#include "ssh/audit.h"
#include <inttypes.h>
#include <jansson.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* Of one string, escaped. Where all of them together make a line too long, half of it, and so on: at the least, eleven
 * strings that JSON doubles still fit. */
#define FIELD_BYTES 1024u
#define FIELD_BYTES_MIN 64u
#define TEXT_BYTES (LOG_LINE_BYTES - 128) /* the program's name comes before it */

#define PORT_WORD " port "
#define PORT_WORD_BYTES (sizeof PORT_WORD - 1)

static _Atomic int format_now = LOG_FORMAT_TEXT;

/* The digits after the last " port ", since what is before it is what a peer said; NULL: there are none. */
static const char *endpoint_port(const char *value, bool has_port) {
    const char *port = NULL;
    for (const char *at = value; has_port && at != NULL && (at = strstr(at, PORT_WORD)) != NULL; at++)
        port = at + PORT_WORD_BYTES;
    return port != NULL && *port != '\0' && port[strspn(port, "0123456789")] == '\0' ? port : NULL;
}

/* Else paths, which may look like anything. */
static bool has_ports(const struct audit *audit) {
    return audit->forward == NULL || strstr(audit->forward, "streamlocal") == NULL;
}

/* ---- text ---- */

struct text_line {
    FILE *out;
    size_t cap; /* of a field */
    bool begun; /* something stands after the event */
};

static const char *escaped(char out[FIELD_BYTES], size_t cap, const char *value) {
    return log_safe(out, cap, value, strlen(value));
}

/* " word value", after the colon that ends the event. */
static void text_field(struct text_line *line, const char *before, const char *value, const char *after) {
    char safe[FIELD_BYTES];
    if (value == NULL)
        return;
    fprintf(line->out, "%s%s%s%s", line->begun ? " " : ": ", before, escaped(safe, line->cap, value), after);
    line->begun = true;
}

/* The first len bytes are one word, whatever the client put into them: nothing that follows can be made up. */
static void text_word(struct text_line *line, const char *before, const char *value, size_t len) {
    char safe[FIELD_BYTES];
    if (value == NULL)
        return;
    fprintf(line->out, "%s%s", line->begun ? " " : ": ", before);
    for (const char *at = log_safe(safe, line->cap, value, len); *at != '\0'; at++)
        fputs(*at == ' ' ? "\\040" : (char[2]){*at, '\0'}, line->out);
    line->begun = true;
}

static void text_user(struct text_line *line, const char *user) {
    text_word(line, "user ", user, user != NULL ? strlen(user) : 0);
}

static void text_endpoint(struct text_line *line, const char *before, const char *value, bool has_port) {
    const char *port = endpoint_port(value, has_port);
    text_word(line, before, value, port != NULL ? (size_t)(port - PORT_WORD_BYTES - value) : value ? strlen(value) : 0);
    if (port != NULL)
        fprintf(line->out, PORT_WORD "%.20s", port);
}

static bool is_listening(const char *forward) {
    return strncmp(forward, "tcpip-forward", 13) == 0 || strncmp(forward, "streamlocal-forward", 19) == 0;
}

static void text_forward(struct text_line *line, const struct audit *audit) {
    text_field(line, "", audit->forward, "");
    text_endpoint(line, "origin ", audit->origin, has_ports(audit));
    text_endpoint(line, audit->forward != NULL && is_listening(audit->forward) ? "on " : "to ", audit->requested,
                  has_ports(audit));
    if (audit->resolved == NULL)
        return;
    text_endpoint(line, "(", audit->resolved, has_ports(audit));
    fputc(')', line->out);
}

static void text_write(struct text_line *line, const struct audit *audit) {
    char safe[FIELD_BYTES], number[24];
    fputs(escaped(safe, line->cap, audit->event != NULL ? audit->event : "event"), line->out);
    snprintf(number, sizeof number, "%" PRIu64, audit->connection);
    text_field(line, "connection ", audit->connection != 0 ? number : NULL, "");
    text_user(line, audit->user);
    text_field(line, "key ", audit->key, "");
    text_field(line, "from ", audit->source, "");
    text_forward(line, audit);
    text_field(line, "[", audit->detail, "]");
    if (audit->counted)
        fprintf(line->out, ": %" PRIu64 " bytes out, %" PRIu64 " back, %" PRIu64 ".%03" PRIu64 " s",
                audit->bytes_to_target, audit->bytes_from_target, audit->duration_ns / 1000000000,
                audit->duration_ns / 1000000 % 1000);
    if (audit->reason != NULL)
        fprintf(line->out, ": %s", escaped(safe, line->cap, audit->reason));
}

static char *text_make(const struct audit *audit, size_t cap) {
    char *text = NULL;
    size_t len;
    struct text_line line = {.out = open_memstream(&text, &len), .cap = cap};
    if (line.out == NULL)
        return NULL;
    text_write(&line, audit);
    bool failed = ferror(line.out) != 0;
    if (fclose(line.out) == 0 && !failed)
        return text;
    free(text);
    return NULL;
}

/* ---- JSON ---- */

static const char *time_now(char out[40]) {
    struct timespec now;
    struct tm utc;
    char seconds[24];
    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &utc);
    strftime(seconds, sizeof seconds, "%Y-%m-%dT%H:%M:%S", &utc);
    snprintf(out, 40, "%s.%03ldZ", seconds, now.tv_nsec / 1000000);
    return out;
}

/* Escaped text is ASCII, so it is a JSON string whatever the peer sent. */
static void json_text(json_t *object, size_t cap, const char *name, const char *value) {
    char safe[FIELD_BYTES];
    if (value != NULL)
        json_object_set_new(object, name, json_string(escaped(safe, cap, value)));
}

static void json_number(json_t *object, const char *name, uint64_t value) {
    json_object_set_new(object, name, json_integer(value > INT64_MAX ? INT64_MAX : (json_int_t)value));
}

/* "host port 80" becomes two members. */
static void json_endpoint(json_t *object, size_t cap, const char *name, const char *value, bool has_port) {
    const char *port = endpoint_port(value, has_port);
    if (port == NULL)
        return json_text(object, cap, name, value);
    char host[FIELD_BYTES], port_name[32];
    log_safe(host, cap, value, (size_t)(port - PORT_WORD_BYTES - value));
    json_object_set_new(object, name, json_string(host));
    snprintf(port_name, sizeof port_name, "%s_port", name);
    json_number(object, port_name, strtoull(port, NULL, 10));
}

static void json_fill(json_t *object, const struct audit *audit, size_t cap) {
    bool has_port = has_ports(audit);
    char now[40];
    json_text(object, cap, "time", time_now(now));
    json_text(object, cap, "event", audit->event != NULL ? audit->event : "event");
    if (audit->connection != 0)
        json_number(object, "connection", audit->connection);
    json_text(object, cap, "user", audit->user);
    json_text(object, cap, "key", audit->key);
    json_endpoint(object, cap, "source", audit->source, true);
    json_text(object, cap, "forward", audit->forward);
    json_endpoint(object, cap, "origin", audit->origin, has_port);
    json_endpoint(object, cap, "requested", audit->requested, has_port);
    json_endpoint(object, cap, "resolved", audit->resolved, has_port);
    json_text(object, cap, "detail", audit->detail);
    if (audit->counted) {
        json_number(object, "bytes_to_target", audit->bytes_to_target);
        json_number(object, "bytes_from_target", audit->bytes_from_target);
        json_number(object, "duration_ms", audit->duration_ns / 1000000);
    }
    json_text(object, cap, "reason", audit->reason);
}

static char *json_make(const struct audit *audit, size_t cap) {
    json_t *object = json_object();
    if (object == NULL)
        return NULL;
    json_fill(object, audit, cap);
    char *text = json_dumps(object, JSON_COMPACT);
    json_decref(object);
    return text;
}

static const char *level_name(enum log_level level) {
    static const char *const names[] = {"quiet", "fatal", "error", "info", "verbose", "debug1", "debug2", "debug3"};
    return (unsigned)level < sizeof names / sizeof *names ? names[level] : "info";
}

/* false: it is no JSON string (not UTF-8), too long, or there is no memory. */
static bool message_write(char *out, size_t cap, enum log_level level, const char *text) {
    char now[40];
    json_t *object = json_pack("{s:s, s:s, s:s, s:s}", "time", time_now(now), "event", "message", "level",
                               level_name(level), "message", text);
    char *line = object != NULL ? json_dumps(object, JSON_COMPACT) : NULL;
    json_decref(object);
    bool fits = line != NULL && strlen(line) < cap;
    if (fits)
        memcpy(out, line, strlen(line) + 1);
    free(line);
    return fits;
}

/* Every line that is not of the audit. What a peer put into it is escaped already; a file's name may be anything. */
static void wrap_message(char *out, unsigned long cap, enum log_level level, const char *text) {
    char safe[LOG_LINE_BYTES];
    if (message_write(out, cap, level, text))
        return;
    for (size_t room = sizeof safe; room >= FIELD_BYTES_MIN; room /= 2)
        if (message_write(out, cap, level, log_safe(safe, room, text, strlen(text))))
            return;
    snprintf(out, cap, "{\"event\":\"message\",\"message\":\"no memory for it\"}");
}

/* ---- both ---- */

void audit_set_format(enum log_format format) {
    atomic_store_explicit(&format_now, (int)format, memory_order_relaxed);
    log_set_wrap(format == LOG_FORMAT_JSON ? wrap_message : NULL);
}

char *audit_text(const struct audit *audit, enum log_format format) {
    for (size_t cap = FIELD_BYTES;; cap /= 2) {
        char *text = format == LOG_FORMAT_JSON ? json_make(audit, cap) : text_make(audit, cap);
        if (text == NULL || strlen(text) <= TEXT_BYTES || cap == FIELD_BYTES_MIN)
            return text;
        free(text);
    }
}

void audit_log(enum log_level level, const struct audit *audit) {
    if (!log_wants(level))
        return;
    enum log_format format = (enum log_format)atomic_load_explicit(&format_now, memory_order_relaxed);
    char *text = audit_text(audit, format);
    if (text == NULL)
        log_line(level, "%s: connection %" PRIu64 ": no memory for more", audit->event, audit->connection);
    else if (format == LOG_FORMAT_JSON)
        log_raw(level, text);
    else
        log_line(level, "%s", text);
    free(text);
}
