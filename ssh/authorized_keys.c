#include "ssh/authorized_keys.h"
#include "ssh/base64.h"
#include "ssh/codec.h"
#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

void key_options_init(struct key_options *options) {
    *options = (struct key_options){.forwarding = true, .expiry_time = INT64_MAX};
}

void key_options_deinit(struct key_options *options) {
    permission_clear(&options->permit_open);
    permission_clear(&options->permit_listen);
    free(options->from);
    key_options_init(options);
}

void authorized_key_deinit(struct authorized_key *key) {
    key_options_deinit(&key->options);
    free(key->type);
    free(key->blob);
    free(key->comment);
    *key = (struct authorized_key){0};
}

/* A line on its way through the parser. */
struct parsing {
    const char *at;
    struct key_options *options;
    bool command, authority, principals;
    const char *why;
};

static int malformed(struct parsing *line, const char *why) {
    line->why = why;
    return ERR_CONFIG;
}

static int no_memory(struct parsing *line) {
    line->why = "out of memory";
    return ERR_NOMEM;
}

static int restrict_set(struct parsing *line, const char *value, bool on) {
    (void)value, (void)on;
    line->options->forwarding = false;
    return 0;
}

static int forwarding_set(struct parsing *line, const char *value, bool on) {
    (void)value;
    line->options->forwarding = on;
    return 0;
}

static int authority_set(struct parsing *line, const char *value, bool on) {
    (void)value, (void)on;
    line->authority = true;
    return 0;
}

static int touch_set(struct parsing *line, const char *value, bool on) {
    (void)value;
    line->options->touch_waived = !on;
    return 0;
}

static int verify_set(struct parsing *line, const char *value, bool on) {
    (void)value;
    line->options->verify_required = on;
    return 0;
}

static int command_set(struct parsing *line, const char *value, bool on) {
    (void)value, (void)on;
    if (line->command)
        return malformed(line, "more than one command=");
    line->command = true;
    return 0;
}

static int principals_set(struct parsing *line, const char *value, bool on) {
    (void)value, (void)on;
    if (line->principals)
        return malformed(line, "more than one principals=");
    line->principals = true;
    return 0;
}

static int from_set(struct parsing *line, const char *value, bool on) {
    (void)on;
    if (line->options->from)
        return malformed(line, "more than one from=");
    line->options->from = strdup(value);
    return line->options->from ? 0 : no_memory(line);
}

static int environment_set(struct parsing *line, const char *value, bool on) {
    (void)on;
    while (isalnum((unsigned char)*value) || *value == '_')
        value++;
    return *value == '=' ? 0 : malformed(line, "environment= without NAME=value");
}

static int tunnel_set(struct parsing *line, const char *value, bool on) {
    (void)on;
    size_t digits = strspn(value, "0123456789");
    bool number = digits > 0 && digits < 10 && !value[digits];
    return number || strcasecmp(value, "any") == 0 ? 0 : malformed(line, "tunnel= is no device number");
}

static int open_set(struct parsing *line, const char *value, bool on) {
    (void)on;
    return permission_add(&line->options->permit_open, PERMISSION_OPEN, value, &line->why);
}

static int listen_set(struct parsing *line, const char *value, bool on) {
    (void)on;
    return permission_add(&line->options->permit_listen, PERMISSION_LISTEN, value, &line->why);
}

/* Reads two decimal digits, and moves on. */
static int two_digits(const char **at) {
    int value = ((*at)[0] - '0') * 10 + ((*at)[1] - '0');
    *at += 2;
    return value;
}

/* YYYYMMDD, YYYYMMDDHHMM or YYYYMMDDHHMMSS, `digits` long; the fields' ranges are strptime's. */
static bool time_fields(const char *at, size_t digits, struct tm *tm) {
    int century = two_digits(&at);
    *tm = (struct tm){.tm_year = century * 100 + two_digits(&at) - 1900, .tm_isdst = -1};
    tm->tm_mon = two_digits(&at) - 1;
    tm->tm_mday = two_digits(&at);
    if (digits >= 12) {
        tm->tm_hour = two_digits(&at);
        tm->tm_min = two_digits(&at);
    }
    if (digits == 14)
        tm->tm_sec = two_digits(&at);
    return tm->tm_mon >= 0 && tm->tm_mon < 12 && tm->tm_mday >= 1 && tm->tm_mday <= 31 && tm->tm_hour < 24 &&
           tm->tm_min < 60 && tm->tm_sec <= 60;
}

