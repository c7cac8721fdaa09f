/* The server's handshake with OpenSSH's client: every kind of key, cipher and refusal. */
#include "server_handshake_rig.h"
#include <sys/auxv.h>

static void authorize(const struct place *place, const char *const *names) {
    char text[16384] = "";
    for (; *names; names++) {
        char name[64];
        snprintf(name, sizeof name, "%s.pub", *names);
        strcat(text, file_get(place, name));
    }
    file_put(place, "authorized_keys", text);
}

#define AUTHORIZE(place, ...) authorize(place, (const char *const[]){__VA_ARGS__, NULL})

static char *host_keys(const struct place *place, const char *const *names, const char *more) {
    static char text[2048];
    size_t len = 0;
    for (; *names; names++)
        len += (size_t)snprintf(text + len, sizeof text - len, "HostKey %s\n", place_path(place, *names));
    snprintf(text + len, sizeof text - len, "%s", more);
    return text;
}
#define HOST_KEYS(place, more, ...) host_keys(place, (const char *const[]){__VA_ARGS__, NULL}, more)

/* A server with one ed25519 host key and one ed25519 user who is let in. */
static void make_usual(struct place *place, enum io_backend backend, const char *statements) {
    place_make(place);
    keygen(place, "ed25519", "256", "host");
    keygen(place, "ed25519", "256", "user");
    AUTHORIZE(place, "user");
    place_serve(place, backend, HOST_KEYS(place, statements, "host"));
}

static bool ssh_said(const struct place *place, const char *text) {
    return strstr(file_get(place, "ssh.log"), text) != NULL;
}
#define ASSERT_IN(guest) cr_assert_eq((guest)->err, 0, "%s", (guest)->reason)

RIG_TEST(server_handshake, user_keys) {
    static const struct {
        const char *type, *bits, *name, *as;
    } kinds[] = {{"ed25519", "256", "u1", "ED25519"},
                 {"ecdsa", "256", "u2", "ECDSA"},
                 {"ecdsa", "384", "u3", "ECDSA"},
                 {"ecdsa", "521", "u4", "ECDSA"},
                 {"rsa", "2048", "u5", "RSA"}};
    struct place place;
    struct guest guest;
    place_make(&place);
    keygen(&place, "ed25519", "256", "host");
    for (unsigned i = 0; i < 5; i++)
        keygen(&place, kinds[i].type, kinds[i].bits, kinds[i].name);
    AUTHORIZE(&place, "u1", "u2", "u3", "u4", "u5");
    place_serve(&place, backend, HOST_KEYS(&place, "", "host"));
    for (unsigned i = 0; i < 5; i++) {
        ssh_visit(&place, &guest, ssh_start(&place, kinds[i].name, NULL));
        ASSERT_IN(&guest);
        const struct server_handshake *h = &guest.handshake;
        cr_assert_str_eq(h->user, "somebody");
        cr_assert(h->login.allowed && h->transport.wire.authenticated && h->transport.wire.strict);
        cr_assert_eq(transport_peer(&h->transport), PEER_OPENSSH);
        cr_assert(strncmp(h->key_fingerprint, "SHA256:", 7) == 0 && ssh_said(&place, h->key_fingerprint));
        cr_assert(strstr(h->details, " ssh-ed25519, SSH-2.0-OpenSSH_"), "%s", h->details);
        cr_assert(ssh_said(&place, "Server accepts key: ") && ssh_said(&place, kinds[i].as));
        cr_assert(ssh_said(&place, "Authenticated to 127.0.0.1"));
        cr_assert(ssh_said(&place, "server-sig-algs=<ssh-ed25519,"));
        cr_assert(!ssh_said(&place, "-cert-v01"));
        guest_end(&guest);
    }
    place_remove(&place);
}

