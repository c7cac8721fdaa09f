#include "engine/limits.h"
#include "ssh/permission.h"
#include "ssh/text.h"
#include <criterion/criterion.h>
#include <netdb.h>
#include <stdlib.h>
#include <string.h>

/* Lists are made by several threads at once. */
struct servent *getservbyname(const char *name, const char *protocol) {
    cr_assert_fail("%s/%s: not for threads", name, protocol);
    return NULL;
}

struct question {
    const char *listed; /* separated by blanks */
    const char *host;
    uint16_t port;
    bool permitted;
};

static void fill(struct permission_list *list, enum permission_use use, const char *listed) {
    struct string_list words;
    const char *why;
    cr_assert_eq(words_split(listed, &words), 0);
    for (uint32_t i = 0; i < words.count; i++)
        cr_assert_eq(permission_add(list, use, words.items[i], &why), 0, "%s", words.items[i]);
    strings_clear(&words);
}

/* As OpenSSH's sshd answers: a host to open is compared byte for byte, one to listen on as a pattern without case. */
static const struct question open_questions[] = {
    {"", "anything", 1, true},       {"h:80", "h", 80, true},          {"h:80", "h", 81, false},
    {"h:80", "H", 80, false},        {"h:80", "h.", 80, false},        {"h:80", "", 80, false},
    {"h:*", "h", 1, true},           {"h:*", "h", 65535, true},        {"h:*", "g", 1, false},
    {"*:80", "anything", 80, true},  {"*:80", "anything", 81, false},  {"*:*", "anything", 0, true},
    {"h*:80", "hh", 80, false},      {"h*:80", "h*", 80, true},        {"[::1]:22", "::1", 22, true},
    {"[::1]:22", "0::1", 22, false}, {"[::1]:22", "[::1]", 22, false}, {"[h]:22", "h", 22, true},
    {"a:1 b:2", "b", 2, true},       {"a:1 b:2", "a", 2, false},       {"a:1 b:2", "b", 1, false},
    {":80", "", 80, true},           {":80", "h", 80, false},          {"h:ssh", "h", 22, true},
};

Test(permission, to_open) {
    for (size_t i = 0; i < sizeof open_questions / sizeof *open_questions; i++) {
        const struct question *question = &open_questions[i];
        struct permission_list list = {0};
        fill(&list, PERMISSION_OPEN, question->listed);
        cr_assert_eq(permission_open_matches(&list, question->host, question->port), question->permitted, "'%s': %s:%u",
                     question->listed, question->host, question->port);
        permission_clear(&list);
        cr_assert(permission_open_matches(&list, "h", 1), "cleared, it permits everything");
    }
}

static const struct question listen_questions[] = {
    {"", "anything", 1, true},
    {"8080", "", 8080, true},
    {"8080", "localhost", 8080, true},
    {"8080", "localhost", 8081, false},
    {"*", "10.0.0.1", 0, true},
    {"localhost:8080", "localhost", 8080, true},
    {"localhost:8080", "LocalHost", 8080, true},
    {"LocalHost:8080", "localhost", 8080, true},
    {"localhost:8080", "127.0.0.1", 8080, false},
    {"localhost:8080", "", 8080, false},
    {"10.0.*:80", "10.0.0.7", 80, true},
    {"10.0.*:80", "10.1.0.7", 80, false},
    {"h?:*", "h1", 5, true},
    {"h?:*", "h12", 5, false},
    {"[::]:80", "::", 80, true},
    {":80", "", 80, true},
    {"h:80", "h", 0, false},
    {"h:*", "h", 0, true},
};

Test(permission, to_listen) {
    for (size_t i = 0; i < sizeof listen_questions / sizeof *listen_questions; i++) {
        const struct question *question = &listen_questions[i];
        struct permission_list list = {0};
        fill(&list, PERMISSION_LISTEN, question->listed);
        cr_assert_eq(permission_listen_matches(&list, question->host, question->port), question->permitted,
                     "'%s': %s:%u", question->listed, question->host, question->port);
        permission_clear(&list);
    }
}

