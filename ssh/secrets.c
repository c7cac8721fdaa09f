#include "ssh/secrets.h"
#include "engine/log.h"
#include "ssh/auth.h"
#include "ssh/provider.h"
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

char *secret_new(void) {
    char *page = mmap(NULL, SECRET_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (page == MAP_FAILED)
        return NULL;
    if (mlock(page, SECRET_BYTES) < 0)
        log_debug("a secret could not be locked in memory (RLIMIT_MEMLOCK)");
    (void)madvise(page, SECRET_BYTES, MADV_DONTDUMP);
    return page;
}

void secret_free(char *secret) {
    if (!secret)
        return;
    explicit_bzero(secret, SECRET_BYTES);
    (void)munmap(secret, SECRET_BYTES);
}

int secrets_create(struct secrets **secrets) {
    *secrets = calloc(1, sizeof **secrets);
    return *secrets ? 0 : ERR_NOMEM;
}

static void free_keys(struct secrets *secrets) {
    provider_enter(NULL);
    for (unsigned i = 0; i < secrets->keys_count; i++) {
        ssh_key_free(secrets->keys[i].key);
        free(secrets->keys[i].path);
    }
    (void)!provider_leave();
    free(secrets->keys);
}

void secrets_strip(struct secrets *secrets) {
    free_keys(secrets);
    secrets->keys = NULL;
    secrets->keys_count = 0;
    secrets_keep_password(secrets, NULL);
    secrets_forget_answers(secrets);
}

const char *secrets_person_needed(const struct secrets *secrets) {
    if (secrets->keys_count > 0)
        return "the key has a passphrase and is in no agent";
    if (secrets->methods_won & ~(unsigned)AUTH_PUBLICKEY)
        return "the server was given more than a key";
    return secrets->touch_won ? "a security key is to be touched" : NULL;
}

void secrets_wipe(struct secrets *secrets) {
    if (!secrets)
        return;
    secrets_strip(secrets);
    free(secrets->host_key);
    free(secrets->banner);
    free(secrets->key_won);
    free(secrets);
}

ssh_key secrets_find_key(const struct secrets *secrets, const char *path) {
    for (unsigned i = 0; i < secrets->keys_count; i++)
        if (strcmp(secrets->keys[i].path, path) == 0)
            return secrets->keys[i].key;
    return NULL;
}

int secrets_keep_key(struct secrets *secrets, const char *path, ssh_key key) {
    struct secrets_key *keys = realloc(secrets->keys, (secrets->keys_count + 1) * sizeof *keys);
    if (!keys)
        return ERR_NOMEM;
    secrets->keys = keys;
    char *copy = strdup(path);
    if (!copy)
        return ERR_NOMEM;
    keys[secrets->keys_count++] = (struct secrets_key){.path = copy, .key = key};
    return 0;
}

void secrets_keep_password(struct secrets *secrets, char *password) {
    secret_free(secrets->password);
    secrets->password = password;
}

void secrets_keep_answer(struct secrets *secrets, const char *prompt, char *answer) {
    char *copy = secrets->answers_count < SECRETS_ANSWERS_MAX ? strdup(prompt) : NULL;
    if (!copy) {
        secret_free(answer);
        return;
    }
    secrets->answers[secrets->answers_count++] = (struct secrets_answer){.prompt = copy, .answer = answer};
}

void secrets_forget_answers(struct secrets *secrets) {
    for (unsigned i = 0; i < secrets->answers_count; i++) {
        free(secrets->answers[i].prompt);
        secret_free(secrets->answers[i].answer);
    }
    secrets->answers_count = 0;
}

void secrets_note(char **at, const char *text) {
    char *copy = strdup(text);
    free(*at);
    *at = copy;
}
