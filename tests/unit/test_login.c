#include "authorized_keys_rig.h"
#include "engine/limits.h"
#include "ssh/login.h"
#include <errno.h>
#include <ftw.h>
#include <grp.h>
#include <limits.h>
#include <pwd.h>
#include <sys/stat.h>

/* ── the system's users and groups, as this test has them: the C library's are not asked ── */

static char dir[64];       /* DIR/home is miller's */
static uint32_t nss_asked; /* for groups */

static int entry_fill(size_t cap, size_t needed, int error) {
    return error ? error : cap < needed ? ERANGE : 0;
}

int getpwnam_r(const char *restrict name, struct passwd *restrict entry, char *restrict buffer, size_t cap,
               struct passwd **restrict result) {
    static const struct {
        const char *name;
        uid_t uid;
        size_t bytes; /* what its entry takes */
        int error;
    } users[] = {{"root", 0, 64, 0},          {"toor", 0, 64, 0},
                 {"miller", 1000, 64, 0},     {"bob", 1001, 64, 0},
                 {"many", 1002, 100000, 0},   {"endless", 1003, SIZE_MAX, 0},
                 {"broken", 1004, 0, EIO},    {"nobody-here", 0, 0, ENOENT},
                 {"no-memory", 0, 0, ENOMEM}, {"crowd", 1005, 64, 0},
                 {"bad-group", 1006, 64, 0}};
    *result = NULL;
    for (size_t i = 0; i < sizeof users / sizeof *users; i++) {
        if (strcmp(users[i].name, name) != 0)
            continue;
        int error = entry_fill(cap, users[i].bytes, users[i].error);
        if (error)
            return error;
        int len = snprintf(buffer, cap, "%s/%s", dir, strcmp(name, "miller") == 0 ? "home" : "no-home");
        cr_assert_lt((size_t)len, cap);
        *entry =
            (struct passwd){.pw_uid = users[i].uid == 1000 ? geteuid() : users[i].uid, .pw_gid = 500, .pw_dir = buffer};
        *result = entry;
        return 0;
    }
    return 0;
}

int getgrouplist(const char *user, gid_t group, gid_t *groups, int *count) {
    int wanted = strcmp(user, "crowd") == 0 ? 1000 : strcmp(user, "miller") == 0 ? 3 : 1, cap = *count;
    nss_asked++;
    cr_assert_eq(group, 500);
    for (int i = 0; i < wanted && i < cap; i++)
        groups[i] = 500 + (gid_t)i;
    if (strcmp(user, "bad-group") == 0)
        groups[0] = 66;
    *count = wanted;
    return wanted > cap ? -1 : wanted;
}

/* 500 users, 501 millers, 502 has no name; 503 to 1499 are g503 to g1499, of which the last is a large one. */
int getgrgid_r(gid_t gid, struct group *restrict entry, char *restrict buffer, size_t cap,
               struct group **restrict result) {
    *result = NULL;
    int error = entry_fill(cap, gid == 1499 ? 200000 : 64, gid == 66 ? EIO : 0);
    if (error || gid == 502)
        return error;
    if (gid == 500 || gid == 501)
        snprintf(buffer, cap, gid == 500 ? "users" : "millers");
    else
        snprintf(buffer, cap, "g%u", (unsigned)gid);
    *entry = (struct group){.gr_gid = gid, .gr_name = buffer};
    *result = entry;
    return 0;
}

/* ── files ── */

static void write_file(const char *name, const char *text) {
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    FILE *file = fopen(path, "we");
    cr_assert(file, "%s", path);
    fputs(text, file);
    cr_assert_eq(fclose(file), 0);
    cr_assert_eq(chmod(path, 0600), 0);
}

static void make_dir(const char *name) {
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    cr_assert_eq(mkdir(path, 0700), 0);
}

static void setup(void) {
    strcpy(dir, "/tmp/leat-login-XXXXXX");
    cr_assert(mkdtemp(dir));
    make_dir("home");
    make_dir("home/.ssh");
    make_dir("keys");
    make_dir("more");
    write_file("home/.ssh/authorized_keys", "# miller\nrestrict,port-forwarding,permitopen=\"h:80\" " RIG_KEY "\n");
    write_file("keys/miller", RIG_OTHER_KEY "\n");
    write_file("keys/ghost", "no-port-forwarding " RIG_KEY "\n");
    write_file("more/ghost", RIG_KEY "\n" RIG_OTHER_KEY "\n");
    rig_log_init();
}

