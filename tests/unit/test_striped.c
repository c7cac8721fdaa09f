/* Striped connections with real sockets: content both ways over several lanes, lanes that are lost, ends and resets,
 * and readers that stall. */
#include "ssh/codec.h"
#include "tests/unit/striped_rig.h"

static void side_close(struct side *side, bool reset) {
    if (reset)
        rig_close_with_reset(side->app);
    else
        close(side->app);
    side->app = -1;
}

RIG_TEST(striped, three_lanes_both_ways) {
    unsigned before = rig_descriptors();
    rig_begin(backend, 3);
    both_send(24 * MIB, 17 * MIB + 1);
    rig_finish();
    expect_whole();
    cr_expect_eq(rig.sides[0].lanes_seen, 3);
    cr_expect_eq(rig.sides[1].lanes_seen, 3);
    for (unsigned i = 0; i < 3; i++)
        cr_expect(rig.wires[i].carried > MIB, "lane %u carried %" PRIu64, i, rig.wires[i].carried);
    cr_expect_eq(rig_descriptors(), before);
}

/* A large receive that was begun when there was much room, and is filled when there is little. */
#define EARLY_SLOTS 5u

static void read_early(uint64_t memory_left) {
    struct side *side = &rig.sides[0];
    side->to_send = 3 * MIB;
    DRIVE_UNTIL(rig.sides[1].received == 3 * MIB);
    DRIVE_UNTIL(stripe_room(side->striped->stripe) == LIMIT_CHANNEL_PACKET_BYTES);
    rig.budget.max = atomic_load(&rig.budget.used) + memory_left;
    for (unsigned i = 0; i < EARLY_SLOTS; i++) {
        struct slot *slot = slot_take(&rig.shard.slots);
        slot->len = LIMIT_CHANNEL_PACKET_BYTES;
        rig_fill(slot->data, slot->len, side->sent);
        side->sent += slot->len;
        striped_app_ops.on_slot(&side->striped->app, slot);
    }
}

RIG_TEST(striped, what_is_read_early_holds_no_slots) {
    rig_begin(backend, 3);
    read_early((uint64_t)(EARLY_SLOTS - 1) * LIMIT_CHANNEL_PACKET_BYTES);
    cr_assert(window_budget_low(&rig.budget));
    cr_expect_eq(rig.sides[0].striped->early.count, 0);
    rig.budget.max = LIMIT_WINDOW_BUDGET_BYTES;
    both_send(5 * MIB, MIB);
    rig_finish();
    expect_whole();
}

RIG_TEST(striped, more_is_read_than_there_is_room_for) {
    rig_begin(backend, 3);
    read_early(0);
    cr_assert_eq(rig.sides[0].striped->early.count, EARLY_SLOTS - 1);
    cr_assert_eq(stripe_room(rig.sides[0].striped->stripe), 0);
    rig.budget.max = LIMIT_WINDOW_BUDGET_BYTES;
    both_send(5 * MIB, MIB);
    rig_finish();
    expect_whole();
}

/* Of many windows' memory there is little. */
RIG_TEST(striped, little_memory_for_many) {
    for (rig.memory = 8 * LIMIT_CHANNEL_PACKET_BYTES; rig.memory <= 2 * MIB; rig.memory *= 2) {
        uint64_t memory = rig.memory;
        rig = (struct stripes){.memory = memory};
        rig_begin(backend, 3);
        both_send(3 * MIB, 2 * MIB);
        uint64_t limit_ns = io_clock_ns() + RIG_TIMEOUT_NS;
        while (!rig.sides[0].ended || !rig.sides[1].ended) {
            cr_assert(io_clock_ns() < limit_ns);
            cr_assert(atomic_load(&rig.budget.used) <= memory);
            rig.sides[0].stalled = rig.sides[1].stalled = io_clock_ns() / RIG_MS % 2 == 0;
            rig_drive();
        }
        rig.sides[0].stalled = rig.sides[1].stalled = false;
        rig_drive();
        rig_finish();
        expect_whole();
    }
}

