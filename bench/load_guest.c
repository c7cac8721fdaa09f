#include "bench/load_guest.h"
#include "bench/load.h"
#include "bench/load_hand.h"
#include "bench/load_net.h"
#include "bench/load_wire.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

/* A connection. Its wish first, then by kind. */
struct guest {
    int fd;
    uint32_t events;
    size_t wish_have;
    struct load_wish wish;
    struct stream in;
    struct stream out;
    uint64_t unsent;   /* of the stream */
    uint64_t messages; /* whole ones received */
    /* uploads, which are in the list of reporters; all connections of another kind once they are to be reset */
    struct guest *next, **link;
    struct load_report report;
    size_t report_sent; /* sizeof(report): all of it */
    uint64_t last_ns, gap_begin_ns, gap_end_ns;
    bool has_ended, is_doomed;
};

static bool is_prompt(const struct guest *guest) {
    return guest->wish.kind == LOAD_ECHO || guest->wish.kind == LOAD_OPEN;
}

/* The descriptor alone is not enough to close: the connection would be watched on, with a guest that is not there any
 * more, as long as another process has it, or another thread is in the call in which it hands the guest over. */
static void guest_end(struct host *host, struct guest *guest, bool reset) {
    epoll_ctl(host->epoll, EPOLL_CTL_DEL, guest->fd, NULL);
    if (guest->link != NULL) {
        *guest->link = guest->next;
        if (guest->next != NULL)
            guest->next->link = guest->link;
    }
    if (reset)
        load_socket_reset(guest->fd);
    else
        close(guest->fd);
    free(guest);
}

static void guest_list(struct host *host, struct guest *guest) {
    guest->next = host->reporters;
    guest->link = &host->reporters;
    if (guest->next != NULL)
        guest->next->link = &guest->next;
    host->reporters = guest;
}

static void guest_want(struct host *host, struct guest *guest, uint32_t events) {
    struct epoll_event event = {.events = events, .data.ptr = guest};
    if (events == guest->events)
        return;
    guest->events = events;
    epoll_ctl(host->epoll, EPOLL_CTL_MOD, guest->fd, &event);
}

/* Sends what the socket takes of the stream. False: the connection is broken. */
static bool guest_send(struct host *host, struct guest *guest) {
    int64_t n = guest->unsent > 0 ? load_send_stream(&guest->out, guest->fd, guest->unsent) : 0;
    if (n < 0 && n != -EAGAIN)
        return false;
    if (n > 0)
        guest->unsent -= (uint64_t)n;
    guest_want(host, guest, guest->unsent > 0 ? EPOLLIN | EPOLLOUT : EPOLLIN);
    return true;
}

static void report_make(struct guest *guest, uint32_t flags) {
    guest->report = (struct load_report){.magic = LOAD_MAGIC,
                                         .at_ns = load_now(),
                                         .bytes = guest->in.at,
                                         .last_ns = guest->last_ns,
                                         .gap_begin_ns = guest->gap_begin_ns,
                                         .gap_end_ns = guest->gap_end_ns,
                                         .bad_at = guest->in.at,
                                         .flags = flags};
    guest->report_sent = 0;
    guest->gap_begin_ns = guest->gap_end_ns = 0;
}

/* False: the connection is broken. A report that the socket does not take whole goes on with the next tick. */
static bool report_send(struct guest *guest) {
    size_t left = sizeof(guest->report) - guest->report_sent;
    if (left == 0)
        return true;
    ssize_t n = send(guest->fd, (char *)&guest->report + guest->report_sent, left, MSG_NOSIGNAL);
    if (n > 0)
        guest->report_sent += (size_t)n;
    return n > 0 || errno == EAGAIN;
}

static bool report_is_sent(const struct guest *guest) {
    return guest->report_sent == sizeof(guest->report);
}

