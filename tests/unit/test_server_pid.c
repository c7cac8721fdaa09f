/* The PidFile: what is in it, that it goes, and that a file of somebody else does not. */
#include "ssh/server_internal.h"
#include "tests/skip.h"
#include <criterion/criterion.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char directory[64], path[96], other[96];

static void set_up(void) {
    strcpy(directory, "/tmp/leat-pid-XXXXXX");
    cr_assert_not_null(mkdtemp(directory));
    snprintf(path, sizeof path, "%s/leatd.pid", directory);
    snprintf(other, sizeof other, "%s/other", directory);
}

static void tear_down(void) {
    unlink(path);
    unlink(other);
    rmdir(directory);
}

TestSuite(server_pid, .init = set_up, .fini = tear_down, .timeout = 10);

static long read_number(const char *from) {
    long number = -1;
    FILE *file = fopen(from, "r");
    if (!file)
        return -1;
    if (fscanf(file, "%ld", &number) != 1)
        number = 0;
    fclose(file);
    return number;
}

static void write_text(const char *to, const char *text) {
    FILE *file = fopen(to, "w");
    cr_assert_not_null(file);
    fputs(text, file);
    fclose(file);
}

Test(server_pid, holds_our_number_and_goes) {
    struct server_pid pid;
    struct stat stat_now;
    server_pid_write(&pid, path, geteuid(), getegid());
    cr_assert_eq(read_number(path), (long)getpid());
    cr_assert_eq(stat(path, &stat_now), 0);
    cr_assert_eq(stat_now.st_mode & 0022u, 0, "nobody else may write into it");
    server_pid_remove(&pid);
    cr_assert_eq(access(path, F_OK), -1);
}

Test(server_pid, replaces_a_stale_file) {
    struct server_pid pid;
    write_text(path, "123456789 and more\n");
    server_pid_write(&pid, path, geteuid(), getegid());
    cr_assert_eq(read_number(path), (long)getpid());
    server_pid_remove(&pid);
}

Test(server_pid, never_writes_through_a_link) {
    struct server_pid pid;
    write_text(other, "7\n");
    cr_assert_eq(symlink(other, path), 0);
    server_pid_write(&pid, path, geteuid(), getegid());
    cr_assert_eq(read_number(path), (long)getpid());
    cr_assert_eq(read_number(other), 7);
    server_pid_remove(&pid);
    cr_assert_eq(access(other, F_OK), 0);
}

Test(server_pid, leaves_the_file_of_its_successor) {
    struct server_pid first, second;
    server_pid_write(&first, path, geteuid(), getegid());
    server_pid_write(&second, path, geteuid(), getegid());
    server_pid_remove(&first);
    cr_assert_eq(read_number(path), (long)getpid(), "the second's file is still there");
    server_pid_remove(&second);
    cr_assert_eq(access(path, F_OK), -1);
}

Test(server_pid, is_found_from_another_directory) {
    struct server_pid pid;
    cr_assert_eq(chdir(directory), 0);
    server_pid_write(&pid, "leatd.pid", geteuid(), getegid());
    cr_assert_eq(read_number(path), (long)getpid());
    cr_assert_eq(chdir("/"), 0);
    server_pid_remove(&pid);
    cr_assert_eq(access(path, F_OK), -1);
}

Test(server_pid, is_emptied_where_it_may_not_be_removed) {
    struct server_pid pid;
    if (geteuid() != 0)
        skip_after(tear_down(), "needs root");
    server_pid_write(&pid, path, 65534, 65534);
    cr_assert_eq(seteuid(65534), 0);
    server_pid_remove(&pid);
    cr_assert_eq(seteuid(0), 0);
    cr_assert_eq(read_number(path), 0, "there, and empty");
}

Test(server_pid, none_is_none) {
    struct server_pid pid;
    server_pid_write(&pid, NULL, 0, 0);
    server_pid_remove(&pid);
    log_set_level(LOG_LEVEL_QUIET);
    server_pid_write(&pid, "/nonexistent/leatd.pid", 0, 0);
    server_pid_remove(&pid);
}
