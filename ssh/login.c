#include "ssh/login.h"
#include "engine/limits.h"
#include "engine/log.h"
#include "ssh/address_list.h"
#include "ssh/text.h"
#include <errno.h>
#include <grp.h>
#include <limits.h>
#include <pwd.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

/* What the system knows of a user; one it does not know may log in all the same. */
struct account {
    bool known, groups_known;
    uid_t uid;
    gid_t gid;
    char *home;
    struct string_list groups; /* names */
};

struct login {
    const struct login_request *request;
    struct login_result *result;
    struct account account;
};

/* 0, since the question is answered: result->allowed stays false. */
__attribute__((format(printf, 2, 3))) static int refuse(struct login *login, const char *format, ...) {
    va_list args;
    va_start(args, format);
    vsnprintf(login->result->reason, sizeof login->result->reason, format, args);
    va_end(args);
    return 0;
}

static bool is_refused(const struct login *login) {
    return login->result->reason[0] != 0;
}

static void account_deinit(struct account *account) {
    free(account->home);
    strings_clear(&account->groups);
}

/* The name becomes part of a path, where it must lead nowhere else, nor to what an editor has left beside a file of
 * keys ("alice~", ".alice.swp", "#alice#"). */
static bool user_is_sound(const char *user) {
    size_t len = strlen(user);
    if (len == 0 || len > LIMIT_USER_NAME_BYTES || user[0] == '.' || user[0] == '#' || user[len - 1] == '~')
        return false;
    for (const char *c = user; *c; c++)
        if (*c == '/' || (unsigned char)*c < 0x20 || *c == 0x7f)
            return false;
    return true;
}

/* Makes the buffer of a look-up larger. False: it was as large as it gets, or there is no memory (*error has which). */
static bool nss_buffer_grow(char **buffer, size_t *cap, int *error) {
    if (*cap >= LIMIT_NSS_ENTRY_BYTES)
        return false;
    size_t larger = *cap ? 4 * *cap : 4096;
    char *grown = realloc(*buffer, larger);
    *error = grown ? 0 : ENOMEM;
    if (!grown)
        return false;
    *buffer = grown;
    *cap = larger;
    return true;
}

/* getpwnam_r(3) and getgrgid_r(3) have more than one way to say that there is none. */
static bool is_unknown(int error) {
    return error == 0 || error == ENOENT || error == ESRCH;
}

static int nss_failed(struct login *login, const char *database, int error) {
    return error == ENOMEM ? ERR_NOMEM : refuse(login, "the system's %s: %s", database, strerror(error));
}

static int account_copy(struct account *account, const struct passwd *entry) {
    account->known = true;
    account->uid = entry->pw_uid;
    account->gid = entry->pw_gid;
    account->home = strdup(entry->pw_dir);
    return account->home ? 0 : ERR_NOMEM;
}

static int account_look_up(struct login *login) {
    struct passwd space, *entry = NULL;
    char *buffer = NULL;
    size_t cap = 0;
    int error = ERANGE;
    while (error == ERANGE && nss_buffer_grow(&buffer, &cap, &error))
        error = getpwnam_r(login->request->user, &space, buffer, cap, &entry);
    int done = 0;
    if (error == 0 && entry)
        done = account_copy(&login->account, entry);
    else if (!is_unknown(error)) /* or a DenyGroups would not count while the user database is away */
        done = nss_failed(login, "users", error);
    free(buffer);
    return done;
}

static int group_look_up(struct login *login, gid_t gid, char **buffer, size_t *cap) {
    struct group space, *entry = NULL;
    int error = ERANGE;
    if (*cap > 0)
        error = getgrgid_r(gid, &space, *buffer, *cap, &entry);
    while (error == ERANGE && nss_buffer_grow(buffer, cap, &error))
        error = getgrgid_r(gid, &space, *buffer, *cap, &entry);
    if (error == 0 && entry)
        return strings_add_copy(&login->account.groups, entry->gr_name);
    return is_unknown(error) ? 0 : nss_failed(login, "groups", error);
}

/* The numbers of the user's groups; *ids is the caller's. */
static int group_ids(struct login *login, gid_t **ids, int *count) {
    int cap = 64;
    for (;;) {
        gid_t *grown = realloc(*ids, (size_t)cap * sizeof *grown);
        if (!grown)
            return ERR_NOMEM;
        *ids = grown;
        *count = cap;
        if (getgrouplist(login->request->user, login->account.gid, grown, count) >= 0)
            return 0;
        if (cap >= (int)LIMIT_USER_GROUPS)
            return refuse(login, "in more than %u groups", LIMIT_USER_GROUPS);
        cap *= 4;
    }
}

