#pragma once
/* Plain relays with an application at each end, played by the test itself. */
#include "engine/limits.h"
#include "engine/splice.h"
#include "engine/splice_pool.h"
#include "engine_rig.h"
#include <signal.h>
#include <sys/socket.h>

/* Every stream is this over and over; prime, so that a piece lost or doubled never fits in again. */
#define STREAM_PERIOD 1000003u
static uint8_t stream_bytes[STREAM_PERIOD + 65536];

struct app {
    int fd;
    uint64_t sent, received;
    bool ended; /* it sent FIN */
    bool eof;   /* it got FIN */
    int error;  /* or this instead */
};

/* A relay between two applications. */
struct line {
    struct app apps[2];
    struct splice_relay *relay;
    unsigned ends;
    char what[64];
    struct splice_end end;
};

static struct shard shard;
static struct splice_pool *pool;
static bool starting; /* on_end must not come from within a call of ours */

static void line_on_end(void *owner, const struct splice_end *end) {
    struct line *line = owner;
    cr_assert_not(starting);
    line->ends++;
    line->end = *end;
    line->relay = NULL;
    snprintf(line->what, sizeof line->what, "%s", end->what ? end->what : "");
}

static inline void world_init(enum io_backend backend, uint32_t pipes_max) {
    signal(SIGPIPE, SIG_IGN);
    rig_fill(stream_bytes, STREAM_PERIOD, 0);
    memcpy(stream_bytes + STREAM_PERIOD, stream_bytes, sizeof stream_bytes - STREAM_PERIOD);
    rig_init(&shard, backend, 8);
    cr_assert_eq(splice_pool_create(&shard, pipes_max, &pool), 0);
}
static inline void world_deinit(void) {
    cr_assert_eq(pool->relays_count, 0);
    splice_pool_destroy(pool);
    shard_deinit(&shard);
}

static inline void line_between(struct line *line, const int a[2], const int b[2], uint64_t idle_ns) {
    *line = (struct line){.apps = {{.fd = a[0]}, {.fd = b[0]}}};
    starting = true;
    cr_assert_eq(splice_relay_start(pool, a[1], b[1], idle_ns, line_on_end, line, &line->relay), 0);
    starting = false;
}
static inline void line_init(struct line *line, uint64_t idle_ns) {
    int a[2], b[2];
    rig_tcp_pair(a);
    rig_tcp_pair(b);
    line_between(line, a, b, idle_ns);
}
static inline void line_abort(struct line *line) {
    starting = true;
    if (line->relay)
        splice_relay_abort(line->relay);
    starting = false;
}
static inline void line_deinit(struct line *line) {
    line_abort(line);
    RIG_UNTIL(&shard, line->ends > 0);
    cr_assert_eq(line->ends, 1);
    /* Thousands that wait for a minute each would leave no port for the tests beside this one. */
    for (unsigned i = 0; i < 2; i++)
        if (line->apps[i].fd >= 0)
            rig_close_with_reset(line->apps[i].fd);
}

/* Sends what fits, at most so much. */
static inline uint64_t app_send(struct app *app, uint64_t most) {
    uint64_t total = 0;
    while (total < most) {
        size_t len = most - total < 65536 ? (size_t)(most - total) : 65536;
        ssize_t sent = send(app->fd, stream_bytes + app->sent % STREAM_PERIOD, len, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (sent <= 0)
            break;
        app->sent += (uint64_t)sent;
        total += (uint64_t)sent;
    }
    return total;
}
static inline void app_end(struct app *app) {
    cr_assert_eq(shutdown(app->fd, SHUT_WR), 0);
    app->ended = true;
}
static inline void app_reset(struct app *app) {
    rig_close_with_reset(app->fd);
    app->fd = -1;
}

/* Takes what is there, at most so much; every byte must be the right one. */
static inline uint64_t app_recv(struct app *app, uint64_t most) {
    static uint8_t bytes[65536];
    uint64_t total = 0;
    while (total < most && !app->eof && app->error == 0) {
        size_t len = most - total < sizeof bytes ? (size_t)(most - total) : sizeof bytes;
        ssize_t got = recv(app->fd, bytes, len, MSG_DONTWAIT);
        if (got < 0) {
            app->error = errno == EAGAIN ? 0 : errno;
            break;
        }
        app->eof = got == 0;
        cr_assert_eq(memcmp(bytes, stream_bytes + app->received % STREAM_PERIOD, (size_t)got), 0, "after byte %lu",
                     (unsigned long)app->received);
        app->received += (uint64_t)got;
        total += (uint64_t)got;
    }
    return total;
}
/* Everything it can get now; for conditions. */
static inline struct app *app_drained(struct app *app) {
    app_recv(app, UINT64_MAX);
    return app;
}

/* How many turns it takes to let that much time pass when nothing happens: sweeps, and what TCP does to a full window
 * every 200 ms. Spinning takes thousands. */
#define QUIET_TURNS 30u
static inline unsigned turns_while_quiet(uint64_t time_ns) {
    for (int i = 0; i < 20; i++)
        rig_turn(&shard, 0);
    unsigned turns = 0;
    uint64_t end_ns = io_clock_ns() + time_ns;
    for (; io_clock_ns() < end_ns; turns++)
        cr_assert_eq(shard_turn(&shard, end_ns), 0);
    return turns;
}
