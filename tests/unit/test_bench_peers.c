/* Peers as data: what is read and what is refused, and every built-in peer that is installed carries bytes and leaves
 * nothing behind. A little long: all parts stand on one run's folder and one echo as target, which are here once. */
#include "bench/peers.h"
#include "bench/words.h"
#include "tests/skip.h"
#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <errno.h>
#include <ftw.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define ECHO_BYTES (300u << 10)
#define CIPHER "aes128-gcm@openssh.com"
#define CONNECTIONS_MAX 32

static char temporary[64], why[1024];
static struct world *world;
static struct peers *peers;

static void set_up(void) {
    snprintf(temporary, sizeof temporary, "/tmp/leat-unit-XXXXXX");
    cr_assert_not_null(mkdtemp(temporary));
    setenv("TMPDIR", temporary, 1);
    /* It is other tests' sshd's as well: these are not to be those who remove it. */
    if (geteuid() == 0)
        cr_assert(mkdir("/run/sshd", 0755) == 0 || errno == EEXIST);
    world = world_begin(false);
    cr_assert_not_null(world, "%s", strerror(errno));
}

static int remove_one(const char *path, const struct stat *stat, int type, struct FTW *at) {
    (void)stat;
    (void)type;
    (void)at;
    return remove(path);
}

static void assert_no_child(void) {
    siginfo_t info = {0};
    char path[64], name[64] = "";
    if (waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) != 0)
        return;
    snprintf(path, sizeof path, "/proc/%d/comm", (int)info.si_pid);
    FILE *file = info.si_pid != 0 ? fopen(path, "r") : NULL;
    if (file != NULL) {
        cr_assert_not_null(fgets(name, sizeof name, file));
        fclose(file);
    }
    cr_assert_fail("a child is left, %s %s", info.si_pid != 0 ? "reaped by nobody:" : "alive", name);
}

static void tear_down(void) {
    peers_free(peers);
    world_end(world);
    assert_no_child();
    nftw(temporary, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

/* What fails in a fixture's end fails no test. */
#define PEERS_TEST(name)                                                                                               \
    static void name(void);                                                                                            \
    Test(peers, name) {                                                                                                \
        set_up();                                                                                                      \
        name();                                                                                                        \
        tear_down();                                                                                                   \
    }                                                                                                                  \
    static void name(void)

/* Peers with those of this text; NULL: `why`. */
static struct peers *load(const char *text, const char *const *programs) {
    char path[256];
    cr_assert(world_write(world, "peers.json", text));
    snprintf(path, sizeof path, "%s/peers.json", world_dir(world));
    why[0] = '\0';
    peers_free(peers);
    return peers = peers_load(&(struct peers_options){path, programs}, why, sizeof why);
}

static void load_builtin(void) {
    peers = peers_load(&(struct peers_options){0}, why, sizeof why);
    cr_assert_not_null(peers, "%s", why);
}

static const struct peer *find(const char *name) {
    const struct peer *peer = peers_find(peers, name);
    cr_assert_not_null(peer, "%s", name);
    return peer;
}

static struct tunnel_options options_to(uint16_t target_port) {
    return (struct tunnel_options){
        .cipher = CIPHER,
        .target = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}, .sin_port = htons(target_port)},
        .client_place = PLACE_HERE,
        .server_place = PLACE_HERE};
}