/* The report that follows, if the one before is through. False: the connection is broken or at its end. */
static bool report_next(struct host *host, struct guest *guest) {
    if (!report_send(guest))
        return false;
    if (!report_is_sent(guest))
        return true;
    if (guest->report.flags & REPORT_FINAL)
        return false;
    report_make(guest, guest->has_ended ? REPORT_FINAL : 0);
    if (guest->has_ended)
        guest_want(host, guest, 0); /* else the end that we know of wakes us for ever */
    if (!report_send(guest))
        return false;
    return !(guest->has_ended && report_is_sent(guest));
}

/* What came is not what was sent: says so, stops reading, and resets the connection with the next tick (at once, the
 * reset could overtake the report). */
static void guest_condemn(struct host *host, struct guest *guest) {
    if (guest->link == NULL)
        guest_list(host, guest);
    guest->is_doomed = true;
    guest_want(host, guest, 0);
    /* A report cut in two by a full socket can't have another begin inside it; the reset alone tells then. */
    if (report_send(guest) && report_is_sent(guest)) {
        report_make(guest, REPORT_BAD);
        report_send(guest);
    }
}

static void upload_came(struct guest *guest) {
    uint64_t now = load_now();
    bool is_first = guest->last_ns == 0, has_gap = guest->gap_end_ns != 0,
         has_first = has_gap && guest->gap_begin_ns == 0;
    /* The connection's first bytes end a gap that may have begun before it, so none is longer. */
    if (is_first || !has_gap || (!has_first && now - guest->last_ns > guest->gap_end_ns - guest->gap_begin_ns)) {
        guest->gap_begin_ns = guest->last_ns;
        guest->gap_end_ns = now;
    }
    guest->last_ns = now;
}

static void on_upload(struct host *host, struct guest *guest) {
    int64_t n = load_receive_stream(&guest->in, guest->fd, host->buffer, LOAD_BUFFER_BYTES);
    if (n == -EAGAIN)
        return;
    if (n == -EBADMSG) {
        guest_condemn(host, guest);
        return;
    }
    if (n > 0) {
        load_pace_came(&host->pace, (uint64_t)n);
        upload_came(guest);
        return;
    }
    guest->has_ended = n == 0;
    if (n < 0 || !report_next(host, guest))
        guest_end(host, guest, false);
}

static void on_echo(struct host *host, struct guest *guest, uint32_t events) {
    if (events & EPOLLOUT && !guest_send(host, guest)) {
        guest_end(host, guest, false);
        return;
    }
    if (!(events & (EPOLLIN | EPOLLHUP | EPOLLERR)))
        return;
    int64_t n = load_receive_stream(&guest->in, guest->fd, host->buffer, LOAD_BUFFER_BYTES);
    if (n == -EAGAIN)
        return;
    if (n == -EBADMSG) {
        guest_condemn(host, guest);
        return;
    }
    uint64_t whole = guest->in.at / guest->wish.message_bytes;
    guest->unsent += (whole - guest->messages) * guest->wish.message_bytes;
    guest->messages = whole;
    if (n <= 0 || !guest_send(host, guest))
        guest_end(host, guest, false);
}

static void on_download(struct host *host, struct guest *guest, uint32_t events) {
    bool had = guest->unsent > 0, broken = (events & (EPOLLHUP | EPOLLERR)) != 0;
    if (!broken && events & EPOLLIN) {
        char byte;
        broken = recv(guest->fd, &byte, 1, 0) >= 0 || errno != EAGAIN;
    }
    if (broken || !guest_send(host, guest)) {
        guest_end(host, guest, false);
        return;
    }
    if (had && guest->unsent == 0)
        shutdown(guest->fd, SHUT_WR);
}

/* Nothing more is expected but the end. */
static void on_rest(struct host *host, struct guest *guest) {
    char byte;
    ssize_t n = recv(guest->fd, &byte, 1, 0);
    if (n >= 0 || errno != EAGAIN)
        guest_end(host, guest, n > 0);
}

static bool wish_is_sane(const struct load_wish *wish) {
    return wish->magic == LOAD_MAGIC && wish->kind >= LOAD_DOWN && wish->kind <= LOAD_HOLD &&
           (wish->kind != LOAD_ECHO || (wish->message_bytes > 0 && wish->message_bytes <= LOAD_MESSAGE_BYTES_MAX));
}

