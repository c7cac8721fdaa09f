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

static bool any_pattern_matches(const struct string_list *patterns, const char *name) {
    for (uint32_t i = 0; i < patterns->count; i++)
        if (pattern_match(name, patterns->items[i], false))
            return true;
    return false;
}

/* Adds what `only` (NULL: everything) does not filter out and `into` does not have yet. */
static void add_new(struct string_list *into, const struct string_list *from, const struct string_list *without,
                    const char *only) {
    for (uint32_t i = 0; i < from->count; i++) {
        const char *name = from->items[i];
        bool unwanted = !*name || strings_has(into, name) || (without && any_pattern_matches(without, name)) ||
                        (only && pattern_list_match(name, only, false) != PATTERN_MATCHED);
        if (!unwanted)
            strings_add(into, text_copy(name));
    }
}

static int resolve(const char *text, const char *defaults, const char *only, char **resolved) {
    char prefix = *text && strchr("+-^", *text) ? *text : 0;
    struct string_list named, usual, result = {0};
    items_split(text + (prefix != 0), &named);
    items_split(defaults, &usual);
    if (prefix == '+' || prefix == '-')
        add_new(&result, &usual, prefix == '-' ? &named : NULL, only);
    if (prefix != '-')
        add_new(&result, &named, NULL, only);
    if (prefix == '^')
        add_new(&result, &usual, NULL, only);
    strings_clear(&named);
    strings_clear(&usual);
    int error = result.count ? 0 : ERR_CONFIG;
    if (!error)
        *resolved = strings_join(&result, ",");
    strings_clear(&result);
    return error;
}

int algorithms_resolve(const char *text, const char *defaults, char **resolved) {
    return resolve(text, defaults, NULL, resolved);
}

int algorithms_resolve_ciphers(const char *text, char **resolved) {
    return resolve(text, algorithms_ciphers, algorithms_ciphers, resolved);
}
