#pragma once
/* Keys and lines of authorized_keys for tests: a key is its type and a byte that tells it from others. */
#include "engine/log.h"
#include "ssh/authorized_keys.h"
#include "ssh/base64.h"
#include "ssh/codec.h"
#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define RIG_BLOB_BYTES 256u

/* The key's blob as base64: a type as a string, then a string of 32 bytes. Odd sizes give every kind of padding. */
static inline const char *rig_blob(char out[BASE64_BYTES(RIG_BLOB_BYTES)], const char *type, uint8_t tag, size_t len) {
    uint8_t blob[RIG_BLOB_BYTES], body[128];
    struct writer writer;
    memset(body, tag, sizeof body);
    writer_init(&writer, blob, sizeof blob);
    writer_text(&writer, type);
    writer_string(&writer, body, len);
    cr_assert(writer_ok(&writer));
    base64_encode(out, blob, writer_len(&writer));
    return out;
}

#define RIG_ED25519 "ssh-ed25519"
#define RIG_ED25519_BLOB "AAAAC3NzaC1lZDI1NTE5AAAAICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAg"
#define RIG_OTHER_BLOB "AAAAC3NzaC1lZDI1NTE5AAAAICEhISEhISEhISEhISEhISEhISEhISEhISEhISEhISEh"
#define RIG_KEY RIG_ED25519 " " RIG_ED25519_BLOB
#define RIG_OTHER_KEY RIG_ED25519 " " RIG_OTHER_BLOB

/* What has been logged since the last call; "" for nothing. */
static int rig_log_fd = -1;
static inline void rig_log_init(void) {
    rig_log_fd = memfd_create("log", MFD_CLOEXEC);
    cr_assert(rig_log_fd >= 0);
    log_init("test", LOG_LEVEL_INFO, rig_log_fd);
}
static inline void rig_log_deinit(void) {
    log_set_fd(STDERR_FILENO);
    close(rig_log_fd);
}
static inline const char *rig_log(void) {
    static char text[16384];
    ssize_t len = pread(rig_log_fd, text, sizeof text - 1, 0);
    cr_assert(len >= 0);
    text[len] = 0;
    cr_assert_eq(ftruncate(rig_log_fd, 0), 0);
    cr_assert_eq(lseek(rig_log_fd, 0, SEEK_SET), 0);
    return text;
}
static inline uint32_t rig_count(const char *text, const char *part) {
    uint32_t count = 0;
    for (text = strstr(text, part); text; text = strstr(text + 1, part))
        count++;
    return count;
}

static inline const struct sockaddr *rig_address(struct sockaddr_storage *storage, const char *text) {
    struct sockaddr_in *v4 = (struct sockaddr_in *)storage;
    struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)storage;
    memset(storage, 0, sizeof *storage);
    if (inet_pton(AF_INET, text, &v4->sin_addr) == 1)
        storage->ss_family = AF_INET;
    else if (inet_pton(AF_INET6, text, &v6->sin6_addr) == 1)
        storage->ss_family = AF_INET6;
    cr_assert_neq(storage->ss_family, AF_UNSPEC, "%s", text);
    return (const struct sockaddr *)storage;
}