RIG_TEST(striped, little_takes_one_lane) {
    rig_begin(backend, 3);
    both_send(1, LIMIT_STRIPE_JOIN_BYTES - 2);
    rig_finish();
    expect_whole();
    cr_expect_eq(rig.sides[0].wants, 0);
    cr_expect_eq(rig.sides[0].lanes_seen, 1);
}

RIG_TEST(striped, nothing_at_all) {
    rig_begin(backend, 3);
    both_send(0, 0);
    rig_finish();
    expect_whole();
}

RIG_TEST(striped, a_lane_is_cut) {
    rig_begin(backend, 3);
    both_send(24 * MIB, 24 * MIB);
    DRIVE_UNTIL(rig.sides[0].received > 6 * MIB && rig.sides[1].received > 6 * MIB);
    rig_cut(&rig.wires[0]);
    DRIVE_UNTIL(rig.sides[0].received > 12 * MIB && rig.sides[1].received > 12 * MIB);
    rig_cut(&rig.wires[2]);
    rig_finish();
    expect_whole();
}

/* It is tried again, but not at once. */
RIG_TEST(striped, a_lane_that_was_lost_is_replaced) {
    rig_begin(backend, 2);
    rig.sides[0].to_send = 4 * MIB;
    DRIVE_UNTIL(rig.sides[1].received == 4 * MIB);
    cr_assert_eq(rig.wires_count, 2);
    uint64_t cut_ns = io_clock_ns();
    rig_cut(&rig.wires[0]);
    DRIVE_UNTIL(striped_state(rig.sides[0].striped).lanes == 1);
    while (rig.wires_count == 2) {
        cr_assert(io_clock_ns() < cut_ns + RIG_TIMEOUT_NS);
        rig.sides[0].to_send += 1000;
        DRIVE_UNTIL(rig.sides[1].received == rig.sides[0].to_send);
    }
    cr_expect(io_clock_ns() >= cut_ns + LIMIT_STRIPE_RETRY_NS);
    both_send(rig.sides[0].to_send + 4 * MIB, MIB);
    rig_finish();
    expect_whole();
}

RIG_TEST(striped, joins_that_fail_are_not_asked_for_without_end) {
    rig.no_joining = true;
    rig_begin(backend, 3);
    uint64_t begin_ns = io_clock_ns();
    both_send(16 * MIB, 16 * MIB);
    rig_finish();
    expect_whole();
    cr_expect(rig.sides[0].wants >= 1);
    cr_expect(rig.sides[0].wants <= 1 + (io_clock_ns() - begin_ns) / LIMIT_STRIPE_RETRY_NS);
}

RIG_TEST(striped, all_lanes_are_cut) {
    rig_begin(backend, 3);
    both_send(8 * MIB, 64 * MIB);
    DRIVE_UNTIL(rig.sides[0].received > 8 * MIB);
    for (unsigned i = 0; i < rig.wires_count; i++)
        rig_cut(&rig.wires[i]);
    DRIVE_UNTIL(rig.sides[0].reset && rig.sides[1].reset);
    rig_finish();
    for (unsigned i = 0; i < 2; i++)
        cr_expect_str_eq(rig.sides[i].what, "all its lanes were lost");
    cr_expect(rig.sides[0].reset && rig.sides[1].reset);
}

RIG_TEST(striped, half_close_each_way) {
    for (unsigned first = 0; first < 2; first++) {
        rig = (struct stripes){0};
        rig_begin(backend, 3);
        struct side *early = &rig.sides[first], *late = &rig.sides[!first];
        early->to_send = 3 * MIB;
        early->shut_when_sent = true;
        DRIVE_UNTIL(late->eof);
        cr_expect_eq(late->received, 3 * MIB);
        cr_expect(!early->eof && !early->ended && !late->ended);
        late->to_send = 5 * MIB;
        late->shut_when_sent = true;
        rig_finish();
        expect_whole();
    }
}

