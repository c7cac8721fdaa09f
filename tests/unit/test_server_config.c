/* Values, defaults, which statement wins, errors with their place. */
#include "engine/limits.h"
#include "server_config_fixture.h"
#include <syslog.h>

/* A statement and the line of -T that shows it. */
static const char *const shown[][2] = {
    {"Port 2200", "port 2200"},
    {"port 2200", "port 2200"},
    {"Port=2200", "port 2200"},
    {"Port\t=\t\"2200\"  # comment", "port 2200"},
    {"  Port 2200\r", "port 2200"},
    {"Port ssh", "port 22"},
    {"Port 5\nPort 6", "listenaddress 0.0.0.0:6"},
    {"ListenAddress 10.0.0.1", "listenaddress 10.0.0.1:22"},
    {"ListenAddress 10.0.0.1:5", "listenaddress 10.0.0.1:5"},
    {"ListenAddress 10.0.0.1\nPort 7", "listenaddress 10.0.0.1:7"},
    {"ListenAddress ::1", "listenaddress [::1]:22"},
    {"ListenAddress [::1]", "listenaddress [::1]:22"},
    {"ListenAddress [::1]:5", "listenaddress [::1]:5"},
    {"ListenAddress fe80::1%lo", "listenaddress [fe80::1%lo]:22"},
    {"ListenAddress localhost:5", "listenaddress localhost:5"},
    {"AddressFamily inet6", "addressfamily inet6"},
    {"AddressFamily INET", "addressfamily inet"},
    {"HostKey /k", "hostkey /k"},
    {"HostKey /k\nHostKey /l", "hostkey /l"},
    {"HostKey \"/a b\"", "hostkey \"/a b\""},
    {"AuthorizedKeysFile /keys/%u %h/k 100%%", "authorizedkeysfile /keys/%u %h/k 100%%"},
    {"AuthorizedKeysFile /keys/%U", "authorizedkeysfile /keys/%U"},
    {"Port 22", "pubkeyauthoptions none"},
    {"PubkeyAuthOptions none", "pubkeyauthoptions none"},
    {"PubkeyAuthOptions touch-required", "pubkeyauthoptions touch-required"},
    {"PubkeyAuthOptions none Verify-Required", "pubkeyauthoptions verify-required"},
    {"PubkeyAuthOptions verify-required touch-required", "pubkeyauthoptions touch-required verify-required"},
    {"PubkeyAuthOptions touch-required\nPubkeyAuthOptions none", "pubkeyauthoptions touch-required"},
    {"AuthorizedKeysFile none", "authorizedkeysfile none"},
    {"AuthorizedKeysFile /a\nAuthorizedKeysFile /b", "authorizedkeysfile /a"},
    {"StrictModes NO", "strictmodes no"},
    {"StrictModes no\nStrictModes yes", "strictmodes no"},
    {"PubkeyAuthentication no", "pubkeyauthentication no"},
    {"DSAAuthentication no", "pubkeyauthentication no"},
    {"PermitRootLogin no", "permitrootlogin no"},
    {"PermitRootLogin prohibit-password", "permitrootlogin without-password"},
    {"PermitRootLogin forced-commands-only", "permitrootlogin no"},
    {"RefuseConnection yes", "refuseconnection yes"},
    {"AllowUsers a b@10.0.0.0/8\nAllowUsers c", "allowusers c"},
    {"AllowUsers a b@10.0.0.0/8\nAllowUsers c", "allowusers b@10.0.0.0/8"},
    {"DenyUsers \"a b\"", "denyusers \"a b\""},
    {"AllowGroups g", "allowgroups g"},
    {"DenyGroups g h", "denygroups h"},
    {"MaxAuthTries 3", "maxauthtries 3"},
    {"MaxSessions 0", "maxsessions 0"},
    {"MaxSessions 1000", "maxsessions 64"},
    {"RequiredRSASize 2048", "requiredrsasize 2048"},
    {"RequiredRSASize 512", "requiredrsasize 1024"},
    {"Banner /etc/issue", "banner /etc/issue"},
    {"Banner none", "banner none"},
    {"AllowTcpForwarding local", "allowtcpforwarding local"},
    {"AllowTcpForwarding all", "allowtcpforwarding yes"},
    {"AllowStreamLocalForwarding remote", "allowstreamlocalforwarding remote"},
    {"DisableForwarding yes", "disableforwarding yes"},
    {"GatewayPorts clientspecified", "gatewayports clientspecified"},
    {"PermitOpen any", "permitopen any"},
    {"PermitOpen none", "permitopen none"},
    {"PermitOpen h:80 [::1]:* *:22", "permitopen h:80 [::1]:* *:22"},
    {"PermitOpen h:80\nPermitOpen h:81", "permitopen h:80"},
    {"PermitListen 80 H:* [::]:81", "permitlisten *:80 h:* [::]:81"},
    {"StreamLocalBindMask 0007", "streamlocalbindmask 07"},
    {"StreamLocalBindUnlink yes", "streamlocalbindunlink yes"},
    {"ChrootDirectory /jail", "allowstreamlocalforwarding no"},
    {"ChrootDirectory none", "allowstreamlocalforwarding yes"},
    {"LoginGraceTime 1h30m", "logingracetime 5400"},
    {"LoginGraceTime 0", "logingracetime 0"},
    {"ClientAliveInterval 1m", "clientaliveinterval 60"},
    {"ClientAliveCountMax 0", "clientalivecountmax 0"},
    {"ChannelTimeout direct-tcpip=5m global=1h", "channeltimeout direct-tcpip=300 global=3600"},
    {"ChannelTimeout none", "channeltimeout none"},
    {"UnusedConnectionTimeout 5m", "unusedconnectiontimeout 300"},
    {"UnusedConnectionTimeout none", "unusedconnectiontimeout none"},
    {"Ciphers aes256-gcm@openssh.com", "ciphers aes256-gcm@openssh.com"},
    {"Ciphers aes256-ctr,aes256-gcm@openssh.com", "ciphers aes256-gcm@openssh.com"},
    {"Ciphers -aes*", "ciphers chacha20-poly1305@openssh.com"},
    {"Ciphers ^aes256*,aes256-gcm@openssh.com",
     "ciphers aes256-gcm@openssh.com,aes128-gcm@openssh.com,chacha20-poly1305@openssh.com"},
    {"KexAlgorithms curve25519-sha256", "kexalgorithms curve25519-sha256"},
    {"HostKeyAlgorithms rsa-sha2-512", "hostkeyalgorithms rsa-sha2-512"},
    {"PubkeyAcceptedKeyTypes -*ecdsa*,rsa*,sk*", "pubkeyacceptedalgorithms ssh-ed25519"},
    {"RekeyLimit 1G 1h", "rekeylimit 1073741824 3600"},
    {"RekeyLimit default none", "rekeylimit 0 0"},
    {"KeepAlive no", "tcpkeepalive no"},
    {"TCPKeepAlive transport\nTCPKeepAlive no", "tcpkeepalive yes"},
    {"TCPKeepAlive all\nTCPKeepAlive no", "tcpkeepalive yes"},
    {"TCPKeepAlive false", "tcpkeepalive no"},
    {"VersionAddendum  a \"b\" # c  ", "versionaddendum a \"b\" # c"},
    {"VersionAddendum none", "versionaddendum none"},
    {"LogLevel debug", "loglevel DEBUG"},
    {"LogLevel DEBUG3", "loglevel DEBUG3"},
    {"SyslogFacility local3", "syslogfacility LOCAL3"},
    {"SyslogFacility AUTHPRIV", "syslogfacility AUTHPRIV"},
    {"PidFile none", "pidfile none"},
    {"MaxStartups 5", "maxstartups 5:30:5"},
    {"MaxStartups 5:100:5", "maxstartups 5:100:5"},
    {"PerSourceMaxStartups 3", "persourcemaxstartups 3"},
    {"PerSourceMaxStartups none", "persourcemaxstartups none"},
    {"PerSourceNetBlockSize 24:64", "persourcenetblocksize 24:64"},
    {"PerSourceNetBlockSize 24", "persourcenetblocksize 24:128"},
    {"Shards 4", "shards 4"},
    {"Shards auto", "shards auto"},
    {"IoBackend epoll", "iobackend epoll"},
    {"MaxWindow 4M", "maxwindow 4194304"},
    {"MemoryLimit 2G", "memorylimit 2147483648"},
    {"DrainTimeout 1m", "draintimeout 60"},
    {"Relay 80 h:8080", "relay 80 h:8080"},
    {"Relay [::1]:80 [::2]:8080\nRelay 81 x:1", "relay [::1]:80 [::2]:8080"},
    {"LogFormat json", "logformat json"},
    {"User leat\nGroup water", "user leat"},
    {"User leat\nGroup water", "group water"},
    {"AuthenticationMethods any", "port 22"},
    {"AuthenticationMethods password,publickey publickey", "port 22"},
    {"RevokedKeys none\nPubkeyAuthOptions none\nUseDNS no\nRDomain none", "port 22"},
};

