#include "ssh/provider_cipher.h"
#include <limits.h>
#include <openssl/core_dispatch.h>
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/params.h>
#include <string.h>

struct cipher_kind {
    const char *name; /* in the default provider */
    enum aead_kind aead;
    unsigned mode, key_bytes, iv_bytes;
};

static const struct cipher_kind kind_aes128_gcm = {"AES-128-GCM", AEAD_AES128_GCM, EVP_CIPH_GCM_MODE, 16, 12};
static const struct cipher_kind kind_aes256_gcm = {"AES-256-GCM", AEAD_AES256_GCM, EVP_CIPH_GCM_MODE, 32, 12};
/* libssh builds chacha20-poly1305@openssh.com from the bare stream cipher; the 16 bytes are counter and nonce. */
static const struct cipher_kind kind_chacha20 = {"ChaCha20", AEAD_CHACHA20_POLY1305, EVP_CIPH_STREAM_CIPHER, 32, 16};

/* Deferring: the key went to a wire, and data passes through. Otherwise all is left to the default provider's cipher.
 */
struct cipher_ctx {
    const struct cipher_kind *kind;
    bool deferring;
    EVP_CIPHER_CTX *inner; /* made at first use */
};

static void *ctx_new(const struct cipher_kind *kind) {
    struct cipher_ctx *ctx = OPENSSL_zalloc(sizeof *ctx);
    if (ctx)
        ctx->kind = kind;
    return ctx;
}

static void *ctx_new_aes128_gcm(void *provctx) {
    (void)provctx;
    return ctx_new(&kind_aes128_gcm);
}

static void *ctx_new_aes256_gcm(void *provctx) {
    (void)provctx;
    return ctx_new(&kind_aes256_gcm);
}

static void *ctx_new_chacha20(void *provctx) {
    (void)provctx;
    return ctx_new(&kind_chacha20);
}

static void ctx_free(void *vctx) {
    struct cipher_ctx *ctx = vctx;
    if (!ctx)
        return;
    EVP_CIPHER_CTX_free(ctx->inner);
    OPENSSL_free(ctx);
}

/* Gives ctx its cipher of the default provider, without a key. */
static int inner_create(struct cipher_ctx *ctx, int encrypt) {
    if (ctx->inner)
        return 1;
    EVP_CIPHER *cipher = EVP_CIPHER_fetch(provider_libctx(), ctx->kind->name, "provider=default");
    ctx->inner = EVP_CIPHER_CTX_new();
    int ok = cipher && ctx->inner && EVP_CipherInit_ex2(ctx->inner, cipher, NULL, NULL, encrypt, NULL);
    EVP_CIPHER_free(cipher);
    if (!ok) {
        EVP_CIPHER_CTX_free(ctx->inner);
        ctx->inner = NULL;
    }
    return ok;
}

static void ctx_capture(struct cipher_ctx *ctx, const uint8_t *key, const uint8_t *iv, int encrypt) {
    EVP_CIPHER_CTX_free(ctx->inner);
    ctx->inner = NULL;
    ctx->deferring = true;
    if (ctx->kind->aead == AEAD_CHACHA20_POLY1305)
        provider_capture_chacha(key);
    else
        provider_capture(encrypt ? WIRE_OUT : WIRE_IN, ctx->kind->aead, key, iv);
}

static int ctx_init(struct cipher_ctx *ctx, const uint8_t *key, size_t keylen, const uint8_t *iv, size_t ivlen,
                    const OSSL_PARAM params[], int encrypt) {
    const struct cipher_kind *kind = ctx->kind;
    if (key && keylen != kind->key_bytes)
        return 0;
    bool whole = kind->aead == AEAD_CHACHA20_POLY1305 || (iv && ivlen == kind->iv_bytes);
    if (key && whole && provider_captures()) {
        ctx_capture(ctx, key, iv, encrypt);
        return 1;
    }
    /* A new nonce for a deferring context, once a packet: the wire counts by itself. */
    if (!key && ctx->deferring)
        return 1;
    ctx->deferring = false;
    return inner_create(ctx, encrypt) && EVP_CipherInit_ex2(ctx->inner, NULL, key, iv, encrypt, params);
}

static int ctx_encrypt_init(void *ctx, const unsigned char *key, size_t keylen, const unsigned char *iv, size_t ivlen,
                            const OSSL_PARAM params[]) {
    return ctx_init(ctx, key, keylen, iv, ivlen, params, 1);
}

static int ctx_decrypt_init(void *ctx, const unsigned char *key, size_t keylen, const unsigned char *iv, size_t ivlen,
                            const OSSL_PARAM params[]) {
    return ctx_init(ctx, key, keylen, iv, ivlen, params, 0);
}

