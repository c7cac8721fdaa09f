/* Hostile clients of leatd. Beside each of them an honest tunnel carries verified traffic and must not notice. */
#include "expect.h"
#include "pair.h"
#include "raw_client.h"
#include "ssh/codec.h"
#include "ssh/messages.h"
#include "traffic.h"
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <unistd.h>

static struct world world;
static struct target *target;
static uint16_t port; /* of the honest tunnel */
static unsigned descriptors_before;

static void setup_with(const char *config) {
    world_begin(&world);
    world_leatd(&world, config);
    target = target_start("127.0.0.1", TARGET_TRAFFIC);
    port = free_port();
    expect_up(world_leat(&world, "-v", "-L", world_format("%u:127.0.0.1:%u", port, target_port(target)), NULL));
    descriptors_before = process_descriptors(world.server);
}
static void setup(void) {
    setup_with("LoginGraceTime 2\nMaxStartups 3000");
}
static void teardown(void) {
    target_stop(target);
    world_end(&world);
}
TestSuite(hostile, .init = setup, .fini = teardown, .timeout = 300);

/* The honest tunnel works as before, and what the hostile ones held is given back. */
static void expect_unharmed(void) {
    struct traffic_result result = traffic_through("127.0.0.1", port, 7, 2 << 20, 2 << 20);
    cr_expect(result.ok, "%s", result.why);
    cr_expect(process_running(world.server));
    expect_soon(process_descriptors(world.server) <= descriptors_before + 1, 20);
}

/* The honest tunnel is busy for as long as the test wants. */
struct busy {
    pthread_t thread;
    atomic_bool stop;
    unsigned rounds, failed;
};
static void *run_busy(void *arg) {
    struct busy *busy = arg;
    while (!atomic_load(&busy->stop)) {
        busy->rounds++;
        if (!traffic_through("127.0.0.1", port, busy->rounds, 4 << 20, 4 << 20).ok)
            busy->failed++;
    }
    return NULL;
}
static void busy_start(struct busy *busy) {
    *busy = (struct busy){.stop = false};
    pthread_create(&busy->thread, NULL, run_busy, busy);
}
static void busy_stop(struct busy *busy) {
    atomic_store(&busy->stop, true);
    pthread_join(busy->thread, NULL);
    cr_expect_gt(busy->rounds, 0);
    cr_expect_eq(busy->failed, 0);
}

/* ---- before authentication ---- */

static int stranger(void) {
    int fd = connect_to("127.0.0.1", world.server_port);
    cr_assert_geq(fd, 0);
    return fd;
}

/* All that comes until the server closes; false when it does not. */
static bool closed_within(int fd, char *said, size_t cap, double seconds) {
    double deadline = now_seconds() + world_deadline(seconds);
    size_t len = 0;
    for (;;) {
        char rest[4096];
        struct pollfd poll_fd = {.fd = fd, .events = POLLIN};
        double left = deadline - now_seconds();
        if (left <= 0 || poll(&poll_fd, 1, (int)(left * 1000) + 1) <= 0)
            return false;
        ssize_t n = len + 1 < cap ? recv(fd, said + len, cap - 1 - len, 0) : recv(fd, rest, sizeof(rest), 0);
        if (n <= 0)
            return true;
        if (len + 1 < cap)
            said[len += (size_t)n] = '\0';
    }
}

Test(hostile, silence) {
    char said[256] = "";
    int fd = stranger();
    double began = now_seconds();
    cr_expect(closed_within(fd, said, sizeof(said), 10), "LoginGraceTime is over");
    cr_expect_geq(now_seconds() - began, 1.5);
    close(fd);
    expect_unharmed();
}

Test(hostile, a_byte_now_and_then) {
    static const char version[] = "SSH-2.0-Slow_1.0\r\n";
    int fd = stranger();
    char said[4096] = "";
    double began = now_seconds();
    for (unsigned i = 0; i < sizeof(version) - 1; i++) {
        if (send(fd, version + i, 1, MSG_NOSIGNAL) <= 0)
            break;
        pause_seconds(0.15);
    }
    cr_expect(closed_within(fd, said, sizeof(said), 10), "each byte has bought it time");
    cr_expect_leq(now_seconds() - began, world_deadline(6));
    close(fd);
    expect_unharmed();
}

