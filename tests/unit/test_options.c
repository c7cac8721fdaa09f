/* The command line and the effective options, flag by flag and keyword by keyword. Past 600 lines: nearly all of it is
 * tables, one line a case. */
#include "options_fixture.h"
#include "tests/skip.h"
#include <pwd.h>
#include <sys/socket.h>

static struct fixture fixture;
static void setup(void) {
    fixture_init(&fixture);
}
static void teardown(void) {
    fixture_deinit(&fixture);
}
TestSuite(options, .init = setup, .fini = teardown);

#define OPTIONS (&fixture.options)

static void print(const struct options *options, char **text) {
    size_t len;
    FILE *out = open_memstream(text, &len);
    cr_assert(out);
    options_print(options, out);
    fclose(out);
}

/* Is "keyword value" a line of -G's text? */
static bool has_line(const char *text, const char *line) {
    size_t len = strlen(line);
    for (const char *at = text; (at = strstr(at, line)); at++)
        if ((at == text || at[-1] == '\n') && at[len] == '\n')
            return true;
    return false;
}

Test(options, defaults_are_those_of_ssh) {
    fixture_read_well(&fixture, "work");
    cr_assert_str_eq(OPTIONS->host_arg, "work");
    cr_assert_str_eq(OPTIONS->hostname, "work");
    cr_assert_str_eq(OPTIONS->user, "miller");
    cr_assert_eq(OPTIONS->port, 22);
    cr_assert_eq(OPTIONS->family, AF_UNSPEC);
    cr_assert(OPTIONS->tcp_keepalive && OPTIONS->pubkey_authentication && OPTIONS->password_authentication &&
              OPTIONS->kbd_interactive_authentication);
    cr_assert_not(OPTIONS->gateway_ports || OPTIONS->batch_mode || OPTIONS->identities_only || OPTIONS->background ||
                  OPTIONS->exit_on_forward_failure || OPTIONS->check_host_ip || OPTIONS->identity_files_given);
    cr_assert_eq(OPTIONS->connect_timeout_s, 0);
    cr_assert_eq(OPTIONS->server_alive_interval_s, 0);
    cr_assert_eq(OPTIONS->server_alive_count_max, 3);
    cr_assert_eq(OPTIONS->number_of_password_prompts, 3);
    cr_assert_eq(OPTIONS->strict_host_key_checking, HOST_KEY_CHECK_ASK);
    cr_assert_eq(OPTIONS->log_level, LOG_LEVEL_INFO);
    cr_assert_eq(OPTIONS->connections, 1);
    cr_assert_eq(OPTIONS->required_rsa_bits, 1024);
    cr_assert_null(OPTIONS->ciphers);
    cr_assert_null(OPTIONS->proxy_command);
    cr_assert_eq(OPTIONS->identity_files.count, 3);
    char *first = text_format("%s/.ssh/id_rsa", fixture.home);
    cr_assert_str_eq(OPTIONS->identity_files.items[0], first);
    free(first);
    cr_assert_eq(OPTIONS->user_known_hosts_files.count, 2);
    cr_assert_eq(OPTIONS->global_known_hosts_files.count, 2);
    cr_assert_eq(fixture.log[0], 0, "%s", fixture.log);
}

struct printed {
    const char *args, *line; /* of -G; "!…": not there */
};