PEERS_TEST(built_in_ones) {
    static const char *const names[] = {"direct",
                                        "ceiling",
                                        "relay",
                                        "relay,epoll",
                                        "ssh→sshd",
                                        "ssh→leatd",
                                        "leat→sshd",
                                        "leat→leatd",
                                        "leat→leatd,epoll",
                                        "leat→leatd,1",
                                        "leat→leatd,2",
                                        "leat→leatd,4",
                                        "leat→leatd,striped",
                                        "dropbear",
                                        "stunnel",
                                        "haproxy",
                                        "haproxy-tls",
                                        "socat"};
    load_builtin();
    cr_assert_eq(peers_count(peers), sizeof names / sizeof names[0]);
    for (size_t i = 0; i < peers_count(peers); i++) {
        const struct peer *peer = peers_at(peers, i);
        cr_assert_str_eq(peer->name, names[i]);
        cr_assert_neq(peer->about[0], '\0', "%s", peer->name);
        bool is_ssh = strstr(peer->name, "→") != NULL;
        cr_assert_eq(peer->is_ssh, is_ssh, "%s", peer->name);
        cr_assert_eq(peer->can_rekey, is_ssh, "%s", peer->name);
        cr_assert_eq(peer->has_server, i != 0, "%s", peer->name);
    }
    cr_assert(find("stunnel")->has_client && !find("relay")->has_client && !find("direct")->has_client);
    cr_assert_null(find("direct")->missing);
    cr_assert_null(peers_find(peers, "nonesuch"));
}

PEERS_TEST(of_a_file) {
    cr_assert_not_null(load("[{\"name\": \"socat\", \"about\": \"mine\", \"client\": [\"c\"]},"
                            " {\"name\": \"new\", \"like\": \"ssh→sshd\", \"ssh\": false},"
                            " {\"name\": \"newer\", \"like\": \"new\", \"about\": \"of its own\"}]",
                            NULL),
                       "%s", why);
    cr_assert_str_eq(find("socat")->about, "mine");
    cr_assert(find("socat")->has_client && !find("socat")->has_server, "nothing of the built-in one is left");
    cr_assert_str_eq(find("new")->about, find("ssh→sshd")->about);
    cr_assert(find("new")->has_client && find("new")->can_rekey && !find("new")->is_ssh);
    cr_assert_str_eq(find("newer")->about, "of its own");
    cr_assert_not(find("newer")->is_ssh);
    cr_assert_str_eq(peers_at(peers, peers_count(peers) - 1)->name, "newer");
}

PEERS_TEST(what_is_missing) {
    load("[{\"name\": \"a\", \"needs\": [\"sh\", \"nonesuch-x\", \"nonesuch-y\"], \"server\": [\"{nonesuch-y}\"]},"
         " {\"name\": \"b\", \"needs\": [\"nonesuch-x|sh\"], \"version\": [[\"{nonesuch-x}\", \"-c\", \"echo v1\"]]},"
         " {\"name\": \"c\", \"needs\": [\"libnonesuch.so\"]},"
         " {\"name\": \"d\", \"needs\": [\"libc.so.6\", \"libnonesuch.so\"],"
         "  \"programs\": {\"libc.so.6\": \"/bin/sh\", \"libnonesuch.so\": \"/bin/sh\"}}]",
         NULL);
    cr_assert_not_null(peers, "%s", why);
    cr_assert_str_eq(find("a")->missing, "nonesuch-x", "the first");
    cr_assert_null(peer_versions(peers, find("a")));
    cr_assert_null(find("b")->missing);
    char *versions = peer_versions(peers, find("b"));
    cr_assert_str_eq(versions, "v1", "the word is the first name's, whichever was found");
    free(versions);
    cr_assert_str_eq(find("c")->missing, "libnonesuch.so");
    cr_assert_null(find("d")->missing);
    struct tunnel tunnel;
    struct tunnel_options options = options_to(9);
    cr_assert_not(tunnel_start(world, peers, find("a"), &options, &tunnel, why, sizeof why));
    cr_assert_str_eq(why, "nonesuch-x is not installed");
}

struct refusal {
    const char *text, *words[3];
};

