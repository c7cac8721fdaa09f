/* dial with names that have several addresses, which a test cannot expect of the machine's resolver: dial.c is compiled
 * in here with a resolver of our own. */
#include "engine/limits.h"
#include "engine/resolve.h"

static struct resolve *fake_resolve_start(struct shard *shard, const char *host, uint16_t port, int family,
                                          void (*done)(void *arg, const struct resolve_result *result), void *arg);
static void fake_resolve_cancel(struct resolve *resolve);
#define resolve_start fake_resolve_start
#define resolve_cancel fake_resolve_cancel
#include "engine/dial.c" /* NOLINT(bugprone-suspicious-include) */

#include "tests/unit/engine_rig.h"

static struct {
    struct task task;
    struct address addresses[4];
    unsigned count;
    bool silent;
    void (*done)(void *arg, const struct resolve_result *result);
    void *arg;
} fake;

static void fake_answer(struct task *task) {
    (void)task;
    const struct resolve_result result = {.addresses = fake.addresses, .count = fake.count};
    fake.done(fake.arg, &result);
}

static struct resolve *fake_resolve_start(struct shard *shard, const char *host, uint16_t port, int family,
                                          void (*done)(void *arg, const struct resolve_result *result), void *arg) {
    (void)host, (void)port, (void)family;
    fake.done = done;
    fake.arg = arg;
    task_init(&fake.task, fake_answer);
    if (!fake.silent)
        shard_defer(shard, &fake.task);
    return (struct resolve *)&fake;
}

static void fake_resolve_cancel(struct resolve *resolve) {
    cr_assert_eq((void *)resolve, (void *)&fake);
    shard_undefer(&fake.task);
}

static struct shard shard;
static struct dial dial;
static unsigned answers;
static int answer_err, answer_fd;

static void on_done(struct dial *done_dial, int err, int fd) {
    cr_assert_eq(done_dial, &dial);
    answers++;
    answer_err = err;
    answer_fd = fd;
}

