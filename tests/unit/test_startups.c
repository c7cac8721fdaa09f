#include "ssh/startups.h"
#include "tests/unit/seed.h"
#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <netinet/in.h>
#include <string.h>

#define MANY 5000u

static struct startups *startups;

static void setup(void) {
    cr_assert_eq(startups_create(&startups), 0);
}

static void teardown(void) {
    startups_destroy(startups);
}

TestSuite(startups, .init = setup, .fini = teardown);

static struct server_options options_of(uint32_t begin, uint32_t rate, uint32_t full) {
    return (struct server_options){.max_startups_begin = begin,
                                   .max_startups_rate = rate,
                                   .max_startups_full = full,
                                   .per_source_max_startups = UINT32_MAX,
                                   .per_source_bits4 = 32,
                                   .per_source_bits6 = 128};
}

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

static int enter(const struct server_options *options, const char *text, uint32_t dice, struct startup *startup) {
    struct sockaddr_storage addr = {.ss_family = AF_UNSPEC};
    const char *why = NULL;
    if (text)
        addr = address_of(text);
    int err = startups_enter(startups, options, (struct sockaddr *)&addr, dice, startup, &why);
    cr_assert((err == 0) == (startup->startups != NULL) && (err == 0) == (why == NULL));
    return err;
}

static void fill(struct startup *inside, uint32_t count) {
    struct server_options options = options_of(count, 100, count);
    for (uint32_t i = 0; i < count; i++)
        cr_assert_eq(enter(&options, "192.0.2.1", 0, &inside[i]), 0);
    cr_assert_eq(startups_count(startups), count);
}

static void empty(struct startup *inside, uint32_t count) {
    for (uint32_t i = 0; i < count; i++)
        startups_leave(&inside[i]);
    cr_assert_eq(startups_count(startups), 0);
}

/* sshd.c's should_drop_connection: how many of a hundred are refused. */
Test(startups, refused_percentages_are_those_of_sshd) {
    const struct {
        uint32_t begin, rate, full, inside, refused;
    } table[] = {
        {10, 30, 100, 0, 0},     {10, 30, 100, 9, 0},   {10, 30, 100, 10, 30},  {10, 30, 100, 11, 30},
        {10, 30, 100, 12, 31},   {10, 30, 100, 55, 65}, {10, 30, 100, 99, 99},  {10, 30, 100, 100, 100},
        {10, 30, 100, 101, 100}, {10, 100, 10, 9, 0},   {10, 100, 10, 10, 100}, {3, 100, 20, 3, 100},
        {3, 0, 5, 3, 0},         {3, 0, 5, 4, 50},      {3, 0, 5, 5, 100},      {1, 1, 2, 1, 1},
        {1, 50, 3, 0, 0},        {1, 50, 3, 2, 75},     {0, 20, 10, 0, 20},     {0, 100, 0, 0, 100},
    };
    static struct startup inside[101];
    for (unsigned i = 0; i < sizeof table / sizeof table[0]; i++) {
        struct server_options options = options_of(table[i].begin, table[i].rate, table[i].full);
        fill(inside, table[i].inside);
        unsigned refused = 0;
        for (uint32_t dice = 0; dice < 100; dice++) {
            struct startup startup;
            int err = enter(&options, "192.0.2.1", dice, &startup);
            cr_assert_eq(err, dice < table[i].refused ? ERR_LIMIT : 0, "row %u dice %u", i, dice);
            refused += err == ERR_LIMIT;
            startups_leave(&startup);
        }
        cr_assert_eq(refused, table[i].refused);
        empty(inside, table[i].inside);
    }
}

Test(startups, the_reason_is_told) {
    struct server_options options = options_of(2, 100, 2);
    struct sockaddr_storage addr = address_of("192.0.2.1");
    struct startup a, b, c;
    const char *why = NULL;
    options.per_source_max_startups = 1;
    cr_assert_eq(enter(&options, "192.0.2.1", 0, &a), 0);
    cr_assert_eq(startups_enter(startups, &options, (struct sockaddr *)&addr, 0, &c, &why), ERR_LIMIT);
    cr_assert_str_eq(why, "past PerSourceMaxStartups");
    cr_assert_eq(enter(&options, "192.0.2.2", 0, &b), 0);
    cr_assert_eq(startups_enter(startups, &options, (struct sockaddr *)&addr, 0, &c, &why), ERR_LIMIT);
    cr_assert_str_eq(why, "past MaxStartups");
    cr_assert_null(c.startups);
    startups_leave(&a);
    startups_leave(&b);
}

