#pragma once
/* Reads a peer's KEXINIT (RFC 4253 §7.1), and what a server makes of it: the client's order of ciphers decides, and
 * stock clients name chacha20 first, so a server that wants the CPU's fast cipher must not offer the slow one. Pure. */
#include "engine/error.h"
#include "ssh/codec.h"

enum kexinit_list {
    KEXINIT_KEX,
    KEXINIT_HOST_KEYS,
    KEXINIT_CIPHERS_C_S,
    KEXINIT_CIPHERS_S_C,
    KEXINIT_MACS_C_S,
    KEXINIT_MACS_S_C,
    KEXINIT_COMPRESSION_C_S,
    KEXINIT_COMPRESSION_S_C,
    KEXINIT_LANGUAGES_C_S,
    KEXINIT_LANGUAGES_S_C,
    KEXINIT_LISTS
};
struct kexinit {
    struct bytes lists[KEXINIT_LISTS]; /* name-lists, into the payload */
};
/* payload: from the message number on. ERR_PROTOCOL: not a whole KEXINIT. */
MUST_USE int kexinit_parse(const uint8_t *payload, uint32_t len, struct kexinit *kexinit);

/* One name of a comma-separated list, exactly. */
bool name_list_has(struct bytes list, const char *name);

/* The ciphers to offer for one direction to a client that offers `theirs`: AES-GCM alone where the CPU has instructions
 * for it and the client has it; chacha20 alone the other way round; everything to a client that has neither, so that it
 * can say what it missed. Static text. */
const char *kexinit_offer_ciphers(struct bytes theirs, bool fast_aes);
