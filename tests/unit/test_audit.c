/* The lines of the audit, as leatd(8) has them. */
#include "log_pipe.h"
#include "seed.h"
#include "ssh/audit.h"
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct audit closed = {.event = "forward closed",
                                    .connection = 7,
                                    .user = "alice",
                                    .key = "SHA256:abc",
                                    .source = "192.0.2.7 port 40000",
                                    .forward = "direct-tcpip",
                                    .requested = "lan-host port 80",
                                    .resolved = "192.0.2.9 port 80",
                                    .counted = true,
                                    .bytes_to_target = 123,
                                    .bytes_from_target = 456,
                                    .duration_ns = UINT64_C(1234999999),
                                    .reason = "connection reset"};

static void is_text(const struct audit *audit, const char *expected) {
    char *text = audit_text(audit, LOG_FORMAT_TEXT);
    cr_assert_not_null(text);
    cr_expect_str_eq(text, expected, "%s\n%s", text, expected);
    free(text);
}

static json_t *json(const struct audit *audit) {
    char *text = audit_text(audit, LOG_FORMAT_JSON);
    cr_assert_not_null(text);
    cr_expect_null(strchr(text, '\n'));
    json_error_t error;
    json_t *object = json_loads(text, JSON_REJECT_DUPLICATES, &error);
    cr_assert(json_is_object(object), "%s: %s", text, error.text);
    free(text);
    return object;
}

static void has_string(const json_t *object, const char *name, const char *value) {
    const char *found = json_string_value(json_object_get(object, name));
    cr_expect(value == NULL ? found == NULL : found != NULL && strcmp(found, value) == 0, "%s is %s, not %s", name,
              found, value);
}
static void has_number(const json_t *object, const char *name, json_int_t value) {
    json_t *found = json_object_get(object, name);
    cr_expect(json_is_integer(found) && json_integer_value(found) == value, "%s is %lld", name,
              json_integer_value(found));
}

Test(audit, a_closed_forward_as_text) {
    is_text(&closed, "forward closed: connection 7 user alice key SHA256:abc from 192.0.2.7 port 40000 direct-tcpip to "
                     "lan-host port 80 (192.0.2.9 port 80): 123 bytes out, 456 back, 1.234 s: connection reset");
}

Test(audit, what_is_missing_is_left_out) {
    struct audit audit = {.event = "listening"};
    is_text(&audit, "listening");
    audit.reason = "why";
    is_text(&audit, "listening: why");
    audit.detail = "aes128-gcm@openssh.com";
    is_text(&audit, "listening: [aes128-gcm@openssh.com]: why");
    audit.forward = "tcpip-forward";
    audit.requested = "127.0.0.1 port 0";
    audit.resolved = "127.0.0.1 port 39999";
    audit.detail = audit.reason = NULL;
    is_text(&audit, "listening: tcpip-forward on 127.0.0.1 port 0 (127.0.0.1 port 39999)");
    audit.forward = "forwarded-tcpip";
    audit.origin = "198.51.100.3 port 1025";
    audit.counted = true;
    is_text(&audit, "listening: forwarded-tcpip origin 198.51.100.3 port 1025 to 127.0.0.1 port 0 (127.0.0.1 port "
                    "39999): 0 bytes out, 0 back, 0.000 s");
    is_text(&(struct audit){.event = "connection opened", .source = "standard input"},
            "connection opened: from standard input");
    is_text(&(struct audit){.event = "forward opened", .forward = "direct-streamlocal@openssh.com", .requested = "/a"},
            "forward opened: direct-streamlocal@openssh.com to /a");
}

Test(audit, a_closed_forward_as_json) {
    json_t *object = json(&closed);
    has_string(object, "event", "forward closed");
    has_number(object, "connection", 7);
    has_string(object, "user", "alice");
    has_string(object, "key", "SHA256:abc");
    has_string(object, "source", "192.0.2.7");
    has_number(object, "source_port", 40000);
    has_string(object, "forward", "direct-tcpip");
    has_string(object, "requested", "lan-host");
    has_number(object, "requested_port", 80);
    has_string(object, "resolved", "192.0.2.9");
    has_number(object, "resolved_port", 80);
    has_number(object, "bytes_to_target", 123);
    has_number(object, "bytes_from_target", 456);
    has_number(object, "duration_ms", 1234);
    has_string(object, "reason", "connection reset");
    has_string(object, "origin", NULL);
    cr_expect_eq(json_object_size(object), 16);
    json_decref(object);
}

