/* The self-check passes here, and its stamp is believed only when it is exactly right. Each test is a process of its
 * own, so nothing is remembered from one to the next. */
#include "ssh/provider.h"
#include "ssh/selfcheck.h"
#include <criterion/criterion.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char root[64], path[256];

static void make_root(void) {
    strcpy(root, "/tmp/leat-selfcheck-XXXXXX");
    cr_assert(mkdtemp(root) != NULL);
    setenv("XDG_CACHE_HOME", root, 1);
    cr_assert(selfcheck_stamp_path(path, sizeof path));
}

static void drop_root(void) {
    char directory[128];
    snprintf(directory, sizeof directory, "%s/leat", root);
    unlink(path);
    rmdir(directory);
    rmdir(root);
}

TestSuite(selfcheck, .init = make_root, .fini = drop_root);

static void write_file(const char *text, size_t len) {
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    cr_assert(fd >= 0);
    cr_assert(write(fd, text, len) == (ssize_t)len);
    close(fd);
}

static size_t read_file(char *text, size_t cap) {
    int fd = open(path, O_RDONLY);
    cr_assert(fd >= 0);
    ssize_t n = read(fd, text, cap);
    cr_assert(n > 0 && (size_t)n < cap);
    close(fd);
    return (size_t)n;
}

Test(selfcheck, passes_and_leaves_a_private_stamp) {
    struct stat stat_buf;
    cr_assert(provider_init() == 0);
    cr_assert(!selfcheck_stamp_matches(path));
    cr_assert(selfcheck() == 0);
    cr_assert(stat(path, &stat_buf) == 0);
    cr_assert((stat_buf.st_mode & 07777) == 0600);
    cr_assert(selfcheck_stamp_matches(path));
    cr_assert(selfcheck() == 0);
    provider_deinit();
}

/* Without a provider the check itself cannot run: it would abort. */
Test(selfcheck, matching_stamp_spares_the_check) {
    selfcheck_stamp_write(path);
    cr_assert(selfcheck() == 0);
}

Test(selfcheck, twice_in_a_row) {
    cr_assert(provider_init() == 0);
    cr_assert(selfcheck_run() == 0);
    cr_assert(selfcheck_run() == 0);
    provider_deinit();
}

Test(selfcheck, stamp_names_the_versions) {
    char text[4096];
    selfcheck_stamp_write(path);
    text[read_file(text, sizeof text)] = '\0';
    cr_assert(strstr(text, LEAT_VERSION) != NULL);
    cr_assert(strstr(text, provider_versions()) != NULL);
    cr_assert(strstr(text, "libssh.so") != NULL);
    cr_assert(strstr(text, "libcrypto.so") != NULL);
}

Test(selfcheck, any_change_of_the_stamp_is_noticed) {
    char text[4096], changed[4096];
    selfcheck_stamp_write(path);
    size_t len = read_file(text, sizeof text);
    for (size_t i = 0; i < len; i++) {
        memcpy(changed, text, len);
        changed[i] ^= 1;
        write_file(changed, len);
        cr_assert(!selfcheck_stamp_matches(path));
    }
    for (size_t i = 0; i < len; i++) {
        write_file(text, i);
        cr_assert(!selfcheck_stamp_matches(path));
    }
    memset(changed, '\n', sizeof changed);
    memcpy(changed, text, len);
    write_file(changed, len + 1);
    cr_assert(!selfcheck_stamp_matches(path));
    write_file(changed, sizeof changed);
    cr_assert(!selfcheck_stamp_matches(path));
    write_file(text, len);
    cr_assert(selfcheck_stamp_matches(path));
}

Test(selfcheck, broken_stamp_is_replaced) {
    selfcheck_stamp_write(path);
    write_file("leat\n", 5);
    cr_assert(provider_init() == 0);
    cr_assert(selfcheck() == 0);
    cr_assert(selfcheck_stamp_matches(path));
    provider_deinit();
}

/* What stands where the stamp should be, and is none. */
Test(selfcheck, links_directories_and_pipes_are_no_stamps) {
    char target[300];
    selfcheck_stamp_write(path);
    snprintf(target, sizeof target, "%s.real", path);
    cr_assert(rename(path, target) == 0);
    cr_assert(symlink(target, path) == 0);
    cr_assert(!selfcheck_stamp_matches(path));
    unlink(path);
    unlink(target);
    cr_assert(mkfifo(path, 0600) == 0);
    cr_assert(!selfcheck_stamp_matches(path));
    unlink(path);
    cr_assert(mkdir(path, 0700) == 0);
    cr_assert(!selfcheck_stamp_matches(path));
    selfcheck_stamp_write(path);
    rmdir(path);
}

Test(selfcheck, no_place_for_a_stamp_is_no_error) {
    setenv("XDG_CACHE_HOME", "/dev/null", 1);
    cr_assert(provider_init() == 0);
    cr_assert(selfcheck() == 0);
    provider_deinit();
}

Test(selfcheck, path_follows_the_environment) {
    char other[256];
    snprintf(other, sizeof other, "%s/leat/selfcheck", root);
    cr_assert(strcmp(path, other) == 0);
    cr_assert(!selfcheck_stamp_path(other, 10));
    setenv("XDG_CACHE_HOME", "relative", 1);
    cr_assert(!selfcheck_stamp_path(other, sizeof other));
    setenv("XDG_CACHE_HOME", "", 1);
    setenv("HOME", root, 1);
    cr_assert(selfcheck_stamp_path(other, sizeof other));
    cr_assert(strncmp(other, root, strlen(root)) == 0);
    cr_assert(strcmp(other + strlen(root), "/.cache/leat/selfcheck") == 0);
    unsetenv("XDG_CACHE_HOME");
    unsetenv("HOME");
    cr_assert(!selfcheck_stamp_path(other, sizeof other));
}

Test(selfcheck, someone_elses_home_is_left_alone) {
    if (geteuid() != 0)
        return;
    char other[256];
    cr_assert(chown(root, 1, 1) == 0);
    cr_assert(!selfcheck_stamp_path(other, sizeof other));
}
