/* The plain relay: every byte, either end of a conversation, resets, slow readers, idleness; on both backends. */
#include "seed.h"
#include "splice_rig.h"

static struct line line;
#define A line.apps[0]
#define B line.apps[1]

static void start(enum io_backend backend) {
    world_init(backend, 0);
    line_init(&line, 0);
}
static void finish(void) {
    line_deinit(&line);
    world_deinit();
}

static void expect_orderly_end(void) {
    RIG_UNTIL(&shard, line.ends == 1);
    cr_assert_str_eq(line.what, "");
    cr_assert_null(line.end.what);
    cr_assert(A.received == B.sent && B.received == A.sent);
    cr_assert(line.end.bytes_a_to_b == A.sent && line.end.bytes_b_to_a == B.sent);
    cr_assert_gt(line.end.duration_ns, 0);
}

RIG_TEST(splice, content_both_ways) {
    start(backend);
    const uint64_t total = 12345678;
    uint64_t end_ns = io_clock_ns() + RIG_TIMEOUT_NS;
    while (!A.eof || !B.eof) {
        for (unsigned i = 0; i < 2; i++) {
            struct app *app = &line.apps[i];
            app_send(app, total - app->sent);
            if (app->sent == total && !app->ended)
                app_end(app);
            app_recv(app, 300000);
        }
        rig_turn(&shard, RIG_MS);
        cr_assert_lt(io_clock_ns(), end_ns);
        cr_assert(!line.relay || splice_relay_bytes(line.relay) <= 2 * total);
    }
    cr_assert_eq(A.received, total);
    expect_orderly_end();
    finish();
}

RIG_TEST(splice, one_byte_at_a_time) {
    start(backend);
    for (unsigned i = 0; i < 50; i++) {
        cr_assert_eq(app_send(&A, 1), 1);
        RIG_UNTIL(&shard, app_drained(&B)->received == A.sent);
        cr_assert_eq(app_send(&B, 1), 1);
        RIG_UNTIL(&shard, app_drained(&A)->received == B.sent);
    }
    cr_assert_eq(splice_relay_bytes(line.relay), 100);
    cr_assert_leq(turns_while_quiet(50 * RIG_MS), 3, "an idle relay sleeps");
    cr_assert_eq(pool->free_count, pool->pipes_count, "and holds no pipe");
    finish();
}

/* Whoever ends first, the other goes on as long as it likes. */
static void half_close(enum io_backend backend, unsigned first) {
    start(backend);
    struct app *one = &line.apps[first], *other = &line.apps[!first];
    app_send(one, 100000);
    app_end(one);
    RIG_UNTIL(&shard, app_drained(other)->eof);
    cr_assert_eq(other->received, one->sent);
    cr_assert_leq(turns_while_quiet(50 * RIG_MS), 3, "a half-closed relay sleeps");
    for (unsigned i = 0; i < 5; i++) {
        app_send(other, 70000);
        RIG_UNTIL(&shard, app_drained(one)->received == other->sent);
    }
    cr_assert_eq(line.ends, 0);
    app_send(other, 50000);
    app_end(other);
    RIG_UNTIL(&shard, app_drained(one)->eof);
    expect_orderly_end();
    finish();
}
RIG_TEST(splice, half_close_a_first) {
    half_close(backend, 0);
}
RIG_TEST(splice, half_close_b_first) {
    half_close(backend, 1);
}

RIG_TEST(splice, nothing_said_at_all) {
    start(backend);
    app_end(&A);
    app_end(&B);
    RIG_UNTIL(&shard, app_drained(&A)->eof && app_drained(&B)->eof);
    expect_orderly_end();
    finish();
}

