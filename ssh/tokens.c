#include "ssh/tokens.h"
#include <ctype.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char *local_hostname(bool shortened) {
    char name[256] = "";
    (void)gethostname(name, sizeof name - 1);
    if (shortened)
        name[strcspn(name, ".")] = 0;
    return text_copy(name);
}

/* Asked for while files are still read, a bad HostName stands for itself; options_finish is where it is reported. */
static char *hostname_now(const struct config *config) {
    char *name, *why;
    if (hostname_expand(config, &name, &why) == 0)
        return name;
    free(why);
    return text_copy(config->options->hostname);
}

static char *token_value(const struct config *config, char letter) {
    const struct options *options = config->options;
    switch (letter) {
    case 'd':
        return text_copy(config->environment->home);
    case 'h':
        return hostname_now(config);
    case 'i':
        return text_format("%u", (unsigned)config->environment->uid);
    case 'j':
        return text_copy(options->proxy_jump ? options->proxy_jump : "");
    case 'k':
        return text_copy(options->host_key_alias ? options->host_key_alias : options->host_arg);
    case 'L':
        return local_hostname(true);
    case 'l':
        return local_hostname(false);
    case 'n':
        return text_copy(options->host_arg);
    case 'p':
        return text_format("%u", options->port);
    case 'r':
        return text_copy(options->user ? options->user : config->environment->user);
    default:
        return text_copy(config->environment->user);
    }
}

static int fail(char **why, char *text) {
    *why = text;
    return ERR_CONFIG;
}

/* at: behind "${". Moves it behind "}" and appends the variable's value. */
static int variable_append(const char **at, char **out, char **why) {
    size_t len = strcspn(*at, "}");
    if (!(*at)[len])
        return fail(why, text_copy("'${' without '}'"));
    char *name = text_copy_part(*at, len);
    const char *value = getenv(name);
    *at += len + 1;
    if (value)
        text_set(out, text_format("%s%s", *out, value));
    else
        *why = text_format("environment variable %s is not set", name);
    free(name);
    return value ? 0 : ERR_CONFIG;
}

static int token_append(const struct config *config, char letter, const char *letters, char **out, char **why) {
    if (letter == '%') {
        text_set(out, text_format("%s%%", *out));
        return 0;
    }
    if (!letter || !strchr(letters, letter))
        return fail(why, text_format("token '%%%.1s' cannot be used here", letter ? &letter : ""));
    char *value = token_value(config, letter);
    text_set(out, text_format("%s%s", *out, value));
    free(value);
    return 0;
}

int tokens_expand(const struct config *config, const char *text, const char *letters, bool env, char **out,
                  char **why) {
    char *sum = text_copy("");
    while (*text) {
        size_t plain = strcspn(text, env ? "%$" : "%");
        char *part = text_copy_part(text, plain);
        text_set(&sum, text_format("%s%s", sum, part));
        free(part);
        text += plain;
        int error = 0;
        if (*text == '%') {
            error = token_append(config, text[1], letters, &sum, why);
            text += text[1] ? 2 : 1;
        } else if (*text == '$' && text[1] == '{') {
            text += 2;
            error = variable_append(&text, &sum, why);
        } else if (*text) {
            text_set(&sum, text_format("%s%c", sum, *text++));
        }
        if (error) {
            free(sum);
            return error;
        }
    }
    *out = sum;
    return 0;
}

int hostname_expand(const struct config *config, char **out, char **why) {
    if (config->hostname_settled) {
        *out = text_copy(config->options->hostname);
        return 0;
    }
    const char *from = config->options->hostname ? config->options->hostname : "%h";
    char *sum = text_copy("");
    for (; *from; from++) {
        if (*from != '%') {
            text_set(&sum, text_format("%s%c", sum, *from));
            continue;
        }
        from++;
        if (*from != '%' && *from != 'h') {
            free(sum);
            return fail(why, text_format("HostName: token '%%%.1s' cannot be used here", from));
        }
        text_set(&sum, text_format("%s%s", sum, *from == 'h' ? config->options->host_arg : "%"));
    }
    for (char *c = sum; *c; c++)
        *c = (char)tolower((unsigned char)*c);
    *out = sum;
    return 0;
}

int tilde_expand(const struct config *config, const char *text, char **out, char **why) {
    if (*text != '~') {
        *out = text_copy(text);
        return 0;
    }
    size_t len = strcspn(text + 1, "/");
    const char *home = config->environment->home;
    if (len) {
        char *name = text_copy_part(text + 1, len);
        const struct passwd *account = getpwnam(name);
        home = account ? account->pw_dir : NULL;
        if (!home)
            *why = text_format("no such user '%s'", name);
        free(name);
    }
    if (!home)
        return ERR_CONFIG;
    *out = text_format("%s%s", home, text + 1 + len);
    return 0;
}

int path_expand(const struct config *config, const char *text, char **out, char **why) {
    char *path;
    int error = tilde_expand(config, text, &path, why);
    if (error)
        return error;
    error = tokens_expand(config, path, TOKENS_COMMON, true, out, why);
    free(path);
    return error;
}