static int ctx_update(void *vctx, unsigned char *out, size_t *outl, size_t outsize, const unsigned char *in,
                      size_t inl) {
    struct cipher_ctx *ctx = vctx;
    if (!ctx->deferring) {
        int n = 0;
        int ok = ctx->inner && inl <= INT_MAX && EVP_CipherUpdate(ctx->inner, out, &n, in, (int)inl);
        *outl = (size_t)n;
        return ok;
    }
    *outl = inl;
    if (!out) /* additional authenticated data */
        return 1;
    if (outsize < inl)
        return 0;
    if (inl && out != in)
        memmove(out, in, inl);
    return 1;
}

static int ctx_final(void *vctx, unsigned char *out, size_t *outl, size_t outsize) {
    struct cipher_ctx *ctx = vctx;
    (void)outsize;
    *outl = 0;
    if (ctx->deferring)
        return 1;
    int n = 0;
    int ok = ctx->inner && EVP_CipherFinal_ex(ctx->inner, out, &n);
    *outl = (size_t)n;
    return ok;
}

static int set_size(OSSL_PARAM params[], const char *key, size_t value) {
    OSSL_PARAM *p = OSSL_PARAM_locate(params, key);
    return !p || OSSL_PARAM_set_size_t(p, value);
}

static int set_flag(OSSL_PARAM params[], const char *key, int value) {
    OSSL_PARAM *p = OSSL_PARAM_locate(params, key);
    return !p || OSSL_PARAM_set_int(p, value);
}

static int kind_get_params(const struct cipher_kind *kind, OSSL_PARAM params[]) {
    OSSL_PARAM *mode = OSSL_PARAM_locate(params, OSSL_CIPHER_PARAM_MODE);
    return (!mode || OSSL_PARAM_set_uint(mode, kind->mode)) &&
           set_size(params, OSSL_CIPHER_PARAM_KEYLEN, kind->key_bytes) &&
           set_size(params, OSSL_CIPHER_PARAM_IVLEN, kind->iv_bytes) &&
           set_size(params, OSSL_CIPHER_PARAM_BLOCK_SIZE, 1) &&
           set_flag(params, OSSL_CIPHER_PARAM_AEAD, kind->mode == EVP_CIPH_GCM_MODE) &&
           set_flag(params, OSSL_CIPHER_PARAM_CUSTOM_IV, 1) && set_flag(params, OSSL_CIPHER_PARAM_CTS, 0) &&
           set_flag(params, OSSL_CIPHER_PARAM_TLS1_MULTIBLOCK, 0) &&
           set_flag(params, OSSL_CIPHER_PARAM_HAS_RAND_KEY, 0);
}

static int get_params_aes128_gcm(OSSL_PARAM params[]) {
    return kind_get_params(&kind_aes128_gcm, params);
}

static int get_params_aes256_gcm(OSSL_PARAM params[]) {
    return kind_get_params(&kind_aes256_gcm, params);
}

static int get_params_chacha20(OSSL_PARAM params[]) {
    return kind_get_params(&kind_chacha20, params);
}

/* Tag, generated nonce: zeros. libssh carries the tag to the pair, where the transport takes it off again. */
static void set_zeros(OSSL_PARAM params[], const char *key) {
    OSSL_PARAM *p = OSSL_PARAM_locate(params, key);
    if (!p || p->data_type != OSSL_PARAM_OCTET_STRING)
        return;
    if (p->data)
        memset(p->data, 0, p->data_size);
    p->return_size = p->data_size;
}

static int ctx_get_params(void *vctx, OSSL_PARAM params[]) {
    struct cipher_ctx *ctx = vctx;
    if (!ctx->deferring && ctx->inner)
        return EVP_CIPHER_CTX_get_params(ctx->inner, params);
    set_zeros(params, OSSL_CIPHER_PARAM_AEAD_TAG);
    set_zeros(params, OSSL_CIPHER_PARAM_AEAD_TLS1_GET_IV_GEN);
    return set_size(params, OSSL_CIPHER_PARAM_KEYLEN, ctx->kind->key_bytes) &&
           set_size(params, OSSL_CIPHER_PARAM_IVLEN, ctx->kind->iv_bytes) &&
           set_size(params, OSSL_CIPHER_PARAM_AEAD_TAGLEN, AEAD_TAG_BYTES);
}

static int ctx_set_params(void *vctx, const OSSL_PARAM params[]) {
    struct cipher_ctx *ctx = vctx;
    /* Tags are the wire's, and the fixed nonce was given with the key. */
    if (ctx->deferring)
        return 1;
    return inner_create(ctx, 1) && EVP_CIPHER_CTX_set_params(ctx->inner, params);
}

