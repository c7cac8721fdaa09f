/* Other people's clients towards leatd: every forward of stock ssh, jumps with ssh, scp and sftp, dropbear, PuTTY, and
 * a Python client. */
#include "expect.h"
#include "traffic.h"
#include "world.h"
#include <arpa/inet.h>
#include <pwd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

static struct world world;
static struct target *target;

static void setup(void) {
    world_begin(&world);
    world_leatd(&world, "GatewayPorts clientspecified");
    target = target_start("127.0.0.1", TARGET_TRAFFIC);
}
static void teardown(void) {
    target_stop(target);
    world_end(&world);
}
TestSuite(clients, .init = setup, .fini = teardown, .timeout = 300);

static void expect_traffic(const char *host, uint16_t port) {
    int fd = connect_soon(host, port, 20);
    cr_assert_geq(fd, 0, "nobody listens on %s port %u", host, port);
    close(fd);
    struct traffic_result result = traffic_through(host, port, port, 3 << 20, 3 << 20);
    cr_expect(result.ok, "%s", result.why);
}

static void expect_many(uint16_t port) {
    char why[128] = "";
    cr_expect_eq(traffic_many("127.0.0.1", port, 50, port, 100000, 100000, why, sizeof(why)), 0, "%s; %s", why,
                 process_log(world.server));
}

static const char *spec_to_target(uint16_t port) {
    return world_format("%u:127.0.0.1:%u", port, target_port(target));
}

/* ---- stock ssh ---- */

Test(clients, ssh_local) {
    uint16_t port = free_port();
    struct process *ssh = world_ssh(&world, "-N", "-L", spec_to_target(port), "127.0.0.1", NULL);
    expect_traffic("127.0.0.1", port);
    expect_many(port);
    process_kill(ssh, SIGTERM);
    expect_soon(!process_running(ssh), 10);
    expect_soon(process_lines(world.server, "forward closed") >= 51, 10);
}

Test(clients, ssh_remote) {
    uint16_t port = free_port(), everywhere = free_port();
    struct process *ssh = world_ssh(&world, "-N", "-R", spec_to_target(port), "-R",
                                    world_format("*:%s", spec_to_target(everywhere)), "127.0.0.1", NULL);
    expect_traffic("127.0.0.1", port);
    expect_traffic("::1", port);
    expect_many(port);
    expect_traffic("127.0.0.2", everywhere);
    process_kill(ssh, SIGKILL);
    /* The listener is gone with its connection. */
    expect_soon(connect_to("127.0.0.1", port) < 0, 10);
}

Test(clients, ssh_remote_port_of_the_servers_choice) {
    struct process *ssh =
        world_ssh(&world, "-N", "-R", world_format("0:127.0.0.1:%u", target_port(target)), "127.0.0.1", NULL);
    cr_assert(process_says(ssh, "Allocated port ", 20));
    const char *at = strstr(process_log(ssh), "Allocated port ");
    expect_traffic("127.0.0.1", (uint16_t)atoi(at + strlen("Allocated port ")));
}

Test(clients, ssh_remote_port_in_use) {
    uint16_t taken = target_port(target);
    struct process *ssh = world_ssh(&world, "-N", "-o", "ExitOnForwardFailure=yes", "-R",
                                    world_format("127.0.0.1:%u:127.0.0.1:%u", taken, taken), "127.0.0.1", NULL);
    cr_expect_eq(process_wait(ssh, 20), 255);
    cr_expect_eq(process_lines(ssh, "remote port forwarding failed"), 1, "%s", process_log(ssh));
}

