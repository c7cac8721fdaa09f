#include "ssh/options.h"
#include "ssh/values.h"
#include <ctype.h>
#include <netdb.h>
#include <stdlib.h>
#include <string.h>

#define FIELDS_MAX 4
static const char no_memory[] = "out of memory";

/* "bind:port:host:hostport" cut at its colons. */
struct fields {
    char *text[FIELDS_MAX];
    bool is_path[FIELDS_MAX];
    unsigned count;
};

static void fields_deinit(struct fields *fields) {
    for (unsigned i = 0; i < fields->count; i++)
        free(fields->text[i]);
}

/* Takes one field: "[…]" whole, else up to the next colon; a backslash takes the next byte literally. *at is moved to
 * the colon or the end. */
static const char *field_take(const char **at, char *out, bool *is_path) {
    const char *from = *at;
    *is_path = false;
    if (*from == '[') {
        const char *close = strchr(from, ']');
        if (!close)
            return "'[' without ']'";
        if (close[1] && close[1] != ':')
            return "text between ']' and ':'";
        memcpy(out, from + 1, (size_t)(close - from) - 1);
        out[close - from - 1] = 0;
        *at = close + 1;
        return NULL;
    }
    for (; *from && *from != ':'; from++) {
        if (*from == '\\' && from[1])
            from++;
        *is_path |= *from == '/';
        *out++ = *from;
    }
    *out = 0;
    *at = from;
    return NULL;
}

static const char *fields_split(const char *text, struct fields *fields) {
    for (;; text++) {
        if (fields->count == FIELDS_MAX)
            return "too many fields (an IPv6 address goes in brackets)";
        char *field = strdup(text);
        if (!field)
            return no_memory;
        unsigned i = fields->count++;
        fields->text[i] = field;
        const char *wrong = field_take(&text, field, &fields->is_path[i]);
        if (wrong)
            return wrong;
        if (!*text)
            return NULL;
    }
}

static bool any_path(const struct fields *fields) {
    for (unsigned i = 0; i < fields->count; i++)
        if (fields->is_path[i])
            return true;
    return false;
}

/* A host or bind address that could be one: what it is in the end is the resolver's to say. */
static bool name_sound(const char *name) {
    for (const char *c = name; *c; c++)
        if (isspace((unsigned char)*c) || iscntrl((unsigned char)*c))
            return false;
    return strlen(name) < NI_MAXHOST;
}

static int fail(const char **why, int error, const char *text) {
    *why = text;
    return error;
}

/* Too few fields for a target: say what it is, or what is missing. */
static int short_spec(enum forward_kind kind, const struct fields *fields, const char **why) {
    uint16_t port;
    if (kind == FORWARD_REMOTE && value_port(fields->text[fields->count - 1], &port))
        return fail(why, ERR_UNSUPPORTED, "remote forwarding without a target (SOCKS) is not supported");
    return fail(why, ERR_CONFIG, "must be [bind_address:]port:host:hostport");
}

static int fields_check(enum forward_kind kind, char **field, struct forward_spec *spec, const char **why) {
    if (!value_port(field[0], &spec->port))
        return fail(why, ERR_CONFIG, "bad listening port");
    if (spec->port == 0 && kind == FORWARD_LOCAL)
        return fail(why, ERR_CONFIG, "port 0 can only be asked of the remote side (-R)");
    if (!*field[1])
        return fail(why, ERR_CONFIG, "no target host");
    if (!name_sound(field[1]) || (spec->bind && !name_sound(spec->bind)))
        return fail(why, ERR_CONFIG, "bad host name or address");
    if (!value_port(field[2], &spec->host_port) || spec->host_port == 0)
        return fail(why, ERR_CONFIG, "bad target port");
    return 0;
}

static int fields_to_spec(enum forward_kind kind, struct fields *fields, struct forward_spec *spec, const char **why) {
    if (any_path(fields))
        return fail(why, ERR_UNSUPPORTED, "forwarding of Unix-domain sockets is not supported");
    if (fields->count < 3)
        return short_spec(kind, fields, why);
    unsigned first = fields->count - 3;
    if (first && !(spec->bind = strdup(fields->text[0])))
        return fail(why, ERR_NOMEM, no_memory);
    int error = fields_check(kind, fields->text + first, spec, why);
    if (error)
        return error;
    spec->host = strdup(fields->text[first + 1]);
    return spec->host ? 0 : fail(why, ERR_NOMEM, no_memory);
}

int forward_spec_parse(enum forward_kind kind, const char *text, struct forward_spec *spec, const char **why) {
    *spec = (struct forward_spec){.kind = kind};
    struct fields fields = {0};
    text += strspn(text, " \t");
    *why = fields_split(text, &fields);
    int error = *why == no_memory ? ERR_NOMEM : *why ? ERR_CONFIG : fields_to_spec(kind, &fields, spec, why);
    fields_deinit(&fields);
    if (!error && !(spec->text = strdup(text)))
        error = fail(why, ERR_NOMEM, no_memory);
    if (error)
        forward_spec_deinit(spec);
    return error;
}

void forward_spec_deinit(struct forward_spec *spec) {
    free(spec->bind);
    free(spec->host);
    free(spec->text);
    *spec = (struct forward_spec){0};
}
