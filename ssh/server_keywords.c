/* The table of directives: every one of sshd_config(5) up to OpenSSH 10, those of earlier releases that sshd still
 * knows, and leatd's own. Each is honoured, ignored (nothing it could do is done here, or it would only let more
 * happen; a warning), or refused (ignoring it would let in whom, or permit what, it forbids). */
#include "ssh/server_keywords.h"
#include "ssh/text.h"
#include "ssh/values.h"
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define AT(field) offsetof(struct server_options, field)
#define IN_GLOBAL .in_match = false
#define IN_MATCH .in_match = true
#define FLAG(name, where, field)                                                                                       \
    { .text = name, .kind = SERVER_VALUE_FLAG, where, .offset = AT(field) }
#define NUMBER(name, where, field)                                                                                     \
    { .text = name, .kind = SERVER_VALUE_NUMBER, where, .offset = AT(field), .max = INT32_MAX }
#define SECONDS(name, where, field)                                                                                    \
    { .text = name, .kind = SERVER_VALUE_SECONDS, where, .offset = AT(field) }
#define FILE_NAME(name, where, field)                                                                                  \
    { .text = name, .kind = SERVER_VALUE_FILE, where, .offset = AT(field) }
#define PATTERNS(name, field)                                                                                          \
    { .text = name, .kind = SERVER_VALUE_PATTERNS, IN_MATCH, .adds_up = true, .offset = AT(field) }
#define SETTER(name, where, function)                                                                                  \
    { .text = name, .kind = SERVER_VALUE_WORDS, where, .set = function }
#define ADDING(name, function)                                                                                         \
    { .text = name, .kind = SERVER_VALUE_WORDS, IN_GLOBAL, .adds_up = true, .set = function }
#define REST(name, function)                                                                                           \
    { .text = name, .kind = SERVER_VALUE_REST, IN_GLOBAL, .set = function }
#define ALIAS(name, target)                                                                                            \
    { .text = name, .kind = SERVER_VALUE_ALIAS, .detail = target }
#define IGNORED_BECAUSE(name, where, silent, why)                                                                      \
    { .text = name, .kind = SERVER_VALUE_IGNORED, where, .detail = silent, .note = why }
#define IGNORED(name, where) IGNORED_BECAUSE(name, where, "no,none", "has no effect on leatd, ignored")
#define REFUSED(name, where, harmless, why)                                                                            \
    { .text = name, .kind = SERVER_VALUE_REFUSED, where, .detail = harmless, .note = why }

#define NOTHING_RUNS "leatd runs nothing for its users, ignored"
#define KEYS_ONLY "leatd lets in by public keys only, ignored"
#define NO_CERTIFICATES "leatd knows no certificates, ignored"
#define OBSOLETE "of earlier releases of sshd, ignored"

