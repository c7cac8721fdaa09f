/* dial's order and times, in virtual time: dial.c is compiled in here with a resolver, sockets and connects of our own
 * on top of the simulator. Each address has a script of what becomes of a connect to it; a model that does the same by
 * looking at every event says what must have happened when. */
#include "engine/resolve.h"
#include "tests/sim/sim_world.h"

static struct resolve *fake_resolve_start(struct shard *shard, const char *host, uint16_t port, int family,
                                          void (*done)(void *arg, const struct resolve_result *result), void *arg);
static void fake_resolve_cancel(struct resolve *resolve);
static int fake_socket(int family, int type, int protocol);
static void fake_connect(struct io *io, struct io_op *op, int fd, const struct sockaddr *addr, socklen_t addr_len);
#define resolve_start fake_resolve_start
#define resolve_cancel fake_resolve_cancel
#define socket fake_socket
#define io_connect fake_connect
#include "engine/dial.c" /* NOLINT(bugprone-suspicious-include) */
#undef socket

#include "tests/unit/engine_rig.h"
#include "tests/unit/seed.h"

#define PORT_ANSWERS 80
#define PORT_DEAD 81

enum outcome { ANSWERS, REFUSES, SILENT, NO_SOCKET, NO_DESCRIPTORS };
struct script {
    int family;
    enum outcome outcome;
    uint64_t delay_ns;
};

static struct {
    struct script scripts[LIMIT_ADDRESSES_PER_NAME]; /* as resolved; an address' port is its index + 1 */
    unsigned count;
    struct task answer;
    void (*done)(void *arg, const struct resolve_result *result);
    void *arg;
    unsigned started[LIMIT_ADDRESSES_PER_NAME]; /* indices, in the order of their sockets */
    uint64_t started_ns[LIMIT_ADDRESSES_PER_NAME];
    unsigned started_count;
    int fds[LIMIT_ADDRESSES_PER_NAME]; /* by index; 0: no socket was made */
} fake;

static struct sim_world *world;
static struct shard shard, *shards[] = {&shard};
static struct dial dial;
static unsigned answers;
static int answer_err, answer_fd;
static uint64_t start_ns, answer_ns; /* answer_ns: since start_ns, as all times below */

/* ---- what dial.c calls ---- */

static void fake_answer(struct task *task) {
    struct address addresses[LIMIT_ADDRESSES_PER_NAME] = {0};
    const struct resolve_result result = {.addresses = addresses, .count = fake.count};
    (void)task;
    for (unsigned i = 0; i < fake.count; i++) {
        struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)(void *)&addresses[i].addr;
        struct sockaddr_in *v4 = (struct sockaddr_in *)(void *)&addresses[i].addr;
        bool is_v6 = fake.scripts[i].family == AF_INET6;
        if (is_v6)
            *v6 = (struct sockaddr_in6){.sin6_family = AF_INET6, .sin6_port = htons((uint16_t)(i + 1))};
        else
            *v4 = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons((uint16_t)(i + 1))};
        addresses[i].len = is_v6 ? sizeof *v6 : sizeof *v4;
    }
    fake.done(fake.arg, &result);
}

static struct resolve *fake_resolve_start(struct shard *on, const char *host, uint16_t port, int family,
                                          void (*done)(void *arg, const struct resolve_result *result), void *arg) {
    (void)host, (void)port, (void)family;
    fake.done = done;
    fake.arg = arg;
    task_init(&fake.answer, fake_answer);
    shard_defer(on, &fake.answer);
    return (struct resolve *)&fake;
}

static void fake_resolve_cancel(struct resolve *resolve) {
    cr_assert_eq((void *)resolve, (void *)&fake);
    shard_undefer(&fake.answer);
}

/* RFC 8305 §4 in other words: the k-th of each family, the first one's family first. */
static unsigned order_place(unsigned place) {
    unsigned first[LIMIT_ADDRESSES_PER_NAME], other[LIMIT_ADDRESSES_PER_NAME], firsts = 0, others = 0, at = 0;
    for (unsigned i = 0; i < fake.count; i++) {
        if (fake.scripts[i].family == fake.scripts[0].family)
            first[firsts++] = i;
        else
            other[others++] = i;
    }
    for (unsigned k = 0;; k++) {
        if (k < firsts && at++ == place)
            return first[k];
        if (k < others && at++ == place)
            return other[k];
    }
}