Test(audit, json_time_is_now_in_utc) {
    setenv("TZ", "Asia/Kathmandu", 1);
    tzset();
    time_t before = time(NULL);
    json_t *object = json(&closed);
    const char *text = json_string_value(json_object_get(object, "time"));
    struct tm utc = {0};
    cr_assert_not_null(text);
    cr_assert_eq(strlen(text), strlen("2026-01-02T03:04:05.678Z"), "%s", text);
    const char *rest = strptime(text, "%Y-%m-%dT%H:%M:%S", &utc);
    cr_assert(rest != NULL && rest[0] == '.' && strcmp(rest + 4, "Z") == 0, "%s", text);
    cr_expect(timegm(&utc) >= before && timegm(&utc) <= time(NULL), "%s", text);
    json_decref(object);
}

Test(audit, numbers_at_their_ends) {
    struct audit audit = {.event = "e", .connection = UINT64_MAX, .counted = true, .bytes_to_target = UINT64_MAX};
    is_text(&audit, "e: connection 18446744073709551615: 18446744073709551615 bytes out, 0 back, 0.000 s");
    json_t *object = json(&audit);
    has_number(object, "bytes_to_target", INT64_MAX);
    has_number(object, "bytes_from_target", 0);
    json_decref(object);
    audit = (struct audit){.event = "e", .counted = true, .duration_ns = UINT64_C(3600000000000)};
    is_text(&audit, "e: 0 bytes out, 0 back, 3600.000 s");
}

/* A path is whatever the client says; a host's port is the last one. */
Test(audit, a_path_is_no_host) {
    json_t *object = json(&(struct audit){.event = "e",
                                          .forward = "direct-streamlocal@openssh.com",
                                          .requested = "/run/x port 80",
                                          .source = "::1 port 9"});
    has_string(object, "requested", "/run/x port 80");
    cr_expect_null(json_object_get(object, "requested_port"));
    has_string(object, "source", "::1");
    json_decref(object);
    object = json(&(struct audit){.event = "e", .forward = "direct-tcpip", .requested = "x port 22 port 80"});
    has_string(object, "requested", "x port 22");
    has_number(object, "requested_port", 80);
    json_decref(object);
    object = json(&(struct audit){.event = "e", .source = "UNKNOWN", .origin = "x port ", .requested = "x port 8a"});
    has_string(object, "source", "UNKNOWN");
    has_string(object, "origin", "x port ");
    has_string(object, "requested", "x port 8a");
    json_decref(object);
}

/* Nothing a client says makes a line that says something else. */
Test(audit, a_peer_cannot_write_lines_of_its_own) {
    const struct audit audit = {.event = "forward refused",
                                .user = "eve key SHA256:x from 192.0.2.1 port 1\nleatd: forward opened",
                                .forward = "direct-tcpip",
                                .requested = "a port 1 (10.0.0.1 port 1): 0 bytes out\xff port 7",
                                .reason = "\x1b[2J"};
    is_text(&audit, "forward refused: user eve\\040key\\040SHA256:x\\040from\\040192.0.2.1\\040port\\0401\\012leatd:"
                    "\\040forward\\040opened direct-tcpip to a\\040port\\0401\\040(10.0.0.1\\040port\\0401):\\0400"
                    "\\040bytes\\040out\\377 port 7: \\033[2J");
    json_t *object = json(&audit);
    has_string(object, "user", "eve key SHA256:x from 192.0.2.1 port 1\\012leatd: forward opened");
    has_string(object, "requested", "a port 1 (10.0.0.1 port 1): 0 bytes out\\377");
    has_string(object, "reason", "\\033[2J");
    json_decref(object);
}

