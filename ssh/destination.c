#include "ssh/destination.h"
#include "ssh/text.h"
#include "ssh/values.h"
#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

static bool name_sound(const char *name, const char *forbidden, bool blanks) {
    if (*name == '-')
        return false;
    for (const char *c = name; *c; c++)
        if (strchr(forbidden, *c) || iscntrl((unsigned char)*c) || (!blanks && isspace((unsigned char)*c)))
            return false;
    return true;
}

bool destination_host_sound(const char *host) {
    return *host && name_sound(host, "'`\"$\\;&<>|(){}", false);
}

/* A user may be "DOMAIN\name" or hold a blank, but not one that begins a new option, nor a \ that quotes what follows.
 */
bool destination_user_sound(const char *user) {
    size_t len = strlen(user);
    return len && name_sound(user, "'`\";&<>|(){}$", true) && !strstr(user, " -") && user[len - 1] != '\\';
}

static int fail(struct destination *destination, const char **why, const char *text) {
    destination_deinit(destination);
    *why = text;
    return ERR_CONFIG;
}

static int hex(char c) {
    return isdigit((unsigned char)c) ? c - '0' : tolower((unsigned char)c) - 'a' + 10;
}

/* RFC 3986 §2.1, in place. False: not well-formed, or a NUL. */
static bool percent_decode(char *text) {
    char *out = text;
    for (; *text; text++) {
        if (*text != '%') {
            *out++ = *text;
            continue;
        }
        if (!isxdigit((unsigned char)text[1]) || !isxdigit((unsigned char)text[2]))
            return false;
        *out = (char)(hex(text[1]) * 16 + hex(text[2]));
        if (!*out++)
            return false;
        text += 2;
    }
    *out = 0;
    return true;
}

/* "host", "[host]", and with_port "host:port", "[host]:port". */
static bool host_take(const char *text, bool with_port, struct destination *destination) {
    const char *host = text, *behind;
    size_t len;
    if (*text == '[') {
        const char *close = strchr(text, ']');
        if (!close)
            return false;
        host++;
        len = (size_t)(close - host);
        behind = close + 1;
    } else {
        len = with_port ? strcspn(text, ":") : strlen(text);
        behind = text + len;
    }
    destination->host = text_copy_part(host, len);
    if (!*behind)
        return true;
    destination->port_given = true;
    return with_port && *behind == ':' && value_port(behind + 1, &destination->port) && destination->port > 0;
}

static int parse(const char *text, bool with_port, bool uri, struct destination *destination, const char **why) {
    *destination = (struct destination){0};
    const char *at = strrchr(text, '@');
    if (at)
        destination->user = text_copy_part(text, (size_t)(at - text));
    if (uri && destination->user) {
        destination->user[strcspn(destination->user, ";")] = 0; /* connection parameters, as ssh leaves them out */
        if (!percent_decode(destination->user))
            return fail(destination, why, "bad %-encoding of the user");
    }
    if (!host_take(at ? at + 1 : text, with_port, destination))
        return fail(destination, why, "bad host or port");
    if (destination->user && !destination_user_sound(destination->user))
        return fail(destination, why, "the user name holds invalid characters");
    if (!destination_host_sound(destination->host))
        return fail(destination, why, "the host name is empty or holds invalid characters");
    return 0;
}

static int parse_uri(const char *text, struct destination *destination, const char **why) {
    char *rest = text_copy(text + strlen("ssh://"));
    size_t len = strlen(rest);
    if (len && rest[len - 1] == '/')
        rest[len - 1] = 0;
    int error = ERR_CONFIG;
    if (strchr(rest, '/'))
        *why = "a path in the URI";
    else
        error = parse(rest, true, true, destination, why);
    free(rest);
    return error;
}

static bool is_uri(const char *text) {
    return strncasecmp(text, "ssh://", strlen("ssh://")) == 0;
}

int destination_parse(const char *text, struct destination *destination, const char **why) {
    *destination = (struct destination){0};
    return is_uri(text) ? parse_uri(text, destination, why) : parse(text, false, false, destination, why);
}

int destination_parse_hop(const char *text, struct destination *destination, const char **why) {
    *destination = (struct destination){0};
    return is_uri(text) ? parse_uri(text, destination, why) : parse(text, true, false, destination, why);
}

void destination_deinit(struct destination *destination) {
    free(destination->user);
    free(destination->host);
    *destination = (struct destination){0};
}
