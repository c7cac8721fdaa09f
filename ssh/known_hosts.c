#include "ssh/known_hosts.h"
#include "ssh/hostname_hash.h"
#include "ssh/text.h"
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct record {
    const char *file;
    unsigned line;
    const char *marker; /* "@revoked", "@cert-authority" or NULL */
    const char *type, *key;
};

int known_hosts_name(char out[KNOWN_HOSTS_NAME_BYTES], const char *host, uint16_t port, const char *alias) {
    int len = alias        ? snprintf(out, KNOWN_HOSTS_NAME_BYTES, "%s", alias)
              : port == 22 ? snprintf(out, KNOWN_HOSTS_NAME_BYTES, "%s", host)
                           : snprintf(out, KNOWN_HOSTS_NAME_BYTES, "[%s]:%u", host, port);
    if (len < 0 || len >= (int)KNOWN_HOSTS_NAME_BYTES)
        return ERR_LENGTH;
    for (char *p = out; *p; p++)
        *p = (char)tolower((unsigned char)*p);
    return 0;
}

static bool hosts_match(const char *hosts, const char *name) {
    if (hosts[0] == '|')
        return hostname_hash_matches(hosts, name);
    return pattern_list_match(name, hosts, true) == PATTERN_MATCHED;
}

static bool line_parse(char *line, const char *name, struct record *record) {
    char *rest = NULL, *field = strtok_r(line, " \t\r\n", &rest);
    if (!field || field[0] == '#')
        return false;
    record->marker = NULL;
    if (field[0] == '@') {
        record->marker = field;
        field = strtok_r(NULL, " \t\r\n", &rest);
    }
    record->type = strtok_r(NULL, " \t\r\n", &rest);
    record->key = strtok_r(NULL, " \t\r\n", &rest);
    return record->key && hosts_match(field, name);
}

typedef void record_fn(void *arg, const struct record *record);

static void file_each(const char *file, const char *name, record_fn *fn, void *arg) {
    if (strcmp(file, "none") == 0)
        return;
    FILE *in = fopen(file, "re");
    if (!in)
        return;
    char *line = NULL;
    size_t cap = 0;
    struct record record = {.file = file};
    while (getline(&line, &cap, in) >= 0) {
        record.line++;
        if (line_parse(line, name, &record))
            fn(arg, &record);
    }
    free(line);
    (void)fclose(in);
}

static void records_each(const struct string_list *user, const struct string_list *global, const char *name,
                         record_fn *fn, void *arg) {
    for (uint32_t i = 0; i < user->count; i++)
        file_each(user->items[i], name, fn, arg);
    for (uint32_t i = 0; i < global->count; i++)
        file_each(global->items[i], name, fn, arg);
}

struct search {
    const char *type, *key;
    struct known_hosts_answer *answer;
};

/* To OpenSSH the three ECDSA curves are one type: another curve's key for the same host is a changed key. */
static bool same_type(const char *a, const char *b) {
    static const char ecdsa[] = "ecdsa-sha2-";
    if (strncmp(a, ecdsa, strlen(ecdsa)) == 0)
        return strncmp(b, ecdsa, strlen(ecdsa)) == 0;
    return strcmp(a, b) == 0;
}

static enum known_host record_verdict(const struct record *record, const char *type, const char *key) {
    bool same_key = strcmp(record->key, key) == 0;
    if (record->marker) /* a certification authority's key says nothing about a plain host key */
        return same_key && strcmp(record->marker, "@revoked") == 0 ? KNOWN_HOST_REVOKED : KNOWN_HOST_NEW;
    if (same_key)
        return KNOWN_HOST_SAME;
    return same_type(record->type, type) ? KNOWN_HOST_CHANGED : KNOWN_HOST_OTHER_TYPE;
}

static void search_record(void *arg, const struct record *record) {
    struct search *search = arg;
    enum known_host verdict = record_verdict(record, search->type, search->key);
    if (verdict <= search->answer->verdict)
        return;
    *search->answer = (struct known_hosts_answer){.verdict = verdict, .file = record->file, .line = record->line};
}