static int remove_one(const char *path, const struct stat *stat, int kind, struct FTW *walk) {
    (void)stat, (void)kind, (void)walk;
    return remove(path);
}

static void teardown(void) {
    nftw(dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    rig_log_deinit();
}
TestSuite(login, .init = setup, .fini = teardown);

/* text: the configuration, with DIR in it for the folder. */
static struct server_config *config_of(const char *text) {
    char expanded[4096] = "", *out = expanded;
    for (const char *at = text; *at; at++) {
        bool is_dir = strncmp(at, "DIR", 3) == 0;
        out += sprintf(out, "%.*s", is_dir ? (int)sizeof dir : 1, is_dir ? dir : at);
        at += is_dir ? 2 : 0;
    }
    strcpy(out, "\n");
    FILE *stream = fmemopen(expanded, strlen(expanded), "r");
    struct server_config *config;
    cr_assert_eq(server_config_read_stream(stream, "test", &config), 0, "%s", expanded);
    fclose(stream);
    return config;
}

/* Asks, and gives the reason, NULL for allowed; what is found in *result is checked by the caller. */
static const char *ask(const char *config_text, const char *user, const char *blob, struct login_result *result) {
    static char reason[sizeof result->reason];
    struct server_config *config = config_of(config_text);
    struct sockaddr_storage address, local;
    struct login_request request = {.config = config,
                                    .user = user,
                                    .key_type = blob ? RIG_ED25519 : NULL,
                                    .key_blob = blob,
                                    .address = rig_address(&address, "192.0.2.7"),
                                    .local_address = rig_address(&local, "192.0.2.1"),
                                    .local_port = 2222,
                                    .host = "192.0.2.7",
                                    .now = 1900000000};
    int error = login_check(&request, result);
    cr_assert_eq(error, strcmp(user, "no-memory") == 0 ? ERR_NOMEM : 0);
    cr_assert(result->options || error == ERR_NOMEM);
    cr_assert_eq(result->allowed, result->reason[0] == 0, "'%s'", result->reason);
    server_config_unref(config);
    strcpy(reason, result->reason);
    return result->allowed ? NULL : reason;
}

struct row {
    const char *config, *user, *key; /* key NULL: is the user allowed at all? */
    const char *refused;             /* part of the reason; NULL: allowed */
    const char *place;               /* of the key: its end */
};

static void check_all(const struct row *rows, size_t count) {
    for (size_t i = 0; i < count; i++) {
        struct login_result result;
        const char *reason = ask(rows[i].config, rows[i].user, rows[i].key, &result);
        cr_assert_eq(reason != NULL, rows[i].refused != NULL, "'%s' under '%s': %s", rows[i].user, rows[i].config,
                     reason ? reason : "allowed");
        if (reason)
            cr_assert(strstr(reason, rows[i].refused), "'%s' under '%s': %s, not %s", rows[i].user, rows[i].config,
                      reason, rows[i].refused);
        size_t len = strlen(result.key_place), end = rows[i].place ? strlen(rows[i].place) : 0;
        cr_assert(len >= end && strcmp(result.key_place + len - end, rows[i].place ? rows[i].place : "") == 0, "%s",
                  result.key_place);
        cr_assert_eq(len > 0, end > 0, "%s", result.key_place);
        login_result_deinit(&result);
    }
}

static const struct row users[] = {
    {"", "miller", NULL, NULL, NULL},
    {"", "ghost", NULL, NULL, NULL},
    {"", "nobody-here", NULL, NULL, NULL},
    {"", "many", NULL, NULL, NULL},
    {"", "broken", NULL, "users: ", NULL}, /* rather nobody than someone whose groups are not known */
    {"", "endless", NULL, "users: ", NULL},
    {"", "no-memory", NULL, "", NULL},
    {"RefuseConnection yes", "miller", NULL, "RefuseConnection", NULL},
    {"PubkeyAuthentication no", "miller", NULL, "PubkeyAuthentication", NULL},
    {"", "root", NULL, NULL, NULL},
    {"PermitRootLogin prohibit-password", "root", NULL, NULL, NULL},
    {"PermitRootLogin no", "root", NULL, "PermitRootLogin", NULL},
    {"PermitRootLogin no", "toor", NULL, "PermitRootLogin", NULL},
    {"PermitRootLogin no", "bob", NULL, NULL, NULL},
    /* users */
    {"DenyUsers miller", "miller", NULL, "DenyUsers", NULL},
    {"DenyUsers miller", "bob", NULL, NULL, NULL},
    {"DenyUsers Miller", "miller", NULL, NULL, NULL},
    {"DenyUsers bob mil*", "miller", NULL, "DenyUsers", NULL},
    {"DenyUsers ghost", "ghost", NULL, "DenyUsers", NULL},
    {"AllowUsers bob", "miller", NULL, "AllowUsers", NULL},
    {"AllowUsers bob m?ller", "miller", NULL, NULL, NULL},
    {"AllowUsers ghost", "ghost", NULL, NULL, NULL},
    {"AllowUsers miller\nDenyUsers miller", "miller", NULL, "DenyUsers", NULL},
    {"AllowUsers *\nDenyUsers bob", "miller", NULL, NULL, NULL},
    {"AllowUsers miller@192.0.2.7", "miller", NULL, NULL, NULL},
    {"AllowUsers miller@192.0.2.0/24", "miller", NULL, NULL, NULL},
    {"AllowUsers m*@192.0.2.*", "miller", NULL, NULL, NULL},
    {"AllowUsers miller@198.51.100.0/24", "miller", NULL, "AllowUsers", NULL},
    {"AllowUsers bob@192.0.2.0/24", "miller", NULL, "AllowUsers", NULL},
    {"AllowUsers miller@!192.0.2.7,192.0.2.0/24", "miller", NULL, "AllowUsers", NULL},
    {"AllowUsers miller@198.51.100.0/24 *@192.0.2.7", "miller", NULL, NULL, NULL},
    {"DenyUsers *@192.0.2.7", "miller", NULL, "DenyUsers", NULL},
    {"DenyUsers miller@198.51.100.0/24", "miller", NULL, NULL, NULL},
    {"DenyUsers miller@mill@192.0.2.0/24", "miller@mill", NULL, "DenyUsers", NULL},
    {"DenyUsers miller@mill@198.51.100.0/24", "miller@mill", NULL, NULL, NULL},
    {"DenyUsers *@192.0.2.0/24", "miller@mill", NULL, "DenyUsers", NULL},
    {"AllowUsers miller@mill@*", "miller@mill", NULL, NULL, NULL},
    /* groups */
    {"DenyGroups millers", "miller", NULL, "DenyGroups", NULL},
    {"DenyGroups millers", "bob", NULL, NULL, NULL},
    {"DenyGroups mill*", "miller", NULL, "DenyGroups", NULL},
    {"DenyGroups MILLERS", "miller", NULL, NULL, NULL},
    {"AllowGroups millers", "miller", NULL, NULL, NULL},
    {"AllowGroups users", "miller", NULL, NULL, NULL},
    {"AllowGroups x millers", "bob", NULL, "AllowGroups", NULL},
    {"AllowGroups *", "ghost", NULL, "AllowGroups", NULL},
    {"DenyGroups *", "ghost", NULL, NULL, NULL},
    {"AllowGroups users\nDenyGroups millers", "miller", NULL, "DenyGroups", NULL},
    {"AllowUsers bob\nAllowGroups users", "miller", NULL, "AllowUsers", NULL},
    {"AllowGroups g1499", "crowd", NULL, NULL, NULL},
    {"AllowGroups g1500", "crowd", NULL, "AllowGroups", NULL},
    {"DenyGroups x", "bad-group", NULL, "groups: ", NULL},
    {"", "bad-group", NULL, NULL, NULL},
    /* Match */
    {"PubkeyAuthentication no\nMatch User miller\nPubkeyAuthentication yes", "miller", NULL, NULL, NULL},
    {"PubkeyAuthentication no\nMatch User miller\nPubkeyAuthentication yes", "bob", NULL, "Pubkey", NULL},
    {"PubkeyAuthentication no\nMatch Group millers\nPubkeyAuthentication yes", "miller", NULL, NULL, NULL},
    {"PubkeyAuthentication no\nMatch Group millers\nPubkeyAuthentication yes", "bob", NULL, "Pubkey", NULL},
    {"PubkeyAuthentication no\nMatch Group millers\nPubkeyAuthentication yes", "ghost", NULL, "Pubkey", NULL},
    {"PubkeyAuthentication no\nMatch Address 192.0.2.7\nPubkeyAuthentication yes", "bob", NULL, NULL, NULL},
    {"PubkeyAuthentication no\nMatch LocalPort 2222\nPubkeyAuthentication yes", "bob", NULL, NULL, NULL},
    {"PubkeyAuthentication no\nMatch LocalAddress 192.0.2.1\nPubkeyAuthentication yes", "bob", NULL, NULL, NULL},
    {"Match Group millers\nAllowUsers bob", "miller", NULL, "AllowUsers", NULL},
    {"Match Group millers\nDenyGroups g*", "bad-group", NULL, "groups: ", NULL},
    {"Match invalid-user\nPubkeyAuthentication no", "ghost", NULL, "Pubkey", NULL},
    {"Match invalid-user\nPubkeyAuthentication no", "miller", NULL, NULL, NULL},
};

Test(login, users) {
    check_all(users, sizeof users / sizeof *users);
}

#define KEYS "StrictModes no\nAuthorizedKeysFile DIR/keys/%u"
static const struct row keys[] = {
    /* in the home */
    {"", "miller", RIG_ED25519_BLOB, NULL, "/home/.ssh/authorized_keys:2"},
    {"", "miller", RIG_OTHER_BLOB, "no such key", NULL},
    {"", "bob", RIG_ED25519_BLOB, "no such key", NULL},
    {"", "ghost", RIG_ED25519_BLOB, "no AuthorizedKeysFile", NULL},
    {"AuthorizedKeysFile %h/.ssh/authorized_keys", "miller", RIG_ED25519_BLOB, NULL, "authorized_keys:2"},
    {"AuthorizedKeysFile %h/.ssh/authorized_keys", "ghost", RIG_ED25519_BLOB, "no AuthorizedKeysFile", NULL},
    {"AuthorizedKeysFile none", "miller", RIG_ED25519_BLOB, "no AuthorizedKeysFile", NULL},
    /* elsewhere: the user need not exist */
    {KEYS, "ghost", RIG_ED25519_BLOB, NULL, "/keys/ghost:1"},
    {KEYS, "ghost", RIG_OTHER_BLOB, "no such key", NULL},
    {KEYS, "other-ghost", RIG_ED25519_BLOB, "no such key", NULL},
    {KEYS, "miller", RIG_ED25519_BLOB, "no such key", NULL},
    {KEYS, "miller", RIG_OTHER_BLOB, NULL, "/keys/miller:1"},
    {KEYS " .ssh/authorized_keys", "miller", RIG_ED25519_BLOB, NULL, "authorized_keys:2"},
    {KEYS " .ssh/authorized_keys", "ghost", RIG_ED25519_BLOB, NULL, "/keys/ghost:1"},
    {KEYS " DIR/more/%u", "ghost", RIG_ED25519_BLOB, NULL, "/keys/ghost:1"},
    {KEYS " DIR/more/%u", "ghost", RIG_OTHER_BLOB, NULL, "/more/ghost:2"},
    {"StrictModes no\nAuthorizedKeysFile .ssh/x DIR/keys/%u", "ghost", RIG_ED25519_BLOB, NULL, "/keys/ghost:1"},
    /* StrictModes: /tmp is everybody's, the home is not */
    {"AuthorizedKeysFile DIR/keys/%u", "ghost", RIG_ED25519_BLOB, "modes for directory /tmp", NULL},
    {"AuthorizedKeysFile DIR/keys/%u .ssh/authorized_keys", "miller", RIG_ED25519_BLOB, NULL, "authorized_keys:2"},
    {"AuthorizedKeysFile .ssh/x DIR/keys/%u", "miller", RIG_OTHER_BLOB, "modes for directory /tmp", NULL},
    {"StrictModes no\nAuthorizedKeysFile DIR/keys", "ghost", RIG_ED25519_BLOB, "not a regular file", NULL},
    /* the right key does not help */
    {"DenyUsers ghost\n" KEYS, "ghost", RIG_ED25519_BLOB, "DenyUsers", NULL},
    {"AllowGroups users\n" KEYS, "ghost", RIG_ED25519_BLOB, "AllowGroups", NULL},
    {"PubkeyAuthentication no\n" KEYS, "ghost", RIG_ED25519_BLOB, "PubkeyAuthentication", NULL},
    {"AuthorizedKeysFile none\nMatch User ghost\nAuthorizedKeysFile DIR/keys/%u\nMatch all\nStrictModes no", "ghost",
     RIG_ED25519_BLOB, NULL, "/keys/ghost:1"},
};

Test(login, keys) {
    check_all(keys, sizeof keys / sizeof *keys);
}

Test(login, key_options_are_handed_over) {
    struct login_result result;
    const char *reason = ask("", "miller", RIG_ED25519_BLOB, &result);
    cr_assert_null(reason, "%s", reason);
    cr_assert(result.key.forwarding);
    cr_assert_eq(result.key.permit_open.count, 1);
    cr_assert_str_eq(result.key.permit_open.items[0].host, "h");
    login_result_deinit(&result);
    reason = ask(KEYS, "ghost", RIG_ED25519_BLOB, &result);
    cr_assert_null(reason, "%s", reason);
    cr_assert_not(result.key.forwarding);
    login_result_deinit(&result);
}

Test(login, options_are_those_of_the_user) {
    struct login_result result;
    static const char config[] = "MaxSessions 1\nDenyUsers miller\nMatch User miller*\nMaxSessions 2";
    cr_assert(ask(config, "miller", NULL, &result));
    cr_assert_eq(result.options->max_sessions, 2, "refused, and with options for what follows");
    login_result_deinit(&result);
    cr_assert_null(ask(config, "bob", NULL, &result));
    cr_assert_eq(result.options->max_sessions, 1);
    login_result_deinit(&result);
    cr_assert(ask(config, "miller/", NULL, &result));
    cr_assert_eq(result.options->max_sessions, 1, "a name that is none matches no Match User");
    login_result_deinit(&result);
}

Test(login, groups_are_looked_up_when_they_matter) {
    static const struct {
        const char *config;
        uint32_t asked;
    } cases[] = {{"", 0},
                 {"DenyUsers x", 0},
                 {"DenyUsers miller\nDenyGroups x", 0},
                 {"DenyGroups x", 1},
                 {"Match Group x\nMaxSessions 1", 1},
                 {"DenyGroups x\nAllowGroups users\nMatch Group x\nMaxSessions 1", 1}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct login_result result;
        nss_asked = 0;
        (void)ask(cases[i].config, "miller", NULL, &result);
        cr_assert_eq(nss_asked, cases[i].asked, "'%s': %u", cases[i].config, nss_asked);
        login_result_deinit(&result);
    }
}

/* The name is part of a path, and of lines in the log. */
Test(login, names) {
    static char longest[LIMIT_USER_NAME_BYTES + 2];
    static const char *const wrong[] = {
        "",     ".",        "..",   "/",   "a/b",     "../miller",   "/etc/passwd", "mil\nler", "mil\x1bler",
        "\x7f", "miller\t", "\x01", "...", ".miller", ".miller.swp", "miller~",     "#miller#", "~"};
    static const char *const right[] = {"m", "miller@mill", "müller", "-m", "m.~m#", "a b", "MILL\\miller", "%u", "*"};
    struct login_result result;
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        const char *reason = ask("StrictModes no\nAuthorizedKeysFile DIR/home/%u DIR/keys/%u DIR/keys/ghost", wrong[i],
                                 RIG_ED25519_BLOB, &result);
        cr_assert(reason && strstr(reason, "name"), "'%s': %s", wrong[i], reason ? reason : "allowed");
        login_result_deinit(&result);
    }
    for (size_t i = 0; i < sizeof right / sizeof *right; i++) {
        const char *reason = ask("", right[i], NULL, &result);
        cr_assert_null(reason, "'%s': %s", right[i], reason);
        login_result_deinit(&result);
    }
    memset(longest, 'x', LIMIT_USER_NAME_BYTES);
    cr_assert_null(ask("", longest, NULL, &result));
    login_result_deinit(&result);
    longest[LIMIT_USER_NAME_BYTES] = 'x';
    cr_assert(ask("", longest, NULL, &result));
    login_result_deinit(&result);
}

