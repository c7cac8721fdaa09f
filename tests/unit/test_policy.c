#include "authorized_keys_rig.h"
#include "ssh/policy.h"
#include "ssh/server_config.h"

TestSuite(policy, .init = rig_log_init, .fini = rig_log_deinit);

enum question { OPEN, LISTEN, OPEN_PATH, LISTEN_PATH };
struct row {
    const char *config; /* the configuration; leatd's defaults where it is empty */
    const char *key;    /* options of the key; NULL: no key */
    enum question question;
    const char *host;
    uint16_t port;
    const char *refused; /* part of the reason; NULL: allowed */
    const char *user;    /* NULL: "miller" */
    bool as_root;
};

/* Global settings, alone. */
static const struct row global[] = {
    {"", "", OPEN, "h", 80, NULL, NULL, 0},
    {"", NULL, OPEN, "h", 80, NULL, NULL, 0},
    {"", "", OPEN, "", 0, NULL, NULL, 0},
    {"", "", LISTEN, "localhost", 8080, NULL, NULL, 0},
    {"", "", LISTEN, "", 0, NULL, NULL, 0},
    {"", "", OPEN_PATH, NULL, 0, NULL, NULL, 0},
    {"", "", LISTEN_PATH, NULL, 0, NULL, NULL, 0},
    {"AllowTcpForwarding no\n", "", OPEN, "h", 80, "AllowTcpForwarding", NULL, 0},
    {"AllowTcpForwarding no\n", "", LISTEN, "", 80, "AllowTcpForwarding", NULL, 0},
    {"AllowTcpForwarding local\n", "", OPEN, "h", 80, NULL, NULL, 0},
    {"AllowTcpForwarding local\n", "", LISTEN, "", 80, "AllowTcpForwarding", NULL, 0},
    {"AllowTcpForwarding remote\n", "", OPEN, "h", 80, "AllowTcpForwarding", NULL, 0},
    {"AllowTcpForwarding remote\n", "", LISTEN, "", 80, NULL, NULL, 0},
    {"AllowTcpForwarding all\n", "", LISTEN, "", 80, NULL, NULL, 0},
    {"DisableForwarding yes\n", "", OPEN, "h", 80, "DisableForwarding", NULL, 0},
    {"DisableForwarding yes\n", "", LISTEN, "", 80, "DisableForwarding", NULL, 0},
    {"DisableForwarding yes\n", "", OPEN_PATH, NULL, 0, "DisableForwarding", NULL, 0},
    {"DisableForwarding yes\n", "", LISTEN_PATH, NULL, 0, "DisableForwarding", NULL, 0},
    {"DisableForwarding yes\nAllowTcpForwarding yes\nPermitOpen h:80\n", "", OPEN, "h", 80, "DisableForwarding", NULL,
     0},
    /* PermitOpen: exact names, as the client writes them; a port or any */
    {"PermitOpen h:80\n", "", OPEN, "h", 80, NULL, NULL, 0},
    {"PermitOpen h:80\n", "", OPEN, "h", 81, "PermitOpen", NULL, 0},
    {"PermitOpen h:80\n", "", OPEN, "H", 80, "PermitOpen", NULL, 0},
    {"PermitOpen h:80\n", "", OPEN, "h.", 80, "PermitOpen", NULL, 0},
    {"PermitOpen localhost:80\n", "", OPEN, "127.0.0.1", 80, "PermitOpen", NULL, 0},
    {"PermitOpen h*:80\n", "", OPEN, "hh", 80, "PermitOpen", NULL, 0},
    {"PermitOpen h:*\n", "", OPEN, "h", 1, NULL, NULL, 0},
    {"PermitOpen h:*\n", "", OPEN, "h", 0, NULL, NULL, 0},
    {"PermitOpen *:80\n", "", OPEN, "anything", 80, NULL, NULL, 0},
    {"PermitOpen *:80\n", "", OPEN, "anything", 443, "PermitOpen", NULL, 0},
    {"PermitOpen [2001:db8::1]:80\n", "", OPEN, "2001:db8::1", 80, NULL, NULL, 0},
    {"PermitOpen [2001:db8::1]:80\n", "", OPEN, "2001:db8:0::1", 80, "PermitOpen", NULL, 0},
    {"PermitOpen a:1 b:2\n", "", OPEN, "b", 2, NULL, NULL, 0},
    {"PermitOpen a:1 b:2\n", "", OPEN, "a", 2, "PermitOpen", NULL, 0},
    {"PermitOpen any\n", "", OPEN, "h", 80, NULL, NULL, 0},
    {"PermitOpen none\n", "", OPEN, "h", 80, "PermitOpen", NULL, 0},
    {"PermitOpen none\n", "", LISTEN, "", 80, NULL, NULL, 0},
    /* PermitListen: patterns, without regard to case */
    {"PermitListen 8080\n", "", LISTEN, "", 8080, NULL, NULL, 0},
    {"PermitListen 8080\n", "", LISTEN, "localhost", 8080, NULL, NULL, 0},
    {"PermitListen 8080\n", "", LISTEN, "localhost", 8081, "PermitListen", NULL, 0},
    {"PermitListen 8080\n", "", LISTEN, "localhost", 0, "PermitListen", NULL, 0},
    {"PermitListen localhost:8080\n", "", LISTEN, "LocalHost", 8080, NULL, NULL, 0},
    {"PermitListen LOCALhost:8080\n", "", LISTEN, "localhost", 8080, NULL, NULL, 0},
    {"PermitListen localhost:8080\n", "", LISTEN, "127.0.0.1", 8080, "PermitListen", NULL, 0},
    {"PermitListen localhost:8080\n", "", LISTEN, "", 8080, "PermitListen", NULL, 0},
    {"PermitListen 127.0.0.?:*\n", "", LISTEN, "127.0.0.9", 8080, NULL, NULL, 0},
    {"PermitListen 127.0.0.?:*\n", "", LISTEN, "127.0.0.9", 0, NULL, NULL, 0},
    {"PermitListen none\n", "", LISTEN, "localhost", 8080, "PermitListen", NULL, 0},
    {"PermitListen none\n", "", OPEN, "h", 80, NULL, NULL, 0},
    /* Unix sockets: what sshd 9.2 was seen to do */
    {"AllowStreamLocalForwarding no\n", "", OPEN_PATH, NULL, 0, "AllowStreamLocal", NULL, 0},
    {"AllowStreamLocalForwarding no\n", "", LISTEN_PATH, NULL, 0, "AllowStreamLocal", NULL, 0},
    {"AllowStreamLocalForwarding no\n", "", OPEN, "h", 80, NULL, NULL, 0},
    {"AllowStreamLocalForwarding local\n", "", OPEN_PATH, NULL, 0, NULL, NULL, 0},
    {"AllowStreamLocalForwarding local\n", "", LISTEN_PATH, NULL, 0, "AllowStreamLocal", NULL, 0},
    {"AllowStreamLocalForwarding remote\n", "", OPEN_PATH, NULL, 0, "AllowStreamLocal", NULL, 0},
    {"AllowStreamLocalForwarding remote\n", "", LISTEN_PATH, NULL, 0, NULL, NULL, 0},
    {"AllowTcpForwarding no\n", "", OPEN_PATH, NULL, 0, "AllowTcpForwarding", NULL, 0},
    {"AllowTcpForwarding remote\n", "", OPEN_PATH, NULL, 0, "AllowTcpForwarding", NULL, 0},
    {"AllowTcpForwarding local\n", "", OPEN_PATH, NULL, 0, NULL, NULL, 0},
    {"AllowTcpForwarding no\n", "", LISTEN_PATH, NULL, 0, "AllowTcpForwarding", NULL, 0},
    {"AllowTcpForwarding local\n", "", LISTEN_PATH, NULL, 0, "AllowTcpForwarding", NULL, 0},
    {"PermitOpen h:80\n", "", OPEN_PATH, NULL, 0, "PermitOpen", NULL, 0},
    {"PermitOpen *:80\n", "", OPEN_PATH, NULL, 0, "PermitOpen", NULL, 0},
    {"PermitOpen none\n", "", OPEN_PATH, NULL, 0, "PermitOpen", NULL, 0},
    {"PermitOpen *:*\n", "", OPEN_PATH, NULL, 0, NULL, NULL, 0},
    {"PermitListen 80\n", "", LISTEN_PATH, NULL, 0, NULL, NULL, 0},
    {"PermitListen none\n", "", LISTEN_PATH, NULL, 0, NULL, NULL, 0},
};

