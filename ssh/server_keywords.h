#pragma once
/* Private to leatd's configuration: the table of directives, and a statement on its way into options in the making.
 * The table and the common kinds of values are in server_keywords.c; setters of directives with a syntax of their own
 * in server_keywords_access.c (who may do what) and server_keywords_program.c (the wire, the program). */
#include "engine/limits.h"
#include "ssh/config.h"
#include "ssh/server_options.h"
#include <stddef.h>

#define SERVER_KEYWORDS_MAX 192

enum server_value_kind {
    SERVER_VALUE_FLAG,
    SERVER_VALUE_NUMBER,
    SERVER_VALUE_SECONDS,
    SERVER_VALUE_FILE,     /* made absolute; "none": NULL */
    SERVER_VALUE_PATTERNS, /* words that add up */
    SERVER_VALUE_WORDS,    /* any number of words, to `set` */
    SERVER_VALUE_REST,     /* the line as it is, as one word, to `set` */
    SERVER_VALUE_ALIAS,
    SERVER_VALUE_IGNORED,
    SERVER_VALUE_REFUSED,
};

struct server_setting;
struct server_keyword {
    const char *text;
    enum server_value_kind kind;
    bool in_match; /* may stand in a Match block */
    bool adds_up;  /* several statements do; else the first one wins */
    size_t offset; /* in struct server_options */
    uint64_t min, max;
    const char *detail; /* ALIAS: of what; IGNORED, REFUSED: pattern list of values that ask for nothing */
    const char *note;   /* IGNORED, REFUSED: why */
    int (*set)(const struct server_setting *setting);
};

/* Options in the making. */
struct server_draft {
    struct server_options *options;
    const char *directory;
    const struct string_list *default_host_keys;
    bool ports_fixed; /* by the command line */
    bool keys_files_given, chroot;
    bool *noted; /* by keyword, while reading: warnings are given, each once; else NULL */
};

struct server_setting {
    struct server_draft *draft;
    const struct server_keyword *keyword;
    const struct place *place;
    const struct string_list *words; /* at least one */
};

/* Of reading: memory, without which the program ends, as in text.h. */
void *server_need(void *memory);
/* `items` with room for one more than `count`, which only ever grew by this: doubled when they are full. NULL: no
 * memory, and items are as they were. */
void *server_array_append(void *items, size_t count, size_t size);

/* NULL: nobody knows it. Never an alias. */
const struct server_keyword *server_keyword_find(const char *text);
uint32_t server_keyword_index(const struct server_keyword *keyword);
/* The words of a statement as the keyword wants them. ERR_CONFIG: reported. */
MUST_USE int server_keyword_words(const struct server_keyword *keyword, const struct place *place, const char *rest,
                                  struct string_list *words);
/* Stores the value in the draft, over or beside what is there. ERR_CONFIG: reported. ERR_NOMEM. */
MUST_USE int server_keyword_apply(const struct server_setting *setting);

/* Options with every default that needs no more than a number; lists and files are still empty. NULL: no memory. */
struct server_options *server_options_create(void);
/* Ports into addresses, defaults into empty lists. ERR_CONFIG: reported. ERR_NOMEM. */
MUST_USE int server_draft_finish(struct server_draft *draft);

/* "PLACE: Keyword: TEXT: 'value'"; ERR_CONFIG. */
int server_setting_error(const struct server_setting *setting, const char *text, const char *value);
void server_setting_note(const struct server_setting *setting, const char *text);
MUST_USE int server_setting_one_word(const struct server_setting *setting);
struct server_choice {
    const char *text;
    int value;
};
/* 0 and *value, or an error that was reported. */
MUST_USE int server_setting_choose(const struct server_setting *setting, const struct server_choice *choices,
                                   size_t count, int *value);
#define SERVER_CHOOSE(setting, choices, value)                                                                         \
    server_setting_choose(setting, choices, sizeof(choices) / sizeof *(choices), value)
/* A file name made absolute, the caller's; ERR_CONFIG: reported. ERR_NOMEM. */
MUST_USE int server_setting_path(const struct server_setting *setting, const char *name, char **path);

int server_set_permit_root_login(const struct server_setting *setting);
int server_set_authorized_keys_file(const struct server_setting *setting);
int server_set_pubkey_auth_options(const struct server_setting *setting);
int server_set_authentication_methods(const struct server_setting *setting);
int server_set_allow_tcp_forwarding(const struct server_setting *setting);
int server_set_allow_streamlocal_forwarding(const struct server_setting *setting);
int server_set_gateway_ports(const struct server_setting *setting);
int server_set_permit_open(const struct server_setting *setting);
int server_set_permit_listen(const struct server_setting *setting);
int server_set_streamlocal_bind_mask(const struct server_setting *setting);
int server_set_max_sessions(const struct server_setting *setting);
int server_set_channel_timeout(const struct server_setting *setting);
int server_set_unused_connection_timeout(const struct server_setting *setting);
int server_set_required_rsa_size(const struct server_setting *setting);
int server_set_chroot_directory(const struct server_setting *setting);
int server_set_users(const struct server_setting *setting);
int server_set_port(const struct server_setting *setting);
int server_set_listen_address(const struct server_setting *setting);
int server_set_family(const struct server_setting *setting);
int server_set_host_key(const struct server_setting *setting);
int server_set_ciphers(const struct server_setting *setting);
int server_set_kex_algorithms(const struct server_setting *setting);
int server_set_host_key_algorithms(const struct server_setting *setting);
int server_set_pubkey_algorithms(const struct server_setting *setting);
int server_set_rekey_limit(const struct server_setting *setting);
int server_set_tcp_keepalive(const struct server_setting *setting);
int server_set_version_addendum(const struct server_setting *setting);
int server_set_log_level(const struct server_setting *setting);
int server_set_syslog_facility(const struct server_setting *setting);
int server_set_max_startups(const struct server_setting *setting);
int server_set_per_source_max_startups(const struct server_setting *setting);
int server_set_per_source_net_block_size(const struct server_setting *setting);
int server_set_shards(const struct server_setting *setting);
int server_set_io_backend(const struct server_setting *setting);
int server_set_max_window(const struct server_setting *setting);
int server_set_memory_limit(const struct server_setting *setting);
int server_set_relay(const struct server_setting *setting);
int server_set_log_format(const struct server_setting *setting);
int server_set_account(const struct server_setting *setting);