static const struct refusal refusals[] = {
    {"[\n{\"name\": \"x\",,}]", {"peers.json:2: ", ""}},
    {"[{\"name\": \"x\", \"name\": \"y\"}]", {"peers.json:1: ", "duplicate"}},
    {"{\"name\": \"x\"}", {"peers.json:1: ", "array"}},
    {"", {"peers.json:1: ", ""}},
    {"[{\"about\": \"x\"}]", {"peers.json: peer \"number 1\"", "no \"name\""}},
    {"[{\"name\": \"ok\"}, 3]", {"peer \"number 2\"", "no \"name\""}},
    {"[{\"name\": \"x\", \"colour\": \"red\"}]", {"peer \"x\", \"colour\": ", "no such key"}},
    {"[{\"name\": \"x\", \"server\": [\"{oops}\"]}]", {"peer \"x\", \"server\": ", "unknown word {oops}"}},
    {"[{\"name\": \"x\", \"server\": [\"sh\", \"a{dir\"]}]", {"peer \"x\", \"server\": ", "unknown word {dir"}},
    {"[{\"name\": \"x\", \"server\": [\"{}\"]}]", {"peer \"x\", \"server\": ", "unknown word {}"}},
    {"[{\"name\": \"x\", \"server\": [\"{rekey}\"]}]", {"peer \"x\", \"server\": ", "unknown word {rekey}"}},
    {"[{\"name\": \"x\", \"version\": [[\"{dir}/p\"]]}]", {"peer \"x\", \"version\": ", "unknown word {dir}"}},
    {"[{\"name\": \"x\", \"server\": \"sh\"}]", {"peer \"x\", \"server\": ", "array of strings"}},
    {"[{\"name\": \"x\", \"server\": [1]}]", {"peer \"x\", \"server\": ", "a string"}},
    {"[{\"name\": \"x\", \"server\": []}]", {"peer \"x\", \"server\": ", "empty"}},
    {"[{\"name\": \"x\", \"prepare\": [\"sh\"]}]", {"peer \"x\", \"prepare\": ", "array of strings"}},
    {"[{\"name\": \"x\", \"prepare\": [[]]}]", {"peer \"x\", \"prepare\": ", "empty"}},
    {"[{\"name\": \"x\", \"version\": {}}]", {"peer \"x\", \"version\": ", "array of commands"}},
    {"[{\"name\": \"x\", \"ssh\": 1}]", {"peer \"x\", \"ssh\": ", "true or false"}},
    {"[{\"name\": \"x\", \"files\": []}]", {"peer \"x\", \"files\": ", "object"}},
    {"[{\"name\": \"x\", \"files\": {\"f\": \"line\"}}]", {"peer \"x\", \"files\": ", "\"f\"", "array"}},
    {"[{\"name\": \"x\", \"files\": {\"../f\": []}}]", {"peer \"x\", \"files\": ", "\"../f\""}},
    {"[{\"name\": \"x\", \"files\": {\"/f\": []}}]", {"peer \"x\", \"files\": ", "\"/f\""}},
    {"[{\"name\": \"x\", \"files\": {\"f\": [\"{oops}\"]}}]", {"peer \"x\", \"files\": ", "{oops}"}},
    {"[{\"name\": \"x\", \"files\": {\"f\": [{\"line\": \"a\"}]}}]", {"peer \"x\", \"files\": ", "\"if\""}},
    {"[{\"name\": \"x\", \"files\": {\"f\": [{\"line\": \"a\", \"if\": []}]}}]", {"\"files\": ", "empty"}},
    {"[{\"name\": \"x\", \"needs\": \"sh\"}]", {"peer \"x\", \"needs\": ", "array of strings"}},
    {"[{\"name\": \"x\", \"needs\": [3]}]", {"peer \"x\"", "needs"}},
    {"[{\"name\": \"x\", \"needs\": [\"\"]}]", {"peer \"x\"", "needs"}},
    {"[{\"name\": \"x\", \"like\": \"y\"}, {\"name\": \"y\"}]", {"peer \"x\"", "\"like\""}},
    {"[{\"name\": \"x\", \"rekey\": [\"a\"]}]", {"peer \"x\"", "client"}},
    {"[{\"name\": \"x\", \"client\": [\"a\"], \"negotiated\": [\"-v\"]}]", {"\"negotiated\": ", "\"lines\""}},
    {"[{\"name\": \"x\", \"programs\": {\"sh\": \"/nonesuch\"}}]", {"peer \"x\", \"programs\": ", "/nonesuch"}},
    {"[{\"name\": \"x\", \"programs\": {\"sh\": 1}}]", {"peer \"x\", \"programs\": ", "path"}},
};