Test(startups, leaving_twice_is_leaving_once) {
    struct server_options options = options_of(10, 100, 10);
    struct startup a, b, never = {0};
    cr_assert_eq(enter(&options, "192.0.2.1", 0, &a), 0);
    cr_assert_eq(enter(&options, "192.0.2.1", 0, &b), 0);
    startups_leave(&a);
    startups_leave(&a);
    startups_leave(&never);
    cr_assert_eq(startups_count(startups), 1);
    startups_leave(&b);
    cr_assert_eq(startups_count(startups), 0);
}

/* Do the two count as one source? */
static bool share(uint32_t bits4, uint32_t bits6, const char *one, const char *other) {
    struct server_options options = options_of(10, 100, 10);
    struct startup a, b;
    options.per_source_max_startups = 1;
    options.per_source_bits4 = bits4;
    options.per_source_bits6 = bits6;
    cr_assert_eq(enter(&options, one, 0, &a), 0);
    bool same = enter(&options, other, 0, &b) == ERR_LIMIT;
    startups_leave(&a);
    startups_leave(&b);
    return same;
}

Test(startups, sources_are_networks) {
    cr_assert(share(32, 128, "192.0.2.1", "192.0.2.1"));
    cr_assert(!share(32, 128, "192.0.2.1", "192.0.2.0"));
    cr_assert(share(31, 128, "192.0.2.1", "192.0.2.0"));
    cr_assert(!share(31, 128, "192.0.2.1", "192.0.2.2"));
    cr_assert(share(24, 128, "192.0.2.0", "192.0.2.255"));
    cr_assert(!share(24, 128, "192.0.2.255", "192.0.3.0"));
    cr_assert(share(20, 128, "10.0.16.0", "10.0.31.255"));
    cr_assert(!share(20, 128, "10.0.16.0", "10.0.32.0"));
    cr_assert(share(0, 128, "0.0.0.0", "255.255.255.255"));
    cr_assert(!share(1, 128, "127.255.255.255", "128.0.0.0"));

    cr_assert(share(32, 128, "2001:db8::1", "2001:db8::1"));
    cr_assert(!share(32, 128, "2001:db8::1", "2001:db8::"));
    cr_assert(share(32, 64, "2001:db8::", "2001:db8::ffff:ffff:ffff:ffff"));
    cr_assert(!share(32, 64, "2001:db8::", "2001:db8:0:1::"));
    cr_assert(share(32, 33, "2001:db8::", "2001:db8:7fff::"));
    cr_assert(!share(32, 33, "2001:db8::", "2001:db8:8000::"));
    cr_assert(share(32, 0, "::1", "ffff::"));

    cr_assert(share(32, 128, "192.0.2.1", "::ffff:192.0.2.1"), "mapped into IPv6 it is the same client");
    cr_assert(share(24, 128, "::ffff:192.0.2.1", "::ffff:192.0.2.2"));
    cr_assert(!share(32, 0, "::ffff:192.0.2.1", "::ffff:192.0.2.2"));
    cr_assert(!share(0, 0, "0.0.0.0", "::"), "the families are apart");
    cr_assert(!share(32, 128, "0.0.0.1", "::1"));
    cr_assert(!share(32, 128, "32.1.13.184", "2001:db8::"), "the same first bytes");
}

Test(startups, a_client_without_an_address_has_no_limit_of_its_own) {
    struct server_options options = options_of(3, 100, 3);
    struct sockaddr local = {.sa_family = AF_UNIX};
    struct startup inside[3], other;
    const char *why;
    options.per_source_max_startups = 1;
    cr_assert_eq(enter(&options, NULL, 0, &inside[0]), 0);
    cr_assert_eq(startups_enter(startups, &options, NULL, 0, &inside[1], &why), 0);
    cr_assert_eq(startups_enter(startups, &options, &local, 0, &inside[2], &why), 0);
    cr_assert_eq(enter(&options, NULL, 0, &other), ERR_LIMIT, "but MaxStartups counts it");
    empty(inside, 3);
}

static void random_address(uint64_t *state, char *text, size_t cap) {
    switch (random_below(state, 4)) {
    case 0:
        snprintf(text, cap, "10.%u.%u.%u", random_below(state, 2), random_below(state, 3), random_below(state, 4));
        break;
    case 1:
        snprintf(text, cap, "::ffff:10.0.%u.%u", random_below(state, 3), random_below(state, 4));
        break;
    default:
        snprintf(text, cap, "2001:db8:%x:%x::%x", random_below(state, 2), random_below(state, 3),
                 random_below(state, 4));
    }
}

/* The whole of it the plain way: a list of who is inside, compared bit by bit. */
struct model_entry {
    struct startup startup;
    char network[160]; /* '4' or '6' and the kept bits as text */
    bool counted;
};