static const struct printed printed[] = {
    {"h", "host h"},
    {"alice@h", "user alice"},
    {"alice@corp@h", "user alice@corp"},
    {"-l|bob|alice@h", "user bob"},
    {"alice@h|-l|bob", "user alice"},
    {"-l|DOM\\bob|h", "user DOM\\bob"},
    {"-l|a%b|h", "user a%b"},
    {"HOST", "hostname host"},
    {"HOST", "host HOST"},
    {"::1", "hostname ::1"},
    {"[::1]", "hostname ::1"},
    {"fe80::1%eth0", "hostname fe80::1%eth0"},
    {"ssh://h", "port 22"},
    {"ssh://alice@h:2222", "user alice"},
    {"ssh://alice@h:2222", "port 2222"},
    {"ssh://alice@h:2222/", "hostname h"},
    {"ssh://a%40b@h", "user a@b"},
    {"ssh://[::1]:2222", "hostname ::1"},
    {"ssh://[::1]:2222", "port 2222"},
    {"-p|2022|ssh://h:2222", "port 2022"},
    {"ssh://h:2222|-p|2022", "port 2222"},
    {"-p|ssh|h", "port 22"},
    {"h|-p|2022|-4", "port 2022"},
    {"h|-p|2022|-4", "addressfamily inet"},
    {"-6|h", "addressfamily inet6"},
    {"--|h", "host h"},
    {"-fNTn|h", "forkafterauthentication yes"},
    {"-g|h", "gatewayports yes"},
    {"-b|10.0.0.1|h", "bindaddress 10.0.0.1"},
    {"-c|aes256-gcm@openssh.com,aes128-ctr|h", "ciphers aes256-gcm@openssh.com"},
    {"-o|Port=2022|h", "port 2022"},
    {"-o|Port 2022|h", "port 2022"},
    {"-oport = 2022|h", "port 2022"},
    {"-o|Port=2022|-o|Port=2023|-p|2024|h", "port 2022"},
    {"-v|h", "loglevel DEBUG"},
    {"-v|-v|h", "loglevel DEBUG2"},
    {"-vvvv|h", "loglevel DEBUG3"},
    {"-o|LogLevel=ERROR|-v|h", "loglevel DEBUG"},
    {"-v|-o|LogLevel=ERROR|h", "loglevel DEBUG"},
    {"-q|h", "loglevel QUIET"},
    {"-v|-q|h", "loglevel QUIET"},
    {"-L|8080:lan:80|h", "localforward 8080 [lan]:80"},
    {"-L|8080:lan:80|-L|8081:lan:80|h", "localforward 8081 [lan]:80"},
    {"h|-L|*:8080:lan:80", "localforward [*]:8080 [lan]:80"},
    {"-R|0:lan:80|h", "remoteforward 0 [lan]:80"},
    {"-R|[::1]:1:[::2]:80|h", "remoteforward [::1]:1 [::2]:80"},
    {"-o|LocalForward=8080 lan:80|h", "localforward 8080 [lan]:80"},
    {"-L|8080:lan:80|-o|ClearAllForwardings=yes|h", "!localforward"},
    {"-D|1080|-o|ClearAllForwardings=yes|h", "!localforward"},
    {"-akNnTx2Ct|-e|none|-M|-m|hmac-sha2-256|-S|/x|-y|h", "host h"},
    {"-o|RekeyLimit=16M|h", "rekeylimit 16777216 0"},
    {"-o|RekeyLimit=16M 1h30m|h", "rekeylimit 16777216 5400"},
    {"-o|RekeyLimit=default none|h", "rekeylimit 0 0"},
    {"-o|RekeyLimit=none 600|h", "rekeylimit 0 600"},
    {"-o|ConnectTimeout=1m|h", "connecttimeout 60"},
    {"-o|ConnectTimeout=none|h", "connecttimeout none"},
    {"-o|StrictHostKeyChecking=accept-new|h", "stricthostkeychecking accept-new"},
    {"-o|StrictHostKeyChecking=off|h", "stricthostkeychecking false"},
    {"-o|PubkeyAuthentication=host-bound|h", "pubkeyauthentication true"},
    {"-o|ChallengeResponseAuthentication=no|h", "kbdinteractiveauthentication no"},
    {"-o|RequiredRSASize=512|h", "requiredrsasize 1024"},
    {"-o|RequiredRSASize=3072|h", "requiredrsasize 3072"},
    {"-o|UserKnownHostsFile=none|h", "userknownhostsfile none"},
    {"-o|UserKnownHostsFile=/a /b|h", "userknownhostsfile /a /b"},
    {"-o|IdentityFile=none|h", "!identityfile"},
    {"-o|IdentityFile=/a%%b|h", "identityfile /a%b"},
    {"-o|IdentityAgent=none|h", "identityagent none"},
    {"-o|IdentityAgent=SSH_AUTH_SOCK|h", "!identityagent"},
    {"-o|IdentityAgent=/run/%u|h", "identityagent /run/miller"},
    {"-o|IdentityAgent=$LEAT_TEST_NOT_SET|h", "identityagent none"},
    {"-o|User=%u-x|h", "user miller-x"},
    {"-o|HostName=%h.lan|h", "hostname h.lan"},
    {"-o|HostName=%%x|h", "hostname %x"},
    {"-o|HostName=%%h%h|a", "hostname %ha"},
    {"-o|ProxyCommand=nc -X 5 %h %p|-o|HostName=%h.lan|h", "proxycommand nc -X 5 h.lan 22"},
    {"-o|ProxyCommand=nc \"%n\" %r %% # x|h", "proxycommand nc \"h\" miller % # x"},
    {"-o|ProxyCommand=none|-o|ProxyJump=a|h", "!proxy"},
    {"-o|ProxyJump=none|-o|ProxyCommand=a|h", "proxycommand a"},
    {"-o|ProxyJump=a|-o|ProxyCommand=b|h", "proxyjump a"},
    {"-J|a@b:3,ssh://c:4,[::1]:5|h", "proxyjump a@b:3,c:4,[::1]:5"},
    {"-o|Connections=4|h", "connections 4"},
    {"-o|Connections=256|h", "connections 256"},
    {"-o|Connections=auto|h", "connections auto"},
    {"-o|Connections=auto|-o|Connections=4|h", "connections auto"},
    {"-o|Stripes=4|h", "stripes 4"},
    {"-o|Stripes=16|h", "connections 16"},
    {"-o|Stripes=3|-o|Connections=2|h", "connections 3"},
    {"-o|Stripes=3|-o|Connections=5|h", "connections 5"},
    {"-o|Connections=auto|-o|Stripes=3|h", "connections auto"},
    {"-o|Connections=2|h", "stripes 1"},
    {"-o|Shards=2|h", "shards 2"},
    {"-o|Shards=auto|h", "shards auto"},
    {"-o|IoBackend=epoll|h", "iobackend epoll"},
    {"-o|IoBackend=IO_URING|h", "iobackend io_uring"},
    {"-o|MaxWindow=4M|h", "maxwindow 4194304"},
    {"-o|MemoryLimit=2g|h", "memorylimit 2147483648"},
    {"-o|DrainTimeout=90|h", "draintimeout 90"},
    {"-o|DrainTimeout=0|h", "draintimeout 0"},
    {"-o|Reconnect=no|h", "host h"},
    {"-o|IgnoreUnknown=foo*|-o|FooBar=1|h", "host h"},
    {"-P|tag|h", "host h"},
};

