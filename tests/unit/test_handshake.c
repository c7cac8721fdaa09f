/* The client's way to the server: host keys, and every way in which it does not get there. */
#include "auth_server.h"
#include "ssh/known_hosts.h"
#include <poll.h>

static struct place place;
static struct secrets *secrets;
static struct server server;

static void set_up(void) {
    place_make(&place);
    server = (struct server){.methods = SSH_AUTH_METHOD_PASSWORD, .password = "right", .connections_max = 8};
    cr_assert_eq(secrets_create(&secrets), 0);
    server_begin(&server, &place);
    file_put(place.answers, "right\n", 0600);
}

static void tear_down(void) {
    server_end(&server);
    secrets_wipe(secrets);
    place_remove(&place);
}

static int shake(void) {
    struct authenticated *made;
    int err = handshake_client(&place.options, secrets, &made);
    cr_assert_eq(made != NULL, err == 0);
    authenticated_destroy(made);
    return err;
}

/* Another process would know nothing. */
static void forget(void) {
    secrets_wipe(secrets);
    cr_assert_eq(secrets_create(&secrets), 0);
    file_put(place.answers, "right\n", 0600);
}

TestSuite(handshake, .init = set_up, .fini = tear_down, .timeout = 60);

/* Puts another key than the server's on record. */
static void record_other_key(const char *marker) {
    char *base64 = make_key(&place, "other", NULL), *line = NULL;
    cr_assert_geq(asprintf(&line, "# first line\n%s[127.0.0.1]:%u ssh-ed25519 %s\n", marker, server.port, base64), 0);
    file_put(place.known_hosts, line, 0600);
    free(line);
    ssh_string_free_char(base64);
}

Test(handshake, new_key_is_recorded_and_then_known) {
    cr_assert_eq(shake(), 0);
    cr_assert_eq(file_count(place.log, "permanently added"), 1);
    cr_assert_eq(file_count(place.known_hosts, "\n"), 1);
    forget();
    place.options.strict_host_key_checking = HOST_KEY_CHECK_YES;
    cr_assert_eq(shake(), 0);
    cr_assert_eq(file_count(place.known_hosts, "\n"), 1);
}

static int shake_unattended(void) {
    struct authenticated *made;
    int err = handshake_unattended(&place.options, secrets, &made);
    cr_assert_eq(made != NULL, err == 0);
    authenticated_destroy(made);
    return err;
}

/* Whatever StrictHostKeyChecking would do with a person there. The server wants a password, so that is how far it gets
 * with a key that is known. */
Test(handshake, unattended_takes_no_new_host_key) {
    cr_assert_eq(shake_unattended(), ERR_HOSTKEY);
    cr_assert_eq(file_count(place.log, "permanently added"), 0);
    cr_assert_eq(shake(), 0);
    cr_assert_eq(shake_unattended(), ERR_AUTH);
    forget();
    cr_assert_eq(shake_unattended(), ERR_AUTH, "it is in the file");
}

Test(handshake, unattended_knows_the_key_of_the_connection_before) {
    cr_assert_eq(shake(), 0);
    cr_assert_eq(unlink(place.known_hosts), 0);
    cr_assert_eq(shake_unattended(), ERR_AUTH);
    forget();
    cr_assert_eq(shake_unattended(), ERR_HOSTKEY);
}

Test(handshake, hashed_record_is_known_again) {
    place.options.hash_known_hosts = true;
    cr_assert_eq(shake(), 0);
    cr_assert_eq(strncmp(file_get(place.known_hosts), "|1|", 3), 0);
    cr_assert_eq(file_count(place.known_hosts, "127.0.0.1"), 0);
    forget();
    place.options.strict_host_key_checking = HOST_KEY_CHECK_YES;
    cr_assert_eq(shake(), 0);
}

Test(handshake, strict_refuses_a_new_key) {
    place.options.strict_host_key_checking = HOST_KEY_CHECK_YES;
    cr_assert_eq(shake(), ERR_HOSTKEY);
    cr_assert_eq(server.passwords, 0);
    cr_assert_eq(file_count(place.log, "SHA256:"), 1);
    cr_assert_str_eq(file_get(place.known_hosts), "");
}

Test(handshake, changed_key_is_refused_in_every_mode) {
    static const enum host_key_check modes[] = {HOST_KEY_CHECK_ASK, HOST_KEY_CHECK_YES, HOST_KEY_CHECK_NO,
                                                HOST_KEY_CHECK_ACCEPT_NEW};
    char where[128];
    record_other_key("");
    for (unsigned i = 0; i < 4; i++) {
        place.options.strict_host_key_checking = modes[i];
        cr_assert_eq(shake(), ERR_HOSTKEY, "mode %u", i);
    }
    cr_assert_eq(server.passwords, 0);
    cr_assert_str_eq(file_get(place.asked), "");
    cr_assert_eq(file_count(place.log, "HAS CHANGED"), 4);
    snprintf(where, sizeof where, "%s:2.", place.known_hosts);
    cr_assert_eq(file_count(place.log, where), 4, "file and line");
    cr_assert_eq(file_count(place.log, "ssh-keygen -f '"), 4);
}

