/* The table of keywords: every one of ssh_config(5) up to OpenSSH 10, and leat's own. Each is honoured (it has a kind
 * of value and a place in struct options), ignored (cannot matter to a tunnel; a note at -v), or refused (ignoring it
 * would change what is forwarded, trusted or allowed). The setters of keywords with a syntax of their own are in
 * keyword_setters.c. */
#include "ssh/keywords.h"
#include "ssh/stripe.h"
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define AT(field) offsetof(struct options, field)
#define FLAG(name, field)                                                                                              \
    { .text = name, .kind = VALUE_FLAG, .offset = AT(field) }
#define NUMBER(name, field, from, to)                                                                                  \
    { .text = name, .kind = VALUE_NUMBER, .offset = AT(field), .min = from, .max = to }
#define SECONDS(name, field)                                                                                           \
    { .text = name, .kind = VALUE_SECONDS, .offset = AT(field) }
#define TEXT(name, field)                                                                                              \
    { .text = name, .kind = VALUE_TEXT, .offset = AT(field) }
#define FILES(name, field)                                                                                             \
    { .text = name, .kind = VALUE_FILES, .offset = AT(field) }
#define SETTER(name, function)                                                                                         \
    { .text = name, .kind = VALUE_WORDS, .set = function }
#define REST(name, function)                                                                                           \
    { .text = name, .kind = VALUE_REST, .set = function }
#define ALIAS(name, target)                                                                                            \
    { .text = name, .kind = VALUE_ALIAS, .detail = target }
#define IGNORED(name)                                                                                                  \
    { .text = name, .kind = VALUE_IGNORED }
/* harmless: the values that ask for nothing. */
#define REFUSED(name, harmless)                                                                                        \
    { .text = name, .kind = VALUE_REFUSED, .detail = harmless }