RIG_TEST(striped, a_reset_goes_through) {
    for (unsigned first = 0; first < 2; first++) {
        rig = (struct stripes){0};
        rig_begin(backend, 3);
        both_send(40 * MIB, 40 * MIB);
        DRIVE_UNTIL(rig.sides[0].received > 4 * MIB && rig.sides[1].received > 4 * MIB);
        side_close(&rig.sides[first], true);
        DRIVE_UNTIL(rig.sides[!first].reset);
        rig_finish();
        cr_expect_str_eq(rig.sides[first].what, "connection reset");
        cr_expect_str_eq(rig.sides[!first].what, "reset by the far side");
    }
}

/* A program that has said all and goes without reading: what it said arrives. */
RIG_TEST(striped, broken_after_its_end) {
    rig_begin(backend, 3);
    struct side *gone = &rig.sides[0], *left = &rig.sides[1];
    gone->to_send = 6 * MIB;
    gone->shut_when_sent = true;
    gone->stalled = left->stalled = true;
    left->to_send = 3 * MIB;
    DRIVE_UNTIL(gone->striped->app.read_ended && left->sent > 0);
    side_close(gone, false);
    left->to_send = UINT64_MAX / 2;
    left->stalled = false;
    DRIVE_UNTIL(gone->ended && left->ended);
    DRIVE_UNTIL(left->eof || left->reset);
    cr_expect_eq(left->received, 6 * MIB);
    rig_finish();
}

static void linger_is_over(struct striped *striped) {
    timer_cancel(&rig.shard.timers, &striped->linger);
    striped->linger.on_timer(&striped->linger);
}

static void freeze_all(bool frozen) {
    for (unsigned i = 0; i < rig.wires_count; i++)
        rig.wires[i].frozen = frozen;
}

/* As long as some of it does, not for ever. */
RIG_TEST(striped, broken_after_its_end_on_a_slow_path) {
    rig_begin(backend, 3);
    struct side *gone = &rig.sides[0];
    gone->stalled = true;
    rig.sides[1].to_send = 65536;
    DRIVE_UNTIL(stripe_bytes_in(gone->striped->stripe) == 65536);
    freeze_all(true);
    gone->to_send = 3 * MIB / 2;
    gone->shut_when_sent = true;
    DRIVE_UNTIL(stripe_bytes_out(gone->striped->stripe) == gone->to_send && gone->striped->app.read_ended);
    side_close(gone, false);
    DRIVE_UNTIL(timer_armed(&gone->striped->linger));
    freeze_all(false);
    DRIVE_UNTIL(stripe_bytes_gone(gone->striped->stripe) > 0);
    linger_is_over(gone->striped);
    cr_assert(striped_is_open(gone->striped) && timer_armed(&gone->striped->linger));
    linger_is_over(gone->striped);
    cr_assert_not(striped_is_open(gone->striped));
    rig_finish();
}

/* The connection that a lane is on says nothing: nothing of either direction depends on it, and what was said on it, up
 * to the end, could be carried all the same. */
RIG_TEST(striped, a_lane_that_is_never_answered) {
    rig.unanswered = true;
    rig_begin(backend, 3);
    both_send(5 * MIB, 3 * MIB);
    DRIVE_UNTIL(side_over(&rig.sides[0]) && side_over(&rig.sides[1]));
    expect_whole();
    cr_expect_eq(rig.wires_count, 3);
    for (unsigned i = 1; i < rig.wires_count; i++) {
        uint8_t said[WIRE_BYTES];
        ssize_t len = recv(rig.wires[i].fd[0], said, sizeof said, MSG_DONTWAIT);
        cr_assert(len >= (ssize_t)STRIPE_HEADER_BYTES && len % STRIPE_HEADER_BYTES == 0);
        cr_expect_eq(said[len - STRIPE_HEADER_BYTES], 2); /* TAKEN, the end too */
        cr_expect_eq(codec_get_u32(said + len - 4), 3 * MIB + 1);
        cr_expect_eq(recv(rig.wires[i].fd[0], said, sizeof said, MSG_DONTWAIT), 0);
    }
    rig_finish();
}

