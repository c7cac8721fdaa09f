#include "tests/unit/conn_app.h"
#include <signal.h>
#include <stdio.h>

/* ---- the application's side ---- */

struct peer {
    int fd;
    uint64_t sent, received;
    bool eof, reset;
};

static void peer_write(struct peer *peer, uint64_t until) {
    uint8_t data[65536];
    while (peer->sent < until) {
        size_t len = until - peer->sent < sizeof data ? (size_t)(until - peer->sent) : sizeof data;
        rig_fill(data, len, peer->sent);
        ssize_t n = send(peer->fd, data, len, MSG_NOSIGNAL);
        if (n < 0)
            return;
        peer->sent += (uint64_t)n;
    }
}

static void peer_read(struct peer *peer) {
    uint8_t data[65536];
    for (;;) {
        ssize_t n = recv(peer->fd, data, sizeof data, 0);
        if (n <= 0) {
            peer->eof |= n == 0;
            peer->reset |= n < 0 && errno == ECONNRESET;
            return;
        }
        cr_assert(rig_matches(data, (size_t)n, peer->received));
        peer->received += (uint64_t)n;
    }
}

struct scene {
    struct shard shard;
    struct app app;
    struct peer peer;
};

static void scene_init(struct scene *scene, enum io_backend backend, uint32_t slots_max) {
    int fds[2];
    *scene = (struct scene){0};
    rig_init(&scene->shard, backend, slots_max);
    rig_tcp_pair(fds);
    app_init(&scene->app, &scene->shard, fds[0]);
    scene->peer.fd = fds[1];
}

static void scene_deinit(struct scene *scene) {
    if (!scene->app.ended)
        app_end(&scene->app);
    RIG_UNTIL(&scene->shard, scene->app.closed);
    app_deinit(&scene->app);
    if (scene->peer.fd >= 0)
        close(scene->peer.fd);
    shard_deinit(&scene->shard);
}

static void scene_rest(struct scene *scene) {
    for (unsigned i = 0; i < 5; i++)
        rig_turn(&scene->shard, 2 * RIG_MS);
}

/* ---- reading ---- */

RIG_TEST(conn, credit_is_the_most_that_is_read) {
    struct scene s;
    scene_init(&s, backend, 16);
    peer_write(&s.peer, 100);
    scene_rest(&s);
    cr_assert_eq(s.app.received, 0);
    conn_set_credit(&s.app.conn, 1);
    RIG_UNTIL(&s.shard, s.app.received == 1);
    conn_set_credit(&s.app.conn, 10);
    RIG_UNTIL(&s.shard, s.app.received == 11);
    scene_rest(&s);
    cr_assert_eq(s.app.received, 11);
    conn_set_credit(&s.app.conn, 1000);
    RIG_UNTIL(&s.shard, s.app.received == 100);
    scene_deinit(&s);
}

RIG_TEST(conn, a_long_stream_arrives_in_order_through_several_slots) {
    const uint64_t total = 6u << 20;
    struct scene s;
    scene_init(&s, backend, 256);
    s.app.credit_refill = 1u << 20;
    conn_set_credit(&s.app.conn, 1u << 20);
    peer_write(&s.peer, total);
    RIG_UNTIL(&s.shard, (peer_write(&s.peer, total), s.app.received == total));
    cr_assert_geq(s.app.slots_max, 2, "no vectored receive");
    scene_rest(&s);
    /* One slot may be lent to the kernel: it is not this connection's. */
    cr_assert_geq(s.shard.slots.free_count, s.shard.slots.count - 1, "an idle connection sits on slots");
    cr_assert(!s.app.eof);
    shutdown(s.peer.fd, SHUT_WR);
    RIG_UNTIL(&s.shard, s.app.eof);
    scene_rest(&s);
    cr_assert_eq(s.app.reset, 0);
    scene_deinit(&s);
}

RIG_TEST(conn, slots_are_no_longer_than_asked_for) {
    struct scene s;
    scene_init(&s, backend, 64);
    conn_set_slot_max(&s.app.conn, 1000);
    s.app.keep = true;
    s.app.credit_refill = 100000;
    peer_write(&s.peer, 20000);
    conn_set_credit(&s.app.conn, 100000);
    RIG_UNTIL(&s.shard, s.app.received == 20000);
    while (s.app.kept.first) {
        struct slot *slot = slot_queue_pop(&s.app.kept);
        cr_assert_leq(slot->len, 1000);
        slot_put(&s.shard.slots, slot);
    }
    scene_deinit(&s);
}

