#include "bench/load.h"
#include "bench/load_guest.h"
#include "bench/load_net.h"
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define EVENTS_MAX 64
#define ACCEPTS_MAX 64
#define BACKLOG 4096
#define STOP_PATIENCE_MS 2000

static void host_listen(struct host *host, bool on) {
    struct epoll_event event = {.events = on ? EPOLLIN : 0, .data.ptr = &host->listener};
    epoll_ctl(host->epoll, EPOLL_CTL_MOD, host->listener, &event);
    host->is_full = !on;
}

static void on_connection(struct host *host) {
    for (int i = 0; i < ACCEPTS_MAX; i++) {
        int fd = accept4(host->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (fd >= 0) {
            guest_accept(host, fd);
            continue;
        }
        if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM)
            host_listen(host, false);
        return;
    }
}

static void host_tick(struct host *host) {
    guest_on_tick(host);
    if (host->is_full)
        host_listen(host, true);
}

/* Milliseconds to the next tick; for ever when nobody waits for one. */
static int host_timeout(const struct host *host, uint64_t tick_ns) {
    if (host->reporters == NULL && !host->is_full)
        return -1;
    uint64_t now = load_now();
    return now >= tick_ns ? 0 : (int)((tick_ns - now + 999999) / 1000000);
}

/* One turn. False: `control` has ended. */
static bool host_turn(struct host *host, int control, uint64_t *tick_ns) {
    struct epoll_event events[EVENTS_MAX];
    int count = epoll_wait(host->epoll, events, EVENTS_MAX, host_timeout(host, *tick_ns));
    for (int i = 0; i < count; i++) {
        if (events[i].data.ptr == host) {
            char ignored;
            if (read(control, &ignored, 1) <= 0)
                return false;
        } else if (events[i].data.ptr == &host->listener)
            on_connection(host);
        else
            guest_on_event(host, events[i].data.ptr, events[i].events);
    }
    if (load_now() >= *tick_ns) {
        host_tick(host);
        *tick_ns = load_now() + LOAD_TICK_NS;
    }
    load_pace_rest(&host->pace);
    return count >= 0 || errno == EINTR;
}

static void host_serve(struct host *host, int control) {
    uint64_t tick_ns = 0;
    while (host_turn(host, control, &tick_ns))
        ;
}

static struct host *host_create(int listener, int control) {
    struct host *host = calloc(1, sizeof(*host));
    struct epoll_event end = {.events = EPOLLIN | EPOLLRDHUP, .data.ptr = host};
    if (host == NULL)
        return NULL;
    struct epoll_event connection = {.events = EPOLLIN, .data.ptr = &host->listener};
    host->epoll = epoll_create1(EPOLL_CLOEXEC);
    host->listener = listener;
    if (host->epoll >= 0 && epoll_ctl(host->epoll, EPOLL_CTL_ADD, control, &end) == 0 &&
        (listener < 0 || epoll_ctl(host->epoll, EPOLL_CTL_ADD, listener, &connection) == 0))
        return host;
    if (host->epoll >= 0)
        close(host->epoll);
    free(host);
    return NULL;
}

static void host_free(struct host *host) {
    close(host->epoll);
    free(host);
}

/* Those that wait for an answer: in a thread that bulk does not hold up. It ends when its pipe does. */
struct prompt {
    struct host *host;
    int control, end;
    pthread_t thread;
};

static void *prompt_main(void *arg) {
    struct prompt *prompt = arg;
    load_hurry();
    host_serve(prompt->host, prompt->control);
    return NULL;
}

static bool prompt_start(struct prompt *prompt) {
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0)
        return false;
    prompt->control = ends[0];
    prompt->end = ends[1];
    prompt->host = host_create(-1, prompt->control);
    if (prompt->host != NULL && pthread_create(&prompt->thread, NULL, prompt_main, prompt) == 0)
        return true;
    if (prompt->host != NULL)
        host_free(prompt->host);
    close(ends[0]);
    close(ends[1]);
    return false;
}

static void prompt_stop(struct prompt *prompt) {
    close(prompt->end);
    pthread_join(prompt->thread, NULL);
    host_free(prompt->host);
    close(prompt->control);
}

int target_serve(int listener, int control) {
    struct prompt prompt;
    uint32_t limit;
    signal(SIGPIPE, SIG_IGN);
    prctl(PR_SET_TIMERSLACK, 1UL);
    load_raise_files(LOAD_FLOWS_MAX + 64, &limit); /* as many as may be; the load says when it was too few */
    struct host *host = stream_setup() ? host_create(listener, control) : NULL;
    bool works = host != NULL && prompt_start(&prompt);
    if (works) {
        host->prompt = prompt.host;
        host_serve(host, control);
        prompt_stop(&prompt);
    }
    if (host != NULL)
        host_free(host);
    return works ? 0 : -1;
}

static int listen_at(struct sockaddr_in *address) {
    socklen_t len = sizeof(*address);
    int one = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    if (bind(fd, (struct sockaddr *)address, len) != 0 || listen(fd, BACKLOG) != 0 ||
        getsockname(fd, (struct sockaddr *)address, &len) != 0) {
        int error = errno;
        close(fd);
        errno = error;
        return -1;
    }
    return fd;
}

/* What the child tells when it listens, or why it does not. */
struct outcome {
    int error;
    struct sockaddr_in address;
};

_Noreturn static void target_main(struct sockaddr_in address, const struct place *place, int control) {
    struct outcome outcome = {.address = address};
    int listener = -1;
    if (!load_enter(place, control) || (listener = listen_at(&outcome.address)) < 0)
        outcome.error = errno;
    if (write(control, &outcome, sizeof(outcome)) != sizeof(outcome) || outcome.error != 0)
        _exit(1);
    _exit(target_serve(listener, control) == 0 ? 0 : 1);
}

bool target_start(struct target *target, struct in_addr bind_address, uint16_t port, const struct place *place) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr = bind_address, .sin_port = htons(port)};
    struct outcome outcome;
    *target = (struct target){.control = -1};
    target->pid = load_fork(&target->control);
    if (target->pid == 0)
        target_main(address, place, target->control);
    if (target->pid < 0) {
        *target = (struct target){.control = -1};
        return false;
    }
    ssize_t n;
    do
        n = read(target->control, &outcome, sizeof(outcome));
    while (n < 0 && errno == EINTR);
    if (n == sizeof(outcome) && outcome.error == 0) {
        target->address = outcome.address;
        return true;
    }
    int error = n == sizeof(outcome) ? outcome.error : ECHILD;
    target_stop(target);
    errno = error;
    return false;
}

void target_stop(struct target *target) {
    if (target->pid <= 0)
        return;
    shutdown(target->control, SHUT_WR);
    uint64_t end_ns = load_now() + STOP_PATIENCE_MS * UINT64_C(1000000), now;
    struct pollfd ended = {.fd = target->control, .events = POLLIN};
    /* Its end of the pair is closed when it is gone, and it never writes again. */
    while ((now = load_now()) < end_ns && poll(&ended, 1, (int)((end_ns - now) / 1000000) + 1) < 0)
        ;
    if (ended.revents == 0)
        kill(target->pid, SIGKILL);
    while (waitpid(target->pid, NULL, 0) < 0 && errno == EINTR)
        ;
    close(target->control);
    *target = (struct target){.control = -1};
}
