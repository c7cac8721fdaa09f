/* The main thread of a running leatd: signals, draining, the end. */
#include "ssh/server.h"
#include "ssh/deadline.h"
#include "ssh/server_internal.h"
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

static bool idle(const struct server_main *main) {
    return main->listeners_open == 0 && server_load(main) == 0;
}

static void stop_listening(struct server_main *main) {
    if (main->state == SERVER_RUNNING)
        server_listen_close_all(main);
}

static void begin_ending(struct server_main *main) {
    if (main->state == SERVER_ENDING)
        return;
    stop_listening(main);
    main->state = SERVER_ENDING;
    server_shards_end(main);
}

static void begin_draining(struct server_main *main) {
    uint32_t timeout_s = main->generation->options->drain_timeout_s;
    stop_listening(main);
    main->state = SERVER_DRAINING;
    main->drain_deadline_ns = deadline_now_ns() + timeout_s * SECOND_NS;
    log_info("draining %" PRIu32 " connections and relays, for %u s at most", server_load(main), timeout_s);
    server_shards_drain(main);
}

/* ---- signals ---- */

static void on_stop_signal(struct server_main *main, uint32_t number) {
    if (main->state == SERVER_ENDING)
        return;
    log_info("Received signal %u; terminating.", number);
    if (number == SIGTERM && main->state == SERVER_RUNNING)
        begin_draining(main);
    else
        begin_ending(main);
}

static void on_signal(struct server_main *main) {
    struct signalfd_siginfo info;
    if (read(main->signal_fd, &info, sizeof(info)) != sizeof(info))
        return;
    if (info.ssi_signo == SIGUSR1) {
        log_info("%" PRIu32 " connections and relays, %u not authenticated yet", server_load(main),
                 startups_count(main->server.startups));
        server_shards_print(main);
    } else if (info.ssi_signo != SIGHUP) {
        on_stop_signal(main, info.ssi_signo);
    } else if (main->state == SERVER_RUNNING && !main->inetd) {
        server_reload(main);
    }
}

/* ---- the loop ---- */

static bool over(const struct server_main *main) {
    return (main->state != SERVER_RUNNING || main->inetd) && idle(main);
}

void server_loop(struct server_main *main) {
    struct pollfd fds[2] = {{.fd = main->signal_fd, .events = POLLIN},
                            {.fd = mailbox_fd(main->news), .events = POLLIN}};
    while (!over(main)) {
        uint64_t deadline = main->state == SERVER_DRAINING ? main->drain_deadline_ns : 0;
        if (poll(fds, 2, deadline_poll_ms(deadline)) < 0 && errno != EINTR)
            break;
        if (fds[0].revents != 0)
            on_signal(main);
        mailbox_run(main->news);
        if (main->state != SERVER_DRAINING || !deadline_passed(main->drain_deadline_ns) || over(main))
            continue;
        log_info("drain timeout: ending %" PRIu32 " connections and relays", server_load(main));
        begin_ending(main);
    }
}

int server_run(const struct server_command_line *line, struct server_config *config, void (*on_ready)(void)) {
    struct server_main main = {.line = line};
    int err = server_start(&main, config);
    if (err == 0) {
        server_listen_commit(&main);
        on_ready();
        server_loop(&main);
        log_info("stopped");
    }
    int status = err == 0 ? 0 : EXIT_FAILED;
    server_stop(&main, status);
    return status;
}
