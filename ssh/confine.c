#include "ssh/confine.h"
#include "engine/log.h"
#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#define DEFAULT_ACCOUNT "leatd"

/* ---- memory ---- */

/* The sanitizers' leak check traces the program. A change of uid resets it. */
static void forbid_tracing(void) {
#ifndef LEAT_DEBUG_CHECKS
    if (prctl(PR_SET_DUMPABLE, 0) != 0)
        log_verbose("cannot forbid tracing: %s", strerror(errno));
#endif
}

void confine_memory(void) {
    const struct rlimit none = {0, 0};
    if (setrlimit(RLIMIT_CORE, &none) != 0)
        log_verbose("cannot forbid core files: %s", strerror(errno));
    forbid_tracing();
}

/* Only what is mapped now, and of that what is touched: buffers that come later would be locked too, and could not be
 * given back (madvise refuses). Only without a limit: the stack is locked as well and must be able to grow. */
static void lock_keys(void) {
    const struct rlimit unlimited = {RLIM_INFINITY, RLIM_INFINITY};
    struct rlimit limit;
    if (geteuid() == 0)
        (void)setrlimit(RLIMIT_MEMLOCK, &unlimited);
    if (getrlimit(RLIMIT_MEMLOCK, &limit) != 0 || limit.rlim_cur != RLIM_INFINITY)
        log_verbose("keys are not locked in memory: there is a limit on it (ulimit -l)");
    else if (mlockall(MCL_CURRENT | MCL_ONFAULT) != 0)
        log_verbose("keys are not locked in memory: %s", strerror(errno));
}

/* ---- the account ---- */

static int find_group(const char *name, struct account *account) {
    const struct group *group = getgrnam(name);
    if (group == NULL) {
        log_error("Group %s: there is no such group", name);
        return ERR_CONFIG;
    }
    account->gid = group->gr_gid;
    return 0;
}

int account_find(const char *user, const char *group, struct account *account) {
    const char *name = user != NULL ? user : DEFAULT_ACCOUNT;
    *account = (struct account){.root = true, .uid = geteuid(), .gid = getegid()};
    if (geteuid() != 0)
        return 0;
    const struct passwd *passwd = getpwnam(name);
    if (passwd == NULL) {
        log_error("User %s: there is no such account to run as; create it, name another with User, or say User root",
                  name);
        return ERR_CONFIG;
    }
    if (passwd->pw_uid == 0)
        return 0;
    account->root = false;
    account->uid = passwd->pw_uid;
    account->gid = passwd->pw_gid;
    account->name = strdup(name);
    if (account->name == NULL)
        return ERR_NOMEM;
    return group != NULL ? find_group(group, account) : 0;
}

void account_deinit(struct account *account) {
    free(account->name);
    account->name = NULL;
}

static bool become(const struct account *account) {
    return prctl(PR_SET_KEEPCAPS, 0) == 0 && initgroups(account->name, account->gid) == 0 &&
           setresgid(account->gid, account->gid, account->gid) == 0 &&
           setresuid(account->uid, account->uid, account->uid) == 0;
}

/* Believed when it was tried: capabilities that were kept show themselves here. */
static bool is_for_good(const struct account *account) {
    uid_t uid, euid, suid;
    gid_t gid, egid, sgid;
    if (getresuid(&uid, &euid, &suid) != 0 || getresgid(&gid, &egid, &sgid) != 0)
        return false;
    if (uid != account->uid || euid != account->uid || suid != account->uid)
        return false;
    if (gid != account->gid || egid != account->gid || sgid != account->gid)
        return false;
    if (setgroups(0, NULL) == 0 || (account->gid != 0 && setresgid((gid_t)-1, 0, (gid_t)-1) == 0))
        return false;
    return setresuid((uid_t)-1, 0, (uid_t)-1) != 0;
}

int account_become(const struct account *account) {
    lock_keys();
    if (!account->root && !become(account)) {
        log_error("cannot become the user %s: %s", account->name, strerror(errno));
        return ERR_ACCESS;
    }
    if (!account->root && !is_for_good(account)) {
        log_error("cannot become the user %s: there is a way back to root", account->name);
        return ERR_ACCESS;
    }
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) {
        log_error("cannot give up new privileges: %s", strerror(errno));
        return ERR_ACCESS;
    }
    forbid_tracing();
    return 0;
}
