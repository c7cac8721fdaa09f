/* The keys that can be offered, and how a private one is unlocked. */
#include "engine/log.h"
#include "ssh/auth_internal.h"
#include "ssh/prompt.h"
#include "ssh/provider.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static ssh_key import_agent_key(const struct agent_key *from) {
    ssh_key key = NULL;
    enum ssh_keytypes_e type = ssh_key_type_from_name(from->type);
    if (type == SSH_KEYTYPE_UNKNOWN)
        return NULL;
    int r = strstr(from->type, "-cert-") ? ssh_pki_import_cert_base64(from->base64, type, &key)
                                         : ssh_pki_import_pubkey_base64(from->base64, type, &key);
    return r == SSH_OK ? key : NULL;
}

/* "path.pub", else what `path` tells without a passphrase (OpenSSH's format; or it is a public key itself). */
static ssh_key import_file_key(const char *path) {
    ssh_key key = NULL;
    char *public_path = NULL;
    if (asprintf(&public_path, "%s.pub", path) < 0)
        return NULL;
    if (ssh_pki_import_pubkey_file(public_path, &key) != SSH_OK && ssh_pki_import_pubkey_file(path, &key) != SSH_OK)
        key = NULL;
    free(public_path);
    return key;
}

static struct identity *identity_add(struct auth *auth, struct identity identity) {
    struct identity *made = &auth->identities[auth->identities_count++];
    *made = identity;
    if (made->public && ssh_pki_export_pubkey_base64(made->public, &made->base64) != SSH_OK)
        made->base64 = NULL;
    return made;
}

static void add_agent_keys(struct auth *auth) {
    for (unsigned i = 0; i < auth->agent.keys_count; i++) {
        const struct agent_key *from = &auth->agent.keys[i];
        ssh_key key = import_agent_key(from);
        if (key)
            (void)identity_add(auth, (struct identity){.label = from->comment, .public = key, .agent_index = (int)i});
        else
            log_debug("key %s of the agent is of a type that libssh cannot use: %s", from->comment, from->type);
    }
}

static struct identity *find_agent_key(struct auth *auth, const char *base64) {
    for (unsigned i = 0; i < auth->identities_count; i++) {
        struct identity *identity = &auth->identities[i];
        if (identity->agent_index >= 0 && identity->base64 && base64 && strcmp(identity->base64, base64) == 0)
            return identity;
    }
    return NULL;
}

static void add_file(struct auth *auth, const char *path) {
    struct stat file;
    bool usable = stat(path, &file) == 0 && S_ISREG(file.st_mode);
    struct identity *made = identity_add(
        auth, (struct identity){.path = path, .label = path, .public = import_file_key(path), .agent_index = -1});
    struct identity *same = find_agent_key(auth, made->base64);
    if (same) {
        same->path = same->label = path;
        made->skipped = true; /* the agent's entry stands for it */
    }
    if (!usable)
        made->skipped = true;
}

static int rank(const struct auth *auth, const struct identity *identity) {
    const char *won = auth->secrets->key_won;
    if (won && identity->base64 && strcmp(won, identity->base64) == 0)
        return 0;
    if (identity->agent_index < 0)
        return 3;
    return identity->path ? 1 : 2;
}

/* As ssh: the agent's keys that are named by IdentityFile, its other keys, the files that it does not hold. Before them
 * what has already let another connection in. */
static void sort(struct auth *auth) {
    for (unsigned i = 1; i < auth->identities_count; i++) {
        struct identity moved = auth->identities[i];
        unsigned at = i;
        for (; at > 0 && rank(auth, &auth->identities[at - 1]) > rank(auth, &moved); at--)
            auth->identities[at] = auth->identities[at - 1];
        auth->identities[at] = moved;
    }
}

int identities_read(struct auth *auth) {
    const struct options *options = auth->options;
    if (agent_open(&auth->agent, options->identity_agent) == ERR_NOMEM)
        return ERR_NOMEM;
    auth->identities = calloc(auth->agent.keys_count + options->identity_files.count + 1, sizeof *auth->identities);
    if (!auth->identities)
        return ERR_NOMEM;
    provider_enter(NULL);
    add_agent_keys(auth);
    for (uint32_t i = 0; i < options->identity_files.count; i++)
        if (strcmp(options->identity_files.items[i], "none") != 0)
            add_file(auth, options->identity_files.items[i]);
    int err = provider_leave();
    if (options->identities_only)
        for (unsigned i = 0; i < auth->identities_count; i++)
            if (!auth->identities[i].path)
                auth->identities[i].skipped = true;
    sort(auth);
    return err;
}

