/* -4 and -6: how the server is reached and where -L listens. And -n: whoever started leat keeps its standard input. */
#include "expect.h"
#include "traffic.h"
#include <netdb.h>
#include <unistd.h>

static struct world world;
static struct target *target;

/* The server on both families; its key is known by every name of the loopback. */
static void setup(void) {
    world_begin(&world);
    world_server(&world, "ListenAddress ::1");
    char *known = world_read(world.known_hosts), *key = strchr(known, ' ');
    cr_assert_not_null(key);
    unsigned port = world.server_port;
    world_write(world.known_hosts, world_format("[127.0.0.1]:%u,[::1]:%u,[localhost]:%u%s", port, port, port, key));
    free(known);
    target = target_start("127.0.0.1", TARGET_TRAFFIC);
}
static void teardown(void) {
    target_stop(target);
    world_end(&world);
}
TestSuite(family, .init = setup, .fini = teardown, .timeout = 300);

static struct process *leat_to(const char *family, uint16_t local, const char *host) {
    return world_leat_bare(&world, "-v", "-F", "none", family, "-p", world_format("%u", world.server_port), "-i",
                           world.user_key, "-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes", "-o",
                           world_format("UserKnownHostsFile=%s", world.known_hosts), "-L",
                           world_format("%u:127.0.0.1:%u", local, target_port(target)), host, NULL);
}

static bool reachable(const char *host, uint16_t port) {
    int fd = connect_to(host, port);
    if (fd >= 0)
        close(fd);
    return fd >= 0;
}

/* Reached at `from`'s family, and listening on that one alone. */
static void expect_only(const char *family, const char *host, const char *from, const char *other) {
    uint16_t local = free_port();
    struct process *leat = leat_to(family, local, host);
    expect_up(leat);
    cr_expect(reachable(from, local));
    cr_expect_not(reachable(other, local));
    struct traffic_result result = traffic_through(from, local, 1, 1 << 20, 1 << 20);
    cr_expect(result.ok, "%s", result.why);
    cr_expect(process_says(world.server, world_format(" from %s port", from), 10), "%s", process_log(world.server));
    expect_clean_end(leat);
}

Test(family, six) {
    expect_only("-6", "::1", "::1", "127.0.0.1");
}

static bool has_both(const char *name) {
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *found = NULL;
    bool four = false, six = false;
    if (getaddrinfo(name, NULL, &hints, &found) != 0)
        return false;
    for (const struct addrinfo *at = found; at != NULL; at = at->ai_next) {
        four |= at->ai_family == AF_INET;
        six |= at->ai_family == AF_INET6;
    }
    freeaddrinfo(found);
    return four && six;
}

Test(family, four_of_a_name_that_has_both) {
    if (!has_both("localhost"))
        world_skip(&world, "localhost has one family here");
    expect_only("-4", "localhost", "127.0.0.1", "::1");
}
Test(family, six_of_a_name_that_has_both) {
    if (!has_both("localhost"))
        world_skip(&world, "localhost has one family here");
    expect_only("-6", "localhost", "::1", "127.0.0.1");
}

/* Nobody goes the other way instead. */
Test(family, address_of_the_other_one) {
    expect_failure(leat_to("-6", free_port(), "127.0.0.1"), "127.0.0.1");
    expect_failure(leat_to("-4", free_port(), "::1"), "::1");
    expect_logins(&world, 0);
}

static const char script[] = "exec 3<\"$1\"; marker=$2; shift 2\n"
                             "\"$@\" <&3 & leat=$!\n"
                             "while ! [ -e \"$marker\" ]; do sleep 0.02; done\n"
                             "read -r line <&3; echo \"left on standard input: $line\"\n"
                             "kill $leat; wait $leat; echo \"ended with $?\"\n";

/* With ssh it is the shell loop that reads the names of hosts that needs this. */
Test(family, standard_input_is_left_alone) {
    const char *input = world_path(&world, "input"), *marker = world_path(&world, "up");
    uint16_t local = free_port();
    world_write(input, "the first line\nthe second line\n");
    char *argv[] = {"sh",
                    "-c",
                    (char *)script,
                    "sh",
                    (char *)input,
                    (char *)marker,
                    getenv("LEAT_BIN"),
                    "-n",
                    "-v",
                    "-o",
                    (char *)world_backend_option(),
                    "-F",
                    "none",
                    "-p",
                    (char *)world_format("%u", world.server_port),
                    "-i",
                    world.user_key,
                    "-o",
                    (char *)world_format("UserKnownHostsFile=%s", world.known_hosts),
                    "-L",
                    (char *)world_format("%u:127.0.0.1:%u", local, target_port(target)),
                    "127.0.0.1",
                    NULL};
    struct process *shell = world_start(&world, "shell", argv);
    expect_up(shell);
    cr_expect(traffic_through("127.0.0.1", local, 1, 1000, 1000).ok);
    world_write(marker, "");
    cr_expect_eq(process_wait(shell, 20), 0);
    cr_expect_eq(process_lines(shell, "left on standard input: the first line"), 1, "%s", process_log(shell));
    cr_expect_eq(process_lines(shell, "ended with 0"), 1, "%s", process_log(shell));
}