/* dial asks for sockets in order, whether it gets one or not. */
static int fake_socket(int family, int type, int protocol) {
    cr_assert(fake.started_count < fake.count);
    unsigned i = order_place(fake.started_count);
    cr_assert_eq(family, fake.scripts[i].family);
    cr_assert(type == (SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC) && protocol == 0);
    fake.started[fake.started_count] = i;
    fake.started_ns[fake.started_count++] = sim_world_now(world) - start_ns;
    if (fake.scripts[i].outcome == NO_SOCKET || fake.scripts[i].outcome == NO_DESCRIPTORS) {
        errno = fake.scripts[i].outcome == NO_SOCKET ? EAFNOSUPPORT : EMFILE;
        return -1;
    }
    return fake.fds[i] = io_sim_socket(world);
}

static void fake_connect(struct io *io, struct io_op *op, int fd, const struct sockaddr *addr, socklen_t addr_len) {
    unsigned i = address_port(addr) - 1u;
    const struct script *script = &fake.scripts[i];
    cr_assert(fake.fds[i] == fd && addr->sa_family == script->family && addr_len > 0);
    struct sockaddr_in to = {.sin_family = AF_INET,
                             .sin_port = htons(script->outcome == ANSWERS ? PORT_ANSWERS : PORT_DEAD)};
    io->ops->connect(io, op, fd, (struct sockaddr *)&to, sizeof to);
    op->in_flight = true; /* as the call that this one stands for does */
    end_of(world, fd)->connect_ns = script->outcome == SILENT ? SIM_NEVER : sim_world_now(world) + script->delay_ns;
}

/* ---- the test's side ---- */

static void on_done(struct dial *done_dial, int err, int fd) {
    cr_assert(done_dial == &dial);
    answers++;
    answer_err = err;
    answer_fd = fd;
    answer_ns = sim_world_now(world) - start_ns;
}

static void begin(uint64_t seed) {
    const struct sim_options options = {.seed = seed, .defer_percent = 20};
    const struct shard_options shard_options = {.slots_max = 2, .rings_max = 1, .cpu = -1};
    world = sim_world_create(&options);
    cr_assert_eq(shard_init(&shard, &shard_options, io_sim_create, world), 0);
    memset(&fake, 0, sizeof fake);
    answers = 0;
    answer_fd = -1;
    start_ns = sim_world_now(world);
}

static void end(int listener) {
    int accepted;
    while ((accepted = io_sim_accept(world, listener)) >= 0)
        io_sim_close(world, accepted, IO_CLOSE);
    io_sim_close(world, listener, IO_CLOSE);
    cr_assert_eq(io_sim_open_count(world), 0, "a descriptor is left");
    shard_deinit(&shard);
    sim_world_destroy(world);
}

static void add(int family, enum outcome outcome, uint64_t delay_ns) {
    fake.scripts[fake.count++] = (struct script){family, outcome, delay_ns};
}

static void wait_answer(void) {
    while (answers == 0) {
        bool more = sim_world_step(world, shards, 1);
        cr_assert(more || answers > 0, "nothing will ever happen");
    }
    cr_assert_eq(answers, 1);
}

static void run(uint64_t timeout_ns) {
    dial_start(&dial, &shard, "many", 1234, AF_UNSPEC, timeout_ns, on_done, NULL);
    wait_answer();
}

/* ---- the model ---- */

struct expected {
    int err;
    unsigned winner, started_count;
    uint64_t at_ns, started_ns[LIMIT_ADDRESSES_PER_NAME];
};

static uint64_t end_of_attempt(const struct expected *model, unsigned place) {
    const struct script *script = &fake.scripts[order_place(place)];
    if (script->outcome == SILENT || script->outcome == NO_SOCKET || script->outcome == NO_DESCRIPTORS)
        return UINT64_MAX;
    return model->started_ns[place] + script->delay_ns;
}

/* Begins with one more for which there is a socket. */
static void model_begin(struct expected *model, unsigned *last, uint64_t now_ns) {
    while (model->started_count < *last) {
        unsigned place = model->started_count++;
        model->started_ns[place] = now_ns;
        enum outcome outcome = fake.scripts[order_place(place)].outcome;
        if (outcome == NO_DESCRIPTORS)
            *last = model->started_count;
        if (outcome != NO_SOCKET && outcome != NO_DESCRIPTORS)
            return;
    }
}