RIG_TEST(striped, a_stalled_reader_holds_no_more_than_a_window) {
    rig_begin(backend, 3);
    struct side *from = &rig.sides[0], *to = &rig.sides[1];
    to->stalled = true;
    from->to_send = 400 * MIB;
    uint64_t last = UINT64_MAX, since_ns = io_clock_ns();
    while (io_clock_ns() < since_ns + 300 * RIG_MS) {
        if (last != from->sent)
            since_ns = io_clock_ns();
        last = from->sent;
        rig_drive();
    }
    cr_expect(from->sent < 2 * LIMIT_STRIPE_WINDOW_BYTES, "%" PRIu64, from->sent);
    cr_expect(atomic_load(&rig.budget.used) <= 4 * (uint64_t)LIMIT_STRIPE_WINDOW_BYTES);
    both_send(from->sent + 2 * MIB, MIB);
    to->stalled = false;
    rig_finish();
    expect_whole();
}

/* What is no record ends it, and only it. */
RIG_TEST(striped, nonsense_on_a_lane) {
    int fd;
    rig_begin(backend, 3);
    cr_assert_eq(striped_find_join("user", rig_key, 1, anybody, NULL, &fd), 0);
    cr_assert_eq(send(fd, "GET / HTTP/1.0\r\n", 16, MSG_NOSIGNAL), 16);
    DRIVE_UNTIL(rig.sides[0].ended && rig.sides[1].reset);
    close(fd);
    rig_finish();
    cr_expect_str_eq(rig.sides[1].what, "the far side broke the rules of striped connections");
    cr_expect_str_eq(rig.sides[0].what, "reset by the far side");
}

RIG_TEST(striped, no_descriptors) {
    int fds[2], fd;
    struct striped *striped;
    rig_init(&rig.shard, backend, 0);
    window_budget_init(&rig.budget, LIMIT_WINDOW_BUDGET_BYTES);
    rig_tcp_pair(fds);
    rig_limit_descriptors(fds[1] + 1);
    cr_assert_eq(striped_start(&rig.shard, fds[0], &rig.budget, MIB, 3, &rig_name, rig_key, &server_watcher, NULL,
                               &striped, &fd),
                 ERR_FILES);
    rig_unlimit_descriptors();
    cr_assert_eq(striped_find_join("user", rig_key, 1, anybody, NULL, &fd), ERR_REFUSED);
    cr_assert_eq(atomic_load(&rig.budget.used), 0);
    close(fds[0]); /* still ours */
    close(fds[1]);
    shard_deinit(&rig.shard);
}

RIG_TEST(striped, keys_are_made) {
    int fds[2][2], lanes[2];
    struct striped *striped[2];
    struct side sides[2] = {0};
    rig_init(&rig.shard, backend, 0);
    window_budget_init(&rig.budget, LIMIT_WINDOW_BUDGET_BYTES);
    for (unsigned i = 0; i < 2; i++) {
        rig_tcp_pair(fds[i]);
        cr_assert_eq(striped_start(&rig.shard, fds[i][0], &rig.budget, MIB, 3, NULL, NULL, &server_watcher, &sides[i],
                                   &striped[i], &lanes[i]),
                     0);
    }
    cr_assert_neq(memcmp(striped_key(striped[0]), striped_key(striped[1]), STRIPED_KEY_BYTES), 0);
    for (unsigned i = 0; i < 2; i++) {
        striped_abort(striped[i]);
        close(fds[i][1]);
        close(lanes[i]);
    }
    RIG_UNTIL(&rig.shard, sides[0].ended && sides[1].ended);
    shard_deinit(&rig.shard);
}
