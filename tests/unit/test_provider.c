/* The deferring ciphers, called in libssh's order, and the speaker's care for its descriptors. */
#include "ssh/libssh_speaker.h"
#include "ssh/provider.h"
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <openssl/provider.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

static struct wire wire;

static void init(void) {
    cr_assert(provider_init() == 0);
    wire_init(&wire, true, 0);
}

static void fini(void) {
    wire_deinit(&wire);
    provider_deinit();
}

TestSuite(provider, .init = init, .fini = fini);

static void fill(uint8_t *bytes, size_t len, unsigned seed) {
    for (size_t i = 0; i < len; i++)
        bytes[i] = (uint8_t)(i * 5 + seed);
}

/* libssh's set_encrypt_key and set_decrypt_key for AES-GCM. */
static EVP_CIPHER_CTX *gcm_init(const EVP_CIPHER *cipher, int encrypt, uint8_t *key, uint8_t *iv) {
    EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
    cr_assert(EVP_CipherInit_ex(ctx, cipher, NULL, key, iv, encrypt) == 1);
    cr_assert(EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_GCM_SET_IV_FIXED, -1, iv) == 1);
    EVP_CIPHER_CTX_set_padding(ctx, 0);
    return ctx;
}

/* One packet, as libssh encrypts or decrypts it. */
static void gcm_packet(EVP_CIPHER_CTX *ctx, int encrypt, const uint8_t *in, uint8_t *out, int len, uint8_t *tag) {
    uint8_t last_iv[1];
    int n;
    cr_assert(EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_GCM_IV_GEN, 1, last_iv) != 0);
    if (!encrypt)
        cr_assert(EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_GCM_SET_TAG, 16, tag) != 0);
    cr_assert(EVP_CipherUpdate(ctx, NULL, &n, in, 4) == 1 && n == 4);
    cr_assert(EVP_CipherUpdate(ctx, out + 4, &n, in + 4, len - 4) == 1 && n == len - 4);
    cr_assert(EVP_CipherFinal_ex(ctx, NULL, &n) == 1 && n == 0);
    if (encrypt)
        cr_assert(EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_GCM_GET_TAG, 16, tag) == 1);
}

static EVP_CIPHER_CTX *chacha_init(const uint8_t *half) {
    EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
    cr_assert(EVP_EncryptInit_ex(ctx, EVP_chacha20(), NULL, half, NULL) == 1);
    return ctx;
}

/* The wire got this key, whole: it seals (or opens what was sealed) as a context made from the key does. */
static void expect_key(struct aead *got, enum aead_direction direction, enum aead_kind kind, const uint8_t *key,
                       const uint8_t *iv) {
    uint8_t packet[4 + 32 + 16] = {0, 0, 0, 32}, expected[sizeof packet];
    struct aead *reference;
    cr_assert(got != NULL);
    cr_assert(aead_kind(got) == kind);
    fill(packet + 4, 32, 9);
    memcpy(expected, packet, sizeof packet);
    cr_assert(aead_create(kind, AEAD_SEAL, key, iv, &reference) == 0);
    cr_assert(aead_seal(reference, 3, expected, 32) == 0);
    if (direction == AEAD_SEAL) {
        cr_assert(aead_seal(got, 3, packet, 32) == 0);
        cr_assert(memcmp(packet, expected, sizeof packet) == 0);
    } else {
        cr_assert(aead_open(got, 3, expected, 32) == 0);
        cr_assert(memcmp(packet, expected, 4 + 32) == 0);
    }
    aead_destroy(reference);
}