static int expiry_set(struct parsing *line, const char *value, bool on) {
    (void)on;
    size_t digits = strspn(value, "0123456789");
    bool utc = strcasecmp(value + digits, "Z") == 0 || strcasecmp(value + digits, "UTC") == 0;
    struct tm tm;
    bool sound =
        (digits == 8 || digits == 12 || digits == 14) && (utc || !value[digits]) && time_fields(value, digits, &tm);
    if (!sound)
        return malformed(line, "expiry-time= is no YYYYMMDD[Z] or YYYYMMDDHHMM[SS][Z]");
    int64_t when = utc ? timegm(&tm) : mktime(&tm);
    if (when <= 0) /* as sshd: nothing can expire before time begins */
        return malformed(line, "expiry-time= is before 1970");
    if (when < line->options->expiry_time)
        line->options->expiry_time = when;
    return 0;
}

enum option_form { FLAG, NEGATABLE, VALUE };
struct option {
    const char *name;
    enum option_form form;
    int (*set)(struct parsing *line, const char *value, bool on); /* NULL: nothing that leatd would grant */
};
static const struct option options[] = {
    {"restrict", FLAG, restrict_set},
    {"cert-authority", FLAG, authority_set},
    {"port-forwarding", NEGATABLE, forwarding_set},
    {"agent-forwarding", NEGATABLE, NULL},
    {"x11-forwarding", NEGATABLE, NULL},
    {"pty", NEGATABLE, NULL},
    {"user-rc", NEGATABLE, NULL},
    {"touch-required", NEGATABLE, touch_set},
    {"verify-required", NEGATABLE, verify_set},
    {"command", VALUE, command_set},
    {"principals", VALUE, principals_set},
    {"from", VALUE, from_set},
    {"expiry-time", VALUE, expiry_set},
    {"environment", VALUE, environment_set},
    {"permitopen", VALUE, open_set},
    {"permitlisten", VALUE, listen_set},
    {"tunnel", VALUE, tunnel_set},
};

static const struct option *option_find(const char *name, size_t len, enum option_form form) {
    for (size_t i = 0; i < sizeof options / sizeof *options; i++)
        if (options[i].form == form && strlen(options[i].name) == len && strncasecmp(options[i].name, name, len) == 0)
            return &options[i];
    return NULL;
}

/* "…" with \" for a quote. *value is the caller's. */
static int value_take(struct parsing *line, char **value) {
    if (*line->at != '"')
        return malformed(line, "an option's value is not in quotes");
    const char *from = line->at + 1;
    char *out = *value = malloc(strlen(from) + 1);
    if (!out)
        return no_memory(line);
    for (; *from && *from != '"'; from++) {
        if (from[0] == '\\' && from[1] == '"')
            from++;
        *out++ = *from;
    }
    *out = 0;
    if (!*from) {
        free(*value);
        return malformed(line, "a quote is not closed");
    }
    line->at = from + 1;
    return 0;
}

static int flag_take(struct parsing *line, size_t len) {
    bool negated = len > 3 && strncasecmp(line->at, "no-", 3) == 0;
    const struct option *option = option_find(line->at, len, FLAG);
    if (!option)
        option = option_find(line->at + (negated ? 3 : 0), len - (negated ? 3 : 0), NEGATABLE);
    if (!option)
        return malformed(line, "unknown key option");
    line->at += len;
    return option->set ? option->set(line, NULL, !negated) : 0;
}

static int option_take(struct parsing *line) {
    size_t len = strcspn(line->at, "=,\" \t");
    if (line->at[len] != '=')
        return flag_take(line, len);
    const struct option *option = option_find(line->at, len, VALUE);
    if (!option)
        return malformed(line, "unknown key option");
    line->at += len + 1;
    char *value;
    int error = value_take(line, &value);
    if (error)
        return error;
    error = option->set(line, value, true);
    free(value);
    return error;
}

static bool is_blank(char c) {
    return c == ' ' || c == '\t';
}

static int options_take(struct parsing *line) {
    while (*line->at && !is_blank(*line->at)) {
        int error = option_take(line);
        if (error)
            return error;
        if (*line->at == ',')
            line->at++;
        else if (*line->at && !is_blank(*line->at))
            return malformed(line, "unknown key option");
    }
    return 0;
}

