#include "bench/world.h"
#include "bench/process.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#define FOLDER "leat-bench-"
#define LOCK "lock"
#define KEPT "kept"
#define BORROWED "borrowed" /* a line per folder that was made elsewhere */
#define DIR_BYTES 160u      /* leaves room for names behind it in struct process */
#define PATH_BYTES 512u
#define WALK_DESCRIPTORS 16
/* Ten thousand flows through a relay are two each. More, and programs that walk all descriptors at their start take
 * long. */
#define DESCRIPTORS_MAX 65536u

static const int ending_signals[] = {SIGINT, SIGTERM, SIGHUP, SIGPIPE};
#define ENDING_SIGNALS (sizeof ending_signals / sizeof ending_signals[0])

struct world {
    char dir[DIR_BYTES];
    int lock; /* −1: the folder is kept */
    bool has_keys;
    int was_subreaper;
    struct sigaction old_actions[ENDING_SIGNALS];
    pid_t *pids;
    size_t pid_count, pid_room;
};

static volatile sig_atomic_t interrupted;

static void on_signal(int number) {
    if (interrupted == 0)
        interrupted = number;
}

bool world_interrupted(void) {
    return interrupted != 0;
}

int world_signal(void) {
    return interrupted;
}

const char *world_dir(const struct world *world) {
    return world->dir;
}

/* False when it does not fit. */
static bool join(char *path, const char *dir, const char *name) {
    if (snprintf(path, PATH_BYTES, "%s/%s", dir, name) < (int)PATH_BYTES)
        return true;
    errno = ENAMETOOLONG;
    return false;
}

static int remove_one(const char *path, const struct stat *stat, int type, struct FTW *at) {
    (void)stat;
    (void)type;
    (void)at;
    remove(path);
    return 0;
}

static int remove_but_lock(const char *path, const struct stat *stat, int type, struct FTW *at) {
    if (at->level == 0 || (at->level == 1 && strcmp(path + at->base, LOCK) == 0))
        return 0;
    return remove_one(path, stat, type, at);
}

static void return_borrowed(const char *dir) {
    char path[PATH_BYTES];
    char *text = join(path, dir, BORROWED) ? world_read(path) : NULL, *rest = NULL;
    for (char *line = text != NULL ? strtok_r(text, "\n", &rest) : NULL; line != NULL;
         line = strtok_r(NULL, "\n", &rest))
        rmdir(line);
    free(text);
}

/* The lock goes last: a folder that is half removed is still known to be nobody's. */
static void remove_world_folder(const char *dir) {
    char path[PATH_BYTES];
    return_borrowed(dir);
    nftw(dir, remove_but_lock, WALK_DESCRIPTORS, FTW_DEPTH | FTW_PHYS | FTW_MOUNT);
    if (join(path, dir, LOCK))
        unlink(path);
    rmdir(dir);
}

/* Without a lock it is one that was kept, or one so new that it is empty: that one notices (make_folder). */
static void sweep_folder(const char *dir) {
    char path[PATH_BYTES];
    struct stat stat;
    if (lstat(dir, &stat) != 0 || !S_ISDIR(stat.st_mode) || stat.st_uid != geteuid() || !join(path, dir, LOCK))
        return;
    int lock = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
    if (lock < 0) {
        rmdir(dir);
        return;
    }
    if (flock(lock, LOCK_EX | LOCK_NB) == 0 && fstat(lock, &stat) == 0 && stat.st_nlink > 0)
        remove_world_folder(dir);
    close(lock);
}

/* What killed runs of this user have left. */
static void sweep(const char *temporary) {
    char path[PATH_BYTES];
    struct dirent *entry;
    DIR *dir = opendir(temporary);
    if (dir == NULL)
        return;
    while ((entry = readdir(dir)) != NULL)
        if (strncmp(entry->d_name, FOLDER, sizeof FOLDER - 1) == 0 && join(path, temporary, entry->d_name))
            sweep_folder(path);
    closedir(dir);
}