Test(options, command_lines) {
    unsetenv("LEAT_TEST_NOT_SET");
    for (size_t i = 0; i < sizeof printed / sizeof *printed; i++) {
        char *text;
        fixture_read_well(&fixture, printed[i].args);
        print(OPTIONS, &text);
        const char *line = printed[i].line;
        if (*line == '!')
            cr_assert_not(strstr(text, line + 1), "'%s' gives '%s'", printed[i].args, line + 1);
        else
            cr_assert(has_line(text, line), "'%s' does not give '%s':\n%s", printed[i].args, line, text);
        free(text);
    }
}

struct refused {
    const char *args, *text;
};

static const struct refused refused[] = {
    {"-4", "no host given"},
    {"-Z|h", "-Z is no flag"},
    {"h|-Z", "-Z is no flag"},
    {"-p", "-p needs an argument"},
    {"-p|0|h", "-p: Port: bad port: '0'"},
    {"-p|65536|h", "bad port"},
    {"-p|22x|h", "bad port"},
    {"ssh://h:0", "bad host or port"},
    {"ssh://h:x", "bad host or port"},
    {"ssh://h/path", "a path in the URI"},
    {"ssh://a%4@h", "bad %-encoding"},
    {"ssh://a%00@h", "bad %-encoding"},
    {"ssh://", "empty"},
    {"[::1", "bad host or port"},
    {"[::1]:22", "bad host or port"},
    {"a b", "invalid characters"},
    {"a;b", "invalid characters"},
    {"$(x)", "invalid characters"},
    {"-l|a`b`|h", "invalid characters"},
    {"-l|-oProxyCommand=x|h", "invalid characters"},
    {"-l|a -x|h", "invalid characters"},
    {"-l|a\\|h", "invalid characters"},
    {"-l||h", "empty"},
    {"@h", "invalid characters"},
    {"user@", "empty"},
    {"--|-h", "invalid characters"},
    {"h|ls", "'ls': leat only forwards"},
    {"h|-p|22|ls|-l", "'ls': leat only forwards"},
    {"h|--|ls", "'ls': leat only forwards"},
    {"-A|h", "-A: agent forwarding"},
    {"-X|h", "-X: X11"},
    {"-Y|h", "-Y: X11"},
    {"-W|a:1|h", "-W: forwarding of standard input"},
    {"-w|0:0|h", "-w: tunnel"},
    {"-D|1080|h", "-D: dynamic forward: SOCKS is not supported"},
    {"-O|exit|h", "-O: "},
    {"-s|h", "-s: subsystems"},
    {"-I|lib|h", "-I: PKCS#11"},
    {"-K|h", "-K: GSSAPI"},
    {"-Q|kex|h", "-Q: queries"},
    {"-1|h", "-1: protocol 1"},
    {"-B|eth0|h", "-B: BindInterface: is not supported by leat: 'eth0'"},
    {"-L|80|h", "-L: local forward: must be"},
    {"-L|80:/s|h", "-L: local forward: forwarding of Unix-domain sockets is not supported: '80:/s'"},
    {"-R|80|h", "(SOCKS) is not supported: '80'"},
    {"-R|/a:/b|h", "Unix-domain"},
    {"-J|a|-J|b|h", "-J b: another -J"},
    {"-o|ProxyCommand=x|-J|b|h", "-J b: another -J"},
    {"-J|a,,b|h", "empty"},
    {"-J|a;b|h", "invalid characters"},
    {"-J|h|h", "the jump host is the destination itself"},
    {"-J|x,h:22|h", "the jump host is the destination itself"},
    {"-F|/nonexistent/x|h", "cannot open the configuration file /nonexistent/x: No such file"},
    {"-o||h", "no option given"},
    {"-o|Host=x|h", "-o: Host: only has a meaning in a file"},
    {"-o|Match all|h", "only has a meaning in a file"},
    {"-o|Include x|h", "only has a meaning in a file"},
    {"-o|Foo=1|h", "-o: Foo: unknown keyword"},
    {"-o|Port|h", "-o: Port: no argument given"},
    {"-o|Port=|h", "-o: Port: no argument given"},
    {"-o|Port=1 2|h", "more than one argument"},
    {"-o|TCPKeepAlive=maybe|h", "-o: TCPKeepAlive: bad value: 'maybe'"},
    {"-o|ServerAliveCountMax=-1|h", "bad number"},
    {"-o|ServerAliveCountMax=3x|h", "bad number"},
    {"-o|ConnectionAttempts=0|h", "bad number"},
    {"-o|ServerAliveInterval=1x|h", "bad time"},
    {"-o|ConnectTimeout=99999w|h", "bad time"},
    {"-o|User=\"a|h", "a quote is not closed"},
    {"-o|HostName=%x|h", "HostName '%x'"},
    {"-o|HostName=|h", "no argument"},
    {"-o|IdentityFile=%q|h", "token '%q' cannot be used here"},
    {"-o|IdentityFile=%|h", "token '%' cannot be used here"},
    {"-o|IdentityFile=${LEAT_TEST_NOT_SET}|h", "environment variable LEAT_TEST_NOT_SET is not set"},
    {"-o|IdentityFile=${X|h", "'${' without '}'"},
    {"-o|IdentityFile=~no-such-user-here/x|h", "no such user 'no-such-user-here'"},
    {"-o|UserKnownHostsFile=none /x|h", "'none' must stand alone"},
    {"-o|ProxyCommand=nc %u|h", "token '%u' cannot be used here"},
    {"-o|ProxyCommand=-|h", "ProxyCommand '-'"},
    {"-o|Ciphers=aes128-ctr|h", "Ciphers: leat only has"},
    {"-o|Ciphers=-*|h", "Ciphers: leat only has"},
    {"-o|KexAlgorithms=-*|h", "no algorithm remains"},
    {"-o|RekeyLimit=8|h", "RekeyLimit: bad size"},
    {"-o|RekeyLimit=1X|h", "RekeyLimit: bad size"},
    {"-o|RekeyLimit=1G soon|h", "RekeyLimit: bad time"},
    {"-o|LogLevel=LOUD|h", "LogLevel: bad value: 'LOUD'"},
    {"-o|AddressFamily=ipx|h", "bad value"},
    {"-o|StrictHostKeyChecking=perhaps|h", "bad value"},
    {"-o|LocalForward=8080:lan:80|h", "no target (host:hostport) after: '8080:lan:80'"},
    {"-o|LocalForward=8080 lan:80 x|h", "more than two arguments"},
    {"-o|DynamicForward=1080|h", "-o: DynamicForward: dynamic forwarding (SOCKS) is not supported: '1080'"},
    {"-o|RemoteForward=1080|h", "(SOCKS) is not supported"},
    {"-o|Tunnel=yes|h", "Tunnel: is not supported by leat: 'yes'"},
    {"-o|VerifyHostKeyDNS=ask|h", "VerifyHostKeyDNS: is not supported"},
    {"-o|RevokedHostKeys=/x|h", "RevokedHostKeys: is not supported"},
    {"-o|KnownHostsCommand=/x y|h", "KnownHostsCommand: "},
    {"-o|CanonicalizeHostname=yes|h", "CanonicalizeHostname: is not supported"},
    {"-o|NoHostAuthenticationForLocalhost=yes|h", "NoHostAuthenticationForLocalhost: is not supported"},
    {"-o|ProxyUseFdpass=yes|h", "ProxyUseFdpass: is not supported"},
    {"-o|RefuseConnection=use the other one|h", "refuses this connection: 'use the other one'"},
    {"-o|LocalCommand=x|-o|PermitLocalCommand=yes|h", "-o: LocalCommand: is not supported by leat"},
    {"-o|ChannelTimeout=direct-tcpip=5m|h", "ChannelTimeout: is not supported"},
    {"-o|ChannelTimeout=session=5m *=1|h", "ChannelTimeout: is not supported"},
    {"-o|ChannelTimeout=global=1|h", "ChannelTimeout: is not supported"},
    {"-o|Connections=0|h", "must be auto or a number"},
    {"-o|Connections=257|h", "must be auto or a number"},
    {"-o|Stripes=0|h", "-o: Stripes: bad number: '0'"},
    {"-o|Stripes=17|h", "-o: Stripes: bad number: '17'"},
    {"-o|Stripes=auto|h", "-o: Stripes: bad number: 'auto'"},
    {"-o|IoBackend=kqueue|h", "IoBackend: bad value: 'kqueue'"},
    {"-o|MaxWindow=1K|h", "MaxWindow: too small"},
    {"-o|MaxWindow=65M|h", "MaxWindow: too large"},
    {"-o|MaxWindow=big|h", "MaxWindow: must be a size"},
    {"-o|MemoryLimit=1|h", "MemoryLimit: too small"},
    {"-o|MemoryLimit=99999999999T|h", "MemoryLimit: must be a size"},
    {"-o|DrainTimeout=none|h", "DrainTimeout: bad time"},
    {"-o|Reconnect=yes|h", "Reconnect: is not supported by leat: 'yes'"},
};