enum moment { IDLE, AFTER_BYTES, AFTER_ITS_FIN, AFTER_THE_OTHER_FIN, MOMENTS };
static void reset(enum io_backend backend, unsigned who, enum moment when) {
    start(backend);
    struct app *one = &line.apps[who], *other = &line.apps[!who];
    if (when == AFTER_BYTES) {
        app_send(one, 5000);
        app_send(other, 5000);
        RIG_UNTIL(&shard, app_drained(one)->received == 5000 && app_drained(other)->received == 5000);
    } else if (when == AFTER_ITS_FIN) {
        app_end(one);
        RIG_UNTIL(&shard, app_drained(other)->eof);
        other->eof = false;
    } else if (when == AFTER_THE_OTHER_FIN) {
        app_end(other);
        RIG_UNTIL(&shard, app_drained(one)->eof);
    }
    app_reset(one);
    RIG_UNTIL(&shard, line.ends == 1);
    cr_assert_neq(line.what[0], 0);
    if (when != AFTER_ITS_FIN) { /* a socket that has seen FIN reports EOF first, whatever follows it */
        app_recv(other, 1);
        cr_assert_eq(other->error, ECONNRESET, "%u %d: %s", who, when, strerror(other->error));
    } else {
        cr_assert_eq(send(other->fd, "x", 1, MSG_NOSIGNAL), -1, "nobody is there any more");
    }
    finish();
}
RIG_TEST(splice, reset_is_passed_on) {
    for (unsigned who = 0; who < 2; who++)
        for (enum moment when = 0; when < MOMENTS; when++)
            reset(backend, who, when);
}

static void small_buffers(int fd) {
    const int size = 65536;
    cr_assert_eq(setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof size), 0);
    cr_assert_eq(setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof size), 0);
}
static void start_small(enum io_backend backend) {
    int a[2], b[2];
    world_init(backend, 0);
    rig_tcp_pair(a);
    rig_tcp_pair(b);
    for (unsigned i = 0; i < 2; i++) {
        small_buffers(a[i]);
        small_buffers(b[i]);
    }
    line_between(&line, a, b, 0);
}
/* A sends until nothing moves any more, B reads nothing. */
static void stall(void) {
    for (unsigned quiet = 0; quiet < 10;) {
        bool moved = app_send(&A, UINT64_MAX) > 0;
        rig_turn(&shard, RIG_MS);
        quiet = moved ? 0 : quiet + 1;
        cr_assert_lt(A.sent, 4 * LIMIT_SPLICE_PIPE_BYTES, "four small buffers and a pipe hold less");
    }
}

RIG_TEST(splice, a_stalled_reader_stops_its_sender_and_costs_nothing) {
    start_small(backend);
    stall();
    cr_assert_eq(pool->pipes_count - pool->free_count, 1);
    cr_assert_leq(turns_while_quiet(600 * RIG_MS), QUIET_TURNS);
    app_send(&B, 100000); /* the other way is free */
    RIG_UNTIL(&shard, app_drained(&A)->received == B.sent);
    app_end(&A);
    RIG_UNTIL(&shard, app_drained(&B)->eof);
    cr_assert_eq(B.received, A.sent);
    app_end(&B);
    RIG_UNTIL(&shard, app_drained(&A)->eof);
    expect_orderly_end();
    finish();
}

/* Stop and go, so that the source is watched for errors in between, and then for data again. */
RIG_TEST(splice, stalled_and_going_on) {
    start_small(backend);
    for (unsigned i = 0; i < 3; i++) {
        stall();
        cr_assert_not(list_empty(&pool->stalled));
        RIG_UNTIL(&shard, list_empty(&pool->stalled)); /* now the source is watched */
        RIG_UNTIL(&shard, app_drained(&B)->received == A.sent);
        app_send(&A, 10);
        RIG_UNTIL(&shard, app_drained(&B)->received == A.sent);
    }
    finish();
}

/* The reader does not read, and the sender is gone: it must not stay for ever. */
RIG_TEST(splice, reset_of_a_stalled_source) {
    start_small(backend);
    stall();
    app_reset(&A);
    RIG_UNTIL(&shard, line.ends == 1);
    cr_assert_str_eq(line.what, "connection reset");
    RIG_UNTIL(&shard, app_drained(&B)->error == ECONNRESET);
    cr_assert_lt(B.received, A.sent);
    finish();
}
RIG_TEST(splice, reset_of_a_reader_that_stalled) {
    start_small(backend);
    stall();
    app_reset(&B);
    RIG_UNTIL(&shard, line.ends == 1);
    RIG_UNTIL(&shard, app_drained(&A)->error == ECONNRESET);
    finish();
}

