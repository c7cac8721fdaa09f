#pragma once
/* One SSH transport: a wire, and who speaks messages 1–79 on it (libssh on its end of a socketpair; in the simulation a
 * double). Byte strings in, byte strings out; no TCP socket, no clock. Packets 80–127 of the peer go to on_packet.
 *
 *   peer bytes ─► transport_input ─► wire_open ─┬─ 80…127 ─► on_packet (in place)
 *                                               └─ 1…79  ─► speaker->feed ─┐
 *   own bytes  ◄─ transport_output ◄─ wire_seal ◄──── speaker->take ◄──────┘
 *
 * One thread at a time; a session is handed from the handshake's thread to its shard whole. */
#include "engine/error.h"
#include "ssh/wire.h"

/* Who owns messages 1–79. Raw bytes as on the pair: the version line, then plaintext packets, followed by 16 zero bytes
 * of tag once that direction is sealed. */
struct speaker;
struct speaker_ops {
    /* Takes bytes of the peer; all of them, or an error. */
    int (*feed)(struct speaker *speaker, const uint8_t *bytes, size_t len);
    /* Lets the speaker work on what it was fed. Must not block. ERR_KEX, ERR_CLOSED … when it gave up. */
    int (*pump)(struct speaker *speaker);
    /* Copies out at most cap bytes that the speaker wants sent; returns the number (0: none now) or an error. */
    int (*take)(struct speaker *speaker, uint8_t *bytes, size_t cap);
    /* Asks it to start a rekey now; ERR_AGAIN: too soon after the last, ask again later. */
    int (*rekey)(struct speaker *speaker);
};
struct speaker {
    const struct speaker_ops *ops;
};

struct transport {
    struct wire wire;
    struct speaker *speaker; /* borrowed */
    bool peer_version_seen, own_version_sent;
    unsigned version_lines;
    char peer_version[256]; /* "SSH-2.0-OpenSSH_9.2p1 …" without CR LF; unescaped */
    /* Taken from the speaker: [sent, scanned) are its version line or whole packets, unpadded of their dummy tags; from
     * scanned on it is as it came. */
    uint8_t *from_speaker;
    size_t from_sent, from_scanned, from_len, from_cap;
    bool from_version_seen;      /* the scan is past the version line */
    bool from_tagged, to_tagged; /* the speaker's packets, those it is fed, carry dummy tags */
    uint32_t last_fed_seq;       /* for UNIMPLEMENTED (3), which carries a sequence number */
    int failed;                  /* what ended it */
    char disconnect_reason[256]; /* the peer's DISCONNECT (1), escaped; "" when none came */
    /* Payload of 80–127, valid during the call; returns 0; ERR_UNSUPPORTED: a message number
     * that is nobody's, which the speaker answers; or an error that ends the transport. */
    int (*on_packet)(void *arg, const struct packet *packet);
    /* NULL, or looks at every packet of 1–79 before the speaker is fed it. true: it is taken, the speaker does not see
     * it, and transport_input stops behind it. For a server's authentication. */
    bool (*on_speech)(void *arg, const struct packet *packet);
    void *arg;
};

MUST_USE int transport_init(struct transport *transport, bool is_client, uint64_t rekey_bytes, struct speaker *speaker);
void transport_deinit(struct transport *transport);

/* Works through data[0..len): whole packets are opened in place and dispatched, the speaker is fed and pumped. Sets
 * *used to the bytes done with; the rest is a partial packet, or waits: for the speaker's keys, for transport_output to
 * take what the speaker has said, or, right after a client's USERAUTH_SUCCESS, for transport_authenticated, or for an
 * answer to what on_speech took. Call again after those. *need: bytes the partial packet needs in all (1 when unknown).
 * Errors as wire_open and the speaker; ERR_CLOSED after the peer's DISCONNECT. The transport is dead then;
 * transport_output still gives what was said before.
 */
MUST_USE int transport_input(struct transport *transport, uint8_t *data, size_t len, size_t *used, size_t *need);

/* Feeds the speaker a packet that on_speech took (raw as it was there), and lets it work. Errors as transport_input. */
MUST_USE int transport_feed(struct transport *transport, const uint8_t *raw, uint32_t raw_len);

/* Takes what the speaker has to say, sealed and in wire order, into out[0..cap) (cap ≥ TRANSPORT_OUTPUT_BYTES takes any
 * packet; what does not fit waits). Returns the bytes written; call until 0. Must be called after each transport_input
 * and whenever the speaker was used directly, before own packets of 80+ are sealed. Errors come when nothing is left.
 */
#define TRANSPORT_OUTPUT_BYTES 36864u
MUST_USE int transport_output(struct transport *transport, uint8_t *out, size_t cap);

static inline bool transport_gate_open(const struct transport *t) {
    return wire_gate_open(&t->wire);
}
/* The speaker reports success: packets 80+ are accepted and may be sent from now on; a server passes over what a client
 * still says of authentication (5, 50–79). */
void transport_authenticated(struct transport *transport);

enum peer_kind { PEER_OTHER, PEER_OPENSSH, PEER_LEATD, PEER_DROPBEAR };
enum peer_kind transport_peer(const struct transport *transport);