static const char *const types[] = {
    "ssh-ed25519",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "ssh-rsa",
    "ssh-dss",
    "sk-ssh-ed25519@openssh.com",
    "sk-ecdsa-sha2-nistp256@openssh.com",
};
static const char certificate[] = "-cert-v01@openssh.com";

static bool is_certificate(const char *type, size_t len) {
    size_t suffix = strlen(certificate);
    return len > suffix && strncmp(type + len - suffix, certificate, suffix) == 0;
}

static bool is_type(const char *type, size_t len) {
    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        if (strlen(types[i]) == len && strncmp(types[i], type, len) == 0)
            return true;
    return is_certificate(type, len);
}

static size_t word_len(const char *at) {
    return strcspn(at, " \t\r\n");
}

/* The next word, copied, and behind the blanks that follow it. */
static char *word_take(struct parsing *line) {
    size_t len = word_len(line->at);
    char *word = strndup(line->at, len);
    line->at += len;
    line->at += strspn(line->at, " \t");
    return word;
}

int authorized_key_blob(const char *text, uint8_t **blob, size_t *len) {
    size_t text_len = strlen(text);
    while (text_len > 0 && text[text_len - 1] == '=')
        text_len--;
    size_t padding = (4 - text_len % 4) % 4;
    char *padded = malloc(text_len + padding + 1);
    *blob = malloc(text_len + 1);
    int decoded = ERR_NOMEM;
    if (padded && *blob) {
        memcpy(padded, text, text_len);
        memset(padded + text_len, '=', padding);
        decoded = base64_decode(*blob, text_len + 1, padded, text_len + padding);
    }
    free(padded);
    if (decoded < 0) {
        free(*blob);
        *blob = NULL;
        return decoded;
    }
    *len = (size_t)decoded;
    return 0;
}

/* The blob begins with the name of its type (RFC 4253 §6.6), which must be the one the line says. */
static int blob_check(struct parsing *line, const struct authorized_key *key) {
    uint8_t *blob;
    size_t len;
    int error = authorized_key_blob(key->blob, &blob, &len);
    if (error)
        return error == ERR_NOMEM ? no_memory(line) : malformed(line, "the key is not base64");
    struct reader reader;
    reader_init(&reader, blob, (uint32_t)len);
    struct bytes type = reader_string(&reader);
    bool sound = reader_ok(&reader) && reader_left(&reader) > 0 && bytes_equal(type, key->type);
    free(blob);
    return sound ? 0 : malformed(line, "the key is not of the type that the line says");
}

static int key_take(struct parsing *line, struct authorized_key *key) {
    key->type = word_take(line);
    key->blob = word_take(line);
    size_t len = strlen(line->at);
    while (len > 0 && isspace((unsigned char)line->at[len - 1]))
        len--;
    key->comment = strndup(line->at, len);
    if (!key->type || !key->blob || !key->comment)
        return no_memory(line);
    return blob_check(line, key);
}

static int unsupported(struct parsing *line, const char *why) {
    line->why = why;
    return ERR_UNSUPPORTED;
}

static int served_check(struct parsing *line, const struct authorized_key *key) {
    if (line->authority)
        return unsupported(line, "certificate authorities are not supported");
    if (line->principals) /* sshd refuses the key as well */
        return malformed(line, "principals= without cert-authority");
    if (is_certificate(key->type, strlen(key->type)))
        return unsupported(line, "certificates are not supported");
    if (strcmp(key->type, "ssh-dss") == 0)
        return unsupported(line, "ssh-dss keys are not supported");
    return 0;
}

static int line_parse(struct parsing *line, struct authorized_key *key) {
    if (!is_type(line->at, word_len(line->at))) {
        int error = options_take(line);
        if (error)
            return error;
        line->at += strspn(line->at, " \t");
    }
    if (!is_type(line->at, word_len(line->at)))
        return malformed(line, "no key of a known type");
    int error = key_take(line, key);
    return error ? error : served_check(line, key);
}

int authorized_key_parse(const char *text, struct authorized_key *key, const char **why) {
    text += strspn(text, " \t\r\n");
    if (!*text || *text == '#')
        return 0;
    *key = (struct authorized_key){0};
    key_options_init(&key->options);
    struct parsing line = {.at = text, .options = &key->options};
    int error = line_parse(&line, key);
    if (!error)
        return 1;
    authorized_key_deinit(key);
    *why = line.why;
    return error;
}