static void gcm_is_captured(enum aead_kind kind, const EVP_CIPHER *cipher) {
    uint8_t key[2][32], iv[2][12], packet[100], out[100], tag[16];
    for (int i = 0; i < 2; i++) {
        fill(key[i], sizeof key[i], 40 + (unsigned)i);
        fill(iv[i], sizeof iv[i], 80 + (unsigned)i);
    }
    wire.kexing_out = true;
    provider_enter(&wire);
    EVP_CIPHER_CTX *in_ctx = gcm_init(cipher, 0, key[0], iv[0]);
    EVP_CIPHER_CTX *out_ctx = gcm_init(cipher, 1, key[1], iv[1]);
    cr_assert(provider_leave() == 0);
    expect_key(wire.in.next, AEAD_OPEN, kind, key[0], iv[0]);
    expect_key(wire.out.next, AEAD_SEAL, kind, key[1], iv[1]);
    /* Whatever the state of the exchange by then, the contexts stay as they are. */
    wire.kexing_out = false;
    provider_enter(&wire);
    fill(packet, sizeof packet, 3);
    memset(tag, 0xFF, sizeof tag);
    memcpy(out, packet, 4);
    gcm_packet(out_ctx, 1, packet, out, sizeof packet, tag);
    cr_assert(memcmp(packet, out, sizeof packet) == 0);
    for (int i = 0; i < 16; i++)
        cr_assert(tag[i] == 0);
    gcm_packet(in_ctx, 0, packet, packet, sizeof packet, tag);
    cr_assert(memcmp(packet, out, sizeof packet) == 0);
    cr_assert(provider_leave() == 0);
    EVP_CIPHER_CTX_free(in_ctx);
    EVP_CIPHER_CTX_free(out_ctx);
}

Test(provider, captures_aes128_gcm) {
    gcm_is_captured(AEAD_AES128_GCM, EVP_aes_128_gcm());
}

Test(provider, captures_aes256_gcm) {
    gcm_is_captured(AEAD_AES256_GCM, EVP_aes_256_gcm());
}

Test(provider, captures_chacha20_in_libsshs_order) {
    uint8_t key[2][64], sequence[16] = {0}, data[64] = {0}, out[64];
    EVP_CIPHER_CTX *ctx[4];
    int n;
    fill(key[0], 64, 1);
    fill(key[1], 64, 2);
    wire.kexing_in = true;
    provider_enter(&wire);
    for (int i = 0; i < 4; i++)
        ctx[i] = chacha_init(key[i / 2] + 32 * (i % 2));
    cr_assert(provider_leave() == 0);
    expect_key(wire.in.next, AEAD_OPEN, AEAD_CHACHA20_POLY1305, key[0], NULL);
    expect_key(wire.out.next, AEAD_SEAL, AEAD_CHACHA20_POLY1305, key[1], NULL);
    provider_enter(&wire);
    cr_assert(EVP_CipherInit_ex(ctx[2], NULL, NULL, NULL, sequence, 1) == 1);
    memset(out, 0xFF, sizeof out);
    cr_assert(EVP_CipherUpdate(ctx[2], out, &n, data, sizeof data) == 1 && n == sizeof data);
    cr_assert(memcmp(out, data, sizeof data) == 0, "so the Poly1305 key is zero, and the tag");
    cr_assert(provider_leave() == 0);
    for (int i = 0; i < 4; i++)
        EVP_CIPHER_CTX_free(ctx[i]);
}

/* Peers may choose another cipher for each direction. */
Test(provider, captures_two_ciphers) {
    uint8_t key[64], gcm_key[32], iv[12];
    fill(key, 64, 1);
    fill(gcm_key, 32, 2);
    fill(iv, 12, 3);
    wire.kexing_in = true;
    provider_enter(&wire);
    EVP_CIPHER_CTX *ctx[3] = {gcm_init(EVP_aes_256_gcm(), 0, gcm_key, iv), chacha_init(key), chacha_init(key + 32)};
    cr_assert(provider_leave() == 0);
    expect_key(wire.in.next, AEAD_OPEN, AEAD_AES256_GCM, gcm_key, iv);
    expect_key(wire.out.next, AEAD_SEAL, AEAD_CHACHA20_POLY1305, key, NULL);
    for (int i = 0; i < 3; i++)
        EVP_CIPHER_CTX_free(ctx[i]);
}

Test(provider, half_a_key_is_an_error) {
    uint8_t key[64];
    fill(key, 64, 1);
    wire.kexing_in = true;
    provider_enter(&wire);
    EVP_CIPHER_CTX *ctx = chacha_init(key);
    cr_assert(provider_leave() == ERR_CRYPTO);
    EVP_CIPHER_CTX_free(ctx);
    provider_enter(&wire);
    cr_assert(provider_leave() == 0, "and is told once");
}

