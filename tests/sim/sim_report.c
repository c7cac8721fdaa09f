#include "tests/sim/sim_game.h"
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

struct game *playing;

static const char *const plan_names[PLAN_COUNT] = {"orderly", "link reset", "flipped bit", "client ends", "server ends",
                                                   "drain",   "unused",     "nonsense",    "silence",     "no login"};

static void print_flow(const struct flow *flow) {
    fprintf(stderr,
            "    flow %u: phase %d in %d out %d, queued %u, peer window %" PRIu64
            ", granted %u unconsumed %u owed %u of %u\n",
            flow->id, flow->phase, flow->in, flow->out, flow->queue.bytes, flow->peer_window, flow->window.granted,
            flow->window.unconsumed, flow->window.owed, flow->window.target);
}

static void print_session(const struct session *session) {
    fprintf(stderr, "    relays %u, bytes in %" PRIu64 " out %" PRIu64 ", recv %d send %d readable %d\n",
            session->relays_count, session->bytes_in, session->bytes_out, session->recv.in_flight,
            session->send.in_flight, session->readable.in_flight);
    for (uint32_t id = 0; id < session->mux.flows_size; id++)
        if (session->mux.flows[id])
            print_flow(session->mux.flows[id]);
}

static void print_side(const struct side *side) {
    fprintf(stderr, "  %s: ended %u (%s), slots %u of %u, timers %zu, budget %" PRIu64 " of %" PRIu64 "\n", side->name,
            side->ended, side->end_reason, side->shard.slots.free_count, side->shard.slots.count,
            side->shard.timers.count, side->budget->used, side->budget->max);
    if (side->ended || !side->session)
        return;
    const struct wire *wire = &side->transport->wire;
    fprintf(stderr, "    in epoch %u state %d, out epoch %u state %d, kexing %d/%d\n", wire->in.epochs, wire->in.state,
            wire->out.epochs, wire->out.state, wire->kexing_in, wire->kexing_out);
    fprintf(stderr, "    speaker in %zu out %zu asked %u answered %u%s\n", side->fake.in.len, side->fake.out.len,
            side->fake.asked, side->fake.answered, side->fake.asleep ? ", asleep" : "");
    print_session(side->session);
}

static void print_shell(const struct shell *shell) {
    fprintf(stderr, "  shell: state %d%s%s%s%s, %u requests answered of %u, %" PRIu64 " bytes, exits %u\n",
            shell->state, shell->started ? ", started" : "", shell->is_command ? ", command" : "",
            shell->aborted ? ", aborted" : "", shell->cut ? ", cut" : "", shell->answered, shell->owed, shell->received,
            shell->exits);
}

void print_game(const struct game *game) {
    fprintf(stderr, "  plan: %s%s, %" PRIu64 " steps, %.3f s of virtual time%s%s\n", plan_names[game->plan],
            game->plan_done ? ", done" : "", game->steps, (double)game_now(game) / 1e9, game->stock ? ", stock" : "",
            game->tight ? ", tight" : "");
    print_side(&game->client.side);
    print_side(&game->server.side);
    for (unsigned i = 0; i < game->lines_count; i++) {
        const struct asked *asked = &game->asked[i];
        if (asked->state != ASKED_NOT)
            fprintf(stderr, "  asked for %s port %u: state %d\n", asked->name, asked->port_asked, asked->state);
        line_print(&game->lines[i]);
    }
    for (unsigned i = 0; i < game->client.shells_count; i++)
        print_shell(&game->client.shells[i]);
}

static void report(void) {
    const struct game *game = playing;
    playing = NULL;
    if (!game)
        return;
    fprintf(stderr, "sim_session: failed with seed %" PRIu64 "; again with: sim_session --seed %" PRIu64 "\n",
            game->seed, game->seed);
    print_game(game);
}

extern void __sanitizer_set_death_callback(void (*callback)(void)) __attribute__((weak));

static void on_signal(int number) {
    report();
    if (number == SIGPROF)
        _exit(1);
}

/* A CHECK, a crash, and a loop without end. */
void report_signals(void) {
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = (int)SA_RESETHAND};
    sigaction(SIGABRT, &action, NULL);
    sigaction(SIGPROF, &action, NULL);
    if (__sanitizer_set_death_callback)
        __sanitizer_set_death_callback(report);
    else
        sigaction(SIGSEGV, &action, NULL);
}

_Noreturn void fail(const char *what) {
    fprintf(stderr, "sim_session: %s\n", what);
    report();
    exit(1);
}

void expect(bool holds, const char *what) {
    if (!holds)
        fail(what);
}
