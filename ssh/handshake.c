#include "ssh/handshake.h"
#include "engine/limits.h"
#include "engine/log.h"
#include "ssh/algorithms.h"
#include "ssh/auth.h"
#include "ssh/client_link.h"
#include "ssh/cpu.h"
#include "ssh/deadline.h"
#include "ssh/hostkey.h"
#include "ssh/proxy_command.h"
#include "ssh/tcp_connect.h"
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define LIST_BYTES 2048u

/* libssh is told as little as possible of the server: names and known_hosts are leat's business. A name it must have.
 */
static const char placeholder_host[] = "peer", no_file[] = "/dev/null";

static const char *choose_ciphers(const struct options *options) {
    if (options->ciphers)
        return options->ciphers;
    return cpu_has_aes() ? algorithms_ciphers
                         : "chacha20-poly1305@openssh.com,aes128-gcm@openssh.com,aes256-gcm@openssh.com";
}

struct setting {
    enum ssh_options_e option;
    const char *keyword; /* named to the person when it is refused */
    const char *value;   /* NULL: libssh's own */
};

/* Within speaker_enter. */
static int apply(ssh_session ssh, const struct setting *settings, size_t count) {
    for (size_t i = 0; i < count; i++) {
        if (!settings[i].value || ssh_options_set(ssh, settings[i].option, settings[i].value) == SSH_OK)
            continue;
        log_error("%s: libssh accepts nothing of \"%s\"", settings[i].keyword, settings[i].value);
        return ERR_CONFIG;
    }
    return 0;
}

static int set_options(struct authenticated *made, const struct options *options) {
    char host_keys[LIST_BYTES];
    int err = hostkey_algorithms(options, host_keys, sizeof host_keys);
    if (err) {
        log_error("HostKeyAlgorithms or the host name is too long");
        return ERR_CONFIG;
    }
    const char *ciphers = choose_ciphers(options);
    const struct setting settings[] = {
        {SSH_OPTIONS_HOST, "Hostname", placeholder_host},
        {SSH_OPTIONS_USER, "User", options->user},
        {SSH_OPTIONS_KNOWNHOSTS, "UserKnownHostsFile", no_file},
        {SSH_OPTIONS_GLOBAL_KNOWNHOSTS, "GlobalKnownHostsFile", no_file},
        {SSH_OPTIONS_CIPHERS_C_S, "Ciphers", ciphers},
        {SSH_OPTIONS_CIPHERS_S_C, "Ciphers", ciphers},
        {SSH_OPTIONS_KEY_EXCHANGE, "KexAlgorithms", options->kex_algorithms ? options->kex_algorithms : algorithms_kex},
        {SSH_OPTIONS_HOSTKEYS, "HostKeyAlgorithms", host_keys},
        {SSH_OPTIONS_PUBLICKEY_ACCEPTED_TYPES, "PubkeyAcceptedAlgorithms", options->pubkey_accepted_algorithms},
    };
    speaker_enter(&made->speaker);
    err = apply(made->speaker.ssh, settings, sizeof settings / sizeof settings[0]);
    int left = speaker_leave(&made->speaker);
    return err ? err : left;
}

/* RFC 4253 §11: nothing of 80–127 has its place here; the transport refuses it before authentication, and stops
 * reading when that is done. */
static int refuse_packet(void *arg, const struct packet *packet) {
    (void)arg;
    (void)packet;
    return ERR_PROTOCOL;
}

static int start_speaking(struct authenticated *made, const struct options *options) {
    struct transport *transport = &made->transport;
    int err = libssh_speaker_init(&made->speaker, &transport->wire, NULL);
    if (err) {
        log_error("cannot set up libssh: %s", err_text(err));
        return err;
    }
    err = transport_init(transport, true, options->rekey_limit_bytes, &made->speaker.base);
    if (err) {
        libssh_speaker_deinit(&made->speaker);
        log_error("cannot set up the transport: %s", err_text(err));
        return err;
    }
    made->speaking = true;
    transport->on_packet = refuse_packet;
    err = set_options(made, options);
    return err ? err : libssh_speaker_begin(&made->speaker);
}

static int reach(struct client_link *link) {
    const struct options *options = link->options;
    if (!options->proxy_command)
        return tcp_connect(options, link->deadline_ns, &link->made->fd, link->address, sizeof link->address);
    struct proxy proxy;
    log_debug("executing proxy command: %s", options->proxy_command);
    int err = proxy_start(options->proxy_command, &proxy);
    link->made->fd = proxy.fd;
    link->made->proxy_pidfd = proxy.pidfd;
    return err;
}