/* What a Match says of this user: more than the global section does, and the first Match most. */
#define MATCH "Match User bob\nPermitOpen b:1\nMatch User bob,miller\nAllowTcpForwarding local\nPermitOpen m:2\n"
static const struct row matched[] = {
    {MATCH, "", OPEN, "b", 1, NULL, "bob", 0},
    {MATCH, "", OPEN, "m", 2, "PermitOpen", "bob", 0},
    {MATCH, "", OPEN, "m", 2, NULL, "miller", 0},
    {MATCH, "", OPEN, "b", 1, "PermitOpen", "miller", 0},
    {MATCH, "", OPEN, "x", 9, NULL, "eve", 0},
    {MATCH, "", LISTEN, "", 8080, "AllowTcpForwarding", "bob", 0},
    {MATCH, "", LISTEN, "", 8080, NULL, "eve", 0},
    {"PermitOpen g:1\n" MATCH, "", OPEN, "b", 1, NULL, "bob", 0},
    {"PermitOpen g:1\n" MATCH, "", OPEN, "g", 1, "PermitOpen", "bob", 0},
    {"PermitOpen g:1\n" MATCH, "", OPEN, "g", 1, NULL, "eve", 0},
    {"DisableForwarding yes\nMatch User bob\nDisableForwarding no\n", "", OPEN, "h", 1, NULL, "bob", 0},
    {"DisableForwarding yes\nMatch User bob\nDisableForwarding no\n", "", OPEN, "h", 1, "Disable", "eve", 0},
    {"Match User bob\nDisableForwarding no\nMatch all\nDisableForwarding yes\n", "", OPEN, "h", 1, NULL, "bob", 0},
    {"Match User bob\nDisableForwarding no\nMatch all\nDisableForwarding yes\n", "", OPEN, "h", 1, "Disable", "eve", 0},
    {"Match Address 192.0.2.0/24\nPermitListen 1\n", "", LISTEN, "", 2, "PermitListen", "bob", 0},
    {"Match Address 198.51.100.0/24\nPermitListen 1\n", "", LISTEN, "", 2, NULL, "bob", 0},
};

