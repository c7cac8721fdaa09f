/* Setters of directives on the wire and on the program as a whole. */
#include "ssh/algorithms.h"
#include "ssh/server_keywords.h"
#include "ssh/text.h"
#include "ssh/values.h"
#include <arpa/inet.h>
#include <ctype.h>
#include <netdb.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <syslog.h>

#define REKEY_BYTES_MIN 16 /* below this sshd refuses too: a rekey itself takes some blocks */
/* Of "SSH-2.0-leatd_VERSION ADDENDUM\r\n" (RFC 4253 §4.2), with room for any version. */
#define ADDENDUM_BYTES_MAX (LIMIT_VERSION_LINE_BYTES - 55)

static const char *word(const struct server_setting *setting) {
    return setting->words->items[0];
}

int server_set_port(const struct server_setting *setting) {
    struct server_draft *draft = setting->draft;
    struct server_options *options = draft->options;
    uint16_t port;
    int error = server_setting_one_word(setting);
    if (error)
        return error;
    if (!value_port(word(setting), &port) || port == 0)
        return server_setting_error(setting, "bad port", word(setting));
    bool command_line = setting->place->line == 0;
    if (!command_line && draft->ports_fixed)
        return 0;
    if (options->ports_count == LIMIT_LISTEN_ADDRESSES / 2) /* an address of each family is listened on */
        return server_setting_error(setting, "too many ports", word(setting));
    uint16_t *ports = server_array_append(options->ports, options->ports_count, sizeof *ports);
    if (!ports)
        return ERR_NOMEM;
    draft->ports_fixed = command_line;
    options->ports = ports;
    ports[options->ports_count++] = port;
    return 0;
}

/* "host", "host:port", "[v6]", "[v6]:port", "v6"; port 0: none given. Else what is wrong with it. */
static const char *listen_split(const char *text, char host[NI_MAXHOST], uint16_t *port) {
    const char *colon = strchr(text, ':');
    bool brackets = *text == '[', bare_v6 = !brackets && colon && strchr(colon + 1, ':');
    size_t len = brackets ? strcspn(text, "]") : bare_v6 ? strlen(text) : strcspn(text, ":");
    if (brackets && !text[len])
        return "'[' without ']'";
    const char *behind = text + len + brackets;
    *port = 0;
    if (*behind && (*behind != ':' || !value_port(behind + 1, port) || *port == 0))
        return "bad port";
    if (len - brackets >= NI_MAXHOST)
        return "bad address";
    memcpy(host, text + brackets, len - brackets);
    host[len - brackets] = 0;
    return NULL;
}

/* A name or a number with its zone. */
static bool host_sound(const char *host) {
    for (const char *c = host; *c; c++)
        if (!isalnum((unsigned char)*c) && !strchr(".-_:%", *c))
            return false;
    return *host && strlen(host) < NI_MAXHOST;
}

static const char *listen_host_wrong(const char *host) {
    if (!*host || !strcmp(host, "*"))
        return "no address (0.0.0.0 and :: are every address)";
    return host_sound(host) ? NULL : "bad address";
}

static int listen_append(struct server_options *options, const char *host, uint16_t port) {
    struct listen_address *listen = server_array_append(options->listen, options->listen_count, sizeof *listen);
    if (!listen)
        return ERR_NOMEM;
    options->listen = listen;
    char *copy = strdup(host);
    if (!copy)
        return ERR_NOMEM;
    listen[options->listen_count++] = (struct listen_address){.host = copy, .port = port};
    return 0;
}

int server_set_listen_address(const struct server_setting *setting) {
    struct server_options *options = setting->draft->options;
    const struct string_list *words = setting->words;
    char host[NI_MAXHOST];
    uint16_t port;
    if (words->count > 1 && !strcmp(words->items[1], "rdomain"))
        return server_setting_error(setting, "leatd knows no routing domains", word(setting));
    int error = server_setting_one_word(setting);
    if (error)
        return error;
    const char *wrong = listen_split(word(setting), host, &port);
    if (!wrong)
        wrong = listen_host_wrong(host);
    if (!wrong && options->listen_count == LIMIT_LISTEN_ADDRESSES)
        wrong = "too many addresses";
    return wrong ? server_setting_error(setting, wrong, word(setting)) : listen_append(options, host, port);
}

int server_set_family(const struct server_setting *setting) {
    static const struct server_choice choices[] = {{"any", AF_UNSPEC}, {"inet", AF_INET}, {"inet6", AF_INET6}};
    return SERVER_CHOOSE(setting, choices, &setting->draft->options->family);
}