RIG_TEST(server_handshake, host_keys_of_every_type) {
    static const struct {
        const char *algorithm, *type;
    } kinds[] = {{"ssh-ed25519", "ssh-ed25519"},
                 {"ecdsa-sha2-nistp256", "ecdsa-sha2-nistp256"},
                 {"rsa-sha2-512", "ssh-rsa"},
                 {"rsa-sha2-256", "ssh-rsa"}};
    struct place place;
    struct guest guest;
    place_make(&place);
    keygen(&place, "ed25519", "256", "host");
    keygen(&place, "ecdsa", "256", "host2");
    keygen(&place, "rsa", "2048", "host3");
    keygen(&place, "ed25519", "256", "user");
    AUTHORIZE(&place, "user");
    place_serve(&place, backend, HOST_KEYS(&place, "", "host", "host2", "host3"));
    for (unsigned i = 0; i < 4; i++) {
        char option[128], line[128];
        snprintf(option, sizeof option, "HostKeyAlgorithms=%s", kinds[i].algorithm);
        ssh_visit(&place, &guest, ssh_start(&place, "user", "-o", option, NULL));
        ASSERT_IN(&guest);
        snprintf(line, sizeof line, "kex: host key algorithm: %s\n", kinds[i].algorithm);
        for (char *c = line; *c; c++)
            if (*c == '\n')
                *c = 0;
        cr_assert(ssh_said(&place, line));
        cr_assert(strstr(guest.handshake.details, kinds[i].type), "%s", guest.handshake.details);
        guest_end(&guest);
    }
    /* SHA-1 is not there, whoever asks. */
    ssh_visit(&place, &guest, ssh_start(&place, "user", "-o", "HostKeyAlgorithms=ssh-rsa", NULL));
    cr_assert_eq(guest.err, ERR_KEX);
    cr_assert_str_eq(guest.reason, "Unable to negotiate: no matching host key type found. Their offer: ssh-rsa");
    cr_assert(ssh_said(&place, "no matching host key type found"));
    guest_end(&guest);
    place_remove(&place);
}

static bool has_aes(void) {
#if defined(__x86_64__) || defined(__i386__)
    return __builtin_cpu_supports("aes");
#else
    return getauxval(AT_HWCAP) & 8;
#endif
}

RIG_TEST(server_handshake, ciphers) {
    const char *fast = has_aes() ? "aes128-gcm@openssh.com " : "chacha20-poly1305@openssh.com ";
    const struct {
        const char *offer, *chosen;
    } cases[] = {{NULL, fast},
                 {"Ciphers=aes256-gcm@openssh.com", "aes256-gcm@openssh.com "},
                 {"Ciphers=chacha20-poly1305@openssh.com", "chacha20-poly1305@openssh.com "},
                 {"Ciphers=chacha20-poly1305@openssh.com,aes128-gcm@openssh.com", fast},
                 {"Ciphers=aes128-ctr,chacha20-poly1305@openssh.com", "chacha20-poly1305@openssh.com "},
                 {"Ciphers=aes128-ctr", NULL}};
    struct place place;
    struct guest guest;
    make_usual(&place, backend, "");
    for (unsigned i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        ssh_visit(&place, &guest,
                  cases[i].offer ? ssh_start(&place, "user", "-o", cases[i].offer, NULL)
                                 : ssh_start(&place, "user", NULL));
        cr_assert_eq(guest.err == 0, cases[i].chosen != NULL, "%s: %s", cases[i].offer, guest.reason);
        if (cases[i].chosen)
            cr_assert(strncmp(guest.handshake.details, cases[i].chosen, strlen(cases[i].chosen)) == 0, "%s: %s",
                      cases[i].offer, guest.handshake.details);
        else
            cr_assert_str_eq(guest.reason, "Unable to negotiate: no matching cipher found. Their offer: aes128-ctr");
        guest_end(&guest);
    }
    place_remove(&place);
}

/* What is configured is offered, and the client's order decides. */
RIG_TEST(server_handshake, configured_algorithms) {
    struct place place;
    struct guest guest;
    make_usual(
        &place, backend,
        "Ciphers chacha20-poly1305@openssh.com,aes128-gcm@openssh.com\nKexAlgorithms diffie-hellman-group14-sha256\n"
        "VersionAddendum of the test\n");
    ssh_visit(&place, &guest,
              ssh_start(&place, "user", "-o", "Ciphers=chacha20-poly1305@openssh.com,aes128-gcm@openssh.com", NULL));
    ASSERT_IN(&guest);
    cr_assert(strstr(guest.handshake.details, "chacha20-poly1305@openssh.com diffie-hellman-group14-sha256 "), "%s",
              guest.handshake.details);
    cr_assert(ssh_said(&place, "remote software version leatd_" LEAT_VERSION " of the test"));
    guest_end(&guest);
    place_remove(&place);
}

