/* The command line of leat, as ssh(1)'s. */
#include "ssh/destination.h"
#include "ssh/options_private.h"
#include "ssh/tokens.h"
#include <errno.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char usage[] =
    "usage: leat [-46fGgNnqTVv] [-b bind_address] [-c ciphers] [-E log_file] [-F config_file] [-i identity_file]\n"
    "            [-J jump] [-L [bind:]port:host:hostport] [-l user] [-o option] [-P tag] [-p port]\n"
    "            [-R [bind:]port:host:hostport] [user@]host | ssh://[user@]host[:port]\n";

/* What a flag does. Exactly one of the fields besides `flag` is set. */
struct flag {
    char letter;
    bool argument;
    const char *keyword, *value; /* stands for "keyword value"; value NULL: the argument */
    int (*apply)(struct command_line *line, const char *argument);
    const char *ignored, *refused; /* why */
};

static int flag_forward(struct command_line *line, const char *flag, enum forward_kind kind, const char *text) {
    struct place place = {.file = flag};
    return config_add_forward(line->config, &place, kind == FORWARD_LOCAL ? "local forward" : "remote forward", kind,
                              text);
}

static int flag_local(struct command_line *line, const char *text) {
    return flag_forward(line, "-L", FORWARD_LOCAL, text);
}

static int flag_remote(struct command_line *line, const char *text) {
    return flag_forward(line, "-R", FORWARD_REMOTE, text);
}

static int flag_option(struct command_line *line, const char *text) {
    return config_option(line->config, text);
}

static int flag_log_file(struct command_line *line, const char *path) {
    text_set(&line->config->options->log_file, text_copy(path));
    return 0;
}

static int flag_config_file(struct command_line *line, const char *path) {
    line->config_none = !strcmp(path, "none");
    text_set(&line->config->config_file, text_copy(path));
    return 0;
}

/* A file that is not there must not keep the default ones from being tried, as in ssh. */
static int flag_identity(struct command_line *line, const char *file) {
    char *path, *why;
    if (tilde_expand(line->config, file, &path, &why)) {
        log_error("-i %s: %s", file, why);
        free(why);
        return ERR_CONFIG;
    }
    struct stat status;
    bool there = stat(path, &status) == 0;
    if (!there)
        log_info("warning: identity file %s is not accessible: %s", path, strerror(errno));
    free(path);
    return there ? config_set(line->config, "-i", "IdentityFile", file) : 0;
}

static int flag_jump(struct command_line *line, const char *jump) {
    const struct options *options = line->config->options;
    if (options->proxy_jump || options->proxy_command) {
        log_error("-J %s: another -J or a ProxyCommand was given already (hops are separated by commas)", jump);
        return ERR_CONFIG;
    }
    return config_set(line->config, "-J", "ProxyJump", jump);
}

static int user_set(struct command_line *line, const char *flag, const char *user) {
    if (!destination_user_sound(user)) {
        log_error("%s: the user name is empty or holds invalid characters: '%s'", flag, user);
        return ERR_CONFIG;
    }
    if (!line->config->options->user) {
        line->config->user_literal = true;
        text_set(&line->config->options->user, text_copy(user));
    }
    return 0;
}

static int flag_user(struct command_line *line, const char *user) {
    return user_set(line, "-l", user);
}

static int flag_tag(struct command_line *line, const char *tag) {
    return config_set(line->config, "-P", "Tag", tag);
}

static int flag_verbose(struct command_line *line, const char *unused) {
    (void)unused;
    enum log_level *level = &line->config->options->log_level;
    bool again = line->config->log_level_fixed && *level >= LOG_LEVEL_DEBUG1;
    if (!again)
        *level = LOG_LEVEL_DEBUG1;
    else if (*level < LOG_LEVEL_DEBUG3)
        ++*level;
    line->config->log_level_fixed = true;
    return 0;
}

static int flag_quiet(struct command_line *line, const char *unused) {
    (void)unused;
    line->config->options->log_level = LOG_LEVEL_QUIET;
    line->config->log_level_fixed = true;
    return 0;
}

static int flag_version(struct command_line *line, const char *unused) {
    (void)unused;
    line->config->options->version_only = true;
    return 0;
}

static int flag_print(struct command_line *line, const char *unused) {
    (void)unused;
    line->config->options->print_config = true;
    return 0;
}

static int flag_dynamic(struct command_line *line, const char *text) {
    struct place place = {.file = "-D"};
    config_refuse_forward(line->config, &place, "dynamic forward", text, "SOCKS is not supported by leat");
    return 0;
}

#define QUIETLY "" /* ignored without a note: it only says what leat does anyway */

