#include "raw_client.h"
#include "engine/log.h"
#include "ssh/codec.h"
#include "ssh/handshake.h"
#include "ssh/messages.h"
#include "ssh/mux.h"
#include "ssh/options.h"
#include "ssh/provider.h"
#include <errno.h>
#include <poll.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define IN_BYTES (1u << 20)

struct raw_client {
    struct options options;
    struct authenticated *made;
    uint8_t in[IN_BYTES];
    size_t in_len;
    bool over;
    uint8_t wanted; /* the type waited for; 0: none */
    uint8_t found[65536];
    size_t found_len;
    bool have;
    uint8_t *collected; /* NULL: data is passed over */
    size_t collected_cap, *collected_len;
};

static void collect(const struct raw_client *client, const struct packet *packet) {
    size_t len = packet->payload_len - MUX_DATA_HEADER_BYTES;
    if (client->collected == NULL || packet->type != MSG_CHANNEL_DATA)
        return;
    if (len > client->collected_cap - *client->collected_len)
        world_die("raw client: more data than was thought");
    memcpy(client->collected + *client->collected_len, packet->payload + MUX_DATA_HEADER_BYTES, len);
    *client->collected_len += len;
}

void raw_collect(struct raw_client *client, uint8_t *out, size_t cap, size_t *len) {
    client->collected = out;
    client->collected_cap = cap;
    client->collected_len = len;
}

static int on_packet(void *arg, const struct packet *packet) {
    struct raw_client *client = arg;
    collect(client, packet);
    if (client->have || packet->type != client->wanted || packet->payload_len > sizeof(client->found))
        return 0;
    memcpy(client->found, packet->payload, client->found_len = packet->payload_len);
    client->have = true;
    return 0;
}

static bool send_all(struct raw_client *client, const uint8_t *data, size_t len) {
    while (len > 0) {
        ssize_t n = send(client->made->fd, data, len, MSG_NOSIGNAL);
        struct pollfd poll_fd = {.fd = client->made->fd, .events = POLLOUT};
        if (n < 0 && errno == EAGAIN && poll(&poll_fd, 1, (int)(world_deadline(20) * 1000)) > 0)
            continue;
        if (n <= 0)
            return false;
        data += n;
        len -= (size_t)n;
    }
    return true;
}

static bool flush_speaker(struct raw_client *client) {
    uint8_t out[TRANSPORT_OUTPUT_BYTES];
    int n;
    while ((n = transport_output(&client->made->transport, out, sizeof(out))) > 0)
        if (!send_all(client, out, (size_t)n))
            return false;
    return n == 0;
}

static void work(struct raw_client *client) {
    size_t used, need;
    if (transport_input(&client->made->transport, client->in, client->in_len, &used, &need) != 0)
        client->over = true;
    memmove(client->in, client->in + used, client->in_len - used);
    client->in_len -= used;
    if (!flush_speaker(client))
        client->over = true;
}

struct raw_client *raw_connect(const struct world *world) {
    const struct passwd *self = getpwuid(geteuid());
    if (self == NULL)
        world_die("raw client: no name");
    return raw_connect_as(world, self->pw_name);
}

struct raw_client *raw_connect_as(const struct world *world, const char *user) {
    struct raw_client *client = calloc(1, sizeof(*client));
    struct secrets *secrets;
    char *argv[] = {"leat",
                    "-F",
                    "none",
                    "-p",
                    (char *)world_format("%u", world->server_port),
                    "-i",
                    (char *)world->user_key,
                    "-o",
                    "IdentitiesOnly=yes",
                    "-l",
                    (char *)user,
                    "-o",
                    "BatchMode=yes",
                    "-o",
                    (char *)world_format("UserKnownHostsFile=%s", world->known_hosts),
                    "127.0.0.1",
                    NULL};
    static bool ready;
    log_init("raw client", LOG_LEVEL_ERROR, STDERR_FILENO);
    if (!ready && provider_init() != 0)
        world_die("provider");
    ready = true;
    if (client == NULL || secrets_create(&secrets) != 0 ||
        options_read(&client->options, sizeof(argv) / sizeof(argv[0]) - 1, argv) != 0 ||
        handshake_client(&client->options, secrets, &client->made) != 0)
        world_die("raw client: no connection");
    secrets_wipe(secrets);
    client->made->transport.on_packet = on_packet;
    client->made->transport.arg = client;
    client->in_len = client->made->early_len;
    if (client->in_len > 0)
        memcpy(client->in, client->made->early, client->in_len);
    return client;
}