Test(server_config, what_is_said_is_shown) {
    for (size_t i = 0; i < sizeof shown / sizeof *shown; i++) {
        struct server_options *options = server_fixture_options(shown[i][0]);
        char *text = server_fixture_print(options);
        cr_assert(server_fixture_has_line(text, shown[i][1]), "'%s' is not '%s' in:\n%s", shown[i][0], shown[i][1],
                  text);
        free(text);
        server_options_unref(options);
    }
}

Test(server_config, defaults_are_those_of_sshd) {
    struct server_options *options = server_fixture_options("# nothing\n\n \t\n");
    cr_assert_eq(options->listen_count, 1);
    cr_assert_null(options->listen[0].host);
    cr_assert_eq(options->listen[0].port, 22);
    cr_assert_eq(options->authorized_keys_files.count, 2);
    cr_assert_str_eq(options->authorized_keys_files.items[1], ".ssh/authorized_keys2");
    cr_assert(options->strict_modes && options->pubkey_authentication && options->permit_root_login);
    cr_assert(options->tcp_keepalive && !options->refuse_connection && !options->disable_forwarding);
    cr_assert_eq(options->allow_tcp_forwarding, FORWARDING_ALL);
    cr_assert_eq(options->allow_streamlocal_forwarding, FORWARDING_ALL);
    cr_assert_not(options->allow_streamlocal_given);
    cr_assert_not(options->permit_open.restricted || options->permit_listen.restricted);
    cr_assert_not(options->host_keys_given);
    cr_assert_eq(options->per_source_max_startups, UINT32_MAX);
    cr_assert_eq(options->syslog_facility, LOG_AUTH);
    cr_assert_eq(options->streamlocal_bind_mask, 0177);
    cr_assert_str_eq(options->pid_file, "/run/leatd.pid");
    cr_assert_null(options->ciphers);
    cr_assert_null(options->run_user);
    cr_assert_eq(options->drain_timeout_s, 10);
    server_options_unref(options);
}