Test(provider, failed_hand_over_is_told) {
    uint8_t key[32], iv[12];
    fill(key, 32, 1);
    fill(iv, 12, 1);
    wire_deinit(&wire); /* dead: takes no keys */
    wire.kexing_in = true;
    provider_enter(&wire);
    EVP_CIPHER_CTX *ctx = gcm_init(EVP_aes_128_gcm(), 1, key, iv);
    cr_assert(provider_leave() != 0);
    EVP_CIPHER_CTX_free(ctx);
}

/* As OpenSSL's own cipher: known vectors are the default provider's answers. */
static void gcm_is_delegated(struct wire *with) {
    uint8_t key[32], iv[12], packet[100], expected[100], got[100], expected_tag[16], tag[16];
    fill(key, 32, 7);
    fill(iv, 12, 8);
    fill(packet, 100, 9);
    memcpy(expected, packet, 4);
    memcpy(got, packet, 4);
    EVP_CIPHER_CTX *ctx = gcm_init(EVP_aes_256_gcm(), 1, key, iv);
    for (int i = 0; i < 3; i++)
        gcm_packet(ctx, 1, packet, expected, 100, expected_tag);
    EVP_CIPHER_CTX_free(ctx);
    provider_enter(with);
    ctx = gcm_init(EVP_aes_256_gcm(), 1, key, iv);
    cr_assert(strcmp(OSSL_PROVIDER_get0_name(EVP_CIPHER_get0_provider(EVP_CIPHER_CTX_get0_cipher(ctx))), "leat") == 0);
    for (int i = 0; i < 3; i++)
        gcm_packet(ctx, 1, packet, got, 100, tag);
    EVP_CIPHER_CTX_free(ctx);
    cr_assert(memcmp(got, expected, 100) == 0 && memcmp(tag, expected_tag, 16) == 0);
    cr_assert(memcmp(got + 4, packet + 4, 96) != 0);
    /* A wrong tag is refused. */
    int n;
    tag[0] ^= 1;
    ctx = gcm_init(EVP_aes_256_gcm(), 0, key, iv);
    cr_assert(EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_GCM_IV_GEN, 1, (uint8_t[1]){0}) != 0);
    cr_assert(EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_GCM_SET_TAG, 16, tag) != 0);
    cr_assert(EVP_CipherUpdate(ctx, got, &n, got, 100) == 1);
    cr_assert(EVP_CipherFinal_ex(ctx, NULL, &n) != 1);
    EVP_CIPHER_CTX_free(ctx);
    cr_assert(provider_leave() == 0);
}

Test(provider, without_a_wire_gcm_is_openssls) {
    gcm_is_delegated(NULL);
}

/* A key file sealed with AES-GCM is opened while a session is current. */
Test(provider, outside_a_key_exchange_nothing_is_captured) {
    gcm_is_delegated(&wire);
    cr_assert(wire.in.next == NULL && wire.out.next == NULL);
}

Test(provider, without_a_wire_chacha20_is_openssls) {
    uint8_t key[32], iv[16] = {0}, zeros[96] = {0}, expected[96], got[96];
    int n;
    fill(key, 32, 7);
    EVP_CIPHER_CTX *ctx = chacha_init(key);
    cr_assert(EVP_CipherInit_ex(ctx, NULL, NULL, NULL, iv, 1) == 1);
    cr_assert(EVP_CipherUpdate(ctx, expected, &n, zeros, 96) == 1);
    EVP_CIPHER_CTX_free(ctx);
    provider_enter(NULL);
    ctx = chacha_init(key);
    cr_assert(EVP_CipherInit_ex(ctx, NULL, NULL, NULL, iv, 1) == 1);
    for (int at = 0; at < 96; at += 32)
        cr_assert(EVP_CipherUpdate(ctx, got + at, &n, zeros, 32) == 1 && n == 32);
    EVP_CIPHER_CTX_free(ctx);
    cr_assert(provider_leave() == 0);
    cr_assert(memcmp(got, expected, 96) == 0);
}

Test(provider, thread_default_is_given_back) {
    OSSL_LIB_CTX *before = OSSL_LIB_CTX_set0_default(NULL);
    provider_enter(NULL);
    cr_assert(OSSL_LIB_CTX_set0_default(NULL) != before);
    cr_assert(provider_leave() == 0);
    cr_assert(OSSL_LIB_CTX_set0_default(NULL) == before);
}