static const struct keyword keywords[] = {
    /* Where to, and how to get there. */
    SETTER("HostName", keyword_set_hostname),
    SETTER("User", keyword_set_user),
    SETTER("Port", keyword_set_port),
    SETTER("AddressFamily", keyword_set_family),
    TEXT("BindAddress", bind_address),
    REFUSED("BindInterface", ""),
    SECONDS("ConnectTimeout", connect_timeout_s),
    NUMBER("ConnectionAttempts", connection_attempts, 1, INT32_MAX),
    SETTER("TCPKeepAlive", keyword_set_tcp_keepalive),
    ALIAS("KeepAlive", "TCPKeepAlive"),
    SECONDS("ServerAliveInterval", server_alive_interval_s),
    NUMBER("ServerAliveCountMax", server_alive_count_max, 0, INT32_MAX),
    REST("ProxyCommand", keyword_set_proxy_command),
    SETTER("ProxyJump", keyword_set_proxy_jump),
    REFUSED("ProxyUseFdpass", "no,false"),
    REFUSED("CanonicalizeHostname", "no,false,none"),
    IGNORED("CanonicalDomains"),
    IGNORED("CanonicalizeFallbackLocal"),
    IGNORED("CanonicalizeMaxDots"),
    IGNORED("CanonicalizePermittedCNAMEs"),
    REST("RefuseConnection", keyword_set_refuse_connection),
    SETTER("Tag", keyword_set_tag),
    SETTER("IgnoreUnknown", keyword_set_ignore_unknown),

    /* Authentication. */
    SETTER("IdentityFile", keyword_add_identity_file),
    ALIAS("IdentityFile2", "IdentityFile"),
    FLAG("IdentitiesOnly", identities_only),
    TEXT("IdentityAgent", identity_agent),
    SETTER("PubkeyAuthentication", keyword_set_pubkey_authentication),
    ALIAS("DSAAuthentication", "PubkeyAuthentication"),
    FLAG("PasswordAuthentication", password_authentication),
    FLAG("KbdInteractiveAuthentication", kbd_interactive_authentication),
    ALIAS("ChallengeResponseAuthentication", "KbdInteractiveAuthentication"),
    ALIAS("SKeyAuthentication", "KbdInteractiveAuthentication"),
    ALIAS("TISAuthentication", "KbdInteractiveAuthentication"),
    TEXT("PreferredAuthentications", preferred_authentications),
    NUMBER("NumberOfPasswordPrompts", number_of_password_prompts, 0, INT32_MAX),
    FLAG("BatchMode", batch_mode),
    SETTER("PubkeyAcceptedAlgorithms", keyword_set_pubkey_algorithms),
    ALIAS("PubkeyAcceptedKeyTypes", "PubkeyAcceptedAlgorithms"),
    NUMBER("RequiredRSASize", required_rsa_bits, 0, 65536),
    IGNORED("AddKeysToAgent"),
    IGNORED("CertificateFile"),
    IGNORED("EnableSSHKeysign"),
    IGNORED("GSSAPIAuthentication"),
    IGNORED("GSSAPIClientIdentity"),
    IGNORED("GSSAPIDelegateCredentials"),
    IGNORED("GSSAPIKexAlgorithms"),
    IGNORED("GSSAPIKeyExchange"),
    IGNORED("GSSAPIRenewalForcesRekey"),
    IGNORED("GSSAPIServerIdentity"),
    IGNORED("GSSAPITrustDns"),
    IGNORED("HostbasedAcceptedAlgorithms"),
    IGNORED("HostbasedAuthentication"),
    IGNORED("HostbasedKeyTypes"),
    IGNORED("KbdInteractiveDevices"),
    IGNORED("PKCS11Provider"),
    IGNORED("SecurityKeyProvider"),
    IGNORED("SmartcardDevice"),

    /* Whom to trust. */
    SETTER("StrictHostKeyChecking", keyword_set_strict_host_key_checking),
    FILES("UserKnownHostsFile", user_known_hosts_files),
    FILES("GlobalKnownHostsFile", global_known_hosts_files),
    TEXT("HostKeyAlias", host_key_alias),
    FLAG("HashKnownHosts", hash_known_hosts),
    FLAG("CheckHostIP", check_host_ip),
    SETTER("HostKeyAlgorithms", keyword_set_host_key_algorithms),
    REFUSED("KnownHostsCommand", "none"),
    REFUSED("NoHostAuthenticationForLocalhost", "no,false"),
    REFUSED("RevokedHostKeys", "none"),
    REFUSED("VerifyHostKeyDNS", "no,false"),
    IGNORED("CASignatureAlgorithms"),
    IGNORED("FingerprintHash"),
    IGNORED("UpdateHostKeys"),
    IGNORED("VisualHostKey"),

    /* The transport. */
    SETTER("Ciphers", keyword_set_ciphers),
    SETTER("KexAlgorithms", keyword_set_kex_algorithms),
    SETTER("RekeyLimit", keyword_set_rekey_limit),
    IGNORED("Compression"),
    IGNORED("IPQoS"),
    IGNORED("MACs"),
    IGNORED("VersionAddendum"),
    IGNORED("WarnWeakCrypto"),

    /* What is forwarded. */
    SETTER("LocalForward", keyword_add_local_forward),
    SETTER("RemoteForward", keyword_add_remote_forward),
    SETTER("DynamicForward", keyword_add_dynamic_forward),
    FLAG("GatewayPorts", gateway_ports),
    FLAG("ExitOnForwardFailure", exit_on_forward_failure),
    FLAG("ClearAllForwardings", clear_all_forwardings),
    REFUSED("Tunnel", "no,false"),
    SETTER("ChannelTimeout", keyword_set_channel_timeout),
    IGNORED("ForwardAgent"),
    IGNORED("ForwardX11"),
    IGNORED("ForwardX11Timeout"),
    IGNORED("ForwardX11Trusted"),
    IGNORED("PermitRemoteOpen"),
    IGNORED("StreamLocalBindMask"),
    IGNORED("StreamLocalBindUnlink"),
    IGNORED("TunnelDevice"),
    IGNORED("XAuthLocation"),

    /* The program. */
    FLAG("ForkAfterAuthentication", background),
    SETTER("LogLevel", keyword_set_log_level),
    REST("LocalCommand", keyword_set_local_command),
    SETTER("PermitLocalCommand", keyword_set_permit_local_command),
    IGNORED("ControlMaster"),
    IGNORED("ControlPath"),
    IGNORED("ControlPersist"),
    IGNORED("EnableEscapeCommandline"),
    IGNORED("EscapeChar"),
    IGNORED("LogVerbose"),
    IGNORED("ObscureKeystrokeTiming"),
    IGNORED("RemoteCommand"),
    IGNORED("RequestTTY"),
    IGNORED("SendEnv"),
    IGNORED("SessionType"),
    IGNORED("SetEnv"),
    IGNORED("StdinNull"),
    IGNORED("SyslogFacility"),

    /* Words of earlier releases that ssh itself ignores by now. */
    IGNORED("AFSTokenPassing"),
    IGNORED("Cipher"),
    IGNORED("CompressionLevel"),
    IGNORED("FallBackToRsh"),
    IGNORED("GlobalKnownHostsFile2"),
    IGNORED("KerberosAuthentication"),
    IGNORED("KerberosTgtPassing"),
    IGNORED("Protocol"),
    IGNORED("RhostsAuthentication"),
    IGNORED("RhostsRSAAuthentication"),
    IGNORED("RSAAuthentication"),
    IGNORED("UseBlacklistedKeys"),
    IGNORED("UsePrivilegedPort"),
    IGNORED("UserKnownHostsFile2"),
    IGNORED("UseRoaming"),
    IGNORED("UseRsh"),

    /* leat's own. */
    SETTER("Connections", keyword_set_connections),
    SETTER("Shards", keyword_set_shards),
    SETTER("IoBackend", keyword_set_io_backend),
    SETTER("MaxWindow", keyword_set_max_window),
    SETTER("MemoryLimit", keyword_set_memory_limit),
    SETTER("DrainTimeout", keyword_set_drain_timeout),
    NUMBER("Stripes", stripes, 1, STRIPE_LANES_MAX),
    REFUSED("Reconnect", "no,false"),
};
_Static_assert(sizeof keywords / sizeof *keywords <= CONFIG_KEYWORDS_MAX, "config.given holds one flag for each");