/* SOCKS is spoken by ssh; the relay sees direct-tcpip to a name and to an address. */
Test(clients, ssh_dynamic) {
    uint16_t port = free_port();
    world_ssh(&world, "-N", "-D", world_format("127.0.0.1:%u", port), "127.0.0.1", NULL);
    int fd = connect_soon("127.0.0.1", port, 20);
    cr_assert_geq(fd, 0);
    struct target *echo = target_start("127.0.0.1", TARGET_ECHO);
    uint16_t to = htons(target_port(echo));
    uint8_t hello[] = {5, 1, 0}, request[] = {5, 1, 0, 3, 9, 'l', 'o', 'c', 'a', 'l', 'h', 'o', 's', 't', 0, 0};
    uint8_t answer[12];
    memcpy(request + 14, &to, 2);
    cr_assert_eq(send(fd, hello, sizeof(hello), 0), sizeof(hello));
    cr_assert_eq(recv(fd, answer, 2, MSG_WAITALL), 2);
    cr_assert_eq(send(fd, request, sizeof(request), 0), sizeof(request));
    cr_assert_eq(recv(fd, answer, 10, MSG_WAITALL), 10);
    cr_assert_eq(answer[1], 0);
    cr_assert_eq(send(fd, "through", 7, 0), 7);
    cr_assert_eq(recv(fd, answer, 7, MSG_WAITALL), 7);
    cr_expect_eq(memcmp(answer, "through", 7), 0);
    close(fd);
    target_stop(echo);
}

/* A name that does not listen: the true reason reaches the client. */
Test(clients, refused_target) {
    uint16_t nobody = free_port();
    struct process *ssh = world_ssh(&world, "-W", world_format("127.0.0.1:%u", nobody), "127.0.0.1", NULL);
    cr_expect_eq(process_wait(ssh, 20), 255);
    cr_expect_not_null(strstr(process_log(ssh), "connect failed"), "%s", process_log(ssh));
    cr_expect_not_null(strstr(process_log(ssh), "onnection refused"), "%s", process_log(ssh));
    expect_soon(process_lines(world.server, "forward refused") == 1, 10);
}

Test(clients, ssh_unix_sockets) {
    const char *here = world_path(&world, "here.sock"), *there = world_path(&world, "there.sock");
    const char *service = world_path(&world, "service.sock");
    struct target *behind = target_start(service, TARGET_TRAFFIC);
    uint16_t port = free_port();
    struct process *ssh = world_ssh(&world, "-N", "-L", world_format("%u:%s", port, service), "-L",
                                    world_format("%s:127.0.0.1:%u", here, target_port(target)), "-R",
                                    world_format("%s:127.0.0.1:%u", there, target_port(target)), "127.0.0.1", NULL);
    expect_traffic("127.0.0.1", port);
    expect_traffic(here, 0);
    expect_traffic(there, 0);
    struct stat stat_there;
    cr_assert_eq(stat(there, &stat_there), 0);
    cr_expect_eq(stat_there.st_mode & 0777, 0600, "StreamLocalBindMask");
    process_kill(ssh, SIGTERM);
    process_wait(ssh, 10);
    expect_soon(access(there, F_OK) != 0, 10);
    target_stop(behind);
}

Test(clients, a_thousand_connections_one_after_the_other) {
    uint16_t port = free_port();
    world_ssh(&world, "-N", "-L", spec_to_target(port), "127.0.0.1", NULL);
    int fd = connect_soon("127.0.0.1", port, 20);
    cr_assert_geq(fd, 0);
    close(fd);
    for (unsigned i = 0; i < 1000; i++) {
        struct traffic_result result = traffic_through("127.0.0.1", port, i, 10, 10);
        cr_assert(result.ok, "%u: %s", i, result.why);
    }
}

/* ---- the session channel ---- */

Test(clients, a_command_is_told_what_this_is) {
    struct process *ssh = world_ssh(&world, "127.0.0.1", "cat /etc/passwd", NULL);
    cr_expect_eq(process_wait(ssh, 20), 1);
    cr_expect_null(strstr(process_log(ssh), "root:"), "%s", process_log(ssh));
    cr_expect_not_null(strstr(process_log(ssh), "leatd"), "%s", process_log(ssh));
}

Test(clients, a_subsystem_is_refused) {
    struct process *ssh = world_ssh(&world, "-s", "127.0.0.1", "sftp", NULL);
    cr_expect_neq(process_wait(ssh, 20), 0);
    cr_expect_not_null(strstr(process_log(ssh), "subsystem request failed"), "%s", process_log(ssh));
}

