/* The plan of listening addresses: what is bound, kept, refused, undone. What shard 0 makes of it is tested end to
 * end. */
#include "engine/listener.h"
#include "engine/resolve.h"
#include "ssh/server_internal.h"
#include "tests/port.h"
#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static struct server_main *rig_main;
static struct listen_address listens[8];
static struct relay_spec relays[8];
static struct server_options options;

static void set_up(void) {
    rig_main = calloc(1, sizeof *rig_main);
    cr_assert_not_null(rig_main);
    list_init(&rig_main->listens);
    options = (struct server_options){.family = AF_INET, .listen = listens, .relays = relays};
    log_set_level(LOG_LEVEL_QUIET);
}

static void tear_down(void) {
    server_listen_free_all(rig_main);
    cr_assert(list_empty(&rig_main->listens));
    free(rig_main);
}

TestSuite(server_listen, .init = set_up, .fini = tear_down, .timeout = 20);

static uint16_t port_of(int fd) {
    struct sockaddr_storage address;
    socklen_t len = sizeof address;
    cr_assert_eq(getsockname(fd, (struct sockaddr *)&address, &len), 0);
    return address_port((struct sockaddr *)&address);
}

static uint16_t free_port(void) {
    uint16_t port = port_choose();
    cr_assert_neq(port, 0);
    return port;
}