static const OSSL_PARAM *gettable_params(void *provctx) {
    static const OSSL_PARAM gettable[] = {OSSL_PARAM_uint(OSSL_CIPHER_PARAM_MODE, NULL),
                                          OSSL_PARAM_size_t(OSSL_CIPHER_PARAM_KEYLEN, NULL),
                                          OSSL_PARAM_size_t(OSSL_CIPHER_PARAM_IVLEN, NULL),
                                          OSSL_PARAM_size_t(OSSL_CIPHER_PARAM_BLOCK_SIZE, NULL),
                                          OSSL_PARAM_int(OSSL_CIPHER_PARAM_AEAD, NULL),
                                          OSSL_PARAM_int(OSSL_CIPHER_PARAM_CUSTOM_IV, NULL),
                                          OSSL_PARAM_END};
    (void)provctx;
    return gettable;
}

static const OSSL_PARAM *gettable_ctx_params(void *ctx, void *provctx) {
    static const OSSL_PARAM gettable[] = {OSSL_PARAM_size_t(OSSL_CIPHER_PARAM_KEYLEN, NULL),
                                          OSSL_PARAM_size_t(OSSL_CIPHER_PARAM_IVLEN, NULL),
                                          OSSL_PARAM_size_t(OSSL_CIPHER_PARAM_AEAD_TAGLEN, NULL),
                                          OSSL_PARAM_octet_string(OSSL_CIPHER_PARAM_AEAD_TAG, NULL, 0),
                                          OSSL_PARAM_octet_string(OSSL_CIPHER_PARAM_AEAD_TLS1_GET_IV_GEN, NULL, 0),
                                          OSSL_PARAM_END};
    (void)ctx;
    (void)provctx;
    return gettable;
}

static const OSSL_PARAM *settable_ctx_params(void *ctx, void *provctx) {
    static const OSSL_PARAM settable[] = {OSSL_PARAM_size_t(OSSL_CIPHER_PARAM_AEAD_IVLEN, NULL),
                                          OSSL_PARAM_octet_string(OSSL_CIPHER_PARAM_AEAD_TAG, NULL, 0),
                                          OSSL_PARAM_octet_string(OSSL_CIPHER_PARAM_AEAD_TLS1_IV_FIXED, NULL, 0),
                                          OSSL_PARAM_uint(OSSL_CIPHER_PARAM_PADDING, NULL), OSSL_PARAM_END};
    (void)ctx;
    (void)provctx;
    return settable;
}

#define FUNCTION(id, function)                                                                                         \
    { OSSL_FUNC_CIPHER_##id, (void (*)(void))(function) }
#define CIPHER_DISPATCH(name)                                                                                          \
    static const OSSL_DISPATCH dispatch_##name[] = {FUNCTION(NEWCTX, ctx_new_##name),                                  \
                                                    FUNCTION(FREECTX, ctx_free),                                       \
                                                    FUNCTION(ENCRYPT_INIT, ctx_encrypt_init),                          \
                                                    FUNCTION(DECRYPT_INIT, ctx_decrypt_init),                          \
                                                    FUNCTION(UPDATE, ctx_update),                                      \
                                                    FUNCTION(FINAL, ctx_final),                                        \
                                                    FUNCTION(GET_PARAMS, get_params_##name),                           \
                                                    FUNCTION(GETTABLE_PARAMS, gettable_params),                        \
                                                    FUNCTION(GET_CTX_PARAMS, ctx_get_params),                          \
                                                    FUNCTION(GETTABLE_CTX_PARAMS, gettable_ctx_params),                \
                                                    FUNCTION(SET_CTX_PARAMS, ctx_set_params),                          \
                                                    FUNCTION(SETTABLE_CTX_PARAMS, settable_ctx_params),                \
                                                    {0, NULL}}

CIPHER_DISPATCH(aes128_gcm);
CIPHER_DISPATCH(aes256_gcm);
CIPHER_DISPATCH(chacha20);

/* An implicit fetch asks by OpenSSL's short name (id-aes128-GCM), an explicit one by any. */
const OSSL_ALGORITHM provider_ciphers[] = {
    {"AES-128-GCM:id-aes128-GCM:2.16.840.1.101.3.4.1.6", "provider=leat", dispatch_aes128_gcm, NULL},
    {"AES-256-GCM:id-aes256-GCM:2.16.840.1.101.3.4.1.46", "provider=leat", dispatch_aes256_gcm, NULL},
    {"ChaCha20", "provider=leat", dispatch_chacha20, NULL},
    {NULL, NULL, NULL, NULL}};
