/* CHANNEL_REQUEST (RFC 4254 §5.4): what the owner hears, answers in the order of the requests, and requests of ours in
 * their place between data and EOF. */
#include "mux_rig.h"
#include <signal.h>

static struct rig rig;
static struct probe probe;

static int ask(const char *name, bool want_reply) {
    return rig_put(&rig, MSG_CHANNEL_REQUEST, "usbs", probe.flow.id, name, want_reply, "uptime");
}

Test(mux_channel_requests, the_owner_hears_name_and_data) {
    rig_init(&rig);
    rig_connect(&rig, &probe);
    probe.request_answer = true;
    cr_assert_eq(ask("exec", true), 0);
    cr_assert_eq(probe.requests, 1);
    cr_assert_str_eq(probe.request_name, "exec");
    cr_assert_eq(probe.request_len, 10);
    cr_assert_arr_eq(probe.request_data, "\0\0\0\6uptime", 10);
    rig_expect(&rig, MSG_CHANNEL_SUCCESS);
    cr_assert_eq(rig_u32(&rig, 0), PEER_ID);
    cr_assert_eq(rig.out_len, 5);
    cr_assert_eq(ask("env", false), 0);
    cr_assert_eq(probe.requests, 2, "heard where no answer is wanted");
    rig_expect_nothing(&rig);
    probe.request_answer = false;
    cr_assert_eq(ask("eow@openssh.com", true), 0);
    rig_expect(&rig, MSG_CHANNEL_FAILURE);
    rig_expect_nothing(&rig);
    rig_deinit(&rig);
}

Test(mux_channel_requests, an_owner_without_ears_refuses) {
    struct flow_ops deaf = probe_ops;
    deaf.on_request = NULL;
    rig_init(&rig);
    rig_connect(&rig, &probe);
    probe.flow.ops = &deaf;
    probe.request_answer = true;
    cr_assert_eq(ask("shell", true), 0);
    cr_assert_eq(ask("eow@openssh.com", false), 0);
    rig_expect(&rig, MSG_CHANNEL_FAILURE);
    rig_expect_nothing(&rig);
    rig_deinit(&rig);
}

/* Nobody is asked about a channel that is not open. */
Test(mux_channel_requests, only_open_channels_hear) {
    for (enum flow_life life = 0; life < LIFE_CLOSED; life++) {
        rig_reach(&rig, &probe, life);
        int result = ask("exec", true);
        bool opening = life == LIFE_OPENING || life == LIFE_OPENING_ABORTED;
        cr_assert_eq(result, opening ? ERR_PROTOCOL : 0, "%d", life);
        cr_assert_eq(probe.requests, life == LIFE_OPEN ? 1 : 0, "%d", life);
        cr_assert_eq(probe.flow.answers != NULL, life == LIFE_OPEN, "%d", life);
        rig_deinit(&rig);
    }
}

/* Requests and reads of answers at random, across the ring's end, full and empty. */
static void answer_in_order(uint64_t *seed) {
    static bool model[LIMIT_GLOBAL_REQUESTS_PENDING];
    uint32_t first = 0, count = 0;
    rig_init(&rig);
    rig_connect(&rig, &probe);
    for (uint32_t burst = 0; burst < 12; burst++) {
        uint32_t asks = random_below(seed, LIMIT_GLOBAL_REQUESTS_PENDING + 20);
        for (uint32_t i = 0; i < asks; i++) {
            bool want_reply = !random_chance(seed, 5), full = count == LIMIT_GLOBAL_REQUESTS_PENDING;
            unsigned heard = probe.requests;
            probe.request_answer = random_chance(seed, 2);
            cr_assert_eq(ask("env", want_reply), want_reply && full ? ERR_LIMIT : 0);
            cr_assert_eq(probe.requests - heard, want_reply && full ? 0 : 1, "who gets no answer is not acted upon");
            if (want_reply && !full)
                model[(first + count++) % LIMIT_GLOBAL_REQUESTS_PENDING] = probe.request_answer;
        }
        uint32_t reads = random_chance(seed, 3) ? count : random_below(seed, count + 1);
        for (; reads > 0; reads--, count--) {
            rig_expect(&rig, model[first] ? MSG_CHANNEL_SUCCESS : MSG_CHANNEL_FAILURE);
            first = (first + 1) % LIMIT_GLOBAL_REQUESTS_PENDING;
        }
        cr_assert_eq(probe.flow.answers == NULL, count == 0, "an idle flow keeps no answers");
    }
    rig_deinit(&rig);
}
Test(mux_channel_requests, answers_in_order, .fini = seed_report) {
    seed_each(8, answer_in_order);
}

