/* leat-bench as a whole, of every scenario a blink: what it writes can be read back, what breaks is named, and nothing
 * is left behind. No figure is looked at. */
#include "expect.h"
#include "terminal.h"
#include <dirent.h>
#include <stdio.h>
#include <unistd.h>

#define SMOKE_SECONDS 280 /* times LEAT_SLOW; alone it takes less than one minute */

static struct world world;

static void setup(void) {
    world_begin(&world);
    cr_assert_not_null(getenv("LEAT_BENCH_BIN"), "LEAT_BENCH_BIN is not set");
    char *argv[] = {(char *)"mkdir", (char *)world_path(&world, "tmp"), NULL};
    cr_assert_eq(process_wait(world_start(&world, "mkdir", argv), 10), 0);
    setenv("TMPDIR", world_path(&world, "tmp"), 1);
}
static void teardown(void) {
    world_end(&world);
}
TestSuite(bench, .init = setup, .fini = teardown, .timeout = 1500);

/* leat-bench with these words, split at spaces; "@NAME" is a file of the world. */
static struct process *bench(const char *line) {
    char *argv[48] = {getenv("LEAT_BENCH_BIN")}, *rest = NULL, *copy = strdup(line);
    unsigned argc = 1;
    for (char *word = strtok_r(copy, " ", &rest); word != NULL; word = strtok_r(NULL, " ", &rest)) {
        cr_assert_lt(argc, 47);
        argv[argc++] = (char *)(uintptr_t)(*word == '@' ? world_path(&world, word + 1) : world_format("%s", word));
    }
    argv[argc] = NULL;
    free(copy);
    return world_start(&world, "leat-bench", argv);
}

static void expect_status(struct process *process, int status, double seconds) {
    int got = process_wait(process, seconds);
    cr_expect_eq(got, status, "%d instead of %d: %s", got, status, process_log(process));
}

static void expect_bench(const char *line, int status) {
    expect_status(bench(line), status, 120);
}

static bool holds(const char *name, const char *text) {
    char *content = world_read(world_path(&world, name));
    bool found = strstr(content, text) != NULL;
    free(content);
    return found;
}

static unsigned lines_with(const char *name, const char *text) {
    unsigned lines = 0;
    char *content = world_read(world_path(&world, name));
    for (char *at = content; (at = strstr(at, text)) != NULL; at = strchrnul(at, '\n'))
        lines++;
    free(content);
    return lines;
}

/* What a run has in its folder for temporary files. */
static unsigned entries(const char *name) {
    unsigned count = 0;
    DIR *dir = opendir(world_path(&world, name));
    cr_assert_not_null(dir, "%s", name);
    for (const struct dirent *entry; (entry = readdir(dir)) != NULL;)
        count += entry->d_name[0] != '.';
    closedir(dir);
    return count;
}

static bool proc_holds(const char *pid, const char *name, const char *mark) {
    static char text[262144];
    FILE *file = fopen(world_format("/proc/%s/%s", pid, name), "re");
    size_t len = file != NULL ? fread(text, 1, sizeof(text), file) : 0;
    if (file != NULL)
        fclose(file);
    return memmem(text, len, mark, strlen(mark)) != NULL;
}

/* Processes of runs: a run's folder is among their arguments, or they are the harness' own. */
static unsigned processes_of_runs(void) {
    char folder[256], ours[256];
    snprintf(folder, sizeof(folder), "%s/tmp/", world.dir);
    snprintf(ours, sizeof(ours), "TMPDIR=%s/tmp", world.dir);
    unsigned count = 0;
    DIR *dir = opendir("/proc");
    for (const struct dirent *entry; (entry = readdir(dir)) != NULL;)
        if (entry->d_name[0] >= '1' && entry->d_name[0] <= '9')
            count += proc_holds(entry->d_name, "cmdline", folder) ||
                     (proc_holds(entry->d_name, "comm", "leat-bench") && proc_holds(entry->d_name, "environ", ours));
    closedir(dir);
    return count;
}

static void expect_nothing_left(void) {
    cr_expect_eq(entries("tmp"), 0, "a folder was left");
    expect_soon(processes_of_runs() == 0, 5);
}

