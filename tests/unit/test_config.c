#include "engine/limits.h"
#include "options_fixture.h"
#include <sys/socket.h>

static struct fixture fixture;
static void setup(void) {
    fixture_init(&fixture);
}
static void teardown(void) {
    fixture_deinit(&fixture);
}
TestSuite(config, .init = setup, .fini = teardown);

#define OPTIONS (&fixture.options)
#define USER_CONFIG ".ssh/config"

static void read_with(const char *config, const char *args) {
    fixture_file(&fixture, USER_CONFIG, config);
    fixture_read_well(&fixture, args);
}

static void refuse_with(const char *config, const char *text) {
    fixture_file(&fixture, USER_CONFIG, config);
    fixture_read_badly(&fixture, "work", text);
}

Test(config, command_line_then_person_then_system) {
    fixture_file(&fixture, "etc/ssh_config", "Port 3\nUser system\nBindAddress 10.0.0.3\n");
    read_with("Port 2\nUser person\n", "-p|1|work");
    cr_assert_eq(OPTIONS->port, 1);
    cr_assert_str_eq(OPTIONS->user, "person");
    cr_assert_str_eq(OPTIONS->bind_address, "10.0.0.3");
}

Test(config, F_replaces_both_files) {
    fixture_file(&fixture, "etc/ssh_config", "Port 3\n");
    fixture_file(&fixture, USER_CONFIG, "Port 2\n");
    fixture_file(&fixture, "own", "User own\n");
    char *args = text_format("-F|%s/own|work", fixture.home);
    fixture_read_well(&fixture, args);
    free(args);
    cr_assert_eq(OPTIONS->port, 22);
    cr_assert_str_eq(OPTIONS->user, "own");
    fixture_read_well(&fixture, "-F|none|work");
    cr_assert_eq(OPTIONS->port, 22);
    cr_assert_str_eq(OPTIONS->user, "miller");
}

Test(config, lists_add_up_and_single_values_do_not) {
    read_with("IdentityFile /a\nIdentityFile /b\nUserKnownHostsFile /a /b\nUserKnownHostsFile /c\n"
              "LocalForward 1 h:1\nLocalForward 2 h:2\nTCPKeepAlive no\nKeepAlive yes\n",
              "work");
    cr_assert_eq(OPTIONS->identity_files.count, 2);
    cr_assert_eq(OPTIONS->user_known_hosts_files.count, 2);
    cr_assert_str_eq(OPTIONS->user_known_hosts_files.items[1], "/b");
    cr_assert_eq(OPTIONS->forwards_count, 2);
    cr_assert_not(OPTIONS->tcp_keepalive, "an alias is the same keyword");
}

/* The last two are OpenSSH 10.6's. */
Test(config, words_for_yes_of_tcp_keepalive) {
    static const char *const words[] = {"yes", "true", "transport", "all"};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        char *statements = text_format("TCPKeepAlive %s\nTCPKeepAlive no\n", words[i]);
        read_with(statements, "work");
        cr_assert(OPTIONS->tcp_keepalive, "%s", words[i]);
        free(statements);
    }
    read_with("TCPKeepAlive false\n", "work");
    cr_assert_not(OPTIONS->tcp_keepalive);
}

struct matched {
    const char *config, *args;
    uint16_t port; /* 1 where the block applies; 22 */
};