PEERS_TEST(refusals_say_where) {
    for (size_t i = 0; i < sizeof refusals / sizeof refusals[0]; i++) {
        cr_assert_null(load(refusals[i].text, NULL), "%s", refusals[i].text);
        for (unsigned n = 0; n < 3 && refusals[i].words[n] != NULL; n++)
            cr_assert_not_null(strstr(why, refusals[i].words[n]), "%s: \"%s\" is not in: %s", refusals[i].text,
                               refusals[i].words[n], why);
    }
    peers = peers_load(&(struct peers_options){.file = "/nonesuch.json"}, why, sizeof why);
    cr_assert_null(peers);
    cr_assert_not_null(strstr(why, "/nonesuch.json: "), "%s", why);
}

PEERS_TEST(programs_that_are_named) {
    const char *named[] = {"ssh=/bin/sh", NULL};
    load("[{\"name\": \"x\", \"needs\": [\"ssh\"], \"version\": [[\"{ssh}\", \"-c\", \"echo named 1\"]]},"
         " {\"name\": \"y\", \"like\": \"x\", \"programs\": {\"ssh\": \"/bin/echo\"}}]",
         named);
    cr_assert_not_null(peers, "%s", why);
    char *versions = peer_versions(peers, find("x"));
    cr_assert_str_eq(versions, "named 1");
    free(versions);
    versions = peer_versions(peers, find("y"));
    cr_assert_str_eq(versions, "-c echo named 1", "a peer's own word counts more");
    free(versions);
    named[0] = "nonesuch=/bin/sh";
    cr_assert_null(load("[]", named));
    cr_assert_not_null(strstr(why, "no peer needs it"), "%s", why);
    named[0] = "ssh=/nonesuch";
    cr_assert_null(load("[]", named));
    cr_assert_not_null(strstr(why, "cannot be run"), "%s", why);
    named[0] = "ssh";
    cr_assert_null(load("[]", named));
    cr_assert_not_null(strstr(why, "NAME=PATH"), "%s", why);
    named[0] = "stunnel4=/bin/sh";
    cr_assert_not_null(load("[]", named), "%s", why);
}

PEERS_TEST(words_in_texts) {
    const struct words_program programs[] = {{(char *)(uintptr_t) "my-ssh", (char *)(uintptr_t) "/opt/ssh"}};
    const struct words words = {
        .values = {[WORD_DIR] = "/d", [WORD_CIPHER] = ""}, .programs = programs, .program_count = 1};
    static const char *const good[][2] = {{"", ""},
                                          {"plain }", "plain }"},
                                          {"{dir}", "/d"},
                                          {"{dir}{dir}x", "/d/dx"},
                                          {"a{{b}{{{dir}", "a{b}{/d"},
                                          {"{{dir}", "{dir}"},
                                          {"-{cipher}-", "--"},
                                          {"{my-ssh}/{dir}", "/opt/ssh//d"}};
    static const char *const bad[][2] = {
        {"{keys}", "{keys}"}, {"x{", "{"}, {"x{dir", "{dir"}, {"{ dir}", "{ dir}"}, {"{dirs}", "{dirs}"}};
    char unknown[64];
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        char *text = words_expand(&words, good[i][0], unknown, sizeof unknown);
        cr_assert_not_null(text, "%s", good[i][0]);
        cr_assert_str_eq(text, good[i][1]);
        free(text);
    }
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        cr_assert_null(words_expand(&words, bad[i][0], unknown, sizeof unknown), "%s", bad[i][0]);
        cr_assert_str_eq(unknown, bad[i][1]);
    }
    cr_assert(words_uses("a {{ {keys}", WORD_KEYS));
    cr_assert_not(words_uses("{{keys} {key} keys {dir}", WORD_KEYS));
}

/* What came on a connection, back; false at its end. */
static bool echo_once(int fd) {
    char buffer[16384];
    ssize_t got = recv(fd, buffer, sizeof buffer, 0);
    return got > 0 && send(fd, buffer, (size_t)got, MSG_NOSIGNAL) == got;
}

