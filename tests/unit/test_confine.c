/* What leatd gives up, tried in children: each does something under the filter or as another account, and its exit
 * status or signal tells. */
#include "engine/log.h"
#include "engine/ring.h"
#include "engine/shard.h"
#include "ssh/confine.h"
#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <netdb.h>
#include <openssl/evp.h>
#include <openssl/rand.h>
#include <poll.h>
#include <pthread.h>
#include <pwd.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

TestSuite(confine, .timeout = 60);

/* In the child: which line it was that did not hold. */
#define HOLDS(expression)                                                                                              \
    do {                                                                                                               \
        if (!(expression)) {                                                                                           \
            fprintf(stderr, "%s:%d: %s (errno %s)\n", __FILE__, __LINE__, #expression, strerror(errno));               \
            _exit(1);                                                                                                  \
        }                                                                                                              \
    } while (0)

static int status_of(void (*run)(void)) {
    pid_t child = fork();
    int status = -1;
    cr_assert_geq(child, 0);
    if (child == 0) {
        run();
        _exit(0);
    }
    cr_assert_eq(waitpid(child, &status, 0), child);
    return status;
}

static void confine(void) {
    int err = confine_system_calls();
    HOLDS(err == 0);
}

static void *thread_run(void *arg) {
    prctl(PR_SET_NAME, "confined");
    return arg;
}

/* ---- the filter: what must go on working ---- */

static void try_threads(void) {
    pthread_t thread;
    void *result = NULL;
    confine();
    HOLDS(pthread_create(&thread, NULL, thread_run, &result) == 0);
    HOLDS(pthread_join(thread, &result) == 0 && result == &result);
    HOLDS(log_start_thread() == 0);
    log_error("(a line of the log's thread)");
    log_stop_thread();
}
Test(confine, threads_start) {
    cr_expect_eq(status_of(try_threads), 0);
}

static void try_names_and_files(void) {
    struct addrinfo *list = NULL;
    struct stat st;
    char byte;
    confine();
    HOLDS(getaddrinfo("localhost", "80", NULL, &list) == 0 && list != NULL);
    freeaddrinfo(list);
    (void)getaddrinfo("name.invalid", "80", NULL, &list); /* asks whoever is configured */
    HOLDS(getpwnam("root") != NULL && getgrgid(0) != NULL && getpwnam("nobody-of-this-name") == NULL);
    gid_t groups[64];
    int count = 64;
    HOLDS(getgrouplist("root", 0, groups, &count) > 0);
    int fd = open("/etc/passwd", O_RDONLY | O_CLOEXEC);
    HOLDS(fd >= 0 && fstat(fd, &st) == 0 && read(fd, &byte, 1) == 1 && lseek(fd, 0, SEEK_SET) == 0);
    HOLDS(lstat("/etc", &st) == 0 && access("/etc/passwd", R_OK) == 0 && close(fd) == 0);
    char *real = realpath("/etc/../etc/passwd", NULL);
    HOLDS(real != NULL);
    free(real);
    HOLDS(open("/dev/null", O_WRONLY) >= 0);
}
Test(confine, names_and_files) {
    cr_expect_eq(status_of(try_names_and_files), 0);
}

static char directory[] = "/tmp/confine.XXXXXX";
static void try_unix_listener(void) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof address.sun_path, "%s/s", directory);
    confine();
    mode_t before = umask(0177);
    int fd = socket(AF_UNIX, SOCK_STREAM, 0), peer = socket(AF_UNIX, SOCK_STREAM, 0);
    HOLDS(bind(fd, (struct sockaddr *)&address, sizeof address) == 0 && listen(fd, 1) == 0);
    umask(before);
    HOLDS(chmod(address.sun_path, 0600) == 0);
    HOLDS(connect(peer, (struct sockaddr *)&address, sizeof address) == 0);
    HOLDS(accept4(fd, NULL, NULL, SOCK_CLOEXEC) >= 0);
    HOLDS(unlink(address.sun_path) == 0);
}
Test(confine, unix_listeners) {
    cr_assert_not_null(mkdtemp(directory));
    cr_expect_eq(status_of(try_unix_listener), 0);
    cr_expect_eq(rmdir(directory), 0);
}