static struct expected model_run(uint64_t timeout_ns) {
    struct expected model = {.err = ERR_TIMEOUT, .at_ns = timeout_ns};
    bool over[LIMIT_ADDRESSES_PER_NAME] = {false};
    unsigned last = fake.count;
    uint64_t now_ns = 0, stagger_ns;
    model_begin(&model, &last, 0);
    stagger_ns = LIMIT_DIAL_STAGGER_NS;
    for (;;) {
        unsigned place = fake.count;
        uint64_t next_ns = model.started_count < last ? stagger_ns : UINT64_MAX;
        bool flying = false;
        for (unsigned i = 0; i < model.started_count; i++) {
            enum outcome outcome = fake.scripts[order_place(i)].outcome;
            flying |= !over[i] && outcome != NO_SOCKET && outcome != NO_DESCRIPTORS;
            if (over[i] || end_of_attempt(&model, i) >= next_ns)
                continue;
            next_ns = end_of_attempt(&model, i);
            place = i;
        }
        if (!flying) {
            model.err = ERR_REFUSED;
            model.at_ns = now_ns;
            return model;
        }
        if (next_ns >= timeout_ns)
            return model;
        now_ns = next_ns;
        if (place < fake.count && fake.scripts[order_place(place)].outcome == ANSWERS) {
            model.err = 0;
            model.winner = order_place(place);
            model.at_ns = now_ns;
            return model;
        }
        if (place < fake.count)
            over[place] = true;
        model_begin(&model, &last, now_ns);
        stagger_ns = now_ns + LIMIT_DIAL_STAGGER_NS;
    }
}

static void compare(const struct expected *model) {
    bool refused = model->err == ERR_REFUSED; /* or there was no socket at all: which error is told is tested below */
    cr_assert(refused ? answer_err < 0 && answer_err != ERR_TIMEOUT : answer_err == model->err, "%d and not %d: %s",
              answer_err, model->err, dial.reason);
    cr_assert_eq(answer_ns, model->at_ns);
    cr_assert_eq(fake.started_count, model->started_count);
    for (unsigned i = 0; i < model->started_count; i++)
        cr_assert_eq(fake.started_ns[i], model->started_ns[i], "attempt %u", i);
    if (model->err != 0) {
        cr_assert(answer_fd == -1);
        cr_assert_str_empty(dial.address);
        return;
    }
    char address[64];
    snprintf(address, sizeof address, "%s port %u",
             fake.scripts[model->winner].family == AF_INET ? "0.0.0.0" : "::", model->winner + 1);
    cr_assert_str_eq(dial.address, address);
    cr_assert_eq(answer_fd, fake.fds[model->winner]);
    io_close(shard.io, answer_fd, IO_CLOSE);
}

static void random_run(uint64_t *state) {
    static const enum outcome often[] = {ANSWERS, REFUSES, REFUSES, SILENT, SILENT, NO_SOCKET};
    begin(*state);
    int listener = io_sim_listen(world, PORT_ANSWERS);
    unsigned count = 1 + random_below(state, random_chance(state, 4) ? LIMIT_ADDRESSES_PER_NAME : 6);
    for (unsigned i = 0; i < count; i++) {
        enum outcome outcome = random_chance(state, 50) ? NO_DESCRIPTORS : often[random_below(state, 6)];
        add(random_chance(state, 2) ? AF_INET : AF_INET6, outcome, 1 + random_below(state, 700000000));
    }
    uint64_t timeout_ns = random_chance(state, 3) ? 1 + random_below(state, 2000000000) : 20 * UINT64_C(1000000000);
    run(timeout_ns);
    struct expected model = model_run(timeout_ns);
    compare(&model);
    end(listener);
}

Test(dial_sim, order_and_times_are_those_of_the_model, .fini = seed_report) {
    seed_each(2000, random_run);
}

/* ---- what the RFC says, spelled out ---- */

static void expect_started(unsigned count, const unsigned *indices, const unsigned *at_ms) {
    cr_assert_eq(fake.started_count, count);
    for (unsigned i = 0; i < count; i++) {
        cr_assert_eq(fake.started[i], indices[i]);
        cr_assert_eq(fake.started_ns[i], at_ms[i] * RIG_MS);
    }
}

