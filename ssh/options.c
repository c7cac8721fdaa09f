/* Where the options come from, in which order. */
#include "ssh/options_private.h"
#include "ssh/program.h"
#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

static int files_read(struct config *config, bool none) {
    if (none)
        return 0;
    if (config->config_file) {
        struct config_source only = {.path = config->config_file, .of_user = true, .required = true};
        return config_read(config, &only);
    }
    char *path = text_format("%s/.ssh/config", config->environment->home);
    struct config_source of_user = {.path = path, .of_user = true, .check_permissions = true};
    struct config_source of_system = {.path = config->environment->system_config};
    int error = config_read(config, &of_user);
    if (!error)
        error = config_read(config, &of_system);
    free(path);
    return error;
}

static int everything_read(struct command_line *line, int argc, char **argv) {
    struct config *config = line->config;
    int error = command_line_read(line, argc, argv);
    if (error || config->options->version_only)
        return error;
    error = files_read(config, line->config_none);
    if (!error && config->final_wanted) {
        error = options_settle_hostname(config);
        config->final_pass = true;
        if (!error)
            error = files_read(config, line->config_none);
    }
    return error ? error : options_finish(config);
}

static void notes_log(const struct config *config) {
    bool wanted = config->options->log_level >= LOG_LEVEL_VERBOSE;
    enum log_level before = log_level();
    if (!wanted)
        return;
    log_set_level(config->options->log_level);
    for (uint32_t i = 0; i < config->notes.count; i++)
        log_verbose("%s", config->notes.items[i]);
    log_set_level(before);
}

int options_read_in(struct options *options, int argc, char **argv, const struct environment *environment) {
    struct config config;
    options_defaults(options);
    config_init(&config, options, environment);
    struct command_line line = {.config = &config};
    int error = everything_read(&line, argc, argv);
    if (!error)
        notes_log(&config);
    config_deinit(&config);
    if (error)
        options_deinit(options);
    return error;
}

/* Match exec: with the person's shell, standard input and output at /dev/null. */
static int shell_run(const char *command) {
    const char *shell = getenv("SHELL");
    if (!shell || !*shell)
        shell = "/bin/sh";
    pid_t child = fork();
    if (child < 0)
        return -1;
    if (child == 0) {
        sigset_t none;
        sigemptyset(&none);
        (void)sigprocmask(SIG_SETMASK, &none, NULL); /* a running client has some blocked */
        program_reset_limits(0);
        int null = open("/dev/null", O_RDWR);
        if (null >= 0 && dup2(null, STDIN_FILENO) >= 0 && dup2(null, STDOUT_FILENO) >= 0)
            execl(shell, shell, "-c", command, (char *)NULL);
        _exit(127);
    }
    int status;
    while (waitpid(child, &status, 0) < 0)
        if (errno != EINTR)
            return -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

int options_read(struct options *options, int argc, char **argv) {
    const struct passwd *account = getpwuid(getuid());
    if (!account) {
        *options = (struct options){0};
        log_error("no account for user id %u", (unsigned)getuid());
        return ERR_CONFIG;
    }
    char *user = text_copy(account->pw_name), *home = text_copy(account->pw_dir);
    struct environment environment = {user, home, getuid(), "/etc/ssh/ssh_config", shell_run};
    int error = options_read_in(options, argc, argv, &environment);
    free(user);
    free(home);
    return error;
}

void options_deinit(struct options *options) {
    char *const texts[] = {
        options->host_arg,
        options->hostname,
        options->host_key_alias,
        options->user,
        options->bind_address,
        options->identity_agent,
        options->ciphers,
        options->kex_algorithms,
        options->preferred_authentications,
        options->proxy_command,
        options->proxy_jump,
        options->pubkey_accepted_algorithms,
        options->log_file,
        options->host_key_algorithms,
    };
    for (unsigned i = 0; i < sizeof texts / sizeof *texts; i++)
        free(texts[i]);
    strings_clear(&options->identity_files);
    strings_clear(&options->user_known_hosts_files);
    strings_clear(&options->global_known_hosts_files);
    for (uint32_t i = 0; i < options->forwards_count; i++)
        forward_spec_deinit(&options->forwards[i]);
    free(options->forwards);
    *options = (struct options){0};
}
