#include "engine/listener.h"
#include "engine/log.h"
#include "tests/sim/io_sim.h"
#include "tests/unit/engine_rig.h"
#include <netinet/in.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/un.h>

#define CLIENTS 20u

struct door {
    struct listener listener;
    int fds[CLIENTS];
    unsigned accepted, close_after;
    bool closed;
};

static void door_on_closed(struct listener *listener) {
    struct door *door = listener->owner;
    cr_assert(!door->closed);
    door->closed = true;
}

static void door_close(struct door *door) {
    listener_close(&door->listener, door_on_closed);
    cr_assert(!door->closed, "on_closed came from within listener_close");
}

static void door_on_accept(struct listener *listener, int fd) {
    struct door *door = listener->owner;
    cr_assert(!door->closed && door->accepted < CLIENTS);
    door->fds[door->accepted++] = fd;
    if (door->accepted == door->close_after)
        door_close(door);
}

struct scene {
    struct shard shard;
    struct door door;
    struct sockaddr_in addr;
    int clients[CLIENTS];
    int log_fd;
};

static void scene_init(struct scene *scene, enum io_backend backend) {
    int fd;
    socklen_t len = sizeof scene->addr;
    *scene = (struct scene){0};
    rig_init(&scene->shard, backend, 8);
    scene->addr = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    cr_assert_eq(listen_bind((struct sockaddr *)&scene->addr, len, 100, &fd), 0);
    cr_assert_eq(getsockname(fd, (struct sockaddr *)&scene->addr, &len), 0);
    for (unsigned i = 0; i < CLIENTS; i++)
        scene->clients[i] = socket(AF_INET, SOCK_STREAM, 0);
    scene->log_fd = memfd_create("log", 0);
    log_init("test", LOG_LEVEL_INFO, scene->log_fd);
    listener_init(&scene->door.listener, &scene->shard, fd, door_on_accept, &scene->door);
}

static void scene_connect(struct scene *scene, unsigned from, unsigned to) {
    for (unsigned i = from; i < to; i++)
        cr_assert_eq(connect(scene->clients[i], (struct sockaddr *)&scene->addr, sizeof scene->addr), 0);
}

static void scene_deinit(struct scene *scene) {
    if (!scene->door.closed) {
        door_close(&scene->door);
        door_close(&scene->door);
    }
    RIG_UNTIL(&scene->shard, scene->door.closed);
    for (unsigned i = 0; i < scene->door.accepted; i++)
        io_close(scene->shard.io, scene->door.fds[i], IO_CLOSE);
    for (unsigned i = 0; i < CLIENTS; i++)
        close(scene->clients[i]);
    shard_deinit(&scene->shard);
    close(scene->log_fd);
}

static unsigned lines_logged(const struct scene *scene) {
    char text[4096];
    unsigned lines = 0;
    ssize_t n = pread(scene->log_fd, text, sizeof text, 0);
    for (ssize_t i = 0; i < n; i++)
        lines += text[i] == '\n';
    return lines;
}

RIG_TEST(listener, every_connection_is_handed_over_once) {
    struct scene s;
    scene_init(&s, backend);
    scene_connect(&s, 0, CLIENTS);
    RIG_UNTIL(&s.shard, s.door.accepted == CLIENTS);
    for (unsigned i = 0; i < CLIENTS; i++) {
        cr_assert(fcntl(s.door.fds[i], F_GETFL) & O_NONBLOCK);
        cr_assert(fcntl(s.door.fds[i], F_GETFD) & FD_CLOEXEC);
        cr_assert_eq(write(s.door.fds[i], "x", 1), 1);
    }
    for (unsigned i = 0; i < CLIENTS; i++) {
        char byte;
        cr_assert_eq(read(s.clients[i], &byte, 1), 1);
    }
    scene_deinit(&s);
}

RIG_TEST(listener, closing_from_within_on_accept_takes_no_more) {
    struct scene s;
    scene_init(&s, backend);
    s.door.close_after = 3;
    scene_connect(&s, 0, 10);
    RIG_UNTIL(&s.shard, s.door.closed);
    cr_assert_eq(s.door.accepted, 3);
    cr_assert_neq(connect(s.clients[11], (struct sockaddr *)&s.addr, sizeof s.addr), 0);
    scene_deinit(&s);
}