static const struct server_keyword keywords[] = {
    /* Who may come in. */
    SETTER("AuthorizedKeysFile", IN_MATCH, server_set_authorized_keys_file),
    FLAG("StrictModes", IN_GLOBAL, strict_modes),
    FLAG("PubkeyAuthentication", IN_MATCH, pubkey_authentication),
    ALIAS("DSAAuthentication", "PubkeyAuthentication"),
    SETTER("PermitRootLogin", IN_MATCH, server_set_permit_root_login),
    FLAG("RefuseConnection", IN_MATCH, refuse_connection),
    {.text = "AllowUsers",
     .kind = SERVER_VALUE_WORDS,
     IN_MATCH,
     .adds_up = true,
     .offset = AT(allow_users),
     .set = server_set_users},
    {.text = "DenyUsers",
     .kind = SERVER_VALUE_WORDS,
     IN_MATCH,
     .adds_up = true,
     .offset = AT(deny_users),
     .set = server_set_users},
    PATTERNS("AllowGroups", allow_groups),
    PATTERNS("DenyGroups", deny_groups),
    NUMBER("MaxAuthTries", IN_MATCH, max_auth_tries),
    SETTER("MaxSessions", IN_MATCH, server_set_max_sessions),
    SETTER("RequiredRSASize", IN_MATCH, server_set_required_rsa_size),
    SETTER("PubkeyAcceptedAlgorithms", IN_MATCH, server_set_pubkey_algorithms),
    ALIAS("PubkeyAcceptedKeyTypes", "PubkeyAcceptedAlgorithms"),
    FILE_NAME("Banner", IN_MATCH, banner),
    SETTER("AuthenticationMethods", IN_MATCH, server_set_authentication_methods),
    REFUSED("RevokedKeys", IN_MATCH, "none", "leatd looks into no list of revoked keys"),
    SETTER("PubkeyAuthOptions", IN_MATCH, server_set_pubkey_auth_options),
    REFUSED("UseDNS", IN_GLOBAL, "no", "leatd does not look up the names of clients"),
    REFUSED("RDomain", IN_MATCH, "none", "leatd knows no routing domains"),
    IGNORED_BECAUSE("AuthorizedKeysCommand", IN_MATCH, "none", "not run; keys are those of AuthorizedKeysFile"),
    IGNORED_BECAUSE("AuthorizedKeysCommandUser", IN_MATCH, "none", "AuthorizedKeysCommand is not run, ignored"),
    IGNORED_BECAUSE("AuthorizedPrincipalsCommand", IN_MATCH, "none", NO_CERTIFICATES),
    IGNORED_BECAUSE("AuthorizedPrincipalsCommandUser", IN_MATCH, "none", NO_CERTIFICATES),
    IGNORED_BECAUSE("AuthorizedPrincipalsFile", IN_MATCH, "none", NO_CERTIFICATES),
    IGNORED_BECAUSE("CASignatureAlgorithms", IN_MATCH, "", NO_CERTIFICATES),
    IGNORED_BECAUSE("TrustedUserCAKeys", IN_MATCH, "none", NO_CERTIFICATES),
    IGNORED_BECAUSE("UsePAM", IN_GLOBAL, "no", "PAM is not asked, its rules for accounts included; ignored"),
    IGNORED_BECAUSE("PAMServiceName", IN_MATCH, "sshd", "PAM is not asked, ignored"),
    IGNORED_BECAUSE("PasswordAuthentication", IN_MATCH, "no", KEYS_ONLY),
    IGNORED_BECAUSE("KbdInteractiveAuthentication", IN_MATCH, "no", KEYS_ONLY),
    ALIAS("ChallengeResponseAuthentication", "KbdInteractiveAuthentication"),
    ALIAS("SkeyAuthentication", "KbdInteractiveAuthentication"),
    IGNORED_BECAUSE("PermitEmptyPasswords", IN_MATCH, "no", KEYS_ONLY),
    IGNORED_BECAUSE("HostbasedAuthentication", IN_MATCH, "no", KEYS_ONLY),
    IGNORED_BECAUSE("HostbasedAcceptedAlgorithms", IN_MATCH, "", KEYS_ONLY),
    ALIAS("HostbasedAcceptedKeyTypes", "HostbasedAcceptedAlgorithms"),
    IGNORED_BECAUSE("HostbasedUsesNameFromPacketOnly", IN_MATCH, "no", KEYS_ONLY),
    IGNORED_BECAUSE("IgnoreRhosts", IN_MATCH, "no,yes,shosts-only", KEYS_ONLY),
    IGNORED_BECAUSE("IgnoreUserKnownHosts", IN_GLOBAL, "no,yes", KEYS_ONLY),
    IGNORED_BECAUSE("KerberosAuthentication", IN_MATCH, "no", KEYS_ONLY),
    IGNORED_BECAUSE("KerberosGetAFSToken", IN_GLOBAL, "no", KEYS_ONLY),
    IGNORED_BECAUSE("KerberosOrLocalPasswd", IN_GLOBAL, "no,yes", KEYS_ONLY),
    IGNORED_BECAUSE("KerberosTicketCleanup", IN_GLOBAL, "no,yes", KEYS_ONLY),
    IGNORED_BECAUSE("GSSAPIAuthentication", IN_MATCH, "no", KEYS_ONLY),
    IGNORED_BECAUSE("GSSAPICleanupCredentials", IN_GLOBAL, "no,yes", KEYS_ONLY),
    IGNORED_BECAUSE("GSSAPIDelegateCredentials", IN_MATCH, "no,yes", KEYS_ONLY),
    IGNORED_BECAUSE("GSSAPIEnablek5users", IN_MATCH, "no", KEYS_ONLY),
    IGNORED_BECAUSE("GSSAPIIndicators", IN_MATCH, "none", KEYS_ONLY),
    IGNORED_BECAUSE("GSSAPIKexAlgorithms", IN_GLOBAL, "", KEYS_ONLY),
    IGNORED_BECAUSE("GSSAPIKeyExchange", IN_GLOBAL, "no", KEYS_ONLY),
    IGNORED_BECAUSE("GSSAPIStoreCredentialsOnRekey", IN_GLOBAL, "no", KEYS_ONLY),
    IGNORED_BECAUSE("GSSAPIStrictAcceptorCheck", IN_GLOBAL, "no,yes", KEYS_ONLY),
    IGNORED_BECAUSE("SecurityKeyProvider", IN_GLOBAL, "internal", "has no effect on leatd, ignored"),

    /* What they may do. */
    SETTER("AllowTcpForwarding", IN_MATCH, server_set_allow_tcp_forwarding),
    SETTER("AllowStreamLocalForwarding", IN_MATCH, server_set_allow_streamlocal_forwarding),
    FLAG("DisableForwarding", IN_MATCH, disable_forwarding),
    SETTER("GatewayPorts", IN_MATCH, server_set_gateway_ports),
    SETTER("PermitOpen", IN_MATCH, server_set_permit_open),
    SETTER("PermitListen", IN_MATCH, server_set_permit_listen),
    SETTER("StreamLocalBindMask", IN_MATCH, server_set_streamlocal_bind_mask),
    FLAG("StreamLocalBindUnlink", IN_MATCH, streamlocal_bind_unlink),
    SETTER("ChrootDirectory", IN_MATCH, server_set_chroot_directory),
    IGNORED_BECAUSE("ForceCommand", IN_MATCH, "none", NOTHING_RUNS),
    IGNORED_BECAUSE("Subsystem", IN_MATCH, "", NOTHING_RUNS),
    IGNORED_BECAUSE("AcceptEnv", IN_MATCH, "", NOTHING_RUNS),
    IGNORED_BECAUSE("SetEnv", IN_MATCH, "", NOTHING_RUNS),
    IGNORED_BECAUSE("PermitUserEnvironment", IN_GLOBAL, "no", NOTHING_RUNS),
    IGNORED_BECAUSE("PermitUserRC", IN_MATCH, "no", NOTHING_RUNS),
    IGNORED_BECAUSE("PermitTTY", IN_MATCH, "no", NOTHING_RUNS),
    IGNORED_BECAUSE("PrintMotd", IN_GLOBAL, "no", NOTHING_RUNS),
    IGNORED_BECAUSE("PrintLastLog", IN_GLOBAL, "no", NOTHING_RUNS),
    IGNORED_BECAUSE("ExposeAuthInfo", IN_MATCH, "no", NOTHING_RUNS),
    IGNORED("AllowAgentForwarding", IN_MATCH),
    IGNORED("AgentSocketPath", IN_MATCH),
    IGNORED("PermitTunnel", IN_MATCH),
    IGNORED("X11Forwarding", IN_MATCH),
    IGNORED("X11DisplayOffset", IN_MATCH),
    IGNORED("X11UseLocalhost", IN_MATCH),
    IGNORED("XAuthLocation", IN_GLOBAL),

    /* How long, how many. */
    SECONDS("LoginGraceTime", IN_GLOBAL, login_grace_s),
    SECONDS("ClientAliveInterval", IN_MATCH, client_alive_interval_s),
    NUMBER("ClientAliveCountMax", IN_MATCH, client_alive_count_max),
    SETTER("ChannelTimeout", IN_MATCH, server_set_channel_timeout),
    SETTER("UnusedConnectionTimeout", IN_MATCH, server_set_unused_connection_timeout),
    SETTER("MaxStartups", IN_GLOBAL, server_set_max_startups),
    SETTER("PerSourceMaxStartups", IN_GLOBAL, server_set_per_source_max_startups),
    SETTER("PerSourceNetBlockSize", IN_GLOBAL, server_set_per_source_net_block_size),
    IGNORED_BECAUSE("PerSourcePenalties", IN_GLOBAL, "no", "leatd keeps no penalties; PerSourceMaxStartups limits"),
    IGNORED_BECAUSE("PerSourcePenaltyExemptList", IN_GLOBAL, "none", "leatd keeps no penalties, ignored"),

    /* The wire. */
    SETTER("Ciphers", IN_GLOBAL, server_set_ciphers),
    SETTER("KexAlgorithms", IN_GLOBAL, server_set_kex_algorithms),
    SETTER("HostKeyAlgorithms", IN_GLOBAL, server_set_host_key_algorithms),
    SETTER("RekeyLimit", IN_MATCH, server_set_rekey_limit),
    SETTER("TCPKeepAlive", IN_GLOBAL, server_set_tcp_keepalive),
    ALIAS("KeepAlive", "TCPKeepAlive"),
    REST("VersionAddendum", server_set_version_addendum),
    IGNORED("Compression", IN_GLOBAL),
    IGNORED("IPQoS", IN_MATCH),
    IGNORED_BECAUSE("MACs", IN_GLOBAL, "", "leatd's ciphers authenticate by themselves, ignored"),
    IGNORED("ModuliFile", IN_GLOBAL),
    IGNORED("DebianBanner", IN_GLOBAL),
    IGNORED("WarnWeakCrypto", IN_GLOBAL),

    /* The program. */
    ADDING("Port", server_set_port),
    ADDING("ListenAddress", server_set_listen_address),
    SETTER("AddressFamily", IN_GLOBAL, server_set_family),
    ADDING("HostKey", server_set_host_key),
    ALIAS("HostDSAKey", "HostKey"),
    IGNORED_BECAUSE("HostCertificate", IN_GLOBAL, "none", NO_CERTIFICATES),
    IGNORED_BECAUSE("HostKeyAgent", IN_GLOBAL, "none", "leatd reads host keys from files, ignored"),
    SETTER("LogLevel", IN_MATCH, server_set_log_level),
    SETTER("SyslogFacility", IN_GLOBAL, server_set_syslog_facility),
    FILE_NAME("PidFile", IN_GLOBAL, pid_file),
    IGNORED_BECAUSE("FingerprintHash", IN_GLOBAL, "sha256", "fingerprints are SHA256, ignored"),
    IGNORED("LogVerbose", IN_MATCH),
    IGNORED("SshdAuthPath", IN_GLOBAL),
    IGNORED("SshdSessionPath", IN_GLOBAL),

    /* Words of earlier releases that sshd itself ignores by now. */
    IGNORED_BECAUSE("AFSTokenPassing", IN_GLOBAL, "no", OBSOLETE),
    IGNORED_BECAUSE("AuthorizedKeysFile2", IN_MATCH, "", OBSOLETE),
    IGNORED_BECAUSE("CheckMail", IN_GLOBAL, "no", OBSOLETE),
    IGNORED_BECAUSE("GSSUseSessionCCache", IN_GLOBAL, "no", OBSOLETE),
    IGNORED_BECAUSE("GSSAPIUseSessionCredCache", IN_GLOBAL, "no", OBSOLETE),
    IGNORED_BECAUSE("KerberosTgtPassing", IN_GLOBAL, "no", OBSOLETE),
    IGNORED_BECAUSE("KeyRegenerationInterval", IN_GLOBAL, "", OBSOLETE),
    IGNORED_BECAUSE("PAMAuthenticationViaKbdInt", IN_GLOBAL, "no", OBSOLETE),
    IGNORED_BECAUSE("Protocol", IN_GLOBAL, "2", "there is only protocol 2, ignored"),
    IGNORED_BECAUSE("ReverseMappingCheck", IN_GLOBAL, "no", OBSOLETE),
    IGNORED_BECAUSE("RhostsAuthentication", IN_GLOBAL, "no", OBSOLETE),
    IGNORED_BECAUSE("RhostsRSAAuthentication", IN_MATCH, "no", OBSOLETE),
    IGNORED_BECAUSE("RSAAuthentication", IN_MATCH, "", OBSOLETE),
    IGNORED_BECAUSE("ServerKeyBits", IN_GLOBAL, "", OBSOLETE),
    IGNORED_BECAUSE("UseLogin", IN_GLOBAL, "no", OBSOLETE),
    IGNORED_BECAUSE("UsePrivilegeSeparation", IN_GLOBAL, "", OBSOLETE),
    IGNORED_BECAUSE("VerifyReverseMapping", IN_GLOBAL, "no", OBSOLETE),

    /* leatd's own. */
    SETTER("Shards", IN_GLOBAL, server_set_shards),
    SETTER("IoBackend", IN_GLOBAL, server_set_io_backend),
    SETTER("MaxWindow", IN_MATCH, server_set_max_window),
    SETTER("MemoryLimit", IN_GLOBAL, server_set_memory_limit),
    SECONDS("DrainTimeout", IN_GLOBAL, drain_timeout_s),
    ADDING("Relay", server_set_relay),
    SETTER("LogFormat", IN_GLOBAL, server_set_log_format),
    {.text = "User", .kind = SERVER_VALUE_WORDS, IN_GLOBAL, .offset = AT(run_user), .set = server_set_account},
    {.text = "Group", .kind = SERVER_VALUE_WORDS, IN_GLOBAL, .offset = AT(run_group), .set = server_set_account},
};
_Static_assert(sizeof keywords / sizeof *keywords <= SERVER_KEYWORDS_MAX, "drafts hold one flag for each");

