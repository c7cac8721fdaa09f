/* Striped connections as leatd takes them, from a client that says what the test wants: who may begin one, who may
 * join, what the log says, and that it waits for them when it is told to stop. */
#include "expect.h"
#include "raw_client.h"
#include "ssh/codec.h"
#include "ssh/messages.h"
#include "ssh/mux.h"
#include "ssh/stripe.h"
#include "traffic.h"
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#define WINDOW (1u << 20)
#define NOT_OPENED UINT32_MAX
static const uint8_t key[MUX_STRIPE_KEY_BYTES] = "fifteen letters";

static struct world world;
static struct target *target;

static void setup(void) {
    world_begin(&world);
    target = target_start("127.0.0.1", TARGET_ECHO);
}
static void teardown(void) {
    target_stop(target);
    world_end(&world);
}
TestSuite(striped_server, .init = setup, .fini = teardown, .timeout = 120);

/* ---- channels ---- */

static void begin_open(struct writer *writer, uint8_t packet[256], const char *type) {
    writer_init(writer, packet, 256);
    writer_u8(writer, MSG_CHANNEL_OPEN);
    writer_text(writer, type);
    writer_u32(writer, 0);
    writer_u32(writer, WINDOW);
    writer_u32(writer, 32768);
}

/* The server's number of the channel; NOT_OPENED: it has said no. */
static uint32_t opened(struct raw_client *client, const struct writer *writer) {
    size_t len;
    cr_assert(raw_send(client, writer->start, writer_len(writer)));
    const uint8_t *answer = raw_wait(client, MSG_CHANNEL_OPEN_CONFIRMATION, &len, 3);
    return answer != NULL ? codec_get_u32(answer + 5) : NOT_OPENED;
}

static void refused(struct raw_client *client, const struct writer *writer, const char *why) {
    size_t len;
    cr_assert(raw_send(client, writer->start, writer_len(writer)));
    const uint8_t *answer = raw_wait(client, MSG_CHANNEL_OPEN_FAILURE, &len, 20);
    cr_assert_not_null(answer, "%s", process_log(world.server));
    cr_expect_eq(codec_get_u32(answer + 5), OPEN_ADMINISTRATIVELY_PROHIBITED);
    struct reader reader;
    reader_init(&reader, answer + 9, (uint32_t)len - 9);
    cr_expect(bytes_equal(reader_string(&reader), why), "%s", process_log(world.server));
}

static struct writer *stripe(uint16_t port) {
    static struct writer writer;
    static uint8_t packet[256];
    begin_open(&writer, packet, "stripe@leat");
    writer_text(&writer, "127.0.0.1");
    writer_u32(&writer, port);
    writer_text(&writer, "192.0.2.9");
    writer_u32(&writer, 9);
    writer_string(&writer, key, sizeof key);
    return &writer;
}

static struct writer *join_as(const void *with, uint32_t identity) {
    static struct writer writer;
    static uint8_t packet[256];
    begin_open(&writer, packet, "stripe-join@leat");
    writer_string(&writer, with, MUX_STRIPE_KEY_BYTES);
    writer_u32(&writer, identity);
    return &writer;
}

static struct writer *join(const void *with) {
    return join_as(with, 1);
}

/* ---- records ---- */

static void say(struct raw_client *client, uint32_t channel, uint8_t kind, uint64_t offset, uint32_t number,
                const char *data) {
    uint8_t packet[256];
    size_t len = data != NULL ? number : 0;
    packet[0] = MSG_CHANNEL_DATA;
    codec_put_u32(packet + 1, channel);
    codec_put_u32(packet + 5, (uint32_t)(STRIPE_HEADER_BYTES + len));
    packet[9] = kind;
    codec_put_u32(packet + 10, number);
    codec_put_u32(packet + 14, (uint32_t)(offset >> 32));
    codec_put_u32(packet + 18, (uint32_t)offset);
    if (data != NULL)
        memcpy(packet + 22, data, len);
    cr_assert(raw_send(client, packet, 22 + len));
}