_Noreturn static void serve_echo(int listener) {
    struct pollfd fds[CONNECTIONS_MAX + 1] = {{.fd = listener, .events = POLLIN}};
    nfds_t count = 1;
    while (poll(fds, count, -1) > 0) {
        for (nfds_t i = count - 1; i > 0; i--)
            if (fds[i].revents != 0 && !echo_once(fds[i].fd)) {
                close(fds[i].fd);
                fds[i] = fds[--count];
            }
        if (fds[0].revents != 0 && count <= CONNECTIONS_MAX)
            fds[count++] = (struct pollfd){.fd = accept(listener, NULL, NULL), .events = POLLIN};
    }
    _exit(1);
}

/* A process that sends back what comes. */
static pid_t start_echo(uint16_t *port) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t len = sizeof address;
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    cr_assert_eq(bind(listener, (struct sockaddr *)&address, sizeof address), 0);
    cr_assert_eq(listen(listener, 64), 0);
    cr_assert_eq(getsockname(listener, (struct sockaddr *)&address, &len), 0);
    *port = ntohs(address.sin_port);
    pid_t pid = fork();
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        serve_echo(listener);
    }
    close(listener);
    return pid;
}

static void end_echo(pid_t pid) {
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
}

static int dial(const struct sockaddr_in *address, const char *name) {
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    cr_assert_eq(connect(fd, (const struct sockaddr *)address, sizeof *address), 0, "%s: %s", name, strerror(errno));
    return fd;
}

static uint8_t pattern(size_t at) {
    return (uint8_t)((at * 2654435761u) >> 13);
}

/* Bytes through and back, whole and the same. */
static void assert_echo(const struct sockaddr_in *address, const char *name) {
    static uint8_t sent[ECHO_BYTES], got[16384];
    int fd = dial(address, name);
    size_t out = 0, in = 0;
    for (size_t i = 0; i < ECHO_BYTES; i++)
        sent[i] = pattern(i);
    while (in < ECHO_BYTES) {
        struct pollfd waited = {.fd = fd, .events = (short)(POLLIN | (out < ECHO_BYTES ? POLLOUT : 0))};
        cr_assert_gt(poll(&waited, 1, 60000), 0, "%s: nothing moves at %zu", name, in);
        if (waited.revents & POLLOUT) {
            ssize_t n = send(fd, sent + out, ECHO_BYTES - out, MSG_DONTWAIT | MSG_NOSIGNAL);
            out += n > 0 ? (size_t)n : 0;
        }
        if ((waited.revents & (POLLIN | POLLHUP | POLLERR)) == 0)
            continue;
        ssize_t n = recv(fd, got, sizeof got, 0);
        cr_assert_gt(n, 0, "%s: it ended at %zu", name, in);
        cr_assert(memcmp(got, sent + in, (size_t)n) == 0, "%s: other bytes behind %zu", name, in);
        in += (size_t)n;
    }
    close(fd);
}

/* Nothing runs or waits to be reaped below this process but the echo. */
static void assert_only(pid_t echo, const char *name) {
    struct usage_process *all;
    char path[64], stat[128] = "";
    size_t count = usage_tree(getpid(), &all);
    for (size_t i = 1; i < count; i++) {
        if (all[i].pid == echo)
            continue;
        snprintf(path, sizeof path, "/proc/%d/stat", (int)all[i].pid);
        FILE *file = fopen(path, "r");
        if (file != NULL && fgets(stat, sizeof stat, file) == NULL)
            stat[0] = '\0';
        free(all);
        cr_assert_fail("%s left a process: %s", name, stat);
    }
    free(all);
}

