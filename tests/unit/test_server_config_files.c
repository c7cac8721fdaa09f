/* Files: Include, the command line beside them, what -T prints, and the same file given to sshd. */
#include "server_config_fixture.h"
#include "tests/skip.h"
#include <ctype.h>
#include <sys/wait.h>

static struct server_fixture_files files;
static void setup(void) {
    server_fixture_files_init(&files);
}
static void teardown(void) {
    server_fixture_files_deinit(&files);
}
TestSuite(server_config_files, .init = setup, .fini = teardown);

static void make_directory(const char *name) {
    char *path = text_format("%s/%s", files.home, name);
    cr_assert_eq(mkdir(path, 0700), 0);
    free(path);
}

static char *print_for(const char *statements, const struct match_subject *subject) {
    struct server_config *config = NULL;
    int error = server_fixture_files_read(&files, statements, &config);
    cr_assert_eq(error, 0, "%s", server_fixture_log);
    struct server_options *options = server_config_resolve(config, subject);
    char *text = server_fixture_print(options);
    server_options_unref(options);
    server_config_unref(config);
    return text;
}

static void expect(const char *statements, const char *user, const char *line) {
    struct match_subject subject = {.user = user};
    char *text = print_for(statements, user ? &subject : NULL);
    cr_assert(server_fixture_has_line(text, line), "not '%s' in:\n%s", line, text);
    free(text);
}

static void expect_error(const char *statements, const char *report) {
    struct server_config *config;
    cr_assert_eq(server_fixture_files_read(&files, statements, &config), ERR_CONFIG);
    char *expected = text_copy(report), *at = strchr(expected, '@');
    if (at)
        text_set(&expected, text_format("%.*s%s%s", (int)(at - expected), expected, files.home, at + 1));
    cr_assert(strstr(server_fixture_log, expected), "not '%s': %s", expected, server_fixture_log);
    free(expected);
}

Test(server_config_files, included_where_they_stand_and_in_order) {
    make_directory("d");
    server_fixture_file(&files, "main",
                        "Include d/*.conf nosuch* @/abs\nMaxSessions 9\nMaxAuthTries 9\nBanner /main\n");
    server_fixture_file(&files, "d/b.conf", "MaxSessions 2\nBanner /b\n");
    server_fixture_file(&files, "d/a.conf", "MaxSessions 1\n");
    server_fixture_file(&files, "d/c.other", "MaxAuthTries 1\n");
    server_fixture_file(&files, "abs", "Shards 3\n");
    expect("", NULL, "maxsessions 1");
    expect("", NULL, "banner /b");
    expect("", NULL, "maxauthtries 9");
    expect("", NULL, "shards 3");
}

Test(server_config_files, an_included_match_ends_with_its_file) {
    server_fixture_file(&files, "main", "Include part\nMaxSessions 5\nShards 2\n");
    server_fixture_file(&files, "part", "Match user bob\nMaxSessions 1\n");
    expect("", "bob", "maxsessions 1");
    expect("", "x", "maxsessions 5");
    expect("", "x", "shards 2");
}

Test(server_config_files, within_a_block_they_are_for_that_block) {
    server_fixture_file(&files, "main", "Match user b*\nInclude part\nBanner /main\nMatch user x\nMaxSessions 7\n");
    server_fixture_file(&files, "part", "MaxSessions 1\nMatch user bob\nMaxAuthTries 2\nMatch all\nGatewayPorts yes\n");
    expect("", "bill", "maxsessions 1");
    expect("", "bill", "maxauthtries 6");
    expect("", "bill", "gatewayports yes");
    expect("", "bill", "banner /main");
    expect("", "bob", "maxauthtries 2");
    expect("", "x", "maxsessions 7");
    expect("", "x", "gatewayports no");
    expect("", NULL, "gatewayports no");
}

Test(server_config_files, not_even_all_leaves_the_block_around) {
    server_fixture_file(&files, "main", "Match user bob\nInclude part\n");
    server_fixture_file(&files, "part", "Match all\nPort 5\n");
    expect_error("", "@/part:2: Port: is not allowed within a Match block");
}