Test(server_config, host_keys_that_are_there_by_default) {
    struct server_options *options = server_fixture_options("Port 22\n");
    for (uint32_t i = 0; i < options->host_keys.count; i++)
        cr_assert_eq(access(options->host_keys.items[i], F_OK), 0);
    bool there = access("/etc/ssh/ssh_host_rsa_key", F_OK) == 0;
    cr_assert(!there || options->host_keys.count >= 1);
    server_options_unref(options);
    options = server_fixture_options("HostKey /k\nHostKey /k\n");
    cr_assert_eq(options->host_keys.count, 1, "none is read twice, none by default");
    cr_assert(options->host_keys_given);
    server_options_unref(options);
}

Test(server_config, relays) {
    struct server_options *options =
        server_fixture_options("Relay 80 h:8080\nRelay *:81 [::1]:1\nRelay localhost:82 h:ssh\n");
    cr_assert_eq(options->relays_count, 3);
    cr_assert_null(options->relays[0].listen.host);
    cr_assert_eq(options->relays[0].listen.port, 80);
    cr_assert_str_eq(options->relays[0].host, "h");
    cr_assert_eq(options->relays[0].port, 8080);
    cr_assert_null(options->relays[1].listen.host);
    cr_assert_str_eq(options->relays[1].host, "::1");
    cr_assert_str_eq(options->relays[2].listen.host, "localhost");
    cr_assert_eq(options->relays[2].port, 22);
    server_options_unref(options);
}