/* Another run's sweep may take a folder between its making and its locking: then another one is made. */
static bool make_folder(struct world *world, const char *temporary) {
    char path[PATH_BYTES];
    struct stat stat;
    for (;;) {
        if (snprintf(world->dir, DIR_BYTES, "%s/" FOLDER "XXXXXX", temporary) >= (int)DIR_BYTES) {
            errno = ENAMETOOLONG;
            return false;
        }
        if (mkdtemp(world->dir) == NULL || !join(path, world->dir, LOCK))
            return false;
        world->lock = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
        if (world->lock < 0 && errno == ENOENT)
            continue;
        if (world->lock < 0 || flock(world->lock, LOCK_EX) != 0 || fstat(world->lock, &stat) != 0)
            return false;
        if (stat.st_nlink > 0)
            return true;
        close(world->lock);
    }
}

static void raise_descriptors(void) {
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur >= DESCRIPTORS_MAX)
        return;
    struct rlimit wished = {DESCRIPTORS_MAX, limit.rlim_max > DESCRIPTORS_MAX ? limit.rlim_max : DESCRIPTORS_MAX};
    if (setrlimit(RLIMIT_NOFILE, &wished) == 0) /* past the hard limit: root's alone */
        return;
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
}

static void catch_signals(struct world *world) {
    struct sigaction action = {.sa_handler = on_signal}; /* calls that wait are to end with EINTR */
    sigemptyset(&action.sa_mask);
    interrupted = 0;
    for (size_t i = 0; i < ENDING_SIGNALS; i++) {
        /* A terminal or a peer that went away is seen where it is written to. */
        action.sa_handler = ending_signals[i] == SIGPIPE ? SIG_IGN : on_signal;
        sigaction(ending_signals[i], &action, &world->old_actions[i]);
        if (world->old_actions[i].sa_handler == SIG_IGN) /* nohup's, and a shell's background jobs' */
            sigaction(ending_signals[i], &world->old_actions[i], NULL);
    }
}

/* A folder without a lock is nobody's to remove, unless it is empty. */
static void mark_kept(struct world *world) {
    char from[PATH_BYTES], to[PATH_BYTES];
    if (join(from, world->dir, LOCK) && join(to, world->dir, KEPT) && rename(from, to) == 0) {
        close(world->lock);
        world->lock = -1;
    }
}

static void restore_signals(const struct world *world) {
    for (size_t i = 0; i < ENDING_SIGNALS; i++)
        sigaction(ending_signals[i], &world->old_actions[i], NULL);
}

struct world *world_begin(bool keep) {
    const char *temporary = getenv("TMPDIR");
    struct world *world = calloc(1, sizeof *world);
    if (world == NULL)
        return NULL;
    if (temporary == NULL || temporary[0] != '/')
        temporary = "/tmp";
    world->lock = -1;
    catch_signals(world); /* before there is something to leave behind */
    sweep(temporary);
    if (!make_folder(world, temporary)) {
        int error = errno;
        restore_signals(world);
        free(world);
        errno = error;
        return NULL;
    }
    if (keep)
        mark_kept(world);
    prctl(PR_GET_CHILD_SUBREAPER, &world->was_subreaper);
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    raise_descriptors();
    return world;
}

void world_end(struct world *world) {
    if (world == NULL)
        return;
    process_stop_all(world->pids, world->pid_count);
    process_stop_orphans();
    if (world->lock >= 0) {
        remove_world_folder(world->dir);
        close(world->lock);
    } else {
        return_borrowed(world->dir);
    }
    prctl(PR_SET_CHILD_SUBREAPER, world->was_subreaper);
    restore_signals(world);
    free(world->pids);
    free(world);
}

static bool make_parents(char *path, size_t skip) {
    for (char *slash = strchr(path + skip, '/'); slash != NULL; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        bool ok = mkdir(path, 0700) == 0 || errno == EEXIST;
        *slash = '/';
        if (!ok)
            return false;
    }
    return true;
}

bool world_write(struct world *world, const char *name, const char *text) {
    char path[PATH_BYTES];
    if (!join(path, world->dir, name) || !make_parents(path, strlen(world->dir) + 1))
        return false;
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    FILE *file = fd >= 0 ? fdopen(fd, "w") : NULL;
    if (file == NULL) {
        if (fd >= 0)
            close(fd);
        return false;
    }
    bool ok = fputs(text, file) >= 0;
    return fclose(file) == 0 && ok;
}