static int call_connect(ssh_session ssh, void *arg) {
    (void)arg;
    return ssh_connect(ssh);
}

static char *copy(const char *text) {
    return strdup(text ? text : "?");
}

/* libssh before 0.12 has no name for the group exchanges, and for them alone. */
static const char *kex_name(ssh_session ssh) {
    const char *name = ssh_get_kex_algo(ssh);
    return name ? name : "diffie-hellman-group-exchange";
}

static int note_algorithms(struct authenticated *made) {
    ssh_session ssh = made->speaker.ssh;
    ssh_key key = NULL;
    speaker_enter(&made->speaker);
    made->kex = copy(kex_name(ssh));
    made->cipher = copy(ssh_get_cipher_out(ssh));
    bool known = ssh_get_server_publickey(ssh, &key) == SSH_OK;
    made->hostkey = copy(known ? ssh_key_type_to_char(ssh_key_type(key)) : NULL);
    ssh_key_free(key);
    int err = speaker_leave(&made->speaker);
    if (err || !made->kex || !made->cipher || !made->hostkey)
        return err ? err : ERR_NOMEM;
    log_verbose("key exchange %s, host key %s, cipher %s%s", made->kex, made->hostkey, made->cipher,
                made->transport.wire.strict ? ", strict" : "");
    return 0;
}

static int exchange_keys(struct client_link *link) {
    int result;
    int err = link_call(link, call_connect, NULL, SSH_AGAIN, &result);
    if (!err && result == SSH_OK)
        return note_algorithms(link->made);
    char safe[256];
    const char *text = ssh_get_error(link->made->speaker.ssh);
    log_error("%s", err ? link->reason : log_safe(safe, sizeof safe, text, strlen(text)));
    return err ? err : ERR_KEX;
}

static int shake_hands(struct client_link *link, struct secrets *secrets) {
    struct authenticated *made = link->made;
    link->deadline_ns = link->limit_ns ? link->limit_ns : deadline_after_s(link->options->connect_timeout_s);
    int err = reach(link);
    if (!err)
        err = start_speaking(made, link->options);
    if (!err)
        err = exchange_keys(link);
    if (err)
        return err;
    link->deadline_ns = link->limit_ns; /* from here on a person may be asked */
    err = hostkey_verify(link, secrets);
    if (!err)
        err = auth_run(link, secrets);
    if (err)
        return err;
    transport_authenticated(&made->transport);
    return link_take_early(link, &made->early, &made->early_len);
}

static int make(const struct options *options, struct secrets *secrets, uint32_t limit_s,
                struct authenticated **result) {
    struct client_link link;
    struct authenticated *made = calloc(1, sizeof *made);
    *result = NULL;
    if (!made)
        return ERR_NOMEM;
    made->fd = made->proxy_pidfd = -1;
    int err = link_init(&link, options, made);
    link.limit_ns = deadline_after_s(limit_s);
    if (!err)
        err = shake_hands(&link, secrets);
    if (err && made->speaking) {
        libssh_speaker_disconnect(&made->speaker);
        link_flush_last(&link);
    }
    link_deinit(&link);
    if (err) {
        authenticated_destroy(made);
        return err;
    }
    *result = made;
    return 0;
}

int handshake_client(const struct options *options, struct secrets *secrets, struct authenticated **result) {
    return make(options, secrets, 0, result);
}

int handshake_unattended(const struct options *options, struct secrets *secrets, struct authenticated **result) {
    struct options alone = *options; /* what it points to stays the owner's */
    alone.batch_mode = true;
    alone.strict_host_key_checking = HOST_KEY_CHECK_YES;
    return make(&alone, secrets, LIMIT_UNATTENDED_HANDSHAKE_S, result);
}

void authenticated_destroy(struct authenticated *made) {
    if (!made)
        return;
    if (made->speaking) {
        libssh_speaker_deinit(&made->speaker);
        transport_deinit(&made->transport);
    }
    if (made->fd >= 0)
        (void)close(made->fd);
    proxy_end(made->proxy_pidfd);
    free(made->early);
    free(made->kex);
    free(made->cipher);
    free(made->hostkey);
    free(made);
}