/* ---- everything once ---- */

/* The names of the scenarios as `list` has them: the first words up to the empty line. Losses need rights that not
 * everybody has; the run says what it left out. */
static void expect_every_scenario_in(const char *csv, unsigned left_out) {
    struct process *list = bench("list --smoke");
    expect_status(list, 0, 20);
    char *text = strdup(process_log(list)), *rest = NULL;
    unsigned scenarios = 0;
    *strstr(text, "\n\n") = '\0';
    for (char *line = strtok_r(text, "\n", &rest); line != NULL; line = strtok_r(NULL, "\n", &rest)) {
        if (strncmp(line, "SCENARIO", 8) == 0 || strstr(line, "cannot run here") != NULL ||
            strstr(line, "by name alone") != NULL)
            continue;
        line[strcspn(line, " ")] = '\0';
        if (left_out > 0 && !holds(csv, line) && strstr(line, "loss") != NULL)
            left_out--;
        else
            cr_expect(holds(csv, line), "%s was not measured", line);
        scenarios++;
    }
    cr_expect_gt(scenarios, 20);
    free(text);
}

Test(bench, a_smoke_of_every_scenario) {
    struct process *run = bench("--smoke --json @out.json --csv @out.csv --html @out.html --percentiles @hgrm");
    expect_status(run, 0, SMOKE_SECONDS);
    unsigned left_out = process_lines(run, "left out: ");
    cr_expect(left_out == 0 || geteuid() != 0, "%s", process_log(run));
    expect_nothing_left();
    expect_every_scenario_in("out.csv", left_out);
    cr_expect(holds("out.json", "\"format\":\"leat-bench/1\"") && holds("out.json", "\"command_line\""));
    cr_expect(holds("out.html", "</html>"));
    cr_expect_gt(entries("hgrm"), 0);
    /* What is read back says the same. */
    expect_bench("report @out.json --csv @again.csv --html @again.html --percentiles @hgrm-again", 0);
    char *first = world_read(world_path(&world, "out.csv")), *again = world_read(world_path(&world, "again.csv"));
    cr_expect_str_eq(first, again);
    free(first);
    free(again);
    cr_expect_eq(entries("hgrm"), entries("hgrm-again"));
    expect_bench("compare @out.json @out.json", 0);
    struct process *markdown = bench("report @out.json --markdown");
    expect_status(markdown, 0, 20);
    cr_expect_gt(process_lines(markdown, "|"), 20);
}

/* Options that reach into every part, with a single peer. */
Test(bench, a_link_pins_and_rounds) {
    expect_bench(
        "--smoke --peers direct --rounds 3 --rtt 4 --rate 200 --pin load=0 --seed 7 --json @out.json bulk/down/1 "
        "messages/64",
        0);
    cr_expect(holds("out.json", "bulk/down/1@4ms,200Mbit"));
    expect_bench("--smoke --peers leat-leatd,direct --rtt 4 --no-namespaces --json @proxy.json bulk/down/1", 0);
    cr_expect(holds("proxy.json", "\"link\":\"proxy\""));
    expect_bench("compare @out.json @proxy.json", 1); /* what was measured over another link is missing */
    struct process *run = bench("--smoke --peers direct ssh/jumps bulk/down/1");
    expect_status(run, 0, 60);
    cr_expect_eq(process_lines(run, "ssh/jumps left out: none of the peers can do it"), 1, "%s", process_log(run));
    expect_nothing_left();
}

/* Every value a hundredth, by its exponent: worse where more is better. */
Test(bench, compare_finds_a_regression) {
    expect_bench("--smoke --peers direct --rounds 5 --quiet --json @old.json bulk/down/1", 0);
    char *old = world_read(world_path(&world, "old.json")), *at = strstr(old, "\"throughput\"");
    cr_assert_not_null(at);
    at = strstr(at, "\"values\":[");
    cr_assert_not_null(at);
    at += strlen("\"values\":[");
    world_write(world_path(&world, "new.json"),
                world_format("%.*s0.1,0.1,0.1,0.1,0.1%s", (int)(at - old), old, strchr(at, ']')));
    free(old);
    expect_bench("compare @old.json @new.json", 1);
    expect_bench("compare @old.json @new.json --tolerance 1000", 0);
    expect_bench("compare @new.json @old.json", 0);
}

