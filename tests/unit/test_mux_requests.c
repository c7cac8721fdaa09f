/* Requests and their answers, global and on a channel, and messages that concern nobody. */
#include "mux_rig.h"

static struct rig rig;
static struct probe probe;

/* Where OpenSSH passes over a channel number that is gone, so do we; elsewhere the session ends. */
Test(mux_requests, unknown_channels) {
    rig_init(&rig);
    rig_connect(&rig, &probe);
    const uint32_t ids[] = {probe.flow.id + 1, 15, 16, 0x7FFFFFFF, UINT32_MAX};
    for (unsigned i = 0; i < 5; i++) {
        uint32_t id = ids[i];
        cr_assert_eq(rig_put(&rig, MSG_CHANNEL_DATA, "uz", id, 1u), ERR_PROTOCOL);
        cr_assert_eq(rig_put(&rig, MSG_CHANNEL_EXTENDED_DATA, "uuz", id, 1u, 1u), ERR_PROTOCOL);
        cr_assert_eq(rig_put(&rig, MSG_CHANNEL_EOF, "u", id), ERR_PROTOCOL);
        cr_assert_eq(rig_put(&rig, MSG_CHANNEL_CLOSE, "u", id), ERR_PROTOCOL);
        cr_assert_eq(rig_put(&rig, MSG_CHANNEL_OPEN_CONFIRMATION, "uuuu", id, 1u, 1u, 1u), ERR_PROTOCOL);
        cr_assert_eq(rig_put(&rig, MSG_CHANNEL_OPEN_FAILURE, "uuss", id, 1u, "", ""), ERR_PROTOCOL);
        cr_assert_eq(rig_put(&rig, MSG_CHANNEL_WINDOW_ADJUST, "uu", id, 1u), 0);
        cr_assert_eq(rig_put(&rig, MSG_CHANNEL_REQUEST, "usb", id, "keepalive@openssh.com", 1), 0);
        cr_assert_eq(rig_put(&rig, MSG_CHANNEL_SUCCESS, "u", id), 0);
        cr_assert_eq(rig_put(&rig, MSG_CHANNEL_FAILURE, "u", id), 0);
    }
    rig_expect_nothing(&rig);
    rig_deinit(&rig);
}

Test(mux_requests, unknown_messages) {
    const uint8_t types[] = {83, 89, 101, 127, 79, 0, 255};
    rig_init(&rig);
    for (unsigned i = 0; i < sizeof types; i++)
        cr_assert_eq(rig_put(&rig, types[i], "us", 1u, "what"), ERR_UNSUPPORTED);
    rig_expect_nothing(&rig);
    cr_assert_eq(rig_feed(&rig, NULL, 0), ERR_PROTOCOL);
    rig_deinit(&rig);
}

Test(mux_requests, channel_requests) {
    rig_init(&rig);
    rig_connect(&rig, &probe);
    cr_assert_eq(rig_put(&rig, MSG_CHANNEL_REQUEST, "usb", probe.flow.id, "keepalive@openssh.com", 0), 0);
    rig_expect_nothing(&rig);
    for (uint32_t i = 0; i < LIMIT_GLOBAL_REQUESTS_PENDING; i++)
        cr_assert_eq(rig_put(&rig, MSG_CHANNEL_REQUEST, "usbs", probe.flow.id, "exec", 1, "true"), 0);
    cr_assert_eq(rig_put(&rig, MSG_CHANNEL_REQUEST, "usb", probe.flow.id, "exec", 1), ERR_LIMIT);
    for (uint32_t i = 0; i < LIMIT_GLOBAL_REQUESTS_PENDING; i++) {
        rig_expect(&rig, MSG_CHANNEL_FAILURE);
        cr_assert_eq(rig_u32(&rig, 0), PEER_ID);
    }
    rig_expect_nothing(&rig);
    rig_deinit(&rig);
}

Test(mux_requests, global_requests_of_the_peer) {
    rig_init(&rig);
    cr_assert_eq(rig_put(&rig, MSG_GLOBAL_REQUEST, "sb", "hostkeys-00@openssh.com", 0), 0);
    cr_assert_eq(rig.globals, 1);
    rig_expect_nothing(&rig);
    cr_assert_eq(rig_put(&rig, MSG_GLOBAL_REQUEST, "sb", "keepalive@openssh.com", 1), 0);
    rig.global_answer = true;
    cr_assert_eq(rig_put(&rig, MSG_GLOBAL_REQUEST, "sbsu", "tcpip-forward", 1, "", 0u), 0);
    rig_expect(&rig, MSG_REQUEST_FAILURE);
    cr_assert_eq(rig.out_len, 1);
    rig_expect(&rig, MSG_REQUEST_SUCCESS);
    cr_assert_eq(rig.out_len, 5);
    cr_assert_eq(rig_u32(&rig, 0), 4711);
    rig_expect_nothing(&rig);
    rig_deinit(&rig);
}