void raw_close(struct raw_client *client) {
    authenticated_destroy(client->made);
    options_deinit(&client->options);
    free(client);
}

bool raw_send(struct raw_client *client, const void *payload, size_t len) {
    uint8_t *packet = malloc(WIRE_HEADER_BYTES + len + WIRE_TRAILER_MAX);
    bool sent = false;
    if (packet == NULL || !flush_speaker(client))
        client->over = true;
    if (packet != NULL && !client->over) {
        memcpy(packet + WIRE_HEADER_BYTES, payload, len);
        int n = wire_seal(&client->made->transport.wire, packet, (uint32_t)len);
        sent = n > 0 && send_all(client, packet, (size_t)n);
    }
    free(packet);
    return sent;
}

/* One read; false when there is nothing to wait for any more. */
static bool read_more(struct raw_client *client, double deadline) {
    double left = deadline - now_seconds();
    struct pollfd poll_fd = {.fd = client->made->fd, .events = POLLIN};
    if (client->over || left <= 0 || poll(&poll_fd, 1, (int)(left * 1000) + 1) <= 0)
        return false;
    ssize_t n = recv(client->made->fd, client->in + client->in_len, IN_BYTES - client->in_len, 0);
    if (n < 0 && errno == EAGAIN)
        return true;
    if (n <= 0) {
        client->over = true;
        return false;
    }
    client->in_len += (size_t)n;
    work(client);
    return true;
}

const uint8_t *raw_wait(struct raw_client *client, uint8_t type, size_t *len, double seconds) {
    double deadline = now_seconds() + world_deadline(seconds);
    client->have = false;
    client->wanted = type;
    work(client);
    while (!client->have && read_more(client, deadline))
        ;
    client->wanted = 0;
    *len = client->found_len;
    return client->have ? client->found : NULL;
}

const char *raw_wait_end(struct raw_client *client, double seconds) {
    double deadline = now_seconds() + world_deadline(seconds);
    work(client);
    while (read_more(client, deadline))
        ;
    return client->over ? client->made->transport.disconnect_reason : NULL;
}

int raw_fd(const struct raw_client *client) {
    return client->made->fd;
}

uint32_t raw_open(struct raw_client *client, uint16_t port) {
    uint8_t packet[128];
    struct writer writer;
    size_t len;
    writer_init(&writer, packet, sizeof(packet));
    writer_u8(&writer, MSG_CHANNEL_OPEN);
    writer_text(&writer, "direct-tcpip");
    writer_u32(&writer, 0);
    writer_u32(&writer, 1u << 20);
    writer_u32(&writer, 32768);
    writer_text(&writer, "127.0.0.1");
    writer_u32(&writer, port);
    writer_text(&writer, "127.0.0.1");
    writer_u32(&writer, 0);
    if (!raw_send(client, packet, writer_len(&writer)))
        world_die("raw client: no channel");
    const uint8_t *answer = raw_wait(client, MSG_CHANNEL_OPEN_CONFIRMATION, &len, 20);
    if (answer == NULL)
        world_die("raw client: no channel");
    return codec_get_u32(answer + 5);
}

bool raw_data(struct raw_client *client, uint32_t channel, uint32_t len) {
    uint8_t *packet = calloc(1, MUX_DATA_HEADER_BYTES + (size_t)len);
    if (packet == NULL)
        return false;
    packet[0] = MSG_CHANNEL_DATA;
    codec_put_u32(packet + 1, channel);
    codec_put_u32(packet + 5, len);
    bool sent = raw_send(client, packet, MUX_DATA_HEADER_BYTES + (size_t)len);
    free(packet);
    return sent;
}