/* What one lane has brought so far. */
struct lane {
    struct raw_client *client;
    uint32_t channel;
    uint8_t bytes[4096];
    size_t len;
};

static void lane_open(struct lane *lane, struct raw_client *client, const struct writer *writer) {
    *lane = (struct lane){.client = client};
    raw_collect(client, lane->bytes, sizeof lane->bytes, &lane->len);
    lane->channel = opened(client, writer);
    cr_assert_neq(lane->channel, NOT_OPENED, "%s", process_log(world.server));
    say(client, lane->channel, 2, 0, WINDOW, NULL);
}

static void lane_read(struct lane *lane, double seconds) {
    size_t len;
    (void)raw_wait(lane->client, MSG_CHANNEL_DATA, &len, seconds);
}

/* Puts the DATA of all its records where they belong. */
static void lane_collect(const struct lane *lane, char *text, size_t cap) {
    for (size_t at = 0; at + STRIPE_HEADER_BYTES <= lane->len;) {
        const uint8_t *header = lane->bytes + at;
        uint32_t number = codec_get_u32(header + 1), offset = codec_get_u32(header + 9);
        at += STRIPE_HEADER_BYTES;
        if (header[0] != 1)
            continue;
        cr_assert(offset + number <= cap && at + number <= lane->len);
        memcpy(text + offset, lane->bytes + at, number);
        at += number;
    }
}

static bool lane_has_ended(const struct lane *lane) {
    const uint8_t *header;
    for (size_t at = 0; at + STRIPE_HEADER_BYTES <= lane->len;) {
        header = lane->bytes + at;
        if (header[0] == 3)
            return true;
        at += STRIPE_HEADER_BYTES + (header[0] == 1 ? codec_get_u32(header + 1) : 0);
    }
    return false;
}

static void expect_echo(struct lane *lanes, unsigned count, const char *wanted) {
    char text[256] = "";
    for (unsigned tries = 0; strcmp(text, wanted) != 0 && tries < 40; tries++)
        for (unsigned i = 0; i < count; i++) {
            lane_read(&lanes[i], 0.2);
            lane_collect(&lanes[i], text, sizeof text);
        }
    cr_expect_str_eq(text, wanted, "%s", process_log(world.server));
}

/* ---- tests ---- */

/* The second lane's bytes come first, and the first lane's connection goes in the middle. */
Test(striped_server, begun_joined_and_outliving_its_first_connection) {
    struct lane lanes[2];
    world_leatd(&world, "Shards 2");
    lane_open(&lanes[0], raw_connect(&world), stripe(target_port(target)));
    cr_expect(process_says(world.server, "stripe origin 192.0.2.9 port 9", 20));
    lane_open(&lanes[1], raw_connect(&world), join(key));
    cr_expect(process_says(world.server, "lane opened", 20));
    say(lanes[1].client, lanes[1].channel, 1, 6, 6, "second");
    say(lanes[0].client, lanes[0].channel, 1, 0, 6, "first ");
    expect_echo(lanes, 2, "first second");
    raw_close(lanes[0].client);
    cr_expect(process_says(world.server, "lane closed", 20));
    say(lanes[1].client, lanes[1].channel, 1, 12, 5, " last");
    expect_echo(&lanes[1], 1, "first second last"); /* what was only on the lost lane comes again */
    process_kill(world.server, SIGUSR1);
    cr_expect(process_says(world.server, "striped connection of user ", 20));
    raw_close(lanes[1].client);
    cr_expect(process_says(world.server, "forward closed", 20));
    cr_expect(process_says(world.server, "[2 lanes]: 17 bytes out", 1), "%s", process_log(world.server));
    cr_expect(process_says(world.server, "all its lanes were lost", 1));
}