Test(server_config_files, errors_are_where_they_are) {
    server_fixture_file(&files, "main", "MaxSessions x\nInclude part\nFoo\n");
    server_fixture_file(&files, "part", "\nBar\n");
    expect_error("", "main:1: MaxSessions: bad number");
    expect_error("", "@/part:2: Bar: unknown directive");
    expect_error("", "main:3: Foo: unknown directive");
}

Test(server_config_files, loops_end) {
    server_fixture_file(&files, "main", "Include main main other\n");
    server_fixture_file(&files, "other", "Include main\n");
    expect_error("", "Include: more than 16 levels deep");
}

Test(server_config_files, as_deep_as_the_limit) {
    server_fixture_file(&files, "main", "Include 1\n");
    for (int i = 1; i <= 16; i++) {
        char *name = text_format("%d", i), *text = text_format("Include %d\nMaxAuthTries %d\n", i + 1, i);
        server_fixture_file(&files, name, i == 16 ? "MaxAuthTries 77\n" : text);
        free(name);
        free(text);
    }
    expect("", NULL, "maxauthtries 77");
    server_fixture_file(&files, "16", "Include 17\n");
    expect_error("", "@/16:1: Include: more than 16 levels deep");
}

Test(server_config_files, files_that_cannot_be_read) {
    expect_error("", "cannot open the configuration file main: No such file");
    make_directory("d");
    server_fixture_file(&files, "main", "Include d\n");
    expect_error("", "cannot read @/d: Is a directory");
    server_fixture_file(&files, "main", "Include ~/x\n");
    expect_error("", "main:1: Include: '~/x' is no path here");
}

Test(server_config_files, statements_outweigh_the_global_section) {
    server_fixture_file(&files, "main", "Port 1\nPort 2\nMaxSessions 5\nAllowUsers f\nMatch user bob\nMaxSessions 1\n");
    expect("MaxSessions=3", NULL, "maxsessions 3");
    expect("MaxSessions 3", "bob", "maxsessions 1");
    expect("Port 7|Port 8", NULL, "listenaddress [::]:8");
    char *text = print_for("Port 7|AllowUsers c", NULL);
    cr_assert_not(server_fixture_has_line(text, "port 1"));
    cr_assert(server_fixture_has_line(text, "allowusers c") && server_fixture_has_line(text, "allowusers f"));
    free(text);
}

Test(server_config_files, statements_are_checked) {
    server_fixture_file(&files, "main", "\n");
    expect_error("Foo 1", "command line: Foo: unknown directive");
    expect_error("Port x", "command line: Port: bad port: 'x'");
    expect_error("Match user x", "Match: only has a meaning in a file");
    expect_error("include x", "include: only has a meaning in a file");
    expect_error("# x", "no directive given");
}

Test(server_config_files, relative_paths_are_where_the_program_started) {
    server_fixture_file(&files, "main", "Banner b\nPidFile p\nHostKey k\n");
    char *line = text_format("banner %s/b", files.home);
    expect("", NULL, line);
    text_set(&line, text_format("hostkey %s/k", files.home));
    expect("", NULL, line);
    free(line);
}

Test(server_config_files, none_is_no_file) {
    struct server_command_line line = {.config_file = "none"};
    strings_add(&line.host_keys, text_copy("/with blank"));
    struct server_config *config = NULL;
    cr_assert_eq(server_config_read(&line, &config), 0);
    struct server_options *options = server_config_resolve(config, NULL);
    cr_assert_eq(options->host_keys.count, 1);
    cr_assert_str_eq(options->host_keys.items[0], "/with blank");
    server_options_unref(options);
    server_config_unref(config);
    server_command_line_deinit(&line);
}

