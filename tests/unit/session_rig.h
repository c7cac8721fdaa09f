#pragma once
/* A real session on a real socket, and a far end for which the test speaks, packet by packet: what OpenSSH would not
 * say, or not at that moment. */
#include "engine/limits.h"
#include "ssh/codec.h"
#include "ssh/messages.h"
#include "ssh/session.h"
#include "tests/sim/fake_kex.h"
#include "tests/unit/engine_rig.h"
#include <stdarg.h>
#include <sys/socket.h>

#define FAR_STREAM_BYTES (2u << 20)
#define FAR_PAYLOAD_MAX 32900u

/* One side's transport; the near one is the session's. */
struct far {
    struct transport transport;
    struct fake_kex fake;
    uint8_t *bytes; /* for this end, not yet worked on */
    size_t len;
};

static struct {
    struct shard shard;
    struct session *session, own_session;
    struct window_budget budget;
    struct far *near, *far;
    bool over_tcp;   /* asked for before the rig begins; else a pair of Unix sockets */
    int wire_fds[2]; /* the session's; the far end's */
    bool ending, over;
    void (*tell_ending)(struct session *session);
    int end_err;
    char end_reason[512];
    /* what the far end has received, as the test wants to know it */
    void (*on_packet)(uint8_t type, struct reader reader);
    unsigned counts[256];
} rig;

static int far_on_packet(void *arg, const struct packet *packet) {
    (void)arg;
    struct reader reader;
    reader_init(&reader, packet->payload + 1, packet->payload_len - 1);
    rig.counts[packet->type]++;
    if (rig.on_packet)
        rig.on_packet(packet->type, reader);
    return 0;
}

static struct far *far_create(bool is_client, const char *version) {
    struct far *end = calloc(1, sizeof *end);
    end->bytes = malloc(FAR_STREAM_BYTES);
    cr_assert_eq(transport_init(&end->transport, is_client, 0, &end->fake.base), 0);
    fake_kex_init(&end->fake, &end->transport.wire, is_client, true, 7, version);
    end->transport.on_packet = far_on_packet;
    return end;
}

static void far_destroy(struct far *end) {
    transport_deinit(&end->transport);
    fake_kex_deinit(&end->fake);
    free(end->bytes);
    free(end);
}

static int far_work(struct far *end) {
    size_t used = 0, need;
    int err = transport_input(&end->transport, end->bytes, end->len, &used, &need);
    end->len -= used;
    memmove(end->bytes, end->bytes + used, end->len);
    return err;
}

/* What `from` has to say, worked on by `to`. */
static size_t far_hand_over(struct far *from, struct far *to) {
    int n = transport_output(&from->transport, to->bytes + to->len, FAR_STREAM_BYTES - to->len);
    cr_assert_geq(n, 0);
    to->len += (size_t)n;
    size_t before = to->len;
    cr_assert_eq(far_work(to), 0);
    return before - to->len + (size_t)n;
}

static void rig_on_ending(struct session *session) {
    cr_assert(session == rig.session && !rig.ending && !rig.over && session->ending);
    rig.ending = true;
    if (rig.tell_ending)
        rig.tell_ending(session);
}

static void rig_on_ended(struct session *session, int err, const char *reason) {
    cr_assert(session == rig.session && rig.ending && !rig.over);
    rig.over = true;
    rig.end_err = err;
    snprintf(rig.end_reason, sizeof rig.end_reason, "%s", reason);
}

/* options: what differs from the least; far_version: its line, with CR LF. rig.session may be the caller's. */
static inline void session_rig_begin(enum io_backend backend, const struct session_options *options,
                                     const char *far_version) {
    if (!rig.session)
        rig.session = &rig.own_session;
    rig_init(&rig.shard, backend, 64);
    rig.near = far_create(!options->is_server, options->is_server ? "SSH-2.0-leatd_test\r\n" : "SSH-2.0-test\r\n");
    rig.far = far_create(options->is_server, far_version);
    while (far_hand_over(rig.near, rig.far) + far_hand_over(rig.far, rig.near) > 0)
        ;
    transport_authenticated(&rig.near->transport);
    transport_authenticated(&rig.far->transport);
    window_budget_init(&rig.budget, LIMIT_WINDOW_BUDGET_BYTES);
    if (rig.over_tcp)
        rig_tcp_pair(rig.wire_fds);
    else
        cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, rig.wire_fds), 0);
    struct session_options all = *options;
    all.fd = rig.wire_fds[0];
    all.transport = &rig.near->transport;
    all.budget = &rig.budget;
    all.on_ended = rig_on_ended;
    rig.tell_ending = options->on_ending;
    all.on_ending = rig_on_ending;
    cr_assert_eq(session_start(rig.session, &rig.shard, &all), 0);
}

