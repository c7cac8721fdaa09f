#include "engine/limits.h"
#include "engine/log.h"
#include "ssh/address_list.h"
#include "ssh/authorized_keys.h"
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Files whose lines have been complained about, so that a line nobody mends is told once per version of its file and
 * not at every login. The oldest is forgotten when all places are taken. */
enum { NOTICES_MAX = 256 };
struct notice {
    dev_t device;
    ino_t inode;
    off_t size;
    struct timespec changed;
};
static struct {
    pthread_mutex_t lock;
    struct notice at[NOTICES_MAX];
    uint32_t next;
} notices = {.lock = PTHREAD_MUTEX_INITIALIZER};

static bool notice_same(const struct notice *notice, const struct stat *file) {
    return notice->device == file->st_dev && notice->inode == file->st_ino && notice->size == file->st_size &&
           notice->changed.tv_sec == file->st_ctim.tv_sec && notice->changed.tv_nsec == file->st_ctim.tv_nsec;
}

/* Is this version of the file new to the log? From now on it is not. */
static bool notice_take(const struct stat *file) {
    bool known = false;
    pthread_mutex_lock(&notices.lock);
    for (uint32_t i = 0; i < NOTICES_MAX && !known; i++)
        known = notice_same(&notices.at[i], file);
    if (!known)
        notices.at[notices.next++ % NOTICES_MAX] = (struct notice){
            .device = file->st_dev, .inode = file->st_ino, .size = file->st_size, .changed = file->st_ctim};
    pthread_mutex_unlock(&notices.lock);
    return !known;
}

/* A walk through the lines of a file. */
struct walk {
    const struct key_search *search;
    FILE *stream;
    bool tells; /* every malformed line, not only one with the key asked about */
    uint8_t *blob;
    size_t blob_len;
    size_t needle_len; /* of search->blob: what each spelling of the key has in it */
    char *line;
    uint32_t number;
    size_t bytes;
};

static void tell(const struct walk *walk, const char *text) {
    char path[PATH_MAX];
    log_info("%s:%u: %s", log_safe(path, sizeof path, walk->search->path, strlen(walk->search->path)), walk->number,
             text);
}

static void tell_skipped(const struct walk *walk, const char *why) {
    char text[160];
    snprintf(text, sizeof text, "line passed over: %s", why);
    tell(walk, text);
}

/* Reads the next line into walk->line, without its newline; false at the end. *len is what the line has; at most
 * LIMIT_AUTHORIZED_KEYS_LINE_BYTES of it are kept. */
static bool line_read(struct walk *walk, size_t *len) {
    size_t kept = 0;
    int c;
    *len = 0;
    while ((c = getc_unlocked(walk->stream)) != EOF && c != '\n') {
        if (kept < LIMIT_AUTHORIZED_KEYS_LINE_BYTES)
            walk->line[kept++] = (char)c;
        if (++*len + walk->bytes > LIMIT_AUTHORIZED_KEYS_BYTES) {
            tell(walk, "the file is too large: what follows is not looked at");
            return false;
        }
    }
    walk->line[kept] = 0;
    walk->bytes += *len + 1;
    walk->number++;
    return c != EOF || *len > 0;
}

/* Public keys are no secret, but how much of one was right is nobody's business either. 1, 0, ERR_NOMEM. */
static int blob_equal(const struct walk *walk, const struct authorized_key *key) {
    uint8_t *blob;
    size_t len;
    int error = authorized_key_blob(key->blob, &blob, &len);
    if (error)
        return error == ERR_NOMEM ? error : 0;
    uint8_t differs = len != walk->blob_len;
    for (size_t i = 0; i < len && i < walk->blob_len; i++)
        differs |= (uint8_t)(blob[i] ^ walk->blob[i]);
    free(blob);
    return !differs && strcmp(key->type, walk->search->type) == 0;
}

/* Of a line with the right key: do its from= and expiry-time= hold? */
static bool options_hold(const struct walk *walk, const struct key_options *options) {
    const struct key_search *search = walk->search;
    if (options->expiry_time < search->now) {
        tell(walk, "the right key, but it has expired");
        return false;
    }
    if (!options->from)
        return true;
    enum pattern_result result;
    const char *why = NULL;
    if (address_list_match(search->address, search->host, options->from, &result, &why) != 0) {
        tell_skipped(walk, why);
        return false;
    }
    if (result != PATTERN_MATCHED)
        tell(walk, "the right key, but not from an address that from= permits");
    return result == PATTERN_MATCHED;
}

/* Every spelling of the key has the same base64 digits but for the last, which may carry spare bits, and the padding;
 * only a line with them need be taken apart. */
static bool line_may_hold(const struct walk *walk) {
    return memmem(walk->line, strlen(walk->line), walk->search->blob, walk->needle_len) != NULL;
}

/* 1: this line lets the key in; 0: it does not; ERR_NOMEM. */
static int line_check(const struct walk *walk, size_t len, struct key_options *options) {
    bool candidate = line_may_hold(walk);
    if (!candidate && !walk->tells)
        return 0;
    struct authorized_key key;
    const char *why = "the line is too long, or has a NUL in it";
    int parsed = len == strlen(walk->line) ? authorized_key_parse(walk->line, &key, &why) : ERR_CONFIG;
    if (parsed < 0 && parsed != ERR_NOMEM)
        tell_skipped(walk, why);
    if (parsed <= 0)
        return parsed == ERR_NOMEM ? parsed : 0;
    int found = candidate ? blob_equal(walk, &key) : 0;
    if (found == 1)
        found = options_hold(walk, &key.options);
    if (found == 1) {
        *options = key.options;
        key_options_init(&key.options);
    }
    authorized_key_deinit(&key);
    return found;
}

