/* A ProxyCommand that is started, and one for which there is no descriptor. */
#include "engine_rig.h"
#include "ssh/proxy_command.h"
#include <criterion/criterion.h>
#include <poll.h>
#include <unistd.h>

#define NEEDED 6 /* two ends of its connection, four of the pipes that start it */

static int first_free(void) {
    int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    cr_assert_geq(fd, 0);
    close(fd);
    return fd;
}

Test(proxy_command, its_input_and_output_are_the_connection) {
    struct proxy proxy;
    char byte = 0;
    cr_assert_eq(proxy_start("cat", &proxy), 0);
    struct pollfd answer = {.fd = proxy.fd, .events = POLLIN};
    cr_assert_eq(write(proxy.fd, "x", 1), 1);
    cr_assert_eq(poll(&answer, 1, 20000), 1);
    cr_expect_eq(read(proxy.fd, &byte, 1), 1);
    cr_expect_eq(byte, 'x');
    proxy_end(proxy.pidfd);
    close(proxy.fd);
}

Test(proxy_command, without_a_descriptor) {
    int first = first_free();
    for (int left = 0; left < NEEDED; left++) {
        struct proxy proxy;
        rig_limit_descriptors(first + left);
        int err = proxy_start("exit", &proxy);
        rig_unlimit_descriptors();
        cr_expect_eq(err, ERR_FILES, "%d left: %s", left, err_text(err));
        cr_expect_eq(proxy.fd, -1);
        cr_expect_eq(proxy.pidfd, -1);
        cr_expect_eq(first_free(), first, "%d left: it keeps what it had", left);
    }
}