static const struct matched matched[] = {
    {"Host work\nPort 1\n", "work", 1},
    {"Host WORK\nPort 1\n", "work", 22},
    {"Host w*k\nPort 1\n", "work", 1},
    {"Host wor?\nPort 1\n", "work", 1},
    {"Host wor??\nPort 1\n", "work", 22},
    {"Host x \"work\" y\nPort 1\n", "work", 1},
    {"Host * !work\nPort 1\n", "work", 22},
    {"Host !other\nPort 1\n", "work", 22},
    {"Host a,work\nPort 1\n", "work", 22},
    {"Host=work\nPort 1\n", "work", 1},
    {"HostName other\nHost other\nPort 1\n", "work", 22},
    {"HostName other\nMatch host other\nPort 1\n", "work", 1},
    {"HostName other\nMatch originalhost work\nPort 1\n", "work", 1},
    {"Match host work,other\nPort 1\n", "work", 1},
    {"Match host *,!work\nPort 1\n", "work", 22},
    {"Match !host other\nPort 1\n", "work", 1},
    {"Match host work !user bob\nPort 1\n", "bob@work", 22},
    {"Match user bob\nPort 1\n", "-l|bob|work", 1},
    {"Match user miller\nPort 1\n", "work", 1},
    {"Match user BOB\nPort 1\n", "bob@work", 22},
    {"Match localuser miller\nPort 1\n", "bob@work", 1},
    {"Match localuser bob\nPort 1\n", "bob@work", 22},
    {"Match all\nPort 1\n", "work", 1},
    {"Match !all\nPort 1\n", "work", 22},
    {"Match final all\nPort 1\n", "work", 1},
    {"Match final host work\nPort 1\n", "work", 1},
    {"Match !final host work\nPort 1\n", "work", 1},
    {"Match canonical\nPort 1\n", "work", 22},
    {"Match !canonical all\nPort 1\n", "work", 1},
    {"HostName other\nMatch final\nUser x\nHost other\nPort 1\n", "work", 1},
    {"Tag green\nMatch tagged green\nPort 1\n", "work", 1},
    {"Match tagged green\nPort 1\n", "-P|green|work", 1},
    {"Match tagged green\nPort 1\n", "work", 22},
    {"Match tagged \"\"\nPort 1\n", "work", 1},
    {"Match command \"\"\nPort 1\n", "work", 1},
    {"Match command ls\nPort 1\n", "work", 22},
    {"Match sessiontype none\nPort 1\n", "work", 1},
    {"Match sessiontype shell,exec\nPort 1\n", "work", 22},
    {"Match version leat_*\nPort 1\n", "work", 1},
    {"Match version OpenSSH_*\nPort 1\n", "work", 22},
    {"Match localnetwork 127.0.0.0/8\nPort 1\n", "work", 1},
    {"Match localnetwork 127.0.0.1\nPort 1\n", "work", 1},
    {"Match localnetwork 0.0.0.0/0,!127.0.0.0/9\nPort 1\n", "work", 22},
    {"Match localnetwork 240.0.0.0/5\nPort 1\n", "work", 22},
    {"Match host=work user=bob # comment\nPort 1\n", "bob@work", 1},
    {"Match host work # user bob\nPort 1\n", "work", 1},
    {"Match host all\nPort 1\n", "all", 1},
    {"match HOST work\nport 1\n", "work", 1},
};

Test(config, host_and_match) {
    for (size_t i = 0; i < sizeof matched / sizeof *matched; i++) {
        read_with(matched[i].config, matched[i].args);
        cr_assert_eq(OPTIONS->port, matched[i].port, "'%s' with '%s': %u", matched[i].args, matched[i].config,
                     OPTIONS->port);
    }
}

Test(config, match_exec_runs_only_what_can_matter) {
    read_with("HostName real\nPort 7\nUser bob\nMatch exec \"probe %h %n %p %r %u %k %d %%\"\nBindAddress 1.1.1.1\n",
              "work");
    char *expected = text_format("probe real work 7 bob miller work %s %%", fixture.home);
    cr_assert_str_eq(fixture_command, expected);
    free(expected);
    cr_assert_str_eq(OPTIONS->bind_address, "1.1.1.1");
    fixture_status = 1;
    fixture_read_well(&fixture, "work");
    cr_assert_null(OPTIONS->bind_address);
    fixture_command[0] = 0;
    read_with("Match host other exec probe\nPort 1\n", "work");
    cr_assert_eq(fixture_command[0], 0, "the host did not match");
    fixture_file(&fixture, ".ssh/part", "Match exec probe\nPort 1\n");
    read_with("Host other\nInclude part\n", "work");
    cr_assert_eq(fixture_command[0], 0, "the file is included where nothing applies");
    fixture_status = -1;
    refuse_with("Match exec probe\n", ":1: Match exec: cannot run 'probe'");
}

