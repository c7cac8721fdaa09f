#include "engine/limits.h"
#include "ssh/destination.h"
#include "ssh/options_private.h"
#include "ssh/tokens.h"
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>

#define RSA_BITS_MIN 1024 /* RequiredRSASize may only raise it */

void options_defaults(struct options *options) {
    *options = (struct options){
        .port = 22,
        .family = AF_UNSPEC,
        .connection_attempts = 1,
        .tcp_keepalive = true,
        .server_alive_count_max = 3,
        .pubkey_authentication = true,
        .password_authentication = true,
        .kbd_interactive_authentication = true,
        .number_of_password_prompts = 3,
        .strict_host_key_checking = HOST_KEY_CHECK_ASK,
        .required_rsa_bits = RSA_BITS_MIN,
        .log_level = LOG_LEVEL_INFO,
        .connections = 1,
        .stripes = 1,
        .io_backend = IO_BACKEND_AUTO,
        .memory_limit = LIMIT_WINDOW_BUDGET_BYTES,
    };
    static const char *const user_files[] = {"~/.ssh/known_hosts", "~/.ssh/known_hosts2"};
    static const char *const global_files[] = {"/etc/ssh/ssh_known_hosts", "/etc/ssh/ssh_known_hosts2"};
    for (unsigned i = 0; i < 2; i++) {
        strings_add(&options->user_known_hosts_files, text_copy(user_files[i]));
        strings_add(&options->global_known_hosts_files, text_copy(global_files[i]));
    }
}

/* Reports a value that could not be expanded; takes over why. */
static int expansion_error(const char *keyword, const char *value, char *why) {
    log_error("%s '%s': %s", keyword, value, why);
    free(why);
    return ERR_CONFIG;
}

int options_settle_hostname(struct config *config) {
    struct options *options = config->options;
    char *name, *why;
    if (config->hostname_settled)
        return 0;
    if (hostname_expand(config, &name, &why))
        return expansion_error("HostName", options->hostname, why);
    text_set(&options->hostname, name);
    config->hostname_settled = true;
    return 0;
}

static int paths_expand(const struct config *config, const char *keyword, struct string_list *paths) {
    for (uint32_t i = 0; i < paths->count; i++) {
        char *path, *why;
        if (path_expand(config, paths->items[i], &path, &why))
            return expansion_error(keyword, paths->items[i], why);
        text_set(&paths->items[i], path);
    }
    return 0;
}

/* Of the system's files only the ~ is expanded, as in ssh. */
static int global_files_expand(const struct config *config) {
    struct string_list *paths = &config->options->global_known_hosts_files;
    for (uint32_t i = 0; i < paths->count; i++) {
        char *path, *why;
        if (tilde_expand(config, paths->items[i], &path, &why))
            return expansion_error("GlobalKnownHostsFile", paths->items[i], why);
        text_set(&paths->items[i], path);
    }
    return 0;
}

static int settle_user(struct config *config) {
    struct options *options = config->options;
    if (!options->user) {
        options->user = text_copy(config->environment->user);
        return 0;
    }
    if (config->user_literal)
        return 0;
    char *user, *why;
    if (tokens_expand(config, options->user, TOKENS_USER, true, &user, &why))
        return expansion_error("User", options->user, why);
    text_set(&options->user, user);
    return 0;
}

static int settle_identity_files(struct config *config) {
    static const char *const usual[] = {"~/.ssh/id_rsa", "~/.ssh/id_ecdsa", "~/.ssh/id_ed25519"};
    struct string_list *files = &config->options->identity_files;
    for (unsigned i = 0; !config->options->identity_files_given && i < sizeof usual / sizeof *usual; i++)
        strings_add(files, text_copy(usual[i]));
    return paths_expand(config, "IdentityFile", files);
}

static int settle_identity_agent(struct config *config) {
    struct options *options = config->options;
    char *agent = options->identity_agent, *path, *why;
    if (!agent || !strcmp(agent, "none"))
        return 0;
    if (!strcmp(agent, "SSH_AUTH_SOCK")) {
        text_set(&options->identity_agent, NULL);
        return 0;
    }
    if (agent[0] == '$' && agent[1] != '{') {
        const char *value = getenv(agent + 1);
        text_set(&options->identity_agent, text_copy(value && *value ? value : "none"));
        return 0;
    }
    if (path_expand(config, agent, &path, &why))
        return expansion_error("IdentityAgent", agent, why);
    text_set(&options->identity_agent, path);
    return 0;
}

/* Quoted for the shell, and for the token expansion that follows. */
static char *shell_quote(const char *text) {
    struct growing quoted = {0};
    growing_add(&quoted, "'", 1);
    for (; *text; text++) {
        const char *as = *text == '\'' ? "'\\''" : *text == '%' ? "%%" : NULL;
        growing_add(&quoted, as ? as : text, as ? strlen(as) : 1);
    }
    growing_add(&quoted, "'", 1);
    return growing_take(&quoted);
}

