#include "ssh/address_list.h"
#include "tests/unit/seed.h"
#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <net/if.h>
#include <netinet/in.h>
#include <string.h>

#define YES PATTERN_MATCHED
#define NO PATTERN_NONE
#define NOT PATTERN_NEGATED

static struct sockaddr_storage address_of(const char *text) {
    struct sockaddr_storage addr = {0};
    struct sockaddr_in *v4 = (struct sockaddr_in *)(void *)&addr;
    struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)(void *)&addr;
    if (inet_pton(AF_INET, text, &v4->sin_addr) == 1) {
        v4->sin_family = AF_INET;
        return addr;
    }
    cr_assert_eq(inet_pton(AF_INET6, text, &v6->sin6_addr), 1, "%s", text);
    v6->sin6_family = AF_INET6;
    return addr;
}

static int match(const char *address, const char *host, const char *patterns, enum pattern_result *result) {
    struct sockaddr_storage addr;
    const char *why = NULL;
    if (address)
        addr = address_of(address);
    int err = address_list_match(address ? (struct sockaddr *)&addr : NULL, host, patterns, result, &why);
    cr_assert(err == 0 || (err == ERR_CONFIG && why && *why));
    return err;
}

struct row {
    const char *address, *host, *patterns;
    enum pattern_result result;
};

static void check_rows(const struct row *rows, size_t count) {
    for (size_t i = 0; i < count; i++) {
        const struct row *row = &rows[i];
        enum pattern_result result;
        const char *address = row->address ? row->address : "-", *host = row->host ? row->host : "-";
        cr_assert_eq(match(row->address, row->host, row->patterns, &result), 0, "%s %s %s", address, host,
                     row->patterns);
        cr_assert_eq(result, row->result, "%s %s against %s: %d", address, host, row->patterns, result);
    }
}
#define CHECK_ROWS(rows) check_rows(rows, sizeof(rows) / sizeof(rows)[0])

/* What sshd -T -C says of Match Address, where it knows these spellings. */
Test(address_list, addresses_alone) {
    const struct row rows[] = {
        {"192.0.2.9", NULL, "192.0.2.9", YES},
        {"192.0.2.9", NULL, "192.0.2.10", NO},
        {"192.0.2.9", NULL, "192.0.2.0/24", YES},
        {"192.0.3.9", NULL, "192.0.2.0/24", NO},
        {"192.0.2.9", NULL, "192.0.2.9/32", YES},
        {"192.0.2.9", NULL, "192.0.2.8/31", YES},
        {"192.0.2.10", NULL, "192.0.2.8/31", NO},
        {"127.255.255.255", NULL, "0.0.0.0/1", YES},
        {"128.0.0.0", NULL, "0.0.0.0/1", NO},
        {"255.255.255.255", NULL, "255.255.255.254/31", YES},
        {"192.0.2.9", NULL, "0.0.0.0/0", YES},
        {"192.0.2.9", NULL, "::/0", NO},
        {"192.0.2.9", NULL, "192.0.2.*", YES},
        {"192.0.2.9", NULL, "192.0.?.9", YES},
        {"192.0.2.9", NULL, "1?2.0.2.9", YES},
        {"192.0.2.9", NULL, "*/24", NO},
        {"192.0.2.9", NULL, "*", YES},
        {"192.0.2.9", NULL, "relay.example.com", NO},
        {"10.0.0.1", NULL, "10.1", YES},
        {"0.0.0.10", NULL, "10", YES},
        {"10.1.2.3", NULL, "10.0.0.0/08", YES},
        {"2001:db8::1", NULL, "2001:db8::1", YES},
        {"2001:db8::1", NULL, "2001:DB8:0::0:1", YES},
        {"2001:db8::1", NULL, "2001:db8::/32", YES},
        {"2001:db9::1", NULL, "2001:db8::/32", NO},
        {"2001:db8:8000::", NULL, "2001:db8::/33", NO},
        {"2001:db8:7fff::", NULL, "2001:db8::/33", YES},
        {"2001:db8::1", NULL, "2001:db8::1/128", YES},
        {"2001:db8::1", NULL, "::/0", YES},
        {"2001:db8::1", NULL, "0.0.0.0/0", NO},
        {"2001:db8::1", NULL, "2001:db8:*", YES},
        {"2001:db8::1", NULL, "*:*", YES},
    };
    CHECK_ROWS(rows);
}