Test(config, includes) {
    fixture_file(&fixture, ".ssh/one.conf", "Port 1\nHost nobody\nUser nobody\n");
    fixture_file(&fixture, ".ssh/two.conf", "Port 2\nUser two\n");
    fixture_file(&fixture, ".ssh/a file", "BindAddress 9.9.9.9\n");
    read_with("Include *.conf \"a file\" nothing*\nServerAliveInterval 5\n", "work");
    cr_assert_eq(OPTIONS->port, 1, "in lexical order");
    cr_assert_str_eq(OPTIONS->user, "two");
    cr_assert_str_eq(OPTIONS->bind_address, "9.9.9.9");
    cr_assert_eq(OPTIONS->server_alive_interval_s, 5, "a block ends with the file it is in");
    read_with("Host other\nInclude two.conf\nHost work\nInclude ~/.ssh/one.conf\n", "work");
    cr_assert_eq(OPTIONS->port, 1);
    cr_assert_str_eq(OPTIONS->user, "miller", "Include within a block is conditional");
    setenv("LEAT_TEST_PART", "two", 1);
    read_with("Include ${LEAT_TEST_PART}.conf\n", "work");
    cr_assert_eq(OPTIONS->port, 2);
    read_with("Include %n.conf\n", "one");
    cr_assert_eq(OPTIONS->port, 1);
    fixture_file(&fixture, "etc/part", "Port 3\n");
    fixture_file(&fixture, "etc/ssh_config", "Include part\n");
    read_with("", "work");
    cr_assert_eq(OPTIONS->port, 3, "relative to the including file's directory");
    fixture_file(&fixture, "etc/ssh_config", "Include ~/part\n");
    fixture_read_badly(&fixture, "work", "@/etc/ssh_config:1: Include: '~/part': ~ has no meaning");
}

Test(config, include_depth_is_bounded) {
    refuse_with("Include config\n", "@/.ssh/config:1: Include: more than 16 levels deep");
    for (unsigned i = 1; i <= LIMIT_CONFIG_INCLUDE_DEPTH; i++) {
        char *name = text_format(".ssh/level%u", i), *text = text_format("Include level%u\nPort %u\n", i + 1, i);
        fixture_file(&fixture, name, i < LIMIT_CONFIG_INCLUDE_DEPTH ? text : "Port 16\n");
        free(name);
        free(text);
    }
    read_with("Include level1\n", "work");
    cr_assert_eq(OPTIONS->port, 16, "the deepest is read first");
}

Test(config, an_error_in_an_included_file_names_that_file) {
    fixture_file(&fixture, ".ssh/part", "\n# nothing\nPort x\n");
    refuse_with("User a\nInclude part\n", "@/.ssh/part:3: Port: bad port: 'x'");
}

Test(config, tokens_in_paths) {
    setenv("LEAT_TEST_VALUE", "v%n", 1);
    char host[256] = "";
    cr_assert_eq(gethostname(host, sizeof host - 1), 0);
    char *full = text_copy(host);
    host[strcspn(host, ".")] = 0;
    char *expected[] = {
        text_copy("/k/real-2022-bob-work-miller"),
        text_format("/k/%u%%", (unsigned)getuid()),
        text_format("%s/x", fixture.home),
        text_format("%s/y", fixture.home),
        text_format("/k/%s/%s", host, full),
        text_copy("/k/alias/j:1"),
        text_copy("/k/v%n/$x"),
        text_copy("/root"),
    };
    free(full);
    read_with(
        "HostName real\nPort 2022\nUser bob\nHostKeyAlias alias\nProxyJump j:1\n"
        "UserKnownHostsFile /k/%h-%p-%r-%n-%u /k/%i%% ~/x %d/y /k/%L/%l /k/%k/%j /k/${LEAT_TEST_VALUE}/$x ~root\n",
        "work");
    for (unsigned i = 0; i < sizeof expected / sizeof *expected; i++) {
        cr_assert_str_eq(OPTIONS->user_known_hosts_files.items[i], expected[i]);
        free(expected[i]);
    }
}