RIG_TEST(conn, an_empty_pool_makes_connections_wait_in_turn) {
    enum { CONNS = 6, SLOTS = 4 };
    struct shard shard;
    struct app apps[CONNS];
    struct peer peers[CONNS] = {0};
    struct slot *taken[SLOTS];
    rig_init(&shard, backend, SLOTS);
    for (unsigned i = 0; i < SLOTS; i++)
        taken[i] = slot_take(&shard.slots);
    for (unsigned i = 0; i < CONNS; i++) {
        int fds[2];
        rig_tcp_pair(fds);
        app_init(&apps[i], &shard, fds[0]);
        peers[i].fd = fds[1];
        apps[i].keep = true;
        apps[i].credit_refill = 1 << 20;
        peer_write(&peers[i], 100000);
        conn_set_credit(&apps[i].conn, 1 << 20);
    }
    for (unsigned i = 0; i < 20; i++)
        rig_turn(&shard, RIG_MS);
    for (unsigned i = 0; i < CONNS; i++)
        cr_assert_eq(apps[i].received, 0);
    app_end(&apps[0]);
    for (unsigned i = 0; i < SLOTS; i++)
        slot_put(&shard.slots, taken[i]);
    uint64_t left = CONNS - 1, end_ns = io_clock_ns() + RIG_TIMEOUT_NS;
    while (left > 0) {
        cr_assert(io_clock_ns() < end_ns, "a wake-up was lost");
        rig_turn(&shard, RIG_MS);
        left = 0;
        for (unsigned i = 1; i < CONNS; i++) {
            app_release_kept(&apps[i]);
            left += apps[i].received < 100000;
        }
    }
    for (unsigned i = 1; i < CONNS; i++)
        app_end(&apps[i]);
    for (unsigned i = 0; i < CONNS; i++) {
        RIG_UNTIL(&shard, apps[i].closed);
        app_deinit(&apps[i]);
        close(peers[i].fd);
    }
    shard_deinit(&shard);
}

/* The woken connection goes away without having used the slot: the next in line must hear of it. */
RIG_TEST(conn, a_wake_up_is_passed_on) {
    enum { SLOTS = 4 };
    struct slot *taken[SLOTS];
    struct scene s;
    struct app second;
    struct peer second_peer = {0};
    int fds[2];
    scene_init(&s, backend, SLOTS);
    for (unsigned i = 0; i < SLOTS; i++)
        taken[i] = slot_take(&s.shard.slots);
    rig_tcp_pair(fds);
    app_init(&second, &s.shard, fds[0]);
    second_peer.fd = fds[1];
    peer_write(&s.peer, 10);
    peer_write(&second_peer, 10);
    conn_set_credit(&s.app.conn, 100);
    RIG_UNTIL(&s.shard, list_linked(&s.app.conn.slot_waiter.node));
    conn_set_credit(&second.conn, 100);
    RIG_UNTIL(&s.shard, list_linked(&second.conn.slot_waiter.node));
    slot_put(&s.shard.slots, taken[0]);
    app_end(&s.app);
    RIG_UNTIL(&s.shard, second.received == 10);
    for (unsigned i = 1; i < SLOTS; i++)
        slot_put(&s.shard.slots, taken[i]);
    app_end(&second);
    RIG_UNTIL(&s.shard, second.closed);
    app_deinit(&second);
    close(second_peer.fd);
    scene_deinit(&s);
}

/* ---- writing ---- */

