/* Half-close, close and abort as they happen: the order of what is sent, and what is dropped. */
#include "mux_rig.h"

/* Both ends' EOF in either order, and our CLOSE only after both. */
Test(flow, half_close_peer_first) {
    struct rig rig;
    struct probe probe;
    rig_reach(&rig, &probe, LIFE_OPEN);
    struct flow *flow = &probe.flow;
    cr_assert_eq(rig_put(&rig, MSG_CHANNEL_EOF, "u", flow->id), 0);
    cr_assert_eq(probe.eof, 1);
    cr_assert_eq(flow->out, FLOW_HALF_DRAINING);
    flow_drained(flow);
    rig_expect_nothing(&rig);
    rig_send(&rig, &probe, 100); /* our half still lives */
    flow_end(flow);
    flow_end(flow);
    rig_expect(&rig, MSG_CHANNEL_DATA);
    rig_expect(&rig, MSG_CHANNEL_EOF);
    rig_expect(&rig, MSG_CHANNEL_CLOSE);
    rig_expect_nothing(&rig);
    cr_assert_eq(rig_put(&rig, MSG_CHANNEL_CLOSE, "u", flow->id), 0);
    cr_assert_eq(probe.closed, 1);
    cr_assert_eq(probe.aborted, 0);
    rig_deinit(&rig);
}

Test(flow, half_close_app_first) {
    struct rig rig;
    struct probe probe;
    rig_reach(&rig, &probe, LIFE_OPEN);
    struct flow *flow = &probe.flow;
    rig_send(&rig, &probe, 1);
    rig_send(&rig, &probe, PEER_PACKET);
    flow_end(flow);
    cr_assert_eq(flow_room(flow), 0);
    rig_expect(&rig, MSG_CHANNEL_DATA);
    rig_expect(&rig, MSG_CHANNEL_DATA);
    rig_expect(&rig, MSG_CHANNEL_EOF);
    rig_expect_nothing(&rig);
    cr_assert_eq(rig_put(&rig, MSG_CHANNEL_DATA, "uz", flow->id, 500u), 0);
    cr_assert_eq(probe.received, 500);
    cr_assert_eq(rig_put(&rig, MSG_CHANNEL_EOF, "u", flow->id), 0);
    rig_expect_nothing(&rig);
    flow_consumed(flow, 500);
    flow_drained(flow);
    rig_expect(&rig, MSG_CHANNEL_CLOSE);
    rig_deinit(&rig);
}

/* The peer has closed after its EOF: what it sent is whole, so nobody is told of an abort. */
Test(flow, close_after_eof_is_no_abort) {
    struct rig rig;
    struct probe probe;
    rig_reach(&rig, &probe, LIFE_OPEN);
    rig_send(&rig, &probe, 100);
    cr_assert_eq(rig_put(&rig, MSG_CHANNEL_DATA, "uz", probe.flow.id, 500u), 0);
    cr_assert_eq(rig_put(&rig, MSG_CHANNEL_EOF, "u", probe.flow.id), 0);
    cr_assert_eq(rig_put(&rig, MSG_CHANNEL_CLOSE, "u", probe.flow.id), 0);
    rig_expect(&rig, MSG_CHANNEL_CLOSE); /* and not the data that was queued */
    rig_expect_nothing(&rig);
    cr_assert_eq(probe.aborted, 0);
    cr_assert_eq(probe.closed, 1);
    cr_assert_eq(rig.slots.free_count, rig.slots.count);
    flow_consumed(&probe.flow, 500);
    rig_deinit(&rig);
}

