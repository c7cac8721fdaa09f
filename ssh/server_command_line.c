/* The command line of leatd, as sshd(8)'s. */
#include "ssh/server_config.h"
#include "ssh/text.h"
#include "ssh/values.h"
#include <getopt.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char usage[] = "usage: leatd [-46DdeiqTtV] [-C connection_spec] [-E log_file] [-f config_file]\n"
                            "             [-g login_grace_time] [-h host_key_file] [-o option] [-p port]\n";

static int usage_error(const char *flag, const char *reason) {
    log_error("%s %s", flag, reason);
    (void)!write(STDERR_FILENO, usage, sizeof usage - 1);
    return ERR_CONFIG;
}

static void state(struct server_command_line *line, const char *keyword, const char *value) {
    strings_add(&line->statements, text_format("%s %s", keyword, value));
}

static void set_family(struct server_command_line *line, int family) {
    line->family = family;
    state(line, "AddressFamily", family == AF_INET ? "inet" : "inet6");
}

/* Flags without an argument. */
static void flag_apply(struct server_command_line *line, int letter) {
    bool *const switches[] = {
        ['D'] = &line->foreground, ['e'] = &line->to_stderr, ['t'] = &line->test_only,   ['T'] = &line->print,
        ['i'] = &line->inetd,      ['q'] = &line->quiet,     ['V'] = &line->version_only};
    if (letter == '4' || letter == '6')
        set_family(line, letter == '4' ? AF_INET : AF_INET6);
    else if (letter == 'd')
        line->debug++;
    else
        *switches[letter] = true;
}

static void argument_apply(struct server_command_line *line, int letter, const char *argument) {
    switch (letter) {
    case 'C':
        strings_add(&line->connection, text_copy(argument));
        break;
    case 'E':
        line->log_file = argument;
        break;
    case 'f':
        line->config_file = argument;
        break;
    case 'g':
        state(line, "LoginGraceTime", argument);
        break;
    case 'h':
        strings_add(&line->host_keys, text_copy(argument));
        break;
    case 'p':
        state(line, "Port", argument);
        break;
    default:
        strings_add(&line->statements, text_copy(argument));
    }
}

int server_command_line_parse(struct server_command_line *line, int argc, char **argv) {
    *line = (struct server_command_line){.directory = getcwd(NULL, 0)};
    optind = 0; /* glibc: start over, also in a process that has read options before */
    opterr = 0;
    int letter;
    while ((letter = getopt(argc, argv, "+:46DdeiqTtVC:E:f:g:h:o:p:")) != -1) {
        char name[] = {'-', (char)optopt, 0};
        if (letter == '?' || letter == ':')
            return usage_error(name, letter == '?' ? "is no flag" : "needs an argument");
        if (optarg)
            argument_apply(line, letter, optarg);
        else
            flag_apply(line, letter);
    }
    if (optind < argc)
        return usage_error(argv[optind], "is no flag");
    return 0;
}

void server_command_line_deinit(struct server_command_line *line) {
    strings_clear(&line->host_keys);
    strings_clear(&line->statements);
    strings_clear(&line->connection);
    free(line->directory);
    *line = (struct server_command_line){0};
}

static bool parse_address(const char *text, struct sockaddr_storage *address) {
    struct addrinfo hints = {.ai_flags = AI_NUMERICHOST, .ai_socktype = SOCK_STREAM}, *found;
    if (!*text || getaddrinfo(text, NULL, &hints, &found) != 0)
        return false;
    memcpy(address, found->ai_addr, found->ai_addrlen);
    freeaddrinfo(found);
    return true;
}

static int item_error(const char *item, const char *reason) {
    log_error("-C %s: %s", item, reason);
    return ERR_CONFIG;
}

static int subject_address(const char *item, const char *text, struct sockaddr_storage *storage,
                           const struct sockaddr **address) {
    if (!parse_address(text, storage))
        return item_error(item, "not a numeric address");
    *address = (const struct sockaddr *)storage;
    return 0;
}

static int item_apply(const char *item, struct match_storage *storage, struct match_subject *subject) {
    const char *equals = strchr(item, '='), *value = equals ? equals + 1 : "";
    size_t len = equals ? (size_t)(equals - item) : 0;
    if (!strcmp(item, "invalid-user")) {
        subject->invalid_user = true;
        return 0;
    }
    if (len == 4 && !strncmp(item, "user", len))
        text_set(&storage->user, text_copy(value));
    else if (len == 4 && !strncmp(item, "host", len))
        text_set(&storage->host, text_copy(value));
    else if (len == 4 && !strncmp(item, "addr", len))
        return subject_address(item, value, &storage->address, &subject->address);
    else if (len == 5 && !strncmp(item, "laddr", len))
        return subject_address(item, value, &storage->local_address, &subject->local_address);
    else if (len == 5 && !strncmp(item, "lport", len))
        return value_port(value, &subject->local_port) ? 0 : item_error(item, "not a port");
    else
        return item_error(item, "must be user=, host=, addr=, laddr=, lport= or invalid-user");
    return 0;
}

/* What a connection would have for lack of a name. */
static void host_default(struct match_storage *storage, const struct match_subject *subject) {
    char text[NI_MAXHOST];
    if (!storage->host && subject->address &&
        getnameinfo(subject->address, sizeof storage->address, text, sizeof text, NULL, 0, NI_NUMERICHOST) == 0)
        storage->host = text_copy(text);
}

int server_command_line_subject(const struct server_command_line *line, struct match_storage *storage,
                                struct match_subject *subject) {
    *storage = (struct match_storage){0};
    *subject = (struct match_subject){0};
    for (uint32_t i = 0; i < line->connection.count; i++) {
        struct string_list items;
        items_split(line->connection.items[i], &items);
        int error = 0;
        for (uint32_t j = 0; !error && j < items.count; j++)
            error = item_apply(items.items[j], storage, subject);
        strings_clear(&items);
        if (error)
            return error;
    }
    host_default(storage, subject);
    subject->user = storage->user;
    subject->host = storage->host;
    return 0;
}

void match_storage_deinit(struct match_storage *storage) {
    free(storage->user);
    free(storage->host);
    *storage = (struct match_storage){0};
}
