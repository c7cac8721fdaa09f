/* Keywords whose values have a syntax of their own. */
#include "engine/limits.h"
#include "ssh/algorithms.h"
#include "ssh/destination.h"
#include "ssh/keywords.h"
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>

static int one_word(const struct setting *setting) {
    return setting->words.count == 1 ? 0 : setting_error(setting, "more than one argument, from");
}

struct choice {
    const char *text;
    int value;
};

/* 0 and *value, or an error that was reported (and the first choice). */
static int choose(const struct setting *setting, const struct choice *choices, size_t count, int *value) {
    *value = choices[0].value;
    int error = one_word(setting);
    for (size_t i = 0; !error && i < count; i++) {
        if (!strcasecmp(choices[i].text, setting->words.items[0])) {
            *value = choices[i].value;
            return 0;
        }
    }
    return error ? error : setting_error(setting, "bad value");
}
#define CHOOSE(setting, choices, value) choose(setting, choices, sizeof(choices) / sizeof *(choices), value)

static int set_word(const struct setting *setting, char **field) {
    int error = one_word(setting);
    if (!error && setting->store)
        text_set(field, text_copy(setting->words.items[0]));
    return error;
}

int keyword_set_hostname(const struct setting *setting) {
    int error = one_word(setting);
    if (error)
        return error;
    if (!*setting->words.items[0])
        return setting_error(setting, "must not be empty");
    /* The second reading, for "Match final", comes when the name is settled already. */
    if (setting->store && !setting->config->hostname_settled)
        text_set(&setting->config->options->hostname, text_copy(setting->words.items[0]));
    return 0;
}

int keyword_set_user(const struct setting *setting) {
    int error = one_word(setting);
    if (error)
        return error;
    if (!*setting->words.items[0])
        return setting_error(setting, "must not be empty");
    /* The command line's user may be there already, without having been a keyword. */
    if (setting->store && !setting->config->options->user)
        setting->config->options->user = text_copy(setting->words.items[0]);
    return 0;
}

int keyword_set_port(const struct setting *setting) {
    uint16_t port;
    int error = one_word(setting);
    if (error)
        return error;
    if (!value_port(setting->words.items[0], &port) || port == 0)
        return setting_error(setting, "bad port");
    if (setting->store)
        setting->config->options->port = port;
    return 0;
}

int keyword_set_family(const struct setting *setting) {
    static const struct choice choices[] = {{"any", AF_UNSPEC}, {"inet", AF_INET}, {"inet6", AF_INET6}};
    int family;
    int error = CHOOSE(setting, choices, &family);
    if (!error && setting->store)
        setting->config->options->family = family;
    return error;
}

/* ProxyCommand and ProxyJump compete: the first of either shuts the other out, but a jump through nothing does not. */
int keyword_set_proxy_command(const struct setting *setting) {
    struct options *options = setting->config->options;
    bool jumps = options->proxy_jump && strcmp(options->proxy_jump, "none") != 0;
    if (setting->store && !jumps)
        options->proxy_command = text_copy(setting->words.items[0]);
    return 0;
}

static int hop_append(const struct setting *setting, const char *text, char **jump) {
    struct destination hop;
    const char *why;
    if (destination_parse_hop(text, &hop, &why))
        return setting_error(setting, why);
    bool brackets = strchr(hop.host, ':') != NULL;
    text_set(jump, text_format("%s%s%s%s%s%s%s", *jump, **jump ? "," : "", hop.user ? hop.user : "",
                               hop.user ? "@" : "", brackets ? "[" : "", hop.host, brackets ? "]" : ""));
    if (hop.port_given)
        text_set(jump, text_format("%s:%u", *jump, hop.port));
    destination_deinit(&hop);
    return 0;
}