/* What a key says; it can only take away. */
static const struct row keyed[] = {
    {"", "restrict", OPEN, "h", 80, "restrict", NULL, 0},
    {"", "restrict", LISTEN, "", 80, "restrict", NULL, 0},
    {"", "restrict", OPEN_PATH, NULL, 0, "restrict", NULL, 0},
    {"", "restrict", LISTEN_PATH, NULL, 0, "restrict", NULL, 0},
    {"", "no-port-forwarding", OPEN, "h", 80, "no-port-forwarding", NULL, 0},
    {"", "no-port-forwarding", LISTEN_PATH, NULL, 0, "no-port-forwarding", NULL, 0},
    {"", "restrict,port-forwarding", OPEN, "h", 80, NULL, NULL, 0},
    {"", "port-forwarding,restrict", OPEN, "h", 80, "restrict", NULL, 0},
    {"", "restrict,permitopen=\"h:80\"", OPEN, "h", 80, "restrict", NULL, 0},
    {"", "restrict,port-forwarding,permitopen=\"h:80\"", OPEN, "h", 80, NULL, NULL, 0},
    {"", "command=\"false\",no-pty", OPEN, "h", 80, NULL, NULL, 0},
    {"", "permitopen=\"h:80\"", OPEN, "h", 80, NULL, NULL, 0},
    {"", "permitopen=\"h:80\"", OPEN, "h", 443, "permitopen= of the key", NULL, 0},
    {"", "permitopen=\"h:80\"", OPEN, "H", 80, "permitopen= of the key", NULL, 0},
    {"", "permitopen=\"h:80\",permitopen=\"i:*\"", OPEN, "i", 443, NULL, NULL, 0},
    {"", "permitopen=\"h:80\"", LISTEN, "", 80, NULL, NULL, 0},
    {"", "permitopen=\"h:80\"", OPEN_PATH, NULL, 0, "permitopen= of the key", NULL, 0},
    {"", "permitopen=\"*:*\"", OPEN_PATH, NULL, 0, NULL, NULL, 0},
    {"", "permitopen=\"h:80\"", LISTEN_PATH, NULL, 0, NULL, NULL, 0},
    {"", "permitlisten=\"8080\"", LISTEN, "", 8080, NULL, NULL, 0},
    {"", "permitlisten=\"8080\"", LISTEN, "", 8081, "permitlisten= of the key", NULL, 0},
    {"", "permitlisten=\"localhost:8080\"", LISTEN, "Localhost", 8080, NULL, NULL, 0},
    {"", "permitlisten=\"localhost:8080\"", LISTEN, "*", 8080, "permitlisten= of the key", NULL, 0},
    {"", "permitlisten=\"8080\"", OPEN, "h", 80, NULL, NULL, 0},
    {"", "permitlisten=\"8080\"", LISTEN_PATH, NULL, 0, NULL, NULL, 0},
    /* both must permit */
    {"PermitOpen a:1 b:2\n", "permitopen=\"b:2\",permitopen=\"c:3\"", OPEN, "b", 2, NULL, NULL, 0},
    {"PermitOpen a:1 b:2\n", "permitopen=\"b:2\",permitopen=\"c:3\"", OPEN, "a", 1, "of the key", NULL, 0},
    {"PermitOpen a:1 b:2\n", "permitopen=\"b:2\",permitopen=\"c:3\"", OPEN, "c", 3, "PermitOpen", NULL, 0},
    {"PermitOpen none\n", "permitopen=\"c:3\"", OPEN, "c", 3, "PermitOpen", NULL, 0},
    {"PermitListen 1\n", "permitlisten=\"2\"", LISTEN, "", 2, "PermitListen", NULL, 0},
    {"PermitListen 1\n", "permitlisten=\"2\"", LISTEN, "", 1, "of the key", NULL, 0},
    {"AllowTcpForwarding no\n", "port-forwarding", OPEN, "h", 80, "AllowTcpForwarding", NULL, 0},
    {"AllowTcpForwarding no\n", "permitopen=\"h:80\"", OPEN, "h", 80, "AllowTcpForwarding", NULL, 0},
    {"AllowTcpForwarding no\n", "permitlisten=\"h:80\"", LISTEN_PATH, NULL, 0, "AllowTcpForwarding", NULL, 0},
    {MATCH, "permitopen=\"b:1\"", OPEN, "b", 1, NULL, "bob", 0},
    {MATCH, "permitopen=\"b:2\"", OPEN, "b", 1, "of the key", "bob", 0},
};