Test(options, refusals_say_why_in_one_line) {
    unsetenv("LEAT_TEST_NOT_SET");
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        fixture_read_badly(&fixture, refused[i].args, refused[i].text);
        cr_assert_null(OPTIONS->host_arg, "nothing is left to free after an error");
    }
}

Test(options, version_needs_no_host) {
    fixture_read_well(&fixture, "-V");
    cr_assert(OPTIONS->version_only);
    fixture_read_well(&fixture, "h|-V");
    cr_assert(OPTIONS->version_only);
    fixture_read_well(&fixture, "-G|h");
    cr_assert(OPTIONS->print_config && !OPTIONS->version_only);
}

Test(options, log_file_and_forwards_are_kept) {
    fixture_read_well(&fixture, "-E|/tmp/some log|-L|1:h:2|-L|1:h:2|-R|1:h:2|-L|:1:h:2|h");
    cr_assert_str_eq(OPTIONS->log_file, "/tmp/some log");
    cr_assert_eq(OPTIONS->forwards_count, 3, "a forward given twice counts once");
    cr_assert_null(OPTIONS->forwards[0].bind);
    cr_assert_eq(OPTIONS->forwards[1].kind, FORWARD_REMOTE);
    cr_assert_str_eq(OPTIONS->forwards[2].bind, "");
    cr_assert_str_eq(OPTIONS->forwards[0].text, "1:h:2");
}