/* Takes every descriptor that is left; returns one that can be freed. */
static int descriptors_use_up(void) {
    int last = open("/dev/null", O_RDONLY), fd;
    rig_limit_descriptors(last + 20);
    while ((fd = open("/dev/null", O_RDONLY)) >= 0)
        last = fd;
    cr_assert_eq(errno, EMFILE);
    return last;
}

RIG_TEST(listener, without_descriptors_it_pauses_and_does_not_spin) {
    struct scene s;
    scene_init(&s, backend);
    int spare = descriptors_use_up(); /* before the first turn: io_uring notes the limit when an accept is submitted */
    scene_connect(&s, 0, 5);
    RIG_UNTIL(&s.shard, !list_empty(&s.shard.accept_paused));
    unsigned turns = 0;
    for (uint64_t end_ns = io_clock_ns() + 60 * RIG_MS; io_clock_ns() < end_ns; turns++)
        rig_turn(&s.shard, 60 * RIG_MS);
    cr_assert_leq(turns, 5, "%u turns for nothing", turns);
    cr_assert_eq(s.door.accepted, 0);
    cr_assert_eq(lines_logged(&s), 1);

    close(spare);
    listener_resume(&s.shard);
    RIG_UNTIL(&s.shard, s.door.accepted == 1 && !list_empty(&s.shard.accept_paused));

    /* Not told of the next one: the retry finds it. */
    uint64_t start_ns = io_clock_ns();
    close(spare - 1);
    RIG_UNTIL(&s.shard, s.door.accepted == 2);
    cr_assert_geq(io_clock_ns() - start_ns, 500 * RIG_MS);
    cr_assert_eq(lines_logged(&s), 1, "one line for a long shortage");
    RIG_UNTIL(&s.shard, !list_empty(&s.shard.accept_paused));
    scene_deinit(&s);
    rig_unlimit_descriptors();
}

/* ---- binding ---- */

static int bind_to(const char *host, uint16_t port, int *fd) {
    struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_port = htons(port)};
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
    if (inet_pton(AF_INET, host, &v4.sin_addr) == 1)
        return listen_bind((struct sockaddr *)&v4, sizeof v4, 10, fd);
    cr_assert_eq(inet_pton(AF_INET6, host, &v6.sin6_addr), 1);
    return listen_bind((struct sockaddr *)&v6, sizeof v6, 10, fd);
}

static uint16_t bound_port(int fd) {
    struct sockaddr_in addr;
    socklen_t len = sizeof addr;
    cr_assert_eq(getsockname(fd, (struct sockaddr *)&addr, &len), 0);
    return ntohs(addr.sin_port);
}

Test(listen_bind, tells_why_not) {
    int fd = -1, other = -1;
    cr_assert_eq(bind_to("127.0.0.1", 0, &fd), 0);
    cr_assert_eq(bind_to("127.0.0.1", bound_port(fd), &other), ERR_INUSE);
    cr_assert_eq(errno, EADDRINUSE);
    cr_assert_eq(bind_to("192.0.2.1", 0, &other), ERR_UNREACHABLE);
    cr_assert_eq(errno, EADDRNOTAVAIL);
    cr_assert_eq(other, -1);
    cr_assert(fcntl(fd, F_GETFL) & O_NONBLOCK);
    cr_assert(fcntl(fd, F_GETFD) & FD_CLOEXEC);
    close(fd);
}

Test(listen_bind, both_families_share_a_port) {
    int v4 = -1, v6 = -1;
    cr_assert_eq(bind_to("0.0.0.0", 0, &v4), 0);
    int err = bind_to("::", bound_port(v4), &v6);
    if (err == ERR_SYSTEM && errno == EAFNOSUPPORT)
        cr_skip("no IPv6 here");
    cr_assert_eq(err, 0);
    close(v4);
    close(v6);
}

