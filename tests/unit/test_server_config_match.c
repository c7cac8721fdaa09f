/* Match: what holds for whom, and what outweighs what. */
#include "server_config_fixture.h"
#include <arpa/inet.h>

/* "user=…,addr=…" as -C has it; groups between colons. */
struct asked {
    const char *config, *subject, *groups;
    const char *line; /* of -T */
};

static const struct asked asked[] = {
    {"Match user bob\nMaxSessions 1\n", "user=bob", "", "maxsessions 1"},
    {"Match user bob\nMaxSessions 1\n", "user=BOB", "", "maxsessions 10"},
    {"Match user bob\nMaxSessions 1\n", "", "", "maxsessions 10"},
    {"match USER=bob\nMaxSessions 1\n", "user=bob", "", "maxsessions 1"},
    {"Match user b*,!bob\nMaxSessions 1\n", "user=bill", "", "maxsessions 1"},
    {"Match user b*,!bob\nMaxSessions 1\n", "user=bob", "", "maxsessions 10"},
    {"Match user \"a b\"\nMaxSessions 1\n", "user=a b", "", "maxsessions 1"},
    {"Match user a user b\nMaxSessions 1\n", "user=a", "", "maxsessions 10"},
    {"Match user bob # c\nMaxSessions 1\n", "user=bob", "", "maxsessions 1"},
    {"Match group ops\nMaxSessions 1\n", "user=bob", "users:ops", "maxsessions 1"},
    {"Match group ops\nMaxSessions 1\n", "user=bob", "users", "maxsessions 10"},
    {"Match group ops\nMaxSessions 1\n", "user=bob", "", "maxsessions 10"},
    {"Match group *,!bad\nMaxSessions 1\n", "user=bob", "ops:bad", "maxsessions 10"},
    {"Match group *,!bad\nMaxSessions 1\n", "user=bob", "ops:good", "maxsessions 1"},
    {"Match address 10.0.0.0/8\nMaxSessions 1\n", "addr=10.1.2.3", "", "maxsessions 1"},
    {"Match address 10.0.0.0/8\nMaxSessions 1\n", "addr=11.1.2.3", "", "maxsessions 10"},
    {"Match address 10.0.0.0/8,!10.1.2.3\nMaxSessions 1\n", "addr=10.1.2.3", "", "maxsessions 10"},
    {"Match address 10.*\nMaxSessions 1\n", "addr=10.1.2.3", "", "maxsessions 1"},
    {"Match address 2001:db8::/32\nMaxSessions 1\n", "addr=2001:db8::5", "", "maxsessions 1"},
    {"Match address 10.1.2.3\nMaxSessions 1\n", "addr=::ffff:10.1.2.3", "", "maxsessions 1"},
    {"Match address *\nMaxSessions 1\n", "user=x", "", "maxsessions 10"},
    {"Match host *.Example.com\nMaxSessions 1\n", "host=A.example.com", "", "maxsessions 1"},
    {"Match host 10.*\nMaxSessions 1\n", "addr=10.1.2.3", "", "maxsessions 1"},
    {"Match host *,!a\nMaxSessions 1\n", "host=a", "", "maxsessions 10"},
    {"Match localaddress 192.0.2.1\nMaxSessions 1\n", "laddr=192.0.2.1", "", "maxsessions 1"},
    {"Match localaddress 192.0.2.1\nMaxSessions 1\n", "addr=192.0.2.1", "", "maxsessions 10"},
    {"Match localport 2222\nMaxSessions 1\n", "lport=2222", "", "maxsessions 1"},
    {"Match localport 2222\nMaxSessions 1\n", "lport=22", "", "maxsessions 10"},
    {"Match localport ssh\nMaxSessions 1\n", "lport=22", "", "maxsessions 1"},
    {"Match invalid-user\nMaxSessions 1\n", "user=x,invalid-user", "", "maxsessions 1"},
    {"Match invalid-user\nMaxSessions 1\n", "user=x", "", "maxsessions 10"},
    {"Match version OpenSSH_*,leatd_*\nMaxSessions 1\n", "user=x", "", "maxsessions 1"},
    {"Match version OpenSSH_*\nMaxSessions 1\n", "user=x", "", "maxsessions 10"},
    {"Match user bob address 10.0.0.1\nMaxSessions 1\n", "user=bob,addr=10.0.0.1", "", "maxsessions 1"},
    {"Match user bob address 10.0.0.1\nMaxSessions 1\n", "user=bob,addr=10.0.0.2", "", "maxsessions 10"},
    {"Match all\nMaxSessions 1\n", "", "", "maxsessions 1"},

    /* Blocks outweigh the global section, an earlier block a later one. */
    {"MaxSessions 5\nMatch user bob\nMaxSessions 1\n", "user=bob", "", "maxsessions 1"},
    {"MaxSessions 5\nMatch user bob\nMaxSessions 1\n", "user=x", "", "maxsessions 5"},
    {"Match user b*\nMaxSessions 1\nMatch user *b\nMaxSessions 2\n", "user=bob", "", "maxsessions 1"},
    {"Match user b*\nMaxSessions 1\nMatch user *b\nMaxSessions 2\n", "user=rob", "", "maxsessions 2"},
    {"Match user x\nMaxSessions 1\nMatch all\nMaxSessions 2\n", "user=bob", "", "maxsessions 2"},
    {"MaxSessions 5\nMatch all\nMaxSessions 2\n", "user=bob", "", "maxsessions 2"},
    {"Match user x\nMaxSessions 1\nMatch all\nPort 33\n", "user=bob", "", "port 33"},
    {"Port 22\nPort 33\nMatch all\nPort 44\n", "", "", "port 44"},
    {"MaxSessions 5\nMatch user bob\nMaxAuthTries 1\n", "user=bob", "", "maxsessions 5"},
    {"AllowUsers a\nMatch user bob\nAllowUsers b\nMatch all\nAllowUsers c\n", "user=bob", "", "allowusers c"},
    {"AllowUsers a\nMatch user bob\nAllowUsers b\nMatch all\nAllowUsers c\n", "user=bob", "", "allowusers b"},
    {"PermitOpen any\nMatch user bob\nPermitOpen none\n", "user=bob", "", "permitopen none"},
    {"PermitOpen h:1\nMatch user bob\nPermitOpen any\n", "user=bob", "", "permitopen any"},
    {"ChrootDirectory /x\nMatch user bob\nChrootDirectory none\n", "user=bob", "", "allowstreamlocalforwarding yes"},
    {"Banner /x\nMatch user bob\nBanner none\n", "user=bob", "", "banner none"},
    {"AuthorizedKeysFile /x\nMatch user bob\nAuthorizedKeysFile none\n", "user=bob", "", "authorizedkeysfile none"},
};