Test(striped_server, an_orderly_end) {
    struct lane lane;
    size_t len;
    world_leatd(&world, "");
    lane_open(&lane, raw_connect(&world), stripe(target_port(target)));
    say(lane.client, lane.channel, 1, 0, 5, "hello");
    expect_echo(&lane, 1, "hello");
    say(lane.client, lane.channel, 3, 5, 0, NULL); /* END */
    for (unsigned tries = 0; !lane_has_ended(&lane) && tries < 40; tries++)
        lane_read(&lane, 0.5);
    cr_assert(lane_has_ended(&lane), "%s", process_log(world.server));
    say(lane.client, lane.channel, 2, 6, WINDOW, NULL); /* all is taken, the END too */
    cr_expect_not_null(raw_wait(lane.client, MSG_CHANNEL_EOF, &len, 20));
    const uint8_t eof[] = {MSG_CHANNEL_EOF, 0, 0, 0, (uint8_t)lane.channel};
    cr_expect(raw_send(lane.client, eof, sizeof eof));
    cr_expect(process_says(world.server, "forward closed", 20));
    cr_expect(process_says(world.server, "[1 lane]: 5 bytes out, 5 back", 1), "%s", process_log(world.server));
    cr_expect_eq(process_lines(world.server, "lost"), 0);
    raw_close(lane.client);
}

Test(striped_server, refused_as_any_other) {
    world_leatd(&world, world_format("PermitOpen 127.0.0.1:%u", target_port(target)));
    struct raw_client *client = raw_connect(&world);
    refused(client, stripe(1), "not in PermitOpen");
    cr_expect(process_says(world.server, "forward refused", 20));
    struct lane lane;
    lane_open(&lane, client, stripe(target_port(target)));
    raw_close(client);
}

Test(striped_server, joins_of_what_is_not_there) {
    uint8_t other[MUX_STRIPE_KEY_BYTES];
    struct lane lane;
    world_leatd(&world, "");
    struct raw_client *client = raw_connect(&world);
    refused(client, join(key), "no such striped connection");
    lane_open(&lane, client, stripe(target_port(target)));
    memcpy(other, key, sizeof other);
    other[0] ^= 1;
    refused(client, join(other), "no such striped connection");
    cr_expect(process_says(world.server, "lane refused", 20), "%s", process_log(world.server));
    cr_expect(process_says(world.server, "no such striped connection", 20));
    say(lane.client, lane.channel, 1, 0, 5, "hello");
    expect_echo(&lane, 1, "hello");
    raw_close(client);
}

/* Many a lane comes when what it was for has just ended. */
Test(striped_server, a_lane_that_comes_too_late_is_no_news) {
    world_leatd(&world, world_format("LogLevel INFO\nPermitOpen 127.0.0.1:%u", target_port(target)));
    struct raw_client *client = raw_connect(&world);
    refused(client, join(key), "no such striped connection");
    refused(client, stripe(1), "not in PermitOpen"); /* is news, and comes after it */
    cr_expect(process_says(world.server, "not in PermitOpen", 20), "%s", process_log(world.server));
    cr_expect_eq(process_lines(world.server, "refused: "), 1, "%s", process_log(world.server));
    raw_close(client);
}

/* The client has lost its first lane, of which the server sees nothing: what was sent on it comes again on the other.
 */
Test(striped_server, a_lane_that_the_client_has_lost) {
    struct lane lanes[2];
    size_t len;
    world_leatd(&world, "");
    lane_open(&lanes[0], raw_connect(&world), stripe(target_port(target)));
    say(lanes[0].client, lanes[0].channel, 1, 0, 5, "hello");
    expect_echo(lanes, 1, "hello");
    struct raw_client *client = raw_connect(&world);
    refused(client, join_as(key, 0), "a lane of that number has been");
    lane_open(&lanes[1], client, join(key));
    say(client, lanes[1].channel, 5, 0, 0, NULL); /* LOST */
    expect_echo(&lanes[1], 1, "hello");
    cr_expect_not_null(raw_wait(lanes[0].client, MSG_CHANNEL_EOF, &len, 20), "%s", process_log(world.server));
    refused(lanes[0].client, join(key), "a lane of that number has been");
    cr_expect_neq(opened(lanes[0].client, join_as(key, 2)), NOT_OPENED, "%s", process_log(world.server));
    raw_close(lanes[0].client);
    raw_close(client);
}