static int groups_look_up(struct login *login) {
    struct account *account = &login->account;
    if (account->groups_known)
        return 0;
    account->groups_known = true;
    if (!account->known)
        return 0;
    gid_t *ids = NULL;
    char *buffer = NULL;
    size_t cap = 0;
    int count = 0, error = group_ids(login, &ids, &count);
    for (int i = 0; i < count && !error && !is_refused(login); i++)
        error = group_look_up(login, ids[i], &buffer, &cap);
    free(buffer);
    free(ids);
    return error;
}

/* Whatever is wrong with the user by now, there are options for what follows in the connection. */
static int options_resolve(struct login *login, bool sound) {
    const struct login_request *request = login->request;
    struct match_subject subject = {
        .user = sound ? request->user : NULL,
        .groups = login->account.groups_known ? &login->account.groups : NULL,
        .address = request->address,
        .host = request->host,
        .local_address = request->local_address,
        .local_port = request->local_port,
        .invalid_user = !login->account.known,
    };
    login->result->options = server_config_resolve(request->config, &subject);
    return login->result->options ? 0 : ERR_NOMEM;
}

/* "user" or "user@addresses", where the user's name may have an '@' too. 1, 0, ERR_CONFIG (a wrong mask), ERR_NOMEM. */
static int user_matches(const struct login_request *request, const char *pattern) {
    const char *at = strrchr(pattern, '@');
    if (!at)
        return pattern_match(request->user, pattern, false);
    char *user = strndup(pattern, (size_t)(at - pattern));
    if (!user)
        return ERR_NOMEM;
    bool matches = pattern_match(request->user, user, false);
    free(user);
    enum pattern_result result = PATTERN_NONE;
    const char *why;
    int error = matches ? address_list_match(request->address, request->host, at + 1, &result, &why) : 0;
    return error ? error : result == PATTERN_MATCHED;
}

/* Stops at what matches and at what is wrong. */
static int users_match(const struct login_request *request, const struct string_list *patterns) {
    int matches = 0;
    for (uint32_t i = 0; i < patterns->count && matches == 0; i++)
        matches = user_matches(request, patterns->items[i]);
    return matches;
}

static bool groups_match(const struct account *account, const struct string_list *patterns) {
    for (uint32_t i = 0; i < account->groups.count; i++)
        for (uint32_t j = 0; j < patterns->count; j++)
            if (pattern_match(account->groups.items[i], patterns->items[j], false))
                return true;
    return false;
}

static int users_check(struct login *login) {
    const struct server_options *options = login->result->options;
    int denied = users_match(login->request, &options->deny_users);
    if (denied != 0)
        return denied == ERR_NOMEM ? denied : refuse(login, "in DenyUsers");
    int allowed = options->allow_users.count > 0 ? users_match(login->request, &options->allow_users) : 1;
    if (allowed != 1)
        return allowed == ERR_NOMEM ? allowed : refuse(login, "not in AllowUsers");
    return 0;
}

static int groups_check(struct login *login) {
    const struct server_options *options = login->result->options;
    if (options->deny_groups.count == 0 && options->allow_groups.count == 0)
        return 0;
    int error = groups_look_up(login);
    if (error || is_refused(login))
        return error;
    if (groups_match(&login->account, &options->deny_groups))
        return refuse(login, "in one of DenyGroups");
    if (options->allow_groups.count > 0 && !groups_match(&login->account, &options->allow_groups))
        return refuse(login, "in none of AllowGroups");
    return 0;
}

static int user_check(struct login *login) {
    const struct server_options *options = login->result->options;
    const struct account *account = &login->account;
    bool is_root = account->known ? account->uid == 0 : strcmp(login->request->user, "root") == 0;
    if (options->refuse_connection)
        return refuse(login, "RefuseConnection");
    if (is_root && !options->permit_root_login)
        return refuse(login, "PermitRootLogin");
    int error = users_check(login);
    if (!error && !is_refused(login))
        error = groups_check(login);
    if (!error && !is_refused(login) && !options->pubkey_authentication)
        return refuse(login, "PubkeyAuthentication");
    return error;
}

/* Appends part[0..len) to path[0..*at). */
static bool path_add(char path[PATH_MAX], size_t *at, const char *part, size_t len) {
    if (len >= PATH_MAX - *at)
        return false;
    memcpy(path + *at, part, len);
    *at += len;
    path[*at] = 0;
    return true;
}

static bool token_add(char path[PATH_MAX], size_t *at, char token, const char *user,
                      const struct key_file_owner *owner) {
    char number[16];
    const char *value = token == '%' ? "%" : token == 'u' ? user : token == 'h' ? owner->home : NULL;
    if (token == 'U' && owner->known) {
        snprintf(number, sizeof number, "%u", (unsigned)owner->uid);
        value = number;
    }
    return value && path_add(path, at, value, strlen(value));
}