/* Whichever way the flow ends, answers that are still due go with it (leaks are ASan's to see). */
Test(mux_channel_requests, answers_end_with_the_flow) {
    for (unsigned way = 0; way < 3; way++) {
        rig_init(&rig);
        rig_connect(&rig, &probe);
        for (unsigned i = 0; i < 3; i++)
            cr_assert_eq(ask("exec", true), 0);
        cr_assert_eq(flow_request(&probe.flow, "exit-status", "\0\0\0\0", 4), 0);
        if (way == 0)
            flow_abort(&probe.flow);
        else if (way == 1)
            cr_assert_eq(rig_put(&rig, MSG_CHANNEL_CLOSE, "u", probe.flow.id), 0);
        else
            mux_shutdown(&rig.mux);
        cr_assert(!probe.flow.answers && !probe.flow.text);
        if (way < 2)
            rig_expect(&rig, MSG_CHANNEL_CLOSE);
        rig_expect_nothing(&rig);
        rig_deinit(&rig);
    }
}

static void abort_flow(struct probe *of) {
    flow_abort(&of->flow);
}
static void end_session(struct probe *of) {
    mux_shutdown(of->flow.mux);
    memset(&of->flow, 0xA5, sizeof of->flow); /* as if freed */
}

/* The owner may end the flow, or everything, in place of an answer. */
Test(mux_channel_requests, ended_from_within) {
    rig_init(&rig);
    rig_connect(&rig, &probe);
    probe.request_answer = true;
    probe.while_asked = abort_flow;
    cr_assert_eq(ask("exec", true), 0);
    rig_expect(&rig, MSG_CHANNEL_CLOSE);
    rig_expect_nothing(&rig);
    cr_assert_eq(rig_put(&rig, MSG_CHANNEL_CLOSE, "u", probe.flow.id), 0);

    rig_connect(&rig, &probe);
    probe.request_answer = true;
    probe.while_asked = end_session;
    cr_assert_eq(ask("exec", true), 0);
    cr_assert_eq(probe.closed, 1);
    rig_expect_nothing(&rig);
    rig_deinit(&rig);
}

static void expect_exit_status(uint32_t status) {
    rig_expect(&rig, MSG_CHANNEL_REQUEST);
    struct reader reader;
    reader_init(&reader, rig.out + 1, rig.out_len - 1);
    cr_assert_eq(reader_u32(&reader), PEER_ID);
    rig_text(&reader, "exit-status");
    cr_assert_not(reader_bool(&reader), "no reply is wanted");
    cr_assert_eq(reader_u32(&reader), status);
    cr_assert(reader_done(&reader));
}

static void run_command(struct probe *of) {
    rig_send(&rig, of, 100);
    cr_assert_eq(flow_request(&of->flow, "exit-status", "\0\0\0\1", 4), 0);
    flow_end(&of->flow);
}

