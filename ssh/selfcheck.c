#include "ssh/selfcheck.h"
#include "engine/log.h"
#include "ssh/libssh_speaker.h"
#include "ssh/provider.h"
#include <libssh/callbacks.h>
#include <libssh/server.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A whole key exchange says less than 8 KiB a side. */
#define LINK_BYTES (2 * TRANSPORT_OUTPUT_BYTES)
/* Each round moves at least one message; a handshake with two rekeys needs some thirty. */
#define ROUNDS_MAX 1000
#define MESSAGE_BYTES 1000u
#define MESSAGE_TYPE 94 /* CHANNEL_DATA */
/* What is proved is the hand-over of keys, whatever the exchange; this one is in every libssh, and quick. */
#define KEX "curve25519-sha256"

static const char *const ciphers[] = {"aes128-gcm@openssh.com", "aes256-gcm@openssh.com",
                                      "chacha20-poly1305@openssh.com"};

/* One end: a transport, its speaker, and the bytes under way to it. */
struct end {
    struct transport transport;
    struct libssh_speaker speaker;
    struct end *other;
    int (*work)(struct end *end);
    bool has_transport, has_speaker, kex_done, authenticated;
    unsigned received;
    uint8_t *link;
    size_t link_len;
};

static uint8_t message_byte(unsigned i) {
    return (uint8_t)(i * 7 + i / 256);
}

static int on_packet(void *arg, const struct packet *packet) {
    struct end *end = arg;
    if (packet->type != MESSAGE_TYPE || packet->payload_len != MESSAGE_BYTES)
        return ERR_PROTOCOL;
    for (unsigned i = 1; i < MESSAGE_BYTES; i++)
        if (packet->payload[i] != message_byte(i))
            return ERR_PROTOCOL;
    end->received++;
    return 0;
}

/* ---- the ends ---- */

static int client_work(struct end *end) {
    ssh_session ssh = end->speaker.ssh;
    if (!end->kex_done) {
        int r = ssh_connect(ssh);
        end->kex_done = r == SSH_OK;
        return r == SSH_ERROR ? ERR_KEX : 0;
    }
    if (end->authenticated)
        return 0;
    int r = ssh_userauth_none(ssh, NULL);
    end->authenticated = r == SSH_AUTH_SUCCESS;
    return end->authenticated || r == SSH_AUTH_AGAIN ? 0 : ERR_AUTH;
}

static int server_work(struct end *end) {
    if (end->kex_done)
        return 0;
    int r = ssh_handle_key_exchange(end->speaker.ssh);
    end->kex_done = r == SSH_OK;
    return r == SSH_ERROR ? ERR_KEX : 0;
}

static int on_auth_none(ssh_session ssh, const char *user, void *arg) {
    struct end *end = arg;
    (void)ssh;
    (void)user;
    end->authenticated = true;
    return SSH_AUTH_SUCCESS;
}

static int end_init(struct end *end, bool is_client, struct end *other) {
    end->other = other;
    end->work = is_client ? client_work : server_work;
    end->link = malloc(LINK_BYTES);
    if (!end->link)
        return ERR_NOMEM;
    int r = transport_init(&end->transport, is_client, 0, &end->speaker.base);
    if (r)
        return r;
    end->has_transport = true;
    end->transport.on_packet = on_packet;
    end->transport.arg = end;
    ssh_session ssh = is_client ? NULL : ssh_new();
    if (!is_client && !ssh)
        return ERR_NOMEM;
    r = libssh_speaker_init(&end->speaker, &end->transport.wire, ssh);
    end->has_speaker = r == 0;
    return r;
}

static void end_deinit(struct end *end) {
    if (end->has_speaker)
        libssh_speaker_deinit(&end->speaker);
    if (end->has_transport)
        transport_deinit(&end->transport);
    free(end->link);
}