Test(striped_server, another_users_is_not_there) {
    struct lane lane;
    if (geteuid() != 0)
        world_skip(&world, "only a leatd of root lets other users in");
    world_leatd(&world, "");
    struct raw_client *client = raw_connect(&world), *stranger = raw_connect_as(&world, "nobody");
    lane_open(&lane, client, stripe(target_port(target)));
    refused(stranger, join(key), "no such striped connection");
    raw_close(stranger);
    raw_close(client);
}

/* The same user with a key that may not go there. */
Test(striped_server, a_restricted_key_does_not_join_what_it_may_not_open) {
    struct lane lane;
    const char *keys = world_path(&world, "authorized_keys");
    char line[2048] = "";
    world_leatd(&world, "");
    struct raw_client *client = raw_connect(&world);
    lane_open(&lane, client, stripe(target_port(target)));
    FILE *file = fopen(keys, "r");
    cr_assert(file != NULL && fgets(line, sizeof line, file) != NULL);
    fclose(file);
    world_write(keys, world_format("permitopen=\"127.0.0.1:1\" %s", line));
    struct raw_client *restricted = raw_connect(&world);
    refused(restricted, join(key), "no such striped connection");
    cr_expect(process_says(world.server, "forward refused", 20), "%s", process_log(world.server));
    world_write(keys, world_format("permitopen=\"127.0.0.1:%u\" %s", target_port(target), line));
    struct raw_client *permitted = raw_connect(&world);
    cr_expect_neq(opened(permitted, join(key)), NOT_OPENED, "%s", process_log(world.server));
    raw_close(permitted);
    raw_close(restricted);
    raw_close(client);
}

/* Told twice: nobody waits any longer, and nothing is left. */
Test(striped_server, a_server_that_stops_at_once) {
    struct lane lane;
    world_leatd(&world, "DrainTimeout 60");
    struct raw_client *client = raw_connect(&world);
    lane_open(&lane, client, stripe(target_port(target)));
    process_kill(world.server, SIGTERM);
    cr_expect(process_says(world.server, "draining", 20));
    process_kill(world.server, SIGTERM);
    cr_expect_eq(process_wait(world.server, 20), 0, "%s", process_log(world.server));
    cr_expect(process_says(world.server, "forward closed", 1));
    raw_close(client);
}

Test(striped_server, idle_for_as_long_as_a_direct_tcpip_may_be) {
    struct lane lane;
    size_t len;
    world_leatd(&world, "ChannelTimeout direct-tcpip=1");
    struct raw_client *client = raw_connect(&world);
    lane_open(&lane, client, stripe(target_port(target)));
    cr_expect_not_null(raw_wait(client, MSG_CHANNEL_CLOSE, &len, 20), "%s", process_log(world.server));
    cr_expect(process_says(world.server, "forward closed", 20), "%s", process_log(world.server));
    raw_close(client);
    cr_expect(process_says(world.server, "idle for too long", 20));
}

Test(striped_server, a_server_that_stops_waits_for_it) {
    struct lane lane;
    world_leatd(&world, "Shards 1\nDrainTimeout 60");
    struct raw_client *client = raw_connect(&world);
    lane_open(&lane, client, stripe(target_port(target)));
    process_kill(world.server, SIGTERM);
    cr_expect(process_says(world.server, "draining", 20));
    process_kill(world.server, SIGUSR1); /* the shard answers after it has been told to drain */
    cr_expect(process_says(world.server, "shard 0: ", 20));
    refused(client, join(key), "this server is stopping");
    say(lane.client, lane.channel, 1, 0, 5, "hello");
    expect_echo(&lane, 1, "hello");
    raw_close(client);
    cr_expect_eq(process_wait(world.server, 20), 0, "%s", process_log(world.server));
    cr_expect(process_says(world.server, "forward closed", 1));
}