RIG_TEST(server_handshake, wrong_key) {
    struct place place;
    struct guest guest;
    make_usual(&place, backend, "");
    keygen(&place, "ed25519", "256", "stranger");
    ssh_visit(&place, &guest, ssh_start(&place, "stranger", NULL));
    cr_assert_eq(guest.err, ERR_CLOSED);
    cr_assert(ssh_said(&place, "Permission denied (publickey)."));
    cr_assert(!guest.handshake.transport.wire.authenticated && !guest.handshake.key_fingerprint);
    cr_assert(strstr(file_get(&place, "log"), "authentication failed"));
    guest_end(&guest);
    place_remove(&place);
}

RIG_TEST(server_handshake, too_many_tries) {
    struct place place;
    struct guest guest;
    make_usual(&place, backend, "MaxAuthTries 2\n");
    for (unsigned i = 0; i < 3; i++) {
        char name[8];
        snprintf(name, sizeof name, "s%u", i);
        keygen(&place, "ed25519", "256", name);
    }
    /* The second is one too many, and the right one behind it is not asked about any more. */
    ssh_visit(&place, &guest,
              ssh_start(&place, "s0", "-i", place_path(&place, "s1"), "-i", place_path(&place, "user"), NULL));
    cr_assert_eq(guest.err, ERR_AUTH);
    cr_assert_str_eq(guest.reason, "Too many authentication failures");
    cr_assert(ssh_said(&place, "Too many authentication failures"));
    guest_end(&guest);
    /* A first wrong one is forgiven, and neither "none" nor the question about the right one counts. */
    ssh_visit(&place, &guest, ssh_start(&place, "s0", "-i", place_path(&place, "user"), NULL));
    ASSERT_IN(&guest);
    guest_end(&guest);
    place_remove(&place);
}

RIG_TEST(server_handshake, banner) {
    struct place place;
    struct guest guest;
    char statements[256];
    place_make(&place);
    keygen(&place, "ed25519", "256", "host");
    keygen(&place, "ed25519", "256", "user");
    AUTHORIZE(&place, "user");
    file_put(&place, "banner", "Nobody may be here.\n");
    snprintf(statements, sizeof statements, "Match User somebody\nBanner %s\n", place_path(&place, "banner"));
    place_serve(&place, backend, HOST_KEYS(&place, statements, "host"));
    ssh_visit(&place, &guest, ssh_start(&place, "user", NULL));
    ASSERT_IN(&guest);
    cr_assert(ssh_said(&place, "Nobody may be here.\n"));
    guest_end(&guest);
    place.user = "other";
    ssh_visit(&place, &guest, ssh_start(&place, "user", NULL));
    ASSERT_IN(&guest);
    cr_assert(!ssh_said(&place, "Nobody may be here."));
    guest_end(&guest);
    place.user = "somebody";
    /* One that is too long is not shown, and nothing else comes of it. */
    char *text = malloc(20001);
    memset(text, 'x', 20000);
    text[20000] = '\0';
    file_put(&place, "banner", text);
    free(text);
    ssh_visit(&place, &guest, ssh_start(&place, "user", NULL));
    ASSERT_IN(&guest);
    cr_assert(!ssh_said(&place, "xxxxxxxx") && strstr(file_get(&place, "log"), "too long; not shown"));
    guest_end(&guest);
    place_remove(&place);
}

/* What a Match says about the user counts, though libssh was set up before anyone knew them. */
RIG_TEST(server_handshake, options_of_the_user) {
    struct place place;
    struct guest guest;
    place_make(&place);
    keygen(&place, "ed25519", "256", "host");
    keygen(&place, "rsa", "2048", "user");
    AUTHORIZE(&place, "user");
    place_serve(
        &place, backend,
        HOST_KEYS(&place,
                  "PubkeyAcceptedAlgorithms ssh-ed25519,rsa-sha2-256\nRequiredRSASize 3072\nMatch User somebody\n"
                  "PubkeyAcceptedAlgorithms rsa-sha2-512,rsa-sha2-256\nRequiredRSASize 2048\nMatch User nokey\n"
                  "PubkeyAuthentication no\nMatch User out\nRefuseConnection yes\n",
                  "host"));
    ssh_visit(&place, &guest, ssh_start(&place, "user", NULL));
    ASSERT_IN(&guest);
    guest_end(&guest);
    place.user = "other";
    ssh_visit(&place, &guest, ssh_start(&place, "user", NULL));
    cr_assert_neq(guest.err, 0, "the RSA key is too small for others");
    guest_end(&guest);
    place_remove(&place);
}

