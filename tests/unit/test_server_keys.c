/* Host keys from files: which are taken, which are passed over, which are errors. */
#include "server_handshake_rig.h"
#include <sys/prctl.h>

static struct place place;

static void begin(void) {
    place_make(&place);
    log_set_level(LOG_LEVEL_VERBOSE);
}

static void end(void) {
    place_remove(&place);
}

TestSuite(server_keys, .init = begin, .fini = end);

static void options(const char *names, const char *more) {
    char text[4096] = "", copy[256];
    snprintf(copy, sizeof copy, "%s", names);
    for (char *name = strtok(copy, " "); name; name = strtok(NULL, " "))
        snprintf(text + strlen(text), sizeof text - strlen(text), "HostKey %s\n", place_path(&place, name));
    snprintf(text + strlen(text), sizeof text - strlen(text), "%s", more);
    server_options_unref(place.options);
    server_config_unref(place.config);
    config_read(&place, text);
}

static int keys_read(const char *names, const char *more) {
    options(names, more);
    struct server_keys *before = place.keys;
    int err = server_keys_read(place.options, NULL, &place.keys);
    cr_assert_eq(err == 0, place.keys != NULL);
    server_keys_unref(before);
    return err;
}

static bool logged(const char *text) {
    return strstr(file_get(&place, "log"), text) != NULL;
}

/* ssh-keygen's word for it. */
static bool logged_fingerprint(const char *name) {
    char *argv[] = {"ssh-keygen", "-lf", (char *)place_path(&place, name), NULL};
    cr_assert_eq(run_wait(run_start(&place, "keygen.log", argv)), 0);
    const char *start = strstr(file_get(&place, "keygen.log"), "SHA256:");
    char fingerprint[64];
    cr_assert(start);
    snprintf(fingerprint, sizeof fingerprint, "%.*s", (int)strcspn(start, " "), start);
    return logged(fingerprint);
}

static int bind_keys(void) {
    server_bind_unref(place.bind);
    return server_keys_bind(place.keys, place.options, &place.bind);
}

/* place_remove takes down a shard with the bind, and there is none here. */
static void unbind(void) {
    server_bind_unref(place.bind);
    place.bind = NULL;
}

Test(server_keys, of_each_type) {
    keygen(&place, "ed25519", "256", "a");
    keygen(&place, "ecdsa", "384", "b");
    keygen(&place, "rsa", "2048", "c");
    cr_assert_eq(keys_read("a b c", ""), 0);
    server_keys_log(place.keys);
    cr_assert(logged("ssh-ed25519 SHA256:") && logged("ecdsa-sha2-nistp384 SHA256:") && logged("ssh-rsa SHA256:"));
    cr_assert(logged_fingerprint("a") && logged_fingerprint("b") && logged_fingerprint("c"));
    cr_assert_eq(bind_keys(), 0);
    struct server_bind *other = server_bind_ref(place.bind);
    unbind();
    cr_assert_str_eq(other->version, "SSH-2.0-leatd_" LEAT_VERSION "\r\n");
    server_bind_unref(other);
}

Test(server_keys, the_first_of_a_type) {
    keygen(&place, "ed25519", "256", "a");
    keygen(&place, "ed25519", "256", "b");
    cr_assert_eq(keys_read("a b", ""), 0);
    cr_assert(logged("there is a host key of this type already; passed over"));
    server_keys_log(place.keys);
    cr_assert(logged_fingerprint("a") && !logged_fingerprint("b"));
}

Test(server_keys, small_rsa) {
    keygen(&place, "rsa", "2048", "small");
    keygen(&place, "ed25519", "256", "a");
    cr_assert_eq(keys_read("small a", "RequiredRSASize 3072\n"), 0);
    cr_assert(logged("smaller than RequiredRSASize; passed over"));
    cr_assert_eq(keys_read("small", "RequiredRSASize 3072\n"), ERR_CONFIG);
    cr_assert(logged("no host keys"));
    cr_assert_eq(keys_read("small", "RequiredRSASize 2048\n"), 0);
    cr_assert_eq(bind_keys(), 0);
    unbind();
}

/* A key of the format's shape, of a type that no one serves. */
Test(server_keys, types_that_are_not_served) {
    file_put(&place, "strange",
             "-----BEGIN OPENSSH PRIVATE KEY-----\n"
             "b3BlbnNzaC1rZXktdjEAAAAABG5vbmUAAAAEbm9uZQAAAAAAAAABAAAAEwAAAAhzc2gtYmxpcAAAAANhYmMA\n"
             "-----END OPENSSH PRIVATE KEY-----\n");
    file_put(&place, "dsa", "-----BEGIN DSA PRIVATE KEY-----\nAAAA\n-----END DSA PRIVATE KEY-----\n");
    cr_assert_eq(chmod(place_path(&place, "strange"), 0600) | chmod(place_path(&place, "dsa"), 0600), 0);
    keygen(&place, "ed25519", "256", "a");
    cr_assert_eq(keys_read("strange dsa a", ""), 0);
    cr_assert(logged("/strange: a key of this type is not served") && logged("/dsa: a key of this type is not served"));
}

