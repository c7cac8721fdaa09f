#pragma once
/* A server of libssh on a thread, and a person made of a script, for the tests of the client's handshake. The server
 * serves `connections_max` connections, one after the other. The script (SSH_ASKPASS) notes each question in the file
 * `asked` and gives the next line of the file `answers`; "-" dismisses the question. */
#include "engine/log.h"
#include "ssh/handshake.h"
#include "ssh/provider.h"
#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <dirent.h>
#include <fcntl.h>
#include <libssh/libssh.h>
#include <libssh/server.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

struct server {
    int listener;
    uint16_t port;
    pthread_t thread;
    unsigned connections_max;
    /* what it wants */
    int methods;            /* SSH_AUTH_METHOD_… */
    const char *password;   /* of password, and of keyboard-interactive's first question */
    const char *code;       /* keyboard-interactive's second question; NULL: it has only one */
    bool key_then_password; /* both, one after the other */
    bool questions_without_answer;
    const char *key_base64; /* accepted */
    const char *banner;
    unsigned failures_max; /* then DISCONNECT; 0: never */
    bool speaks_at_once;   /* sends a global request right behind the success */
    /* what came */
    unsigned offers, passwords, talks, connections;
    bool failed;
};

struct place {
    char dir[64];
    char known_hosts[96], asked[96], answers[96], script[96], host_key[96], log[96];
    char *files[1], *identities[4];
    int log_fd;
    struct options options;
};

static void place_path(const struct place *place, char out[96], const char *name) {
    snprintf(out, 96, "%s/%s", place->dir, name);
}

static void file_put(const char *path, const char *text, mode_t mode) {
    FILE *file = fopen(path, "w");
    cr_assert(file);
    cr_assert_geq(fputs(text, file), 0);
    cr_assert_eq(fclose(file), 0);
    cr_assert_eq(chmod(path, mode), 0);
}

/* The whole text; "" when there is no file. Static storage. */
static const char *file_get(const char *path) {
    static char text[16384];
    FILE *file = fopen(path, "r");
    size_t len = file ? fread(text, 1, sizeof text - 1, file) : 0;
    if (file)
        fclose(file);
    text[len] = '\0';
    return text;
}

static unsigned file_count(const char *path, const char *needle) {
    unsigned count = 0;
    for (const char *p = file_get(path); (p = strstr(p, needle)) != NULL; p += strlen(needle))
        count++;
    return count;
}

/* A key pair `name`, and its public part in base64 (the caller's: ssh_string_free_char). */
static char *make_key(const struct place *place, const char *name, const char *passphrase) {
    char path[96];
    ssh_key key = NULL;
    char *base64 = NULL;
    place_path(place, path, name);
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdeprecated-declarations" /* 0.12 has another, which the older ones lack */
    cr_assert_eq(ssh_pki_generate(SSH_KEYTYPE_ED25519, 0, &key), SSH_OK);
#pragma GCC diagnostic pop
    cr_assert_eq(ssh_pki_export_privkey_file(key, passphrase, NULL, NULL, path), SSH_OK);
    cr_assert_eq(ssh_pki_export_pubkey_base64(key, &base64), SSH_OK);
    cr_assert_eq(chmod(path, 0600), 0);
    ssh_key_free(key);
    return base64;
}