RIG_TEST(conn, slices_and_copies_leave_in_order_and_then_fin) {
    struct scene s;
    scene_init(&s, backend, 16);
    srand(1);
    while (s.app.fed < (3u << 20)) {
        uint32_t len = 1 + (uint32_t)rand() % 4000;
        if (rand() % 4 == 0)
            app_feed_copy(&s.app, len);
        else if (!app_feed_slice(&s.app, len))
            rig_turn(&s.shard, RIG_MS);
        peer_read(&s.peer);
        if (rand() % 50 == 0)
            rig_turn(&s.shard, 0);
    }
    conn_finish(&s.app.conn);
    cr_assert(!s.app.finished);
    RIG_UNTIL(&s.shard, (peer_read(&s.peer), s.peer.eof));
    cr_assert(s.app.finished);
    cr_assert_eq(s.peer.received, s.app.fed);
    cr_assert_eq(s.app.written, s.app.fed);
    app_feed_copy(&s.app, 5);
    cr_assert_eq(conn_queued(&s.app.conn), 0);
    scene_deinit(&s);
}

static void spill_all(struct scene *s) {
    int err;
    while ((err = conn_spill(&s->app.conn)) == ERR_AGAIN)
        rig_turn(&s->shard, RIG_MS);
    cr_assert_eq(err, 0);
    cr_assert_null(rxbuf_oldest(&s->app.rx));
}

RIG_TEST(conn, a_reader_that_stops_does_not_hold_the_ring) {
    struct scene s;
    scene_init(&s, backend, 16);
    for (unsigned round = 0; round < 4; round++) {
        while (app_feed_slice(&s.app, 3001))
            rig_turn(&s.shard, 0);
        struct slice *oldest = rxbuf_oldest(&s.app.rx);
        cr_assert(oldest && oldest->holder == &s.app.conn);
        spill_all(&s);
    }
    cr_assert(conn_queued(&s.app.conn) > 0 && s.app.written < s.app.fed);
    uint64_t stuck = s.app.written;
    scene_rest(&s);
    cr_assert_eq(s.app.written, stuck);
    conn_finish(&s.app.conn);
    RIG_UNTIL(&s.shard, (peer_read(&s.peer), s.peer.eof));
    cr_assert_eq(s.peer.received, s.app.fed);
    cr_assert_eq(s.app.written, s.app.fed);
    scene_deinit(&s);
}

RIG_TEST(conn, a_full_socket_and_no_credit_at_once) {
    struct scene s;
    scene_init(&s, backend, 16);
    conn_set_credit(&s.app.conn, 0);
    rig_turn(&s.shard, 0);
    cr_assert(s.app.conn.watch.in_flight);
    while (app_feed_slice(&s.app, 32768))
        rig_turn(&s.shard, 0);
    spill_all(&s);
    scene_rest(&s);
    RIG_UNTIL(&s.shard, (peer_read(&s.peer), s.peer.received == s.app.fed));
    rig_close_with_reset(s.peer.fd);
    s.peer.fd = -1;
    RIG_UNTIL(&s.shard, s.app.reset);
    cr_assert_eq(s.app.reset, ERR_RESET);
    scene_deinit(&s);
}

/* ---- the end ---- */

RIG_TEST(conn, a_reset_is_noticed_without_credit) {
    struct scene s;
    scene_init(&s, backend, 16);
    conn_set_credit(&s.app.conn, 1);
    peer_write(&s.peer, 3);
    RIG_UNTIL(&s.shard, s.app.received == 1);
    rig_close_with_reset(s.peer.fd);
    s.peer.fd = -1;
    RIG_UNTIL(&s.shard, s.app.reset);
    cr_assert_eq(s.app.reset, ERR_RESET);
    scene_rest(&s);
    cr_assert_eq(s.app.received, 1);
    scene_deinit(&s);
}

RIG_TEST(conn, a_reset_is_noticed_while_reading_and_while_writing) {
    for (unsigned writing = 0; writing < 2; writing++) {
        struct scene s;
        scene_init(&s, backend, 16);
        if (!writing)
            conn_set_credit(&s.app.conn, 1000);
        while (writing && app_feed_slice(&s.app, 32768))
            rig_turn(&s.shard, 0);
        rig_turn(&s.shard, RIG_MS);
        rig_close_with_reset(s.peer.fd);
        s.peer.fd = -1;
        RIG_UNTIL(&s.shard, s.app.reset);
        scene_deinit(&s);
    }
}

