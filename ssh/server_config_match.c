/* The conditions of Match in leatd's configuration. */
#include "ssh/address_list.h"
#include "ssh/server_config_private.h"
#include "ssh/text.h"
#include "ssh/values.h"
#include <stdlib.h>
#include <string.h>
#include <strings.h>

struct criterion_name {
    const char *text;
    enum criterion_kind kind;
    bool argument;
};
static const struct criterion_name criterion_names[] = {
    {"all", CRITERION_ALL, false},
    {"user", CRITERION_USER, true},
    {"group", CRITERION_GROUP, true},
    {"host", CRITERION_HOST, true},
    {"address", CRITERION_ADDRESS, true},
    {"localaddress", CRITERION_LOCAL_ADDRESS, true},
    {"localport", CRITERION_LOCAL_PORT, true},
    {"invalid-user", CRITERION_INVALID_USER, false},
    {"version", CRITERION_VERSION, true},
};

static const struct criterion_name *name_find(const char *word, size_t len) {
    for (unsigned i = 0; i < sizeof criterion_names / sizeof *criterion_names; i++)
        if (strlen(criterion_names[i].text) == len && !strncasecmp(criterion_names[i].text, word, len))
            return &criterion_names[i];
    return NULL;
}

static const char *argument_wrong(struct criterion *criterion) {
    enum pattern_result result;
    const char *why;
    if (criterion->kind == CRITERION_LOCAL_PORT)
        return value_port(criterion->patterns, &criterion->port) && criterion->port ? NULL : "bad port";
    if (criterion->kind != CRITERION_ADDRESS && criterion->kind != CRITERION_LOCAL_ADDRESS)
        return NULL;
    return address_list_match(NULL, NULL, criterion->patterns, &result, &why) ? why : NULL;
}

static int error_at(const struct place *place, const char *text, const char *word) {
    return config_error(place, "Match", "%s: '%s'", text, word);
}

/* words[*at]: "name", "name argument" or "name=argument"; moves *at behind it. */
static int criterion_take(const struct place *place, const struct string_list *words, uint32_t *at,
                          struct criterion *criterion) {
    const char *word = words->items[(*at)++];
    size_t len = strcspn(word, "=");
    const struct criterion_name *name = name_find(word, len);
    if (!name)
        return error_at(place, "not supported by leatd", word);
    criterion->kind = name->kind;
    if (!name->argument)
        return word[len] ? error_at(place, "takes no argument", word) : 0;
    const char *argument = word[len] ? word + len + 1 : *at < words->count ? words->items[(*at)++] : "";
    if (!*argument)
        return error_at(place, "needs an argument", name->text);
    criterion->patterns = text_copy(argument);
    const char *wrong = argument_wrong(criterion);
    return wrong ? error_at(place, wrong, argument) : 0;
}

static int criteria_take(const struct place *place, const struct string_list *words, struct match_block *block) {
    for (uint32_t at = 0; at < words->count;) {
        struct criterion *criterion = &block->criteria[block->criteria_count++];
        *criterion = (struct criterion){0};
        int error = criterion_take(place, words, &at, criterion);
        if (error)
            return error;
        if (criterion->kind == CRITERION_ALL && words->count > 1)
            return config_error(place, "Match", "'all' cannot be combined with other conditions");
    }
    return words->count ? 0 : config_error(place, "Match", "no condition given");
}

void server_match_deinit(struct match_block *block) {
    for (uint32_t i = 0; i < block->criteria_count; i++)
        free(block->criteria[i].patterns);
    free(block->criteria);
}

/* A wrong condition opens a block too, so that what stands in it is still checked as such. */
int server_match_parse(struct server_config *config, const struct place *place, const char *rest, uint32_t parent,
                       uint32_t *index) {
    struct string_list words;
    struct match_block block = {.parent = parent};
    int error = words_split(rest, &words);
    if (error) {
        error = config_error(place, "Match", "a quote is not closed");
    } else {
        block.criteria = server_need(reallocarray(NULL, words.count + 1, sizeof *block.criteria));
        error = criteria_take(place, &words, &block);
        strings_clear(&words);
    }
    bool all = !error && block.criteria[0].kind == CRITERION_ALL;
    block.unconditional = all && config->blocks[parent].unconditional;
    config->blocks = server_need(server_array_append(config->blocks, config->blocks_count, sizeof *config->blocks));
    *index = config->blocks_count;
    config->blocks[config->blocks_count++] = block;
    return error;
}

static bool listed(const char *text, const char *patterns, bool ignore_case) {
    return text && pattern_list_match(text, patterns, ignore_case) == PATTERN_MATCHED;
}

/* A group that is excluded outweighs the others. */
static bool group_listed(const struct string_list *groups, const char *patterns) {
    bool found = false;
    for (uint32_t i = 0; groups && i < groups->count; i++) {
        enum pattern_result result = pattern_list_match(groups->items[i], patterns, false);
        if (result == PATTERN_NEGATED)
            return false;
        found |= result == PATTERN_MATCHED;
    }
    return found;
}

static bool address_listed(const struct sockaddr *address, const char *patterns) {
    enum pattern_result result;
    const char *why;
    if (!address || address->sa_family == AF_UNSPEC)
        return false;
    return address_list_match(address, NULL, patterns, &result, &why) == 0 && result == PATTERN_MATCHED;
}

static bool criterion_holds(const struct criterion *criterion, const struct match_subject *subject) {
    switch (criterion->kind) {
    case CRITERION_USER:
        return listed(subject->user, criterion->patterns, false);
    case CRITERION_GROUP:
        return group_listed(subject->groups, criterion->patterns);
    case CRITERION_HOST:
        return listed(subject->host, criterion->patterns, true);
    case CRITERION_ADDRESS:
        return address_listed(subject->address, criterion->patterns);
    case CRITERION_LOCAL_ADDRESS:
        return address_listed(subject->local_address, criterion->patterns);
    case CRITERION_LOCAL_PORT:
        return subject->local_port == criterion->port;
    case CRITERION_INVALID_USER:
        return subject->invalid_user;
    case CRITERION_VERSION:
        return listed("leatd_" LEAT_VERSION, criterion->patterns, false);
    default:
        return true;
    }
}

bool server_match_holds(const struct server_config *config, uint32_t index, const struct match_subject *subject) {
    const struct match_block *block = &config->blocks[index];
    if (block->unconditional)
        return true;
    for (uint32_t i = 0; i < block->criteria_count; i++)
        if (!subject || !criterion_holds(&block->criteria[i], subject))
            return false;
    return server_match_holds(config, block->parent, subject);
}