static void place_make(struct place *place) {
    static char host[] = "127.0.0.1", user[] = "someone";
    *place = (struct place){.dir = "/tmp/leat-auth-XXXXXX"};
    cr_assert(mkdtemp(place->dir));
    place_path(place, place->known_hosts, "known_hosts");
    place_path(place, place->asked, "asked");
    place_path(place, place->answers, "answers");
    place_path(place, place->script, "askpass");
    place_path(place, place->host_key, "host_key");
    place_path(place, place->log, "log");
    char script[512];
    snprintf(script, sizeof script,
             "#!/bin/sh\nprintf '%%s|' \"$1\" >> %s/asked\nIFS= read -r line < %s/answers || exit 1\n"
             "sed -i 1d %s/answers\n[ \"$line\" = - ] && exit 1\nprintf '%%s\\n' \"$line\"\n",
             place->dir, place->dir, place->dir);
    file_put(place->script, script, 0700);
    file_put(place->answers, "", 0600);
    setenv("SSH_ASKPASS", place->script, 1);
    setenv("SSH_ASKPASS_REQUIRE", "force", 1);
    unsetenv("SSH_AUTH_SOCK");
    place->log_fd = open(place->log, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    cr_assert_geq(place->log_fd, 0);
    log_init("leat", LOG_LEVEL_INFO, place->log_fd);
    cr_assert_eq(provider_init(), 0);
    ssh_string_free_char(make_key(place, "host_key", NULL));
    place->files[0] = place->known_hosts;
    place->options = (struct options){
        .hostname = host,
        .user = user,
        .family = AF_INET,
        .connect_timeout_s = 20,
        .tcp_keepalive = true,
        .pubkey_authentication = true,
        .password_authentication = true,
        .kbd_interactive_authentication = true,
        .number_of_password_prompts = 3,
        .strict_host_key_checking = HOST_KEY_CHECK_ACCEPT_NEW,
        .user_known_hosts_files = {.items = place->files, .count = 1},
        .identity_files = {.items = place->identities},
    };
}

static void place_remove(struct place *place) {
    DIR *dir = opendir(place->dir);
    cr_assert(dir);
    for (struct dirent *entry; (entry = readdir(dir)) != NULL;)
        unlinkat(dirfd(dir), entry->d_name, 0);
    closedir(dir);
    rmdir(place->dir);
    for (unsigned i = 0; i < 4; i++)
        free(place->identities[i]);
    log_set_fd(STDERR_FILENO);
    close(place->log_fd);
    provider_deinit();
}

/* ---- the server ---- */

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"

enum server_word { SERVER_NO, SERVER_YES, SERVER_PARTLY, SERVER_ANSWERED };

static enum server_word server_talk(struct server *server, ssh_session ssh, ssh_message message) {
    static const char *prompts[] = {"Password: ", "Code\001: "};
    char echo[] = {0, 1};
    unsigned count = server->code ? 2 : 1;
    if (server->questions_without_answer)
        return SERVER_NO;
    if (!ssh_message_auth_kbdint_is_response(message)) {
        server->talks++;
        ssh_message_auth_interactive_request(message, "", "Say who you are", count, prompts, echo);
        return SERVER_ANSWERED;
    }
    bool right = ssh_userauth_kbdint_getnanswers(ssh) == (int)count &&
                 strcmp(ssh_userauth_kbdint_getanswer(ssh, 0), server->password) == 0 &&
                 (!server->code || strcmp(ssh_userauth_kbdint_getanswer(ssh, 1), server->code) == 0);
    return right ? SERVER_YES : SERVER_NO;
}

static enum server_word server_key(struct server *server, ssh_message message) {
    char *base64 = NULL;
    ssh_pki_export_pubkey_base64(ssh_message_auth_pubkey(message), &base64);
    bool right = base64 && server->key_base64 && strcmp(base64, server->key_base64) == 0;
    ssh_string_free_char(base64);
    server->offers++;
    if (!right)
        return SERVER_NO;
    if (ssh_message_auth_publickey_state(message) == SSH_PUBLICKEY_STATE_NONE) {
        ssh_message_auth_reply_pk_ok_simple(message);
        return SERVER_ANSWERED;
    }
    return ssh_message_auth_publickey_state(message) == SSH_PUBLICKEY_STATE_VALID ? SERVER_YES : SERVER_NO;
}

static enum server_word server_judge(struct server *server, ssh_session ssh, ssh_message message) {
    int method = ssh_message_subtype(message);
    if (ssh_message_type(message) != SSH_REQUEST_AUTH || !(method & server->methods))
        return SERVER_NO;
    if (method == SSH_AUTH_METHOD_INTERACTIVE)
        return server_talk(server, ssh, message);
    if (method == SSH_AUTH_METHOD_PUBLICKEY) {
        enum server_word word = server_key(server, message);
        return word == SERVER_YES && server->key_then_password ? SERVER_PARTLY : word;
    }
    server->passwords++;
    return strcmp(ssh_message_auth_password(message), server->password) == 0 ? SERVER_YES : SERVER_NO;
}
#pragma GCC diagnostic pop

/* True: authenticated. */
static bool server_authenticate(struct server *server, ssh_session ssh) {
    unsigned failures = 0;
    int methods = server->key_then_password ? (int)SSH_AUTH_METHOD_PUBLICKEY : server->methods;
    for (ssh_message message; (message = ssh_message_get(ssh)) != NULL; ssh_message_free(message)) {
        if (ssh_message_type(message) == SSH_REQUEST_SERVICE) {
            ssh_message_service_reply_success(message);
            continue;
        }
        enum server_word word = server_judge(server, ssh, message);
        if (word == SERVER_PARTLY)
            methods = SSH_AUTH_METHOD_PASSWORD;
        ssh_message_auth_set_methods(message, methods);
        if (word == SERVER_NO && server->failures_max && ++failures > server->failures_max) {
            ssh_session_set_disconnect_message(ssh, "That was once too often");
            ssh_message_free(message);
            return false;
        }
        if (word == SERVER_NO)
            ssh_message_reply_default(message);
        if (word == SERVER_YES || word == SERVER_PARTLY)
            ssh_message_auth_reply_success(message, word == SERVER_PARTLY);
        if (word == SERVER_YES) {
            ssh_message_free(message);
            return true;
        }
    }
    return false;
}

static void server_serve(struct server *server, ssh_bind bind_, int fd) {
    ssh_session ssh = ssh_new();
    bool no = false;
    ssh_options_set(ssh, SSH_OPTIONS_PROCESS_CONFIG, &no);
    if (ssh_bind_accept_fd(bind_, ssh, fd) == SSH_OK && ssh_handle_key_exchange(ssh) == SSH_OK) {
        if (server->methods)
            ssh_set_auth_methods(ssh, server->methods);
        if (server_authenticate(server, ssh)) {
            if (server->speaks_at_once)
                ssh_send_keepalive(ssh);
            while (ssh_message_get(ssh) != NULL) /* until the client is gone */
                continue;
        }
    }
    ssh_disconnect(ssh);
    ssh_free(ssh);
}

struct server_start {
    struct server *server;
    const char *host_key;
};

static void *server_run(void *arg) {
    struct server_start *start = arg;
    struct server *server = start->server;
    bool no = false;
    ssh_bind bind_ = ssh_bind_new();
    ssh_bind_options_set(bind_, SSH_BIND_OPTIONS_PROCESS_CONFIG, &no);
    ssh_bind_options_set(bind_, SSH_BIND_OPTIONS_HOSTKEY, start->host_key);
    free(start);
    while (server->connections < server->connections_max) {
        int fd = accept4(server->listener, NULL, NULL, SOCK_CLOEXEC);
        if (fd < 0)
            break;
        server->connections++;
        server_serve(server, bind_, fd);
    }
    ssh_bind_free(bind_);
    return NULL;
}

static int listen_anywhere(uint16_t *port) {
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof at;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    cr_assert_geq(fd, 0);
    cr_assert_eq(bind(fd, (struct sockaddr *)&at, sizeof at), 0);
    cr_assert_eq(listen(fd, 8), 0);
    cr_assert_eq(getsockname(fd, (struct sockaddr *)&at, &len), 0);
    *port = ntohs(at.sin_port);
    return fd;
}

static void server_begin(struct server *server, struct place *place) {
    struct server_start *start = malloc(sizeof *start);
    cr_assert(start);
    *start = (struct server_start){.server = server, .host_key = place->host_key};
    if (!server->connections_max)
        server->connections_max = 1;
    server->listener = listen_anywhere(&server->port);
    place->options.port = server->port;
    cr_assert_eq(pthread_create(&server->thread, NULL, server_run, start), 0);
}

static void server_end(struct server *server) {
    shutdown(server->listener, SHUT_RDWR);
    pthread_join(server->thread, NULL);
    close(server->listener);
}