Test(server_config, channel_timeouts_by_type) {
    struct server_options *options = server_fixture_options("ChannelTimeout direct-*=5 *=7 global=9\n");
    cr_assert_eq(server_options_channel_timeout(options, "direct-tcpip"), 5);
    cr_assert_eq(server_options_channel_timeout(options, "session:shell"), 7);
    cr_assert_eq(server_options_channel_timeout(options, "global"), 9);
    server_options_unref(options);
    options = server_fixture_options("ChannelTimeout *=7\n");
    cr_assert_eq(server_options_channel_timeout(options, "global"), 0, "no pattern means all channels together");
    server_options_unref(options);
    options = server_fixture_options("ChannelTimeout session=0 *=7\n");
    cr_assert_eq(server_options_channel_timeout(options, "session"), 0, "the first that fits");
    server_options_unref(options);
}

struct wrong {
    const char *text, *report; /* part of the log's line */
};
static const struct wrong wrongs[] = {
    {"Foo bar", "file:1: Foo: unknown directive"},
    {"Port 1\n\n# c\nFoo", "file:4: Foo: unknown directive"},
    {"Port", "file:1: Port: no argument given"},
    {"Port # 22", "file:1: Port: no argument given"},
    {"Port 22 23", "file:1: Port: more than one argument"},
    {"Port 0", "bad port: '0'"},
    {"Port 65536", "bad port"},
    {"Port==22", "bad port: '=22'"},
    {"Port \"22", "a quote is not closed"},
    {"StrictModes true", "StrictModes: bad value: 'true'"},
    {"StrictModes \"\"", "bad value"},
    {"KeepAlive maybe", "TCPKeepAlive: bad value"},
    {"LoginGraceTime 5x", "bad time: '5x'"},
    {"LoginGraceTime none", "bad time"},
    {"LoginGraceTime -1", "bad time"},
    {"MaxAuthTries -1", "bad number"},
    {"MaxAuthTries 4294967296", "bad number"},
    {"ClientAliveCountMax x", "bad number"},
    {"ListenAddress :33", "no address"},
    {"ListenAddress *", "no address"},
    {"ListenAddress h:0", "bad port"},
    {"ListenAddress [::1", "'[' without ']'"},
    {"ListenAddress a/b", "bad address"},
    {"ListenAddress 1.2.3.4 rdomain 3", "routing domains"},
    {"ListenAddress 1.2.3.4 x", "more than one argument"},
    {"AddressFamily inet\nListenAddress ::1", "not an address of AddressFamily inet"},
    {"HostKey ~/k", "~ has no meaning"},
    {"Banner \"\"", "must not be empty"},
    {"AuthorizedKeysFile ~/k", "~ has no meaning"},
    {"AuthorizedKeysFile %k", "only %h, %u, %U and %% are expanded"},
    {"AuthorizedKeysFile x%", "only %h, %u, %U and %% are expanded"},
    {"AuthorizedKeysFile \"\"", "must not be empty"},
    {"AllowUsers a@", "nothing after '@'"},
    {"AllowUsers \"\"", "an empty pattern"},
    {"AllowUsers a@1.2.3.4/33", "AllowUsers: "},
    {"DenyGroups \"\"", "an empty pattern"},
    {"AllowTcpForwarding maybe", "bad value"},
    {"PermitOpen h", "must be host:port: 'h'"},
    {"PermitOpen h:0", "bad port number"},
    {"PermitOpen none h:1", "more than one argument"},
    {"PermitOpen ANY", "must be host:port"},
    {"PermitListen h:0", "bad port number"},
    {"StreamLocalBindMask 8", "octal"},
    {"StreamLocalBindMask 1000", "octal"},
    {"StreamLocalBindMask \"\"", "octal"},
    {"ChannelTimeout =5m", "must be type=interval"},
    {"ChannelTimeout x", "must be type=interval"},
    {"ChannelTimeout x=", "must be type=interval"},
    {"ChannelTimeout none x=1", "'none' must stand alone"},
    {"UnusedConnectionTimeout never", "bad time"},
    {"Ciphers aes256-ctr", "leatd only has"},
    {"KexAlgorithms \"a b\"", "bad name"},
    {"KexAlgorithms ^-a", "bad name"},
    {"KexAlgorithms -*", "no algorithm remains"},
    {"RekeyLimit none", "bad size"},
    {"RekeyLimit 15", "bad size"},
    {"RekeyLimit 1G x", "bad time"},
    {"RekeyLimit 1G 1h x", "more than two arguments"},
    {"VersionAddendum \001", "printable"},
    {"LogLevel loud", "bad value"},
    {"SyslogFacility kern", "bad value"},
    {"MaxStartups 0", "begin:rate:full"},
    {"MaxStartups 10:30", "begin:rate:full"},
    {"MaxStartups 10:30:5", "begin:rate:full"},
    {"MaxStartups 10:0:100", "begin:rate:full"},
    {"MaxStartups 10:101:100", "begin:rate:full"},
    {"MaxStartups 10:30:100:1", "begin:rate:full"},
    {"PerSourceNetBlockSize 33", "bits of IPv4"},
    {"PerSourceNetBlockSize 32:129", "bits of IPv4"},
    {"PerSourceMaxStartups all", "none or a number"},
    {"Shards 0", "auto or a number"},
    {"Shards 257", "auto or a number"},
    {"IoBackend kqueue", "bad value"},
    {"MaxWindow 1", "too small"},
    {"MaxWindow 1T", "too large"},
    {"MemoryLimit x", "must be a size"},
    {"Relay 80", "must be [bind:]port host:hostport"},
    {"Relay 80 h", "must be [bind:]port host:hostport"},
    {"Relay 0 h:80", "must be [bind:]port host:hostport"},
    {"Relay 80 h:80 x", "must be [bind:]port host:hostport"},
    {"Relay 80 /socket:1", "no Unix socket"},
    {"Relay 80 a;b:80", "bad host name"},
    {"LogFormat xml", "bad value"},
    {"User \"\"", "must not be empty"},
    {"PrintMotd", "no argument given"},
    {"RevokedKeys /revoked", "RevokedKeys: leatd looks into no list"},
    {"PubkeyAuthOptions touch-required pin",
     "PubkeyAuthOptions: must be none, touch-required or verify-required: 'pin'"},
    {"PubkeyAuthOptions \"\"", "PubkeyAuthOptions: must be none"},
    {"UseDNS yes", "UseDNS: leatd does not look up"},
    {"RDomain 3", "RDomain: leatd knows no"},
    {"AuthenticationMethods publickey,publickey", "no other method"},
    {"AuthenticationMethods password", "no other method"},
    {"AuthenticationMethods publickey any", "'any' must stand alone"},
    {"Include x", "levels deep"},
    {"Include", "Include: no file given"},
};

