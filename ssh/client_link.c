#include "ssh/client_link.h"
#include "engine/limits.h"
#include "engine/log.h"
#include "ssh/deadline.h"
#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

/* Any packet, and a good read behind it. */
#define IN_BYTES (LIMIT_PACKET_BYTES + 65536u)

int link_init(struct client_link *link, const struct options *options, struct authenticated *made) {
    *link = (struct client_link){.options = options, .made = made};
    (void)snprintf(link->where, sizeof link->where, "%s port %u", options->hostname, options->port);
    link->in = malloc(IN_BYTES);
    link->out = malloc(TRANSPORT_OUTPUT_BYTES);
    if (link->in && link->out)
        return 0;
    link_deinit(link);
    return ERR_NOMEM;
}

/* Answers of a person have passed through in the clear before they were sealed. */
static void free_wiped(uint8_t *bytes, size_t len) {
    if (bytes)
        explicit_bzero(bytes, len);
    free(bytes);
}

void link_deinit(struct client_link *link) {
    free_wiped(link->in, IN_BYTES);
    free_wiped(link->out, TRANSPORT_OUTPUT_BYTES);
    link->in = link->out = NULL;
}

static int fail(struct client_link *link, int err, const char *format, ...) __attribute__((format(printf, 3, 4)));
static int fail(struct client_link *link, int err, const char *format, ...) {
    va_list args;
    va_start(args, format);
    (void)vsnprintf(link->reason, sizeof link->reason, format, args);
    va_end(args);
    return err;
}

/* The end of the stream, orderly or not: through a ProxyCommand the two cannot be told apart. */
static int fail_ended(struct client_link *link, int err) {
    if (link->made->proxy_pidfd >= 0)
        return fail(link, ERR_CLOSED, "the ProxyCommand ended the connection to %s", link->where);
    return fail(link, err, "Connection %s by %s", err == ERR_RESET ? "reset" : "closed", link->where);
}

static int fail_socket(struct client_link *link, int error) {
    int err = err_from_errno(error);
    if (err == ERR_RESET || err == ERR_CLOSED)
        return fail_ended(link, err);
    return fail(link, err == ERR_AGAIN ? ERR_SYSTEM : err, "%s: %s", link->where, strerror(error));
}

/* libssh's "kex error : no match for method WHAT: server [THEIRS], client [OURS]" in ssh's words. */
static bool explain_mismatch(struct client_link *link, const char *text) {
    static const char *const words[][2] = {{"kex algos", "key exchange method"},
                                           {"server host key algo", "host key type"},
                                           {"encryption", "cipher"},
                                           {"mac algo", "MAC"},
                                           {"compression", "compression method"}};
    const char *what = strstr(text, "no match for method ");
    const char *theirs = what ? strstr(what, ": server [") : NULL;
    if (!theirs)
        return false;
    what += strlen("no match for method ");
    theirs += strlen(": server [");
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
        if (strncmp(what, words[i][0], strlen(words[i][0])) != 0)
            continue;
        (void)snprintf(link->reason, sizeof link->reason,
                       "unable to negotiate with %s: no matching %s found. Their offer: %.*s", link->where, words[i][1],
                       (int)strcspn(theirs, "]"), theirs);
        return true;
    }
    return false;
}

static int fail_transport(struct client_link *link, int err) {
    const struct transport *transport = &link->made->transport;
    if (transport->disconnect_reason[0])
        return fail(link, ERR_CLOSED, "%s disconnected: %s", link->where, transport->disconnect_reason);
    char said[1024];
    const char *text = ssh_get_error(link->made->speaker.ssh);
    log_safe(said, sizeof said, text, strlen(text));
    if (err != ERR_KEX || !said[0])
        return fail(link, err, "%s: %s", link->where, err_text(err));
    if (!explain_mismatch(link, said))
        (void)fail(link, err, "%s: %s", link->where, said);
    return err;
}

static bool out_pending(const struct client_link *link) {
    return link->out_at < link->out_len;
}

static int send_pending(struct client_link *link) {
    while (out_pending(link)) {
        ssize_t n =
            send(link->made->fd, link->out + link->out_at, link->out_len - link->out_at, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return errno == EAGAIN ? 0 : fail_socket(link, errno);
        link->out_at += (size_t)n;
    }
    return 0;
}

/* What the transport says is sent even when it has failed: the last packet may be a DISCONNECT that tells the peer
 * why. */
static int flush(struct client_link *link) {
    for (;;) {
        int err = send_pending(link);
        if (err || out_pending(link))
            return err;
        int n = transport_output(&link->made->transport, link->out, TRANSPORT_OUTPUT_BYTES);
        if (n < 0)
            return fail_transport(link, n);
        if (n == 0)
            return 0;
        link->out_at = 0;
        link->out_len = (size_t)n;
    }
}

void link_flush_last(struct client_link *link) {
    if (link->made->fd >= 0)
        (void)flush(link);
}

static int feed(struct client_link *link, bool *progress) {
    size_t used, need;
    int err = transport_input(&link->made->transport, link->in, link->in_len, &used, &need);
    memmove(link->in, link->in + used, link->in_len - used);
    link->in_len -= used;
    *progress = used > 0;
    if (!err)
        return 0;
    link_flush_last(link);
    return fail_transport(link, err);
}

static int receive(struct client_link *link) {
    ssize_t n = recv(link->made->fd, link->in + link->in_len, IN_BYTES - link->in_len, MSG_DONTWAIT);
    if (n < 0)
        return errno == EAGAIN || errno == EINTR ? 0 : fail_socket(link, errno);
    if (n == 0)
        return fail_ended(link, ERR_CLOSED);
    link->in_len += (size_t)n;
    return 0;
}

static int wait_socket(struct client_link *link) {
    if (link->in_len == IN_BYTES)
        return fail(link, ERR_PROTOCOL, "%s: %s", link->where, err_text(ERR_PROTOCOL));
    struct pollfd ready = {.fd = link->made->fd, .events = (short)(POLLIN | (out_pending(link) ? POLLOUT : 0))};
    int n = poll(&ready, 1, deadline_poll_ms(link->deadline_ns));
    if (n < 0)
        return errno == EINTR ? 0 : fail(link, ERR_SYSTEM, "poll: %s", strerror(errno));
    if (n == 0 && deadline_passed(link->deadline_ns))
        return fail(link, ERR_TIMEOUT, "Connection to %s timed out during the %s", link->where,
                    link->limit_ns ? "handshake" : "key exchange");
    return ready.revents & (POLLIN | POLLHUP | POLLERR) ? receive(link) : 0;
}

int link_call(struct client_link *link, link_fn *fn, void *arg, int again, int *result) {
    struct libssh_speaker *speaker = &link->made->speaker;
    for (;;) {
        speaker_enter(speaker);
        *result = fn(speaker->ssh, arg);
        int err = speaker_leave(speaker);
        if (err)
            return fail(link, err, "%s: key set-up failed: %s", link->where, err_text(err));
        err = flush(link);
        if (err || *result != again)
            return err;
        bool progress;
        err = feed(link, &progress);
        if (!err && !progress)
            err = wait_socket(link);
        if (err)
            return err;
    }
}

int link_take_early(struct client_link *link, uint8_t **bytes, size_t *len) {
    *bytes = NULL;
    *len = link->in_len;
    if (link->in_len == 0)
        return 0;
    *bytes = malloc(link->in_len);
    if (!*bytes)
        return ERR_NOMEM;
    memcpy(*bytes, link->in, link->in_len);
    return 0;
}
