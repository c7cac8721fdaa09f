/* Who may open and listen where, as stock ssh sees it: one table of configurations, key options and requests, each
 * tried for real; and who gets in at all. */
#include "expect.h"
#include "traffic.h"
#include "world.h"
#include <pwd.h>
#include <stdio.h>
#include <unistd.h>

static struct world world;

static void setup(void) {
    world_begin(&world);
}
static void teardown(void) {
    world_end(&world);
}
TestSuite(authorisation, .init = setup, .fini = teardown, .timeout = 300);

enum kind { OPEN, LISTEN, OPEN_PATH, LISTEN_PATH };
struct request {
    enum kind kind;
    const char *what; /* "host:port", "[bind:]port" */
    bool allowed;
};
struct row {
    const char *config; /* $USER stands for the user */
    const char *key;    /* options of the key */
    struct request requests[8];
};

/* Port 1 of the loopback is closed: whoever may open it is told that it refuses. $PORT is a free one. */
static const struct row rows[] = {
    {"", "", {{OPEN, "127.0.0.1:1", true}, {LISTEN, "$PORT", true}, {LISTEN_PATH, "", true}, {OPEN_PATH, "", true}}},
    {"AllowTcpForwarding no", "", {{OPEN, "127.0.0.1:1", false}, {LISTEN, "$PORT", false}, {OPEN_PATH, "", false}}},
    {"AllowTcpForwarding local", "", {{OPEN, "127.0.0.1:1", true}, {LISTEN, "$PORT", false}}},
    {"AllowTcpForwarding remote", "", {{OPEN, "127.0.0.1:1", false}, {LISTEN, "$PORT", true}}},
    {"AllowStreamLocalForwarding no",
     "",
     {{OPEN_PATH, "", false}, {LISTEN_PATH, "", false}, {OPEN, "127.0.0.1:1", true}}},
    {"AllowStreamLocalForwarding local", "", {{OPEN_PATH, "", true}, {LISTEN_PATH, "", false}}},
    {"DisableForwarding yes\nAllowTcpForwarding yes",
     "",
     {{OPEN, "127.0.0.1:1", false}, {LISTEN, "$PORT", false}, {OPEN_PATH, "", false}, {LISTEN_PATH, "", false}}},
    {"PermitOpen 127.0.0.1:1 [::1]:1",
     "",
     {{OPEN, "127.0.0.1:1", true},
      {OPEN, "[::1]:1", true},
      {OPEN, "127.0.0.1:2", false},
      {OPEN, "localhost:1", false}, /* compared as written */
      {OPEN, "127.0.0.2:1", false}}},
    {"PermitOpen localhost:*",
     "",
     {{OPEN, "localhost:1", true}, {OPEN, "localhost:9", true}, {OPEN, "127.0.0.1:1", false}}},
    {"PermitOpen *:1", "", {{OPEN, "127.0.0.1:1", true}, {OPEN, "127.0.0.1:2", false}}},
    {"PermitOpen none", "", {{OPEN, "127.0.0.1:1", false}}},
    {"PermitOpen any", "", {{OPEN, "127.0.0.1:1", true}}},
    {"PermitListen 4711", "", {{LISTEN, "$PORT", false}}},
    {"PermitListen none", "", {{LISTEN, "$PORT", false}}},
    {"PermitListen localhost:*", "", {{LISTEN, "$PORT", true}, {LISTEN, "127.0.0.1:$PORT", false}}},
    {"", "restrict", {{OPEN, "127.0.0.1:1", false}, {LISTEN, "$PORT", false}, {OPEN_PATH, "", false}}},
    {"", "restrict,port-forwarding", {{OPEN, "127.0.0.1:1", true}, {LISTEN, "$PORT", true}}},
    {"", "no-port-forwarding", {{OPEN, "127.0.0.1:1", false}, {LISTEN, "$PORT", false}}},
    {"",
     "permitopen=\"127.0.0.1:1\"",
     {{OPEN, "127.0.0.1:1", true}, {OPEN, "127.0.0.1:2", false}, {LISTEN, "$PORT", true}}},
    {"", "permitlisten=\"4711\"", {{LISTEN, "$PORT", false}, {OPEN, "127.0.0.1:1", true}}},
    /* both the server and the key must permit */
    {"PermitOpen 127.0.0.1:1 127.0.0.1:2",
     "permitopen=\"127.0.0.1:2\",permitopen=\"127.0.0.1:3\"",
     {{OPEN, "127.0.0.1:1", false}, {OPEN, "127.0.0.1:2", true}, {OPEN, "127.0.0.1:3", false}}},
    {"AllowTcpForwarding no", "restrict,port-forwarding", {{OPEN, "127.0.0.1:1", false}}},
    /* Match */
    {"Match User $USER\nPermitOpen 127.0.0.1:1", "", {{OPEN, "127.0.0.1:1", true}, {OPEN, "127.0.0.1:2", false}}},
    {"Match User somebody-else\nAllowTcpForwarding no", "", {{OPEN, "127.0.0.1:1", true}}},
    {"Match Address 127.0.0.0/8\nAllowTcpForwarding no", "", {{OPEN, "127.0.0.1:1", false}}},
    {"Match Address 192.0.2.0/24\nAllowTcpForwarding no", "", {{OPEN, "127.0.0.1:1", true}}},
    {"Match User $USER Address !127.0.0.1,*\nAllowTcpForwarding no", "", {{OPEN, "127.0.0.1:1", true}}},
    {"Match Group no-such-group\nAllowTcpForwarding no", "", {{OPEN, "127.0.0.1:1", true}}},
    {"Match Group $GROUP\nAllowTcpForwarding no", "", {{OPEN, "127.0.0.1:1", false}}},
    {"Match LocalPort 1\nAllowTcpForwarding no", "", {{OPEN, "127.0.0.1:1", true}}},
    /* GatewayPorts */
    {"PermitListen localhost:*\nGatewayPorts clientspecified", "", {{LISTEN, "*:$PORT", false}}},
};