Test(listen_bind, a_port_below_1024_needs_the_right_to_it) {
    int first = 1024, fd = -1;
    FILE *file = fopen("/proc/sys/net/ipv4/ip_unprivileged_port_start", "r");
    if (file) {
        if (fscanf(file, "%d", &first) != 1)
            first = 1024;
        fclose(file);
    }
    if (first <= 1)
        cr_skip("every port is free for all here");
    uid_t user = geteuid();
    if (user == 0)
        cr_assert_eq(seteuid(65534), 0);
    int err = bind_to("127.0.0.1", 1, &fd), error_number = errno;
    cr_assert_eq(seteuid(user), 0);
    prctl(PR_SET_DUMPABLE, 1); /* lost with the change of user; the leak sanitizer wants it */
    cr_assert_eq(err, ERR_ACCESS);
    cr_assert_eq(error_number, EACCES);
}

/* ---- Unix sockets ---- */

struct unix_scene {
    struct shard shard;
    struct door door;
    struct sockaddr_un addr;
    char folder[32];
    int log_fd;
};

static void unix_scene_init(struct unix_scene *scene, enum io_backend backend) {
    *scene = (struct unix_scene){.addr.sun_family = AF_UNIX, .folder = "/tmp/listener-XXXXXX"};
    rig_init(&scene->shard, backend, 8);
    cr_assert_not_null(mkdtemp(scene->folder));
    snprintf(scene->addr.sun_path, sizeof scene->addr.sun_path, "%s/socket", scene->folder);
    scene->log_fd = memfd_create("log", 0);
    log_init("test", LOG_LEVEL_INFO, scene->log_fd);
}

static void unix_scene_listen(struct unix_scene *scene) {
    int fd = -1;
    cr_assert_eq(listen_bind((struct sockaddr *)&scene->addr, sizeof scene->addr, 100, &fd), 0);
    cr_assert(fcntl(fd, F_GETFL) & O_NONBLOCK);
    cr_assert(fcntl(fd, F_GETFD) & FD_CLOEXEC);
    listener_init(&scene->door.listener, &scene->shard, fd, door_on_accept, &scene->door);
}

static void unix_scene_deinit(struct unix_scene *scene) {
    door_close(&scene->door);
    RIG_UNTIL(&scene->shard, scene->door.closed);
    for (unsigned i = 0; i < scene->door.accepted; i++)
        io_close(scene->shard.io, scene->door.fds[i], IO_CLOSE);
    shard_deinit(&scene->shard);
    unlink(scene->addr.sun_path);
    rmdir(scene->folder);
    close(scene->log_fd);
}

static int unix_client(const struct unix_scene *scene) {
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    cr_assert_eq(connect(fd, (const struct sockaddr *)&scene->addr, sizeof scene->addr), 0);
    return fd;
}

RIG_TEST(listener_unix, connections_come_as_over_tcp) {
    struct unix_scene s;
    int clients[CLIENTS];
    unix_scene_init(&s, backend);
    unix_scene_listen(&s);
    for (unsigned i = 0; i < CLIENTS; i++)
        clients[i] = unix_client(&s);
    RIG_UNTIL(&s.shard, s.door.accepted == CLIENTS);
    for (unsigned i = 0; i < CLIENTS; i++) {
        cr_assert(fcntl(s.door.fds[i], F_GETFL) & O_NONBLOCK);
        cr_assert(fcntl(s.door.fds[i], F_GETFD) & FD_CLOEXEC);
        cr_assert_eq(write(s.door.fds[i], "x", 1), 1);
    }
    for (unsigned i = 0; i < CLIENTS; i++) {
        char byte;
        cr_assert_eq(read(clients[i], &byte, 1), 1);
        close(clients[i]);
    }
    unix_scene_deinit(&s);
}

RIG_TEST(listener_unix, a_pause_names_the_path) {
    struct unix_scene s;
    char text[512] = "", expected[200];
    unix_scene_init(&s, backend);
    unix_scene_listen(&s);
    int client = unix_client(&s), spare = descriptors_use_up();
    RIG_UNTIL(&s.shard, !list_empty(&s.shard.accept_paused));
    cr_assert_gt(pread(s.log_fd, text, sizeof text - 1, 0), 0);
    snprintf(expected, sizeof expected, "test: %s: accepting paused: Too many open files\n", s.addr.sun_path);
    cr_assert_str_eq(text, expected);
    close(spare);
    listener_resume(&s.shard);
    RIG_UNTIL(&s.shard, s.door.accepted == 1);
    rig_unlimit_descriptors();
    close(client);
    unix_scene_deinit(&s);
}

