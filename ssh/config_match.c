/* The conditions of Match. */
#include "ssh/config.h"
#include "ssh/tokens.h"
#include <arpa/inet.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

struct condition {
    struct config *config;
    const struct place *place;
    bool running; /* false: the answer is settled, so run no commands */
};

static bool listed(const char *value, const char *patterns, bool ignore_case) {
    return pattern_list_match(value, patterns, ignore_case) == PATTERN_MATCHED;
}

static int match_host(struct condition *condition, const char *patterns, bool *matched) {
    char *host, *why;
    if (hostname_expand(condition->config, &host, &why)) {
        config_error(condition->place, "HostName", "%s", why);
        free(why);
        return ERR_CONFIG;
    }
    *matched = listed(host, patterns, true);
    free(host);
    return 0;
}

static int match_original_host(struct condition *condition, const char *patterns, bool *matched) {
    *matched = listed(condition->config->options->host_arg, patterns, true);
    return 0;
}

static int match_user(struct condition *condition, const char *patterns, bool *matched) {
    const char *user = condition->config->options->user;
    *matched = listed(user ? user : condition->config->environment->user, patterns, false);
    return 0;
}

static int match_local_user(struct condition *condition, const char *patterns, bool *matched) {
    *matched = listed(condition->config->environment->user, patterns, false);
    return 0;
}

static int match_tagged(struct condition *condition, const char *patterns, bool *matched) {
    const char *tag = condition->config->tag;
    *matched = listed(tag ? tag : "", patterns, false);
    return 0;
}

/* leat opens no session: there is no command, and the type is what ssh calls -N. */
static int match_command(struct condition *condition, const char *patterns, bool *matched) {
    (void)condition;
    *matched = listed("", patterns, false);
    return 0;
}

static int match_session_type(struct condition *condition, const char *patterns, bool *matched) {
    (void)condition;
    *matched = listed("none", patterns, false);
    return 0;
}

static int match_version(struct condition *condition, const char *patterns, bool *matched) {
    (void)condition;
    *matched = listed("leat_" LEAT_VERSION, patterns, false);
    return 0;
}

static int match_exec(struct condition *condition, const char *text, bool *matched) {
    *matched = false;
    if (!condition->running)
        return 0;
    char *command, *why;
    if (tokens_expand(condition->config, text, TOKENS_COMMON, false, &command, &why)) {
        config_error(condition->place, "Match exec", "%s", why);
        free(why);
        return ERR_CONFIG;
    }
    int status = condition->config->environment->run(command);
    *matched = status == 0;
    int error = status < 0 ? config_error(condition->place, "Match exec", "cannot run '%s'", command) : 0;
    free(command);
    return error;
}

struct network {
    int family;
    uint8_t address[16];
    unsigned bits;
};

static bool network_parse(const char *text, struct network *network) {
    char *address = text_copy_part(text, strcspn(text, "/"));
    const char *slash = strchr(text, '/');
    network->family = strchr(address, ':') ? AF_INET6 : AF_INET;
    unsigned bits_max = network->family == AF_INET6 ? 128 : 32;
    bool good = inet_pton(network->family, address, network->address) == 1;
    free(address);
    network->bits = bits_max;
    if (!good || !slash)
        return good;
    char *end;
    unsigned long bits = strtoul(slash + 1, &end, 10);
    network->bits = (unsigned)bits;
    return slash[1] >= '0' && slash[1] <= '9' && !*end && bits <= bits_max;
}

static bool network_holds(const struct network *network, const struct sockaddr *address) {
    if (!address || address->sa_family != network->family)
        return false;
    const uint8_t *bytes = network->family == AF_INET
                               ? (const uint8_t *)&((const struct sockaddr_in *)(const void *)address)->sin_addr
                               : (const uint8_t *)&((const struct sockaddr_in6 *)(const void *)address)->sin6_addr;
    unsigned whole = network->bits / 8, rest = network->bits % 8;
    if (memcmp(bytes, network->address, whole) != 0)
        return false;
    return rest == 0 || ((bytes[whole] ^ network->address[whole]) >> (8 - rest)) == 0;
}