static void split_groups(const char *text, struct string_list *groups) {
    char *copy = text_copy(text), *rest = copy;
    *groups = (struct string_list){0};
    while (rest && *rest)
        strings_add(groups, text_copy(strsep(&rest, ":")));
    free(copy);
}

static char *answer(const struct asked *question) {
    struct server_command_line line = {0};
    struct match_storage storage;
    struct match_subject subject;
    struct string_list groups;
    split_groups(question->groups, &groups);
    if (*question->subject)
        strings_add(&line.connection, text_copy(question->subject));
    cr_assert_eq(server_command_line_subject(&line, &storage, &subject), 0);
    subject.groups = &groups;
    struct server_config *config = server_fixture_read(question->config);
    struct server_options *options = server_config_resolve(config, &subject);
    char *text = server_fixture_print(options);
    server_options_unref(options);
    server_config_unref(config);
    match_storage_deinit(&storage);
    strings_clear(&groups);
    server_command_line_deinit(&line);
    return text;
}

Test(server_config_match, table) {
    for (size_t i = 0; i < sizeof asked / sizeof *asked; i++) {
        char *text = answer(&asked[i]);
        cr_assert(server_fixture_has_line(text, asked[i].line), "'%s' for '%s' is not '%s'", asked[i].config,
                  asked[i].subject, asked[i].line);
        free(text);
    }
}