struct quoted {
    const char *line, *user;
};

Test(config, quoting_and_separators) {
    static const struct quoted quoted[] = {
        {"User bob", "bob"},         {"User=bob", "bob"},
        {"User = bob", "bob"},       {"\tUser \t=\t bob \t\r", "bob"},
        {"User==bob", "=bob"},       {"User \"a b\"", "a b"},
        {"User 'a b'", "a b"},       {"User a\\ b", "a b"},
        {"User \"a\\\"b\"", "a\"b"}, {"User 'a\\'b'", "a'b"},
        {"User a\\\\b", "a\\b"},     {"User a\\b", "a\\b"},
        {"User \"a\\ b\"", "a\\ b"}, {"User a\"b c\"d", "ab cd"},
        {"User a#b", "a#b"},         {"User bob #c", "bob"},
        {"User bob\f", "bob"},       {"USER bob", "bob"},
    };
    for (size_t i = 0; i < sizeof quoted / sizeof *quoted; i++) {
        read_with(quoted[i].line, "work");
        cr_assert_str_eq(OPTIONS->user, quoted[i].user, "%s", quoted[i].line);
    }
}

Test(config, errors_name_file_and_line) {
    static const char *const wrong[][2] = {
        {"\nFoo bar\n", "@/.ssh/config:2: Foo: unknown keyword"},
        {"Port\n", "@/.ssh/config:1: Port: no argument given"},
        {"Port # 5\n", ":1: Port: no argument given"},
        {"User \"\"\n", ":1: User: must not be empty"},
        {"User a b\n", ":1: User: more than one argument, from: 'a'"},
        {"User 'a\n", ":1: User: a quote is not closed"},
        {"Host\n", ":1: Host: no pattern given"},
        {"Host \"\"\n", ":1: Host: an empty pattern"},
        {"Host 'a\n", ":1: Host: a quote is not closed"},
        {"Match\n", ":1: Match: no condition given"},
        {"Match host\n", ":1: Match: 'host' needs an argument"},
        {"Match host \"\"\n", ":1: Match: 'host' needs an argument"},
        {"Match hosts work\n", ":1: Match: 'hosts' is not supported"},
        {"Match all host work\n", ":1: Match: 'all' cannot be combined"},
        {"Match host work all\n", ":1: Match: 'all' cannot be combined"},
        {"Match localnetwork 10.0.0.0/33\n", ":1: Match localnetwork: '10.0.0.0/33' is no list of networks"},
        {"Match localnetwork office\n", "is no list of networks"},
        {"Match exec \"x %C\"\n", ":1: Match exec: token '%C' cannot be used here"},
        {"Include\n", ":1: Include: no file given"},
        {"Include ${LEAT_TEST_NOT_SET}\n", "Include: environment variable LEAT_TEST_NOT_SET is not set"},
        {"Host other\nPort x\n", ":2: Port: bad port: 'x'"},
        {"Host other\nLocalForward 80 h\n", ":2: LocalForward: must be"},
        {"LocalForward 80 h:80\n\nDynamicForward 1080\n", ":3: DynamicForward: dynamic forwarding (SOCKS)"},
        {"RemoteForward 80 /s\n", ":1: RemoteForward: forwarding of Unix-domain sockets"},
        {"LocalCommand x\nHost work\nPermitLocalCommand yes\n", ":1: LocalCommand: is not supported"},
        {"IgnoreUnknown x*,y\nX1 2\nY\nZ 3\n", ":4: Z: unknown keyword"},
        {"X1 2\nIgnoreUnknown x*\n", ":1: X1: unknown keyword"},
        {"Tunnel yes\n", ":1: Tunnel: is not supported by leat: 'yes'"},
        {"Include .\n", "cannot read @/.ssh/."},
    };
    unsetenv("LEAT_TEST_NOT_SET");
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        refuse_with(wrong[i][0], wrong[i][1]);
}