/* The far end takes what there is for it; returns what its transport says. */
static inline int far_reads(void) {
    ssize_t n = read(rig.wire_fds[1], rig.far->bytes + rig.far->len, FAR_STREAM_BYTES - rig.far->len);
    if (n <= 0)
        return n == 0 ? ERR_CLOSED : 0;
    rig.far->len += (size_t)n;
    return far_work(rig.far);
}

static inline void rig_step(void) {
    rig_turn(&rig.shard, RIG_MS);
    (void)far_reads();
}

/* Both ends go on until the condition holds. */
#define RIG_GO_UNTIL(condition)                                                                                        \
    do {                                                                                                               \
        uint64_t rig_end_ns = io_clock_ns() + RIG_TIMEOUT_NS;                                                          \
        while (!(condition)) {                                                                                         \
            cr_assert(io_clock_ns() < rig_end_ns, "never became true: %s", #condition);                                \
            rig_step();                                                                                                \
        }                                                                                                              \
    } while (0)

static inline void session_rig_end(void) {
    session_end(rig.session, 0, "test over");
    RIG_GO_UNTIL(rig.over);
    cr_expect_eq(atomic_load(&rig.budget.used), 0, "window memory was not given back");
    close(rig.wire_fds[1]);
    shard_deinit(&rig.shard);
    far_destroy(rig.near);
    far_destroy(rig.far);
}

static inline void far_says_payload(const void *payload, size_t len) {
    static uint8_t packet[WIRE_HEADER_BYTES + FAR_PAYLOAD_MAX + WIRE_TRAILER_MAX];
    cr_assert_leq(len, FAR_PAYLOAD_MAX);
    memcpy(packet + WIRE_HEADER_BYTES, payload, len);
    int n = wire_seal(&rig.far->transport.wire, packet, (uint32_t)len);
    cr_assert_gt(n, 0);
    for (int done = 0; done < n;) {
        ssize_t sent = write(rig.wire_fds[1], packet + done, (size_t)(n - done));
        if (sent > 0)
            done += (int)sent;
        else
            rig_turn(&rig.shard, RIG_MS);
    }
}

/* fields: u uint32, s text, b boolean */
static inline void far_says(uint8_t type, const char *fields, ...) {
    static uint8_t payload[FAR_PAYLOAD_MAX];
    struct writer writer;
    va_list list;
    writer_init(&writer, payload, sizeof payload);
    writer_u8(&writer, type);
    va_start(list, fields);
    for (; *fields; fields++) {
        if (*fields == 'u')
            writer_u32(&writer, va_arg(list, uint32_t));
        else if (*fields == 's')
            writer_text(&writer, va_arg(list, const char *));
        else if (*fields == 'b')
            writer_bool(&writer, va_arg(list, int) != 0);
        else
            abort();
    }
    va_end(list);
    cr_assert(writer_ok(&writer));
    far_says_payload(payload, writer_len(&writer));
}

static inline void far_sends_data(uint32_t channel, const void *data, uint32_t len) {
    static uint8_t payload[FAR_PAYLOAD_MAX];
    payload[0] = MSG_CHANNEL_DATA;
    codec_put_u32(payload + 1, channel);
    codec_put_u32(payload + 5, len);
    memcpy(payload + 9, data, len);
    far_says_payload(payload, 9 + len);
}

static inline const char *reader_name(struct reader *reader) {
    static char names[4][256];
    static unsigned turn;
    char *name = names[turn++ % 4];
    struct bytes bytes = reader_string(reader);
    snprintf(name, sizeof names[0], "%.*s", (int)bytes.len, (const char *)bytes.at);
    return name;
}
