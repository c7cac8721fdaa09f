/* libFuzzer: a configuration file, and options made of it. The first line is an argument of -o; the rest is the file.
 * Nothing is run and nothing else is read: Match exec has a stand-in, and the file counts as included as deep as can
 * be, so that its own Includes are refused.
 *
 *   clang -g -fsanitize=fuzzer,address,undefined … fuzz_config.c; ./fuzz_config corpus/config */
#include "engine/check.h"
#include "engine/limits.h"
#include "ssh/options_private.h"
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int run_nothing(const char *command) {
    return (int)(strlen(command) & 1);
}

static const struct environment environment = {
    .user = "miller", .home = "/home/miller", .uid = 1000, .system_config = "/etc/ssh/ssh_config", .run = run_nothing};

static int null_fd(void) {
    static int fd = -1;
    if (fd < 0)
        fd = open("/dev/null", O_WRONLY | O_CLOEXEC);
    log_set_fd(fd);
    return fd;
}

static int read_file(struct config *config, const uint8_t *data, size_t size) {
    struct config_source source = {.path = "fuzz", .of_user = true, .depth = LIMIT_CONFIG_INCLUDE_DEPTH};
    FILE *stream = size ? fmemopen((void *)(uintptr_t)data, size, "r") : NULL;
    if (!stream)
        return 0;
    int error = config_read_stream(config, &source, stream);
    fclose(stream);
    return error;
}

static int read_all(struct config *config, const uint8_t *data, size_t size) {
    const uint8_t *newline = size ? memchr(data, '\n', size) : NULL;
    size_t first = newline ? (size_t)(newline - data) : 0;
    char *option = text_copy_part((const char *)data, first);
    int error = *option ? config_option(config, option) : 0;
    free(option);
    if (!error)
        error = read_file(config, data + first, size - first);
    if (!error && config->final_wanted) {
        error = options_settle_hostname(config);
        config->final_pass = true;
        if (!error)
            error = read_file(config, data + first, size - first);
    }
    return error ? error : options_finish(config);
}

static void options_check(const struct options *options) {
    CHECK(options->user && options->hostname && options->port);
    CHECK(options->connections >= 1 && options->connections <= LIMIT_SHARDS && options->shards <= LIMIT_SHARDS);
    CHECK(options->required_rsa_bits >= 1024 && options->connection_attempts >= 1);
    for (uint32_t i = 0; i < options->forwards_count; i++)
        CHECK(options->forwards[i].host && options->forwards[i].host_port);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static FILE *out;
    if (!out)
        out = fdopen(null_fd(), "w");
    struct options options;
    struct config config;
    options_defaults(&options);
    options.host_arg = text_copy("work");
    config_init(&config, &options, &environment);
    if (read_all(&config, data, size) == 0) {
        options_check(&options);
        options_print(&options, out);
    }
    config_deinit(&config);
    options_deinit(&options);
    return 0;
}