Test(provider, versions_name_both_libraries) {
    cr_assert(strncmp(provider_versions(), "libssh 0.", 9) == 0);
    cr_assert(strstr(provider_versions(), ", OpenSSL 3.") != NULL);
}

/* ---- the speaker's descriptors ---- */

static int lowest_free_fd(void) {
    int fd = dup(0);
    close(fd);
    return fd;
}

Test(provider, speaker_closes_what_libssh_does_not) {
    for (int stage = 0; stage < 4; stage++) {
        int before = lowest_free_fd();
        struct libssh_speaker speaker;
        uint8_t version[64];
        cr_assert(libssh_speaker_init(&speaker, &wire, NULL) == 0);
        cr_assert(libssh_speaker_begin(&speaker) == 0);
        if (stage >= 1) {
            speaker_enter(&speaker);
            ssh_options_set(speaker.ssh, SSH_OPTIONS_HOST, "nowhere");
            ssh_options_set(speaker.ssh, SSH_OPTIONS_USER, "nobody");
            cr_assert(ssh_connect(speaker.ssh) == SSH_AGAIN);
            cr_assert(speaker_leave(&speaker) == 0);
            cr_assert(speaker.base.ops->pump(&speaker.base) == 0);
            cr_assert((fcntl(speaker.pair[0], F_GETFL) & O_NONBLOCK) != 0);
            cr_assert(speaker.base.ops->take(&speaker.base, version, sizeof version) > 8);
            cr_assert(memcmp(version, "SSH-2.0-", 8) == 0);
        }
        if (stage == 2)
            libssh_speaker_disconnect(&speaker);
        if (stage == 3) {
            const uint8_t garbage[300] = {0};
            cr_assert(speaker.base.ops->feed(&speaker.base, garbage, sizeof garbage) == 0);
            cr_assert(speaker.base.ops->pump(&speaker.base) == ERR_KEX);
            cr_assert(speaker.closed && speaker.reason[0] != '\0');
        }
        libssh_speaker_deinit(&speaker);
        cr_assert(lowest_free_fd() == before, "stage %d", stage);
    }
}

/* More than the pair holds at once: libssh is made to read in between. */
Test(provider, speaker_feeds_more_than_the_pair_holds) {
    static uint8_t lines[300000];
    struct libssh_speaker speaker;
    int small = 4096;
    for (size_t i = 0; i < sizeof lines; i++)
        lines[i] = i % 100 == 99 ? '\n' : 'x';
    cr_assert(libssh_speaker_init(&speaker, &wire, NULL) == 0);
    cr_assert(setsockopt(speaker.pair[1], SOL_SOCKET, SO_SNDBUF, &small, sizeof small) == 0);
    cr_assert(libssh_speaker_begin(&speaker) == 0);
    speaker_enter(&speaker);
    ssh_options_set(speaker.ssh, SSH_OPTIONS_HOST, "nowhere");
    ssh_options_set(speaker.ssh, SSH_OPTIONS_USER, "nobody");
    cr_assert(ssh_connect(speaker.ssh) == SSH_AGAIN);
    cr_assert(speaker_leave(&speaker) == 0);
    cr_assert(speaker.base.ops->feed(&speaker.base, lines, sizeof lines) == 0);
    cr_assert(speaker.base.ops->pump(&speaker.base) == 0);
    libssh_speaker_deinit(&speaker);
}

Test(provider, descriptors_that_libssh_cannot_hold_are_refused) {
    struct rlimit limit = {70000, 70000};
    struct libssh_speaker speaker;
    if (setrlimit(RLIMIT_NOFILE, &limit))
        return;
    while (dup(0) < 65535)
        cr_assert(errno != EMFILE);
    int before = lowest_free_fd();
    cr_assert(before == 65536);
    cr_assert(libssh_speaker_init(&speaker, &wire, NULL) == ERR_LIMIT);
    cr_assert(lowest_free_fd() == before);
    close(1000);
    close(1001);
    cr_assert(libssh_speaker_init(&speaker, &wire, NULL) == 0);
    cr_assert(speaker.pair[0] == 1000);
    libssh_speaker_deinit(&speaker);
}