Test(permission, none_permits_nothing) {
    struct permission_list list = {.restricted = true};
    cr_assert_not(permission_open_matches(&list, "h", 1));
    cr_assert_not(permission_listen_matches(&list, "h", 1));
}

Test(permission, malformed) {
    static const char *const wrong[] = {"",     "h",      "h:",      "h:0",   "h:65536", "h:-1", "h:1x",
                                        "h:x!", "[::1]",  "[::1",    "::1:5", "[::1]5",  "*",    "80",
                                        "h/80", "h:80:1", "[h]x:80", "h: 80", "h:+80"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        struct permission_list list = {0};
        const char *why = NULL;
        cr_assert_eq(permission_add(&list, PERMISSION_OPEN, wrong[i], &why), ERR_CONFIG, "'%s'", wrong[i]);
        cr_assert(why && *why);
        cr_assert_not(list.restricted, "a list stays as it was");
        cr_assert_eq(list.count, 0);
    }
    struct permission_list list = {0};
    const char *why;
    cr_assert_eq(permission_add(&list, PERMISSION_LISTEN, "0", &why), ERR_CONFIG);
    cr_assert_eq(permission_add(&list, PERMISSION_LISTEN, "h", &why), ERR_CONFIG);
}

Test(permission, host_of_any_length_up_to_a_name) {
    struct permission_list list = {0};
    const char *why;
    char text[1100];
    memset(text, 'h', sizeof text);
    strcpy(text + 1024, ":80");
    cr_assert_eq(permission_add(&list, PERMISSION_OPEN, text, &why), 0);
    memset(text, 'h', sizeof text);
    strcpy(text + 1025, ":80");
    cr_assert_eq(permission_add(&list, PERMISSION_OPEN, text, &why), ERR_CONFIG);
    permission_clear(&list);
}

Test(permission, so_many_and_no_more) {
    struct permission_list list = {0};
    const char *why = NULL;
    for (uint32_t i = 0; i < LIMIT_PERMISSIONS; i++)
        cr_assert_eq(permission_add(&list, PERMISSION_OPEN, "h:80", &why), 0);
    cr_assert_eq(permission_add(&list, PERMISSION_OPEN, "h:80", &why), ERR_LIMIT);
    cr_assert(why && *why);
    permission_clear(&list);
    cr_assert_eq(permission_add(&list, PERMISSION_OPEN, "h:80", &why), 0);
    permission_clear(&list);
}

Test(permission, text_is_read_again) {
    static const char *const texts[][2] = {
        {"h:80", "h:80"}, {"[::1]:80", "[::1]:80"}, {"[h]:80", "h:80"},   {"*:*", "*:*"},
        {":80", ":80"},   {"h:ssh", "h:22"},        {"[[a]:1", "[[a]:1"}, {"[fe80::1%lo]:5", "[fe80::1%lo]:5"}};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        struct permission_list list = {0};
        char text[64], again[64];
        const char *why;
        cr_assert_eq(permission_add(&list, PERMISSION_OPEN, texts[i][0], &why), 0, "%s", texts[i][0]);
        cr_assert_str_eq(permission_text(&list.items[0], text, sizeof text), texts[i][1]);
        cr_assert_eq(permission_add(&list, PERMISSION_OPEN, text, &why), 0);
        cr_assert_str_eq(permission_text(&list.items[1], again, sizeof again), text);
        permission_clear(&list);
    }
    struct permission port_only;
    struct permission_list list = {0};
    const char *why;
    char text[64];
    cr_assert_eq(permission_add(&list, PERMISSION_LISTEN, "80", &why), 0);
    port_only = list.items[0];
    cr_assert_str_eq(permission_text(&port_only, text, sizeof text), "*:80");
    permission_clear(&list);
}