void identities_free(struct auth *auth) {
    provider_enter(NULL);
    for (unsigned i = 0; i < auth->identities_count; i++) {
        ssh_key_free(auth->identities[i].public);
        ssh_string_free_char(auth->identities[i].base64);
    }
    (void)!provider_leave();
    free(auth->identities);
    auth->identities = NULL;
    auth->identities_count = 0;
}

static bool is_private(const char *path) {
    struct stat file;
    if (stat(path, &file) < 0) {
        log_info("cannot read key %s: %s", path, strerror(errno));
        return false;
    }
    if (file.st_uid != getuid() || (file.st_mode & 077) == 0)
        return true;
    log_error("WARNING: UNPROTECTED PRIVATE KEY FILE: the permissions %04o of '%s' are too open.",
              (unsigned)(file.st_mode & 07777), path);
    log_error("Others must not be able to read a private key. This one is ignored.");
    return false;
}

/* Stands in for a passphrase: libssh calls it only for a key that has one. */
static int note_question(const char *prompt, char *buffer, size_t len, int echo, int verify, void *arg) {
    (void)prompt;
    (void)buffer;
    (void)len;
    (void)echo;
    (void)verify;
    *(bool *)arg = true;
    return -1;
}

static ssh_key import_private(const char *path, const char *passphrase, bool *locked) {
    ssh_key key = NULL;
    provider_enter(NULL);
    int r = ssh_pki_import_privkey_file(path, passphrase, note_question, locked, &key);
    int err = provider_leave();
    return r == SSH_OK && !err ? key : NULL;
}

/* One question. 0 and *key; ERR_AGAIN: wrong passphrase. */
static int ask_passphrase(const char *path, char *passphrase, ssh_key *key) {
    char *text = NULL;
    if (asprintf(&text, "Enter passphrase for key '%s': ", path) < 0)
        return ERR_NOMEM;
    int err = prompt_ask(text, PROMPT_HIDDEN, passphrase, SECRET_BYTES);
    free(text);
    if (err == ERR_UNSUPPORTED)
        log_info("no terminal to ask for the passphrase of %s on", path);
    if (err)
        return err == ERR_CANCELED ? err : ERR_ACCESS;
    if (!*passphrase)
        return ERR_ACCESS; /* no answer: the next key, as in ssh */
    bool locked;
    *key = import_private(path, passphrase, &locked);
    return *key ? 0 : ERR_AGAIN;
}

static int unlock(struct auth *auth, const char *path, ssh_key *key) {
    char *passphrase = secret_new();
    int err = passphrase ? ERR_AGAIN : ERR_NOMEM;
    for (uint32_t i = 0; err == ERR_AGAIN && i < auth->options->number_of_password_prompts; i++) {
        err = ask_passphrase(path, passphrase, key);
        if (err == ERR_AGAIN)
            log_info("Wrong passphrase for key '%s'.", path);
    }
    secret_free(passphrase);
    return err == ERR_AGAIN ? ERR_ACCESS : err;
}

int identity_unlock(struct auth *auth, const struct identity *identity, ssh_key *key, bool *owned) {
    const char *path = identity->path;
    *owned = false;
    *key = secrets_find_key(auth->secrets, path);
    if (*key)
        return 0;
    if (!is_private(path))
        return ERR_ACCESS;
    bool locked = false;
    *owned = true;
    *key = import_private(path, NULL, &locked);
    if (*key)
        return 0;
    if (!locked) {
        log_info("cannot load key %s: it is unreadable or of an unknown format", path);
        return ERR_ACCESS;
    }
    if (auth->options->batch_mode) {
        log_verbose("key %s needs a passphrase, and BatchMode allows no question", path);
        return ERR_ACCESS;
    }
    int err = unlock(auth, path, key);
    if (!err)
        *owned = secrets_keep_key(auth->secrets, path, *key) != 0;
    return err;
}
