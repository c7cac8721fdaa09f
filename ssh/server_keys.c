#include "ssh/server_keys.h"
#include "engine/check.h"
#include "ssh/base64.h"
#include "ssh/provider.h"
#include "ssh/server_keys_internal.h"
#include "ssh/userauth.h"
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define KEY_FILE_BYTES 65536u /* RSA of 16384 bits takes a fifth of it */
#define BLOB_BYTES 4096u
static const char not_served[] = "a key of this type is not served; passed over";

/* ── the file ── */

static int file_fail(const char *path, const char *why) {
    log_error("HostKey %s: %s", path, why);
    return ERR_CONFIG;
}

/* ERR_ACCESS: not readable to this account, nothing was reported. */
static int file_open(const char *path, int *fd) {
    struct stat stat;
    *fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (*fd < 0 && (errno == EACCES || errno == EPERM))
        return ERR_ACCESS;
    if (*fd < 0 || fstat(*fd, &stat))
        return file_fail(path, strerror(errno));
    if (!S_ISREG(stat.st_mode))
        return file_fail(path, "not a regular file");
    /* As sshd: a file of another account is that account's to guard. */
    if (stat.st_uid == getuid() && (stat.st_mode & 077)) {
        log_error("HostKey %s: permissions %04o are too open: a private key must not be accessible by others", path,
                  (unsigned)stat.st_mode & 07777);
        return ERR_CONFIG;
    }
    return 0;
}