int server_set_host_key(const struct server_setting *setting) {
    struct server_options *options = setting->draft->options;
    char *path;
    int error = server_setting_one_word(setting);
    if (!error && !strcasecmp(word(setting), "none"))
        return 0;
    if (!error)
        error = server_setting_path(setting, word(setting), &path);
    if (error)
        return error;
    options->host_keys_given = true;
    if (!strings_has(&options->host_keys, path))
        error = strings_add_copy(&options->host_keys, path);
    free(path);
    return error;
}

/* Whether libssh knows the names, only libssh can tell. */
static bool names_sound(const char *list) {
    char before = ',';
    for (; *list; before = *list++)
        if (!isalnum((unsigned char)*list) && (before == ',' || !strchr("@.-_,", *list)))
            return false;
    return true;
}

static int set_algorithms(const struct server_setting *setting, const char *defaults, char **field) {
    char *list;
    int error = server_setting_one_word(setting);
    if (error)
        return error;
    error = algorithms_resolve(word(setting), defaults, &list);
    if (error)
        return error == ERR_NOMEM ? error : server_setting_error(setting, "no algorithm remains", word(setting));
    if (!names_sound(list)) {
        free(list);
        return server_setting_error(setting, "bad name of an algorithm", word(setting));
    }
    text_set(field, list);
    return 0;
}

int server_set_kex_algorithms(const struct server_setting *setting) {
    return set_algorithms(setting, algorithms_kex, &setting->draft->options->kex_algorithms);
}

int server_set_host_key_algorithms(const struct server_setting *setting) {
    return set_algorithms(setting, algorithms_host_keys, &setting->draft->options->host_key_algorithms);
}

/* Certificates are not served, so what remains of the usual algorithms are those of host keys. */
int server_set_pubkey_algorithms(const struct server_setting *setting) {
    return set_algorithms(setting, algorithms_host_keys, &setting->draft->options->pubkey_accepted_algorithms);
}

int server_set_ciphers(const struct server_setting *setting) {
    char *list;
    int error = server_setting_one_word(setting);
    if (error)
        return error;
    error = algorithms_resolve_ciphers(word(setting), &list);
    if (error == ERR_NOMEM)
        return error;
    if (error)
        return server_setting_error(setting,
                                    "leatd only has aes128-gcm@openssh.com, aes256-gcm@openssh.com and "
                                    "chacha20-poly1305@openssh.com, and none of them is in",
                                    word(setting));
    text_set(&setting->draft->options->ciphers, list);
    return 0;
}

int server_set_rekey_limit(const struct server_setting *setting) {
    const struct string_list *words = setting->words;
    uint64_t bytes = 0;
    uint32_t seconds = 0;
    bool usual = !strcmp(words->items[0], "default");
    if (!usual && (!value_size(words->items[0], &bytes) || (bytes && bytes < REKEY_BYTES_MIN)))
        return server_setting_error(setting, "bad size", words->items[0]);
    if (words->count > 2)
        return server_setting_error(setting, "more than two arguments, from", words->items[0]);
    if (words->count == 2 && strcmp(words->items[1], "none") && !value_seconds(words->items[1], &seconds))
        return server_setting_error(setting, "bad time", words->items[1]);
    setting->draft->options->rekey_limit_bytes = bytes;
    setting->draft->options->rekey_limit_s = seconds;
    return 0;
}

/* OpenSSH 10.6 has more words than yes and no: "transport" is the yes of old. */
int server_set_tcp_keepalive(const struct server_setting *setting) {
    static const struct server_choice choices[] = {{"no", false},       {"yes", true},  {"false", false},
                                                   {"transport", true}, {"true", true}, {"all", true}};
    int value;
    int error = SERVER_CHOOSE(setting, choices, &value);
    if (error)
        return error;
    if (!strcasecmp(word(setting), "all"))
        server_setting_note(setting, "leatd has it on SSH connections, not on forwarded ones");
    setting->draft->options->tcp_keepalive = value;
    return 0;
}

int server_set_version_addendum(const struct server_setting *setting) {
    const char *text = word(setting);
    bool none = !strcasecmp(text, "none");
    for (const char *c = text; *c; c++)
        if (*c < ' ' || *c > '~')
            return server_setting_error(setting, "must be printable ASCII", text);
    if (strlen(text) > ADDENDUM_BYTES_MAX)
        return server_setting_error(setting, "too long", text);
    char *copy = none ? NULL : strdup(text);
    text_set(&setting->draft->options->version_addendum, copy);
    return none || copy ? 0 : ERR_NOMEM;
}

