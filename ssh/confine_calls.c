/* The system calls of the running phase. By name, so that each machine and each libseccomp takes what it knows of them:
 * a name that it does not know cannot be allowed, and the libc of the same system does not depend on it. */
#include "engine/log.h"
#include "ssh/confine.h"
#include <errno.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <sched.h>
#include <seccomp.h>
#include <stdint.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>

#define COUNT(array) (sizeof(array) / sizeof *(array))

static const char *const allowed[] = {
    /* memory */
    "brk", "madvise", "map_shadow_stack", "membarrier", "mlock", "mlock2", "mmap", "mprotect", "mremap", "mseal",
    "munlock", "munmap",
    /* threads, signals, the end */
    "arch_prctl", "exit", "exit_group", "futex", "futex_requeue", "futex_wait", "futex_waitv", "futex_wake",
    "get_robust_list", "getcpu", "getpid", "getppid", "gettid", "restart_syscall", "rseq", "rt_sigaction",
    "rt_sigpending", "rt_sigprocmask", "rt_sigreturn", "rt_sigsuspend", "rt_sigtimedwait", "sched_get_priority_max",
    "sched_get_priority_min", "sched_getaffinity", "sched_getparam", "sched_getscheduler", "sched_setaffinity",
    "sched_yield", "set_robust_list", "set_tid_address", "setsid", "sigaltstack", "tgkill",
    /* time, randomness, what this machine is */
    "clock_getres", "clock_gettime", "clock_nanosleep", "getrandom", "gettimeofday", "nanosleep", "sysinfo", "time",
    "times", "uname",
    /* who and how much; limits can only be lowered without privileges */
    "getegid", "geteuid", "getgid", "getgroups", "getresgid", "getresuid", "getrlimit", "getrusage", "getuid",
    "prlimit64", "setrlimit",
    /* descriptors */
    "close", "close_range", "dup", "dup2", "dup3", "fcntl", "lseek", "pread64", "preadv", "preadv2", "pwrite64",
    "pwritev", "pwritev2", "read", "readv", "sendfile", "splice", "tee", "vmsplice", "write", "writev",
    /* files: authorized_keys, a new configuration, what NSS reads; Unix sockets of clients; the log and PidFile */
    "access", "chmod", "faccessat", "faccessat2", "fadvise64", "fallocate", "fchmod", "fchmodat", "fchmodat2",
    "fdatasync", "flock", "fstat", "fstatfs", "fsync", "ftruncate", "getcwd", "getdents", "getdents64", "lstat",
    "memfd_create", "newfstatat", "open", "openat", "openat2", "readlink", "readlinkat", "stat", "statfs", "statx",
    "umask", "unlink", "unlinkat",
    /* sockets; which families is said below */
    "accept", "accept4", "bind", "connect", "getpeername", "getsockname", "getsockopt", "listen", "recvfrom",
    "recvmmsg", "recvmsg", "sendmmsg", "sendmsg", "sendto", "setsockopt", "shutdown",
    /* waiting: both backends of engine/io.h, and libssh's own poll */
    "epoll_create", "epoll_create1", "epoll_ctl", "epoll_pwait", "epoll_pwait2", "epoll_wait", "eventfd", "eventfd2",
    "io_uring_enter", "io_uring_register", "io_uring_setup", "pipe", "pipe2", "poll", "ppoll", "pselect6", "select",
    "signalfd", "signalfd4", "timerfd_create", "timerfd_gettime", "timerfd_settime"};

/* No bug of ours comes here: somebody else is at work. */
static const char *const fatal[] = {
    /* other programs, and their memory */
    "execve", "execveat", "process_vm_readv", "process_vm_writev", "uselib", "userfaultfd",
    /* the tree of files */
    "mount", "umount", "umount2", "move_mount", "fsopen", "fsconfig", "fsmount", "fspick", "open_tree", "mount_setattr",
    "pivot_root", "chroot", "swapon", "swapoff", "quotactl", "quotactl_fd", "open_by_handle_at",
    /* the kernel and the machine */
    "kexec_load", "kexec_file_load", "init_module", "finit_module", "create_module", "delete_module", "reboot", "bpf",
    "perf_event_open", "setns", "unshare", "keyctl", "add_key", "request_key", "acct", "iopl", "ioperm", "adjtimex",
    "clock_adjtime", "clock_settime", "settimeofday", "sethostname", "setdomainname", "syslog", "vhangup"};

#ifdef LEAT_DEBUG_CHECKS
/* The sanitizers' leak check traces this process from another one. */
static const char *const traced[] = {"clone", "kill", "personality", "prctl", "ptrace", "wait4", "waitid"};
#define TRACED_ACTION SCMP_ACT_ALLOW
#else
static const char *const traced[] = {"ptrace"};
#define TRACED_ACTION SCMP_ACT_KILL_PROCESS
#endif