static int file_read(int fd, const char *path, char *text) {
    size_t len = 0;
    for (;;) {
        ssize_t n = read(fd, text + len, KEY_FILE_BYTES - 1 - len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return file_fail(path, strerror(errno));
        if (n == 0)
            break;
        len += (size_t)n;
        if (len == KEY_FILE_BYTES - 1)
            return file_fail(path, "too long for a private key");
    }
    text[len] = '\0';
    return 0;
}

/* Never swapped, never in a core file, wiped. */
static char *secret_pages(void) {
    char *text = mmap(NULL, KEY_FILE_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (text == MAP_FAILED)
        return NULL;
    if (mlock(text, KEY_FILE_BYTES))
        log_debug("a private key could not be locked in memory (RLIMIT_MEMLOCK)");
    (void)madvise(text, KEY_FILE_BYTES, MADV_DONTDUMP);
    return text;
}

static void secret_pages_free(char *text) {
    explicit_bzero(text, KEY_FILE_BYTES);
    (void)munmap(text, KEY_FILE_BYTES);
}

/* OpenSSH's own format (PROTOCOL.key) has the cipher and the public key in the clear. Why libssh did not take it;
 * *other: a type of key that is not served, which is no error. */
static const char *import_failure(const char *text, bool *other) {
    static const char begin[] = "-----BEGIN OPENSSH PRIVATE KEY-----", magic[] = "openssh-key-v1";
    char base64[512];
    uint8_t bytes[sizeof base64 / 4 * 3];
    size_t len = 0;
    struct reader reader;
    *other = strstr(text, "-----BEGIN DSA PRIVATE KEY-----") != NULL;
    const char *at = strstr(text, begin);
    if (!at)
        return "not a private key, or one with a passphrase";
    for (at += strlen(begin); *at && *at != '-' && len < sizeof base64; at++)
        if (*at != '\n' && *at != '\r')
            base64[len++] = *at;
    int decoded = base64_decode(bytes, sizeof bytes, base64, len & ~(size_t)3);
    if (decoded < (int)sizeof magic || memcmp(bytes, magic, sizeof magic) != 0)
        return "not a private key";
    reader_init(&reader, bytes + sizeof magic, (uint32_t)decoded - sizeof magic);
    bool encrypted = !bytes_equal(reader_string(&reader), "none");
    (void)reader_string(&reader); /* how the passphrase is stretched, */
    (void)reader_string(&reader); /* and with what */
    (void)reader_u32(&reader);    /* keys */
    (void)reader_u32(&reader);    /* bytes of the first, which may go on behind what was decoded */
    struct bytes type = reader_string(&reader);
    *other = reader_ok(&reader) && !userauth_is_key_type(type);
    return encrypted ? "it has a passphrase" : "not a private key that libssh takes";
}

static ssh_key key_import(const char *text) {
    ssh_key key = NULL;
    provider_enter(NULL);
    /* The empty passphrase: libssh must not ask for one. */
    int r = ssh_pki_import_privkey_base64(text, "", NULL, NULL, &key);
    CHECK(provider_leave() == 0);
    return r == SSH_OK ? key : NULL;
}

static int import_fail(const char *path, const char *text) {
    bool other;
    const char *why = import_failure(text, &other);
    if (!other)
        return file_fail(path, why);
    log_info("HostKey %s: %s", path, not_served);
    return 0;
}

/* *key NULL: of a type that is not served, reported. */
static int key_read(const char *path, ssh_key *key) {
    int fd;
    *key = NULL;
    int err = file_open(path, &fd);
    char *text = err ? NULL : secret_pages();
    if (!err)
        err = text ? file_read(fd, path, text) : ERR_NOMEM;
    if (!err)
        *key = key_import(text);
    if (!err && !*key)
        err = import_fail(path, text);
    if (text)
        secret_pages_free(text);
    if (fd >= 0)
        (void)close(fd);
    return err;
}

/* ── the set ── */

static int slot_of(ssh_key key) {
    switch (ssh_key_type(key)) {
    case SSH_KEYTYPE_ED25519:
        return SLOT_ED25519;
    case SSH_KEYTYPE_ECDSA_P256:
    case SSH_KEYTYPE_ECDSA_P384:
    case SSH_KEYTYPE_ECDSA_P521:
        return SLOT_ECDSA;
    case SSH_KEYTYPE_RSA:
        return SLOT_RSA;
    default:
        return SLOTS;
    }
}

static void key_free(ssh_key key) {
    provider_enter(NULL);
    ssh_key_free(key); /* wipes */
    CHECK(provider_leave() == 0);
}

ssh_key server_key_copy(const struct server_keys *keys, ssh_key key) {
    pthread_mutex_t *copying = (pthread_mutex_t *)&keys->copying;
    pthread_mutex_lock(copying);
    provider_enter(NULL);
    ssh_key copy = ssh_key_dup(key);
    CHECK(provider_leave() == 0);
    pthread_mutex_unlock(copying);
    return copy;
}

/* libssh has no call for it. */
static uint32_t key_rsa_bits(ssh_key key) {
    uint8_t blob[BLOB_BYTES];
    char *base64 = NULL;
    provider_enter(NULL);
    bool known = ssh_pki_export_pubkey_base64(key, &base64) == SSH_OK;
    CHECK(provider_leave() == 0);
    int len = known ? base64_decode(blob, sizeof blob, base64, strlen(base64)) : 0;
    ssh_string_free_char(base64);
    return len > 0 ? userauth_rsa_bits((struct bytes){.at = blob, .len = (uint32_t)len}) : 0;
}

/* Takes the key over. A key that cannot be used is passed over, as sshd does. */
static int keys_add(struct server_keys *keys, const struct server_options *options, const char *path, ssh_key key) {
    int slot = slot_of(key);
    const char *why = NULL;
    if (slot == SLOTS)
        why = not_served;
    else if (keys->slots[slot].key)
        why = "there is a host key of this type already; passed over";
    else if (slot == SLOT_RSA && key_rsa_bits(key) < options->required_rsa_bits)
        why = "smaller than RequiredRSASize; passed over";
    char *copy = why ? NULL : strdup(path);
    if (copy) {
        keys->slots[slot] = (struct host_key){.key = key, .path = copy};
        return 0;
    }
    key_free(key);
    if (!why)
        return ERR_NOMEM;
    log_info("HostKey %s: %s", path, why);
    return 0;
}

/* The file is root's and this process no longer is. */
static ssh_key key_before(const struct server_keys *before, const char *path) {
    for (int i = 0; before && i < SLOTS; i++)
        if (before->slots[i].key && strcmp(before->slots[i].path, path) == 0)
            return server_key_copy(before, before->slots[i].key);
    return NULL;
}

static int keys_add_file(struct server_keys *keys, const struct server_options *options,
                         const struct server_keys *before, const char *path) {
    ssh_key key;
    int err = key_read(path, &key);
    if (err == ERR_ACCESS) {
        key = key_before(before, path);
        if (!key && options->host_keys_given)
            return file_fail(path, strerror(EACCES));
        if (!key)
            log_verbose("HostKey %s: %s", path, strerror(EACCES));
        err = 0;
    }
    return err || !key ? err : keys_add(keys, options, path, key);
}

static bool keys_empty(const struct server_keys *keys) {
    for (int i = 0; i < SLOTS; i++)
        if (keys->slots[i].key)
            return false;
    return true;
}

int server_keys_read(const struct server_options *options, const struct server_keys *before,
                     struct server_keys **result) {
    struct server_keys *keys = calloc(1, sizeof *keys);
    int err = 0;
    *result = NULL;
    if (!keys)
        return ERR_NOMEM;
    keys->references = 1;
    CHECK(pthread_mutex_init(&keys->copying, NULL) == 0);
    for (uint32_t i = 0; !err && i < options->host_keys.count; i++)
        err = keys_add_file(keys, options, before, options->host_keys.items[i]);
    if (!err && keys_empty(keys)) {
        log_error("no host keys: make one with \"ssh-keygen -t ed25519 -N '' -f FILE\" and name it with HostKey FILE");
        err = ERR_CONFIG;
    }
    if (err) {
        server_keys_unref(keys);
        return err;
    }
    *result = keys;
    return 0;
}

struct server_keys *server_keys_ref(const struct server_keys *keys) {
    struct server_keys *shared = (struct server_keys *)keys;
    atomic_fetch_add_explicit(&shared->references, 1, memory_order_relaxed);
    return shared;
}

void server_keys_unref(struct server_keys *keys) {
    if (!keys || atomic_fetch_sub_explicit(&keys->references, 1, memory_order_acq_rel) > 1)
        return;
    for (int i = 0; i < SLOTS; i++) {
        key_free(keys->slots[i].key);
        free(keys->slots[i].path);
    }
    pthread_mutex_destroy(&keys->copying);
    free(keys);
}

void server_keys_log(const struct server_keys *keys) {
    provider_enter(NULL);
    for (int i = 0; i < SLOTS; i++) {
        ssh_key key = keys->slots[i].key;
        unsigned char *hash = NULL;
        size_t len = 0;
        if (!key || ssh_get_publickey_hash(key, SSH_PUBLICKEY_HASH_SHA256, &hash, &len) != SSH_OK)
            continue;
        char *fingerprint = ssh_get_fingerprint_hash(SSH_PUBLICKEY_HASH_SHA256, hash, len);
        log_info("host key %s %s", ssh_key_type_to_char(ssh_key_type(key)), fingerprint ? fingerprint : "");
        ssh_string_free_char(fingerprint);
        ssh_clean_pubkey_hash(&hash);
    }
    CHECK(provider_leave() == 0);
}