/* Random bytes of random length in every string: the line is one line, ASCII, fits, and JSON is JSON. */
static const char *noise(uint64_t *state, char *out, uint32_t cap) {
    static const char nasty[] = {'"', '\\', ' ', '\xff'};
    uint32_t len = random_below(state, cap), kind = random_below(state, 8);
    for (uint32_t i = 0; i < len; i++)
        out[i] = kind < sizeof nasty ? nasty[kind] : (char)(random_below(state, 255) + 1);
    out[len] = '\0';
    return random_chance(state, 8) ? NULL : out;
}

static void check_line(const struct audit *audit, enum log_format format) {
    char *line = audit_text(audit, format);
    cr_assert_not_null(line);
    cr_assert_lt(strlen(line), LOG_LINE_BYTES - 64);
    for (const char *at = line; *at != '\0'; at++)
        cr_assert(*at >= ' ' && *at < 127, "byte %d", *at);
    json_t *object = format == LOG_FORMAT_JSON ? json_loads(line, 0, NULL) : NULL;
    cr_assert(format == LOG_FORMAT_TEXT || json_is_object(object), "%s", line);
    json_decref(object);
    free(line);
}

static void random_audit(uint64_t *state) {
    static char text[10][3000];
    uint32_t cap = random_chance(state, 3) ? sizeof text[0] : 40;
    struct audit audit = {.connection = random_u32(state), .counted = random_chance(state, 2)};
    const char **fields[] = {&audit.event,     &audit.user,     &audit.key,    &audit.source, &audit.forward,
                             &audit.requested, &audit.resolved, &audit.origin, &audit.detail, &audit.reason};
    for (unsigned i = 0; i < sizeof fields / sizeof *fields; i++)
        *fields[i] = noise(state, text[i], cap);
    check_line(&audit, LOG_FORMAT_TEXT);
    check_line(&audit, LOG_FORMAT_JSON);
}

Test(audit, anything_in_any_field, .fini = seed_report, .timeout = 60) {
    seed_each(2000, random_audit);
}

Test(audit, the_line_is_logged_as_the_format_wants, .init = setup, .fini = teardown) {
    static char out[9000];
    log_init("leatd", LOG_LEVEL_INFO, pipe_fds[1]);
    audit_log(LOG_LEVEL_INFO, &(struct audit){.event = "forward opened", .connection = 1});
    audit_log(LOG_LEVEL_VERBOSE, &(struct audit){.event = "not wanted"});
    cr_expect_str_eq(logged(out, sizeof out), "leatd: forward opened: connection 1\n");
    audit_set_format(LOG_FORMAT_JSON);
    audit_log(LOG_LEVEL_INFO, &(struct audit){.event = "forward opened", .connection = 1});
    json_t *object = json_loads(logged(out, sizeof out), 0, NULL);
    has_string(object, "event", "forward opened");
    json_decref(object);
    audit_set_format(LOG_FORMAT_TEXT);
    log_info("text");
    cr_expect_str_eq(logged(out, sizeof out), "leatd: text\n");
}

/* With JSON there is no line that a reader of JSON cannot read. */
Test(audit, other_lines_become_objects_too, .init = setup, .fini = teardown) {
    static char out[9000], big[9000];
    log_init("leatd", LOG_LEVEL_INFO, pipe_fds[1]);
    audit_set_format(LOG_FORMAT_JSON);
    memset(big, '"', sizeof big - 1);
    const struct {
        const char *text, *message;
    } cases[] = {{"listening on \"x\"", "listening on \"x\""},
                 {"caf\xc3\xa9 \\012", "caf\xc3\xa9 \\012"},
                 {"\xff", "\\377"},
                 {"", ""},
                 {big, NULL}};
    for (unsigned i = 0; i < sizeof cases / sizeof *cases; i++) {
        log_error("%s", cases[i].text);
        json_t *object = json_loads(logged(out, sizeof out), 0, NULL);
        cr_assert(json_is_object(object), "%s", out);
        has_string(object, "event", "message");
        has_string(object, "level", "error");
        if (cases[i].message != NULL)
            has_string(object, "message", cases[i].message);
        else
            cr_expect_gt(json_string_length(json_object_get(object, "message")), 1000);
        json_decref(object);
    }
    audit_set_format(LOG_FORMAT_TEXT);
}
