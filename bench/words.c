#include "bench/words.h"
#include <dlfcn.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static const char *const names[WORD_COUNT] = {
    [WORD_DIR] = "dir",
    [WORD_KEYS] = "keys",
    [WORD_HOST_PUBLIC_KEY] = "host_public_key",
    [WORD_USER_PUBLIC_KEY] = "user_public_key",
    [WORD_LISTEN_HOST] = "listen_host",
    [WORD_LISTEN_PORT] = "listen_port",
    [WORD_SERVER_HOST] = "server_host",
    [WORD_SERVER_PORT] = "server_port",
    [WORD_CONNECT_PORT] = "connect_port",
    [WORD_TARGET_HOST] = "target_host",
    [WORD_TARGET_PORT] = "target_port",
    [WORD_CIPHER] = "cipher",
    [WORD_REKEY] = "rekey",
    [WORD_LIMIT] = "limit",
    [WORD_USER] = "user",
    [WORD_UID] = "uid",
    [WORD_GID] = "gid",
    [WORD_BIN] = "bin",
};

static bool is_name(const char *name, const char *text, size_t len) {
    return strlen(name) == len && memcmp(name, text, len) == 0;
}

static const char *value_of(const struct words *words, const char *text, size_t len) {
    for (unsigned i = 0; i < WORD_COUNT; i++)
        if (is_name(names[i], text, len))
            return words->values[i];
    for (size_t i = 0; i < words->program_count; i++)
        if (is_name(words->programs[i].name, text, len))
            /* Missing: whoever wants to run it asks that first; the word is a word all the same. */
            return words->programs[i].path != NULL ? words->programs[i].path : words->programs[i].name;
    return NULL;
}

/* Copies up to the next word, and the word's value; returns what is behind it, or NULL. */
static const char *expand_one(const struct words *words, const char *at, FILE *out, char *unknown, size_t bytes) {
    size_t plain = strcspn(at, "{");
    fwrite(at, 1, plain, out);
    at += plain;
    if (*at == '\0')
        return at;
    if (at[1] == '{') {
        fputc('{', out);
        return at + 2;
    }
    size_t len = strcspn(at + 1, "}");
    const char *value = at[1 + len] == '}' ? value_of(words, at + 1, len) : NULL;
    if (value == NULL) {
        snprintf(unknown, bytes, "%.*s", (int)(at[1 + len] == '}' ? len + 2 : len + 1), at);
        return NULL;
    }
    fputs(value, out);
    return at + len + 2;
}

char *words_expand(const struct words *words, const char *text, char *unknown, size_t unknown_bytes) {
    char *expanded = NULL;
    size_t size;
    unknown[0] = '\0';
    FILE *out = open_memstream(&expanded, &size);
    if (out == NULL)
        return NULL;
    while (text != NULL && *text != '\0')
        text = expand_one(words, text, out, unknown, unknown_bytes);
    if (fclose(out) == 0 && text != NULL)
        return expanded;
    free(expanded);
    return NULL;
}

bool words_uses(const char *text, enum word word) {
    for (; (text = strchr(text, '{')) != NULL; text++) {
        if (text[1] == '{')
            text++;
        else if (is_name(names[word], text + 1, strcspn(text + 1, "}")))
            return true;
    }
    return false;
}

const char *words_bin(void) {
    static char folder[PATH_MAX];
    ssize_t len = readlink("/proc/self/exe", folder, sizeof folder - 1);
    folder[len > 0 ? len : 0] = '\0';
    char *slash = strrchr(folder, '/');
    if (slash == NULL)
        return ".";
    slash[slash == folder] = '\0';
    return folder;
}

const char *words_given(const char *name, const char *const *given) {
    size_t len = strlen(name);
    for (; given != NULL && *given != NULL; given++)
        if (strncmp(*given, name, len) == 0 && (*given)[len] == '=')
            return *given + len + 1;
    return NULL;
}

/* The folder's first `len` characters and the name, if that can be run. */
static char *runnable(const char *folder, size_t len, const char *name) {
    char *path = NULL;
    struct stat stat_;
    if (asprintf(&path, "%.*s/%s", (int)len, folder, name) < 0)
        return NULL;
    if (stat(path, &stat_) == 0 && S_ISREG(stat_.st_mode) && access(path, X_OK) == 0)
        return path;
    free(path);
    return NULL;
}

static char *find_in(const char *folders, const char *name) {
    for (const char *at = folders; at != NULL && *at != '\0';) {
        size_t len = strcspn(at, ":");
        char *path = len > 0 ? runnable(at, len, name) : NULL;
        if (path != NULL)
            return path;
        at += len + (at[len] == ':');
    }
    return NULL;
}

/* In a process of its own: what a library does when it is loaded is not to happen to this one. */
static bool library_loads(const char *name) {
    int status = -1;
    pid_t pid = fork();
    if (pid == 0)
        _exit(dlopen(name, RTLD_LAZY) != NULL ? 0 : 1);
    return pid > 0 && waitpid(pid, &status, 0) == pid && status == 0;
}

char *words_find_program(const char *name, const char *const *given) {
    size_t len = strlen(name);
    const char *path = words_given(name, given);
    if (path != NULL)
        return strdup(path);
    if (len > 3 && strcmp(name + len - 3, ".so") == 0)
        return library_loads(name) ? strdup(name) : NULL;
    char *found = find_in(words_bin(), name);
    if (found == NULL)
        found = find_in(getenv("PATH"), name);
    return found != NULL ? found : find_in("/usr/local/sbin:/usr/sbin:/sbin", name);
}