static const struct keyword *keyword_find(const char *text) {
    for (size_t i = 0; i < sizeof keywords / sizeof *keywords; i++)
        if (!strcasecmp(keywords[i].text, text))
            return keywords[i].kind == VALUE_ALIAS ? keyword_find(keywords[i].detail) : &keywords[i];
    return NULL;
}

int setting_error(const struct setting *setting, const char *text) {
    const char *value = setting->words.count ? setting->words.items[0] : setting->statement->rest;
    return config_error(&setting->statement->place, setting->keyword->text, "%s: '%s'", text, value);
}

static bool is_one_of(const char *value, const char *list) {
    return pattern_list_match(value, list, true) == PATTERN_MATCHED;
}

static int set_flag(const struct setting *setting, bool *field) {
    bool value;
    if (!value_flag(setting->words.items[0], &value))
        return setting_error(setting, "must be yes or no");
    if (setting->store)
        *field = value;
    return 0;
}

static int set_number(const struct setting *setting, uint32_t *field) {
    uint64_t value;
    if (!value_number(setting->words.items[0], setting->keyword->max, &value) || value < setting->keyword->min)
        return setting_error(setting, "bad number");
    if (setting->store)
        *field = (uint32_t)value;
    return 0;
}

static int set_seconds(const struct setting *setting, uint32_t *field) {
    uint32_t value = 0;
    if (!is_one_of(setting->words.items[0], "none") && !value_seconds(setting->words.items[0], &value))
        return setting_error(setting, "bad time");
    if (setting->store)
        *field = value;
    return 0;
}