static void add_address(uint16_t port) {
    struct address *address = &fake.addresses[fake.count++];
    struct sockaddr_in *addr = (struct sockaddr_in *)(void *)&address->addr;
    *addr =
        (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    address->len = sizeof *addr;
}

static void add_family(int family) {
    fake.addresses[fake.count].addr.ss_family = (sa_family_t)family;
    fake.addresses[fake.count++].len = sizeof(struct sockaddr_in);
}

static int refusing_port(uint16_t *port) {
    struct sockaddr_in addr;
    int listener = rig_listen(&addr), fd = socket(AF_INET, SOCK_STREAM, 0);
    close(listener);
    addr.sin_port = 0;
    socklen_t len = sizeof addr;
    cr_assert_eq(bind(fd, (struct sockaddr *)&addr, sizeof addr), 0);
    cr_assert_eq(getsockname(fd, (struct sockaddr *)&addr, &len), 0);
    *port = ntohs(addr.sin_port);
    return fd;
}

/* Full backlog: no answer to a SYN. */
static uint16_t silent_port(void) {
    struct sockaddr_in addr;
    int listener = rig_listen(&addr);
    cr_assert_eq(listen(listener, 0), 0);
    for (unsigned i = 0; i < 4; i++) {
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
        (void)connect(fd, (struct sockaddr *)&addr, sizeof addr);
    }
    return ntohs(addr.sin_port);
}

static void run(uint64_t timeout_ns) {
    dial_start(&dial, &shard, "many", 1234, AF_UNSPEC, timeout_ns, on_done, NULL);
    RIG_UNTIL(&shard, answers > 0);
    rig_turn(&shard, 0);
    cr_assert_eq(answers, 1);
}

RIG_TEST(dial_addresses, the_first_that_answers_wins) {
    struct sockaddr_in addr;
    uint16_t port;
    rig_init(&shard, backend, 4);
    rig_turn(&shard, 0);
    refusing_port(&port);
    rig_listen(&addr);
    add_family(AF_MAX); /* no socket can be had for it */
    add_address(port);
    add_address(ntohs(addr.sin_port));
    add_address(port);
    run(RIG_TIMEOUT_NS);
    cr_assert_eq(answer_err, 0);
    char address[64];
    snprintf(address, sizeof address, "127.0.0.1 port %u", ntohs(addr.sin_port));
    cr_assert_str_eq(dial.address, address);
    io_close(shard.io, answer_fd, IO_CLOSE);
    shard_deinit(&shard);
}

RIG_TEST(dial_addresses, a_family_we_have_not_does_not_cover_up_a_refusal) {
    uint16_t port;
    rig_init(&shard, backend, 4);
    rig_turn(&shard, 0);
    refusing_port(&port);
    add_family(AF_MAX);
    add_address(port);
    add_family(AF_MAX);
    run(RIG_TIMEOUT_NS);
    cr_assert_eq(answer_err, ERR_REFUSED);
    cr_assert_str_eq(dial.reason, "connect to many port 1234: Connection refused");
    cr_assert_str_empty(dial.address);
    shard_deinit(&shard);
}

RIG_TEST(dial_addresses, without_a_family_that_we_have_it_says_so) {
    rig_init(&shard, backend, 4);
    rig_turn(&shard, 0);
    add_family(AF_MAX);
    add_family(AF_MAX);
    run(RIG_TIMEOUT_NS);
    cr_assert_eq(answer_err, ERR_UNSUPPORTED);
    cr_assert_str_eq(dial.reason, "connect to many port 1234: Address family not supported by protocol");
    shard_deinit(&shard);
}

RIG_TEST(dial_addresses, beside_a_silent_one_the_next_begins_soon) {
    struct sockaddr_in addr;
    rig_init(&shard, backend, 4);
    rig_turn(&shard, 0);
    rig_listen(&addr);
    add_address(silent_port());
    add_address(ntohs(addr.sin_port));
    uint64_t start_ns = io_clock_ns();
    int probe = dup(0);
    run(RIG_TIMEOUT_NS);
    cr_assert_eq(answer_err, 0, "%s", dial.reason);
    cr_assert_geq(io_clock_ns() - start_ns, LIMIT_DIAL_STAGGER_NS - 5 * RIG_MS);
    cr_assert_lt(io_clock_ns() - start_ns, RIG_TIMEOUT_NS / 2);
    close(probe);
    int lowest_free = dup(0);
    cr_assert(lowest_free == probe || lowest_free == probe + 1, "the silent one's socket is still open");
    close(lowest_free);
    io_close(shard.io, answer_fd, IO_CLOSE);
    shard_deinit(&shard);
}

RIG_TEST(dial_addresses, the_deadline_covers_the_name_too) {
    rig_init(&shard, backend, 4);
    rig_turn(&shard, 0);
    fake.silent = true;
    run(50 * RIG_MS);
    cr_assert_eq(answer_err, ERR_TIMEOUT);
    cr_assert_str_eq(dial.reason, "resolve many: Connection timed out");
    shard_deinit(&shard);
}

RIG_TEST(dial_addresses, all_silent_ends_at_the_deadline) {
    rig_init(&shard, backend, 4);
    rig_turn(&shard, 0);
    uint16_t port = silent_port();
    add_address(port);
    add_address(port);
    add_address(port);
    uint64_t start_ns = io_clock_ns();
    run(90 * RIG_MS);
    uint64_t took_ns = io_clock_ns() - start_ns;
    cr_assert_eq(answer_err, ERR_TIMEOUT);
    cr_assert(took_ns >= 85 * RIG_MS, "only %lu ns", (unsigned long)took_ns);
    shard_deinit(&shard);
}

/* Connected, but the owner has not been told yet. */
static void cancel_when_connected(struct timer *timer) {
    if (dial.fd >= 0 && dial.ended)
        dial_cancel(&dial);
    else
        timer_arm(&shard.timers, timer, shard_now(&shard));
}

RIG_TEST(dial_addresses, a_cancel_in_the_last_moment_closes_the_winner) {
    struct sockaddr_in addr;
    struct timer timer = {.on_timer = cancel_when_connected};
    char byte;
    rig_init(&shard, backend, 4);
    rig_turn(&shard, 0);
    int listener = rig_listen(&addr);
    add_address(ntohs(addr.sin_port));
    timer_arm(&shard.timers, &timer, shard_now(&shard));
    run(RIG_TIMEOUT_NS);
    cr_assert(answer_err == ERR_CANCELED && answer_fd == -1);
    int accepted = accept(listener, NULL, NULL);
    cr_assert(accepted >= 0 && recv(accepted, &byte, 1, MSG_DONTWAIT) == -1 && errno == ECONNRESET,
              "an orderly end, or none");
    shard_deinit(&shard);
}