Test(address_list, one_negated_match_outweighs_the_others_wherever_it_stands) {
    const struct row rows[] = {
        {"192.0.2.9", NULL, "!192.0.2.9", NOT},
        {"192.0.2.9", NULL, "!192.0.2.9,192.0.2.0/24", NOT},
        {"192.0.2.9", NULL, "192.0.2.0/24,!192.0.2.9", NOT},
        {"192.0.2.8", NULL, "192.0.2.0/24,!192.0.2.9", YES},
        {"192.0.2.9", NULL, "!192.0.2.*,192.0.2.9", NOT},
        {"192.0.2.9", NULL, "192.0.2.9,!*", NOT},
        {"192.0.2.9", NULL, "!10.0.0.0/8", NO},
        {"192.0.2.9", NULL, "!10.0.0.0/8,*", YES},
        {"10.9.9.9", NULL, "!10.0.0.0/8,*", NOT},
        {"10.9.9.9", NULL, "0.0.0.0/0,!10.0.0.0/8,10.9.9.9", NOT},
    };
    CHECK_ROWS(rows);
}

Test(address_list, names_beside_addresses) {
    const struct row rows[] = {
        {"192.0.2.9", "a.example.com", "*.example.com", YES},
        {"192.0.2.9", "A.Example.COM", "*.example.com", YES},
        {"192.0.2.9", "a.example.com", "A.EXAMPLE.com", YES},
        {"192.0.2.9", "a.example.org", "*.example.com", NO},
        {"192.0.2.9", "a.example.org", "*.example.com,192.0.2.0/24", YES},
        {"192.0.2.9", "a.example.com", "!192.0.2.9,*.example.com", NOT},
        {"192.0.2.9", "a.example.com", "192.0.2.9,!a.*", NOT},
        {"192.0.2.9", "192.0.2.9", "192.0.2.9", YES},
        {"192.0.2.9", "192.0.2.9", "!192.0.2.0/24,*", NOT},
        {NULL, "a.example.com", "*.example.com", YES},
        {NULL, "a.example.com", "*.example.com,!a.*", NOT},
        {NULL, "192.0.2.9", "192.0.2.0/24", NO}, /* a name, for all it looks like */
        {NULL, "192.0.2.9", "192.0.2.*", YES},
        {NULL, "a", "10.0.0.0/33,,a", YES}, /* Match Host knows no masks */
        {NULL, NULL, "*,10.0.0.0/8", NO},
    };
    CHECK_ROWS(rows);
}

Test(address_list, ipv4_mapped_into_ipv6_counts_as_ipv4) {
    const struct row rows[] = {
        {"::ffff:192.0.2.9", NULL, "192.0.2.9", YES},    {"::ffff:192.0.2.9", NULL, "192.0.2.0/24", YES},
        {"::ffff:192.0.2.9", NULL, "192.0.2.*", YES},    {"::ffff:192.0.2.9", NULL, "!192.0.2.0/24,*", NOT},
        {"::ffff:192.0.2.9", NULL, "::/0", NO},          {"::ffff:192.0.2.9", NULL, "::ffff:*", NO},
        {"::fffe:192.0.2.9", NULL, "192.0.2.9", NO},     {"::192.0.2.9", NULL, "192.0.2.9", NO},
        {"192.0.2.9", NULL, "::ffff:192.0.2.0/120", NO},
    };
    CHECK_ROWS(rows);
}

Test(address_list, other_families_have_no_address) {
    struct sockaddr unspecified = {.sa_family = AF_UNSPEC}, local = {.sa_family = AF_UNIX};
    enum pattern_result result;
    const char *why;
    cr_assert_eq(address_list_match(&unspecified, NULL, "*,0.0.0.0/0,::/0", &result, &why), 0);
    cr_assert_eq(result, NO);
    cr_assert_eq(address_list_match(&unspecified, "UNKNOWN", "0.0.0.0/0,UNKNOWN", &result, &why), 0);
    cr_assert_eq(result, YES);
    cr_assert_eq(address_list_match(&local, "UNKNOWN", "*", &result, &why), 0);
    cr_assert_eq(result, YES);
}

Test(address_list, a_network_without_a_scope_is_meant_on_every_link) {
    struct sockaddr_storage addr = address_of("fe80::1");
    struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)(void *)&addr;
    enum pattern_result result;
    const char *why;
    char name[IF_NAMESIZE], pattern[64];
    v6->sin6_scope_id = 1;
    cr_assert_eq(address_list_match((struct sockaddr *)&addr, NULL, "fe80::/10", &result, &why), 0);
    cr_assert_eq(result, YES);
    cr_assert_eq(address_list_match((struct sockaddr *)&addr, NULL, "!fe80::1,*", &result, &why), 0);
    cr_assert_eq(result, NOT);
    if (!if_indextoname(1, name))
        cr_skip("no interface has the number 1 here");
    snprintf(pattern, sizeof pattern, "fe80::1%%%s", name);
    cr_assert_eq(address_list_match((struct sockaddr *)&addr, NULL, pattern, &result, &why), 0);
    cr_assert_eq(result, YES);
    v6->sin6_scope_id = 77777;
    cr_assert_eq(address_list_match((struct sockaddr *)&addr, NULL, pattern, &result, &why), 0);
    cr_assert_eq(result, NO);
}