static const char *const printed[] = {
    "Port 5\nPort 6\nListenAddress 10.0.0.1\nListenAddress [::1]:7\nListenAddress localhost\n",
    "AddressFamily inet\nPort 99\n",
    "AllowUsers \"a b\" 'c\"d' \"\\\\\" =x \"#y\" @h\nDenyGroups g\n",
    "AuthorizedKeysFile \"/a b/%u\" none x%%\nHostKey \"/k 'k\"\nBanner \"/b\\\"\"\n",
    "PermitOpen [::1]:5 :6 *:* [[a]:1 \"a b:1\"\nPermitListen 1 A*:*\n",
    "ChannelTimeout \"a b=5\" none=6 c=7\n",
    "VersionAddendum = =x y\n",
    "Ciphers ^chacha*,chacha20-poly1305@openssh.com\nKexAlgorithms +x\nRekeyLimit 1G 1h\nMaxWindow 1M\n",
    "Relay [::1]:80 h:80\nRelay *:81 [::1]:81\nRelay 82 h:82\nUser \"a b\"\nGroup g\nLogFormat json\n",
    "AuthorizedKeysFile none\nPermitOpen none\nPidFile none\nLogLevel DEBUG2\nSyslogFacility LOCAL7\n",
};

Test(server_config_files, what_is_printed_is_read_as_the_same) {
    for (size_t i = 0; i < sizeof printed / sizeof *printed; i++) {
        server_fixture_file(&files, "main", printed[i]);
        char *once = print_for("", NULL);
        char *path = text_format("%s/main", files.home);
        FILE *file = fopen(path, "we");
        fputs(once, file);
        fclose(file);
        free(path);
        char *twice = print_for("", NULL);
        cr_assert_str_eq(once, twice);
        free(once);
        free(twice);
    }
}

#define SSHD "/usr/sbin/sshd"

/* What sshd prints of the file "main"; NULL: it is not installed, or not willing here. */
static char *sshd_print(void) {
    if (access(SSHD, X_OK) != 0)
        return NULL;
    char *command =
        text_format("cd %s && " SSHD " -T -f %s/main -h %s/key 2>sshd.log", files.home, files.home, files.home);
    FILE *pipe = popen(command, "re");
    free(command);
    struct growing text = {0};
    char part[4096];
    for (size_t len; (len = fread(part, 1, sizeof part, pipe)) > 0;)
        growing_add(&text, part, len);
    int status = pclose(pipe);
    char *all = growing_take(&text);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
        return all;
    free(all);
    return NULL;
}

/* Of these the two can only differ by mistake. */
static bool common(const char *line) {
    static const char *const keywords[] = {
        "port",
        "addressfamily",
        "listenaddress",
        "logingracetime",
        "maxauthtries",
        "maxsessions",
        "clientaliveinterval",
        "clientalivecountmax",
        "strictmodes",
        "requiredrsasize",
        "streamlocalbindmask",
        "unusedconnectiontimeout",
        "permitopen",
        "pubkeyauthentication",
        "tcpkeepalive",
        "gatewayports",
        "permitlisten",
        "allowtcpforwarding",
        "disableforwarding",
        "allowstreamlocalforwarding",
        "banner",
        "streamlocalbindunlink",
        "versionaddendum",
        "loglevel",
        "allowusers",
        "syslogfacility",
        "authorizedkeysfile",
        "maxstartups",
        "denyusers",
        "persourcemaxstartups",
        "persourcenetblocksize",
        "rekeylimit",
        "allowgroups",
        "denygroups",
        "kexalgorithms",
        "permitrootlogin",
    };
    for (size_t i = 0; i < sizeof keywords / sizeof *keywords; i++) {
        size_t len = strlen(keywords[i]);
        if (!strncmp(line, keywords[i], len) && line[len] == ' ')
            return true;
    }
    return false;
}

/* OpenSSH 10.6 prints keywords as its manual spells them, and has other words for some values. */
static const char *as_older_sshd(char *line) {
    static const char *const words[][2] = {{"tcpkeepalive true", "tcpkeepalive yes"},
                                           {"tcpkeepalive false", "tcpkeepalive no"},
                                           {"permitrootlogin prohibit-password", "permitrootlogin without-password"}};
    for (char *c = line; *c && *c != ' '; c++)
        *c = (char)tolower((unsigned char)*c);
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (!strcmp(line, words[i][0]))
            return words[i][1];
    return line;
}