static int set_text(const struct setting *setting, char **field) {
    if (!*setting->words.items[0])
        return setting_error(setting, "must not be empty");
    if (setting->store)
        text_set(field, text_copy(setting->words.items[0]));
    return 0;
}

static int set_files(const struct setting *setting, struct string_list *field) {
    bool none = strings_has(&setting->words, "none");
    if (strings_has(&setting->words, "") || (none && setting->words.count > 1))
        return setting_error(setting, none ? "'none' must stand alone" : "an empty file name");
    if (!setting->store)
        return 0;
    strings_clear(field);
    for (uint32_t i = 0; !none && i < setting->words.count; i++)
        strings_add(field, text_copy(setting->words.items[i]));
    return 0;
}

static int set_ignored(const struct setting *setting) {
    if (setting->statement->active && !is_one_of(setting->words.items[0], "no,none,false"))
        config_note(setting->config, &setting->statement->place, setting->keyword->text,
                    "has no effect on leat, ignored");
    return 0;
}

static int set_refused(const struct setting *setting) {
    if (!setting->store || is_one_of(setting->words.items[0], setting->keyword->detail))
        return 0;
    return setting_error(setting, "is not supported by leat");
}

static int setting_apply(const struct setting *setting) {
    const struct keyword *keyword = setting->keyword;
    char *field = (char *)setting->config->options + keyword->offset;
    if (!setting->words.count)
        return config_error(&setting->statement->place, keyword->text, "no argument given");
    bool single = keyword->kind != VALUE_FILES && keyword->kind != VALUE_WORDS;
    if (single && setting->words.count > 1)
        return config_error(&setting->statement->place, keyword->text, "more than one argument");
    switch (keyword->kind) {
    case VALUE_FLAG:
        return set_flag(setting, (bool *)field);
    case VALUE_NUMBER:
        return set_number(setting, (uint32_t *)(void *)field);
    case VALUE_SECONDS:
        return set_seconds(setting, (uint32_t *)(void *)field);
    case VALUE_TEXT:
        return set_text(setting, (char **)(void *)field);
    case VALUE_FILES:
        return set_files(setting, (struct string_list *)(void *)field);
    case VALUE_IGNORED:
        return set_ignored(setting);
    case VALUE_REFUSED:
        return set_refused(setting);
    default:
        return keyword->set(setting);
    }
}

/* REST takes the line as it is. Ignored keywords may hold anything, so their quotes are not looked at. */
static int setting_words(struct setting *setting) {
    const char *rest = setting->statement->rest;
    bool ignored = setting->keyword->kind == VALUE_IGNORED;
    if (ignored || setting->statement->literal || setting->keyword->kind == VALUE_REST) {
        if (*rest)
            strings_add(&setting->words, ignored ? text_copy_part(rest, strcspn(rest, " \t")) : text_copy(rest));
        return 0;
    }
    if (words_split(rest, &setting->words))
        return config_error(&setting->statement->place, setting->keyword->text, "a quote is not closed");
    return 0;
}

int keyword_apply(struct config *config, const struct statement *statement) {
    const char *ignored = config->ignore_unknown;
    const struct keyword *keyword = keyword_find(statement->keyword);
    if (!keyword && ignored && pattern_list_match(statement->keyword, ignored, true) == PATTERN_MATCHED)
        return 0;
    if (!keyword)
        return config_error(&statement->place, statement->keyword, "unknown keyword");
    bool *given = &config->given[keyword - keywords];
    struct setting setting = {.config = config, .keyword = keyword, .statement = statement};
    setting.store = statement->active && !*given;
    int error = setting_words(&setting);
    if (!error)
        error = setting_apply(&setting);
    if (!error && statement->active)
        *given = true;
    strings_clear(&setting.words);
    return error;
}
