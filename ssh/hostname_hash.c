#include "ssh/hostname_hash.h"
#include "ssh/base64.h"
#include <openssl/evp.h>
#include <openssl/params.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

#define SHA1_BYTES 20u
#define HASH_MAGIC "|1|"

static bool hmac_sha1(uint8_t out[SHA1_BYTES], const uint8_t *salt, size_t salt_len, const char *name) {
    char digest[] = "SHA1";
    OSSL_PARAM params[] = {OSSL_PARAM_construct_utf8_string("digest", digest, 0), OSSL_PARAM_construct_end()};
    EVP_MAC *mac = EVP_MAC_fetch(NULL, "HMAC", NULL);
    EVP_MAC_CTX *ctx = mac ? EVP_MAC_CTX_new(mac) : NULL;
    size_t made = 0;
    bool ok = ctx && EVP_MAC_init(ctx, salt, salt_len, params) == 1 &&
              EVP_MAC_update(ctx, (const uint8_t *)name, strlen(name)) == 1 &&
              EVP_MAC_final(ctx, out, &made, SHA1_BYTES) == 1 && made == SHA1_BYTES;
    EVP_MAC_CTX_free(ctx);
    EVP_MAC_free(mac);
    return ok;
}

bool hostname_hash_matches(const char *hashed, const char *name) {
    if (strncmp(hashed, HASH_MAGIC, strlen(HASH_MAGIC)) != 0)
        return false;
    const char *salt_text = hashed + strlen(HASH_MAGIC);
    const char *bar = strchr(salt_text, '|');
    if (!bar)
        return false;
    uint8_t salt[64], wanted[SHA1_BYTES], made[SHA1_BYTES];
    int salt_len = base64_decode(salt, sizeof salt, salt_text, (size_t)(bar - salt_text));
    int wanted_len = base64_decode(wanted, sizeof wanted, bar + 1, strlen(bar + 1));
    if (salt_len <= 0 || wanted_len != (int)SHA1_BYTES)
        return false;
    return hmac_sha1(made, salt, (size_t)salt_len, name) && memcmp(made, wanted, SHA1_BYTES) == 0;
}

int hostname_hash_make(char *out, const char *name) {
    uint8_t salt[SHA1_BYTES], hash[SHA1_BYTES];
    if (getrandom(salt, sizeof salt, 0) != (ssize_t)sizeof salt || !hmac_sha1(hash, salt, sizeof salt, name))
        return ERR_CRYPTO;
    char salt_text[BASE64_BYTES(SHA1_BYTES)], hash_text[BASE64_BYTES(SHA1_BYTES)];
    base64_encode(salt_text, salt, sizeof salt);
    base64_encode(hash_text, hash, sizeof hash);
    (void)snprintf(out, HOSTNAME_HASH_BYTES, HASH_MAGIC "%s|%s", salt_text, hash_text);
    return 0;
}