Test(options, identity_flag) {
    fixture_file(&fixture, ".ssh/my key", "");
    fixture_file(&fixture, ".ssh/other", "");
    fixture_read_well(&fixture, "-i|~/.ssh/my key|-i|~/.ssh/other|-i|~/.ssh/other|h");
    cr_assert(OPTIONS->identity_files_given);
    cr_assert_eq(OPTIONS->identity_files.count, 2);
    char *path = text_format("%s/.ssh/my key", fixture.home);
    cr_assert_str_eq(OPTIONS->identity_files.items[0], path);
    free(path);
    fixture_read_well(&fixture, "-i|~/.ssh/nothing|h");
    cr_assert(strstr(fixture.log, "identity file") && strstr(fixture.log, "not accessible"));
    cr_assert_eq(OPTIONS->identity_files.count, 3, "the defaults, as in ssh");
}

struct proxy {
    const char *args, *command;
};

Test(options, jumps_become_commands) {
    static const struct proxy jumps[] = {
        {"-J|gate|work", "ssh -W '[work]:22' 'gate'"},
        {"-J|bob@gate:2022|-p|99|work", "ssh -l 'bob' -p 2022 -W '[work]:99' 'gate'"},
        {"-J|a,bob@b:3,c|work", "ssh -J 'a,bob@b:3' -W '[work]:22' 'c'"},
        {"-vv|-J|ssh://bob@[::1]:4|work", "ssh -l 'bob' -p 4 -vv -W '[work]:22' '::1'"},
        {"-F|none|-J|gate|work", "ssh -F 'none' -W '[work]:22' 'gate'"},
        {"-o|HostName=%h.lan|-J|gate.%h|work", "ssh -W '[work.lan]:22' 'gate.work.lan'"},
        {"-J|other@work|me@work", "ssh -l 'other' -W '[work]:22' 'work'"},
        {"-J|work:2022|work", "ssh -p 2022 -W '[work]:22' 'work'"},
    };
    for (size_t i = 0; i < sizeof jumps / sizeof *jumps; i++) {
        fixture_read_well(&fixture, jumps[i].args);
        cr_assert_str_eq(OPTIONS->proxy_command, jumps[i].command);
    }
    fixture_file(&fixture, "it's 100%n", "");
    char *args = text_format("-F|%s/it's 100%%n|-J|gate|work", fixture.home);
    fixture_read_well(&fixture, args);
    free(args);
    char *command = text_format("ssh -F '%s/it'\\''s 100%%n' -W '[work]:22' 'gate'", fixture.home);
    cr_assert_str_eq(OPTIONS->proxy_command, command);
    free(command);
}

