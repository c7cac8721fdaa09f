/* Every command and the configuration that README.md shows, run as they stand there: only the names of other machines
 * and the fixed port become this machine's. */
#include "expect.h"
#include "traffic.h"
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <unistd.h>

#define ARGS_MAX 32

static struct world world;
static struct target *target;
static char *readme;
static uint16_t port; /* stands for 10000 */

static void setup(void) {
    world_begin(&world);
    world_server(&world, "");
    target = target_start("127.0.0.1", TARGET_TRAFFIC);
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    const char *path = getenv("LEAT_README");
    FILE *file = path != NULL ? fopen(path, "re") : NULL;
    cr_assert_not_null(file, "LEAT_README does not name the README");
    size_t cap = 0;
    cr_assert_gt(getdelim(&readme, &cap, '\0', file), 0);
    fclose(file);
}
static void teardown(void) {
    target_stop(target);
    world_end(&world);
    free(readme);
}
TestSuite(readme, .init = setup, .fini = teardown, .timeout = 300);

static const char *replaced(const char *text, const char *what, const char *by) {
    const char *at = strstr(text, what);
    return at == NULL ? text : world_format("%.*s%s%s", (int)(at - text), text, by, at + strlen(what));
}

/* A word of the README, with this machine's names. */
static const char *localized(const char *word) {
    word = replaced(word, "10000", world_format("%u", port));
    word = replaced(word, "lan-host:80", world_format("127.0.0.1:%u", target_port(target)));
    word = replaced(word, "workstation:22", world_format("127.0.0.1:%u", target_port(target)));
    return replaced(word, "user@work", world_format("%s@work", getpwuid(geteuid())->pw_name));
}

static const char *config_with(const char *host_lines) {
    static char path[256];
    snprintf(path, sizeof(path), "%s/ssh_config", world.dir);
    const char *text = replaced(host_lines, "work.example.org", "127.0.0.1");
    text = replaced(text, "10000 lan-host:80", world_format("%u 127.0.0.1:%u", port, target_port(target)));
    world_write(path,
                world_format("%s\nHost work\n HostName 127.0.0.1\n Port %u\n IdentityFile %s\n IdentitiesOnly yes\n"
                             " UserKnownHostsFile %s\n BatchMode yes\n",
                             text, world.server_port, world.user_key, world.known_hosts));
    return path;
}

/* Runs one line of the README; with -f the process that stays. */
static struct process *run_line(const char *line, size_t len, const char *config) {
    char *argv[ARGS_MAX] = {getenv("LEAT_BIN"), "-v", "-F", (char *)(uintptr_t)config, "-o", NULL}, *rest = NULL;
    unsigned argc = 5;
    argv[argc++] = (char *)(uintptr_t)world_format("IoBackend=%s", getenv("LEAT_BACKEND"));
    bool background = false;
    char *copy = strndup(line, len);
    for (char *word = strtok_r(copy, " ", &rest); word != NULL; word = strtok_r(NULL, " ", &rest)) {
        if (strcmp(word, "leat") == 0)
            continue;
        background |= strcmp(word, "-f") == 0;
        cr_assert_lt(argc, ARGS_MAX - 1);
        argv[argc++] = (char *)(uintptr_t)localized(word);
    }
    argv[argc] = NULL;
    struct process *leat = world_start(&world, "leat", argv);
    free(copy);
    expect_up(leat);
    if (!background)
        return leat;
    cr_expect_eq(process_wait(leat, 20), 0, "%s", process_log(leat));
    return adopt_background(&world);
}

static uint16_t allocated_port(void) {
    for (unsigned i = 0; i < world.count; i++) {
        const char *said = strstr(process_log(&world.processes[i]), "Allocated port ");
        if (said != NULL)
            return (uint16_t)atoi(said + strlen("Allocated port "));
    }
    return 0;
}

static void expect_line_works(const char *line, size_t len, const char *config) {
    port = free_port();
    struct process *leat = run_line(line, len, config);
    bool chosen = memmem(line, len, " 0:", 3) != NULL;
    struct traffic_result result = traffic_through("127.0.0.1", chosen ? allocated_port() : port, 1, 100000, 100000);
    /* A port that sshd has chosen is free on one of the loopback's addresses; on the other somebody may have it. */
    if (!result.ok && chosen)
        result = traffic_through("::1", allocated_port(), 1, 100000, 100000);
    cr_expect(result.ok, "%.*s: %s", (int)len, line, result.why);
    expect_clean_end(leat);
}