/* Root's rights are nobody's by default. */
static const struct row rooted[] = {
    {"", "", OPEN_PATH, NULL, 0, "as root", NULL, 1},
    {"", "", LISTEN_PATH, NULL, 0, "as root", NULL, 1},
    {"AllowStreamLocalForwarding yes\n", "", OPEN_PATH, NULL, 0, NULL, NULL, 1},
    {"AllowStreamLocalForwarding yes\n", "", LISTEN_PATH, NULL, 0, NULL, NULL, 1},
    {"Match User bob\nAllowStreamLocalForwarding yes\n", "", OPEN_PATH, NULL, 0, NULL, "bob", 1},
    {"Match User bob\nAllowStreamLocalForwarding yes\n", "", OPEN_PATH, NULL, 0, "as root", "eve", 1},
    {"AllowStreamLocalForwarding no\n", "", OPEN_PATH, NULL, 0, "AllowStreamLocal", NULL, 1},
    {"", "", OPEN, "h", 80, NULL, NULL, 1},
    {"", "", LISTEN, "", 1023, "as root", NULL, 1},
    {"", "", LISTEN, "", 1024, NULL, NULL, 1},
    {"", "", LISTEN, "", 0, NULL, NULL, 1},
    {"", "", LISTEN, "", 1023, NULL, NULL, 0},
    {"PermitListen 80\n", "", LISTEN, "", 80, NULL, NULL, 1},
    {"PermitListen *:*\n", "", LISTEN, "", 80, NULL, NULL, 1},
    {"", "permitlisten=\"80\"", LISTEN, "", 80, "as root", NULL, 1},
};

static struct server_options *options_of(const char *config_text, const char *user) {
    FILE *stream =
        *config_text ? fmemopen((void *)(uintptr_t)config_text, strlen(config_text), "r") : fopen("/dev/null", "re");
    struct server_config *config;
    cr_assert_eq(server_config_read_stream(stream, "test", &config), 0, "%s", config_text);
    fclose(stream);
    struct sockaddr_storage address;
    struct match_subject subject = {
        .user = user ? user : "miller", .address = rig_address(&address, "192.0.2.7"), .host = "192.0.2.7"};
    struct server_options *options = server_config_resolve(config, &subject);
    server_config_unref(config);
    cr_assert(options);
    return options;
}

