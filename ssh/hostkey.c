#include "ssh/hostkey.h"
#include "engine/log.h"
#include "ssh/algorithms.h"
#include "ssh/known_hosts.h"
#include "ssh/prompt.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

struct presented {
    const struct options *options;
    struct secrets *secrets;
    char name[KNOWN_HOSTS_NAME_BYTES];
    const char *type;  /* "ssh-ed25519"; libssh's */
    const char *title; /* "ED25519" */
    char *key;         /* base64 of the blob */
    char *fingerprint; /* "SHA256:…" */
    const char *address;
    struct known_hosts_answer known;
};

int hostkey_algorithms(const struct options *options, char *out, size_t cap) {
    char name[KNOWN_HOSTS_NAME_BYTES];
    int err = known_hosts_name(name, options->hostname, options->port, options->host_key_alias);
    if (err)
        return err;
    /* A list that was given stands as it is, as in ssh. */
    if (options->host_key_algorithms) {
        int len = snprintf(out, cap, "%s", options->host_key_algorithms);
        return len < 0 || (size_t)len >= cap ? ERR_LENGTH : 0;
    }
    return known_hosts_order(&options->user_known_hosts_files, &options->global_known_hosts_files, name,
                             algorithms_host_keys, out, cap);
}

static const char *title_of(const char *type) {
    static const char *const titles[][2] = {{"ssh-ed25519", "ED25519"},
                                            {"ecdsa-", "ECDSA"},
                                            {"ssh-rsa", "RSA"},
                                            {"sk-ssh-ed25519", "ED25519-SK"},
                                            {"sk-ecdsa-", "ECDSA-SK"}};
    for (size_t i = 0; i < sizeof titles / sizeof titles[0]; i++)
        if (strncmp(type, titles[i][0], strlen(titles[i][0])) == 0)
            return titles[i][1];
    return type;
}

/* Within speaker_enter. */
static bool read_key(struct presented *presented, ssh_session ssh) {
    ssh_key key = NULL;
    unsigned char *hash = NULL;
    size_t hash_len = 0;
    if (ssh_get_server_publickey(ssh, &key) != SSH_OK)
        return false;
    bool ok = ssh_pki_export_pubkey_base64(key, &presented->key) == SSH_OK &&
              ssh_get_publickey_hash(key, SSH_PUBLICKEY_HASH_SHA256, &hash, &hash_len) == SSH_OK;
    presented->fingerprint = ok ? ssh_get_fingerprint_hash(SSH_PUBLICKEY_HASH_SHA256, hash, hash_len) : NULL;
    presented->type = ssh_key_type_to_char(ssh_key_type(key));
    ssh_clean_pubkey_hash(&hash);
    ssh_key_free(key);
    return presented->fingerprint && presented->type;
}

static int read_presented(struct presented *presented, struct client_link *link, struct secrets *secrets) {
    const struct options *options = link->options;
    *presented = (struct presented){.options = options, .secrets = secrets, .address = link->address};
    if (known_hosts_name(presented->name, options->hostname, options->port, options->host_key_alias) != 0) {
        log_error("host name too long");
        return ERR_HOSTKEY;
    }
    speaker_enter(&link->made->speaker);
    bool ok = read_key(presented, link->made->speaker.ssh);
    int err = speaker_leave(&link->made->speaker);
    if (err || !ok) {
        log_error("%s: the server's host key cannot be read", link->where);
        return ERR_HOSTKEY;
    }
    presented->title = title_of(presented->type);
    known_hosts_find(&options->user_known_hosts_files, &options->global_known_hosts_files, presented->name,
                     presented->type, presented->key, &presented->known);
    return 0;
}

static void free_presented(struct presented *presented) {
    ssh_string_free_char(presented->key);
    ssh_string_free_char(presented->fingerprint);
}

static int refuse(const struct presented *presented) {
    log_error("Host key verification failed for %s.", presented->name);
    return ERR_HOSTKEY;
}

static int refuse_changed(const struct presented *presented) {
    const struct known_hosts_answer *known = &presented->known;
    bool other = known->verdict == KNOWN_HOST_OTHER_TYPE;
    log_error("@@@@@@@@ WARNING: THE HOST KEY OF %s %s @@@@@@@@", presented->name,
              other ? "IS OF AN UNEXPECTED TYPE" : "HAS CHANGED");
    log_error("Somebody may be between you and the server right now (a man in the middle),");
    log_error("or the server has been given a new host key. There is no way to tell from here.");
    log_error("The %s key it sent has the fingerprint %s.", presented->title, presented->fingerprint);
    log_error("%s is in %s:%u.", other ? "What is on record" : "The key on record", known->file, known->line);
    log_error("Ask the server's administrator. If the new key is the right one, forget the old one with");
    log_error("  ssh-keygen -f '%s' -R '%s'", known->file, presented->name);
    if (presented->options->strict_host_key_checking == HOST_KEY_CHECK_NO)
        log_error("ssh would go on without forwarding here; without forwarding there is nothing for leat to do.");
    return refuse(presented);
}

static int refuse_revoked(const struct presented *presented) {
    log_error("@@@@@@@@ WARNING: THE HOST KEY OF %s HAS BEEN REVOKED @@@@@@@@", presented->name);
    log_error("The %s key it sent (%s) is marked as revoked in %s:%u.", presented->title, presented->fingerprint,
              presented->known.file, presented->known.line);
    log_error("Somebody who has got hold of that key may be pretending to be the server.");
    return refuse(presented);
}