char *world_read(const char *path) {
    char *text = NULL;
    size_t room = 0;
    FILE *file = fopen(path, "re");
    if (file == NULL)
        return NULL;
    errno = 0;
    if (getdelim(&text, &room, '\0', file) < 0 && text != NULL)
        text[0] = '\0';
    fclose(file);
    return text;
}

bool world_make_dir(struct world *world, const char *name) {
    char path[PATH_BYTES];
    return join(path, world->dir, name) && make_parents(path, strlen(world->dir) + 1) &&
           (mkdir(path, 0700) == 0 || errno == EEXIST);
}

void world_remove_dir(struct world *world, const char *name) {
    char path[PATH_BYTES];
    bool is_kept = world->lock < 0;
    if (!is_kept && join(path, world->dir, name))
        nftw(path, remove_one, WALK_DESCRIPTORS, FTW_DEPTH | FTW_PHYS | FTW_MOUNT);
}

bool world_borrow_dir(struct world *world, const char *path) {
    char list[PATH_BYTES];
    if (mkdir(path, 0755) != 0)
        return errno == EEXIST;
    FILE *file = join(list, world->dir, BORROWED) ? fopen(list, "ae") : NULL;
    bool ok = file != NULL && fprintf(file, "%s\n", path) > 0;
    ok = file != NULL && fclose(file) == 0 && ok;
    if (!ok) /* nobody would remove it */
        rmdir(path);
    return ok;
}

static bool make_key(struct world *world, const char *name, char *why, size_t why_bytes) {
    char path[PATH_BYTES], *output;
    if (!join(path, world->dir, name))
        return false;
    const char *const argv[] = {"ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "leat-bench", "-f", path, NULL};
    int status = world_run(argv, &output);
    if (status != 0)
        snprintf(why, why_bytes, "ssh-keygen: %s", status < 0 ? strerror(errno) : output);
    free(output);
    return status == 0;
}

bool world_keys(struct world *world, char *why, size_t why_bytes) {
    char path[PATH_BYTES];
    if (world->has_keys)
        return true;
    if (!make_key(world, "host_key", why, why_bytes) || !make_key(world, "user_key", why, why_bytes))
        return false;
    char *text = join(path, world->dir, "user_key.pub") ? world_read(path) : NULL;
    world->has_keys = text != NULL && world_write(world, "authorized_keys", text);
    if (!world->has_keys)
        snprintf(why, why_bytes, "the user's key: %s", strerror(errno));
    free(text);
    return world->has_keys;
}

static bool remember(struct world *world) {
    if (world->pid_count < world->pid_room)
        return true;
    size_t room = world->pid_room == 0 ? 16 : world->pid_room * 2;
    pid_t *pids = realloc(world->pids, room * sizeof *pids);
    if (pids == NULL)
        return false;
    world->pids = pids;
    world->pid_room = room;
    return true;
}

bool world_start(struct world *world, struct process *process, const char *name, char *const *argv,
                 char *const *environment, const struct place *place) {
    *process = (struct process){0};
    if (snprintf(process->log, sizeof process->log, "%s/%s.log", world->dir, name) >= (int)sizeof process->log) {
        errno = ENAMETOOLONG;
        return false;
    }
    if (!remember(world))
        return false;
    int log = open(process->log, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0600);
    if (log < 0)
        return false;
    pid_t pid =
        process_spawn(&(struct process_spawn){.argv = argv, .environment = environment, .place = place, .output = log});
    int error = errno;
    close(log);
    errno = error;
    if (pid < 0)
        return false;
    process->pid = pid;
    world->pids[world->pid_count++] = pid;
    return true;
}

static void forget(struct world *world, struct process *process) {
    for (size_t i = 0; i < world->pid_count; i++)
        if (world->pids[i] == process->pid)
            world->pids[i] = world->pids[--world->pid_count];
    process->pid = 0;
}

void world_stop_both(struct world *world, struct process *one, struct process *other) {
    const pid_t pids[] = {one->pid, other->pid};
    process_stop_all(pids, 2);
    forget(world, one);
    forget(world, other);
}

void world_stop(struct world *world, struct process *process) {
    struct process none = {0};
    world_stop_both(world, process, &none);
}