Test(config, what_does_not_apply_is_not_refused) {
    read_with("Tunnel no\nTunnel yes\nHost other\nDynamicForward 1080\nTunnel yes\nRevokedHostKeys /x\n"
              "Ciphers aes128-ctr\nRefuseConnection no\nLocalForward 80 /socket\nPermitLocalCommand yes\nHost work\n"
              "LocalCommand x\nPort 1\n",
              "work");
    cr_assert_eq(OPTIONS->port, 1);
}

Test(config, long_and_strange_lines) {
    char *long_value = calloc(1, LIMIT_CONFIG_LINE_BYTES + 100);
    memset(long_value, 'a', LIMIT_CONFIG_LINE_BYTES - 6);
    char *text = text_format("User %s\n", long_value);
    cr_assert_eq(strlen(text), LIMIT_CONFIG_LINE_BYTES);
    read_with(text, "work");
    cr_assert_eq(strlen(OPTIONS->user), LIMIT_CONFIG_LINE_BYTES - 6);
    text_set(&text, text_format("User %sa\n", long_value));
    refuse_with(text, ":1: line: longer than 65536 bytes");
    free(text);
    free(long_value);
    char *path = text_format("%s/%s", fixture.home, USER_CONFIG);
    FILE *file = fopen(path, "we");
    fwrite("Port 1\nUser a\0b\n", 1, 16, file);
    fclose(file);
    free(path);
    fixture_read_badly(&fixture, "work", ":2: line: a NUL byte");
    read_with("Port 1", "work");
    cr_assert_eq(OPTIONS->port, 1, "the last line needs no newline");
}

Test(config, permissions_as_in_ssh) {
    static const struct {
        mode_t mode;
        bool good;
    } modes[] = {{0600, true}, {0644, true}, {0400, true}, {0620, false}, {0602, false}, {0666, false}};
    char *path = text_format("%s/%s", fixture.home, USER_CONFIG);
    fixture_file(&fixture, USER_CONFIG, "Port 1\n");
    for (unsigned i = 0; i < sizeof modes / sizeof *modes; i++) {
        cr_assert_eq(chmod(path, modes[i].mode), 0);
        if (modes[i].good)
            fixture_read_well(&fixture, "work");
        else
            fixture_read_badly(&fixture, "work", "bad owner or permissions on @/.ssh/config");
    }
    char *args = text_format("-F|%s|work", path);
    fixture_read_well(&fixture, args); /* who names a file has looked at it */
    free(args);
    cr_assert_eq(chmod(path, 0600), 0);
    if (getuid() == 0) {
        cr_assert_eq(chown(path, 12345, 12345), 0);
        fixture_read_badly(&fixture, "work", "bad owner or permissions");
        fixture.environment.uid = 12345;
        fixture_read_well(&fixture, "work");
        fixture.environment.uid = 54321;
        cr_assert_eq(chown(path, 0, 0), 0);
        fixture_read_well(&fixture, "work"); /* root's is good for everyone */
        fixture.environment.uid = 0;
    }
    free(path);
    fixture_file(&fixture, ".ssh/part", "Port 2\n");
    path = text_format("%s/.ssh/part", fixture.home);
    cr_assert_eq(chmod(path, 0666), 0);
    free(path);
    refuse_with("Include part\n", "bad owner or permissions on @/.ssh/part");
}