Test(handshake, revoked_key_is_refused) {
    cr_assert_eq(shake(), 0);
    char line[512], text[1024];
    snprintf(line, sizeof line, "%.511s", file_get(place.known_hosts));
    snprintf(text, sizeof text, "%s@revoked * %s", line, strchr(line, ' ') + 1);
    file_put(place.known_hosts, text, 0600);
    forget();
    place.options.strict_host_key_checking = HOST_KEY_CHECK_NO;
    cr_assert_eq(shake(), ERR_HOSTKEY);
    cr_assert_eq(file_count(place.log, "REVOKED"), 1);
}

Test(handshake, person_says_yes) {
    place.options.strict_host_key_checking = HOST_KEY_CHECK_ASK;
    file_put(place.answers, "what?\nyes\nright\n", 0600);
    cr_assert_eq(shake(), 0);
    cr_assert_eq(file_count(place.asked, "SHA256:"), 1);
    cr_assert_eq(file_count(place.asked, "Please type"), 1);
    cr_assert_eq(file_count(place.known_hosts, "\n"), 1);
}

Test(handshake, person_says_no) {
    place.options.strict_host_key_checking = HOST_KEY_CHECK_ASK;
    file_put(place.answers, "no\nright\n", 0600);
    cr_assert_eq(shake(), ERR_HOSTKEY);
    cr_assert_eq(server.passwords, 0);
    cr_assert_str_eq(file_get(place.known_hosts), "");
}

Test(handshake, person_gives_the_fingerprint) {
    char text[256];
    ssh_key key = NULL;
    unsigned char *hash = NULL;
    size_t len = 0;
    cr_assert_eq(ssh_pki_import_privkey_file(place.host_key, NULL, NULL, NULL, &key), SSH_OK);
    cr_assert_eq(ssh_get_publickey_hash(key, SSH_PUBLICKEY_HASH_SHA256, &hash, &len), SSH_OK);
    char *fingerprint = ssh_get_fingerprint_hash(SSH_PUBLICKEY_HASH_SHA256, hash, len);
    snprintf(text, sizeof text, "%sx\n %s\nright\n", fingerprint, fingerprint);
    ssh_string_free_char(fingerprint);
    ssh_clean_pubkey_hash(&hash);
    ssh_key_free(key);
    place.options.strict_host_key_checking = HOST_KEY_CHECK_ASK;
    file_put(place.answers, text, 0600);
    cr_assert_eq(shake(), 0);
    cr_assert_eq(file_count(place.asked, "Please type"), 1, "a wrong fingerprint is no answer");
}

Test(handshake, batch_mode_does_not_ask_about_a_new_key) {
    place.options.strict_host_key_checking = HOST_KEY_CHECK_ASK;
    place.options.batch_mode = true;
    cr_assert_eq(shake(), ERR_HOSTKEY);
    cr_assert_str_eq(file_get(place.asked), "");
}

Test(handshake, accepted_key_is_remembered_when_it_cannot_be_recorded) {
    place.files[0] = (char[]){"/nonexistent/dir/known_hosts"};
    place.options.strict_host_key_checking = HOST_KEY_CHECK_ASK;
    file_put(place.answers, "yes\nright\n", 0600);
    cr_assert_eq(shake(), 0);
    cr_assert_eq(file_count(place.log, "failed to add the host key"), 1);
    cr_assert_eq(shake(), 0);
    cr_assert_eq(file_count(place.asked, "SHA256:"), 1);
}

Test(handshake, key_of_another_type_is_not_accepted_as_new) {
    char line[256];
    snprintf(line, sizeof line, "[127.0.0.1]:%u ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAAAAwEAAQ==\n", server.port);
    file_put(place.known_hosts, line, 0600);
    cr_assert_eq(shake(), ERR_HOSTKEY);
    cr_assert_eq(file_count(place.log, "UNEXPECTED TYPE"), 1);
    place.options.strict_host_key_checking = HOST_KEY_CHECK_ASK;
    file_put(place.answers, "yes\nright\n", 0600);
    cr_assert_eq(shake(), 0);
    cr_assert_eq(file_count(place.asked, "other types"), 1);
}

Test(handshake, every_cipher) {
    static char ciphers[][40] = {"aes128-gcm@openssh.com", "aes256-gcm@openssh.com", "chacha20-poly1305@openssh.com"};
    for (unsigned i = 0; i < 3; i++) {
        struct authenticated *made;
        place.options.ciphers = ciphers[i];
        cr_assert_eq(handshake_client(&place.options, secrets, &made), 0);
        cr_assert_str_eq(made->cipher, ciphers[i]);
        cr_assert(made->transport.wire.strict);
        authenticated_destroy(made);
    }
}