Test(flow, abort_drops_everything_but_close) {
    struct rig rig;
    struct probe probe;
    rig_reach(&rig, &probe, LIFE_OPEN);
    struct flow *flow = &probe.flow;
    cr_assert_eq(rig_put(&rig, MSG_CHANNEL_REQUEST, "usb", flow->id, "keepalive@openssh.com", 1), 0);
    for (uint32_t i = 0; i < 20; i++)
        cr_assert_eq(rig_put(&rig, MSG_CHANNEL_DATA, "uz", flow->id, LIMIT_CHANNEL_PACKET_BYTES), 0);
    flow_consumed(flow, 20 * LIMIT_CHANNEL_PACKET_BYTES);
    cr_assert(flow->adjust_due);
    rig_send(&rig, &probe, 100);
    flow_abort(flow);
    mux_validate(&rig.mux);
    cr_assert_eq(rig.slots.free_count, rig.slots.count);
    rig_expect(&rig, MSG_CHANNEL_CLOSE);
    rig_expect_nothing(&rig);
    /* What crossed with our CLOSE is counted and dropped. */
    cr_assert_eq(rig_put(&rig, MSG_CHANNEL_DATA, "uz", flow->id, 1000u), 0);
    cr_assert_eq(probe.received, 20 * LIMIT_CHANNEL_PACKET_BYTES);
    cr_assert_eq(rig_put(&rig, MSG_CHANNEL_WINDOW_ADJUST, "uu", flow->id, 1000u), 0);
    cr_assert_eq(rig_put(&rig, MSG_CHANNEL_EOF, "u", flow->id), 0);
    cr_assert_eq(probe.eof, 0);
    cr_assert_eq(rig_put(&rig, MSG_CHANNEL_DATA, "uz", flow->id, 1u), ERR_PROTOCOL, "data after EOF");
    cr_assert_eq(rig_put(&rig, MSG_CHANNEL_CLOSE, "u", flow->id), 0);
    cr_assert_eq(probe.closed, 1);
    cr_assert_eq(probe.aborted, 0);
    rig_deinit(&rig);
}

/* Whatever is asked of a channel that is on its way out gets CLOSE for an answer. */
Test(flow, no_answer_but_close) {
    struct rig rig;
    struct probe probe;
    const enum flow_life lives[] = {LIFE_CLOSE_DUE, LIFE_CLOSE_ANSWER};
    for (unsigned i = 0; i < 2; i++) {
        rig_reach(&rig, &probe, lives[i]);
        cr_assert_eq(rig_put(&rig, MSG_CHANNEL_REQUEST, "usb", probe.flow.id, "keepalive@openssh.com", 1), 0);
        rig_expect(&rig, MSG_CHANNEL_CLOSE);
        rig_expect_nothing(&rig);
        rig_deinit(&rig);
    }
}

Test(flow, the_peer_says_nothing_after_its_close) {
    struct rig rig;
    struct probe probe;
    rig_reach(&rig, &probe, LIFE_CLOSE_ANSWER);
    cr_assert_eq(rig_put(&rig, MSG_CHANNEL_DATA, "uz", probe.flow.id, 1u), ERR_PROTOCOL);
    cr_assert_eq(rig_put(&rig, MSG_CHANNEL_EXTENDED_DATA, "uuz", probe.flow.id, 1u, 1u), ERR_PROTOCOL);
    cr_assert_eq(rig_put(&rig, MSG_CHANNEL_EOF, "u", probe.flow.id), ERR_PROTOCOL);
    cr_assert_eq(rig_put(&rig, MSG_CHANNEL_CLOSE, "u", probe.flow.id), ERR_PROTOCOL);
    rig_deinit(&rig);
}

Test(flow, aborted_before_the_open_was_sent) {
    struct rig rig;
    struct probe probe;
    rig_init(&rig);
    rig_open(&rig, &probe);
    flow_abort(&probe.flow);
    cr_assert_eq(probe.closed, 0, "never from within flow_abort");
    rig_expect_nothing(&rig);
    rig_expect_nothing(&rig);
    cr_assert_eq(probe.closed, 1);
    cr_assert_eq(probe.refused, 0);
    cr_assert_eq(rig.mux.flows_count, 0);
    rig_deinit(&rig);
}

Test(flow, ended_while_opening) {
    struct rig rig;
    struct probe probe;
    rig_init(&rig);
    rig_open_sent(&rig, &probe);
    flow_end(&probe.flow);
    rig_expect_nothing(&rig);
    cr_assert_eq(rig_confirm(&rig, &probe), 0);
    rig_expect(&rig, MSG_CHANNEL_EOF);
    rig_expect_nothing(&rig);
    rig_deinit(&rig);
}