/* Without -N there is a shell's channel: it shows the forwards and stays as long as the person does. */
Test(clients, a_shell_stays_up) {
    uint16_t port = free_port();
    world.next_on_terminal = true;
    struct process *ssh = world_ssh(&world, "-R", spec_to_target(port), "127.0.0.1", NULL);
    expect_traffic("127.0.0.1", port);
    char shown[4096] = "";
    size_t len = 0;
    double deadline = now_seconds() + world_deadline(10);
    while (strstr(shown, world_format("%u", port)) == NULL && now_seconds() < deadline && len < sizeof(shown) - 1) {
        ssize_t n = read(world.terminal_fd, shown + len, sizeof(shown) - 1 - len);
        cr_assert_gt(n, 0);
        shown[len += (size_t)n] = '\0';
    }
    cr_expect_not_null(strstr(shown, "leatd"), "%s", shown);
    cr_expect_not_null(strstr(shown, world_format("%u", port)), "its forward is not in the list: %s", shown);
    cr_expect(process_running(ssh));
    cr_assert_eq(write(world.terminal_fd, "\x04", 1), 1);
    cr_expect_eq(process_wait(ssh, 20), 0);
}

/* ---- jumps: an sshd behind the relay ---- */

/* ssh_config with both; returns its path. `jump` is leatd, `far` the sshd. */
static const char *jump_config(struct world *behind) {
    const char *path = world_path(&world, "ssh_config");
    world_write(path,
                world_format("Host *\n BatchMode yes\n IdentitiesOnly yes\n GlobalKnownHostsFile none\n"
                             "Host jump\n HostName 127.0.0.1\n Port %u\n IdentityFile %s\n UserKnownHostsFile %s\n"
                             "Host far\n HostName 127.0.0.1\n Port %u\n IdentityFile %s\n UserKnownHostsFile %s\n"
                             " ProxyJump jump\n",
                             world.server_port, world.user_key, world.known_hosts, behind->server_port,
                             behind->user_key, behind->known_hosts));
    return path;
}

static bool same_files(const char *a, const char *b) {
    return world_run(&world, "cmp", a, b, NULL) == 0;
}

Test(clients, jumps) {
    struct world behind = {.count = 0};
    world_begin(&behind);
    world_sshd(&behind, "Subsystem sftp internal-sftp");
    const char *config = jump_config(&behind);
    const char *file = world_path(&world, "file"), *copy = world_path(&world, "copy"),
               *back = world_path(&world, "back");
    cr_assert_eq(world_run(&world, "dd", "if=/dev/urandom", world_format("of=%s", file), "bs=1M", "count=20", NULL), 0);
    cr_expect_eq(world_run(&world, "ssh", "-F", config, "far", "true", NULL), 0);
    cr_expect_eq(world_run(&world, "ssh", "-F", config, "far", "exit 7", NULL), 7);
    cr_expect_eq(world_run(&world, "scp", "-q", "-F", config, file, world_format("far:%s", copy), NULL), 0);
    cr_expect(same_files(file, copy));
    const char *batch = world_path(&world, "batch");
    world_write(batch, world_format("get %s %s\n", copy, back));
    cr_expect_eq(world_run(&world, "sftp", "-q", "-F", config, "-b", batch, "far", NULL), 0);
    cr_expect(same_files(file, back));
    world_end(&behind);
}

/* Two relays in a row, and leat at the near end. */
Test(clients, leat_jumps_over_two) {
    struct world second = {.count = 0};
    world_begin(&second);
    world_leatd(&second, "");
    const char *path = world_path(&world, "ssh_config");
    uint16_t port = free_port();
    world_write(path,
                world_format("Host *\n BatchMode yes\n IdentitiesOnly yes\n GlobalKnownHostsFile none\n"
                             "Host one\n HostName 127.0.0.1\n Port %u\n IdentityFile %s\n UserKnownHostsFile %s\n"
                             "Host two\n HostName 127.0.0.1\n Port %u\n IdentityFile %s\n UserKnownHostsFile %s\n",
                             world.server_port, world.user_key, world.known_hosts, second.server_port, second.user_key,
                             second.known_hosts));
    struct process *leat =
        world_leat_bare(&world, "-F", path, "-v", "-N", "-J", "one", "-L", spec_to_target(port), "two", NULL);
    expect_up(leat);
    expect_traffic("127.0.0.1", port);
    expect_many(port);
    expect_clean_end(leat);
    world_end(&second);
}

/* ---- other clients ---- */

static const char *login_name(void) {
    return getpwuid(geteuid())->pw_name;
}

