#include "ssh/server_front.h"
#include "engine/check.h"
#include "ssh/algorithms.h"
#include "ssh/cpu.h"
#include "ssh/kexinit.h"
#include "ssh/messages.h"
#include "ssh/provider.h"
#include <stdlib.h>
#include <string.h>

static struct server_front *front_of(struct speaker *base) {
    return (struct server_front *)base;
}

/* ── starting libssh ── */

/* Within speaker_enter. The ciphers come after the rest: libssh 0.10 copies the bind's options over the session's. */
static int prepare(struct server_front *front, ssh_session ssh, const char *c_s, const char *s_c) {
    if (ssh_bind_accept_fd(front->bind->ssh, ssh, front->libssh->pair[0]) != SSH_OK ||
        ssh_options_set(ssh, SSH_OPTIONS_CIPHERS_C_S, c_s) != SSH_OK ||
        ssh_options_set(ssh, SSH_OPTIONS_CIPHERS_S_C, s_c) != SSH_OK)
        return ERR_KEX;
    return 0;
}

/* From then on libssh works by itself whenever it is pumped. */
static int begin(struct libssh_speaker *libssh) {
    int err = libssh_speaker_begin(libssh);
    if (err)
        return err;
    speaker_enter(libssh);
    bool failed = ssh_handle_key_exchange(libssh->ssh) == SSH_ERROR;
    err = speaker_leave(libssh);
    return failed ? ERR_KEX : err;
}

/* The client has our version line: libssh, which hashes its own into the key exchange, must mean the same. */
static int pass_over_version(struct server_front *front) {
    char line[sizeof front->bind->version];
    size_t len = strlen(front->bind->version), have = 0;
    while (have < len) {
        int n = front->libssh->base.ops->take(&front->libssh->base, (uint8_t *)line + have, len - have);
        if (n <= 0)
            return n < 0 ? n : ERR_KEX;
        have += (size_t)n;
    }
    return memcmp(line, front->bind->version, len) == 0 ? 0 : ERR_KEX;
}

static int start(struct server_front *front, const char *c_s, const char *s_c) {
    struct libssh_speaker *libssh = front->libssh;
    provider_enter(NULL);
    ssh_session ssh = ssh_new();
    CHECK(provider_leave() == 0);
    if (!ssh)
        return ERR_NOMEM;
    int err = libssh_speaker_init(libssh, &front->transport->wire, ssh);
    if (err)
        return err;
    front->started = true;
    front->transport->speaker = &libssh->base;
    speaker_enter(libssh);
    err = prepare(front, ssh, c_s, s_c);
    int left = speaker_leave(libssh);
    if (!err)
        err = left;
    if (!err)
        err = begin(libssh);
    if (!err)
        err = pass_over_version(front);
    if (!err)
        err = libssh->base.ops->feed(&libssh->base, (const uint8_t *)front->line, strlen(front->line));
    /* libssh takes the line and the packets behind it with two different readers. */
    return err ? err : libssh->base.ops->pump(&libssh->base);
}

int server_front_start(struct server_front *front) {
    CHECK(front->line && !front->started);
    const char *ciphers = front->ciphers ? front->ciphers : algorithms_ciphers;
    return start(front, ciphers, ciphers);
}

/* ── as the transport's speaker ── */

/* RFC 4253 §5.1: 1.99 is a client that could also do without. */
static int hold_version(struct server_front *front, const uint8_t *bytes, size_t len) {
    const char *version = front->transport->peer_version;
    if (strncmp(version, "SSH-2.0-", 8) != 0 && strncmp(version, "SSH-1.99-", 9) != 0)
        return ERR_UNSUPPORTED;
    front->line = strndup((const char *)bytes, len);
    return front->line ? 0 : ERR_NOMEM;
}

/* A first packet that is no KEXINIT is libssh's to judge. */
static int first_packet(struct server_front *front, const uint8_t *raw, size_t len) {
    struct kexinit kexinit;
    uint32_t padding = raw[AEAD_LENGTH_BYTES], payload_len = (uint32_t)len - WIRE_HEADER_BYTES - padding;
    int err;
    if (front->ciphers || kexinit_parse(raw + WIRE_HEADER_BYTES, payload_len, &kexinit)) {
        err = server_front_start(front);
    } else {
        bool aes = cpu_has_aes();
        err = start(front, kexinit_offer_ciphers(kexinit.lists[KEXINIT_CIPHERS_C_S], aes),
                    kexinit_offer_ciphers(kexinit.lists[KEXINIT_CIPHERS_S_C], aes));
    }
    return err ? err : front->libssh->base.ops->feed(&front->libssh->base, raw, len);
}

/* The transport feeds whole units: the version line, then packet by packet, which it has checked for their lengths. */
static int front_feed(struct speaker *base, const uint8_t *bytes, size_t len) {
    struct server_front *front = front_of(base);
    return front->line ? first_packet(front, bytes, len) : hold_version(front, bytes, len);
}

static int front_pump(struct speaker *base) {
    (void)base;
    return 0;
}

static int front_take(struct speaker *base, uint8_t *bytes, size_t cap) {
    struct server_front *front = front_of(base);
    size_t len = strlen(front->bind->version);
    if (front->line_said)
        return 0;
    CHECK(cap >= len);
    front->line_said = true;
    memcpy(bytes, front->bind->version, len);
    return (int)len;
}

static int front_rekey(struct speaker *base) {
    (void)base;
    return ERR_AGAIN;
}

static const struct speaker_ops front_ops = {
    .feed = front_feed, .pump = front_pump, .take = front_take, .rekey = front_rekey};

void server_front_init(struct server_front *front, struct transport *transport, struct libssh_speaker *libssh,
                       struct server_bind *bind, const char *ciphers) {
    *front = (struct server_front){.base.ops = &front_ops,
                                   .transport = transport,
                                   .libssh = libssh,
                                   .bind = server_bind_ref(bind),
                                   .ciphers = ciphers};
}

void server_front_deinit(struct server_front *front) {
    server_bind_unref(front->bind);
    free(front->line);
    front->bind = NULL;
    front->line = NULL;
}
