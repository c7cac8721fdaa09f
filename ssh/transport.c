#include "ssh/transport.h"
#include "engine/check.h"
#include "engine/limits.h"
#include "engine/log.h"
#include "ssh/codec.h"
#include "ssh/messages.h"
#include <stdlib.h>
#include <string.h>

/* The largest packet that RFC 4253 §6.1 lets messages 1–79 count on; what the speaker says stays below. */
#define SPEAKER_PACKET_MAX 35000u
/* While more than this waits to be sent, nothing more is read: a peer can make the speaker answer every packet. */
#define BACKLOG_BYTES 65536u
#define BACKLOG_MAX (4u << 20)
#define FROM_START_BYTES 8192u

_Static_assert(TRANSPORT_OUTPUT_BYTES >= SPEAKER_PACKET_MAX + WIRE_HEADER_BYTES + WIRE_TRAILER_MAX, "one packet fits");
_Static_assert(LIMIT_VERSION_LINE_BYTES < sizeof((struct transport *)0)->peer_version, "a version line fits");

static const uint8_t dummy_tag[AEAD_TAG_BYTES];

int transport_init(struct transport *transport, bool is_client, uint64_t rekey_bytes, struct speaker *speaker) {
    *transport = (struct transport){.speaker = speaker};
    wire_init(&transport->wire, is_client, rekey_bytes);
    return 0;
}

/* Passwords pass through this buffer. */
static void from_free(struct transport *t) {
    if (t->from_speaker)
        explicit_bzero(t->from_speaker, t->from_cap);
    free(t->from_speaker);
    t->from_speaker = NULL;
    t->from_sent = t->from_scanned = t->from_len = t->from_cap = 0;
}

static void from_compact(struct transport *t) {
    memmove(t->from_speaker, t->from_speaker + t->from_sent, t->from_len - t->from_sent);
    t->from_len -= t->from_sent;
    t->from_scanned -= t->from_sent;
    t->from_sent = 0;
}

void transport_deinit(struct transport *transport) {
    from_free(transport);
    wire_deinit(&transport->wire);
}

static int fail(struct transport *t, int err) {
    if (!t->failed)
        t->failed = err;
    return t->failed;
}

/* The speaker gives up in one way only, be it because the peer said goodbye. */
static int fail_speaker(struct transport *t, int err) {
    return fail(t, err == ERR_KEX && t->disconnect_reason[0] ? ERR_CLOSED : err);
}

/* ---- from the speaker ---- */

static int from_grow(struct transport *t, size_t room) {
    size_t cap = t->from_cap ? t->from_cap : FROM_START_BYTES;
    while (cap - t->from_len < room)
        cap *= 2;
    if (cap == t->from_cap)
        return 0;
    uint8_t *larger = cap <= BACKLOG_MAX ? malloc(cap) : NULL;
    if (!larger)
        return cap <= BACKLOG_MAX ? ERR_NOMEM : ERR_LIMIT;
    if (t->from_speaker) {
        memcpy(larger, t->from_speaker, t->from_len);
        explicit_bzero(t->from_speaker, t->from_cap);
        free(t->from_speaker);
    }
    t->from_speaker = larger;
    t->from_cap = cap;
    return 0;
}

/* Takes some of what the speaker has for the peer. Returns the number of bytes. */
static int from_take(struct transport *t) {
    uint8_t chunk[FROM_START_BYTES];
    int n = t->speaker->ops->take(t->speaker, chunk, sizeof chunk);
    if (n <= 0)
        return n;
    int r = from_grow(t, (size_t)n);
    if (!r) {
        memcpy(t->from_speaker + t->from_len, chunk, (size_t)n);
        t->from_len += (size_t)n;
    }
    explicit_bzero(chunk, (size_t)n);
    return r ? r : n;
}

/* One whole packet at `at`: 0 while it is not whole, else its bytes without the tag. */
static int scan_packet(struct transport *t, uint8_t *at, size_t len) {
    if (len < WIRE_HEADER_BYTES)
        return 0;
    uint32_t packet_length = codec_get_u32(at), padding = at[AEAD_LENGTH_BYTES];
    if (packet_length > SPEAKER_PACKET_MAX || padding + 2 > packet_length) {
        log_error("libssh sent a packet of impossible length");
        return ERR_KEX;
    }
    size_t plain = AEAD_LENGTH_BYTES + packet_length, tag = t->from_tagged ? AEAD_TAG_BYTES : 0;
    if (len < plain + tag)
        return 0;
    uint8_t *payload = at + WIRE_HEADER_BYTES;
    if (payload[0] >= MSG_CONNECTION_FIRST && payload[0] <= MSG_CONNECTION_LAST) {
        log_error("libssh sent a message of the connection protocol (%u)", payload[0]);
        return ERR_KEX;
    }
    /* The speaker has numbered the packets that it was fed; the peer counts all it has sent. */
    if (payload[0] == MSG_UNIMPLEMENTED && packet_length - 1 - padding >= 5)
        codec_put_u32(payload + 1, t->last_fed_seq);
    if (payload[0] == MSG_NEWKEYS)
        t->from_tagged = true;
    memmove(at + plain, at + plain + tag, len - plain - tag);
    t->from_len -= tag;
    return (int)plain;
}