static void try_descriptors(void) {
    int fds[2], pipes[2];
    sigset_t set;
    struct ring ring;
    sigemptyset(&set);
    confine();
    HOLDS(pipe2(pipes, O_CLOEXEC | O_NONBLOCK) == 0 && fcntl(pipes[1], F_SETPIPE_SZ, 65536) > 0);
    HOLDS(socketpair(AF_UNIX, SOCK_STREAM, 0, fds) == 0 && write(fds[0], "abc", 3) == 3);
    HOLDS(splice(fds[1], NULL, pipes[1], NULL, 3, SPLICE_F_NONBLOCK) == 3);
    int bytes = 0;
    HOLDS(ioctl(pipes[0], FIONREAD, &bytes) == 0 && bytes == 3);
    HOLDS(eventfd(0, EFD_CLOEXEC) >= 0 && signalfd(-1, &set, SFD_CLOEXEC) >= 0);
    HOLDS(timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC) >= 0);
    HOLDS(ring_init(&ring, 65536) == 0);
    ring_deinit(&ring);
    HOLDS(mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) != MAP_FAILED);
}
Test(confine, descriptors_and_memory) {
    cr_expect_eq(status_of(try_descriptors), 0);
}

static void try_crypto(void) {
    uint8_t bytes[64], digest[EVP_MAX_MD_SIZE];
    unsigned len = 0;
    confine();
    HOLDS(RAND_bytes(bytes, sizeof bytes) == 1);
    HOLDS(EVP_Digest(bytes, sizeof bytes, digest, &len, EVP_sha256(), NULL) == 1 && len == 32);
    EVP_PKEY *key = EVP_PKEY_Q_keygen(NULL, NULL, "X25519");
    HOLDS(key != NULL);
    EVP_PKEY_free(key);
}
Test(confine, crypto) {
    cr_expect_eq(status_of(try_crypto), 0);
}

/* A shard of each backend starts, turns and ends under the filter. */
static enum io_backend backend;
static sem_t turned;
static void on_turn(void *arg, int64_t value) {
    (void)arg, (void)value;
    sem_post(&turned);
}
static void try_shard(void) {
    struct shard_options options = {.backend = backend, .slots_max = 4, .rings_max = 1, .cpu = -1};
    struct shard *shard;
    confine();
    HOLDS(sem_init(&turned, 0, 0) == 0 && shard_start(&options, &shard) == 0);
    HOLDS(strcmp(io_name(shard->io), backend == IO_BACKEND_EPOLL ? "epoll" : "io_uring") == 0);
    for (unsigned i = 0; i < 3; i++)
        HOLDS(shard_post(shard, on_turn, NULL, 0) == 0 && sem_wait(&turned) == 0);
    shard_stop(shard);
    shard_join(shard);
}
static bool has_io_uring(void) {
    struct slot_pool slots;
    struct io *io;
    cr_assert_eq(slot_pool_init(&slots, 4096, 4), 0);
    int err = io_create(IO_BACKEND_URING, &slots, &io);
    if (err == 0)
        io_destroy(io);
    slot_pool_deinit(&slots);
    return err == 0;
}
Test(confine, both_backends) {
    backend = IO_BACKEND_EPOLL;
    cr_expect_eq(status_of(try_shard), 0);
    backend = IO_BACKEND_URING;
    cr_expect(!has_io_uring() || status_of(try_shard) == 0);
}

/* -f under the filter: program_ready comes after it. */
static void try_background(void) {
    confine();
    HOLDS(prctl(PR_SET_PDEATHSIG, 0) == 0 && setsid() > 0);
    HOLDS(dup2(open("/dev/null", O_RDWR), STDIN_FILENO) == STDIN_FILENO);
}
Test(confine, the_background) {
    cr_expect_eq(status_of(try_background), 0);
}

