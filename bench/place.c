#include "bench/place.h"
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

bool place_enter(const struct place *place) {
    if (place->netns_fd >= 0) {
        if (place->userns_fd >= 0 && setns(place->userns_fd, CLONE_NEWUSER) != 0)
            return false;
        if (setns(place->netns_fd, CLONE_NEWNET) != 0)
            return false;
    }
    return !place->pinned || sched_setaffinity(0, sizeof(place->cpus), &place->cpus) == 0;
}

static bool parse_number(const char **at, long limit, long *number) {
    char *end;
    if (**at < '0' || **at > '9')
        return false;
    errno = 0;
    *number = strtol(*at, &end, 10);
    *at = end;
    return errno == 0 && *number < limit;
}

bool place_parse_cpus(const char *text, cpu_set_t *cpus) {
    long limit = sysconf(_SC_NPROCESSORS_CONF), first, last;
    if (limit > CPU_SETSIZE)
        limit = CPU_SETSIZE;
    CPU_ZERO(cpus);
    for (;; text++) {
        if (!parse_number(&text, limit, &first))
            return false;
        last = first;
        if (*text == '-' && (text++, !parse_number(&text, limit, &last)))
            return false;
        for (long cpu = first; cpu <= last; cpu++)
            CPU_SET((size_t)cpu, cpus);
        if (last < first || *text == '\0')
            return last >= first;
        if (*text != ',')
            return false;
    }
}
