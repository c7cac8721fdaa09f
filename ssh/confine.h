#pragma once
/* Least privilege: from root to the account leatd runs as, and what the running program can no longer do. Main thread.
 *
 *   confine_memory ─► configuration, keys, ports, PidFile ─► account_become ─► confine_system_calls ─► threads */
#include "engine/error.h"
#include <stdbool.h>
#include <sys/types.h>

struct account {
    bool root; /* stay root (User root), or not root to begin with: nothing to change */
    uid_t uid;
    gid_t gid;
    char *name; /* for initgroups */
};
/* Looks the account up: user NULL stands for "leatd". Not root: nothing to change. ERR_CONFIG: reported (no such user
 * or group, and as root nothing goes on without one). */
MUST_USE int account_find(const char *user, const char *group, struct account *account);
void account_deinit(struct account *account);
/* Groups, gid, uid, all three of each, no way back (checked), no new privileges. Before threads start, and after the
 * last fork: what is in memory by now, the host keys, is locked there where limits allow, which root's do (a lock is
 * not inherited). ERR_ACCESS: reported; nothing may go on. */
MUST_USE int account_become(const struct account *account);

/* No core file, not traceable by others of the same user; programs that this one starts are as free as ever, but for
 * the core file. leat and leatd: first thing, before keys are read. */
void confine_memory(void);
/* The filter on system calls for the running phase, for all threads there are and to come. What is not in it is
 * answered with EPERM; dangerous things (execve, ptrace, mount, module loading, kexec …) end the program.
 * ERR_UNSUPPORTED: the kernel has no seccomp (one line at VERBOSE, not an error); ERR_SYSTEM, ERR_NOMEM: reported. */
MUST_USE int confine_system_calls(void);