/* ---- what breaks ---- */

Test(bench, a_peer_that_fails_is_named_and_the_others_go_on) {
    world_write(world_path(&world, "peers.json"),
                "[{\"name\": \"broken\", \"about\": \"ends at once\", \"server\": [\"false\"]}]");
    struct process *run =
        bench("--smoke --peers-file @peers.json --peers broken,direct --csv @out.csv bulk/down/1 opens/1");
    expect_status(run, 1, 60);
    cr_expect_geq(process_lines(run, "broken"), 2, "%s", process_log(run));
    cr_expect(holds("out.csv", "direct") && holds("out.csv", "opens/1"));
    expect_nothing_left();
}

static bool have_socat(void) {
    return access("/usr/bin/socat", X_OK) == 0;
}

/* The user's own tunnel on a port, carried by socat to where it is told. */
static void own_tunnel(uint16_t port, const char *to) {
    char *argv[] = {(char *)"socat", (char *)world_format("TCP-LISTEN:%u,bind=127.0.0.1,fork,reuseaddr", port),
                    (char *)(uintptr_t)to, NULL};
    struct process *socat = world_start(&world, "socat", argv);
    const char *listens = world_format("grep -q ' 0100007F:%04X 00000000:0000 0A' /proc/net/tcp", port);
    expect_soon(world_run(&world, "sh", "-c", listens, NULL) == 0, 10);
    cr_assert(process_running(socat));
}

Test(bench, a_tunnel_of_the_users_own) {
    uint16_t port = free_port(), target = free_port();
    if (!have_socat())
        world_skip(&world, "no socat here");
    own_tunnel(port, world_format("TCP:127.0.0.1:%u", target));
    expect_bench(world_format("--smoke --tunnel mine=127.0.0.1:%u --target-port %u --peers direct --csv @out.csv "
                              "bulk/*/1 opens/1",
                              port, target),
                 0);
    cr_expect_gt(lines_with("out.csv", "mine"), 2);
    expect_nothing_left();
}

/* A byte that is not what was sent is found, and said. */
Test(bench, a_tunnel_that_lies) {
    uint16_t port = free_port(), target = free_port();
    if (!have_socat())
        world_skip(&world, "no socat here");
    own_tunnel(port, world_format("SYSTEM:socat - TCP\\\\:127.0.0.1\\\\:%u | stdbuf -o0 tr A B", target));
    struct process *run = bench(
        world_format("--smoke --tunnel mine=127.0.0.1:%u --target-port %u --peers direct bulk/down/1", port, target));
    expect_status(run, 1, 60);
    cr_expect_geq(process_lines(run, "mine, round 1: "), 1, "%s", process_log(run));
}

/* ---- the ends ---- */

/* Runs for long, is sent the signal when it works; what is there of results is written. */
static void expect_interrupted(int signal, int status) {
    struct process *run = bench("--smoke --seconds 60 --peers leat-leatd,ssh-sshd --json @out.json bulk/down/1");
    cr_assert(process_says(run, "1/1", 30));
    expect_soon(processes_of_runs() >= 6, 30); /* four of tunnels, the harness, its target */
    process_kill(run, signal);
    double asked = now_seconds();
    expect_status(run, status, 30);
    cr_expect_lt(now_seconds() - asked, world_deadline(20));
    cr_expect(holds("out.json", "\"interrupted\":true"));
    expect_bench("report @out.json", 0);
    expect_nothing_left();
}

Test(bench, interrupted) {
    expect_interrupted(SIGINT, 130);
}
Test(bench, terminated) {
    expect_interrupted(SIGTERM, 143);
}

/* Nobody can catch that one: processes go with it, and the next run removes the folder. */
Test(bench, killed) {
    struct process *run = bench("--smoke --seconds 60 --peers leat-leatd bulk/down/1");
    cr_assert(process_says(run, "1/1", 30));
    expect_soon(processes_of_runs() >= 4, 30);
    process_kill(run, SIGKILL);
    process_wait(run, 10);
    expect_soon(processes_of_runs() == 0, 20);
    expect_bench("--smoke --peers direct bulk/down/1", 0);
    expect_nothing_left();
}

