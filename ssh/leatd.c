/* leatd: the forwarding-only SSH server. Reads its configuration, proves that the libraries do what they must, goes to
 * the background unless told not to, and serves. */
#include "engine/log.h"
#include "ssh/confine.h"
#include "ssh/program.h"
#include "ssh/provider.h"
#include "ssh/server.h"
#include <stdio.h>
#include <syslog.h>
#include <unistd.h>

static bool keep_stderr;

static void on_ready(void) {
    program_ready(keep_stderr);
}

static bool to_stderr(const struct server_command_line *line) {
    return line->to_stderr || line->debug > 0;
}

/* Before the configuration has a say: -q and -d, -E; and nothing on what may be an inetd's connection. */
static int set_log(const struct server_command_line *line) {
    if (line->quiet)
        log_set_level(LOG_LEVEL_QUIET);
    else if (line->debug > 0)
        log_set_level(LOG_LEVEL_DEBUG1);
    if (line->log_file != NULL)
        return program_log_to_file(line->log_file);
    if (line->inetd && !to_stderr(line))
        log_to_syslog("leatd", LOG_AUTH);
    return 0;
}

static int print(const struct server_command_line *line, struct server_config *config) {
    struct match_storage storage;
    struct match_subject subject;
    if (server_command_line_subject(line, &storage, &subject) != 0)
        return EXIT_FAILED;
    struct server_options *options = server_config_resolve(config, &subject);
    if (options != NULL)
        server_options_print(options, stdout);
    server_options_unref(options);
    match_storage_deinit(&storage);
    return options != NULL ? 0 : EXIT_FAILED;
}

static int serve(const struct server_command_line *line, struct server_config *config) {
    if (line->test_only)
        return server_check(config);
    if (selfcheck() != 0)
        return EXIT_FAILED;
    return line->inetd ? server_run_inetd(line, config) : server_run(line, config, on_ready);
}

static int run(const struct server_command_line *line, struct server_config *config) {
    if (line->print)
        return print(line, config);
    keep_stderr = to_stderr(line);
    bool foreground = line->foreground || line->inetd || line->test_only || line->debug > 0;
    if (!foreground && program_go_background() != 0)
        return EXIT_FAILED;
    if (provider_init() != 0)
        return EXIT_FAILED;
    int status = serve(line, config);
    provider_deinit();
    return status;
}

/* The backend that -o IoBackend asks for. No file is read: the answer is also for who has none yet. */
static int print_versions(const struct server_command_line *line) {
    struct server_command_line bare = *line;
    struct server_config *config;
    bare.config_file = "none";
    if (server_config_read(&bare, &config) != 0)
        return EXIT_FAILED;
    struct server_options *options = server_config_resolve(config, NULL);
    int status = options != NULL ? program_print_versions("leatd", options->io_backend) : EXIT_FAILED;
    server_options_unref(options);
    server_config_unref(config);
    return status;
}

static int read_and_run(const struct server_command_line *line) {
    struct server_config *config;
    if (line->version_only)
        return print_versions(line);
    if (set_log(line) != 0 || server_config_read(line, &config) != 0)
        return EXIT_FAILED;
    int status = run(line, config);
    server_config_unref(config);
    return status;
}

int main(int argc, char **argv) {
    struct server_command_line line;
    /* As sshd: whoever starts a daemon from a shell does not mean to leave it the shell's files. */
    (void)close_range(STDERR_FILENO + 1, ~0U, 0);
    if (program_begin("leatd") != 0)
        return EXIT_FAILED;
    if (server_command_line_parse(&line, argc, argv) != 0)
        return EXIT_FAILED;
    confine_memory();
    program_set_limits();
    int status = read_and_run(&line);
    server_command_line_deinit(&line);
    return status;
}
