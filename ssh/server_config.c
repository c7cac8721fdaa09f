/* A configuration that was read, and the options it gives for a connection. */
#include "engine/check.h"
#include "ssh/server_config_private.h"
#include "ssh/text.h"
#include <stdlib.h>
#include <string.h>

void server_config_add(struct server_config *config, const struct server_statement *statement) {
    config->statements =
        server_need(server_array_append(config->statements, config->statements_count, sizeof *config->statements));
    config->statements[config->statements_count++] = *statement;
}

struct server_config *server_config_ref(const struct server_config *config) {
    struct server_config *mine = (struct server_config *)(uintptr_t)config;
    uint32_t before = atomic_fetch_add_explicit(&mine->references, 1, memory_order_relaxed);
    CHECK(before > 0 && before < UINT32_MAX);
    return mine;
}

void server_config_unref(struct server_config *config) {
    if (!config)
        return;
    uint32_t before = atomic_fetch_sub_explicit(&config->references, 1, memory_order_acq_rel);
    CHECK(before > 0);
    if (before > 1)
        return;
    for (uint32_t i = 0; i < config->statements_count; i++)
        strings_clear(&config->statements[i].words);
    for (uint32_t i = 0; i < config->blocks_count; i++)
        server_match_deinit(&config->blocks[i]);
    free(config->statements);
    free(config->blocks);
    strings_clear(&config->files);
    strings_clear(&config->default_host_keys);
    free(config->directory);
    free(config);
}

bool server_config_needs_groups(const struct server_config *config) {
    for (uint32_t i = 0; i < config->blocks_count; i++)
        for (uint32_t j = 0; j < config->blocks[i].criteria_count; j++)
            if (config->blocks[i].criteria[j].kind == CRITERION_GROUP)
                return true;
    return false;
}

int server_statement_apply(const struct server_statement *statement, struct server_draft *draft) {
    struct server_setting setting = {
        .draft = draft,
        .keyword = statement->keyword,
        .place = &statement->place,
        .words = &statement->words,
    };
    return server_keyword_apply(&setting);
}

/* As in sshd, what Match blocks say outweighs the global section, and with it the command line; among either the first
 * value wins. After "Match all" what could not stand in another block is said globally. */
enum tier { TIER_MATCH, TIER_GLOBAL };

struct resolution {
    const struct server_config *config;
    const struct match_subject *subject;
    struct server_draft draft;
    bool *applies;                   /* by block */
    bool given[SERVER_KEYWORDS_MAX]; /* by keyword */
};

static int tier_apply(struct resolution *resolution, enum tier tier) {
    bool settled[SERVER_KEYWORDS_MAX];
    memcpy(settled, resolution->given, sizeof settled);
    for (uint32_t i = 0; i < resolution->config->statements_count; i++) {
        const struct server_statement *statement = &resolution->config->statements[i];
        const struct server_keyword *keyword = statement->keyword;
        uint32_t index = server_keyword_index(keyword);
        enum tier its = statement->block && keyword->in_match ? TIER_MATCH : TIER_GLOBAL;
        bool outweighed = settled[index] || (resolution->given[index] && !keyword->adds_up);
        if (its != tier || outweighed || !resolution->applies[statement->block])
            continue;
        resolution->given[index] = true;
        int error = server_statement_apply(statement, &resolution->draft);
        if (error)
            return error;
    }
    return 0;
}

int server_config_try(const struct server_config *config, const struct match_subject *subject,
                      struct server_options **options) {
    struct resolution resolution = {.config = config, .subject = subject};
    resolution.draft = (struct server_draft){.options = server_options_create(),
                                             .directory = config->directory,
                                             .default_host_keys = &config->default_host_keys};
    resolution.applies = calloc(config->blocks_count, sizeof *resolution.applies);
    int error = resolution.draft.options && resolution.applies ? 0 : ERR_NOMEM;
    for (uint32_t i = 0; !error && i < config->blocks_count; i++)
        resolution.applies[i] = server_match_holds(config, i, subject);
    if (!error)
        error = tier_apply(&resolution, TIER_MATCH);
    if (!error)
        error = tier_apply(&resolution, TIER_GLOBAL);
    if (!error)
        error = server_draft_finish(&resolution.draft);
    free(resolution.applies);
    if (error)
        server_options_unref(resolution.draft.options);
    else
        *options = resolution.draft.options;
    return error;
}

/* Each statement was applied on its own when it was read, and the global section as a whole: nothing is wrong with the
 * configuration. But what it refers to may be out of reach now: /etc/services, for want of a descriptor. */
struct server_options *server_config_resolve(const struct server_config *config, const struct match_subject *subject) {
    struct server_options *options = NULL;
    return server_config_try(config, subject, &options) == 0 ? options : NULL;
}