const struct server_keyword *server_keyword_find(const char *text) {
    for (size_t i = 0; i < sizeof keywords / sizeof *keywords; i++)
        if (!strcasecmp(keywords[i].text, text))
            return keywords[i].kind == SERVER_VALUE_ALIAS ? server_keyword_find(keywords[i].detail) : &keywords[i];
    return NULL;
}

uint32_t server_keyword_index(const struct server_keyword *keyword) {
    return (uint32_t)(keyword - keywords);
}

int server_setting_error(const struct server_setting *setting, const char *text, const char *value) {
    return config_error(setting->place, setting->keyword->text, "%s: '%s'", text, value);
}

void server_setting_note(const struct server_setting *setting, const char *text) {
    bool *noted = setting->draft->noted;
    uint32_t index = server_keyword_index(setting->keyword);
    if (!noted || noted[index])
        return;
    noted[index] = true;
    char *where = config_place(setting->place);
    log_info("warning: %s: %s: %s", where, setting->keyword->text, text);
    free(where);
}

int server_setting_one_word(const struct server_setting *setting) {
    const struct string_list *words = setting->words;
    return words->count == 1 ? 0 : server_setting_error(setting, "more than one argument, from", words->items[0]);
}

int server_setting_choose(const struct server_setting *setting, const struct server_choice *choices, size_t count,
                          int *value) {
    const char *word = setting->words->items[0];
    *value = choices[0].value;
    int error = server_setting_one_word(setting);
    if (error)
        return error;
    for (size_t i = 0; i < count; i++) {
        if (!strcasecmp(choices[i].text, word)) {
            *value = choices[i].value;
            return 0;
        }
    }
    return server_setting_error(setting, "bad value", word);
}

