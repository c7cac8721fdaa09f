/* A relay of a real session against a server that the test speaks for, packet by packet: what OpenSSH would not do. */
#include "engine/limits.h"
#include "ssh/codec.h"
#include "ssh/messages.h"
#include "ssh/relay.h"
#include "tests/sim/fake_kex.h"
#include "tests/unit/engine_rig.h"
#include <sys/socket.h>

#define STREAM_BYTES (1u << 20)
#define PACKET_BYTES 30000u
#define PACKETS 40u

struct end {
    struct transport transport;
    struct fake_kex fake;
    uint8_t *bytes; /* for this end, not yet worked on */
    size_t len;
};

static struct shard shard;
static struct session session;
static struct window_budget budget;
static struct end *client, *server;
static int wire_fds[2], app_fds[2];
static bool session_over, relay_over;
static char relay_what[64];
static uint32_t client_channel;
static bool open_seen;

static int on_server_packet(void *arg, const struct packet *packet) {
    (void)arg;
    struct reader reader;
    reader_init(&reader, packet->payload + 1, packet->payload_len - 1);
    if (packet->type != MSG_CHANNEL_OPEN)
        return 0;
    (void)reader_string(&reader);
    client_channel = reader_u32(&reader);
    open_seen = true;
    return 0;
}

static struct end *end_create(bool is_client, const char *version) {
    struct end *end = calloc(1, sizeof *end);
    end->bytes = malloc(STREAM_BYTES);
    cr_assert_eq(transport_init(&end->transport, is_client, 0, &end->fake.base), 0);
    fake_kex_init(&end->fake, &end->transport.wire, is_client, true, 7, version);
    end->transport.on_packet = on_server_packet;
    return end;
}

static void end_destroy(struct end *end) {
    transport_deinit(&end->transport);
    fake_kex_deinit(&end->fake);
    free(end->bytes);
    free(end);
}

/* What `from` has to say, worked on by `to`. */
static size_t hand_over(struct end *from, struct end *to) {
    size_t used = 0, need;
    int n = transport_output(&from->transport, to->bytes + to->len, STREAM_BYTES - to->len);
    cr_assert_geq(n, 0);
    to->len += (size_t)n;
    cr_assert_eq(transport_input(&to->transport, to->bytes, to->len, &used, &need), 0);
    to->len -= used;
    memmove(to->bytes, to->bytes + used, to->len);
    return used + (size_t)n;
}

static void on_session_ended(struct session *ended, int err, const char *reason) {
    (void)ended, (void)err, (void)reason;
    session_over = true;
}

static void on_relay_end(void *owner, const struct relay_end *end) {
    (void)owner;
    relay_over = true;
    snprintf(relay_what, sizeof relay_what, "%s", end->what ? end->what : "");
}

static struct flow *on_open(struct mux *mux, const struct mux_open *open, uint32_t *reason, const char **text) {
    (void)mux, (void)open;
    *reason = OPEN_ADMINISTRATIVELY_PROHIBITED;
    *text = "";
    return NULL;
}
static bool on_global(struct mux *mux, struct bytes name, struct bytes data, uint8_t *reply, uint32_t *reply_len) {
    (void)mux, (void)name, (void)data, (void)reply, (void)reply_len;
    return false;
}
static const struct mux_ops mux_ops = {.on_open = on_open, .on_global = on_global};

static void begin(enum io_backend backend, const char *server_version) {
    rig_init(&shard, backend, 64);
    client = end_create(true, "SSH-2.0-simulated_client\r\n");
    server = end_create(false, server_version);
    while (hand_over(client, server) + hand_over(server, client) > 0)
        ;
    transport_authenticated(&client->transport);
    transport_authenticated(&server->transport);
    window_budget_init(&budget, LIMIT_WINDOW_BUDGET_BYTES);
    cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, wire_fds), 0);
    struct session_options options = {.fd = wire_fds[0],
                                      .transport = &client->transport,
                                      .mux_ops = &mux_ops,
                                      .budget = &budget,
                                      .on_ended = on_session_ended};
    cr_assert_eq(session_start(&session, &shard, &options), 0);
}

static void end_all(void) {
    session_end(&session, 0, "test over");
    RIG_UNTIL(&shard, session_over);
    close(wire_fds[1]);
    close(app_fds[1]);
    shard_deinit(&shard);
    end_destroy(client);
    end_destroy(server);
}

