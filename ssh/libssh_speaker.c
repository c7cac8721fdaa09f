#include "ssh/libssh_speaker.h"
#include "engine/check.h"
#include "engine/log.h"
#include "ssh/provider.h"
#include <errno.h>
#include <fcntl.h>
#include <libssh/callbacks.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

/* SSH_OPTIONS_FD keeps 16 bits. */
#define FD_MAX 65535
/* More than libssh ever says between two drains: a send() of its that finds no room is fatal to it. */
#define PAIR_BYTES (1 << 20)
/* A pump ends when libssh has nothing to do; this is only against one that never ends. */
#define PUMP_ROUNDS_MAX 10000

static const char ciphers[] = "aes128-gcm@openssh.com,aes256-gcm@openssh.com,chacha20-poly1305@openssh.com";

static struct libssh_speaker *speaker_of(struct speaker *base) {
    return (struct libssh_speaker *)base;
}

/* libssh's levels above "protocol" are one line a packet and more. What it says quotes the peer as it is. */
static void on_log(int priority, const char *function, const char *text, void *arg) {
    char safe[1024];
    (void)priority;
    (void)function;
    (void)arg;
    log_debug("libssh: %s", log_safe(safe, sizeof safe, text, strlen(text)));
}

static void enter(struct libssh_speaker *speaker) {
    provider_enter(speaker->wire);
    /* Both are per thread, and sessions move between threads. */
    ssh_set_log_callback(on_log);
    ssh_set_log_level(log_wants(LOG_LEVEL_DEBUG1) ? SSH_LOG_INFO : SSH_LOG_NOLOG);
}

void speaker_enter(struct libssh_speaker *speaker) {
    speaker->restless = speaker->talked = true;
    enter(speaker);
}

int speaker_leave(struct libssh_speaker *speaker) {
    (void)speaker;
    return provider_leave();
}

/* Looks at what became of the session after libssh ran: took its end, closed it, or failed. */
static void note_state(struct libssh_speaker *speaker) {
    bool open = ssh_get_fd(speaker->ssh) == speaker->pair[0];
    if (open) {
        speaker->adopted = true;
        /* ssh_connect makes its descriptor blocking. */
        (void)fcntl(speaker->pair[0], F_SETFL, O_NONBLOCK);
    }
    bool failed = (ssh_get_status(speaker->ssh) & (SSH_CLOSED | SSH_CLOSED_ERROR)) != 0;
    if (speaker->closed || !(failed || (speaker->adopted && !open)))
        return;
    const char *text = ssh_get_error(speaker->ssh);
    log_safe(speaker->reason, sizeof speaker->reason, text, strlen(text));
    speaker->closed = true;
    log_verbose("libssh: %s", speaker->reason[0] ? speaker->reason : "session closed");
}

static int speaker_pump(struct speaker *base) {
    struct libssh_speaker *speaker = speaker_of(base);
    if (speaker->closed)
        return ERR_KEX;
    if (!speaker->restless)
        return 0;
    speaker->restless = false;
    speaker->talked = true;
    enter(speaker);
    /* The session's descriptor enters its own poll context with the first ssh_connect or ssh_handle_key_exchange, and
     * only there can the event find it. */
    (void)ssh_event_add_session(speaker->event, speaker->ssh);
    note_state(speaker);
    for (int i = 0; !speaker->closed && i < PUMP_ROUNDS_MAX; i++) {
        int r = ssh_event_dopoll(speaker->event, 0);
        if (r == SSH_AGAIN || r == SSH_ERROR)
            break;
    }
    note_state(speaker);
    int r = provider_leave();
    if (r)
        return r;
    return speaker->closed ? ERR_KEX : 0;
}

static int speaker_feed(struct speaker *base, const uint8_t *bytes, size_t len) {
    struct libssh_speaker *speaker = speaker_of(base);
    bool stuck = false;
    while (len > 0) {
        if (speaker->closed)
            return ERR_KEX;
        ssize_t n = send(speaker->pair[1], bytes, len, MSG_NOSIGNAL);
        speaker->restless = true;
        if (n > 0) {
            bytes += n;
            len -= (size_t)n;
            stuck = false;
            continue;
        }
        if (errno == EINTR)
            continue;
        if (errno != EAGAIN || stuck)
            return ERR_KEX;
        /* libssh reads what it has got; if that makes no room, nothing will. */
        stuck = true;
        int r = speaker_pump(base);
        if (r)
            return r;
    }
    return 0;
}

static int speaker_take(struct speaker *base, uint8_t *bytes, size_t cap) {
    struct libssh_speaker *speaker = speaker_of(base);
    if (!speaker->talked)
        return 0;
    for (;;) {
        ssize_t n = recv(speaker->pair[1], bytes, cap < INT32_MAX ? cap : INT32_MAX, 0);
        if (n > 0) {
            /* What libssh could not write for lack of room, it writes now. */
            speaker->restless = true;
            return (int)n;
        }
        if (n < 0 && errno == EINTR)
            continue;
        speaker->talked = false;
        return n == 0 || errno == EAGAIN ? 0 : ERR_SYSTEM;
    }
}

/* libssh has no call for it. It starts a rekey by itself when it is about to send and the time of the last is longer
 * ago than the limit, provided that at least one packet has passed under the present keys: hence the second. The time
 * of the last is noted only while there is a limit, so rekeys may follow one another at once. */