void known_hosts_find(const struct string_list *user, const struct string_list *global, const char *name,
                      const char *type, const char *key, struct known_hosts_answer *answer) {
    *answer = (struct known_hosts_answer){.verdict = KNOWN_HOST_NEW};
    records_each(user, global, name, search_record, &(struct search){.type = type, .key = key, .answer = answer});
}

/* "ssh-rsa" keys sign as rsa-sha2-512 and rsa-sha2-256 (RFC 8332). */
static bool key_signs(const char *type, const char *algorithm, size_t len) {
    if (strcmp(type, "ssh-rsa") == 0 && len > 9 && strncmp(algorithm, "rsa-sha2-", 9) == 0)
        return true;
    return strlen(type) == len && strncmp(type, algorithm, len) == 0;
}

struct ordering {
    const char *algorithms;
    uint64_t known; /* bit i: the i-th algorithm's key is on record */
};

static void order_record(void *arg, const struct record *record) {
    struct ordering *ordering = arg;
    if (record->marker)
        return;
    unsigned i = 0;
    for (const char *p = ordering->algorithms; *p && i < 64; i++) {
        size_t len = strcspn(p, ",");
        if (key_signs(record->type, p, len))
            ordering->known |= UINT64_C(1) << i;
        p += len;
        p += *p == ',';
    }
}

int known_hosts_order(const struct string_list *user, const struct string_list *global, const char *name,
                      const char *algorithms, char *out, size_t cap) {
    struct ordering ordering = {.algorithms = algorithms};
    records_each(user, global, name, order_record, &ordering);
    size_t at = 0;
    for (int pass = 0; pass < 2; pass++) {
        unsigned i = 0;
        for (const char *p = algorithms; *p; i++) {
            size_t len = strcspn(p, ",");
            bool known = i < 64 && ordering.known >> i & 1;
            if (known == (pass == 0)) {
                if (at + len + 2 > cap)
                    return ERR_LENGTH;
                if (at > 0)
                    out[at++] = ',';
                memcpy(out + at, p, len);
                at += len;
            }
            p += len;
            p += *p == ',';
        }
    }
    out[at] = '\0';
    return 0;
}

static int open_for_append(const char *file) {
    int flags = O_RDWR | O_APPEND | O_CREAT | O_CLOEXEC;
    int fd = open(file, flags, 0600);
    const char *slash = strrchr(file, '/');
    if (fd >= 0 || errno != ENOENT || !slash || slash == file)
        return fd;
    char *directory = strndup(file, (size_t)(slash - file));
    bool made = directory && mkdir(directory, 0700) == 0;
    free(directory);
    return made ? open(file, flags, 0600) : -1;
}

/* A last line without its end must not swallow ours. */
static bool lacks_newline(int fd) {
    char last = '\n';
    off_t size = lseek(fd, 0, SEEK_END);
    return size > 0 && pread(fd, &last, 1, size - 1) == 1 && last != '\n';
}

int known_hosts_add(const char *file, const char *name, const char *type, const char *key, bool hashed) {
    char hash[HOSTNAME_HASH_BYTES];
    if (hashed) {
        int err = hostname_hash_make(hash, name);
        if (err)
            return err;
    }
    int fd = open_for_append(file);
    if (fd < 0)
        return ERR_SYSTEM;
    char *line = NULL;
    int len = asprintf(&line, "%s%s %s %s\n", lacks_newline(fd) ? "\n" : "", hashed ? hash : name, type, key);
    if (len < 0) {
        (void)close(fd);
        return ERR_NOMEM;
    }
    ssize_t written = write(fd, line, (size_t)len);
    int saved_errno = written < 0 ? errno : ENOSPC;
    free(line);
    if (close(fd) < 0 && written == len)
        return ERR_SYSTEM;
    errno = saved_errno;
    return written == len ? 0 : ERR_SYSTEM;
}