/* No file of the user's is read: there may be none, and nothing is proved about this server's key. */
static int client_options(ssh_session ssh) {
    static const struct {
        enum ssh_options_e option;
        const char *value;
    } options[] = {{SSH_OPTIONS_HOST, "selfcheck"},
                   {SSH_OPTIONS_USER, "selfcheck"},
                   {SSH_OPTIONS_SSH_DIR, "/dev/null"},
                   {SSH_OPTIONS_KNOWNHOSTS, "/dev/null"},
                   {SSH_OPTIONS_GLOBAL_KNOWNHOSTS, "/dev/null"}};
    for (size_t i = 0; i < sizeof options / sizeof options[0]; i++)
        if (ssh_options_set(ssh, options[i].option, options[i].value) != SSH_OK)
            return ERR_KEX;
    return 0;
}

static int common_options(ssh_session ssh, const char *cipher) {
    if (ssh_options_set(ssh, SSH_OPTIONS_KEY_EXCHANGE, KEX) != SSH_OK ||
        ssh_options_set(ssh, SSH_OPTIONS_CIPHERS_C_S, cipher) != SSH_OK ||
        ssh_options_set(ssh, SSH_OPTIONS_CIPHERS_S_C, cipher) != SSH_OK)
        return ERR_KEX;
    return 0;
}

static int client_begin(struct end *client, const char *cipher) {
    speaker_enter(&client->speaker);
    int r = client_options(client->speaker.ssh);
    if (!r)
        r = common_options(client->speaker.ssh, cipher);
    int left = speaker_leave(&client->speaker);
    if (!r)
        r = left;
    return r ? r : libssh_speaker_begin(&client->speaker);
}

static int server_begin(struct end *server, ssh_bind bind, struct ssh_server_callbacks_struct *callbacks,
                        const char *cipher) {
    ssh_session ssh = server->speaker.ssh;
    speaker_enter(&server->speaker);
    int r = ssh_bind_accept_fd(bind, ssh, server->speaker.pair[0]) == SSH_OK ? common_options(ssh, cipher) : ERR_KEX;
    if (!r && ssh_set_server_callbacks(ssh, callbacks) != SSH_OK)
        r = ERR_KEX;
    ssh_set_auth_methods(ssh, SSH_AUTH_METHOD_NONE);
    int left = speaker_leave(&server->speaker);
    if (!r)
        r = left;
    return r ? r : libssh_speaker_begin(&server->speaker);
}

/* ---- the proof ---- */

/* Everything that end has to say goes to the other's link. */
static int end_output(struct end *end) {
    struct end *other = end->other;
    for (;;) {
        int n = transport_output(&end->transport, other->link + other->link_len, LINK_BYTES - other->link_len);
        if (n <= 0)
            return n;
        other->link_len += (size_t)n;
    }
}

static int end_input(struct end *end) {
    size_t used, need;
    int r = transport_input(&end->transport, end->link, end->link_len, &used, &need);
    memmove(end->link, end->link + used, end->link_len - used);
    end->link_len -= used;
    return r;
}

static int end_turn(struct end *end) {
    speaker_enter(&end->speaker);
    int r = end->work(end);
    int left = speaker_leave(&end->speaker);
    if (r || left)
        return r ? r : left;
    if (end->authenticated && !end->transport.wire.authenticated)
        transport_authenticated(&end->transport);
    r = end_output(end);
    return r ? r : end_input(end);
}

static bool settled(const struct end *end, unsigned epochs, unsigned received) {
    const struct wire *wire = &end->transport.wire;
    return end->authenticated && wire->in.epochs == epochs && wire->out.epochs == epochs &&
           transport_gate_open(&end->transport) && end->received == received;
}

static int run_until(struct end *client, unsigned epochs, unsigned received) {
    for (int i = 0; i < ROUNDS_MAX; i++) {
        int r = end_turn(client);
        if (!r)
            r = end_turn(client->other);
        if (r)
            return r;
        if (settled(client, epochs, received) && settled(client->other, epochs, received))
            return 0;
    }
    return ERR_TIMEOUT;
}

static int say(struct end *end) {
    struct end *other = end->other;
    uint8_t *packet = other->link + other->link_len, *payload = packet + WIRE_HEADER_BYTES;
    payload[0] = MESSAGE_TYPE;
    for (unsigned i = 1; i < MESSAGE_BYTES; i++)
        payload[i] = message_byte(i);
    int n = wire_seal(&end->transport.wire, packet, MESSAGE_BYTES);
    if (n < 0)
        return n;
    /* The cipher must be at work, or a broken hand-over would go unnoticed. */
    if (memcmp(payload + 1, (uint8_t[]){message_byte(1), message_byte(2), message_byte(3), message_byte(4)}, 4) == 0)
        return ERR_CRYPTO;
    other->link_len += (size_t)n;
    return 0;
}

