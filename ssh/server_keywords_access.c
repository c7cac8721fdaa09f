/* Setters of directives on who may come in and what they may do. */
#include "ssh/address_list.h"
#include "ssh/server_keywords.h"
#include "ssh/text.h"
#include "ssh/values.h"
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define RSA_BITS_MIN 1024 /* RequiredRSASize may only raise it */

enum root_login { ROOT_NO, ROOT_YES, ROOT_WITH_COMMANDS };

int server_set_permit_root_login(const struct server_setting *setting) {
    static const struct server_choice choices[] = {{"no", ROOT_NO},
                                                   {"yes", ROOT_YES},
                                                   {"prohibit-password", ROOT_YES},
                                                   {"without-password", ROOT_YES},
                                                   {"forced-commands-only", ROOT_WITH_COMMANDS}};
    int value;
    int error = SERVER_CHOOSE(setting, choices, &value);
    if (error)
        return error;
    if (value == ROOT_WITH_COMMANDS)
        server_setting_note(setting, "leatd runs no commands, so root is not let in");
    setting->draft->options->permit_root_login = value == ROOT_YES;
    return 0;
}

static const char *tokens_wrong(const char *path) {
    if (*path == '~')
        return "~ has no meaning here (a relative path is in the user's home)";
    for (const char *at = path; (at = strchr(at, '%')); at += 2)
        if (!at[1] || !strchr("huU%", at[1]))
            return "only %h, %u, %U and %% are expanded";
    return *path ? NULL : "must not be empty";
}

int server_set_authorized_keys_file(const struct server_setting *setting) {
    struct string_list *files = &setting->draft->options->authorized_keys_files;
    for (uint32_t i = 0; i < setting->words->count; i++) {
        const char *wrong = tokens_wrong(setting->words->items[i]);
        if (wrong)
            return server_setting_error(setting, wrong, setting->words->items[i]);
    }
    strings_clear(files);
    setting->draft->keys_files_given = true;
    int error = 0;
    for (uint32_t i = 0; !error && i < setting->words->count; i++)
        if (strcasecmp(setting->words->items[i], "none"))
            error = strings_add_copy(files, setting->words->items[i]);
    return error;
}

int server_set_pubkey_auth_options(const struct server_setting *setting) {
    struct server_options *options = setting->draft->options;
    bool touch = false, verify = false;
    for (uint32_t i = 0; i < setting->words->count; i++) {
        const char *name = setting->words->items[i];
        bool is_touch = !strcasecmp(name, "touch-required"), is_verify = !strcasecmp(name, "verify-required");
        if (!is_touch && !is_verify && strcasecmp(name, "none"))
            return server_setting_error(setting, "must be none, touch-required or verify-required", name);
        touch |= is_touch;
        verify |= is_verify;
    }
    options->touch_required = touch;
    options->verify_required = verify;
    return 0;
}

/* Each word is a list of methods of which all must succeed; one word is enough. */
int server_set_authentication_methods(const struct server_setting *setting) {
    const struct string_list *words = setting->words;
    bool any = strings_has(words, "any");
    if (any && words->count > 1)
        return server_setting_error(setting, "'any' must stand alone, not after", words->items[0]);
    if (any || strings_has(words, "publickey"))
        return 0;
    return server_setting_error(setting, "leatd has no other method than a single public key", words->items[0]);
}

static int set_forwarding(const struct server_setting *setting, uint8_t *field) {
    static const struct server_choice choices[] = {{"no", 0},
                                                   {"yes", FORWARDING_ALL},
                                                   {"all", FORWARDING_ALL},
                                                   {"local", FORWARDING_LOCAL},
                                                   {"remote", FORWARDING_REMOTE}};
    int value;
    int error = SERVER_CHOOSE(setting, choices, &value);
    if (!error)
        *field = (uint8_t)value;
    return error;
}

int server_set_allow_tcp_forwarding(const struct server_setting *setting) {
    return set_forwarding(setting, &setting->draft->options->allow_tcp_forwarding);
}

int server_set_allow_streamlocal_forwarding(const struct server_setting *setting) {
    setting->draft->options->allow_streamlocal_given = true;
    return set_forwarding(setting, &setting->draft->options->allow_streamlocal_forwarding);
}

/* sshd's forwards to and from Unix sockets happen within the new root; here they would not. */
int server_set_chroot_directory(const struct server_setting *setting) {
    int error = server_setting_one_word(setting);
    if (error)
        return error;
    setting->draft->chroot = strcasecmp(setting->words->items[0], "none") != 0;
    if (setting->draft->chroot)
        server_setting_note(setting,
                            "leatd runs nothing for its users; where it applies, no Unix sockets are forwarded");
    return 0;
}

int server_set_gateway_ports(const struct server_setting *setting) {
    static const struct server_choice choices[] = {
        {"no", SERVER_GATEWAY_NO}, {"yes", SERVER_GATEWAY_YES}, {"clientspecified", SERVER_GATEWAY_CLIENT_SPECIFIED}};
    int value;
    int error = SERVER_CHOOSE(setting, choices, &value);
    if (!error)
        setting->draft->options->gateway_ports = (enum server_gateway)value;
    return error;
}