static void expect_thrown_out(const void *bytes, size_t len, const char *what) {
    char said[4096] = "";
    int fd = stranger();
    for (size_t sent = 0; sent < len;) {
        ssize_t n = send(fd, (const char *)bytes + sent, len - sent, MSG_NOSIGNAL);
        if (n <= 0)
            break;
        sent += (size_t)n;
    }
    double began = now_seconds();
    cr_expect(closed_within(fd, said, sizeof(said), 10), "%s", what);
    cr_expect_leq(now_seconds() - began, world_deadline(1.5), "%s: not at once", what);
    close(fd);
}

Test(hostile, garbage) {
    static uint8_t bytes[300000];
    expect_thrown_out("GET / HTTP/1.1\r\nHost: x\r\n\r\n", 27, "another protocol");
    expect_thrown_out("SSH-1.5-old\r\n", 13, "protocol 1");
    memset(bytes, 'A', sizeof(bytes));
    expect_thrown_out(bytes, sizeof(bytes), "a line without end");
    for (size_t i = 0; i < sizeof(bytes); i++)
        bytes[i] = (uint8_t)(i * 2654435761u >> 13);
    expect_thrown_out(bytes, sizeof(bytes), "noise");
    memcpy(bytes, "SSH-2.0-Noise_1.0\r\n", 19);
    expect_thrown_out(bytes, sizeof(bytes), "noise behind a version");
    expect_unharmed();
}

Test(hostile, impossible_lengths) {
    static const uint32_t lengths[] = {0, 1, 4, 262145, 0x7fffffff, 0xffffffff};
    for (unsigned i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
        uint8_t bytes[64] = "SSH-2.0-Lengths_1.0\r\n";
        codec_put_u32(bytes + 21, lengths[i]);
        bytes[25] = 4;
        bytes[26] = MSG_KEXINIT;
        expect_thrown_out(bytes, sizeof(bytes), world_format("packet_length %u", lengths[i]));
    }
    expect_unharmed();
}

/* They hold a slot and little memory; traffic goes on, and so does logging in. */
Test(hostile, a_thousand_half_open_handshakes) {
    enum { COUNT = 1000 };
    static int fds[COUNT];
    struct busy busy;
    long before = process_rss_kib(world.server);
    busy_start(&busy);
    for (unsigned i = 0; i < COUNT; i++) {
        fds[i] = stranger();
        if (i % 2)
            cr_expect_gt(send(fds[i], "SSH-2.0-Half_1.0\r\n", 18, MSG_NOSIGNAL), 0);
    }
    cr_expect_lt(process_rss_kib(world.server) - before, 200 << 10, "KiB");
    uint16_t other = free_port();
    struct process *leat =
        world_leat(&world, "-v", "-L", world_format("%u:127.0.0.1:%u", other, target_port(target)), NULL);
    expect_up(leat);
    struct traffic_result result = traffic_through("127.0.0.1", other, 3, 1 << 20, 1 << 20);
    cr_expect(result.ok, "%s", result.why);
    expect_clean_end(leat);
    for (unsigned i = 0; i < COUNT; i++) {
        char said[4096];
        cr_expect(closed_within(fds[i], said, sizeof(said), 20));
        close(fds[i]);
    }
    busy_stop(&busy);
    expect_unharmed();
}

/* ---- after authentication ---- */

static size_t open_packet(uint8_t *out, size_t cap, uint32_t channel, const char *host, size_t host_len, uint32_t to) {
    struct writer writer;
    writer_init(&writer, out, (uint32_t)cap);
    writer_u8(&writer, MSG_CHANNEL_OPEN);
    writer_text(&writer, "direct-tcpip");
    writer_u32(&writer, channel);
    writer_u32(&writer, 1 << 20);
    writer_u32(&writer, 32768);
    writer_string(&writer, host, host_len);
    writer_u32(&writer, to);
    writer_text(&writer, "127.0.0.1");
    writer_u32(&writer, 0);
    return writer_len(&writer);
}

