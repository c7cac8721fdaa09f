#include "ssh/server_handshake.h"
#include "engine/check.h"
#include "engine/limits.h"
#include "ssh/server_handshake_internal.h"
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SECOND_NS UINT64_C(1000000000)
/* A KEXINIT and the first message of the exchange; more is made when a packet needs it. */
#define IN_START_BYTES 4096u

_Static_assert(TRANSPORT_OUTPUT_BYTES >= LIMIT_BANNER_BYTES + LIMIT_KEY_BLOB_BYTES + 3 * (1024 + WIRE_TRAILER_MAX),
               "what is said in answer to one request fits");

static void receive(struct server_handshake *h);

/* ── the end ── */

static void free_buffer(uint8_t **buffer) {
    free(*buffer);
    *buffer = NULL;
}

/* Unread bytes are the session's. */
static void keep_early(struct server_handshake *h) {
    struct server_handshake_work *work = h->work;
    h->early_len = work->in_len;
    if (work->in_len > 0) {
        h->early = work->in;
        work->in = NULL;
    }
}

static void work_free(struct server_handshake *h) {
    struct server_handshake_work *work = h->work;
    timer_cancel(&h->shard->timers, &h->grace);
    timer_cancel(&h->shard->timers, &work->kexinit);
    h->speaking = work->front.started;
    server_auth_deinit(&work->auth);
    server_front_deinit(&work->front);
    free_buffer(&work->in);
    free_buffer(&work->out);
    free(work);
    h->work = NULL;
}

static void run_end(struct task *task) {
    struct server_handshake *h = list_entry(task, struct server_handshake, end);
    if (!h->end_err) {
        keep_early(h);
        h->transport.on_speech = NULL;
        transport_authenticated(&h->transport);
    }
    work_free(h);
    h->options.done(h, h->end_err, h->end_reason);
}

static void end_when_joined(struct server_handshake *h) {
    if (!h->recv.in_flight && !h->send.in_flight)
        shard_defer(h->shard, &h->end);
}

static void finish(struct server_handshake *h) {
    if (h->ended)
        return;
    h->ended = true;
    io_cancel(h->shard->io, &h->recv);
    io_cancel(h->shard->io, &h->send);
    shard_undefer(&h->step);
    end_when_joined(h);
}

static void fail_va(struct server_handshake *h, int err, const char *format, va_list args)
    __attribute__((format(printf, 3, 0)));
static void fail_va(struct server_handshake *h, int err, const char *format, va_list args) {
    if (h->ended || h->work->closing)
        return;
    h->work->closing = true;
    h->end_err = err;
    (void)vsnprintf(h->end_reason, sizeof h->end_reason, format, args);
    /* What was said last is worth a short wait, not more. */
    timer_arm(&h->shard->timers, &h->grace, shard_now(h->shard) + LIMIT_LINGER_NS);
    handshake_wake(h);
}

void handshake_fail(struct server_handshake *handshake, int err, const char *format, ...) {
    va_list args;
    va_start(args, format);
    fail_va(handshake, err, format, args);
    va_end(args);
}

void handshake_disconnect(struct server_handshake *handshake, int err, const char *text) {
    struct writer writer;
    if (handshake_begin(handshake, &writer)) {
        userauth_write_disconnect(&writer, DISCONNECT_PROTOCOL_ERROR, text);
        (void)handshake_say(handshake, &writer);
    }
    handshake_fail(handshake, err, "%s", text);
}

static void fail_socket(struct server_handshake *h, int32_t res) {
    int err = res ? err_from_errno(-res) : ERR_CLOSED;
    if (res && err != ERR_RESET && err != ERR_CLOSED)
        handshake_fail(h, err, "%s", strerror(-res));
    else
        handshake_fail(h, err, "Connection %s by the client", err == ERR_RESET ? "reset" : "closed");
    /* Nobody hears what there is left to say. */
    finish(h);
}

/* ── sending ── */

bool handshake_begin(struct server_handshake *handshake, struct writer *writer) {
    struct server_handshake_work *work = handshake->work;
    if (!work->out)
        work->out = malloc(TRANSPORT_OUTPUT_BYTES);
    if (!work->out) {
        handshake_fail(handshake, ERR_NOMEM, "%s", err_text(ERR_NOMEM));
        return false;
    }
    size_t taken = work->out_len + WIRE_HEADER_BYTES + WIRE_TRAILER_MAX;
    writer_init(writer, work->out + work->out_len + WIRE_HEADER_BYTES, (uint32_t)(TRANSPORT_OUTPUT_BYTES - taken));
    return true;
}