static void key_of(const char *options, struct authorized_key *key) {
    char line[1024];
    const char *why = NULL;
    snprintf(line, sizeof line, "%s " RIG_KEY, options);
    cr_assert_eq(authorized_key_parse(line, key, &why), 1, "%s: %s", line, why ? why : "");
}

static bool ask(const struct policy *policy, const struct row *row, const char **why) {
    switch (row->question) {
    case OPEN:
        return policy_may_open(policy, row->host, row->port, why);
    case LISTEN:
        return policy_may_listen(policy, row->host, row->port, why);
    case OPEN_PATH:
        return policy_may_open_path(policy, why);
    case LISTEN_PATH:
        return policy_may_listen_path(policy, why);
    }
    return false;
}

static void check(const struct row *row) {
    static const char *const questions[] = {"open", "listen", "open a path", "listen on a path"};
    struct authorized_key key;
    struct server_options *options = options_of(row->config, row->user);
    if (row->key)
        key_of(row->key, &key);
    struct policy policy = {.options = options, .key = row->key ? &key.options : NULL, .runs_as_root = row->as_root};
    const char *why = NULL;
    bool allowed = ask(&policy, row, &why);
    cr_assert_eq(allowed, !row->refused, "%s %s:%u under '%s', key '%s': %s", questions[row->question],
                 row->host ? row->host : "", row->port, row->config, row->key ? row->key : "", why ? why : "allowed");
    if (!allowed)
        cr_assert(strstr(why, row->refused), "'%s', key '%s': %s, not %s", row->config, row->key ? row->key : "", why,
                  row->refused);
    if (row->key)
        authorized_key_deinit(&key);
    server_options_unref(options);
}

static void check_all(const struct row *rows, size_t count) {
    for (size_t i = 0; i < count; i++)
        check(&rows[i]);
}

Test(policy, global_settings) {
    check_all(global, sizeof global / sizeof *global);
}
Test(policy, of_a_match) {
    check_all(matched, sizeof matched / sizeof *matched);
}
Test(policy, of_a_key) {
    check_all(keyed, sizeof keyed / sizeof *keyed);
}
Test(policy, as_root) {
    check_all(rooted, sizeof rooted / sizeof *rooted);
}

struct gateway_row {
    const char *host;
    enum listen_where no, yes, specified; /* under GatewayPorts */
};
static const struct gateway_row gateways[] = {
    {"", LISTEN_LOOPBACK, LISTEN_ALL, LISTEN_ALL},
    {"*", LISTEN_LOOPBACK, LISTEN_ALL, LISTEN_ALL},
    {"localhost", LISTEN_LOOPBACK, LISTEN_ALL, LISTEN_LOOPBACK},
    {"127.0.0.1", LISTEN_HOST, LISTEN_ALL, LISTEN_HOST},
    {"::1", LISTEN_HOST, LISTEN_ALL, LISTEN_HOST},
    {"127.0.0.2", LISTEN_LOOPBACK, LISTEN_ALL, LISTEN_HOST},
    {"0.0.0.0", LISTEN_LOOPBACK, LISTEN_ALL, LISTEN_HOST},
    {"::", LISTEN_LOOPBACK, LISTEN_ALL, LISTEN_HOST},
    {"192.0.2.1", LISTEN_LOOPBACK, LISTEN_ALL, LISTEN_HOST},
    {"mill.example.com", LISTEN_LOOPBACK, LISTEN_ALL, LISTEN_HOST},
};

static void gateway_check(const char *config, const char *host, enum listen_where expected) {
    struct server_options *options = options_of(config, NULL);
    struct policy policy = {.options = options};
    cr_assert_eq(policy_listen_where(&policy, host), expected, "'%s' under '%s'", host, config);
    server_options_unref(options);
}

Test(policy, gateway_ports) {
    for (size_t i = 0; i < sizeof gateways / sizeof *gateways; i++) {
        gateway_check("", gateways[i].host, gateways[i].no);
        gateway_check("GatewayPorts no\n", gateways[i].host, gateways[i].no);
        gateway_check("GatewayPorts yes\n", gateways[i].host, gateways[i].yes);
        gateway_check("GatewayPorts clientspecified\n", gateways[i].host, gateways[i].specified);
    }
}