Test(login, rsa_keys_have_a_least_size) {
    static const struct {
        const char *config;
        uint32_t bits;
        bool allowed;
    } cases[] = {{"RequiredRSASize 2048\n" KEYS, 2047, false},
                 {"RequiredRSASize 2048\n" KEYS, 2048, true},
                 {"RequiredRSASize 2048\n" KEYS, 4096, true},
                 {"RequiredRSASize 2048\n" KEYS, 0, false},
                 {KEYS, 512, false},
                 {KEYS, 4096, true}};
    char blob[BASE64_BYTES(RIG_BLOB_BYTES)], line[1024];
    snprintf(line, sizeof line, "ssh-rsa %s\n", rig_blob(blob, "ssh-rsa", 7, 100));
    write_file("keys/rsa", line);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct server_config *config = config_of(cases[i].config);
        struct sockaddr_storage address;
        struct login_request request = {.config = config,
                                        .user = "rsa",
                                        .key_type = "ssh-rsa",
                                        .key_blob = blob,
                                        .key_bits = cases[i].bits,
                                        .address = rig_address(&address, "192.0.2.7"),
                                        .host = "192.0.2.7"};
        struct login_result result;
        cr_assert_eq(login_check(&request, &result), 0);
        cr_assert_eq(result.allowed, cases[i].allowed, "%u bits: %s", cases[i].bits, result.reason);
        cr_assert_eq(strstr(result.reason, "RequiredRSASize") != NULL, !cases[i].allowed, "%s", result.reason);
        login_result_deinit(&result);
        server_config_unref(config);
    }
}

