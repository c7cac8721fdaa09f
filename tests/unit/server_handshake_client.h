#pragma once
/* A client of the test's own for the server's handshake: libssh exchanges the keys, and then packets of any kind can be
 * sealed and sent, and what comes back is noted. */
#include "server_handshake_rig.h"
#include "ssh/messages.h"
#include "ssh/userauth.h"

#define CLIENT_BYTES (256u << 10)

struct client {
    struct place *place;
    struct guest *guest;
    struct transport transport;
    struct libssh_speaker speaker;
    int fd;
    uint8_t *in;
    size_t in_len;
    bool gone;      /* the server has closed, or the transport has ended */
    bool to_libssh; /* authentication is libssh's */
    bool crumbs;    /* sends byte by byte, a turn of the server after each */
    /* What is to be done with the bytes on their way out; NULL: nothing. */
    void (*spoil)(struct client *client, uint8_t *bytes, size_t len);
    void *arg;
    size_t sent;
    uint8_t types[512];
    unsigned types_count; /* of 6 and 50–79, in order */
    uint8_t last[65536];
    uint32_t last_len;
};

static inline bool client_on_speech(void *arg, const struct packet *packet) {
    struct client *client = arg;
    bool is_auth =
        packet->type == MSG_SERVICE_ACCEPT || (packet->type >= MSG_USERAUTH_FIRST && packet->type <= MSG_USERAUTH_LAST);
    if (!is_auth)
        return false;
    cr_assert_lt(client->types_count, sizeof client->types);
    client->types[client->types_count++] = packet->type;
    memcpy(client->last, packet->payload, packet->payload_len);
    client->last_len = packet->payload_len;
    return !client->to_libssh;
}

static inline int client_on_packet(void *arg, const struct packet *packet) {
    (void)arg;
    (void)packet;
    return 0;
}

static inline void client_send(struct client *client, const void *bytes, size_t len) {
    const uint8_t *at = bytes;
    client->sent += len;
    while (len > 0) {
        ssize_t n = send(client->fd, at, client->crumbs ? 1 : len, MSG_NOSIGNAL);
        if (client->crumbs)
            rig_turn(&client->place->shard, RIG_MS);
        if (n < 0 && errno == EAGAIN) {
            rig_turn(&client->place->shard, RIG_MS);
            continue;
        }
        if (n < 0) {
            client->gone = true;
            return;
        }
        at += n;
        len -= (size_t)n;
    }
}

/* What libssh has to say. */
static inline void client_flush(struct client *client) {
    uint8_t out[TRANSPORT_OUTPUT_BYTES];
    for (int n; (n = transport_output(&client->transport, out, sizeof out)) != 0;) {
        if (n < 0) {
            client->gone = true;
            return;
        }
        if (client->spoil)
            client->spoil(client, out, (size_t)n);
        client_send(client, out, (size_t)n);
    }
}

static inline void client_input(struct client *client) {
    ssize_t n = recv(client->fd, client->in + client->in_len, CLIENT_BYTES - client->in_len, 0);
    if (n == 0 || (n < 0 && errno != EAGAIN))
        client->gone = true;
    if (n > 0)
        client->in_len += (size_t)n;
    for (size_t used = 1, need; used > 0 && client->in_len > 0;) {
        if (transport_input(&client->transport, client->in, client->in_len, &used, &need)) {
            client->gone = true;
            return;
        }
        memmove(client->in, client->in + used, client->in_len - used);
        client->in_len -= used;
    }
}

/* One turn of both. */
static inline void client_turn(struct client *client) {
    rig_turn(&client->place->shard, RIG_MS);
    if (!client->gone)
        client_flush(client);
    if (!client->gone)
        client_input(client);
}