/* ---- the command line ---- */

Test(bench, what_is_refused) {
    static const char *const lines[][2] = {
        {"--rounds 0", "--rounds: '0'"},
        {"no/such", "no scenario 'no/such'"},
        {"--peers nobody bulk", "no peer 'nobody'"},
        {"--peers direct ssh/jumps", "none of these peers"},
        {"--base ssh-sshd --peers direct bulk", "--base: 'ssh-sshd'"},
        {"--program leat=/nowhere bulk", "leat=/nowhere"},
        {"--peers-file @nowhere bulk", "nowhere"},
        {"compare @nowhere @nowhere", "nowhere"},
        {"report @nowhere", "nowhere"},
        {"load sideways 127.0.0.1:1 5", "'sideways' is not down or up"},
        {"load down 127.0.0.1 5", "'127.0.0.1' is not HOST:PORT"},
        {"load down 127.0.0.1:1 5x", "'5x' is not a number of bytes"},
    };
    for (unsigned i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
        struct process *run = bench(lines[i][0]);
        expect_status(run, 2, 20);
        cr_expect_eq(process_lines(run, "leat-bench: "), 1, "%s", process_log(run));
        cr_expect_eq(process_lines(run, lines[i][1]), 1, "'%s': %s", lines[i][0], process_log(run));
    }
    expect_nothing_left();
}

/* With --keep configurations and logs stay, in a folder that is named. */
Test(bench, kept) {
    struct process *run = bench("--smoke --keep --quiet --peers leat-leatd bulk/down/1");
    expect_status(run, 0, 60);
    const char *kept = strstr(process_log(run), "kept: ");
    cr_assert_not_null(kept, "%s", process_log(run));
    const char *folder = world_format("%.*s", (int)strcspn(kept + 6, "\n"), kept + 6);
    const char *find =
        world_format("cat %s/tunnel-*/*config | grep -q '^Port' && ls %s/tunnel-*/*.log", folder, folder);
    cr_expect_eq(world_run(&world, "sh", "-c", find, NULL), 0);
    expect_soon(processes_of_runs() == 0, 5);
}

/* An output that cannot be written: said, and no success. */
Test(bench, a_full_disk) {
    struct process *run = bench("--smoke --peers direct --json /dev/full bulk/down/1");
    expect_status(run, 1, 30);
    cr_expect_geq(process_lines(run, "/dev/full"), 1, "%s", process_log(run));
}

Test(bench, progress_on_a_terminal) {
    static struct terminal terminal;
    world.next_on_terminal = true;
    struct process *run = bench("--smoke --rounds 2 --peers direct bulk/down/1");
    terminal_open(&terminal, &world, run);
    cr_expect(terminal_shows(&terminal, "1/1, 0:0", 30));
    cr_expect(terminal_shows(&terminal, " left: bulk down, 1 flow: round 1 of 2, direct", 30));
    cr_expect_eq(terminal_wait(&terminal, 30), 0);
    cr_expect_null(strstr(terminal.text + terminal.seen, "round 1 of 2"));
    terminal_close(&terminal);
}

/* Both ends by themselves: the target ends with its standard input. */
Test(bench, by_hand) {
    static const char script[] =
        "set -e; cd $1; mkfifo in; \"$2\" target <in >port & target=$!; exec 9>in\n"
        "until [ -s port ]; do sleep 0.05; done\n"
        "\"$2\" load down 127.0.0.1:$(cat port) 5M >down; \"$2\" load up localhost:$(cat port) "
        "3M >up\n"
        "exec 9>&-; wait $target; grep -Eq '^[0-9.]+ [0-9.]+$' down && grep -Eq '^[0-9.]+ "
        "[0-9.]+$' up\n";
    char *argv[] = {
        (char *)"sh", (char *)"-c", (char *)(uintptr_t)script, (char *)"sh", world.dir, getenv("LEAT_BENCH_BIN"), NULL};
    expect_status(world_start(&world, "by-hand", argv), 0, 60);
}