static bool send_open(struct raw_client *client, uint32_t channel, const char *host, uint32_t to) {
    uint8_t packet[1024];
    return raw_send(client, packet, open_packet(packet, sizeof(packet), channel, host, strlen(host), to));
}

/* An open channel to a target that echoes; the server's number for it. */
static uint32_t open_channel(struct raw_client *client, const struct target *echo) {
    size_t len;
    cr_assert(send_open(client, 0, "127.0.0.1", target_port(echo)));
    const uint8_t *confirmation = raw_wait(client, MSG_CHANNEL_OPEN_CONFIRMATION, &len, 20);
    cr_assert_not_null(confirmation);
    return codec_get_u32(confirmation + 5);
}

static bool send_channel(struct raw_client *client, uint8_t message, uint32_t channel) {
    uint8_t packet[5] = {message};
    codec_put_u32(packet + 1, channel);
    return raw_send(client, packet, sizeof(packet));
}

static bool send_data(struct raw_client *client, uint32_t channel, uint32_t said_len, uint32_t len) {
    uint8_t *packet = calloc(1, 9 + (size_t)len);
    packet[0] = MSG_CHANNEL_DATA;
    codec_put_u32(packet + 1, channel);
    codec_put_u32(packet + 5, said_len);
    bool sent = raw_send(client, packet, 9 + (size_t)len);
    free(packet);
    return sent;
}

enum offence {
    UNKNOWN_CHANNEL,
    AFTER_EOF,
    AFTER_CLOSE,
    TWO_EOFS,
    TOO_LONG,
    WRONG_LENGTH,
    BEYOND_WINDOW,
    UNKNOWN_CLOSE,
    CONFIRMED_UNASKED,
    WINDOW_OVERFLOW,
    NUL_IN_A_NAME,
    OFFENCES
};
static const char *const offence_names[] = {"data for no channel", "data after EOF",    "data after CLOSE",
                                            "EOF twice",           "a packet too long", "a length that is wrong",
                                            "more than a window",  "CLOSE of nothing",  "an answer unasked",
                                            "a window past 2^32",  "a name with a NUL"};

static void offend(struct raw_client *client, enum offence offence, uint32_t channel) {
    uint8_t named[256], adjust[9] = {MSG_CHANNEL_WINDOW_ADJUST}, confirm[17] = {MSG_CHANNEL_OPEN_CONFIRMATION};
    codec_put_u32(adjust + 1, channel);
    codec_put_u32(adjust + 5, 0xffffffff);
    codec_put_u32(confirm + 1, channel);
    confirm[16] = 1;
    switch (offence) {
    case UNKNOWN_CHANNEL:
        send_data(client, 4711, 1, 1);
        break;
    case AFTER_EOF:
        send_channel(client, MSG_CHANNEL_EOF, channel);
        send_data(client, channel, 1, 1);
        break;
    case AFTER_CLOSE:
        send_channel(client, MSG_CHANNEL_CLOSE, channel);
        send_data(client, channel, 1, 1);
        break;
    case TWO_EOFS:
        send_channel(client, MSG_CHANNEL_EOF, channel);
        send_channel(client, MSG_CHANNEL_EOF, channel);
        break;
    case TOO_LONG:
        send_data(client, channel, 200000, 200000);
        break;
    case WRONG_LENGTH:
        send_data(client, channel, 1000, 10);
        break;
    case BEYOND_WINDOW: /* the target does not read */
        for (unsigned i = 0; i < 10000 && send_data(client, channel, 32768, 32768); i++)
            ;
        break;
    case UNKNOWN_CLOSE:
        send_channel(client, MSG_CHANNEL_CLOSE, 4711);
        break;
    case CONFIRMED_UNASKED:
        raw_send(client, confirm, sizeof(confirm));
        break;
    case WINDOW_OVERFLOW:
        raw_send(client, adjust, sizeof(adjust));
        break;
    case NUL_IN_A_NAME:
        raw_send(client, named, open_packet(named, sizeof(named), 1, "a\0b", 3, 80));
        break;
    case OFFENCES:
        break;
    }
}