/* Somebody else listens there. */
static int occupy(uint16_t *port) {
    *port = free_port();
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons(*port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd;
    cr_assert_eq(listen_bind((struct sockaddr *)&address, sizeof address, 1, &fd), 0);
    return fd;
}

static void want_ssh(uint16_t port) {
    listens[options.listen_count++] = (struct listen_address){.host = (char *)"127.0.0.1", .port = port};
}

static void want_relay(uint16_t port, const char *host) {
    relays[options.relays_count++] = (struct relay_spec){
        .listen = {.host = (char *)"127.0.0.1", .port = port}, .host = (char *)host, .port = 22, .text = (char *)host};
}

static struct server_listen *at(uint16_t port) {
    list_for_each (node, &rig_main->listens) {
        struct server_listen *listen = list_entry(node, struct server_listen, node);
        if (address_port((struct sockaddr *)&listen->address) == port)
            return listen;
    }
    return NULL;
}

static unsigned count(void) {
    unsigned found = 0;
    list_for_each (node, &rig_main->listens)
        found++;
    return found;
}

/* What commit does to the entries, without a shard to serve them. */
static void keep(void) {
    list_for_each_safe (node, after, &rig_main->listens) {
        struct server_listen *listen = list_entry(node, struct server_listen, node);
        listen->fresh = false;
        listen->serving = listen->fd >= 0;
        cr_assert_null(listen->target);
        listen->target = listen->next;
        listen->next = NULL;
    }
}

Test(server_listen, binds_what_is_wanted) {
    uint16_t ssh = free_port(), relay = free_port();
    want_ssh(ssh);
    want_relay(relay, "lan-host");
    cr_assert_eq(server_listen_plan(rig_main, &options, true), 0);
    cr_assert_eq(count(), 2);
    cr_assert_eq(port_of(at(ssh)->fd), ssh);
    cr_assert_null(at(ssh)->next);
    cr_assert_eq(port_of(at(relay)->fd), relay);
    cr_assert_str_eq(at(relay)->next->host, "lan-host");
}

Test(server_listen, the_same_twice_is_once) {
    uint16_t port = free_port();
    want_ssh(port);
    want_ssh(port);
    cr_assert_eq(server_listen_plan(rig_main, &options, true), 0);
    cr_assert_eq(count(), 1);
}

Test(server_listen, one_address_for_two_purposes_is_an_error) {
    uint16_t port = free_port();
    want_ssh(port);
    want_relay(port, "lan-host");
    cr_assert_eq(server_listen_plan(rig_main, &options, true), ERR_CONFIG);
}

Test(server_listen, port_zero_may_repeat) {
    want_ssh(0);
    want_ssh(0);
    cr_assert_eq(server_listen_plan(rig_main, &options, true), 0);
    cr_assert_eq(count(), 2);
}

Test(server_listen, a_start_goes_on_with_what_can_be_had) {
    uint16_t taken, port = free_port();
    int fd = occupy(&taken);
    want_ssh(taken);
    want_ssh(port);
    cr_assert_eq(server_listen_plan(rig_main, &options, true), 0);
    cr_assert_eq(at(taken)->fd, -1);
    cr_assert_geq(at(port)->fd, 0);
    close(fd);
}

Test(server_listen, a_start_with_nothing_bound_fails) {
    uint16_t taken;
    int fd = occupy(&taken);
    want_ssh(taken);
    cr_assert_eq(server_listen_plan(rig_main, &options, true), ERR_CONFIG);
    close(fd);
}

Test(server_listen, a_name_that_does_not_resolve_is_no_address) {
    listens[options.listen_count++] = (struct listen_address){.host = (char *)"no.such.name.invalid", .port = 22};
    cr_assert_eq(server_listen_plan(rig_main, &options, true), ERR_CONFIG);
}

Test(server_listen, a_reload_keeps_the_socket_of_an_address_that_stays) {
    uint16_t stays = free_port(), goes = free_port(), comes = free_port();
    want_ssh(stays);
    want_ssh(goes);
    cr_assert_eq(server_listen_plan(rig_main, &options, true), 0);
    keep();
    int fd = at(stays)->fd;
    options.listen_count = 1;
    want_ssh(comes);
    cr_assert_eq(server_listen_plan(rig_main, &options, false), 0);
    cr_assert_eq(at(stays)->fd, fd);
    cr_assert(at(stays)->wanted);
    cr_assert_not(at(goes)->wanted);
    cr_assert(at(comes)->fresh && at(comes)->fd >= 0);
}

Test(server_listen, a_reload_that_cannot_bind_changes_nothing) {
    uint16_t stays = free_port(), comes = free_port(), taken;
    int other = occupy(&taken);
    want_ssh(stays);
    cr_assert_eq(server_listen_plan(rig_main, &options, true), 0);
    keep();
    int fd = at(stays)->fd;
    options.listen_count = 0;
    want_relay(stays, "lan-host");
    want_ssh(comes);
    want_ssh(taken);
    cr_assert_eq(server_listen_plan(rig_main, &options, false), ERR_CONFIG);
    server_listen_rollback(rig_main);
    cr_assert_eq(count(), 1);
    cr_assert_eq(at(stays)->fd, fd);
    cr_assert_null(at(stays)->next);
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons(comes), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int again;
    cr_assert_eq(listen_bind((struct sockaddr *)&address, sizeof address, 1, &again), 0, "the new one was closed");
    close(again);
    close(other);
}

/* An address that was taken at the start and is free by now is not listened on either. */
Test(server_listen, a_reload_that_cannot_bind_leaves_no_socket_behind) {
    uint16_t late, taken, stays = free_port();
    int first = occupy(&late), second = occupy(&taken);
    want_ssh(stays);
    want_ssh(late);
    cr_assert_eq(server_listen_plan(rig_main, &options, true), 0);
    keep();
    close(first);
    want_ssh(taken);
    cr_assert_eq(server_listen_plan(rig_main, &options, false), ERR_CONFIG);
    server_listen_rollback(rig_main);
    cr_assert_geq(at(stays)->fd, 0);
    cr_assert_lt(at(late)->fd, 0);
    close(second);
}

Test(server_listen, a_reload_does_not_mind_what_could_not_be_had_before) {
    uint16_t taken, port = free_port();
    int other = occupy(&taken);
    want_ssh(taken);
    want_ssh(port);
    cr_assert_eq(server_listen_plan(rig_main, &options, true), 0);
    keep();
    cr_assert_eq(server_listen_plan(rig_main, &options, false), 0);
    cr_assert_eq(at(taken)->fd, -1);
    close(other);
    cr_assert_eq(server_listen_plan(rig_main, &options, false), 0);
    cr_assert_geq(at(taken)->fd, 0, "and takes it when it is free");
}

Test(server_listen, a_relay_may_get_another_target) {
    uint16_t port = free_port();
    want_relay(port, "lan-host");
    cr_assert_eq(server_listen_plan(rig_main, &options, true), 0);
    keep();
    int fd = at(port)->fd;
    options.relays_count = 0;
    want_relay(port, "other-host");
    cr_assert_eq(server_listen_plan(rig_main, &options, false), 0);
    cr_assert_eq(at(port)->fd, fd);
    cr_assert_str_eq(at(port)->target->host, "lan-host");
    cr_assert_str_eq(at(port)->next->host, "other-host");
}
