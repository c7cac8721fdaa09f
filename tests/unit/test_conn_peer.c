/* Conns that want to know when their peer, a Unix socket, has closed altogether. */
#include "tests/unit/conn_app.h"

struct scene {
    struct shard shard;
    struct app app;
    int peer;
};

static void scene_init(struct scene *scene, enum io_backend backend, bool watches) {
    int fds[2];
    *scene = (struct scene){0};
    rig_init(&scene->shard, backend, 16);
    cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds), 0);
    app_init(&scene->app, &scene->shard, fds[0]);
    scene->peer = fds[1];
    if (watches)
        conn_watch_peer(&scene->app.conn);
}

static void scene_deinit(struct scene *scene) {
    app_end(&scene->app);
    RIG_UNTIL(&scene->shard, scene->app.closed);
    app_deinit(&scene->app);
    if (scene->peer >= 0)
        close(scene->peer);
    shard_deinit(&scene->shard);
}

static void rest(struct scene *scene) {
    for (unsigned i = 0; i < 5; i++)
        rig_turn(&scene->shard, 2 * RIG_MS);
}

static void peer_sends(struct scene *scene, size_t len, uint64_t at) {
    uint8_t data[1000];
    rig_fill(data, len, at);
    cr_assert_eq(send(scene->peer, data, len, 0), (ssize_t)len);
}

static void peer_closes(struct scene *scene) {
    close(scene->peer);
    scene->peer = -1;
}

RIG_TEST(conn_peer, half_closed_is_not_gone) {
    struct scene s;
    scene_init(&s, backend, true);
    conn_set_credit(&s.app.conn, 5000);
    peer_sends(&s, 1000, 0);
    shutdown(s.peer, SHUT_WR);
    RIG_UNTIL(&s.shard, s.app.eof);
    rest(&s);
    cr_expect_eq(s.app.reset, 0);
    cr_expect_eq(s.app.received, 1000);
    app_feed_copy(&s.app, 100); /* and takes what is written */
    RIG_UNTIL(&s.shard, s.app.written == 100);
    uint8_t data[100];
    cr_expect_eq(recv(s.peer, data, sizeof data, 0), 100);
    rest(&s);
    cr_expect_eq(s.app.reset, 0);
    peer_closes(&s);
    RIG_UNTIL(&s.shard, s.app.reset != 0);
    cr_expect_eq(s.app.reset, ERR_CLOSED);
    scene_deinit(&s);
}

/* All that it sent is read before that. */
RIG_TEST(conn_peer, closed_at_once) {
    for (unsigned keeps_credit = 0; keeps_credit < 2; keeps_credit++) {
        struct scene s;
        scene_init(&s, backend, true);
        s.app.credit_refill = keeps_credit * 5000;
        if (keeps_credit)
            rest(&s);
        peer_sends(&s, 1000, 0);
        peer_closes(&s);
        conn_set_credit(&s.app.conn, 2000);
        RIG_UNTIL(&s.shard, s.app.reset != 0);
        cr_expect(s.app.eof);
        cr_expect_eq(s.app.received, 1000);
        cr_expect_eq(s.app.reset, ERR_CLOSED);
        scene_deinit(&s);
    }
}

/* Nobody may ever read that. */
RIG_TEST(conn_peer, closed_with_more_than_may_be_read) {
    for (uint64_t credit = 0; credit <= 600; credit += 300) {
        struct scene s;
        scene_init(&s, backend, true);
        if (credit > 0)
            conn_set_credit(&s.app.conn, credit);
        rest(&s);
        peer_sends(&s, 1000, 0);
        peer_closes(&s);
        RIG_UNTIL(&s.shard, s.app.reset != 0);
        cr_expect_not(s.app.eof);
        cr_expect_eq(s.app.received, credit);
        cr_expect_eq(s.app.reset, ERR_CLOSED);
        scene_deinit(&s);
    }
}

/* The peer is full when it goes. */
RIG_TEST(conn_peer, gone_while_there_is_no_room) {
    for (unsigned read_ends = 0; read_ends < 2; read_ends++) {
        struct scene s;
        scene_init(&s, backend, true);
        if (read_ends) {
            conn_set_credit(&s.app.conn, 5000);
            shutdown(s.peer, SHUT_WR);
            RIG_UNTIL(&s.shard, s.app.eof);
        }
        while (!s.app.conn.waiting_room) {
            for (unsigned i = 0; i < 16; i++)
                app_feed_copy(&s.app, 4096);
            rest(&s);
        }
        cr_expect_eq(s.app.reset, 0);
        peer_closes(&s);
        RIG_UNTIL(&s.shard, s.app.reset != 0);
        scene_deinit(&s);
    }
}

/* There is nothing more to say to it, and its own end is told. */
RIG_TEST(conn_peer, gone_after_our_end) {
    struct scene s;
    scene_init(&s, backend, true);
    conn_set_credit(&s.app.conn, 5000);
    conn_finish(&s.app.conn);
    RIG_UNTIL(&s.shard, s.app.finished);
    peer_closes(&s);
    RIG_UNTIL(&s.shard, s.app.eof);
    rest(&s);
    cr_expect_eq(s.app.reset, 0);
    scene_deinit(&s);
}

RIG_TEST(conn_peer, who_does_not_ask_is_not_told) {
    struct scene s;
    scene_init(&s, backend, false);
    conn_set_credit(&s.app.conn, 5000);
    peer_closes(&s);
    RIG_UNTIL(&s.shard, s.app.eof);
    rest(&s);
    cr_expect_eq(s.app.reset, 0);
    cr_expect_not(s.app.conn.watch.in_flight, "a poll for nothing");
    scene_deinit(&s);
}
