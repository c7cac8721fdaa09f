#include "ssh/options.h"
#include <ctype.h>
#include <string.h>
#include <sys/socket.h>

static void print_text(FILE *out, const char *keyword, const char *value) {
    if (value)
        fprintf(out, "%s %s\n", keyword, value);
}

static void print_flag(FILE *out, const char *keyword, bool value) {
    print_text(out, keyword, value ? "yes" : "no");
}

static void print_number(FILE *out, const char *keyword, uint64_t value) {
    fprintf(out, "%s %llu\n", keyword, (unsigned long long)value);
}

static void print_list(FILE *out, const char *keyword, const struct string_list *values) {
    fprintf(out, "%s", keyword);
    for (uint32_t i = 0; i < values->count; i++)
        fprintf(out, " %s", values->items[i]);
    fprintf(out, "%s\n", values->count ? "" : " none");
}

static void print_forward(FILE *out, const struct forward_spec *spec) {
    fprintf(out, "%s ", spec->kind == FORWARD_LOCAL ? "localforward" : "remoteforward");
    if (spec->bind)
        fprintf(out, "[%s]:", spec->bind);
    fprintf(out, "%u [%s]:%u\n", spec->port, spec->host, spec->host_port);
}

static const char *family_text(int family) {
    return family == AF_INET ? "inet" : family == AF_INET6 ? "inet6" : "any";
}

static const char *check_text(enum host_key_check check) {
    static const char *const texts[] = {"ask", "true", "false", "accept-new"};
    return texts[check];
}

static const char *level_text(enum log_level level) {
    static const char *const texts[] = {"QUIET", "FATAL", "ERROR", "INFO", "VERBOSE", "DEBUG", "DEBUG2", "DEBUG3"};
    return texts[level];
}

static void print_connection(const struct options *options, FILE *out) {
    print_text(out, "host", options->host_arg);
    print_text(out, "user", options->user);
    print_text(out, "hostname", options->hostname);
    print_number(out, "port", options->port);
    print_text(out, "addressfamily", family_text(options->family));
    print_text(out, "bindaddress", options->bind_address);
    if (options->connect_timeout_s)
        print_number(out, "connecttimeout", options->connect_timeout_s);
    else
        print_text(out, "connecttimeout", "none");
    print_number(out, "connectionattempts", options->connection_attempts);
    print_flag(out, "tcpkeepalive", options->tcp_keepalive);
    print_number(out, "serveraliveinterval", options->server_alive_interval_s);
    print_number(out, "serveralivecountmax", options->server_alive_count_max);
    print_text(out, "proxyjump", options->proxy_jump);
    if (!options->proxy_jump)
        print_text(out, "proxycommand", options->proxy_command);
    fprintf(out, "rekeylimit %llu %u\n", (unsigned long long)options->rekey_limit_bytes, options->rekey_limit_s);
    print_text(out, "ciphers", options->ciphers);
    print_text(out, "kexalgorithms", options->kex_algorithms);
}

static void print_authentication(const struct options *options, FILE *out) {
    for (uint32_t i = 0; i < options->identity_files.count; i++)
        print_text(out, "identityfile", options->identity_files.items[i]);
    print_flag(out, "identitiesonly", options->identities_only);
    print_text(out, "identityagent", options->identity_agent);
    print_text(out, "pubkeyauthentication", options->pubkey_authentication ? "true" : "false");
    print_flag(out, "passwordauthentication", options->password_authentication);
    print_flag(out, "kbdinteractiveauthentication", options->kbd_interactive_authentication);
    print_text(out, "preferredauthentications", options->preferred_authentications);
    print_text(out, "pubkeyacceptedalgorithms", options->pubkey_accepted_algorithms);
    print_number(out, "numberofpasswordprompts", options->number_of_password_prompts);
    print_number(out, "requiredrsasize", options->required_rsa_bits);
    print_flag(out, "batchmode", options->batch_mode);
}

static void print_trust(const struct options *options, FILE *out) {
    print_text(out, "stricthostkeychecking", check_text(options->strict_host_key_checking));
    print_list(out, "userknownhostsfile", &options->user_known_hosts_files);
    print_list(out, "globalknownhostsfile", &options->global_known_hosts_files);
    print_text(out, "hostkeyalias", options->host_key_alias);
    print_text(out, "hostkeyalgorithms", options->host_key_algorithms);
    print_flag(out, "hashknownhosts", options->hash_known_hosts);
    print_flag(out, "checkhostip", options->check_host_ip);
}

static void print_program(const struct options *options, FILE *out) {
    static const char *const backends[] = {"auto", "io_uring", "epoll"};
    print_flag(out, "forkafterauthentication", options->background);
    print_text(out, "loglevel", level_text(options->log_level));
    if (options->connections)
        print_number(out, "connections", options->connections);
    else
        print_text(out, "connections", "auto");
    if (options->shards)
        print_number(out, "shards", options->shards);
    else
        print_text(out, "shards", "auto");
    print_number(out, "stripes", options->stripes);
    print_text(out, "iobackend", backends[options->io_backend]);
    if (options->max_window)
        print_number(out, "maxwindow", options->max_window);
    print_number(out, "memorylimit", options->memory_limit);
    if (options->drain_timeout_given)
        print_number(out, "draintimeout", options->drain_timeout_s);
}

void options_print(const struct options *options, FILE *out) {
    print_connection(options, out);
    print_authentication(options, out);
    print_trust(options, out);
    for (uint32_t i = 0; i < options->forwards_count; i++)
        print_forward(out, &options->forwards[i]);
    print_flag(out, "gatewayports", options->gateway_ports);
    print_flag(out, "exitonforwardfailure", options->exit_on_forward_failure);
    print_flag(out, "clearallforwardings", options->clear_all_forwardings);
    print_program(options, out);
}