static int lines_check(struct walk *walk, struct key_options *options, uint32_t *line_number) {
    size_t len;
    int found = 0;
    while (found == 0 && line_read(walk, &len)) {
        found = line_check(walk, len, options);
        *line_number = walk->number;
    }
    return found;
}

static size_t needle_len(const char *blob) {
    size_t len = strlen(blob);
    while (len > 0 && blob[len - 1] == '=')
        len--;
    return len > 0 ? len - 1 : 0;
}

static int stream_find(const struct key_search *search, FILE *stream, bool tells, struct key_options *options,
                       uint32_t *line_number) {
    struct walk walk = {.search = search, .stream = stream, .tells = tells, .needle_len = needle_len(search->blob)};
    int found = authorized_key_blob(search->blob, &walk.blob, &walk.blob_len);
    if (found == ERR_LENGTH) /* what is no key is in no file */
        return 0;
    walk.line = malloc(LIMIT_AUTHORIZED_KEYS_LINE_BYTES + 1);
    if (!walk.line)
        found = ERR_NOMEM;
    if (found == 0)
        found = lines_check(&walk, options, line_number);
    free(walk.line);
    free(walk.blob);
    return found;
}

int authorized_keys_find_stream(const struct key_search *search, FILE *stream, struct key_options *options,
                                uint32_t *line_number) {
    return stream_find(search, stream, true, options, line_number);
}

/* Only root, and whose file it is, may be able to write to it or to replace it. */
static bool owner_is_sound(const struct key_file_owner *owner, const struct stat *at) {
    uid_t uid = owner->known ? owner->uid : geteuid();
    return (at->st_uid == 0 || at->st_uid == uid) && (at->st_mode & (S_IWGRP | S_IWOTH)) == 0;
}

/* Up from the file's real place to the home, or to / outside of it. */
static int directories_check(const struct key_file_owner *owner, char *path, char *why, size_t why_cap) {
    char home[PATH_MAX];
    bool has_home = owner->home && realpath(owner->home, home);
    for (;;) {
        char *slash = strrchr(path, '/');
        slash[slash == path] = 0;
        struct stat at;
        if (stat(path, &at) != 0 || !owner_is_sound(owner, &at)) {
            snprintf(why, why_cap, "bad ownership or modes for directory %s", path);
            return ERR_ACCESS;
        }
        if ((has_home && strcmp(path, home) == 0) || strcmp(path, "/") == 0)
            return 0;
    }
}

/* The folders that are looked at must be those of the file that was opened: links can be changed in between. */
static bool is_file(const char *path, const struct stat *file) {
    struct stat there;
    return lstat(path, &there) == 0 && there.st_dev == file->st_dev && there.st_ino == file->st_ino;
}

static int strict_check(const struct key_search *search, const struct stat *file, char *why, size_t why_cap) {
    char path[PATH_MAX];
    if (!realpath(search->path, path)) {
        snprintf(why, why_cap, "realpath of %s: %s", search->path, strerror(errno));
        return ERR_ACCESS;
    }
    if (!is_file(path, file)) {
        snprintf(why, why_cap, "%s was replaced while it was looked at", search->path);
        return ERR_ACCESS;
    }
    if (!owner_is_sound(&search->owner, file)) {
        snprintf(why, why_cap, "bad ownership or modes for file %s", path);
        return ERR_ACCESS;
    }
    return directories_check(&search->owner, path, why, why_cap);
}

static int file_check(const struct key_search *search, const struct stat *file, char *why, size_t why_cap) {
    if (!S_ISREG(file->st_mode)) {
        snprintf(why, why_cap, "%s is not a regular file", search->path);
        return ERR_ACCESS;
    }
    if (file->st_size > (off_t)LIMIT_AUTHORIZED_KEYS_BYTES) {
        snprintf(why, why_cap, "%s has more than %u bytes", search->path, LIMIT_AUTHORIZED_KEYS_BYTES);
        return ERR_ACCESS;
    }
    return search->strict_modes ? strict_check(search, file, why, why_cap) : 0;
}

/* No fault of the file's: what another file has to say must not take its place. */
static bool is_exhaustion(int error) {
    return error == ENOMEM || error == EMFILE || error == ENFILE;
}

int authorized_keys_find(const struct key_search *search, struct key_options *options, uint32_t *line_number, char *why,
                         size_t why_cap) {
    /* What stands at the path is whatever a user has put there: a FIFO must not hold us up. */
    int fd = open(search->path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    if (fd < 0 && (errno == ENOENT || errno == ENOTDIR))
        return 0;
    struct stat file;
    FILE *stream = fd >= 0 && fstat(fd, &file) == 0 ? fdopen(fd, "r") : NULL;
    if (!stream) {
        int error = errno;
        snprintf(why, why_cap, "%s: %s", search->path, strerror(error));
        if (fd >= 0)
            (void)close(fd);
        return is_exhaustion(error) ? ERR_NOMEM : ERR_ACCESS;
    }
    int found = file_check(search, &file, why, why_cap);
    if (found == 0)
        found = stream_find(search, stream, notice_take(&file), options, line_number);
    (void)fclose(stream);
    return found;
}
