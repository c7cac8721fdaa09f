#include "ssh/algorithms.h"
#include "ssh/server_options.h"
#include "ssh/text.h"
#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>
#include <syslog.h>

static void print_text(FILE *out, const char *keyword, const char *value) {
    fprintf(out, "%s %s\n", keyword, value);
}

static void print_flag(FILE *out, const char *keyword, bool value) {
    print_text(out, keyword, value ? "yes" : "no");
}

static void print_number(FILE *out, const char *keyword, uint64_t value) {
    fprintf(out, "%s %llu\n", keyword, (unsigned long long)value);
}

static bool is_plain(const char *word) {
    if (!*word || *word == '#' || *word == '=')
        return false;
    for (; *word; word++)
        if ((unsigned char)*word <= ' ' || strchr("\"'\\", *word))
            return false;
    return true;
}

/* In quotes where it would not be read again as this one word; sshd -T never has any. */
static void print_word(FILE *out, const char *word) {
    if (is_plain(word)) {
        fprintf(out, " %s", word);
        return;
    }
    fputs(" \"", out);
    for (; *word; word++) {
        if (*word == '"' || *word == '\\')
            fputc('\\', out);
        fputc(*word, out);
    }
    fputc('"', out);
}

static void print_name(FILE *out, const char *keyword, const char *name) {
    fputs(keyword, out);
    print_word(out, name ? name : "none");
    fputc('\n', out);
}

static void print_each(FILE *out, const char *keyword, const struct string_list *values) {
    for (uint32_t i = 0; i < values->count; i++)
        print_name(out, keyword, values->items[i]);
}

static void print_forwarding(FILE *out, const char *keyword, uint8_t forwarding) {
    static const char *const texts[] = {"no", "local", "remote", "yes"};
    print_text(out, keyword, texts[forwarding]);
}

static void print_permissions(FILE *out, const char *keyword, const struct permission_list *list) {
    char text[1100]; /* NI_MAXHOST and what stands around it */
    fputs(keyword, out);
    if (!list->count)
        fputs(list->restricted ? " none" : " any", out);
    for (uint32_t i = 0; i < list->count; i++)
        print_word(out, permission_text(&list->items[i], text, sizeof text));
    fputc('\n', out);
}

static void print_listener(FILE *out, const char *host, uint16_t port) {
    bool brackets = strchr(host, ':') != NULL;
    fprintf(out, "listenaddress %s%s%s:%u\n", brackets ? "[" : "", host, brackets ? "]" : "", port);
}

static void print_listeners(const struct server_options *options, FILE *out) {
    static const char *const families[] = {"any", "inet", "inet6"};
    for (uint32_t i = 0; i < options->ports_count; i++)
        print_number(out, "port", options->ports[i]);
    print_text(out, "addressfamily", families[options->family == AF_INET ? 1 : options->family == AF_INET6 ? 2 : 0]);
    for (uint32_t i = 0; i < options->listen_count; i++) {
        const struct listen_address *listen = &options->listen[i];
        if (listen->host)
            print_listener(out, listen->host, listen->port);
        if (!listen->host && options->family != AF_INET)
            print_listener(out, "::", listen->port);
        if (!listen->host && options->family != AF_INET6)
            print_listener(out, "0.0.0.0", listen->port);
    }
    print_each(out, "hostkey", &options->host_keys);
}

static void print_access(const struct server_options *options, FILE *out) {
    print_flag(out, "strictmodes", options->strict_modes);
    print_flag(out, "pubkeyauthentication", options->pubkey_authentication);
    fprintf(out, "pubkeyauthoptions%s%s%s\n", options->touch_required ? " touch-required" : "",
            options->verify_required ? " verify-required" : "",
            options->touch_required || options->verify_required ? "" : " none");
    print_text(out, "permitrootlogin", options->permit_root_login ? "without-password" : "no");
    print_flag(out, "refuseconnection", options->refuse_connection);
    print_number(out, "maxauthtries", options->max_auth_tries);
    print_number(out, "maxsessions", options->max_sessions);
    print_number(out, "requiredrsasize", options->required_rsa_bits);
    fputs("authorizedkeysfile", out);
    if (!options->authorized_keys_files.count)
        fputs(" none", out);
    for (uint32_t i = 0; i < options->authorized_keys_files.count; i++)
        print_word(out, options->authorized_keys_files.items[i]);
    fputc('\n', out);
    print_each(out, "allowusers", &options->allow_users);
    print_each(out, "denyusers", &options->deny_users);
    print_each(out, "allowgroups", &options->allow_groups);
    print_each(out, "denygroups", &options->deny_groups);
    print_name(out, "banner", options->banner);
}

static void print_forwards(const struct server_options *options, FILE *out) {
    static const char *const gateways[] = {"no", "yes", "clientspecified"};
    print_forwarding(out, "allowtcpforwarding", options->allow_tcp_forwarding);
    print_forwarding(out, "allowstreamlocalforwarding", options->allow_streamlocal_forwarding);
    print_flag(out, "disableforwarding", options->disable_forwarding);
    print_text(out, "gatewayports", gateways[options->gateway_ports]);
    print_permissions(out, "permitopen", &options->permit_open);
    print_permissions(out, "permitlisten", &options->permit_listen);
    fprintf(out, "streamlocalbindmask 0%o\n", (unsigned)options->streamlocal_bind_mask);
    print_flag(out, "streamlocalbindunlink", options->streamlocal_bind_unlink);
}