static bool path_expand(char path[PATH_MAX], const char *pattern, const char *user,
                        const struct key_file_owner *owner) {
    size_t at = 0;
    const char *home = owner->home;
    bool relative = pattern[0] != '/' && strncmp(pattern, "%h", 2) != 0;
    if (relative && (!home || !path_add(path, &at, home, strlen(home)) || !path_add(path, &at, "/", 1)))
        return false;
    while (*pattern) {
        size_t len = strcspn(pattern, "%");
        if (!path_add(path, &at, pattern, len))
            return false;
        pattern += len;
        if (*pattern == '%' && !token_add(path, &at, *++pattern, user, owner))
            return false;
        pattern += *pattern != 0;
    }
    return path[0] == '/';
}

int login_key_path(const char *pattern, const char *user, const struct key_file_owner *owner, char **path) {
    char expanded[PATH_MAX] = "";
    *path = NULL;
    if (!path_expand(expanded, pattern, user, owner))
        return 0;
    *path = strdup(expanded);
    return *path ? 0 : ERR_NOMEM;
}

static void key_found(struct login *login, const char *path, uint32_t line) {
    struct login_result *result = login->result;
    if (snprintf(result->key_place, sizeof result->key_place, "%s:%u", path, line) >= (int)sizeof result->key_place)
        strcpy(result->key_place + sizeof result->key_place - 4, "..."); /* cut, and seen to be */
    result->allowed = true;
}

/* Looks into one of the user's files. The last one that could not be looked into is the reason, should no other hold
 * the key. */
static int file_search(struct login *login, const char *path, const struct key_file_owner *owner) {
    const struct login_request *request = login->request;
    struct key_search search = {
        .path = path,
        .type = request->key_type,
        .blob = request->key_blob,
        .strict_modes = login->result->options->strict_modes,
        .owner = *owner,
        .address = request->address,
        .host = request->host,
        .now = request->now,
    };
    char why[sizeof login->result->reason], safe[4 * sizeof why];
    uint32_t line;
    int found = authorized_keys_find(&search, &login->result->key, &line, why, sizeof why);
    if (found == 1)
        key_found(login, path, line);
    if (found != ERR_ACCESS)
        return found < 0 ? found : 0;
    log_info("key file not used: %s", log_safe(safe, sizeof safe, why, strlen(why)));
    return refuse(login, "key file not used: %.200s", why);
}

static int keys_search(struct login *login) {
    const struct login_request *request = login->request;
    const struct string_list *files = &login->result->options->authorized_keys_files;
    const struct account *account = &login->account;
    const struct key_file_owner owner = {.known = account->known, .uid = account->uid, .home = account->home};
    bool any = false;
    for (uint32_t i = 0; i < files->count && !login->result->allowed; i++) {
        char *path;
        int error = login_key_path(files->items[i], request->user, &owner, &path);
        any = any || path;
        if (path)
            error = file_search(login, path, &owner);
        free(path);
        if (error)
            return error;
    }
    if (login->result->allowed || is_refused(login))
        return 0;
    return refuse(login, "%s",
                  any ? "no such key in the user's AuthorizedKeysFile" : "no AuthorizedKeysFile for this user");
}

static int key_check(struct login *login) {
    const struct login_request *request = login->request;
    uint32_t bits_min = login->result->options->required_rsa_bits;
    if (strcmp(request->key_type, "ssh-rsa") == 0 && request->key_bits < bits_min)
        return refuse(login, "the RSA key has %u bits, RequiredRSASize is %u", request->key_bits, bits_min);
    return keys_search(login);
}

static int decide(struct login *login) {
    bool sound = user_is_sound(login->request->user);
    int error = sound ? account_look_up(login) : refuse(login, "not a name that a user can have");
    if (!error && !is_refused(login) && server_config_needs_groups(login->request->config))
        error = groups_look_up(login);
    if (error)
        return error;
    error = options_resolve(login, sound);
    if (!error && !is_refused(login))
        error = user_check(login);
    if (error || is_refused(login))
        return error;
    if (login->request->key_blob)
        return key_check(login);
    login->result->allowed = true;
    return 0;
}

int login_check(const struct login_request *request, struct login_result *result) {
    struct login login = {.request = request, .result = result};
    *result = (struct login_result){0};
    key_options_init(&result->key);
    int error = decide(&login);
    account_deinit(&login.account);
    if (error)
        refuse(&login, "%s", err_text(error));
    if (result->allowed)
        result->reason[0] = 0;
    return error;
}

void login_result_deinit(struct login_result *result) {
    server_options_unref(result->options);
    key_options_deinit(&result->key);
    *result = (struct login_result){0};
}