static int set_permissions(const struct server_setting *setting, enum permission_use use,
                           struct permission_list *list) {
    const char *first = setting->words->items[0], *why;
    bool none = !strcmp(first, "none");
    permission_clear(list);
    if (none || !strcmp(first, "any")) {
        list->restricted = none;
        return server_setting_one_word(setting);
    }
    int error = 0;
    uint32_t i = 0;
    while (!error && i < setting->words->count)
        error = permission_add(list, use, setting->words->items[i++], &why);
    if (error && error != ERR_NOMEM)
        return server_setting_error(setting, why, setting->words->items[i - 1]);
    return error;
}

int server_set_permit_open(const struct server_setting *setting) {
    return set_permissions(setting, PERMISSION_OPEN, &setting->draft->options->permit_open);
}

int server_set_permit_listen(const struct server_setting *setting) {
    return set_permissions(setting, PERMISSION_LISTEN, &setting->draft->options->permit_listen);
}

int server_set_streamlocal_bind_mask(const struct server_setting *setting) {
    const char *word = setting->words->items[0];
    int error = server_setting_one_word(setting);
    if (error)
        return error;
    if (!*word || word[strspn(word, "01234567")] || strtoul(word, NULL, 8) > 0777)
        return server_setting_error(setting, "must be an octal mask up to 0777", word);
    setting->draft->options->streamlocal_bind_mask = (mode_t)strtoul(word, NULL, 8);
    return 0;
}

static int take_number(const struct server_setting *setting, uint32_t *value) {
    uint64_t number;
    int error = server_setting_one_word(setting);
    if (error)
        return error;
    if (!value_number(setting->words->items[0], INT32_MAX, &number))
        return server_setting_error(setting, "bad number", setting->words->items[0]);
    *value = (uint32_t)number;
    return 0;
}

int server_set_max_sessions(const struct server_setting *setting) {
    uint32_t number = 0;
    int error = take_number(setting, &number);
    if (error)
        return error;
    if (number > LIMIT_SESSION_CHANNELS)
        server_setting_note(setting, "leatd has 64 at most");
    setting->draft->options->max_sessions = number < LIMIT_SESSION_CHANNELS ? number : LIMIT_SESSION_CHANNELS;
    return 0;
}
_Static_assert(LIMIT_SESSION_CHANNELS == 64, "server_set_max_sessions says so");

int server_set_required_rsa_size(const struct server_setting *setting) {
    uint32_t number = 0;
    int error = take_number(setting, &number);
    if (!error)
        setting->draft->options->required_rsa_bits = number > RSA_BITS_MIN ? number : RSA_BITS_MIN;
    return error;
}

static void timeouts_clear(struct server_options *options) {
    for (uint32_t i = 0; i < options->channel_timeouts_count; i++)
        free(options->channel_timeouts[i].type);
    options->channel_timeouts_count = 0;
}

static int timeout_add(const struct server_setting *setting, const char *word) {
    struct server_options *options = setting->draft->options;
    const char *equals = strchr(word, '=');
    uint32_t seconds;
    if (!equals || equals == word || !value_seconds(equals + 1, &seconds))
        return server_setting_error(setting, "must be type=interval", word);
    char *type = strndup(word, (size_t)(equals - word));
    if (!type)
        return ERR_NOMEM;
    options->channel_timeouts[options->channel_timeouts_count++] =
        (struct channel_timeout){.type = type, .seconds = seconds};
    return 0;
}

int server_set_channel_timeout(const struct server_setting *setting) {
    struct server_options *options = setting->draft->options;
    const struct string_list *words = setting->words;
    timeouts_clear(options);
    if (!strcasecmp(words->items[0], "none"))
        return words->count == 1 ? 0
                                 : server_setting_error(setting, "'none' must stand alone, before", words->items[1]);
    struct channel_timeout *timeouts = reallocarray(options->channel_timeouts, words->count, sizeof *timeouts);
    if (!timeouts)
        return ERR_NOMEM;
    options->channel_timeouts = timeouts;
    int error = 0;
    for (uint32_t i = 0; !error && i < words->count; i++)
        error = timeout_add(setting, words->items[i]);
    return error;
}

int server_set_unused_connection_timeout(const struct server_setting *setting) {
    uint32_t seconds = 0;
    int error = server_setting_one_word(setting);
    if (error)
        return error;
    if (strcmp(setting->words->items[0], "none") && !value_seconds(setting->words->items[0], &seconds))
        return server_setting_error(setting, "bad time", setting->words->items[0]);
    setting->draft->options->unused_connection_timeout_s = seconds;
    return 0;
}

/* USER or USER@HOST; HOST is a list as address_list.h has it, so its masks must fit. */
static const char *user_wrong(const char *pattern) {
    const char *at = strrchr(pattern, '@'), *why;
    enum pattern_result result;
    if (!*pattern)
        return "an empty pattern";
    if (!at)
        return NULL;
    if (!at[1])
        return "nothing after '@'";
    return address_list_match(NULL, NULL, at + 1, &result, &why) ? why : NULL;
}

int server_set_users(const struct server_setting *setting) {
    struct string_list *field =
        (struct string_list *)(void *)((char *)setting->draft->options + setting->keyword->offset);
    for (uint32_t i = 0; i < setting->words->count; i++) {
        const char *wrong = user_wrong(setting->words->items[i]);
        if (wrong)
            return server_setting_error(setting, wrong, setting->words->items[i]);
        int error = strings_add_copy(field, setting->words->items[i]);
        if (error)
            return error;
    }
    return 0;
}