/* Both have sent FIN and one does not read: its source hangs up without an error, which must not spin. */
RIG_TEST(splice, stalled_with_both_ends_closed) {
    start_small(backend);
    stall();
    app_end(&A);
    app_end(&B);
    RIG_UNTIL(&shard, app_drained(&A)->eof);
    cr_assert_leq(turns_while_quiet(900 * RIG_MS), QUIET_TURNS);
    RIG_UNTIL(&shard, app_drained(&B)->eof);
    expect_orderly_end();
    finish();
}

RIG_TEST(splice, idle_relays_end) {
    world_init(backend, 0);
    line_init(&line, 1500 * RIG_MS); /* a loaded machine may hold us up for longer than a shorter one */
    uint64_t until_ns = io_clock_ns() + 2000 * RIG_MS, sent_ns = 0;
    while (io_clock_ns() < until_ns) { /* a byte now and then, either way, keeps it */
        sent_ns = io_clock_ns();
        app_send(&line.apps[A.sent > B.sent], 1);
        rig_turn(&shard, RIG_MS);
        app_recv(&A, 1);
        app_recv(&B, 1);
    }
    cr_assert_eq(line.ends, 0);
    RIG_UNTIL(&shard, line.ends == 1);
    cr_assert_geq(io_clock_ns() - sent_ns, 1490 * RIG_MS);
    cr_assert_str_eq(line.what, "timed out");
    cr_assert(app_drained(&A)->error == ECONNRESET && app_drained(&B)->error == ECONNRESET);
    finish();
}

RIG_TEST(splice, abort_at_once_and_later) {
    for (unsigned turns = 0; turns < 4; turns++) {
        start(backend);
        app_send(&A, 100000);
        for (unsigned i = 0; i < turns; i++)
            rig_turn(&shard, 0);
        line_abort(&line);
        line_abort(&line);
        cr_assert_eq(line.ends, 0);
        RIG_UNTIL(&shard, line.ends == 1);
        cr_assert_str_eq(line.what, "aborted");
        app_drained(&B);
        cr_assert(app_drained(&A)->error == ECONNRESET && B.error == ECONNRESET);
        cr_assert_eq(line.end.bytes_a_to_b >= B.received, true);
        finish();
    }
}

/* What was in its pipe is nobody else's. */
RIG_TEST(splice, aborted_with_bytes_in_its_pipe) {
    start_small(backend);
    stall();
    line_deinit(&line);
    cr_assert_eq(pool->free_count, pool->pipes_count);
    line_init(&line, 0);
    app_send(&A, 50000);
    RIG_UNTIL(&shard, app_drained(&B)->received == A.sent);
    finish();
}

/* One turn moves no more than its budget each way, so that others have their turn. */
RIG_TEST(splice, a_turn_is_bounded) {
    const int size = 8 << 20;
    start(backend);
    for (unsigned i = 0; i < 2; i++)
        (void)setsockopt(line.apps[i].fd, SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof size);
    uint64_t queued = app_send(&A, 8 << 20), largest = 0;
    for (unsigned i = 0; i < 200; i++) {
        uint64_t before = splice_relay_bytes(line.relay);
        rig_turn(&shard, RIG_MS);
        uint64_t moved = splice_relay_bytes(line.relay) - before;
        largest = moved > largest ? moved : largest;
        app_recv(&B, UINT64_MAX);
        queued += app_send(&A, 8 << 20);
    }
    cr_assert_gt(queued, 16 * LIMIT_SPLICE_TURN_BYTES, "there was always enough");
    cr_assert_leq(largest, LIMIT_SPLICE_TURN_BYTES);
    finish();
}

RIG_TEST(splice, unix_sockets_too) {
    int a[2], b[2];
    world_init(backend, 0);
    cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, a), 0);
    rig_tcp_pair(b);
    line_between(&line, a, b, 0);
    while (A.sent < 3000000) {
        app_send(&A, 3000000 - A.sent);
        app_send(&B, 3000000 - B.sent);
        rig_turn(&shard, RIG_MS);
        app_recv(&A, UINT64_MAX);
        app_recv(&B, UINT64_MAX);
    }
    app_end(&A);
    app_end(&B);
    RIG_UNTIL(&shard, app_drained(&A)->eof && app_drained(&B)->eof);
    expect_orderly_end();
    finish();
}