int server_setting_path(const struct server_setting *setting, const char *name, char **path) {
    if (!*name)
        return server_setting_error(setting, "must not be empty", name);
    if (*name == '~')
        return server_setting_error(setting, "~ has no meaning here", name);
    *path = NULL;
    if (*name == '/')
        *path = strdup(name);
    else if (asprintf(path, "%s/%s", setting->draft->directory, name) < 0)
        *path = NULL;
    return *path ? 0 : ERR_NOMEM;
}

static bool is_one_of(const char *value, const char *list) {
    return pattern_list_match(value, list, true) == PATTERN_MATCHED;
}

static int set_flag(const struct server_setting *setting, bool *field) {
    static const struct server_choice choices[] = {{"no", false}, {"yes", true}};
    int value;
    int error = SERVER_CHOOSE(setting, choices, &value);
    if (!error)
        *field = value;
    return error;
}

static int set_number(const struct server_setting *setting, uint32_t *field) {
    uint64_t value;
    int error = server_setting_one_word(setting);
    if (error)
        return error;
    if (!value_number(setting->words->items[0], setting->keyword->max, &value) || value < setting->keyword->min)
        return server_setting_error(setting, "bad number", setting->words->items[0]);
    *field = (uint32_t)value;
    return 0;
}

static int set_seconds(const struct server_setting *setting, uint32_t *field) {
    int error = server_setting_one_word(setting);
    if (!error && !value_seconds(setting->words->items[0], field))
        error = server_setting_error(setting, "bad time", setting->words->items[0]);
    return error;
}