struct algorithms {
    const char *args, *value;
};

Test(options, cipher_lists) {
    static const struct algorithms lists[] = {
        {"aes256-gcm@openssh.com", "aes256-gcm@openssh.com"},
        {"chacha20-poly1305@openssh.com,aes128-gcm@openssh.com",
         "chacha20-poly1305@openssh.com,aes128-gcm@openssh.com"},
        {"aes128-ctr,aes128-gcm@openssh.com,aes128-gcm@openssh.com,nonsense", "aes128-gcm@openssh.com"},
        {"+aes128-ctr", "aes128-gcm@openssh.com,aes256-gcm@openssh.com,chacha20-poly1305@openssh.com"},
        {"-chacha*", "aes128-gcm@openssh.com,aes256-gcm@openssh.com"},
        {"-*gcm*,aes*", "chacha20-poly1305@openssh.com"},
        {"^chacha20-poly1305@openssh.com",
         "chacha20-poly1305@openssh.com,aes128-gcm@openssh.com,aes256-gcm@openssh.com"},
    };
    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++) {
        char *args = text_format("-o|Ciphers=%s|h", lists[i].args);
        fixture_read_well(&fixture, args);
        cr_assert_str_eq(OPTIONS->ciphers, lists[i].value, "%s", args);
        free(args);
    }
}

Test(options, other_algorithm_lists) {
    fixture_read_well(&fixture, "-o|KexAlgorithms=a,b,a|-o|HostKeyAlgorithms=^rsa-sha2-512|-o|"
                                "PubkeyAcceptedKeyTypes=+ssh-rsa|h");
    cr_assert_str_eq(OPTIONS->kex_algorithms, "a,b");
    cr_assert_eq(strncmp(OPTIONS->host_key_algorithms, "rsa-sha2-512,ssh-ed25519,", 25), 0);
    cr_assert_eq(strstr(OPTIONS->host_key_algorithms + 1, "rsa-sha2-512"), NULL, "moved, not doubled");
    size_t len = strlen(OPTIONS->pubkey_accepted_algorithms);
    cr_assert_str_eq(OPTIONS->pubkey_accepted_algorithms + len - 8, ",ssh-rsa");
    fixture_read_well(&fixture, "-o|KexAlgorithms=-*sntrup*,mlkem*|h");
    cr_assert_null(strstr(OPTIONS->kex_algorithms, "sntrup"));
    cr_assert_eq(strncmp(OPTIONS->kex_algorithms, "curve25519-sha256,", 18), 0);
}

Test(options, notes_are_shown_at_v_only) {
    fixture_read_well(&fixture, "-C|-o|ForwardAgent=yes|h");
    cr_assert_eq(fixture.log[0], 0, "%s", fixture.log);
    fixture_read_well(&fixture, "-C|-o|ForwardAgent=yes|-o|ForwardX11=no|-v|h");
    cr_assert(strstr(fixture.log, "leat: -C: ignored: leat does not compress\n"));
    cr_assert(strstr(fixture.log, "leat: -o: ForwardAgent: has no effect on leat, ignored\n"));
    cr_assert_null(strstr(fixture.log, "ForwardX11"), "'no' asks for nothing");
}

/* What ssh itself makes of the same words. '@' in a configuration is the directory of the fixture. */
struct compared {
    const char *config, *args;
};

