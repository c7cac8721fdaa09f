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

/* at: behind "${". Moves it behind "}" and adds the variable's value. */
static int variable_add(const char **at, struct growing *out, char **why) {
    size_t len = strcspn(*at, "}");
    if (!(*at)[len])
        return fail(why, text_copy("'${' without '}'"));
    char *name = text_copy_part(*at, len);
    const char *value = getenv(name);
    *at += len + 1;
    if (value)
        growing_add(out, value, strlen(value));
    else
        *why = text_format("environment variable %s is not set", name);
    free(name);
    return value ? 0 : ERR_CONFIG;
}

struct expansion {
    const struct config *config;
    const char *letters;
    bool env;
    bool host_typed; /* %h is the name as typed: within HostName itself */
};

/* at: behind '%'. Moves it behind the letter and adds the token's value. */
static int token_add(const struct expansion *expansion, const char **at, struct growing *out, char **why) {
    char letter = **at;
    if (letter != '%' && (!letter || !strchr(expansion->letters, letter)))
        return fail(why, text_format("token '%%%.1s' cannot be used here", *at));
    ++*at;
    if (letter == '%') {
        growing_add(out, "%", 1);
        return 0;
    }
    char *value = token_value(expansion->config, letter == 'h' && expansion->host_typed ? 'n' : letter);
    growing_add(out, value, strlen(value));
    free(value);
    return 0;
}

static int expand(const struct expansion *expansion, const char *text, char **out, char **why) {
    struct growing sum = {0};
    int error = 0;
    while (!error && *text) {
        if (*text == '%') {
            text++;
            error = token_add(expansion, &text, &sum, why);
        } else if (expansion->env && text[0] == '$' && text[1] == '{') {
            text += 2;
            error = variable_add(&text, &sum, why);
        } else {
            growing_add(&sum, text++, 1);
        }
    }
    if (error)
        free(sum.text);
    else
        *out = growing_take(&sum);
    return error;
}

int tokens_expand(const struct config *config, const char *text, const char *letters, bool env, char **out,
                  char **why) {
    struct expansion expansion = {.config = config, .letters = letters, .env = env};
    return expand(&expansion, text, out, why);
}

int hostname_expand(const struct config *config, char **out, char **why) {
    struct expansion expansion = {.config = config, .letters = "h", .host_typed = true};
    const char *hostname = config->options->hostname;
    if (config->hostname_settled) {
        *out = text_copy(hostname);
        return 0;
    }
    int error = expand(&expansion, hostname ? hostname : "%h", out, why);
    for (char *c = error ? NULL : *out; c && *c; c++)
        *c = (char)tolower((unsigned char)*c);
    return error;
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