/* Every keyword of ssh_config(5), OpenSSH 10, with a value that people have. Those refused are in test_options.c. */
static const char *const every_keyword[] = {
    "AddKeysToAgent yes",
    "AddressFamily any",
    "BatchMode no",
    "BindAddress 127.0.0.1",
    "CanonicalDomains a.example",
    "CanonicalizeFallbackLocal yes",
    "CanonicalizeHostname no",
    "CanonicalizeMaxDots 1",
    "CanonicalizePermittedCNAMEs none",
    "CASignatureAlgorithms ssh-ed25519",
    "CertificateFile ~/.ssh/c",
    "ChannelTimeout session=5m x11-connection=1h",
    "CheckHostIP no",
    "Ciphers aes128-gcm@openssh.com",
    "ClearAllForwardings no",
    "Compression yes",
    "ConnectionAttempts 2",
    "ConnectTimeout 10",
    "ControlMaster auto",
    "ControlPath ~/.ssh/%C",
    "ControlPersist 10m",
    "EnableEscapeCommandline no",
    "EnableSSHKeysign no",
    "EscapeChar none",
    "ExitOnForwardFailure yes",
    "FingerprintHash sha256",
    "ForkAfterAuthentication no",
    "ForwardAgent yes",
    "ForwardX11 no",
    "ForwardX11Timeout 20m",
    "ForwardX11Trusted yes",
    "GatewayPorts no",
    "GlobalKnownHostsFile /etc/ssh/ssh_known_hosts",
    "GSSAPIAuthentication yes",
    "GSSAPIDelegateCredentials no",
    "HashKnownHosts yes",
    "HostbasedAcceptedAlgorithms ssh-ed25519",
    "HostbasedAuthentication no",
    "HostKeyAlgorithms ssh-ed25519",
    "HostKeyAlias a",
    "Hostname %h",
    "IdentitiesOnly yes",
    "IdentityAgent SSH_AUTH_SOCK",
    "IdentityFile ~/.ssh/id_ed25519",
    "IgnoreUnknown x",
    "IPQoS af21 cs1",
    "KbdInteractiveAuthentication yes",
    "KbdInteractiveDevices pam",
    "KexAlgorithms curve25519-sha256",
    "KnownHostsCommand none",
    "LocalCommand echo 'hi",
    "LocalForward 8080 h:80",
    "LogLevel INFO",
    "LogVerbose kex.c:*",
    "MACs hmac-sha2-256",
    "NoHostAuthenticationForLocalhost no",
    "NumberOfPasswordPrompts 3",
    "ObscureKeystrokeTiming interval:80",
    "PasswordAuthentication yes",
    "PermitLocalCommand no",
    "PermitRemoteOpen any",
    "PKCS11Provider none",
    "Port 22",
    "PreferredAuthentications publickey",
    "ProxyCommand nc %h %p",
    "ProxyJump none",
    "ProxyUseFdpass no",
    "PubkeyAcceptedAlgorithms ssh-ed25519",
    "PubkeyAuthentication unbound",
    "RekeyLimit default none",
    "RemoteCommand tmux attach",
    "RemoteForward 8080 h:80",
    "RequestTTY yes",
    "RequiredRSASize 2048",
    "RevokedHostKeys none",
    "SecurityKeyProvider internal",
    "SendEnv LANG LC_*",
    "ServerAliveCountMax 3",
    "ServerAliveInterval 15",
    "SessionType default",
    "SetEnv A=\"b c\"",
    "StdinNull yes",
    "StreamLocalBindMask 0177",
    "StreamLocalBindUnlink yes",
    "StrictHostKeyChecking ask",
    "SyslogFacility USER",
    "TCPKeepAlive yes",
    "Tag green",
    "Tunnel no",
    "TunnelDevice any:any",
    "UpdateHostKeys ask",
    "User bob",
    "UserKnownHostsFile ~/.ssh/known_hosts",
    "VerifyHostKeyDNS no",
    "VersionAddendum none",
    "VisualHostKey yes",
    "WarnWeakCrypto no",
    "XAuthLocation /usr/bin/xauth",
    /* Aliases and words of earlier releases. */
    "ChallengeResponseAuthentication yes",
    "DSAAuthentication yes",
    "HostbasedKeyTypes ssh-ed25519",
    "IdentityFile2 ~/x",
    "KeepAlive yes",
    "PubkeyAcceptedKeyTypes ssh-ed25519",
    "SKeyAuthentication yes",
    "Cipher 3des",
    "CompressionLevel 6",
    "Protocol 2",
    "RSAAuthentication yes",
    "RhostsRSAAuthentication no",
    "UsePrivilegedPort no",
    "UseRoaming no",
    /* leat's own. */
    "Connections 2",
    "Shards 2",
    "IoBackend epoll",
    "MaxWindow 4M",
    "MemoryLimit 1G",
    "DrainTimeout 10",
    "Stripes 4",
    "Reconnect no",
};