static int count_packet(void *arg, const struct packet *packet) {
    *(unsigned *)arg += packet->type == 80; /* GLOBAL_REQUEST */
    return 0;
}

Test(handshake, packets_behind_the_success_are_not_lost) {
    struct authenticated *made;
    unsigned count = 0;
    server.speaks_at_once = true;
    cr_assert_eq(handshake_client(&place.options, secrets, &made), 0);
    made->transport.on_packet = count_packet;
    made->transport.arg = &count;
    static uint8_t bytes[65536];
    size_t len = made->early_len, used, need;
    cr_assert_leq(len, sizeof bytes);
    if (len)
        memcpy(bytes, made->early, len);
    while (count == 0) {
        cr_assert_eq(transport_input(&made->transport, bytes, len, &used, &need), 0);
        memmove(bytes, bytes + used, len - used);
        len -= used;
        if (count)
            break;
        struct pollfd ready = {.fd = made->fd, .events = POLLIN};
        cr_assert_eq(poll(&ready, 1, 20000), 1);
        ssize_t n = recv(made->fd, bytes + len, sizeof bytes - len, 0);
        cr_assert_gt(n, 0);
        len += (size_t)n;
    }
    cr_assert_eq(count, 1);
    authenticated_destroy(made);
}

Test(handshake, no_common_cipher_says_so) {
    place.options.kex_algorithms = (char[]){"diffie-hellman-group1-sha1"};
    cr_assert_eq(shake(), ERR_KEX);
    cr_assert_eq(file_count(place.log, "no matching key exchange method found. Their offer: "), 1);
    place.options.kex_algorithms = (char[]){"nonsense"};
    cr_assert_eq(shake(), ERR_CONFIG);
    cr_assert_eq(file_count(place.log, "KexAlgorithms: "), 1);
}

Test(handshake, nobody_listens) {
    uint16_t port;
    close(listen_anywhere(&port));
    place.options.port = port;
    cr_assert_eq(shake(), ERR_REFUSED);
    cr_assert_eq(file_count(place.log, "leat: connect to host 127.0.0.1 port "), 1);
}

/* A peer that sends `text` and then closes, or with NULL says nothing for as long as the test lasts. */
static void *rude_peer(void *arg) {
    const char *const *text = arg;
    int listener = (int)(intptr_t)text[1];
    int fd = accept(listener, NULL, NULL);
    char byte;
    if (text[0])
        (void)!write(fd, text[0], strlen(text[0]));
    if (text[0])
        shutdown(fd, SHUT_WR);
    while (read(fd, &byte, 1) > 0)
        continue;
    close(fd);
    return NULL;
}

static int shake_with_rude_peer(const char *text) {
    uint16_t port;
    pthread_t thread;
    int listener = listen_anywhere(&port);
    const char *arg[] = {text, (const char *)(intptr_t)listener};
    place.options.port = port;
    cr_assert_eq(pthread_create(&thread, NULL, rude_peer, arg), 0);
    int err = shake();
    pthread_join(thread, NULL);
    close(listener);
    return err;
}

Test(handshake, peer_that_closes) {
    cr_assert_eq(shake_with_rude_peer(""), ERR_CLOSED);
    cr_assert_eq(file_count(place.log, "leat: Connection closed by 127.0.0.1 port "), 1);
}

Test(handshake, peer_that_is_no_ssh_server) {
    cr_assert_eq(shake_with_rude_peer("HTTP/1.1 400 Bad Request\r\n\r\n"), ERR_CLOSED);
}

Test(handshake, peer_that_breaks_the_protocol) {
    cr_assert_eq(shake_with_rude_peer("SSH-2.0-rude\r\n\xff\xff\xff\xff nonsense"), ERR_LENGTH);
}

Test(handshake, silent_peer_runs_into_connect_timeout) {
    place.options.connect_timeout_s = 1;
    cr_assert_eq(shake_with_rude_peer(NULL), ERR_TIMEOUT);
    cr_assert_eq(file_count(place.log, "timed out"), 1);
}

Test(handshake, proxy_command_that_ends) {
    place.options.proxy_command = (char[]){"false"};
    cr_assert_eq(shake(), ERR_CLOSED);
    cr_assert_eq(file_count(place.log, "the ProxyCommand ended the connection"), 1);
}

Test(handshake, proxy_command_is_told_to_end) {
    char command[512], done[96];
    place_path(&place, done, "done");
    snprintf(command, sizeof command, "sleep 60 & trap \"kill $!; echo hup > '%s'; exit\" HUP; wait", done);
    place.options.proxy_command = command;
    place.options.connect_timeout_s = 1;
    cr_assert_eq(shake(), ERR_TIMEOUT);
    while (access(done, F_OK) != 0) /* the suite's timeout is the limit */
        sched_yield();
}
