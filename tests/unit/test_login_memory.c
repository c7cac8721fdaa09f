/* A login for which memory runs out, at each place where it can: it is refused, and the program goes on. The linker
 * has our own code allocate through the functions here. */
#include "authorized_keys_rig.h"
#include "ssh/login.h"
#include "ssh/text.h"
#include <ftw.h>
#include <grp.h>
#include <pwd.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/stat.h>

/* How many allocations of this thread still succeed; negative: all. One fails, then all do again. */
static _Thread_local long good = -1;
static _Thread_local bool failed;

static bool fails(void) {
    failed |= good == 0;
    return good >= 0 && good-- == 0;
}

void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *memory, size_t size);
void *__real_reallocarray(void *memory, size_t count, size_t size);
char *__real_strdup(const char *text);
char *__real_strndup(const char *text, size_t len);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *memory, size_t size);
void *__wrap_reallocarray(void *memory, size_t count, size_t size);
char *__wrap_strdup(const char *text);
char *__wrap_strndup(const char *text, size_t len);
int __wrap_asprintf(char **text, const char *format, ...) __attribute__((format(printf, 2, 3)));

void *__wrap_malloc(size_t size) {
    return fails() ? NULL : __real_malloc(size);
}

void *__wrap_calloc(size_t count, size_t size) {
    return fails() ? NULL : __real_calloc(count, size);
}

void *__wrap_realloc(void *memory, size_t size) {
    return fails() ? NULL : __real_realloc(memory, size);
}

void *__wrap_reallocarray(void *memory, size_t count, size_t size) {
    return fails() ? NULL : __real_reallocarray(memory, count, size);
}

char *__wrap_strdup(const char *text) {
    return fails() ? NULL : __real_strdup(text);
}

char *__wrap_strndup(const char *text, size_t len) {
    return fails() ? NULL : __real_strndup(text, len);
}

int __wrap_asprintf(char **text, const char *format, ...) {
    va_list args;
    if (fails())
        return -1;
    va_start(args, format);
    int len = vasprintf(text, format, args);
    va_end(args);
    return len;
}

/* ---- the system's user ---- */

int getpwnam_r(const char *restrict name, struct passwd *restrict entry, char *restrict buffer, size_t cap,
               struct passwd **restrict result) {
    (void)name;
    snprintf(buffer, cap, "/nowhere");
    *entry = (struct passwd){.pw_uid = geteuid(), .pw_dir = buffer};
    *result = entry;
    return 0;
}

int getgrouplist(const char *user, gid_t group, gid_t *groups, int *count) {
    (void)user;
    groups[0] = group;
    groups[1] = group + 1;
    return *count = 2;
}

int getgrgid_r(gid_t gid, struct group *restrict entry, char *restrict buffer, size_t cap,
               struct group **restrict result) {
    snprintf(buffer, cap, "g%u", (unsigned)gid);
    *entry = (struct group){.gr_gid = gid, .gr_name = buffer};
    *result = entry;
    return 0;
}

/* ---- the login ---- */

static char dir[] = "/tmp/leat-login-memory-XXXXXX";

static const char *put(const char *name, const char *text) {
    static char path[256];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    FILE *file = fopen(path, "we");
    cr_assert(file);
    fputs(text, file);
    cr_assert_eq(fclose(file), 0);
    return path;
}

static int remove_one(const char *path, const struct stat *stat, int kind, struct FTW *walk) {
    (void)stat, (void)kind, (void)walk;
    return remove(path);
}

/* Every setter that takes memory. The key stands twice: who passes over the first line for want of memory lets more
 * happen than it says. */
static const char statements[] =
    "StrictModes no\nBanner /b\nPermitOpen a:1 b:2\nPermitListen 8080 x:1\nChannelTimeout direct-tcpip=1m *=2m\n"
    "AllowUsers m* x@192.0.2.0/24\nDenyUsers y@[x] z\nAllowGroups g*\nDenyGroups x\nPort 22\nPort 23\n"
    "ListenAddress ::1\nListenAddress 127.0.0.1:5\nHostKey /h\nCiphers -aes128*\nKexAlgorithms -ecdh*\n"
    "HostKeyAlgorithms +ssh-rsa\nPubkeyAcceptedAlgorithms ^rsa-sha2-512\nVersionAddendum x\nPidFile p\n"
    "Relay 127.0.0.1:90 h:91\nRelay 92 h:93\nUser u\nGroup g\n"
    "Match Group g1 Address 192.0.2.0/24\nPermitOpen h:https\nMatch User miller\nAllowUsers miller\nBanner none\n";

static struct server_config *read_config(void) {
    char text[2048];
    struct server_config *config;
    put("restricted", "# first\nfrom=\"192.0.2.0/24,x\",expiry-time=\"20990101\",restrict,permitopen=\"h:1\","
                      "permitlisten=\"2\",permitlisten=\"x:3\",command=\"x\" " RIG_KEY " comment\n");
    put("free", RIG_KEY "\n");
    snprintf(text, sizeof text, "AuthorizedKeysFile %s/none %s/restricted %s/free\n%s", dir, dir, dir, statements);
    FILE *stream = fmemopen(text, strlen(text), "r");
    cr_assert_eq(server_config_read_stream(stream, "test", &config), 0);
    fclose(stream);
    return config;
}

static int ask(const struct server_config *config, struct login_result *result) {
    struct sockaddr_storage address, local;
    const struct login_request request = {.config = config,
                                          .user = "miller",
                                          .key_type = RIG_ED25519,
                                          .key_blob = RIG_ED25519_BLOB,
                                          .address = rig_address(&address, "192.0.2.7"),
                                          .local_address = rig_address(&local, "192.0.2.1"),
                                          .host = "192.0.2.7",
                                          .now = 1900000000};
    return login_check(&request, result);
}

static void setup(void) {
    cr_assert(mkdtemp(dir));
    rig_log_init();
}

static void teardown(void) {
    nftw(dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    rig_log_deinit();
}
TestSuite(login_memory, .init = setup, .fini = teardown);

Test(login_memory, each_allocation_fails_once) {
    struct server_config *config = read_config();
    for (long n = 0;; n++) {
        struct login_result result;
        failed = false;
        good = n;
        int error = ask(config, &result);
        good = -1;
        if (!failed) {
            cr_assert_eq(error, 0);
            cr_assert(result.allowed, "%s", result.reason);
            cr_assert_not(result.key.forwarding, "the first line counts");
            cr_assert_gt(n, 60, "or nothing was tried");
            login_result_deinit(&result);
            break;
        }
        cr_assert_eq(error, ERR_NOMEM, "%ld: %s", n, result.reason);
        cr_assert_not(result.allowed, "%ld", n);
        cr_assert_str_eq(result.reason, err_text(ERR_NOMEM));
        login_result_deinit(&result);
    }
    cr_assert_str_eq(rig_log(), "");
    server_config_unref(config);
}

/* What a connection has before its user is known, and what is printed. */
Test(login_memory, options_of_nobody) {
    struct server_config *config = read_config();
    failed = true;
    for (long n = 0; failed; n++) {
        failed = false;
        good = n;
        struct server_options *options = server_config_resolve(config, NULL);
        good = -1;
        cr_assert_eq(options == NULL, failed, "%ld", n);
        server_options_unref(options);
    }
    server_config_unref(config);
}