/* An answered flow may send at once; the confirmation still goes first, and an end or abort right behind it. */
Test(flow, confirmation_before_anything) {
    struct rig rig;
    struct probe probe;
    rig_init(&rig);
    cr_assert_eq(rig_ask(&rig, &probe), 0);
    flow_confirm(&probe.flow);
    rig_send(&rig, &probe, 10);
    flow_end(&probe.flow);
    rig_expect(&rig, MSG_CHANNEL_OPEN_CONFIRMATION);
    rig_expect(&rig, MSG_CHANNEL_DATA);
    rig_expect(&rig, MSG_CHANNEL_EOF);
    rig_expect_nothing(&rig);
    rig_deinit(&rig);

    rig_init(&rig);
    cr_assert_eq(rig_ask(&rig, &probe), 0);
    flow_confirm(&probe.flow);
    rig_send(&rig, &probe, 10);
    flow_abort(&probe.flow);
    rig_expect(&rig, MSG_CHANNEL_OPEN_CONFIRMATION);
    rig_expect(&rig, MSG_CHANNEL_CLOSE);
    rig_expect_nothing(&rig);
    rig_deinit(&rig);
}

Test(flow, a_channel_unknown_to_the_peer_cannot_be_spoken_to) {
    struct rig rig;
    struct probe probe;
    rig_init(&rig);
    cr_assert_eq(rig_ask(&rig, &probe), 0);
    cr_assert_eq(rig_put(&rig, MSG_CHANNEL_CLOSE, "u", probe.flow.id), ERR_PROTOCOL);
    cr_assert_eq(rig_put(&rig, MSG_CHANNEL_DATA, "uz", probe.flow.id, 1u), ERR_PROTOCOL);
    flow_confirm(&probe.flow);
    cr_assert_eq(rig_put(&rig, MSG_CHANNEL_DATA, "uz", probe.flow.id, 1u), ERR_PROTOCOL);
    rig_expect(&rig, MSG_CHANNEL_OPEN_CONFIRMATION);
    cr_assert_eq(rig_put(&rig, MSG_CHANNEL_DATA, "uz", probe.flow.id, 1u), 0);
    rig_deinit(&rig);

    rig_init(&rig);
    rig_open(&rig, &probe);
    cr_assert_eq(rig_confirm(&rig, &probe), ERR_PROTOCOL, "our CHANNEL_OPEN is not even out");
    rig_deinit(&rig);
}

/* flow_close: all that is queued goes out, then CLOSE without the peer's EOF; what the peer still sends is the owner's
 * to drop, and does not stop the peer. */
Test(flow, close_says_all_and_waits_for_nothing) {
    struct rig rig;
    struct probe probe;
    rig_reach(&rig, &probe, LIFE_OPEN);
    struct flow *flow = &probe.flow;
    rig_send(&rig, &probe, 100);
    cr_assert_eq(flow_request(flow, "exit-status", "\0\0\0\0", 4), 0);
    flow_close(flow);
    flow_close(flow);
    cr_assert_eq(flow_room(flow), 0);
    for (uint32_t i = 0; i < 20; i++)
        cr_assert_eq(rig_put(&rig, MSG_CHANNEL_DATA, "uz", flow->id, LIMIT_CHANNEL_PACKET_BYTES), 0);
    cr_assert_eq(probe.chunks, 20);
    flow_consumed(flow, 20 * LIMIT_CHANNEL_PACKET_BYTES);
    rig_expect(&rig, MSG_CHANNEL_WINDOW_ADJUST);
    rig_expect(&rig, MSG_CHANNEL_DATA);
    rig_expect(&rig, MSG_CHANNEL_REQUEST);
    rig_expect(&rig, MSG_CHANNEL_EOF);
    rig_expect(&rig, MSG_CHANNEL_CLOSE);
    rig_expect_nothing(&rig);
    cr_assert_eq(rig_put(&rig, MSG_CHANNEL_CLOSE, "u", flow->id), 0);
    cr_assert_eq(probe.closed, 1);
    cr_assert_eq(probe.aborted, 0);
    rig_deinit(&rig);
}

Test(flow, close_after_our_eof_is_at_once) {
    struct rig rig;
    struct probe probe;
    rig_reach(&rig, &probe, LIFE_OPEN);
    flow_end(&probe.flow);
    rig_expect(&rig, MSG_CHANNEL_EOF);
    flow_close(&probe.flow);
    rig_expect(&rig, MSG_CHANNEL_CLOSE);
    rig_expect_nothing(&rig);
    rig_deinit(&rig);
}

