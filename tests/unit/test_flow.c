/* The life of a flow: the whole table, cell by cell, as written there and as the mux really behaves. */
#include "mux_rig.h"
#include <signal.h>

/* The table once more, in short, from RFC 4254 §5 and flow.h. A cell is the next state's letter and what is done:
 * c confirm, r refuse, x close (made due); O on_opened, R on_refused, A on_aborted, ? on_aborted unless EOF came, C
 * on_closed. "bad": the peer's fault. "bug": ours. */
static const char letters[] = "owakndsSg"; /* by enum flow_life */
static const char *const expected[LIFE_COUNT][EVENT_COUNT] = {
    /* CONFIRMED REFUSED CONFIRM REFUSE REFUSAL_SENT ABORT ENDED CLOSE CLOSE_SENT GONE */
    {"nO", "gR", "bug", "bug", "bug", "w", "bug", "bad", "bug", "gR"},    /* o OPENING */
    {"dx", "gC", "bug", "bug", "bug", "w", "bug", "bad", "bug", "gC"},    /* w OPENING_ABORTED */
    {"bad", "bad", "nc", "kr", "bug", "kr", "bug", "bad", "bug", "gAC"},  /* a ASKED */
    {"bad", "bad", "k", "k", "gC", "k", "bug", "bad", "bug", "gC"},       /* k REFUSING */
    {"bad", "bad", "bug", "bug", "bug", "dx", "dx", "sx?", "bug", "gAC"}, /* n OPEN */
    {"bad", "bad", "d", "d", "bug", "d", "bug", "s", "S", "gC"},          /* d CLOSE_DUE */
    {"bad", "bad", "s", "s", "bug", "s", "bug", "bad", "gC", "gC"},       /* s CLOSE_ANSWER */
    {"bad", "bad", "S", "S", "bug", "S", "bug", "gC", "bug", "gC"},       /* S CLOSE_SENT */
    {"bug", "bug", "g", "g", "bug", "g", "bug", "bug", "bug", "bug"},     /* g CLOSED */
};
static const struct {
    char letter;
    unsigned action;
} actions[] = {{'c', DO_CONFIRM},   {'r', DO_REFUSE},    {'x', DO_CLOSE}, {'O', TELL_OPENED},
               {'R', TELL_REFUSED}, {'A', TELL_ABORTED}, {'?', TELL_CUT}, {'C', TELL_CLOSED}};

Test(flow, whole_table) {
    for (unsigned life = 0; life < LIFE_COUNT; life++) {
        for (unsigned event = 0; event < EVENT_COUNT; event++) {
            struct flow_step step = flow_step(life, event);
            const char *cell = expected[life][event];
            if (strcmp(cell, "bad") == 0 || strcmp(cell, "bug") == 0) {
                cr_expect_eq(step.actions, cell[1] == 'a' ? IS_VIOLATION : IS_BUG, "%u %u", life, event);
                continue;
            }
            unsigned wanted = 0;
            for (const char *at = cell + 1; *at; at++)
                for (unsigned i = 0; i < sizeof actions / sizeof *actions; i++)
                    wanted |= actions[i].letter == *at ? actions[i].action : 0;
            cr_expect_eq(letters[step.next], cell[0], "%u %u", life, event);
            cr_expect_eq(step.actions, wanted, "%u %u", life, event);
        }
    }
}

/* What must hold of any such table. */
Test(flow, table_is_sound) {
    for (unsigned life = 0; life < LIFE_COUNT; life++) {
        for (unsigned event = 0; event < EVENT_COUNT; event++) {
            struct flow_step step = flow_step(life, event);
            if (step.actions & (IS_VIOLATION | IS_BUG))
                continue;
            bool ends = (step.actions & (TELL_CLOSED | TELL_REFUSED)) != 0;
            cr_expect_eq(ends, step.next == LIFE_CLOSED && life != LIFE_CLOSED, "the last call comes once: %u %u", life,
                         event);
            cr_expect(step.next != life || step.actions == 0, "who stays does nothing: %u %u", life, event);
        }
    }
}

Test(flow, half_table) {
    const enum flow_half o = FLOW_HALF_OPEN, d = FLOW_HALF_DRAINING, e = FLOW_HALF_ENDED;
    cr_assert_eq(flow_half_step(o, HALF_BEGIN), d);
    cr_assert_eq(flow_half_step(o, HALF_FINISH), o);
    cr_assert_eq(flow_half_step(d, HALF_BEGIN), d);
    cr_assert_eq(flow_half_step(d, HALF_FINISH), e);
    cr_assert_eq(flow_half_step(e, HALF_BEGIN), e);
    cr_assert_eq(flow_half_step(e, HALF_FINISH), e);
}

/* Makes the event happen as it does in life. */
static int fire(struct rig *rig, struct probe *probe, enum flow_event event) {
    struct flow *flow = &probe->flow;
    switch (event) {
    case EVENT_CONFIRMED:
        return rig_confirm(rig, probe);
    case EVENT_REFUSED:
        return rig_put(rig, MSG_CHANNEL_OPEN_FAILURE, "uuss", flow->id, 2u, "no", "");
    case EVENT_CONFIRM:
        flow_confirm(flow);
        return 0;
    case EVENT_REFUSE:
        flow_refuse(flow, OPEN_RESOURCE_SHORTAGE, "full");
        return 0;
    case EVENT_REFUSAL_SENT:
        rig_expect(rig, MSG_CHANNEL_OPEN_FAILURE);
        return 0;
    case EVENT_ABORT:
        flow_abort(flow);
        return 0;
    case EVENT_ENDED:
        flow_end(flow);
        rig_expect(rig, MSG_CHANNEL_EOF);
        cr_assert_eq(rig_put(rig, MSG_CHANNEL_EOF, "u", flow->id), 0);
        flow_drained(flow);
        return 0;
    case EVENT_CLOSE:
        return rig_put(rig, MSG_CHANNEL_CLOSE, "u", flow->id);
    case EVENT_CLOSE_SENT:
        rig_expect(rig, MSG_CHANNEL_CLOSE);
        return 0;
    default:
        mux_shutdown(&rig->mux);
        return 0;
    }
}

