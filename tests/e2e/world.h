#pragma once
/* The world of one end-to-end test: a temporary folder with throwaway keys, real peers on free ports of the loopback,
 * and the leat under test. Everything is stopped by its own pid and removed by world_end, also when the test failed
 * before.
 *
 * Environment (set by ctest): LEAT_BIN and LEATD_BIN, the programs; LEAT_BACKEND, io_uring or epoll; LEAT_SERVER, sshd
 * or leatd; LEAT_SLOW, factor for deadlines (sanitizers). Failures of the world itself abort the test with what went
 * wrong and the peers' logs. */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define WORLD_PROCESSES_MAX 32

struct process {
    pid_t pid;
    char name[32];
    char log[512]; /* file with its stdout and stderr */
    int status;    /* as of waitpid, once reaped */
    bool reaped;
};

struct world {
    char dir[128];
    struct process processes[WORLD_PROCESSES_MAX];
    unsigned count;
    struct process *server;
    uint16_t server_port;
    bool server_is_leatd;
    char known_hosts[200], user_key[200];
    /* How the next process is started, and only that one. */
    bool next_on_terminal;    /* on a pseudo terminal of its own (terminal.h) instead of /dev/null and a log */
    unsigned next_nofile_max; /* descriptor limit, 0: ours */
    unsigned next_nofile_now; /* the soft one; 0: the same */
    int terminal_fd;          /* the last one's other end */
};

void world_begin(struct world *world);
void world_end(struct world *world);
_Noreturn void world_die(const char *what); /* with errno's words */
/* printf into a static ring of buffers: a path in the world's folder, or any argument. */
const char *world_format(const char *format, ...) __attribute__((format(printf, 1, 2)));
const char *world_path(const struct world *world, const char *name);
void world_write(const char *path, const char *text);
void world_copy(const char *from, const char *to);
char *world_read(const char *path);     /* whole file, malloc'd; "" when it cannot be read */
const char *world_backend_option(void); /* "IoBackend=…" as the test is run for */

/* The server that the suite is run against: leatd where LEAT_SERVER says so, else stock sshd; for the current user and
 * its throwaway key. `more` outweighs the rest of its configuration (may be ""). */
void world_server(struct world *world, const char *more);
/* One of the two whatever the suite is run against. */
void world_sshd(struct world *world, const char *more);
void world_leatd(struct world *world, const char *more);
/* sshd that says it were other software, by a word as long as "OpenSSH_". */
void world_sshd_as(struct world *world, const char *software, const char *more);
/* With Match blocks, which must stand last. */
void world_leatd_matching(struct world *world, const char *more, const char *match);
/* Successful logins that the server has logged. */
unsigned world_logins(const struct world *world);
/* The process that has the connection which is the index-th of the `count` that sshd has. */
pid_t world_sshd_session(const struct world *world, unsigned index, unsigned count);
/* dropbear with the same user key; the same fields of the world are set. */
void world_dropbear(struct world *world);
/* From now on leat reaches the server at this port, where something of the test's stands before it; its key is known
 * there. */
void world_reach_through(struct world *world, uint16_t port);

/* Starts argv (NULL-terminated), stdin from /dev/null, output to a file. */
struct process *world_start(struct world *world, const char *name, char *const argv[]);
/* Counts a process that something else has started (and that is our child by now) among the world's own. */
struct process *world_adopt(struct world *world, const char *name, pid_t pid);
/* leat with -F none, port, key, known_hosts, BatchMode, backend, then `args` (NULL-terminated list), then 127.0.0.1. */
struct process *world_leat(struct world *world, ...) __attribute__((sentinel));
/* The same without the final destination and without defaults other than the backend. */
struct process *world_leat_bare(struct world *world, ...) __attribute__((sentinel));
/* Stock ssh with the same options; the destination is among `args`. */
struct process *world_ssh(struct world *world, ...) __attribute__((sentinel));
/* Runs a command to its end, returns its exit status; output to a file readable with process_log. */
int world_run(struct world *world, const char *name, ...) __attribute__((sentinel));

/* Waits for the process' own end; the exit status, or 128+signal; fails the test after the deadline. */
int process_wait(struct process *process, double seconds);
bool process_running(struct process *process);
void process_kill(struct process *process, int signal);
/* Waits until its output contains text; false after the deadline or when it has ended without saying it. */
bool process_says(struct process *process, const char *text, double seconds);
const char *process_log(const struct process *process); /* whole output so far; valid until the next call */
/* Number of lines of the output that contain text. */
unsigned process_lines(const struct process *process, const char *text);
long process_rss_kib(const struct process *process);
double process_cpu_seconds(const struct process *process);
unsigned process_descriptors(const struct process *process);
/* The children of parent that run `program` (or `program`-something) and were not started by the world itself, the
 * oldest first; how many, `max` at most. */
unsigned process_children(const struct world *world, pid_t parent, const char *program, pid_t *children, unsigned max);
/* The first of them; 0 when there is none. */
pid_t process_child(const struct world *world, pid_t parent, const char *program);

uint16_t free_port(void);
double now_seconds(void);
void pause_seconds(double seconds);
double world_deadline(double seconds); /* times LEAT_SLOW */
bool world_is_slow(void);              /* programs with sanitizers */