/* A Unix socket that is closed hangs up without an error, which must not spin while the other side has more to say. */
RIG_TEST(splice, closed_unix_socket_and_a_quiet_peer) {
    int a[2], b[2];
    world_init(backend, 0);
    cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, a), 0);
    rig_tcp_pair(b);
    line_between(&line, a, b, 0);
    app_send(&A, 1000);
    close(A.fd);
    A.fd = -1;
    RIG_UNTIL(&shard, app_drained(&B)->eof);
    cr_assert_eq(B.received, 1000);
    cr_assert_leq(turns_while_quiet(100 * RIG_MS), QUIET_TURNS);
    app_send(&B, 1);
    RIG_UNTIL(&shard, line.ends == 1);
    cr_assert_str_eq(line.what, "connection closed");
    finish();
}

/* Several lines, applications that do anything at any time, and hardly any pipes: what arrives is a beginning of what
 * was sent, all of it where nobody reset or aborted. */
static enum io_backend random_backend;
static void random_app(struct line *of, unsigned i, uint64_t *seed, bool *broken) {
    struct app *app = &of->apps[i];
    if (app->fd < 0)
        return;
    uint32_t choice = random_below(seed, 100);
    if (choice < 40 && !app->ended)
        app_send(app, 1u << random_below(seed, 22));
    else if (choice < 90)
        app_recv(app, 1u << random_below(seed, 22));
    else if (choice < 92 && !app->ended && of->ends == 0)
        app->ended = shutdown(app->fd, SHUT_WR) == 0;
    else if (choice == 92 && random_chance(seed, 8))
        app_reset(app), *broken = true;
    else if (choice == 93 && random_chance(seed, 16))
        line_abort(of), *broken = true;
}
static void random_finish(struct line *of, bool broken) {
    uint64_t end_ns = io_clock_ns() + RIG_TIMEOUT_NS;
    while (of->ends == 0) {
        for (unsigned i = 0; i < 2; i++) {
            struct app *app = &of->apps[i];
            if (app->fd >= 0 && !app->ended)
                app->ended = shutdown(app->fd, SHUT_WR) == 0;
            if (app->fd >= 0)
                app_recv(app, UINT64_MAX);
        }
        rig_turn(&shard, RIG_MS);
        cr_assert_lt(io_clock_ns(), end_ns);
    }
    for (unsigned i = 0; i < 2; i++) {
        struct app *app = &of->apps[i], *other = &of->apps[!i];
        if (!broken)
            RIG_UNTIL(&shard, app_drained(app)->eof); /* the kernel still delivers */
        cr_assert(app->received <= other->sent);
        cr_assert(broken || (app->eof && app->received == other->sent));
    }
    /* A reset may come when everything has been said already. */
    cr_assert(broken || of->what[0] == 0, "%s", of->what);
    line_deinit(of);
}
static void random_lines(uint64_t *seed) {
    enum { LINES = 5 };
    struct line lines[LINES];
    bool broken[LINES] = {false};
    world_init(random_backend, 1 + random_below(seed, 3));
    for (unsigned i = 0; i < LINES; i++)
        line_init(&lines[i], 0);
    for (unsigned step = random_below(seed, 600); step > 0; step--) {
        unsigned at = random_below(seed, LINES);
        random_app(&lines[at], random_below(seed, 2), seed, &broken[at]);
        if (random_chance(seed, 2))
            rig_turn(&shard, random_chance(seed, 4) ? RIG_MS : 0);
    }
    for (unsigned i = 0; i < LINES; i++)
        random_finish(&lines[i], broken[i]);
    cr_assert_eq(pool->free_count, pool->pipes_count);
    world_deinit();
}
Test(splice_io_uring, random, .fini = seed_report) {
    random_backend = IO_BACKEND_URING;
    seed_each(25, random_lines);
}
Test(splice_epoll, random, .fini = seed_report) {
    random_backend = IO_BACKEND_EPOLL;
    seed_each(25, random_lines);
}
