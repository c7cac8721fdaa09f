#include "ssh/algorithms.h"
#include "ssh/text.h"
#include <stdlib.h>
#include <string.h>

const char algorithms_ciphers[] = "aes128-gcm@openssh.com,aes256-gcm@openssh.com,chacha20-poly1305@openssh.com";
/* Best first; what only libssh 0.12 has is dropped by an older one. */
const char algorithms_kex[] = "mlkem768x25519-sha256,sntrup761x25519-sha512,sntrup761x25519-sha512@openssh.com,"
                              "curve25519-sha256,curve25519-sha256@libssh.org,ecdh-sha2-nistp256,ecdh-sha2-nistp384,"
                              "ecdh-sha2-nistp521,diffie-hellman-group18-sha512,diffie-hellman-group16-sha512,"
                              "diffie-hellman-group-exchange-sha256,diffie-hellman-group14-sha256";
const char algorithms_host_keys[] = "ssh-ed25519,ecdsa-sha2-nistp521,ecdsa-sha2-nistp384,ecdsa-sha2-nistp256,"
                                    "sk-ssh-ed25519@openssh.com,sk-ecdsa-sha2-nistp256@openssh.com,rsa-sha2-512,"
                                    "rsa-sha2-256";
const char algorithms_pubkey[] =
    "ssh-ed25519-cert-v01@openssh.com,sk-ssh-ed25519-cert-v01@openssh.com,ecdsa-sha2-nistp521-cert-v01@openssh.com,"
    "ecdsa-sha2-nistp384-cert-v01@openssh.com,ecdsa-sha2-nistp256-cert-v01@openssh.com,"
    "sk-ecdsa-sha2-nistp256-cert-v01@openssh.com,rsa-sha2-512-cert-v01@openssh.com,rsa-sha2-256-cert-v01@openssh.com,"
    "ssh-ed25519,ecdsa-sha2-nistp521,ecdsa-sha2-nistp384,ecdsa-sha2-nistp256,sk-ssh-ed25519@openssh.com,"
    "sk-ecdsa-sha2-nistp256@openssh.com,rsa-sha2-512,rsa-sha2-256";

/* Names found so far, comma-separated, with room for all there can be. */
struct names {
    char *text;
    size_t len;
};

static bool names_have(const struct names *names, const char *name) {
    size_t name_len = strlen(name);
    for (const char *at = names->text, *end = at + names->len; at < end;) {
        size_t len = strcspn(at, ",");
        if (len == name_len && memcmp(at, name, len) == 0)
            return true;
        at += len + 1;
    }
    return false;
}

static bool is_listed(const char *name, const char *patterns) {
    return pattern_list_match(name, patterns, false) == PATTERN_MATCHED;
}

/* Adds what `without` and `only` (each NULL: nothing) do not filter out and `names` does not have yet. A name stands
 * behind the others' end while it is looked at. */
static void add_new(struct names *names, const char *from, const char *without, const char *only) {
    for (;; from++) {
        size_t len = strcspn(from, ","), comma = names->len > 0;
        char *name = names->text + names->len + comma;
        memcpy(name, from, len);
        name[len] = 0;
        bool unwanted = len == 0 || names_have(names, name) || (without && is_listed(name, without)) ||
                        (only && !is_listed(name, only));
        if (!unwanted && comma)
            name[-1] = ',';
        names->len += unwanted ? 0 : comma + len;
        names->text[names->len] = 0;
        from += len;
        if (!*from)
            return;
    }
}

static int resolve(const char *text, const char *defaults, const char *only, char **resolved) {
    char prefix = *text && strchr("+-^", *text) ? *text : 0;
    struct names names = {.text = malloc(strlen(text) + strlen(defaults) + 2)};
    const char *named = text + (prefix != 0);
    if (!names.text)
        return ERR_NOMEM;
    if (prefix == '+' || prefix == '-')
        add_new(&names, defaults, prefix == '-' ? named : NULL, only);
    if (prefix != '-')
        add_new(&names, named, NULL, only);
    if (prefix == '^')
        add_new(&names, defaults, NULL, only);
    if (names.len == 0) {
        free(names.text);
        return ERR_CONFIG;
    }
    *resolved = names.text;
    return 0;
}

int algorithms_resolve(const char *text, const char *defaults, char **resolved) {
    return resolve(text, defaults, NULL, resolved);
}

int algorithms_resolve_ciphers(const char *text, char **resolved) {
    return resolve(text, algorithms_ciphers, algorithms_ciphers, resolved);
}
