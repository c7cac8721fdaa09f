/* dial to Unix sockets, of a folder that is made for each test. */
#include "engine/dial.h"
#include "engine/limits.h"
#include "engine/listener.h"
#include "engine/offload.h"
#include "tests/unit/engine_rig.h"
#include <dirent.h>
#include <sys/stat.h>
#include <sys/un.h>

#define SECOND_NS (1000 * RIG_MS)

static struct shard shard;
static struct dial dial;
static unsigned answers;
static int answer_err, answer_fd;
static char folder[32], path[160];

static void on_done(struct dial *done_dial, int err, int fd) {
    cr_assert(done_dial == &dial && shard_current() == &shard);
    cr_assert((err == 0) == (fd >= 0));
    answers++;
    answer_err = err;
    answer_fd = fd;
}

static unsigned descriptors_open(void) {
    unsigned count = 0;
    DIR *dir = opendir("/proc/self/fd");
    cr_assert_not_null(dir);
    while (readdir(dir))
        count++;
    closedir(dir);
    return count;
}

static void begin(enum io_backend backend) {
    rig_init(&shard, backend, 4);
    rig_turn(&shard, 0);
    strcpy(folder, "/tmp/dial-XXXXXX");
    cr_assert_not_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/socket", folder);
}

static void end(void) {
    unlink(path);
    rmdir(folder);
    shard_deinit(&shard);
}

static void start(uint64_t timeout_ns) {
    answers = 0;
    dial_start_path(&dial, &shard, path, timeout_ns, on_done, NULL);
    cr_assert_eq(answers, 0, "from within dial_start_path");
}

static void finish(void) {
    RIG_UNTIL(&shard, answers > 0);
    rig_turn(&shard, 0);
    cr_assert_eq(answers, 1);
    cr_assert_str_empty(dial.address);
}

static int listen_here(int backlog) {
    int fd = -1;
    cr_assert_eq(listen_bind_path(path, 0600, backlog, &fd), 0);
    cr_assert_eq(fcntl(fd, F_SETFL, 0), 0);
    return fd;
}

static void expect_reason(const char *why) {
    char reason[300];
    snprintf(reason, sizeof reason, "connect to %s: %s", path, why);
    cr_assert_str_eq(dial.reason, reason);
}

static void succeeds(int listener) {
    char byte = 0;
    finish();
    cr_assert_eq(answer_err, 0, "%s", dial.reason);
    cr_assert(fcntl(answer_fd, F_GETFL) & O_NONBLOCK);
    cr_assert(fcntl(answer_fd, F_GETFD) & FD_CLOEXEC);
    int accepted = accept(listener, NULL, NULL);
    cr_assert(write(answer_fd, "x", 1) == 1 && read(accepted, &byte, 1) == 1 && byte == 'x');
    close(accepted);
    io_close(shard.io, answer_fd, IO_CLOSE);
}

RIG_TEST(dial_path, reaches_a_listener) {
    begin(backend);
    int listener = listen_here(4);
    start(SECOND_NS);
    succeeds(listener);
    start(UINT64_MAX);
    succeeds(listener);
    close(listener);
    end();
}

RIG_TEST(dial_path, nothing_there) {
    begin(backend);
    unsigned before = descriptors_open();
    start(SECOND_NS);
    finish();
    cr_assert_eq(answer_err, ERR_SYSTEM);
    expect_reason("No such file or directory");
    cr_assert_eq(descriptors_open(), before);
    end();
}

RIG_TEST(dial_path, nobody_listens) {
    begin(backend);
    close(listen_here(4));
    start(SECOND_NS);
    finish();
    cr_assert_eq(answer_err, ERR_REFUSED);
    expect_reason("Connection refused");
    end();
}

