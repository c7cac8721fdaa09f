/* The file of PidFile. It is written as root where there is root, and goes when leatd ends: as an account that may not
 * remove it from its directory (/run is root's), leatd leaves it empty. */
#include "ssh/server_internal.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char *base_name(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash != NULL ? slash + 1 : path;
}

static int open_directory(const char *path) {
    const char *name = base_name(path);
    if (name == path)
        return open(".", O_PATH | O_DIRECTORY | O_CLOEXEC);
    char *directory = strndup(path, (size_t)(name - path));
    if (directory == NULL)
        return -1;
    int fd = open(directory, O_PATH | O_DIRECTORY | O_CLOEXEC);
    free(directory);
    return fd;
}

/* A file of this name is replaced, never written into: it may be a link that somebody else has put there. */
static int write_file(struct server_pid *pid, const char *path, uid_t uid, gid_t gid) {
    char text[32];
    int len = snprintf(text, sizeof(text), "%ld\n", (long)getpid());
    pid->directory = open_directory(path);
    if (pid->directory < 0)
        return ERR_SYSTEM;
    if (unlinkat(pid->directory, base_name(path), 0) != 0 && errno != ENOENT)
        return ERR_SYSTEM;
    pid->fd = openat(pid->directory, base_name(path), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644);
    if (pid->fd < 0)
        return ERR_SYSTEM;
    if (write(pid->fd, text, (size_t)len) != len)
        return ERR_SYSTEM;
    if (geteuid() == 0 && fchown(pid->fd, uid, gid) != 0)
        return ERR_SYSTEM;
    pid->path = strdup(path);
    return pid->path != NULL ? 0 : ERR_NOMEM;
}

static void close_files(struct server_pid *pid) {
    if (pid->fd >= 0)
        close(pid->fd);
    if (pid->directory >= 0)
        close(pid->directory);
    free(pid->path);
    *pid = (struct server_pid){.directory = -1, .fd = -1};
}

void server_pid_write(struct server_pid *pid, const char *path, uid_t uid, gid_t gid) {
    *pid = (struct server_pid){.directory = -1, .fd = -1};
    if (path == NULL || write_file(pid, path, uid, gid) == 0)
        return;
    log_error("cannot write the PidFile %s: %s", path, strerror(errno));
    close_files(pid);
}

/* Another leatd may have put its own file in the place of ours. */
static bool still_ours(const struct server_pid *pid) {
    struct stat mine, there;
    return fstat(pid->fd, &mine) == 0 &&
           fstatat(pid->directory, base_name(pid->path), &there, AT_SYMLINK_NOFOLLOW) == 0 &&
           mine.st_ino == there.st_ino && mine.st_dev == there.st_dev;
}

void server_pid_remove(struct server_pid *pid) {
    bool removed = pid->path != NULL && still_ours(pid) && unlinkat(pid->directory, base_name(pid->path), 0) == 0;
    /* Whatever has become of its name: the file that we hold is ours. */
    if (pid->path != NULL && !removed) {
        log_verbose("PidFile %s: emptied, since it could not be removed: %s", pid->path, strerror(errno));
        if (ftruncate(pid->fd, 0) != 0)
            log_error("cannot empty the PidFile %s: %s", pid->path, strerror(errno));
    }
    close_files(pid);
}
