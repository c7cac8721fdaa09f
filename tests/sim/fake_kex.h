#pragma once
/* A double of libssh for the simulation (ssh/transport.h: struct speaker): version line, key exchanges, keys handed to
 * the wire when its own NEWKEYS is said, dummy tags from then on. Two of them with the same seed derive the same keys
 * and ciphers, anew for every epoch and direction.
 *
 *   client  KEXINIT ⇄ KEXINIT  server       either may begin, also both at once
 *           30 ─────────────►
 *              ◄───── 31, NEWKEYS           both directions' keys are there before NEWKEYS is taken
 *           NEWKEYS ────────►
 *
 * It answers message 19 with UNIMPLEMENTED, as libssh does with what it does not know, and passes over the rest. */
#include "ssh/transport.h"

struct fake_bytes {
    uint8_t *at; /* of [from, len) the first is the next */
    size_t from, len, cap;
};

struct fake_kex {
    struct speaker base;
    struct wire *wire;
    uint64_t seed;   /* of the pair: what keys and ciphers come from */
    uint64_t random; /* its own: how much it takes and gives at once */
    bool is_client, offers_strict, peer_offers_strict;
    bool version_seen, in_tagged, out_tagged;
    bool kexinit_said; /* ours, of the exchange that is going on */
    unsigned epochs;
    unsigned asked, answered; /* messages 19 said, UNIMPLEMENTED heard */
    bool asleep;              /* neither works nor says anything, until somebody clears this and wakes the session */
    struct fake_bytes in, out;
};

/* version: its line, with CR LF. */
void fake_kex_init(struct fake_kex *fake, struct wire *wire, bool is_client, bool offers_strict, uint64_t seed,
                   const char *version);
void fake_kex_deinit(struct fake_kex *fake);
/* It and its transport could do without a word of each other now. */
bool fake_kex_settled(const struct fake_kex *fake);
/* Says `count` messages of no consequence: IGNORE; 19, which the peer's double answers; or a client's of
 * authentication, which a server passes over once the client is in. Not during an exchange. */
enum fake_chatter { FAKE_IGNORE, FAKE_UNKNOWN, FAKE_USERAUTH };
void fake_kex_chatter(struct fake_kex *fake, unsigned count, enum fake_chatter what);