Test(dial_sim, families_take_turns_a_quarter_of_a_second_apart) {
    begin(1);
    int listener = io_sim_listen(world, PORT_ANSWERS);
    add(AF_INET6, SILENT, 0);
    add(AF_INET6, SILENT, 0);
    add(AF_INET6, SILENT, 0);
    add(AF_INET, SILENT, 0);
    add(AF_INET, ANSWERS, 10 * RIG_MS);
    run(UINT64_MAX);
    expect_started(4, (unsigned[]){0, 3, 1, 4}, (unsigned[]){0, 250, 500, 750});
    cr_assert(answer_err == 0 && answer_ns == 760 * RIG_MS);
    cr_assert_str_eq(dial.address, "0.0.0.0 port 5");
    io_close(shard.io, answer_fd, IO_CLOSE);
    end(listener);
}

Test(dial_sim, a_failure_begins_the_next_at_once) {
    begin(2);
    int listener = io_sim_listen(world, PORT_ANSWERS);
    add(AF_INET, REFUSES, 20 * RIG_MS);
    add(AF_INET6, REFUSES, 100 * RIG_MS);
    add(AF_INET, ANSWERS, 1 * RIG_MS);
    run(UINT64_MAX);
    expect_started(3, (unsigned[]){0, 1, 2}, (unsigned[]){0, 20, 120});
    cr_assert(answer_err == 0 && answer_ns == 121 * RIG_MS);
    io_close(shard.io, answer_fd, IO_CLOSE);
    end(listener);
}

Test(dial_sim, an_early_one_may_still_win) {
    begin(3);
    int listener = io_sim_listen(world, PORT_ANSWERS);
    add(AF_INET6, ANSWERS, 400 * RIG_MS);
    add(AF_INET, ANSWERS, 300 * RIG_MS);
    run(UINT64_MAX);
    cr_assert_str_eq(dial.address, ":: port 1");
    cr_assert_eq(answer_ns, 400 * RIG_MS);
    io_close(shard.io, answer_fd, IO_CLOSE);
    end(listener);
}

Test(dial_sim, without_descriptors_the_others_still_have_their_chance) {
    begin(4);
    int listener = io_sim_listen(world, PORT_ANSWERS);
    add(AF_INET6, ANSWERS, 300 * RIG_MS);
    add(AF_INET6, NO_DESCRIPTORS, 0);
    add(AF_INET6, ANSWERS, 1 * RIG_MS);
    run(UINT64_MAX);
    expect_started(2, (unsigned[]){0, 1}, (unsigned[]){0, 250});
    cr_assert_str_eq(dial.address, ":: port 1");
    io_close(shard.io, answer_fd, IO_CLOSE);
    end(listener);
}

/* Canceled at a random moment: done comes, nothing is left behind, and who had connected hears a reset. */
static void cancel_run(uint64_t *state) {
    begin(*state);
    int listener = io_sim_listen(world, PORT_ANSWERS);
    for (unsigned i = 0; i < 4; i++)
        add(i % 2 ? AF_INET : AF_INET6, (enum outcome)random_below(state, 3), 1 + random_below(state, 300000000));
    dial_start(&dial, &shard, "many", 1234, AF_UNSPEC, 2000 * RIG_MS, on_done, NULL);
    for (unsigned steps = random_below(state, 30); steps > 0 && answers == 0; steps--)
        sim_world_step(world, shards, 1);
    bool in_time = answers == 0;
    if (in_time)
        dial_cancel(&dial);
    if (in_time && random_chance(state, 2))
        dial_cancel(&dial);
    wait_answer();
    cr_assert(!in_time || (answer_err == ERR_CANCELED && answer_fd == -1));
    for (int accepted; in_time && (accepted = io_sim_accept(world, listener)) >= 0;) {
        char byte;
        cr_assert_eq(io_sim_read(world, accepted, &byte, 1), -ECONNRESET);
        io_sim_close(world, accepted, IO_CLOSE);
    }
    if (answer_fd >= 0)
        io_close(shard.io, answer_fd, IO_CLOSE);
    end(listener);
}

Test(dial_sim, a_cancel_at_any_moment_leaves_nothing_behind, .fini = seed_report) {
    seed_each(1000, cancel_run);
}