int keyword_set_proxy_jump(const struct setting *setting) {
    int error = one_word(setting);
    if (error)
        return error;
    char *jump = text_copy("");
    struct string_list hops;
    items_split(setting->words.items[0], &hops);
    if (!strcasecmp(setting->words.items[0], "none"))
        text_set(&jump, text_copy("none"));
    else
        for (uint32_t i = 0; !error && i < hops.count; i++)
            error = hop_append(setting, hops.items[i], &jump);
    strings_clear(&hops);
    if (!error && setting->store && !setting->config->options->proxy_command)
        text_set(&setting->config->options->proxy_jump, text_copy(jump));
    free(jump);
    return error;
}

int keyword_set_refuse_connection(const struct setting *setting) {
    if (!setting->store)
        return 0;
    return setting_error(setting, "the configuration refuses this connection");
}

int keyword_set_tag(const struct setting *setting) {
    return set_word(setting, &setting->config->tag);
}

int keyword_set_ignore_unknown(const struct setting *setting) {
    return set_word(setting, &setting->config->ignore_unknown);
}

int keyword_add_identity_file(const struct setting *setting) {
    struct options *options = setting->config->options;
    const char *file = setting->words.items[0];
    int error = one_word(setting);
    if (!error && !*file)
        error = setting_error(setting, "must not be empty");
    if (error || !setting->statement->active)
        return error;
    options->identity_files_given = true;
    if (strcasecmp(file, "none") && !strings_has(&options->identity_files, file))
        strings_add(&options->identity_files, text_copy(file));
    return 0;
}

/* OpenSSH 10.6 tells the connection to the server, the yes of old, from all sockets; here it is that one's alone. */
int keyword_set_tcp_keepalive(const struct setting *setting) {
    static const struct choice choices[] = {{"yes", 1}, {"true", 1}, {"transport", 1},
                                            {"all", 1}, {"no", 0},   {"false", 0}};
    int value;
    int error = CHOOSE(setting, choices, &value);
    if (!error && setting->store)
        setting->config->options->tcp_keepalive = value;
    return error;
}

int keyword_set_pubkey_authentication(const struct setting *setting) {
    static const struct choice choices[] = {{"yes", 1},   {"true", 1},    {"no", 0},
                                            {"false", 0}, {"unbound", 1}, {"host-bound", 1}};
    int value;
    int error = CHOOSE(setting, choices, &value);
    if (!error && setting->store)
        setting->config->options->pubkey_authentication = value;
    return error;
}

int keyword_set_strict_host_key_checking(const struct setting *setting) {
    static const struct choice choices[] = {
        {"yes", HOST_KEY_CHECK_YES},  {"true", HOST_KEY_CHECK_YES}, {"no", HOST_KEY_CHECK_NO},
        {"false", HOST_KEY_CHECK_NO}, {"off", HOST_KEY_CHECK_NO},   {"accept-new", HOST_KEY_CHECK_ACCEPT_NEW},
        {"ask", HOST_KEY_CHECK_ASK},
    };
    int value;
    int error = CHOOSE(setting, choices, &value);
    if (!error && setting->store)
        setting->config->options->strict_host_key_checking = (enum host_key_check)value;
    return error;
}

static int set_algorithms(const struct setting *setting, const char *defaults, char **field) {
    char *list;
    int error = one_word(setting);
    if (error)
        return error;
    error = algorithms_resolve(setting->words.items[0], defaults, &list);
    if (error)
        return setting_error(setting, error == ERR_CONFIG ? "no algorithm remains" : err_text(error));
    if (setting->store)
        text_set(field, text_copy(list));
    free(list);
    return 0;
}

int keyword_set_kex_algorithms(const struct setting *setting) {
    return set_algorithms(setting, algorithms_kex, &setting->config->options->kex_algorithms);
}

int keyword_set_host_key_algorithms(const struct setting *setting) {
    return set_algorithms(setting, algorithms_host_keys, &setting->config->options->host_key_algorithms);
}

int keyword_set_pubkey_algorithms(const struct setting *setting) {
    return set_algorithms(setting, algorithms_pubkey, &setting->config->options->pubkey_accepted_algorithms);
}