/* Its owner has gone before the peer has answered: an open, an orderly end, and nothing in between. */
Test(flow, close_while_opening) {
    struct rig rig;
    struct probe probe;
    rig_init(&rig);
    rig_open_sent(&rig, &probe);
    flow_close(&probe.flow);
    flow_close(&probe.flow);
    mux_validate(&rig.mux);
    rig_expect_nothing(&rig);
    cr_assert_eq(rig_confirm(&rig, &probe), 0);
    rig_expect(&rig, MSG_CHANNEL_EOF);
    rig_expect(&rig, MSG_CHANNEL_CLOSE);
    rig_expect_nothing(&rig);
    cr_assert_eq(rig_put(&rig, MSG_CHANNEL_CLOSE, "u", probe.flow.id), 0);
    cr_assert_eq(probe.closed, 1);
    cr_assert_eq(probe.aborted, 0);
    rig_deinit(&rig);
}

Test(flow, refused_after_close) {
    struct rig rig;
    struct probe probe;
    rig_init(&rig);
    rig_open_sent(&rig, &probe);
    flow_close(&probe.flow);
    cr_assert_eq(rig_put(&rig, MSG_CHANNEL_OPEN_FAILURE, "uuss", probe.flow.id, 1u, "", ""), 0);
    cr_assert_eq(probe.refused, 1);
    rig_deinit(&rig);
}

static uint64_t counted(const struct rig *rig) {
    return atomic_load(&rig->budget.used);
}

/* A peer that does not answer has nothing kept for it, and what it was granted stands all the same. */
Test(flow, nothing_is_kept_for_who_does_not_answer) {
    void (*const ends[])(struct flow *) = {flow_close, flow_abort};
    const enum flow_life lives[] = {LIFE_OPENING, LIFE_OPEN};
    for (unsigned i = 0; i < 4; i++) {
        struct rig rig;
        struct probe probe;
        struct flow *flow = &probe.flow;
        rig_reach(&rig, &probe, lives[i / 2]);
        uint32_t window = flow->window.granted;
        cr_assert_eq(counted(&rig), window);
        ends[i % 2](flow);
        mux_validate(&rig.mux);
        cr_assert_eq(counted(&rig), LIMIT_CHANNEL_PACKET_BYTES, "a channel, and not its window");
        cr_assert_eq(atomic_load(&rig.budget.windows), 0);
        cr_assert_eq(flow->window.granted, window);
        rig_deinit(&rig);
    }
}

/* All of it, and then as much again as was granted since: not a byte more. */
Test(flow, what_comes_after_close_is_held_to_the_window) {
    struct rig rig;
    struct probe probe;
    rig_reach(&rig, &probe, LIFE_OPEN);
    struct flow *flow = &probe.flow;
    const uint32_t packet = LIMIT_CHANNEL_PACKET_BYTES;
    rig_send(&rig, &probe, 100); /* which keeps it open */
    flow_close(flow);
    uint64_t window = flow->window.granted, sent = 0;
    for (unsigned round = 0; round < 3; round++) {
        for (; sent + packet <= window; sent += packet) {
            cr_assert_eq(rig_put(&rig, MSG_CHANNEL_DATA, "uz", flow->id, packet), 0);
            cr_assert_eq(counted(&rig), packet);
        }
        flow_consumed(flow, flow->window.unconsumed);
        cr_assert(flow->adjust_due);
        rig_expect(&rig, MSG_CHANNEL_WINDOW_ADJUST);
        window = sent + flow->window.granted;
        cr_assert_eq(counted(&rig), packet);
    }
    while (flow->window.granted >= packet)
        cr_assert_eq(rig_put(&rig, MSG_CHANNEL_DATA, "uz", flow->id, packet), 0);
    cr_assert_eq(rig_put(&rig, MSG_CHANNEL_DATA, "uz", flow->id, flow->window.granted + 1), ERR_PROTOCOL);
    rig_deinit(&rig);
}

/* Unless the flow is open, or opening, it is an abort. */
Test(flow, close_in_every_other_state) {
    for (unsigned life = 0; life < LIFE_COUNT; life++) {
        struct rig rig[2];
        struct probe probe[2];
        if (life == LIFE_OPEN || life == LIFE_OPENING)
            continue;
        for (unsigned i = 0; i < 2; i++)
            rig_reach(&rig[i], &probe[i], life);
        flow_close(&probe[0].flow);
        flow_abort(&probe[1].flow);
        mux_validate(&rig[0].mux);
        cr_assert_eq(probe[0].flow.life, probe[1].flow.life);
        for (unsigned i = 0; i < 2; i++)
            rig_deinit(&rig[i]);
    }
}
