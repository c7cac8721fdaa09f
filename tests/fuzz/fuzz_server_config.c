/* libFuzzer: a configuration of leatd, the options it gives to some clients, and that what -T prints of them is read
 * again as the same. Nothing else is read: a stream cannot include files.
 *
 *   clang -g -fsanitize=fuzzer,address,undefined … fuzz_server_config.c; ./fuzz_server_config corpus/server_config */
#include "engine/check.h"
#include "engine/limits.h"
#include "ssh/server_config.h"
#include "ssh/text.h"
#include <arpa/inet.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void log_nowhere(void) {
    static int fd = -1;
    if (fd < 0)
        fd = open("/dev/null", O_WRONLY | O_CLOEXEC);
    log_set_fd(fd);
}

static int read_bytes(const void *data, size_t size, struct server_config **config) {
    FILE *stream = fmemopen((void *)(uintptr_t)data, size, "r");
    if (!stream)
        return ERR_NOMEM;
    int error = server_config_read_stream(stream, "fuzz", config);
    fclose(stream);
    return error;
}

static char *print(const struct server_options *options, size_t *len) {
    char *text = NULL;
    FILE *out = open_memstream(&text, len);
    CHECK(out);
    server_options_print(options, out);
    CHECK(fclose(out) == 0);
    return text;
}

static void options_check(const struct server_options *options) {
    CHECK(options->listen_count >= 1 && options->listen_count <= LIMIT_LISTEN_ADDRESSES);
    for (uint32_t i = 0; i < options->listen_count; i++)
        CHECK(options->listen[i].port);
    for (uint32_t i = 0; i < options->relays_count; i++)
        CHECK(options->relays[i].host && options->relays[i].port && options->relays[i].listen.port);
    CHECK(options->max_sessions <= LIMIT_SESSION_CHANNELS && options->required_rsa_bits >= 1024);
    CHECK(options->shards <= LIMIT_SHARDS && options->per_source_bits4 <= 32 && options->per_source_bits6 <= 128);
    CHECK(options->max_startups_begin >= 1 && options->max_startups_begin <= options->max_startups_full);
    CHECK(options->permit_open.restricted || options->permit_open.count == 0);
    (void)server_options_channel_timeout(options, "direct-tcpip");
    (void)permission_open_matches(&options->permit_open, "host", 80);
    (void)permission_listen_matches(&options->permit_listen, "host", 80);
}

static void options_take(struct server_options *options) {
    struct server_config *config = NULL;
    size_t len, len_again;
    options_check(options);
    char *text = print(options, &len);
    server_options_unref(options);
    CHECK(read_bytes(text, len, &config) == 0);
    options = server_config_resolve(config, NULL);
    char *again = print(options, &len_again);
    CHECK(!strcmp(text, again));
    server_options_unref(options);
    server_config_unref(config);
    free(text);
    free(again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct server_config *config = NULL;
    log_nowhere();
    if (size == 0 || read_bytes(data, size, &config))
        return 0;
    struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(0x0a000001)};
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    char *names[] = {(char[]){"users"}, (char[]){"ops"}};
    struct string_list groups = {.items = names, .count = 2};
    const struct match_subject subjects[] = {
        {.user = "bob", .groups = &groups, .address = (const struct sockaddr *)&v4, .host = "h.example"},
        {.user = "x", .local_address = (const struct sockaddr *)&v6, .local_port = 22, .invalid_user = true},
    };
    options_take(server_config_resolve(config, NULL));
    options_take(server_config_resolve(config, &subjects[0]));
    options_take(server_config_resolve(config, &subjects[1]));
    (void)server_config_needs_groups(config);
    server_config_unref(config);
    return 0;
}