/* What the first argument, or for ioctl the second, may be. */
struct choice {
    const char *call;
    unsigned argument;
    uint64_t value;
};
static const struct choice choices[] = {
    {"socket", 0, AF_UNIX},        {"socket", 0, AF_INET},
    {"socket", 0, AF_INET6},       {"socket", 0, AF_NETLINK}, /* getaddrinfo asks which addresses there are */
    {"socketpair", 0, AF_UNIX},    {"ioctl", 1, FIONBIO},
    {"ioctl", 1, FIONREAD},        {"ioctl", 1, SIOCOUTQ},
    {"ioctl", 1, SIOCGIFINDEX}, /* scopes of link-local addresses */
    {"ioctl", 1, SIOCGIFNAME},     {"prctl", 0, PR_SET_NAME},
    {"prctl", 0, PR_GET_NAME},     {"prctl", 0, PR_SET_PDEATHSIG}, /* -f: the parent may go */
    {"prctl", 0, PR_GET_DUMPABLE}, {"prctl", 0, PR_GET_NO_NEW_PRIVS},
    {"prctl", 0, PR_GET_SECCOMP},  {"prctl", 0, PR_CAPBSET_READ},
    {"prctl", 0, 0x53564d41}, /* PR_SET_VMA: allocators name their memory */
};

/* Where clone has its flags. */
#ifdef __s390__
#define CLONE_FLAGS_ARGUMENT 1
#else
#define CLONE_FLAGS_ARGUMENT 0
#endif

/* A call that is not of this machine (libseccomp then gives a negative number of its own) is none that can be made. */
static int add(scmp_filter_ctx filter, uint32_t action, const char *name, const struct scmp_arg_cmp *compare) {
    int call = seccomp_syscall_resolve_name(name);
    if (call < 0)
        return 0;
    return seccomp_rule_add_array(filter, action, call, compare != NULL, compare);
}

static int add_all(scmp_filter_ctx filter, uint32_t action, const char *const *names, size_t count) {
    int failed = 0;
    for (size_t i = 0; i < count && failed == 0; i++)
        failed = add(filter, action, names[i], NULL);
    return failed;
}

/* Only the lower half is the argument's: all of them are ints to the kernel. */
static int add_choices(scmp_filter_ctx filter) {
    int failed = 0;
    for (size_t i = 0; i < COUNT(choices) && failed == 0; i++) {
        struct scmp_arg_cmp compare =
            SCMP_CMP(choices[i].argument, SCMP_CMP_MASKED_EQ, UINT64_C(0xffffffff), choices[i].value);
        failed = add(filter, SCMP_ACT_ALLOW, choices[i].call, &compare);
    }
    return failed;
}

/* Threads, not processes. clone3 hides its flags from a filter; without it the libc takes clone. */
static int add_threads(scmp_filter_ctx filter) {
    struct scmp_arg_cmp thread = SCMP_CMP(CLONE_FLAGS_ARGUMENT, SCMP_CMP_MASKED_EQ, CLONE_THREAD, CLONE_THREAD);
    int failed = add(filter, SCMP_ACT_ERRNO(ENOSYS), "clone3", NULL);
    return failed == 0 ? add(filter, SCMP_ACT_ALLOW, "clone", &thread) : failed;
}

static int fill(scmp_filter_ctx filter) {
    int failed = seccomp_attr_set(filter, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS);
    if (failed == 0)
        failed = add_all(filter, SCMP_ACT_ALLOW, allowed, COUNT(allowed));
    if (failed == 0)
        failed = add_all(filter, SCMP_ACT_KILL_PROCESS, fatal, COUNT(fatal));
    if (failed == 0)
        failed = add_all(filter, TRACED_ACTION, traced, COUNT(traced));
    if (failed == 0)
        failed = add_choices(filter);
    if (failed == 0)
        failed = add_threads(filter);
    return failed;
}

/* What makes it better where there is it: all threads (the log has one already), a tree instead of a list, and no
 * mitigations that slow everything down for the sake of hostile code in this process, of which there is none. */
static void tune(scmp_filter_ctx filter) {
    (void)seccomp_attr_set(filter, SCMP_FLTATR_CTL_TSYNC, 1);
    (void)seccomp_attr_set(filter, SCMP_FLTATR_CTL_OPTIMIZE, 2);
    (void)seccomp_attr_set(filter, SCMP_FLTATR_CTL_SSB, 1);
    (void)seccomp_attr_set(filter, SCMP_FLTATR_API_SYSRAWRC, 1);
}

int confine_system_calls(void) {
    /* The 32-bit machines have calls of their own for half of these. */
    if (sizeof(void *) < 8 || (prctl(PR_GET_SECCOMP) < 0 && errno == EINVAL)) {
        log_verbose("system calls are not filtered: there is no seccomp for this here");
        return ERR_UNSUPPORTED;
    }
    scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ERRNO(EPERM));
    if (filter == NULL)
        return ERR_NOMEM;
    tune(filter);
    int failed = fill(filter);
    if (failed == 0)
        failed = seccomp_load(filter);
    seccomp_release(filter);
    if (failed == 0)
        return 0;
    if (failed == -EINVAL || failed == -ENOSYS || failed == -EOPNOTSUPP) {
        log_verbose("system calls are not filtered: %s", strerror(-failed));
        return ERR_UNSUPPORTED;
    }
    log_error("cannot filter system calls: %s", strerror(-failed));
    return ERR_SYSTEM;
}
