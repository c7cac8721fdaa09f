#include "ssh/base64.h"
#include "ssh/provider.h"
#include "ssh/server_handshake_internal.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Messages of libssh are how a signature is judged now and answered later; their readers are marked as deprecated in
 * favour of callbacks, which want the answer at once. */
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"

static char *key_fingerprint(ssh_key key) {
    unsigned char *hash = NULL;
    size_t len = 0;
    if (ssh_get_publickey_hash(key, SSH_PUBLICKEY_HASH_SHA256, &hash, &len) != SSH_OK)
        return NULL;
    char *libsshs = ssh_get_fingerprint_hash(SSH_PUBLICKEY_HASH_SHA256, hash, len);
    char *fingerprint = libsshs ? strdup(libsshs) : NULL;
    ssh_string_free_char(libsshs);
    ssh_clean_pubkey_hash(&hash);
    return fingerprint;
}

static char *blob_base64(const struct userauth_request *request) {
    char *text = malloc(BASE64_BYTES(request->blob.len));
    if (text)
        base64_encode(text, request->blob.at, request->blob.len);
    return text;
}

char *server_fingerprint(const struct userauth_request *request) {
    ssh_key key = NULL;
    char *fingerprint = NULL, *text = blob_base64(request);
    if (!text)
        return NULL;
    provider_enter(NULL);
    if (ssh_pki_import_pubkey_base64(text, ssh_key_type_from_name(request->key_type), &key) == SSH_OK)
        fingerprint = key_fingerprint(key);
    ssh_key_free(key);
    if (provider_leave()) { /* without a wire no key is handed over */
        free(fingerprint);
        fingerprint = NULL;
    }
    free(text);
    return fingerprint;
}

/* What libssh verified must be what the login was asked about: it has read the packet by itself. */
static bool message_is_request(ssh_message message, const struct server_auth *auth) {
    if (ssh_message_type(message) != SSH_REQUEST_AUTH || ssh_message_subtype(message) != SSH_AUTH_METHOD_PUBLICKEY ||
        ssh_message_auth_publickey_state(message) != SSH_PUBLICKEY_STATE_VALID)
        return false;
    const char *user = ssh_message_auth_user(message);
    char *theirs = NULL, *ours = blob_base64(&auth->request);
    bool same = user && strcmp(user, auth->user) == 0 && ours &&
                ssh_pki_export_pubkey_base64(ssh_message_auth_pubkey(message), &theirs) == SSH_OK &&
                strcmp(theirs, ours) == 0;
    ssh_string_free_char(theirs);
    free(ours);
    return same;
}

/* libssh before 0.12 has no name for the group exchanges, and for them alone. */
static const char *kex_name(ssh_session ssh) {
    const char *name = ssh_get_kex_algo(ssh);
    return name ? name : "diffie-hellman-group-exchange";
}

static char *describe(struct server_handshake *h) {
    ssh_session ssh = h->speaker.ssh;
    char text[768], version[512];
    const char *peer = h->transport.peer_version, *cipher = ssh_get_cipher_in(ssh);
    ssh_key key = NULL;
    bool known = ssh_get_server_publickey(ssh, &key) == SSH_OK;
    (void)snprintf(text, sizeof text, "%s %s %s, %s", cipher ? cipher : "?", kex_name(ssh),
                   known ? ssh_key_type_to_char(ssh_key_type(key)) : "?",
                   log_safe(version, sizeof version, peer, strlen(peer)));
    ssh_key_free(key);
    return strdup(text);
}

/* Within speaker_enter. */
static int take_verdict(struct server_handshake *h, bool *good) {
    ssh_session ssh = h->speaker.ssh;
    ssh_message message = ssh_message_get(ssh); /* NULL: libssh drops what it finds wrong */
    int err = 0;
    *good = message && message_is_request(message, &h->work->auth);
    if (*good) {
        h->key_fingerprint = key_fingerprint(ssh_message_auth_pubkey(message));
        h->details = describe(h);
        if (!h->key_fingerprint || !h->details)
            err = ERR_NOMEM;
        else if (ssh_message_auth_reply_success(message, 0) != SSH_OK)
            err = ERR_KEX;
    }
    if (message)
        ssh_message_free(message);
    return err;
}

/* libssh judges by the user's options, not by those that were known at the start. */
static int set_options(struct server_handshake *h) {
    const struct server_options *options = h->login.options;
    char algorithms[USERAUTH_ALGORITHMS_BYTES];
    int rsa_bits = (int)options->required_rsa_bits;
    int err = userauth_algorithms(options->pubkey_accepted_algorithms, algorithms);
    if (err)
        return err;
    speaker_enter(&h->speaker);
    if (ssh_options_set(h->speaker.ssh, SSH_OPTIONS_PUBLICKEY_ACCEPTED_TYPES, algorithms) != SSH_OK ||
        ssh_options_set(h->speaker.ssh, SSH_OPTIONS_RSA_MIN_SIZE, &rsa_bits) != SSH_OK)
        err = ERR_KEX;
    int left = speaker_leave(&h->speaker);
    return err ? err : left;
}

int server_verify(struct server_handshake *handshake, bool *good) {
    const struct server_auth *auth = &handshake->work->auth;
    *good = false;
    int err = set_options(handshake);
    if (!err)
        err = transport_feed(&handshake->transport, auth->taken, auth->taken_len);
    if (err)
        return err;
    speaker_enter(&handshake->speaker);
    err = take_verdict(handshake, good);
    int left = speaker_leave(&handshake->speaker);
    return err ? err : left;
}
