/* libFuzzer: an authorized_keys file in which one key is looked for, and each of its lines by itself.
 *
 *   clang -g -fsanitize=fuzzer,address,undefined … fuzz_authorized_keys.c; ./fuzz_authorized_keys
 * corpus/authorized_keys
 */
#include "engine/check.h"
#include "engine/limits.h"
#include "engine/log.h"
#include "ssh/authorized_keys.h"
#include <fcntl.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char key_blob[] = "AAAAC3NzaC1lZDI1NTE5AAAAICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAg";

static void permissions_check(const struct permission_list *list) {
    CHECK(list->count <= LIMIT_PERMISSIONS && list->restricted == (list->count > 0));
    for (uint32_t i = 0; i < list->count; i++)
        CHECK(list->items[i].host && (list->items[i].any_port || list->items[i].port));
}

static void options_check(const struct key_options *options) {
    CHECK(options->expiry_time > 0);
    permissions_check(&options->permit_open);
    permissions_check(&options->permit_listen);
}

static void line_check(const char *text) {
    struct authorized_key key;
    const char *why = NULL;
    int parsed = authorized_key_parse(text, &key, &why);
    if (parsed <= 0) {
        CHECK((parsed == 0) == (why == NULL));
        CHECK(parsed == 0 || parsed == ERR_CONFIG || parsed == ERR_UNSUPPORTED || parsed == ERR_LIMIT);
        return;
    }
    options_check(&key.options);
    CHECK(strncmp(key.type, "ssh-", 4) == 0 || strncmp(key.type, "ecdsa-", 6) == 0 || strncmp(key.type, "sk-", 3) == 0);
    uint8_t *blob;
    size_t len;
    CHECK(authorized_key_blob(key.blob, &blob, &len) == 0 && len > strlen(key.type));
    free(blob);
    authorized_key_deinit(&key);
}

/* 1: found, by a line that can be found by itself as well. */
static int find(const uint8_t *data, size_t size, uint32_t *line) {
    static const struct sockaddr_in client = {.sin_family = AF_INET, .sin_addr = {0x070200c0}};
    struct key_search search = {.path = "fuzz",
                                .type = "ssh-ed25519",
                                .blob = key_blob,
                                .address = (const struct sockaddr *)&client,
                                .host = "mill.example.com",
                                .now = 1900000000};
    FILE *stream = fmemopen((void *)(uintptr_t)data, size, "r");
    if (!stream)
        return 0;
    struct key_options options;
    int found = authorized_keys_find_stream(&search, stream, &options, line);
    CHECK(found == 0 || found == 1);
    fclose(stream);
    if (found) {
        options_check(&options);
        CHECK(options.expiry_time >= search.now);
        key_options_deinit(&options);
    }
    return found;
}

static const uint8_t *line_end(const uint8_t *at, const uint8_t *end) {
    const uint8_t *newline = memchr(at, '\n', (size_t)(end - at));
    return newline ? newline : end;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static int null = -1;
    if (null < 0)
        null = open("/dev/null", O_WRONLY | O_CLOEXEC);
    log_set_fd(null);
    if (size == 0)
        return 0;
    uint32_t found_line = 0, number = 0, alone = 0;
    int found = find(data, size, &found_line);
    for (const uint8_t *at = data, *end = data + size; at < end; at = line_end(at, end) + 1) {
        size_t len = (size_t)(line_end(at, end) - at);
        char *text = strndup((const char *)at, len);
        line_check(text);
        free(text);
        number++;
        if (len > 0 && alone == 0 && find(at, len, &(uint32_t){0}))
            alone = number;
    }
    CHECK(alone == (found ? found_line : 0)); /* the first line that would do alone, and none if none does */
    return 0;
}