static int scan_version(struct transport *t, const uint8_t *at, size_t len) {
    const uint8_t *end = len ? memchr(at, '\n', len) : NULL;
    if (!end)
        return len > LIMIT_VERSION_LINE_BYTES ? ERR_KEX : 0;
    t->from_version_seen = true;
    return (int)(end + 1 - at);
}

static int from_scan(struct transport *t) {
    while (t->from_scanned < t->from_len) {
        uint8_t *at = t->from_speaker + t->from_scanned;
        size_t len = t->from_len - t->from_scanned;
        int n = t->from_version_seen ? scan_packet(t, at, len) : scan_version(t, at, len);
        if (n <= 0)
            return n;
        t->from_scanned += (size_t)n;
    }
    return 0;
}

/* Lets the speaker work until it has no more to say. Right after each packet that it was fed, so that what it says in
 * answer to it is known to be that. */
static int collect(struct transport *t) {
    int pumped, n, taken;
    do {
        taken = 0;
        pumped = t->speaker->ops->pump(t->speaker);
        while ((n = from_take(t)) > 0)
            taken += n;
        if (n < 0)
            return fail(t, n);
    } while (taken > 0 && !pumped);
    int r = from_scan(t);
    if (r)
        return fail(t, r);
    return pumped ? fail_speaker(t, pumped) : 0;
}

/* ---- to the speaker ---- */

static int feed(struct transport *t, const uint8_t *bytes, size_t len) {
    int r = t->speaker->ops->feed(t->speaker, bytes, len);
    return r ? fail_speaker(t, r) : 0;
}

/* A server may send lines of any kind before its version (RFC 4253 §4.2), a client may not. */
static int version_line(struct transport *t, const uint8_t *line, size_t len) {
    bool is_version = len >= 4 && memcmp(line, "SSH-", 4) == 0;
    if (len > LIMIT_VERSION_LINE_BYTES || memchr(line, 0, len))
        return ERR_PROTOCOL;
    if (!is_version)
        return t->wire.is_client && ++t->version_lines <= LIMIT_VERSION_LINES ? 0 : ERR_PROTOCOL;
    size_t text = len - 1;
    while (text > 0 && line[text - 1] == '\r')
        text--;
    memcpy(t->peer_version, line, text);
    t->peer_version[text] = '\0';
    t->peer_version_seen = true;
    return 0;
}

/* Returns the bytes of the first line when it is whole, 0 when it is not. */
static int input_version(struct transport *t, const uint8_t *data, size_t len, size_t *need) {
    const uint8_t *end = memchr(data, '\n', len);
    *need = len + 1;
    if (!end)
        return len >= LIMIT_VERSION_LINE_BYTES ? fail(t, ERR_PROTOCOL) : 0;
    size_t line_len = (size_t)(end + 1 - data);
    int r = version_line(t, data, line_len);
    if (r)
        return fail(t, r);
    r = feed(t, data, line_len);
    if (!r)
        r = collect(t);
    return r ? r : (int)line_len;
}

/* RFC 4253 §11.1: type, reason code, description, language tag. */
static void note_disconnect(struct transport *t, const struct packet *packet) {
    const uint8_t *payload = packet->payload;
    uint32_t room = packet->payload_len < 9 ? 0 : packet->payload_len - 9;
    uint32_t len = packet->payload_len < 9 ? 0 : codec_get_u32(payload + 5);
    if (len > room)
        len = room;
    if (len)
        log_safe(t->disconnect_reason, sizeof t->disconnect_reason, payload + 9, len);
    else
        strcpy(t->disconnect_reason, "no reason given");
}

static int feed_packet(struct transport *t, const uint8_t *raw, uint32_t raw_len) {
    int r = feed(t, raw, raw_len);
    return !r && t->to_tagged ? feed(t, dummy_tag, sizeof dummy_tag) : r;
}

int transport_feed(struct transport *transport, const uint8_t *raw, uint32_t raw_len) {
    if (transport->failed)
        return transport->failed;
    int r = feed_packet(transport, raw, raw_len);
    return r ? r : collect(transport);
}

static int input_speaker(struct transport *t, const struct packet *packet) {
    t->last_fed_seq = packet->seq;
    if (packet->type == MSG_DISCONNECT)
        note_disconnect(t, packet);
    int r = feed_packet(t, packet->raw, packet->raw_len);
    if (packet->type == MSG_NEWKEYS)
        t->to_tagged = true;
    if (!r)
        r = collect(t);
    return r || packet->type != MSG_DISCONNECT ? r : fail(t, ERR_CLOSED);
}

/* RFC 4252 §5.3: what a client still asks for once it is in is passed over. libssh would end the session, and keep
 * requests for a service in a list without an end. */
static bool came_late(const struct transport *t, uint8_t type) {
    bool is_late = type == MSG_SERVICE_REQUEST || (type >= MSG_USERAUTH_FIRST && type <= MSG_USERAUTH_LAST);
    return is_late && !t->wire.is_client && t->wire.authenticated;
}

