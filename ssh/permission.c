#include "ssh/permission.h"
#include "engine/limits.h"
#include "ssh/text.h"
#include "ssh/values.h"
#include <ctype.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int fail(const char **why, int error, const char *reason) {
    *why = reason;
    return error;
}

/* The host before the colon, without brackets, and the port behind it. */
static int split(const char *text, char **host, const char **port, const char **why) {
    bool brackets = *text == '[';
    size_t len = brackets ? strcspn(text, "]") : strcspn(text, ":");
    if (brackets && !text[len])
        return fail(why, ERR_CONFIG, "'[' without ']'");
    const char *behind = text + len + brackets;
    if (*behind != ':')
        return fail(why, ERR_CONFIG, "must be host:port");
    if (len >= NI_MAXHOST)
        return fail(why, ERR_CONFIG, "the host is too long");
    *host = strndup(text + brackets, len - brackets);
    *port = behind + 1;
    return *host ? 0 : fail(why, ERR_NOMEM, err_text(ERR_NOMEM));
}

static int append(struct permission_list *list, const struct permission *permission) {
    struct permission *items = realloc(list->items, (list->count + 1) * sizeof *items);
    if (!items)
        return ERR_NOMEM;
    list->items = items;
    items[list->count++] = *permission;
    list->restricted = true;
    return 0;
}

int permission_add(struct permission_list *list, enum permission_use use, const char *text, const char **why) {
    struct permission permission = {0};
    const char *port = text;
    if (list->count >= LIMIT_PERMISSIONS)
        return fail(why, ERR_LIMIT, "too many of them");
    bool bare_port = use == PERMISSION_LISTEN && !strchr(text, ':');
    int error = bare_port ? 0 : split(text, &permission.host, &port, why);
    if (error)
        return error;
    permission.any_port = !strcmp(port, "*");
    if (!permission.any_port && (!value_port(port, &permission.port) || permission.port == 0)) {
        free(permission.host);
        return fail(why, ERR_CONFIG, "bad port number");
    }
    if (bare_port)
        permission.host = strdup("*");
    for (char *c = permission.host; use == PERMISSION_LISTEN && c && *c; c++)
        *c = (char)tolower((unsigned char)*c);
    error = permission.host ? append(list, &permission) : ERR_NOMEM;
    if (!error)
        return 0;
    free(permission.host);
    return fail(why, error, err_text(error));
}

void permission_clear(struct permission_list *list) {
    for (uint32_t i = 0; i < list->count; i++)
        free(list->items[i].host);
    free(list->items);
    *list = (struct permission_list){0};
}

static bool port_matches(const struct permission *permission, uint16_t port) {
    return permission->any_port || permission->port == port;
}

bool permission_open_matches(const struct permission_list *list, const char *host, uint16_t port) {
    for (uint32_t i = 0; i < list->count; i++) {
        const struct permission *permission = &list->items[i];
        bool host_matches = !strcmp(permission->host, "*") || !strcmp(permission->host, host);
        if (host_matches && port_matches(permission, port))
            return true;
    }
    return !list->restricted;
}

bool permission_listen_matches(const struct permission_list *list, const char *host, uint16_t port) {
    for (uint32_t i = 0; i < list->count; i++)
        if (port_matches(&list->items[i], port) && pattern_match(host, list->items[i].host, true))
            return true;
    return !list->restricted;
}

const char *permission_text(const struct permission *permission, char *out, unsigned long cap) {
    bool brackets = strchr(permission->host, ':') || *permission->host == '[';
    char port[8] = "*";
    if (!permission->any_port)
        snprintf(port, sizeof port, "%u", permission->port);
    snprintf(out, cap, "%s%s%s:%s", brackets ? "[" : "", permission->host, brackets ? "]" : "", port);
    return out;
}