static const char *user(void) {
    return getpwuid(geteuid())->pw_name;
}

static const char *group(void) {
    static char name[64];
    if (name[0] == '\0') {
        world_run(&world, "id", "-gn", NULL);
        snprintf(name, sizeof(name), "%s", process_log(&world.processes[world.count - 1]));
        name[strcspn(name, "\n")] = '\0';
    }
    return name;
}

static const char *filled_in(const char *text, const char *what, const char *by) {
    const char *at = strstr(text, what);
    return at == NULL ? text : world_format("%.*s%s%s", (int)(at - text), text, by, at + strlen(what));
}

static void start(const struct row *row) {
    char *key = world_read(world_format("%s.pub", world.user_key));
    world_write(world_path(&world, "authorized_keys"), world_format("%s%s%s", row->key, *row->key ? " " : "", key));
    free(key);
    const char *config = filled_in(filled_in(row->config, "$USER", user()), "$GROUP", group());
    /* What must come before Match is put before it by the world; the block itself goes last. */
    const char *match = strstr(config, "Match ");
    world_leatd_matching(&world, match == NULL ? config : "", match == NULL ? "" : config);
}

/* -W has no words for a Unix socket: -L, and somebody who connects. ssh is ended once it has its answer. */
static struct process *open_path(uint16_t port) {
    struct process *ssh = world_ssh(&world, "-N", "-L", world_format("%u:%s", port, world_path(&world, "nobody.sock")),
                                    "127.0.0.1", NULL);
    int fd = connect_soon("127.0.0.1", port, 20);
    cr_expect(process_says(ssh, "open failed", 20));
    close(fd);
    process_kill(ssh, SIGKILL);
    return ssh;
}

static struct process *try_request(const struct request *request) {
    const char *port = world_format("%u", free_port());
    const char *what = filled_in(request->what, "$PORT", port);
    switch (request->kind) {
    case OPEN:
        return world_ssh(&world, "-W", what, "127.0.0.1", NULL);
    case LISTEN:
        return world_ssh(&world, "-o", "ExitOnForwardFailure=yes", "-R", world_format("%s:127.0.0.1:1", what),
                         "127.0.0.1", "true", NULL);
    case OPEN_PATH:
        return open_path(free_port());
    case LISTEN_PATH:
        break;
    }
    return world_ssh(&world, "-o", "ExitOnForwardFailure=yes", "-R",
                     world_format("%s:127.0.0.1:1", world_path(&world, "back.sock")), "127.0.0.1", "true", NULL);
}

/* An opening that is allowed meets a closed door; a listener that is allowed lets the command come to its end. */
static void expect_answer(const struct row *row, const struct request *request) {
    struct process *ssh = try_request(request);
    bool opens = request->kind == OPEN || request->kind == OPEN_PATH;
    int status = process_wait(ssh, 20), allowed_status = opens ? 255 : 1;
    if (request->kind == OPEN_PATH)
        status = 255; /* not its own end */
    const char *log = process_log(ssh);
    bool prohibited = strstr(log, opens ? "administratively prohibited" : "forwarding failed") != NULL;
    const char *place =
        world_format("\"%s\" key \"%s\": %s %s", row->config, row->key, opens ? "open" : "listen", request->what);
    cr_expect_eq(prohibited, !request->allowed, "%s: %s", place, log);
    cr_expect_eq(status, request->allowed ? allowed_status : 255, "%s: status %d: %s", place, status, log);
    if (request->allowed && opens)
        cr_expect_not_null(strstr(log, "connect failed"), "%s: %s", place, log);
}

