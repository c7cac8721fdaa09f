#include "authorized_keys_rig.h"
#include "engine/limits.h"
#include "tests/skip.h"
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <sys/resource.h>
#include <sys/stat.h>

/* A home in a temporary folder: DIR/home/.ssh/authorized_keys, all with sound modes. */
static char dir[PATH_MAX];

static const char *at(const char *name) {
    static char paths[16][PATH_MAX + 128];
    static unsigned next;
    char *path = paths[next++ % 16];
    snprintf(path, sizeof paths[0], "%s/%s", dir, name);
    return path;
}

static void write_file(const char *name, const char *text) {
    FILE *file = fopen(at(name), "we");
    cr_assert(file, "%s", at(name));
    fputs(text, file);
    cr_assert_eq(fclose(file), 0);
    cr_assert_eq(chmod(at(name), 0600), 0);
}

#define KEYS "home/.ssh/authorized_keys"

static void setup(void) {
    char template[] = "/tmp/leat-keys-XXXXXX";
    cr_assert(mkdtemp(template));
    cr_assert(realpath(template, dir));
    cr_assert_eq(mkdir(at("home"), 0755), 0);
    cr_assert_eq(mkdir(at("home/.ssh"), 0700), 0);
    write_file(KEYS, RIG_KEY "\n");
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
TestSuite(authorized_keys_file, .init = setup, .fini = teardown);

static char why[512];

static struct key_search search_at(const char *path) {
    static struct sockaddr_storage address;
    return (struct key_search){.path = path,
                               .type = RIG_ED25519,
                               .blob = RIG_ED25519_BLOB,
                               .strict_modes = true,
                               .owner = {.known = true, .uid = geteuid(), .home = at("home")},
                               .address = rig_address(&address, "192.0.2.7"),
                               .host = "192.0.2.7",
                               .now = 1900000000};
}

static int find(const struct key_search *search) {
    struct key_options options;
    uint32_t line;
    why[0] = 0;
    int found = authorized_keys_find(search, &options, &line, why, sizeof why);
    if (found == 1)
        key_options_deinit(&options);
    cr_assert_eq(found == ERR_ACCESS, why[0] != 0, "%d: '%s'", found, why);
    return found;
}

static void find_well(const struct key_search *search) {
    int found = find(search);
    cr_assert_eq(found, 1, "%d: %s", found, why);
}

static void refused_for(const struct key_search *search, const char *reason, const char *path) {
    int found = find(search);
    cr_assert_eq(found, ERR_ACCESS, "%d, not '%s'", found, reason);
    cr_assert(strstr(why, reason) && strstr(why, path), "'%s', not '%s' of %s", why, reason, path);
}

Test(authorized_keys_file, found) {
    struct key_search search = search_at(at(KEYS));
    find_well(&search);
    search.blob = RIG_OTHER_BLOB;
    cr_assert_eq(find(&search), 0);
}

Test(authorized_keys_file, missing_is_no_error) {
    struct key_search search = search_at(at("home/.ssh/other"));
    cr_assert_eq(find(&search), 0);
    search.path = at(KEYS "/below-a-file");
    cr_assert_eq(find(&search), 0);
}

/* What is opened and what the path leads to are two files: a link that changed in between does the same. */
Test(authorized_keys_file, replaced_while_it_is_looked_at) {
    char path[64];
    int fd = open(at(KEYS), O_RDONLY | O_CLOEXEC);
    cr_assert_geq(fd, 0);
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    struct key_search search = search_at(path);
    find_well(&search);
    cr_assert_eq(unlink(at(KEYS)), 0);
    write_file(KEYS " (deleted)", RIG_OTHER_KEY "\n");
    refused_for(&search, "was replaced while it was looked at", path);
    search.strict_modes = false;
    find_well(&search);
    close(fd);
}

Test(authorized_keys_file, no_descriptor_is_not_no_file) {
    struct key_search search = search_at(at(KEYS));
    struct rlimit before, none = {0};
    struct key_options options;
    uint32_t line;
    cr_assert_eq(getrlimit(RLIMIT_NOFILE, &before), 0);
    none.rlim_max = before.rlim_max;
    cr_assert_eq(setrlimit(RLIMIT_NOFILE, &none), 0);
    int found = authorized_keys_find(&search, &options, &line, why, sizeof why);
    cr_assert_eq(setrlimit(RLIMIT_NOFILE, &before), 0);
    cr_assert_eq(found, ERR_NOMEM);
}

struct mode {
    const char *path; /* what is changed */
    mode_t mode;
    const char *refused; /* NULL: not */
};
static const struct mode modes[] = {
    {KEYS, 0600, NULL},
    {KEYS, 0644, NULL},
    {KEYS, 0400, NULL},
    {KEYS, 0620, "file"},
    {KEYS, 0602, "file"},
    {KEYS, 0666, "file"},
    {"home/.ssh", 0755, NULL},
    {"home/.ssh", 0770, "directory"},
    {"home/.ssh", 0702, "directory"},
    {"home", 0755, NULL},
    {"home", 0775, "directory"},
    {"home", 0757, "directory"},
    {"", 0777, NULL}, /* above the home nobody looks */
};

Test(authorized_keys_file, modes) {
    for (size_t i = 0; i < sizeof modes / sizeof *modes; i++) {
        struct stat before;
        const char *path = at(modes[i].path);
        cr_assert_eq(stat(path, &before), 0);
        cr_assert_eq(chmod(path, modes[i].mode), 0);
        struct key_search search = search_at(at(KEYS));
        if (modes[i].refused)
            refused_for(&search, modes[i].refused, *modes[i].path ? modes[i].path : dir);
        else
            find_well(&search);
        search.strict_modes = false;
        find_well(&search);
        cr_assert_eq(chmod(at(modes[i].path), before.st_mode & 07777), 0);
    }
}

struct owned {
    const char *path;
    uid_t uid;           /* whom it is given to */
    bool known;          /* the user exists, and has uid 1234 */
    const char *refused; /* NULL: not */
};
static const struct owned owned[] = {
    {KEYS, 1234, true, NULL},
    {KEYS, 0, true, NULL},
    {KEYS, 1235, true, "file"},
    {"home/.ssh", 1234, true, NULL},
    {"home/.ssh", 1235, true, "directory"},
    {"home", 1234, true, NULL},
    {"home", 1235, true, "directory"},
    {"", 1235, true, NULL},
    {KEYS, 0, false, NULL},
    {KEYS, 1234, false, "file"},
    {"home", 1234, false, "directory"},
};

Test(authorized_keys_file, owners) {
    if (geteuid() != 0)
        skip_after(teardown(), "gives files away: needs root");
    for (size_t i = 0; i < sizeof owned / sizeof *owned; i++) {
        cr_assert_eq(chown(at(owned[i].path), owned[i].uid, 0), 0);
        struct key_search search = search_at(at(KEYS));
        search.owner.known = owned[i].known;
        search.owner.uid = owned[i].known ? 1234 : 0;
        if (owned[i].refused)
            refused_for(&search, owned[i].refused, *owned[i].path ? owned[i].path : dir);
        else
            find_well(&search);
        cr_assert_eq(chown(at(owned[i].path), 0, 0), 0);
    }
}

/* As an ordinary user, one's own files and root's are good, and another's are not. */
Test(authorized_keys_file, ordinary_user) {
    if (geteuid() == 0) {
        cr_assert_eq(chown(at(KEYS), 1234, 0) + chown(at("home/.ssh"), 1234, 0) + chown(at("home"), 1234, 0), 0);
        cr_assert_eq(chmod(dir, 0755), 0);
        cr_assert_eq(seteuid(1234), 0);
    }
    struct key_search search = search_at(at(KEYS));
    find_well(&search);
    search.owner.known = false; /* then it is this account that counts */
    search.owner.uid = 0;
    find_well(&search);
    search.owner.known = true;
    search.owner.uid = geteuid() + 1;
    refused_for(&search, "file", KEYS);
    cr_assert_eq(chmod(at(KEYS), 0), 0);
    search = search_at(at(KEYS));
    refused_for(&search, "Permission denied", KEYS);
    if (geteuid() == 1234)
        cr_assert_eq(seteuid(0), 0);
}

/* Outside of the home every directory up to / counts, and /tmp is everybody's. */
Test(authorized_keys_file, outside_of_the_home) {
    struct key_search search = search_at(at(KEYS));
    search.owner.home = "/nonexistent";
    refused_for(&search, "directory /tmp", "/tmp");
    search.owner.home = NULL;
    refused_for(&search, "directory /tmp", "/tmp");
    search.owner.home = at("home/.ssh");
    find_well(&search);
    search.path = "/etc/passwd"; /* a sound file, if no key file */
    search.owner.home = NULL;
    cr_assert_eq(find(&search), 0, "%s", why);
}

/* Symbolic links are followed, and what counts is where they lead. */
Test(authorized_keys_file, links) {
    cr_assert_eq(mkdir(at("elsewhere"), 0777), 0);
    cr_assert_eq(chmod(at("elsewhere"), 0777), 0);
    write_file("elsewhere/keys", RIG_KEY "\n");
    cr_assert_eq(unlink(at(KEYS)), 0);
    cr_assert_eq(symlink(at("elsewhere/keys"), at(KEYS)), 0);
    struct key_search search = search_at(at(KEYS));
    refused_for(&search, "directory", "elsewhere");
    search.strict_modes = false;
    find_well(&search);
    write_file("home/.ssh/good", RIG_KEY "\n");
    cr_assert_eq(unlink(at(KEYS)), 0);
    cr_assert_eq(symlink("good", at(KEYS)), 0);
    search.strict_modes = true;
    find_well(&search);
    cr_assert_eq(symlink(at("home"), at("moved")), 0);
    search.owner.home = at("moved"); /* a home that is a link is where it leads, too */
    find_well(&search);
    cr_assert_eq(unlink(at(KEYS)), 0);
    cr_assert_eq(symlink("authorized_keys", at(KEYS)), 0);
    refused_for(&search, "symbolic links", KEYS);
}

/* None of these may hold anybody up. */
Test(authorized_keys_file, regular_files_only, .timeout = 10) {
    cr_assert_eq(unlink(at(KEYS)), 0);
    cr_assert_eq(mkfifo(at(KEYS), 0600), 0);
    struct key_search search = search_at(at(KEYS));
    refused_for(&search, "not a regular file", KEYS);
    search.strict_modes = false;
    refused_for(&search, "not a regular file", KEYS);
    search.path = "/dev/zero";
    refused_for(&search, "not a regular file", "/dev/zero");
    search.path = at("home");
    refused_for(&search, "not a regular file", "home");
}

Test(authorized_keys_file, size_has_a_limit) {
    struct key_search search = search_at(at(KEYS));
    cr_assert_eq(truncate(at(KEYS), LIMIT_AUTHORIZED_KEYS_BYTES), 0);
    find_well(&search);
    cr_assert_eq(truncate(at(KEYS), LIMIT_AUTHORIZED_KEYS_BYTES + 1), 0);
    refused_for(&search, "bytes", KEYS);
    cr_assert_eq(truncate(at(KEYS), 0), 0);
    cr_assert_eq(find(&search), 0);
}

/* A line nobody mends is told once, not at every login; the one with the key that was asked about, always. */
Test(authorized_keys_file, bad_lines_are_told_once) {
    write_file(KEYS, "nonsense " RIG_OTHER_KEY "\n" RIG_KEY "\n");
    struct key_search search = search_at(at(KEYS));
    find_well(&search);
    cr_assert_eq(rig_count(rig_log(), KEYS ":1: line passed over: unknown key option"), 1);
    for (int i = 0; i < 3; i++)
        find_well(&search);
    cr_assert_str_eq(rig_log(), "");
    search.blob = RIG_OTHER_BLOB;
    for (int i = 0; i < 3; i++)
        cr_assert_eq(find(&search), 0);
    cr_assert_eq(rig_count(rig_log(), ":1: line passed over"), 3);
    write_file(KEYS, "nonsense " RIG_OTHER_KEY "\nx y\n" RIG_KEY "\n");
    search.blob = RIG_ED25519_BLOB;
    find_well(&search);
    const char *log = rig_log();
    cr_assert(strstr(log, ":1: line passed over") && strstr(log, ":2: line passed over"), "%s", log);
}

/* More files than are remembered: the log hears of each, and of the first again. */
Test(authorized_keys_file, told_files_are_forgotten_in_order) {
    for (int i = 0; i < 300; i++) {
        char name[64];
        snprintf(name, sizeof name, "home/.ssh/keys%d", i);
        write_file(name, "nonsense\n");
        struct key_search search = search_at(at(name));
        for (int again = 0; again < 2; again++)
            cr_assert_eq(find(&search), 0);
        cr_assert_eq(rig_count(rig_log(), "line passed over"), 1, "%s", name);
    }
    struct key_search search = search_at(at("home/.ssh/keys0"));
    cr_assert_eq(find(&search), 0);
    cr_assert_eq(rig_count(rig_log(), "line passed over"), 1);
}
