#pragma once
/* What the client of a server rig has heard, of channels and of answers to its global requests. */
#include "tests/unit/server_rig.h"

static uint32_t near_channel, refusal, reply_port;
static char refusal_text[200], open_type[64], open_host[64], open_origin[64];
static uint32_t open_port, open_origin_port;
static unsigned replies; /* to global requests */
static bool reply_success;
static uint32_t reply_len;
static uint64_t far_received;

static inline void note_open(struct reader *reader) {
    snprintf(open_type, sizeof open_type, "%s", reader_name(reader));
    near_channel = reader_u32(reader);
    reader_u32(reader);
    reader_u32(reader);
    snprintf(open_host, sizeof open_host, "%s", reader_name(reader));
    if (strstr(open_type, "streamlocal"))
        return;
    open_port = reader_u32(reader);
    snprintf(open_origin, sizeof open_origin, "%s", reader_name(reader));
    open_origin_port = reader_u32(reader);
    cr_assert(reader_done(reader));
}

static inline void on_far_packet(uint8_t type, struct reader reader) {
    if (type == MSG_CHANNEL_OPEN)
        return note_open(&reader);
    if (type == MSG_REQUEST_SUCCESS || type == MSG_REQUEST_FAILURE) {
        replies++;
        reply_success = type == MSG_REQUEST_SUCCESS;
        reply_len = reader_left(&reader);
        reply_port = reply_len == 4 ? reader_u32(&reader) : 0;
        return;
    }
    reader_u32(&reader);
    if (type == MSG_CHANNEL_OPEN_CONFIRMATION)
        near_channel = reader_u32(&reader);
    if (type == MSG_CHANNEL_OPEN_FAILURE) {
        refusal = reader_u32(&reader);
        snprintf(refusal_text, sizeof refusal_text, "%s", reader_name(&reader));
    }
    if (type == MSG_CHANNEL_DATA)
        far_received += reader_string(&reader).len;
}

static inline void begin(enum io_backend backend) {
    rig.on_packet = on_far_packet;
    server_rig_begin(backend);
}

/* Some bytes each way, then an orderly end. */
static inline void talk_and_close(int app) {
    char data[100] = "ten bytes.";
    far_sends_data(near_channel, data, 10);
    for (ssize_t n, got = 0; got<10; got += n> 0 ? n : 0) {
        n = recv(app, data, sizeof data, MSG_DONTWAIT);
        rig_step();
    }
    cr_assert_eq(write(app, data, 30), 30);
    RIG_GO_UNTIL(far_received == 30);
    close(app);
    RIG_GO_UNTIL(rig.counts[MSG_CHANNEL_EOF] == 1);
    far_says(MSG_CHANNEL_EOF, "u", near_channel);
    far_says(MSG_CHANNEL_CLOSE, "u", near_channel);
    RIG_GO_UNTIL(channels == 0 || connection.listeners_count == (unsigned)channels);
    cr_expect_str_eq(last_note()->event, "forward closed");
    cr_expect_str_empty(last_note()->reason);
    cr_expect(last_note()->counted);
}
