#pragma once
/* The suite most end-to-end tests are of: a world with a stock sshd, and a target of verified traffic behind it. */
#include "traffic.h"
#include "world.h"
#include <criterion/criterion.h>

#define TUNNEL_SUITE(name)                                                                                             \
    static struct world world;                                                                                         \
    static struct target *target;                                                                                      \
    static void setup(void) {                                                                                          \
        world_begin(&world);                                                                                           \
        world_server(&world, "");                                                                                      \
        target = target_start("127.0.0.1", TARGET_TRAFFIC);                                                            \
    }                                                                                                                  \
    static void teardown(void) {                                                                                       \
        target_stop(target);                                                                                           \
        world_end(&world);                                                                                             \
    }                                                                                                                  \
    TestSuite(name, .init = setup, .fini = teardown, .timeout = 300);