static void refused(enum io_backend backend, const char *statements, const char *reason) {
    struct place place;
    struct guest guest;
    make_usual(&place, backend, statements);
    ssh_visit(&place, &guest, ssh_start(&place, "user", NULL));
    cr_assert_eq(guest.err, ERR_AUTH, "%s", guest.reason);
    cr_assert_str_eq(guest.reason, reason);
    guest_end(&guest);
    place_remove(&place);
}

RIG_TEST(server_handshake, refused_as_a_whole) {
    refused(backend, "Match User somebody\nPubkeyAuthentication no\n", "no authentication methods enabled");
    refused(backend, "Match User somebody\nRefuseConnection yes\n", "refused by RefuseConnection");
}

RIG_TEST(server_handshake, a_denied_user_hears_the_same_as_a_stranger) {
    struct place place;
    struct guest guest;
    make_usual(&place, backend, "DenyUsers somebody\n");
    ssh_visit(&place, &guest, ssh_start(&place, "user", NULL));
    cr_assert_eq(guest.err, ERR_CLOSED, "%s", guest.reason);
    cr_assert(ssh_said(&place, "Permission denied (publickey).") && !ssh_said(&place, "Server accepts key"));
    guest_end(&guest);
    place_remove(&place);
}

/* SHA-1 only where it is asked for, at both ends. */
RIG_TEST(server_handshake, sha1_signatures) {
    for (int allowed = 0; allowed < 2; allowed++) {
        struct place place;
        struct guest guest;
        place_make(&place);
        keygen(&place, "ed25519", "256", "host");
        keygen(&place, "rsa", "2048", "user");
        AUTHORIZE(&place, "user");
        place_serve(&place, backend, HOST_KEYS(&place, allowed ? "PubkeyAcceptedAlgorithms +ssh-rsa\n" : "", "host"));
        ssh_visit(&place, &guest, ssh_start(&place, "user", "-o", "PubkeyAcceptedAlgorithms=ssh-rsa", NULL));
        cr_assert_eq(guest.err == 0, allowed == 1, "%s", guest.reason);
        guest_end(&guest);
        place_remove(&place);
    }
}

/* A certificate is not taken for its key, and the key behind it still is. */
RIG_TEST(server_handshake, certificates) {
    struct place place;
    struct guest guest;
    make_usual(&place, backend, "");
    keygen(&place, "ed25519", "256", "ca");
    char *argv[] = {"ssh-keygen", "-q", "-s",       (char *)place_path(&place, "ca"),       "-I",
                    "x",          "-n", "somebody", (char *)place_path(&place, "user.pub"), NULL};
    cr_assert_eq(run_wait(run_start(&place, "keygen.log", argv)), 0);
    ssh_visit(&place, &guest, ssh_start(&place, "user", NULL));
    ASSERT_IN(&guest);
    cr_assert(ssh_said(&place, "ED25519-CERT") && strstr(guest.handshake.details, "OpenSSH"));
    guest_end(&guest);
    place_remove(&place);
}

/* Post-quantum where libssh has it; DH and ECDH always; the group exchange only when it is asked for, without a file.
 */
RIG_TEST(server_handshake, key_exchanges) {
    static const char *const kinds[] = {"curve25519-sha256", "ecdh-sha2-nistp256", "ecdh-sha2-nistp521",
                                        "diffie-hellman-group14-sha256", "diffie-hellman-group16-sha512"};
    struct place place;
    struct guest guest;
    make_usual(&place, backend, "");
    for (unsigned i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        char option[128];
        snprintf(option, sizeof option, "KexAlgorithms=%s", kinds[i]);
        ssh_visit(&place, &guest, ssh_start(&place, "user", "-o", option, NULL));
        ASSERT_IN(&guest);
        cr_assert(strstr(guest.handshake.details, kinds[i]), "%s", guest.handshake.details);
        guest_end(&guest);
    }
    ssh_visit(&place, &guest,
              ssh_start(&place, "user", "-o", "KexAlgorithms=diffie-hellman-group-exchange-sha256", NULL));
    cr_assert_eq(guest.err, ERR_KEX);
    guest_end(&guest);
    place_remove(&place);
    make_usual(&place, backend, "KexAlgorithms diffie-hellman-group-exchange-sha256\n");
    ssh_visit(&place, &guest, ssh_start(&place, "user", NULL));
    ASSERT_IN(&guest);
    cr_assert(strstr(guest.handshake.details, "diffie-hellman-group-exchange"), "%s", guest.handshake.details);
    guest_end(&guest);
    place_remove(&place);
}