Test(config, every_keyword_is_known) {
    char *all = text_copy("");
    for (size_t i = 0; i < sizeof every_keyword / sizeof *every_keyword; i++) {
        read_with(every_keyword[i], "work");
        cr_assert_eq(fixture.log[0], 0, "%s: %s", every_keyword[i], fixture.log);
        text_set(&all, text_format("%s%s\n", all, every_keyword[i]));
    }
    read_with(all, "work");
    free(all);
}

Test(config, notes_come_once_even_when_files_are_read_twice) {
    read_with("ControlMaster auto\nMatch final all\nPort 1\n", "-v|work");
    char *first = strstr(fixture.log, "config:1: ControlMaster: has no effect on leat");
    cr_assert(first, "%s", fixture.log);
    cr_assert_null(strstr(strchr(first, '\n'), "ControlMaster"));
    read_with("ControlMaster auto\nLogLevel VERBOSE\n", "work");
    cr_assert(strstr(fixture.log, "ControlMaster"), "whatever the order of the lines");
}

/* The pattern matcher against the plain recursive definition. */
static bool model_match(const char *text, const char *pattern) {
    if (!*pattern)
        return !*text;
    if (*pattern == '*')
        return model_match(text, pattern + 1) || (*text && model_match(text + 1, pattern));
    return *text && (*pattern == '?' || *pattern == *text) && model_match(text + 1, pattern + 1);
}

Test(config, patterns_against_a_model) {
    srand(11);
    unsigned matches = 0;
    for (unsigned round = 0; round < 200000; round++) {
        char text[9], pattern[9];
        unsigned text_len = (unsigned)rand() % sizeof text, pattern_len = (unsigned)rand() % sizeof pattern;
        for (unsigned i = 0; i < text_len; i++)
            text[i] = "ab"[(unsigned)rand() % 2];
        for (unsigned i = 0; i < pattern_len; i++)
            pattern[i] = "ab?*"[(unsigned)rand() % 4];
        text[text_len] = pattern[pattern_len] = 0;
        bool expected = model_match(text, pattern);
        matches += expected;
        cr_assert_eq(pattern_match(text, pattern, false), expected, "'%s' '%s'", text, pattern);
    }
    cr_assert(matches > 1000);
    cr_assert(pattern_match("ABC", "a?c", true));
    cr_assert_not(pattern_match("ABC", "a?c", false));
    cr_assert_eq(pattern_list_match("b", "a,!b,*", false), PATTERN_NEGATED);
    cr_assert_eq(pattern_list_match("b", "*,!b", false), PATTERN_NEGATED);
    cr_assert_eq(pattern_list_match("c", "a,!b", false), PATTERN_NONE);
    cr_assert_eq(pattern_list_match("", "", false), PATTERN_MATCHED);
}