/* Wherever they stand, and whoever asks. */
Test(address_list, mistakes_spoil_the_whole_list) {
    const char *wrong[] = {"10.0.0.0/33",     "10.0.0.1/8",          "10.0.0.0/129", "10.0.0.0/",   "10.0.0.0/a",
                           "10.0.0.0/8a",     "10.0.0.0/-1",         "10.0.0.0/+8",  "10.0.0.0/ 8", "2001:db8::/129",
                           "2001:db8::1/127", "192.0.2.9/31",        "10.1/16",      "::1/0",       "",
                           "128.0.0.0/0",     "10.0.0.0/4294967304", "10.0.0.0/8/8"};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        enum pattern_result result;
        char list[100];
        snprintf(list, sizeof list, "%s", wrong[i]);
        cr_assert_eq(match("192.0.2.9", "a", list, &result), ERR_CONFIG, "%s", list);
        snprintf(list, sizeof list, "*,!192.0.2.9,%s", wrong[i]);
        cr_assert_eq(match("192.0.2.9", NULL, list, &result), ERR_CONFIG, "%s", list);
        cr_assert_eq(match("2001:db8::1", NULL, list, &result), ERR_CONFIG, "%s", list);
        cr_assert_eq(match(NULL, NULL, list, &result), ERR_CONFIG, "%s", list);
        snprintf(list, sizeof list, "!%s,*", wrong[i]);
        cr_assert_eq(match("192.0.2.9", NULL, list, &result), ERR_CONFIG, "%s", list);
    }
    enum pattern_result result;
    cr_assert_eq(match("192.0.2.9", NULL, "*,!", &result), ERR_CONFIG);
}

Test(address_list, an_entry_longer_than_any_address_is_a_pattern) {
    enum pattern_result result;
    char list[300];
    memset(list, '*', sizeof list);
    strcpy(list + 250, ",10.0.0.1");
    cr_assert_eq(match("192.0.2.9", NULL, list, &result), 0);
    cr_assert_eq(result, YES);
    memset(list, '0', 250);
    cr_assert_eq(match("192.0.2.9", NULL, list, &result), 0);
    cr_assert_eq(result, NO);
    cr_assert_eq(match("10.0.0.1", NULL, list, &result), 0);
    cr_assert_eq(result, YES);
}

/* Random networks, compared bit by bit the slow way. */
static void random_run(uint64_t *state) {
    char list[400] = "", text[64], host[64];
    uint8_t bytes[16], peer[16];
    enum pattern_result result, expected = PATTERN_NONE;
    bool peer_v6 = random_chance(state, 2);
    unsigned entries = 1 + random_below(state, 4);
    for (unsigned i = 0; i < 16; i++)
        peer[i] = random_chance(state, 2) ? 0 : (uint8_t)random_u32(state);
    peer[0] = 0x20; /* nothing special: not mapped, no multicast */
    for (unsigned i = 0; i < entries; i++) {
        bool v6 = random_chance(state, 2), negated = random_chance(state, 4), same = v6 == peer_v6;
        unsigned length = v6 ? 128 : 32, bits = random_below(state, length + 1);
        memcpy(bytes, peer, sizeof bytes);
        unsigned flipped = random_below(state, length);
        if (random_chance(state, 2))
            bytes[flipped / 8] ^= (uint8_t)(0x80 >> flipped % 8);
        for (unsigned at = bits; at < length; at++)
            bytes[at / 8] &= (uint8_t) ~(0x80 >> at % 8);
        for (unsigned at = 0; at < bits; at++)
            same &= ((bytes[at / 8] ^ peer[at / 8]) & (0x80 >> at % 8)) == 0;
        inet_ntop(v6 ? AF_INET6 : AF_INET, bytes, text, sizeof text);
        snprintf(list + strlen(list), sizeof list - strlen(list), "%s%s%s/%u", i ? "," : "", negated ? "!" : "", text,
                 bits);
        if (same && expected != PATTERN_NEGATED)
            expected = negated ? PATTERN_NEGATED : PATTERN_MATCHED;
    }
    inet_ntop(peer_v6 ? AF_INET6 : AF_INET, peer, host, sizeof host);
    cr_assert_eq(match(host, NULL, list, &result), 0, "%s against %s", host, list);
    cr_assert_eq(result, expected, "%s against %s: %d", host, list, result);
}

Test(address_list_model, random_networks, .fini = seed_report) {
    seed_each(5000, random_run);
}