/* ---- the filter: what must not ---- */

static void try_refused(void) {
    confine();
    errno = 0;
    HOLDS(socket(AF_PACKET, SOCK_RAW, 0) < 0 && errno == EPERM);
    HOLDS(socket(AF_ALG, SOCK_SEQPACKET, 0) < 0 && errno == EPERM);
    HOLDS(rename("/nowhere", "/nowhere-else") < 0 && errno == EPERM);
    HOLDS(mkdir("/tmp/never", 0700) < 0 && errno == EPERM);
    HOLDS(setuid(0) < 0 && errno == EPERM);
    HOLDS(ioctl(STDIN_FILENO, TIOCSTI, "x") < 0 && errno == EPERM);
    HOLDS(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1);
    errno = 0;
    HOLDS(syscall(SYS_clone3, NULL, 0) < 0 && errno == ENOSYS);
#ifndef LEAT_DEBUG_CHECKS
    HOLDS(fork() < 0 && errno == EPERM);
    HOLDS(prctl(PR_SET_DUMPABLE, 1) < 0 && errno == EPERM);
    HOLDS(kill(getppid(), 0) < 0 && errno == EPERM);
#endif
}
Test(confine, what_is_not_needed_is_refused) {
    cr_expect_eq(status_of(try_refused), 0);
}

/* Also in a thread that was there before. */
static int step[2];
static void *thread_refused(void *arg) {
    char byte;
    HOLDS(read(step[0], &byte, 1) == 1);
    *(int *)arg = socket(AF_ALG, SOCK_SEQPACKET, 0);
    *(int *)arg = errno;
    return NULL;
}
static void try_earlier_thread(void) {
    pthread_t thread;
    int result = 0;
    HOLDS(pipe(step) == 0 && pthread_create(&thread, NULL, thread_refused, &result) == 0);
    confine();
    HOLDS(write(step[1], "", 1) == 1 && pthread_join(thread, NULL) == 0);
    HOLDS(result == EPERM);
}
Test(confine, threads_that_run_are_confined_too) {
    cr_expect_eq(status_of(try_earlier_thread), 0);
}

static long fatal_call;
static void try_fatal(void) {
    confine();
    syscall(fatal_call, 0, 0, 0, 0, 0);
}
Test(confine, what_only_an_intruder_wants_ends_the_program) {
    static const struct {
        const char *name;
        long call;
    } calls[] = {{"execve", SYS_execve},
                 {"execveat", SYS_execveat},
                 {"mount", SYS_mount},
                 {"unshare", SYS_unshare},
                 {"setns", SYS_setns},
                 {"bpf", SYS_bpf},
                 {"init_module", SYS_init_module},
                 {"kexec_load", SYS_kexec_load},
                 {"keyctl", SYS_keyctl},
                 {"process_vm_readv", SYS_process_vm_readv},
                 {"perf_event_open", SYS_perf_event_open},
                 {"reboot", SYS_reboot},
#ifndef LEAT_DEBUG_CHECKS
                 {"ptrace", SYS_ptrace},
#endif
                 {"chroot", SYS_chroot}};
    for (size_t i = 0; i < sizeof calls / sizeof *calls; i++) {
        fatal_call = calls[i].call;
        int status = status_of(try_fatal);
        cr_expect(WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS, "%s: status %#x", calls[i].name, status);
    }
}

/* ---- accounts ---- */