Test(authorisation, table) {
    for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct world fresh = {.count = 0};
        world_end(&world);
        world = fresh;
        world_begin(&world);
        start(&rows[i]);
        for (const struct request *request = rows[i].requests; request->what != NULL; request++)
            expect_answer(&rows[i], request);
    }
}

/* ---- who gets in ---- */

static const struct {
    const char *config, *key;
    bool in;
} doors[] = {
    {"", "", true},
    {"PubkeyAuthentication no", "", false},
    {"DenyUsers $USER", "", false},
    {"DenyUsers somebody", "", true},
    {"AllowUsers somebody", "", false},
    {"AllowUsers somebody $USER", "", true},
    {"AllowUsers $USER@127.0.0.0/8", "", true},
    {"AllowUsers $USER@192.0.2.*", "", false},
    {"AllowGroups no-such-group", "", false},
    {"AllowGroups $GROUP", "", true},
    {"DenyGroups $GROUP", "", false},
    {"", "from=\"127.0.0.1\"", true},
    {"", "from=\"192.0.2.0/24\"", false},
    {"", "from=\"!127.0.0.1,*\"", false},
    {"", "expiry-time=\"20200101\"", false},
    {"", "expiry-time=\"29990101\"", true},
    {"", "command=\"/bin/false\",no-pty,environment=\"A=b\"", true},
    {"", "cert-authority", false},
    {"", "no-such-option", false},
};

Test(authorisation, doors) {
    for (unsigned i = 0; i < sizeof(doors) / sizeof(doors[0]); i++) {
        struct world fresh = {.count = 0};
        const struct row row = {.config = doors[i].config, .key = doors[i].key};
        world_end(&world);
        world = fresh;
        world_begin(&world);
        start(&row);
        struct process *ssh = world_ssh(&world, "127.0.0.1", "true", NULL);
        cr_expect_eq(process_wait(ssh, 20), doors[i].in ? 1 : 255, "\"%s\" key \"%s\": %s", doors[i].config,
                     doors[i].key, process_log(ssh));
        if (!doors[i].in)
            cr_expect(strstr(process_log(ssh), "Permission denied (publickey)") != NULL ||
                          strstr(process_log(ssh), "no authentication methods enabled") != NULL,
                      "%s", process_log(ssh));
        expect_logins(&world, doors[i].in ? 1 : 0);
    }
}

Test(authorisation, too_many_keys) {
    const char *options[16] = {NULL};
    world_leatd(&world, "MaxAuthTries 3");
    for (unsigned i = 0; i < 4; i++) {
        options[i] = world_format("IdentityFile=%s/other%u", world.dir, i);
        cr_assert_eq(world_run(&world, "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f",
                               world_format("%s/other%u", world.dir, i), NULL),
                     0);
    }
    world_write(world_path(&world, "authorized_keys"), "");
    struct process *ssh = world_ssh(&world, "-o", options[0], "-o", options[1], "-o", options[2], "-o", options[3],
                                    "127.0.0.1", "true", NULL);
    cr_expect_eq(process_wait(ssh, 20), 255);
    cr_expect_not_null(strstr(process_log(ssh), "Too many authentication failures"), "%s", process_log(ssh));
}

/* A user that the system does not know, with an absolute AuthorizedKeysFile; a banner before anything else. */
Test(authorisation, a_user_of_the_relay_alone) {
    const char *keys = world_path(&world, "keys");
    cr_assert_eq(world_run(&world, "mkdir", keys, NULL), 0);
    world_copy(world_path(&world, "authorized_keys"), world_format("%s/transfer", keys));
    world_write(world_path(&world, "banner"), "Nothing to see here.\n");
    world_leatd(&world, world_format("AuthorizedKeysFile %s/%%u\nBanner %s/banner", keys, world.dir));
    struct process *ssh = world_ssh(&world, "-l", "transfer", "127.0.0.1", "true", NULL);
    cr_expect_eq(process_wait(ssh, 20), 1, "%s", process_log(ssh));
    cr_expect_not_null(strstr(process_log(ssh), "Nothing to see here."), "%s", process_log(ssh));
    ssh = world_ssh(&world, "-l", "another", "127.0.0.1", "true", NULL);
    cr_expect_eq(process_wait(ssh, 20), 255);
    ssh = world_ssh(&world, "-l", "../keys/transfer", "127.0.0.1", "true", NULL);
    cr_expect_eq(process_wait(ssh, 20), 255);
    expect_logins(&world, 1);
}
