#include "ssh/provider.h"
#include "ssh/selfcheck.h"
#include <dlfcn.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define STAMP_BYTES 4096

/* Adds a line that changes when the file does. false: it cannot be told. */
static bool add_file(char *text, size_t cap, const char *path) {
    struct stat stat_buf;
    size_t len = strlen(text);
    if (stat(path, &stat_buf))
        return false;
    int n = snprintf(text + len, cap - len, "%s %llu %lld.%09ld %llu\n", path, (unsigned long long)stat_buf.st_size,
                     (long long)stat_buf.st_mtim.tv_sec, stat_buf.st_mtim.tv_nsec, (unsigned long long)stat_buf.st_ino);
    return n > 0 && (size_t)n < cap - len;
}

/* By name, not by address: the address of a function can be the program's own jump to it. */
static bool add_library(char *text, size_t cap, const char *function) {
    void *address = dlsym(RTLD_DEFAULT, function);
    Dl_info info;
    return address && dladdr(address, &info) && info.dli_fname && add_file(text, cap, info.dli_fname);
}

/* All that the outcome of the check hangs on. */
static bool stamp_text(char *text, size_t cap) {
    char program[PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", program, sizeof program - 1);
    if (n <= 0)
        return false;
    program[n] = '\0';
    snprintf(text, cap, "leat %s\n%s\n", LEAT_VERSION, provider_versions());
    return add_file(text, cap, program) && add_library(text, cap, "ssh_version") &&
           add_library(text, cap, "OpenSSL_version_num");
}

/* With sudo, HOME may be someone else's, and nothing of root's belongs there. */
static bool is_ours(const char *directory) {
    struct stat stat_buf;
    return directory && directory[0] == '/' && !stat(directory, &stat_buf) && stat_buf.st_uid == geteuid();
}

bool selfcheck_stamp_path(char *path, size_t cap) {
    const char *cache = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    bool has_cache = cache && cache[0];
    if (!is_ours(has_cache ? cache : home))
        return false;
    int n = snprintf(path, cap, "%s%s/leat/selfcheck", has_cache ? cache : home, has_cache ? "" : "/.cache");
    return n > 0 && (size_t)n < cap;
}

bool selfcheck_stamp_matches(const char *path) {
    char expected[STAMP_BYTES], found[STAMP_BYTES];
    if (!stamp_text(expected, sizeof expected))
        return false;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0)
        return false;
    struct stat stat_buf;
    bool ours = !fstat(fd, &stat_buf) && S_ISREG(stat_buf.st_mode) && stat_buf.st_uid == geteuid();
    ssize_t n = ours ? read(fd, found, sizeof found) : -1;
    close(fd);
    return n >= 0 && (size_t)n == strlen(expected) && memcmp(found, expected, (size_t)n) == 0;
}

/* Makes the directory of path, and the one that is in, where they are missing. */
static void directories_make(const char *path, size_t directory_len) {
    char directory[PATH_MAX];
    memcpy(directory, path, directory_len);
    directory[directory_len] = '\0';
    char *last = strrchr(directory, '/');
    if (!last)
        return;
    *last = '\0';
    (void)mkdir(directory, 0700);
    *last = '/';
    (void)mkdir(directory, 0700);
}

void selfcheck_stamp_write(const char *path) {
    static const char suffix[] = "/stampXXXXXX";
    char text[STAMP_BYTES], temporary[PATH_MAX];
    const char *name = strrchr(path, '/');
    size_t directory_len = name ? (size_t)(name - path) : 0;
    if (directory_len == 0 || directory_len + sizeof suffix > sizeof temporary || !stamp_text(text, sizeof text))
        return;
    directories_make(path, directory_len);
    memcpy(temporary, path, directory_len);
    memcpy(temporary + directory_len, suffix, sizeof suffix);
    int fd = mkostemp(temporary, O_CLOEXEC); /* 0600 */
    if (fd < 0)
        return;
    size_t len = strlen(text);
    bool written = write(fd, text, len) == (ssize_t)len;
    if (close(fd) || !written || rename(temporary, path))
        unlink(temporary);
}