static void refused(const char *name, const char *why) {
    char expected[256];
    cr_assert_eq(keys_read(name, ""), ERR_CONFIG);
    snprintf(expected, sizeof expected, "HostKey %s: %s", place_path(&place, name), why);
    cr_assert(logged(expected), "%s: %s", expected, file_get(&place, "log"));
}

Test(server_keys, files_that_are_none) {
    refused("missing", "No such file or directory");
    cr_assert_eq(mkdir(place_path(&place, "folder"), 0700), 0);
    refused("folder", "not a regular file");
    cr_assert_eq(rmdir(place_path(&place, "folder")), 0);
    cr_assert_eq(mkfifo(place_path(&place, "fifo"), 0600), 0);
    refused("fifo", "not a regular file");
    file_put(&place, "text", "not a key\n");
    cr_assert_eq(chmod(place_path(&place, "text"), 0600), 0);
    refused("text", "not a private key");
    file_put(&place, "text", "");
    refused("text", "not a private key");
    file_put(&place, "text", "-----BEGIN OPENSSH PRIVATE KEY-----\nb3Blbn\n");
    refused("text", "not a private key");
    char *big = malloc(70001);
    memset(big, 'A', 70000);
    big[70000] = '\0';
    file_put(&place, "text", big);
    free(big);
    refused("text", "too long for a private key");
}

Test(server_keys, permissions) {
    keygen(&place, "ed25519", "256", "a");
    static const mode_t open[] = {0640, 0604, 0660, 0610}, closed[] = {0600, 0400, 0700};
    for (unsigned i = 0; i < 4; i++) {
        cr_assert_eq(chmod(place_path(&place, "a"), open[i]), 0);
        refused("a", "permissions ");
    }
    for (unsigned i = 0; i < 3; i++) {
        cr_assert_eq(chmod(place_path(&place, "a"), closed[i]), 0);
        cr_assert_eq(keys_read("a", ""), 0);
    }
}

/* Asks nobody. */
Test(server_keys, passphrases) {
    char *argv[] = {"ssh-keygen", "-q", "-t", "ed25519", "-N", "secret", "-f", (char *)place_path(&place, "a"), NULL};
    cr_assert_eq(run_wait(run_start(&place, "keygen.log", argv)), 0);
    refused("a", "it has a passphrase");
}

/* Privileges are given up between the two reads of the same file. */
Test(server_keys, a_reload_keeps_what_it_cannot_read) {
    keygen(&place, "ed25519", "256", "a");
    keygen(&place, "ecdsa", "256", "b");
    cr_assert_eq(keys_read("a b", ""), 0);
    struct server_keys *before = server_keys_ref(place.keys), *after = NULL;
    cr_assert_eq(chmod(place_path(&place, "a"), 0000), 0);
    if (geteuid() == 0) {
        cr_assert_eq(chmod(place.dir, 0755) | chmod(place_path(&place, "b"), 0400), 0);
        cr_assert_eq(chown(place_path(&place, "b"), 65534, 65534), 0);
        cr_assert_eq(seteuid(65534), 0);
    }
    int without = server_keys_read(place.options, NULL, &after);
    int with = server_keys_read(place.options, before, &after);
    if (getuid() == 0)
        cr_assert_eq(seteuid(0) | prctl(PR_SET_DUMPABLE, 1), 0); /* for the leak sanitizer */
    cr_assert_eq(without, ERR_CONFIG);
    cr_assert_eq(with, 0);
    cr_assert(logged("Permission denied"));
    server_keys_unref(place.keys);
    place.keys = NULL;
    server_keys_unref(before);
    server_keys_log(after); /* it stands on its own */
    cr_assert_eq(server_keys_bind(after, place.options, &place.bind), 0);
    unbind();
    server_keys_unref(after);
    cr_assert(logged_fingerprint("a.pub") && logged_fingerprint("b.pub"));
}

Test(server_keys, what_libssh_is_told) {
    char addendum[400];
    keygen(&place, "ed25519", "256", "a");
    cr_assert_eq(keys_read("a", "VersionAddendum Debian-1 x\n"), 0);
    cr_assert_eq(bind_keys(), 0);
    cr_assert_str_eq(place.bind->version, "SSH-2.0-leatd_" LEAT_VERSION " Debian-1 x\r\n");
    cr_assert_eq(keys_read("a", "HostKeyAlgorithms rsa-sha2-512\n"), 0);
    cr_assert_eq(bind_keys(), ERR_KEX);
    cr_assert(logged("HostKeyAlgorithms has nothing for the host keys there are"));
    cr_assert_eq(keys_read("a", "KexAlgorithms curve25519-sha256\nHostKeyAlgorithms ssh-ed25519\n"), 0);
    cr_assert_eq(bind_keys(), 0);
    memset(addendum, 'x', sizeof addendum - 1);
    addendum[sizeof addendum - 1] = '\0';
    free(place.options->version_addendum);
    place.options->version_addendum = strdup(addendum); /* the configuration has a limit of its own */
    cr_assert_eq(bind_keys(), ERR_KEX);
    cr_assert(logged("VersionAddendum is too long"));
    unbind();
}
