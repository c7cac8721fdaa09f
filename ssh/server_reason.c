/* Why a handshake failed, in sshd's words: for the log, and where there are no packets yet, for the client. */
#include "ssh/server_handshake_internal.h"
#include <string.h>

static void fail_version(struct server_handshake *h) {
    char safe[128];
    const uint8_t *end = memchr(h->work->in, '\n', h->work->in_len);
    size_t len = end ? (size_t)(end - h->work->in) : h->work->in_len;
    handshake_say_line(h, "Invalid SSH identification string.\r\n");
    handshake_fail(h, ERR_PROTOCOL, "Bad protocol version identification '%s'",
                   log_safe(safe, sizeof safe, h->work->in, len));
}

/* libssh's "kex error : no match for method WHAT: server [OURS], client [THEIRS]" in sshd's words. */
static bool explain_mismatch(struct server_handshake *h, const char *text) {
    static const char *const words[][2] = {{"kex algos", "key exchange method"},
                                           {"server host key algo", "host key type"},
                                           {"encryption", "cipher"},
                                           {"mac algo", "MAC"},
                                           {"compression", "compression method"}};
    const char *what = strstr(text, "no match for method "), *theirs = what ? strstr(what, ", client [") : NULL;
    if (!theirs)
        return false;
    what += strlen("no match for method ");
    theirs += strlen(", client [");
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
        if (strncmp(what, words[i][0], strlen(words[i][0])) != 0)
            continue;
        handshake_fail(h, ERR_KEX, "Unable to negotiate: no matching %s found. Their offer: %.*s", words[i][1],
                       (int)strcspn(theirs, "]"), theirs);
        return true;
    }
    return false;
}

static void fail_kex(struct server_handshake *h) {
    char said[1024] = "";
    if (h->work->front.started) {
        const char *text = ssh_get_error(h->speaker.ssh);
        log_safe(said, sizeof said, text, strlen(text));
    }
    if (!explain_mismatch(h, said))
        handshake_fail(h, ERR_KEX, "%s%s%s", err_text(ERR_KEX), said[0] ? ": " : "", said);
}

void handshake_fail_transport(struct server_handshake *h, int err) {
    const struct transport *transport = &h->transport;
    if (h->ended || h->work->closing)
        return;
    if (transport->disconnect_reason[0])
        return handshake_fail(h, ERR_CLOSED, "Received disconnect: %s", transport->disconnect_reason);
    if (!transport->peer_version_seen && err == ERR_PROTOCOL)
        return fail_version(h);
    if (err == ERR_UNSUPPORTED) {
        handshake_say_line(h, "Protocol major versions differ.\r\n");
        return handshake_fail(h, ERR_PROTOCOL, "Protocol major versions differ");
    }
    if (err == ERR_KEX)
        return fail_kex(h);
    handshake_fail(h, err, "%s", err_text(err));
}
