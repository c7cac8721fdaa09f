/* The soak of leat-bench, short: between leat and leatd on this backend it passes, and it is one that can fail. */
#include "expect.h"
#include <dirent.h>
#include <glob.h>
#include <stdio.h>
#include <unistd.h>

/* A sanitized tunnel moves less; what is to come back has the same time. */
#define SECONDS 10

static struct world world;

static void setup(void) {
    world_begin(&world);
    cr_assert_not_null(getenv("LEAT_BENCH_BIN"), "LEAT_BENCH_BIN is not set");
    char *argv[] = {(char *)"mkdir", (char *)(uintptr_t)world_path(&world, "tmp"), NULL};
    cr_assert_eq(process_wait(world_start(&world, "mkdir", argv), 10), 0);
    setenv("TMPDIR", world_path(&world, "tmp"), 1);
}
static void teardown(void) {
    world_end(&world);
}
TestSuite(soak, .init = setup, .fini = teardown, .timeout = 600);

/* The results are in the world's "out.csv". */
static struct process *soak(const char *peer, unsigned seconds) {
    const char *csv = world_path(&world, "out.csv"), *file = world_path(&world, "peers.json");
    char *argv[] = {getenv("LEAT_BENCH_BIN"), (char *)"run",
                    (char *)"--rate",         (char *)"200",
                    (char *)"--csv",          (char *)(uintptr_t)csv,
                    (char *)"--seconds",      (char *)(uintptr_t)world_format("%u", seconds),
                    (char *)"--peers",        (char *)(uintptr_t)peer,
                    (char *)"soak/short",     access(file, R_OK) == 0 ? (char *)"--peers-file" : NULL,
                    (char *)(uintptr_t)file,  NULL};
    return world_start(&world, "leat-bench", argv);
}

static const char *leat_peer(void) {
    return strstr(world_backend_option(), "epoll") != NULL ? "leat-leatd,epoll" : "leat-leatd";
}

/* −1: it is not there. */
static double value_of(const char *metric) {
    char *text = world_read(world_path(&world, "out.csv"));
    const char *line = strstr(text, world_format(",%s,", metric));
    double value = -1;
    if (line != NULL) {
        const char *end = strchrnul(line + 1, '\n');
        while (end > line && *end != ',')
            end--;
        value = strtod(end + 1, NULL);
    }
    free(text);
    return value;
}

static void expect_nothing_left(void) {
    unsigned count = 0;
    DIR *dir = opendir(world_path(&world, "tmp"));
    for (const struct dirent *entry; (entry = readdir(dir)) != NULL;)
        count += entry->d_name[0] != '.';
    closedir(dir);
    cr_expect_eq(count, 0, "a folder was left");
}

static void expect_failed(struct process *run, const char *why) {
    cr_expect_eq(process_wait(run, 120), 1, "%s", process_log(run));
    cr_expect_geq(process_lines(run, why), 1, "not '%s': %s", why, process_log(run));
    expect_nothing_left();
}

Test(soak, everything_at_once_and_a_killed_link) {
    struct process *run = soak(leat_peer(), SECONDS);
    cr_expect_eq(process_wait(run, 200), 0, "%s", process_log(run));
    cr_expect_gt(value_of("moved"), 0.001);
    cr_expect_gt(value_of("flows"), 30);
    cr_expect_gt(value_of("resets"), 0);
    cr_expect_gt(value_of("kills"), 0);
    cr_expect_gt(value_of("rekeys"), 0);
    cr_expect_float_eq(value_of("client-descriptors-end"), value_of("client-descriptors-start"), 0.1);
    cr_expect_float_eq(value_of("server-descriptors-end"), value_of("server-descriptors-start"), 0.1);
    expect_nothing_left();
}

static bool has_client(void) {
    glob_t logs;
    bool found = glob(world_path(&world, "tmp/*/tunnel-*/client.log"), 0, NULL, &logs) == 0;
    globfree(&logs);
    return found;
}

Test(soak, interrupted) {
    struct process *run = soak(leat_peer(), 300);
    expect_soon(has_client(), 30);
    pause_seconds(4);
    process_kill(run, SIGINT);
    cr_expect_eq(process_wait(run, 30), 130, "%s", process_log(run));
    cr_expect_geq(value_of("flows"), 0);
    cr_expect_gt(value_of("soaked"), 0);
    expect_nothing_left();
}

/* A relay that changes a letter on the way down. */
Test(soak, a_tunnel_that_lies) {
    if (access("/usr/bin/socat", X_OK) != 0)
        world_skip(&world, "no socat here");
    world_write(world_path(&world, "peers.json"),
                "[{\"name\": \"liar\", \"needs\": [\"socat\"], \"server\": [\"{socat}\", "
                "\"TCP-LISTEN:{listen_port},bind={listen_host},fork,reuseaddr\", "
                "\"SYSTEM:socat - TCP\\\\:{target_host}\\\\:{target_port} | stdbuf -o0 tr A B\"]}]");
    expect_failed(soak("liar", 60), "seed 1, flow ");
}