/* A peer that asks and asks without reading: our memory for it ends. */
Test(mux_requests, answers_owed_are_bounded) {
    for (int opens = 0; opens < 2; opens++) {
        rig_init(&rig);
        uint32_t count = 0;
        int result;
        do {
            result = opens ? rig_ask(&rig, NULL) : rig_put(&rig, MSG_GLOBAL_REQUEST, "sb", "x", 1);
            count++;
        } while (result == 0);
        cr_assert_eq(result, ERR_LIMIT);
        cr_assert_eq(count, LIMIT_GLOBAL_REQUESTS_PENDING + 1);
        cr_assert_neq(rig.why[0], 0);
        rig_deinit(&rig);
    }
}

struct answers {
    unsigned count, successes;
    uint32_t last;
};
static void on_answer(void *arg, bool success, struct bytes data) {
    struct answers *answers = arg;
    answers->count++;
    answers->successes += success;
    answers->last = data.len == 4 ? codec_get_u32(data.at) : 0;
}

Test(mux_requests, own_global_requests) {
    struct answers first = {0}, second = {0};
    rig_init(&rig);
    cr_assert_eq(mux_tcpip_forward(&rig.mux, false, "0.0.0.0", 0, on_answer, &first), 0);
    cr_assert_eq(rig_put(&rig, MSG_REQUEST_SUCCESS, ""), ERR_PROTOCOL, "not even sent");
    cr_assert_eq(mux_tcpip_forward(&rig.mux, true, "*", 22, on_answer, &second), 0);
    cr_assert_eq(mux_global_request(&rig.mux, "no-more-sessions@openssh.com", NULL, 0, NULL, NULL), 0);
    rig_expect(&rig, MSG_GLOBAL_REQUEST);
    struct reader reader;
    reader_init(&reader, rig.out + 1, rig.out_len - 1);
    rig_text(&reader, "tcpip-forward");
    cr_assert(reader_bool(&reader));
    rig_text(&reader, "0.0.0.0");
    cr_assert_eq(reader_u32(&reader), 0);
    cr_assert(reader_done(&reader));
    rig_expect(&rig, MSG_GLOBAL_REQUEST);
    rig_expect(&rig, MSG_GLOBAL_REQUEST);
    cr_assert_eq(rig.out[rig.out_len - 1], 0, "want_reply false");
    cr_assert_eq(rig_put(&rig, MSG_REQUEST_SUCCESS, "u", 40001u), 0);
    cr_assert_eq(first.count, 1);
    cr_assert_eq(first.last, 40001);
    cr_assert_eq(second.count, 0);
    cr_assert_eq(rig_put(&rig, MSG_REQUEST_FAILURE, ""), 0);
    cr_assert_eq(second.count, 1);
    cr_assert_eq(second.successes, 0);
    cr_assert_eq(rig_put(&rig, MSG_REQUEST_FAILURE, ""), ERR_PROTOCOL, "nothing is pending");
    rig_deinit(&rig);
}

Test(mux_requests, own_global_requests_are_bounded) {
    static uint8_t big[MUX_CONTROL_BYTES];
    struct answers answers = {0};
    rig_init(&rig);
    cr_assert_eq(mux_global_request(&rig.mux, "x", big, sizeof big, on_answer, &answers), ERR_LENGTH);
    for (uint32_t i = 0; i < LIMIT_GLOBAL_REQUESTS_PENDING; i++)
        cr_assert_eq(mux_global_request(&rig.mux, "x", big, 100, on_answer, &answers), 0);
    cr_assert_eq(mux_global_request(&rig.mux, "x", big, 100, on_answer, &answers), ERR_LIMIT);
    for (uint32_t i = 0; i < 10; i++)
        rig_expect(&rig, MSG_GLOBAL_REQUEST);
    cr_assert_eq(mux_global_request(&rig.mux, "x", big, 100, on_answer, &answers), ERR_LIMIT, "sent is still pending");
    cr_assert_eq(rig_put(&rig, MSG_REQUEST_SUCCESS, ""), 0);
    cr_assert_eq(mux_global_request(&rig.mux, "x", big, 100, on_answer, &answers), 0);
    rig_deinit(&rig);
    cr_assert_eq(answers.count, LIMIT_GLOBAL_REQUESTS_PENDING + 1, "each is told, sent or not");
    cr_assert_eq(answers.successes, 1);
}