static bool network_here(const struct network *network) {
    struct ifaddrs *all, *each;
    bool here = false;
    if (getifaddrs(&all) != 0)
        return false;
    for (each = all; each && !here; each = each->ifa_next)
        here = (each->ifa_flags & IFF_UP) && network_holds(network, each->ifa_addr);
    freeifaddrs(all);
    return here;
}

static int match_local_network(struct condition *condition, const char *text, bool *matched) {
    struct string_list networks;
    items_split(text, &networks);
    bool good = true, here = false, excluded = false;
    for (uint32_t i = 0; good && i < networks.count; i++) {
        bool negated = networks.items[i][0] == '!';
        struct network network;
        good = network_parse(networks.items[i] + negated, &network);
        bool hit = good && network_here(&network);
        excluded |= hit && negated;
        here |= hit && !negated;
    }
    strings_clear(&networks);
    *matched = here && !excluded;
    return good ? 0 : config_error(condition->place, "Match localnetwork", "'%s' is no list of networks", text);
}

struct attribute {
    const char *name;
    int (*match)(struct condition *condition, const char *argument, bool *matched);
    bool may_be_empty;
};

static const struct attribute attributes[] = {
    {"host", match_host, false},       {"originalhost", match_original_host, false},
    {"user", match_user, false},       {"localuser", match_local_user, false},
    {"exec", match_exec, false},       {"tagged", match_tagged, true},
    {"command", match_command, true},  {"sessiontype", match_session_type, false},
    {"version", match_version, false}, {"localnetwork", match_local_network, false},
};

static const struct attribute *attribute_find(const char *name, size_t len) {
    for (unsigned i = 0; i < sizeof attributes / sizeof *attributes; i++)
        if (strlen(attributes[i].name) == len && !strncasecmp(attributes[i].name, name, len))
            return &attributes[i];
    return NULL;
}

/* words[*at]: "attribute argument" or "attribute=argument"; moves *at behind it. */
static int attribute_apply(struct condition *condition, const struct string_list *words, uint32_t *at, bool *matched) {
    const char *word = words->items[*at];
    word += *word == '!';
    size_t len = strcspn(word, "=");
    const struct attribute *attribute = attribute_find(word, len);
    if (!attribute)
        return config_error(condition->place, "Match", "'%s' is not supported", word);
    const char *argument = word[len] ? word + len + 1 : NULL;
    if (!argument && *at + 1 < words->count)
        argument = words->items[++*at];
    ++*at;
    if (!argument || (!*argument && !attribute->may_be_empty))
        return config_error(condition->place, "Match", "'%s' needs an argument", attribute->name);
    return attribute->match(condition, argument, matched);
}

/* all, final and canonical take no argument. A second reading happens for "final" only, as names are never
 * canonicalized; then "canonical" holds too, as in ssh. */
static bool bare_word(struct config *config, const char *word, bool *matched) {
    if (!strcasecmp(word, "all")) {
        *matched = true;
        return true;
    }
    bool final = !strcasecmp(word, "final");
    if (!final && strcasecmp(word, "canonical"))
        return false;
    config->final_wanted |= final;
    *matched = config->final_pass;
    return true;
}

static int conditions_apply(struct condition *condition, const struct string_list *words, bool *matched) {
    bool alone = true; /* nothing but final and canonical so far */
    *matched = true;
    for (uint32_t at = 0; at < words->count;) {
        const char *word = words->items[at];
        bool negated = *word == '!', holds = false;
        condition->running &= *matched;
        if (!strcasecmp(word + negated, "all") && (!alone || at + 1 < words->count))
            return config_error(condition->place, "Match", "'all' cannot be combined with other conditions");
        if (bare_word(condition->config, word + negated, &holds)) {
            at++;
        } else {
            alone = false;
            int error = attribute_apply(condition, words, &at, &holds);
            if (error)
                return error;
        }
        *matched &= holds != negated;
    }
    return 0;
}

int config_match(struct config *config, const struct statement *statement, bool dormant, bool *matched) {
    struct condition condition = {.config = config, .place = &statement->place, .running = !dormant};
    struct string_list words;
    if (words_split(statement->rest, &words))
        return config_error(&statement->place, "Match", "a quote is not closed");
    int error;
    if (words.count == 0)
        error = config_error(&statement->place, "Match", "no condition given");
    else
        error = conditions_apply(&condition, &words, matched);
    strings_clear(&words);
    if (dormant)
        *matched = false;
    return error;
}
