#include "engine/check.h"
#include "ssh/algorithms.h"
#include "ssh/kexinit.h"
#include "ssh/provider.h"
#include "ssh/server_keys_internal.h"
#include "ssh/userauth.h"
#include <stdlib.h>
#include <string.h>

/* libssh's session writes the line into 256 bytes; RFC 4253 §4.2 allows 255 with CR LF. */
#define VERSION_MAX 255u

/* Best first; without the group exchange, for which libssh would read a file on the shard. */
static const char server_kex[] =
    "mlkem768x25519-sha256,sntrup761x25519-sha512,sntrup761x25519-sha512@openssh.com,curve25519-sha256,"
    "curve25519-sha256@libssh.org,ecdh-sha2-nistp256,ecdh-sha2-nistp384,ecdh-sha2-nistp521,"
    "diffie-hellman-group16-sha512,diffie-hellman-group18-sha512,diffie-hellman-group14-sha256";
/* Where the group exchange is configured all the same, no file is found and libssh takes its built-in groups. */
static const char no_moduli[] = "/dev/null/none";

/* libssh finds out only when a client is there. */
static bool any_key_served(const struct server_keys *keys, const char *algorithms) {
    struct bytes list = {.at = (const uint8_t *)algorithms, .len = (uint32_t)strlen(algorithms)};
    bool rsa = name_list_has(list, "rsa-sha2-512") || name_list_has(list, "rsa-sha2-256");
    for (int i = 0; i < SLOTS; i++) {
        ssh_key key = keys->slots[i].key;
        if (key && (i == SLOT_RSA ? rsa : name_list_has(list, ssh_key_type_to_char(ssh_key_type(key)))))
            return true;
    }
    log_error("HostKeyAlgorithms has nothing for the host keys there are");
    return false;
}

struct setting {
    enum ssh_bind_options_e option;
    const char *keyword;
    const void *value;
};

/* Within provider_enter. */
static int bind_apply(ssh_bind ssh, const struct setting *settings, size_t count) {
    for (size_t i = 0; i < count; i++) {
        if (ssh_bind_options_set(ssh, settings[i].option, settings[i].value) == SSH_OK)
            continue;
        log_error("%s: libssh refuses it: %s", settings[i].keyword, ssh_get_error(ssh));
        return ERR_KEX;
    }
    return 0;
}

/* The ciphers are set for each client, which libssh 0.10 would leak if they were set here too. */
static int bind_options(ssh_bind ssh, const struct server_options *options, const char *version,
                        const char *host_key_algorithms) {
    bool no = false;
    int rsa_bits = (int)options->required_rsa_bits;
    char algorithms[USERAUTH_ALGORITHMS_BYTES];
    if (userauth_algorithms(options->pubkey_accepted_algorithms, algorithms)) {
        log_error("PubkeyAcceptedAlgorithms has nothing that is served");
        return ERR_KEX;
    }
    const struct setting settings[] = {
        {SSH_BIND_OPTIONS_PROCESS_CONFIG, "configuration", &no},
        {SSH_BIND_OPTIONS_BANNER, "VersionAddendum", version},
        {SSH_BIND_OPTIONS_KEY_EXCHANGE, "KexAlgorithms",
         options->kex_algorithms ? options->kex_algorithms : server_kex},
        {SSH_BIND_OPTIONS_HOSTKEY_ALGORITHMS, "HostKeyAlgorithms", host_key_algorithms},
        {SSH_BIND_OPTIONS_PUBKEY_ACCEPTED_KEY_TYPES, "PubkeyAcceptedAlgorithms", algorithms},
        {SSH_BIND_OPTIONS_RSA_MIN_SIZE, "RequiredRSASize", &rsa_bits},
        {SSH_BIND_OPTIONS_MODULI, "moduli", no_moduli},
    };
    return bind_apply(ssh, settings, sizeof settings / sizeof settings[0]);
}

static int bind_import(ssh_bind ssh, const struct server_keys *keys) {
    for (int i = 0; i < SLOTS; i++) {
        if (!keys->slots[i].key)
            continue;
        ssh_key copy = server_key_copy(keys, keys->slots[i].key);
        if (!copy)
            return ERR_NOMEM;
        provider_enter(NULL);
        int err = bind_apply(ssh, &(struct setting){SSH_BIND_OPTIONS_IMPORT_KEY, "HostKey", copy}, 1);
        if (err)
            ssh_key_free(copy);
        CHECK(provider_leave() == 0);
        if (err)
            return err;
    }
    return 0;
}

static int bind_version(struct server_bind *bind, const struct server_options *options) {
    const char *addendum = options->version_addendum;
    int len = snprintf(bind->version, sizeof bind->version, "SSH-2.0-leatd_%s%s%s\r\n", LEAT_VERSION,
                       addendum ? " " : "", addendum ? addendum : "");
    if (len <= (int)VERSION_MAX)
        return 0;
    log_error("VersionAddendum is too long");
    return ERR_KEX;
}

static int bind_fill(struct server_bind *bind, const struct server_keys *keys, const struct server_options *options) {
    char software[sizeof bind->version];
    const char *algorithms = options->host_key_algorithms ? options->host_key_algorithms : algorithms_host_keys;
    int err = bind_version(bind, options);
    if (err || !any_key_served(keys, algorithms))
        return err ? err : ERR_KEX;
    (void)snprintf(software, sizeof software, "%.*s", (int)strcspn(bind->version, "\r"), bind->version);
    provider_enter(NULL);
    bind->ssh = ssh_bind_new();
    err = bind->ssh ? bind_options(bind->ssh, options, software + strlen("SSH-2.0-"), algorithms) : ERR_NOMEM;
    CHECK(provider_leave() == 0);
    return err ? err : bind_import(bind->ssh, keys);
}

int server_keys_bind(const struct server_keys *keys, const struct server_options *options,
                     struct server_bind **result) {
    struct server_bind *bind = calloc(1, sizeof *bind);
    *result = NULL;
    if (!bind)
        return ERR_NOMEM;
    bind->references = 1;
    int err = bind_fill(bind, keys, options);
    if (err) {
        server_bind_unref(bind);
        return err;
    }
    *result = bind;
    return 0;
}

struct server_bind *server_bind_ref(struct server_bind *bind) {
    bind->references++;
    return bind;
}

void server_bind_unref(struct server_bind *bind) {
    if (!bind || --bind->references > 0)
        return;
    provider_enter(NULL);
    if (bind->ssh)
        ssh_bind_free(bind->ssh);
    CHECK(provider_leave() == 0);
    free(bind);
}
