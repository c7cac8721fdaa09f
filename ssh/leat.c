/* leat: the SSH tunnel client. Reads what the person asked for, proves that the libraries do what they must, goes to
 * the background when told to, and runs the tunnel. */
#include "engine/error.h"
#include "engine/log.h"
#include "ssh/client.h"
#include "ssh/confine.h"
#include "ssh/options.h"
#include "ssh/program.h"
#include "ssh/provider.h"
#include <inttypes.h>
#include <stdio.h>

static void on_ready(void) {
    log_debug("ready: every forward listens");
    program_ready(false);
}

/* The command line, for reading it again. */
static struct {
    int argc;
    char **argv;
    const char *log_file;
} given;

/* The file of -E may have been moved away, as logrotate(8) does it. */
static int reread(struct options *options) {
    if (given.log_file != NULL && program_log_to_file(given.log_file) != 0)
        log_error("the log goes on in the file that is open");
    return options_read(options, given.argc, given.argv);
}

static const struct client_program client_program = {.on_ready = on_ready, .reread = reread};

static void check_descriptors(const struct options *options) {
    char what[80];
    /* `Connections auto` begins with those of Stripes. */
    uint32_t connections = options->connections > options->stripes ? options->connections : options->stripes;
    snprintf(what, sizeof(what), "%" PRIu32 " connections and %" PRIu32 " forwards", connections,
             options->forwards_count);
    program_check_descriptors(12 + 4 * (uint64_t)connections + 2 * (uint64_t)options->forwards_count, what);
}

static int run(const struct options *options) {
    check_descriptors(options);
    if (options->background && program_go_background() != 0)
        return EXIT_FAILED;
    if (provider_init() != 0 || selfcheck() != 0)
        return EXIT_FAILED;
    int status = client_run(options, &client_program);
    provider_deinit();
    return status;
}

/* -v, -q, LogLevel and -E take effect. */
static int set_log(const struct options *options) {
    log_set_level(options->log_level);
    return options->log_file == NULL ? 0 : program_log_to_file(options->log_file);
}

int main(int argc, char **argv) {
    struct options options;
    if (program_begin("leat") != 0)
        return EXIT_FAILED;
    confine_memory();
    if (options_read(&options, argc, argv) != 0)
        return EXIT_FAILED;
    program_set_limits();
    given.argc = argc;
    given.argv = argv;
    given.log_file = options.log_file;
    int status = 0;
    if (options.version_only)
        status = program_print_versions("leat", options.io_backend);
    else if (options.print_config)
        options_print(&options, stdout);
    else
        status = set_log(&options) == 0 ? run(&options) : EXIT_FAILED;
    options_deinit(&options);
    return status;
}
