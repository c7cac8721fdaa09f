/* -V tells the I/O backend that IoBackend asks for, without a configuration: what leat-bench notes of its peers. */
#include "expect.h"
#include <stdio.h>

static struct world world;

static void setup(void) {
    world_begin(&world);
}
static void teardown(void) {
    world_end(&world);
}
TestSuite(versions, .init = setup, .fini = teardown, .timeout = 60);

static void expect_versions(const char *program) {
    const char *end = world_format("I/O backend %s\n", getenv("LEAT_BACKEND"));
    char *argv[] = {getenv(program), (char *)"-o", (char *)(uintptr_t)world_backend_option(), (char *)"-V", NULL};
    struct process *process = world_start(&world, program, argv);
    cr_assert_eq(process_wait(process, 20), 0, "%s", process_log(process));
    cr_expect_not_null(strstr(process_log(process), end), "%s", process_log(process));
    cr_expect_eq(process_lines(process, ""), 1, "%s", process_log(process));
}

Test(versions, of_both_programs) {
    expect_versions("LEAT_BIN");
    expect_versions("LEATD_BIN");
}

Test(versions, what_is_no_directive_is_said) {
    char *argv[] = {getenv("LEATD_BIN"), (char *)"-o", (char *)"IoBackends=epoll", (char *)"-V", NULL};
    expect_failure(world_start(&world, "leatd", argv), "IoBackends");
}