Test(server_config, errors_tell_where_and_why) {
    for (size_t i = 0; i < sizeof wrongs / sizeof *wrongs; i++) {
        struct server_config *config = NULL;
        int error = server_fixture_read_bytes(wrongs[i].text, strlen(wrongs[i].text), &config);
        cr_assert_eq(error, ERR_CONFIG, "'%s' was accepted", wrongs[i].text);
        cr_assert(strstr(server_fixture_log, wrongs[i].report), "'%s': %s", wrongs[i].text, server_fixture_log);
        const char *newline = strchr(server_fixture_log, '\n');
        cr_assert(newline && !newline[1], "not one line: %s", server_fixture_log);
    }
}

Test(server_config, every_error_is_reported_up_to_a_limit) {
    struct server_config *config;
    cr_assert_eq(server_fixture_read_bytes("Foo 1\nPort 0\nBar 2\n", 19, &config), ERR_CONFIG);
    cr_assert(strstr(server_fixture_log, "file:1:") && strstr(server_fixture_log, "file:2:") &&
              strstr(server_fixture_log, "file:3:"));
    char many[5 * (LIMIT_CONFIG_ERRORS + 50) + 1];
    for (uint32_t i = 0; i < sizeof many / 5; i++)
        memcpy(many + (size_t)5 * i, "Foo \n", 5);
    cr_assert_eq(server_fixture_read_bytes(many, sizeof many - 1, &config), ERR_CONFIG);
    cr_assert(strstr(server_fixture_log, "too many errors"));
    cr_assert_null(strstr(server_fixture_log, "line 101"));
}