bool handshake_say(struct server_handshake *handshake, const struct writer *writer) {
    struct server_handshake_work *work = handshake->work;
    CHECK(writer_ok(writer));
    int n = wire_seal(&handshake->transport.wire, work->out + work->out_len, writer_len(writer));
    if (n < 0) {
        handshake_fail(handshake, n, "%s", err_text(n));
        return false;
    }
    work->out_len += (size_t)n;
    return true;
}

void handshake_say_line(struct server_handshake *handshake, const char *line) {
    struct server_handshake_work *work = handshake->work;
    if (!work->out)
        work->out = malloc(TRANSPORT_OUTPUT_BYTES);
    if (!work->out)
        return;
    CHECK(work->out_len + strlen(line) <= TRANSPORT_OUTPUT_BYTES);
    memcpy(work->out + work->out_len, line, strlen(line));
    work->out_len += strlen(line);
}

/* true: nothing is left to be sent. */
static bool flush(struct server_handshake *h) {
    struct server_handshake_work *work = h->work;
    if (work->out_len == 0) {
        if (!work->out)
            work->out = malloc(TRANSPORT_OUTPUT_BYTES);
        int n = work->out ? transport_output(&h->transport, work->out, TRANSPORT_OUTPUT_BYTES) : ERR_NOMEM;
        if (n < 0)
            handshake_fail_transport(h, n);
        else
            work->out_len = (size_t)n;
    }
    if (work->out_len == 0) {
        free_buffer(&work->out);
        return true;
    }
    h->send_iov = (struct iovec){.iov_base = work->out, .iov_len = work->out_len};
    io_send(h->shard->io, &h->send, h->options.fd, &h->send_iov, 1, IO_SEND_ALL);
    return false;
}

static void on_sent(struct io_op *op, int32_t res) {
    struct server_handshake *h = list_entry(op, struct server_handshake, send);
    if (h->ended)
        return end_when_joined(h);
    if (res < 0)
        return fail_socket(h, res);
    h->work->out_len = 0;
    handshake_wake(h);
}

/* ── receiving ── */

static void on_received(struct io_op *op, int32_t res) {
    struct server_handshake *h = list_entry(op, struct server_handshake, recv);
    if (h->ended)
        return end_when_joined(h);
    if (h->work->closing)
        return;
    if (res <= 0)
        return fail_socket(h, res);
    h->work->in_len += (uint32_t)res;
    handshake_wake(h);
}

static void on_readable(struct io_op *op, int32_t res) {
    struct server_handshake *h = list_entry(op, struct server_handshake, recv);
    struct server_handshake_work *work = h->work;
    if (h->ended)
        return end_when_joined(h);
    if (work->closing)
        return;
    if (res < 0)
        return fail_socket(h, res);
    work->in = malloc(IN_START_BYTES);
    work->in_cap = IN_START_BYTES;
    if (!work->in)
        return handshake_fail(h, ERR_NOMEM, "%s", err_text(ERR_NOMEM));
    receive(h);
}

/* A client that says nothing costs no buffer. */
static void receive(struct server_handshake *h) {
    struct server_handshake_work *work = h->work;
    if (h->recv.in_flight)
        return;
    if (!work->in) {
        io_op_init(&h->recv, on_readable);
        io_poll(h->shard->io, &h->recv, h->options.fd, POLLIN);
        return;
    }
    io_op_init(&h->recv, on_received);
    h->recv_iov = (struct iovec){.iov_base = work->in + work->in_len, .iov_len = work->in_cap - work->in_len};
    io_recv(h->shard->io, &h->recv, h->options.fd, &h->recv_iov, 1);
}

static int make_room(struct server_handshake_work *work, size_t need) {
    if (need <= work->in_cap)
        return work->in_len < work->in_cap ? 0 : ERR_PROTOCOL; /* full, and nothing can be done with it */
    if (need > LIMIT_HANDSHAKE_BYTES)
        return ERR_LENGTH;
    size_t cap = 2 * work->in_cap > need ? 2 * work->in_cap : need;
    if (cap > LIMIT_HANDSHAKE_BYTES)
        cap = LIMIT_HANDSHAKE_BYTES;
    uint8_t *larger = realloc(work->in, cap);
    if (!larger)
        return ERR_NOMEM;
    work->in = larger;
    work->in_cap = cap;
    return 0;
}