static int both_say(struct end *client, unsigned epochs, unsigned received) {
    int r = say(client);
    if (!r)
        r = say(client->other);
    return r ? r : run_until(client, epochs, received);
}

static int rekey(struct end *end) {
    return end->speaker.base.ops->rekey(&end->speaker.base);
}

static int prove(struct end *client, const char *cipher) {
    int r = run_until(client, 1, 0);
    if (!r)
        r = both_say(client, 1, 1);
    if (!r)
        r = rekey(client);
    if (!r)
        r = run_until(client, 2, 1);
    if (!r)
        r = both_say(client, 2, 2);
    if (!r)
        r = rekey(client->other);
    if (!r)
        r = run_until(client, 3, 2);
    if (!r)
        r = both_say(client, 3, 3);
    if (r)
        return r;
    const struct wire *wire = &client->transport.wire;
    return strcmp(aead_name(aead_kind(wire->in.aead)), cipher) == 0 && wire->strict ? 0 : ERR_CRYPTO;
}

static int check_cipher(ssh_bind bind, const char *cipher) {
    struct end client = {0}, server = {0};
    struct ssh_server_callbacks_struct callbacks = {.userdata = &server, .auth_none_function = on_auth_none};
    ssh_callbacks_init(&callbacks);
    int r = end_init(&client, true, &server);
    if (!r)
        r = end_init(&server, false, &client);
    if (!r)
        r = client_begin(&client, cipher);
    if (!r)
        r = server_begin(&server, bind, &callbacks, cipher);
    if (!r)
        r = prove(&client, cipher);
    if (r)
        log_error("%s do not work together as leat needs it: %s: %s%s%s%s", provider_versions(), cipher, err_text(r),
                  client.speaker.reason[0] || server.speaker.reason[0] ? ": " : "", client.speaker.reason,
                  client.speaker.reason[0] ? "" : server.speaker.reason);
    end_deinit(&client);
    end_deinit(&server);
    return r ? ERR_UNSUPPORTED : 0;
}

static ssh_key host_key_create(void) {
    ssh_key key = NULL;
#if LIBSSH_VERSION_INT >= SSH_VERSION_INT(0, 12, 0)
    int r = ssh_pki_generate_key(SSH_KEYTYPE_ED25519, NULL, &key);
#else
    int r = ssh_pki_generate(SSH_KEYTYPE_ED25519, 0, &key);
#endif
    return r == SSH_OK ? key : NULL;
}

static ssh_bind bind_create(void) {
    bool no = false;
    ssh_bind bind = ssh_bind_new();
    ssh_key key = host_key_create();
    if (bind && key && ssh_bind_options_set(bind, SSH_BIND_OPTIONS_PROCESS_CONFIG, &no) == SSH_OK &&
        ssh_bind_options_set(bind, SSH_BIND_OPTIONS_IMPORT_KEY, key) == SSH_OK)
        return bind; /* and the key is its */
    ssh_key_free(key);
    if (bind)
        ssh_bind_free(bind);
    return NULL;
}

int selfcheck_run(void) {
    provider_enter(NULL);
    ssh_bind bind = bind_create();
    int r = provider_leave();
    if (!bind || r) {
        log_error("%s cannot make a host key", provider_versions());
        r = ERR_UNSUPPORTED;
    }
    for (size_t i = 0; !r && i < sizeof ciphers / sizeof ciphers[0]; i++)
        r = check_cipher(bind, ciphers[i]);
    if (bind)
        ssh_bind_free(bind);
    return r;
}

int selfcheck(void) {
    static bool passed;
    char path[PATH_MAX];
    if (passed)
        return 0;
    bool has_path = selfcheck_stamp_path(path, sizeof path);
    if (!has_path || !selfcheck_stamp_matches(path)) {
        int r = selfcheck_run();
        if (r)
            return r;
        if (has_path)
            selfcheck_stamp_write(path);
    }
    passed = true;
    return 0;
}