Test(readme, every_command_works) {
    unsigned commands = 0;
    const char *config = config_with("");
    for (const char *line = readme; line != NULL; line = strchr(line, '\n')) {
        line += *line == '\n';
        if (strncmp(line, "leat -", 6) != 0)
            continue;
        expect_line_works(line, strcspn(line, "\n"), config);
        commands++;
    }
    cr_expect_geq(commands, 5, "the README's how-to was not found");
}

/* The commands between two lines of ```, from one that begins with `first` on. */
static const char *block_from(const char *first) {
    const char *start = strstr(readme, world_format("\n%s", first));
    cr_assert_not_null(start, "the README has no \"%s\"", first);
    return world_format("%.*s", (int)(strstr(start, "```") - start), start);
}

/* leatd as the README starts it, for a test: in the foreground of a script that goes on when it listens. */
static const char *leatd_of_script(const char *relay_port) {
    return world_format(
        "\nleatd -D -e -o AuthorizedKeysFile=%s/authorized_keys -o StrictModes=no -o PidFile=none %s -f "
        "leatd_config & relay=$!\n"
        "until ssh-keyscan -t ed25519 -p %s 127.0.0.1 2>/dev/null | grep -q .; do\n"
        "  kill -0 $relay; sleep 0.1\ndone",
        world.dir, geteuid() == 0 ? "-o User=root" : "", relay_port);
}

/* The relay in three commands, as one script in the world's folder: the other machines are this one, and the user is
 * whoever runs the test. */
Test(readme, its_relay_works) {
    const char *config = world_path(&world, "ssh_config"), *path = world_path(&world, "relay.sh");
    const char *relay_port = world_format("%u", free_port());
    world_write(config, world_format("Host *\n IdentityFile %s\n IdentitiesOnly yes\n BatchMode yes\n"
                                     " StrictHostKeyChecking accept-new\n UserKnownHostsFile %s/known\n"
                                     "Host inside\n HostName 127.0.0.1\n Port %u\n",
                                     world.user_key, world.dir, world.server_port));
    const char *commands = block_from("ssh-keygen -q -t ed25519 -N '' -f relay_key");
    commands = replaced(commands, "2222", relay_port);
    commands = replaced(commands, "&& leatd -f leatd_config", leatd_of_script(relay_port));
    commands = replaced(commands, "relay:2222", world_format("127.0.0.1:%s", relay_port));
    commands = replaced(commands, "ssh -J", world_format("ssh -F %s -J", config));
    commands = replaced(commands, " inside", " inside echo went through");
    world_write(path, world_format("set -eu\ncd %s\nPATH=${LEATD_BIN%%/*}:$PATH\n%skill $relay\nwait $relay\n",
                                   world.dir, commands));
    char *argv[] = {"sh", (char *)(uintptr_t)path, NULL};
    struct process *script = world_start(&world, "relay.sh", argv);
    cr_expect_eq(process_wait(script, 30), 0, "%s", process_log(script));
    cr_expect_not_null(strstr(process_log(script), "went through"), "%s", process_log(script));
}

/* What is not a command: the Relay directive. */
Test(readme, its_directive_works) {
    uint16_t entrance = free_port();
    const char *directive = block_from("Relay 2022 lan-host:22");
    directive = replaced(directive, "2022", world_format("127.0.0.1:%u", entrance));
    directive = replaced(directive, "lan-host:22", world_format("127.0.0.1:%u", target_port(target)));
    struct world relay = {.count = 0};
    world_begin(&relay);
    world_leatd(&relay, directive);
    struct traffic_result result = traffic_through("127.0.0.1", entrance, 1, 100000, 100000);
    cr_expect(result.ok, "%s", result.why);
    world_end(&relay);
}

Test(readme, its_configuration_works) {
    const char *start = strstr(readme, "\nHost work\n");
    cr_assert_not_null(start);
    const char *end = strstr(start, "```");
    port = free_port();
    const char *config = config_with(world_format("%.*s", (int)(end - start), start));
    struct process *leat = run_line("leat work", strlen("leat work"), config);
    cr_expect(traffic_through("127.0.0.1", port, 2, 100000, 100000).ok);
    expect_logins(&world, 4); /* Connections 4 */
    /* A stock ssh takes the same file. */
    cr_expect_eq(world_run(&world, "ssh", "-G", "-F", config, "work", NULL), 0);
    expect_clean_end(leat);
}