struct warned {
    const char *text;
    uint32_t lines;
};
static const struct warned warned[] = {
    {"X11Forwarding yes\n", 1},
    {"X11Forwarding no\n", 0},
    {"UsePAM yes\nPrintMotd no\nSubsystem sftp /x -a 'b\nAcceptEnv LANG LC_*\nAcceptEnv X\n", 3},
    {"PasswordAuthentication no\nKbdInteractiveAuthentication no\n", 0},
    {"ChallengeResponseAuthentication yes\nPerSourcePenalties no\n", 1},
    {"PerSourcePenalties crash:90s\nSshdSessionPath /x\nSshdAuthPath /x\nModuliFile /x\n", 4},
    {"ForceCommand internal-sftp -d \"/x\nChrootDirectory /x\nTrustedUserCAKeys /x\n", 3},
    {"TCPKeepAlive all\nWarnWeakCrypto no\nPAMServiceName sshd\nPAMServiceName x\nAgentSocketPath user:x\n", 3},
    {"Protocol 2\nUsePrivilegeSeparation sandbox\nFingerprintHash sha256\n", 1},
    {"MaxSessions 65\nPermitRootLogin forced-commands-only\n", 2},
    {"Match user x\nX11Forwarding yes\nPermitTTY no\n", 1},
};

Test(server_config, what_does_nothing_is_one_warning) {
    for (size_t i = 0; i < sizeof warned / sizeof *warned; i++) {
        server_config_unref(server_fixture_read(warned[i].text));
        uint32_t lines = 0;
        for (const char *at = server_fixture_log; (at = strstr(at, "leatd: warning: file:")); at++)
            lines++;
        cr_assert_eq(lines, warned[i].lines, "'%s': %s", warned[i].text, server_fixture_log);
    }
}

Test(server_config, hostile_bytes) {
    struct server_config *config;
    cr_assert_eq(server_fixture_read_bytes("Port 22\nPo\0rt 23\n", 17, &config), ERR_CONFIG);
    cr_assert(strstr(server_fixture_log, "file:2: line: a NUL byte"));
    size_t len = LIMIT_CONFIG_LINE_BYTES + 2;
    char *huge = malloc(len);
    memset(huge, 'x', len);
    huge[len - 1] = '\n';
    cr_assert_eq(server_fixture_read_bytes(huge, len, &config), ERR_CONFIG);
    cr_assert(strstr(server_fixture_log, "file:1: line: longer than"));
    free(huge);
    cr_assert_eq(server_fixture_read_bytes("\377\376\200 \n", 5, &config), ERR_CONFIG);
}

Test(server_config, no_more_statements_than_the_limit) {
    struct server_config *config = NULL;
    size_t len = 7 * ((size_t)LIMIT_CONFIG_STATEMENTS + 1);
    char *many = malloc(len);
    for (size_t i = 0; i < len; i += 7)
        memcpy(many + i, "User a\n", 7);
    cr_assert_eq(server_fixture_read_bytes(many, len - 7, &config), 0);
    server_config_unref(config);
    cr_assert_eq(server_fixture_read_bytes(many, len, &config), ERR_CONFIG);
    cr_assert(strstr(server_fixture_log, "more than"));
    free(many);
}

Test(server_config, listeners_are_limited) {
    struct growing text = {0};
    for (unsigned i = 0; i < LIMIT_LISTEN_ADDRESSES / 2; i++)
        growing_add(&text, "ListenAddress 10.0.0.1\n", 23);
    growing_add(&text, "Port 1\nPort 2\n", 14);
    struct server_options *options = server_fixture_options(text.text);
    cr_assert_eq(options->listen_count, LIMIT_LISTEN_ADDRESSES);
    server_options_unref(options);
    growing_add(&text, "Port 3\n", 7);
    struct server_config *config;
    cr_assert_eq(server_fixture_read_bytes(text.text, text.len, &config), ERR_CONFIG);
    cr_assert(strstr(server_fixture_log, "are the most"));
    free(text.text);
}

Test(server_config, options_live_as_long_as_they_are_held) {
    struct server_config *config = server_fixture_read("AllowUsers a\nMatch user x\nBanner /b\n");
    struct server_config *same = server_config_ref(config);
    cr_assert_eq(same, config);
    server_config_unref(config);
    struct match_subject subject = {.user = "x"};
    struct server_options *options = server_config_resolve(same, &subject);
    server_config_unref(same);
    struct server_options *held = server_options_ref(options);
    server_options_unref(options);
    cr_assert_str_eq(held->banner, "/b");
    cr_assert_str_eq(held->allow_users.items[0], "a");
    server_options_unref(held);
    server_options_unref(NULL);
    server_config_unref(NULL);
}