/* Each cell that is not a bug, on a real flow in a real mux: state, phase, callbacks and messages. */
static void walk_cell(enum flow_life life, enum flow_event event) {
    const char *cell = expected[life][event];
    struct rig rig;
    struct probe probe;
    rig_reach(&rig, &probe, life);
    struct probe before = probe;
    int result = fire(&rig, &probe, event);
    bool bad = strcmp(cell, "bad") == 0;
    cr_expect_eq(result, bad ? ERR_PROTOCOL : 0, "%u %u: %d", life, event, result);
    cr_expect_eq(letters[probe.flow.life], bad ? letters[life] : cell[0], "%u %u", life, event);
    const char *done = bad ? "" : cell + 1;
    cr_expect_eq(probe.opened - before.opened, strchr(done, 'O') ? 1 : 0, "%u %u", life, event);
    cr_expect_eq(probe.refused - before.refused, strchr(done, 'R') ? 1 : 0, "%u %u", life, event);
    cr_expect_eq(probe.aborted - before.aborted, strchr(done, 'A') || strchr(done, '?') ? 1 : 0, "%u %u", life, event);
    cr_expect_eq(probe.closed - before.closed, strchr(done, 'C') ? 1 : 0, "%u %u", life, event);
    mux_validate(&rig.mux);
    if (strchr(done, 'c'))
        rig_expect(&rig, MSG_CHANNEL_OPEN_CONFIRMATION);
    if (strchr(done, 'r'))
        rig_expect(&rig, MSG_CHANNEL_OPEN_FAILURE);
    if (strchr(done, 'x'))
        rig_expect(&rig, MSG_CHANNEL_CLOSE);
    if (probe.flow.phase == FLOW_CLOSED)
        rig_expect_nothing(&rig);
    rig_deinit(&rig);
}

Test(flow, whole_table_on_real_flows) {
    for (unsigned life = 0; life < LIFE_COUNT; life++)
        for (unsigned event = 0; event < EVENT_COUNT; event++)
            if (strcmp(expected[life][event], "bug") != 0)
                walk_cell(life, event);
}

Test(flow, confirming_an_open_flow_is_our_bug, .signal = SIGABRT) {
    struct rig rig;
    struct probe probe;
    rig_reach(&rig, &probe, LIFE_OPEN);
    flow_confirm(&probe.flow);
}
Test(flow, refusing_an_open_flow_is_our_bug, .signal = SIGABRT) {
    struct rig rig;
    struct probe probe;
    rig_reach(&rig, &probe, LIFE_OPEN);
    flow_refuse(&probe.flow, 1, "");
}
Test(flow, drained_before_eof_is_our_bug, .signal = SIGABRT) {
    struct rig rig;
    struct probe probe;
    rig_reach(&rig, &probe, LIFE_OPEN);
    flow_drained(&probe.flow);
}
Test(flow, sending_after_end_is_our_bug, .signal = SIGABRT) {
    struct rig rig;
    struct probe probe;
    rig_reach(&rig, &probe, LIFE_OPEN);
    flow_end(&probe.flow);
    rig_send(&rig, &probe, 1);
}
Test(flow, sending_more_than_the_window_is_our_bug, .signal = SIGABRT) {
    struct rig rig;
    struct probe probe;
    rig_reach(&rig, &probe, LIFE_OPEN);
    probe.flow.peer_window = 5;
    rig_send(&rig, &probe, 6);
}

/* In every state the app may call whatever it likes that is not a bug, and nothing happens where nothing can. */
Test(flow, closed_flows_take_every_call) {
    const enum flow_life lives[] = {LIFE_CLOSE_DUE, LIFE_CLOSE_ANSWER, LIFE_CLOSE_SENT, LIFE_CLOSED};
    for (unsigned i = 0; i < 4; i++) {
        struct rig rig;
        struct probe probe;
        rig_reach(&rig, &probe, lives[i]);
        cr_assert_eq(flow_room(&probe.flow), 0);
        rig_send(&rig, &probe, 10);
        cr_assert_eq(rig.slots.free_count, rig.slots.count, "the slot went straight back");
        flow_end(&probe.flow);
        flow_consumed(&probe.flow, 1000);
        flow_drained(&probe.flow);
        flow_abort(&probe.flow);
        cr_assert_eq(probe.flow.life, lives[i]);
        rig_deinit(&rig);
        cr_assert_eq(probe.closed, 1);
        cr_assert_eq(probe.aborted, lives[i] == LIFE_CLOSE_ANSWER || lives[i] == LIFE_CLOSED ? 1 : 0);
        probe.flow.mux = (struct mux *)(uintptr_t)64; /* gone, while the owner has not heard of its socket's end */
        flow_abort(&probe.flow);
        flow_end(&probe.flow);
    }
}