static void network_text(const struct server_options *options, const char *text, char *out) {
    struct in_addr v4;
    struct in6_addr v6;
    const uint8_t *bytes = (const uint8_t *)&v4;
    uint32_t bits = options->per_source_bits4;
    *out++ = '4';
    if (strncmp(text, "::ffff:", 7) == 0)
        text += 7;
    if (inet_pton(AF_INET, text, &v4) != 1) {
        cr_assert_eq(inet_pton(AF_INET6, text, &v6), 1);
        bytes = (const uint8_t *)&v6;
        bits = options->per_source_bits6;
        out[-1] = '6';
    }
    uint32_t length = bytes == (const uint8_t *)&v4 ? 32 : 128;
    for (uint32_t i = 0; i < length; i++)
        *out++ = i < bits && (bytes[i / 8] >> (7 - i % 8) & 1) ? '1' : '0';
    *out = 0;
}

static int model_enter(const struct model_entry *entries, uint32_t count, const struct server_options *options,
                       const char *network, uint32_t dice) {
    uint32_t same = 0;
    if (count >= options->max_startups_full)
        return ERR_LIMIT;
    if (count >= options->max_startups_begin) {
        uint32_t p = 100 - options->max_startups_rate;
        p *= count - options->max_startups_begin;
        p /= options->max_startups_full - options->max_startups_begin;
        p += options->max_startups_rate;
        if (dice < p)
            return ERR_LIMIT;
    }
    for (uint32_t i = 0; i < count; i++)
        same += network && entries[i].counted && strcmp(entries[i].network, network) == 0;
    return network && same >= options->per_source_max_startups ? ERR_LIMIT : 0;
}

/* Options change under way, as a reload changes them. */
static void random_options(uint64_t *state, struct server_options *options) {
    const uint32_t bits4[] = {0, 16, 24, 31, 32}, bits6[] = {0, 33, 48, 64, 127, 128};
    uint32_t begin = random_below(state, 40);
    *options = options_of(begin, random_below(state, 101), begin + random_below(state, 200));
    options->per_source_max_startups = random_chance(state, 4) ? UINT32_MAX : random_below(state, 12);
    options->per_source_bits4 = bits4[random_below(state, 5)];
    options->per_source_bits6 = bits6[random_below(state, 6)];
}

static void random_run(uint64_t *state) {
    static struct model_entry entries[256];
    struct server_options options;
    uint32_t count = 0;
    setup();
    random_options(state, &options);
    for (unsigned step = 0; step < 400; step++) {
        if (random_chance(state, 60))
            random_options(state, &options);
        if (count > 0 && random_chance(state, 3)) {
            uint32_t i = random_below(state, count);
            startups_leave(&entries[i].startup);
            entries[i] = entries[--count];
        } else {
            struct model_entry *entry = &entries[count];
            char text[64];
            uint32_t dice = random_below(state, 100);
            *entry = (struct model_entry){.counted = !random_chance(state, 10)};
            random_address(state, text, sizeof text);
            network_text(&options, text, entry->network);
            int expected = model_enter(entries, count, &options, entry->counted ? entry->network : NULL, dice);
            cr_assert_eq(enter(&options, entry->counted ? text : NULL, dice, &entry->startup), expected);
            count += expected == 0;
        }
        cr_assert_eq(startups_count(startups), count);
    }
    while (count > 0)
        startups_leave(&entries[--count].startup);
    teardown();
}

Test(startups_model, random_comings_and_goings, .fini = seed_report) {
    seed_each(500, random_run);
}

/* Far more sources than there were places at first, and each still counted for itself. */
Test(startups, many_sources) {
    static struct startup inside[MANY], again[MANY];
    struct server_options options = options_of(2 * MANY, 100, 2 * MANY);
    uint64_t state = 1;
    char text[64];
    options.per_source_max_startups = 2;
    for (unsigned round = 0; round < 3; round++) {
        for (unsigned i = 0; i < MANY; i++) {
            snprintf(text, sizeof text, i % 2 ? "10.0.%u.%u" : "2001:db8::%x:%x", i / 256, i % 256);
            cr_assert_eq(enter(&options, text, 0, &inside[i]), 0);
        }
        for (unsigned i = 0; i < MANY; i++) {
            struct startup third;
            snprintf(text, sizeof text, i % 2 ? "10.0.%u.%u" : "2001:db8::%x:%x", i / 256, i % 256);
            cr_assert_eq(enter(&options, text, 0, &again[i]), 0);
            cr_assert_eq(enter(&options, text, 0, &third), ERR_LIMIT);
        }
        for (unsigned i = 0; i < MANY; i++) /* some twice, some not yet */
            startups_leave(&again[random_below(&state, MANY)]);
        for (unsigned i = 0; i < MANY; i++)
            startups_leave(&again[i]);
        cr_assert_eq(startups_count(startups), MANY);
        empty(inside, MANY);
    }
}