int server_set_log_level(const struct server_setting *setting) {
    static const struct server_choice choices[] = {
        {"quiet", LOG_LEVEL_QUIET},   {"fatal", LOG_LEVEL_FATAL},     {"error", LOG_LEVEL_ERROR},
        {"info", LOG_LEVEL_INFO},     {"verbose", LOG_LEVEL_VERBOSE}, {"debug", LOG_LEVEL_DEBUG1},
        {"debug1", LOG_LEVEL_DEBUG1}, {"debug2", LOG_LEVEL_DEBUG2},   {"debug3", LOG_LEVEL_DEBUG3},
    };
    int level;
    int error = SERVER_CHOOSE(setting, choices, &level);
    if (!error)
        setting->draft->options->log_level = (enum log_level)level;
    return error;
}

int server_set_syslog_facility(const struct server_setting *setting) {
    static const struct server_choice choices[] = {
        {"auth", LOG_AUTH},     {"authpriv", LOG_AUTHPRIV}, {"daemon", LOG_DAEMON}, {"user", LOG_USER},
        {"local0", LOG_LOCAL0}, {"local1", LOG_LOCAL1},     {"local2", LOG_LOCAL2}, {"local3", LOG_LOCAL3},
        {"local4", LOG_LOCAL4}, {"local5", LOG_LOCAL5},     {"local6", LOG_LOCAL6}, {"local7", LOG_LOCAL7},
    };
    return SERVER_CHOOSE(setting, choices, &setting->draft->options->syslog_facility);
}

/* Up to three numbers between colons; how many there were, 0: it is none such. */
static uint32_t numbers_split(const char *text, uint64_t *numbers) {
    uint32_t count = 0;
    for (;; text++) {
        size_t len = strcspn(text, ":");
        char number[24] = "";
        if (len < sizeof number)
            memcpy(number, text, len);
        bool good = count < 3 && value_number(number, INT32_MAX, &numbers[count++]);
        text += len;
        if (!good || !*text)
            return good ? count : 0;
    }
}

int server_set_max_startups(const struct server_setting *setting) {
    struct server_options *options = setting->draft->options;
    uint64_t numbers[3];
    int error = server_setting_one_word(setting);
    if (error)
        return error;
    uint32_t count = numbers_split(word(setting), numbers);
    bool full = count == 3 && numbers[0] <= numbers[2] && numbers[1] >= 1 && numbers[1] <= 100;
    if ((count != 1 && !full) || numbers[0] == 0)
        return server_setting_error(setting, "must be a number or begin:rate:full", word(setting));
    options->max_startups_begin = (uint32_t)numbers[0];
    options->max_startups_full = (uint32_t)numbers[full ? 2 : 0];
    if (full)
        options->max_startups_rate = (uint32_t)numbers[1];
    return 0;
}

int server_set_per_source_max_startups(const struct server_setting *setting) {
    uint64_t number = UINT32_MAX;
    int error = server_setting_one_word(setting);
    if (error)
        return error;
    if (strcasecmp(word(setting), "none") && !value_number(word(setting), INT32_MAX, &number))
        return server_setting_error(setting, "must be none or a number", word(setting));
    setting->draft->options->per_source_max_startups = (uint32_t)number;
    return 0;
}

int server_set_per_source_net_block_size(const struct server_setting *setting) {
    uint64_t numbers[3] = {0, 128};
    int error = server_setting_one_word(setting);
    if (error)
        return error;
    uint32_t count = numbers_split(word(setting), numbers);
    if (count < 1 || count > 2 || numbers[0] > 32 || numbers[1] > 128)
        return server_setting_error(setting, "must be bits of IPv4[:bits of IPv6]", word(setting));
    setting->draft->options->per_source_bits4 = (uint32_t)numbers[0];
    setting->draft->options->per_source_bits6 = (uint32_t)numbers[1];
    return 0;
}

int server_set_shards(const struct server_setting *setting) {
    uint64_t count = 0;
    int error = server_setting_one_word(setting);
    if (error)
        return error;
    bool automatic = !strcasecmp(word(setting), "auto");
    if (!automatic && (!value_number(word(setting), LIMIT_SHARDS, &count) || count == 0))
        return server_setting_error(setting, "must be auto or a number up to 256", word(setting));
    setting->draft->options->shards = (uint32_t)count;
    return 0;
}
_Static_assert(LIMIT_SHARDS == 256, "server_set_shards says so");