int keyword_set_ciphers(const struct setting *setting) {
    char *list;
    int error = one_word(setting);
    if (error || !setting->store)
        return error;
    error = algorithms_resolve_ciphers(setting->words.items[0], &list);
    if (error == ERR_NOMEM)
        return setting_error(setting, err_text(error));
    if (error)
        return setting_error(setting, "leat only has aes128-gcm@openssh.com, aes256-gcm@openssh.com and "
                                      "chacha20-poly1305@openssh.com, and none of them is in");
    text_set(&setting->config->options->ciphers, list);
    return 0;
}

/* Below this ssh refuses too: a rekey itself takes some blocks. */
#define REKEY_BYTES_MIN 16

int keyword_set_rekey_limit(const struct setting *setting) {
    const struct string_list *words = &setting->words;
    uint64_t bytes = 0;
    uint32_t seconds = 0;
    bool usual = !strcasecmp(words->items[0], "default") || !strcasecmp(words->items[0], "none");
    if (!usual && (!value_size(words->items[0], &bytes) || (bytes && bytes < REKEY_BYTES_MIN)))
        return setting_error(setting, "bad size");
    if (words->count > 2)
        return setting_error(setting, "more than two arguments, from");
    bool timed = words->count == 2 && strcasecmp(words->items[1], "none");
    if (timed && !value_seconds(words->items[1], &seconds))
        return setting_error(setting, "bad time after");
    if (setting->store) {
        setting->config->options->rekey_limit_bytes = bytes;
        setting->config->options->rekey_limit_s = seconds;
    }
    return 0;
}

/* Two arguments in a file, joined by a colon on the command line. */
static int add_forward(const struct setting *setting, enum forward_kind kind) {
    const struct string_list *words = &setting->words;
    if (words->count > 2)
        return setting_error(setting, "more than two arguments, from");
    if (words->count == 1 && kind == FORWARD_LOCAL)
        return setting_error(setting, "no target (host:hostport) after");
    char *text = strings_join(words, ":");
    const struct place *place = &setting->statement->place;
    int error;
    if (setting->statement->active) {
        error = config_add_forward(setting->config, place, setting->keyword->text, kind, text);
    } else {
        struct forward_spec spec;
        const char *why;
        error = forward_spec_parse(kind, text, &spec, &why);
        if (!error)
            forward_spec_deinit(&spec);
        error = error == ERR_CONFIG ? setting_error(setting, why) : 0;
    }
    free(text);
    return error;
}

int keyword_add_local_forward(const struct setting *setting) {
    return add_forward(setting, FORWARD_LOCAL);
}

int keyword_add_remote_forward(const struct setting *setting) {
    return add_forward(setting, FORWARD_REMOTE);
}

int keyword_add_dynamic_forward(const struct setting *setting) {
    int error = one_word(setting);
    if (!error && setting->statement->active)
        config_refuse_forward(setting->config, &setting->statement->place, setting->keyword->text,
                              setting->words.items[0], "dynamic forwarding (SOCKS) is not supported");
    return error;
}

/* "type=interval …": only a timeout that would close a forwarded connection matters. */
int keyword_set_channel_timeout(const struct setting *setting) {
    static const char *const carried[] = {"direct-tcpip", "forwarded-tcpip"};
    for (uint32_t i = 0; i < setting->words.count; i++) {
        const char *word = setting->words.items[i], *equals = strchr(word, '=');
        uint32_t seconds;
        if (!equals || !value_seconds(equals + 1, &seconds)) {
            if (i == 0 && !strcasecmp(word, "none"))
                continue;
            return setting_error(setting, "must be type=interval");
        }
        char *type = text_copy_part(word, (size_t)(equals - word));
        bool matters =
            !strcmp(type, "global") || pattern_match(carried[0], type, false) || pattern_match(carried[1], type, false);
        free(type);
        if (matters && seconds && setting->store)
            return setting_error(setting, "is not supported for forwarded connections");
    }
    return 0;
}