Test(server_config_match, a_lost_value_is_not_added_to_the_winner) {
    struct asked question = {"AllowUsers a\nMatch user bob\nAllowUsers b\n", "user=bob", "", ""};
    char *text = answer(&question);
    cr_assert_not(server_fixture_has_line(text, "allowusers a"));
    free(text);
}

Test(server_config_match, without_a_subject_only_the_global_section) {
    struct server_options *options =
        server_fixture_options("MaxSessions 5\nMatch user *\nMaxSessions 1\nMatch all\nMaxAuthTries 2\n");
    cr_assert_eq(options->max_sessions, 5);
    cr_assert_eq(options->max_auth_tries, 2);
    server_options_unref(options);
}

Test(server_config_match, unknown_is_no_match) {
    struct server_config *config =
        server_fixture_read("Match user *\nMaxSessions 1\nMatch group *\nMaxSessions 1\nMatch host *\nMaxSessions 1\n"
                            "Match address *,::/0\nMaxSessions 1\nMatch localaddress *\nMaxSessions 1\n");
    struct sockaddr none = {.sa_family = AF_UNSPEC};
    struct match_subject subject = {.address = &none};
    struct server_options *options = server_config_resolve(config, &subject);
    cr_assert_eq(options->max_sessions, 10);
    server_options_unref(options);
    server_config_unref(config);
}

Test(server_config_match, tells_whether_groups_matter) {
    static const struct {
        const char *text;
        bool needs;
    } cases[] = {{"AllowGroups x\n", false}, {"Match user x\nBanner /x\n", false}, {"Match user x group y\n", true}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct server_config *config = server_fixture_read(cases[i].text);
        cr_assert_eq(server_config_needs_groups(config), cases[i].needs, "%s", cases[i].text);
        server_config_unref(config);
    }
}

static const char *const wrongs[][2] = {
    {"Match", "file:1: Match: no condition given"},
    {"Match # user", "no condition given"},
    {"Match user", "needs an argument: 'user'"},
    {"Match user \"\"", "needs an argument"},
    {"Match user=", "needs an argument"},
    {"Match user bob allow", "not supported by leatd: 'allow'"},
    {"Match rdomain 3", "not supported by leatd: 'rdomain'"},
    {"Match !user bob", "not supported"},
    {"Match exec true", "not supported"},
    {"Match \"user", "a quote is not closed"},
    {"Match user a all", "'all' cannot be combined"},
    {"Match all user a", "'all' cannot be combined"},
    {"Match all=x", "takes no argument"},
    {"Match invalid-user=x", "takes no argument"},
    {"Match address 1.2.3.4/33", "Match: "},
    {"Match localaddress ::/129", "Match: "},
    {"Match localport 0", "bad port"},
    {"Match localport 22,23", "bad port"},
    {"Match user x\nPort 3", "file:2: Port: is not allowed within a Match block"},
    {"Match user x\nShards 3", "Shards: is not allowed within a Match block"},
    {"Match user x\nRelay 80 h:80", "is not allowed within a Match block"},
    {"Match user x\nUsePAM yes", "is not allowed within a Match block"},
    {"Match user x\nMaxSessions x", "file:2: MaxSessions: bad number"},
};

Test(server_config_match, malformed) {
    for (size_t i = 0; i < sizeof wrongs / sizeof *wrongs; i++) {
        struct server_config *config;
        cr_assert_eq(server_fixture_read_bytes(wrongs[i][0], strlen(wrongs[i][0]), &config), ERR_CONFIG, "%s",
                     wrongs[i][0]);
        cr_assert(strstr(server_fixture_log, wrongs[i][1]), "'%s': %s", wrongs[i][0], server_fixture_log);
    }
}