/* Every flag of ssh(1). */
static const struct flag flags[] = {
    {.letter = '4', .keyword = "AddressFamily", .value = "inet"},
    {.letter = '6', .keyword = "AddressFamily", .value = "inet6"},
    {.letter = 'B', .argument = true, .keyword = "BindInterface"},
    {.letter = 'b', .argument = true, .keyword = "BindAddress"},
    {.letter = 'c', .argument = true, .keyword = "Ciphers"},
    {.letter = 'E', .argument = true, .apply = flag_log_file},
    {.letter = 'F', .argument = true, .apply = flag_config_file},
    {.letter = 'f', .keyword = "ForkAfterAuthentication", .value = "yes"},
    {.letter = 'G', .apply = flag_print},
    {.letter = 'g', .keyword = "GatewayPorts", .value = "yes"},
    {.letter = 'i', .argument = true, .apply = flag_identity},
    {.letter = 'J', .argument = true, .apply = flag_jump},
    {.letter = 'L', .argument = true, .apply = flag_local},
    {.letter = 'l', .argument = true, .apply = flag_user},
    {.letter = 'o', .argument = true, .apply = flag_option},
    {.letter = 'P', .argument = true, .apply = flag_tag},
    {.letter = 'p', .argument = true, .keyword = "Port"},
    {.letter = 'q', .apply = flag_quiet},
    {.letter = 'R', .argument = true, .apply = flag_remote},
    {.letter = 'V', .apply = flag_version},
    {.letter = 'v', .apply = flag_verbose},
    {.letter = 'D', .argument = true, .apply = flag_dynamic},

    {.letter = 'a', .ignored = QUIETLY},
    {.letter = 'k', .ignored = QUIETLY},
    {.letter = 'N', .ignored = QUIETLY},
    {.letter = 'n', .ignored = QUIETLY},
    {.letter = 'T', .ignored = QUIETLY},
    {.letter = 'x', .ignored = QUIETLY},
    {.letter = '2', .ignored = QUIETLY},
    {.letter = 'C', .ignored = "leat does not compress"},
    {.letter = 'e', .argument = true, .ignored = "there is no session to escape from"},
    {.letter = 'M', .ignored = "leat has no control socket"},
    {.letter = 'm', .argument = true, .ignored = "leat's ciphers authenticate by themselves"},
    {.letter = 'S', .argument = true, .ignored = "leat has no control socket"},
    {.letter = 't', .ignored = "there is no session to have a terminal"},
    {.letter = 'y', .ignored = "leat logs to standard error or a file (-E)"},

    {.letter = '1', .refused = "protocol 1 is not supported"},
    {.letter = 'A', .refused = "agent forwarding is not supported by leat"},
    {.letter = 'I', .argument = true, .refused = "PKCS#11 is not supported by leat"},
    {.letter = 'K', .refused = "GSSAPI is not supported by leat"},
    {.letter = 'O', .argument = true, .refused = "there is no control socket to send commands to"},
    {.letter = 'Q', .argument = true, .refused = "queries are not supported by leat"},
    {.letter = 's', .refused = "subsystems are not supported by leat"},
    {.letter = 'W', .argument = true, .refused = "forwarding of standard input and output is not supported by leat"},
    {.letter = 'w', .argument = true, .refused = "tunnel devices are not supported by leat"},
    {.letter = 'X', .refused = "X11 forwarding is not supported by leat"},
    {.letter = 'Y', .refused = "X11 forwarding is not supported by leat"},
};
#define FLAGS_COUNT (sizeof flags / sizeof *flags)

static const struct flag *flag_find(int letter) {
    for (size_t i = 0; i < FLAGS_COUNT; i++)
        if (flags[i].letter == letter)
            return &flags[i];
    return NULL;
}

static int flag_apply(struct command_line *line, const struct flag *flag, const char *argument) {
    char name[] = {'-', flag->letter, 0};
    if (flag->refused) {
        log_error("%s: %s", name, flag->refused);
        return ERR_CONFIG;
    }
    if (flag->ignored) {
        struct place place = {.file = name};
        if (*flag->ignored)
            config_note(line->config, &place, "ignored", flag->ignored);
        return 0;
    }
    if (flag->keyword)
        return config_set(line->config, name, flag->keyword, flag->value ? flag->value : argument);
    return flag->apply(line, argument);
}

static int usage_error(const char *subject, const char *reason) {
    log_error("%s %s", subject, reason);
    (void)!write(STDERR_FILENO, usage, sizeof usage - 1);
    return ERR_CONFIG;
}

/* Flags up to the next word that is none; leaves optind there. */
static int flags_apply(struct command_line *line, int argc, char **argv) {
    char letters[2 * FLAGS_COUNT + 3] = "+:", *end = letters + 2;
    for (size_t i = 0; i < FLAGS_COUNT; i++) {
        *end++ = flags[i].letter;
        if (flags[i].argument)
            *end++ = ':';
    }
    *end = 0;
    int letter;
    while ((letter = getopt(argc, argv, letters)) != -1) {
        char name[] = {'-', (char)optopt, 0};
        if (letter == '?' || letter == ':')
            return usage_error(name, letter == '?' ? "is no flag" : "needs an argument");
        int error = flag_apply(line, flag_find(letter), optarg);
        if (error)
            return error;
    }
    return 0;
}

static int host_apply(struct command_line *line, const char *text) {
    struct options *options = line->config->options;
    struct destination destination;
    const char *why;
    if (destination_parse(text, &destination, &why)) {
        log_error("'%s': %s", text, why);
        return ERR_CONFIG;
    }
    options->host_arg = text_copy(destination.host);
    int error = destination.user ? user_set(line, text, destination.user) : 0;
    if (!error && destination.port_given) {
        char port[8];
        snprintf(port, sizeof port, "%u", destination.port);
        error = config_set(line->config, text, "Port", port);
    }
    destination_deinit(&destination);
    return error;
}

/* Flags may also follow the host; what follows these would be a command. */
int command_line_read(struct command_line *line, int argc, char **argv) {
    struct options *options = line->config->options;
    optind = 0; /* glibc: start over, also in a process that has read options before */
    opterr = 0;
    int error = flags_apply(line, argc, argv);
    if (error || options->version_only)
        return error;
    if (optind >= argc)
        return usage_error("no host", "given");
    error = host_apply(line, argv[optind]);
    if (error)
        return error;
    argc -= optind;
    argv += optind;
    optind = 0;
    error = flags_apply(line, argc, argv);
    if (error || optind >= argc || options->version_only)
        return error;
    log_error("'%s': leat only forwards and runs no command on the remote side", argv[optind]);
    return ERR_CONFIG;
}