RIG_TEST(conn, both_directions_shut_is_no_error_and_does_not_spin) {
    struct scene s;
    scene_init(&s, backend, 16);
    peer_write(&s.peer, 7);
    conn_set_credit(&s.app.conn, 0);
    conn_finish(&s.app.conn);
    RIG_UNTIL(&s.shard, s.app.finished);
    shutdown(s.peer.fd, SHUT_WR);
    RIG_UNTIL(&s.shard, s.app.conn.hung_up);
    unsigned turns = 0;
    for (uint64_t end_ns = io_clock_ns() + 50 * RIG_MS; io_clock_ns() < end_ns; turns++)
        rig_turn(&s.shard, 50 * RIG_MS);
    cr_assert_leq(turns, 5, "%u turns for nothing", turns);
    cr_assert_eq(s.app.reset, 0);
    conn_set_credit(&s.app.conn, 100);
    RIG_UNTIL(&s.shard, s.app.eof);
    cr_assert_eq(s.app.received, 7);
    scene_deinit(&s);
}

RIG_TEST(conn, close_ends_with_fin_and_abort_with_rst) {
    for (unsigned abort_it = 0; abort_it < 2; abort_it++) {
        struct scene s;
        scene_init(&s, backend, 16);
        conn_set_credit(&s.app.conn, 100);
        rig_turn(&s.shard, 0);
        s.app.end_by_abort = abort_it;
        app_feed_slice(&s.app, 100);
        app_end(&s.app);
        cr_assert_null(rxbuf_oldest(&s.app.rx), "what is queued is dropped at once");
        app_feed_slice(&s.app, 100);
        conn_close(&s.app.conn);
        RIG_UNTIL(&s.shard, (peer_read(&s.peer), s.peer.eof || s.peer.reset));
        cr_assert_eq(s.peer.reset, abort_it);
        cr_assert_eq(s.peer.received, 0);
        scene_deinit(&s);
    }
}

static void provoke(struct scene *s, enum app_event event) {
    conn_set_credit(&s->app.conn, 1 << 20);
    if (event == APP_SLOT)
        peer_write(&s->peer, 300000);
    if (event == APP_EOF)
        shutdown(s->peer.fd, SHUT_WR);
    if (event == APP_WRITTEN)
        for (unsigned i = 0; i < 100; i++)
            app_feed_slice(&s->app, 1000);
    if (event == APP_FINISHED)
        conn_finish(&s->app.conn);
    if (event == APP_RESET) {
        rig_close_with_reset(s->peer.fd);
        s->peer.fd = -1;
    }
}

RIG_TEST(conn, the_end_may_come_from_within_any_callback) {
    for (enum app_event event = APP_SLOT; event <= APP_RESET; event++) {
        for (unsigned abort_it = 0; abort_it < 2; abort_it++) {
            struct scene s;
            scene_init(&s, backend, 64);
            s.app.credit_refill = 1 << 20;
            s.app.end_by_abort = abort_it;
            s.app.end_on = event;
            s.app.conn.hot = 4;
            s.app.conn.recv_filled = true;
            provoke(&s, event);
            RIG_UNTIL(&s.shard, s.app.closed);
            scene_deinit(&s);
        }
    }
}

Test(conn, a_slot_longer_than_the_pool_has_is_our_bug, .signal = SIGABRT) {
    struct scene s;
    scene_init(&s, IO_BACKEND_EPOLL, 4);
    fclose(stderr);
    conn_set_slot_max(&s.app.conn, LIMIT_CHANNEL_PACKET_BYTES + 1);
}

/* Slots that wait for data inside the backend go back and are lent anew, with receives pending and with data there. */
RIG_TEST(conn, trimming_loses_no_byte_and_no_slot) {
    struct scene s;
    uint64_t sent = 0;
    scene_init(&s, backend, 16);
    s.app.credit_refill = 1u << 20;
    conn_set_credit(&s.app.conn, 1u << 20);
    for (unsigned i = 0; i < 200; i++) {
        if (i % 3 != 0)
            rig_turn(&s.shard, 0);
        (void)shard_trim(&s.shard, 0);
        if (i % 4 == 0)
            rig_turn(&s.shard, 0);
        sent += 1000;
        peer_write(&s.peer, sent);
        if (i % 2 == 0)
            (void)shard_trim(&s.shard, 0);
        RIG_UNTIL(&s.shard, s.app.received == sent);
    }
    scene_deinit(&s);
}
