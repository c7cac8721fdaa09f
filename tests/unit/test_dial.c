#include "engine/dial.h"
#include "engine/limits.h"
#include "engine/offload.h"
#include "tests/unit/engine_rig.h"
#include <dirent.h>
#include <poll.h>
#include <sys/utsname.h>

#define NAME_IMPOSSIBLE "a123456789a123456789a123456789a123456789a123456789a123456789abcdef.invalid"
#define SECOND_NS (1000 * RIG_MS)

static struct shard shard;

struct call {
    struct dial dial;
    unsigned answers;
    int err, fd;
};

static unsigned descriptors_open(void) {
    unsigned count = 0;
    DIR *dir = opendir("/proc/self/fd");
    cr_assert_not_null(dir);
    while (readdir(dir))
        count++;
    closedir(dir);
    return count;
}

static void on_done(struct dial *dial, int err, int fd) {
    struct call *call = dial->owner;
    cr_assert(shard_current() == &shard, "from within dial_start or dial_cancel");
    cr_assert((err == 0) == (fd >= 0));
    call->answers++;
    call->err = err;
    call->fd = fd;
}

static void begin(enum io_backend backend) {
    rig_init(&shard, backend, 4);
    cr_assert_eq(offload_start(), 0);
    rig_turn(&shard, 0);
}

static void end(void) {
    offload_stop();
    shard_deinit(&shard);
}

static void call_start(struct call *call, const char *host, uint16_t port, uint64_t timeout_ns) {
    *call = (struct call){.fd = -1};
    dial_start(&call->dial, &shard, host, port, AF_UNSPEC, timeout_ns, on_done, call);
    cr_assert_eq(call->answers, 0);
}

static void call_finish(struct call *call) {
    RIG_UNTIL(&shard, call->answers > 0);
    rig_turn(&shard, 0);
    cr_assert_eq(call->answers, 1);
}

static uint16_t port_of(const struct sockaddr_in *addr) {
    return ntohs(addr->sin_port);
}

/* A port that nobody listens on: ours, bound, not listening. */
static int refusing_port(uint16_t *port) {
    struct sockaddr_in addr = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof addr;
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    cr_assert_eq(bind(fd, (struct sockaddr *)&addr, sizeof addr), 0);
    cr_assert_eq(getsockname(fd, (struct sockaddr *)&addr, &len), 0);
    *port = port_of(&addr);
    return fd;
}