static const struct compared compared[] = {
    {"", "work"},
    {"", "alice@WORK.example|-p|2022"},
    {"", "ssh://alice@work:2022|-p|1|-l|bob"},
    {"Host a b\n Port 1\nHost *\n Port 2\n User u\n", "a"},
    {"Host a b\n Port 1\nHost *\n Port 2\n User u\n", "c"},
    {"Host * !work\n Port 1\n", "work"},
    {"Host * !work\n Port 1\n", "other"},
    {"Host w?rk.*\n Port 1\n", "work.example"},
    {"Host WORK\n Port 1\n", "work"},
    {"Match originalhost WORK\n Port 1\n", "work"},
    {"HostName %h.lan\nMatch host work.lan\n Port 1\nMatch host work\n Port 2\n", "work"},
    {"Match user bob\n Port 1\n", "bob@work"},
    {"User bob\nMatch user bob,carl\n Port 1\n", "work"},
    {"Match !user bob\n Port 1\n", "bob@work"},
    {"Match user !bob,*\n Port 1\n", "carl@work"},
    {"Match user !bob\n Port 1\n", "carl@work"},
    {"Match localuser *\n Port 1\nMatch all\n User z\n", "work"},
    {"Match exec \"test %n = work\"\n Port 1\n", "work"},
    {"Match exec \"test %n = other\"\n Port 1\n", "work"},
    {"Match !exec false host work\n Port 1\n", "work"},
    {"Match host=work user=bob\n Port 1\n", "bob@work"},
    {"Match final host work\n Port 1\nHost work\n Port 2\nServerAliveInterval 3\n", "work"},
    {"Host foo\n HostName FOO.Example\nMatch final host foo.example\n Port 1\nHost foo.example\n User x\n", "foo"},
    {"Match final all\n Port 1\nMatch !final all\n User x\n", "foo"},
    {"Match canonical all\n Port 1\n", "foo"},
    {"Match canonical\n Port 1\nMatch final\n User x\nLocalForward 1 h:1\n", "foo"},
    {"LocalForward 1 h:1\nMatch final\n LocalForward 2 h:2\nRemoteForward 0 h:3\n", "foo"},
    {"Include @/one\nPort 3\n", "work"},
    {"Host other\nInclude @/one\nHost *\nUser u\n", "work"},
    {"Include @/t*\n", "work"},
    {"Include @/nothing @/one\n", "work"},
    {"Match user x\nInclude @/two\nPort 5", "work"},
    {"port=2022\nUSER = bob\nhostname\t\"work.lan\"\n", "work"},
    {"  # comment\n\nPort 1 # comment\nUser \"a b\" # comment\n", "work"},
    {"User 'a \"b'\nHostKeyAlias a\\ b\n", "work"},
    {"User \"a\\\"b\"\nHostKeyAlias a#b\n", "work"},
    {"User a\\b\nHostKeyAlias a\"b c\"d\n", "work"},
    {"Port 1\r\nUser bob\r\n", "work"},
    {"IdentityFile /a\nIdentityFile \"/b c\"\nIdentityFile /a\n", "work"},
    {"UserKnownHostsFile /a \"/b c\" /d\nGlobalKnownHostsFile /e\nUserKnownHostsFile /f\n", "work"},
    {"LocalForward 8080 lan:80\nLocalForward [::1]:8081 [::2]:80\nLocalForward *:8082 lan:http\n"
     "LocalForward :8083 lan:80\nLocalForward localhost:8084 lan:80\nLocalForward 8080 lan:80\n"
     "RemoteForward 0 lan:80\nRemoteForward 10.0.0.1:90 lan:80\n",
     "work|-L|8085:lan:80|-R|8086:lan:80"},
    {"LocalForward 8080 lan:80\nClearAllForwardings yes\n", "work|-L|8085:lan:80"},
    {"ServerAliveInterval 1m30s\nServerAliveCountMax 7\nConnectTimeout 1h\nConnectionAttempts 4\nTCPKeepAlive no\n",
     "work"},
    {"RekeyLimit 16M 1h\nRekeyLimit 1G\n", "work"},
    {"RekeyLimit 100000\n", "work"},
    {"GatewayPorts yes\nExitOnForwardFailure true\nIdentitiesOnly yes\nHashKnownHosts yes\nCheckHostIP yes\n", "work"},
    {"PubkeyAuthentication no\nPasswordAuthentication no\nChallengeResponseAuthentication no\n"
     "PreferredAuthentications publickey,password\nNumberOfPasswordPrompts 1\n",
     "work"},
    {"StrictHostKeyChecking accept-new\nStrictHostKeyChecking no\nHostKeyAlias al\nBindAddress 10.0.0.9\n", "work"},
    {"AddressFamily inet6\nLogLevel verbose\nRequiredRSASize 2048\n", "work"},
    {"AddressFamily inet6\n", "-4|work"},
    {"LogLevel verbose\n", "-vv|work"},
    {"ProxyJump a@b:3,c\nProxyCommand x\n", "work"},
    {"ProxyCommand nc -x \"a b\" # not a comment\nProxyJump j\n", "work"},
    {"ProxyCommand none\nProxyJump j\n", "work"},
    {"ProxyJump none\nProxyCommand x\n", "work"},
    {"", "-J|a,b@[::1]:4|work"},
    {"IgnoreUnknown Connections,Fo*\nConnections 4\nFoo x\nPort 7\n", "work"},
    {"ForwardAgent yes\nSendEnv LANG LC_*\nControlMaster auto\nControlPath ~/x-%C\nPort 9\n", "work"},
};