static const char *verbosity_flag(enum log_level level) {
    switch (level) {
    case LOG_LEVEL_DEBUG1:
        return " -v";
    case LOG_LEVEL_DEBUG2:
        return " -vv";
    case LOG_LEVEL_DEBUG3:
        return " -vvv";
    default:
        return "";
    }
}

static char *jump_command(const struct config *config, const struct destination *hop, const char *hops_before) {
    char *file = config->config_file ? shell_quote(config->config_file) : NULL;
    char *command = text_copy("ssh");
    /* User and host hold no quotes (destination.h), and may hold tokens. */
    if (hop->user)
        text_set(&command, text_format("%s -l '%s'", command, hop->user));
    if (hop->port_given)
        text_set(&command, text_format("%s -p %u", command, hop->port));
    if (*hops_before)
        text_set(&command, text_format("%s -J '%s'", command, hops_before));
    if (file)
        text_set(&command, text_format("%s -F %s", command, file));
    text_set(&command,
             text_format("%s%s -W '[%%h]:%%p' '%s'", command, verbosity_flag(config->options->log_level), hop->host));
    free(file);
    return command;
}

static bool is_destination(const struct options *options, const struct destination *hop) {
    return !strcasecmp(hop->host, options->hostname) && (hop->port_given ? hop->port : 22) == options->port &&
           (!hop->user || !strcmp(hop->user, options->user));
}

/* As ssh does it: stock ssh goes to the last hop, through the ones before, and there connects to us with -W. */
static int jump_settle(struct config *config) {
    struct options *options = config->options;
    const char *comma = strrchr(options->proxy_jump, ',');
    struct destination hop;
    const char *why;
    if (destination_parse_hop(comma ? comma + 1 : options->proxy_jump, &hop, &why)) {
        log_error("ProxyJump '%s': %s", options->proxy_jump, why);
        return ERR_CONFIG;
    }
    int error = 0;
    if (is_destination(options, &hop)) {
        log_error("ProxyJump '%s': the jump host is the destination itself", options->proxy_jump);
        error = ERR_CONFIG;
    } else {
        size_t before = comma ? (size_t)(comma - options->proxy_jump) : 0;
        char *hops_before = text_copy_part(options->proxy_jump, before);
        options->proxy_command = jump_command(config, &hop, hops_before);
        free(hops_before);
    }
    destination_deinit(&hop);
    return error;
}

static int settle_proxy(struct config *config) {
    struct options *options = config->options;
    if (options->proxy_jump && !strcmp(options->proxy_jump, "none"))
        text_set(&options->proxy_jump, NULL);
    if (options->proxy_command && !strcmp(options->proxy_command, "none"))
        text_set(&options->proxy_command, NULL);
    int error = options->proxy_jump ? jump_settle(config) : 0;
    if (error || !options->proxy_command)
        return error;
    if (!strcmp(options->proxy_command, "-")) {
        log_error("ProxyCommand '-' (use standard input and output) is not supported by leat");
        return ERR_CONFIG;
    }
    char *command, *why;
    if (tokens_expand(config, options->proxy_command, TOKENS_PROXY, false, &command, &why))
        return expansion_error("ProxyCommand", options->proxy_command, why);
    text_set(&options->proxy_command, command);
    return 0;
}

static int settle_forwards(struct config *config) {
    struct options *options = config->options;
    if (options->clear_all_forwardings) {
        for (uint32_t i = 0; i < options->forwards_count; i++)
            forward_spec_deinit(&options->forwards[i]);
        options->forwards_count = 0;
        return 0;
    }
    if (!config->forward_refused)
        return 0;
    log_error("%s", config->forward_refused);
    return ERR_CONFIG;
}

static int refuse_local_command(const struct config *config) {
    if (!config->permit_local_command || !config->local_command_place)
        return 0;
    log_error("%s: LocalCommand: is not supported by leat", config->local_command_place);
    return ERR_CONFIG;
}

/* Each lane of a striped connection has an SSH connection of its own. */
static int settle_connections(struct config *config) {
    struct options *options = config->options;
    if (options->connections != 0 && options->connections < options->stripes)
        options->connections = options->stripes;
    return 0;
}

int options_finish(struct config *config) {
    struct options *options = config->options;
    if (options->required_rsa_bits < RSA_BITS_MIN)
        options->required_rsa_bits = RSA_BITS_MIN;
    static int (*const steps[])(struct config *) = {
        options_settle_hostname, settle_user,        settle_identity_files, settle_identity_agent, settle_proxy,
        settle_forwards,         settle_connections,
    };
    for (unsigned i = 0; i < sizeof steps / sizeof *steps; i++) {
        int error = steps[i](config);
        if (error)
            return error;
    }
    int error = refuse_local_command(config);
    if (!error)
        error = paths_expand(config, "UserKnownHostsFile", &options->user_known_hosts_files);
    return error ? error : global_files_expand(config);
}
