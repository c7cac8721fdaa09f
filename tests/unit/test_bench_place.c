#include "bench/place.h"
#include <criterion/criterion.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

Test(place, processors_are_parsed) {
    cpu_set_t cpus;
    long count = sysconf(_SC_NPROCESSORS_CONF);
    char text[64];
    cr_assert(place_parse_cpus("0", &cpus));
    cr_assert(CPU_ISSET(0, &cpus) && CPU_COUNT(&cpus) == 1);
    cr_assert(place_parse_cpus("0,0-0,0", &cpus));
    cr_assert_eq(CPU_COUNT(&cpus), 1);
    snprintf(text, sizeof(text), "0-%ld", count - 1);
    cr_assert(place_parse_cpus(text, &cpus));
    cr_assert_eq(CPU_COUNT(&cpus), count);
    snprintf(text, sizeof(text), "%ld", count);
    cr_assert(!place_parse_cpus(text, &cpus), "there is no processor %s", text);
    snprintf(text, sizeof(text), "0-%ld", count);
    cr_assert(!place_parse_cpus(text, &cpus));
    static const char *const wrong[] = {"",  ",",  "0,", ",0", "0-", "-0",  "0--0",
                                        "a", "0a", " 0", "0 ", "+0", "1-0", "99999999999999999999"};
    for (size_t i = 0; i < sizeof(wrong) / sizeof(*wrong); i++)
        cr_assert(!place_parse_cpus(wrong[i], &cpus), "'%s'", wrong[i]);
}

Test(place, a_process_is_pinned) {
    struct place place = PLACE_HERE;
    place.pinned = true;
    cpu_set_t before, after;
    cr_assert_eq(sched_getaffinity(0, sizeof(before), &before), 0);
    cr_assert(place_enter(&PLACE_HERE));
    cr_assert_eq(sched_getaffinity(0, sizeof(after), &after), 0);
    cr_assert(CPU_EQUAL(&before, &after));
    for (size_t cpu = 0; cpu < CPU_SETSIZE; cpu++)
        if (CPU_ISSET(cpu, &before)) {
            CPU_ZERO(&place.cpus);
            CPU_SET(cpu, &place.cpus);
        }
    cr_assert(place_enter(&place));
    cr_assert_eq(sched_getaffinity(0, sizeof(after), &after), 0);
    cr_assert(CPU_EQUAL(&place.cpus, &after));
    CPU_ZERO(&place.cpus);
    cr_assert(!place_enter(&place), "no processor at all");
}

Test(place, a_network_namespace_is_entered) {
    struct place place = PLACE_HERE;
    place.netns_fd = open("/proc/self/ns/net", O_RDONLY);
    char before[64] = "", inside[64] = "", after[64] = "";
    if (geteuid() != 0)
        cr_skip("only root enters one");
    cr_assert_gt(readlink("/proc/self/ns/net", before, sizeof(before) - 1), 0);
    if (unshare(CLONE_NEWNET) != 0)
        cr_skip("no network namespaces here");
    cr_assert_gt(readlink("/proc/self/ns/net", inside, sizeof(inside) - 1), 0);
    cr_assert_str_neq(before, inside);
    cr_assert(place_enter(&place));
    cr_assert_gt(readlink("/proc/self/ns/net", after, sizeof(after) - 1), 0);
    cr_assert_str_eq(before, after);
}
