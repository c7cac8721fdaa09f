#include "ssh/hello.h"
#include "engine/check.h"
#include "engine/limits.h"
#include "engine/log.h"
#include "engine/tcp.h"
#include "ssh/session.h"
#include "ssh/stripe.h"

#define LAYOUT 1u
#define RESETS_BY_CLOSE "reset-by-close"
#define WINDOW_MAX "window-max"
#define STRIPES "stripes"

_Static_assert(HELLO_BYTES <= MUX_REPLY_BYTES, "it is a reply, too");

uint32_t hello_write(uint8_t out[HELLO_BYTES]) {
    struct writer writer;
    uint8_t window_max[4], stripes[4];
    codec_put_u32(window_max, LIMIT_WINDOW_LEATD_BYTES);
    codec_put_u32(stripes, STRIPE_LANES_MAX);
    writer_init(&writer, out, HELLO_BYTES);
    writer_u32(&writer, LAYOUT);
    writer_u32(&writer, 3);
    writer_text(&writer, RESETS_BY_CLOSE);
    writer_text(&writer, "");
    writer_text(&writer, WINDOW_MAX);
    writer_string(&writer, window_max, sizeof window_max);
    writer_text(&writer, STRIPES);
    writer_string(&writer, stripes, sizeof stripes);
    CHECK(writer_ok(&writer));
    return writer_len(&writer);
}

static uint32_t at_most(uint32_t value, uint32_t max) {
    return value < max ? value : max;
}

static void take_feature(struct hello *hello, struct bytes name, struct bytes value) {
    if (bytes_equal(name, RESETS_BY_CLOSE))
        hello->resets_by_close = true;
    else if (bytes_equal(name, WINDOW_MAX) && value.len == 4)
        hello->window_max = codec_get_u32(value.at);
    else if (bytes_equal(name, STRIPES) && value.len == 4)
        hello->stripes = at_most(codec_get_u32(value.at), STRIPE_LANES_MAX);
}

int hello_read(struct bytes data, struct hello *hello) {
    struct reader reader;
    *hello = (struct hello){0};
    reader_init(&reader, data.at, data.len);
    uint32_t layout = reader_u32(&reader), count = reader_u32(&reader);
    if (layout != LAYOUT || count > LIMIT_HELLO_FEATURES)
        return ERR_PROTOCOL;
    for (uint32_t i = 0; i < count && reader_ok(&reader); i++) {
        struct bytes name = reader_string(&reader), value = reader_string(&reader);
        if (reader_ok(&reader))
            take_feature(hello, name, value);
    }
    if (reader_done(&reader))
        return 0;
    *hello = (struct hello){0};
    return ERR_PROTOCOL;
}

/* A MaxWindow of the user's own stands; OpenSSH's cap does, whatever it says. */
static void take(struct session *session, const struct hello *hello) {
    session->peer = *hello;
    tcp_keep_receive_buffer(session->fd); /* such a sender does not mind waiting for room */
    if (session->options.window_max == 0 && transport_peer(session->transport) != PEER_OPENSSH)
        mux_raise_window(&session->mux, at_most(hello->window_max, LIMIT_WINDOW_LEATD_BYTES));
}

static void tell(struct session *session) {
    if (session->options.on_hello != NULL)
        session->options.on_hello(session);
}

static void on_reply(void *arg, bool success, struct bytes data) {
    struct session *session = arg;
    struct hello hello;
    if (success && hello_read(data, &hello) == 0)
        take(session, &hello);
    else if (session->ending)
        log_debug("the connection ended before " HELLO_REQUEST " was answered");
    else
        log_debug("the server's version says leatd, but it does not know " HELLO_REQUEST);
    tell(session);
}

void hello_ask(struct session *session) {
    uint8_t data[HELLO_BYTES];
    if (transport_peer(session->transport) != PEER_LEATD)
        return tell(session);
    int err = mux_global_request(&session->mux, HELLO_REQUEST, data, hello_write(data), on_reply, session);
    if (err == 0)
        return session_wake(session);
    log_debug(HELLO_REQUEST " is not asked: %s", err_text(err));
    tell(session);
}

bool hello_answer(struct session *session, struct bytes data, uint8_t *reply, uint32_t *reply_len) {
    struct hello hello;
    if (hello_read(data, &hello) != 0)
        return false;
    take(session, &hello);
    *reply_len = hello_write(reply);
    return true;
}
