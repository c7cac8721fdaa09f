/* A run's folder and processes: what they do, and that nothing of them is left. Each test has a temporary folder of its
 * own, so that runs beside it are not seen. A little long: the folder and the look at processes are all parts'. */
#include "bench/process.h"
#include "bench/usage.h"
#include "bench/world.h"
#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <netinet/in.h>
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

static char temporary[64], why[256];
static struct world *world;

static double now(void) {
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static void look_again(void) {
    nanosleep(&(struct timespec){.tv_nsec = 2000000}, NULL);
}

static void set_up(void) {
    snprintf(temporary, sizeof temporary, "/tmp/leat-unit-XXXXXX");
    cr_assert_not_null(mkdtemp(temporary));
    setenv("TMPDIR", temporary, 1);
    world = world_begin(false);
    cr_assert_not_null(world, "%s", strerror(errno));
}

/* Folders of runs that are there. */
static unsigned count_left(void) {
    unsigned count = 0;
    struct dirent *entry;
    DIR *dir = opendir(temporary);
    cr_assert_not_null(dir);
    while ((entry = readdir(dir)) != NULL)
        count += strncmp(entry->d_name, "leat-bench-", 11) == 0;
    closedir(dir);
    return count;
}

static int remove_one(const char *path, const struct stat *stat, int type, struct FTW *at) {
    (void)stat;
    (void)type;
    (void)at;
    return remove(path);
}

static void tear_down(void) {
    world_end(world);
    cr_assert_eq(count_left(), 0);
    nftw(temporary, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

/* What fails in a fixture's end fails no test. */
#define WORLD_TEST(name)                                                                                               \
    static void name(void);                                                                                            \
    Test(world, name) {                                                                                                \
        set_up();                                                                                                      \
        name();                                                                                                        \
        tear_down();                                                                                                   \
    }                                                                                                                  \
    static void name(void)

static bool exists(const char *path) {
    struct stat stat;
    return lstat(path, &stat) == 0;
}

static struct process start_shell(const char *name, const char *script) {
    char text[512];
    char shell[] = "sh", option[] = "-c";
    char *argv[] = {shell, option, text, NULL};
    struct process process;
    snprintf(text, sizeof text, "%s", script);
    cr_assert(world_start(world, &process, name, argv, NULL, NULL), "%s", strerror(errno));
    return process;
}

/* Waits for the nth line that the process says. */
static void await_line(const struct process *process, unsigned count, char *line, size_t line_bytes) {
    for (double deadline = now() + 20; now() < deadline; look_again()) {
        FILE *file = fopen(process->log, "r");
        unsigned n = 0;
        while (n < count && fgets(line, (int)line_bytes, file) != NULL && strchr(line, '\n') != NULL)
            n++;
        fclose(file);
        if (n == count)
            return;
    }
    cr_assert_fail("%s said too little", process->log);
}

static struct usage_process identify(pid_t pid) {
    struct usage_process *tree, process;
    cr_assert_gt(usage_tree(pid, &tree), 0, "%d is not there", (int)pid);
    process = tree[0];
    free(tree);
    return process;
}

static bool ends(const struct usage_process *process) {
    double deadline = now() + 20;
    while (usage_runs(process) && now() < deadline)
        look_again();
    return !usage_runs(process);
}

WORLD_TEST(its_folder_is_private) {
    struct stat stat_;
    cr_assert_eq(stat(world_dir(world), &stat_), 0);
    cr_assert_eq(stat_.st_mode & 07777, 0700);
    cr_assert_eq(strncmp(world_dir(world), temporary, strlen(temporary)), 0);
}

WORLD_TEST(files_and_folders) {
    char path[512], long_name[600];
    cr_assert(world_write(world, "a", "one\n"));
    cr_assert(world_write(world, "a", "2\n"));
    cr_assert(world_write(world, "deep/er/b", "three"));
    snprintf(path, sizeof path, "%s/a", world_dir(world));
    char *text = world_read(path);
    cr_assert_str_eq(text, "2\n");
    free(text);
    snprintf(path, sizeof path, "%s/deep/er/b", world_dir(world));
    text = world_read(path);
    cr_assert_str_eq(text, "three");
    free(text);
    cr_assert(world_write(world, "empty", ""));
    snprintf(path, sizeof path, "%s/empty", world_dir(world));
    text = world_read(path);
    cr_assert_str_eq(text, "");
    free(text);
    cr_assert(world_make_dir(world, "deep/x"));
    cr_assert(world_make_dir(world, "deep/x"), "again");
    cr_assert(world_write(world, "deep/lock", "not the run's"));
    world_remove_dir(world, "deep");
    snprintf(path, sizeof path, "%s/deep", world_dir(world));
    cr_assert_not(exists(path));
    memset(long_name, 'n', sizeof long_name - 1);
    long_name[sizeof long_name - 1] = '\0';
    cr_assert_not(world_write(world, long_name, ""));
    cr_assert_eq(errno, ENAMETOOLONG);
    cr_assert_null(world_read("/nonesuch"));
}

WORLD_TEST(keys_are_made_once) {
    char path[512];
    cr_assert(world_keys(world, why, sizeof why), "%s", why);
    snprintf(path, sizeof path, "%s/user_key.pub", world_dir(world));
    char *public_key = world_read(path);
    snprintf(path, sizeof path, "%s/authorized_keys", world_dir(world));
    char *authorized = world_read(path);
    cr_assert_eq(strncmp(public_key, "ssh-ed25519 ", 12), 0);
    cr_assert_str_eq(public_key, authorized);
    free(public_key);
    cr_assert(world_keys(world, why, sizeof why));
    public_key = world_read(path);
    cr_assert_str_eq(public_key, authorized);
    free(public_key);
    free(authorized);
}

WORLD_TEST(a_process_lives_and_is_stopped) {
    struct process process = start_shell("talker", "echo out; echo err >&2; exec sleep 600");
    char line[64];
    await_line(&process, 2, line, sizeof line);
    cr_assert(process_alive(&process));
    char *tail = process_tail(&process, 5);
    cr_assert_str_eq(tail, "out\nerr");
    free(tail);
    struct usage_process known = identify(process.pid);
    world_stop(world, &process);
    cr_assert_eq(process.pid, 0);
    cr_assert_not(process_alive(&process));
    cr_assert_not(usage_runs(&known));
    world_stop(world, &process); /* none: nothing happens */
}

WORLD_TEST(a_process_that_has_ended_is_not_alive) {
    struct process process = start_shell("short", "exit 3");
    for (double deadline = now() + 20; process_alive(&process) && now() < deadline;)
        look_again();
    cr_assert_not(process_alive(&process));
    cr_assert_not(process_alive(&process), "asking changes nothing");
    world_stop(world, &process);
}

WORLD_TEST(what_cannot_be_started) {
    struct process process;
    char name[] = "/nonesuch/program"; /* in PATH it may be that a folder may not be read */
    char *argv[] = {name, NULL};
    cr_assert_not(world_start(world, &process, "none", argv, NULL, NULL));
    cr_assert_eq(errno, ENOENT);
    cr_assert_eq(process.pid, 0);
    struct place nowhere = PLACE_HERE;
    nowhere.pinned = true; /* to no processor */
    char shell[] = "true";
    argv[0] = shell;
    cr_assert_not(world_start(world, &process, "none", argv, NULL, &nowhere));
    cr_assert_eq(errno, EINVAL);
    cr_assert_eq(waitpid(-1, NULL, WNOHANG), -1, "a child is left");
}

WORLD_TEST(what_a_process_finds) {
    char shell[] = "sh", option[] = "-c", line[64];
    char script[] = "read x; echo \"$? $WORD $OLD\"; exec sleep 600";
    char *argv[] = {shell, option, script, NULL};
    char word[] = "WORD=from us";
    char *environment[] = {word, NULL};
    struct process process;
    setenv("OLD", "inherited", 1);
    cr_assert(world_start(world, &process, "finder", argv, environment, NULL));
    await_line(&process, 1, line, sizeof line);
    cr_assert_str_eq(line, "1 from us inherited\n", "nothing to read, and both words: %s", line);
    cr_assert_eq(getpgid(process.pid), process.pid);
    cr_assert_null(getenv("WORD"));
}

WORLD_TEST(ends_those_that_do_not_listen) {
    struct process process = start_shell("deaf", "trap '' TERM; sleep 600 & echo $!; while :; do wait; done");
    char line[64];
    await_line(&process, 1, line, sizeof line);
    struct usage_process self = identify(process.pid), below = identify(atoi(line));
    world_stop(world, &process);
    cr_assert_not(usage_runs(&self));
    cr_assert_not(usage_runs(&below));
}

WORLD_TEST(ends_those_that_left_the_group) {
    struct process process = start_shell("parent", "setsid sleep 600 & echo $!; wait");
    char line[64];
    await_line(&process, 1, line, sizeof line);
    pid_t pid = atoi(line);
    for (double deadline = now() + 20; getpgid(pid) == process.pid && now() < deadline;)
        look_again();
    struct usage_process below = identify(pid);
    world_stop(world, &process);
    cr_assert_not(usage_runs(&below));
    cr_assert_eq(waitpid(-1, NULL, WNOHANG), -1, "a child is left");
}

WORLD_TEST(ends_those_whose_parents_went) {
    struct process process =
        start_shell("daemon", "sh -c 'setsid sh -c \"echo \\$\\$; exec sleep 600\" & sleep 0'; exec sleep 600");
    char line[64];
    await_line(&process, 1, line, sizeof line);
    struct usage_process orphan = identify(atoi(line));
    siginfo_t info;
    for (double deadline = now() + 20; now() < deadline; look_again())
        if (waitid(P_PID, (id_t)orphan.pid, &info, WEXITED | WNOHANG | WNOWAIT) == 0) /* our child by now */
            break;
    world_end(world);
    world = NULL;
    cr_assert_not(usage_runs(&orphan));
    cr_assert_eq(waitpid(-1, NULL, WNOHANG), -1, "a child is left");
}

WORLD_TEST(its_end_stops_all) {
    struct usage_process known[20];
    for (unsigned i = 0; i < 20; i++) {
        char name[16];
        snprintf(name, sizeof name, "p%u", i);
        struct process process = start_shell(name, "exec sleep 600");
        known[i] = identify(process.pid);
        if (i % 5 == 0)
            world_stop(world, &process);
    }
    world_end(world);
    world = NULL;
    for (unsigned i = 0; i < 20; i++)
        cr_assert_not(usage_runs(&known[i]));
}

static void assert_tail(const char *text, unsigned lines, const char *expected) {
    struct process process = {0};
    cr_assert(world_write(world, "said", text));
    snprintf(process.log, sizeof process.log, "%s/said", world_dir(world));
    char *tail = process_tail(&process, lines);
    cr_assert_str_eq(tail, expected);
    free(tail);
}

WORLD_TEST(the_last_lines) {
    struct process none = {.log = "/nonesuch"};
    char *tail = process_tail(&none, 3);
    cr_assert_str_eq(tail, "");
    free(tail);
    assert_tail("", 1, "");
    assert_tail("\n\n", 2, "");
    assert_tail("a", 1, "a");
    assert_tail("a\n", 1, "a");
    assert_tail("a\nb", 1, "b");
    assert_tail("a\nb\n", 2, "a\nb");
    assert_tail("a\nb\nc\n", 2, "b\nc");
    assert_tail("a\n\nc\n", 2, "\nc");
    assert_tail("a\nb\n", 9, "a\nb");
    char *big = malloc(20001);
    memset(big, 'x', 20000);
    big[20000] = '\0';
    memcpy(big + 19990, "\nthe\nend\n", 9);
    big[19999] = '\0';
    assert_tail(big, 2, "the\nend");
    free(big);
}

static int run(const char *script, char **output) {
    const char *const argv[] = {"sh", "-c", script, NULL};
    return world_run(argv, output);
}

WORLD_TEST(runs_a_command) {
    char *output;
    const char *const nonesuch[] = {"/nonesuch/program", NULL};
    cr_assert_eq(run("echo out; echo err >&2; exit 7", &output), 7);
    cr_assert_str_eq(output, "out\nerr\n");
    free(output);
    cr_assert_eq(run("exit 0", &output), 0);
    cr_assert_str_eq(output, "");
    free(output);
    cr_assert_eq(run("echo nobody reads it", NULL), 0);
    cr_assert_eq(run("kill -KILL $$", NULL), 128 + SIGKILL);
    cr_assert_eq(run("head -c 300000 /dev/zero | tr '\\0' x", &output), 0);
    cr_assert_eq(strlen(output), 300000);
    free(output);
    cr_assert_eq(world_run(nonesuch, &output), -1);
    cr_assert_eq(errno, ENOENT);
    cr_assert_null(output);
    cr_assert_eq(waitpid(-1, NULL, WNOHANG), -1, "a child is left");
}

WORLD_TEST(signals_are_the_runs_alone) {
    struct sigaction action;
    cr_assert_eq(raise(SIGPIPE), 0); /* ignored */
    cr_assert_not(world_interrupted());
    cr_assert_eq(run("kill -PIPE $$; exit 0", NULL), 128 + SIGPIPE);
    cr_assert_eq(raise(SIGHUP), 0);
    cr_assert(world_interrupted());
    cr_assert_eq(raise(SIGTERM), 0);
    cr_assert_eq(world_signal(), SIGHUP, "the first");
    world_end(world);
    cr_assert_eq(sigaction(SIGTERM, NULL, &action), 0);
    cr_assert(action.sa_handler == SIG_DFL);
    cr_assert_eq(sigaction(SIGPIPE, NULL, &action), 0);
    cr_assert(action.sa_handler == SIG_DFL);
    world = world_begin(false);
    cr_assert_not(world_interrupted());
    cr_assert_eq(world_signal(), 0);
}

static struct sockaddr_storage any_address(int family, uint16_t port, socklen_t *len) {
    struct sockaddr_storage address = {.ss_family = (sa_family_t)family};
    if (family == AF_INET) {
        struct sockaddr_in *in = (struct sockaddr_in *)&address;
        in->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        in->sin_port = htons(port);
        *len = sizeof *in;
    } else {
        struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)&address;
        in6->sin6_addr = in6addr_loopback;
        in6->sin6_port = htons(port);
        *len = sizeof *in6;
    }
    return address;
}

/* A process that listens once it is told to; false: it cannot (no IPv6 here). */
static struct process start_listener(int family, uint16_t port, int *tell) {
    int order[2];
    socklen_t len;
    struct sockaddr_storage address = any_address(family, port, &len);
    cr_assert_eq(pipe(order), 0);
    struct process process = {.pid = fork()};
    if (process.pid == 0) {
        char byte;
        close(order[1]);
        int fd = socket(family, SOCK_STREAM, 0);
        if (bind(fd, (struct sockaddr *)&address, len) != 0)
            _exit(2);
        while (read(order[0], &byte, 1) == 1)
            if (listen(fd, 1) != 0)
                _exit(3);
        _exit(0);
    }
    close(order[0]);
    *tell = order[1];
    return process;
}

WORLD_TEST(waits_for_a_listener) {
    uint16_t port = world_free_port();
    int tell;
    struct process process = start_listener(AF_INET, port, &tell);
    cr_assert_not(world_wait_listening(&process, port, 0.05), "bound, but not listening");
    cr_assert_eq(write(tell, "", 1), 1);
    cr_assert(world_wait_listening(&process, port, 20));
    cr_assert_not(world_wait_listening(&process, (uint16_t)(port ^ 1), 0.05), "another port");
    close(tell);
    cr_assert_not(world_wait_listening(&process, (uint16_t)(port ^ 1), 600), "it has ended");
    world_stop(world, &process);
    cr_assert_not(world_wait_listening(&process, port, 600), "there is none");
}

WORLD_TEST(waits_for_a_listener_on_the_other_family) {
    uint16_t port = world_free_port();
    int tell;
    struct process process = start_listener(AF_INET6, port, &tell);
    cr_assert_eq(write(tell, "", 1), 1);
    bool listening = world_wait_listening(&process, port, 20);
    if (!listening && !process_alive(&process))
        fputs("no IPv6 here\n", stderr);
    else
        cr_assert(listening);
    close(tell);
    world_stop(world, &process);
}

WORLD_TEST(ports_are_given_once) {
    static uint8_t given[65536];
    unsigned first = 32768;
    int report[2];
    FILE *range = fopen("/proc/sys/net/ipv4/ip_local_port_range", "r");
    if (range != NULL) {
        cr_assert_eq(fscanf(range, "%u", &first), 1);
        fclose(range);
    }
    cr_assert_eq(pipe(report), 0);
    pid_t other = fork();
    if (other == 0) {
        for (unsigned i = 0; i < 200; i++) {
            uint16_t port = world_free_port();
            if (write(report[1], &port, sizeof port) != sizeof port)
                _exit(1);
        }
        pause(); /* the ports are its own as long as it lives */
    }
    for (unsigned i = 0; i < 400; i++) {
        uint16_t port;
        if (i % 2 == 0)
            port = world_free_port();
        else
            cr_assert_eq(read(report[0], &port, sizeof port), sizeof port);
        cr_assert_geq(port, 1024);
        cr_assert(port < first || first < 12000);
        cr_assert_eq(given[port], 0);
        given[port] = 1;
    }
    kill(other, SIGKILL);
    waitpid(other, NULL, 0);
}

WORLD_TEST(borrows_folders) {
    char mine[128], theirs[128];
    snprintf(mine, sizeof mine, "%s/mine", temporary);
    snprintf(theirs, sizeof theirs, "%s/theirs", temporary);
    cr_assert_eq(mkdir(theirs, 0700), 0);
    cr_assert(world_borrow_dir(world, mine));
    cr_assert(world_borrow_dir(world, mine), "again");
    cr_assert(world_borrow_dir(world, theirs));
    cr_assert_not(world_borrow_dir(world, "/nonesuch/folder"));
    cr_assert(exists(mine));
    world_end(world);
    world = NULL;
    cr_assert_not(exists(mine));
    cr_assert(exists(theirs));
}

/* A harness in a process of its own, with two processes and a borrowed folder; tells its folder, and what it started.
 */
struct harness {
    pid_t pid;
    char dir[256];
    struct usage_process started[2];
};

struct told {
    char dir[256];
    pid_t pids[2];
};

static void be_harness(int report, bool runs, bool keep) {
    char shell[] = "sh", option[] = "-c", script[] = "setsid sleep 600 & echo $!; exec sleep 600", borrowed[128];
    char *argv[] = {shell, option, script, NULL};
    struct told told = {0};
    prctl(PR_SET_PDEATHSIG, SIGTERM); /* not to outlive a test that fails */
    struct world *own = world_begin(keep);
    struct process process;
    char line[64];
    snprintf(borrowed, sizeof borrowed, "%s/borrowed", temporary);
    if (own == NULL || !world_borrow_dir(own, borrowed) || !world_start(own, &process, "sleeper", argv, NULL, NULL))
        _exit(1);
    await_line(&process, 1, line, sizeof line);
    snprintf(told.dir, sizeof told.dir, "%s", world_dir(own));
    told.pids[0] = process.pid;
    told.pids[1] = atoi(line);
    if (write(report, &told, sizeof told) != sizeof told)
        _exit(1);
    if (runs)
        run("sleep 600", NULL);
    while (!world_interrupted())
        look_again();
    world_end(own);
    _exit(0);
}

static struct harness start_harness(bool runs, bool keep) {
    struct harness harness;
    struct told told;
    int report[2];
    cr_assert_eq(pipe(report), 0);
    harness.pid = fork();
    if (harness.pid == 0)
        be_harness(report[1], runs, keep);
    close(report[1]);
    cr_assert_eq(read(report[0], &told, sizeof told), sizeof told);
    close(report[0]);
    snprintf(harness.dir, sizeof harness.dir, "%s", told.dir);
    for (unsigned i = 0; i < 2; i++)
        harness.started[i] = identify(told.pids[i]);
    cr_assert(exists(harness.dir));
    return harness;
}

static void assert_interruption(int number, bool runs) {
    int status;
    char borrowed[128];
    struct harness harness = start_harness(runs, false);
    snprintf(borrowed, sizeof borrowed, "%s/borrowed", temporary);
    cr_assert_eq(kill(harness.pid, number), 0);
    cr_assert_eq(waitpid(harness.pid, &status, 0), harness.pid);
    cr_assert_eq(status, 0);
    cr_assert_not(exists(harness.dir));
    cr_assert_not(exists(borrowed));
    cr_assert_not(usage_runs(&harness.started[0]));
    cr_assert_not(usage_runs(&harness.started[1]));
}

WORLD_TEST(nothing_is_left_by_an_interrupted_run) {
    assert_interruption(SIGINT, false);
    assert_interruption(SIGTERM, false);
    assert_interruption(SIGHUP, false);
    assert_interruption(SIGTERM, true);
}

WORLD_TEST(a_killed_run_is_swept_by_the_next) {
    char borrowed[128];
    struct harness harness = start_harness(false, false);
    snprintf(borrowed, sizeof borrowed, "%s/borrowed", temporary);
    kill(harness.pid, SIGKILL);
    waitpid(harness.pid, NULL, 0);
    cr_assert(ends(&harness.started[0]), "it dies with its parent");
    kill(harness.started[1].pid, SIGKILL); /* what left the group is nobody's now; here it is our child */
    cr_assert(exists(harness.dir));
    cr_assert(exists(borrowed));
    struct world *next = world_begin(false);
    cr_assert_not_null(next);
    cr_assert_not(exists(harness.dir));
    cr_assert_not(exists(borrowed));
    cr_assert(exists(world_dir(world)), "one that lives is left alone");
    world_end(next);
}

WORLD_TEST(what_is_kept_stays) {
    int status;
    struct harness harness = start_harness(false, true);
    kill(harness.pid, SIGTERM);
    cr_assert_eq(waitpid(harness.pid, &status, 0), harness.pid);
    world_end(world_begin(false));
    cr_assert(exists(harness.dir));
    nftw(harness.dir, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

WORLD_TEST(sweeps_its_own_kind_alone) {
    char other[128], file[160], link[128], empty[128], entry[160];
    snprintf(other, sizeof other, "%s/precious", temporary);
    snprintf(file, sizeof file, "%s/lock", other);
    snprintf(link, sizeof link, "%s/leat-bench-link", temporary);
    snprintf(empty, sizeof empty, "%s/leat-bench-empty", temporary);
    snprintf(entry, sizeof entry, "%s/leat-bench-file", temporary);
    cr_assert(mkdir(other, 0700) == 0 && mkdir(empty, 0700) == 0 && symlink(other, link) == 0);
    close(open(file, O_CREAT | O_WRONLY, 0600));
    close(open(entry, O_CREAT | O_WRONLY, 0600));
    world_end(world_begin(false));
    cr_assert(exists(file), "through a link");
    cr_assert(exists(entry), "not a folder");
    cr_assert_not(exists(empty), "one that never began");
    unlink(link);
    unlink(entry);
}
