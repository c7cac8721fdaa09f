/* Whole jumps per second: connect, key exchange, public key, "direct-tcpip", one byte there and back, close.
 *
 *   jumps SERVER_PORT KEY TARGET_PORT COUNT CLIENTS    COUNT jumps, CLIENTS at a time; prints jumps/s
 *   jumps SERVER_PORT KEY TARGET_PORT hold COUNT       COUNT authenticated connections, held until standard input ends;
 *                                                      prints "held" once all are there
 *
 * The target is what `load serve` listens on. The clients are libssh's, so that every server has the same ones; they
 * are part of the figure, as they share the machine. */
#include <arpa/inet.h>
#include <libssh/libssh.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static int server_port, target_port;
static ssh_key key;
static atomic_int left;

static double seconds(void) {
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

/* The other clients are inside libssh, whose destructors would take the ground from under them. */
_Noreturn static void die(ssh_session session, const char *what) {
    fprintf(stderr, "jumps: %s: %s\n", what, session ? ssh_get_error(session) : "failed");
    fflush(stdout);
    _exit(1);
}

/* What stock ssh and sshd agree on, so that every server does the same work. */
static ssh_session enter(void) {
    ssh_session session = ssh_new();
    bool no = false;
    if (!session)
        die(NULL, "session");
    ssh_options_set(session, SSH_OPTIONS_PROCESS_CONFIG, &no);
    ssh_options_set(session, SSH_OPTIONS_HOST, "127.0.0.1");
    ssh_options_set(session, SSH_OPTIONS_PORT, &server_port);
    ssh_options_set(session, SSH_OPTIONS_USER, getenv("USER") ? getenv("USER") : "root");
    ssh_options_set(session, SSH_OPTIONS_KEY_EXCHANGE, "curve25519-sha256");
    ssh_options_set(session, SSH_OPTIONS_HOSTKEYS, "ssh-ed25519");
    ssh_options_set(session, SSH_OPTIONS_CIPHERS_C_S, "aes128-gcm@openssh.com");
    ssh_options_set(session, SSH_OPTIONS_CIPHERS_S_C, "aes128-gcm@openssh.com");
    if (ssh_connect(session) != SSH_OK)
        die(session, "connect");
    if (ssh_userauth_publickey(session, NULL, key) != SSH_AUTH_SUCCESS)
        die(session, "authentication");
    return session;
}

static void leave(ssh_session session) {
    ssh_disconnect(session);
    ssh_free(session);
}

/* The target's wish: 'P', then a byte comes back. The struct of load.c. */
static void ping(ssh_session session) {
    struct wish {
        uint8_t kind;
        uint64_t bytes;
    } wish = {.kind = 'P', .bytes = 1};
    uint8_t answer;
    ssh_channel channel = ssh_channel_new(session);
    if (!channel || ssh_channel_open_forward(channel, "127.0.0.1", target_port, "127.0.0.1", 0) != SSH_OK)
        die(session, "direct-tcpip");
    if (ssh_channel_write(channel, &wish, sizeof wish) != (int)sizeof wish ||
        ssh_channel_read(channel, &answer, 1, 0) != 1)
        die(session, "one byte there and back");
    ssh_channel_close(channel);
    ssh_channel_free(channel);
}

static void *jump_client(void *arg) {
    while (atomic_fetch_sub(&left, 1) > 0) {
        ssh_session session = enter();
        ping(session);
        leave(session);
    }
    return arg;
}

static void run_jumps(int count, int clients) {
    pthread_t threads[256];
    if (clients < 1 || clients > 256)
        die(NULL, "number of clients");
    atomic_store(&left, count);
    double began = seconds();
    for (int i = 0; i < clients; i++)
        if (pthread_create(&threads[i], NULL, jump_client, NULL) != 0)
            die(NULL, "thread");
    for (int i = 0; i < clients; i++)
        pthread_join(threads[i], NULL);
    printf("%.1f\n", count / (seconds() - began));
}

static void hold(int count) {
    ssh_session *sessions = calloc((size_t)count, sizeof *sessions);
    char byte;
    if (!sessions)
        die(NULL, "memory");
    for (int i = 0; i < count; i++)
        sessions[i] = enter();
    puts("held");
    fflush(stdout);
    while (read(STDIN_FILENO, &byte, 1) > 0)
        ;
    for (int i = 0; i < count; i++)
        leave(sessions[i]);
    free(sessions);
}

int main(int argc, char **argv) {
    if (argc != 6) {
        fprintf(stderr, "usage: jumps SERVER_PORT KEY TARGET_PORT COUNT|hold CLIENTS|COUNT\n");
        return 1;
    }
    server_port = atoi(argv[1]);
    target_port = atoi(argv[3]);
    if (ssh_init() != SSH_OK || ssh_pki_import_privkey_file(argv[2], NULL, NULL, NULL, &key) != SSH_OK)
        die(NULL, argv[2]);
    if (strcmp(argv[4], "hold") == 0)
        hold(atoi(argv[5]));
    else
        run_jumps(atoi(argv[4]), atoi(argv[5]));
    ssh_key_free(key);
    return 0;
}