/* Afterwards the guest is the other thread's. */
static bool guest_move(struct guest *guest, struct host *from, struct host *to) {
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = guest};
    return epoll_ctl(from->epoll, EPOLL_CTL_DEL, guest->fd, NULL) == 0 &&
           epoll_ctl(to->epoll, EPOLL_CTL_ADD, guest->fd, &event) == 0;
}

/* The wish is there. False: nothing to be done for it. */
static bool guest_begin(struct host *host, struct guest *guest) {
    const struct load_wish *wish = &guest->wish;
    if (!wish_is_sane(wish))
        return false;
    stream_init(&guest->in, wish->up_key);
    stream_init(&guest->out, wish->down_key);
    load_socket_buffers(guest->fd, wish->buffer_bytes);
    load_socket_pace(guest->fd, wish->pace);
    if (wish->kind == LOAD_DOWN) {
        guest->unsent = wish->bytes > 0 ? wish->bytes : UINT64_MAX;
        guest_want(host, guest, EPOLLIN | EPOLLOUT);
        return true;
    }
    if (wish->kind == LOAD_UP) {
        guest_list(host, guest);
        return report_next(host, guest);
    }
    if (send(guest->fd, &(char){LOAD_ACK}, 1, MSG_NOSIGNAL) != 1)
        return false;
    if (wish->kind == LOAD_OPEN && shutdown(guest->fd, SHUT_WR) != 0)
        return false;
    return !is_prompt(guest) || host->prompt == NULL || guest_move(guest, host, host->prompt);
}

static void on_wish(struct host *host, struct guest *guest) {
    size_t left = sizeof(guest->wish) - guest->wish_have;
    ssize_t n = recv(guest->fd, (char *)&guest->wish + guest->wish_have, left, 0);
    if (n < 0 && errno == EAGAIN)
        return;
    if (n <= 0) {
        guest_end(host, guest, false);
        return;
    }
    guest->wish_have += (size_t)n;
    if (guest->wish_have < sizeof(guest->wish))
        return;
    if (guest->wish.magic == LOAD_MAGIC && guest->wish.kind == LOAD_HANDED)
        guest_end(host, guest, !load_hand_over(guest->fd, &guest->wish));
    else if (!guest_begin(host, guest))
        guest_end(host, guest, true);
}

void guest_on_event(struct host *host, struct guest *guest, uint32_t events) {
    if (guest->is_doomed)
        guest_end(host, guest, true);
    else if (guest->wish_have < sizeof(guest->wish))
        on_wish(host, guest);
    else if (guest->wish.kind == LOAD_UP && guest->has_ended)
        guest_end(host, guest, false);
    else if (guest->wish.kind == LOAD_UP)
        on_upload(host, guest);
    else if (guest->wish.kind == LOAD_ECHO)
        on_echo(host, guest, events);
    else if (guest->wish.kind == LOAD_DOWN)
        on_download(host, guest, events);
    else
        on_rest(host, guest);
}

void guest_accept(struct host *host, int fd) {
    struct guest *guest = calloc(1, sizeof(*guest));
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = guest};
    if (guest == NULL || epoll_ctl(host->epoll, EPOLL_CTL_ADD, fd, &event) != 0) {
        free(guest);
        close(fd);
        return;
    }
    load_socket_prepare(fd);
    guest->fd = fd;
    guest->events = EPOLLIN;
    guest->report_sent = sizeof(guest->report);
}

void guest_on_tick(struct host *host) {
    struct guest *next;
    uint32_t count = 0;
    for (struct guest *guest = host->reporters; guest != NULL; guest = next) {
        next = guest->next;
        count++;
        if (guest->is_doomed) {
            guest_end(host, guest, true);
            continue;
        }
        if (!report_next(host, guest))
            guest_end(host, guest, false);
    }
    load_pace_tick(&host->pace, count);
}