static void print_timeouts(const struct server_options *options, FILE *out) {
    print_number(out, "logingracetime", options->login_grace_s);
    print_number(out, "clientaliveinterval", options->client_alive_interval_s);
    print_number(out, "clientalivecountmax", options->client_alive_count_max);
    fputs(options->channel_timeouts_count ? "channeltimeout" : "channeltimeout none", out);
    for (uint32_t i = 0; i < options->channel_timeouts_count; i++) {
        char *text = text_format("%s=%u", options->channel_timeouts[i].type, options->channel_timeouts[i].seconds);
        print_word(out, text);
        free(text);
    }
    fputc('\n', out);
    if (options->unused_connection_timeout_s)
        print_number(out, "unusedconnectiontimeout", options->unused_connection_timeout_s);
    else
        print_text(out, "unusedconnectiontimeout", "none");
}

/* It is read as it stands, so quotes would be part of it; only a '=' at its start needs one before it. */
static void print_addendum(FILE *out, const char *addendum) {
    fprintf(out, "versionaddendum %s%s\n", *addendum == '=' ? "= " : "", addendum);
}

/* The defaults are those that a list with a prefix is relative to. */
static void print_wire(const struct server_options *options, FILE *out) {
    const char *public_keys = options->pubkey_accepted_algorithms;
    print_text(out, "ciphers", options->ciphers ? options->ciphers : algorithms_ciphers);
    print_text(out, "kexalgorithms", options->kex_algorithms ? options->kex_algorithms : algorithms_kex);
    print_text(out, "hostkeyalgorithms",
               options->host_key_algorithms ? options->host_key_algorithms : algorithms_host_keys);
    print_text(out, "pubkeyacceptedalgorithms", public_keys ? public_keys : algorithms_host_keys);
    fprintf(out, "rekeylimit %llu %u\n", (unsigned long long)options->rekey_limit_bytes, options->rekey_limit_s);
    print_flag(out, "tcpkeepalive", options->tcp_keepalive);
    print_addendum(out, options->version_addendum ? options->version_addendum : "none");
}

static const char *facility_text(int facility) {
    static const char *const locals[] = {"LOCAL0", "LOCAL1", "LOCAL2", "LOCAL3",
                                         "LOCAL4", "LOCAL5", "LOCAL6", "LOCAL7"};
    switch (facility) {
    case LOG_AUTH:
        return "AUTH";
    case LOG_AUTHPRIV:
        return "AUTHPRIV";
    case LOG_DAEMON:
        return "DAEMON";
    case LOG_USER:
        return "USER";
    default:
        return locals[(LOG_FAC(facility) - LOG_FAC(LOG_LOCAL0)) & 7];
    }
}

static void print_program(const struct server_options *options, FILE *out) {
    static const char *const levels[] = {"QUIET", "FATAL", "ERROR", "INFO", "VERBOSE", "DEBUG", "DEBUG2", "DEBUG3"};
    print_text(out, "loglevel", levels[options->log_level]);
    print_text(out, "syslogfacility", facility_text(options->syslog_facility));
    print_name(out, "pidfile", options->pid_file);
    fprintf(out, "maxstartups %u:%u:%u\n", options->max_startups_begin, options->max_startups_rate,
            options->max_startups_full);
    if (options->per_source_max_startups == UINT32_MAX)
        print_text(out, "persourcemaxstartups", "none");
    else
        print_number(out, "persourcemaxstartups", options->per_source_max_startups);
    fprintf(out, "persourcenetblocksize %u:%u\n", options->per_source_bits4, options->per_source_bits6);
}

static void print_own(const struct server_options *options, FILE *out) {
    static const char *const backends[] = {"auto", "io_uring", "epoll"};
    if (options->shards)
        print_number(out, "shards", options->shards);
    else
        print_text(out, "shards", "auto");
    print_text(out, "iobackend", backends[options->io_backend]);
    if (options->max_window)
        print_number(out, "maxwindow", options->max_window);
    print_number(out, "memorylimit", options->memory_limit);
    print_number(out, "draintimeout", options->drain_timeout_s);
    for (uint32_t i = 0; i < options->relays_count; i++)
        print_text(out, "relay", options->relays[i].text);
    print_text(out, "logformat", options->log_format == LOG_FORMAT_JSON ? "json" : "text");
    if (options->run_user)
        print_name(out, "user", options->run_user);
    if (options->run_group)
        print_name(out, "group", options->run_group);
}

void server_options_print(const struct server_options *options, FILE *out) {
    print_listeners(options, out);
    print_access(options, out);
    print_forwards(options, out);
    print_timeouts(options, out);
    print_wire(options, out);
    print_program(options, out);
    print_own(options, out);
}