/* A listener whose backlog is full: further SYNs are dropped, as by a silent firewall. */
static int silent_port(uint16_t *port, int fillers[4]) {
    struct sockaddr_in addr;
    int listener = rig_listen(&addr);
    cr_assert_eq(listen(listener, 0), 0);
    for (unsigned i = 0; i < 4; i++) {
        fillers[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
        (void)connect(fillers[i], (struct sockaddr *)&addr, sizeof addr);
    }
    *port = port_of(&addr);
    return listener;
}

static void silent_close(int listener, int fillers[4]) {
    for (unsigned i = 0; i < 4; i++)
        close(fillers[i]);
    close(listener);
}

RIG_TEST(dial, reaches_an_address_and_a_name) {
    struct sockaddr_in addr;
    begin(backend);
    int listener = rig_listen(&addr);
    const char *hosts[] = {"127.0.0.1", "localhost"};
    for (unsigned i = 0; i < 2; i++) {
        struct call call;
        call_start(&call, hosts[i], port_of(&addr), i == 0 ? UINT64_MAX : 10 * SECOND_NS);
        call_finish(&call);
        cr_assert_eq(call.err, 0, "%s", call.dial.reason);
        cr_assert(fcntl(call.fd, F_GETFL) & O_NONBLOCK);
        cr_assert(fcntl(call.fd, F_GETFD) & FD_CLOEXEC);
        int accepted = accept(listener, NULL, NULL);
        cr_assert(accepted >= 0);
        close(accepted);
        io_close(shard.io, call.fd, IO_CLOSE);
    }
    close(listener);
    end();
}

static bool linux_is_at_least(int major, int minor) {
    struct utsname name;
    int is[2] = {0, 0};
    cr_assert_eq(uname(&name), 0);
    return sscanf(name.release, "%d.%d", &is[0], &is[1]) == 2 && (is[0] > major || (is[0] == major && is[1] >= minor));
}

#define PORTS_TAKEN 64u

/* How many of them are odd. */
static unsigned take_ports(void) {
    struct sockaddr_in addr;
    unsigned odd = 0;
    int listener = rig_listen(&addr);
    for (unsigned i = 0; i < PORTS_TAKEN; i++) {
        struct sockaddr_in from;
        socklen_t len = sizeof from;
        struct call call;
        call_start(&call, "127.0.0.1", port_of(&addr), 10 * SECOND_NS);
        call_finish(&call);
        cr_assert_eq(call.err, 0, "%s", call.dial.reason);
        cr_assert_eq(getsockname(call.fd, (struct sockaddr *)&from, &len), 0);
        odd += port_of(&from) % 2;
        close(accept(listener, NULL, NULL));
        io_close(shard.io, call.fd, IO_CLOSE);
    }
    close(listener);
    return odd;
}

/* Thousands of connections use up the half of the ports that connect(2) is meant for, and the search for another one is
 * long then: from where there are many, those kept for bind(2) are taken too. Not before: somebody may want them. */
RIG_TEST(dial, takes_any_port_when_there_are_many) {
    begin(backend);
    unsigned few = take_ports();
    shard.flows = LIMIT_ANY_PORT_FLOWS;
    unsigned many = take_ports();
    shard.flows = 0;
    end();
    if (!linux_is_at_least(6, 8))
        cr_skip("this kernel keeps half of the ports for bind(2)");
    cr_expect(few == 0 || few == PORTS_TAKEN, "%u", few);
    cr_expect(many > 0 && many < PORTS_TAKEN, "%u", many);
}

RIG_TEST(dial, says_who_refused) {
    struct call call;
    uint16_t port;
    char reason[160];
    begin(backend);
    int fd = refusing_port(&port);
    unsigned open_before = descriptors_open();
    call_start(&call, "127.0.0.1", port, SECOND_NS);
    call_finish(&call);
    cr_assert_eq(call.err, ERR_REFUSED);
    snprintf(reason, sizeof reason, "connect to 127.0.0.1 port %u: Connection refused", port);
    cr_assert_str_eq(call.dial.reason, reason);
    cr_assert_eq(descriptors_open(), open_before);
    close(fd);
    end();
}

RIG_TEST(dial, says_what_could_not_be_resolved) {
    struct call call;
    begin(backend);
    call_start(&call, NAME_IMPOSSIBLE, 80, 10 * SECOND_NS);
    call_finish(&call);
    cr_assert_eq(call.err, ERR_RESOLVE);
    cr_assert_eq(strncmp(call.dial.reason, "resolve " NAME_IMPOSSIBLE ": ", sizeof "resolve " NAME_IMPOSSIBLE + 1), 0,
                 "%s", call.dial.reason);
    end();
}

RIG_TEST(dial, gives_up_on_silence) {
    struct call call;
    uint16_t port;
    int fillers[4];
    begin(backend);
    int listener = silent_port(&port, fillers);
    unsigned open_before = descriptors_open();
    uint64_t start_ns = io_clock_ns();
    call_start(&call, "127.0.0.1", port, 60 * RIG_MS);
    call_finish(&call);
    cr_assert_eq(call.err, ERR_TIMEOUT, "%s", call.dial.reason);
    cr_assert_not_null(strstr(call.dial.reason, "timed out"));
    cr_assert_geq(io_clock_ns() - start_ns, 50 * RIG_MS);
    cr_assert_eq(descriptors_open(), open_before);
    silent_close(listener, fillers);
    end();
}

RIG_TEST(dial, can_be_canceled_at_every_stage) {
    uint16_t port;
    int fillers[4];
    struct sockaddr_in addr;
    begin(backend);
    int listener = silent_port(&port, fillers), answering = rig_listen(&addr);
    unsigned open_before = 0;
    for (unsigned turns = 0; turns < 6; turns++) {
        for (unsigned kind = 0; kind < 3; kind++) {
            struct call call;
            open_before = open_before ? open_before : descriptors_open();
            call_start(&call, kind == 1 ? "localhost" : "127.0.0.1", kind == 2 ? port_of(&addr) : port, 5 * SECOND_NS);
            for (unsigned i = 0; i < turns && call.answers == 0; i++)
                rig_turn(&shard, 0);
            if (call.answers > 0) {
                cr_assert_eq(call.err, 0);
                io_close(shard.io, call.fd, IO_CLOSE);
                continue;
            }
            dial_cancel(&call.dial);
            dial_cancel(&call.dial);
            cr_assert_eq(call.answers, 0);
            call_finish(&call);
            cr_assert_eq(call.err, ERR_CANCELED);
        }
    }
    while (offload_busy()) /* a name that nobody waits for any more is still looked up, in a file that is open */
        poll(NULL, 0, 1);
    cr_assert_eq(descriptors_open(), open_before);
    silent_close(listener, fillers);
    close(answering);
    end();
}

RIG_TEST(dial, reports_a_lack_of_descriptors) {
    struct call call;
    begin(backend);
    int last = open("/dev/null", O_RDONLY);
    rig_limit_descriptors(last + 1);
    call_start(&call, "127.0.0.1", 80, SECOND_NS);
    call_finish(&call);
    cr_assert_eq(call.err, ERR_FILES);
    cr_assert_str_eq(call.dial.reason, "connect to 127.0.0.1 port 80: Too many open files");
    rig_unlimit_descriptors();
    close(last);
    end();
}