int keyword_set_log_level(const struct setting *setting) {
    static const struct choice choices[] = {
        {"quiet", LOG_LEVEL_QUIET},   {"fatal", LOG_LEVEL_FATAL},     {"error", LOG_LEVEL_ERROR},
        {"info", LOG_LEVEL_INFO},     {"verbose", LOG_LEVEL_VERBOSE}, {"debug", LOG_LEVEL_DEBUG1},
        {"debug1", LOG_LEVEL_DEBUG1}, {"debug2", LOG_LEVEL_DEBUG2},   {"debug3", LOG_LEVEL_DEBUG3},
    };
    int level;
    int error = CHOOSE(setting, choices, &level);
    if (!error && setting->store && !setting->config->log_level_fixed)
        setting->config->options->log_level = (enum log_level)level;
    return error;
}

int keyword_set_local_command(const struct setting *setting) {
    if (setting->store)
        text_set(&setting->config->local_command_place, config_place(&setting->statement->place));
    return 0;
}

int keyword_set_permit_local_command(const struct setting *setting) {
    bool permit;
    int error = one_word(setting);
    if (!error && !value_flag(setting->words.items[0], &permit))
        error = setting_error(setting, "must be yes or no");
    if (!error && setting->store)
        setting->config->permit_local_command = permit;
    return error;
}

static int set_count(const struct setting *setting, uint32_t least, uint32_t *field) {
    uint64_t count;
    int error = one_word(setting);
    if (error)
        return error;
    if (!value_number(setting->words.items[0], LIMIT_SHARDS, &count) || count < least)
        return setting_error(setting, "must be auto or a number up to 256");
    if (setting->store)
        *field = (uint32_t)count;
    return 0;
}
_Static_assert(LIMIT_SHARDS == 256, "set_count says so");

int keyword_set_connections(const struct setting *setting) {
    if (strcasecmp(setting->words.items[0], "auto"))
        return set_count(setting, 1, &setting->config->options->connections);
    int error = one_word(setting);
    if (!error && setting->store)
        setting->config->options->connections = 0;
    return error;
}

int keyword_set_shards(const struct setting *setting) {
    if (!strcasecmp(setting->words.items[0], "auto"))
        return one_word(setting);
    return set_count(setting, 1, &setting->config->options->shards);
}

int keyword_set_io_backend(const struct setting *setting) {
    static const struct choice choices[] = {
        {"auto", IO_BACKEND_AUTO}, {"io_uring", IO_BACKEND_URING}, {"epoll", IO_BACKEND_EPOLL}};
    int backend;
    int error = CHOOSE(setting, choices, &backend);
    if (!error && setting->store)
        setting->config->options->io_backend = (enum io_backend)backend;
    return error;
}

static int take_size(const struct setting *setting, uint64_t least, uint64_t most, uint64_t *bytes) {
    int error = one_word(setting);
    if (error)
        return error;
    if (!value_size(setting->words.items[0], bytes))
        return setting_error(setting, "must be a size such as 65536, 512K or 16M");
    if (*bytes < least || *bytes > most)
        return setting_error(setting, *bytes < least ? "too small" : "too large");
    return 0;
}

int keyword_set_max_window(const struct setting *setting) {
    uint64_t bytes;
    int error = take_size(setting, LIMIT_CHANNEL_PACKET_BYTES, LIMIT_WINDOW_LEATD_BYTES, &bytes);
    if (!error && setting->store)
        setting->config->options->max_window = (uint32_t)bytes;
    return error;
}

int keyword_set_memory_limit(const struct setting *setting) {
    uint64_t bytes;
    int error = take_size(setting, LIMIT_WINDOW_START_BYTES, UINT64_MAX >> 1, &bytes);
    if (!error && setting->store)
        setting->config->options->memory_limit = bytes;
    return error;
}

int keyword_set_drain_timeout(const struct setting *setting) {
    uint32_t seconds;
    int error = one_word(setting);
    if (error)
        return error;
    if (!value_seconds(setting->words.items[0], &seconds))
        return setting_error(setting, "bad time");
    if (setting->store) {
        setting->config->options->drain_timeout_s = seconds;
        setting->config->options->drain_timeout_given = true;
    }
    return 0;
}
