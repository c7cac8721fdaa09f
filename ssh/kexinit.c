#include "ssh/kexinit.h"
#include "ssh/algorithms.h"
#include "ssh/messages.h"
#include <string.h>

#define COOKIE_BYTES 16u
#define AES128_GCM "aes128-gcm@openssh.com"
#define AES256_GCM "aes256-gcm@openssh.com"
#define CHACHA20 "chacha20-poly1305@openssh.com"

int kexinit_parse(const uint8_t *payload, uint32_t len, struct kexinit *kexinit) {
    struct reader reader;
    reader_init(&reader, payload, len);
    uint8_t type = reader_u8(&reader);
    for (unsigned i = 0; i < COOKIE_BYTES; i++)
        (void)reader_u8(&reader);
    for (unsigned i = 0; i < KEXINIT_LISTS; i++)
        kexinit->lists[i] = reader_string(&reader);
    (void)reader_bool(&reader); /* first_kex_packet_follows */
    (void)reader_u32(&reader);  /* reserved */
    return type == MSG_KEXINIT && reader_done(&reader) ? 0 : ERR_PROTOCOL;
}

bool name_list_has(struct bytes list, const char *name) {
    for (uint32_t start = 0; start < list.len;) {
        const uint8_t *comma = memchr(list.at + start, ',', list.len - start);
        uint32_t end = comma ? (uint32_t)(comma - list.at) : list.len;
        if (bytes_equal((struct bytes){.at = list.at + start, .len = end - start}, name))
            return true;
        start = end + 1;
    }
    return false;
}

const char *kexinit_offer_ciphers(struct bytes theirs, bool fast_aes) {
    bool aes = name_list_has(theirs, AES128_GCM) || name_list_has(theirs, AES256_GCM);
    bool chacha = name_list_has(theirs, CHACHA20);
    if (aes && (fast_aes || !chacha))
        return AES128_GCM "," AES256_GCM;
    return chacha ? CHACHA20 : algorithms_ciphers;
}