#define CLIENT_UNTIL(client, condition)                                                                                \
    do {                                                                                                               \
        uint64_t client_end_ns = io_clock_ns() + RIG_TIMEOUT_NS;                                                       \
        while (!(condition)) {                                                                                         \
            cr_assert(io_clock_ns() < client_end_ns, "never became true: %s", #condition);                             \
            client_turn(client);                                                                                       \
        }                                                                                                              \
    } while (0)

static inline void client_options(struct client *client, const char *cipher) {
    ssh_session ssh = client->speaker.ssh;
    speaker_enter(&client->speaker);
    cr_assert_eq(ssh_options_set(ssh, SSH_OPTIONS_HOST, "test"), SSH_OK);
    cr_assert_eq(ssh_options_set(ssh, SSH_OPTIONS_USER, client->place->user), SSH_OK);
    cr_assert_eq(ssh_options_set(ssh, SSH_OPTIONS_SSH_DIR, "/dev/null"), SSH_OK);
    cr_assert_eq(ssh_options_set(ssh, SSH_OPTIONS_KNOWNHOSTS, "/dev/null"), SSH_OK);
    cr_assert_eq(ssh_options_set(ssh, SSH_OPTIONS_GLOBAL_KNOWNHOSTS, "/dev/null"), SSH_OK);
    cr_assert_eq(ssh_options_set(ssh, SSH_OPTIONS_CIPHERS_C_S, cipher), SSH_OK);
    cr_assert_eq(ssh_options_set(ssh, SSH_OPTIONS_CIPHERS_S_C, cipher), SSH_OK);
    cr_assert_eq(speaker_leave(&client->speaker), 0);
    cr_assert_eq(libssh_speaker_begin(&client->speaker), 0);
}

/* Connected, nothing said. */
static inline void client_make(struct client *client, struct place *place, struct guest *guest, const char *cipher) {
    *client = (struct client){.place = place, .guest = guest, .fd = place_connect(place)};
    guest_begin(guest, place, place_accept(place));
    client->in = malloc(CLIENT_BYTES);
    cr_assert_eq(libssh_speaker_init(&client->speaker, &client->transport.wire, NULL), 0);
    cr_assert_eq(transport_init(&client->transport, true, 0, &client->speaker.base), 0);
    client->transport.on_speech = client_on_speech;
    client->transport.on_packet = client_on_packet;
    client->transport.arg = client;
    client_options(client, cipher);
}

static inline int client_libssh(struct client *client, int (*call)(ssh_session, void *), void *arg) {
    speaker_enter(&client->speaker);
    int r = call(client->speaker.ssh, arg);
    cr_assert_eq(speaker_leave(&client->speaker), 0);
    return r;
}

static inline int client_call_connect(ssh_session ssh, void *arg) {
    (void)arg;
    return ssh_connect(ssh);
}

static inline void client_exchange_keys(struct client *client) {
    int r = SSH_AGAIN;
    while (r == SSH_AGAIN) {
        r = client_libssh(client, client_call_connect, NULL);
        client_turn(client);
        cr_assert(!client->gone, "%s", client->guest->reason);
    }
    cr_assert_eq(r, SSH_OK);
    CLIENT_UNTIL(client, client->transport.wire.in.epochs == 1 && client->transport.wire.out.epochs == 1);
}

/* Seals and sends; returns at once. */
static inline void client_say(struct client *client, const uint8_t *payload, uint32_t len) {
    uint8_t *packet = malloc(len + WIRE_HEADER_BYTES + WIRE_TRAILER_MAX);
    memcpy(packet + WIRE_HEADER_BYTES, payload, len);
    int n = wire_seal(&client->transport.wire, packet, len);
    cr_assert_gt(n, 0);
    client_send(client, packet, (size_t)n);
    free(packet);
}

static inline void client_say_service(struct client *client, const char *service) {
    uint8_t payload[128];
    struct writer writer;
    writer_init(&writer, payload, sizeof payload);
    writer_u8(&writer, MSG_SERVICE_REQUEST);
    writer_text(&writer, service);
    client_say(client, payload, writer_len(&writer));
}

/* method and what follows it; "" stands for nothing. */
static inline void client_say_request(struct client *client, const char *user, const char *service, const char *method,
                                      const void *rest, uint32_t rest_len) {
    uint8_t payload[65536];
    struct writer writer;
    writer_init(&writer, payload, sizeof payload);
    writer_u8(&writer, MSG_USERAUTH_REQUEST);
    writer_text(&writer, user);
    writer_text(&writer, service);
    writer_text(&writer, method);
    writer_raw(&writer, rest, rest_len);
    cr_assert(writer_ok(&writer));
    client_say(client, payload, writer_len(&writer));
}

/* The next answer to a request; 0: the server has closed. */
static inline uint8_t client_answer(struct client *client) {
    unsigned before = client->types_count;
    CLIENT_UNTIL(client, client->gone || client->types_count > before);
    return client->types_count > before ? client->types[client->types_count - 1] : 0;
}

static inline void client_end(struct client *client) {
    libssh_speaker_deinit(&client->speaker);
    transport_deinit(&client->transport);
    free(client->in);
    close(client->fd);
}