RIG_TEST(dial_path, as_long_as_an_address_has_room_for) {
    begin(backend);
    size_t most = sizeof((struct sockaddr_un *)0)->sun_path - 1, len = strlen(path);
    memset(path + len, 'x', most - len);
    path[most] = 0;
    int listener = listen_here(4);
    start(SECOND_NS);
    succeeds(listener);
    close(listener);
    unlink(path);
    path[most] = 'x';
    path[most + 1] = 0;
    start(SECOND_NS);
    finish();
    cr_assert_eq(answer_err, ERR_SYSTEM);
    cr_assert_not_null(strstr(dial.reason, ": File name too long"), "%s", dial.reason);
    end();
}

/* An address that begins with a NUL is of the kernel's other name space, where anybody may listen. */
RIG_TEST(dial_path, an_empty_path_is_no_abstract_socket) {
    begin(backend);
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    int listener = socket(AF_UNIX, SOCK_STREAM, 0);
    cr_assert(bind(listener, (struct sockaddr *)&addr, sizeof addr) == 0 && listen(listener, 4) == 0);
    path[0] = 0;
    start(SECOND_NS);
    finish();
    cr_assert_eq(answer_err, ERR_SYSTEM);
    cr_assert_str_eq(dial.reason, "connect to : No such file or directory");
    close(listener);
    end();
}

/* Returns how many connections it took to fill the backlog. */
static unsigned fill(int fds[8]) {
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    strcpy(addr.sun_path, path);
    for (unsigned i = 0;; i++) {
        cr_assert_lt(i, 8, "the backlog has no end");
        fds[i] = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
        if (connect(fds[i], (struct sockaddr *)&addr, sizeof addr) == 0)
            continue;
        cr_assert_eq(errno, EAGAIN);
        close(fds[i]);
        return i;
    }
}

static void unfill(const int *fds, unsigned count) {
    for (unsigned i = 0; i < count; i++)
        close(fds[i]);
}

RIG_TEST(dial_path, a_full_backlog_is_waited_for) {
    int fds[8];
    begin(backend);
    int listener = listen_here(0);
    unsigned count = fill(fds);
    cr_assert_gt(count, 0);
    start(RIG_TIMEOUT_NS);
    for (uint64_t end_ns = io_clock_ns() + 60 * RIG_MS; io_clock_ns() < end_ns;)
        rig_turn(&shard, 10 * RIG_MS);
    cr_assert_eq(answers, 0, "%s", dial.reason);
    for (unsigned i = 0; i < count; i++)
        close(accept(listener, NULL, NULL));
    succeeds(listener);
    unfill(fds, count);
    close(listener);
    end();
}

RIG_TEST(dial_path, a_backlog_that_stays_full_times_out_and_does_not_spin) {
    int fds[8];
    begin(backend);
    int listener = listen_here(0);
    unsigned count = fill(fds), before = descriptors_open(), turns = 0;
    uint64_t start_ns = io_clock_ns();
    start(300 * RIG_MS);
    for (; answers == 0; turns++) {
        cr_assert_lt(io_clock_ns() - start_ns, RIG_TIMEOUT_NS);
        rig_turn(&shard, SECOND_NS);
    }
    finish();
    cr_assert_eq(answer_err, ERR_TIMEOUT);
    expect_reason("Connection timed out");
    cr_assert_geq(io_clock_ns() - start_ns, 290 * RIG_MS);
    cr_assert_lt(turns, 40, "%u turns", turns);
    cr_assert_eq(descriptors_open(), before);
    unfill(fds, count);
    close(listener);
    end();
}

RIG_TEST(dial_path, can_be_canceled_while_it_waits) {
    int fds[8];
    begin(backend);
    int listener = listen_here(0);
    unsigned count = fill(fds), before = descriptors_open();
    for (unsigned turns = 0; turns < 8; turns++) {
        start(turns % 2 ? UINT64_MAX : SECOND_NS);
        for (unsigned i = 0; i < turns; i++)
            rig_turn(&shard, i % 3 == 2 ? 5 * RIG_MS : 0);
        dial_cancel(&dial);
        cr_assert_eq(answers, 0);
        finish();
        cr_assert_eq(answer_err, ERR_CANCELED);
        cr_assert_eq(descriptors_open(), before);
    }
    unfill(fds, count);
    close(listener);
    end();
}