static bool waits_for_kexinit(const struct server_handshake_work *work) {
    return work->front.line && !work->front.started;
}

/* Works on what was received. false: more is needed. */
static bool work_input(struct server_handshake *h) {
    struct server_handshake_work *work = h->work;
    size_t used, need;
    if (work->in_len == 0)
        return false;
    int err = transport_input(&h->transport, work->in, work->in_len, &used, &need);
    if (!err && used == 0)
        err = make_room(work, need);
    if (err) {
        handshake_fail_transport(h, err);
        return true;
    }
    memmove(work->in, work->in + used, work->in_len - used);
    work->in_len -= used;
    if (waits_for_kexinit(work) && !timer_armed(&work->kexinit))
        timer_arm(&h->shard->timers, &work->kexinit, shard_now(h->shard) + LIMIT_KEXINIT_WAIT_NS);
    return used > 0;
}

/* ── steps ── */

void handshake_wake(struct server_handshake *handshake) {
    if (!handshake->ended)
        shard_defer(handshake->shard, &handshake->step);
}

/* Whatever is to be said goes out before anything more is read. */
static void run_step(struct task *task) {
    struct server_handshake *h = list_entry(task, struct server_handshake, step);
    struct server_handshake_work *work = h->work;
    for (;;) {
        if (h->send.in_flight || !flush(h))
            return;
        if (work->closing || work->accepted)
            return finish(h);
        if (work->auth.login)
            return;
        if (work->auth.taken || work->auth.breach)
            server_auth_work(h);
        else if (!work_input(h))
            return receive(h);
    }
}

static void on_kexinit_timer(struct timer *timer) {
    struct server_handshake_work *work = list_entry(timer, struct server_handshake_work, kexinit);
    struct server_handshake *h = work->handshake;
    if (h->ended || work->closing || !waits_for_kexinit(work))
        return;
    int err = server_front_start(&work->front);
    if (err)
        handshake_fail_transport(h, err);
    handshake_wake(h);
}

static void on_grace(struct timer *timer) {
    struct server_handshake *h = list_entry(timer, struct server_handshake, grace);
    handshake_fail(h, ERR_TIMEOUT, "Timeout before authentication");
    finish(h);
}

/* ── its life ── */

int server_handshake_start(struct server_handshake *handshake, struct shard *shard,
                           const struct server_handshake_options *options) {
    struct server_handshake_work *work = calloc(1, sizeof *work);
    if (!work)
        return ERR_NOMEM;
    *handshake = (struct server_handshake){.shard = shard, .options = *options, .work = work, .owner = options->owner};
    int err = transport_init(&handshake->transport, false, options->options->rekey_limit_bytes, &work->front.base);
    if (err) {
        free(work);
        return err;
    }
    work->handshake = handshake;
    work->kexinit.on_timer = on_kexinit_timer;
    server_front_init(&work->front, &handshake->transport, &handshake->speaker, options->bind,
                      options->options->ciphers);
    handshake->transport.on_speech = server_auth_take;
    handshake->transport.arg = handshake;
    key_options_init(&handshake->login.key);
    io_op_init(&handshake->recv, on_readable);
    io_op_init(&handshake->send, on_sent);
    task_init(&handshake->step, run_step);
    task_init(&handshake->end, run_end);
    handshake->grace.on_timer = on_grace;
    if (options->options->login_grace_s)
        timer_arm(&shard->timers, &handshake->grace, shard_now(shard) + options->options->login_grace_s * SECOND_NS);
    handshake_wake(handshake);
    return 0;
}

void server_handshake_cancel(struct server_handshake *handshake) {
    if (handshake->ended)
        return;
    handshake_fail(handshake, ERR_CANCELED, "%s", err_text(ERR_CANCELED));
    finish(handshake);
}

void server_handshake_deinit(struct server_handshake *handshake) {
    CHECK(!handshake->work);
    if (handshake->speaking)
        libssh_speaker_deinit(&handshake->speaker);
    transport_deinit(&handshake->transport);
    login_result_deinit(&handshake->login);
    free(handshake->early);
    free(handshake->user);
    free(handshake->key_fingerprint);
    free(handshake->details);
    *handshake = (struct server_handshake){0};
}