static int set_file(const struct server_setting *setting, char **field) {
    const char *name = setting->words->items[0];
    char *path = NULL;
    int error = server_setting_one_word(setting);
    if (!error && strcasecmp(name, "none"))
        error = server_setting_path(setting, name, &path);
    if (!error)
        text_set(field, path);
    return error;
}

static int add_patterns(const struct server_setting *setting, struct string_list *field) {
    if (strings_has(setting->words, ""))
        return server_setting_error(setting, "an empty pattern", "");
    int error = 0;
    for (uint32_t i = 0; !error && i < setting->words->count; i++)
        error = strings_add_copy(field, setting->words->items[i]);
    return error;
}

static int set_ignored(const struct server_setting *setting) {
    if (!is_one_of(setting->words->items[0], setting->keyword->detail))
        server_setting_note(setting, setting->keyword->note);
    return 0;
}

static int set_refused(const struct server_setting *setting) {
    bool harmless = setting->words->count == 1 && is_one_of(setting->words->items[0], setting->keyword->detail);
    return harmless ? 0 : server_setting_error(setting, setting->keyword->note, setting->words->items[0]);
}

int server_keyword_apply(const struct server_setting *setting) {
    char *field = (char *)setting->draft->options + setting->keyword->offset;
    switch (setting->keyword->kind) {
    case SERVER_VALUE_FLAG:
        return set_flag(setting, (bool *)field);
    case SERVER_VALUE_NUMBER:
        return set_number(setting, (uint32_t *)(void *)field);
    case SERVER_VALUE_SECONDS:
        return set_seconds(setting, (uint32_t *)(void *)field);
    case SERVER_VALUE_FILE:
        return set_file(setting, (char **)(void *)field);
    case SERVER_VALUE_PATTERNS:
        return add_patterns(setting, (struct string_list *)(void *)field);
    case SERVER_VALUE_IGNORED:
        return set_ignored(setting);
    case SERVER_VALUE_REFUSED:
        return set_refused(setting);
    default:
        return setting->keyword->set(setting);
    }
}

/* What is ignored may hold anything, so its quotes are not looked at. */
static int split(const struct server_keyword *keyword, const struct place *place, const char *rest,
                 struct string_list *words) {
    bool ignored = keyword->kind == SERVER_VALUE_IGNORED;
    *words = (struct string_list){0};
    if (!ignored && keyword->kind != SERVER_VALUE_REST)
        return words_split(rest, words) ? config_error(place, keyword->text, "a quote is not closed") : 0;
    if (*rest)
        strings_add(words, ignored ? text_copy_part(rest, strcspn(rest, " \t")) : text_copy(rest));
    return 0;
}

int server_keyword_words(const struct server_keyword *keyword, const struct place *place, const char *rest,
                         struct string_list *words) {
    int error = split(keyword, place, rest, words);
    if (!error && words->count == 0)
        error = config_error(place, keyword->text, "no argument given");
    return error;
}