Test(clients, dropbear) {
    const char *key = world_path(&world, "dropbear_user_key");
    uint16_t port = free_port(), back = free_port();
    cr_assert_eq(world_run(&world, "dropbearconvert", "openssh", "dropbear", world.user_key, key, NULL), 0);
    char *argv[] = {"dbclient",  "-y",
                    "-y",        "-N",
                    "-i",        (char *)key,
                    "-p",        (char *)world_format("%u", world.server_port),
                    "-l",        (char *)login_name(),
                    "-L",        (char *)spec_to_target(port),
                    "-R",        (char *)spec_to_target(back),
                    "127.0.0.1", NULL};
    world_start(&world, "dbclient", argv);
    expect_traffic("127.0.0.1", port);
    expect_traffic("127.0.0.1", back);
    expect_many(port);
}

Test(clients, putty) {
    const char *key = world_path(&world, "user_key.ppk");
    uint16_t port = free_port(), back = free_port();
    cr_assert_eq(world_run(&world, "puttygen", world.user_key, "-O", "private", "-o", key, NULL), 0);
    world_run(&world, "ssh-keygen", "-l", "-f", world_path(&world, "host_key.pub"), NULL);
    const char *fingerprint = strstr(process_log(&world.processes[world.count - 1]), "SHA256:");
    cr_assert_not_null(fingerprint);
    fingerprint = world_format("%.*s", (int)strcspn(fingerprint, " "), fingerprint);
    setenv("PUTTYDIR", world.dir, 1);
    char *argv[] = {"plink",     "-batch",
                    "-ssh",      "-N",
                    "-hostkey",  (char *)fingerprint,
                    "-i",        (char *)key,
                    "-P",        (char *)world_format("%u", world.server_port),
                    "-l",        (char *)login_name(),
                    "-L",        (char *)spec_to_target(port),
                    "-R",        (char *)spec_to_target(back),
                    "127.0.0.1", NULL};
    world_start(&world, "plink", argv);
    expect_traffic("127.0.0.1", port);
    expect_traffic("127.0.0.1", back);
    expect_many(port);
}

static const char python_client[] =
    "import asyncio, asyncssh, os, sys\n"
    "port, user, key, echo = int(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4])\n"
    "async def there_and_back(reader, writer):\n"
    "    data = os.urandom(3000000)\n"
    "    async def send():\n"
    "        writer.write(data)\n"
    "        await writer.drain()\n"
    "        writer.write_eof()\n"
    "    back, _ = await asyncio.gather(reader.read(-1), send())\n"
    "    assert back == data, 'what came back is not what was sent'\n"
    "async def main():\n"
    "    async with asyncssh.connect('127.0.0.1', port, username=user, client_keys=[key], known_hosts=None,\n"
    "                                config=None, agent_path=None) as connection:\n"
    "        await asyncio.gather(*[there_and_back(*await connection.open_connection('127.0.0.1', echo))\n"
    "                               for _ in range(4)])\n"
    "        listener = await connection.forward_remote_port('127.0.0.1', 0, '127.0.0.1', echo)\n"
    "        await there_and_back(*await asyncio.open_connection('127.0.0.1', listener.get_port()))\n"
    "        listener.close()\n"
    "        await listener.wait_closed()\n"
    "        try:\n"
    "            await connection.open_connection('127.0.0.1', 1)\n"
    "        except asyncssh.ChannelOpenError as error:\n"
    "            assert error.code == asyncssh.OPEN_CONNECT_FAILED, error\n"
    "        result = await connection.run('id')\n"
    "        assert result.exit_status == 1 and 'leatd' in result.stdout, result\n"
    "    print('all is well')\n"
    "asyncio.run(main())\n";

Test(clients, python) {
    const char *script = world_path(&world, "client.py");
    struct target *echo = target_start("127.0.0.1", TARGET_ECHO);
    world_write(script, python_client);
    int status = world_run(&world, "/usr/bin/python3", script, world_format("%u", world.server_port), login_name(),
                           world.user_key, world_format("%u", target_port(echo)), NULL);
    const struct process *python = &world.processes[world.count - 1];
    cr_expect_eq(status, 0, "%s", process_log(python));
    cr_expect_not_null(strstr(process_log(python), "all is well"), "%s", process_log(python));
    target_stop(echo);
}