int server_set_io_backend(const struct server_setting *setting) {
    static const struct server_choice choices[] = {
        {"auto", IO_BACKEND_AUTO}, {"io_uring", IO_BACKEND_URING}, {"epoll", IO_BACKEND_EPOLL}};
    int backend;
    int error = SERVER_CHOOSE(setting, choices, &backend);
    if (!error)
        setting->draft->options->io_backend = (enum io_backend)backend;
    return error;
}

static int take_size(const struct server_setting *setting, uint64_t least, uint64_t most, uint64_t *bytes) {
    int error = server_setting_one_word(setting);
    if (error)
        return error;
    if (!value_size(word(setting), bytes))
        return server_setting_error(setting, "must be a size such as 65536, 512K or 16M", word(setting));
    if (*bytes < least || *bytes > most)
        return server_setting_error(setting, *bytes < least ? "too small" : "too large", word(setting));
    return 0;
}

int server_set_max_window(const struct server_setting *setting) {
    uint64_t bytes;
    int error = take_size(setting, LIMIT_CHANNEL_PACKET_BYTES, LIMIT_WINDOW_LEATD_BYTES, &bytes);
    if (!error)
        setting->draft->options->max_window = (uint32_t)bytes;
    return error;
}

int server_set_memory_limit(const struct server_setting *setting) {
    return take_size(setting, LIMIT_WINDOW_START_BYTES, UINT64_MAX >> 1, &setting->draft->options->memory_limit);
}

/* Takes the texts of the spec over. */
static int relay_append(const struct server_setting *setting, struct forward_spec *spec, bool everywhere) {
    struct server_options *options = setting->draft->options;
    struct relay_spec *relays = server_array_append(options->relays, options->relays_count, sizeof *relays);
    char *text = NULL;
    if (!relays)
        return ERR_NOMEM;
    options->relays = relays;
    if (asprintf(&text, "%s %s", setting->words->items[0], setting->words->items[1]) < 0)
        return ERR_NOMEM;
    if (everywhere)
        text_set(&spec->bind, NULL);
    relays[options->relays_count++] = (struct relay_spec){
        .listen = {.host = spec->bind, .port = spec->port},
        .host = spec->host,
        .port = spec->host_port,
        .text = text,
    };
    spec->bind = spec->host = NULL;
    return 0;
}

static int relay_parse(const struct server_setting *setting, struct forward_spec *spec) {
    const char *why;
    char *joined;
    if (setting->words->count != 2)
        return ERR_CONFIG;
    if (asprintf(&joined, "%s:%s", setting->words->items[0], setting->words->items[1]) < 0)
        return ERR_NOMEM;
    int error = forward_spec_parse(FORWARD_LOCAL, joined, spec, &why);
    free(joined);
    return error;
}

int server_set_relay(const struct server_setting *setting) {
    struct server_options *options = setting->draft->options;
    struct forward_spec spec;
    int error = relay_parse(setting, &spec);
    if (error == ERR_UNSUPPORTED)
        return server_setting_error(setting, "only TCP is relayed, no Unix socket", word(setting));
    if (error == ERR_NOMEM)
        return error;
    if (error)
        return server_setting_error(setting, "must be [bind:]port host:hostport", word(setting));
    bool everywhere = !spec.bind || !*spec.bind || !strcmp(spec.bind, "*");
    if (!host_sound(spec.host) || (!everywhere && !host_sound(spec.bind)))
        error = server_setting_error(setting, "bad host name or address", word(setting));
    else if (options->relays_count == LIMIT_LISTEN_ADDRESSES)
        error = server_setting_error(setting, "too many relays", word(setting));
    else
        error = relay_append(setting, &spec, everywhere);
    forward_spec_deinit(&spec);
    return error;
}

int server_set_log_format(const struct server_setting *setting) {
    static const struct server_choice choices[] = {{"text", LOG_FORMAT_TEXT}, {"json", LOG_FORMAT_JSON}};
    int format;
    int error = SERVER_CHOOSE(setting, choices, &format);
    if (!error)
        setting->draft->options->log_format = (enum log_format)format;
    return error;
}

int server_set_account(const struct server_setting *setting) {
    char **field = (char **)(void *)((char *)setting->draft->options + setting->keyword->offset);
    int error = server_setting_one_word(setting);
    if (!error && !*word(setting))
        error = server_setting_error(setting, "must not be empty", "");
    if (error)
        return error;
    text_set(field, strdup(word(setting)));
    return *field ? 0 : ERR_NOMEM;
}