/* Each ends its own connection with a reason, and nothing else. */
Test(hostile, protocol_offences) {
    struct target *still = target_start("127.0.0.1", TARGET_HOLD);
    for (unsigned i = 0; i < OFFENCES; i++) {
        struct raw_client *client = raw_connect(&world);
        offend(client, i, open_channel(client, still));
        const char *reason = raw_wait_end(client, 20);
        cr_expect_not_null(reason, "%s: the connection goes on", offence_names[i]);
        raw_close(client);
    }
    target_stop(still);
    expect_unharmed();
    expect_soon(process_lines(world.server, "protocol error") >= OFFENCES - 1, 10);
}

/* What is wrong and harmless is refused, and the connection goes on. */
Test(hostile, refusals) {
    static const struct {
        const char *host;
        size_t len;
        uint32_t to;
    } wrong[] = {{"127.0.0.1", 9, 0}, {"127.0.0.1", 9, 65536}, {"127.0.0.1", 9, 0xffffffff},
                 {"", 0, 80},         {"a\nb", 3, 80},         {"..", 2, 80}};
    struct raw_client *client = raw_connect(&world);
    for (unsigned i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        uint8_t packet[1024];
        size_t len;
        cr_expect(
            raw_send(client, packet, open_packet(packet, sizeof(packet), i, wrong[i].host, wrong[i].len, wrong[i].to)));
        const uint8_t *answer = raw_wait(client, MSG_CHANNEL_OPEN_FAILURE, &len, 20);
        cr_assert_not_null(answer, "%u", i);
        cr_expect_eq(codec_get_u32(answer + 1), i);
    }
    uint8_t long_name[3000], unknown[] = {MSG_GLOBAL_REQUEST, 0, 0, 0, 4, 'w', 'h', 'a', 't', 1};
    memset(long_name, 'n', sizeof(long_name));
    uint8_t packet[4096];
    size_t len;
    cr_expect(
        raw_send(client, packet, open_packet(packet, sizeof(packet), 99, (char *)long_name, sizeof(long_name), 80)));
    cr_expect_not_null(raw_wait(client, MSG_CHANNEL_OPEN_FAILURE, &len, 20));
    cr_expect(raw_send(client, unknown, sizeof(unknown)));
    cr_expect_not_null(raw_wait(client, MSG_REQUEST_FAILURE, &len, 20));
    struct target *echo = target_start("127.0.0.1", TARGET_ECHO);
    uint32_t channel = open_channel(client, echo);
    cr_expect(send_data(client, channel, 5, 5));
    cr_expect_not_null(raw_wait(client, MSG_CHANNEL_DATA, &len, 20));
    raw_close(client);
    target_stop(echo);
    expect_unharmed();
}

/* No forward of ours; the people who run the relay hear of it. */
Test(hostile, channels_of_other_types) {
    uint8_t packet[64];
    struct writer writer;
    size_t len;
    struct raw_client *client = raw_connect(&world);
    writer_init(&writer, packet, sizeof(packet));
    writer_u8(&writer, MSG_CHANNEL_OPEN);
    writer_text(&writer, "tun@openssh.com");
    writer_u32(&writer, 0);
    writer_u32(&writer, 1000000);
    writer_u32(&writer, 32768);
    cr_expect(raw_send(client, packet, writer_len(&writer)));
    cr_expect_not_null(raw_wait(client, MSG_CHANNEL_OPEN_FAILURE, &len, 20));
    cr_expect(process_says(world.server, "[tun@openssh.com]: this server only forwards", 10));
    cr_expect_eq(process_lines(world.server, "channel refused: "), 1);
    raw_close(client);
}

