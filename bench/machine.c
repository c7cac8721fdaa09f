#include "bench/machine.h"
#include <gnu/libc-version.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

/* What changes how fast a tunnel is, below /proc/sys. */
static const char *const sysctls[] = {
    "kernel/io_uring_disabled",
    "kernel/unprivileged_userns_clone",
    "net/core/default_qdisc",
    "net/core/busy_poll",
    "net/core/rmem_default",
    "net/core/rmem_max",
    "net/core/somaxconn",
    "net/core/wmem_default",
    "net/core/wmem_max",
    "net/ipv4/ip_local_port_range",
    "net/ipv4/tcp_available_congestion_control",
    "net/ipv4/tcp_congestion_control",
    "net/ipv4/tcp_fastopen",
    "net/ipv4/tcp_limit_output_bytes",
    "net/ipv4/tcp_mem",
    "net/ipv4/tcp_moderate_rcvbuf",
    "net/ipv4/tcp_no_metrics_save",
    "net/ipv4/tcp_notsent_lowat",
    "net/ipv4/tcp_rmem",
    "net/ipv4/tcp_sack",
    "net/ipv4/tcp_slow_start_after_idle",
    "net/ipv4/tcp_timestamps",
    "net/ipv4/tcp_tw_reuse",
    "net/ipv4/tcp_window_scaling",
    "net/ipv4/tcp_wmem",
};

static json_t *text_or_null(const char *text) {
    json_t *string = text != NULL ? json_string(text) : NULL;
    return string != NULL ? string : json_null(); /* also where it is not UTF-8 */
}

/* The first line of a file, with single spaces for tabs; null when it cannot be read. */
static json_t *first_line(const char *path) {
    char line[512];
    FILE *file = fopen(path, "re");
    char *read = file != NULL ? fgets(line, sizeof line, file) : NULL;
    if (file != NULL)
        fclose(file);
    if (read == NULL)
        return json_null();
    line[strcspn(line, "\n")] = '\0';
    for (char *tab = line; (tab = strchr(tab, '\t')) != NULL;)
        *tab = ' ';
    return text_or_null(line);
}

/* What stands behind `key` and a separator in a file of lines; null when it does not. */
static json_t *value_in(const char *path, const char *key, char separator) {
    char line[4096];
    size_t len = strlen(key);
    json_t *value = NULL;
    FILE *file = fopen(path, "re");
    while (file != NULL && value == NULL && fgets(line, sizeof line, file) != NULL) {
        char *at = strncmp(line, key, len) == 0 ? line + len + strspn(line + len, " \t") : NULL;
        if (at == NULL || *at != separator)
            continue;
        at += 1 + strspn(at + 1, " \t\"");
        at[strcspn(at, "\"\n")] = '\0';
        value = text_or_null(at);
    }
    if (file != NULL)
        fclose(file);
    return value != NULL ? value : json_null();
}

static json_t *describe_time(void) {
    char text[64];
    struct tm utc;
    time_t now = time(NULL);
    if (gmtime_r(&now, &utc) == NULL || strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &utc) == 0)
        return json_null();
    return json_string(text);
}

/* Those that this process may run on. */
static json_t *describe_allowed_cores(void) {
    cpu_set_t cpus;
    return sched_getaffinity(0, sizeof cpus, &cpus) == 0 ? json_integer(CPU_COUNT(&cpus)) : json_null();
}

/* Whether the processor says that it is a virtual one. */
static json_t *describe_hypervisor(void) {
    json_t *flags = value_in("/proc/cpuinfo", "flags", ':');
    const char *text = json_string_value(flags);
    json_t *flag = text != NULL ? json_boolean(strstr(text, " hypervisor") != NULL) : json_null();
    json_decref(flags);
    return flag;
}

static json_t *describe_memory(void) {
    long pages = sysconf(_SC_PHYS_PAGES), bytes = sysconf(_SC_PAGESIZE);
    return pages > 0 && bytes > 0 ? json_integer((json_int_t)pages * bytes) : json_null();
}

static json_t *describe_sysctls(void) {
    json_t *all = json_object();
    for (size_t i = 0; i < sizeof sysctls / sizeof sysctls[0]; i++) {
        char path[128], name[96];
        snprintf(path, sizeof path, "/proc/sys/%s", sysctls[i]);
        snprintf(name, sizeof name, "%s", sysctls[i]);
        for (char *slash = name; (slash = strchr(slash, '/')) != NULL;)
            *slash = '.';
        json_object_set_new(all, name, first_line(path));
    }
    return all;
}

static json_t *describe_descriptors(void) {
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
        return json_null();
    return json_pack("{s:I, s:I}", "soft", (json_int_t)limit.rlim_cur, "hard", (json_int_t)limit.rlim_max);
}

static json_t *describe_load(void) {
    double loads[3];
    if (getloadavg(loads, 3) != 3)
        return json_null();
    return json_pack("[f, f, f]", loads[0], loads[1], loads[2]);
}

static json_t *describe_libraries(void) {
    return json_pack("{s:s, s:s, s:s}", "libc", gnu_get_libc_version(), "jansson", JANSSON_VERSION, "libssh",
                     LIBSSH_VERSION_TEXT);
}

static json_t *describe_kernel(void) {
    struct utsname kernel;
    if (uname(&kernel) != 0)
        return json_null();
    return json_sprintf("%s %s %s", kernel.sysname, kernel.release, kernel.machine);
}

json_t *machine_describe(void) {
    json_t *machine = json_object();
    json_object_set_new(machine, "time", describe_time());
    json_object_set_new(machine, "cpu", value_in("/proc/cpuinfo", "model name", ':'));
    json_object_set_new(machine, "cores", json_integer(sysconf(_SC_NPROCESSORS_ONLN)));
    json_object_set_new(machine, "cores_allowed", describe_allowed_cores());
    json_object_set_new(machine, "hypervisor", describe_hypervisor());
    json_object_set_new(machine, "memory_bytes", describe_memory());
    json_object_set_new(machine, "kernel", describe_kernel());
    json_object_set_new(machine, "os", value_in("/etc/os-release", "PRETTY_NAME", '='));
    json_object_set_new(machine, "congestion_control", first_line("/proc/sys/net/ipv4/tcp_congestion_control"));
    json_object_set_new(machine, "sysctls", describe_sysctls());
    json_object_set_new(machine, "clocksource",
                        first_line("/sys/devices/system/clocksource/clocksource0/current_clocksource"));
    json_object_set_new(machine, "governor", first_line("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"));
    json_object_set_new(machine, "descriptors", describe_descriptors());
    json_object_set_new(machine, "load_average", describe_load());
    json_object_set_new(machine, "libraries", describe_libraries());
    return machine;
}