Test(listen_bind, a_unix_socket_that_is_taken) {
    struct unix_scene s;
    int other = -1;
    unix_scene_init(&s, IO_BACKEND_EPOLL);
    unix_scene_listen(&s);
    cr_assert_eq(listen_bind((struct sockaddr *)&s.addr, sizeof s.addr, 10, &other), ERR_INUSE);
    cr_assert_eq(errno, EADDRINUSE);
    cr_assert_eq(listen_bind_path(s.addr.sun_path, 0600, 10, &other), ERR_INUSE);
    cr_assert_eq(errno, EADDRINUSE);
    cr_assert_eq(other, -1);
    unix_scene_deinit(&s);
}

static void path_has_mode(mode_t mode, mode_t mask, mode_t expected) {
    char folder[] = "/tmp/listener-XXXXXX", path[64];
    struct stat st;
    int fd = -1;
    cr_assert_not_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/socket", folder);
    mode_t before = umask(mask);
    int err = listen_bind_path(path, mode, 10, &fd);
    umask(before);
    cr_assert_eq(err, 0);
    cr_assert_eq(stat(path, &st), 0);
    cr_assert_eq(st.st_mode & 07777, expected, "%o", st.st_mode);
    cr_assert(fcntl(fd, F_GETFL) & O_NONBLOCK);
    cr_assert(fcntl(fd, F_GETFD) & FD_CLOEXEC);
    close(fd);
    unlink(path);
    rmdir(folder);
}

Test(listen_bind_path, makes_the_file_with_its_mode) {
    path_has_mode(0600, 0, 0600);
    path_has_mode(0600, 022, 0600);
    path_has_mode(0777, 0, 0777);
    path_has_mode(0666, 022, 0644);
    path_has_mode(0, 0, 0);
}

Test(listen_bind_path, tells_why_not) {
    char path[sizeof((struct sockaddr_un *)0)->sun_path + 1] = "/tmp/";
    int fd = -1;
    memset(path + 5, 'x', sizeof path - 6);
    cr_assert_eq(listen_bind_path(path, 0600, 10, &fd), ERR_SYSTEM);
    cr_assert_eq(errno, ENAMETOOLONG);
    cr_assert_eq(listen_bind_path("", 0600, 10, &fd), ERR_SYSTEM);
    cr_assert_eq(errno, ENOENT);
    cr_assert_eq(listen_bind_path("/nonexistent/socket", 0600, 10, &fd), ERR_SYSTEM);
    cr_assert_eq(errno, ENOENT);
    cr_assert_eq(fd, -1);
}

/* ---- in virtual time ---- */

Test(listener_sim, errors_of_one_connection_and_shortages) {
    struct sim_options options = {.seed = 5, .latency_max_ns = 100, .defer_percent = 20};
    const struct shard_options shard_options = {.slots_max = 2, .rings_max = 1, .cpu = -1};
    struct sim_world *world = sim_world_create(&options);
    struct shard shard, *shards[] = {&shard};
    struct door door = {0};
    log_init("test", LOG_LEVEL_QUIET, 2);
    cr_assert_eq(shard_init(&shard, &shard_options, io_sim_create, world), 0);
    int fd = io_sim_listen(world, 80);
    listener_init(&door.listener, &shard, fd, door_on_accept, &door);

    io_sim_fail_accept(world, fd, ECONNABORTED);
    while (sim_world_step(world, shards, 1))
        continue;
    cr_assert(door.listener.accept.in_flight, "an aborted connection is no reason to stop");

    uint64_t start_ns = sim_world_now(world);
    io_sim_fail_accept(world, fd, ENFILE);
    while (sim_world_step(world, shards, 1))
        continue;
    cr_assert(door.listener.accept.in_flight);
    cr_assert_eq(sim_world_now(world) - start_ns, UINT64_C(1000000000));

    io_sim_fail_accept(world, fd, EINVAL);
    while (sim_world_step(world, shards, 1))
        continue;
    cr_assert(!door.listener.accept.in_flight && list_empty(&shard.accept_paused));
    door_close(&door);
    while (!door.closed)
        sim_world_step(world, shards, 1);
    shard_deinit(&shard);
    sim_world_destroy(world);
}