/* A session as sshd plays it: the answer, the output, the status, EOF, and CLOSE when the client has ended too. */
Test(mux_channel_requests, exit_status_between_data_and_eof) {
    rig_init(&rig);
    rig.next_asked = &probe;
    cr_assert_eq(rig_put(&rig, MSG_CHANNEL_OPEN, "suuu", "session", PEER_ID, PEER_WINDOW, PEER_PACKET), 0);
    cr_assert_eq(rig.last_open.kind, MUX_OPEN_SESSION);
    flow_confirm(&probe.flow);
    rig_expect(&rig, MSG_CHANNEL_OPEN_CONFIRMATION);
    probe.request_answer = true;
    probe.while_asked = run_command;
    cr_assert_eq(ask("exec", true), 0);
    rig_expect(&rig, MSG_CHANNEL_SUCCESS);
    rig_expect(&rig, MSG_CHANNEL_DATA);
    expect_exit_status(1);
    rig_expect(&rig, MSG_CHANNEL_EOF);
    rig_expect_nothing(&rig);
    cr_assert_eq(rig_put(&rig, MSG_CHANNEL_EOF, "u", probe.flow.id), 0);
    flow_drained(&probe.flow);
    rig_expect(&rig, MSG_CHANNEL_CLOSE);
    cr_assert_eq(rig_put(&rig, MSG_CHANNEL_CLOSE, "u", probe.flow.id), 0);
    cr_assert_eq(probe.closed, 1);
    rig_deinit(&rig);
}

/* The client has ended before, so our EOF is at once followed by CLOSE: the status still comes first. */
Test(mux_channel_requests, exit_status_before_close) {
    rig_init(&rig);
    rig_connect(&rig, &probe);
    cr_assert_eq(rig_put(&rig, MSG_CHANNEL_EOF, "u", probe.flow.id), 0);
    flow_drained(&probe.flow);
    flow_end(&probe.flow);
    cr_assert_eq(flow_request(&probe.flow, "exit-status", "\0\0\0\7", 4), 0);
    expect_exit_status(7);
    rig_expect(&rig, MSG_CHANNEL_EOF);
    rig_expect(&rig, MSG_CHANNEL_CLOSE);
    rig_deinit(&rig);
}

/* With an empty queue it is due at once, whatever is queued after it; and another may follow when it is out. */
Test(mux_channel_requests, own_request_is_not_overtaken) {
    rig_init(&rig);
    rig_connect(&rig, &probe);
    cr_assert_eq(flow_request(&probe.flow, "exit-status", "\0\0\0\2", 4), 0);
    rig_send(&rig, &probe, 10);
    expect_exit_status(2);
    cr_assert_eq(flow_request(&probe.flow, "exit-status", "\0\0\0\3", 4), 0);
    rig_expect(&rig, MSG_CHANNEL_DATA);
    expect_exit_status(3);
    rig_expect_nothing(&rig);
    rig_deinit(&rig);
}

Test(mux_channel_requests, own_request_to_its_limit) {
    static uint8_t big[MUX_CONTROL_BYTES];
    const uint32_t most = MUX_CONTROL_BYTES - (1 + 4 + 4 + 1 + 1); /* message, channel, "x", want_reply */
    rig_init(&rig);
    rig_connect(&rig, &probe);
    cr_assert_eq(flow_request(&probe.flow, "x", big, most + 1), ERR_LENGTH);
    rig_expect_nothing(&rig);
    cr_assert_eq(flow_request(&probe.flow, "x", big, most), 0);
    rig_expect(&rig, MSG_CHANNEL_REQUEST);
    cr_assert_eq(rig.out_len, MUX_CONTROL_BYTES);
    rig_deinit(&rig);
}

Test(mux_channel_requests, own_request_on_a_flow_that_is_not_open) {
    for (enum flow_life life = 0; life <= LIFE_CLOSED; life++) {
        if (life == LIFE_OPEN)
            continue;
        rig_reach(&rig, &probe, life);
        struct flow_text *text = probe.flow.text;
        cr_assert_eq(flow_request(&probe.flow, "exit-status", "\0\0\0\0", 4), 0);
        cr_assert_eq(probe.flow.text, text, "nothing is queued");
        mux_validate(&rig.mux);
        rig_deinit(&rig);
    }
}

Test(mux_channel_requests, two_requests_waiting_are_our_bug, .signal = SIGABRT) {
    rig_reach(&rig, &probe, LIFE_OPEN);
    int result = flow_request(&probe.flow, "a", NULL, 0);
    result = flow_request(&probe.flow, "b", NULL, 0);
    (void)result;
}