/* RFC 4252 §5.3: what asks for authentication again is not answered. */
Test(hostile, authenticates_twice) {
    static const uint8_t again[] = "\x32\0\0\0\4root\0\0\0\x0essh-connection\0\0\0\4none";
    struct raw_client *client = raw_connect(&world);
    struct target *echo = target_start("127.0.0.1", TARGET_ECHO);
    cr_expect(raw_send(client, again, sizeof(again) - 1));
    uint32_t channel = open_channel(client, echo);
    size_t len;
    cr_expect(send_data(client, channel, 5, 5));
    cr_expect_not_null(raw_wait(client, MSG_CHANNEL_DATA, &len, 20));
    raw_close(client);
    target_stop(echo);
    expect_unharmed();
}

/* Asks and asks and does not read the answers: it is thrown out, or it waits; it costs bounded memory. */
Test(hostile, floods_with_channels) {
    struct busy busy;
    busy_start(&busy);
    uint16_t nobody = free_port();
    struct raw_client *client = raw_connect(&world);
    long before = process_rss_kib(world.server);
    for (uint32_t i = 0; i < 60000; i++)
        if (!send_open(client, i, "127.0.0.1", nobody))
            break;
    cr_expect_lt(process_rss_kib(world.server) - before, 300 << 10, "KiB");
    raw_close(client);
    busy_stop(&busy);
    expect_unharmed();
}

Test(hostile, floods_with_listeners) {
    struct raw_client *client = raw_connect(&world);
    unsigned granted = 0;
    for (unsigned i = 0; i < 1000; i++) {
        uint8_t packet[64];
        struct writer writer;
        size_t len;
        writer_init(&writer, packet, sizeof(packet));
        writer_u8(&writer, MSG_GLOBAL_REQUEST);
        writer_text(&writer, "tcpip-forward");
        writer_bool(&writer, true);
        writer_text(&writer, "localhost");
        writer_u32(&writer, 0);
        cr_assert(raw_send(client, packet, writer_len(&writer)));
        if (raw_wait(client, MSG_REQUEST_SUCCESS, &len, 0.2) == NULL)
            break;
        granted++;
    }
    cr_expect_gt(granted, 100);
    cr_expect_lt(granted, 1000, "there is no limit");
    raw_close(client);
    expect_unharmed();
}

/* A reader that has stopped holds its own flow, not the others of its connection. */
Test(hostile, reads_nothing) {
    struct raw_client *client = raw_connect(&world);
    struct target *echo = target_start("127.0.0.1", TARGET_ECHO);
    long before = process_rss_kib(world.server);
    uint32_t channel = open_channel(client, echo);
    for (unsigned i = 0; i < 40; i++)
        if (!send_data(client, channel, 32768, 32768))
            break;
    cr_expect_lt(process_rss_kib(world.server) - before, 64 << 10, "KiB");
    raw_close(client);
    target_stop(echo);
    expect_unharmed();
}

/* ---- too many at once ---- */

static void setup_few(void) {
    setup_with("MaxStartups 3\nLoginGraceTime 5");
}
TestSuite(few, .init = setup_few, .fini = teardown, .timeout = 300);

Test(few, max_startups) {
    int fds[3];
    char said[256] = "";
    for (unsigned i = 0; i < 3; i++)
        fds[i] = stranger();
    for (unsigned i = 0; i < 3; i++) { /* each has got its version: all are inside */
        struct pollfd poll_fd = {.fd = fds[i], .events = POLLIN};
        cr_assert_eq(poll(&poll_fd, 1, 10000), 1);
    }
    int fourth = stranger();
    cr_expect(closed_within(fourth, said, sizeof(said), 10));
    cr_expect_not_null(strstr(said, "Exceeded MaxStartups"), "%s", said);
    close(fourth);
    for (unsigned i = 0; i < 3; i++)
        close(fds[i]);
    expect_unharmed();
    raw_close(raw_connect(&world)); /* there is room again */
}