/* A pair of TCP sockets, so that a reset can be told from an end. */
static void tcp_pair(int fds[2]) {
    struct sockaddr_in addr;
    int listener = rig_listen(&addr);
    fds[1] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    cr_assert_eq(connect(fds[1], (struct sockaddr *)&addr, sizeof addr), 0);
    fds[0] = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    cr_assert_geq(fds[0], 0);
    close(listener);
}

static void server_reads(void) {
    ssize_t n = read(wire_fds[1], server->bytes + server->len, STREAM_BYTES - server->len);
    size_t used = 0, need;
    if (n <= 0)
        return;
    server->len += (size_t)n;
    cr_assert_eq(transport_input(&server->transport, server->bytes, server->len, &used, &need), 0);
    server->len -= used;
    memmove(server->bytes, server->bytes + used, server->len);
}

static void server_says(const void *payload, size_t len) {
    static uint8_t packet[WIRE_HEADER_BYTES + PACKET_BYTES + 64 + WIRE_TRAILER_MAX];
    memcpy(packet + WIRE_HEADER_BYTES, payload, len);
    int n = wire_seal(&server->transport.wire, packet, (uint32_t)len);
    cr_assert_gt(n, 0);
    for (int done = 0; done < n;) {
        ssize_t sent = write(wire_fds[1], packet + done, (size_t)(n - done));
        if (sent > 0)
            done += (int)sent;
        else
            rig_turn(&shard, RIG_MS);
    }
}

static void server_says_fields(uint8_t type, const uint32_t *fields, unsigned count) {
    uint8_t payload[32] = {type};
    for (unsigned i = 0; i < count; i++)
        codec_put_u32(payload + 1 + 4 * i, fields[i]);
    server_says(payload, 1 + 4 * count);
}

static void open_relay(void) {
    tcp_pair(app_fds);
    relay_open(&session, app_fds[0], "far", 80, on_relay_end, NULL);
    while (!open_seen) {
        rig_turn(&shard, RIG_MS);
        server_reads();
    }
    server_says_fields(MSG_CHANNEL_OPEN_CONFIRMATION, (uint32_t[]){client_channel, 1, 1 << 20, 32768}, 4);
}

/* DATA and CLOSE without EOF, all before the application reads a byte. */
static void send_and_close(void) {
    static uint8_t payload[9 + PACKET_BYTES] = {MSG_CHANNEL_DATA};
    codec_put_u32(payload + 1, client_channel);
    codec_put_u32(payload + 5, PACKET_BYTES);
    for (unsigned i = 0; i < PACKETS; i++) {
        memset(payload + 9, (int)i, PACKET_BYTES);
        server_says(payload, sizeof payload);
    }
    server_says_fields(MSG_CHANNEL_CLOSE, &client_channel, 1);
    for (unsigned i = 0; i < 20; i++)
        rig_turn(&shard, RIG_MS);
}

static ssize_t app_reads(uint8_t *data, size_t cap) {
    ssize_t n;
    while ((n = recv(app_fds[1], data, cap, MSG_DONTWAIT)) < 0 && errno == EAGAIN)
        rig_turn(&shard, RIG_MS);
    return n;
}

RIG_TEST(relay, what_came_before_a_bare_close_is_delivered) {
    static uint8_t data[PACKET_BYTES];
    begin(backend, "SSH-2.0-other\r\n");
    open_relay();
    send_and_close();
    uint64_t received = 0;
    ssize_t n;
    while ((n = app_reads(data, sizeof data)) > 0) {
        cr_assert_eq(data[0], (uint8_t)(received / PACKET_BYTES));
        received += (uint64_t)n;
    }
    cr_expect_eq(n, 0, "an end, not a reset");
    cr_expect_eq(received, PACKETS * PACKET_BYTES);
    RIG_UNTIL(&shard, relay_over);
    cr_expect_str_empty(relay_what);
    end_all();
}

/* leatd sends EOF before CLOSE when all is well: without it the stream is cut, and the application must see that. */
RIG_TEST(relay, a_bare_close_of_leatd_is_a_reset) {
    static uint8_t data[PACKET_BYTES];
    begin(backend, "SSH-2.0-leatd_1\r\n");
    open_relay();
    send_and_close();
    ssize_t n;
    while ((n = app_reads(data, sizeof data)) > 0)
        ;
    cr_expect(n == -1 && errno == ECONNRESET);
    RIG_UNTIL(&shard, relay_over);
    cr_expect_str_not_empty(relay_what);
    end_all();
}