static void assert_peer(const struct peer *peer, pid_t echo, uint16_t target) {
    struct tunnel tunnel;
    struct tunnel_options options = options_to(target);
    char folder[256];
    cr_assert(tunnel_start(world, peers, peer, &options, &tunnel, why, sizeof why), "%s: %s", peer->name, why);
    snprintf(folder, sizeof folder, "%s/%s", world_dir(world), tunnel.folder);
    cr_assert_eq(tunnel.peer, peer);
    cr_assert_eq(tunnel.is_reached_directly, !peer->has_server && !peer->has_client);
    cr_assert_eq(process_alive(&tunnel.client), peer->has_client, "%s", peer->name);
    cr_assert_eq(process_alive(&tunnel.server), peer->has_server, "%s", peer->name);
    for (unsigned i = 0; i < 3; i++)
        assert_echo(&tunnel.address, peer->name);
    tunnel_stop(world, &tunnel);
    cr_assert(tunnel.client.pid == 0 && tunnel.server.pid == 0);
    cr_assert(tunnel.is_reached_directly || access(folder, F_OK) != 0, "%s", peer->name);
    assert_only(echo, peer->name);
}

PEERS_TEST(each_that_is_installed_carries_bytes) {
    uint16_t target;
    pid_t echo = start_echo(&target);
    load_builtin();
    for (size_t i = 0; i < peers_count(peers); i++) {
        const struct peer *peer = peers_at(peers, i);
        if (peer->missing != NULL)
            fprintf(stderr, "%s: not tried, %s is not installed\n", peer->name, peer->missing); /* cr_log_warn fails */
        else
            assert_peer(peer, echo, target);
    }
    end_echo(echo);
}

/* The peer whose server tells something and ends: what it told is in `why`. */
static const char *what_it_tells(const char *peer_text, struct tunnel_options *options) {
    struct tunnel tunnel;
    cr_assert_not_null(load(peer_text, NULL), "%s", why);
    cr_assert_not(tunnel_start(world, peers, find("x"), options, &tunnel, why, sizeof why));
    cr_assert(tunnel.client.pid == 0 && tunnel.server.pid == 0);
    assert_no_child();
    return why;
}

PEERS_TEST(what_a_server_gets) {
    char expected[256];
    struct tunnel_options options = options_to(4711);
    const char *told = what_it_tells(
        "[{\"name\": \"x\", \"needs\": [\"sh\"],"
        "  \"files\": {\"deep/f\": [\"{target_host} {target_port} {cipher} {{\","
        "              {\"line\": \"yes\", \"if\": [\"{sh}\", \"-c\", \"exit 0\"]},"
        "              {\"line\": \"no\", \"if\": [\"{sh}\", \"-c\", \"exit 1\"]}, \"{user_public_key}\"]},"
        "  \"prepare\": [[\"sh\", \"-c\", \"echo prepared >{dir}/p\"]],"
        "  \"environment\": [\"WORD=from {listen_host}\"],"
        "  \"server\": [\"sh\", \"-c\", \"cat {dir}/p {dir}/deep/f; echo $WORD; exit 1\"]}]",
        &options);
    snprintf(expected, sizeof expected, "127.0.0.1 4711 %s {\nyes\nssh-ed25519 ", CIPHER);
    cr_assert_not_null(strstr(told, expected), "%s", told);
    cr_assert_not_null(strstr(told, "\nfrom 127.0.0.1"), "%s", told);
    cr_assert_not_null(strstr(told, "the server ended: prepared\n"), "%s", told);
}

PEERS_TEST(failures_are_told) {
    struct tunnel_options options = options_to(9);
    const char *told = what_it_tells("[{\"name\": \"x\", \"server\": [\"sh\", \"-c\", \"exit 1\"]}]", &options);
    cr_assert_str_eq(told, "the server ended: it said nothing");
    told = what_it_tells("[{\"name\": \"x\", \"server\": [\"/nonesuch/program\"]}]", &options);
    cr_assert_str_eq(told, "server: /nonesuch/program: No such file or directory");
    told = what_it_tells("[{\"name\": \"x\", \"prepare\": [[\"sh\", \"-c\", \"echo not so; exit 1\"]],"
                         "  \"server\": [\"sleep\", \"600\"]}]",
                         &options);
    cr_assert_not_null(strstr(told, "not so"), "%s", told);
}

