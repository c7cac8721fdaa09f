#pragma once
/* Private to server_config*.c: a configuration as it was read.
 *
 * Statements stand in blocks. Block 0 is the global section; every Match opens another one, whose parent is the block
 * that the file around it was included from. A block applies when its conditions hold and its parent applies. */
#include "ssh/config.h"
#include "ssh/server_config.h"
#include "ssh/server_keywords.h"

enum criterion_kind {
    CRITERION_ALL,
    CRITERION_USER,
    CRITERION_GROUP,
    CRITERION_HOST,
    CRITERION_ADDRESS,
    CRITERION_LOCAL_ADDRESS,
    CRITERION_LOCAL_PORT,
    CRITERION_INVALID_USER,
    CRITERION_VERSION,
};
struct criterion {
    enum criterion_kind kind;
    char *patterns;
    uint16_t port;
};
struct match_block {
    struct criterion *criteria;
    uint32_t criteria_count;
    uint32_t parent;
    bool unconditional; /* the global section, and "Match all" there, which is how one returns to it */
};

struct server_statement {
    const struct server_keyword *keyword;
    struct string_list words;
    struct place place; /* its file is one of config->files */
    uint32_t block;
};

struct server_config {
    _Atomic uint32_t references;
    struct string_list files;
    char *directory; /* relative paths begin here */
    struct string_list default_host_keys;
    struct match_block *blocks;
    uint32_t blocks_count;
    struct server_statement *statements;
    uint32_t statements_count;
};

/* Takes the statement over; its words too. */
void server_config_add(struct server_config *config, const struct server_statement *statement);
/* Stores one statement's value in the draft, noting what is to be noted. ERR_CONFIG: reported. ERR_NOMEM. */
MUST_USE int server_statement_apply(const struct server_statement *statement, struct server_draft *draft);
/* The options for a subject. ERR_CONFIG: reported. ERR_NOMEM. */
MUST_USE int server_config_try(const struct server_config *config, const struct match_subject *subject,
                               struct server_options **options);

/* The condition of a Match line: adds a block below `parent`. ERR_CONFIG: reported. */
MUST_USE int server_match_parse(struct server_config *config, const struct place *place, const char *rest,
                                uint32_t parent, uint32_t *block);
bool server_match_holds(const struct server_config *config, uint32_t block, const struct match_subject *subject);
void server_match_deinit(struct match_block *block);