static const char *first_user_file(const struct options *options) {
    const struct string_list *files = &options->user_known_hosts_files;
    return files->count > 0 && strcmp(files->items[0], "none") != 0 ? files->items[0] : NULL;
}

/* The program's other connections will meet the same key, wherever it could be recorded. */
static void remember(const struct presented *presented) {
    char *line = NULL;
    if (asprintf(&line, "%s %s", presented->type, presented->key) < 0)
        return;
    secrets_note(&presented->secrets->host_key, line);
    free(line);
}

static bool remembered(const struct presented *presented) {
    const char *line = presented->secrets->host_key;
    size_t len = strlen(presented->type);
    return line && strncmp(line, presented->type, len) == 0 && line[len] == ' ' &&
           strcmp(line + len + 1, presented->key) == 0;
}

static int accept_new(const struct presented *presented) {
    const char *file = first_user_file(presented->options);
    remember(presented);
    if (!file)
        return 0;
    int err =
        known_hosts_add(file, presented->name, presented->type, presented->key, presented->options->hash_known_hosts);
    if (err)
        log_info("Warning: failed to add the host key to %s: %s", file,
                 err == ERR_SYSTEM ? strerror(errno) : err_text(err));
    else
        log_info("Warning: permanently added '%s' (%s) to the known hosts (%s).", presented->name, presented->title,
                 file);
    return 0;
}

static int ask_person(const struct presented *presented, char *answer, size_t cap) {
    char *text = NULL;
    bool other = presented->known.verdict == KNOWN_HOST_OTHER_TYPE;
    bool address = presented->address[0] && strcmp(presented->address, presented->options->hostname) != 0;
    if (asprintf(&text,
                 "The authenticity of host '%s%s%s%s' cannot be established%s.\n"
                 "Its %s key has the fingerprint %s.\n"
                 "Connect, and trust this key from now on (yes/no/[fingerprint])? ",
                 presented->name, address ? " (" : "", address ? presented->address : "", address ? ")" : "",
                 other ? ",\nbut keys of other types are already known for it" : "", presented->title,
                 presented->fingerprint) < 0)
        return ERR_NOMEM;
    int err = prompt_ask(text, PROMPT_SHOWN, answer, cap);
    free(text);
    return err;
}

/* Blanks around an answer do not count. */
static char *trimmed(char *text) {
    text += strspn(text, " \t");
    for (size_t len = strlen(text); len > 0 && strchr(" \t", text[len - 1]); len--)
        text[len - 1] = '\0';
    return text;
}

static int ask(const struct presented *presented) {
    char answer[256];
    int err = ask_person(presented, answer, sizeof answer);
    while (!err) {
        char *word = trimmed(answer);
        if (strcasecmp(word, "yes") == 0 || strcmp(word, presented->fingerprint) == 0)
            return accept_new(presented);
        if (strcasecmp(word, "no") == 0 || *word == '\0')
            return refuse(presented);
        err = prompt_ask("Please type 'yes', 'no' or the fingerprint: ", PROMPT_SHOWN, answer, sizeof answer);
    }
    if (err == ERR_UNSUPPORTED)
        log_error("%s: the host key is unknown and there is no terminal to ask on (%s %s)", presented->name,
                  presented->title, presented->fingerprint);
    if (err == ERR_CANCELED) {
        log_error("interrupted");
        return err;
    }
    return refuse(presented);
}

static int decide_new(const struct presented *presented) {
    enum host_key_check check = presented->options->strict_host_key_checking;
    if (remembered(presented))
        return 0;
    if (check == HOST_KEY_CHECK_YES || (check == HOST_KEY_CHECK_ASK && presented->options->batch_mode)) {
        log_error("No %s host key is known for %s (its fingerprint is %s), and %s.", presented->title, presented->name,
                  presented->fingerprint,
                  check == HOST_KEY_CHECK_YES ? "StrictHostKeyChecking is yes" : "BatchMode allows no question");
        return refuse(presented);
    }
    if (check == HOST_KEY_CHECK_ASK)
        return ask(presented);
    /* The known types were preferred in the key exchange: a server that holds such a key would have shown it. */
    if (check == HOST_KEY_CHECK_ACCEPT_NEW && presented->known.verdict == KNOWN_HOST_OTHER_TYPE)
        return refuse_changed(presented);
    return accept_new(presented);
}

static int decide(const struct presented *presented) {
    switch (presented->known.verdict) {
    case KNOWN_HOST_SAME:
        log_verbose("Host '%s' is known and matches the %s host key (%s:%u).", presented->name, presented->title,
                    presented->known.file, presented->known.line);
        remember(presented);
        return 0;
    case KNOWN_HOST_CHANGED:
        return refuse_changed(presented);
    case KNOWN_HOST_REVOKED:
        return refuse_revoked(presented);
    case KNOWN_HOST_NEW:
    case KNOWN_HOST_OTHER_TYPE:
        return decide_new(presented);
    }
    return ERR_HOSTKEY;
}

int hostkey_verify(struct client_link *link, struct secrets *secrets) {
    struct presented presented;
    int err = read_presented(&presented, link, secrets);
    if (!err) {
        log_verbose("Server host key: %s %s", presented.type, presented.fingerprint);
        err = decide(&presented);
    }
    free_presented(&presented);
    return err;
}