PEERS_TEST(a_client_that_fails_takes_its_server_along) {
    struct tunnel_options options = options_to(9);
    load_builtin();
    if (find("socat")->missing != NULL)
        skip_after(tear_down(), "socat is not installed");
    const char *told = what_it_tells(
        "[{\"name\": \"x\", \"needs\": [\"socat\"],"
        "  \"server\": [\"{socat}\", \"TCP4-LISTEN:{server_port},bind={server_host}\", \"TCP4:{target_host}:1\"],"
        "  \"client\": [\"sh\", \"-c\", \"echo no route; exit 1\"]}]",
        &options);
    cr_assert_str_eq(told, "the client ended: no route");
}

/* Between client and server stands another relay, which is known before the server listens. */
PEERS_TEST(over_a_proxy) {
    uint16_t target;
    struct tunnel proxy, tunnel;
    load_builtin();
    if (find("socat")->missing != NULL || find("ssh→sshd")->missing != NULL)
        skip_after(tear_down(), "socat or OpenSSH is not installed");
    pid_t echo = start_echo(&target);
    struct tunnel_options options = options_to(target), to_server = options_to(world_free_port());
    cr_assert(tunnel_start(world, peers, find("socat"), &to_server, &proxy, why, sizeof why), "%s", why);
    options.server_port = ntohs(to_server.target.sin_port);
    options.server_port_seen = ntohs(proxy.address.sin_port);
    cr_assert(tunnel_start(world, peers, find("ssh→sshd"), &options, &tunnel, why, sizeof why), "%s", why);
    cr_assert_eq(tunnel.server_port, options.server_port_seen);
    assert_echo(&tunnel.address, "ssh→sshd");
    tunnel_stop(world, &proxy); /* it stood between */
    for (unsigned i = 0; i < 30000 && process_alive(&tunnel.client); i++)
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    cr_assert_not(process_alive(&tunnel.client));
    tunnel_stop(world, &tunnel);
    end_echo(echo);
}

/* The command line of a process, spaces between its words. */
static void read_command_line(pid_t pid, char *text, size_t bytes) {
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/cmdline", (int)pid);
    FILE *file = fopen(path, "r");
    cr_assert_not_null(file);
    size_t len = fread(text, 1, bytes - 1, file);
    fclose(file);
    text[len] = '\0';
    for (size_t i = 0; i + 1 < len; i++)
        if (text[i] == '\0')
            text[i] = ' ';
}

PEERS_TEST(what_is_asked_of_ssh) {
    char line[2048];
    struct tunnel tunnel;
    struct tunnel_options options = options_to(9);
    load_builtin();
    if (find("ssh→sshd")->missing != NULL)
        skip_after(tear_down(), "OpenSSH is not installed");
    options.rekey = "64M";
    cr_assert(tunnel_start(world, peers, find("ssh→sshd"), &options, &tunnel, why, sizeof why), "%s", why);
    read_command_line(tunnel.client.pid, line, sizeof line);
    cr_assert_not_null(strstr(line, "ssh -o RekeyLimit=64M -F none "), "%s", line);
    cr_assert_not_null(strstr(line, "-c " CIPHER), "%s", line);
    tunnel_stop(world, &tunnel);
    char *text = peer_versions(peers, find("ssh→sshd"));
    cr_assert_not_null(text);
    cr_assert_eq(strncmp(text, "OpenSSH_", 8), 0, "%s", text);
    cr_assert_not_null(strstr(text, "\nOpenSSH_"), "%s", text);
    free(text);
    text = peer_negotiated(world, peers, find("ssh→sshd"), &options);
    cr_assert_not_null(text);
    cr_assert_eq(strncmp(text, "kex: algorithm: ", 16), 0, "%s", text);
    cr_assert_not_null(strstr(text, "server->client cipher: " CIPHER), "%s", text);
    free(text);
    cr_assert_null(peer_negotiated(world, peers, find("direct"), &options));
    cr_assert_null(peer_versions(peers, find("direct")));
}

