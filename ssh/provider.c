#include "ssh/provider.h"
#include "engine/check.h"
#include "engine/log.h"
#include "ssh/provider_cipher.h"
#include <libssh/libssh.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/provider.h>
#include <stdio.h>
#include <string.h>

#define PROVIDER_NAME "leat"
#define CHACHA_HALF_BYTES 32u
/* What libssh is known to work from: strict key exchange came with 0.10.6; providers with OpenSSL 3.0. */
#define LEAST_LIBSSH SSH_VERSION_INT(0, 10, 6)
#define LEAST_OPENSSL 0x30000000UL

static OSSL_LIB_CTX *libctx;
static OSSL_PROVIDER *provider_default, *provider_leat;
static char versions[128];

/* One libssh call: from provider_enter to provider_leave. */
static _Thread_local struct call {
    bool entered;
    struct wire *wire;
    OSSL_LIB_CTX *outer;
    int error;
    /* libssh sets up both directions in one call, inbound first. chacha20 gives no other hint of the direction. */
    bool in_captured;
    bool half_captured;
    uint8_t chacha_key[2 * CHACHA_HALF_BYTES];
} call;

OSSL_LIB_CTX *provider_libctx(void) {
    return libctx;
}

static void call_fail(int error) {
    if (!call.error)
        call.error = error;
}

bool provider_captures(void) {
    const struct wire *wire = call.wire;
    return wire && (wire->kexing_in || wire->kexing_out || wire->in.state == WIRE_WAIT_KEYS);
}

void provider_capture(enum wire_direction direction, enum aead_kind kind, const uint8_t *key, const uint8_t *iv) {
    int r = wire_key(call.wire, direction, kind, key, iv);
    if (r)
        call_fail(r);
    if (direction == WIRE_IN)
        call.in_captured = true;
}

void provider_capture_chacha(const uint8_t *half) {
    memcpy(call.chacha_key + (call.half_captured ? CHACHA_HALF_BYTES : 0), half, CHACHA_HALF_BYTES);
    call.half_captured = !call.half_captured;
    if (call.half_captured)
        return;
    provider_capture(call.in_captured ? WIRE_OUT : WIRE_IN, AEAD_CHACHA20_POLY1305, call.chacha_key, NULL);
    OPENSSL_cleanse(call.chacha_key, sizeof call.chacha_key);
}

void provider_enter(struct wire *wire) {
    CHECK(libctx);
    CHECK(!call.entered);
    call.entered = true;
    call.wire = wire;
    call.outer = OSSL_LIB_CTX_set0_default(libctx);
}

int provider_leave(void) {
    CHECK(call.entered);
    if (call.half_captured)
        call_fail(ERR_CRYPTO);
    int error = call.error;
    OSSL_LIB_CTX_set0_default(call.outer);
    OPENSSL_cleanse(&call, sizeof call);
    return error;
}

/* OpenSSL asks the provider for its algorithms by kind; there is only one kind. */
static const OSSL_ALGORITHM *provider_query(void *provctx, int operation_id, int *no_cache) {
    (void)provctx;
    *no_cache = 0;
    return operation_id == OSSL_OP_CIPHER ? provider_ciphers : NULL;
}

static const OSSL_DISPATCH provider_dispatch[] = {{OSSL_FUNC_PROVIDER_QUERY_OPERATION, (void (*)(void))provider_query},
                                                  {0, NULL}};

static int provider_start(const OSSL_CORE_HANDLE *handle, const OSSL_DISPATCH *in, const OSSL_DISPATCH **out,
                          void **provctx) {
    (void)in;
    *out = provider_dispatch;
    *provctx = (void *)(uintptr_t)handle;
    return 1;
}

static int versions_check(void) {
    if (!ssh_version(LEAST_LIBSSH)) {
        log_error("libssh %s is too old: 0.10.6 or later is needed", ssh_version(0));
        return ERR_UNSUPPORTED;
    }
    if (OpenSSL_version_num() < LEAST_OPENSSL) {
        log_error("%s is too old: OpenSSL 3.0 or later is needed", OpenSSL_version(OPENSSL_VERSION));
        return ERR_UNSUPPORTED;
    }
    return 0;
}

int provider_init(void) {
    CHECK(!libctx);
    int r = versions_check();
    if (r)
        return r;
    libctx = OSSL_LIB_CTX_new();
    if (!libctx)
        return ERR_NOMEM;
    if (!OSSL_PROVIDER_add_builtin(libctx, PROVIDER_NAME, provider_start) ||
        !(provider_default = OSSL_PROVIDER_load(libctx, "default")) ||
        !(provider_leat = OSSL_PROVIDER_load(libctx, PROVIDER_NAME)) ||
        !EVP_set_default_properties(libctx, "?provider=" PROVIDER_NAME) || ssh_init() != SSH_OK) {
        log_error("%s refuses leat's provider", OpenSSL_version(OPENSSL_VERSION));
        provider_deinit();
        return ERR_CRYPTO;
    }
    return 0;
}

void provider_deinit(void) {
    CHECK(!call.entered);
    OSSL_PROVIDER_unload(provider_leat);
    OSSL_PROVIDER_unload(provider_default);
    OSSL_LIB_CTX_free(libctx);
    provider_leat = provider_default = NULL;
    libctx = NULL;
}

const char *provider_versions(void) {
    if (!versions[0]) {
        const char *libssh = ssh_version(0);
        snprintf(versions, sizeof versions, "libssh %.*s, %s", (int)strcspn(libssh, "/"), libssh,
                 OpenSSL_version(OPENSSL_VERSION));
    }
    return versions;
}