/* As root an account is to be had; "nobody" is on every Debian. */
static void try_become(void) {
    struct account account;
    struct passwd *nobody = getpwnam("nobody");
    uid_t uid = nobody->pw_uid;
    gid_t gid = nobody->pw_gid;
    HOLDS(account_find("nobody", NULL, &account) == 0);
    HOLDS(!account.root && account.uid == uid && account.gid == gid);
    HOLDS(account_become(&account) == 0);
    account_deinit(&account);
    uid_t uids[3];
    gid_t gids[3], groups[8];
    HOLDS(getresuid(&uids[0], &uids[1], &uids[2]) == 0 && getresgid(&gids[0], &gids[1], &gids[2]) == 0);
    for (unsigned i = 0; i < 3; i++)
        HOLDS(uids[i] == uid && gids[i] == gid);
    int count = getgroups(8, groups);
    for (int i = 0; i < count; i++)
        HOLDS(groups[i] != 0);
    HOLDS(setuid(0) < 0 && seteuid(0) < 0 && setgid(0) < 0);
    HOLDS(open("/etc/shadow", O_RDONLY) < 0);
    HOLDS(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1);
#ifndef LEAT_DEBUG_CHECKS
    HOLDS(prctl(PR_GET_DUMPABLE) == 0);
#endif
}
Test(confine, root_is_given_up) {
    if (geteuid() != 0)
        cr_skip_test("not root");
    cr_expect_eq(status_of(try_become), 0);
}

/* Capabilities that survive a change of uid: the way back is noticed. */
static void try_kept_capabilities(void) {
    struct account account;
    enum { SECBIT_NO_SETUID_FIXUP_ = 1 << 2 };
    HOLDS(account_find("nobody", NULL, &account) == 0);
    HOLDS(prctl(PR_SET_SECUREBITS, SECBIT_NO_SETUID_FIXUP_) == 0);
    HOLDS(account_become(&account) == ERR_ACCESS);
    account_deinit(&account);
}
Test(confine, a_way_back_is_refused) {
    if (geteuid() != 0)
        cr_skip_test("not root");
    cr_expect_eq(status_of(try_kept_capabilities), 0);
}

Test(confine, accounts_that_are_not_there) {
    struct account account;
    if (geteuid() != 0)
        cr_skip_test("not root");
    cr_expect_eq(account_find("no-such-user", NULL, &account), ERR_CONFIG);
    account_deinit(&account);
    cr_expect_eq(account_find("nobody", "no-such-group", &account), ERR_CONFIG);
    account_deinit(&account);
    if (getpwnam("leatd") == NULL)
        cr_expect_eq(account_find(NULL, NULL, &account), ERR_CONFIG);
    account_deinit(&account);
    cr_expect_eq(account_find("nobody", "root", &account), 0);
    cr_expect(!account.root && account.gid == 0 && account.uid != 0);
    account_deinit(&account);
    cr_expect_eq(account_find("root", NULL, &account), 0);
    cr_expect(account.root);
    account_deinit(&account);
}

/* Nobody to become, whatever User says. */
static void try_ordinary(void) {
    struct account account;
    struct passwd *nobody = getpwnam("nobody");
    if (geteuid() == 0)
        HOLDS(setresgid(nobody->pw_gid, nobody->pw_gid, nobody->pw_gid) == 0 && setuid(nobody->pw_uid) == 0);
    uid_t before = geteuid();
    HOLDS(account_find("no-such-user", "no-such-group", &account) == 0 && account.root && account.uid == before);
    HOLDS(account_become(&account) == 0 && geteuid() == before);
    HOLDS(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1);
    account_deinit(&account);
    confine();
}
Test(confine, an_ordinary_user_stays_what_it_is) {
    cr_expect_eq(status_of(try_ordinary), 0);
}

static void try_memory(void) {
    struct rlimit limit;
    confine_memory();
    HOLDS(getrlimit(RLIMIT_CORE, &limit) == 0 && limit.rlim_cur == 0 && limit.rlim_max == 0);
#ifndef LEAT_DEBUG_CHECKS
    HOLDS(prctl(PR_GET_DUMPABLE) == 0);
#endif
    confine_memory();
}
Test(confine, memory_is_not_dumped) {
    cr_expect_eq(status_of(try_memory), 0);
}
