#include "ssh/kexinit.h"
#include "ssh/messages.h"
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define GCM128 "aes128-gcm@openssh.com"
#define GCM256 "aes256-gcm@openssh.com"
#define CHACHA "chacha20-poly1305@openssh.com"

static uint32_t make(uint8_t *payload, uint32_t cap) {
    struct writer writer;
    char list[24];
    writer_init(&writer, payload, cap);
    writer_u8(&writer, MSG_KEXINIT);
    writer_raw(&writer, "0123456789abcdef", 16);
    for (int i = 0; i < KEXINIT_LISTS; i++) {
        snprintf(list, sizeof list, "list%d,x", i);
        writer_text(&writer, i == KEXINIT_LANGUAGES_C_S ? "" : list);
    }
    writer_bool(&writer, true);
    writer_u32(&writer, 0);
    cr_assert(writer_ok(&writer));
    return writer_len(&writer);
}

/* On the heap, so that the sanitizer sees every byte past the end. */
static int parse(const uint8_t *payload, uint32_t len, struct kexinit *kexinit) {
    uint8_t *copy = malloc(len ? len : 1);
    memcpy(copy, payload, len);
    int err = kexinit_parse(copy, len, kexinit);
    for (int i = 0; !err && i < KEXINIT_LISTS; i++)
        cr_assert(kexinit->lists[i].at >= copy && kexinit->lists[i].at + kexinit->lists[i].len <= copy + len);
    free(copy);
    return err;
}

Test(kexinit, parses) {
    uint8_t payload[512];
    struct kexinit kexinit;
    uint32_t len = make(payload, sizeof payload);
    cr_assert_eq(kexinit_parse(payload, len, &kexinit), 0);
    for (int i = 0; i < KEXINIT_LISTS; i++) {
        char list[24];
        snprintf(list, sizeof list, "list%d,x", i);
        cr_assert(bytes_equal(kexinit.lists[i], i == KEXINIT_LANGUAGES_C_S ? "" : list));
    }
}

Test(kexinit, refuses_all_but_the_whole) {
    uint8_t payload[512];
    struct kexinit kexinit;
    uint32_t len = make(payload, sizeof payload);
    for (uint32_t cut = 0; cut < len; cut++)
        cr_assert_eq(parse(payload, cut, &kexinit), ERR_PROTOCOL);
    cr_assert_eq(parse(payload, len, &kexinit), 0);
    payload[len] = 0;
    cr_assert_eq(parse(payload, len + 1, &kexinit), ERR_PROTOCOL);
    payload[0] = MSG_NEWKEYS;
    cr_assert_eq(parse(payload, len, &kexinit), ERR_PROTOCOL);
}

Test(kexinit, refuses_lengths_that_lie) {
    uint8_t payload[512];
    struct kexinit kexinit;
    for (unsigned bit = 0; bit < 32; bit++) {
        uint32_t len = make(payload, sizeof payload);
        codec_put_u32(payload + 17, codec_get_u32(payload + 17) ^ (UINT32_C(1) << bit));
        cr_assert_eq(parse(payload, len, &kexinit), ERR_PROTOCOL);
    }
}

static struct bytes list(const char *text) {
    return (struct bytes){.at = (const uint8_t *)text, .len = (uint32_t)strlen(text)};
}

Test(kexinit, names_are_whole) {
    cr_assert(name_list_has(list("a"), "a") && name_list_has(list("b,a"), "a") && name_list_has(list("a,b"), "a"));
    cr_assert(name_list_has(list("b,a,c"), "a") && name_list_has(list(",a,"), "a"));
    cr_assert(!name_list_has(list(""), "a") && !name_list_has(list(","), "a") && !name_list_has(list("aa"), "a"));
    cr_assert(!name_list_has(list("aa,ab"), "a") && !name_list_has(list("b,c"), "a"));
}

Test(kexinit, offers_what_is_fast) {
    const char *stock = CHACHA ",aes128-ctr," GCM128 "," GCM256, *gcm = GCM128 "," GCM256;
    const char *all = GCM128 "," GCM256 "," CHACHA;
    const struct {
        const char *theirs, *with_aes, *without;
    } cases[] = {{stock, gcm, CHACHA},
                 {GCM256, gcm, gcm},
                 {CHACHA, CHACHA, CHACHA},
                 {"aes128-ctr," CHACHA, CHACHA, CHACHA},
                 {GCM128 "," CHACHA, gcm, CHACHA},
                 {"aes128-ctr", all, all},
                 {"", all, all}};
    for (unsigned i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        cr_assert_str_eq(kexinit_offer_ciphers(list(cases[i].theirs), true), cases[i].with_aes);
        cr_assert_str_eq(kexinit_offer_ciphers(list(cases[i].theirs), false), cases[i].without);
    }
}
