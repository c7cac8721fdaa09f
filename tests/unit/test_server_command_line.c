#include "ssh/server_config.h"
#include "ssh/text.h"
#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define ARGS_MAX 32

/* "leatd args…", words separated by '|'; what is said about wrong ones goes nowhere. */
static int parse(struct server_command_line *line, const char *args, char **words) {
    char *argv[ARGS_MAX + 1];
    int argc = 0;
    *words = text_format("leatd%s%s", *args ? "|" : "", args);
    for (char *word = *words; word; argc++) {
        cr_assert_lt(argc, ARGS_MAX);
        argv[argc] = strsep(&word, "|");
    }
    argv[argc] = NULL;
    int copy = dup(STDERR_FILENO), null = open("/dev/null", O_WRONLY | O_CLOEXEC);
    log_init("leatd", LOG_LEVEL_INFO, null);
    dup2(null, STDERR_FILENO);
    int error = server_command_line_parse(line, argc, argv);
    dup2(copy, STDERR_FILENO);
    close(copy);
    close(null);
    log_init("leatd", LOG_LEVEL_INFO, STDERR_FILENO);
    return error;
}

Test(server_command_line, nothing) {
    struct server_command_line line;
    char *words;
    cr_assert_eq(parse(&line, "", &words), 0);
    cr_assert_null(line.config_file);
    cr_assert_null(line.log_file);
    cr_assert_not(line.foreground || line.to_stderr || line.test_only || line.print || line.inetd || line.quiet ||
                  line.version_only);
    cr_assert_eq(line.debug, 0);
    cr_assert_eq(line.family, AF_UNSPEC);
    cr_assert_eq(line.statements.count + line.host_keys.count + line.connection.count, 0);
    cr_assert_eq(*line.directory, '/');
    server_command_line_deinit(&line);
    free(words);
}

Test(server_command_line, everything) {
    struct server_command_line line;
    char *words;
    cr_assert_eq(parse(&line,
                       "-4DdeiqtTV|-d|-E|log|-f|config|-h|k 1|-hk2|-o|Foo=bar baz|-p|22|-p23|-g|1m|-C|user=a|-Caddr=b",
                       &words),
                 0);
    cr_assert(line.foreground && line.to_stderr && line.test_only && line.print && line.inetd && line.quiet &&
              line.version_only);
    cr_assert_eq(line.debug, 2);
    cr_assert_eq(line.family, AF_INET);
    cr_assert_str_eq(line.log_file, "log");
    cr_assert_str_eq(line.config_file, "config");
    cr_assert_eq(line.host_keys.count, 2);
    cr_assert_str_eq(line.host_keys.items[0], "k 1");
    char *statements = strings_join(&line.statements, ";"), *connection = strings_join(&line.connection, ";");
    cr_assert_str_eq(statements, "AddressFamily inet;Foo=bar baz;Port 22;Port 23;LoginGraceTime 1m");
    cr_assert_str_eq(connection, "user=a;addr=b");
    free(statements);
    free(connection);
    server_command_line_deinit(&line);
    free(words);
}

Test(server_command_line, usage) {
    static const char *const wrong[] = {"-x", "-p", "-o", "word", "-D|word", "--", "-D|--|-e", "-C", "-f"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        struct server_command_line line;
        char *words;
        bool fine = !strcmp(wrong[i], "--");
        cr_assert_eq(parse(&line, wrong[i], &words), fine ? 0 : ERR_CONFIG, "'%s'", wrong[i]);
        server_command_line_deinit(&line);
        free(words);
    }
}

Test(server_command_line, flags_become_statements_that_win) {
    struct server_command_line line;
    struct server_config *config = NULL;
    char *words;
    cr_assert_eq(parse(&line, "-6|-f|none|-p|5|-g|7|-o|LoginGraceTime 9|-h|/k", &words), 0);
    cr_assert_eq(server_config_read(&line, &config), 0);
    struct server_options *options = server_config_resolve(config, NULL);
    cr_assert_eq(options->family, AF_INET6);
    cr_assert_eq(options->login_grace_s, 7);
    cr_assert_eq(options->listen[0].port, 5);
    cr_assert_eq(options->host_keys.count, 1);
    server_options_unref(options);
    server_config_unref(config);
    server_command_line_deinit(&line);
    free(words);
}

static int subject_of(const char *text, struct match_storage *storage, struct match_subject *subject) {
    struct server_command_line line = {0};
    int null = open("/dev/null", O_WRONLY | O_CLOEXEC);
    if (text)
        strings_add(&line.connection, text_copy(text));
    log_init("leatd", LOG_LEVEL_INFO, null);
    int error = server_command_line_subject(&line, storage, subject);
    log_init("leatd", LOG_LEVEL_INFO, STDERR_FILENO);
    close(null);
    server_command_line_deinit(&line);
    return error;
}

Test(server_command_line, connection) {
    struct match_storage storage;
    struct match_subject subject;
    cr_assert_eq(subject_of("user=bob,addr=192.0.2.7,laddr=2001:db8::1,lport=2222,host=h.example,invalid-user",
                            &storage, &subject),
                 0);
    cr_assert_str_eq(subject.user, "bob");
    cr_assert_str_eq(subject.host, "h.example");
    cr_assert_eq(subject.address->sa_family, AF_INET);
    cr_assert_eq(((const struct sockaddr_in *)(const void *)subject.address)->sin_addr.s_addr, inet_addr("192.0.2.7"));
    cr_assert_eq(subject.local_address->sa_family, AF_INET6);
    cr_assert_eq(subject.local_port, 2222);
    cr_assert(subject.invalid_user);
    cr_assert_null(subject.groups);
    match_storage_deinit(&storage);
}

Test(server_command_line, connection_without_a_name_has_its_number) {
    struct match_storage storage;
    struct match_subject subject;
    cr_assert_eq(subject_of("addr=2001:db8:0::7", &storage, &subject), 0);
    cr_assert_str_eq(subject.host, "2001:db8::7");
    cr_assert_null(subject.user);
    match_storage_deinit(&storage);
    cr_assert_eq(subject_of(NULL, &storage, &subject), 0);
    cr_assert_null(subject.host);
    cr_assert_null(subject.address);
    match_storage_deinit(&storage);
}

Test(server_command_line, malformed_connection) {
    static const char *const wrong[] = {"",        "user",      "foo=bar",         "addr=name",
                                        "addr=",   "lport=x",   "lport=70000",     "user=a,,addr=::1",
                                        "User=a,", "rdomain=3", "laddr=1.2.3.4.5", "invalid-user=x"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        struct match_storage storage;
        struct match_subject subject;
        cr_assert_eq(subject_of(wrong[i], &storage, &subject), ERR_CONFIG, "'%s'", wrong[i]);
        match_storage_deinit(&storage);
    }
}