PEERS_TEST(both_ends_of_leat_are_limited) {
    char line[2048];
    struct tunnel tunnel;
    struct tunnel_options options = options_to(9);
    load_builtin();
    cr_assert(find("leat→leatd")->can_limit && !find("ssh→leatd")->can_limit);
    if (find("leat→leatd")->missing != NULL)
        skip_after(tear_down(), "leat is not beside this test");
    options.limit = "64M";
    cr_assert(tunnel_start(world, peers, find("leat→leatd"), &options, &tunnel, why, sizeof why), "%s", why);
    read_command_line(tunnel.client.pid, line, sizeof line);
    cr_expect_not_null(strstr(line, "leat -o MemoryLimit=64M "), "%s", line);
    read_command_line(tunnel.server.pid, line, sizeof line);
    cr_expect_not_null(strstr(line, "leatd -o MemoryLimit=64M "), "%s", line);
    tunnel_stop(world, &tunnel);
}

PEERS_TEST(what_leat_negotiates) {
    struct tunnel_options options = options_to(9);
    load_builtin();
    if (find("leat→leatd")->missing != NULL)
        skip_after(tear_down(), "leat is not beside this test");
    char *text = peer_negotiated(world, peers, find("leat→leatd"), &options);
    cr_assert_not_null(text);
    cr_assert_not_null(strstr(text, "cipher " CIPHER), "%s", text);
    cr_assert_not_null(strstr(text, "host key ssh-ed25519"), "%s", text);
    free(text);
}

/* A harness in a process of its own, with tunnels that carry a connection; tells that it is ready. */
static void be_harness(int report, uint16_t target) {
    static const char *const names[] = {"ssh→sshd", "dropbear", "socat", "leat→leatd"};
    struct tunnel tunnel;
    struct tunnel_options options = options_to(target);
    prctl(PR_SET_PDEATHSIG, SIGTERM); /* not to outlive a test that fails */
    struct world *own = world_begin(false);
    for (unsigned i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (find(names[i])->missing != NULL)
            continue;
        if (!tunnel_start(own, peers, find(names[i]), &options, &tunnel, why, sizeof why))
            _exit(1);
        char byte = 'x';
        int fd = dial(&tunnel.address, names[i]); /* stays open */
        if (write(fd, &byte, 1) != 1 || read(fd, &byte, 1) != 1)
            _exit(2);
    }
    if (write(report, world_dir(own), strlen(world_dir(own)) + 1) < 1)
        _exit(3);
    while (!world_interrupted())
        poll(NULL, 0, 5);
    world_end(own);
    _exit(0);
}

static void assert_nothing_left(int number, bool at_once, uint16_t target) {
    char dir[256] = "";
    int report[2];
    struct usage_process *tree;
    cr_assert_eq(pipe(report), 0);
    pid_t harness = fork();
    if (harness == 0)
        be_harness(report[1], target);
    close(report[1]);
    cr_assert_gt(read(report[0], dir, sizeof dir), 0, "the harness did not begin");
    close(report[0]);
    size_t count = usage_tree(harness, &tree);
    kill(harness, number);
    waitpid(harness, NULL, 0);
    double left_s = at_once ? 0 : 30;
    for (size_t i = 1; i < count; i++) {
        for (; usage_runs(&tree[i]) && left_s > 0; left_s -= 0.005)
            poll(NULL, 0, 5);
        cr_assert_not(usage_runs(&tree[i]), "process %zu of %zu is left", i, count);
        waitpid(tree[i].pid, NULL, 0); /* this test's world takes a killed one's orphans */
    }
    free(tree);
    if (!at_once)
        world_end(world_begin(false));
    cr_assert_neq(access(dir, F_OK), 0);
}

PEERS_TEST(nothing_is_left_of_an_interrupted_run) {
    uint16_t target;
    pid_t echo = start_echo(&target);
    load_builtin();
    assert_nothing_left(SIGTERM, true, target);
    assert_nothing_left(SIGKILL, false, target);
    end_echo(echo);
}