Test(login, key_paths) {
    static const struct {
        const char *pattern, *home, *path; /* path NULL: none */
    } cases[] = {
        {".ssh/authorized_keys", "/home/m", "/home/m/.ssh/authorized_keys"},
        {".ssh/authorized_keys", NULL, NULL},
        {"/etc/keys/%u", NULL, "/etc/keys/miller"},
        {"/etc/keys/%u.pub", "/home/m", "/etc/keys/miller.pub"},
        {"%u", "/home/m", "/home/m/miller"},
        {"%u", NULL, NULL},
        {"%h/keys", "/home/m", "/home/m/keys"},
        {"%h/keys", NULL, NULL},
        {"/x/%h", NULL, NULL},
        {"/x%h/%u", "/home/m", "/x/home/m/miller"},
        {"/100%%/%u%%", NULL, "/100%/miller%"},
        {"%%", "/h", "/h/%"},
        {"/%", "/h", NULL},
        {"/%k", "/h", NULL},
        {"%hx", "relative", NULL},
        {"x", "relative", NULL},
        {"x", "", "/x"},
        {"/etc/keys/%U", "/home/m", "/etc/keys/4294967294"},
        {"/etc/keys/%U/%u", NULL, NULL},
        {"%U", "/home/m", "/home/m/4294967294"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const struct key_file_owner owner = {.known = cases[i].home, .uid = 4294967294, .home = cases[i].home};
        char *path;
        cr_assert_eq(login_key_path(cases[i].pattern, "miller", &owner, &path), 0);
        cr_assert_eq(path != NULL, cases[i].path != NULL, "'%s': '%s'", cases[i].pattern, path ? path : "none");
        if (path)
            cr_assert_str_eq(path, cases[i].path);
        free(path);
    }
}

/* A path has as many bytes as the system takes, and no more. */
Test(login, key_path_length) {
    const struct key_file_owner nobody = {0};
    char pattern[PATH_MAX + 8];
    for (size_t len = PATH_MAX - 2; len <= PATH_MAX; len++) {
        memset(pattern, 'x', len);
        memcpy(pattern, "/%%", 3); /* one byte less once expanded */
        pattern[len] = 0;
        char *path;
        cr_assert_eq(login_key_path(pattern, "miller", &nobody, &path), 0);
        cr_assert_eq(path != NULL, len - 1 < PATH_MAX, "%zu", len);
        cr_assert(!path || strlen(path) == len - 1);
        free(path);
    }
    memset(pattern, 'x', PATH_MAX + 1);
    pattern[0] = '/';
    pattern[PATH_MAX + 1] = 0;
    char *path;
    cr_assert_eq(login_key_path(pattern, "miller", &nobody, &path), 0);
    cr_assert_null(path);
}

/* A file that was not looked into is told, whether or not another one has the key. */
Test(login, unused_files_are_logged) {
    struct login_result result;
    cr_assert_null(ask("AuthorizedKeysFile DIR/keys/%u .ssh/authorized_keys", "miller", RIG_ED25519_BLOB, &result));
    const char *log = rig_log();
    cr_assert(strstr(log, "key file not used: bad ownership or modes for directory /tmp"), "%s", log);
    login_result_deinit(&result);
}