static const char *const compared_keywords[] = {
    "host",
    "user",
    "hostname",
    "port",
    "addressfamily",
    "batchmode",
    "bindaddress",
    "checkhostip",
    "clearallforwardings",
    "connectionattempts",
    "connecttimeout",
    "exitonforwardfailure",
    "gatewayports",
    "hashknownhosts",
    "hostkeyalias",
    "identitiesonly",
    "kbdinteractiveauthentication",
    "localforward",
    "remoteforward",
    "loglevel",
    "numberofpasswordprompts",
    "passwordauthentication",
    "preferredauthentications",
    "proxycommand",
    "proxyjump",
    "pubkeyauthentication",
    "rekeylimit",
    "requiredrsasize",
    "serveraliveinterval",
    "serveralivecountmax",
    "stricthostkeychecking",
    "tcpkeepalive",
    "globalknownhostsfile",
    "userknownhostsfile",
};

static bool is_compared(const char *line, const char *config) {
    size_t len = strcspn(line, " ");
    /* Which default keys are there differs; which files were named does not. */
    if (len == 12 && !strncmp(line, "identityfile", len))
        return strstr(config, "IdentityFile") != NULL;
    for (size_t i = 0; i < sizeof compared_keywords / sizeof *compared_keywords; i++)
        if (strlen(compared_keywords[i]) == len && !strncmp(line, compared_keywords[i], len))
            return true;
    return false;
}

/* Every compared line of one text must be in the other. */
static void assert_lines_in(char *from, const char *into, const struct compared *c, const char *whose) {
    char *copy = text_copy(from), *at = copy;
    for (char *line; (line = strsep(&at, "\n"));)
        if (*line && is_compared(line, c->config))
            cr_expect(has_line(into, line), "'%s' with '%s': only %s has '%s'", c->args, c->config, whose, line);
    free(copy);
}

/* OpenSSH 10.6 has another word for some flags than those before. */
static void speak_like_older(char **text) {
    static const char *const words[][2] = {{"\ntcpkeepalive true\n", "\ntcpkeepalive yes\n"},
                                           {"\ntcpkeepalive false\n", "\ntcpkeepalive no\n"}};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        char *at = strstr(*text, words[i][0]);
        if (at)
            text_set(text, text_format("%.*s%s%s", (int)(at - *text), *text, words[i][1], at + strlen(words[i][0])));
    }
}

static char *ask_ssh(const char *config_path, const char *args) {
    char *command = text_format("exec ssh -F '%s' -G", config_path), *words = text_copy(args), *at = words;
    for (char *word; (word = strsep(&at, "|"));)
        text_set(&command, text_format("%s '%s'", command, word));
    text_set(&command, text_format("%s 2>/dev/null </dev/null", command));
    FILE *pipe = popen(command, "r");
    cr_assert(pipe);
    char *text = calloc(1, 65536);
    size_t len = fread(text, 1, 65535, pipe);
    int status = pclose(pipe);
    cr_assert(status == 0 && len > 0, "%s: status %d", command, status);
    speak_like_older(&text);
    free(command);
    free(words);
    return text;
}

static int really_run(const char *command) {
    int status = system(command);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void compare(const struct compared *c) {
    char *text = text_copy(c->config), *at;
    while ((at = strchr(text, '@')) && at[1] == '/')
        text_set(&text, text_format("%.*s%s%s", (int)(at - text), text, fixture.home, at + 1));
    fixture_file(&fixture, "config", text);
    free(text);
    char *path = text_format("%s/config", fixture.home), *args = text_format("-F|%s|%s", path, c->args), *ours;
    fixture.environment.home = getpwuid(getuid())->pw_dir;
    fixture.environment.user = getpwuid(getuid())->pw_name;
    fixture_read_well(&fixture, args);
    print(OPTIONS, &ours);
    char *theirs = ask_ssh(path, c->args);
    assert_lines_in(ours, theirs, c, "leat");
    assert_lines_in(theirs, ours, c, "ssh");
    free(theirs);
    free(ours);
    free(args);
    free(path);
}

Test(options, the_same_as_ssh_makes_of_it) {
    if (system("command -v ssh >/dev/null 2>&1") != 0)
        skip_after(teardown(), "no ssh here");
    fixture.environment.run = really_run;
    fixture_file(&fixture, "one", "Port 11\nHost nobody\nUser nobody\n");
    fixture_file(&fixture, "two", "User two\nHost work\nServerAliveInterval 2\n");
    fixture_file(&fixture, "three", "User three\nMatch all\nServerAliveInterval 3\n");
    for (size_t i = 0; i < sizeof compared / sizeof *compared; i++)
        compare(&compared[i]);
}