static int dispatch(struct transport *t, const struct packet *packet, bool *taken) {
    *taken = false;
    if (came_late(t, packet->type))
        return 0;
    if (packet->type < MSG_CONNECTION_FIRST || packet->type > MSG_CONNECTION_LAST) {
        *taken = t->on_speech && t->on_speech(t->arg, packet);
        return *taken ? 0 : input_speaker(t, packet);
    }
    if (!t->wire.authenticated)
        return fail(t, ERR_PROTOCOL);
    int r = t->on_packet(t->arg, packet);
    if (r == ERR_UNSUPPORTED) /* the speaker answers UNIMPLEMENTED (RFC 4253 §11.4) */
        return input_speaker(t, packet);
    return r ? fail(t, r) : 0;
}

/* Returns the bytes of the first packet when it is dealt with, 0 when it has to wait. */
static int input_packet(struct transport *t, uint8_t *data, size_t len, size_t *need, bool *pause) {
    struct packet packet;
    size_t n = 0;
    int r = wire_open(&t->wire, data, len, &packet, &n);
    if (r == ERR_AGAIN)
        return 0;
    if (r < 0)
        return fail(t, r);
    if (r == 0) {
        *need = n;
        return 0;
    }
    r = dispatch(t, &packet, pause);
    /* What follows is the connection protocol's, and only the speaker's owner can say that it may begin. */
    *pause |= packet.type == MSG_USERAUTH_SUCCESS && t->wire.is_client && !t->wire.authenticated;
    return r ? r : (int)n;
}

int transport_input(struct transport *transport, uint8_t *data, size_t len, size_t *used, size_t *need) {
    bool pause = false;
    *used = 0;
    *need = 1;
    if (transport->failed)
        return transport->failed;
    while (*used < len && !pause) {
        *need = 1;
        if (transport->from_len - transport->from_sent > BACKLOG_BYTES)
            return 0;
        uint8_t *at = data + *used;
        size_t left = len - *used;
        int n = transport->peer_version_seen ? input_packet(transport, at, left, need, &pause)
                                             : input_version(transport, at, left, need);
        if (n < 0)
            return n;
        if (n == 0)
            return 0;
        *used += (size_t)n;
    }
    *need = 1;
    return 0;
}

/* ---- to the peer ---- */

static int output_version(struct transport *t, const uint8_t *from, size_t len, uint8_t *out, size_t cap) {
    size_t line = (size_t)((const uint8_t *)memchr(from, '\n', len) + 1 - from);
    if (cap < line)
        return 0;
    memcpy(out, from, line);
    t->own_version_sent = true;
    t->from_sent += line;
    return (int)line;
}

/* Padding and sealing are the wire's, so only the payload is taken. */
static int output_packet(struct transport *t, const uint8_t *from, uint8_t *out, size_t cap) {
    uint32_t packet_length = codec_get_u32(from);
    uint32_t payload_len = packet_length - 1 - from[AEAD_LENGTH_BYTES];
    if (cap < WIRE_HEADER_BYTES + payload_len + WIRE_TRAILER_MAX)
        return 0;
    memcpy(out + WIRE_HEADER_BYTES, from + WIRE_HEADER_BYTES, payload_len);
    int n = wire_seal(&t->wire, out, payload_len);
    if (n == ERR_AGAIN) {
        log_error("libssh finished a key exchange without handing over its keys");
        return ERR_KEX;
    }
    if (n > 0)
        t->from_sent += AEAD_LENGTH_BYTES + packet_length;
    return n;
}

int transport_output(struct transport *transport, uint8_t *out, size_t cap) {
    struct transport *t = transport;
    size_t written = 0;
    if (!t->failed)
        (void)collect(t);
    while (t->from_sent < t->from_scanned) {
        const uint8_t *from = t->from_speaker + t->from_sent;
        size_t len = t->from_scanned - t->from_sent;
        int n = t->own_version_sent ? output_packet(t, from, out + written, cap - written)
                                    : output_version(t, from, len, out + written, cap - written);
        if (n < 0)
            return fail(t, n);
        if (n == 0)
            break;
        written += (size_t)n;
    }
    if (t->from_sent == t->from_len)
        from_free(t);
    else
        from_compact(t);
    return written || !t->failed ? (int)written : t->failed;
}

void transport_authenticated(struct transport *transport) {
    transport->wire.authenticated = true;
}

enum peer_kind transport_peer(const struct transport *transport) {
    static const struct {
        const char *word;
        enum peer_kind kind;
    } kinds[] = {{"OpenSSH", PEER_OPENSSH}, {"leatd", PEER_LEATD}, {"dropbear", PEER_DROPBEAR}};
    const char *software = transport->peer_version;
    if (strncmp(software, "SSH-", 4) == 0 && (software = strchr(software + 4, '-')) != NULL)
        for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++)
            if (strncmp(software + 1, kinds[i].word, strlen(kinds[i].word)) == 0)
                return kinds[i].kind;
    return PEER_OTHER;
}