static int provoke_rekey(ssh_session ssh) {
    uint32_t second = 1, never = 0;
    if (ssh_options_set(ssh, SSH_OPTIONS_REKEY_TIME, &second) != SSH_OK)
        return ERR_KEX;
    int r = ssh_send_ignore(ssh, "");
    if (r == SSH_OK)
        r = ssh_send_ignore(ssh, "");
    int reset = ssh_options_set(ssh, SSH_OPTIONS_REKEY_TIME, &never);
    return r == SSH_OK && reset == SSH_OK ? 0 : ERR_KEX;
}

static int speaker_rekey(struct speaker *base) {
    struct libssh_speaker *speaker = speaker_of(base);
    if (speaker->closed)
        return ERR_KEX;
    if (speaker->wire->kexing_in || speaker->wire->kexing_out)
        return 0;
    speaker_enter(speaker);
    int r = provoke_rekey(speaker->ssh);
    int left = speaker_leave(speaker);
    return r ? r : left;
}

static const struct speaker_ops speaker_ops = {
    .feed = speaker_feed, .pump = speaker_pump, .take = speaker_take, .rekey = speaker_rekey};

static int pair_create(struct libssh_speaker *speaker) {
    int bytes = PAIR_BYTES;
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, speaker->pair))
        return ERR_SYSTEM;
    if (speaker->pair[0] > FD_MAX)
        return ERR_LIMIT;
    for (int i = 0; i < 2; i++) {
        /* Past net.core.wmem_max where we may; else as much as there is, and feeding and taking go in turns. */
        if (setsockopt(speaker->pair[i], SOL_SOCKET, SO_SNDBUFFORCE, &bytes, sizeof bytes))
            (void)setsockopt(speaker->pair[i], SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes);
    }
    return 0;
}

static int client_options(struct libssh_speaker *speaker) {
    bool no = false;
    ssh_session ssh = speaker->ssh;
    if (ssh_options_set(ssh, SSH_OPTIONS_PROCESS_CONFIG, &no) != SSH_OK ||
        ssh_options_set(ssh, SSH_OPTIONS_FD, &speaker->pair[0]) != SSH_OK)
        return ERR_NOMEM;
    return 0;
}

static int both_options(ssh_session ssh) {
    if (ssh_options_set(ssh, SSH_OPTIONS_COMPRESSION, "none") != SSH_OK ||
        ssh_options_set(ssh, SSH_OPTIONS_CIPHERS_C_S, ciphers) != SSH_OK ||
        ssh_options_set(ssh, SSH_OPTIONS_CIPHERS_S_C, ciphers) != SSH_OK)
        return ERR_NOMEM;
    return 0;
}

int libssh_speaker_init(struct libssh_speaker *speaker, struct wire *wire, ssh_session ssh) {
    *speaker = (struct libssh_speaker){.base.ops = &speaker_ops, .ssh = ssh, .wire = wire, .pair = {-1, -1}};
    enter(speaker);
    bool is_client = !ssh;
    if (is_client)
        speaker->ssh = ssh_new();
    speaker->event = ssh_event_new();
    int r = speaker->ssh && speaker->event ? pair_create(speaker) : ERR_NOMEM;
    if (!r && is_client)
        r = client_options(speaker);
    if (!r)
        r = both_options(speaker->ssh);
    int left = provider_leave();
    if (!r)
        r = left;
    if (r)
        libssh_speaker_deinit(speaker);
    return r;
}

int libssh_speaker_begin(struct libssh_speaker *speaker) {
    speaker_enter(speaker);
    ssh_set_blocking(speaker->ssh, 0);
    note_state(speaker);
    return speaker_leave(speaker);
}

void libssh_speaker_disconnect(struct libssh_speaker *speaker) {
    if (speaker->closed)
        return;
    speaker_enter(speaker);
    (void)ssh_event_remove_session(speaker->event, speaker->ssh);
    ssh_disconnect(speaker->ssh);
    speaker->closed = true;
    if (speaker_leave(speaker))
        log_debug("libssh: keys were handed over while disconnecting");
}

/* Some versions close the descriptor they were given and some do not. By now its number may be another file's, which
 * some other thread has opened: the other end of the pair tells. */
static void pair_close(struct libssh_speaker *speaker) {
    struct pollfd end = {.fd = speaker->pair[1]};
    bool closed = poll(&end, 1, 0) == 1 && (end.revents & POLLHUP) != 0;
    if (speaker->pair[0] >= 0 && !closed)
        close(speaker->pair[0]);
    if (speaker->pair[1] >= 0)
        close(speaker->pair[1]);
    speaker->pair[0] = speaker->pair[1] = -1;
}

void libssh_speaker_deinit(struct libssh_speaker *speaker) {
    provider_enter(NULL);
    if (speaker->event && speaker->ssh)
        (void)ssh_event_remove_session(speaker->event, speaker->ssh);
    if (speaker->event)
        ssh_event_free(speaker->event);
    ssh_free(speaker->ssh);
    CHECK(provider_leave() == 0); /* without a wire no key is handed over */
    speaker->event = NULL;
    speaker->ssh = NULL;
    pair_close(speaker);
}