static uint32_t compare(const char *theirs, const char *ours) {
    char *copy = text_copy(theirs), *rest = copy;
    uint32_t compared = 0;
    for (char *at; (at = strsep(&rest, "\n"));) {
        const char *line = as_older_sshd(at);
        bool own_default = !strncmp(line, "kexalgorithms sntrup", 20) || !strncmp(line, "kexalgorithms mlkem", 19);
        if (!common(line) || own_default)
            continue;
        compared++;
        cr_assert(server_fixture_has_line(ours, line), "sshd says '%s', leatd:\n%s", line, ours);
    }
    free(copy);
    return compared;
}

static const char *const for_both[] = {
    "# nothing\n",
    "Port 2200\nPort 2201\nListenAddress 127.0.0.1\nListenAddress [::1]:5\nAddressFamily any\n",
    "AddressFamily inet\nLoginGraceTime 1h30m\nMaxAuthTries 3\nMaxSessions 0\nClientAliveInterval 2m\n",
    "ClientAliveCountMax 0\nStrictModes no\nRequiredRSASize 3072\nStreamLocalBindMask 0117\n",
    "UnusedConnectionTimeout 5m\nPermitOpen host:80 [::1]:* *:22\nPubkeyAuthentication no\nKeepAlive no\n",
    "GatewayPorts clientspecified\nPermitListen 80 localhost:* [::]:81\nAllowTcpForwarding local\n",
    "DisableForwarding yes\nAllowStreamLocalForwarding remote\nBanner /etc/issue\nStreamLocalBindUnlink yes\n",
    "VersionAddendum  some \"words\" # all of them \nLogLevel verbose\nSyslogFacility local5\nPermitOpen none\n",
    "AllowUsers a b@10.0.0.0/8\nAllowUsers c\nDenyUsers d\nAllowGroups e f\nDenyGroups g\nPermitListen none\n",
    "AuthorizedKeysFile /k/%u %h/k\nMaxStartups 5:10:20\nPerSourceMaxStartups 4\nPerSourceNetBlockSize 24:56\n",
    "RekeyLimit 512M 1d\nKexAlgorithms curve25519-sha256\nPermitRootLogin no\nMaxStartups 7\n",
    "MaxSessions 5\nMatch user nobody\nMaxSessions 1\nMatch all\nPort 33\nMaxSessions 2\n",
    "MaxSessions=5\nMAXAUTHTRIES = \"4\"\nRekeyLimit default none\nAuthorizedKeysFile none\n",
};

/* sshd prints nothing without a host key. */
static void make_host_key(void) {
    int made = system(NULL) ? system("command -v ssh-keygen >/dev/null") : 1;
    if (made != 0)
        skip_after(teardown(), "no ssh-keygen");
    char *command = text_format("ssh-keygen -q -t ed25519 -N '' -f %s/key", files.home);
    cr_assert_eq(system(command), 0);
    free(command);
}

/* Whichever release is installed: leatd may ignore or refuse a directive, but must have an opinion on it. */
Test(server_config_files, no_directive_of_sshd_is_unknown) {
    make_host_key();
    server_fixture_file(&files, "main", "");
    char *theirs = sshd_print(), *rest = theirs;
    if (!theirs)
        skip_after(teardown(), "no sshd that answers -T");
    uint32_t lines = 0;
    for (char *line; (line = strsep(&rest, "\n"));) {
        struct server_config *config = NULL;
        if (!*line)
            continue;
        lines++;
        if (server_fixture_read_bytes(line, strlen(line), &config) == 0)
            server_config_unref(config);
        else
            cr_assert_null(strstr(server_fixture_log, "unknown"), "%s", server_fixture_log);
    }
    cr_assert_geq(lines, 60u);
    free(theirs);
}

Test(server_config_files, the_same_as_sshd) {
    make_host_key();
    for (size_t i = 0; i < sizeof for_both / sizeof *for_both; i++) {
        server_fixture_file(&files, "main", for_both[i]);
        char *theirs = sshd_print();
        if (!theirs && i == 0)
            skip_after(teardown(), "no sshd that answers -T");
        cr_assert(theirs, "sshd refuses '%s'", for_both[i]);
        char *ours = print_for("", NULL);
        cr_assert_geq(compare(theirs, ours), 30u);
        free(theirs);
        free(ours);
    }
}
