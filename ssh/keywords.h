#pragma once
/* Private to keywords.c and keyword_setters.c: one entry of the table, one statement on its way into the options. */
#include "ssh/config.h"
#include "ssh/values.h"

enum value_kind {
    VALUE_FLAG,
    VALUE_NUMBER,
    VALUE_SECONDS,
    VALUE_TEXT,
    VALUE_FILES,
    VALUE_WORDS, /* any number of words, to `set` */
    VALUE_REST,  /* the line as it is, as one word, to `set` */
    VALUE_ALIAS,
    VALUE_IGNORED,
    VALUE_REFUSED,
};

struct setting;
struct keyword {
    const char *text;
    enum value_kind kind;
    size_t offset; /* in struct options */
    uint64_t min, max;
    const char *detail;
    int (*set)(const struct setting *setting);
};

struct setting {
    struct config *config;
    const struct keyword *keyword;
    const struct statement *statement;
    struct string_list words; /* at least one, for setters */
    bool store;               /* it counts here and is the first */
};

/* "PLACE: Keyword: TEXT: 'value'"; ERR_CONFIG. */
int setting_error(const struct setting *setting, const char *text);

int keyword_set_hostname(const struct setting *setting);
int keyword_set_user(const struct setting *setting);
int keyword_set_port(const struct setting *setting);
int keyword_set_family(const struct setting *setting);
int keyword_set_proxy_command(const struct setting *setting);
int keyword_set_proxy_jump(const struct setting *setting);
int keyword_set_refuse_connection(const struct setting *setting);
int keyword_set_tag(const struct setting *setting);
int keyword_set_ignore_unknown(const struct setting *setting);
int keyword_add_identity_file(const struct setting *setting);
int keyword_set_tcp_keepalive(const struct setting *setting);
int keyword_set_pubkey_authentication(const struct setting *setting);
int keyword_set_strict_host_key_checking(const struct setting *setting);
int keyword_set_ciphers(const struct setting *setting);
int keyword_set_kex_algorithms(const struct setting *setting);
int keyword_set_host_key_algorithms(const struct setting *setting);
int keyword_set_pubkey_algorithms(const struct setting *setting);
int keyword_set_rekey_limit(const struct setting *setting);
int keyword_add_local_forward(const struct setting *setting);
int keyword_add_remote_forward(const struct setting *setting);
int keyword_add_dynamic_forward(const struct setting *setting);
int keyword_set_channel_timeout(const struct setting *setting);
int keyword_set_log_level(const struct setting *setting);
int keyword_set_local_command(const struct setting *setting);
int keyword_set_permit_local_command(const struct setting *setting);
int keyword_set_connections(const struct setting *setting);
int keyword_set_shards(const struct setting *setting);
int keyword_set_io_backend(const struct setting *setting);
int keyword_set_max_window(const struct setting *setting);
int keyword_set_memory_limit(const struct setting *setting);
int keyword_set_drain_timeout(const struct setting *setting);
